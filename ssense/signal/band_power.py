"""Power of a signal in frequency bands, such as high gamma, over time.

A band is cut out by a Butterworth filter of order 4 that runs forwards and backwards (zero phase),
and the power is the squared magnitude of the analytic signal, averaged between frames:

    g(f) = 1 / (1 + ((f² - l h) / (f (h - l))) ** 8)       for a band from l to h Hz
    z    = inverse FFT of 2 g(f) X(f), f > 0               x zero outside its samples
    P[n] = mean of |z|² over `decimation` samples around n, in the squared unit of x

A sine of amplitude A at the centre of a band, √(l h), gives A², and at its edges A² / 4. That the
Hilbert transform of a filtered signal serves as well as Fourier's or wavelets is shown in Bruns
2004, "Fourier-, Hilbert- and wavelet-based signal analysis: are they really different approaches?",
Journal of Neuroscience Methods 137. High gamma in speech: Mesgarani and Chang 2012, Nature 485.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn.functional import pad

from ssense.signal.frames import (
    Normalisation,
    PadDomain,
    check_below_nyquist,
    check_frames,
    check_layout,
    n_frames,
)
from ssense.specification import plain

BANDS_HZ: Mapping[str, tuple[float, float]] = {
    "delta": (1.0, 4.0),
    "theta": (4.0, 8.0),
    "alpha": (8.0, 13.0),
    "beta": (13.0, 30.0),
    "gamma": (30.0, 70.0),
    "high-gamma": (70.0, 150.0),
}
"""Lower and upper edge of each known band."""

ORDER = 4
_RING = 8.0  # over a band's width in Hz: seconds after which its filter has faded to 1e-4
_LEAST_POWER = 1e-6  # of a channel's largest; below it are padding and silence
_BYTES_AT_ONCE = 2**26
_RANGE = re.compile(r"(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)")


@dataclass(frozen=True, kw_only=True)
class BandPowerSpec:
    """Power in frequency bands: of which bands, and how it is laid out.

    Attributes:
        bands: Names of bands, joined by "+", each a row of the features: "delta" (1-4 Hz), "theta"
            (4-8), "alpha" (8-13), "beta" (13-30), "gamma" (30-70), "high-gamma" (70-150), or edges
            in Hz such as "70-150"; default "high-gamma". Their edges are below half of the sampling
            rate, and they are no narrower than 1 / the length of a signal.
        log: Whether power is given as its natural logarithm, in which it is closer to Gaussian;
            default True. Values below a millionth of a channel's largest count as that.
        decimation: Samples from one frame to the next, over which power is averaged, a whole number
            from 1; default 50, as of superlets.
        edge_clip: Frames dropped at each end, where the signal's ends blur them, a whole number
            from 0; default 5, as of superlets.
        normalisation: "per_frequency" (default) z-scores every band over time (population sd).
            "none" leaves power in the squared unit of the signal, or its logarithm.
        pad_domain: What the zeros are that pad a signal at its end. "raw" takes them for signal,
            whose logarithm would outweigh all else. "raw_masked" takes mean and sd of the z-score
            from the frames before them. "spec" (default) pads the features instead: edges are
            clipped at the signal's own end, the z-score is over its own frames, and zeros follow.

    Raises:
        ValueError: A value is out of its range, or a band is unknown; the message names the field.
    """

    bands: str = "high-gamma"
    log: bool = True
    decimation: int = 50
    edge_clip: int = 5
    normalisation: Normalisation = "per_frequency"
    pad_domain: PadDomain = "spec"

    kind: ClassVar[str] = "band-power"

    def __post_init__(self) -> None:
        _read_bands(self.bands)
        if not isinstance(self.log, bool):
            raise ValueError(f"log must be true or false, got {self.log!r}.")
        if self.normalisation == "log":
            raise ValueError(
                "normalisation can't be log, which is of amplitudes. Set log to true, and "
                "normalisation to none."
            )
        check_layout(self)

    @property
    def bands_hz(self) -> dict[str, tuple[float, float]]:
        """Lower and upper edge of each band, by its name, in the order of `bands`."""
        return _read_bands(self.bands)

    @property
    def n_frequencies(self) -> int:
        """Number of bands."""
        return len(self.bands_hz)

    @property
    def maximum_hz(self) -> float:
        """Highest edge of a band."""
        return max(highest for _, highest in self.bands_hz.values())

    @property
    def row_labels(self) -> list[str]:
        """Names of the bands."""
        return list(self.bands_hz)

    @property
    def unit(self) -> str:
        """Unit of the values before they are normalised."""
        return "ln µV²" if self.log else "µV²"

    def n_frames(self, samples: int) -> int:
        """Frames of so many samples, after the edges are clipped."""
        return n_frames(self, samples)

    def check_fits(self, sampling_rate_hz: float, samples: int) -> None:
        """Refuse signals of too low a rate, too short for a frame or for a band, by ValueError."""
        check_below_nyquist(self, sampling_rate_hz, "the highest edge of bands")
        check_frames(self, samples)
        seconds = samples / sampling_rate_hz
        for name, (lowest, highest) in self.bands_hz.items():
            if (highest - lowest) * seconds < 1:
                raise ValueError(
                    f"bands: {name} is {highest - lowest:g} Hz wide, and a signal of {seconds:g} s "
                    f"tells apart {1 / seconds:g} Hz. Widen it, or pass a longer signal."
                )

    def effect(self, sampling_rate_hz: float) -> dict[str, Any]:  # noqa: ARG002 - of edges in Hz
        """What of it makes its values: bands by their edges, whatever they are called."""
        return plain(self) | {"bands": [*self.bands_hz.values()]}

    def transform(self, signal: torch.Tensor, sampling_rate_hz: float) -> torch.Tensor:
        """Power of channels [channels, samples] in each band, in double precision within.

        Returns:
            [channels, bands, ceil(samples / decimation)] float32 in the squared unit of the signal,
            or its logarithm.
        """
        narrowest = min(highest - lowest for lowest, highest in self.bands_hz.values())
        room = math.ceil(_RING / narrowest * sampling_rate_hz)  # the filters' ends do not wrap
        from scipy.fft import next_fast_len  # not where features are trained on

        length = 2 * next_fast_len((signal.shape[-1] + 2 * self.decimation + room) // 2 + 1)
        frequencies_hz = np.fft.rfftfreq(length, 1 / sampling_rate_hz)
        gains = np.array([_gain(frequencies_hz, *edges) for edges in self.bands_hz.values()])
        gains[:, 1:-1] *= 2  # the analytic signal: negative frequencies are folded on positive ones
        filters = torch.from_numpy(gains).to(signal.device)
        at_once = max(1, _BYTES_AT_ONCE // (32 * length * len(gains)))
        blocks = [self._power(block, filters, length) for block in signal.split(at_once)]
        power = torch.cat(blocks)
        if self.log:
            least = (_LEAST_POWER * power.amax(-1, keepdim=True)).clamp(
                min=torch.finfo(torch.float32).tiny
            )
            power = torch.maximum(power, least).log()
        return power.float()

    def _power(self, signal: torch.Tensor, filters: torch.Tensor, length: int) -> torch.Tensor:
        """Mean power around each frame, float64 [channels, bands, frames]."""
        samples, step = signal.shape[-1], self.decimation
        frames = math.ceil(samples / step)
        # Half a frame ahead, so that each mean is centred on its frame's sample.
        padded = pad(signal.double(), (step // 2, length - samples - step // 2))
        spectrum = torch.fft.rfft(padded)[:, None] * filters
        analytic = torch.fft.ifft(spectrum, n=length)[..., : frames * step]
        squares = torch.view_as_real(analytic).square().sum(-1)
        mean: torch.Tensor = squares.unflatten(-1, (frames, step)).mean(-1)
        return mean


def _gain(frequencies_hz: np.ndarray, lowest: float, highest: float) -> np.ndarray:
    """Gain of a Butterworth band-pass filter that runs both ways, at frequencies from 0."""
    positive = np.maximum(frequencies_hz, np.finfo(float).tiny)
    with np.errstate(over="ignore"):  # towards 0 Hz, where the gain is 0
        detuning = (positive**2 - lowest * highest) / (positive * (highest - lowest))
        gain: np.ndarray = 1 / (1 + detuning ** (2 * ORDER))
    return gain


def _read_bands(bands: str) -> dict[str, tuple[float, float]]:
    """Edges of each band by its name, in order.

    Raises:
        ValueError: A band is unknown, empty, or named twice.
    """
    found: dict[str, tuple[float, float]] = {}
    for name in bands.split("+") if isinstance(bands, str) else [str(bands)]:
        edges = _RANGE.fullmatch(name)
        if name in found:
            raise ValueError(f"bands names {name} twice, got {bands!r}. Remove one.")
        if name in BANDS_HZ:
            found[name] = BANDS_HZ[name]
        elif edges and 0 < float(edges[1]) < float(edges[2]):
            found[name] = float(edges[1]), float(edges[2])
        else:
            raise ValueError(
                f"bands must be {', '.join(BANDS_HZ)} or edges in Hz such as 70-150, lower first, "
                f"several joined by +, got {bands!r}."
            )
    return found
