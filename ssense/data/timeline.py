"""When a moment of the movie happened in the recording: trigger timings, pauses, alignment.

During a recording the computer that played the movie sent a trigger about every 0.1 s and noted
the movie time of each. The recording ran on while the movie was paused, so between two unpaused
runs the sample number jumps and the movie time does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from ssense.data.tables import read_csv
from ssense.errors import UserError

Alignment = Literal["interpolate", "official_nearest_2048"]

KNOWN_RATES_HZ = (512.0, 1000.0, 1024.0, 2000.0, 2048.0)
SNAP_TOLERANCE = 0.01  # triggers jitter by tens of samples; the known rates lie > 2 % apart
CHUNK_S = 10.0  # long enough to make that jitter small against the chunk's own samples
OFFICIAL_RATE_HZ = 2048.0  # written into the official alignment, whatever the recording's rate

_ENDS_RUN = ("pause", "end")
_STARTS_RUN = ("unpause", "beginning")


@dataclass(frozen=True, eq=False)
class Run:
    """Triggers between two pauses, both arrays [triggers] and strictly increasing."""

    movie_time_s: np.ndarray
    sample: np.ndarray


@dataclass(frozen=True, eq=False)
class Timeline:
    """The timings of one recording.

    Attributes:
        runs: the unpaused stretches in order, each with at least two triggers.
        row_time_s: movie time of every row, whatever its type [rows], in the order of the samples.
        row_sample: sample number of every row [rows].
    """

    runs: tuple[Run, ...]
    row_time_s: np.ndarray
    row_sample: np.ndarray

    def sample_of(self, movie_time_s: np.ndarray, align: Alignment) -> np.ndarray:
        """Sample numbers, with fractions, of movie times [n]; NaN where they are not known.

        `interpolate` draws a straight line between the two triggers around the moment, both of
        one unpaused run. `official_nearest_2048` is the dataset's published procedure: go from
        the nearest row, of any type, at 2048 samples per second.
        """
        if align == "official_nearest_2048":
            return self._from_nearest_row(movie_time_s)
        return self._between_triggers(movie_time_s)

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
        long), set to the nearest of `KNOWN_RATES_HZ` within one per cent.
        """
        rates = np.concatenate([_chunk_rates(run, CHUNK_S) for run in self.runs])
        if not len(rates):
            rates = np.concatenate([_rates(run, [0, -1]) for run in self.runs])
        measured = float(np.median(rates))
        nearest = min(KNOWN_RATES_HZ, key=lambda known: abs(known - measured))
        return nearest if abs(nearest - measured) <= SNAP_TOLERANCE * nearest else measured

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

    Raises:
        UserError: a column is missing or malformed, or no run has two triggers.
    """
    columns = {"type": pa.string(), "movie_time": pa.float64(), "index": pa.float64()}
    table = read_csv(path, columns)
    kind = np.array(table["type"].to_pylist(), dtype=str)
    movie_time_s = table["movie_time"].to_numpy()
    sample = table["index"].to_numpy()
    known = np.isfinite(movie_time_s) & np.isfinite(sample)
    if not np.any(known & (kind == "trigger")):
        raise UserError(
            f"{path} has no trigger with movie_time and index among its {len(kind)} rows. "
            "Restore the file from the download."
        )
    timeline = timeline_of(kind[known], movie_time_s[known], sample[known])
    if not timeline.runs:
        raise UserError(
            f"{path} has no two triggers in order between pauses among its {len(kind)} rows. "
            "Restore the file from the download."
        )
    return timeline


def timeline_of(kind: np.ndarray, movie_time_s: np.ndarray, sample: np.ndarray) -> Timeline:
    """Arrange timing rows (three arrays [rows], finite, in any order) into a timeline."""
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
        members = is_trigger & (run_number == number)
        rising = _strictly_rising(movie_time_s[members], sample[members])
        if np.sum(rising) >= 2:
            runs.append(Run(movie_time_s[members][rising], sample[members][rising]))
    return Timeline(tuple(runs), movie_time_s, sample)


def _strictly_rising(*values: np.ndarray) -> np.ndarray:
    """Mask of the entries that exceed all entries before them, in every array."""
    rising = np.ones(len(values[0]), dtype=bool)
    for value in values:
        rising[1:] &= value[1:] > np.maximum.accumulate(value)[:-1]
    return rising


def _chunk_rates(run: Run, shortest_s: float) -> np.ndarray:
    """Samples per second of neighbouring chunks of a run, each at least `shortest_s` long."""
    edges = [0]
    while True:
        chunk_end_s = run.movie_time_s[edges[-1]] + shortest_s
        edge = int(np.searchsorted(run.movie_time_s, chunk_end_s))
        if edge >= len(run.sample):
            return _rates(run, edges)
        edges.append(edge)


def _rates(run: Run, edges: list[int]) -> np.ndarray:
    return np.diff(run.sample[edges]) / np.diff(run.movie_time_s[edges])
