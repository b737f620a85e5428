from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import asdict
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_records import made_record
from scipy import stats

from ssense.engine.core.cell import Cell, Configuration
from ssense.engine.core.decision import Decision
from ssense.engine.core.record import MOST_ATTEMPTS, Record
from ssense.engine.core.sweep import Family, Row, Sweep
from ssense.engine.search.race import Full, Policy, Race, fit_additive
from ssense.engine.search.search import Scored, Search
from ssense.model.encoders.spectrogram_encoder import ResNetSpec
from ssense.training.sentences import SentenceSpec

LEVEL = "masking.time"
SPECIFICATION = SentenceSpec(encoder=ResNetSpec(weights="random"))
POLICIES: list[Policy] = [Race(), Race(rung=3, z=2.5, leaders=1), Full()]


def scores_of(table) -> list[dict[int, float | None]]:
    """Scores by seed 0, 1, ... of rows; None where NaN."""
    return [
        {seed: None if math.isnan(score) else score for seed, score in enumerate(row)}
        for row in np.asarray(table, dtype=float).tolist()
    ]


def judge(policy: Policy, table, seeds: int | None = None, *, all_proposed: bool = True):
    seeds = np.asarray(table).shape[1] if seeds is None else seeds
    return policy.judge(scores_of(table), range(seeds), all_proposed=all_proposed)


def random_table(seed: int, n: int, n_seeds: int, failing: float = 0.0) -> np.ndarray:
    """Scores on a grid of 1/256, where sums and products with powers of 2 are exact."""
    rng = np.random.default_rng(seed)
    table = rng.normal(0, 0.7, (n, 1)) + rng.normal(0, 1.1, n_seeds) + rng.normal(0, 0.9, (n, 1))
    table = np.round(256 * (table + rng.normal(0, 0.9, (n, n_seeds)))) / 256
    table[rng.random(table.shape) < failing] = math.nan
    return table


tables = st.builds(
    random_table, st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 8), st.just(0.0)
)
failing_tables = st.builds(
    random_table,
    st.integers(0, 10**6),
    st.integers(1, 12),
    st.integers(1, 8),
    st.sampled_from([0.0, 0.02, 0.2, 1.0]),
)


def dummy_regression(table) -> tuple[np.ndarray, float, int]:
    """Configurations' effects, residual sum of squares and its degrees of freedom."""
    n, n_seeds = table.shape
    cells = [(i, j) for i in range(n) for j in range(n_seeds) if not math.isnan(table[i, j])]
    design = np.zeros((len(cells), n + n_seeds))
    for row, (i, j) in enumerate(cells):
        design[row, i] = design[row, n + j] = 1
    y = np.array([table[cell] for cell in cells])
    beta, _, rank, _ = np.linalg.lstsq(design, y, rcond=1e-10)
    residuals = y - design @ beta
    return beta[:n], float(residuals @ residuals), len(cells) - int(rank)


def raced_by_hand(
    table: np.ndarray, z: float, step: int
) -> tuple[list[int], list[tuple[int, int, int]]]:
    """Seeds per configuration and (seeds, leader, place) of the drops, by dummy regression."""
    n, n_seeds = table.shape
    known = np.full_like(table, math.nan)
    live = set(range(n))
    drops = []
    for rung in sorted({*range(step, n_seeds, step), n_seeds}):
        for place in live:
            known[place, :rung] = table[place, :rung]
        if len(live) == 1 or rung == n_seeds:
            break
        sums = {place: table[place, :rung].sum() for place in live}
        leader = min(place for place in live if sums[place] == max(sums.values()))
        _, squares, degrees = dummy_regression(known)
        if squares < 1e-15:  # nothing is known of the noise
            continue
        # The same sum of differences at every rung.
        allowed = stats.t.isf(stats.norm.sf(z), degrees) * math.sqrt(squares / degrees * 2 * step)
        for place in sorted(live):
            if sums[leader] - sums[place] > allowed:
                drops.append((rung, leader, place))
                live.remove(place)
    for place in live:
        known[place] = table[place]
    return [int(count) for count in (~np.isnan(known)).sum(axis=1)], drops


# The additive model


