"""The search: which cell runs next, and which configuration Optuna proposes for a family.

The search has no state of its own. Which cells deserve to run is decided by the policy from results
alone, and a proposal is a function of the family, its place in the sweep and the results before it.
So a sweep that is resumed, on any number of workers, meets the same configurations and runs the
same cells as one that was never interrupted.

A worker that would be idle may run a cell ahead: one that the policy has not granted, and may. Its
result counts from the moment at which the cell is granted, as if it had been run just then. Until
then nothing here shows it, neither the policy nor any table.
"""

from __future__ import annotations

import heapq
import threading
import zlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from itertools import chain
from statistics import fmean
from typing import NamedTuple

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, IntDistribution

from ssense.engine.core.cell import Cell, Configuration, Level, label
from ssense.engine.core.decision import Decision
from ssense.engine.core.matrix import Matrix, MatrixRow, State
from ssense.engine.core.record import Record
from ssense.engine.core.sweep import STARTUP_PROPOSALS, Family, Levels, Row, Sweep
from ssense.engine.search.race import Policy, Scores, Verdict
from ssense.errors import UserError
from ssense.training.loop import SELECTION_METRIC

# The sampler may repeat itself. After this many repeats the remaining combinations are listed.
_DRAWS = 50
# How often a cell whose worker died is tried again in one run.
RETRIES = 2
# Spot machines are taken away as a matter of course, and the cell has its checkpoint; but
# one that brings down every machine that it comes to must not continue for ever.
LOST_MACHINES = 20

# Among equal configurations the one proposed first comes first.
_TIE = 1e-12

Scored = tuple[Configuration, float | None]
"""A configuration and what the sampler learns from it; None where it is not to know."""


class Change(NamedTuple):
    """What a result changed.

    Attributes:
        rows: Configurations that were proposed.
        decisions: Decisions that the policy took.
        counted: Records that count from now on: the result's own unless its cell ran ahead, and
            those of cells that ran ahead and have now been granted.
    """

    rows: Sequence[Row] = ()
    decisions: Sequence[tuple[Row, Decision]] = ()
    counted: Sequence[Record] = ()


def propose(
    family: Family,
    earlier: Sequence[Scored],
    spread: bool = False,
    unordered_names: bool = False,
) -> Configuration | None:
    """Ask Optuna (TPE) for a family's next configuration, different from the earlier ones.

    Args:
        family: Family whose levels to search.
        earlier: The family's configurations so far, in order of proposal.
        spread: Whether the sampler is told of earlier ones without a score too. It takes them to be
            bad ("constant liar", Ginsbourger et al. 2010), so that a batch does not lie together.
        unordered_names: Whether three and more names are categories, not levels in order.

    Returns:
        None if every combination has been proposed.
    """
    if len(earlier) >= family.size:
        return None
    seed = zlib.crc32(f"{family.name} {len(earlier)}".encode())
    sampler = optuna.samplers.TPESampler(
        seed=seed, n_startup_trials=STARTUP_PROPOSALS, constant_liar=True
    )
    study = optuna.create_study(sampler=sampler, direction="maximize")
    told = [scored for scored in earlier if spread or scored[1] is not None]
    study.add_trials([_as_trial(family, *scored, unordered_names) for scored in told])
    taken = [dict(configuration) for configuration, _ in earlier]
    draws = (_ask(study, family, unordered_names) for _ in range(_DRAWS))
    for configuration in chain(draws, family.configurations()):
        if configuration not in taken:
            return configuration
    raise AssertionError("a family with free combinations has one to propose")


