"""Every task by the origin of its data: what the engine asks of it about a sweep that is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from upath import UPath

from ssense.data.dataset import Dataset
from ssense.data.paired import read_paired
from ssense.data.things.dataset import ImageDataset
from ssense.engine.core.origin import ImageOrigin, Origin, RecordingOrigin
from ssense.engine.tasks.dataset_plan import load_dataset
from ssense.engine.tasks.feature_making import DATA_REPORT
from ssense.engine.tasks.image_plan import plan_images
from ssense.training.tasks import TaskData


class KeptData(Protocol):
    """The data that a sweep was trained on, as far as the storage still has them."""

    def parts(self, wanted: str) -> str:
        """What must have changed, for a message, where the dataset of a digest is another now."""
        ...

    @property
    def report(self) -> UPath | None:
        """The report on the data, to be shown beside the sweep; None without one."""
        ...

    def load(self, wanted: str) -> TaskData:
        """The dataset of a digest.

        Raises:
            UserError: It can't be read.
        """
        ...


@dataclass(frozen=True)
class _Sentences:
    origin: RecordingOrigin
    storage: UPath

    def parts(self, wanted: str) -> str:
        made = self.origin.dataset(wanted)
        folder = self.storage / "shards" / made.shards
        return f"shards of {folder}, or the text weights {made.text.weights},"

    @property
    def report(self) -> UPath:
        return self.storage / "shards" / self.origin.shards / DATA_REPORT

    def load(self, wanted: str) -> Dataset:
        made = self.origin.dataset(wanted)
        paired = read_paired(self.storage, made.paired) if made.paired else None
        return load_dataset(made.shards, made.text, self.storage, paired, made.electrodes)


@dataclass(frozen=True)
class _Images:
    origin: ImageOrigin
    storage: UPath

    report = None

    def parts(self, wanted: str) -> str:  # noqa: ARG002 - there is one dataset
        return "responses, images or tower"

    def load(self, wanted: str) -> ImageDataset:  # noqa: ARG002
        plan = plan_images(self.origin.source, self.storage)
        return plan.load(plan.digest)


def kept_data(origin: Origin, storage: UPath) -> KeptData:
    """The data of a sweep by the origin that it keeps, which is of its task's own type."""
    match origin:
        case RecordingOrigin():
            return _Sentences(origin, storage)
        case ImageOrigin():
            return _Images(origin, storage)