@settings(max_examples=60, deadline=None)
@given(failing_tables)
def test_additive_fit_is_the_regression_on_dummies(table):
    effects, squares, degrees = dummy_regression(table)
    fit = fit_additive(table)
    assert fit.degrees_of_freedom == degrees
    if degrees:
        assert fit.residual_sd == pytest.approx(math.sqrt(squares / degrees), abs=1e-9)
    else:
        assert math.isnan(fit.residual_sd)
    assert np.array_equal(np.isnan(fit.effects), np.isnan(table).all(axis=1))
    complete = np.flatnonzero(~np.isnan(table).any(axis=1))
    contrasts = fit.effects[complete] - effects[complete]
    assert contrasts == pytest.approx(np.full(len(complete), contrasts[:1].sum()), abs=1e-9)


def test_additive_fit_of_a_complete_table_has_a_closed_form():
    table = random_table(1, 5, 4)
    residuals = table - table.mean(1, keepdims=True) - table.mean(0) + table.mean()
    fit = fit_additive(table)
    assert fit.effects == pytest.approx(table.mean(axis=1))
    assert fit.degrees_of_freedom == 4 * 3
    assert fit.residual_sd == pytest.approx(math.sqrt((residuals**2).sum() / 12))


def test_a_seed_that_one_configuration_alone_has_met_says_nothing_about_it():
    table = np.array([[1.0, 2.0, 9.0], [0.0, 1.5, math.nan]])
    short = fit_additive(table[:, :2])
    long = fit_additive(table)
    assert np.subtract(*long.effects) == pytest.approx(np.subtract(*short.effects))
    assert long.residual_sd == pytest.approx(short.residual_sd)


# What the race decides


@settings(max_examples=150, deadline=None)
@given(tables, st.sampled_from([0.7, 1.45, 2.0]), st.sampled_from([2, 3]))
def test_race_is_as_by_hand(table, z, rung):
    verdict = judge(Race(z=z, rung=rung), table)
    granted, drops = raced_by_hand(table, z, rung)
    assert list(verdict.granted) == granted
    assert [(d.after_seeds, d.leader, d.place) for d in verdict.decisions] == drops


def test_a_small_race_by_hand():
    table = [[3.0, 5.0, 4.0], [1.0, 3.5, 0.0], [2.5, 5.25, 4.5]]
    verdict = judge(Race(z=1.5), table)
    # Residuals after two seeds, closed form for k = 2: those of the differences between the seeds.
    change = np.array([2.0, 2.5, 2.75])
    sd = math.sqrt(((change - change.mean()) ** 2).sum() / 2 / 2)
    threshold = stats.t.isf(stats.norm.sf(1.5), 2)
    assert threshold > 2 * 1.2  # two degrees of freedom are few
    (decision,) = verdict.decisions
    assert decision == Decision(
        place=1,
        reason="behind",
        after_seeds=2,
        leader=0,
        difference=1.75,
        standard_error=pytest.approx(sd),
        threshold=pytest.approx(threshold),
    )
    assert threshold * sd < 1.75
    assert verdict.granted == (3, 2, 3)


@settings(max_examples=100, deadline=None)
@given(failing_tables)
def test_what_is_out_was_behind_a_leader_that_stayed(table):
    decisions = judge(Race(), table).decisions
    json.dumps([asdict(decision) for decision in decisions])
    for decision in decisions:
        if decision.reason != "behind":
            continue
        k, leader, place = decision.after_seeds, decision.leader, decision.place
        together = [d.place for d in decisions if (d.after_seeds, d.reason) == (k, "behind")]
        assert leader not in together
        assert not np.isnan(table[leader, :k]).any()
        difference = table[leader, :k].mean() - table[place, :k].mean()
        assert decision.difference == pytest.approx(difference)
        assert difference > decision.threshold * decision.standard_error


@settings(max_examples=100, deadline=None)
@given(failing_tables)
def test_a_winner_has_every_seed_unless_every_configuration_fails(table):
    n_seeds = table.shape[1]
    verdict = judge(Race(), table)
    complete = [row for row, k in zip(table, verdict.granted, strict=True) if k == n_seeds]
    met = [row[:k] for row, k in zip(table, verdict.granted, strict=True)]
    if not all(np.isnan(row).any() for row in met):
        assert any(not np.isnan(row).any() for row in complete)
    if not np.isnan(table).any(axis=1).all():
        assert not all(np.isnan(row).any() for row in met)
    kept = set(range(len(table))) - {d.place for d in verdict.decisions}
    assert {verdict.granted[place] for place in kept} <= {n_seeds}


