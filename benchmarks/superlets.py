"""Superlet transform against a plain loop of convolutions, one thread, in one run.

    python benchmarks/superlets.py

Both compute BrainBERT's recipe for segments of 8,200 samples at 2048 Hz. The loop convolves with
each of the 598 wavelets (cut at 4 sd), takes the modulus, forms the geometric mean and keeps every
50th sample. The floor is what the 598 short inverse FFTs of the transform cost alone, with numbers
in the order that suits them best.
"""

# ruff: noqa: E402 - flags are checked before the imports that take seconds

from __future__ import annotations

from dataclasses import dataclass

from bounds import at_least

from ssense.cli.command import check_flags, run_command


@dataclass(frozen=True)
class Options:
    """What to measure."""

    channels: int = 64
    """Channels that are transformed together; the loop takes one at a time."""
    rounds: int = 15
    """How often all three are timed, so that a busy moment of the machine meets all of them."""

    def __post_init__(self) -> None:
        at_least(self, channels=1, rounds=1)


if __name__ == "__main__":
    check_flags(Options)  # before the imports that take seconds

import resource
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from scipy.signal import fftconvolve

from ssense.signal.superlets import SuperletSpec, superlet_transform

SAMPLES = 8200
RATE_HZ = 2048.0
FOLDED = 180  # bins of a short inverse FFT; nine wavelets below 20 Hz have 216
LOOP_CUT_SD = 4.0


def looped_transform(signal: np.ndarray, spec: SuperletSpec) -> np.ndarray:
    """[frequencies, frames] of [samples], the way the definition reads."""
    rows = []
    for frequency, hz in enumerate(spec.frequencies_hz):
        logarithm = np.zeros(len(signal))
        for cycles, weight in zip(*spec.wavelets(frequency), strict=True):
            amplitude = np.abs(fftconvolve(signal, wavelet(hz, cycles), mode="same"))
            logarithm += weight * np.log(np.maximum(amplitude, 1e-30))
        rows.append(np.exp(logarithm[:: spec.decimation]))
    return np.stack(rows)


def wavelet(hz: float, cycles: float) -> np.ndarray:
    """Samples of a wavelet of unit response at `hz`, no longer than the lags of a segment."""
    sd = cycles / (5 * hz)
    reach = min(SAMPLES - 1, int(np.ceil(LOOP_CUT_SD * sd * RATE_HZ)))
    seconds = np.arange(-reach, reach + 1) / RATE_HZ
    envelope = np.exp(-0.5 * (seconds / sd) ** 2) / (sd * np.sqrt(2 * np.pi) * RATE_HZ)
    return envelope * np.exp(2j * np.pi * hz * seconds)


def seconds_of(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def peak_bytes() -> int:
    """Largest resident memory so far, as Linux counts it."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main(options: Options) -> None:
    """Time the loop, the transform and its inverse FFTs; print their ratios."""
    torch.set_num_threads(1)
    channels = options.channels
    spec = SuperletSpec.brainbert()
    signals = np.random.default_rng(0).standard_normal((channels, SAMPLES)).astype(np.float32)
    wavelets = sum(len(spec.wavelets(row)[0]) for row in range(spec.n_frequencies))
    spectra = torch.randn(channels, wavelets // 26, FOLDED, dtype=torch.complex64)

    def floor() -> None:
        for _ in range(26):  # in parts that stay in the cache, as those of the transform do
            torch.fft.ifft(spectra)

    loop = looped_transform(signals[0].astype(np.float64), spec)
    before = peak_bytes()
    result = superlet_transform(signals, RATE_HZ, spec)  # makes the plan
    memory = peak_bytes() - before - result.nbytes
    ours = result[0].numpy()
    difference = np.linalg.norm(ours - loop) / np.linalg.norm(loop)
    timings = [
        (
            seconds_of(lambda: looped_transform(signals[0].astype(np.float64), spec)),
            seconds_of(lambda: superlet_transform(signals, RATE_HZ, spec)) / channels,
            seconds_of(floor) / channels,
        )
        for _ in range(options.rounds)
    ]
    loop_s, ours_s, floor_s = (statistics.median(column) for column in zip(*timings, strict=True))
    print(
        f"superlets: {loop_s / ours_s:.0f}x faster than {wavelets} fftconvolve calls "
        f"({1e3 * ours_s:.2f} against {1e3 * loop_s:.0f} ms per channel of {SAMPLES} samples, "
        f"one thread, results {difference:.0e} apart); "
        f"{ours_s / floor_s:.1f}x its inverse FFTs alone ({1e3 * floor_s:.2f} ms); "
        f"{memory / 1e6:.0f} MB for {channels} channels besides signal and result"
    )


if __name__ == "__main__":
    run_command(Options, main)