class Search:
    """The matrix configuration x seed of a running sweep: what is done, running and next.

    Attributes:
        sweep: The sweep, what is compared.
        rows: The sweep's configurations, in order of proposal; grows as the search proposes.
        surplus: Configurations of an earlier run that asked for more.
        records: Finished cells by signature, of this and earlier runs, granted or not.
        running: Cells handed out and not finished, by signature.
    """

    def __init__(
        self,
        sweep: Sweep,
        policy: Policy,
        proposed: Sequence[Row] = (),
        records: Mapping[str, Record] | None = None,
    ) -> None:
        """Take up a sweep where `proposed` rows and `records` left it.

        Raises:
            UserError: A record is not that of the cell that it is filed under.
        """
        self.sweep = sweep
        self.rows: list[Row] = []
        self.surplus: list[Row] = []
        self.records = dict(records or {})
        self.running: dict[str, Cell] = {}
        self._policy = policy
        self._lock = threading.RLock()  # a live display looks at the matrix from its own thread
        self._signatures: dict[tuple[tuple[tuple[str, Level], ...], int], str] = {}
        self._numbers_of: dict[str, list[int]] = {family.name: [] for family in sweep.families}
        self._verdicts: dict[str, Verdict] = {}
        # Of each dataset; seeds first: breadth before depth.
        self._queues: dict[str, list[tuple[int, int, Cell]]] = defaultdict(list)
        self._open: dict[str, set[str]] = defaultdict(set)  # granted, not settled; by family
        self._granted: set[str] = set()  # by any family; results of no other cells count
        self._counted: list[Record] = []  # of cells granted since the last result came in
        self._ahead: list[tuple[str, Cell]] | None = None  # the next one last; None: to be listed
        self._families_of: dict[str, list[Family]] = defaultdict(list)
        self._names: list[tuple[str, ...]] = []  # signatures by row and seed
        self._rows_of: dict[str, list[int]] = defaultdict(list)  # by signature
        self._given_up = {name for name, r in self.records.items() if r.given_up}
        self._attempts: Counter[tuple[str, int]] = Counter()
        for row in proposed:
            family = sweep.family(row.family)
            if len(self._numbers_of[row.family]) < sweep.wanted(family):
                self._add(row)
            else:
                self.surplus.append(row)
        for family in sweep.families:
            self._grant_explored(family)
        for family in sweep.families:
            self._advance(family)

    def next_cell(self, among: Collection[str] | None = None, prefer: str = "") -> Cell | None:
        """Hand out the next cell, or None where nothing can start before a running one ends.

        Args:
            among: Digests of the datasets that are there; None for all.
            prefer: Digest of a dataset whose cells come first among those of one seed, as a worker
                has it at hand.
        """
        with self._lock:
            open_queues = {
                dataset: queue
                for dataset, queue in self._queues.items()
                if queue and (among is None or dataset in among)
            }
            if not open_queues:
                return None
            first = min(open_queues.values())
            at_hand = open_queues.get(prefer, first)
            queue = at_hand if at_hand[0][0] == first[0][0] else first
            cell = heapq.heappop(queue)[-1]
            self.running[self.signature(cell)] = cell
            return cell

    def asked_datasets(self, first: int | None = None) -> set[str]:
        """Digests of the datasets of the cells that wait to be handed out.

        Args:
            first: How many of them to look at, those that come first; None for all.
        """
        with self._lock:
            if first is None:
                return {name for name, queue in self._queues.items() if queue}
            waiting = ((each, name) for name, queue in self._queues.items() for each in queue)
            return {name for _, name in heapq.nsmallest(first, waiting)}

    def next_ahead(self, among: Collection[str] | None = None) -> Cell | None:
        """Hand out a cell that is not granted and may be, or None where there is none.

        The lowest seed comes first, and of it the configuration with the best mean. Which cells run
        ahead changes no decision, no proposal and nothing that is shown. `among` has the digests of
        the datasets that are there; None stands for all.
        """
        with self._lock:
            if self._ahead is None:
                self._ahead = self._list_ahead()
            while self._ahead:
                name, cell = self._ahead.pop()
                if name in self._granted or name in self.running or self._has_ended(name):
                    continue
                if among is None or self.sweep.dataset_of(cell.configuration) in among:
                    self.running[name] = cell
                    return cell
            return None

    def finish(self, record: Record) -> Change:
        """Take in a result, done or failed for good."""
        with self._lock:
            self.running.pop(record.signature, None)
            self.records[record.signature] = record
            if not record.done:
                self._given_up.add(record.signature)
            self._counted = [record] if record.signature in self._granted else []
            families = self._families_of[record.signature]
            for family in families:
                self._open[family.name].discard(record.signature)
            first, decisions = len(self.rows), list(chain(*map(self._advance, families)))
            return Change(self.rows[first:], decisions, self._counted)

    def forget_histories(self) -> None:
        """Keep the best epoch alone of the results that count: it is all that a search needs.

        What ran ahead keeps its history, to be shown once it counts.
        """
        with self._lock:
            for name in self._granted & self.records.keys():
                self.records[name] = self.records[name].without_history()

    def retry(self, cell: Cell, most: int = RETRIES) -> bool:
        """Take back a cell whose worker was lost; return whether it will be tried again.

        Args:
            cell: Cell that was handed out.
            most: How often the cell is tried again after a loss of this kind.
        """
        name = self.signature(cell)
        with self._lock:
            self._attempts[name, most] += 1
            if self._attempts[name, most] > most:
                return False
            self._put_back(name, cell)
            return True

    def take_back(self, cell: Cell) -> None:
        """Take back a cell that was handed out and has not begun."""
        name = self.signature(cell)
        with self._lock:
            self._put_back(name, cell)

    def _put_back(self, name: str, cell: Cell) -> None:
        self.running.pop(name, None)
        if name in self._granted:
            self._enqueue(name, cell)
        else:
            self._ahead = None

    def rows_of(self, signature: str) -> list[Row]:
        """All configurations that share a cell: families may overlap."""
        return [self.rows[number] for number in self._rows_of[signature]]

    def cells(self) -> Iterator[tuple[Row, Cell]]:
        """All cells of the configurations proposed so far, row by row."""
        for row in self.rows:
            for seed in self.sweep.seeds:
                yield row, Cell(row.configuration, seed)

    def missing(self) -> list[tuple[Row, Cell]]:
        """Cells that the policy wants and that are not settled, of the configurations so far."""
        return [
            (self.rows[number], Cell(self.rows[number].configuration, seed))
            for name, numbers in self._numbers_of.items()
            for number, granted in zip(numbers, self._verdicts[name].granted, strict=True)
            for seed, cell in zip(self.sweep.seeds[:granted], self._names[number], strict=False)
            if not self._is_settled(cell)
        ]

    def failed(self) -> list[tuple[Row, Record]]:
        """Records of the cells that failed and have not been tried again since."""
        return [
            (self.rows[number], self.records[cell])
            for numbers in self._numbers_of.values()
            for number in numbers
            for cell in self._names[number]
            if self._has_failed(cell)
        ]

    def left(self) -> int:
        """How many cells may still have to run: neither done or failed nor spared by the policy.

        A cell that families share counts once, as far as configurations have been proposed.
        """
        with self._lock:
            open_cells = {
                name
                for names, states in zip(self._names, self._states(self._out()), strict=True)
                for name, state in zip(names, states, strict=True)
                if state in ("waiting", "running")
            }
            unproposed = sum(map(self.sweep.wanted, self.sweep.families)) - len(self.rows)
            return len(open_cells) + unproposed * len(self.sweep.seeds)

    def matrix(self) -> Matrix:
        """The matrix to show to people; may be called from any thread."""
        with self._lock:
            return self._matrix()

    def _matrix(self) -> Matrix:
        out = self._out()
        states, leaders = self._states(out), self._leaders(out)
        return Matrix(
            metric=SELECTION_METRIC,
            seeds=self.sweep.seeds,
            rows=tuple(
                MatrixRow(
                    family=row.family,
                    name=label(row.family, row.configuration),
                    states=states[number],
                    scores=tuple(map(self._score_of, self._names[number])),
                    dropped=number in out,
                    leads=number in leaders,
                )
                for number, row in enumerate(self.rows)
            ),
        )

    def dropped(self) -> list[Row]:
        """Configurations that the policy has taken out, and not back."""
        return [self.rows[number] for number in sorted(self._out())]

    def _out(self) -> set[int]:
        """Numbers of the rows that the policy has taken out, and not back."""
        out: set[int] = set()
        for name, verdict in self._verdicts.items():
            for decision in verdict.decisions:
                number = self._numbers_of[name][decision.place]
                if decision.reason == "returned":
                    out.discard(number)
                else:
                    out.add(number)
        return out

    def leaders(self) -> list[Row]:
        """The first of each family by `orders`, of those that the policy has not taken out."""
        return [self.rows[number] for number in self._leaders(self._out())]

    def _leaders(self, out: Set[int]) -> list[int]:
        """Numbers of the leaders' rows, family by family."""
        leaders = []
        for numbers in self._numbers_of.values():
            stay = [n for n in numbers if n not in out and self._first_scores(n)]
            if stay:
                leaders.append(max(stay, key=lambda number: self._order(number, is_out=False)))
        return leaders

    def orders(self) -> list[float]:
        """By what configurations are listed, the highest first: a number for each of the rows.

        The mean over the seeds where all are done. Other means can't be compared: for each of the
        first seeds that a configuration lacks it is behind all that have it, and one that the
        policy has taken out is behind all others. So only means over the same seeds decide.

        Each is a function of its own row, unlike a place among all: a result changes few of them,
        and what shows them is written anew where they change.
        """
        out = self._out()
        return [self._order(number, number in out) for number in range(len(self.rows))]

    def _order(self, number: int, is_out: bool) -> float:
        scores, n_seeds = self._first_scores(number), len(self.sweep.seeds)
        lacking = n_seeds - len(scores) + is_out * (n_seeds + 1)
        mean = fmean(scores) if scores else 0.0  # between 0 and 1, as all validation metrics
        return mean - 2 * lacking - _TIE * number

    def _first_scores(self, number: int) -> list[float]:
        """Scores of a row at the first seeds, up to one that is not done."""
        scores: list[float] = []
        for score in map(self._score_of, self._names[number]):
            if score is None:
                break
            scores.append(score)
        return scores

    def _states(self, out: Set[int]) -> list[tuple[State, ...]]:
        """States of every configuration's cells, row by row."""
        granted = {
            number: cells
            for name, numbers in self._numbers_of.items()
            for number, cells in zip(numbers, self._verdicts[name].granted, strict=True)
        }
        return [
            tuple(
                self._state(name, place < granted[number] or number not in out)
                for place, name in enumerate(names)
            )
            for number, names in enumerate(self._names)
        ]

    def _state(self, name: str, is_wanted: bool) -> State:
        if self._is_done(name):
            return "done"
        if name in self.running:
            return "running"
        if self._has_failed(name):
            return "failed"
        if self._has_ended(name):
            return "ahead"
        return "waiting" if is_wanted else "dropped"

    def _score_of(self, name: str) -> float | None:
        return self.records[name].best[SELECTION_METRIC] if self._is_done(name) else None

    def decisions(self) -> list[tuple[Row, Decision]]:
        """What the policy decided so far, family by family."""
        return [
            (self.rows[self._numbers_of[name][decision.place]], decision)
            for name, verdict in self._verdicts.items()
            for decision in verdict.decisions
        ]

    def scores(self) -> np.ndarray:
        """Validation metric `[configurations, seeds]`, NaN where there is none."""
        rows = [list(map(self._score_of, names)) for names in self._names]
        return np.array(rows, dtype=float)

    def configurations(self, family: Family) -> list[Configuration]:
        """A family's configurations so far, in order of proposal."""
        return [self.rows[number].configuration for number in self._numbers_of[family.name]]

    def signature(self, cell: Cell) -> str:
        """The cell's signature on the sweep's dataset."""
        key = tuple(cell.configuration.items()), cell.seed
        if key not in self._signatures:
            self._signatures[key] = self.sweep.signature(cell)
        return self._signatures[key]

    def record(self, cell: Cell) -> Record | None:
        """The cell's record, done or failed, if there is one and the cell has been granted."""
        name = self.signature(cell)
        return self.records.get(name) if name in self._granted else None

    def score(self, configuration: Configuration) -> float | None:
        """Mean validation metric over the sweep's seeds, or None while a cell is missing."""
        done = self.done(configuration)
        if len(done) < len(self.sweep.seeds):
            return None
        return fmean(record.best[SELECTION_METRIC] for record in done)

    def best(self) -> dict[str, Row]:
        """The leading configuration of each family, where it has every seed."""
        return {
            row.family: row for row in self.leaders() if self.score(row.configuration) is not None
        }

    def done(self, configuration: Configuration) -> list[Record]:
        """Records of the seeds that a configuration has a result for."""
        cells = (Cell(configuration, seed) for seed in self.sweep.seeds)
        return [record for record in map(self.record, cells) if record is not None and record.done]

    def _is_done(self, name: str) -> bool:
        return name in self._granted and name in self.records and self.records[name].done

    def _has_failed(self, name: str) -> bool:
        return name in self._granted and name in self._given_up

    def _is_settled(self, name: str) -> bool:
        return name in self._granted and self._has_ended(name)

    def _has_ended(self, name: str) -> bool:
        """Whether a cell is done or has failed for good, granted or not."""
        return name in self._given_up or (name in self.records and self.records[name].done)

    def _add(self, row: Row) -> None:
        number = len(self.rows)
        names = [self.signature(Cell(row.configuration, seed)) for seed in self.sweep.seeds]
        self.rows.append(row)
        for record in (self.records[name] for name in names if name in self.records):
            self._check(record)
        self._names.append(tuple(names))
        self._numbers_of[row.family].append(number)
        for name in names:
            self._rows_of[name].append(number)

    def _check(self, record: Record) -> None:
        """Refuse a record that contradicts the signature it is filed under.

        The seed decides which sentences were trained on, so a wrong seed would have them tested.
        """
        cell, place = Cell(record.configuration, record.seed), f"cells/{record.signature}"
        try:
            says = self.signature(cell)
            dataset = self.sweep.dataset_of(record.configuration)
        except (TypeError, ValueError):
            says, dataset = "of no cell", ""
        if says != record.signature or record.dataset_digest != dataset:
            problem = f"its configuration, seed or dataset are those of another cell ({says})"
        else:
            return
        raise UserError(
            f"{self.sweep.name}/{place}/record.json contradicts its signature: {problem}. Delete "
            f"{place} of this sweep and run it again to retrain the cell."
        )

    def _advance(self, family: Family) -> list[tuple[Row, Decision]]:
        """Grant cells and propose configurations until one has to be awaited, or nothing is left.

        Proposals wait until all granted cells are settled: what follows depends on results alone.
        """
        decisions: list[tuple[Row, Decision]] = []
        while not self._open[family.name]:
            before = self._verdicts.get(family.name)
            verdict, news = self._judge(family)
            decisions += news
            for number, granted in zip(self._numbers_of[family.name], verdict.granted, strict=True):
                self._grant(family, number, granted)
            if before is None or verdict.granted != before.granted:
                continue  # it has not seen the results of what it has just granted
            if not self._open[family.name] and not self._propose(family, verdict.estimates):
                break
        return decisions

    def _grant_explored(self, family: Family) -> None:
        """Count what was granted before the last proposals, of a family that has them all.

        Once all are proposed, the policy grants anew from the first seeds on.
        """
        numbers = self._numbers_of[family.name]
        wanted = self.sweep.wanted(family)
        if len(numbers) < wanted or wanted == family.size:
            return
        explored = numbers[: self._batch(wanted - 1)[0]]
        known: tuple[int, ...] = ()
        while True:
            scores = list(map(self._scores, explored))
            verdict = self._policy.judge(
                scores,
                self.sweep.seeds,
                all_proposed=False,
                at_once=self.sweep.proposals_at_once,
            )
            if verdict.granted == known:
                return
            known = verdict.granted
            for number, granted in zip(explored, known, strict=True):
                self._granted.update(self._names[number][:granted])

    def _judge(self, family: Family) -> tuple[Verdict, list[tuple[Row, Decision]]]:
        """The policy's verdict on a family as it stands, and what is new in it."""
        numbers, known = self._numbers_of[family.name], self._verdicts.get(family.name)
        verdict = self._policy.judge(
            list(map(self._scores, numbers)),
            self.sweep.seeds,
            all_proposed=len(numbers) >= self.sweep.wanted(family),
            at_once=self.sweep.proposals_at_once,
        )
        self._verdicts[family.name] = verdict
        self._ahead = None
        news = verdict.decisions[len(known.decisions) if known else 0 :]
        return verdict, [(self.rows[numbers[decision.place]], decision) for decision in news]

    def _grant(self, family: Family, number: int, granted: int) -> None:
        seeds = zip(self.sweep.seeds[:granted], self._names[number], strict=False)
        for seed, name in seeds:
            if self._has_ended(name):
                if name not in self._granted:
                    self._counted.append(self.records[name])
                self._granted.add(name)
                continue
            self._granted.add(name)
            self._open[family.name].add(name)
            self._families_of[name].append(family)
            is_queued = len(self._families_of[name]) > 1  # by a family of the same configuration
            if not is_queued and name not in self.running:
                self._enqueue(name, Cell(self.rows[number].configuration, seed))

    def _enqueue(self, name: str, cell: Cell) -> None:
        place = self.sweep.seeds.index(cell.seed), self._rows_of[name][0], cell
        heapq.heappush(self._queues[self.sweep.dataset_of(cell.configuration)], place)

    def _list_ahead(self) -> list[tuple[str, Cell]]:
        """Cells that may run ahead, the first of them last, of families that await results."""
        out, found = self._out(), []
        for family, numbers in self._numbers_of.items():
            for number in numbers if self._open[family] else ():
                names = self._names[number]
                if number in out or any(map(self._has_failed, names)):
                    continue
                scores = self._first_scores(number)
                mean = fmean(scores) if scores else 0.0
                places = (n for n, name in enumerate(names) if name not in self._granted)
                found += [(place, -mean, number) for place in places]
        return [
            (
                self._names[number][place],
                Cell(self.rows[number].configuration, self.sweep.seeds[place]),
            )
            for place, _, number in sorted(found, reverse=True)
        ]

    def _scores(self, number: int) -> Scores:
        """What the policy sees of a configuration: results of cells that were granted."""
        scores: dict[int, float | None] = {}
        for seed, name in zip(self.sweep.seeds, self._names[number], strict=True):
            if self._is_done(name):
                scores[seed] = self.records[name].best[SELECTION_METRIC]
            elif self._has_failed(name):
                scores[seed] = None
        return scores

    def _propose(self, family: Family, estimates: Sequence[float | None]) -> bool:
        """Add the next configurations of a family; say whether there were any.

        A batch that an interruption cut short continues as it began: none of a batch knows the
        results of another.
        """
        wanted, before = self.sweep.wanted(family), len(estimates)
        if wanted == family.size:
            taken = {tuple(c.items()) for c in self.configurations(family)}
            for configuration in family.configurations():
                if tuple(configuration.items()) not in taken:
                    self._add(Row(family.name, configuration))
            return wanted > before
        scored = self._known(family, estimates)
        _, end = self._batch(before)
        for _ in range(before, min(end, wanted)):
            sampler = self.sweep.spread_proposals, self.sweep.unordered_names
            if (proposal := propose(family, scored, *sampler)) is None:
                break
            scored.append((proposal, None))
            self._add(Row(family.name, proposal))
        return wanted > before

    def _known(self, family: Family, estimates: Sequence[float | None]) -> list[Scored]:
        start, _ = self._batch(len(estimates))
        known = [*estimates[:start], *[None] * (len(estimates) - start)]
        return list(zip(self.configurations(family), known, strict=True))

    def _batch(self, n: int) -> tuple[int, int]:
        """How many configurations come before the batch that the n-th belongs to, and with it."""
        if n < STARTUP_PROPOSALS:
            return 0, STARTUP_PROPOSALS
        before = n - (n - STARTUP_PROPOSALS) % self.sweep.proposals_at_once
        return before, before + self.sweep.proposals_at_once


