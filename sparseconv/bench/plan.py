"""Which rows a run measures, in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sparseconv.bench.case import Case

SWEPT_CASES = ("conv", "gradient")
SWEPT_CHANNELS = (4, 16, 64, 256)
SWEPT_SIZES = ("1k", "10k", "100k", "500k", "2M")
# features of the input of a row that fit a common machine with all that goes with them
MOST_NUMBERS = 128 << 20


@dataclass(frozen=True)
class Step:
    """One row to measure.

    Attributes:
        case: what.
        scene: name of the scan.
        channels: C; None where the case has no such width.
        threads: of ours.
    """

    case: Case
    scene: str
    channels: int | None
    threads: int

    @property
    def title(self) -> str:
        """What is shown while it runs."""
        width = "" if self.channels is None else f", C = {self.channels}"
        return f"{self.scene}: {self.case.title}{width}"


def steps_of(
    cases: Iterable[Case], scenes: Iterable[str], widths: Iterable[int], threads: int
) -> Iterator[Step]:
    """Yield every case on every scene with every width; those with scenes of their own last."""
    cases, widths = list(cases), list(widths)

    def over(case: Case, scene: str) -> Iterator[Step]:
        for width in widths if case.swept else (None,):
            yield Step(case, scene, width, case.threads or threads)

    for scene in scenes:
        for case in cases:
            if not case.scenes:
                yield from over(case, scene)
    for case in cases:
        for scene in case.scenes:
            yield from over(case, scene)


def sweep(cases: dict[str, Case], threads: int) -> Iterator[Step]:
    """Yield the layer sweep: widths from 4 to 256, 1,000 to 2,000,000 voxels, LiDAR and indoor."""
    for kind in ("street", "room"):
        for size in SWEPT_SIZES:
            voxels = int(size.replace("k", "000").replace("M", "000000"))
            for name in SWEPT_CASES:
                for width in SWEPT_CHANNELS:
                    if voxels * width <= MOST_NUMBERS:
                        yield Step(cases[name], f"{kind}-{size}", width, threads)
