"""What all recipes of features share: frames in time, padding, and the z-score.

A recipe evaluates some rows, such as frequencies, at every `decimation`-th sample of a signal.
Frames at either end are clipped, and each row is normalised over time. Frames of different recipes
therefore line up: frame k is at sample (k + edge_clip) * decimation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch

from ssense.signal.checks import check_choice, check_positive, check_whole

Normalisation = Literal["per_frequency", "none", "log"]
PadDomain = Literal["raw", "raw_masked", "spec"]

_LEAST = 1e-3
"""The least amplitude that a logarithm is taken of, as a share of the largest of its row."""

Lengths = torch.Tensor | np.ndarray | Sequence[int] | int


class FeatureSpec(Protocol):
    """What `features` asks of a recipe: `SuperletSpec`, `FourierSpec` and `BandPowerSpec`.

    Attributes:
        kind: Name of the recipe.
        decimation: Samples from one frame to the next.
        edge_clip: Frames dropped at each end.
        normalisation: How each row is normalised over time.
        pad_domain: What the zeros are that pad a signal at its end.
        n_frequencies: Number of rows.
        maximum_hz: Highest frequency that matters.
        row_labels: Centre frequency in Hz of each row, or its name.
        unit: Unit of the values before they are normalised.
    """

    kind: ClassVar[str]

    @property
    def decimation(self) -> int: ...  # noqa: D102
    @property
    def edge_clip(self) -> int: ...  # noqa: D102
    @property
    def normalisation(self) -> Normalisation: ...  # noqa: D102
    @property
    def pad_domain(self) -> PadDomain: ...  # noqa: D102
    @property
    def n_frequencies(self) -> int: ...  # noqa: D102
    @property
    def maximum_hz(self) -> float: ...  # noqa: D102
    @property
    def row_labels(self) -> Sequence[float] | Sequence[str]: ...  # noqa: D102
    @property
    def unit(self) -> str: ...  # noqa: D102

    def n_frames(self, samples: int) -> int:
        """Frames of a signal of so many samples, after the edges are clipped."""
        ...

    def check_fits(self, sampling_rate_hz: float, samples: int) -> None:
        """Refuse signals that the recipe can't be computed of.

        Raises:
            ValueError: A field does not fit; the message names it.
        """
        ...

    def effect(self, sampling_rate_hz: float) -> dict[str, Any]:
        """What of it makes its values, as plain values: equal where two recipes compute the same.

        `pad_domain` is always there, whether signals are padded or not.
        """
        ...

    def transform(self, signal: torch.Tensor, sampling_rate_hz: float) -> torch.Tensor:
        """Compute the rows of channels [channels, samples], before clipping and normalisation.

        Returns:
            [channels, rows, ceil(samples / decimation)] float32.
        """
        ...


def n_frames(spec: FeatureSpec, samples: int) -> int:
    """Frames of a signal of so many samples, after the edges are clipped."""
    return max(0, math.ceil(samples / spec.decimation) - 2 * spec.edge_clip)


def clipped_samples(spec: FeatureSpec) -> int:
    """Samples at each end of a signal whose frames are clipped."""
    return spec.edge_clip * spec.decimation


def check_layout(spec: FeatureSpec) -> None:
    """Refuse values of the fields that recipes share.

    Raises:
        ValueError: A value is out of range.
    """
    check_whole("decimation", spec.decimation, 1)
    check_whole("edge_clip", spec.edge_clip, 0)
    check_choice("normalisation", spec.normalisation, Normalisation)
    check_choice("pad_domain", spec.pad_domain, PadDomain)


def check_range(minimum_hz: float, maximum_hz: float, n_frequencies: int) -> None:
    """Refuse a range that its number of frequencies can't span.

    Raises:
        ValueError: The range is empty, or one frequency is to span more than itself.
    """
    if n_frequencies > 1 and maximum_hz <= minimum_hz:
        raise ValueError(
            f"maximum_hz must be above minimum_hz, got {minimum_hz:g} to {maximum_hz:g} Hz. Swap "
            "them, or set n_frequencies to 1."
        )
    if n_frequencies == 1 and maximum_hz != minimum_hz:
        raise ValueError(
            f"one frequency cannot span {minimum_hz:g} to {maximum_hz:g} Hz. Raise n_frequencies, "
            "or make maximum_hz equal to minimum_hz."
        )


def check_below_nyquist(
    spec: FeatureSpec, sampling_rate_hz: float, what: str = "maximum_hz"
) -> None:
    """Refuse a specification with frequencies that a sampling rate can't hold.

    Args:
        spec: The specification.
        sampling_rate_hz: Samples per second.
        what: What the message calls the highest frequency.

    Raises:
        ValueError: The highest frequency is not below half the rate.
    """
    check_positive("sampling_rate_hz", sampling_rate_hz)
    if spec.maximum_hz >= sampling_rate_hz / 2:
        raise ValueError(
            f"{what} must be below half the sampling rate, got {spec.maximum_hz:g} Hz at "
            f"{sampling_rate_hz:g} samples per second (half: {sampling_rate_hz / 2:g} Hz). "
            f"Lower {what} or check the sampling rate."
        )


def check_frames(spec: FeatureSpec, samples: int) -> None:
    """Refuse signals that are too short for a frame.

    Raises:
        ValueError: Clipping the edges would leave no frame.
    """
    if spec.n_frames(samples) == 0:
        raise ValueError(
            f"edge_clip {spec.edge_clip} leaves no frame of a signal of {samples} samples "
            f"({math.ceil(samples / spec.decimation)} frames at decimation {spec.decimation}). "
            "Pass a longer signal or lower edge_clip."
        )


def own_frames(lengths: Lengths | None, signal: torch.Tensor, spec: FeatureSpec) -> torch.Tensor:
    """Which frames count as the signal's own, [channels, 1, frames] bool."""
    *leading, samples = signal.shape
    frames = torch.arange(spec.n_frames(samples), device=signal.device)
    if lengths is None or spec.pad_domain == "raw":
        own = torch.full((math.prod(leading), 1), len(frames), device=signal.device)
    else:
        clipped = spec.edge_clip * (2 if spec.pad_domain == "spec" else 1)
        samples_of = _checked_lengths(lengths, leading, samples).to(signal.device)
        own = (samples_of + spec.decimation - 1) // spec.decimation - clipped
    return (frames < own)[:, None]


