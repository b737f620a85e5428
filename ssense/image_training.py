"""How image decoding trains: an objective around a brain encoder, judged by retrieval of images."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ssense.choices import (
    UNTRAINED,
    BrainEncoderName,
    GalleryName,
    ImageSplitKind,
    ObjectiveName,
)
from ssense.data.image_dataset import ImagePairs
from ssense.data.splits import Split
from ssense.digest import weights_identity
from ssense.model.brain_encoders import BRAIN_DIMENSIONS, BRAIN_ENCODERS
from ssense.model.image_features import ImageTowerSpec, image_tower
from ssense.model.objectives.infonce import InfoNCESpec
from ssense.model.objectives.neuroclip import NeuroCLIPSpec
from ssense.model.objectives.objective import Objective, ObjectiveSpec
from ssense.model.objectives.ssr import SSRSpec
from ssense.optimiser import Adam
from ssense.precision import full_precision
from ssense.retrieval import retrieval_metrics

RECALL_AT = (1, 5, 10)
"""Top-1 and Top-5 are what the papers report; the search goes by the 10th."""

IMAGES_PER_PASS = 64  # of a gallery that passes a tower


@dataclass(frozen=True, kw_only=True)
class ImageTrainingSpec:
    """How a cell of image decoding is trained; the defaults are NeuroBridge's within a subject.

    Without NeuroBridge's smoothing of the responses, and the last, smaller batch is kept.

    Attributes:
        objective: which of the three below is trained.
        infonce: fields of the objective of that name.
        ssr: likewise.
        neuroclip: likewise.
        encoder: of the brain's responses.
        tower: frozen, of the images.
        gallery: what validation and test retrieve. Where the objective has the images in the loop,
            it is the images themselves.
        split: whom a cell trains on, and what chooses its epoch.
        weight_decay: of AdamW.
        patience: epochs without a better validation Recall@10 before training stops.
    """

    objective: ObjectiveName = "infonce"
    infonce: InfoNCESpec = field(default_factory=InfoNCESpec)
    ssr: SSRSpec = field(default_factory=SSRSpec)
    neuroclip: NeuroCLIPSpec = field(default_factory=NeuroCLIPSpec)
    encoder: BrainEncoderName = "eeg-project"
    tower: ImageTowerSpec = field(default_factory=ImageTowerSpec)
    gallery: GalleryName = "original"
    split: ImageSplitKind = "intra-subject"
    batch_size: int = 1024
    learning_rate: float = 1e-4
    weight_decay: float = 1e-4
    patience: int = 10
    max_epochs: int = 50

    shares_test: ClassVar[bool] = True
    test_blocks: ClassVar[int] = 0  # images are shown in random order
    precision: ClassVar[Literal["float32"]] = "float32"

    def __post_init__(self) -> None:
        for name in ("batch_size", "learning_rate", "patience", "max_epochs"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.batch_size == 1:
            raise ValueError(
                "batch_size must be at least 2, got 1: the other images of a "
                "batch are a response's negatives"
            )
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must not be negative, got {self.weight_decay}")

    @property
    def objective_spec(self) -> ObjectiveSpec:
        """Of the objective that is trained."""
        return getattr(self, self.objective)

    def by_content(self) -> ImageTrainingSpec:
        """Name weights from a file by their content, wherever the file lies."""
        weights = weights_identity(self.tower.weights)
        return dataclasses.replace(self, tower=dataclasses.replace(self.tower, weights=weights))

    def untrained(self) -> ImageTrainingSpec:
        """The same with a random tower, which needs no download."""
        tower = dataclasses.replace(self.tower, weights=UNTRAINED)
        return dataclasses.replace(self, tower=tower)

    def split_identity(self) -> list[Any]:
        """What the split depends on beside the dataset and the seed, as plain values."""
        return [self.split]

    def resampled_sizes(self, split: Split) -> tuple[int, int]:
        """Responses that are trained on, and none for the test: all seeds share it."""
        return len(split.train), 0

    def initial(self, train: ImagePairs) -> Objective:
        """The objective that a training starts from, around a new encoder, on the CPU.

        Raises:
            UserError: the responses don't fit the encoder, or the tower's weights can't be had.
        """
        encoder = BRAIN_ENCODERS[self.encoder](*train.signals.shape[1:])
        return self.objective_spec.build(
            encoder,
            n_brain=BRAIN_DIMENSIONS,
            n_features=train.responses.features[self.gallery].shape[1],
            tower=partial(image_tower, self.tower),
        )

    def optimiser(self, model: Objective) -> Adam:
        """AdamW over all that is trained."""
        return Adam(model.trained().values(), self.learning_rate, self.weight_decay)

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
        spec = self.objective_spec
        loss = model.loss(train.batch(index, spec.features, pixels=spec.pixels))
        loss.backward()
        optimiser.step()
        return loss.detach()

    def evaluate(self, model: Objective, pairs: ImagePairs) -> dict[str, float]:
        """Retrieval metrics of a part among its own images."""
        queries, candidates, targets = self.embed(model, pairs)
        return retrieval_metrics(queries, candidates, targets, RECALL_AT)

    @torch.inference_mode()
    def embed(self, model: Objective, pairs: ImagePairs) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings of responses `[N, D]` and images `[M, D]`, and each response's image `[N]`.

        Float32 is float32 here as it was in the training, whatever the process allows.
        """
        model.eval()
        images, targets = pairs.gallery()
        spec, responses = self.objective_spec, pairs.responses
        shown = responses.pixels if spec.pixels else responses.features[self.gallery]
        with full_precision(pairs.device.type):
            signals = (pairs.signals[rows] for rows in pairs.rows.split(self.batch_size))
            queries = list(map(model.brain, signals))
            candidates = [model.gallery(shown[part]) for part in images.split(IMAGES_PER_PASS)]
        return torch.cat(queries), torch.cat(candidates), targets
