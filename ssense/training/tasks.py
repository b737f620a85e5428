"""The tasks that cells train: each has a specification, whose `kind` is the task's name."""

from __future__ import annotations

from ssense.data.dataset import Dataset, Pairs
from ssense.data.things.dataset import ImageDataset, ImagePairs
from ssense.training.images import ImageSpec
from ssense.training.sentences import SentenceSpec

TaskSpec = SentenceSpec | ImageSpec
TaskData = Dataset | ImageDataset
TaskPart = Pairs | ImagePairs
