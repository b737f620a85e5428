from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from made_records import made_record
from upath import UPath

from ssense.data.splits import Split
from ssense.engine.core.cell import Cell
from ssense.engine.core.origin import RecordingOrigin
from ssense.engine.core.power import Power
from ssense.engine.core.record import Record
from ssense.engine.core.sweep import Family, Sweep
from ssense.engine.plan import SweepPlan, other_sweeps, plan_cells, show_sweep
from ssense.engine.records.description import Description
from ssense.engine.records.ledger import SWEEPS, Ledger
from ssense.engine.search.race import Full, Race
from ssense.engine.search.search import Search
from ssense.engine.tasks.data_plan import check_shares
from ssense.errors import UserError
from ssense.specification import configured
from ssense.training.sentences import SHARE

SPLIT = Split(np.arange(18), np.arange(18, 24), np.arange(24, 30))
TWO = Family(name="electrode", levels={"masking.electrode": (0.25, 0.5)})
ORIGIN = RecordingOrigin(subject="sub_9", title="Ant-Man", shards="0123", recording="there")


def done(search: Search, cell: Cell, seconds: float, score: float) -> Record:
    return made_record(search, cell, score, timings={"training": seconds})


def record(search: Search, status: str, seconds: float, score: float = 0.0) -> Record:
    made = done(search, search.next_cell(), seconds, score)
    return dataclasses.replace(made, status=status)


def test_cells_are_counted_by_state(sweep):
    search = Search(sweep, Full())
    empty = plan_cells(search, SPLIT)
    assert (empty.done, empty.failed, empty.to_run) == (0, 0, 4)
    assert (empty.seconds_per_cell, empty.power.noise) == (None, None)
    search.finish(record(search, "done", 10.0, 0.5))
    search.finish(record(search, "done", 30.0, 0.6))
    search.finish(record(search, "failed", 1.0))
    plan = plan_cells(Search(sweep, Full(), search.rows, search.records), SPLIT)
    assert (plan.done, plan.failed, plan.to_run) == (2, 1, 2)
    assert plan.seconds_per_cell == 20.0


def test_the_noise_is_the_sd_of_paired_differences(sweep):
    search = Search(sweep, Full())
    scores = iter([0.5, 0.7, 0.6, 0.9])  # breadth first: differences of 0.2 and 0.3
    for score in scores:
        search.finish(record(search, "done", 1.0, score))
    assert plan_cells(search, SPLIT).power.noise == pytest.approx(np.std([0.2, 0.3], ddof=1))


def test_a_race_spares_cells_in_the_plan(sweep):
    more = dataclasses.replace(sweep, seeds=(0, 1, 2, 3), families=(TWO,), configurations=2)
    search = Search(more, Race())
    while (cell := search.next_cell()) is not None:
        good = cell.configuration["masking.electrode"] == 0.5
        score = (0.6 if good else 0.1) + 0.01 * cell.seed + (0.001 if good and cell.seed else 0)
        search.finish(done(search, cell, 1.0, score))
    plan = plan_cells(search, SPLIT)
    assert (plan.dropped, plan.to_run) == (8 - plan.done, 0)
    assert plan.dropped > 0
    assert f"{plan.dropped} spared by the race" in plan.lines(slots=1)[0]


def plan_of(**changes) -> SweepPlan:
    values = {
        "to_run": 30,
        "done": 10,
        "failed": 2,
        "dropped": 0,
        "seconds_per_cell": 60.0,
        "max_epochs": 100,
        "parts": (872, 290, 292),
        "kind": "random",
        "power": Power(seeds=10, sizes=(872, 292), comparisons=1, noise=0.0127, metric="recall@10"),
    }
    return SweepPlan(**(values | changes))


def test_time_and_cost_come_from_the_cells_that_are_done():
    assert plan_of().lines(slots=3, price=2.0)[:2] == [
        "  time: at most 10 min of training on this machine, 3 at a time; 0.5 device-hours, 1.00 "
        "at 2 per device-hour",
        "  cells: 10 done, 30 to train (2 of them failed before)",
    ]
    assert len(plan_of(to_run=0).lines(slots=2)) == 4
    assert len(plan_of(seconds_per_cell=None).lines(slots=2)) == 4


def test_the_plan_says_what_idle_workers_do_and_what_ran_ahead():
    lines = plan_of(runs_ahead=True, ahead=7, dropped=3).lines(1)
    assert lines[1].endswith(", 3 spared by the race, 7 trained ahead of the race")
    assert lines[2] == (
        "  idle workers: train cells that the race may ask for later, which changes no result "
        "(not with --granted-only)"
    )
    assert not any("idle" in line for line in plan_of(runs_ahead=True, to_run=0).lines(1))
    assert not any("idle" in line for line in plan_of().lines(1))


