from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssense.data.repeats import TowerTexts, normalised, repeat_groups
from ssense.data.splits import (
    BLOCKS,
    GAP_S,
    Split,
    SplitKind,
    near,
    resampled_sizes,
    seeded_split,
    split_identity,
    split_sentences,
    training_share,
)


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
        (1, 0, (0.6, 0.2, 0.2), "1 sentence is too few"),
    ],
)
def test_what_cannot_be_split_is_refused(n, seed, fractions, message):
    with pytest.raises(ValueError, match=message):
        seeded_split(n, seed, fractions)


# ---------------------------------------------------------------- splits that keep things apart

TIMED: tuple[SplitKind, ...] = ("blocked", "held-out")


def ant_man() -> np.ndarray:
    """Spans of the sentences of the real movie, with half a second before and one after."""
    path = Path(__file__).parent / "antman_sentence_timings.csv"
    table = np.genfromtxt(path, delimiter=",", names=True)
    start, stop = table["onset_s"], table["offset_s"]
    kept = stop - start < 4
    return np.stack([start[kept] - 0.5, stop[kept] + 1.0], axis=1)


def nearest(spans: np.ndarray, others: np.ndarray) -> float:
    """Smallest distance between any two spans, by trying all; below 0 where they overlap."""
    return (np.maximum(spans[:, None, 0], others[None, :, 0])
            - np.minimum(spans[:, None, 1], others[None, :, 1])).min()  # fmt: skip


def everyday(n: int, seed: int) -> tuple[tuple[str, ...], np.ndarray]:
    """Sentences among which some come again, at times that may overlap, in no order."""
    rng = np.random.default_rng(seed)
    start = rng.permutation(np.cumsum(rng.exponential(3.0, n)))
    text = tuple(f"Word {rng.zipf(1.5) % 50}{rng.choice(['.', '!', ''])}" for _ in range(n))
    return text, np.stack([start, start + rng.uniform(0.5, 6.0, n)], axis=1)


@pytest.mark.parametrize("kind", TIMED)
@pytest.mark.parametrize("seed", range(5))
def test_parts_of_the_real_movie_share_no_sample_and_keep_the_gap(kind, seed):
    spans = ant_man()
    split = split_sentences(kind, seed, np.zeros(len(spans), int), spans)
    train, validation, test = (spans[rows] for rows in parts(split))
    assert nearest(train, test) >= GAP_S
    assert nearest(validation, test) >= GAP_S
    if kind == "blocked":
        assert nearest(train, validation) >= GAP_S
    # What the gap costs: little of the movie, and nothing of the test split.
    assert len(test) == pytest.approx(len(spans) / 5, abs=20)
    assert len(train) > 0.5 * len(spans)


@given(n=st.integers(100, 400), seed=st.integers(0, 2**32))
@settings(deadline=None)
def test_no_split_puts_a_sentence_in_two_parts(n, seed):
    text, spans = everyday(n, seed)
    for kind in get_args(SplitKind):
        rows = np.concatenate(parts(split_sentences(kind, seed % 7, repeat_groups(text), spans)))
        assert len(np.unique(rows)) == len(rows)
        if kind in ("random", "grouped"):
            assert len(rows) == n


@given(n=st.integers(100, 400), seed=st.integers(0, 2**32))
@settings(deadline=None)
def test_parts_that_are_apart_are_so_by_brute_force(n, seed):
    text, spans = everyday(n, seed)
    for kind in TIMED:
        train, validation, test = (
            spans[rows]
            for rows in parts(split_sentences(kind, seed % 7, repeat_groups(text), spans))
        )
        assert min(nearest(train, test), nearest(validation, test)) >= GAP_S
        if kind == "blocked":
            assert nearest(train, validation) >= GAP_S


