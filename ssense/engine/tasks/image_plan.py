"""From responses to images to a dataset: averages, features and pixels, each kept by its origin."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from upath import UPath

from ssense.choices import FEATURE_FILES, FeatureKind, GalleryName, ImageSplitKind
from ssense.cli.screen import step
from ssense.data.splits import Split
from ssense.data.things.averages import Things, read_things
from ssense.data.things.dataset import ImageDataset, ImagePairs
from ssense.data.things.folds import VALIDATION_CONCEPTS
from ssense.data.things.images import ImageSet, list_images
from ssense.data.things.pixels import FORMAT_VERSION as PIXELS_VERSION
from ssense.data.things.pixels import cached_pixels, images_digest
from ssense.engine.core.origin import ImageOrigin, ImageSource, OtherFeatures
from ssense.engine.core.sweep import Family
from ssense.engine.tasks.data_plan import first_poor_split, say_other_code
from ssense.errors import UserError, counted, one_line
from ssense.files.digest import digest
from ssense.files.tensor_file import tensor_code
from ssense.specification import configured
from ssense.targets.galleries import class_centres
from ssense.targets.image_features import FORMAT_VERSION as FEATURES_VERSION
from ssense.targets.image_features import (
    ImageTowerSpec,
    cached_features,
    check_tower,
    feature_code,
    feature_files,
    feature_shape,
    make_features,
    tower_identity,
    tower_px,
)
from ssense.training.images import ImageSpec
from ssense.training.loop import SELECTION_RANK
from ssense.training.process import any_device

_VALIDATION_SHARE = 5  # one in so many of a smaller set's concepts


@dataclass(frozen=True, kw_only=True, eq=False)
class ImagePlan:
    """What a dataset of image decoding will be, known before its images are embedded.

    Attributes:
        source: Where the dataset comes from.
        things: Responses and names of images.
        storage: Storage of what is made.
        n_subjects: How many subjects the same call sweeps.
    """

    source: ImageSource
    things: Things
    storage: UPath
    n_subjects: int = 1

    @cached_property
    def digest(self) -> str:
        """The dataset's digest: responses, images, how they are embedded, the subject.

        Which features and pixels a cell reads follows from its own specification, so that no cell
        depends on the objectives that it is compared with.
        """
        source, tower = self.source, self.source.image_tower
        weights = tower_identity(tower)
        made: list[Any] = [tower.model, weights, tower.fit, tower.image_px]
        made += [FEATURES_VERSION, PIXELS_VERSION]
        # A gallery trains nothing, but validation retrieves from it, which chooses the epoch and is
        # the result that a cell is judged by; where the test chooses, from the other images too.
        if source.gallery == "class-centre":
            made += [source.gallery, self._more_pictures]
        split = source.subject, self.n_validation, source.split_seed
        return digest(self.things.digest, *self._pictures, *made, *split)

    def covering(self, specification: ImageSpec, families: Iterable[Family]) -> ImagePlan:
        """Extend the plan by the features, galleries and pixels that families ask for.

        Raises:
            UserError: A family has a level that is refused, or a tower that can't be read so.
        """
        source = self.source
        kinds, pixels, gallery = {*source.kinds}, source.pixels, source.gallery
        others = {each.tower: {*each.kinds} for each in source.others}
        for family in families:
            for spec in _specifications(specification, family):
                own = spec.target == source.image_tower
                _check_target(spec, family, own=own)
                wanted = kinds if own else others.setdefault(spec.target, set())
                wanted |= {*spec.objective.features}
                pixels |= spec.objective.pixels
                if spec.gallery == "class-centre":
                    gallery = spec.gallery
                wanted.add("original" if spec.gallery == "class-centre" else spec.gallery)
        asked = replace(
            source,
            kinds=tuple(sorted(kinds)),
            pixels=pixels,
            gallery=gallery,
            others=tuple(
                OtherFeatures(tower=tower, kinds=tuple(sorted(of_tower)))
                for tower, of_tower in sorted(others.items(), key=lambda each: each[0].name)
            ),
        )
        return self if asked == source else replace(self, source=asked)

    @property
    def n_validation(self) -> int:
        """Concepts that validation holds out: as many as the test has, or fewer of a small set."""
        concepts = len(self.things.training_images.concepts)
        return min(VALIDATION_CONCEPTS, concepts // _VALIDATION_SHARE)

    def split(self, kind: ImageSplitKind, seed: int) -> Split:
        """Divide the responses as the dataset will.

        Raises:
            UserError: Too few subjects or concepts.
        """
        return self._dataset({}, None).split(kind, seed)

    def check_splits(self, kind: ImageSplitKind, seeds: Iterable[int]) -> None:
        """Refuse too few images to choose an epoch among.

        Raises:
            UserError: The images are too few; the message has their number.
        """
        if poor := first_poor_split(self, kind, seeds):
            concepts = len(self.things.training_images.concepts)
            raise UserError(
                f"{self.source.images}: {counted(concepts, 'concept is', 'concepts are')} too few: "
                f"Recall@{SELECTION_RANK} among {counted(poor[1], 'held-out one')} is not "
                "informative. Give more images."
            )

    def n_candidates(self, split: Split) -> int:
        """Distinct images of the validation, among which each query has to find its own."""
        return self._dataset({}, None).n_candidates(split)

    def examples(self, n: int, device: torch.device) -> ImagePairs:
        """The first n training responses with random features and pixels, to time a training."""
        n_images = len(self.things.training_images) + len(self.things.test_images)
        drawn = np.random.default_rng(0)
        size = n_images, *feature_shape(self.source.image_tower)
        features = {
            kind: drawn.standard_normal(size, np.float32)
            for kind in (*self.source.kinds, self.source.gallery)
        }
        pixels = None
        if self.source.pixels:
            side = self._image_px
            pixels = np.zeros((n_images, 3, side, side), np.uint8)
        dataset = self._dataset(features, pixels)
        return dataset.on(device).select(np.arange(n) % len(self.things.rows("training")))

    def warm(self, specification: ImageSpec, families: Iterable[Family] = ()) -> None:  # noqa: ARG002
        """Embed the images, so that no cell has to.

        Raises:
            UserError: The tower's weights can't be loaded, or an image is damaged.
        """
        assert specification.target == self.source.image_tower
        source, folder = self.source, self.storage / "features"
        others = {each.tower: each.kinds for each in source.others}
        with step(f"Image features: {self.origin().tower}"):
            for pictures in self._images:
                # Layers of one tower share a pass over the images.
                make_features(
                    pictures, {source.image_tower: source.kinds, **others}, folder, any_device()
                )
            self._features()
        say_other_code({path: tensor_code(path) for path in self._feature_files()}, feature_code())

    @property
    def datasets(self) -> dict[str, str]:
        """None: all cells of a sweep share one dataset."""
        return {}

    def lines(
        self,
        specification: ImageSpec,  # noqa: ARG002
        families: Iterable[Family],  # noqa: ARG002
        seeds: Iterable[int],  # noqa: ARG002
    ) -> list[str]:
        """Nothing: there is one dataset, and an encoder is trained with all of its objective."""
        return []

    def check_room(
        self, wanted: Collection[str], shared: int | None, whole: int | None = None
    ) -> None:
        """Nothing: the responses are in memory already."""

    def check_cells(
        self, specification: ImageSpec, families: Iterable[Family], memory: int, *, on_gpu: bool
    ) -> None:
        """Nothing: encoders of averaged responses are small."""

    def is_made(self, wanted: Collection[str]) -> bool:  # noqa: ARG002
        """Nothing is left to make: responses were read, and `warm` embeds the images."""
        return True

    def make(self, wanted: Collection[str], *, use_gpus: bool | None = None) -> None:
        """Nothing, see `is_made`."""

    def load(self, wanted: str) -> ImageDataset:  # noqa: ARG002 - there is one
        """The dataset, with everything that its cells need.

        Raises:
            UserError: The tower's weights can't be loaded, or a file is damaged.
        """
        pixels = None
        if self.source.pixels:
            size, folder = self._image_px, self.storage / "pixels"
            parts = [
                cached_pixels(i, size, self.source.image_tower.fit, folder) for i in self._images
            ]
            pixels = torch.cat(parts).numpy()
        features = self._features()
        others = {each.tower: self._features_of(each.tower, each.kinds) for each in self._others}
        return self._dataset(features, pixels, others)

    def origin(self) -> ImageOrigin:
        """What the sweep keeps of where the dataset comes from."""
        return ImageOrigin(
            title=Path(self.source.responses).name,
            source=self.source,
            test=digest(self._pictures[1], self.source.subject),
        )

    @property
    def _others(self) -> tuple[OtherFeatures, ...]:
        return self.source.others

    def _features(self) -> dict[GalleryName, np.ndarray]:
        return self._features_of(self.source.image_tower, self.source.kinds)

    def _features_of(
        self, tower: ImageTowerSpec, kinds: tuple[FeatureKind, ...]
    ) -> dict[GalleryName, np.ndarray]:
        """Features of all images by one tower, read at one place, by kind."""
        folder, device = self.storage / "features", any_device()
        parts = [cached_features(i, kinds, tower, folder, device) for i in self._images]
        made: dict[GalleryName, Tensor] = {
            kind: torch.cat([part[kind] for part in parts]) for kind in kinds
        }
        if self.source.gallery == "class-centre":
            made["class-centre"] = self._class_centres(tower, parts[0]["original"])
        return {kind: features.numpy() for kind, features in made.items()}

    def _feature_files(self) -> list[UPath]:
        """Where the features are kept that `_features` reads or makes."""
        source, folder = self.source, self.storage / "features"
        of_towers = [(source.image_tower, source.kinds)]
        of_towers += [(each.tower, each.kinds) for each in source.others]
        wanted = [(pictures, *each) for pictures in self._pictures for each in of_towers]
        if source.gallery == "class-centre":
            wanted += [(self._more_pictures, tower, ("original",)) for tower, _ in of_towers]
        return [
            path
            for pictures, tower, kinds in wanted
            for reading in tower.readings()
            for path in feature_files(pictures, kinds, reading, folder).values()
        ]

    def _class_centres(self, tower: ImageTowerSpec, training: Tensor) -> Tensor:
        shown, test = self._images
        more, folder = self._more_images, self.storage / "features"
        others = cached_features(more, ("original",), tower, folder, any_device())["original"]
        return torch.cat([class_centres(shown, shown, training), class_centres(test, more, others)])

    @cached_property
    def _more_images(self) -> ImageSet:
        if not self.source.more_images:
            raise UserError(
                "--gallery class-centre averages other images of the test concepts, but there are "
                "none. Give them with --more-images, a folder with one folder of images per "
                "concept."
            )
        return list_images(Path(self.source.more_images))

    def _dataset(
        self,
        features: dict[GalleryName, np.ndarray],
        pixels: np.ndarray | None,
        others: Mapping[ImageTowerSpec, dict[GalleryName, np.ndarray]] = MappingProxyType({}),
    ) -> ImageDataset:
        return ImageDataset(
            digest=self.digest,
            things=self.things,
            subject=self.source.subject,
            n_validation=self.n_validation,
            features=features,
            pixels=pixels,
            split_seed=self.source.split_seed,
            target=self.source.image_tower,
            others=dict(others),
        )

    @cached_property
    def _pictures(self) -> tuple[str, str]:
        training, test = self._images
        return images_digest(training), images_digest(test)

    @cached_property
    def _more_pictures(self) -> str:
        return images_digest(self._more_images)

    @property
    def _images(self) -> tuple[ImageSet, ImageSet]:
        return self.things.training_images, self.things.test_images

    @cached_property
    def _image_px(self) -> int:
        tower = self.source.image_tower
        return tower.image_px or tower_px(tower.model)


def _specifications(specification: ImageSpec, family: Family) -> Iterator[ImageSpec]:
    """What cells of a family may be trained by, as far as that decides the data they need.

    Raises:
        UserError: A level is refused.
    """
    for changes in family.parts(("gallery", "objective", "target")):
        try:
            yield configured(specification, changes)
        except (TypeError, ValueError) as error:
            raise UserError(f"family {family.name}: {one_line(error)}.") from error


def _check_target(spec: ImageSpec, family: Family, *, own: bool) -> None:
    """Refuse a target of a family that can't be read as it asks.

    Args:
        spec: What a cell of the family is trained by.
        family: The family.
        own: Whether its target is the one that the sweep's specification has.

    Raises:
        UserError: It can't.
    """
    tower = spec.target
    if not own and spec.objective.pixels:
        raise UserError(
            f"family {family.name} varies the target and has {spec.objective.kind}, which takes "
            "the images through the sweep's own tower. Compare towers by other objectives."
        )
    if tower.model == FEATURE_FILES and spec.gallery == "class-centre":
        raise UserError(
            f"family {family.name}: features from files have no class centres. Choose another "
            "`gallery`."
        )
    try:
        check_tower(tower)
    except UserError as error:
        raise UserError(f"family {family.name}: {error}") from error


def plan_images(source: ImageSource, storage: UPath) -> ImagePlan:
    """Read the responses of a source, or their averages from the storage.

    Raises:
        UserError: Something is missing or damaged.
    """
    things = read_things(
        Path(source.responses),
        Path(source.images),
        source.responses_taken,
        source.subjects,
        storage / "responses",
    )
    return ImagePlan(source=source, things=things, storage=storage)