def _distribution(
    levels: Levels, unordered_names: bool
) -> CategoricalDistribution | IntDistribution:
    # TPE sees the place of a level, so that it knows the order whatever the spacing; names have no
    # order, and of two levels none matters.
    places = range(len(levels))
    has_names = any(isinstance(level, str) for level in levels)
    if unordered_names and has_names and len(levels) > 2:
        return CategoricalDistribution(places)
    return IntDistribution(places[0], places[-1])


def _suggest(trial: optuna.Trial, name: str, levels: Levels, unordered_names: bool) -> Level:
    among = _distribution(levels, unordered_names)
    if isinstance(among, CategoricalDistribution):
        return levels[trial.suggest_categorical(name, range(len(levels)))]
    return levels[trial.suggest_int(name, among.low, among.high)]


def _ask(study: optuna.Study, family: Family, unordered_names: bool) -> Configuration:
    """Ask for one field after another: some exist only with some levels of those before them."""
    trial, asked = study.ask(), dict[str, Level]()
    for name, levels in family.levels.items():
        if family.has(name, asked):
            asked[name] = _suggest(trial, name, levels, unordered_names)
    return asked


def _as_trial(
    family: Family, configuration: Configuration, score: float | None, unordered_names: bool
) -> optuna.trial.FrozenTrial:
    places = {name: family.levels[name].index(level) for name, level in configuration.items()}
    states = optuna.trial.TrialState
    return optuna.trial.create_trial(
        state=states.RUNNING if score is None else states.COMPLETE,
        params=places,
        distributions={
            name: _distribution(family.levels[name], unordered_names) for name in places
        },
        value=score,
    )
