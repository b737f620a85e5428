"""Impulses at known moments of a movie must turn up in the right sample of the right segment.

What a movie's pauses, triggers and sentences are is drawn at random; which sentences are kept, and
where, is worked out again here, one trigger and one sample at a time, from the definitions.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ssense.data.recordings.readers.brain_treebank import open_brain_treebank
from ssense.data.recordings.recording import Recording
from ssense.data.recordings.segment_signals import read_segments
from ssense.data.recordings.segments import SegmentSpec, select_segments
from ssense.data.recordings.timeline import JUMP_S, timeline_of

PLAIN = SegmentSpec(electrodes="all", reference="none", line_hz=None)
RATES_HZ = (512, 1000, 1024, 2000, 2048)
LABELS = ("F1a1", "F1a2*", "F1a3", "F1_a4", "F1a5#", "T2b9", "T2b10", "T2b11", "DC4")
MOVIE_S = 60.0


@dataclass(frozen=True)
class Movie:
    """How a recording ran: what the test knows and the reader has to find out.

    Attributes:
        pauses: (movie time, length) in seconds.
        trigger_s: Movie times of the triggers, [triggers].
        stop_s: Movie time at which the recording was stopped.
    """

    rate_hz: int
    lead_s: float
    pauses: tuple[tuple[float, float], ...]
    trigger_s: np.ndarray
    stop_s: float

    def sample(self, movie_time_s: float) -> float:
        """True sample of a moment, with fraction."""
        paused_s = sum(length_s for at_s, length_s in self.pauses if at_s < movie_time_s)
        return (self.lead_s + paused_s + movie_time_s) * self.rate_hz

    @property
    def n_samples(self) -> int:
        return round(self.sample(self.stop_s))

    def rows(self) -> list[tuple[str, float, int]]:
        """Timing rows: type, movie time, sample."""
        rows = [("beginning", 0.0, round(self.sample(0.0)))]
        rows += [("trigger", t, round(self.sample(t))) for t in self.trigger_s.tolist()]
        for at_s, length_s in self.pauses:
            noted_s = self.trigger_s[self.trigger_s <= at_s].max(initial=0.0) - 0.03
            rows.append(("pause", noted_s, round(self.sample(at_s))))
            rows.append(("unpause", noted_s, round(self.sample(at_s) + length_s * self.rate_hz)))
        rows.append(("end", MOVIE_S, round(self.sample(MOVIE_S))))
        return sorted(rows, key=lambda row: (row[2], row[0] != "pause"))


@st.composite
def movies(draw) -> Movie:
    at_s = draw(st.lists(st.floats(2.0, MOVIE_S - 2.0), max_size=4, unique=True))
    lengths_s = draw(st.lists(st.floats(1.0, 15.0), min_size=len(at_s), max_size=len(at_s)))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    times_s = np.arange(0.1, MOVIE_S, 0.1)
    times_s = np.round(times_s + generator.uniform(-0.04, 0.04, len(times_s)), 6)
    missing = generator.random(len(times_s)) < draw(st.sampled_from([0.0, 0.05, 0.5]))
    return Movie(
        rate_hz=draw(st.sampled_from(RATES_HZ)),
        lead_s=draw(st.floats(0.0, 4.0)),
        pauses=tuple(zip(sorted(at_s), lengths_s, strict=True)),
        trigger_s=times_s[~missing],
        stop_s=draw(st.floats(30.0, MOVIE_S + 5)),
    )


Token = tuple[float, float, int]  # start and end in movie seconds, number of the sentence


@st.composite
def transcripts(draw) -> list[Token]:
    """Tokens, a few of them without times; some sentences last over 4 s, some have no times."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    tokens, onset_s = [], draw(st.floats(0.05, 2.0))
    for number in range(draw(st.integers(3, 25))):
        lengths_s = generator.lognormal(-1.3, 0.7, int(generator.integers(1, 8)))
        edges_s = np.round(onset_s + np.cumsum([0.0, *lengths_s]), 3)
        for start_s, end_s in pairwise(edges_s.tolist()):
            known = generator.random() > 0.1
            tokens.append((start_s, end_s, 3 * number) if known else (np.nan, np.nan, 3 * number))
        onset_s = edges_s[-1] + generator.exponential(0.7)
    return tokens


