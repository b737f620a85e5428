from __future__ import annotations

import dataclasses
import math
import random
from collections import Counter
from statistics import fmean, pstdev

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_records import made_record

from ssense.engine.core.cell import Cell, dataset_choice, label
from ssense.engine.core.record import MOST_ATTEMPTS, Record
from ssense.engine.core.sweep import STARTUP_PROPOSALS, Family, Row, Sweep
from ssense.engine.search.race import Full, Race
from ssense.engine.search.search import RETRIES, Scored, Search, propose
from ssense.errors import UserError
from ssense.model.encoders.spectrogram_encoder import ResNetSpec
from ssense.specification import configured
from ssense.training.sentences import SentenceSpec

WIDE = Family(
    name="wide",
    levels={"masking.time": tuple(i / 20 for i in range(1, 11)), "masking.frequency": (0.1, 0.2)},
)
SMALL = Family(name="small", levels={"masking.electrode": (0.25, 0.5)})
NONE = Family(name="none", levels={})
FULL = Full()
POLICIES = (FULL, Race())


def sweep(families=(NONE, SMALL, WIDE), configurations=3, seeds=(0, 1, 2)) -> Sweep:
    return Sweep(
        question="test",
        dataset_digest="d",
        specification=SentenceSpec(encoder=ResNetSpec(weights="random")),
        families=families,
        configurations=configurations,
        seeds=seeds,
    )


def score_of(cell: Cell) -> float:
    time = cell.configuration.get("masking.time", 0)
    noise = 0.002 * math.sin(100 * time * (1 + cell.seed))  # a race goes by how scores spread
    context = 0.02 * cell.configuration.get("data.context_after_s", 1.0)
    return 0.48 - (time - 0.3) ** 2 + 0.01 * cell.seed + noise + context


def record_of(search: Search, cell: Cell) -> Record:
    return made_record(search, cell, score_of(cell))


def failed(record: Record) -> Record:
    return dataclasses.replace(record, status="failed", history=(), best_epoch=0, reason="NaN")


def run(search: Search, workers: int, order: random.Random, at_most: int = 10**6) -> list[Cell]:
    """Play a sweep whose cells end in random order; return the cells in the order handed out."""
    handed: list[Cell] = []
    running: list[Cell] = []
    while len(handed) < at_most:
        while len(running) < workers and (cell := search.next_cell()) is not None:
            handed.append(cell)
            running.append(cell)
        if not running:
            break
        ended = running.pop(order.randrange(len(running)))
        search.finish(record_of(search, ended))
    return handed


def decided(search: Search) -> list[str]:
    return [str(decision) for decision in search.decisions()]


def by_family(search: Search) -> dict[str, list]:
    return {f.name: search.configurations(f) for f in search.sweep.families}


def test_proposals_differ_and_cover_a_small_family():
    scored = []
    for _ in range(2):
        scored.append((propose(SMALL, scored), 0.1))
    levels = {configuration["masking.electrode"] for configuration, _ in scored}
    assert levels == {0.25, 0.5}
    assert propose(SMALL, scored) is None


def test_a_family_without_levels_has_one_configuration():
    assert propose(NONE, []) == {}
    assert propose(NONE, [({}, 0.3)]) is None


def test_every_combination_is_reached_without_repeats():
    scored = []
    while (configuration := propose(WIDE, scored)) is not None:
        scored.append((configuration, score_of(Cell(configuration, 0))))
    assert len(scored) == WIDE.size == len({tuple(c.items()) for c, _ in scored})


def test_the_first_proposals_do_not_depend_on_results():
    waiting, known = [], []
    for _ in range(STARTUP_PROPOSALS):
        waiting.append((propose(WIDE, waiting), None))
        proposal = propose(WIDE, known)
        known.append((proposal, score_of(Cell(proposal, 0))))
    assert [c for c, _ in waiting] == [c for c, _ in known]


