"""What a person sees while a sweep runs: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from sweeps.engine.cell import describe
from sweeps.engine.ledger import Record

console = Console(highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Print one line."""
    console.print(text, markup=False)


@contextmanager
def step(what: str) -> Iterator[None]:
    """Announce a step of the work and, when it ends, how long it took."""
    start = time.monotonic()
    say(f"{what} ...")
    yield
    say(f"  done in {duration(time.monotonic() - start)}")


def duration(seconds: float) -> str:
    """Show a time span to two significant units: "8 s", "4 min", "3 h 20 min"."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"


class CellProgress:
    """Counts finished cells, prints one line for each, and tells the time left."""

    def __init__(self, total: int, metric: str) -> None:
        """Follow `total` cells, judged by a validation metric."""
        self._total = total
        self._metric = metric
        self._done = 0
        self._start = time.monotonic()
        self._bar = Progress(
            TextColumn("[bold]cells"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("starting workers", total=total)

    def __enter__(self) -> CellProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def cell(self, family: str, record: Record) -> None:
        """Show a finished cell."""
        self._done += 1
        left = self._time_left()
        self._bar.update(self._task, completed=self._done, description=left)
        tail = "" if console.is_terminal else f"   {left}"
        number = f"{self._done:>{len(str(self._total))}}/{self._total}"
        name = f"{family}: {describe(record.configuration)}" if record.configuration else family
        say(f"  {number}  seed {record.seed}  {self._outcome(record)}  {name}{tail}")

    def _outcome(self, record: Record) -> str:
        if not record.done:
            return f"failed: {record.reason}"
        score = 100 * record.best[self._metric]
        epochs = f"best epoch {record.best_epoch:>2} of {len(record.history):>2}"
        return f"{self._metric} {score:5.1f} %  {epochs}  {record.timings['training']:3.0f} s"

    def _time_left(self) -> str:
        left = (time.monotonic() - self._start) / self._done * (self._total - self._done)
        return f"about {duration(left)} left" if left else "all trained"
