"""How SSENSE trains: masked batches, InfoNCE, Adam, judged by retrieval (sections 2.4 and 2.5)."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from ssense.data.dataset import Pairs
from ssense.data.splits import BLOCKS, Split, SplitKind, resampled_sizes, split_identity
from ssense.model.encoder import (
    BatchNorm,
    Conv1,
    Precision,
    SpectrogramEncoder,
    build_encoder,
)
from ssense.model.losses import backward_in_chunks, info_nce
from ssense.model.masking import Masking
from ssense.optimiser import Adam
from ssense.precision import full_precision
from ssense.retrieval import retrieval_metrics

IMAGES_PER_PASS = 2048  # of an evaluation: enough to fill a GPU


@dataclass(frozen=True, kw_only=True)
class TrainingSpec:
    """How a cell is trained (SSENSE, section 2.5, and what the paper leaves open).

    Attributes:
        encoder_weights: "imagenet", "random" or a file, see `build_encoder`.
        split: how a seed divides the sentences; `fit` is given the parts.
        chunk: pairs that pass the encoder together. The gradient of a larger batch is that of the
            whole batch, in several passes; batch normalisation then sees a chunk at a time.
        batch_norm: see `SpectrogramEncoder`.
        precision: see `SpectrogramEncoder`; the loss and Adam are float32 in either.
        patience: epochs without a better validation Recall@10 before training stops.
    """

    masking: Masking = field(default_factory=Masking)
    split: SplitKind = "random"
    batch_size: int = 32
    learning_rate: float = 5e-4
    temperature: float = 0.07
    patience: int = 5
    max_epochs: int = 100
    encoder_weights: str = "imagenet"
    conv1: Conv1 = "sum"
    chunk: int = 32
    batch_norm: BatchNorm = "chunk"
    precision: Precision = "float32"

    test_blocks: ClassVar[int] = BLOCKS  # neighbours in a film are alike

    def __post_init__(self) -> None:
        positive = "batch_size", "learning_rate", "temperature", "patience", "max_epochs", "chunk"
        for name in positive:
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.batch_size == 1:
            raise ValueError(
                "batch_size must be at least 2, got 1: the other pairs of a batch "
                "are a pair's negatives, and without any its loss is 0"
            )

    @property
    def shares_test(self) -> bool:
        """Whether all seeds share one test split."""
        return self.split == "held-out"

    def by_content(self) -> TrainingSpec:
        """Name weights from a file by their content, wherever the file lies."""
        from ssense.digest import weights_identity  # reaches into storages, training does not

        return dataclasses.replace(self, encoder_weights=weights_identity(self.encoder_weights))

    def untrained(self) -> TrainingSpec:
        """The same from random weights, which need no download."""
        return dataclasses.replace(self, encoder_weights="random")

    def split_identity(self) -> list[Any]:
        """What the split depends on beside the sentences and the seed, as plain values."""
        return split_identity(self.split)

    def resampled_sizes(self, split: Split) -> tuple[int, int]:
        """Sentences that seeds draw anew for training and test, see `splits.resampled_sizes`."""
        return resampled_sizes(self.split, split)

    def initial(self, train: Pairs) -> SpectrogramEncoder:  # noqa: ARG002 - of any size
        """The encoder that a training starts from, on the CPU."""
        return build_encoder(self.encoder_weights, self.conv1, self.precision, self.batch_norm)

    def optimiser(self, encoder: SpectrogramEncoder) -> Adam:
        """Adam (SSENSE, section 2.5)."""
        return Adam(encoder.parameters(), self.learning_rate)

    def step(
        self,
        encoder: SpectrogramEncoder,
        optimiser: Adam,
        train: Pairs,
        index: Tensor,
        masks: torch.Generator,
    ) -> Tensor:
        """Mask the pairs of an index, and take one step on them.

        Returns:
            The loss of the batch before the step, on its device.
        """
        x, text = train.batch(index)
        return train_step(encoder, optimiser, self.masking.apply(x, masks), text, self)

    def evaluate(self, encoder: SpectrogramEncoder, pairs: Pairs) -> dict[str, float]:
        """Retrieval metrics of a split whose own sentences are the candidates."""
        brain, text = embed(encoder, pairs)
        return retrieval_metrics(brain, text, torch.arange(len(pairs), device=pairs.device))


def train_step(
    encoder: SpectrogramEncoder,
    optimiser: Adam,
    x: Tensor,
    text: Tensor,
    spec: TrainingSpec,
) -> Tensor:
    """Take one step on a masked batch `[B, E, 1, F, T]` and its texts `[B, D]`.

    A single pair has no negatives: its loss and gradient are 0, whatever its embedding. Where it
    can't pass the encoder by itself, there is no step.

    Returns:
        The loss of the batch before the step, on its device.
    """
    if len(x) == 1 and not encoder.trains_on_one(x):
        return torch.zeros((), device=x.device)
    optimiser.zero_grad()
    loss = backward_in_chunks(
        encoder,
        _chunks(encoder, x, spec.chunk),
        lambda brain: info_nce(brain, text, spec.temperature),
    )
    optimiser.step()
    return loss


def _chunks(encoder: SpectrogramEncoder, x: Tensor, size: int) -> tuple[Tensor, ...]:
    """Parts of a batch; one pair that can't pass by itself joins the part before it."""
    if encoder.trains_on_one(x):
        return x.split(size)
    *others, last = x.split(max(size, 2))
    if others and len(last) == 1:
        return *others[:-1], torch.cat([others[-1], last])
    return *others, last


@torch.inference_mode()
def embed(encoder: SpectrogramEncoder, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Brain and sentence embeddings `[N, D]` of a split, in evaluation mode.

    Float32 is float32 here as it was in the training, whatever the process allows.
    """
    encoder.eval()
    index = torch.arange(len(pairs), device=pairs.device)
    parts = index.split(max(1, IMAGES_PER_PASS // pairs.spectrograms.shape[1]))
    with full_precision(pairs.device.type):
        brain, text = zip(*((encoder(x), t) for x, t in map(pairs.batch, parts)), strict=True)
    return torch.cat(brain), torch.cat(text)
