"""Superlet spectrograms: sharp in time and in frequency, by folding spectra.

A superlet (Moca et al. 2021, "Time-frequency super-resolution with superlets") is the geometric
mean of the amplitudes of several Morlet wavelets at one frequency `f` that differ in their number
of cycles `c`. With `B = c / (5 f)` seconds, `x` zero outside its samples and weights that sum to 1:

    psi_c(t) = exp(-t² / 2B²) exp(2πi f t) / (B √(2π))           per second
    W_c[n]   = (1 / rate) Σ_m x[m] psi_c((n - m) / rate)         in the unit of x
    S[n]     = Π_k |W_{c_k}[n]| ** w_k

The defaults of `SuperletSpec` are those of BrainBERT (its `superlet.yaml`).

How it is computed. Only every `decimation`-th sample of S is kept, and dropping samples folds the
spectrum. So, with an FFT of `decimation x M` bins, the products of spectrum and wavelet are summed
into M bins (bin j takes j, j + M, j + 2M, ...), and one inverse FFT of length M gives exactly the
kept samples of W. Spectra of wavelets are short, so only a few blocks of M bins enter the sum.
For each j it runs over blocks, which makes it one batched matrix product per frequency:
[M, wavelets, blocks] @ [M, blocks, channels].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Literal, get_args

import numpy as np
import torch

OrderSet = Literal["brainbert", "authors"]
Normalisation = Literal["per_frequency", "none"]

CYCLES_PER_SD = 5  # a wavelet of c cycles has a time sd of c / 5 periods
TAIL_SD = {torch.float32: 6.0, torch.float64: 8.5}  # exp(-sd² / 2) is then below the rounding step
MAX_CHANNELS = 64  # transformed together; more gains nothing on a CPU
MAX_VALUES = 2**22  # in one intermediate array, about: 32 MB in single precision


@dataclass(frozen=True, kw_only=True)
class SuperletSpec:
    """What is computed, and how the spectrogram is laid out. The defaults are BrainBERT's recipe.

    Attributes:
        minimum_hz: Lowest frequency.
        maximum_hz: Highest frequency, below half of the sampling rate.
        n_frequencies: Number of linearly spaced frequencies, both ends included.
        base_cycles: Cycles c1 of the shortest wavelet; wavelet k has c1 * k cycles.
        order_min: Order at the lowest frequency.
        order_max: Order at the highest frequency. Orders rise linearly in between and may be
            fractional: the last wavelet of a superlet then has the fraction as its weight.
        order_set: Which wavelets make a superlet of order o. "brainbert" takes
            k = order_min ... ceil(o), "authors" takes k = 1 ... ceil(o).
        decimation: Every how many samples S is evaluated. Points are sampled, not averaged.
        edge_clip: Frames dropped at each end of a spectrogram, where the signal's ends blur it.
        normalisation: "per_frequency" z-scores every frequency over time (population sd).
    """

    minimum_hz: float = 0.1
    maximum_hz: float = 200.0
    n_frequencies: int = 40
    base_cycles: float = 1.0
    order_min: int = 3
    order_max: int = 30
    order_set: OrderSet = "brainbert"
    decimation: int = 50
    edge_clip: int = 5
    normalisation: Normalisation = "per_frequency"

    def __post_init__(self) -> None:
        for name in ("minimum_hz", "maximum_hz", "base_cycles"):
            _check_positive(name, getattr(self, name))
        for name, lowest in (
            ("n_frequencies", 1),
            ("order_min", 1),
            ("order_max", self.order_min),
            ("decimation", 1),
            ("edge_clip", 0),
        ):
            _check_whole(name, getattr(self, name), lowest)
        _check_choice("order_set", self.order_set, get_args(OrderSet))
        _check_choice("normalisation", self.normalisation, get_args(Normalisation))
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
            cycles: [wavelets] float64, ascending.
            weights: [wavelets] float64, their shares in the geometric mean; they sum to 1.
        """
        # In whole numbers, lest rounding adds a wavelet with a weight of 1e-16.
        steps = max(1, self.n_frequencies - 1)
        rise, remainder = divmod((self.order_max - self.order_min) * frequency, steps)
        last = self.order_min + rise
        first = self.order_min if self.order_set == "brainbert" else 1
        numbers = np.arange(first, last + 1 + (remainder > 0))
        weights = np.ones(len(numbers))
        if remainder:
            weights[-1] = remainder / steps
        return self.base_cycles * numbers, weights / weights.sum()


