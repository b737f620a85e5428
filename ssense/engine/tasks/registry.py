"""Every task by the origin of its data: what the engine asks of it about a sweep that is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from upath import UPath

from ssense.data.dataset import Dataset
from ssense.data.things.dataset import ImageDataset
from ssense.engine.core.origin import ImageOrigin, Origin, RecordingOrigin
from ssense.engine.tasks.image_plan import plan_images
from ssense.engine.tasks.precompute import DATA_REPORT, load_dataset
from ssense.training.tasks import TaskData


class KeptData(Protocol):
    """The data that a sweep was trained on, as far as the storage still has them."""

    @property
    def parts(self) -> str:
        """What must have changed, for a message, where they are another dataset now."""
        ...

    @property
    def report(self) -> UPath | None:
        """The report on the data, to be shown beside the sweep; None without one."""
        ...

    def load(self) -> TaskData:
        """The dataset.

        Raises:
            UserError: It can't be read.
        """
        ...


@dataclass(frozen=True)
class _Sentences:
    origin: RecordingOrigin
    storage: UPath

    @property
    def parts(self) -> str:
        return f"shards of {self._shards}, or the text weights {self.origin.text.weights},"

    @property
    def report(self) -> UPath:
        return self._shards / DATA_REPORT

    @property
    def _shards(self) -> UPath:
        return self.storage / "shards" / self.origin.shards

    def load(self) -> Dataset:
        return load_dataset(self.origin.shards, self.origin.text, self.storage)


@dataclass(frozen=True)
class _Images:
    origin: ImageOrigin
    storage: UPath

    parts = "responses, images or tower"
    report = None

    def load(self) -> ImageDataset:
        return plan_images(self.origin.source, self.storage).load()


def kept_data(origin: Origin, storage: UPath) -> KeptData:
    """The data of a sweep by the origin that it keeps, which is of its task's own type."""
    match origin:
        case RecordingOrigin():
            return _Sentences(origin, storage)
        case ImageOrigin():
            return _Images(origin, storage)
