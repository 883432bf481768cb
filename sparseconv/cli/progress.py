"""Show how far a long piece of work has come."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

PATIENCE = 2.0
INTERVAL = 10.0


class Progress:
    """A callable `progress(stage, done, total)` that shows nothing in the first two seconds.

    On a terminal it then draws a bar; elsewhere it writes a line now and then.

    Args:
        stream: where to; None for standard error.
        clock: returns seconds.
        patience: seconds of silence at the start.
        interval: seconds between two lines where there is no terminal.
        quiet: show nothing at all.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        patience: float = PATIENCE,
        interval: float = INTERVAL,
        quiet: bool = False,
    ):
        self.stream = sys.stderr if stream is None else stream
        self.clock = clock
        self.patience = patience
        self.interval = interval
        self.quiet = quiet
        self.start = clock()
        self.last_line = self.start + patience - interval
        self.bar = None
        self.tasks: dict[str, int] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Take note that `done` of `total` pieces of a stage are done."""
        now = self.clock()
        if self.quiet or now - self.start < self.patience:
            return
        if self.stream.isatty():
            self._draw(stage, done, total)
        elif now - self.last_line >= self.interval:
            self.last_line = now
            share = f"{100 * done // total} %" if total > 0 else f"{done}"
            passed = now - self.start
            print(f"{stage}: {share} after {passed:.0f} s", file=self.stream, flush=True)

    def __enter__(self) -> "Progress":
        """Start counting the patience."""
        self.start = self.clock()
        self.last_line = self.start + self.patience - self.interval
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the bar away, so that what follows starts on a clean line."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def _draw(self, stage: str, done: int, total: int) -> None:
        if self.bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self.bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f} %"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=Console(file=self.stream),
                transient=True,
            )
            self.bar.start()
        if stage not in self.tasks:
            self.tasks[stage] = self.bar.add_task(stage, total=total or None)
        self.bar.update(self.tasks[stage], completed=done, total=total or None)
