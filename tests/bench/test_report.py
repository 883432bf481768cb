import pytest

from sparseconv.bench.measure import OURS, Quartiles, Row
from sparseconv.bench.peers import Peer
from sparseconv.bench.report import as_json, duration, ratio, show

MACHINE = {"processor": "a processor", "instructions": "avx2", "torch": "2.0"}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(2.5, "2.5 s"), (0.0123, "12.3 ms"), (4.2e-5, "42 µs"), (1234.4, "1234 s")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_small_ratios_keep_their_digits():
    assert ratio(Quartiles(1.9, 2.0, 2.25)) == "2.00 (1.90–2.25)"
    assert ratio(Quartiles(0.001, 0.002, 0.003)) == "0.002 (0.001–0.003)"


def test_table_has_a_column_for_each_peer_that_has_something_to_say(capsys):
    row = Row("room", "conv", "a layer", 8, 1000, 2_000_000, rounds=3)
    row.seconds = {OURS: Quartiles(0.001, 0.001, 0.001), "one": Quartiles(0.002, 0.002, 0.002)}
    row.ratios = {"one": Quartiles(1.9, 2.0, 2.1)}
    row.errors = {"two": "results differ: features by 1"}
    peers = [Peer(name, f"note of {name}", {}) for name in ("one", "two", "three")]
    show([row], peers, MACHINE, 1)
    out = capsys.readouterr().out
    assert "one ×" in out and "2.00 (1.90–2.10)" in out
    assert "results differ: features by 1" in out
    assert "three ×" not in out
    assert as_json([row], peers, MACHINE, 1)["rows"][0]["ratios"]["one"]["median"] == 2.0


def test_nothing_done_shows_no_table(capsys):
    show([], [], MACHINE, 2)
    out = capsys.readouterr().out
    assert out.startswith("a processor, kernels avx2, torch 2.0, 2 threads, wall time")


def test_a_peer_that_does_not_import_says_why(monkeypatch, tmp_path, capsys):
    (tmp_path / "made_for_another_python.py").write_text('raise OSError("libold.so: not found")')
    monkeypatch.syspath_prepend(str(tmp_path))
    broken = Peer("broken", "", {}, package="made_for_another_python", pip="pip install it")
    show([], [broken], MACHINE, 1)
    why = "cannot be imported, OSError: libold.so: not found"
    assert f"broken: {why}; to run it beside: pip install it" in capsys.readouterr().out
    assert as_json([], [broken], MACHINE, 1)["peers"]["broken"]["fault"] == why
