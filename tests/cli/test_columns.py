import pytest

from sparseconv.cli.columns import columns, seconds, size


def test_cells_are_aligned_and_numbers_flush_right():
    text = columns([("wall", "12"), ("floor", "7")], header=("class", "points"), right=(1,))
    assert text.splitlines() == ["class  points", "-----  ------", "wall       12", "floor       7"]


def test_wide_letters_take_two_places():
    lines = columns([("壁", "1"), ("wall", "2")]).splitlines()
    assert lines == ["壁    1", "wall  2"]


def test_no_rows_give_no_lines():
    assert columns([]) == ""


@pytest.mark.parametrize(
    ("time", "text"),
    [(0.004, "0.00 s"), (1.234, "1.23 s"), (12.34, "12.3 s"), (125.0, "2 min 5 s")],
)
def test_times(time, text):
    assert seconds(time) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(999, "999 bytes"), (1500, "1.5 kB"), (123_000_000, "123 MB"), (4.2e12, "4200 GB")],
)
def test_sizes(count, text):
    assert size(count) == text
