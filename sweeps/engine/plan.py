"""The plan: what a sweep holds, what of it is done, and how long the rest will take."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from sweeps.engine.progress import duration, say
from sweeps.engine.search import Search
from sweeps.engine.sweep import Sweep


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Cells of a sweep by state, before anything runs.

    Attributes:
        total: cells of the whole sweep.
        done, failed: cells with a result, and cells to be tried again.
        seconds_per_cell: median of the cells that are done; None where none is.
    """

    total: int
    done: int
    failed: int
    seconds_per_cell: float | None

    @property
    def to_run(self) -> int:
        """Cells without a result."""
        return self.total - self.done

    def lines(self, slots: int) -> list[str]:
        """The plan in words, for `slots` cells at a time."""
        again = f" ({self.failed} of them failed before)" if self.failed else ""
        lines = [f"  cells: {self.done} done, {self.to_run} to train{again}"]
        if self.to_run and self.seconds_per_cell is not None:
            left = self.seconds_per_cell * self.to_run
            at_a_time = f"{slots} at a time" if slots > 1 else "one after the other"
            lines.append(f"  time: about {duration(left / max(slots, 1))}, {at_a_time}")
        return lines


def plan_cells(search: Search) -> Plan:
    """Count the cells of a sweep against its ledger."""
    records = [record for _, cell in search.cells() if (record := search.record(cell))]
    done = [record for record in records if record.done]
    whole = [record.timings["training"] for record in done if not record.resumed_after]
    return Plan(
        total=search.sweep.n_cells,
        done=len(done),
        failed=len(records) - len(done),
        seconds_per_cell=median(whole) if whole else None,
    )


def show_sweep(sweep: Sweep) -> None:
    """Say what a sweep compares."""
    count = sum(sweep.wanted(family) for family in sweep.families)
    say(f"Sweep {sweep.name}: {count} configurations x {len(sweep.seeds)} seeds")
    for family in sweep.families:
        wanted = sweep.wanted(family)
        shown = f"{wanted} of {family.size} possible" if family.size > 1 else "1 configuration"
        say(f"  {family.name}: {shown}")
