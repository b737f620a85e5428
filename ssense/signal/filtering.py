"""Line-noise notches, as BrainBERT applies them.

BrainBERT notches first, neighbours included, and re-references after that. Both are linear, so the
order changes nothing but the cost.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np


def notch_filter(
    signal: np.ndarray,
    sampling_rate_hz: float,
    line_hz: float = 60.0,
    highest_hz: float = 360.0,
    quality: float = 30.0,
) -> np.ndarray:
    """Remove line noise and its harmonics with causal second-order notches, one after another.

    The filters start from rest, so the result is only right from `notch_warm_up_seconds` on: pass
    that much signal before the part you want, and drop it afterwards.

    Args:
        signal: [..., samples], in any unit.
        sampling_rate_hz: Samples per second.
        line_hz: Frequency of the mains, 60 or 50 Hz.
        highest_hz: The last harmonic to remove; those at or above half the sampling rate are
            left out as well.
        quality: Each frequency divided by the width of its notch at -3 dB.

    Returns:
        The shape and unit of `signal`, float64.

    Raises:
        ValueError: An argument is not positive, or no harmonic can be removed.
    """
    from scipy.signal import sosfilt  # takes a second, which workers that train need not wait for

    sections = notch_sections(sampling_rate_hz, line_hz, highest_hz, quality)
    return sosfilt(sections, np.asarray(signal, dtype=np.float64), axis=-1)


def notches_hz(sampling_rate_hz: float, line_hz: float, highest_hz: float) -> np.ndarray:
    """Centre of each notch of `notch_filter` in Hz, ascending; none where the rate holds none."""
    harmonics_hz = line_hz * np.arange(1, math.floor(highest_hz / line_hz) + 1)
    held: np.ndarray = harmonics_hz[harmonics_hz < sampling_rate_hz / 2]
    return held


@lru_cache
def notch_sections(
    sampling_rate_hz: float, line_hz: float, highest_hz: float, quality: float
) -> np.ndarray:
    """The cascade of `notch_filter`: [harmonics, 6] second-order sections, lowest first."""
    from scipy.signal import iirnotch

    _check_positive(
        sampling_rate_hz=sampling_rate_hz, line_hz=line_hz, highest_hz=highest_hz, quality=quality
    )
    harmonics_hz = notches_hz(sampling_rate_hz, line_hz, highest_hz)
    if len(harmonics_hz) == 0:
        raise ValueError(
            f"line_hz {line_hz:g} must be at most highest_hz, {highest_hz:g}, and below half the "
            f"sampling rate, {sampling_rate_hz / 2:g} Hz. Skip the notch, or check the rate."
        )
    return np.stack([np.hstack(iirnotch(hz, quality, fs=sampling_rate_hz)) for hz in harmonics_hz])


def notch_warm_up_seconds(
    sampling_rate_hz: float,
    line_hz: float = 60.0,
    highest_hz: float = 360.0,
    quality: float = 30.0,
    tolerance: float = 1e-10,
) -> float:
    """How long `notch_filter` takes to forget that it started from rest.

    A filter rings as its slowest pole does. A notch of width `line_hz / quality` rings as
    exp(-π t line_hz / quality) at any sampling rate, and its harmonics, which are wider, ring for
    less: 4.03 s with the defaults. Only a harmonic within half its width of half the sampling rate
    rings for longer. How the notches excite each other stays within the factor of ten allowed here.

    Returns:
        Seconds after which the output differs from that of a filter that has always been running
        by less than `tolerance` times the largest magnitude that its input ever had.
    """
    _check_positive(tolerance=tolerance)
    sections = notch_sections(sampling_rate_hz, line_hz, highest_hz, quality)
    slowest = max(abs(pole) for section in sections for pole in np.roots(section[3:]))
    return math.log(10 / tolerance) / (-math.log(slowest) * sampling_rate_hz)


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a finite number above 0, got {value!r}.")
