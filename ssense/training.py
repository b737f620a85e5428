"""One cell: an encoder trained on one split with one configuration, until it stops improving."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssense.data.dataset import Pairs
from ssense.data.splits import SplitKind
from ssense.model.encoder import (
    BatchNorm,
    Conv1,
    Precision,
    SpectrogramEncoder,
    build_encoder,
)
from ssense.model.losses import backward_in_chunks, info_nce
from ssense.model.masking import Masking
from ssense.retrieval import retrieval_metrics

SELECTION_METRIC = "recall@10"
IMAGES_PER_PASS = 2048  # of an evaluation: enough to fill a GPU, and less than a training step's


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

    def __post_init__(self) -> None:
        positive = "batch_size", "learning_rate", "temperature", "patience", "max_epochs", "chunk"
        for name in positive:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A trained cell: the history of its epochs and the encoder of the best one.

    Attributes:
        history: per epoch, from 1: training loss and the validation metrics.
        best_epoch: the first epoch with the highest validation Recall@10.
        encoder: state dictionary of that epoch, on the CPU.
    """

    history: list[dict[str, float]]
    best_epoch: int
    encoder: dict[str, Tensor]

    @property
    def best(self) -> dict[str, float]:
        """Metrics of the best epoch."""
        return self.history[self.best_epoch - 1]


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """Where a training stands after an epoch: all that `fit` needs to go on bitwise the same.

    Its tensors are those of the running training, not copies, so that making one is free. They
    change with the next epoch: write them down before `on_epoch` returns.

    Attributes:
        history: as in `Fit`, up to this epoch.
        best_epoch: as in `Fit`, up to this epoch.
        best_encoder: state dictionary of the best epoch, on the CPU.
        encoder: state dictionary of this epoch.
        moments: Adam's state by "key/parameter": "exp_avg/resnet.conv1.weight".
        order: state of the generator of the batches' order, uint8.
        masks: state of the generator of the masks, uint8.
    """

    history: tuple[dict[str, float], ...]
    best_epoch: int
    best_encoder: Mapping[str, Tensor]
    encoder: Mapping[str, Tensor]
    moments: Mapping[str, Tensor]
    order: Tensor
    masks: Tensor


class NonFiniteLossError(ArithmeticError):
    """The training loss became NaN or infinite."""


class Stream(IntEnum):
    """Independent random streams of a seed, so that masks don't shift the order of batches."""

    WEIGHTS = 1
    ORDER = 2
    MASKS = 3


def fit(
    train: Pairs,
    validation: Pairs,
    spec: TrainingSpec,
    seed: int,
    *,
    on_epoch: Callable[[Checkpoint], Any] = lambda _: None,
    resume: Checkpoint | None = None,
) -> Fit:
    """Train an encoder with early stopping on validation Recall@10 (SSENSE, section 2.5).

    The same seed gives every configuration the same initial weights and order of batches. An
    interrupted training, resumed from a checkpoint, ends as it would have without interruption.

    Args:
        train: the training split, on the device to train on.
        validation: the validation split, on the same device.
        spec: hyperparameters.
        seed: seeds weights, order and masks.
        on_epoch: called after each epoch with where the training stands.
        resume: where to go on, reached with the same splits, specification and seed on the same
            kind of device; it is not changed.

    Raises:
        NonFiniteLossError: the loss of an epoch is not finite.
    """
    device = train.text.device
    encoder = initial_encoder(spec, seed).to(device)
    optimiser = torch.optim.Adam(encoder.parameters(), lr=spec.learning_rate, fused=True)
    order = torch.Generator().manual_seed(stream_seed(seed, Stream.ORDER))
    masks = torch.Generator(device).manual_seed(stream_seed(seed, Stream.MASKS))

    history: list[dict[str, float]] = []
    best_epoch, best_state = 0, {}
    if resume is not None:
        history += resume.history
        best_epoch, best_state = resume.best_epoch, dict(resume.best_encoder)
        encoder.load_state_dict(resume.encoder)
        _set_moments(optimiser, encoder, resume.moments)
        order.set_state(resume.order)
        masks.set_state(resume.masks)
    while len(history) < min(spec.max_epochs, best_epoch + spec.patience):
        loss = _train_epoch(encoder, optimiser, train, spec, order, masks)
        metrics = evaluate(encoder, validation)
        history.append({"epoch": len(history) + 1, "loss": loss, **metrics})
        if not best_epoch or metrics[SELECTION_METRIC] > history[best_epoch - 1][SELECTION_METRIC]:
            best_epoch, best_state = len(history), _cpu_copy(encoder)
        on_epoch(
            Checkpoint(
                history=tuple(history),
                best_epoch=best_epoch,
                best_encoder=best_state,
                encoder=encoder.state_dict(),
                moments=_moments(optimiser, encoder),
                order=order.get_state(),
                masks=masks.get_state(),
            )
        )
    return Fit(history=history, best_epoch=best_epoch, encoder=best_state)