@settings(max_examples=100, deadline=None)
@given(failing_tables, st.integers(1, 8))
def test_seeds_added_later_change_no_earlier_decision(table, fewer):
    before = judge(Race(), table[:, :fewer])
    after = judge(Race(), table)
    # In their order; of cells that fail at one rung, more seeds may show others between them.
    assert tuple(d for d in after.decisions if d in before.decisions) == before.decisions
    assert all(new >= old for new, old in zip(after.granted, before.granted, strict=True))


@settings(max_examples=100, deadline=None)
@given(failing_tables, st.integers(-8, 8), st.integers(0, 10**6))
def test_unit_and_difficulty_of_the_seeds_change_nothing(table, power, seed):
    shift = np.random.default_rng(seed).integers(-512, 512, table.shape[1]) / 256
    before, after = judge(Race(), table), judge(Race(), (table + shift) * 2.0**power)
    assert after.granted == before.granted
    for one, other in zip(before.decisions, after.decisions, strict=True):
        assert (one.place, one.reason, one.leader) == (other.place, other.reason, other.leader)
        if one.reason == "behind":
            assert other.difference == pytest.approx(one.difference * 2.0**power)
            assert other.standard_error == pytest.approx(
                one.standard_error * 2.0**power, rel=1e-6, abs=1e-12 * 2.0**power
            )


@settings(max_examples=50, deadline=None)
@given(failing_tables, st.randoms(use_true_random=False))
def test_scores_of_cells_that_were_not_granted_are_never_looked_at(table, rng):
    scores = scores_of(table)
    seeds = range(table.shape[1])
    for policy in POLICIES:
        verdict = policy.judge(scores, seeds, all_proposed=True)
        for known, k in zip(scores, verdict.granted, strict=True):
            for seed in seeds[k:]:
                known[seed] = rng.choice([None, 100.0, -100.0])
        assert policy.judge(scores, seeds, all_proposed=True) == verdict


# Ties and small sweeps


def test_equal_configurations_all_get_every_seed():
    rows = np.tile(random_table(3, 1, 6), (4, 1))
    for table in (rows, np.full((4, 6), 0.1)):
        verdict = judge(Race(), table)
        assert verdict.granted == (6,) * 4
        assert not verdict.decisions


def test_equal_means_in_another_order_are_equal():
    verdict = judge(Race(), [[0.1, 0.5, 0.3, 0.2], [0.5, 0.1, 0.3, 0.2], [0.1, 0.5, 0.3, 0.2]])
    assert verdict.granted == (4, 4, 4)


def test_the_first_of_equal_leaders_leads():
    table = np.array([[0.0, 0.25], [3.0, 3.5], [3.5, 3.0], [3.0, 3.5]])
    table = np.hstack([table, np.zeros((4, 1))])
    assert {d.leader for d in judge(Race(), table).decisions} == {1}


def test_without_spread_nothing_is_known_of_the_noise_and_all_get_every_seed():
    table = np.array([[0.5], [0.75], [0.25]]) + np.array([0.0, 0.125, 0.5, 0.25])
    assert judge(Race(), table).granted == (4, 4, 4)
    # Two coarse scores that agree by chance, and a third that does not.
    table = np.array([[0.75, 0.5, 0.5], [0.5, 0.25, 0.75]])
    assert judge(Race(), table).granted == (3, 3)


@pytest.mark.parametrize("n_seeds", [1, 2, 3, 7])
def test_one_configuration_gets_every_seed(n_seeds):
    verdict = judge(Race(), random_table(0, 1, n_seeds))
    assert verdict.granted == (n_seeds,)
    assert not verdict.decisions


@pytest.mark.parametrize("n_seeds", [1, 2])
def test_one_or_two_seeds_decide_nothing(n_seeds):
    verdict = judge(Race(), random_table(0, 5, n_seeds))
    assert verdict.granted == (n_seeds,) * 5
    assert not verdict.decisions


def test_nothing_to_judge():
    for policy in POLICIES:
        for all_proposed in (False, True):
            assert policy.judge([], range(3), all_proposed=all_proposed).granted == ()


