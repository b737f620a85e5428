from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssense.data.splits import Split, seeded_split


def parts(split: Split) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return split.train, split.validation, split.test


def test_sizes_are_those_of_the_paper():
    assert [len(part) for part in parts(seeded_split(1454, 0))] == [872, 290, 292]


@given(n=st.integers(5, 3000), seed=st.integers(0, 2**40))
def test_a_split_holds_every_row_once(n, seed):
    split = seeded_split(n, seed)
    assert sorted(np.concatenate(parts(split))) == list(range(n))
    assert (len(split.train), len(split.validation)) == (n * 3 // 5, n // 5)
    assert {part.dtype for part in parts(split)} == {np.dtype(np.int64)}


@given(n=st.integers(5, 500), seed=st.integers(0, 2**32))
def test_a_seed_gives_the_same_split_whatever_was_drawn_before(n, seed):
    first = seeded_split(n, seed)
    np.random.default_rng().random(3)
    again = seeded_split(n, seed)
    assert all(map(np.array_equal, parts(first), parts(again)))


def test_every_seed_has_its_own_split():
    tests = {tuple(sorted(seeded_split(1454, seed).test)) for seed in range(50)}
    assert len(tests) == 50


def test_every_row_is_as_likely_to_be_tested():
    n, seeds = 50, 2000
    counts = sum(np.bincount(seeded_split(n, seed).test, minlength=n) for seed in range(seeds))
    deviation = (seeds * 0.2 * 0.8) ** 0.5
    assert abs(counts - seeds * 0.2).max() < 4.5 * deviation


@pytest.mark.parametrize(
    ("n", "fractions", "sizes"),
    [
        (10, (0.6, 0.2, 0.2), [6, 2, 2]),
        (5, (0.6, 0.2, 0.2), [3, 1, 1]),
        (101, (0.5, 0.25, 0.25), [50, 25, 26]),
        (1000, (0.8, 0.1, 0.1), [800, 100, 100]),
    ],
)
def test_the_remainder_goes_to_the_test_split(n, fractions, sizes):
    assert [len(part) for part in parts(seeded_split(n, 1, fractions))] == sizes


@pytest.mark.parametrize(
    ("n", "seed", "fractions", "message"),
    [
        (10, -1, (0.6, 0.2, 0.2), "seed must not be negative, got -1"),
        (10, 0, (0.6, 0.2, 0.1), "positive and sum to 1"),
        (10, 0, (1.2, -0.4, 0.2), "positive and sum to 1"),
        (10, 0, (0.8, 0.2, 0.0), "positive and sum to 1"),
        (4, 0, (0.6, 0.2, 0.2), "4 sentences are too few"),
        (0, 0, (0.6, 0.2, 0.2), "0 sentences are too few"),
    ],
)
def test_what_cannot_be_split_is_refused(n, seed, fractions, message):
    with pytest.raises(ValueError, match=message):
        seeded_split(n, seed, fractions)