def superlet_transform(
    signal: torch.Tensor | np.ndarray, sampling_rate_hz: float, spec: SuperletSpec
) -> torch.Tensor:
    """Superlet amplitude of a signal, before edge clipping and z-scoring.

    A cosine of amplitude A gives A / 2 at its own frequency, far from the ends. Channels are
    independent, and multiplying one by a constant multiplies its result. Single precision
    resolves about 1e-7 of a channel's largest sample: below that, amplitudes are round-off.

    Args:
        signal: [..., samples], real. float64 (numpy's default) is computed and returned in double
            precision, which is exact to about 1e-12 and takes about twice the time; every other
            type in single.
        sampling_rate_hz: Samples per second.
        spec: `edge_clip` and `normalisation` do not matter here.

    Returns:
        [..., frequencies, ceil(samples / decimation)] in the unit of the signal, on its device.
        Channels of zeros give zeros; channels that hold NaN or infinity give NaN.

    Raises:
        ValueError: there is no sample, the signal is complex, or a frequency of `spec` is not
            below half the sampling rate.
    """
    tensor = _as_tensor(signal)
    dtype = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    return _transform(tensor, sampling_rate_hz, spec, dtype)


def spectrogram(
    signal: torch.Tensor | np.ndarray, sampling_rate_hz: float, spec: SuperletSpec
) -> torch.Tensor:
    """Superlet spectrogram as an encoder sees it: edges clipped, each frequency z-scored.

    Args:
        signal: [..., samples], real, in any unit (the z-score removes it).
        sampling_rate_hz: Samples per second.
        spec: Says which frequencies and frames, and whether to normalise.

    Returns:
        [..., frequencies, spec.n_frames(samples)] float32 on the device of the signal. A frequency
        that does not vary over time becomes zeros.

    Raises:
        ValueError: as `superlet_transform`, or clipping the edges would leave no frame.
    """
    tensor = _as_tensor(signal)
    samples = tensor.shape[-1]
    if spec.n_frames(samples) == 0:
        raise ValueError(
            f"edge_clip {spec.edge_clip} leaves no frame of a signal of {samples} samples "
            f"({math.ceil(samples / spec.decimation)} frames at decimation {spec.decimation}). "
            "Pass a longer signal or lower edge_clip."
        )
    amplitude = _transform(tensor, sampling_rate_hz, spec, torch.float32)
    frames = amplitude.narrow(-1, spec.edge_clip, spec.n_frames(samples))
    return _z_score(frames) if spec.normalisation == "per_frequency" else frames.contiguous()


def _z_score(frames: torch.Tensor) -> torch.Tensor:
    """Standardise [..., frames] over the last axis; constant rows become zeros, NaN stays NaN."""
    sd, mean = torch.std_mean(frames, dim=-1, correction=0, keepdim=True)
    # Rounding of the mean can leave a constant row with a tiny sd, so sd == 0 would miss some.
    constant = frames.amax(-1, keepdim=True) == frames.amin(-1, keepdim=True)
    return torch.where(constant, 0.0, (frames - mean) / sd)


# --- Carrying out a plan ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Band:
    """The wavelets of one frequency that are evaluated in one fold.

    Attributes:
        frequency: Index into `SuperletSpec.frequencies_hz`.
        first_block: Which block of M bins `bank` starts at; negative below 0 Hz.
        bank: Spectra of the wavelets over the FFT length, real, [M, wavelets, blocks].
        weights: Shares in the geometric mean, [wavelets].
    """

    frequency: int
    first_block: int
    bank: torch.Tensor
    weights: torch.Tensor

    @property
    def last_block(self) -> int:
        """The block after the last one."""
        return self.first_block + self.bank.shape[-1]


