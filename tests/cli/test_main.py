import os
import subprocess
import sys

import pytest

from sparseconv.cli import main as module
from sparseconv.cli.main import COMMANDS, main

NAMES = ("segment", "view", "info", "train", "convert", "families", "bench")


@pytest.fixture
def command(monkeypatch):
    """Let `info` do what the test says."""

    def set_command(action):
        monkeypatch.setattr(module.info, "run", action)

    return set_command


def raising(error):
    def run(args):
        raise error

    return run


def test_help_names_every_command(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for name in NAMES:
        assert f"    {name} " in text
    assert len(NAMES) == len(COMMANDS)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "bench"])
def test_every_command_has_help(capsys, name):
    assert main([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: sparseconv {name}")
    assert "--debug" in out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            [],
            "sparseconv: the following arguments are required: command; see sparseconv --help",
        ),
        (
            ["segment"],
            "sparseconv segment: the following arguments are required: scan; "
            "see sparseconv segment --help",
        ),
        (
            ["info", "a.ply", "--voxel", "0"],
            "sparseconv info: argument --voxel: expected a length above 0, found 0; "
            "see sparseconv info --help",
        ),
        (
            ["segment", "a.ply", "--threads", "0"],
            "sparseconv segment: argument --threads: expected a whole number above 0, found 0; "
            "see sparseconv segment --help",
        ),
        (
            ["segment", "a.ply", "--model", "rooms", "--checkpoint", "c.pt"],
            "sparseconv segment: argument --checkpoint: not allowed with argument --model; "
            "see sparseconv segment --help",
        ),
    ],
)
def test_bad_usage_is_one_line_and_code_two(capsys, words, line):
    assert main(words) == 2
    assert capsys.readouterr() == ("", line + "\n")


def test_an_unknown_command_is_bad_usage(capsys):
    assert main(["paint"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("sparseconv: argument command: invalid choice: 'paint'")
    assert err.count("\n") == 1


def test_bad_input_is_one_line_and_code_one(capsys, command):
    command(raising(ValueError("scan.ply: expected a,\nfound b")))
    assert main(["info", "scan.ply"]) == 1
    assert capsys.readouterr() == ("", "sparseconv info: scan.ply: expected a, found b\n")


def test_debug_adds_the_traceback(capsys, command):
    command(raising(ValueError("no good")))
    assert main(["info", "scan.ply", "--debug"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "sparseconv info: no good"


def test_a_mistake_of_the_program_is_called_one(capsys, command):
    command(raising(KeyError("x")))
    assert main(["info", "scan.ply"]) == 1
    line = "sparseconv info: internal error, KeyError: 'x'; --debug shows where\n"
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (FileNotFoundError(2, "No such file", "a.ply"), "a.ply: No such file"),
        (MemoryError(), "out of memory; use a larger voxel or fewer points"),
        (ImportError("open3d: expected an installed package"), "open3d: expected an installed"),
    ],
)
def test_errors_of_the_system_are_told_plainly(capsys, command, error, line):
    command(raising(error))
    assert main(["info", "scan.ply"]) == 1
    assert capsys.readouterr().err.startswith(f"sparseconv info: {line}")


def test_ctrl_c_is_told_and_has_its_code(capsys, command):
    command(raising(KeyboardInterrupt()))
    assert main(["info", "scan.ply"]) == 130
    assert capsys.readouterr() == ("", "sparseconv info: interrupted; nothing was written\n")


def test_a_reader_that_left_is_no_error(capsys, command):
    command(raising(BrokenPipeError()))
    assert main(["info", "scan.ply"]) == 141
    assert capsys.readouterr().err == ""


def test_help_needs_no_heavy_package():
    code = (
        "import sys; import sparseconv; before = set(sys.modules);"
        "from sparseconv.cli.main import main; code = main(['segment', '--help']);"
        "heavy = {'open3d', 'laspy', 'plyfile', 'rich', 'PIL', 'matplotlib', 'scipy'};"
        "late = set(sys.modules) - before;"
        "sys.exit(code or len(heavy & set(sys.modules)) or len([m for m in late if 'viz' in m]))"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0


def test_the_program_runs_as_a_module_and_survives_a_closed_pipe(scan):
    command = [sys.executable, "-m", "sparseconv.cli.main", "info", str(scan), "--voxel", "0.5"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert "600 points" in run.stdout
    reading, writing = os.pipe()
    os.close(reading)
    closed = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, timeout=120)
    os.close(writing)
    assert closed.returncode == 141
    assert closed.stderr == b""