def _checked_lengths(lengths: Lengths, leading: list[int], samples: int) -> torch.Tensor:
    """Lengths as [channels, 1] int64."""
    given = torch.as_tensor(lengths)
    if given.is_floating_point() or given.is_complex() or given.dtype == torch.bool:
        raise ValueError(f"lengths must be whole numbers, got {given.dtype}.")
    found = given.long()
    if found.numel() and not 0 <= found.min() <= found.max() <= samples:
        raise ValueError(
            f"lengths must be from 0 to the signal's {samples} samples, "
            f"got {int(found.min())} to {int(found.max())}."
        )
    try:
        return found.expand(leading).reshape(-1, 1)
    except RuntimeError:
        raise ValueError(
            f"lengths must have a shape that broadcasts to {leading}, the signal's without its "
            f"samples, got {list(found.shape)}."
        ) from None


def normalise(frames: torch.Tensor, own: torch.Tensor, spec: FeatureSpec) -> torch.Tensor:
    """The last step to features, [channels, rows, frames]; `own` as `own_frames` gives it."""
    if spec.normalisation == "per_frequency":
        frames = _z_score(frames, own)
    elif spec.normalisation == "log":
        frames = _logarithm(frames)
    return torch.where(own, frames, 0.0) if spec.pad_domain == "spec" else frames


def _logarithm(amplitudes: torch.Tensor) -> torch.Tensor:
    """Natural logarithm of [channels, rows, frames]; rows of zeros stay zeros."""
    largest = amplitudes.amax(-1, keepdim=True)
    found = torch.log(amplitudes.clamp(min=_LEAST * largest))
    return torch.where(largest == 0, 0.0, found)


def _z_score(frames: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """Standardise [..., frames] by mean and population sd of those frames that are `own`.

    Rows that are constant there, or have no frame there, become zeros; NaN stays NaN.
    """
    weights = own / own.sum(-1, keepdim=True).clamp(min=1)
    # Minus its first frame, a constant row is exactly zero, and so is its variance.
    shifted = frames - frames[..., :1]
    largest = shifted.abs().amax(-1, keepdim=True)
    shifted /= torch.where(largest == 0, 1.0, largest)  # so that squares do not underflow
    centred = shifted - (shifted * weights).sum(-1, keepdim=True)
    variance = (centred.square() * weights).sum(-1, keepdim=True)
    return torch.where(variance == 0, 0.0, centred / variance.sqrt())


def as_tensor(signal: torch.Tensor | np.ndarray) -> torch.Tensor:
    """Share memory where torch can; it cannot with reversed or read-only arrays.

    Raises:
        ValueError: There is no sample, or the signal is complex.
    """
    if isinstance(signal, torch.Tensor):
        tensor = signal
    else:
        tensor = torch.from_numpy(np.require(signal, requirements=["C", "W"]))
    if tensor.is_complex() or tensor.ndim == 0 or tensor.shape[-1] == 0:
        raise ValueError(
            "signal must be real, [..., samples], with at least one sample, "
            f"got {tensor.dtype} of shape {list(tensor.shape)}."
        )
    return tensor
