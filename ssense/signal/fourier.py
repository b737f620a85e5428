"""Short-time Fourier amplitudes: one window length for all frequencies.

With a Hann window w of N samples around each frame, and x zero outside its samples:

    S[f, n] = 2 |Σ_m x[n + m] w[m] exp(-2πi f m / rate)| / Σ_m w[m]        in the unit of x

A sine of amplitude A at f therefore gives A, where the window holds two periods or more. The
frequencies are those that are asked for, not multiples of rate / N; at such multiples the values
are those of the usual short-time Fourier transform. BrainBERT compares superlets with windows of
400 samples at 2048 Hz and 40 frequencies up to 200 Hz (Wang et al., ICLR 2023), which the defaults
follow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn.functional import pad

from ssense.signal.checks import check_positive, check_whole
from ssense.signal.frames import (
    Normalisation,
    PadDomain,
    check_below_nyquist,
    check_frames,
    check_layout,
    check_range,
    n_frames,
)
from ssense.specification import plain

_VALUES_AT_ONCE = 2**22  # of windows: overlapping ones hold each sample many times


@dataclass(frozen=True, kw_only=True)
class FourierSpec:
    """Short-time Fourier amplitudes: which are computed, and how they are laid out.

    Attributes:
        window_s: Length of the Hann window in seconds, above 0 and at most that of a signal;
            default 0.2. It resolves frequencies 2 / `window_s` apart; those below that are blurred
            with offsets and drifts.
        minimum_hz: Lowest frequency in Hz, above 0 and below `maximum_hz`; default 5.
        maximum_hz: Highest frequency in Hz, below half of the sampling rate; default 200.
        n_frequencies: Number of linearly spaced frequencies, both ends included, a whole number
            from 1; default 40. One frequency needs `minimum_hz` and `maximum_hz` to be equal.
        decimation: Samples from one frame to the next, a whole number from 1; default 50, as of
            superlets.
        edge_clip: Frames dropped at each end, where the signal's ends blur them, a whole number
            from 0; default 5, as of superlets.
        normalisation: "per_frequency" (default) z-scores every frequency over time (population
            sd). "none" leaves amplitudes in the unit of the signal. "log" takes their natural
            logarithm, in which frequencies are alike in size and no frame depends on another, but
            that a thousandth of a frequency's largest is the least.
        pad_domain: What the zeros are that pad a signal at its end. "raw" (default) takes them for
            signal, as superlets do. "raw_masked" takes mean and sd of the z-score from the frames
            before them. "spec" pads the spectrogram instead: edges are clipped at the signal's own
            end, the z-score is over its own frames, and zeros follow.

    Raises:
        ValueError: A value is out of its range, or two do not fit; the message names the fields.
    """

    window_s: float = 0.2
    minimum_hz: float = 5.0
    maximum_hz: float = 200.0
    n_frequencies: int = 40
    decimation: int = 50
    edge_clip: int = 5
    normalisation: Normalisation = "per_frequency"
    pad_domain: PadDomain = "raw"

    kind: ClassVar[str] = "fourier"
    unit: ClassVar[str] = "µV"

    def __post_init__(self) -> None:
        for name in ("window_s", "minimum_hz", "maximum_hz"):
            check_positive(name, getattr(self, name))
        check_whole("n_frequencies", self.n_frequencies, 1)
        check_range(self.minimum_hz, self.maximum_hz, self.n_frequencies)
        check_layout(self)

    @property
    def row_labels(self) -> list[float]:
        """Centre frequencies in Hz."""
        labels: list[float] = np.linspace(
            self.minimum_hz, self.maximum_hz, self.n_frequencies
        ).tolist()
        return labels

    def n_frames(self, samples: int) -> int:
        """Frames of a spectrogram of so many samples, after the edges are clipped."""
        return n_frames(self, samples)

    def check_fits(self, sampling_rate_hz: float, samples: int) -> None:
        """Refuse signals of too low a rate, too short for a frame or the window, by ValueError."""
        check_below_nyquist(self, sampling_rate_hz)
        check_frames(self, samples)
        if self.window_s * sampling_rate_hz > samples:
            raise ValueError(
                f"window_s must be at most the length of a signal, {samples / sampling_rate_hz:g} "
                f"s, got {self.window_s:g}. Lower it, or pass a longer signal."
            )

    def effect(self, sampling_rate_hz: float) -> dict[str, Any]:
        """What of it makes its values: the window by its samples."""
        return plain(self) | {
            "window_s": self._half_window(sampling_rate_hz),
            "minimum_hz": float(self.minimum_hz),
            "maximum_hz": float(self.maximum_hz),
        }

    def _half_window(self, sampling_rate_hz: float) -> int:
        """Half of the window's length in samples."""
        return max(1, round(self.window_s * sampling_rate_hz / 2))

    def transform(self, signal: torch.Tensor, sampling_rate_hz: float) -> torch.Tensor:
        """Amplitudes of channels [channels, samples], in double precision within.

        Returns:
            [channels, frequencies, ceil(samples / decimation)] float32 in the unit of the signal.
        """
        basis = torch.from_numpy(self._basis(sampling_rate_hz)).to(signal.device)
        channels, samples = signal.shape
        frames, length = math.ceil(samples / self.decimation), len(basis)
        last = (frames - 1) * self.decimation + length // 2  # sample that the last window ends at
        padded = pad(signal.double(), (length // 2, max(0, last - samples)))
        windows = padded.unfold(-1, length, self.decimation)[:, :frames]
        result = signal.new_empty((channels, self.n_frequencies, frames), dtype=torch.float32)
        at_once = max(1, _VALUES_AT_ONCE // length)
        for row in range(channels):
            for first in range(0, frames, at_once):
                part = slice(first, first + at_once)
                cosines, sines = (windows[row, part] @ basis).chunk(2, dim=-1)
                result[row, :, part] = torch.hypot(cosines, sines).T
        return result

    def _basis(self, sampling_rate_hz: float) -> np.ndarray:
        """Windowed cosines, then sines, of each frequency, [window, 2 * frequencies] float64."""
        half = self._half_window(sampling_rate_hz)
        times_s = np.arange(-half, half)[:, None] / sampling_rate_hz
        window = (1 + np.cos(np.pi * np.arange(-half, half) / half))[:, None]
        angles = 2 * np.pi * times_s * np.array(self.row_labels)
        basis: np.ndarray = np.hstack([np.cos(angles), np.sin(angles)]) * window
        basis *= 2 / window.sum()
        return basis