def test_the_proposals_of_a_batch_spread_where_the_sampler_is_told_of_them():
    """Of a hundred places one in the middle is best: a batch that is not told lies close to it."""
    levels = tuple(place / 200 for place in range(1, 101))
    tried = (5, 20, 35, 50, 65, 80, 95)

    def width(name: str, spread: bool) -> float:
        family = Family(name=name, levels={"masking.time": levels})
        earlier: list[Scored] = [({"masking.time": levels[p]}, -abs(p - 50.0)) for p in tried]
        for _ in range(6):
            proposal = propose(family, earlier, spread)
            assert proposal is not None
            earlier.append((proposal, None))
        return pstdev([levels.index(c["masking.time"]) for c, score in earlier if score is None])

    told, alone = (fmean(width(f"f{i}", spread) for i in range(4)) for spread in (True, False))
    assert told > 2 * alone


def test_tpe_learns_where_the_good_values_are():
    family = Family(name="line", levels={"masking.time": tuple(i / 200 for i in range(1, 180))})
    scored = []
    for _ in range(30):
        configuration = propose(family, scored)
        scored.append((configuration, score_of(Cell(configuration, 0))))
    distances = [abs(c["masking.time"] - 0.3) for c, _ in scored]
    first, last = distances[:10], distances[-10:]
    assert sorted(last)[5] < 0.5 * sorted(first)[5]


@settings(max_examples=30, deadline=None)
@given(
    policy=st.sampled_from(POLICIES),
    workers=st.integers(1, 12),
    seed=st.integers(0, 10**6),
    configurations=st.sampled_from([2, 13]),
)
def test_any_number_of_workers_and_any_order_runs_the_same_cells(
    policy, workers, seed, configurations
):
    wanted = sweep(configurations=configurations, seeds=(0, 1, 2, 3))
    alone = Search(wanted, policy)
    expected = run(alone, 1, random.Random(0))
    search = Search(wanted, policy)
    handed = run(search, workers, random.Random(seed))
    assert by_family(search) == by_family(alone)
    assert Counter(map(search.signature, handed)) == Counter(map(alone.signature, expected))
    assert set(Counter(map(search.signature, handed)).values()) == {1}
    assert decided(search) == decided(alone)
    assert not search.missing()
    if policy == FULL:
        assert len(handed) == wanted.n_cells


@settings(max_examples=30, deadline=None)
@given(workers=st.integers(2, 40), seed=st.integers(0, 10**6))
def test_each_result_counts_once_whether_or_not_its_cell_ran_ahead(workers, seed):
    """Of families that share cells, too: those that count are those that one worker runs."""
    times = tuple(place / 20 for place in range(1, 9))
    families = (
        Family(name="all", levels={"masking.time": times}),
        Family(name="few", levels={"masking.time": times[2:6]}),
        WIDE,
    )
    wanted = sweep(families, configurations=8, seeds=tuple(range(6)))
    alone = Search(wanted, Race())
    expected = run(alone, 1, random.Random(0))
    search, order = Search(wanted, Race()), random.Random(seed)
    running: list[Cell] = []
    counted: list[str] = []
    while True:
        while len(running) < workers and (cell := search.next_cell() or search.next_ahead()):
            running.append(cell)
        if not running:
            break
        ended = running.pop(order.randrange(len(running)))
        counted += [r.signature for r in search.finish(record_of(search, ended)).counted]
    assert sorted(counted) == sorted(map(alone.signature, expected))
    assert set(search.records) >= set(counted)
    assert decided(search) == decided(alone)
    assert by_family(search) == by_family(alone)
    assert search.left() == 0
    n_ahead = search.matrix().counts()["ahead"]
    assert (n_ahead > 0) == (len(search.records) > len(counted))
    again = Search(wanted, Race(), search.rows, search.records)
    assert again.matrix() == search.matrix()
    assert again.orders() == search.orders()


