"""The dataset that a sweep of the storage was trained on, loaded again."""

from __future__ import annotations

from ssense.engine.records.ledger import Ledger
from ssense.engine.tasks.registry import kept_data
from ssense.errors import UserError
from ssense.training.tasks import TaskData


def sweep_dataset(ledger: Ledger) -> TaskData:
    """Load the dataset that a sweep was trained on.

    Raises:
        UserError: The dataset can't be read, or is no longer the same.
    """
    description = ledger.description()
    wanted = description.sweep.dataset_digest
    kept = kept_data(description.origin, ledger.storage)
    data = kept.load()
    if data.digest != wanted:
        raise UserError(
            f"the dataset of {ledger.folder.name} was {wanted}, now it is {data.digest}: "
            f"{kept.parts} have changed. Restore them."
        )
    return data
