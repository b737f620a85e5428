"""How a movie ran while it was recorded, and what the recording computer noted of that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

TRIGGER_EVERY_S, TRIGGER_JITTER_S = 0.1, 0.01
PAUSE_S = (2.0, 8.0)
STEP_BACK_S = (0.005, 0.055)  # lag of the movie time noted at a pause behind the last trigger


@dataclass(frozen=True, eq=False)
class MovieTimes:
    """How the movie ran while the recording did; pauses are [pauses] in order.

    Attributes:
        rate_hz: Samples per second.
        lead_in_s: Time recorded before the movie.
        end_s: Length of the movie.
        pause_at_s: Movie times of the pauses.
        pause_s: Length of each pause.
    """

    rate_hz: float
    lead_in_s: float
    end_s: float
    pause_at_s: np.ndarray
    pause_s: np.ndarray

    def sample_of(self, movie_time_s: np.ndarray) -> np.ndarray:
        """True sample, with fraction, of movie times; at a pause's own time, before the pause."""
        ahead = self.pause_at_s[None, :] < np.asarray(movie_time_s)[:, None]
        recorded_s: np.ndarray = self.lead_in_s + movie_time_s + ahead @ self.pause_s
        return recorded_s * self.rate_hz


def run_movie(seed: int, end_s: float, rate_hz: float, lead_in_s: float, pauses: int) -> MovieTimes:
    """Choose when a movie was paused: about evenly over its length, whatever is being said."""
    generator = np.random.default_rng([seed, 1])
    shares = (np.arange(pauses) + generator.uniform(0.7, 1.3, pauses)) / (pauses + 1)
    return MovieTimes(
        rate_hz=rate_hz,
        lead_in_s=lead_in_s,
        end_s=end_s,
        pause_at_s=np.round(shares * end_s, 3),
        pause_s=np.round(generator.uniform(*PAUSE_S, pauses), 3),
    )


def timing_rows(seed: int, movie: MovieTimes) -> list[dict[str, str]]:
    """The rows of a `*_timings.csv` file; a pause is a pair of rows that share one movie time."""
    generator = np.random.default_rng([seed, 2])
    n_triggers = int(movie.end_s / TRIGGER_EVERY_S)
    jitter_s = generator.uniform(-TRIGGER_JITTER_S, TRIGGER_JITTER_S, n_triggers)
    times_s = np.round(np.arange(1, n_triggers + 1) * TRIGGER_EVERY_S + jitter_s, 6)
    times_s = times_s[times_s <= movie.end_s]
    rows = [("beginning", 0.0, movie.sample_of(np.zeros(1))[0])]
    rows += zip(["trigger"] * len(times_s), times_s, movie.sample_of(times_s), strict=True)
    for at_s, pause_s in zip(movie.pause_at_s, movie.pause_s, strict=True):
        last_trigger_s = times_s[times_s <= at_s].max(initial=0.0)
        noted_s = max(round(last_trigger_s - generator.uniform(*STEP_BACK_S), 6), 0.0)
        sample = movie.sample_of(np.array([at_s]))[0]
        rows.append(("pause", noted_s, sample))
        rows.append(("unpause", noted_s, sample + pause_s * movie.rate_hz))
    rows.append(("end", movie.end_s, movie.sample_of(np.array([movie.end_s]))[0]))
    return list(_as_noted(sorted(rows, key=lambda row: row[2]), movie.rate_hz))


def _as_noted(rows: list[tuple[str, float, float]], rate_hz: float) -> Iterator[dict[str, str]]:
    previous = 0
    for kind, movie_time_s, sample in rows:
        index = round(sample)
        clock_s = 1000.0 + index / rate_hz
        yield {
            "type": kind,
            "movie_time": f"{movie_time_s:.6f}",
            "start_time": f"{clock_s:.6f}",
            "end_time": f"{clock_s + 0.03:.6f}",
            "trig_type": "auto",
            "index": str(index),
            "diff": str(index - previous),
        }
        previous = index
