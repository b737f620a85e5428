"""Records of cells that nobody trained."""

from __future__ import annotations

from ssense.engine.core.cell import Cell
from ssense.engine.core.record import Record
from ssense.engine.search.search import Search


def made_record(search: Search, cell: Cell, score: float | None, **changes: object) -> Record:
    """The record of a cell whose only epoch has a Recall@10; of a failure where that is None.

    Args:
        search: The search that asked for the cell.
        cell: The cell of the record.
        score: Recall@10 in validation.
        changes: Fields of the record that are otherwise.
    """
    done = score is not None
    known: dict[str, object] = {
        "signature": search.signature(cell),
        "configuration": cell.configuration,
        "seed": cell.seed,
        "status": "done" if done else "failed",
        "reason": "" if done else "NaN",
        "dataset_digest": search.sweep.dataset_digest,
        "history": [{"epoch": 1, "recall@10": score}] if done else [],
        "best_epoch": int(done),
    }
    return Record(**(known | changes))