@given(n=st.integers(100, 400), seed=st.integers(0, 2**32))
@settings(deadline=None)
def test_repeated_sentences_stay_together(n, seed):
    text, spans = everyday(n, seed)
    split = split_sentences("grouped", seed % 7, repeat_groups(text), spans)
    words = [{normalised(text[row]) for row in rows} for rows in parts(split)]
    assert words[0].isdisjoint(words[1])
    assert words[2].isdisjoint(words[0] | words[1])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("  Gon na   GO .", "gon na go"),
        ("“Oh, yeah!”", "oh yeah"),
        ("Straße?!", "strasse"),
        ("It's 3.5", "it's 3 5"),
        ("?!", ""),
        ("\u0915\u093f, \u0915\u0940!", "\u0915\u093f \u0915\u0940"),  # Hindi: ki, kī
        ("\u0e14\u0e35", "\u0e14\u0e35"),  # Thai: dī
        ("cafe\u0301", "caf\u00e9"),
        ("love \u2764\ufe0f it", "love it"),
    ],
)
def test_sentences_are_compared_by_their_words_alone(text, words):
    assert normalised(text) == words


def test_texts_that_the_tower_cannot_tell_apart_stay_together():
    text = [f"sentence {number}" for number in range(100)]
    same_as = np.arange(100)
    same_as[50:] -= 50  # each of the second half has the tokens of one of the first
    tower = TowerTexts(same_as, np.zeros(100, bool), 77)
    repeats = repeat_groups(text, tower)
    for seed in range(5):
        split = split_sentences("grouped", seed, repeats, np.zeros((100, 2)))
        for rows in parts(split):
            assert set(rows % 50) == set(rows[rows < 50])
    assert not np.array_equal(
        split.test, split_sentences("grouped", 4, repeat_groups(text), np.zeros((100, 2))).test
    )


def test_a_grouped_split_is_named_by_what_makes_sentences_the_same():
    assert split_identity("grouped")[2:] == ["same words or tokens"]
    assert len(split_identity("random")) == 2  # as it has been


def test_a_group_is_as_likely_to_be_tested_as_a_single_sentence():
    text = [f"sentence {number}" for number in range(400)] + ["Oh, yeah!"] * 30
    spans = np.arange(2.0 * len(text)).reshape(-1, 2)
    seeds = 400
    tested = np.zeros(len(text))
    for seed in range(seeds):
        tested[split_sentences("grouped", seed, repeat_groups(text), spans).test] += 1
    deviation = (seeds * 0.2 * 0.8) ** 0.5
    assert abs(tested - seeds * 0.2).max() < 4.5 * deviation


def test_tests_allow_for_what_seeds_draw_anew():
    text, spans = everyday(300, 0)
    for kind in get_args(SplitKind):
        split = split_sentences(kind, 0, repeat_groups(text), spans)
        drawn = 0 if kind == "held-out" else len(split.test)
        assert resampled_sizes(kind, split) == (len(split.train), drawn)


def test_groups_fill_the_test_split_of_the_random_one():
    text = [f"sentence {number}" for number in range(1000)] + ["Oh, yeah!", "oh yeah"] * 200
    spans = np.arange(2.0 * len(text)).reshape(-1, 2)
    for seed in range(5):
        split = split_sentences("grouped", seed, repeat_groups(text), spans)
        assert [len(part) for part in parts(split)] == [840, 280, 280]


def test_the_held_out_end_is_the_same_for_every_seed_and_touched_by_none():
    spans = ant_man()
    splits = [
        split_sentences("held-out", seed, np.zeros(len(spans), int), spans) for seed in range(10)
    ]
    held_out = set(splits[0].test.tolist())
    assert held_out == set(np.argsort(spans[:, 0])[-len(held_out) :].tolist())
    for split in splits:
        assert set(split.test.tolist()) == held_out
        assert held_out.isdisjoint(split.train.tolist() + split.validation.tolist())
    assert len({tuple(sorted(split.validation)) for split in splits}) == 10


