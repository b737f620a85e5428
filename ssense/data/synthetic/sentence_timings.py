"""When the sentences of a real movie were said and recorded, read from a table.

A row is a sentence: `onset_s`, `offset_s` in movie seconds, `onset_sample`, `offset_sample` in the
recording, `n_words`. From the two clocks follow the recording's rate, its lead-in and its pauses.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from ssense.data.recordings.timeline import timeline_of
from ssense.data.synthetic.movie_times import MovieTimes
from ssense.errors import UserError
from ssense.files.digest import file_digest
from ssense.files.tables import read_csv

COLUMNS = ("onset_s", "offset_s", "onset_sample", "offset_sample", "n_words")
LEAST_WORD_S, MOST_WORDS = 0.01, 500  # Ant-Man: 0.06 s, 35 words
LEAST_RATE_HZ = 100.0  # below it the columns are not in seconds and samples
# The published samples of Ant-Man scatter over 0.2 s: they go from the next trigger at 2048 Hz,
# twice the true rate. The shortest of its six pauses lasts 1.8 s.
LEAST_PAUSE_S = 0.5


@dataclass(frozen=True, eq=False)
class SentenceTimings:
    """The sentences of a movie in order; arrays are [sentences].

    Attributes:
        path: File that the timings were read from.
        digest: Name of the table by its content.
        onset_s, offset_s: Start and end of each sentence, movie seconds.
        n_words: Number of words of each sentence, int64.
        lead_in_s: Time recorded before the movie.
        pause_at_s, pause_s: Movie times and lengths of the pauses [pauses].
    """

    path: Path
    digest: str
    onset_s: np.ndarray
    offset_s: np.ndarray
    n_words: np.ndarray
    lead_in_s: float
    pause_at_s: np.ndarray
    pause_s: np.ndarray

    def movie(self, rate_hz: float, end_s: float) -> MovieTimes:
        """The movie as it ran, recorded at any rate up to movie second `end_s`."""
        return MovieTimes(rate_hz, self.lead_in_s, end_s, self.pause_at_s, self.pause_s)


def read_sentence_timings(path: Path) -> SentenceTimings:
    """Read a table of sentence timings and find the pauses between its rows.

    Raises:
        UserError: The table is missing or malformed, or holds times that no movie can have.
    """
    table = read_csv(path, dict.fromkeys(COLUMNS, pa.float64()))
    columns = {name: table[name].to_numpy() for name in COLUMNS}
    _check_rows(path, columns)
    time_s, sample = _both_clocks(columns)
    lead_in_s, pause_at_s, pause_s = _find_pauses(path, time_s, sample)
    return SentenceTimings(
        path=path,
        digest=file_digest(path),
        onset_s=columns["onset_s"],
        offset_s=columns["offset_s"],
        n_words=columns["n_words"].astype(np.int64),
        lead_in_s=lead_in_s,
        pause_at_s=pause_at_s,
        pause_s=pause_s,
    )


def _check_rows(path: Path, columns: dict[str, np.ndarray]) -> None:
    onset_s, offset_s, onset_sample, offset_sample, n_words = columns.values()
    if not len(onset_s):
        raise UserError(f"{path} holds no sentence. Give a table with a row per sentence.")
    for name, values in columns.items():
        _refuse(path, ~(np.isfinite(values) & (values >= 0)), name, values, "a number from 0 on")
    counts = (n_words >= 1) & (n_words <= MOST_WORDS) & (n_words == np.rint(n_words))
    _refuse(path, ~counts, "n_words", n_words, f"a whole number from 1 to {MOST_WORDS}")
    short = offset_s - onset_s < LEAST_WORD_S * n_words
    _refuse(path, short, "offset_s", offset_s, f"{LEAST_WORD_S:g} s per word after onset_s")
    _refuse(path, offset_sample <= onset_sample, "offset_sample", offset_sample, "after the onset")
    back = np.diff(onset_s, prepend=0.0) < 0
    _refuse(path, back, "onset_s", onset_s, "no earlier than in the row before")


def _refuse(path: Path, wrong: np.ndarray, name: str, values: np.ndarray, wanted: str) -> None:
    if wrong.any():
        row = int(np.argmax(wrong))
        raise UserError(
            f"{path}, row {row} after the header: {name} must be {wanted}, got {values[row]:g}. "
            "Correct the table."
        )


def _both_clocks(columns: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Movie seconds of all onsets and offsets in order, and their samples."""
    time_s = np.concatenate([columns["onset_s"], columns["offset_s"]])
    sample = np.concatenate([columns["onset_sample"], columns["offset_sample"]])
    order = np.lexsort([sample, time_s])
    return time_s[order], sample[order]


def _find_pauses(
    path: Path, time_s: np.ndarray, sample: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Lead-in in seconds, movie times of the pauses and their lengths, to the millisecond."""
    # Whatever jumps there are, the rate is that of most stretches between the moments.
    rate_hz = timeline_of(np.full(len(time_s), "trigger"), time_s, sample).sampling_rate_hz()
    if rate_hz < LEAST_RATE_HZ:
        raise UserError(
            f"{path}: the recording runs at {rate_hz:.3g} samples per movie second. "
            "Give onset_s and offset_s in seconds, onset_sample and offset_sample in samples."
        )
    ahead_s = sample / rate_hz - time_s  # lead over the movie's clock
    steps_s = np.diff(ahead_s)
    if (steps_s < -LEAST_PAUSE_S).any():
        step = int(np.argmin(steps_s))
        raise UserError(
            f"{path}: between movie seconds {time_s[step]:g} and {time_s[step + 1]:g} the samples "
            f"fall {-steps_s[step]:.3g} s behind, at {rate_hz:g} Hz. Correct the table."
        )
    at = np.flatnonzero(steps_s > LEAST_PAUSE_S)
    levels_s = np.array([np.median(part) for part in np.split(ahead_s, at + 1)])
    if levels_s[0] < 0:
        raise UserError(
            f"{path}: at {rate_hz:g} Hz the movie begins {-levels_s[0]:.3g} s before the "
            "recording. Correct onset_sample and offset_sample."
        )
    middle_s = (time_s[at] + time_s[at + 1]) / 2
    return round(levels_s[0], 3), np.round(middle_s, 3), np.round(np.diff(levels_s), 3)