def test_the_plan_says_how_many_examples_there_are_to_train_on():
    assert plan_of().lines(1)[2] == "  split: random; 872 to train, 290 to validate, 292 to test"


def test_the_plan_of_a_sweep_knows_what_its_seeds_share(sweep):
    assert plan_cells(Search(sweep, Full()), SPLIT).power == Power(
        seeds=2, sizes=(18, 6), comparisons=1, noise=None, metric="recall@10"
    )
    training = dataclasses.replace(sweep.specification, split="held-out")
    held_out = Search(dataclasses.replace(sweep, specification=training), Full())
    power = plan_cells(held_out, SPLIT).power
    assert (power.sizes, power.shared_test) == ((18, 0), (6, 20))


def shares(sweep: Sweep, *levels: float) -> Sweep:
    curve = (Family(name=f"{level:.0%}", levels={SHARE: (level,)}) for level in levels)
    return dataclasses.replace(sweep, families=tuple(curve), configurations=1)


def test_a_plan_of_several_shares_says_the_fewest_and_has_the_power_of_them(sweep):
    plan = plan_cells(Search(shares(sweep, 0.25, 0.5, 1.0), Full()), SPLIT)
    assert plan._split() == "  split: random; 4 to 18 to train, 6 to validate, 6 to test"
    assert plan.power.sizes == (4, 6)
    half = plan_cells(Search(shares(sweep, 0.5), Full()), SPLIT)
    assert half._split() == "  split: random; 9 to train, 6 to validate, 6 to test"


def test_a_share_that_leaves_a_cell_no_negatives_is_one_line(sweep, dataset):
    check_shares(shares(sweep, 0.1, 1.0), dataset)  # 2 of 18
    message = r"training\.share, at seed 0: a share of 0\.05 leaves 1 of 18 .* Give larger shares"
    with pytest.raises(UserError, match=message):
        check_shares(shares(sweep, 0.05, 1.0), dataset)


def test_before_any_cell_is_done_the_plan_begins_with_what_a_probe_says_of_this_machine():
    paper = plan_of(done=0, to_run=280, seconds_per_cell=36_000.0, probed=True)
    assert paper.lines(slots=2)[:4] == [
        "  time: roughly 1400 h of training on this machine, 2 at a time; 2,800 device-hours",
        "  a cell: 10 h for all of its 100 epochs, less where it stops early",
        "  besides: starting, texts, features, and what each cell loads and keeps, some seconds "
        "each",
        "  cells: 0 done, 280 to train (2 of them failed before)",
    ]


def test_on_a_cluster_nobody_knows_yet_how_many_run_at_a_time():
    assert plan_of().lines(slots=None)[0] == "  time: at most 0.5 device-hours of training"


def test_a_cell_that_families_share_is_counted_once(sweep):
    twin = dataclasses.replace(TWO, name="twin")
    search = Search(dataclasses.replace(sweep, families=(TWO, twin)), Full())
    assert plan_cells(search, SPLIT).to_run == 4
    search.finish(record(search, "done", 10.0, 0.5))
    plan = plan_cells(search, SPLIT)
    assert (plan.done, plan.to_run) == (1, 3)


def test_sweeps_that_do_not_count_are_named_and_those_of_another_version_are_not(sweep, tmp_path):
    storage = UPath(tmp_path)
    longer = configured(sweep.specification, {"training.max_epochs": 9})
    other = dataclasses.replace(sweep, specification=longer)
    for name in (other.name, "of-another-version"):
        ledger = Ledger(storage / SWEEPS / name)
        ledger.describe(Description(sweep=other, origin=ORIGIN))
        ledger.write(done(Search(other, Full()), Cell({}, 0), 1.0, 0.5))
    path = ledger.folder / "sweep.json"
    path.write_text(path.read_text().replace('"patience"', '"tolerance"'))
    assert other_sweeps(storage, sweep) == [
        f"  not counted: 1 cell of {other.name} (training.max_epochs 9, now 2)"
    ]


def test_the_sweep_is_shown_in_words(sweep, capsys):
    show_sweep(sweep)
    assert capsys.readouterr().out.splitlines() == [
        f"Sweep {sweep.name}: 2 configurations x 2 seeds",
        "  no masking: 1 configuration",
        "  electrode: 1 configuration",
    ]


def test_the_plan_says_how_many_configurations_are_proposed_at_once(sweep, capsys):
    ratios = tuple(place / 20 for place in range(12))
    time = Family(name="time", levels={"masking.time": ratios})
    wide = dataclasses.replace(sweep, families=(time,), configurations=10, proposals_at_once=6)
    for configurations in (10, 4, 12):  # four are random; all there are need no proposal
        show_sweep(dataclasses.replace(wide, configurations=configurations))
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert shown == [
        "  time: 10 of 12 possible; proposed 4 at random, then 6 at once",
        "  time: 4 of 12 possible",
        "  time: 12 of 12 possible",
    ]
