"""Features of a signal by any recipe: superlets, short-time Fourier amplitudes, band power.

    spec = BandPowerSpec(bands="beta+high-gamma")
    features(signal, 1024, spec)  # [..., electrodes, samples] gives [..., electrodes, 2, frames]

A recipe is a frozen specification with its own transform; what they share is in `frames`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from ssense.signal.band_power import BandPowerSpec
from ssense.signal.fourier import FourierSpec
from ssense.signal.frames import FeatureSpec, Lengths, as_tensor, normalise, own_frames
from ssense.signal.superlets import SuperletSpec
from ssense.specification import KIND, identity

AnyFeatureSpec = SuperletSpec | FourierSpec | BandPowerSpec
"""The recipes, by `kind`; see `ssense.signal.frames.FeatureSpec` for what they share."""


_VALUES_AT_ONCE = 2**20  # to normalise: intermediate arrays stay small however many channels


@torch.no_grad()
def features(
    signal: torch.Tensor | np.ndarray,
    sampling_rate_hz: float,
    spec: FeatureSpec,
    lengths: Lengths | None = None,
) -> torch.Tensor:
    """Features as an encoder sees them: edges clipped, each row normalised over time.

    Args:
        signal: [..., samples], real, in any unit; a z-score removes it.
        sampling_rate_hz: Samples per second.
        spec: The recipe: which rows and frames, and whether and how to normalise.
        lengths: Samples of each signal before its padding with zeros, whole numbers of a shape
            that broadcasts to [...]; None if there is no padding. `spec.pad_domain` says what
            they are used for; "raw" does not.

    Returns:
        [..., rows, spec.n_frames(samples)] float32 on the device of the signal. A row that does not
        vary over time becomes zeros under a z-score, and so does a signal that `pad_domain` leaves
        no frame of its own. NaN and infinity make NaN of all frames that they reach, and under a
        z-score of all frames of the channel.

    Raises:
        ValueError: The recipe does not fit the signal, see `FeatureSpec.check_fits`, there is no
            sample, the signal is complex, or `lengths` do not fit it.
    """
    tensor = as_tensor(signal)
    *leading, samples = tensor.shape
    spec.check_fits(float(sampling_rate_hz), samples)
    own = own_frames(lengths, tensor, spec)
    channels = tensor.reshape(math.prod(leading), samples)
    shape = len(channels), spec.n_frequencies, spec.n_frames(samples)
    result = channels.new_empty(shape, dtype=torch.float32)
    at_once = max(1, _VALUES_AT_ONCE // (spec.n_frequencies * samples // spec.decimation + 1))
    for first in range(0, len(channels), at_once):
        rows = slice(first, first + at_once)
        frames = spec.transform(channels[rows], float(sampling_rate_hz))
        result[rows] = normalise(frames.narrow(-1, spec.edge_clip, shape[-1]), own[rows], spec)
    return result.reshape(*leading, *shape[1:])


def half_features(
    signal: torch.Tensor | np.ndarray,
    sampling_rate_hz: float,
    spec: FeatureSpec,
    lengths: Lengths | None = None,
) -> np.ndarray:
    """Features in half precision, as datasets hold them.

    Args:
        signal: Signals as `features` takes them.
        sampling_rate_hz: Samples per second.
        spec: The recipe.
        lengths: Samples of each signal before its padding, see `features`.

    Returns:
        [..., rows, spec.n_frames(samples)] float16 in memory.

    Raises:
        ValueError: See `features`; or a value is beyond half precision.
    """
    found = features(signal, sampling_rate_hz, spec, lengths)
    halved = found.half()
    if not halved.isfinite().all():
        raise ValueError(
            f"features of up to {float(found.abs().max()):.3g} are more than half precision holds, "
            "65504. Set their normalisation to per_frequency, or log to true."
        )
    array: np.ndarray = halved.cpu().numpy()
    return array


def feature_identity(spec: AnyFeatureSpec) -> dict[str, Any]:
    """The identity of a recipe, with its kind where that is not superlets."""
    named = identity(spec)
    return named if isinstance(spec, SuperletSpec) else {**named, KIND: spec.kind}