@dataclass(frozen=True)
class _Fold:
    """Wavelets that share one FFT length, and the bins of the spectrum that they need.

    The needed bins run over negative frequencies and may wrap around, as spectra of samples are
    periodic. A real signal's negative bins are conjugates of its positive ones.

    Attributes:
        fft_length: decimation x M.
        first_block: The first block that any band needs.
        sources: Index into the one-sided spectrum for each needed bin, [blocks * M].
        signs: 1, or -1 where the source is to be conjugated, [blocks * M, 1].
        bands: One for each frequency with a wavelet in this fold.
    """

    fft_length: int
    first_block: int
    sources: torch.Tensor
    signs: torch.Tensor
    bands: tuple[_Band, ...]

    @property
    def values_per_channel(self) -> int:
        """The size of the largest intermediate array for one channel, about."""
        return max(self.fft_length, *(band.bank[..., 0].numel() for band in self.bands))


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


@torch.no_grad()
def _transform(
    signal: torch.Tensor, sampling_rate_hz: float, spec: SuperletSpec, dtype: torch.dtype
) -> torch.Tensor:
    """Amplitudes [..., frequencies, frames] of [..., samples], a block of channels at a time."""
    *leading, samples = signal.shape
    folds = _plan(spec, samples, float(sampling_rate_hz), dtype, signal.device)
    frames = math.ceil(samples / spec.decimation)
    channels = signal.reshape(math.prod(leading), samples)
    result = torch.empty(
        (len(channels), spec.n_frequencies, frames), dtype=dtype, device=signal.device
    )
    step = _channels_at_once(folds)
    with _full_precision(signal.device.type):
        for start in range(0, len(channels), step):
            _amplitude(channels[start : start + step], folds, result[start : start + step])
    return result.reshape(*leading, spec.n_frequencies, frames)


