from __future__ import annotations

import csv
import dataclasses
import io
from collections import Counter
from statistics import fmean

from ssense.engine.core.matrix import Matrix
from ssense.engine.core.record import Record
from ssense.engine.core.sweep import Family, Sweep
from ssense.engine.search.race import Race
from ssense.engine.search.search import Search
from ssense.engine.view.cell_table import cells_csv

LINE = Family(name="line", levels={"masking.time": (0.1, 0.2), "masking.frequency": (0.3,)})
NOISE = (0.0, 0.004, 0.002, 0.001)


def searched(sweep: Sweep) -> Search:
    """A race of three configurations: one without fields, one that is dropped, one cell fails."""
    families = (Family(name='a, "b"', levels={}), LINE)
    search = Search(dataclasses.replace(sweep, families=families, seeds=(5, 7, 9, 11)), Race(z=0.5))
    while (cell := search.next_cell()) is not None:
        time = cell.configuration.get("masking.time", 0)
        score = 0.5 - time + NOISE[search.sweep.seeds.index(cell.seed)] * (time == 0.1)
        record = Record(
            signature=search.signature(cell),
            configuration=cell.configuration,
            seed=cell.seed,
            status="done",
            dataset_digest="d",
            history=[{"epoch": 1, "loss": 3.0, "recall@10": score, "mrr": 0.1}],
            best_epoch=1,
            timings={"training": 12.5},
            device="cpu",
        )
        if not cell.configuration and cell.seed == 9:
            changes = {"status": "failed", "history": [], "best_epoch": 0, "reason": "loss, NaN"}
            record = dataclasses.replace(record, **changes)
        search.finish(record)
    return search


def test_every_cell_has_a_line_with_all_that_is_known_of_it(sweep):
    search = searched(sweep)
    rows = list(csv.DictReader(io.StringIO(cells_csv(search).decode())))
    assert list(rows[0]) == [
        *("family", "masking.time", "masking.frequency", "seed", "status", "standing"),
        *("recall@10", "mrr", "best_epoch", "seconds", "device", "signature", "reason"),
    ]
    assert [r["signature"] for r in rows] == [search.signature(cell) for _, cell in search.cells()]
    by_state = {
        state: [r for r in rows if r["status"] == state] for state in search.matrix().counts()
    }
    assert {state for state, found in by_state.items() if found} == {"done", "failed", "dropped"}
    assert Counter(row["status"] for row in rows) == search.matrix().counts()
    for row in by_state["done"]:
        record = search.records[row["signature"]]
        assert float(row["recall@10"]) == record.best["recall@10"]
        assert (row["best_epoch"], row["seconds"], row["device"]) == ("1", "12.5", "cpu")
        assert int(row["seed"]) == record.seed
    (lost,) = by_state["failed"]
    assert (lost["family"], lost["seed"], lost["reason"]) == ('a, "b"', "9", "loss, NaN")
    assert (lost["masking.time"], lost["recall@10"]) == ("", "")
    assert {r["standing"] for r in by_state["dropped"]} == {"dropped"}
    assert {r["masking.time"] for r in by_state["dropped"]} == {"0.2"}


def test_means_of_the_table_are_those_of_the_matrix(sweep):
    search = searched(sweep)
    matrix: Matrix = search.matrix()
    rows = list(csv.DictReader(io.StringIO(cells_csv(search).decode())))
    (leader,) = [row for row in matrix.rows if row.family == "line" and row.leads]
    scores = [float(r["recall@10"]) for r in rows if r["standing"] == "leads" and r["masking.time"]]
    assert fmean(scores) == leader.mean


def test_a_sweep_before_its_first_cell_has_a_table_too(sweep):
    rows = list(csv.DictReader(io.StringIO(cells_csv(Search(sweep, Race())).decode())))
    assert {row["status"] for row in rows} == {"waiting"}
    assert len(rows) == sweep.n_cells
