"""A linear encoder, which ridge regression starts and contrastive training continues."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool1d

from ssense.choices import Precision
from ssense.data.dataset import Pairs
from ssense.files.weights import load_weights
from ssense.model.encoders.encoder import Encoder, EncoderSpec
from ssense.specification import require_positive

Start = Literal["ridge", "random"]

_PENALTIES = torch.logspace(-3, 5, 33, dtype=torch.float64)
"""Penalties to choose from, in mean eigenvalues of the kernel."""


class LinearEncoder(Encoder):
    """A linear map of the spectrograms of all electrodes, averaged in a few windows of time.

    Args:
        precision: See `Encoder`.
        features: Number P of values that a sentence has: electrodes x frequencies x windows.
        windows: Windows that the frames are averaged in.
        dimensions: Dimensions D of the embedding.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, precision: Precision, features: int, windows: int, dimensions: int) -> None:
        super().__init__(precision)
        self.windows = windows
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("spread", torch.ones(features))
        self.map = nn.Linear(features, dimensions)

    def features(self, x: Tensor) -> Tensor:
        """Values `[B, P]` of spectrograms `[B, E, 1, F, T]`, in spreads from their means."""
        values: Tensor = (_windows(x, self.windows) - self.mean) / self.spread
        return values

    def embed(self, x: Tensor, dtype: torch.dtype) -> Tensor:  # noqa: ARG002 - autocast has it
        """Embed spectrograms as `[B, D]`."""
        embeddings: Tensor = self.map(self.features(x))
        return embeddings

    def contributions(self, x: Tensor) -> Tensor:
        """What each electrode of `[B, E, 1, F, T]` adds to the bias: `[B, E, D]`, in float32."""
        values = self.features(x).unflatten(1, (x.shape[1], -1))
        weights = self.map.weight.unflatten(1, (x.shape[1], -1))
        return torch.einsum("bep,dep->bed", values, weights)


@dataclass(frozen=True, kw_only=True)
class LinearSpec(EncoderSpec):
    """A linear encoder: the baseline that a deep one has to beat.

    Attributes:
        windows: Windows that the frames are averaged in, of equal length but for rounding.
        start: What contrastive training starts from: "ridge", the ridge regression of the targets
            on the training features, whose penalty has the least error where each sentence is left
            out; or "random" weights.
    """

    kind: ClassVar[str] = "linear"

    windows: int = 8
    start: Start = "ridge"

    def __post_init__(self) -> None:
        require_positive(self, "windows")

    @property
    def fits_at_start(self) -> bool:
        """Whether training starts from a regression."""
        return self.start == "ridge"

    def build(self, train: Pairs, precision: Precision) -> LinearEncoder:
        """The encoder that a training on some pairs starts from, see `EncoderSpec`."""
        values, targets = _training_values(train, self.windows)
        encoder = LinearEncoder(precision, values.shape[1], self.windows, targets.shape[1])
        encoder.mean.copy_(values.mean(dim=0))
        spread = values.std(dim=0)
        encoder.spread.copy_(torch.where(spread > 0, spread, 1))  # what never varies says nothing
        if self.start == "ridge":
            weights, bias = ridge((values - encoder.mean) / encoder.spread, targets)
            with torch.no_grad():
                encoder.map.weight.copy_(weights)
                encoder.map.bias.copy_(bias)
        return encoder

    def rebuild(self, state: Mapping[str, Tensor], precision: Precision) -> LinearEncoder:
        """The trained encoder of a state dictionary, see `EncoderSpec`."""
        weights = state.get("map.weight")
        dimensions, features = (
            weights.shape if weights is not None and weights.ndim == 2 else (1, 1)
        )
        with torch.device("meta"):
            encoder = LinearEncoder(precision, features, self.windows, dimensions)
        load_weights(encoder, state, assign=True)
        return encoder

    def untrained(self) -> Self:
        """The same specification with random weights."""
        return replace(self, start="random")


def ridge(features: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Ridge regression with the penalty of least error where each row is left out, closed form.

    With the kernel K of the N centred features, a penalty a, and the dual weights
    c = (K + aI)^-1 Y, the error of row i left out is c_i / (d_i - 1 / (N a)), where d is the
    diagonal of (K + aI)^-1 (Golub, Heath and Wahba 1979, with a constant that is not penalised).

    Args:
        features: Values `[N, P]` to predict from.
        targets: Embeddings `[N, D]` to predict.

    Returns:
        Weights `[D, P]` and constants `[D]`, float32.
    """
    x, y = features.double(), targets.double()
    centre, constant = x.mean(dim=0), y.mean(dim=0)
    x, y = x - centre, y - constant
    values, vectors = torch.linalg.eigh(x @ x.T)
    values = values.clamp(min=0)
    turned, square = vectors.T @ y, vectors.square()
    penalties = _PENALTIES * values.mean().clamp(min=torch.finfo(torch.float64).tiny)

    def dual(penalty: Tensor) -> Tensor:
        weights: Tensor = vectors @ (turned / (values + penalty)[:, None])
        return weights

    def error_left_out(penalty: Tensor) -> float:
        left = square @ (1 / (values + penalty)) - 1 / (len(x) * penalty)
        return float((dual(penalty) / left[:, None]).square().mean())

    weights = dual(min(penalties, key=error_left_out))
    of_features = weights.T @ x
    return of_features.float(), (constant - of_features @ centre).float()


def _training_values(train: Pairs, windows: int) -> tuple[Tensor, Tensor]:
    """Values `[N, P]` and targets `[N, D]` of training pairs, float32 on the CPU."""
    index = torch.arange(len(train), device=train.device)
    parts = [train.batch(part) for part in index.split(64)]
    values = torch.cat([_windows(x, windows).cpu() for x, _ in parts])
    return values, torch.cat([targets.float().cpu() for _, targets in parts])


def _windows(x: Tensor, windows: int) -> Tensor:
    """Means `[B, P]` of spectrograms `[B, E, 1, F, T]` in windows of their frames, float32."""
    return adaptive_avg_pool1d(x.float().flatten(1, 3), windows).flatten(1)
