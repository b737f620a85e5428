"""When a moment of the movie happened in the recording: trigger timings, pauses, alignment.

During a recording the computer that played the movie sent a trigger about every 0.1 s and noted
the movie time of each. The recording ran on while the movie was paused, so between two unpaused
runs the sample number jumps and the movie time does not.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from ssense.errors import UserError, counted
from ssense.files.tables import WHOLE_NUMBERS, read_csv

Alignment = Literal["interpolate", "official_nearest_2048"]

USUAL_RATES_HZ = (
    200.0, 250.0, 256.0, 400.0, 500.0, 512.0, 1000.0, 1024.0, 2000.0, 2048.0, 4096.0, 5000.0,
    10000.0, 30000.0,
)  # fmt: skip
# Tucker-Davis's amplifiers divide 200 MHz / 8192 = 24,414.06 Hz: 305.18, 508.63, 610.35, 762.94,
# 1017.25, 1220.7, 1525.88, 2034.51, 2441.41, 3051.76, 4069.01, 6103.52, 12,207.03 Hz.
_TUCKER_DAVIS_DIVISORS = (80, 48, 40, 32, 24, 20, 16, 12, 10, 8, 6, 4, 2, 1)
TUCKER_DAVIS_HZ = tuple(200e6 / 8192 / divisor for divisor in _TUCKER_DAVIS_DIVISORS)
KNOWN_RATES_HZ = (*USUAL_RATES_HZ, *TUCKER_DAVIS_HZ)
STANDARD_ERRORS = 3.0  # a known rate is taken for the measured one if it lies no farther away
LIKELIER = 20.0  # times, than any other known rate
CLOCKS = 2e-4  # by which the clocks of two computers differ, 100 ppm each
SNAP_TOLERANCE = 0.01  # at most, however few the triggers
CHUNK_S = 10.0  # long enough to make that jitter small against the chunk's own samples
JUMP_S = 0.5  # between triggers; pauses last over a second, jitter some hundredths
PLAUSIBLE_RATES_HZ = (1.0, 1e6)
OFFICIAL_RATE_HZ = 2048.0  # written into the official alignment, whatever the recording's rate

_ENDS_RUN = ("pause", "end")
_STARTS_RUN = ("unpause", "beginning")


@dataclass(frozen=True, eq=False)
class Run:
    """Two triggers or more between two pauses; both arrays [triggers], strictly increasing."""

    movie_time_s: np.ndarray
    sample: np.ndarray


@dataclass(frozen=True, eq=False)
class Timeline:
    """The timings of one recording.

    Attributes:
        runs: The unpaused stretches in order.
        row_time_s: Movie time of every row, whatever its type [rows], in the order of the samples.
        row_sample: Sample number of every row [rows].
        stated_hz: Samples per second where times are those of the recording itself, whose file
            states them; None where the triggers tell.
    """

    runs: tuple[Run, ...]
    row_time_s: np.ndarray
    row_sample: np.ndarray
    stated_hz: float | None = None

    @classmethod
    def of_recording(cls, n_samples: int, sampling_rate_hz: float) -> Timeline:
        """The timeline of a recording in whose own seconds the stimuli are timed.

        Args:
            n_samples: Length of the recording.
            sampling_rate_hz: Samples per second, as the recording's file states them.
        """
        sample = np.array([0.0, n_samples])
        time_s = sample / sampling_rate_hz
        return cls((Run(time_s, sample),), time_s, sample, sampling_rate_hz)

    def sample_of(self, movie_time_s: np.ndarray, align: Alignment) -> np.ndarray:
        """Sample numbers, with fractions, of movie times [n]; NaN where they are not known.

        `interpolate` draws a straight line between the two triggers around the moment, both of
        one unpaused run. `official_nearest_2048` is the dataset's published procedure: go from
        the nearest row, of any type, at 2048 samples per second. Times that are the recording's own
        need neither.
        """
        if self.stated_hz is not None:
            samples = self._between_triggers(movie_time_s)
        elif align == "official_nearest_2048":
            samples = self._from_nearest_row(movie_time_s)
        else:
            samples = self._between_triggers(movie_time_s)
        return np.where(np.abs(samples) < WHOLE_NUMBERS, samples, np.nan)

    def pauses(self) -> np.ndarray:
        """First and last sample of what lies between neighbouring runs, [pauses, 2]."""
        bounds = [
            (before.sample[-1], after.sample[0])
            for before, after in zip(self.runs, self.runs[1:], strict=False)
        ]
        return np.array(bounds, dtype=float).reshape(-1, 2)

    def sampling_rate_hz(self) -> float:
        """Samples per second of unpaused movie: the recording's true rate.

        The median over chunks of at least ten seconds (or over whole runs where none is that
        long), set to the one of `KNOWN_RATES_HZ` that lies within the error of the measurement,
        see `rate_tolerance_hz`. Where none does, or two are about as likely, it stays as measured.
        Where the file states the rate, it is that.
        """
        if self.stated_hz is not None:
            return self.stated_hz
        measured = _measured_rate_hz(self.runs)
        nearest, second = sorted(KNOWN_RATES_HZ, key=lambda known: abs(known - measured))[:2]
        if abs(nearest - measured) > rate_tolerance_hz(self.runs):
            return measured
        deviations = (np.array([nearest, second]) - measured) / _rate_error_hz(self.runs)
        # Half the difference of the squares is the logarithm of how much likelier the nearest is.
        clear = np.diff(deviations**2)[0] / 2 > math.log(LIKELIER)
        return nearest if clear else measured

    def _between_triggers(self, movie_time_s: np.ndarray) -> np.ndarray:
        samples = np.full(len(movie_time_s), np.nan)
        for run in self.runs:
            first, last = run.movie_time_s[[0, -1]]
            # Around a pause the movie time steps back a little; the earlier run keeps the moment.
            inside = np.isnan(samples) & (movie_time_s >= first) & (movie_time_s <= last)
            samples[inside] = np.interp(movie_time_s[inside], run.movie_time_s, run.sample)
        return samples

    def _from_nearest_row(self, movie_time_s: np.ndarray) -> np.ndarray:
        # Of rows sharing a movie time the first counts, as for an argmin over all rows.
        times, row = np.unique(self.row_time_s, return_index=True)
        above = np.clip(np.searchsorted(times, movie_time_s), 1, max(len(times) - 1, 1))
        above = np.minimum(above, len(times) - 1)
        below = np.maximum(above - 1, 0)
        is_below = movie_time_s - times[below] <= times[above] - movie_time_s
        nearest = np.where(is_below, below, above)
        distance_s = movie_time_s - times[nearest]
        samples = np.round(self.row_sample[row[nearest]] + distance_s * OFFICIAL_RATE_HZ)
        return np.where(movie_time_s <= times[-1], samples, np.nan)


def read_timeline(path: Path) -> Timeline:
    """Read a `*_timings.csv` file; only its columns type, movie_time and index are used.

    Rows may come in any order. Those without a movie time or an index of at least 0 (blank, NaN,
    beyond 2^53) are left out, and so are triggers that contradict most others: see `timeline_of`.

    Raises:
        UserError: A column is missing or malformed, no run has two triggers, or the triggers give a
            sampling rate that no recording has.
    """
    columns = {"type": pa.string(), "movie_time": pa.float64(), "index": pa.float64()}
    table = read_csv(path, columns)
    kind = np.array(table["type"].to_pylist(), dtype=object)
    movie_time_s = table["movie_time"].to_numpy()
    sample = table["index"].to_numpy()
    known = (np.abs(movie_time_s) < WHOLE_NUMBERS) & (sample >= 0) & (sample < WHOLE_NUMBERS)
    if not np.any(known & (kind == "trigger")):
        raise UserError(
            f"{path} has no trigger with movie_time and index among its "
            f"{counted(len(kind), 'row')}. Restore the file from the download."
        )
    timeline = timeline_of(kind[known], movie_time_s[known], sample[known])
    if not timeline.runs:
        raise UserError(
            f"{path} has no two triggers in order between pauses among its "
            f"{counted(len(kind), 'row')}. Restore the file from the download."
        )
    lowest, highest = PLAUSIBLE_RATES_HZ
    if not lowest <= timeline.sampling_rate_hz() <= highest:
        raise UserError(
            f"{path}: its triggers give {timeline.sampling_rate_hz():g} samples per second of "
            "movie. Restore the file from the download."
        )
    return timeline


def timeline_of(kind: np.ndarray, movie_time_s: np.ndarray, sample: np.ndarray) -> Timeline:
    """Arrange timing rows (three arrays [rows], finite, in any order) into a timeline.

    Between pauses, triggers are left out that break the order of most others. Where recording and
    movie still disagree by more than `JUMP_S` from one trigger to the next, there was a pause that
    no row tells of.
    """
    order = np.argsort(sample, kind="stable")
    kind, movie_time_s, sample = kind[order], movie_time_s[order], sample[order]
    # A row that ends a run counts with the run before it, one that starts a run with the next.
    starts = np.isin(kind, _STARTS_RUN)
    starts[1:] |= np.isin(kind[:-1], _ENDS_RUN)
    run_number = np.cumsum(starts)
    # Only triggers carry measured times: the other rows' lie up to 0.06 s off.
    is_trigger = kind == "trigger"
    runs = []
    for number in np.unique(run_number[is_trigger]):
        members = np.flatnonzero(is_trigger & (run_number == number))
        kept = members[_longest_rising(movie_time_s[members], sample[members])]
        if len(kept) >= 2:
            runs.append(Run(movie_time_s[kept], sample[kept]))
    rate_hz = _measured_rate_hz(runs) if runs else np.nan
    unbroken = tuple(part for run in runs for part in _split_at_jumps(run, rate_hz))
    return Timeline(unbroken, movie_time_s, sample)


def _longest_rising(movie_time_s: np.ndarray, sample: np.ndarray) -> list[int]:
    """Indices of the most triggers of which every one is later than the one before in both arrays.

    The longest increasing subsequence by binary search (Fredman 1975, "On computing the length of
    longest increasing subsequences").
    """
    lowest_s: list[float] = []  # the last time of the best sequence of each length
    last: list[int] = []  # and its index
    before = np.full(len(sample), -1)
    # Of triggers that share a sample the later comes first: no sequence can hold both.
    for trigger in np.lexsort((-movie_time_s, sample)).tolist():
        length = bisect_left(lowest_s, movie_time_s[trigger])
        lowest_s[length : length + 1] = [movie_time_s[trigger]]
        last[length : length + 1] = [trigger]
        before[trigger] = last[length - 1] if length else -1
    rising = last[-1:]
    while before[rising[-1]] >= 0:
        rising.append(int(before[rising[-1]]))
    return rising[::-1]


def _split_at_jumps(run: Run, rate_hz: float) -> list[Run]:
    """The parts of a run in which recording and movie advance alike, each of two triggers."""
    jump_s = np.diff(run.sample) / rate_hz - np.diff(run.movie_time_s)
    edges = np.flatnonzero(np.abs(jump_s) > JUMP_S) + 1
    parts = zip(np.split(run.movie_time_s, edges), np.split(run.sample, edges), strict=True)
    return [Run(*part) for part in parts if len(part[0]) >= 2]


def rate_chunks(runs: Sequence[Run]) -> tuple[np.ndarray, np.ndarray]:
    """Movie seconds and samples of the pause-free chunks that the rate rests on, [chunks] each.

    Chunks last at least `CHUNK_S`; where no run is that long, each run is one.
    """
    edges = [_chunk_edges(run) for run in runs]
    if all(len(places) < 2 for places in edges):
        edges = [[0, -1] for _ in runs]
    pairs = list(zip(runs, edges, strict=True))
    seconds = np.concatenate([np.diff(run.movie_time_s[places]) for run, places in pairs])
    samples = np.concatenate([np.diff(run.sample[places]) for run, places in pairs])
    return seconds, samples


def rate_tolerance_hz(runs: Sequence[Run]) -> float:
    """How far the measured rate may lie from the true one, Hz.

    Three standard errors of the median over the chunks, and what two clocks may differ by; at most
    one per cent.
    """
    measured = _measured_rate_hz(runs)
    tolerance_hz = STANDARD_ERRORS * _rate_error_hz(runs) + CLOCKS * measured
    return min(tolerance_hz, SNAP_TOLERANCE * measured)


def _rate_error_hz(runs: Sequence[Run]) -> float:
    """Standard error of the measured rate, Hz.

    That of a chunk is the spread of the chunks, or comes from how the triggers scatter about a
    straight line through it, if few chunks should agree by chance. Samples are whole numbers: it
    is never zero.
    """
    seconds, samples = rate_chunks(runs)
    rates_hz = samples / seconds
    spread_hz = _robust_sd(rates_hz - np.median(rates_hz))
    scatter = np.concatenate([_scatter(run) for run in runs])
    jitter = max(_robust_sd(scatter), 1 / math.sqrt(12))
    jitter_hz = math.sqrt(2) * jitter / float(np.median(seconds))
    # The median's standard error is 1.25 times the mean's (normal errors).
    return 1.2533 * max(spread_hz, jitter_hz) / math.sqrt(len(rates_hz))


def _scatter(run: Run) -> np.ndarray:
    """Samples by which triggers lie off the straight line through their chunk, [triggers]."""
    edges = _chunk_edges(run)
    edges = edges if len(edges) > 1 else [0, -1]
    times_s, sample = run.movie_time_s, run.sample
    off: np.ndarray = sample - np.interp(times_s, times_s[edges], sample[edges])
    return off


def _robust_sd(deviations: np.ndarray) -> float:
    """Standard deviation by the median of what lies off zero: outliers do not count."""
    return 1.4826 * float(np.median(np.abs(deviations)))


def _measured_rate_hz(runs: Sequence[Run]) -> float:
    """Median of the samples per second in chunks of the runs, unrounded."""
    seconds, samples = rate_chunks(runs)
    return float(np.median(samples / seconds))


def _chunk_edges(run: Run) -> list[int]:
    edges, times_s = [0], run.movie_time_s
    while (edge := int(np.searchsorted(times_s, times_s[edges[-1]] + CHUNK_S))) < len(times_s):
        edges.append(edge)
    return edges