@pytest.mark.parametrize("values", [{"z": 0}, {"rung": 1}, {"leaders": -1}])
def test_impossible_races_are_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        Race(**values)


# Failed cells


def test_a_failed_configuration_is_out_and_never_leads():
    table = np.array([[9.0, 9.0, math.nan], [1.0, 2.0, 1.0], [1.5, 1.5, 1.25]])
    verdict = judge(Race(z=9), np.tile(table, 2))
    assert verdict.granted == (4, 6, 6)
    assert verdict.decisions == (Decision(place=0, reason="failed", after_seeds=3),)


def test_if_all_fail_the_race_ends():
    verdict = judge(Race(), [[math.nan, 1.0, 1.0], [1.0, math.nan, 1.0]])
    assert verdict.granted == (2, 2)
    assert [(d.place, d.reason, d.after_seeds) for d in verdict.decisions] == [
        (0, "failed", 1),
        (1, "failed", 2),
    ]


def test_where_the_winner_fails_those_that_went_out_last_return():
    noise = np.array([[0, 1], [1, 0], [0, 1], [1, 0]]) / 8
    table = np.array([[8.0], [4.0], [3.75], [0.0]]) + np.tile(noise, 3)
    table[0, 4] = math.nan
    verdict = judge(Race(), table)
    reasons = [(d.place, d.reason, d.after_seeds) for d in verdict.decisions]
    assert reasons[:7] == [
        *[(place, "behind", 2) for place in (1, 2, 3)],
        (0, "failed", 5),
        *[(place, "returned", 2) for place in (1, 2, 3)],
    ]
    assert (3, "behind", 4) in reasons
    assert verdict.granted[0] == 6
    assert 6 in verdict.granted[1:3]


def test_those_that_went_out_earlier_stay_out():
    table = np.array([[4.0], [3.0], [-9.0]]) + np.array(
        [[0, 1, 0, 0, 0], [1, 0, 0, 0, 0], [0, 1, 0, 0, 0]]
    )
    table[0, 4] = math.nan
    verdict = judge(Race(z=1.6), table)
    assert [(d.place, d.reason, d.after_seeds) for d in verdict.decisions] == [
        (2, "behind", 2),
        (1, "behind", 4),
        (0, "failed", 5),
        (1, "returned", 4),
    ]
    assert verdict.granted == (5, 5, 2)


# What may run while results come in


def sampled(family: Family, earlier: Sequence[Scored], *_: bool) -> Configuration | None:
    """Stands in for TPE: some function of all that it is told."""
    (name, levels), *_ = family.levels.items()
    taken = [configuration[name] for configuration, _ in earlier]
    left = [level for level in levels if level not in taken]
    told = [None if estimate is None else round(estimate, 9) for _, estimate in earlier]
    return {name: random.Random(f"{taken} {told}").choice(left)} if left else None


def family_of(table: np.ndarray) -> Family:
    """A family with a configuration for each row of the table, and one that is never wanted."""
    return Family(name="f", levels={LEVEL: tuple(place / 20 for place in range(len(table) + 1))})


def sweep_of(table: np.ndarray, at_once: int = 3) -> Sweep:
    return Sweep(
        question="race",
        dataset_digest="d",
        specification=SPECIFICATION,
        families=(family_of(table),),
        configurations=len(table),
        seeds=tuple(range(table.shape[1])),
        proposals_at_once=at_once,
    )


def place_of(cell: Cell, table: np.ndarray) -> int:
    """The row of the table that has the scores of a cell."""
    level = cell.configuration[LEVEL]
    assert isinstance(level, float)
    return round(20 * level) % len(table)


def play(
    policy: Policy,
    table: np.ndarray,
    workers: int,
    rng: random.Random,
    records: dict[str, Record],
    rows: list[Row],
    at_most: int = 10**6,
    *,
    ahead: bool = False,
    at_once: int = 3,
) -> Search:
    """Run a sweep of as many configurations as the table has rows; end after `at_most` cells.

    Cells end in random order. `records` and `rows` are taken up and filled. A configuration has the
    scores of the row of its level, the last one those of the first. With `ahead`, a worker that has
    nothing to do runs a cell ahead.
    """
    running: list[Cell] = []
    with patch("ssense.engine.search.search.propose", sampled):
        search = Search(sweep_of(table, at_once), policy, rows, records)
        while True:
            while len(running) < workers and (
                cell := search.next_cell() or (search.next_ahead() if ahead else None)
            ):
                assert cell not in running
                assert not (records_done(search) & {search.signature(cell)})
                running.append(cell)
            if not running or at_most == 0:
                break
            ended = running.pop(rng.randrange(len(running)))
            search.finish(record_of(search, ended, table))
            at_most -= 1
    rows[:] = search.rows
    records |= search.records
    return search


