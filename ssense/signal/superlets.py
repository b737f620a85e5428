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
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
import torch

from ssense.signal.folding import FoldedWavelets, Sampling, Wavelet, amplitude, make_plan

OrderSet = Literal["brainbert", "authors"]
CycleRule = Literal["multiplicative", "additive"]
Normalisation = Literal["per_frequency", "none"]
PadDomain = Literal["raw", "raw_masked", "spec"]

Lengths = torch.Tensor | np.ndarray | Sequence[int] | int

MAX_DENOMINATOR = 10**9  # of an order: 10.1 is meant as 101/10, not as the nearest binary number


@dataclass(frozen=True, kw_only=True)
class SuperletSpec:
    """What is computed, and how the spectrogram is laid out. The defaults are BrainBERT's recipe.

    Attributes:
        minimum_hz: Lowest frequency.
        maximum_hz: Highest frequency, below half of the sampling rate.
        n_frequencies: Number of linearly spaced frequencies, both ends included.
        base_cycles: Cycles c1 of wavelet 1.
        cycle_rule: Cycles of wavelet k: c1 * k if "multiplicative", c1 + k - 1 if "additive".
        order_min: Order at the lowest frequency, at least 1.
        order_max: Order at the highest frequency. Orders rise linearly in between. Wherever an
            order o is not a whole number, wavelet ceil(o) has the fraction of o as its weight, the
            others 1 (all are divided by their sum).
        order_set: Which wavelets make a superlet of order o. "brainbert" takes
            k = floor(order_min) ... ceil(o), "authors" takes k = 1 ... ceil(o).
        decimation: Every how many samples S is evaluated. Points are sampled, not averaged.
        edge_clip: Frames dropped at each end of a spectrogram, where the signal's ends blur it.
        normalisation: "per_frequency" z-scores every frequency over time (population sd).
        pad_domain: What the zeros are that pad a signal at its end. "raw" takes them for signal.
            "raw_masked" takes mean and sd of the z-score from the frames before them.
            "spec" pads the spectrogram instead: edges are clipped at the signal's own end, the
            z-score is over its own frames, and zeros follow.
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

    def __post_init__(self) -> None:
        for name in ("minimum_hz", "maximum_hz", "base_cycles"):
            _check_positive(name, getattr(self, name))
        for name, lowest in (("n_frequencies", 1), ("decimation", 1), ("edge_clip", 0)):
            _check_whole(name, getattr(self, name), lowest)
        _check_order("order_min", self.order_min, 1)
        _check_order("order_max", self.order_max, self.order_min)
        for name, choices in (
            ("cycle_rule", CycleRule),
            ("order_set", OrderSet),
            ("normalisation", Normalisation),
            ("pad_domain", PadDomain),
        ):
            _check_choice(name, getattr(self, name), get_args(choices))
        self._check_range()

    def _check_range(self) -> None:
        if self.n_frequencies > 1 and self.maximum_hz <= self.minimum_hz:
            raise ValueError(
                f"maximum_hz must be above minimum_hz, got {self.minimum_hz:g} to "
                f"{self.maximum_hz:g} Hz. Swap them, or set n_frequencies to 1."
            )
        if self.n_frequencies == 1 and self.maximum_hz != self.minimum_hz:
            raise ValueError(
                f"one frequency cannot span {self.minimum_hz:g} to {self.maximum_hz:g} Hz. "
                "Raise n_frequencies, or make maximum_hz equal to minimum_hz."
            )

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

    def n_frames(self, samples: int) -> int:
        """Frames of a spectrogram of so many samples, after the edges are clipped."""
        return max(0, math.ceil(samples / self.decimation) - 2 * self.edge_clip)

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
        first = math.floor(lowest) if self.order_set == "brainbert" else 1
        numbers = np.arange(first, whole + 1 + (fraction > 0))
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
    tensor = _as_tensor(signal)
    *leading, samples = tensor.shape
    channels = tensor.reshape(math.prod(leading), samples)
    dtype = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    plan = _plan(spec, samples, float(sampling_rate_hz), dtype, tensor.device)
    result = tensor.new_empty((len(channels), spec.n_frequencies, plan.frames), dtype=dtype)
    for rows in plan.blocks(len(channels)):
        result[rows] = amplitude(channels[rows], plan)
    return result.reshape(*leading, *result.shape[1:])


def spectrogram(
    signal: torch.Tensor | np.ndarray,
    sampling_rate_hz: float,
    spec: SuperletSpec,
    lengths: Lengths | None = None,
) -> torch.Tensor:
    """Superlet spectrogram as an encoder sees it: edges clipped, each frequency z-scored.

    Args:
        signal: [..., samples], real, in any unit (the z-score removes it).
        sampling_rate_hz: Samples per second.
        spec: Says which frequencies and frames, and whether and how to normalise.
        lengths: Samples of each signal before its padding with zeros, whole numbers of a shape
            that broadcasts to [...]; None if there is no padding. `spec.pad_domain` says what
            they are used for; "raw" does not.

    Returns:
        [..., frequencies, spec.n_frames(samples)] float32 on the device of the signal. A frequency
        that does not vary over time becomes zeros, and so does a signal that `pad_domain` leaves
        no frame of its own.

    Raises:
        ValueError: See `superlet_transform`; also if clipping the edges would leave no frame, or
            `lengths` do not fit the signal.
    """
    tensor = _as_tensor(signal)
    *leading, samples = tensor.shape
    n_frames = spec.n_frames(samples)
    if n_frames == 0:
        raise ValueError(
            f"edge_clip {spec.edge_clip} leaves no frame of a signal of {samples} samples "
            f"({math.ceil(samples / spec.decimation)} frames at decimation {spec.decimation}). "
            "Pass a longer signal or lower edge_clip."
        )
    own_frames = _own_frames(lengths, tensor, spec)
    channels = tensor.reshape(math.prod(leading), samples)
    plan = _plan(spec, samples, float(sampling_rate_hz), torch.float32, tensor.device)
    result = tensor.new_empty((len(channels), spec.n_frequencies, n_frames), dtype=torch.float32)
    for rows in plan.blocks(len(channels)):
        frames = amplitude(channels[rows], plan).narrow(-1, spec.edge_clip, n_frames)
        result[rows] = _normalise(frames, own_frames[rows], spec)
    return result.reshape(*leading, *result.shape[1:])


def _own_frames(lengths: Lengths | None, signal: torch.Tensor, spec: SuperletSpec) -> torch.Tensor:
    """Which frames of a spectrogram count as the signal's own, [channels, 1, frames] bool."""
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


