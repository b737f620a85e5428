"""Signals at a lower sampling rate, by a linear-phase filter that lets nothing alias.

A windowed sinc (Kaiser) is applied at the samples of the result alone. It passes what lies below
0.9 times half the new rate, and of what lies above half the new rate it leaves less than 1e-4.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache

import numpy as np

LARGEST_FACTOR = 30_000
"""Largest denominator of the ratio of two rates; `Resampling.rate_hz` says what that gives."""
_LOBES = 64  # of the sinc on either side
_KAISER = 8.0  # side lobes 80 dB down
_CUTOFF = 0.96  # of half the new rate, where half of the amplitude is left


@dataclass(frozen=True)
class Resampling:
    """From one sampling rate to a lower one, sample 0 to sample 0.

    Attributes:
        from_hz: Samples per second of what is resampled.
        to_hz: Samples per second of the result.

    Raises:
        ValueError: The result would have more samples, or far too few.
    """

    from_hz: float
    to_hz: float

    def __post_init__(self) -> None:
        if not 0 < self.to_hz <= self.from_hz:
            raise ValueError(
                f"resample_hz {self.to_hz:g} must be above 0 and at most {self.from_hz:g}, the "
                "recording's samples per second: more would hold nothing new."
            )
        if not self._ratio:
            raise ValueError(
                f"resample_hz {self.to_hz:g} is too little of {self.from_hz:g} "
                "samples per second. Give a higher rate."
            )

    @cached_property
    def _ratio(self) -> Fraction:
        exact = Fraction(self.to_hz).limit_denominator(10**6) / Fraction(
            self.from_hz
        ).limit_denominator(10**6)
        return exact.limit_denominator(LARGEST_FACTOR)

    @property
    def up(self) -> int:
        """Numerator of the ratio of the rates."""
        return self._ratio.numerator

    @property
    def down(self) -> int:
        """Denominator of the ratio of the rates."""
        return self._ratio.denominator

    @property
    def rate_hz(self) -> float:
        """Samples per second of the result: `to_hz`, as near as a ratio of whole numbers is."""
        return self.from_hz * self.up / self.down

    def n_samples(self, n: int) -> int:
        """How many samples of the result lie within n samples of the original."""
        return -(-n * self.up // self.down)

    def span(self, start: int, stop: int, n: int) -> tuple[int, int]:
        """Samples of the original, of n, that samples [start, stop) of the result depend on.

        Its start is one at which the two grids meet.
        """
        reach = _LOBES * max(self.up, self.down)
        first = (start * self.down - reach) // self.up
        last = -(-(stop * self.down + reach) // self.up) + 1
        begin = max(first, 0) // self.down * self.down
        return min(begin, n // self.down * self.down), min(max(last, 0), n)

    def apply(self, signal: np.ndarray, begin: int, start: int, stop: int) -> np.ndarray:
        """Samples [start, stop) of the result.

        Beyond the ends of the recording the signal counts as zero.

        Args:
            signal: Samples of the original from `begin` on, as `span` says, `[samples]`.
            begin: First of them in the original.
            start: First sample of the result.
            stop: The sample of the result after the last.
        """
        from scipy.signal import upfirdn  # takes a second, which workers that train need not wait

        taps, delay = _taps(self.up, self.down)
        made = upfirdn(taps, signal, self.up, self.down)[delay:]
        first = start - begin * self.up // self.down
        found = made[first : first + stop - start]
        return np.pad(found, (0, stop - start - len(found)))


@lru_cache
def _taps(up: int, down: int) -> tuple[np.ndarray, int]:
    """The filter, and its delay in samples of the result: zeros in front make it a whole number."""
    from scipy.signal import firwin

    slower = max(up, down)
    half = _LOBES * slower
    if slower == 1:
        return np.ones(1), 0
    taps = up * firwin(2 * half + 1, _CUTOFF / slower, window=("kaiser", _KAISER))
    in_front = -half % down
    return np.concatenate([np.zeros(in_front), taps]), (half + in_front) // down
