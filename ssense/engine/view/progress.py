"""What a person sees while a sweep runs: a live matrix on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.constrain import Constrain
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Column, Table
from rich.text import Text

from ssense.cli.screen import PLAIN_WIDTH, console, duration, print_whole, say
from ssense.engine.core.cell import Configuration, label
from ssense.engine.core.decision import Decision
from ssense.engine.core.matrix import MARKS, Matrix, MatrixRow, State, mean_and_sd
from ssense.engine.core.record import Record
from ssense.retrieval import metric_title

_REFRESHES_PER_S = 4
# Share of the time that making views of the matrix may take: it grows with the sweep.
_VIEW_SHARE = 0.02
# Lines of the live display beside the configurations (title, header, rows left out, legend, bar),
# and lines of a terminal left for what was printed before.
_FRAME_LINES = 5
_LINES_ABOVE = 4

# Standard colours that are legible on a light and on a dark background.
_STYLES: Mapping[State, str] = {
    "done": "green",
    "running": "bold magenta",
    "failed": "bold red",
    "waiting": "dim",
    "dropped": "dim",
    "ahead": "dim green",
}


class CellProgress:
    """Shows a running sweep: on a terminal the matrix, live; elsewhere a line per finished cell.

    Failures and decisions, which would be lost with the live display, are printed on both.
    """

    def __init__(
        self, total: int, slots: Callable[[], int], metric: str, matrix: Callable[[], Matrix]
    ) -> None:
        """Follow `total` cells, judged by a validation metric.

        `slots` is asked how many are trained at a time: machines come and go. `matrix` is asked for
        the state of the sweep from a thread of the live display.
        """
        self._total = total
        self._slots = slots
        self._matrix = matrix
        self._metric = metric
        self._finished = 0
        self._timed = 0  # finished cells that say how long they took, and their sum
        self._seconds = 0.0
        self._view: MatrixView | None = None
        self._view_is_due = 0.0  # time.monotonic
        self._bar = Progress(
            TextColumn("cells"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            console=console,
            expand=True,
        )
        self._task = self._bar.add_task("starting workers", total=total)
        self._live = Live(
            get_renderable=self._display,
            console=console,
            refresh_per_second=_REFRESHES_PER_S,
            transient=True,
        )

    def __enter__(self) -> CellProgress:
        if console.is_interactive:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def left(self, cells: int) -> None:
        """Expect so many further cells; the race may have spared some."""
        self._total = self._finished + cells
        self._show_pace()

    def cell(self, family: str, record: Record, *, ahead: bool = False) -> None:
        """Count a finished cell and, where there is no live display or it failed, print it.

        `ahead` says that the race has not asked for the cell, so that it does not count yet.
        """
        self._finished += 1
        if "training" in record.timings:  # a worker that died leaves none
            self._timed += 1
            self._seconds += record.timings["training"]
        self._show_pace()
        if console.is_interactive and record.done:
            return
        tail = "" if console.is_interactive else f"   {self._time_left()}"
        number = f"{self._finished:>{len(str(self._total))}}/{self._total}"
        # What varies in length is last, so that lines are a table.
        print_whole(
            f"  {number}  seed {record.seed:<4}{self._outcome(family, record)}"
            f"{'  ahead' if ahead else ''}{tail}"
        )

    def decision(
        self, family: str, configurations: Sequence[Configuration], decision: Decision
    ) -> None:
        """Print what the race decided on one of a family's configurations, in order of proposal."""
        name = label(family, configurations[decision.place])
        leader = "" if decision.leader is None else label(family, configurations[decision.leader])
        verb = "returned" if decision.reason == "returned" else "dropped"
        seeds = f"{decision.after_seeds} seed" + "s" * (decision.after_seeds != 1)
        say(f"  {verb}  {name}  after {seeds}: {_grounds(decision, leader)}")

    def _outcome(self, family: str, record: Record) -> str:
        name = label(family, record.configuration)
        if not record.done:
            return f"{name} failed: {record.reason}"
        score = f"{100 * record.best[self._metric]:5.1f} %"
        seconds = f"{record.timings['training']:3.0f} s"
        if console.width < PLAIN_WIDTH:
            return f"{score}  {seconds}  {name}"
        score = f"{metric_title(self._metric)} {score}"
        epochs = f"epoch {record.best_epoch:>2} of {len(record.history):>2}"
        return f"{score}  {epochs}  {seconds}  {name}"

    def _rate(self) -> float:
        """Cells per second, by those finished in this run; 0 while none is."""
        busy = min(self._slots(), self._total - self._finished)  # at the end some slots are idle
        return max(0, busy) * self._timed / self._seconds if self._seconds else 0.0

    def _time_left(self) -> str:
        left = self._total - self._finished
        if left <= 0:
            return "all trained"
        rate = self._rate()
        return f"about {duration(left / rate)} left" if rate else ""

    def _show_pace(self) -> None:
        rate = self._rate()
        pace = f"{60 * rate:.1f} per minute" if 60 * rate >= 1 else f"{3600 * rate:.1f} per hour"
        shown = f"{pace}, {self._time_left()}" if rate else self._time_left()
        self._bar.update(
            self._task,
            completed=self._finished,
            total=self._total,
            description=shown or "training the first cells",
        )

    def _display(self) -> Group:
        above = self._current_view().lines(console.height - _LINES_ABOVE)
        # Room for the ^C of a terminal: on a line of its own it would shift what is erased.
        return Group(*above, Constrain(self._bar, console.width - len("^C")))

    def _current_view(self) -> MatrixView:
        """The view of this moment, or of a few moments ago where it takes long to make one."""
        start = time.monotonic()
        if self._view is None or start >= self._view_is_due:
            self._view = MatrixView(self._matrix())
            end = time.monotonic()
            self._view_is_due = end + (end - start) / _VIEW_SHARE
        return self._view


