"""Which instruction set runs, and what is said when it cannot."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sparseconv import backends

native = pytest.importorskip("sparseconv._native", reason="the compiled module is not installed")


def isa_of_a_process(forced):
    code = "import sparseconv; from sparseconv import _native; print(_native.isa())"
    environment = {**os.environ, "SPARSECONV_ISA": forced}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )


def test_baseline_is_always_there_and_the_best_is_taken():
    names = native.available_isas()
    assert names[0] == "baseline" and len(set(names)) == len(names)
    if "SPARSECONV_ISA" not in os.environ:
        assert isa_of_a_process("").stdout.strip() == names[-1]


def test_a_set_can_be_forced():
    before = native.isa()
    try:
        for name in native.available_isas():
            native.set_isa(name)
            assert native.isa() == name
    finally:
        native.set_isa(before)
    assert isa_of_a_process("baseline").stdout.strip() == "baseline"


def test_emulated_tiles_run_only_where_asked_for():
    assert "amx_emulated" not in native.available_isas()
    before = native.isa()
    try:
        native.set_isa("amx_emulated")
    except ValueError:
        pytest.skip("built without them")
    try:
        assert native.isa() == "amx_emulated"
    finally:
        native.set_isa(before)
    assert isa_of_a_process("amx_emulated").stdout.strip() == "amx_emulated"


def test_tiles_are_taken_where_the_processor_has_them():
    info = Path("/proc/cpuinfo")
    if not info.exists():
        pytest.skip("the processor's flags are not told")
    flags = info.read_text().partition("flags")[2].split("\n", 1)[0].split()
    wanted = {"amx": {"amx_tile", "amx_bf16"}, "avx512bf16": {"avx512_bf16", "avx512bw"}}
    for name, needed in wanted.items():
        if name in native.available_isas():
            assert needed <= set(flags)


def test_an_unknown_set_is_refused():
    before = native.isa()
    with pytest.raises(ValueError, match=r"baseline.*'mmx'"):
        native.set_isa("mmx")
    assert native.isa() == before
    run = isa_of_a_process("mmx")
    assert run.returncode != 0 and "SPARSECONV_ISA" in run.stderr and "'mmx'" in run.stderr


def test_the_module_says_that_it_is_there():
    assert backends.native_available() and backends.native_missing() is None


def test_a_missing_module_is_explained(monkeypatch):
    # None in sys.modules makes an import fail as if there were no file
    monkeypatch.setitem(sys.modules, "sparseconv._native", None)
    backends.native_missing.cache_clear()
    try:
        assert not backends.native_available()
        assert "compiler" in backends.native_missing()
    finally:
        monkeypatch.undo()
        backends.native_missing.cache_clear()
    assert backends.native_available()