def test_what_ran_ahead_keeps_its_history_until_it_counts():
    wanted = sweep((WIDE,), configurations=8, seeds=tuple(range(6)))

    def of_three_epochs(search, cell):
        record = record_of(search, cell)
        others = [{"epoch": epoch, "recall@10": 0.0} for epoch in (2, 3)]
        return dataclasses.replace(record, history=[*record.history, *others])

    def run_on(search, workers, at_most):
        running, counted = [], []
        for _ in range(at_most):
            while len(running) < workers and (cell := search.next_cell() or search.next_ahead()):
                running.append(cell)
            if running:
                cell = running.pop(0)
                counted += search.finish(of_three_epochs(search, cell)).counted
        return counted

    counted_later = set()
    for at_most in range(5, 40, 3):
        first = Search(wanted, Race())
        before = run_on(first, workers=12, at_most=at_most)
        ahead = first.records.keys() - {record.signature for record in before}
        again = Search(wanted, Race(), first.rows, first.records)
        again.forget_histories()
        with pytest.raises(LookupError):
            [*again.records[before[0].signature].history]
        counted = run_on(again, workers=1, at_most=100)
        assert {len([*record.history]) for record in counted} <= {3}
        counted_later |= ahead & {record.signature for record in counted}
    assert counted_later


@settings(max_examples=30, deadline=None)
@given(
    policy=st.sampled_from(POLICIES), cells_before=st.integers(1, 40), seed=st.integers(0, 10**6)
)
def test_a_sweep_taken_up_again_hands_out_only_what_is_missing(policy, cells_before, seed):
    wanted = sweep(configurations=12, seeds=(0, 1, 2))
    undisturbed = Search(wanted, policy)
    run(undisturbed, 3, random.Random(seed))
    first = Search(wanted, policy)
    run(first, 3, random.Random(seed), at_most=cells_before)
    done_before = dict(first.records)
    second = Search(wanted, policy, first.rows, done_before)
    handed = run(second, 3, random.Random(seed + 1))
    assert not {second.signature(cell) for cell in handed} & set(done_before)
    assert by_family(second) == by_family(undisturbed)
    assert set(second.records) == set(undisturbed.records)
    assert decided(second) == decided(undisturbed)


@pytest.mark.parametrize("policy", [FULL, Race()], ids=["full", "race"])
def test_seeds_added_later_meet_the_same_configurations(policy):
    first = Search(sweep(seeds=(0, 1)), policy)
    run(first, 2, random.Random(0))
    second = Search(sweep(seeds=(0, 1, 7)), policy, first.rows, first.records)
    handed = run(second, 2, random.Random(0))
    assert {cell.seed for cell in handed} == {7}
    assert by_family(second) == by_family(first)


def test_fewer_configurations_keep_the_first():
    first = Search(sweep(configurations=5), FULL)
    run(first, 2, random.Random(0))
    second = Search(sweep(configurations=2), FULL, first.rows, first.records)
    assert second.next_cell() is None
    assert second.configurations(WIDE) == first.configurations(WIDE)[:2]
    third = Search(sweep(configurations=5), FULL, [*second.rows, *second.surplus], second.records)
    assert by_family(third) == by_family(first)  # none is forgotten meanwhile
    assert third.next_cell() is None


def test_a_race_spares_cells_and_its_winners_have_every_seed():
    search = Search(sweep(configurations=13, seeds=tuple(range(10))), Race())
    handed = run(search, 4, random.Random(0))
    assert len(handed) < 0.6 * search.sweep.n_cells
    assert search.dropped()
    for family in search.sweep.families:
        assert any(search.score(c) is not None for c in search.configurations(family))
    counts = search.matrix().counts()
    assert counts["done"] == len(handed)
    assert counts["dropped"] == 10 * len(search.rows) - len(handed)
    assert {row.family for row in search.leaders()} == {f.name for f in search.sweep.families}


LINE = Family(name="line", levels={"masking.time": (0.1, 0.2, 0.3, 0.4, 0.5)})