class MatrixView:
    """A matrix as lines of a terminal: as many configurations as fit, and what the marks mean.

    Counting and ranking, whose cost grows with the sweep, are done once, not at every refresh.
    """

    def __init__(self, matrix: Matrix) -> None:
        self._matrix = matrix
        self._title = Text(
            f"validation {metric_title(matrix.metric)}, %; * leads its family; "
            "behind: * on the seeds both have",
            style="dim",
            no_wrap=True,
            overflow="ellipsis",
        )
        self._legend = _legend(matrix.counts())
        self._ranked = sorted(range(len(matrix.rows)), key=self._rank)

    def lines(self, height: int) -> list[RenderableType]:
        """Draw the matrix within `height` lines: leaders, running ones, the latest tried."""
        most = max(1, height - _FRAME_LINES)
        places = sorted(self._ranked[:most], key=self._by_family)
        hidden = len(self._ranked) - len(places)
        note = (
            [Text(f"  {hidden} configuration{'s' * (hidden != 1)} not shown", style="dim")]
            if hidden
            else []
        )
        return [self._title, self._table(places), *note, self._legend]

    def _rank(self, place: int) -> tuple[bool, bool, bool, bool, int]:
        row = self._matrix.rows[place]
        untried = set(row.states) <= {"waiting"}
        return not row.leads, "running" not in row.states, untried, row.dropped, -place

    def _by_family(self, place: int) -> tuple[int, int]:
        return self._matrix.families.index(self._matrix.rows[place].family), place

    def _table(self, places: Sequence[int]) -> Table:
        table = Table(
            Column(no_wrap=True),
            "configuration",
            "seeds",
            Column("done", justify="right", no_wrap=True),
            Column("mean ± sd", no_wrap=True),
            Column("behind", justify="right", no_wrap=True),
            header_style="dim",
            box=None,
            padding=(0, 1, 0, 0),
        )
        for place in places:
            self._add(table, self._matrix.rows[place])
        return table

    def _add(self, table: Table, row: MatrixRow) -> None:
        behind = self._matrix.behind(row)
        # On a narrow terminal names and seeds are cut, the numbers never.
        marks = Text(no_wrap=True, overflow="ellipsis")
        for state in row.states:
            marks.append(MARKS[state], _STYLES[state])
        table.add_row(
            "*" if row.leads else MARKS["dropped"] if row.dropped else "",
            Text(row.name, no_wrap=True, overflow="ellipsis"),
            marks,
            f"{row.n_done}/{len(row.states)}",
            mean_and_sd(row),
            "" if behind is None else f"{100 * behind:z.1f}",
            style="dim" if row.dropped else "bold" if row.leads else "",
        )


def _legend(counts: Counter[State]) -> Text:
    """Every mark with its meaning and how many cells have it; "ahead" only where one is."""
    parts = (
        Text(f"{mark} {counts[state]} {state}", _STYLES[state] if counts[state] else "dim")
        for state, mark in MARKS.items()
        if counts[state] or state != "ahead"
    )
    return Text("   ").join(parts)


def _grounds(decision: Decision, leader: str) -> str:
    if decision.reason == "failed":
        return "one of its cells failed"
    if decision.reason == "returned":
        return "the configurations ahead of it failed"
    # What is behind has all of these numbers.
    assert decision.difference is not None
    assert decision.standard_error is not None
    assert decision.threshold is not None
    behind = f"{100 * decision.difference:.1f} points behind {leader}"
    error = 100 * decision.standard_error
    return f"{behind} (standard error {error:.1f}, limit {decision.threshold * error:.1f})"