def _channels_at_once(folds: tuple[_Fold, ...]) -> int:
    """As many as keep intermediate arrays small; long signals are taken in smaller blocks."""
    largest = max(fold.values_per_channel for fold in folds)
    return max(1, min(MAX_CHANNELS, MAX_VALUES // largest))


@contextmanager
def _full_precision(device_type: str) -> Iterator[None]:
    """A training script may allow TF32 or bfloat16 products; here they would cost three digits."""
    backends = (
        torch.backends.cuda.matmul,
        torch.backends.mkldnn.matmul,  # type: ignore[attr-defined]
    )
    allowed = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "ieee"
    try:
        with torch.autocast(device_type, enabled=False):
            yield
    finally:
        for backend, precision in zip(backends, allowed, strict=True):
            backend.fp32_precision = precision


def _amplitude(signal: torch.Tensor, folds: tuple[_Fold, ...], out: torch.Tensor) -> None:
    """Write the geometric means of [channels, samples] to `out` [channels, frequencies, frames].

    Dividing by the peak first keeps squared amplitudes clear of the floor of single precision, be
    the unit volts or microvolts, and multiplying by it last keeps zeros at zero.
    """
    signal = signal.double()
    peak = signal.abs().amax(-1, keepdim=True)
    scaled = signal / torch.where(peak == 0, 1.0, peak)
    out.zero_()
    for fold in folds:
        spectrum = _needed_bins(scaled, fold, out.dtype)
        for band in fold.bands:
            out[:, band.frequency] += _log_power(spectrum, fold, band, out.shape[-1])
    out.mul_(0.5).exp_().mul_(peak.to(out.dtype)[:, None])


def _needed_bins(signal: torch.Tensor, fold: _Fold, dtype: torch.dtype) -> torch.Tensor:
    """Spectrum of [channels, samples] as [M, blocks, 2 * channels], each real part before its
    imaginary part.

    The FFT itself runs in double precision: a large offset in the signal would otherwise leave its
    round-off in every bin.
    """
    spectrum = torch.fft.rfft(signal, fold.fft_length).to(dtype.to_complex())
    needed = torch.view_as_real(spectrum.T.contiguous()[fold.sources])  # [bins, channels, 2]
    needed[..., 1] *= fold.signs  # the imaginary parts
    folded = fold.bands[0].bank.shape[0]
    return needed.reshape(-1, folded, 2 * len(signal)).transpose(0, 1)


def _log_power(spectrum: torch.Tensor, fold: _Fold, band: _Band, frames: int) -> torch.Tensor:
    """Weighted sum of ln |W|² over the wavelets of a band, [channels, frames].

    Logarithms, because a product of up to thirty amplitudes leaves the range of any float.
    """
    start = band.first_block - fold.first_block
    products = torch.bmm(band.bank, spectrum[:, start : start + band.bank.shape[-1]])
    folded = torch.view_as_complex(products.unflatten(-1, (-1, 2)))  # [M, wavelets, channels]
    wavelets = torch.fft.ifft(folded, dim=0, norm="forward")[:frames]
    power = (wavelets * wavelets.conj()).real
    logarithms = power.clamp(min=torch.finfo(power.dtype).tiny).log()
    return torch.einsum("tkc,k->ct", logarithms, band.weights)


# --- Making a plan ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Grid:
    """An FFT of decimation x folded bins."""

    sampling_rate_hz: float
    decimation: int
    folded: int

    @classmethod
    def of_length(cls, samples: int, sampling_rate_hz: float, decimation: int) -> _Grid:
        """The smallest grid for so many samples whose FFTs are quick."""
        return cls(sampling_rate_hz, decimation, _smooth(math.ceil(samples / decimation)))

    @property
    def fft_length(self) -> int:
        """Bins before folding."""
        return self.decimation * self.folded

    @property
    def block_hz(self) -> float:
        """Width of a block of `folded` bins."""
        return self.sampling_rate_hz / self.decimation


# (grid, frequency_hz, cycles [wavelets]) -> first block, spectra [wavelets, blocks * folded]
_Bank = Callable[[_Grid, float, np.ndarray], tuple[int, np.ndarray]]


@lru_cache(maxsize=16)
def _plan(
    spec: SuperletSpec,
    samples: int,
    sampling_rate_hz: float,
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[_Fold, ...]:
    """The wavelet banks for signals of one length, in one or two folds.

    Wavelets that fit into the signal have short Gaussian spectra. Those that do not are cut by the
    signal's ends: their spectra are full of sidelobes, and their FFT is as long as two signals.
    """
    check_below_nyquist(spec, sampling_rate_hz)
    tail_sd = TAIL_SD[dtype]
    reaches = [
        np.ceil(tail_sd * _time_sd(spec.wavelets(index)[0], frequency_hz) * sampling_rate_hz)
        for index, frequency_hz in enumerate(spec.frequencies_hz)
    ]
    fits = [2 * reach <= samples for reach in reaches]
    longest = max(int((reach * fit).max()) for reach, fit in zip(reaches, fits, strict=True))
    short_grid = _Grid.of_length(samples + longest, sampling_rate_hz, spec.decimation)
    long_grid = _Grid.of_length(2 * samples, sampling_rate_hz, spec.decimation)
    cut = [~fit for fit in fits]
    gaussian = partial(_gaussian_bank, tail_sd=tail_sd)
    sampled = partial(_sampled_bank, samples=samples)
    folds = (
        _fold(spec, fits, short_grid, gaussian, dtype, device),
        _fold(spec, cut, long_grid, sampled, dtype, device),
    )
    return tuple(fold for fold in folds if fold.bands)


def _fold(
    spec: SuperletSpec,
    chosen: list[np.ndarray],
    grid: _Grid,
    bank_of: _Bank,
    dtype: torch.dtype,
    device: torch.device,
) -> _Fold:
    """The chosen wavelets ([wavelets] bool for each frequency) and the bins that they need."""
    bands = []
    for frequency, choice in enumerate(chosen):
        cycles, weights = (values[choice] for values in spec.wavelets(frequency))
        if len(cycles):
            first_block, spectra = bank_of(grid, spec.frequencies_hz[frequency], cycles)
            blocks = spectra.reshape(len(cycles), -1, grid.folded) / grid.fft_length
            bank = torch.from_numpy(np.ascontiguousarray(blocks.transpose(2, 0, 1)))
            shares = torch.from_numpy(weights)
            bands.append(
                _Band(frequency, first_block, bank.to(device, dtype), shares.to(device, dtype))
            )
    first_block = min((band.first_block for band in bands), default=0)
    last_block = max((band.last_block for band in bands), default=0)
    sources, signs = _sources(grid, first_block, last_block)
    return _Fold(
        grid.fft_length, first_block, sources.to(device), signs.to(device, dtype), tuple(bands)
    )


def _sources(grid: _Grid, first_block: int, last_block: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the bins of some blocks stand in a one-sided spectrum, and the signs of their parts."""
    bins = torch.arange(first_block * grid.folded, last_block * grid.folded) % grid.fft_length
    mirrored = bins > grid.fft_length // 2
    return torch.where(mirrored, grid.fft_length - bins, bins), 1 - 2 * mirrored[:, None].int()


def _gaussian_bank(
    grid: _Grid, frequency_hz: float, cycles: np.ndarray, *, tail_sd: float
) -> tuple[int, np.ndarray]:
    """Spectra of wavelets within `tail_sd` of their peak, rounded outwards to whole blocks."""
    sd_hz = 1 / (2 * math.pi * _time_sd(cycles, frequency_hz))
    half_width_hz = tail_sd * sd_hz.max()
    first_block = math.floor((frequency_hz - half_width_hz) / grid.block_hz)
    last_block = math.floor((frequency_hz + half_width_hz) / grid.block_hz) + 1
    bins = np.arange(first_block * grid.folded, last_block * grid.folded)
    bins_hz = bins * grid.sampling_rate_hz / grid.fft_length
    return first_block, np.exp(-0.5 * ((bins_hz - frequency_hz) / sd_hz[:, None]) ** 2)


def _sampled_bank(
    grid: _Grid, frequency_hz: float, cycles: np.ndarray, *, samples: int
) -> tuple[int, np.ndarray]:
    """Spectra of wavelets cut to the lags that occur in a signal of so many samples.

    A wavelet at -t is the conjugate of itself at t, so its spectrum is real.
    """
    lags = np.arange(1 - samples, samples)
    seconds = lags / grid.sampling_rate_hz
    sd = _time_sd(cycles, frequency_hz)[:, None]
    envelope = np.exp(-0.5 * (seconds / sd) ** 2) / (sd * math.sqrt(2 * math.pi))
    wavelets = np.zeros((len(cycles), grid.fft_length), dtype=complex)
    wavelets[:, lags] = envelope * np.exp(2j * math.pi * frequency_hz * seconds)
    return 0, np.fft.fft(wavelets).real / grid.sampling_rate_hz


def _time_sd(cycles: np.ndarray, frequency_hz: float) -> np.ndarray:
    """Standard deviation of wavelets in time, seconds, [wavelets]."""
    return cycles / (CYCLES_PER_SD * frequency_hz)


def _smooth(length: int) -> int:
    """The smallest number from `length` on without a prime factor above 7."""
    while True:
        rest = length
        for prime in (2, 3, 5, 7):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 1


# --- Checks -------------------------------------------------------------------------------------


def check_below_nyquist(spec: SuperletSpec, sampling_rate_hz: float) -> None:
    """Refuse a specification with frequencies that a sampling rate can't hold.

    Raises:
        ValueError: maximum_hz is not below half the rate.
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


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}.")
