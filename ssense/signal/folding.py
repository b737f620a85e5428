"""Geometric means of Morlet wavelets' amplitudes at every n-th sample, by folding spectra.

Only every `decimation`-th sample of a convolution W is wanted, and dropping samples folds the
spectrum. So, with an FFT of `decimation x M` bins, the products of spectrum and wavelet are summed
into M bins (bin j takes j, j + M, j + 2M, ...), and one inverse FFT of length M gives exactly the
wanted samples of W. Spectra of wavelets are short, so only a few blocks of M bins enter the sum,
and these may start at any bin: a shift of the spectrum turns W, but does not change |W|. For each j
the sum runs over blocks, which makes it one batched matrix product for a group of wavelets:
[M, wavelets, blocks] @ [M, blocks, channels].

Wavelets longer than the signal are cut by its ends, and their spectra are full of sidelobes. But
over the signal their envelopes are so smooth that they are polynomials of a low degree in the
sample's index, to rounding. So W is a sum over a few moments of the signal.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ssense.precision import full_precision

CYCLES_PER_SD = 5  # a wavelet of c cycles has a time sd of c / 5 periods
TAIL_SD = {torch.float32: 6.0, torch.float64: 8.5}  # exp(-sd² / 2) is then below the rounding step
POLYNOMIAL_ERROR = {torch.float32: 1e-10, torch.float64: 1e-16}  # relative to envelopes' peaks
MAX_CHANNELS = 64  # transformed together; more gains nothing on a CPU
MAX_WAVELETS = 24  # evaluated together: few calls, yet arrays that stay in the cache
MAX_VALUES = 2**20  # in one intermediate array, about: 8 MB in single precision
HEADROOM = 2.0**10  # amplitudes are scaled by it; see _Group


@dataclass(frozen=True)
class Wavelet:
    """A Morlet wavelet and its part in a superlet.

    Attributes:
        row: Number of the superlet that the wavelet belongs to.
        hz: Centre frequency.
        cycles: Its length; five cycles make one standard deviation of a period's length.
        weight: Its share in the geometric mean.
    """

    row: int
    hz: float
    cycles: float
    weight: float

    @property
    def sd_s(self) -> float:
        """Standard deviation in time, seconds."""
        return self.cycles / (CYCLES_PER_SD * self.hz)


@dataclass(frozen=True)
class Sampling:
    """Signals of one length, and which of their samples are kept."""

    samples: int
    rate_hz: float
    decimation: int

    @property
    def frames(self) -> int:
        """Samples that are kept: 0, decimation, 2 decimation, ..."""
        return math.ceil(self.samples / self.decimation)


# --- Carrying out a plan ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Group:
    """Wavelets that need about the same bins of the spectrum and are evaluated together.

    Wavelets of one superlet and one weight come in pairs: the first `pairs` of a group and the
    next `pairs`, each with its partner. Of a pair the geometric mean needs |V W| only, which takes
    one logarithm instead of two. Products of more than two might leave the range of single
    precision. |V W|² can't become too large: |W| is at most HEADROOM or little more. It is too
    small below 2^-126, for amplitudes of 3e-13 of the signal's peak, far below its resolution.

    Attributes:
        rows: The superlets that the wavelets belong to.
        window: The bins that they need, among the bins that their fold needs.
        bank: Spectra of the wavelets over FFT length and times HEADROOM, real,
            [M, wavelets, blocks].
        pairs: The number of pairs; the rest of the group has no partners.
        weights: Half of the shares in the geometric mean, [rows, pairs + rest]; zero where a row
            and a wavelet do not belong together.
    """

    rows: slice
    window: slice
    bank: torch.Tensor
    pairs: int
    weights: torch.Tensor


@dataclass(frozen=True)
class _Fold:
    """Wavelets that share one FFT length, and the bins of the spectrum that they need.

    The needed bins run over negative frequencies and may wrap around, as spectra of samples are
    periodic. A real signal's negative bins are conjugates of its positive ones.

    Attributes:
        fft_length: Length of the FFT, decimation x M.
        positive_bins: The one-sided spectrum is needed up to here.
        sources: Index into the one-sided spectrum for each needed bin, [bins].
        signs: 1, or -1 where the source is to be conjugated, [bins, 1].
        groups: The wavelets.
    """

    fft_length: int
    positive_bins: int
    sources: torch.Tensor
    signs: torch.Tensor
    groups: tuple[_Group, ...]


@dataclass(frozen=True)
class _LongWavelets:
    """Wavelets of one superlet that are longer than the signal.

    Attributes:
        row: The superlet that they belong to.
        moments: Carrier times polynomials, real parts before imaginary ones,
            [2 * polynomials, samples] float64.
        envelopes: Coefficients of the envelopes around each frame, times HEADROOM,
            [polynomials, wavelets * frames] float64.
        weights: Half of the shares in the geometric mean, [1, wavelets].
    """

    row: int
    moments: torch.Tensor
    envelopes: torch.Tensor
    weights: torch.Tensor


@dataclass(frozen=True)
class FoldedWavelets:
    """All that is known before there is a signal.

    Attributes:
        rows: Number of superlets.
        frames: Number of samples kept.
        dtype: Precision of the result.
        folds: Wavelets that fit into the signal.
        long: Wavelets that do not.
    """

    rows: int
    frames: int
    dtype: torch.dtype
    folds: tuple[_Fold, ...]
    long: tuple[_LongWavelets, ...]

    def blocks(self, channels: int) -> Iterator[slice]:
        """Channels to pass to `amplitude` together: as many as keep intermediate arrays small."""
        largest = max(
            self.rows * self.frames,
            *(max(fold.fft_length, len(fold.sources)) for fold in self.folds),
            *(group.bank[..., 0].numel() for fold in self.folds for group in fold.groups),
            *(2 * wavelets.envelopes.shape[1] for wavelets in self.long),
        )
        step = max(1, min(MAX_CHANNELS, MAX_VALUES // largest))
        return (slice(start, start + step) for start in range(0, channels, step))


@torch.no_grad()
def amplitude(signal: torch.Tensor, plan: FoldedWavelets) -> torch.Tensor:
    """Geometric means of wavelets' amplitudes, [channels, samples] to [channels, rows, frames].

    Dividing by the peak first makes the range of amplitudes known, be the unit volts or
    microvolts, and multiplying by it last keeps zeros at zero.
    """
    channels, samples = signal.shape
    longest = max((fold.fft_length for fold in plan.folds), default=samples)
    padded = signal.new_zeros((channels, longest), dtype=torch.float64)
    scaled = padded[:, :samples].copy_(signal)
    peak = torch.maximum(scaled.amax(-1, keepdim=True), -scaled.amin(-1, keepdim=True))
    scaled /= torch.where(peak == 0, 1.0, peak)
    logarithms = signal.new_zeros((plan.rows, channels * plan.frames), dtype=plan.dtype)
    # A training script may allow TF32 or bfloat16 products; here they would cost three digits.
    with full_precision(signal.device.type):
        for fold in plan.folds:
            spectrum = _needed_bins(padded[:, : fold.fft_length], fold, plan.dtype)
            for group in fold.groups:
                powers = _powers(spectrum, group, channels, plan.frames)
                logarithms[group.rows].addmm_(group.weights, _logarithm(powers))
        for wavelets in plan.long:
            powers = _long_powers(scaled, wavelets, plan)
            logarithms[wavelets.row, None].addmm_(wavelets.weights, _logarithm(powers))
    means = logarithms.exp_().view(plan.rows, channels, plan.frames).transpose(0, 1)
    return means.mul_((peak / HEADROOM).to(plan.dtype)[:, None])


def _needed_bins(signal: torch.Tensor, fold: _Fold, dtype: torch.dtype) -> torch.Tensor:
    """Spectrum of [channels, fft_length] as [bins, 2 * channels], imaginary beside real parts.

    The FFT itself runs in double precision: a large offset in the signal would otherwise leave its
    round-off in every bin. Up to three channels of zeros are added, because inverse FFTs are up
    to twice as slow where their stride is a power of two or near to it.
    """
    spectrum = torch.fft.rfft(signal)[:, : fold.positive_bins]
    channels = len(signal) + (2 - len(signal)) % 4
    table = spectrum.new_zeros((fold.positive_bins, channels), dtype=dtype.to_complex())
    table[:, : len(signal)] = spectrum.T
    needed = torch.view_as_real(table[fold.sources])  # [bins, channels, 2]
    needed[..., 1] *= fold.signs
    return needed.flatten(1)


def _powers(spectrum: torch.Tensor, group: _Group, channels: int, frames: int) -> torch.Tensor:
    """|V W|² of pairs, then |W|² of the rest, [pairs + rest, channels * frames]."""
    folded, n_wavelets, _ = group.bank.shape
    window = spectrum[group.window].unflatten(0, (-1, folded)).transpose(0, 1)
    bins = torch.bmm(group.bank, window).unflatten(-1, (-1, 2))  # [M, wavelets, channels, 2]
    wavelets = torch.fft.ifft(torch.view_as_complex(bins), dim=0, norm="forward")
    wavelets = wavelets.movedim(0, -1)[:, :channels, :frames]
    first, second = wavelets[: group.pairs], wavelets[group.pairs : 2 * group.pairs]
    products = wavelets.new_empty((n_wavelets - group.pairs, channels, frames))
    torch.mul(first, second, out=products[: group.pairs])
    products[group.pairs :] = wavelets[2 * group.pairs :]
    squares = torch.view_as_real(products).square_()
    return (squares[..., 0] + squares[..., 1]).flatten(1)


def _long_powers(
    signal: torch.Tensor, wavelets: _LongWavelets, plan: FoldedWavelets
) -> torch.Tensor:
    """|W|² of long wavelets, [wavelets, channels * frames].

    W is turned by its carrier's phase, which does not show in |W|.
    """
    moments = (wavelets.moments @ signal.T).unflatten(0, (2, -1)).mT  # [2, channels, polynomials]
    power = (moments @ wavelets.envelopes).square_().sum(0)  # [channels, wavelets * frames]
    by_wavelet: torch.Tensor = power.to(plan.dtype).unflatten(-1, (-1, plan.frames))
    return by_wavelet.transpose(0, 1).flatten(1)


def _logarithm(power: torch.Tensor) -> torch.Tensor:
    """Overwrite powers by their logarithms; that of zero stays finite, as 0 x infinity is NaN."""
    return power.clamp_(min=torch.finfo(power.dtype).tiny).log_()


# --- Making a plan ------------------------------------------------------------------------------

_Factor = tuple[Wavelet, ...]
"""One wavelet, or two of one superlet and one weight; the shorter in time comes first."""


@dataclass(frozen=True)
class _Grid:
    """An FFT of decimation x folded bins, and how far from its peak a spectrum is looked at."""

    rate_hz: float
    decimation: int
    folded: int
    tail_sd: float

    @property
    def fft_length(self) -> int:
        """Bins before folding."""
        return self.decimation * self.folded

    @property
    def bin_hz(self) -> float:
        """Distance between bins."""
        return self.rate_hz / self.fft_length

    def bins(self, factor: _Factor) -> range:
        """Where spectra of wavelets are not negligible."""
        centre = factor[0].hz / self.bin_hz
        reach = self.tail_sd / (2 * math.pi * factor[0].sd_s * self.bin_hz)
        return range(math.ceil(centre - reach), math.floor(centre + reach) + 1)

    def window(self, factors: Sequence[_Factor]) -> range:
        """The bins that several need, rounded up to whole blocks."""
        needed = [self.bins(factor) for factor in factors]
        first, stop = min(bins.start for bins in needed), max(bins.stop for bins in needed)
        return range(first, first + math.ceil((stop - first) / self.folded) * self.folded)


def make_plan(
    superlets: Sequence[Sequence[Wavelet]], sampling: Sampling, like: torch.Tensor
) -> FoldedWavelets:
    """Prepare `amplitude` for signals of one length.

    Args:
        superlets: Wavelets of each row's geometric mean, cycles ascending.
        sampling: The signals.
        like: Any tensor of the dtype and device to work with.
    """
    tail_sd = TAIL_SD[like.dtype]
    longest_s = sampling.samples / (2 * tail_sd * sampling.rate_hz)
    fitting = [[member for member in row if member.sd_s <= longest_s] for row in superlets]
    long = [[member for member in row if member.sd_s > longest_s] for row in superlets]
    folds = _by_length([row for row in fitting if row], sampling, tail_sd)
    grids = [_Grid(sampling.rate_hz, sampling.decimation, folded, tail_sd) for folded in folds]
    return FoldedWavelets(
        len(superlets),
        sampling.frames,
        like.dtype,
        tuple(_fold(rows, grid, like) for rows, grid in zip(folds.values(), grids, strict=True)),
        tuple(_long_wavelets(row, sampling, like) for row in long if row),
    )


def _by_length(
    superlets: list[list[Wavelet]], sampling: Sampling, tail_sd: float
) -> dict[int, list[list[Wavelet]]]:
    """Superlets by the M of their fold: that of the longest wavelet, and perhaps a shorter one.

    An FFT must have room for the signal and for the longest wavelet behind it. So a few wavelets
    of low frequencies would make all others costly; a second fold costs another FFT of the signal.
    """
    room = [tail_sd * row[-1].sd_s * sampling.rate_hz for row in superlets]
    needed = [_fast_length((sampling.samples + beyond) / sampling.decimation) for beyond in room]

    def chosen(short: int) -> list[int]:
        return [short if length <= short else max(needed) for length in needed]

    def points(short: int) -> int:
        """In all FFTs of a channel."""
        folded = chosen(short)
        inverse = sum(length * len(row) for length, row in zip(folded, superlets, strict=True))
        return sampling.decimation * sum(set(folded)) + inverse

    folds: dict[int, list[list[Wavelet]]] = {}
    if superlets:
        lengths = chosen(min(set(needed), key=points))
        for length, row in zip(lengths, superlets, strict=True):
            folds.setdefault(length, []).append(row)
    return folds


def _fold(superlets: list[list[Wavelet]], grid: _Grid, like: torch.Tensor) -> _Fold:
    """Wavelets that fit into the signal, in groups, and the bins that they need."""
    groups = _grouped([factor for row in superlets for factor in _factors(row)], grid)
    windows = [grid.window(group) for group in groups]
    first = min(window.start for window in windows)
    bins = torch.arange(first, max(window.stop for window in windows)) % grid.fft_length
    mirrored = bins > grid.fft_length // 2
    sources = torch.where(mirrored, grid.fft_length - bins, bins)
    return _Fold(
        grid.fft_length,
        int(sources.max()) + 1,
        sources.to(like.device),
        (1 - 2 * mirrored[:, None].int()).to(like),
        tuple(_group(group, first, grid, like) for group in groups),
    )


def _factors(superlet: list[Wavelet]) -> Iterator[_Factor]:
    """Neighbours in pairs where weights are equal, as all are except for a last fraction."""
    while superlet:
        paired = len(superlet) > 1 and superlet[0].weight == superlet[1].weight
        factor, superlet = superlet[: 1 + paired], superlet[1 + paired :]
        yield tuple(factor)


def _grouped(factors: list[_Factor], grid: _Grid) -> list[list[_Factor]]:
    """Put together what needs about as many bins at about the same place.

    Each wavelet of a group is multiplied over the window of the group. So widths in a group differ
    by less than a factor of two, and positions by about a block.
    """

    def doublings(factor: _Factor) -> int:
        return (math.ceil(len(grid.bins(factor)) / grid.folded) - 1).bit_length()

    groups: list[list[_Factor]] = []
    for factor in sorted(factors, key=lambda factor: (doublings(factor), factor[0].row)):
        group = [*groups[-1], factor] if groups else [factor]
        if (
            len(group) > 1
            and doublings(group[0]) == doublings(factor)
            and len(grid.window(group)) <= (2 ** doublings(factor) + 1) * grid.folded
            and sum(map(len, group)) <= MAX_WAVELETS
        ):
            groups[-1] = group
        else:
            groups.append([factor])
    return groups


def _group(factors: list[_Factor], first_bin: int, grid: _Grid, like: torch.Tensor) -> _Group:
    """Spectra and weights of wavelets; `first_bin` is the first one that their fold needs."""
    factors = sorted(factors, key=len, reverse=True)
    pairs = sum(len(factor) == 2 for factor in factors)
    wavelets = [pair[0] for pair in factors[:pairs]] + [factor[-1] for factor in factors]
    window = grid.window(factors)
    first_row = min(wavelet.row for wavelet in wavelets)
    rows = slice(first_row, max(wavelet.row for wavelet in wavelets) + 1)
    weights = np.zeros((rows.stop - rows.start, len(factors)))
    for column, factor in enumerate(factors):
        weights[factor[0].row - first_row, column] = factor[0].weight / 2
    return _Group(
        rows,
        slice(window.start - first_bin, window.stop - first_bin),
        like.new_tensor(_bank(wavelets, window, grid)),
        pairs,
        like.new_tensor(weights),
    )


def _bank(wavelets: list[Wavelet], window: range, grid: _Grid) -> np.ndarray:
    """Spectra of wavelets exp(-2π² sd² (ν - f)²), scaled, [M, wavelets, blocks]."""
    sd_s = np.array([[wavelet.sd_s] for wavelet in wavelets])
    distance_hz = np.array(window) * grid.bin_hz - [[wavelet.hz] for wavelet in wavelets]
    spectra = np.exp(-2 * (math.pi * sd_s * distance_hz) ** 2)
    spectra[spectra < 1e-20] = 0  # no denormal numbers: they are slow
    spectra *= HEADROOM / grid.fft_length
    return np.ascontiguousarray(spectra.reshape(len(wavelets), -1, grid.folded).transpose(2, 0, 1))


def _long_wavelets(
    superlet: list[Wavelet], sampling: Sampling, like: torch.Tensor
) -> _LongWavelets:
    """Interpolate envelopes in the signal's sample m by Chebyshev polynomials T_k over the signal.

    With n nodes u_r = cos(π (r + 1/2) / n), g(u) = Σ_k c_k T_k(u), where
    c_k = (2 / n) Σ_r g(u_r) T_k(u_r), and half of that for k = 0.
    """
    sd_s = np.array([wavelet.sd_s for wavelet in superlet])
    samples = np.arange(sampling.samples)
    span = sampling.samples / (sampling.rate_hz * sd_s.min())
    degrees = np.arange(_polynomials(span, POLYNOMIAL_ERROR[like.dtype]))
    angles = math.pi * (degrees + 0.5) / len(degrees)
    nodes = (np.cos(angles) + 1) / 2 * sampling.samples - 0.5  # in samples
    at_nodes = np.cos(np.outer(angles, degrees)) * np.where(degrees == 0, 1, 2) / len(degrees)
    lags_s = (samples[:: sampling.decimation, None] - nodes) / sampling.rate_hz
    envelopes = np.exp(-0.5 * (lags_s / sd_s[:, None, None]) ** 2)  # [wavelets, frames, nodes]
    peaks = HEADROOM / (sampling.rate_hz * sd_s * math.sqrt(2 * math.pi))
    coefficients = peaks[:, None, None] * (envelopes @ at_nodes)
    positions = (2 * samples + 1) / sampling.samples - 1
    polynomials = np.cos(np.outer(degrees, np.arccos(positions)))
    phase = 2 * math.pi * superlet[0].hz / sampling.rate_hz * samples
    moments = np.vstack([polynomials * np.cos(phase), polynomials * np.sin(phase)])
    return _LongWavelets(
        superlet[0].row,
        like.new_tensor(moments, dtype=torch.float64),
        like.new_tensor(coefficients.reshape(-1, len(degrees)).T, dtype=torch.float64),
        like.new_tensor([[wavelet.weight / 2 for wavelet in superlet]]),
    )


def _polynomials(span: float, tolerance: float) -> int:
    """How many Chebyshev polynomials make a Gaussian over `span` sd exact enough.

    With n nodes the error is at most 2 (span / 4)^n max |g^(n)| / n!, and the n-th derivative of
    exp(-u² / 2) is at most 1.09 √n! by Cramér's inequality for Hermite functions.
    """
    count, error = 1, 2.18 * span / 4
    while error > tolerance:
        count += 1
        error *= span / 4 / math.sqrt(count)
    return count


def _fast_length(minimum: float) -> int:
    """The smallest multiple of 4 from `minimum` on without a prime factor above 7."""
    # Not 4 * scipy.fft.next_fast_len: that allows 11 as well, and other lengths are other bits.
    length = 4 * max(1, math.ceil(minimum / 4))
    while not _is_smooth(length):
        length += 4
    return length


def _is_smooth(length: int) -> bool:
    for prime in (2, 3, 5, 7):
        while length % prime == 0:
            length //= prime
    return length == 1