def played(draw, policy) -> Search:
    """A made-up ledger: scores by chance, cells that fail, ended wherever it is looked at.

    All cells may be there before, as of an earlier run that spent every seed.
    """
    wanted = sweep(families=(LINE, SMALL, NONE), configurations=5, seeds=(0, 1, 2, 3))
    random_scores = random.Random(draw(st.integers(0, 10**6)))
    fails = draw(st.sampled_from([0.0, 0.0, 0.05, 0.3]))

    def play(search: Search, cells: int) -> None:
        while cells and (cell := search.next_cell()) is not None:
            score = round(random_scores.random(), draw(st.sampled_from([1, 3])))
            record = record_of(search, cell)
            record = dataclasses.replace(record, history=[{"epoch": 1, "recall@10": score}])
            search.finish(failed(record) if random_scores.random() < fails else record)
            cells -= 1

    earlier = Search(wanted, FULL)
    if draw(st.booleans()):
        play(earlier, -1)
    search = Search(wanted, policy, earlier.rows, earlier.records)
    play(search, draw(st.integers(0, 40)))
    return search


def listed(search: Search, family: str | None = None) -> list[Row]:
    """Configurations with a result, the best first, as lists that people see have them."""
    places = sorted(zip(search.orders(), range(len(search.rows)), strict=True), reverse=True)
    rows = [search.rows[number] for _, number in places]
    return [r for r in rows if family in (None, r.family) and search.done(r.configuration)]


def first_scores(search: Search, row: Row) -> list[float]:
    """Scores at the first seeds, up to one that is missing."""
    found = []
    for seed in search.sweep.seeds:
        record = search.record(Cell(row.configuration, seed))
        if record is None or not record.done:
            break
        found.append(record.best["recall@10"])
    return found


@settings(max_examples=60)
@given(st.data(), st.sampled_from(POLICIES))
def test_none_that_was_dropped_leads_a_list_and_only_means_over_the_same_seeds_decide(data, policy):
    search = played(data.draw, policy)
    matrix, dropped = search.matrix(), search.dropped()
    n_seeds = len(search.sweep.seeds)
    leaders = {row.family: row for row in search.leaders()}
    assert {f: r.name for f, r in matrix.leaders.items()} == {
        family: label(row.family, row.configuration) for family, row in leaders.items()
    }
    for family in search.sweep.families:
        stay = [r for r in search.rows if r.family == family.name and r not in dropped]
        known = {id(r): first_scores(search, r) for r in stay}
        most = max(map(len, known.values()), default=0)
        if most == 0:
            assert family.name not in leaders
            assert family.name not in search.best()
            continue
        first = listed(search, family.name)[0]
        assert first == leaders[family.name]
        assert first not in dropped
        assert len(known[id(first)]) == most
        means = [fmean(scores) for scores in known.values() if len(scores) == most]
        assert fmean(known[id(first)]) == max(means)
        assert search.best().get(family.name) == (first if most == n_seeds else None)
    if leaders:
        assert listed(search)[0] in leaders.values()


def test_decisions_are_told_once_when_they_are_taken():
    search = Search(sweep(configurations=13, seeds=tuple(range(6))), Race())
    rows, told = list(search.rows), []
    while (cell := search.next_cell()) is not None:
        change = search.finish(record_of(search, cell))
        rows += change.rows
        told += change.decisions
    assert rows == search.rows
    assert sorted(map(str, told)) == sorted(map(str, search.decisions()))
    assert len(told) > 3


@pytest.mark.parametrize("policy", POLICIES)
def test_what_is_left_is_never_too_little_and_in_the_end_nothing(policy):
    search = Search(sweep(configurations=13, seeds=(0, 1, 2, 3)), policy)
    assert search.left() == search.sweep.n_cells
    left = []
    while (cell := search.next_cell()) is not None:
        search.finish(record_of(search, cell))
        left.append(search.left())
    assert left[-1] == 0
    assert all(len(left) - done <= still for done, still in enumerate(left, start=1))


def test_a_family_that_is_wanted_whole_needs_no_sampler():
    line = Family(name="line", levels={"masking.time": tuple(i / 3000 for i in range(1, 2001))})
    search = Search(sweep(families=(line,), configurations=2000, seeds=(0,)), FULL)
    assert [c["masking.time"] for c in search.configurations(line)] == list(
        line.levels["masking.time"]
    )