def initial_encoder(spec: TrainingSpec, seed: int) -> SpectrogramEncoder:
    """The encoder that a training starts from, on the CPU."""
    torch.manual_seed(stream_seed(seed, Stream.WEIGHTS))
    return build_encoder(spec.encoder_weights, spec.conv1, spec.precision, spec.batch_norm)


def evaluate(encoder: SpectrogramEncoder, pairs: Pairs) -> dict[str, float]:
    """Retrieval metrics of a split whose own sentences are the candidates."""
    targets = torch.arange(len(pairs), device=pairs.text.device)
    brain, text = embed(encoder, pairs)
    return retrieval_metrics(brain, text, targets)


@torch.inference_mode()
def embed(encoder: SpectrogramEncoder, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Brain and sentence embeddings `[N, D]` of a split, in evaluation mode."""
    encoder.eval()
    index = torch.arange(len(pairs), device=pairs.text.device)
    parts = index.split(max(1, IMAGES_PER_PASS // pairs.spectrograms.shape[1]))
    brain, text = zip(*((encoder(x), t) for x, t in map(pairs.batch, parts)), strict=True)
    return torch.cat(brain), torch.cat(text)


def stream_seed(seed: int, stream: Stream) -> int:
    """Derive the seed of one random stream; distinct (seed, stream) pairs are independent."""
    return int(np.random.SeedSequence([seed, stream]).generate_state(1, np.uint64)[0])


def _train_epoch(
    encoder: SpectrogramEncoder,
    optimiser: torch.optim.Optimizer,
    train: Pairs,
    spec: TrainingSpec,
    order: torch.Generator,
    masks: torch.Generator,
) -> float:
    device = train.text.device
    encoder.train()
    total = torch.zeros((), device=device)  # summed on the device: no wait inside the epoch
    for index in torch.randperm(len(train), generator=order).to(device).split(spec.batch_size):
        x, text = train.batch(index)
        x = spec.masking.apply(x, masks)
        loss = train_step(encoder, optimiser, x, text, spec)
        total += loss * len(index)
    mean = total.item() / len(train)
    if not np.isfinite(mean):
        raise NonFiniteLossError(f"the training loss became {mean}")
    return mean


def train_step(
    encoder: SpectrogramEncoder,
    optimiser: torch.optim.Optimizer,
    x: Tensor,
    text: Tensor,
    spec: TrainingSpec,
) -> Tensor:
    """Take one step on a masked batch `[B, E, 1, F, T]` and its texts `[B, D]`.

    Returns:
        The loss of the batch before the step, on its device.
    """
    optimiser.zero_grad()
    loss = backward_in_chunks(
        encoder, x.split(spec.chunk), lambda brain: info_nce(brain, text, spec.temperature)
    )
    optimiser.step()
    return loss


def _cpu_copy(encoder: SpectrogramEncoder) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in encoder.state_dict().items()}


def _moments(optimiser: torch.optim.Adam, encoder: SpectrogramEncoder) -> dict[str, Tensor]:
    return {
        f"{key}/{name}": tensor
        for name, parameter in encoder.named_parameters()
        for key, tensor in optimiser.state[parameter].items()
    }


def _set_moments(
    optimiser: torch.optim.Adam, encoder: SpectrogramEncoder, moments: Mapping[str, Tensor]
) -> None:
    for label, tensor in moments.items():
        key, _, name = label.partition("/")
        parameter = encoder.get_parameter(name)
        optimiser.state[parameter][key] = tensor.to(parameter.device, copy=True)
