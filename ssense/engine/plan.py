"""The plan: what a sweep holds, what the rest will cost, and what difference it can show."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from upath import UPath

from ssense.cli.screen import duration, say
from ssense.data.splits import Split
from ssense.engine.core.power import Power
from ssense.engine.core.record import MOST_ATTEMPTS
from ssense.engine.core.sweep import STARTUP_PROPOSALS, Levels, Sweep
from ssense.engine.records.find import sweep_folders
from ssense.engine.records.ledger import Ledger
from ssense.engine.search.race import fit_additive
from ssense.engine.search.search import Search
from ssense.engine.tasks.data_plan import with_shares
from ssense.errors import UserError, counted
from ssense.specification import settings
from ssense.training.loop import SELECTION_METRIC


@dataclass(frozen=True, kw_only=True)
class SweepPlan:
    """A sweep before anything runs.

    Attributes:
        to_run: Cells that may still have to run; a race leaves some of them out.
        done: Cells with a result that counts.
        failed: Cells that failed and will be tried again.
        given_up: Cells that failed too often to be tried again.
        dropped: Cells that the race has spared already.
        ahead: Cells that have run and that the race has not asked for, so that they don't count.
        runs_ahead: Whether idle workers train cells that the race may ask for later.
        seconds_per_cell: Median of the cells that are done, or an estimate; None where unknown.
        probed: Whether the time is an estimate of a short probe, of training steps alone.
        max_epochs: The most epochs that a cell trains, which the estimate goes by.
        parts: How many examples the first seed trains on, validates with and tests with.
        fewest: How many examples it trains on in cells with the smallest share of them; None where
            all cells have the same.
        kind: How a seed divides the examples.
        power: What the tests can show.
    """

    to_run: int
    done: int
    failed: int
    given_up: int = 0
    dropped: int
    ahead: int = 0
    runs_ahead: bool = False
    seconds_per_cell: float | None
    probed: bool = False
    max_epochs: int
    parts: tuple[int, int, int]
    fewest: int | None = None
    kind: str
    power: Power

    def lines(self, slots: int | None, price: float | None = None) -> list[str]:
        """The plan in words, what it costs first, for a price per device-hour.

        `slots` cells run at a time; None where that is not known yet, as on a cluster.
        """
        counts = [self._cells(), *self._ahead(), self._split()]
        return [*self._cost(slots, price), *counts, *self.power.lines()]

    def _cells(self) -> str:
        again = f" ({self.failed} of them failed before)" if self.failed else ""
        spared = f", {self.dropped} spared by the race" if self.dropped else ""
        out = f", {self.given_up} failed {MOST_ATTEMPTS} times" if self.given_up else ""
        ahead = f", {self.ahead} trained ahead of the race" if self.ahead else ""
        return f"  cells: {self.done} done, {self.to_run} to train{again}{spared}{ahead}{out}"

    def _ahead(self) -> list[str]:
        if not (self.runs_ahead and self.to_run):
            return []
        does = "train cells that the race may ask for later, which changes no result"
        return [f"  idle workers: {does} (not with --granted-only)"]

    def _cost(self, slots: int | None, price: float | None) -> list[str]:
        if not self.to_run or self.seconds_per_cell is None:
            return []
        seconds = self.seconds_per_cell * self.to_run
        hours = seconds / 3600
        cost = f", {price * hours:.2f} at {price:g} per device-hour" if price else ""
        spent = f"{hours:,.0f}" if hours >= 100 else f"{hours:.2g}"
        spent += f" device-hours{cost}"
        about = "roughly" if self.probed else "at most"
        if slots is None:
            return [f"  time: {about} {spent} of training"]
        at_a_time = f"{slots} at a time" if slots > 1 else "one after the other"
        here = f"{duration(seconds / slots)} of training on this machine, {at_a_time}"
        lines = [f"  time: {about} {here}; {spent}"]
        if self.probed:
            most = counted(self.max_epochs, "epoch")
            whole = f"{duration(self.seconds_per_cell)} for all of its {most}"
            lines.append(f"  a cell: {whole}, less where it stops early")
            besides = "starting, texts, features, and what each cell loads and keeps"
            lines.append(f"  besides: {besides}, some seconds each")
        return lines

    def _split(self) -> str:
        train, validation, test = self.parts
        shown = f"{train}" if self.fewest is None else f"{self.fewest} to {train}"
        return f"  split: {self.kind}; {shown} to train, {validation} to validate, {test} to test"


def plan_cells(search: Search, split: Split, *, runs_ahead: bool = False) -> SweepPlan:
    """Count the cells of a sweep against its ledger, and learn cost and noise from it.

    Args:
        search: The search of the sweep.
        split: The split of its first seed.
        runs_ahead: Whether idle workers train cells that the race may ask for later.
    """
    found = [record for _, cell in search.cells() if (record := search.record(cell))]
    records = list({record.signature: record for record in found}.values())
    done = [record for record in records if record.done]
    whole = [record.timings["training"] for record in done if not record.resumed_after]
    spread = fit_additive(search.scores()).residual_sd if search.rows else math.nan
    counts = search.matrix().counts()
    sweep = search.sweep
    splits = [each.cell_split(split, sweep.seeds[0]) for each in with_shares(sweep)]
    splits.sort(key=lambda each: len(each.train))
    fewest, most = (len(each.train) for each in (splits[0], splits[-1]))
    return SweepPlan(
        to_run=search.left(),
        done=len(done),
        failed=sum(not record.done and not record.given_up for record in records),
        given_up=sum(record.given_up for record in records),
        dropped=counts["dropped"],
        ahead=counts["ahead"],
        runs_ahead=runs_ahead,
        seconds_per_cell=median(whole) if whole else None,
        max_epochs=sweep.specification.training.max_epochs,
        parts=(most, len(split.validation), len(split.test)),
        fewest=fewest if fewest < most else None,
        kind=sweep.specification.split,
        # Of the smallest share: it has the fewest to allow for the overlap of splits by.
        power=_power(sweep, splits[0], math.sqrt(2) * spread if spread > 0 else None),
    )


def _power(sweep: Sweep, split: Split, noise: float | None) -> Power:
    specification, n_test = sweep.specification, len(split.test)
    return Power(
        seeds=len(sweep.seeds),
        sizes=specification.resampled_sizes(split),
        comparisons=max(1, math.comb(len(sweep.families), 2)),
        noise=noise,
        metric=SELECTION_METRIC,
        shared_test=(n_test, specification.test_blocks) if specification.shares_test else None,
    )


def other_sweeps(storage: UPath, sweep: Sweep) -> list[str]:
    """Name sweeps of the same question whose cells don't count in this one, and why, a line each.

    These sweeps were run on other data, with other training settings or over another search space.

    Raises:
        UserError: The storage can't be read.
    """
    lines = []
    for ledger in map(Ledger, sweep_folders(storage)):
        try:
            other = ledger.description().sweep
        except UserError:  # of another format, or damaged: it is left out
            continue
        if other.question != sweep.question or other.name == sweep.name:
            continue
        if n := ledger.n_begun():
            reasons = ", ".join(_differences(other, sweep))
            lines.append(f"  not counted: {n} cell{'s' * (n != 1)} of {other.name} ({reasons})")
    return lines


def _differences(then: Sweep, now: Sweep) -> Iterator[str]:
    if then.dataset_digest != now.dataset_digest:
        yield "another dataset"
    earlier_settings = settings(then.specification)
    for name, value in settings(now.specification).items():
        earlier = earlier_settings.get(name)
        if earlier != value:
            yield f"{name} {earlier}, now {value}"
    if _space(then) != _space(now):
        yield "other configurations to choose from"


def _space(sweep: Sweep) -> list[tuple[str, dict[str, Levels]]]:
    return [(family.name, dict(family.levels)) for family in sweep.families]


def show_sweep(sweep: Sweep) -> None:
    """Say what a sweep compares."""
    count = sum(sweep.wanted(family) for family in sweep.families)
    n_seeds = len(sweep.seeds)
    configurations = f"{count} configuration{'s' * (count != 1)}"
    say(f"Sweep {sweep.name}: {configurations} x {n_seeds} seed{'s' * (n_seeds != 1)}")
    for family in sweep.families:
        wanted = sweep.wanted(family)
        shown = f"{wanted} of {family.size} possible" if family.size > 1 else "1 configuration"
        if wanted < family.size and wanted > STARTUP_PROPOSALS:
            shown += (
                f"; proposed {STARTUP_PROPOSALS} at random, then {sweep.proposals_at_once} at once"
            )
        say(f"  {family.name}: {shown}")
