"""Encoders of averaged EEG and MEG responses: NeuroBridge's projection and its convolutions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, conv2d, pad

from ssense.errors import UserError

BRAIN_DIMENSIONS = 1024
"""Dimensions of a response's representation, before it is projected to that of the images."""

# Sizes of `TSConv`, as in the code of NICE and NeuroBridge.
_FILTERS, _KERNEL, _POOL, _STRIDE = 40, 25, 51, 5
_ONE_MEAN = _KERNEL + _POOL - 1
LEAST_SAMPLES = _ONE_MEAN + _STRIDE
"""Samples of two means: of one, batch normalisation could not train on a single response."""


class _Residual(nn.Sequential):
    """x + GELU, linear, dropout."""

    def __init__(self, dimensions: int, dropout: float) -> None:
        super().__init__(nn.GELU(), nn.Linear(dimensions, dimensions), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = super().forward(x)  # type: ignore[no-untyped-call]  # torch has none
        return x + added


class _SmoothedConvolution(nn.Conv2d):
    """Filters over time, `[N, 1, C, T]` to `[N, 40, C, means]`, then their running means.

    Both are linear: a filter of 25 samples and a mean over 51 are one filter of 75, computed only
    where a mean is wanted. That saves nine tenths of the time, and the largest tensor.
    """

    def __init__(self) -> None:
        super().__init__(1, _FILTERS, (1, _KERNEL))

    def forward(self, x: Tensor) -> Tensor:
        box = torch.full((1, 1, _POOL), 1 / _POOL, dtype=x.dtype, device=x.device)
        smoothed = conv1d(pad(self.weight.flatten(1, 2), [_POOL - 1] * 2), box)
        return conv2d(x, smoothed.unsqueeze(2), self.bias, stride=(1, _STRIDE))


class EEGProject(nn.Sequential):
    """Maps a response, all channels and samples at once, to a vector: UBP's projection encoder.

    Linear, x + [GELU, linear, dropout 0.3], layer normalisation; as NeuroBridge's code has it.
    Maps `[N, C, T]` to `[N, dimensions]`.

    Args:
        n_channels: C.
        n_samples: T.
        dimensions: Dimensions of the resulting vector.
    """

    def __init__(self, n_channels: int, n_samples: int, dimensions: int = BRAIN_DIMENSIONS) -> None:
        super().__init__(
            nn.Flatten(),
            nn.Linear(n_channels * n_samples, dimensions),
            _Residual(dimensions, dropout=0.3),
            nn.LayerNorm(dimensions),
        )


class TSConv(nn.Sequential):
    """Filters a response over time, then over channels, and projects: NICE's TSConv.

    40 filters of 25 samples, means over 51 samples in steps of 5, batch normalisation, ELU; 40
    filters over all channels, batch normalisation, ELU, dropout 0.5; a 1x1 convolution; then
    linear, x + [GELU, linear, dropout 0.5], layer normalisation; as NeuroBridge's code has it.
    What is projected has 1440 values for 250 samples, 1040 for 200. Maps `[N, C, T]` to
    `[N, dimensions]`.

    Args:
        n_channels: C.
        n_samples: T, at least 80.
        dimensions: Dimensions of the resulting vector.

    Raises:
        UserError: There are too few samples.
    """

    def __init__(self, n_channels: int, n_samples: int, dimensions: int = BRAIN_DIMENSIONS) -> None:
        if n_samples < LEAST_SAMPLES:
            raise UserError(
                f"ts-conv needs responses of at least {LEAST_SAMPLES} samples, these have "
                f"{n_samples}. Give a longer window with `start_s` and `stop_s`, or use "
                "eeg-project."
            )
        n_means = (n_samples - _ONE_MEAN) // _STRIDE + 1
        super().__init__(
            nn.Unflatten(1, (1, n_channels)),
            _SmoothedConvolution(),
            nn.BatchNorm2d(_FILTERS),
            nn.ELU(),
            nn.Conv2d(_FILTERS, _FILTERS, (n_channels, 1)),
            nn.BatchNorm2d(_FILTERS),
            nn.ELU(),
            nn.Dropout(0.5),
            nn.Conv2d(_FILTERS, _FILTERS, 1),
            nn.Flatten(),
            nn.Linear(_FILTERS * n_means, dimensions),
            _Residual(dimensions, dropout=0.5),
            nn.LayerNorm(dimensions),
        )


@dataclass(frozen=True)
class EEGProjectSpec:
    """The projection that NeuroBridge uses within EEG subjects, on the 17 posterior channels.

    Its script for MEG uses it too, on all channels, though its author names the convolutions.
    """

    kind: ClassVar[str] = "eeg-project"

    def build(self, n_channels: int, n_samples: int) -> EEGProject:
        """Build an encoder of responses `[N, n_channels, n_samples]`."""
        return EEGProject(n_channels, n_samples)


@dataclass(frozen=True)
class TSConvSpec:
    """The convolutions that NeuroBridge uses across EEG subjects, on all channels."""

    kind: ClassVar[str] = "ts-conv"

    def build(self, n_channels: int, n_samples: int) -> TSConv:
        """Build an encoder of responses `[N, n_channels, n_samples]`.

        Raises:
            UserError: There are too few samples.
        """
        return TSConv(n_channels, n_samples)
