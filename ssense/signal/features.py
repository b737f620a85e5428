"""Features of a signal by any recipe: superlets, short-time Fourier amplitudes, band power.

    spec = BandPowerSpec(bands="beta+high-gamma")
    features(signal, 1024, spec)  # [..., electrodes, samples] gives [..., electrodes, 2, frames]

A recipe is a frozen specification with its own transform; what they share is in `frames`.
"""

from __future__ import annotations

import math
from dataclasses import replace
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


def reach_s(spec: AnyFeatureSpec, sampling_rate_hz: float, most_s: float) -> np.ndarray:
    """How far to either side of its sample a frame sees, [rows] seconds, up to some seconds.

    Beyond it an impulse counts for less than a tenth of the amplitude, or a hundredth of the power,
    of one at the frame itself.

    Args:
        spec: The recipe.
        sampling_rate_hz: Samples per second.
        most_s: What the distance is bounded by, as where signals are cut, in seconds.
    """
    every, least, averaged_s = replace(spec, decimation=1), 0.1, 0.0
    if isinstance(every, BandPowerSpec):  # averaged between frames
        every, least = replace(every, log=False), 0.01
        averaged_s = spec.decimation / sampling_rate_hz / 2
    half = math.ceil(most_s * sampling_rate_hz) + 1
    impulse = torch.zeros(1, 2 * half)
    impulse[0, half] = 1.0
    seen = every.transform(impulse, sampling_rate_hz)[0]
    distance = (torch.arange(2 * half) - half).abs()
    furthest = (distance * (seen >= least * seen[:, [half]])).amax(dim=1).double().numpy()
    reach: np.ndarray = np.minimum(furthest / sampling_rate_hz + averaged_s, most_s)
    return reach


def feature_identity(spec: AnyFeatureSpec) -> dict[str, Any]:
    """The identity of a recipe, with its kind where that is not superlets."""
    named = identity(spec)
    return named if isinstance(spec, SuperletSpec) else {**named, KIND: spec.kind}