# ---------------------------------------------------------------- writing it down


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def write_recording(
    root: Path,
    timings: Sequence[Sequence],
    tokens: Sequence[Token],
    signals: np.ndarray,
    *,
    labels: Sequence[str] = LABELS,
    corrupted: Sequence[str] = (),
) -> Recording:
    """Write and open a recording; `signals` [labels, samples]."""
    write_json(root / "electrode_labels/sub_9/electrode_labels.json", list(labels))
    write_json(root / "corrupted_elec.json", {"sub_9": list(corrupted)})
    write_json(root / "subject_metadata/sub_9_trial000_metadata.json", {"filename": "made-up"})
    timing_path = root / "subject_timings/sub_9_trial000_timings.csv"
    write_csv(timing_path, ("type", "movie_time", "index"), timings)
    rows = [(*("" if np.isnan(t) else t for t in (s, e)), f"Said {n}.", n) for s, e, n in tokens]
    columns = ("start", "end", "sentence", "sentence_idx")
    write_csv(root / "transcripts/made-up/features.csv", columns, rows)
    with h5py.File(root / "sub_9_trial000.h5", "w") as file:
        for number, signal in enumerate(signals):
            file[f"data/electrode_{number}"] = signal
    return open_brain_treebank(root)


# ---------------------------------------------------------------- the definitions, literally


def unpaused_runs(rows: Sequence[tuple[str, float, int]]) -> list[list[tuple[float, int]]]:
    """Triggers (movie time, sample) between pauses; a lone one places nothing."""
    runs: list[list[tuple[float, int]]] = [[]]
    for kind, time_s, sample in rows:
        if kind == "trigger":
            runs[-1].append((time_s, sample))
        elif kind in ("pause", "unpause"):
            runs.append([])
    return [run for run in runs if len(run) >= 2]


def place(time_s: float, runs: list[list[tuple[float, int]]]) -> float | None:
    """Sample of a moment on the line between the triggers around it."""
    for run in runs:
        for (before_s, before), (after_s, after) in pairwise(run):
            if before_s <= time_s <= after_s:
                return before + (time_s - before_s) * ((after - before) / (after_s - before_s))
    return None


def expected_sentences(
    movie: Movie, tokens: Sequence[Token], rows: Sequence[tuple[str, float, int]]
) -> tuple[dict[int, tuple[int, int]], Counter[str]]:
    """Windows [start, stop) of the sentences to keep, and why the others go."""
    runs = unpaused_runs(rows)
    before, after = round(0.5 * movie.rate_hz), round(1.0 * movie.rate_hz)
    kept, dropped = {}, Counter()
    for number in sorted({number for _, _, number in tokens}):
        timed = [(s, e) for s, e, n in tokens if n == number and not np.isnan(s)]
        placed = [(s, e, place(s, runs), place(e, runs)) for s, e in timed]
        placed = [token for token in placed if token[2] is not None and token[3] is not None]
        if not placed:
            dropped["no aligned word"] += 1
            continue
        start_s, end_s = min(t[0] for t in placed), max(t[1] for t in placed)
        start = round(min(t[2] for t in placed)) - before
        stop = round(max(t[3] for t in placed)) + after
        window = np.arange(start, stop)
        paused = [(a[-1][1], b[0][1]) for a, b in pairwise(runs)]
        if end_s - start_s >= 4.0:
            dropped["too long"] += 1
        elif any(np.any((window > last) & (window < first)) for last, first in paused):
            dropped["straddles a pause"] += 1
        elif window[0] < 0 or window[-1] >= movie.n_samples:
            dropped["leaves the file"] += 1
        else:
            kept[number] = (start, stop)
    return kept, dropped


def background(channels: int, n_samples: int) -> np.ndarray:
    """Noise that hides no impulse: signals without any change are left out."""
    return np.random.default_rng(1).normal(0, 1e-3, (channels, n_samples))


# ---------------------------------------------------------------- the tests


@settings(max_examples=40)
@given(movies(), transcripts(), st.integers(0, 2**32 - 1))
def test_impulses_land_in_their_samples_and_no_other_sentence_goes(movie, tokens, seed):
    rows = movie.rows()
    kept, dropped = expected_sentences(movie, tokens, rows)
    assume(kept)
    moments_s = np.random.default_rng(seed).uniform(0, MOVIE_S, 30).tolist()
    moments_s += [start_s for start_s, _, _ in tokens if not np.isnan(start_s)]
    # Impulses are compared to the bit, and cells without one must not look dead beside them.
    (signal,) = 1000 * background(1, movie.n_samples)
    for value, moment_s in enumerate(moments_s, start=1):
        if movie.sample(moment_s) < movie.n_samples - 1:
            signal[round(movie.sample(moment_s))] = value
    with TemporaryDirectory() as folder:
        recording = write_recording(Path(folder), rows, tokens, signal[None], labels=["F1a1"])
        segments = select_segments(recording, PLAIN)
        signals = read_segments(recording, segments, PLAIN, range(len(segments)))[:, 0]
    assert recording.sampling_rate_hz == movie.rate_hz
    assert segments.dropped == dropped
    windows = zip(segments.start.tolist(), segments.stop.tolist(), strict=True)
    assert dict(zip(segments.sentence_idx.tolist(), windows, strict=True)) == kept
    before, _ = PLAIN.context_samples(recording)
    for row, onset_s in enumerate(segments.onset_s):
        start, stop = segments.start[row], segments.stop[row]
        assert abs(start + before - movie.sample(onset_s)) <= 1
        at_onset = signals[row, before - 1 : before + 2]
        assert np.float32(signal[round(movie.sample(onset_s))]) in at_onset
        stored = signal[start:stop].astype(np.float32)
        np.testing.assert_array_equal(signals[row, : stop - start], stored)
        assert not signals[row, stop - start :].any()


