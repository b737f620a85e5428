from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from upath import UPath

from sweeps.engine.cell import Cell
from sweeps.engine.ledger import SWEEPS, Ledger, Record
from sweeps.engine.plan import Plan, other_sweeps, plan_cells, show_sweep
from sweeps.engine.race import Full, Race
from sweeps.engine.search import Search
from sweeps.engine.sweep import Family

SIZES = (18, 6)
TWO = Family(name="electrode", levels={"masking.electrode": (0.25, 0.5)})


def done(search: Search, cell: Cell, seconds: float, score: float) -> Record:
    return Record(
        signature=search.signature(cell),
        configuration=cell.configuration,
        seed=cell.seed,
        status="done",
        dataset_digest="tiny",
        history=[{"epoch": 1, "recall@10": score}],
        best_epoch=1,
        timings={"training": seconds},
    )


def record(search: Search, status: str, seconds: float, score: float = 0.0) -> Record:
    made = done(search, search.next_cell(), seconds, score)
    return dataclasses.replace(made, status=status)


def test_cells_are_counted_by_state(sweep):
    search = Search(sweep, Full())
    empty = plan_cells(search, SIZES)
    assert (empty.done, empty.failed, empty.to_run) == (0, 0, 4)
    assert (empty.seconds_per_cell, empty.noise) == (None, None)
    search.finish(record(search, "done", 10.0, 0.5))
    search.finish(record(search, "done", 30.0, 0.6))
    search.finish(record(search, "failed", 1.0))
    plan = plan_cells(Search(sweep, Full(), search.rows, search.records), SIZES)
    assert (plan.done, plan.failed, plan.to_run) == (2, 1, 2)
    assert plan.seconds_per_cell == 20.0


def test_the_noise_is_the_sd_of_paired_differences(sweep):
    search = Search(sweep, Full())
    scores = iter([0.5, 0.7, 0.6, 0.9])  # breadth first: differences of 0.2 and 0.3
    for score in scores:
        search.finish(record(search, "done", 1.0, score))
    assert plan_cells(search, SIZES).noise == pytest.approx(np.std([0.2, 0.3], ddof=1))


def test_a_race_spares_cells_in_the_plan(sweep):
    more = dataclasses.replace(sweep, seeds=(0, 1, 2, 3), families=(TWO,), configurations=2)
    search = Search(more, Race())
    while (cell := search.next_cell()) is not None:
        good = cell.configuration["masking.electrode"] == 0.5
        score = (0.6 if good else 0.1) + 0.01 * cell.seed + (0.001 if good and cell.seed else 0)
        search.finish(done(search, cell, 1.0, score))
    plan = plan_cells(search, SIZES)
    assert (plan.dropped, plan.to_run) == (8 - plan.done, 0)
    assert plan.dropped > 0
    assert f"{plan.dropped} spared by the race" in plan.lines(slots=1)[0]


def plan_of(**changes) -> Plan:
    values = {
        "to_run": 30,
        "done": 10,
        "failed": 2,
        "dropped": 0,
        "seconds_per_cell": 60.0,
        "noise": 0.0127,
        "metric": "recall@10",
        "seeds": 10,
        "sizes": (872, 292),
    }
    return Plan(**(values | changes))


def test_time_and_cost_come_from_the_cells_that_are_done():
    assert plan_of().lines(slots=3, price=2.0)[:2] == [
        "  cells: 10 done, 30 to train (2 of them failed before)",
        "  time: at most 10 min, 3 at a time; 0.5 device-hours, 1.00 at 2 per device-hour",
    ]
    assert len(plan_of(to_run=0).lines(slots=2)) == 3
    assert len(plan_of(seconds_per_cell=None).lines(slots=2)) == 3


def test_the_plan_says_what_differences_the_seeds_can_show():
    # 2.07 standard deviations of a paired difference for 10 seeds at 872 and 292 sentences.
    assert plan_of().lines(1)[-2:] == [
        "  power: 10 seeds show differences from 2.6 points of Recall@10, 20 seeds from 2.3 "
        "(80 %, corrected test)",
        "  advice: enough seeds; as splits overlap, none show less than 2.1",
    ]
    assert plan_of(noise=None, seeds=5).lines(1)[-2:] == [
        "  power: 5 seeds show differences from 2.8 sd of paired differences, 10 seeds from 2.1, "
        "20 seeds from 1.8 (80 %, corrected test)",
        "  advice: --seeds 0 1 2 3 4 5 6 7 8 9; more than these would gain little",
    ]
    assert "a single seed can show no difference" in plan_of(seeds=1).lines(1)[-1]


def test_on_a_cluster_nobody_knows_yet_how_many_run_at_a_time():
    assert plan_of().lines(slots=None)[1] == "  time: at most 0.5 device-hours"


def test_a_cell_that_families_share_is_counted_once(sweep):
    twin = dataclasses.replace(TWO, name="twin")
    search = Search(dataclasses.replace(sweep, families=(TWO, twin)), Full())
    assert plan_cells(search, SIZES).to_run == 4
    search.finish(record(search, "done", 10.0, 0.5))
    plan = plan_cells(search, SIZES)
    assert (plan.done, plan.to_run) == (1, 3)


def test_sweeps_that_do_not_count_are_named_and_those_of_another_version_are_not(sweep, tmp_path):
    storage = UPath(tmp_path)
    longer = dataclasses.replace(sweep.training, max_epochs=9)
    other = dataclasses.replace(sweep, training=longer)
    for name in (other.name, "of-another-version"):
        ledger = Ledger(storage / SWEEPS / name)
        ledger.write_sweep(other, [], {}, "race", [], "", ())
        ledger.write(done(Search(other, Full()), Cell({}, 0), 1.0, 0.5))
    path = ledger.folder / "sweep.json"
    path.write_text(path.read_text().replace('"patience"', '"tolerance"'))
    assert other_sweeps(storage, sweep) == [
        f"  not counted: 1 cells of {other.name} (max_epochs 9, now 2)"
    ]


def test_a_probe_is_a_rough_guide():
    assert "  time: roughly at most 30 min" in plan_of(probed=True).lines(slots=1)[1]


def test_the_sweep_is_shown_in_words(sweep, capsys):
    show_sweep(sweep)
    assert capsys.readouterr().out.splitlines() == [
        f"Sweep {sweep.name}: 2 configurations x 2 seeds",
        "  no masking: 1 configuration",
        "  electrode: 1 configuration",
    ]
