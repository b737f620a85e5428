"""Superlet spectrograms: sharp in time and in frequency, by folding spectra.

A superlet (Moca et al. 2021, "Time-frequency super-resolution with superlets") is the geometric
mean of the amplitudes of several Morlet wavelets at one frequency `f` that differ in their number
of cycles `c`. With `B = c / (5 f)` seconds, `x` zero outside its samples and weights that sum to 1:

    psi_c(t) = exp(-t² / 2B²) exp(2πi f t) / (B √(2π))           per second
    W_c[n]   = (1 / rate) Σ_m x[m] psi_c((n - m) / rate)         in the unit of x
    S[n]     = Π_k |W_{c_k}[n]| ** w_k

The defaults of `SuperletSpec` are those of BrainBERT (its `superlet.yaml`). The module `folding`
explains the computation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from ssense.signal.checks import check_at_least, check_choice, check_positive, check_whole
from ssense.signal.folding import FoldedWavelets, Sampling, Wavelet, amplitude, make_plan
from ssense.signal.frames import (
    Normalisation,
    PadDomain,
    as_tensor,
    check_below_nyquist,
    check_frames,
    check_layout,
    check_range,
    n_frames,
)
from ssense.specification import plain

OrderSet = Literal["brainbert", "authors"]
CycleRule = Literal["multiplicative", "additive"]

MAX_DENOMINATOR = 10**9  # of an order: 10.1 is meant as 101/10, not as the nearest binary number


@dataclass(frozen=True, kw_only=True)
class SuperletSpec:
    """Superlet amplitudes: which are computed, and how they are laid out.

    The defaults are BrainBERT's recipe.

    Attributes:
        minimum_hz: Lowest frequency in Hz, above 0 and below `maximum_hz`; default 0.1.
        maximum_hz: Highest frequency in Hz, below half of the sampling rate; default 200.
        n_frequencies: Number of linearly spaced frequencies, both ends included, a whole number
            from 1; default 40. One frequency needs `minimum_hz` and `maximum_hz` to be equal.
        base_cycles: Cycles c1 of wavelet 1, above 0; default 1. More cycles are sharper in
            frequency and wider in time.
        cycle_rule: Cycles of wavelet k: c1 * k if "multiplicative" (default), c1 + k - 1 if
            "additive".
        order_min: Order at the lowest frequency, from 1; default 3.
        order_max: Order at the highest frequency, at least `order_min`; default 30. Orders rise
            linearly in between. Wherever an order o is not a whole number, wavelet ceil(o) has the
            fraction of o as its weight, the others 1 (all are divided by their sum).
        order_set: Which wavelets make a superlet of order o. "brainbert" (default) takes
            k = floor(order_min) ... ceil(o), "authors" takes k = 1 ... ceil(o).
        decimation: Samples from one frame to the next, a whole number from 1; default 50. Points
            are sampled, not averaged.
        edge_clip: Frames dropped at each end, where the signal's ends blur them, a whole number
            from 0; default 5.
        normalisation: "per_frequency" (default) z-scores every frequency over time (population
            sd). "none" leaves amplitudes in the unit of the signal. "log" takes their natural
            logarithm, in which frequencies are alike in size and no frame depends on another, but
            that a thousandth of a frequency's largest is the least.
        pad_domain: What the zeros are that pad a signal at its end. "raw" (default) takes them for
            signal. "raw_masked" takes mean and sd of the z-score from the frames before them.
            "spec" pads the spectrogram instead: edges are clipped at the signal's own end, the
            z-score is over its own frames, and zeros follow.

    Raises:
        ValueError: A value is out of its range, or two do not fit; the message names the fields.
    """

    minimum_hz: float = 0.1
    maximum_hz: float = 200.0
    n_frequencies: int = 40
    base_cycles: float = 1.0
    cycle_rule: CycleRule = "multiplicative"
    order_min: float = 3
    order_max: float = 30
    order_set: OrderSet = "brainbert"
    decimation: int = 50
    edge_clip: int = 5
    normalisation: Normalisation = "per_frequency"
    pad_domain: PadDomain = "raw"

    kind: ClassVar[str] = "superlets"
    unit: ClassVar[str] = "µV"

    def __post_init__(self) -> None:
        for name in ("minimum_hz", "maximum_hz", "base_cycles"):
            check_positive(name, getattr(self, name))
        check_whole("n_frequencies", self.n_frequencies, 1)
        check_at_least("order_min", self.order_min, 1)
        check_at_least("order_max", self.order_max, self.order_min)
        check_choice("cycle_rule", self.cycle_rule, CycleRule)
        check_choice("order_set", self.order_set, OrderSet)
        check_layout(self)
        check_range(self.minimum_hz, self.maximum_hz, self.n_frequencies)

    @classmethod
    def brainbert(cls) -> SuperletSpec:
        """The recipe of BrainBERT's `superlet.yaml`: 40 frequencies, 0.1 to 200 Hz, orders 3-30."""
        return cls()

    @classmethod
    def brainbert_defaults_50(cls) -> SuperletSpec:
        """What BrainBERT's function computes without its yaml: 50 frequencies from 5 to 200 Hz."""
        return cls(minimum_hz=5.0, n_frequencies=50, base_cycles=3.0, order_min=2, order_max=12)

    @property
    def frequencies_hz(self) -> np.ndarray:
        """Centre frequencies, [n_frequencies] float64, ascending."""
        return np.linspace(self.minimum_hz, self.maximum_hz, self.n_frequencies)

    @property
    def row_labels(self) -> list[float]:
        """Centre frequencies in Hz."""
        labels: list[float] = self.frequencies_hz.tolist()
        return labels

    def n_frames(self, samples: int) -> int:
        """Frames of a spectrogram of so many samples, after the edges are clipped."""
        return n_frames(self, samples)

    def check_fits(self, sampling_rate_hz: float, samples: int) -> None:
        """Refuse signals of too low a rate, or too short for a frame, by ValueError."""
        check_below_nyquist(self, sampling_rate_hz)
        check_frames(self, samples)

    def transform(self, signal: torch.Tensor, sampling_rate_hz: float) -> torch.Tensor:
        """Superlet amplitudes of channels, in single precision, see `superlet_transform`."""
        return _transform(signal, sampling_rate_hz, self, torch.float32)

    def effect(self, sampling_rate_hz: float) -> dict[str, Any]:  # noqa: ARG002 - of cycles
        """What of it makes its values: wavelets by their cycles, whichever rule gives them."""
        numbers = ("minimum_hz", "maximum_hz", "base_cycles", "order_min", "order_max")
        is_one = self.n_frequencies == 1  # and has the lowest order
        return plain(self) | {
            **{name: float(getattr(self, name)) for name in numbers},
            "order_max": float(self.order_min if is_one else self.order_max),
            "order_set": self._first_wavelet,
            # From one cycle on, both rules count in whole cycles.
            "cycle_rule": "" if self.base_cycles == 1 else self.cycle_rule,
        }

    @property
    def _first_wavelet(self) -> int:
        """Number of the first wavelet of every superlet."""
        return math.floor(self.order_min) if self.order_set == "brainbert" else 1

    def wavelets(self, frequency: int) -> tuple[np.ndarray, np.ndarray]:
        """The superlet at one index of `frequencies_hz`.

        Returns:
            The wavelets' cycles, [wavelets] float64, ascending; and their weights, [wavelets]
            float64, shares in the geometric mean that sum to 1.
        """
        # In fractions, so that rounding does not add a wavelet with a weight of 1e-16.
        lowest, highest = (
            Fraction(order).limit_denominator(MAX_DENOMINATOR)
            for order in (self.order_min, self.order_max)
        )
        rise = Fraction(frequency, max(1, self.n_frequencies - 1))
        whole, fraction = divmod(lowest + (highest - lowest) * rise, 1)
        numbers = np.arange(self._first_wavelet, whole + 1 + (fraction > 0))
        weights = np.ones(len(numbers))
        if fraction:
            weights[-1] = float(fraction)
        additive = self.cycle_rule == "additive"
        cycles = self.base_cycles + numbers - 1 if additive else self.base_cycles * numbers
        return cycles, weights / weights.sum()


