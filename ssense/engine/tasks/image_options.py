"""Options of sweeps on responses to images, with defaults for real and for synthetic data.

Imports that take seconds are inside the functions that need them: flags are checked first.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from ssense.choices import (
    FEATURE_FILES,
    PRETRAINED,
    SMALL_VIT,
    TIMM,
    UNTRAINED,
    BrainEncoderName,
    GalleryName,
    ImagePooling,
    ImageSplitKind,
    ObjectiveName,
)
from ssense.data.synthetic.things_spec import SyntheticThingsSpec
from ssense.engine.core.checks import check_folder, check_weights
from ssense.engine.tasks.engine_options import EngineOptions
from ssense.errors import UserError, counted, one_line, printable

if TYPE_CHECKING:
    from ssense.engine.tasks.image_plan import ImagePlan
    from ssense.targets.image_features import ImageTowerSpec
    from ssense.training.images import ImageSpec


@dataclass(frozen=True, kw_only=True)
class ImageDefaults:
    """Values of the options that are left out."""

    tower: str
    image_weights: str
    batch_size: int
    learning_rate: float
    max_epochs: int
    configurations: int
    seeds: tuple[int, ...]


# NeuroBridge within a subject, with a tower that prompts can be trained in.
REAL = ImageDefaults(
    tower="ViT-B-16-quickgelu",
    image_weights="openai",
    batch_size=1024,
    learning_rate=1e-4,
    max_epochs=50,
    configurations=10,
    seeds=tuple(range(5)),
)
# The same code at a size for two cores and a few minutes, with nothing to download.
SYNTHETIC = ImageDefaults(
    tower=SMALL_VIT,
    image_weights=UNTRAINED,
    batch_size=128,
    learning_rate=5e-4,
    max_epochs=6,
    configurations=2,
    seeds=(0, 1, 2),
)


@dataclass(frozen=True, kw_only=True)
class ImageOptions(EngineOptions):
    """Flags of a sweep on responses to images."""

    groups: ClassVar[Mapping[str, Sequence[str]]] = {
        "data": ("responses", "images", "subjects", "split", "split_seed"),
        "features": ("channels", "start_s", "stop_s", "gallery", "more_images"),
        "training": (
            *("objectives", "ablation", "encoder", "tower", "image_weights", "image_px"),
            *("layer", "mixture", "pooling"),
            *("max_epochs", "batch_size", "learning_rate"),
        ),
    } | {title: names for title, names in EngineOptions.groups.items() if title != "training"}
    above_0: ClassVar[Sequence[str]] = (*EngineOptions.above_0, "batch_size", "learning_rate")

    max_epochs: int | None = None
    """Most epochs of a cell [50; 6 if synthetic]."""
    configurations: int | None = None
    """Configurations to try in each family [10; 2 if synthetic]."""
    seeds: tuple[int, ...] | None = None
    """Seeds that every configuration meets [0 to 4; 0 to 2 if synthetic]."""
    responses: str | None = None
    """Folder with a folder of responses for each subject, as THINGS-EEG2, THINGS-MEG, UBP or
    NeuroBridge have them. Without one, synthetic responses are made [synthetic ones]."""
    images: str | None = None
    """Folder with the image folders [--responses]."""
    subjects: tuple[str, ...] = ()
    """Subjects to sweep [all]."""
    objectives: tuple[ObjectiveName, ...] = ("infonce", "ssr", "neuroclip")
    """What to compare; neuroclip needs a ViT as tower, and has the images in the loop."""
    ablation: bool = False
    """Compare the rows of SSR's ablation instead."""
    split: ImageSplitKind = "intra-subject"
    """Whom a cell trains on: the subject, or all others. Held-out concepts choose its epoch;
    ", best test epoch" chooses by the test, as many papers do, to reproduce them."""
    split_seed: int | None = None
    """Draws the held-out concepts of every cell, so that seeds vary weights, order and masks alone
    [each cell's seed]."""
    encoder: BrainEncoderName = "eeg-project"
    """Brain encoder: a projection, or convolutions over time and channels."""
    channels: Literal["posterior", "all"] = "posterior"
    """Channels over occipital and parietal cortex, or all; MEG has no others."""
    start_s: float = 0.0
    """Start of the window, seconds from the image's onset."""
    stop_s: float = 1.0
    """End of the window; THINGS-EEG2's own files end at 0.8 s."""
    gallery: GalleryName = "original"
    """What stands for an image to be retrieved, where its features are cached; class-centre, the
    mean of others of its concept, is another task."""
    more_images: str | None = None
    """Folder with other images of the test concepts, for class centres [no others]."""
    tower: str | None = None
    """Name of the frozen image tower in open_clip; timm/NAME for one of timm, such as
    timm/vit_base_patch14_dinov2.lvd142m; or files, for features that were made elsewhere
    [ViT-B-16-quickgelu; small-vit if synthetic]."""
    image_weights: str | None = None
    """Weights of the image tower: a tag of open_clip, pretrained of timm, a local file, untrained,
    or the folder of the files [untrained; openai or pretrained with --responses]."""
    image_px: int | None = None
    """Side of the images that the tower takes, pixels [the tower's own]."""
    layer: int | None = None
    """Layer of the tower to read in place of its output, from 1 [output]."""
    mixture: str = ""
    """Layers to mix by learned weights in place of the output: "3 6 9", or all [the output
    alone]."""
    pooling: ImagePooling = "cls"
    """What stands for an image in a layer: its class token, or the mean of its patches."""
    batch_size: int | None = None
    """Pairs per training batch [1024; 128 if synthetic]."""
    learning_rate: float | None = None
    """Learning rate of AdamW [1e-4; 5e-4 if synthetic]."""
    synthetic: SyntheticThingsSpec = field(
        default_factory=lambda: SyntheticThingsSpec(subjects=2, test_concepts=100, image_px=64)
    )
    """The synthetic data to make."""

    def __post_init__(self) -> None:
        """Refuse data or weights that are not there, and objectives missing or repeated."""
        super().__post_init__()
        if self.responses is None and self.images is not None:
            raise UserError("--images is given without --responses. Give both, or neither.")
        check_folder("--responses", self.responses)
        check_folder("--images", self.images)
        check_folder("--more-images", self.more_images)
        self._check_weights()
        if not self.objectives or len({*self.objectives}) < len(self.objectives):
            given = " ".join(self.objectives)
            raise UserError(f"--objectives {given} is empty or names one twice. Give each once.")
        if self.split_seed is not None and self.split_seed < 0:
            raise UserError(f"--split-seed must be 0 or more, got {self.split_seed}.")
        if not -math.inf < self.start_s < self.stop_s < math.inf:
            raise UserError(f"--stop-s must be above --start-s {self.start_s}, got {self.stop_s}.")

    def _check_weights(self) -> None:
        tower, given = self.value("tower"), self.image_weights
        if tower == FEATURE_FILES:
            check_folder("--image-weights", given)
            if given is None:
                raise UserError(
                    f"--tower {FEATURE_FILES} reads features that were made elsewhere. Give their "
                    "folder with --image-weights."
                )
        elif tower.startswith(TIMM):
            names = (PRETRAINED, UNTRAINED)
            if given is not None and given not in names and not os.path.isfile(given):
                raise UserError(
                    f"--image-weights {printable(given)}: no such file. Give "
                    f"{' or '.join(names)}, or the path of a file."
                )
        else:
            check_weights("--image-weights", given, (UNTRAINED,), tower=tower)

    @property
    def _compared(self) -> tuple[ObjectiveName, ...]:
        return ("ssr",) if self.ablation else self.objectives

    @property
    def defaults(self) -> ImageDefaults:
        """What stands in for options left out."""
        return SYNTHETIC if self.responses is None else REAL

    def image_tower(self) -> ImageTowerSpec:
        """The frozen tower."""
        from ssense.targets.image_features import ImageTowerSpec

        model, weights = self.value("tower"), self.weights("image_weights")
        if model.startswith(TIMM) and self.image_weights is None and self.responses is not None:
            weights = PRETRAINED
        if model == FEATURE_FILES:
            weights = str(Path(weights).resolve())  # workers run in other folders
        try:
            return ImageTowerSpec(
                model=model,
                weights=weights,
                image_px=self.image_px,
                layer=self.layer,
                mixture=self.mixture,
                pooling=self.pooling,
            )
        except ValueError as error:
            raise UserError(f"{one_line(error)}.") from error

    def n_layers(self) -> int:
        """Layers of the tower, a Transformer.

        Raises:
            UserError: The tower is not a Transformer.
        """
        from ssense.targets.image_features import tower_layers

        return tower_layers(self.value("tower"))

    def specification(self) -> ImageSpec:
        """What makes a cell's result, of the objective that takes longest: the plan goes by it.

        Raises:
            UserError: A value is out of range.
        """
        from ssense.specification import configured
        from ssense.training.images import ImageSpec, ImageTrainingSpec

        values = {name: self.value(name) for name in ("batch_size", "learning_rate", "max_epochs")}
        longest = max(self._compared, key=get_args(ObjectiveName).index)
        try:
            spec = ImageSpec(
                split=self.split,
                target=self.image_tower(),
                gallery=self.gallery,
                training=ImageTrainingSpec(**values),
            )
            return configured(spec, {"encoder": self.encoder, "objective": longest})
        except ValueError as error:
            raise UserError(f"{one_line(error)}.") from error

    def datasets(self) -> Iterator[ImagePlan]:
        """A dataset for each subject.

        Raises:
            UserError: Responses or images can't be read, or the storage can't be written to.
        """
        from ssense.cli.screen import step
        from ssense.data.things.averages import subject_names
        from ssense.data.things.responses import ResponseSpec
        from ssense.engine.core.origin import ImageSource
        from ssense.engine.tasks.image_plan import plan_images
        from ssense.files.storage import open_storage
        from ssense.specification import configured
        from ssense.targets.image_features import check_tower

        tower = self.image_tower()
        if self.tower is not None or self.image_weights is not None or not tower.is_output:
            check_tower(tower)
        responses = self._synthetic_data() if self.responses is None else Path(self.responses)
        found = subject_names(responses, self.subjects)
        specification = self.specification()
        objectives = [
            configured(specification, {"objective": name}).objective for name in self._compared
        ]
        kinds = {"original" if self.gallery == "class-centre" else self.gallery}
        kinds = kinds.union(*(objective.features for objective in objectives))
        alone = self.split.startswith("intra-subject")
        plan: ImagePlan | None = None
        swept = self.subjects or found
        for subject in swept:
            source = ImageSource(
                responses=str(responses.resolve()),
                images=str(Path(self.images or responses).resolve()),
                subject=subject,
                # Others are trained on as well where one is left out, whichever are swept.
                subjects=(subject,) if alone else subject_names(responses),
                responses_taken=ResponseSpec(
                    channels=self.channels, start_s=self.start_s, stop_s=self.stop_s
                ),
                image_tower=specification.target,
                kinds=tuple(sorted(kinds)),
                pixels=any(objective.pixels for objective in objectives),
                gallery=self.gallery,
                more_images=str(Path(self.more_images).resolve()) if self.more_images else "",
                split_seed=self.split_seed,
            )
            if plan is None or alone:
                with step(f"Reading {', '.join(source.subjects)}"):
                    plan = plan_images(source, open_storage(self.storage))
            else:
                plan = dataclasses.replace(plan, source=source)  # all folds share one copy
            yield dataclasses.replace(plan, n_subjects=len(swept))

    def _synthetic_data(self) -> Path:
        from ssense.cli.screen import say, step
        from ssense.data.synthetic.things import write_synthetic_things
        from ssense.files.digest import digest
        from ssense.files.storage import is_local, open_storage

        storage = open_storage(self.storage)
        if not is_local(storage):
            raise UserError(
                f"synthetic responses need a local --storage, not {storage}. Make them by python "
                "-m ssense.data.synthetic.things FOLDER, and give --responses FOLDER."
            )
        folder = (
            Path(str(storage)) / "recordings" / f"synthetic-things-{digest(self.synthetic)[:8]}"
        )
        say(f"No --responses given: using synthetic ones, in {folder}")
        say("Nothing is downloaded: the image tower is small and untrained by default.")
        made = self.synthetic
        n_images = made.concepts * made.images_per_concept + made.test_concepts
        with step(f"  {counted(made.subjects, 'subject')}, {counted(n_images, 'image')}"):
            write_synthetic_things(folder, made)
        return folder
