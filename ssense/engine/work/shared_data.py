"""The datasets of a sweep in Ray's object store: one copy on each machine, for all of its cells."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import ray

from ssense.engine.tasks.data_plan import DataPlan
from ssense.training.loop import Data


class SharedData:
    """Datasets that are made when cells first ask for them, and shared from then on.

    Attributes:
        refs: What the datasets are known by in the object store, by digest.
    """

    def __init__(self, data: DataPlan, *, use_gpus: bool) -> None:
        """Share datasets of a plan; use_gpus says whether cells, too, are trained on GPUs."""
        self.refs: dict[str, ray.ObjectRef[Any]] = {}
        self._data = data
        self._use_gpus = use_gpus

    def add(self, wanted: Collection[str]) -> None:
        """Make what is missing of some datasets, by digest, and share those that are not yet.

        Raises:
            UserError: The recording can't be read, or the storage can't be written to.
        """
        missing = [digest for digest in wanted if digest not in self.refs]
        self._data.make(missing, use_gpus=self._use_gpus)
        for digest in missing:  # one at a time in this process: each may be gigabytes
            self.refs |= shared(self._data.load(digest))


def shared(dataset: Data) -> dict[str, ray.ObjectRef[Any]]:
    """Put a dataset into the object store of the running Ray, by its digest."""
    return {dataset.digest: ray.put(dataset)}


def shared_memory() -> int | None:
    """Bytes that datasets may take on the smallest machine that trains; None where none does."""
    sizes = [
        node["Resources"].get("object_store_memory", 0.0)
        for node in ray.nodes()
        if node["Alive"] and node["Resources"].get("CPU")
    ]
    return int(min(sizes)) if sizes else None
