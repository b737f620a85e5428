from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssense.data.recordings.overlap import inside_shares, split_overlap
from ssense.data.recordings.segments import SegmentSpec, kept_by_length
from ssense.data.splits import seeded_split

windows = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 20)).map(lambda w: (w[0], w[0] + w[1])),
    min_size=1,
    max_size=25,
)


def columns(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    start, stop = np.array(pairs).T
    return start, stop


@given(windows, windows, st.integers(1, 3))
def test_shares_are_those_of_counting_samples(some, others, least):
    depth = Counter(sample for start, stop in others for sample in range(start, stop))
    expected = [
        sum(depth[sample] >= least for sample in range(start, stop)) / max(stop - start, 1)
        for start, stop in some
    ]
    found = inside_shares(*columns(some), *columns(others), least)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    # No sample shared means no share at all, not a small one.
    np.testing.assert_array_equal(found > 0, np.array(expected) > 0)


def test_windows_that_touch_share_nothing():
    start, stop = np.array([0, 10, 15]), np.array([10, 15, 30])
    assert inside_shares(start, stop, start, stop, least=2).tolist() == [0, 0, 0]


def antman_windows(before: int, after: int) -> tuple[np.ndarray, np.ndarray]:
    """The segments of the paper's preset, with samples of context at the true rate of 1024 Hz."""
    path = Path(__file__).parents[1] / "antman_sentence_timings.csv"
    table = np.genfromtxt(path, delimiter=",", names=True)
    times = [table[n] for n in ("onset_s", "offset_s", "onset_sample", "offset_sample")]
    kept = kept_by_length(*times, spec=SegmentSpec.paper(), context_samples=3 * 1024)
    onset, offset = (table[n][kept].astype(np.int64) for n in ("onset_sample", "offset_sample"))
    return onset - before, offset + after


def brute_split_overlap(start: np.ndarray, stop: np.ndarray, seed: int) -> tuple[float, float]:
    """Mark the training samples one by one, and look at the test segments' marks."""
    split = seeded_split(len(start), seed)
    trained = np.zeros(stop.max(), bool)
    for row in split.train:
        trained[start[row] : stop[row]] = True
    shares = [trained[start[row] : stop[row]].mean() for row in split.test]
    return fmean(share > 0 for share in shares), fmean(shares)


@pytest.mark.parametrize(
    ("before", "after", "segments", "inside"),
    [(512, 1024, (0.66, 0.67), (0.31, 0.33)), (1024, 2048, (0.80, 0.82), (0.52, 0.54))],
)
def test_random_splits_leak_in_the_real_movie(before, after, segments, inside):
    start, stop = antman_windows(before, after)
    brute = [brute_split_overlap(start, stop, seed) for seed in range(10)]
    np.testing.assert_allclose(split_overlap(start, stop), np.mean(brute, axis=0), rtol=1e-9)
    found = split_overlap(start, stop, range(200))
    assert segments[0] < found[0] < segments[1]
    assert inside[0] < found[1] < inside[1]
    # A test segment with d partners meets none of them if all of the training rows are others.
    n, n_train = len(start), math.floor(0.6 * len(start))
    partners = (start[:, None] < stop) & (start < stop[:, None])
    expected = fmean(
        1 - math.comb(n - 1 - d, n_train) / math.comb(n - 1, n_train)
        for d in (partners.sum(axis=1) - 1).tolist()
    )
    assert found[0] == pytest.approx(expected, abs=0.006)  # 200 splits: standard error 0.002
