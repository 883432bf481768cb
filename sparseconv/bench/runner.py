"""`sparseconv bench`: choose scenes, cases and peers; measure; report."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from sparseconv._errors import complain
from sparseconv.backends.memory import keep_freed_memory
from sparseconv.bench import net_cases
from sparseconv.bench.bars import bar_steps, judge
from sparseconv.bench.case import Case
from sparseconv.bench.cases import CASES
from sparseconv.bench.machine import describe_machine
from sparseconv.bench.measure import Row, measure, watch
from sparseconv.bench.net_cases import NETS, make_net, net_widths
from sparseconv.bench.peers import PEERS, Peer, choose
from sparseconv.bench.plan import Step, steps_of, sweep
from sparseconv.bench.report import as_json, bars_as_json, show, show_bars
from sparseconv.bench.scenes import MADE, REAL, Scene, load_scan, load_scene, usual_scenes

CHANNELS = "16,32,64,128"
# of the bars; those of nets alone only run there, unless named
BAR_PEERS = "spconv,minkowski,mm,fma,copy"
NET_PEERS = ("minkowski",)


def parser() -> argparse.ArgumentParser:
    """Return the options of the benchmark."""
    options = argparse.ArgumentParser(
        prog="sparseconv bench",
        description="Time the library beside others, in turns, in one process, and print ratios. "
        "Results are compared before anything is timed.",
    )
    add = options.add_argument
    add("--scenes", metavar="NAMES", help=f"of {', '.join([*MADE, *REAL])}; the usual ones if none")
    add("--scan", type=Path, metavar="FILE", help="a scan of your own; with --voxel")
    add("--voxel", type=float, metavar="METRES", help="voxel size of --scan")
    add("--cases", metavar="NAMES", help=f"of {', '.join(CASES)}; all if none")
    add("--channels", default=CHANNELS, metavar="LIST", help=f"widths of a layer ({CHANNELS})")
    add("--bars", action="store_true", help="all of the project's bars, with the large MinkUNet")
    add("--sweep", action="store_true", help="one layer, 4 to 256 wide, 1k to 2M voxels")
    peers_help = f"all (if none are named), none, or of {', '.join(PEERS)}; with --bars, if none "
    peers_help += f"are named, {BAR_PEERS}, of which {', '.join(NET_PEERS)} runs beside nets alone"
    nets = f"{', '.join(NETS)}, or widths of stem, down and up (small)"
    add("--peers", metavar="NAMES", help=peers_help)
    add("--net", metavar="NAME", help=f"the U-Net: {nets}")
    add("--full", dest="net", action="store_const", const="full", help="the same as --net full")
    add("--threads", type=int, default=1, metavar="N", help="threads of ours (1)")
    add("--repeat", type=int, default=15, metavar="N", help="rounds of a row (15)")
    add("--seconds", type=float, help="stop a row after this long (10; with --bars 3)")
    add("--clock", choices=["wall", "cpu"], default="wall", help="cpu: on a busy machine (wall)")
    keeping = "keep freed memory in the process, whoever frees it, as train and segment do"
    add("--keep-memory", action="store_true", help=keeping)
    add("--json", type=Path, metavar="FILE", help="write all figures there, too")
    add("--quiet", action="store_true", help="no progress on standard error")
    return options


def _positive(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(complain(name, "a number above 0", f"{value:g}"))


def _names(text: str | None, usual: list[str]) -> list[str]:
    return usual if text is None else [part.strip() for part in text.split(",") if part.strip()]


def _cases(text: str | None) -> list[Case]:
    names = _names(text, [name for name, case in CASES.items() if case.usual])
    for name in names:
        if name not in CASES:
            raise ValueError(complain("--cases", f"names among {', '.join(CASES)}", name))
    return [CASES[name] for name in names]


def _widths(text: str) -> list[int]:
    try:
        widths = [int(part) for part in text.split(",")]
    except ValueError:
        widths = [0]
    if min(widths) < 1:
        raise ValueError(complain("--channels", "ints above 0, such as 32,64", repr(text)))
    return widths


def _steps(args: argparse.Namespace, scenes: list[str]) -> list[Step]:
    if args.bars:
        return bar_steps(scenes)
    if args.sweep:
        return list(sweep(CASES, args.threads))
    return list(steps_of(_cases(args.cases), scenes, _widths(args.channels), args.threads))


def _rows(args: argparse.Namespace, scenes: list[str], peers: list[Peer]) -> Iterator[Row]:
    scene = None
    steps = _steps(args, scenes)
    for number, step in enumerate(steps, 1):
        if not args.quiet:
            print(f"{number}/{len(steps)} {step.title}", file=sys.stderr, flush=True)
        if scene is None or scene.name != step.scene:
            mine = args.scan is not None and step.scene == args.scan.stem
            scene = load_scan(args.scan, args.voxel) if mine else load_scene(step.scene)
        whole = step.case in net_cases.CASES
        yield _row(step, scene, args, [p for p in peers if whole or p.name not in args.of_nets])


def _row(step: Step, scene: Scene, args: argparse.Namespace, peers: list[Peer]) -> Row:
    case = step.case
    problem = case.prepare(scene, step.channels or 0, args.net)
    row = Row(
        scene.name,
        case.name,
        case.title,
        step.channels,
        len(scene.coords),
        problem.flops,
        problem.bytes,
    )
    if case.kind == "memory":
        return watch(row, problem, step.threads)
    return measure(
        row,
        problem,
        case.kind,
        [*peers, *case.beside],
        threads=step.threads,
        repeat=args.repeat,
        seconds=args.seconds,
        tolerance=case.tolerance,
        parts=case.parts,
        clock="wall" if step.threads > 1 else args.clock,
    )


def _write(path: Path, content: dict[str, object]) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1)
            file.write("\n")
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def main(argv: list[str]) -> int:
    """Run the benchmark.

    Args:
        argv: words after `sparseconv bench`.

    Returns:
        0; 1 where a peer disagreed or failed; 130 after Ctrl-C, with what was done printed.

    Raises:
        ValueError, FileNotFoundError: an option is wrong; the message names it.
    """
    args = parser().parse_args(argv)
    args.net = args.net or ("full" if args.bars else "small")
    args.of_nets = NET_PEERS if args.bars and not args.peers else ()
    args.peers = args.peers or (BAR_PEERS if args.bars else "all")
    if args.seconds is None:
        args.seconds = 3.0 if args.bars else 10.0
    for name in ("threads", "repeat", "seconds"):
        _positive(f"--{name}", getattr(args, name))
    if args.clock == "cpu" and args.threads != 1:
        raise ValueError(
            complain("--clock", "wall with several threads, whose times add up", "cpu")
        )
    if args.scan is not None:
        if args.voxel is None:
            raise ValueError(
                complain("--voxel", "metres beside --scan", "none", "add --voxel 0.05")
            )
        _positive("--voxel", args.voxel)
    make_net(args.net)
    if args.keep_memory and not keep_freed_memory():
        raise ValueError(
            complain(
                "--keep-memory",
                "a C library that can be told so, as glibc",
                "another one",
                "leave it out",
            )
        )
    peers = choose(args.peers)
    if args.scan is not None:
        scenes = [args.scan.stem]
    elif args.bars:
        scenes = _names(args.scenes, usual_scenes()[-2:])
    else:
        scenes = _names(args.scenes, usual_scenes())
    rows: list[Row] = []
    stopped = False
    threads = torch.get_num_threads()
    try:
        for row in _rows(args, scenes, peers):
            rows.append(row)
    except KeyboardInterrupt:
        stopped = True
    finally:
        torch.set_num_threads(threads)
    machine = {**describe_machine(), "keeps_memory": args.keep_memory}
    show(rows, peers, machine, args.threads, args.clock)
    verdicts = judge(rows, scenes) if args.bars else []
    if verdicts:
        show_bars(verdicts, net_widths(make_net(args.net)))
    if args.json is not None:
        content = as_json(rows, peers, machine, args.threads, args.clock)
        if args.bars:
            content["bars"] = bars_as_json(verdicts)
        _write(args.json, content)
    if stopped:
        print("stopped: the rows above are complete, the rest was not run", file=sys.stderr)
        return 130
    return 1 if any(row.errors for row in rows) else 0
