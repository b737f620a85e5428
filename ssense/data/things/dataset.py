"""A dataset of responses to images: a subject's fold of THINGS and features of the images.

Rows count through the training responses of all subjects, see `folds`, and then through the
test responses; images count through the training images and then the test images.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssense.choices import BEST_TEST_EPOCH, FeatureKind, GalleryName, ImageSplitKind
from ssense.data.splits import Split
from ssense.data.things.averages import Things
from ssense.data.things.folds import FoldKind, make_fold

FOLDS: Mapping[ImageSplitKind, FoldKind] = {
    "intra-subject": "intra-subject",
    "intra-subject, best test epoch": "intra-subject",
    "leave-one-subject-out": "leave-one-subject-out",
    "leave-one-subject-out, best test epoch": "leave-one-subject-out",
}
"""Whom a cell trains on, by the kind of its split."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Batch:
    """N responses, each with what is known of the image that evoked it.

    Attributes:
        signals: Averaged responses `[N, C, T]`, float.
        features: Cached features `[N, F]` float32, of each kind that the objective wants.
        pixels: Pixels of the images, uint8 `[N, 3, S, S]`, where the objective has them in the
            loop.
    """

    signals: Tensor
    features: Mapping[FeatureKind, Tensor] = field(default_factory=dict)
    pixels: Tensor | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageDataset:
    """One subject's fold, in NumPy arrays that the processes of a node and all folds share.

    Attributes:
        digest: Digest of the whole origin: responses, images, their features, the subject.
        things: Responses of all subjects.
        subject: Subject that is tested.
        n_validation: Number of concepts that validation holds out.
        split_seed: Seed that draws them for every cell; None for each cell's own seed.
        features: Features of all images `[I, F]` float32, by kind; a class centre counts as one.
            `[I, L, F]` where layers of the tower are mixed.
        pixels: Pixels of all images `[I, 3, S, S]` uint8, where an objective has them in the loop.
        target: The specification of the tower that `features` are of; None where there is no other.
        others: Features as in `features`, by the specification of another tower, or of another
            layer, that configurations ask for.
    """

    digest: str
    things: Things
    subject: str
    n_validation: int
    features: Mapping[GalleryName, np.ndarray]
    pixels: np.ndarray | None = None
    split_seed: int | None = None
    target: Any = None
    others: Mapping[Any, Mapping[GalleryName, np.ndarray]] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of the responses, features and pixels."""
        pixels = 0 if self.pixels is None else self.pixels.nbytes
        of_towers = (self.features, *self.others.values())
        features = sum(rows.nbytes for kinds in of_towers for rows in kinds.values())
        return self.things.nbytes + features + pixels

    def split(self, kind: ImageSplitKind, seed: int) -> Split:
        """Divide the responses: who is trained on, which concepts are held out, and the test.

        Raises:
            UserError: Too few subjects or concepts, see `make_fold`.
        """
        whom = FOLDS[kind]
        drawn_by = seed if self.split_seed is None else self.split_seed
        fold = make_fold(whom, self.things, self.subject, drawn_by, self.n_validation)
        test = len(self.things.rows("training")) + fold.test
        if not kind.endswith(BEST_TEST_EPOCH):
            return Split(fold.train, fold.validation, test)
        # The peers hold no concept out.
        n_images = len(self.things.training_images)
        subjects = np.unique(fold.train // n_images)
        everything = (subjects[:, None] * n_images + np.arange(n_images)).ravel()
        return Split(everything, test, test)

    @property
    def stimuli(self) -> tuple[str, ...]:
        """The file of each image, "aardvark/aardvark_01b.jpg", training images first."""
        return (*self.things.training_images.files, *self.things.test_images.files)

    def n_candidates(self, split: Split) -> int:
        """Distinct images of the validation, among which each query has to find its own."""
        n_training = len(self.things.rows("training"))
        test = bool((split.validation >= n_training).any())
        n = len(self.things.test_images if test else self.things.training_images)
        return len(np.unique((split.validation - n_training * test) % n))

    def on(self, device: torch.device) -> ImageResponses:
        """All responses on a device; on the CPU they share the arrays' memory."""
        training, test = self.things.rows("training"), self.things.rows("test")
        return ImageResponses(
            training=_tensor(training, device),
            test=_tensor(test, device),
            n_training_images=len(self.things.training_images),
            n_test_images=len(self.things.test_images),
            features=_tensors(self.features, device),
            target=self.target,
            others={tower: _tensors(kinds, device) for tower, kinds in self.others.items()},
            pixels=None if self.pixels is None else _tensor(self.pixels, device),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageResponses:
    """The tensors of a dataset on one device.

    Attributes:
        training: Training responses `[R, C, T]` float32.
        test: Test responses `[Q, C, T]` float32.
        n_training_images: Number of images that the training responses repeat through, in order.
        n_test_images: Number of images that the test responses repeat through, in order.
        features: Features of all images `[I, F]` float32, by kind; `[I, L, F]` of mixed layers.
        pixels: Pixels of all images `[I, 3, S, S]` uint8, or None.
        target: The specification of the tower that these are of, or None, see `ImageDataset`.
        others: Features by the specification of another tower.
    """

    training: Tensor
    test: Tensor
    n_training_images: int
    n_test_images: int
    features: Mapping[GalleryName, Tensor]
    pixels: Tensor | None
    target: Any = None
    others: Mapping[Any, Mapping[GalleryName, Tensor]] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """The device of the tensors."""
        return self.training.device

    def of(self, target: Any) -> Mapping[GalleryName, Tensor]:
        """Features by kind, of the tower and layer of a specification.

        Args:
            target: The specification of the target of a cell; None for that of the dataset.

        Raises:
            ValueError: The dataset has none of that target.
        """
        if target in self.others:
            return self.others[target]
        own = self.target
        # What only times a training has no weights.
        if None in (target, own) or replace(target, weights=own.weights) == own:
            return self.features
        raise ValueError(f"the dataset has no features of {target}")

    def select(self, rows: np.ndarray) -> ImagePairs:
        """Restrict to rows of the training responses, or to rows of the test.

        Raises:
            ValueError: Both training and test rows are among them.
        """
        test = rows >= len(self.training)
        if test.all():
            rows = rows - len(self.training)
            signals, images = self.test, self.n_training_images + rows % self.n_test_images
        elif not test.any():
            signals, images = self.training, rows % self.n_training_images
        else:
            raise ValueError("rows must be all of the training responses or all of the test")
        index = (torch.from_numpy(numbers).to(self.device) for numbers in (rows, images))
        return ImagePairs(self, signals, *index)


@dataclass(frozen=True, eq=False)
class ImagePairs:
    """Selected responses, each paired with the image that evoked it.

    Attributes:
        responses: Tensors of the dataset.
        signals: Signals of the part that the rows count through.
        rows: Rows of the responses, `[N]`.
        images: Image of each response, `[N]`.
    """

    responses: ImageResponses
    signals: Tensor
    rows: Tensor
    images: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def device(self) -> torch.device:
        """The device of the tensors."""
        return self.rows.device

    def batch(
        self, index: Tensor, kinds: Iterable[FeatureKind], *, pixels: bool, target: Any = None
    ) -> Batch:
        """Gather pairs of this selection, with some kinds of features, with or without pixels.

        Args:
            index: Places of the pairs in this selection.
            kinds: Kinds of features.
            pixels: Whether the images are needed.
            target: The specification of the target whose features they are.

        Raises:
            ValueError: Pixels are asked for, and the dataset has none.
        """
        images, features = self.images[index], self.responses.of(target)
        shown = self.responses.pixels if pixels else None
        if pixels and shown is None:
            raise ValueError("an objective has pixels in the loop, and the dataset has none")
        return Batch(
            signals=self.signals[self.rows[index]],
            features={kind: features[kind][images] for kind in kinds},
            pixels=None if shown is None else shown[images],
        )

    def gallery(self) -> tuple[Tensor, Tensor]:
        """The distinct images of the selection `[M]`, and each pair's place among them `[N]`."""
        gallery: tuple[Tensor, Tensor] = torch.unique(self.images, return_inverse=True)
        return gallery


def _tensors(
    arrays: Mapping[GalleryName, np.ndarray], device: torch.device
) -> dict[GalleryName, Tensor]:
    return {kind: _tensor(rows, device) for kind, rows in arrays.items()}


def _tensor(array: np.ndarray, device: torch.device) -> Tensor:
    with warnings.catch_warnings():
        # Arrays out of Ray's object store are read-only, and nothing here writes to them.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array).to(device)