def superlet_transform(
    signal: torch.Tensor | np.ndarray, sampling_rate_hz: float, spec: SuperletSpec
) -> torch.Tensor:
    """Superlet amplitude of a signal, before edge clipping and z-scoring.

    A cosine of amplitude A gives A / 2 at its own frequency, far from the ends. Channels are
    independent, and multiplying one by a constant multiplies its result.

    Rounding leaves of a wavelet's amplitudes those above 1e-7 of its largest in the channel, 1e-16
    in double precision. That shows in stretches of zeros only, where S is a mean of vanishing
    tails: in the first three frames or so it is off by up to 1 % of the channel's rms amplitude
    (0.03 % in double precision).

    Memory: besides signal and result a call holds up to about 60 MB, or what one channel takes if
    that is more (100 bytes for each sample with `brainbert`). Wavelets of the last four
    specifications and lengths are kept for later calls. With `brainbert` they take 500 bytes for
    each sample of a channel, twice that if several frequencies are too low for the length.

    Args:
        signal: [..., samples], real. float64 (numpy's default) is computed and returned in double
            precision, which is exact to about 1e-12 and takes about twice the time; every other
            type in single, exact to about 1e-6.
        sampling_rate_hz: Samples per second.
        spec: `edge_clip`, `normalisation` and `pad_domain` do not matter here.

    Returns:
        [..., frequencies, ceil(samples / decimation)] in the unit of the signal, on its device.
        Channels of zeros give zeros; channels that hold NaN or infinity give NaN.

    Raises:
        ValueError: There is no sample, the signal is complex, or a frequency of `spec` is not below
            half the sampling rate.
    """
    tensor = as_tensor(signal)
    *leading, samples = tensor.shape
    channels = tensor.reshape(math.prod(leading), samples)
    dtype = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    result = _transform(channels, sampling_rate_hz, spec, dtype)
    return result.reshape(*leading, *result.shape[1:])


def _transform(
    channels: torch.Tensor, sampling_rate_hz: float, spec: SuperletSpec, dtype: torch.dtype
) -> torch.Tensor:
    """Amplitudes of channels [channels, samples], [channels, frequencies, frames] of a dtype."""
    plan = _plan(spec, channels.shape[-1], float(sampling_rate_hz), dtype, channels.device)
    result = channels.new_empty((len(channels), spec.n_frequencies, plan.frames), dtype=dtype)
    for rows in plan.blocks(len(channels)):
        result[rows] = amplitude(channels[rows], plan)
    return result


@lru_cache(maxsize=4)
def _plan(
    spec: SuperletSpec,
    samples: int,
    sampling_rate_hz: float,
    dtype: torch.dtype,
    device: torch.device,
) -> FoldedWavelets:
    check_below_nyquist(spec, sampling_rate_hz)
    superlets = [
        [Wavelet(row, float(hz), *member) for member in zip(*spec.wavelets(row), strict=True)]
        for row, hz in enumerate(spec.frequencies_hz)
    ]
    sampling = Sampling(samples, sampling_rate_hz, spec.decimation)
    return make_plan(superlets, sampling, torch.empty(0, dtype=dtype, device=device))