def test_breadth_comes_before_depth():
    search = Search(sweep(families=(SMALL, NONE), seeds=(3, 1, 2)), FULL)
    seeds = [cell.seed for cell in run(search, 1, random.Random(0))]
    assert seeds == [3, 3, 3, 1, 1, 1, 2, 2, 2]


def test_the_cell_of_a_lost_worker_is_tried_again_and_then_fails():
    search = Search(sweep(families=(NONE,), seeds=(0,)), FULL)
    for _ in range(RETRIES):
        assert search.retry(search.next_cell())
    cell = search.next_cell()
    assert not search.retry(cell)
    search.finish(failed(record_of(search, cell)))
    assert search.next_cell() is None
    assert not search.running
    assert not search.missing()
    assert [record.seed for _, record in search.failed()] == [0]


def test_a_failed_cell_is_not_averaged_away_nor_tried_twice_in_a_run():
    search = Search(sweep(families=(SMALL,)), FULL)
    cell = search.next_cell()
    search.finish(failed(record_of(search, cell)))
    handed = run(search, 1, random.Random(0))
    assert search.signature(cell) not in {search.signature(other) for other in handed}
    assert search.score(cell.configuration) is None
    assert len(search.done(cell.configuration)) == 2


def test_a_failed_cell_is_tried_again_by_the_next_run():
    search = Search(sweep(families=(NONE,)), FULL)
    record = failed(record_of(search, search.next_cell()))
    again = Search(sweep(families=(NONE,)), FULL, search.rows, {record.signature: record})
    assert len(run(again, 1, random.Random(0))) == 3


@pytest.mark.parametrize("policy", POLICIES)
def test_a_cell_that_fails_in_every_call_is_given_up(policy):
    wanted = sweep(families=(SMALL,), configurations=2, seeds=(0, 1, 2))
    search = Search(wanted, policy)
    broken = search.next_cell()
    name = search.signature(broken)
    record = failed(record_of(search, broken))
    for attempts in range(1, MOST_ATTEMPTS + 1):
        record = dataclasses.replace(record, attempts=attempts)
        again = Search(wanted, policy, search.rows, {name: record})
        handed = [again.signature(cell) for cell in run(again, 2, random.Random(0))]
        assert (name in handed) == (attempts < MOST_ATTEMPTS)
    assert not again.missing()
    assert [r.signature for _, r in again.failed()] == [name]
    assert again.score(broken.configuration) is None
    assert any(again.score(c) is not None for c in again.configurations(SMALL))


def test_failed_cells_end_the_search_instead_of_being_awaited():
    search = Search(sweep(families=(WIDE,), configurations=15, seeds=(0,)), FULL)
    while (cell := search.next_cell()) is not None:
        search.finish(failed(record_of(search, cell)))
    assert len(search.rows) == 15
    assert not search.running


def test_one_configuration_in_two_families_is_trained_once():
    twin = dataclasses.replace(SMALL, name="twin")
    search = Search(sweep(families=(SMALL, twin), configurations=2), FULL)
    handed = run(search, 2, random.Random(0))
    assert len(handed) == 2 * 3
    assert by_family(search)["small"]
    assert by_family(search)["twin"]


def test_score_is_the_mean_over_the_seeds():
    search = Search(sweep(families=(NONE,)), FULL)
    run(search, 1, random.Random(0))
    assert search.score({}) == pytest.approx(0.5 - 0.09 + 0.01)


# ---------------------------------------------------------------- cells on several datasets

CONTEXTS = Family(name="context", levels={"data.context_after_s": (0.0, 0.5, 2.0, 3.0)})


def of_contexts() -> Sweep:
    whole = sweep(families=(NONE, CONTEXTS, SMALL), configurations=4)
    specs = [whole.specification] + [
        configured(whole.specification, {"data.context_after_s": level})
        for level in CONTEXTS.levels["data.context_after_s"]
    ]
    datasets = {dataset_choice(spec): f"d{place}" for place, spec in enumerate(specs)}
    return dataclasses.replace(whole, dataset_digest="d0", datasets=datasets)


