"""All cells of a search as one table, for use with other tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ssense.engine.core.cell import Cell
from ssense.engine.core.matrix import standing
from ssense.engine.core.record import Record
from ssense.engine.search.search import Search
from ssense.files.tables import csv_table
from ssense.training.loop import validation_metrics

CELLS_FILE = "cells.csv"


def cells_csv(search: Search) -> bytes:
    """Write a line for each cell of the configurations proposed so far, also of those not run.

    Columns are family, the fields that any configuration names, seed, status and standing of the
    configuration; for a finished cell, its best epoch's validation metrics (fractions) and that
    epoch; seconds of training, device, signature, and why it failed. Unknown values are empty.
    """
    return csv_table(cell_rows(search)).encode()


def cell_rows(search: Search) -> list[dict[str, object]]:
    """The lines of the table, with the same columns each."""
    fields = dict.fromkeys(name for row in search.rows for name in row.configuration)
    done = [record for row in search.rows for record in search.done(row.configuration)]
    metrics = dict.fromkeys(name for record in done for name in validation_metrics(record.best))
    lines = []
    for row, shown in zip(search.rows, search.matrix().rows, strict=True):
        swept = {name: row.configuration.get(name, "") for name in fields}
        for seed, state in zip(search.sweep.seeds, shown.states, strict=True):
            cell = Cell(row.configuration, seed)
            lines.append(
                {
                    "family": row.family,
                    **swept,
                    "seed": seed,
                    "status": state,
                    "standing": standing(shown),
                    **_result(search.record(cell), list(metrics)),
                    "signature": search.signature(cell),
                    "reason": _reason(search.record(cell)),
                }
            )
    return lines


def _result(record: Record | None, metrics: Sequence[str]) -> dict[str, object]:
    done = record if record is not None and record.done else None
    best: Mapping[str, float] = done.best if done else {}
    return {
        **{name: best.get(name, "") for name in metrics},
        "best_epoch": done.best_epoch if done else "",
        "seconds": record.timings.get("training", "") if record else "",
        "device": record.device if record else "",
    }


def _reason(record: Record | None) -> str:
    return record.reason if record else ""
