"""Masking of spectrogram batches: Algorithms 1 and 2 of SSENSE."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Masking:
    """Share of electrodes, frequencies and time frames set to zero in each training sample.

    Raises:
        ValueError: A ratio lies outside [0, 1).
    """

    electrode: float = 0.0
    frequency: float = 0.0
    time: float = 0.0

    def __post_init__(self) -> None:
        for name, ratio in vars(self).items():
            _check_ratio(f"{name} masking ratio", ratio)

    def apply(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Mask a training batch `[B, E, C, F, T]`: Algorithm 1, then Algorithm 2."""
        x = mask_time_frequency(x, self.frequency, self.time, generator)
        return mask_electrodes(x, self.electrode, generator)


def mask_time_frequency(
    x: Tensor, frequency_ratio: float, time_ratio: float, generator: torch.Generator
) -> Tensor:
    """Zero whole frequency rows and time columns of each sample (SSENSE, Algorithm 1).

    Each sample draws its own floor(frequency_ratio * F) rows and floor(time_ratio * T) columns
    without replacement; its electrodes share them.

    Args:
        x: Spectrograms `[B, E, C, F, T]`; not changed. Returned as they are where both ratios are
            0.
        frequency_ratio: Share of the F frequencies, in [0, 1).
        time_ratio: Share of the T frames, in [0, 1).
        generator: Source of the indices, on the device of `x`.

    Raises:
        ValueError: `x` has not five axes, or a ratio lies outside [0, 1).
    """
    _check_axes(x)
    _check_ratio("frequency_ratio", frequency_ratio)
    _check_ratio("time_ratio", time_ratio)
    x = _mask_axis(x, 3, frequency_ratio, generator)
    return _mask_axis(x, 4, time_ratio, generator)


def mask_electrodes(x: Tensor, ratio: float, generator: torch.Generator) -> Tensor:
    """Zero floor(ratio * E) whole electrodes of each sample (SSENSE, Algorithm 2).

    Args:
        x: Spectrograms `[B, E, C, F, T]`; not changed. Returned as they are where the ratio is 0.
        ratio: Share of the E electrodes, in [0, 1).
        generator: Source of the indices, on the device of `x`.

    Raises:
        ValueError: `x` has not five axes, or the ratio lies outside [0, 1).
    """
    _check_axes(x)
    _check_ratio("ratio", ratio)
    return _mask_axis(x, 1, ratio, generator)


def masked_count(ratio: float, n: int) -> int:
    """How many of n indices a ratio masks: floor(ratio * n)."""
    return math.floor(ratio * n)


def _mask_axis(x: Tensor, axis: int, ratio: float, generator: torch.Generator) -> Tensor:
    n_samples, n = x.shape[0], x.shape[axis]
    count = masked_count(ratio, n)
    if count == 0:
        return x
    # The first indices of a random permutation are a draw without replacement, for all samples
    # at once.
    order = torch.rand(n_samples, n, generator=generator, device=x.device).argsort(dim=1)
    mask = torch.zeros(n_samples, n, dtype=torch.bool, device=x.device)
    mask.scatter_(1, order[:, :count], value=True)
    shape = [n_samples if a == 0 else n if a == axis else 1 for a in range(x.ndim)]
    return x.masked_fill(mask.view(shape), 0)


def _check_axes(x: Tensor) -> None:
    if x.ndim != 5:
        raise ValueError(
            f"x must be [batch, electrodes, channels, frequencies, frames], got {list(x.shape)}"
        )


def _check_ratio(name: str, ratio: float) -> None:
    if not 0 <= ratio < 1:
        raise ValueError(f"{name} must be in [0, 1), got {ratio}")
