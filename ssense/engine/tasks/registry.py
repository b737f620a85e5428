"""Every task by the origin of its data: what the engine asks of it about a sweep that is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from upath import UPath

from ssense.data.dataset import Dataset
from ssense.data.paired import read_paired
from ssense.data.shards import MANIFEST, manifest_of_origin, read_sentences
from ssense.data.things.dataset import ImageDataset
from ssense.engine.core.origin import ImageOrigin, Origin, RecordingOrigin
from ssense.engine.tasks.dataset_plan import dataset_digest, load_dataset, rows_of
from ssense.engine.tasks.feature_making import DATA_REPORT
from ssense.engine.tasks.image_plan import plan_images
from ssense.errors import UserError
from ssense.files.storage import exists
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

    def fault(self, wanted: str) -> str:
        """Why what is kept is not the dataset of a digest; empty where it is, or was deleted.

        Raises:
            UserError: It can't be read.
        """
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
        return f"shards of {folder}, or the target {made.text.name},"

    @property
    def report(self) -> UPath:
        return self.storage / "shards" / self.origin.shards / DATA_REPORT

    def fault(self, wanted: str) -> str:
        made = self.origin.dataset(wanted)
        folder = self.storage / "shards" / made.shards
        if made.text.is_away or not exists(folder / MANIFEST):
            return ""  # deleted shards are made again
        manifest_of_origin(folder)
        table = read_sentences(folder)
        sentences, numbers = tuple(table["text"]), np.array(table["sentence_idx"])
        if made.paired:
            try:
                paired = read_paired(self.storage, made.paired)
                rows = rows_of(paired, numbers, folder)
            except UserError as error:
                return str(error)
            sentences = tuple(sentences[row] for row in rows.tolist())
            numbers = numbers[rows]
        origin = made.text, made.paired, made.electrodes
        found = dataset_digest(folder.name, sentences, numbers.tolist(), *origin)
        if found == wanted:
            return ""
        return (
            f"{folder} holds other sentences than the sweep was planned on (dataset {found}, not "
            f"{wanted}). Delete {folder} and run the sweep again."
        )

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

    def fault(self, wanted: str) -> str:  # noqa: ARG002 - features are checked file by file
        return ""

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