def test_blocks_are_whole_stretches_and_every_stretch_is_tested():
    n = 400
    spans = np.stack([20.0 * np.arange(n), 20.0 * np.arange(n) + 1], axis=1)  # gaps are wide
    tested = np.zeros(n, int)
    for seed in range(60):
        test = np.sort(split_sentences("blocked", seed, np.zeros(n, int), spans).test)
        assert len(test) == n // 5
        blocks = test.reshape(-1, n // BLOCKS)
        assert (np.diff(blocks, axis=1) == 1).all()
        tested[test] += 1
    assert tested.min() > 0


@given(
    spans=st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9)), max_size=20),
    others=st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9)), min_size=1, max_size=20),
    gap=st.integers(0, 5),
)
def test_nearness_is_that_of_trying_every_pair(spans, others, gap):
    spans, others = (
        np.array([(start, start + length) for start, length in given], float).reshape(-1, 2)
        for given in (spans, others)
    )
    brute = [
        any(start < stop_2 + gap and start_2 < stop + gap for start_2, stop_2 in others)
        for start, stop in spans
    ]
    assert near(spans, others, gap).tolist() == brute


# ---------------------------------------------------------------- a share of the training rows


def in_time(n: int) -> Split:
    return Split(np.arange(n), np.arange(n, n + 12), np.arange(n + 12, n + 24))


@given(
    n=st.integers(20, 400),
    seed=st.integers(0, 2**64 - 1),
    shares=st.tuples(st.floats(0.1, 1.0), st.floats(0.1, 1.0)),
)
def test_the_rows_of_a_smaller_share_are_among_those_of_a_larger_one(n, seed, shares):
    split = in_time(n)
    small, large = (training_share(split, share, seed) for share in sorted(shares))
    assert set(small.train) <= set(large.train) <= set(split.train)
    assert [len(small.train), len(large.train)] == [round(share * n) for share in sorted(shares)]
    for part in (small, large):
        assert len(set(part.train)) == len(part.train)
        assert part.validation is split.validation
        assert part.test is split.test


@given(n=st.integers(2, 200), seed=st.integers(0, 2**32))
def test_a_share_of_one_is_the_split_as_it_was(n, seed):
    split = seeded_split(n + 10, seed)
    assert np.array_equal(training_share(split, 1.0, seed).train, split.train)


def test_the_draw_depends_on_seed_and_number_alone():
    """So that configurations and kinds of split keep the same places of their training rows."""
    split, others = in_time(90), Split(*(5 * part for part in parts(in_time(90))))
    places = training_share(split, 0.3, 7).train
    assert np.array_equal(training_share(others, 0.3, 7).train, 5 * places)
    assert not np.array_equal(training_share(split, 0.3, 8).train, places)


def test_every_training_row_is_as_likely_to_be_kept_wherever_it_stands():
    n, seeds = 50, 2000
    kept = (training_share(in_time(n), 0.2, seed).train for seed in range(seeds))
    counts = sum(np.bincount(rows, minlength=n) for rows in kept)
    assert abs(counts - seeds * 0.2).max() < 4.5 * (seeds * 0.2 * 0.8) ** 0.5


def test_a_share_that_leaves_no_negatives_is_refused():
    assert len(training_share(in_time(20), 0.1, 0).train) == 2
    with pytest.raises(ValueError, match=r"a share of 0\.05 leaves 1 of 20 to train on"):
        training_share(in_time(20), 0.05, 0)


@pytest.mark.parametrize("kind", ["grouped", "blocked", "held-out"])
def test_too_few_sentences_are_refused(kind):
    spans = np.arange(12.0).reshape(6, 2)
    with pytest.raises(ValueError, match=f"6 sentences are too few for a {kind} split"):
        split_sentences(kind, 0, np.zeros(6, int), spans)


def test_the_identity_of_a_split_tells_kinds_apart():
    found = [str(split_identity(kind)) for kind in get_args(SplitKind)]
    assert len(set(found)) == len(found)
    assert str(GAP_S) in found[-1]
