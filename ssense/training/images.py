"""How image decoding trains: an objective around a brain encoder, judged by retrieval of images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ssense.choices import BEST_TEST_EPOCH, UNTRAINED, GalleryName, ImageSplitKind
from ssense.data.splits import Split
from ssense.data.things.dataset import ImagePairs
from ssense.files.weights import load_weights
from ssense.model.brain_encoders import BRAIN_DIMENSIONS, EEGProjectSpec, TSConvSpec
from ssense.model.objectives.contrast import Contrastive
from ssense.model.objectives.infonce import InfoNCESpec
from ssense.model.objectives.neuroclip import IMAGES_PER_PASS, NeuroCLIPSpec
from ssense.model.objectives.objective import Objective
from ssense.model.objectives.ssr import SSRSpec
from ssense.precision import full_precision
from ssense.specification import configured, require_positive
from ssense.targets.image_features import ImageTowerSpec, image_tower, tower_identity
from ssense.training.loop import LEARNED, SELECTION_RANK, Embeddings
from ssense.training.optimiser import Adam


@dataclass(frozen=True, kw_only=True)
class ImageTrainingSpec:
    """How an objective of image decoding is trained; the defaults are NeuroBridge's in a subject.

    Responses are not smoothed as NeuroBridge does, and the last, smaller batch is kept.

    Attributes:
        batch_size: Pairs of a step.
        learning_rate: Learning rate of AdamW.
        weight_decay: Weight decay of AdamW.
        patience: Epochs without a better validation Recall@10 before training stops.
        max_epochs: The most epochs.

    Raises:
        ValueError: A value is out of range, or a batch has no negatives.
    """

    batch_size: int = 1024
    learning_rate: float = 1e-4
    weight_decay: float = 1e-4
    patience: int = 10
    max_epochs: int = 50

    precision: ClassVar[Literal["float32"]] = "float32"

    def __post_init__(self) -> None:
        require_positive(self, "batch_size", "learning_rate", "patience", "max_epochs")
        if self.batch_size == 1:
            raise ValueError(
                "batch_size must be at least 2, got 1: negatives are the other images of a batch"
            )
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must not be negative, got {self.weight_decay}")


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """What makes the result of a cell that retrieves images, besides its dataset and seed.

    Attributes:
        split: Whom a cell trains on, and what chooses its epoch.
        encoder: The network that embeds the brain's responses.
        target: The frozen tower that embeds the images.
        gallery: What validation and test retrieve. Where the objective has the images in the loop,
            it is the images themselves.
        objective: What is trained around the encoder, and its loss.
        training: How that is minimised.

    Raises:
        ValueError: The objective has the images in the loop, and the gallery is not the images, or
            a layer inside the tower is read.
    """

    split: ImageSplitKind = "intra-subject"
    encoder: EEGProjectSpec | TSConvSpec = field(default_factory=EEGProjectSpec)
    target: ImageTowerSpec = field(default_factory=ImageTowerSpec)
    gallery: GalleryName = "original"
    objective: InfoNCESpec | SSRSpec | NeuroCLIPSpec = field(default_factory=InfoNCESpec)
    training: ImageTrainingSpec = field(default_factory=ImageTrainingSpec)

    kind: ClassVar[str] = "images"
    stimulus: ClassVar[str] = "image"
    primary: ClassVar[str] = "recall@1"
    # Top-1 and Top-5 are what papers report; the search goes by the 10th.
    recall_at: ClassVar[tuple[int, ...]] = (1, 5, SELECTION_RANK)
    shares_test: ClassVar[bool] = True
    test_blocks: ClassVar[int] = 0  # images are shown in random order
    data_groups: ClassVar[tuple[str, ...]] = ()
    unused: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if self.objective.pixels and self.gallery != "original":
            raise ValueError(
                f"gallery is {self.gallery}, but {self.objective.kind} retrieves the images "
                "themselves, and galleries don't mix in a table: set it to original, or leave "
                f"{self.objective.kind} out"
            )

        if self.objective.pixels and not self.target.is_output:
            raise ValueError(
                f"{self.objective.kind} runs the images through the whole tower: leave `layer` and "
                f"`mixture` out, or {self.objective.kind} out of `objectives`"
            )

    @property
    def chosen_by_test(self) -> bool:
        """Whether the test itself chooses the epochs, and so the configurations."""
        return self.split.endswith(BEST_TEST_EPOCH)

    def by_content(self) -> ImageSpec:
        """Name weights from a file by their content, wherever the file lies."""
        return configured(self, {"target.weights": tower_identity(self.target)})

    def untrained(self) -> ImageSpec:
        """The same specification with a random tower, which needs no download."""
        return configured(self, {"target.weights": UNTRAINED})

    def split_identity(self) -> list[Any]:
        """What the split depends on besides the dataset and the seed, as plain values."""
        return [self.split]

    def cell_split(self, split: Split, seed: int) -> Split:  # noqa: ARG002 - as sentences have it
        """The split of a seed as a cell has it: whole."""
        return split

    def resampled_sizes(self, split: Split) -> tuple[int, int]:
        """Responses to train on, and 0 for the test, because all seeds share it."""
        return len(split.train), 0

    def initial(self, train: ImagePairs) -> Objective:
        """The objective that a training starts from, around a new encoder, on the CPU.

        Raises:
            UserError: The responses don't fit the encoder, or the tower's weights can't be loaded.
        """
        encoder = self.encoder.build(*train.signals.shape[1:])
        shown = train.responses.of(self.target)[self.gallery].shape[1:]
        return self.objective.build(
            encoder,
            n_brain=BRAIN_DIMENSIONS,
            n_features=shown[-1],
            n_layers=shown[0] if self.target.mixture else None,
            tower=partial(image_tower, self.target),
        )

    def optimiser(self, model: Objective) -> Adam:
        """AdamW over all parameters that are trained."""
        return Adam(
            model.trained().values(), self.training.learning_rate, self.training.weight_decay
        )

    def step(
        self,
        model: Objective,
        optimiser: Adam,
        train: ImagePairs,
        index: Tensor,
        masks: torch.Generator,  # noqa: ARG002 - objectives draw from the global generator
    ) -> Tensor:
        """Take one step on the pairs of an index.

        Returns:
            The loss of the batch before the step, on its device.
        """
        optimiser.zero_grad()
        spec = self.objective
        pairs = train.batch(index, spec.features, pixels=spec.pixels, target=self.target)
        loss = model.loss(pairs)
        loss.backward()
        optimiser.step()
        return loss.detach()

    def rebuild(self, state: Mapping[str, Tensor], pairs: ImagePairs) -> Objective:
        """The trained objective of a state dictionary, on the device of some pairs.

        Raises:
            ValueError: The state is another model's.
            UserError: The tower's weights can't be read.
        """
        model = self.initial(pairs)
        load_weights(model, state)
        return model.to(pairs.device)

    def learned(self, model: Objective) -> dict[str, float]:
        """The weight of each layer, where layers are mixed."""
        if not self.target.mixture or not isinstance(model, Contrastive):
            return {}
        pairs = zip(self.target.mixed_layers(), model.layer_weights(), strict=True)
        return {f"{LEARNED}layer {layer}": weight for layer, weight in pairs}

    def check_state(self, state: Mapping[str, Tensor]) -> None:
        """Nothing: the shapes of an objective come from the responses, and may be any."""

    @torch.inference_mode()
    def embed(self, model: Objective, pairs: ImagePairs) -> Embeddings:
        """Embed the responses of a part beside the images that they are to, in evaluation mode.

        Float32 is float32 here as it was in the training, whatever the process allows.
        """
        model.eval()
        images, truth = pairs.gallery()
        spec, responses = self.objective, pairs.responses
        shown = responses.pixels if spec.pixels else responses.of(self.target)[self.gallery]
        if shown is None:
            raise ValueError("the objective has the images in the loop, and the dataset no pixels")
        with full_precision(pairs.device.type):
            signals = (pairs.signals[rows] for rows in pairs.rows.split(self.training.batch_size))
            queries = list(map(model.brain, signals))
            candidates = [model.gallery(shown[part]) for part in images.split(IMAGES_PER_PASS)]
        return Embeddings(torch.cat(queries), torch.cat(candidates), truth, images)