def regular_movie(**changes) -> Movie:
    movie = Movie(
        rate_hz=1024,
        lead_s=2.0,
        pauses=((21.05, 3.0), (40.05, 1.5)),
        trigger_s=np.round(np.arange(0.1, MOVIE_S, 0.1), 6),
        stop_s=MOVIE_S + 3,
    )
    return replace(movie, **changes)


def spaced_tokens() -> list[Token]:
    return [(onset_s, onset_s + 0.3, n) for n, onset_s in enumerate(np.arange(1.0, 57.0, 1.9))]


@pytest.mark.parametrize(
    ("kept", "dropped", "reason"),
    [
        ((20.0, 20.001), (20.0, 20.002), "straddles a pause"),  # the last trigger is at 21.0 s
        ((21.6, 22.0), (21.599, 22.0), "straddles a pause"),  # the next at 21.1 s
        ((0.5, 1.0), (0.499, 1.0), "leaves the file"),
        ((51.0, 52.0), (51.0, 52.001), "leaves the file"),  # it stops at 53 s
        ((10.0, 13.999), (10.0, 14.0), "too long"),
    ],
)
def test_a_millisecond_decides_where_a_sentence_just_fits(tmp_path, kept, dropped, reason):
    movie = regular_movie(rate_hz=1000, lead_s=0.0, pauses=((21.05, 3.0),), stop_s=53.0)
    signals = background(1, movie.n_samples)
    tokens = [(*kept, 1), (*dropped, 2)]
    recording = write_recording(tmp_path, movie.rows(), tokens, signals, labels=["F1a1"])
    segments = select_segments(recording, PLAIN)
    assert segments.sentence_idx.tolist() == [1]
    assert segments.dropped == {reason: 1}