def _normalise(frames: torch.Tensor, own: torch.Tensor, spec: SuperletSpec) -> torch.Tensor:
    """The last step to a spectrogram, [channels, frequencies, frames]; `own` as `_own_frames`."""
    if spec.normalisation == "per_frequency":
        frames = _z_score(frames, own)
    return torch.where(own, frames, 0.0) if spec.pad_domain == "spec" else frames


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


def _as_tensor(signal: torch.Tensor | np.ndarray) -> torch.Tensor:
    """Share memory where torch can; it cannot with reversed or read-only arrays."""
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


# --- Checks -------------------------------------------------------------------------------------


def check_below_nyquist(spec: SuperletSpec, sampling_rate_hz: float) -> None:
    """Refuse a specification with frequencies that a sampling rate can't hold.

    Raises:
        ValueError: Maximum_hz is not below half the rate.
    """
    _check_positive("sampling_rate_hz", sampling_rate_hz)
    if spec.maximum_hz >= sampling_rate_hz / 2:
        raise ValueError(
            f"maximum_hz must be below half the sampling rate, got {spec.maximum_hz:g} Hz at "
            f"{sampling_rate_hz:g} samples per second (half: {sampling_rate_hz / 2:g} Hz). "
            "Lower maximum_hz or check the sampling rate."
        )


def _check_positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be a finite number above 0, got {value!r}. Change it.")


def _check_whole(name: str, value: int, lowest: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
        raise ValueError(f"{name} must be a whole number of at least {lowest}, got {value!r}.")


def _check_order(name: str, value: float, lowest: float) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (is_number and math.isfinite(value) and value >= lowest):
        raise ValueError(f"{name} must be a number of at least {lowest:g}, got {value!r}.")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}.")
