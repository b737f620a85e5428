"""The data of a sweep that is in the storage."""

from __future__ import annotations

from ssense.engine.records.ledger import Ledger
from ssense.engine.tasks.registry import TASKS
from ssense.errors import UserError
from ssense.training.tasks import TaskData


def sweep_dataset(ledger: Ledger) -> TaskData:
    """Load the dataset that a sweep was trained on.

    Raises:
        UserError: The dataset can't be read, or is no longer the same.
    """
    description = ledger.description()
    origin, wanted = description.origin, description.sweep.dataset_digest
    task = TASKS[description.task]
    data = task.load(origin, ledger.storage)
    if data.digest != wanted:
        raise UserError(
            f"the dataset of {ledger.folder.name} was {wanted}, now it is {data.digest}: "
            f"{task.changed(origin, ledger.storage)} have changed. Restore them."
        )
    return data
