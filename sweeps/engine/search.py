"""The search: which cell runs next, and which configuration Optuna proposes for a family.

Nothing here keeps a state of its own. A proposal is a function of the family, its place in the
sweep and the finished configurations before it, so that a sweep taken up again, on any number of
workers, meets the same configurations as one that was never interrupted.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from statistics import fmean

import optuna
from optuna.distributions import BaseDistribution, IntDistribution

from sweeps.engine.cell import Cell, Configuration, signature
from sweeps.engine.ledger import Record
from sweeps.engine.sweep import Family, Row, Sweep

# TPE draws its first proposals at random; they need no result and wait for none. Optuna's own
# default of 10 would leave nothing to learn from in families of ten configurations.
STARTUP_PROPOSALS = 4
# The sampler may repeat itself. After this many repeats the remaining combinations are listed.
_DRAWS = 50

Scored = tuple[Configuration, float | None]
"""A configuration and its mean validation metric over the seeds; None while some are missing."""


def propose(
    family: Family, earlier: Sequence[Scored], *, waiting: bool = False
) -> Configuration | None:
    """Ask Optuna (TPE) for a family's next configuration, different from the earlier ones.

    Args:
        family: whose levels to search.
        earlier: its configurations so far, in order of proposal.
        waiting: whether scores that are None are still to come; otherwise their cells failed, and
            TPE learns from the others.

    Returns:
        None if the proposal must wait for results, or every combination has been proposed.
    """
    if len(earlier) >= family.size:
        return None
    if len(earlier) >= STARTUP_PROPOSALS and waiting:
        return None
    seed = zlib.crc32(f"{family.name} {len(earlier)}".encode())
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP_PROPOSALS)
    study = optuna.create_study(sampler=sampler, direction="maximize")
    study.add_trials([_as_trial(family, *scored) for scored in earlier if scored[1] is not None])
    taken = [dict(configuration) for configuration, _ in earlier]
    draws = (_ask(study, family) for _ in range(_DRAWS))
    for configuration in chain(draws, _combinations(family)):
        if configuration not in taken:
            return configuration
    raise AssertionError("a family with free combinations has one to propose")


class Search:
    """The matrix configuration x seed of a running sweep: what is done, running and next.

    Attributes:
        sweep: what is compared.
        rows: its configurations, in order of proposal; grows as the search proposes.
        records: finished cells by signature, of this and earlier runs.
        running: cells handed out and not finished, by signature.
        on_row: called when a row is added.
    """

    def __init__(
        self, sweep: Sweep, proposed: Sequence[Row], records: Mapping[str, Record]
    ) -> None:
        """Take up a sweep where `proposed` rows and `records` left it."""
        self.sweep = sweep
        self.rows: list[Row] = []
        self.records = dict(records)
        self.running: dict[str, Cell] = {}
        self.on_row: Callable[[], None] = lambda: None
        self._waiting: deque[Cell] = deque()
        self._row_of: dict[str, Row] = {}
        for row in proposed:
            family = next(family for family in sweep.families if family.name == row.family)
            if len(self.configurations(family)) < sweep.wanted(family):
                self._add(row)

    def next_cell(self) -> Cell | None:
        """Hand out the next cell, or None where nothing can start before a running one ends."""
        if not self._waiting and not self._extend():
            return None
        cell = self._waiting.popleft()
        self.running[self.signature(cell)] = cell
        return cell

    def finish(self, record: Record) -> None:
        """Take in a result, done or failed."""
        self.running.pop(record.signature, None)
        self.records[record.signature] = record

    def lost(self, cell: Cell) -> Record:
        """The failed record of a cell whose worker died; kept in memory, for this run alone."""
        return Record(
            signature=self.signature(cell),
            configuration=dict(cell.configuration),
            seed=cell.seed,
            status="failed",
            dataset_digest=self.sweep.dataset_digest,
            reason="its worker ended without a result",
        )

    def row_of(self, record: Record) -> Row:
        """The configuration that a record belongs to."""
        return self._row_of[record.signature]

    def cells(self) -> Iterator[tuple[Row, Cell]]:
        """All cells of the configurations proposed so far, row by row."""
        for row in self.rows:
            for seed in self.sweep.seeds:
                yield row, Cell(row.configuration, seed)

    def configurations(self, family: Family) -> list[Configuration]:
        """A family's configurations so far, in order of proposal."""
        return [row.configuration for row in self.rows if row.family == family.name]

    def signature(self, cell: Cell) -> str:
        """The cell's signature on the sweep's dataset."""
        return signature(cell, self.sweep.training, self.sweep.dataset_digest)

    def record(self, cell: Cell) -> Record | None:
        """The cell's record, done or failed, if there is one."""
        return self.records.get(self.signature(cell))

    def score(self, configuration: Configuration) -> float | None:
        """Mean validation metric over the sweep's seeds, or None while a cell is missing."""
        done = self.done(configuration)
        if len(done) < len(self.sweep.seeds):
            return None
        return fmean(record.best[self.sweep.metric] for record in done)

    def done(self, configuration: Configuration) -> list[Record]:
        """Records of the seeds that a configuration has a result for."""
        cells = (Cell(configuration, seed) for seed in self.sweep.seeds)
        return [record for record in map(self.record, cells) if record is not None and record.done]

    def _add(self, row: Row) -> None:
        self.rows.append(row)
        for seed in self.sweep.seeds:
            cell = Cell(row.configuration, seed)
            record = self.record(cell)
            is_new = self._row_of.setdefault(self.signature(cell), row) is row
            if is_new and (record is None or not record.done):
                self._waiting.append(cell)

    def _outstanding(self) -> Iterator[Cell]:
        return chain(self.running.values(), self._waiting)

    def _extend(self) -> bool:
        """Add rows until a cell waits, to the shortest family first; say whether one does."""
        for family in sorted(self.sweep.families, key=lambda f: len(self.configurations(f))):
            earlier = self.configurations(family)
            if len(earlier) >= self.sweep.wanted(family):
                continue
            scored = [(known, self.score(known)) for known in earlier]
            waiting = any(cell.configuration in earlier for cell in self._outstanding())
            proposal = propose(family, scored, waiting=waiting)
            if proposal is not None:
                self._add(Row(family.name, proposal))
                self.on_row()
                return bool(self._waiting) or self._extend()
        return False


def _distributions(family: Family) -> dict[str, BaseDistribution]:
    # TPE sees the place of a level, so that it knows the order whatever the spacing.
    return {name: IntDistribution(0, len(levels) - 1) for name, levels in family.levels.items()}


def _ask(study: optuna.Study, family: Family) -> Configuration:
    trial = study.ask(_distributions(family))
    return {name: levels[trial.params[name]] for name, levels in family.levels.items()}


def _as_trial(
    family: Family, configuration: Configuration, score: float | None
) -> optuna.trial.FrozenTrial:
    places = {name: levels.index(configuration[name]) for name, levels in family.levels.items()}
    return optuna.trial.create_trial(
        params=places, distributions=_distributions(family), value=score
    )


def _combinations(family: Family) -> Iterator[Configuration]:
    configurations: list[dict[str, float]] = [{}]
    for name, levels in family.levels.items():
        configurations = [{**c, name: level} for c in configurations for level in levels]
    yield from configurations
