from __future__ import annotations

from sweeps.engine.ledger import Record
from sweeps.engine.plan import Plan, plan_cells, show_sweep
from sweeps.engine.search import Search


def record(search: Search, status: str, seconds: float) -> Record:
    cell = search.next_cell()
    return Record(
        signature=search.signature(cell),
        configuration=cell.configuration,
        seed=cell.seed,
        status=status,
        dataset_digest="tiny",
        timings={"training": seconds},
    )


def test_cells_are_counted_by_state(sweep):
    search = Search(sweep, [], {})
    assert plan_cells(search) == Plan(total=4, done=0, failed=0, seconds_per_cell=None)
    search.finish(record(search, "done", 10.0))
    search.finish(record(search, "done", 30.0))
    search.finish(record(search, "failed", 1.0))
    plan = plan_cells(search)
    assert plan == Plan(total=4, done=2, failed=1, seconds_per_cell=20.0)
    assert plan.to_run == 2


def test_the_time_left_comes_from_the_cells_that_are_done():
    plan = Plan(total=40, done=10, failed=2, seconds_per_cell=60.0)
    assert plan.lines(slots=3) == [
        "  cells: 10 done, 30 to train (2 of them failed before)",
        "  time: about 10 min, 3 at a time",
    ]
    assert Plan(total=4, done=4, failed=0, seconds_per_cell=1.0).lines(slots=2) == [
        "  cells: 4 done, 0 to train"
    ]


def test_the_sweep_is_shown_in_words(sweep, capsys):
    show_sweep(sweep)
    assert capsys.readouterr().out.splitlines() == [
        f"Sweep {sweep.name}: 2 configurations x 2 seeds",
        "  no masking: 1 configuration",
        "  electrode: 1 configuration",
    ]
