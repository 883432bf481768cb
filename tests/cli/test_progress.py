import io

import pytest

from sparseconv.cli.progress import Progress


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock():
    return Clock()


def test_short_work_shows_nothing(clock):
    for stream in (io.StringIO(), Terminal()):
        with Progress(stream, clock=clock) as progress:
            progress("network", 1, 10)
            clock.now += 1.9
            progress("network", 9, 10)
        assert stream.getvalue() == ""


def test_long_work_writes_a_line_now_and_then(clock):
    stream = io.StringIO()
    with Progress(stream, clock=clock) as progress:
        for done in range(1, 31):
            clock.now += 1
            progress("network", done, 30)
    assert stream.getvalue().splitlines() == [
        "network: 6 % after 2 s",
        "network: 40 % after 12 s",
        "network: 73 % after 22 s",
    ]


def test_an_unknown_total_is_counted(clock):
    stream = io.StringIO()
    with Progress(stream, clock=clock) as progress:
        clock.now += 5
        progress("points", 77, 0)
    assert stream.getvalue() == "points: 77 after 5 s\n"


def test_long_work_on_a_terminal_draws_a_bar_and_takes_it_away(clock):
    stream = Terminal()
    with Progress(stream, clock=clock) as progress:
        clock.now += 3
        progress("network", 5, 10)
        progress("colours", 1, 2)
        assert progress.bar is not None
        assert [task.description for task in progress.bar.tasks] == ["network", "colours"]
        assert progress.bar.tasks[0].completed == 5
    assert progress.bar is None


def test_the_bar_is_taken_away_when_work_fails(clock):
    stream = Terminal()
    progress = Progress(stream, clock=clock)
    with pytest.raises(KeyboardInterrupt), progress:
        clock.now += 3
        progress("network", 5, 10)
        raise KeyboardInterrupt
    assert progress.bar is None


def test_quiet_is_quiet(clock):
    stream = io.StringIO()
    with Progress(stream, clock=clock, quiet=True) as progress:
        clock.now += 50
        progress("network", 5, 10)
    assert stream.getvalue() == ""