def records_done(search: Search) -> set[str]:
    return {name for name, record in search.records.items() if record.done}


def record_of(search: Search, cell: Cell, table: np.ndarray) -> Record:
    score = table[place_of(cell, table), cell.seed]
    known = None if math.isnan(score) else float(score)
    return made_record(search, cell, known, attempts=MOST_ATTEMPTS)  # a failure counts


@settings(max_examples=40, deadline=None)
@given(
    table=failing_tables,
    workers=st.sampled_from([2, 5, 100]),
    rng=st.randoms(use_true_random=False),
    policy=st.sampled_from(POLICIES),
)
def test_order_and_workers_change_nothing(table, workers, rng, policy):
    alone = play(policy, table, 1, random.Random(0), {}, [])
    together = play(policy, table, workers, rng, {}, [])
    assert together.rows == alone.rows
    assert together.decisions() == alone.decisions()
    assert together.records.keys() == alone.records.keys()
    assert alone.left() == 0


class Watched:
    """A policy and, in order, all that it has been shown and was not shown the moment before."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.shown: list[tuple[list[dict[int, float | None]], bool]] = []

    def judge(self, scores, seeds, *, all_proposed: bool, **others):
        shown = list(map(dict, scores)), all_proposed
        if self.shown[-1:] != [shown]:
            self.shown.append(shown)
        return self.policy.judge(scores, seeds, all_proposed=all_proposed, **others)


def shown_of(search: Search) -> dict[str, object]:
    """All that people and later steps see of an ended search, but for cells that ran ahead."""
    matrix, ahead = search.matrix(), ("ahead", "dropped")
    return {
        "rows": search.rows,
        "decisions": search.decisions(),
        "scores": [[str(score) for score in row] for row in search.scores().tolist()],
        "orders": search.orders(),
        "leaders": search.leaders(),
        "best": search.best(),
        "dropped": search.dropped(),
        "failed": [(row, record.signature) for row, record in search.failed()],
        "missing": search.missing(),
        "recorded": [search.record(cell) is not None for _, cell in search.cells()],
        "states": [["dropped" if s in ahead else s for s in row.states] for row in matrix.rows],
        "left": search.left(),
    }


@settings(max_examples=60, deadline=None)
@given(
    table=failing_tables,
    workers=st.sampled_from([2, 5, 30, 1000]),
    stops=st.lists(st.integers(0, 20), max_size=3),
    rng=st.randoms(use_true_random=False),
    policy=st.sampled_from(POLICIES),
    at_once=st.sampled_from([1, 3, 6]),
)
def test_cells_that_run_ahead_change_nothing(table, workers, stops, rng, policy, at_once):
    """Neither what policy and sampler are told, nor what is shown, also after interruptions."""
    alone, together = Watched(policy), Watched(policy)
    by = {"at_once": at_once}
    one = play(alone, table, 1, random.Random(0), {}, [], **by)
    many = play(together, table, workers, rng, {}, [], ahead=True, **by)
    assert shown_of(many) == shown_of(one)
    assert together.shown == alone.shown
    records: dict[str, Record] = {}
    rows: list[Row] = []
    for at_most in [*stops, 10**6]:
        play(policy, table, workers, rng, records, rows, at_most, ahead=rng.random() < 0.8, **by)
    again = play(policy, table, 1, rng, records, rows, **by)
    assert shown_of(again) == shown_of(one)


def test_an_idle_worker_runs_the_lowest_seed_of_the_best_configuration_that_is_in():
    table = np.array([[0.3, 0.3, 0, 0], [0.5, 0.5, 0, 0], [0.4, 0.4, 0, 0], [0.4, 0.2, 0, 0]])
    rows: list[Row] = []
    records: dict[str, Record] = {}
    play(Race(), table, 1, random.Random(0), records, rows, at_most=4 * 2 - 1)
    with patch("ssense.engine.search.search.propose", sampled):
        search = Search(sweep_of(table), Race(), rows, records)
    first = search.next_cell()
    assert first is not None
    assert search.next_cell() is None
    cells = list(iter(search.next_ahead, None))
    assert {cell.seed for cell in cells[:3]} == {2}
    means = [table[place_of(cell, table), :2].mean() for cell in cells[:3]]
    assert means == sorted(means, reverse=True)
    assert {cell.seed for cell in cells[4:]} == {3}
    assert len({search.signature(cell) for cell in cells}) == len(cells) == 4 * 2
    assert search.next_ahead() is None
    assert search.left() == 4 * 2 + 1


def test_a_cell_that_runs_ahead_is_handed_out_again_where_its_worker_is_lost():
    table = np.zeros((3, 4))
    search = Search(sweep_of(table), Race(), (), {})
    granted = list(iter(search.next_cell, None))
    first, second = search.next_ahead(), search.next_ahead()
    assert first is not None
    assert second is not None
    assert search.retry(first)
    assert search.next_cell() is None  # it is not granted
    assert search.next_ahead() == first
    search.take_back(second)
    assert search.next_ahead() == second
    for cell in granted:
        search.finish(record_of(search, cell, table))
    assert first not in list(iter(search.next_cell, None))  # granted, and running
    assert search.retry(first)
    assert search.next_cell() == first


@settings(max_examples=40, deadline=None)
@given(
    table=failing_tables,
    stops=st.lists(st.integers(0, 20), max_size=4),
    rng=st.randoms(use_true_random=False),
    policy=st.sampled_from(POLICIES),
)
def test_interruptions_and_cells_of_other_runs_change_nothing(table, stops, rng, policy):
    whole = play(policy, table, 1, rng, {}, [])
    cells = [Cell(row.configuration, seed) for row in whole.rows for seed in whole.sweep.seeds]
    extra = [record_of(whole, cell, table) for cell in cells if rng.random() < 0.3]
    records, rows = {record.signature: record for record in extra}, []
    for at_most in [*stops, 10**6]:
        found = play(policy, table, 3, rng, records, rows, at_most)
    assert rows == whole.rows
    assert found.decisions() == whole.decisions()
    assert set(records) == {*whole.records} | {record.signature for record in extra}


@settings(max_examples=50, deadline=None)
@given(failing_tables, st.randoms(use_true_random=False))
def test_in_the_race_a_granted_cell_stays_granted(table, rng):
    full = scores_of(table)
    scores: list[dict[int, float | None]] = [{} for _ in full]
    seeds = range(table.shape[1])
    before = (0,) * len(full)
    while True:
        granted = Race().judge(scores, seeds, all_proposed=True).granted
        assert all(new >= old for new, old in zip(granted, before, strict=True))
        missing = [(i, s) for i, k in enumerate(granted) for s in seeds[:k] if s not in scores[i]]
        if not missing:
            break
        place, seed = rng.choice(missing)
        scores[place][seed] = full[place][seed]
        before = granted
    assert granted == Race().judge(full, seeds, all_proposed=True).granted


# What the sampler is told


def test_the_leaders_get_a_seed_more_before_each_batch():
    effects = np.array([1.0, 4.0, 2.0, 3.0, 5.0, 0.0, 2.5, 0.25, 0.5, 0.75])
    table = effects[:, None] + np.array([0.5, 0.0, 0.25, 1.0])
    race = Race(leaders=2)
    granted = [
        judge(race, table[:n], all_proposed=False).granted for n in range(3, len(effects) + 1)
    ]
    assert granted == [
        (2, 2, 2),
        (2, 3, 2, 3),
        (2, 3, 2, 3, 2),
        (2, 3, 2, 3, 2, 2),
        (2, 4, 2, 3, 3, 2, 2),
        (2, 4, 2, 3, 3, 2, 2, 2),
        (2, 4, 2, 3, 3, 2, 2, 2, 2),
        (2, 4, 2, 4, 4, 2, 2, 2, 2, 2),  # place 1 has every seed: the next best are 4 and 3
    ]


@pytest.mark.parametrize("at_once", [1, 3, 4, 6])
def test_as_many_are_proposed_at_once_as_the_sweep_says(at_once):
    table = random_table(0, 12, 4)
    search = Search(sweep_of(table, at_once), Race())
    sizes = [len(search.rows)]
    with patch("ssense.engine.search.search.propose", sampled):
        while (cell := search.next_cell()) is not None:
            change = search.finish(record_of(search, cell, table))
            if change.rows:
                sizes.append(len(search.rows))
    assert sizes == [*range(4, 12, at_once), 12]


def test_none_of_a_batch_is_told_of_nor_changes_what_is_told():
    table = random_table(0, 6, 5)
    before = judge(Race(), table[:4], all_proposed=False).estimates
    assert None not in before
    assert judge(Race(), table, all_proposed=False).estimates == (*before, None, None)


def test_leaders_are_found_among_sound_configurations_the_first_of_equals_before_others():
    table = np.tile([0.25, 0.5, 0.75], (4, 1)) + np.array([[1], [0], [0], [-1]])
    table[0, 1] = math.nan
    race = Race(leaders=1)
    assert judge(race, table, all_proposed=False).granted == (2, 3, 2, 2)


def test_there_are_no_leaders_while_results_are_missing():
    scores = scores_of(random_table(0, 5, 5))
    del scores[1][0]
    assert Race().judge(scores, range(5), all_proposed=False).granted == (2,) * 5


def test_equal_configurations_are_told_as_equal():
    orders = 2 * [[0.3, 0.2, 0.1], [0.1, 0.2, 0.3]]
    assert sum(orders[0]) != sum(orders[1])  # in floating point
    estimates = judge(Race(rung=3), orders, all_proposed=False).estimates
    assert estimates[0] == estimates[1]


def test_the_sampler_is_told_nothing_while_results_are_missing():
    scores = scores_of(random_table(0, 3, 5))
    del scores[1][1]
    assert Race().judge(scores, range(5), all_proposed=False).estimates == (None,) * 3


def test_the_sampler_is_told_means_of_the_first_seeds_and_nothing_of_failures():
    table = random_table(0, 4, 5)
    race = Race(leaders=0)
    assert judge(race, table, all_proposed=False).estimates == pytest.approx(
        table[:, :2].mean(axis=1)
    )
    table[2, 1] = math.nan
    estimates = judge(race, table, all_proposed=False).estimates
    assert estimates[2] is None
    assert None not in estimates[:2] + estimates[3:]


def test_the_sampler_is_told_effects_of_all_that_is_granted():
    table = random_table(0, 4, 5)
    verdict = judge(Race(leaders=1), table, all_proposed=False)
    assert sorted(verdict.granted) == [2, 2, 2, 3]
    known = np.where(np.arange(5) < np.array(verdict.granted)[:, None], table, math.nan)
    effects, _, _ = dummy_regression(known[:, :3])
    told = np.array(verdict.estimates, dtype=float)
    assert np.diff(told) == pytest.approx(np.diff(effects))


def test_full_tells_means_over_every_seed_and_grants_all():
    table = random_table(0, 4, 5)
    table[2, 4] = math.nan
    for all_proposed in (False, True):
        verdict = judge(Full(), table, all_proposed=all_proposed)
        assert verdict.granted == (5,) * 4
        assert verdict.estimates[2] is None
        assert verdict.estimates[3] == pytest.approx(table[3].mean())


# What it is good for


def test_the_race_spends_under_half_of_the_grid_for_almost_the_same_winner():
    rng = np.random.default_rng(0)
    n, n_seeds, sweeps = 20, 10, 400
    share, loss = [], []
    for _ in range(sweeps):
        effects = rng.normal(0, 0.7, n)
        table = effects[:, None] + rng.normal(0, 1.1, n_seeds) + rng.normal(0, 0.9, (n, n_seeds))
        granted = np.array(judge(Race(), table).granted)
        means = table.mean(axis=1)
        chosen = np.where(granted == n_seeds, means, -np.inf).argmax()
        share.append(granted.mean() / n_seeds)
        loss.append(effects[means.argmax()] - effects[chosen])
    assert np.mean(share) < 0.45
    assert np.mean(loss) < 0.02 + 2 * np.std(loss) / math.sqrt(sweeps)
