from __future__ import annotations

import pytest

from sweeps.engine.ledger import Record
from sweeps.engine.progress import CellProgress, count, duration


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.4, "0 s"),
        (89, "89 s"),
        (95, "2 min"),
        (3599, "1 h"),
        (3600, "1 h"),
        (12000, "3 h 20 min"),
    ],
)
def test_durations_are_short(seconds, shown):
    assert duration(seconds) == shown


@pytest.mark.parametrize(("total", "lines"), [(3, 3), (10, 10), (1000, 10)])
def test_steps_are_counted_ten_times_at_most(total, lines, capsys):
    show = count("shards")
    for done in range(1, total + 1):
        show(done, total)
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == lines
    assert shown[-1] == f"  {total} of {total} shards"
    assert all(line.endswith("shards, about 0 s left") for line in shown[:-1])


def test_a_finished_cell_is_one_line_with_its_score_and_the_time_left(capsys):
    record = Record(
        signature="a",
        configuration={"masking.electrode": 0.25},
        seed=3,
        status="done",
        dataset_digest="d",
        history=[{"epoch": 1, "recall@10": 0.125}, {"epoch": 2, "recall@10": 0.1}],
        best_epoch=1,
        timings={"training": 40.0},
    )
    failed = Record(
        signature="b", configuration={}, seed=4, status="failed", dataset_digest="d", reason="NaN"
    )
    with CellProgress(4, 2, "recall@10") as progress:
        progress.cell("electrode", record)
        progress.cell("no masking", failed)
    first, second = (" ".join(line.split()) for line in capsys.readouterr().out.splitlines())
    assert first == ("1/4 electrode 0.25 seed 3 Recall@10 12.5 % epoch 1 of 2 40 s about 60 s left")
    assert second.startswith("2/4 no masking seed 4 failed: NaN")