def expected_laplacian(corrupted: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """Contacts kept and the channels that make them, from the shafts F1a 1-5 and T2b 9-11."""
    names = [label.translate(str.maketrans("", "", "*#_")) for label in LABELS]
    clean = {name: channel for channel, name in enumerate(names) if name not in corrupted}
    found = {}
    for shaft, numbers in (("F1a", range(1, 6)), ("T2b", range(9, 12))):
        for number in numbers:
            triple = [f"{shaft}{n}" for n in (number, number - 1, number + 1)]
            if all(name in clean for name in triple):
                found[triple[0]] = tuple(clean[name] for name in triple)
    return found


@settings(max_examples=15)
@given(
    st.integers(0, len(LABELS) - 2),
    st.sets(st.sampled_from(["F1a1", "F1a3", "F1a5", "T2b9"]), max_size=2),
    st.integers(0, 28),
)
def test_an_impulse_on_a_contact_is_minus_a_half_on_its_neighbours(channel, corrupted, sentence):
    movie, tokens = regular_movie(pauses=()), spaced_tokens()
    contacts = expected_laplacian(corrupted)
    assume(contacts)
    at = round(movie.sample(tokens[sentence][0]))
    signals = background(len(LABELS), movie.n_samples)
    signals[channel, at] += 1.0
    spec = SegmentSpec(line_hz=None)
    with TemporaryDirectory() as folder:
        recording = write_recording(
            Path(folder), movie.rows(), tokens, signals, corrupted=[f"{n}#" for n in corrupted]
        )
        segments = select_segments(recording, spec)
        found = read_segments(recording, segments, spec, [sentence])[0]
    assert segments.electrodes == tuple(contacts)
    assert segments.start[sentence] + 512 == at
    expected = np.zeros_like(found)
    for row, (contact, *neighbours) in enumerate(contacts.values()):
        expected[row, 512] = 1.0 * (channel == contact) - 0.5 * (channel in neighbours)
    np.testing.assert_allclose(found, expected, atol=0.01)


# ---------------------------------------------------------------- damaged and disordered timings


def starts(root: Path, rows: Sequence[Sequence], movie: Movie, tokens: Sequence[Token]) -> dict:
    """First sample of the sentences kept, and how many were dropped."""
    signals = background(1, movie.n_samples)
    recording = write_recording(root, rows, tokens, signals, labels=["F1a1"])
    segments = select_segments(recording, PLAIN)
    assert len(segments) + sum(segments.dropped.values()) == len(tokens)
    return dict(zip(segments.sentence_idx.tolist(), segments.start.tolist(), strict=True))


def true_starts(movie: Movie, tokens: Sequence[Token]) -> dict[int, float]:
    return {number: movie.sample(start_s) - 512 for start_s, _, number in tokens}


def test_rows_may_come_in_any_order_and_twice(tmp_path):
    movie, tokens = regular_movie(), spaced_tokens()
    rows = movie.rows()
    expected = starts(tmp_path, rows, movie, tokens)
    generator = np.random.default_rng(0)
    rows += [row for row in rows if row[0] == "trigger" and generator.random() < 0.3]
    shuffled = [rows[i] for i in generator.permutation(len(rows))]
    assert starts(tmp_path, shuffled, movie, tokens) == expected
    assert len(expected) == 28  # of 30: each pause takes one


@pytest.mark.parametrize("lost", [("pause",), ("unpause",), ("pause", "unpause")])
def test_a_pause_is_found_without_its_rows(tmp_path, lost):
    movie, tokens = regular_movie(), spaced_tokens()
    expected = starts(tmp_path, movie.rows(), movie, tokens)
    rows = [row for row in movie.rows() if row[0] not in lost]
    assert starts(tmp_path, rows, movie, tokens) == expected


@settings(max_examples=60)
@given(
    st.integers(0, 598),
    st.sampled_from(["movie_time", "index"]),
    st.one_of(st.floats(-1e9, 1e9), st.floats(-100, 100), st.floats(-1, 1)),
)
def test_a_wrong_trigger_displaces_no_sentence_by_more_than_a_jump(number, column, error_s):
    movie, tokens = regular_movie(), spaced_tokens()
    rows = [list(row) for row in movie.rows()]
    row = [row for row in rows if row[0] == "trigger"][number]
    if column == "movie_time":
        row[1] += error_s
    else:
        row[2] += round(error_s * movie.rate_hz)
    with TemporaryDirectory() as folder:
        found = starts(Path(folder), rows, movie, tokens)
    truth = true_starts(movie, tokens)
    far = [n for n, start in found.items() if abs(start - truth[n]) > JUMP_S * movie.rate_hz + 1]
    assert far == []
    moved = [n for n, start in found.items() if abs(start - truth[n]) > 1]
    assert len(moved) <= 1  # the one around the trigger
    assert len(found) >= 26  # of 28


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=2, max_size=9))
def test_the_most_triggers_that_agree_are_kept(triggers):
    """Against all subsets. Times within 0.12 s and one run: no jump is possible."""
    times_s = np.array([t for t, _ in triggers]) / 100
    samples = np.array([s for _, s in triggers], dtype=float)
    runs = timeline_of(np.full(len(triggers), "trigger", dtype=object), times_s, samples).runs
    rising = [
        subset
        for size in range(len(triggers), 1, -1)
        for subset in combinations(sorted(triggers, key=lambda trigger: trigger[1]), size)
        if all(a < c and b < d for (a, b), (c, d) in pairwise(subset))
    ]
    if not rising:
        assert runs == ()
        return
    (run,) = runs
    assert len(run.sample) == len(rising[0])
    found = tuple(zip(np.rint(run.movie_time_s * 100).astype(int), run.sample, strict=True))
    assert found in {subset for subset in rising if len(subset) == len(rising[0])}


# ---------------------------------------------------------------- how much is read


def bytes_read() -> int:
    """By this process so far, from files of any kind."""
    counters = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(counters["rchar"])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="only Linux counts what is read")
@pytest.mark.parametrize("line_hz", [None, 60.0])
def test_reading_a_segment_leaves_the_rest_of_the_channel_on_disk(tmp_path, line_hz):
    movie, tokens = regular_movie(lead_s=900.0), spaced_tokens()
    signals = np.random.default_rng(0).normal(0, 50, (3, movie.n_samples))
    recording = write_recording(
        tmp_path, movie.rows(), tokens, signals, labels=["F1a1", "F1a2", "F1a3"]
    )
    spec = SegmentSpec(line_hz=line_hz)
    segments = select_segments(recording, spec)
    read_segments(recording, segments, spec, [20])  # imports what is still missing
    before = bytes_read()
    read_segments(recording, segments, spec, [5])
    read = bytes_read() - before
    seconds = 1.8 + (0 if line_hz is None else 4.1)  # the segment and what the notch needs ahead
    needed = 3 * 8 * seconds * movie.rate_hz
    assert needed * 0.9 < read < needed + 200_000  # HDF5 reads ahead
    assert read < signals.nbytes / 50
