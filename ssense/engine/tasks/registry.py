"""The tasks by name: what the engine asks of each about a sweep that there is already."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from upath import UPath

from ssense.engine.core.origin import ImageOrigin, RecordingOrigin
from ssense.engine.tasks.image_plan import plan_images
from ssense.engine.tasks.precompute import DATA_REPORT, load_dataset
from ssense.training.tasks import TaskData


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task, as far as it is not its specification's business.

    Every function takes the origin that a sweep keeps, of the task's own type, and the storage.

    Attributes:
        load: Loads the dataset that the sweep was trained on; may raise UserError.
        changed: Names, for a message, what must have changed where that is another dataset now.
        data_report: The report on the data, to be shown beside the sweep; None without one.
    """

    load: Callable[[Any, UPath], TaskData]
    changed: Callable[[Any, UPath], str]
    data_report: Callable[[Any, UPath], UPath | None]


def _load_sentences(origin: RecordingOrigin, storage: UPath) -> TaskData:
    return load_dataset(origin.shards, origin.text, storage)


def _load_images(origin: ImageOrigin, storage: UPath) -> TaskData:
    return plan_images(origin.source, storage).load()


def _shards(origin: RecordingOrigin, storage: UPath) -> UPath:
    return storage / "shards" / origin.shards


TASKS: dict[str, Task] = {
    RecordingOrigin.kind: Task(
        load=_load_sentences,
        changed=lambda origin, storage: (
            f"shards of {_shards(origin, storage)}, or the text weights {origin.text.weights},"
        ),
        data_report=lambda origin, storage: _shards(origin, storage) / DATA_REPORT,
    ),
    ImageOrigin.kind: Task(
        load=_load_images,
        changed=lambda *_: "responses, images or tower",
        data_report=lambda *_: None,
    ),
}
"""Every task by the `kind` of its specification, which is that of its origin too."""
