"""What a person sees while a sweep runs: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from ssense.retrieval import metric_title
from sweeps.engine.cell import label
from sweeps.engine.ledger import Record

_PLAIN_WIDTH = 120  # a log file has no width of its own

console = Console(highlight=False, width=None if sys.stdout.isatty() else _PLAIN_WIDTH)


def say(text: str) -> None:
    """Print one line."""
    console.print(text, markup=False, soft_wrap=True)


@contextmanager
def step(what: str) -> Iterator[None]:
    """Announce a step of the work and, when it ends, how long it took."""
    start = time.monotonic()
    say(f"{what} ...")
    yield
    say(f"  done in {duration(time.monotonic() - start)}")


def count(what: str) -> Callable[[int, int], None]:
    """Return a function of (done, total) that says how far a step is, ten times at most."""
    start = time.monotonic()

    def show(done: int, total: int) -> None:
        if done * 10 // total > (done - 1) * 10 // total:
            left = (time.monotonic() - start) * (total - done) / done
            say(f"  {done} of {total} {what}" + (f", about {duration(left)} left" * (done < total)))

    return show


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

    def __init__(self, total: int, slots: int, metric: str) -> None:
        """Follow `total` cells, trained `slots` at a time, judged by a validation metric."""
        self._total = total
        self._slots = slots
        self._metric = metric
        self._done = 0
        self._seconds = 0.0
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
        self._seconds += record.timings.get("training", 0.0)
        left = self._time_left()
        self._bar.update(self._task, completed=self._done, description=left)
        tail = "" if console.is_terminal else f"   {left}"
        number = f"{self._done:>{len(str(self._total))}}/{self._total}"
        name = label(family, record.configuration)
        say(f"  {number}  {name:<40} seed {record.seed:<4}{self._outcome(record)}{tail}")

    def _outcome(self, record: Record) -> str:
        if not record.done:
            return f"failed: {record.reason}"
        score = f"{metric_title(self._metric)} {100 * record.best[self._metric]:5.1f} %"
        epochs = f"epoch {record.best_epoch} of {len(record.history)}"
        return f"{score}  {epochs}  {record.timings['training']:3.0f} s"

    def _time_left(self) -> str:
        if self._done == self._total:
            return "all trained"
        left = self._seconds / self._done * (self._total - self._done) / self._slots
        return f"about {duration(left)} left" if left else ""