def on_its_dataset(search: Search, cell: Cell) -> Record:
    record = record_of(search, cell)
    digest = search.sweep.dataset_of(cell.configuration)
    return dataclasses.replace(record, dataset_digest=digest)


def test_cells_are_named_by_the_dataset_of_their_configuration():
    whole = of_contexts()
    contexts = [{"data.context_after_s": level} for level in (0.0, 0.5, 2.0, 3.0)]
    assert list(map(whole.dataset_of, [{}, *contexts])) == ["d0", "d1", "d2", "d3", "d4"]
    first, second = list(whole.datasets)[1:3]
    other = dataclasses.replace(whole, datasets={**whole.datasets, first: "e1"})
    cells = [Cell(contexts[place], 0) for place in (0, 1)]
    assert [other.signature(c) == whole.signature(c) for c in cells] == [False, True]
    assert whole.datasets[second] == "d2"
    with pytest.raises(ValueError, match=r"no dataset for context after 1\.5 s"):
        whole.dataset_of({"data.context_after_s": 1.5})


def test_only_cells_of_datasets_that_are_there_are_handed_out():
    search = Search(of_contexts(), FULL)
    assert search.asked_datasets() == {"d0", "d1", "d2", "d3", "d4"}
    handed = []
    while (cell := search.next_cell({"d0", "d3"})) is not None:
        handed.append(cell)
        search.finish(on_its_dataset(search, cell))
    assert {search.sweep.dataset_of(cell.configuration) for cell in handed} == {"d0", "d3"}
    assert search.asked_datasets() == {"d1", "d2", "d4"}
    assert search.next_cell(()) is None


def test_datasets_of_the_first_cells_alone_are_asked_for_where_no_more_will_start():
    search = Search(of_contexts(), FULL)
    handed = []
    while (cell := search.next_cell()) is not None:
        handed.append(search.sweep.dataset_of(cell.configuration))
    again = Search(of_contexts(), FULL)
    assert again.asked_datasets(0) == set()
    for n in range(1, 8):
        assert again.asked_datasets(n) == {*handed[:n]}


def test_a_worker_stays_with_its_dataset_within_a_seed():
    search = Search(of_contexts(), FULL)
    first = search.next_cell(None, "d3")
    assert first == Cell({"data.context_after_s": 2.0}, 0)
    second = search.next_cell(None, "d3")
    assert second is not None
    assert second.seed == 0  # not another seed of its own dataset
    assert search.sweep.dataset_of(second.configuration) != "d3"


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 5), st.randoms(use_true_random=False))
def test_which_datasets_are_made_when_changes_no_result(workers, order):
    """Cells of datasets that come later are trained later; what comes out is the same."""
    alone = Search(of_contexts(), Race())
    while (cell := alone.next_cell()) is not None:
        alone.finish(on_its_dataset(alone, cell))
    search, made, running = Search(of_contexts(), Race()), set(), []
    while search.asked_datasets() or running:
        prefer = order.choice(["", "d0", "d2", "d4"])
        while len(running) < workers and (cell := search.next_cell(made, prefer)) is not None:
            running.append(cell)
        if running:
            ended = running.pop(order.randrange(len(running)))
            search.finish(on_its_dataset(search, ended))
        else:
            made.add(order.choice(sorted(search.asked_datasets())))
    assert search.rows == alone.rows
    assert decided(search) == decided(alone)
    np.testing.assert_array_equal(search.scores(), alone.scores())


def test_a_record_of_another_dataset_is_refused():
    search = Search(of_contexts(), FULL)
    cell = Cell({"data.context_after_s": 2.0}, 0)
    record = dataclasses.replace(on_its_dataset(search, cell), dataset_digest="d0")
    with pytest.raises(UserError, match="contradicts its signature"):
        Search(search.sweep, FULL, search.rows, {record.signature: record})
