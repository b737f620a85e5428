"""Seeded splits of a recording's sentences into training, validation and test."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ssense.choices import SplitKind
from ssense.errors import counted

FRACTIONS = (0.6, 0.2, 0.2)
BLOCKS = 20
"""Stretches of the recording that a blocked split deals out whole."""
GAP_S = 7.0
"""Seconds between parts that are apart in time: a segment's context and filters reach less far."""

_SENTENCES_ARE = "sentence is", "sentences are"


@dataclass(frozen=True)
class Split:
    """Row indices of the three parts, int64, disjoint; together all rows but those in a gap."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def split_sentences(kind: SplitKind, seed: int, repeats: np.ndarray, spans_s: np.ndarray) -> Split:
    """Divide the sentences of a recording by a seed.

    The test split has one size for every seed, since recall depends on the number of candidates;
    groups of repeated sentences may make it a little smaller. What a gap costs, training pays, and
    validation where it meets the test split.

    Args:
        kind: Kind of split, see `SplitKind`.
        seed: Seed of the division.
        repeats: Number of each sentence's group, `[N]`; those of one group are the same.
        spans_s: Start and end of each sentence's signal, `[N, 2]`, context included, seconds.

    Raises:
        ValueError: The seed is negative, or a part would be empty.
    """
    if kind == "random":
        return seeded_split(len(repeats), seed)
    if kind == "grouped":
        split = _grouped(repeats, seed)
    elif kind == "blocked":
        split = _blocked(spans_s, seed)
    else:
        split = _end_held_out(spans_s, seed)
    if not all(map(len, vars(split).values())):
        raise ValueError(f"{counted(len(repeats), *_SENTENCES_ARE)} too few for a {kind} split")
    return split


def resampled_sizes(kind: SplitKind, split: Split) -> tuple[int, int]:
    """Numbers of training sentences, and of test sentences as far as seeds draw them again.

    Nadeau and Bengio's correction allows for these. Where all seeds share one test split, nothing
    of it is drawn again, and claims are about its sentences alone.
    """
    return len(split.train), 0 if kind == "held-out" else len(split.test)


def split_identity(kind: SplitKind) -> list[Any]:
    """What a kind of split depends on besides sentences and seed, as plain values."""
    rules: dict[str, list[Any]] = {
        "grouped": ["same words or tokens"],
        "blocked": [BLOCKS, GAP_S],
        "held-out": [GAP_S],
    }
    return [kind, FRACTIONS, *rules.get(kind, [])]


def seeded_split(n: int, seed: int, fractions: tuple[float, float, float] = FRACTIONS) -> Split:
    """Shuffle n rows by the seed and cut them; the remainder of rounding goes to the test split.

    Training and validation take floor(fraction * n) rows each: 1,454 gives 872, 290 and 292, the
    numbers of SSENSE, section 3.1.

    Raises:
        ValueError: The seed is negative, the fractions do not sum to 1, or a part would be empty.
    """
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    if min(fractions) <= 0 or not math.isclose(sum(fractions), 1):
        raise ValueError(f"fractions must be positive and sum to 1, got {fractions}")
    n_train, n_validation = (math.floor(fraction * n) for fraction in fractions[:2])
    if min(n_train, n_validation, n - n_train - n_validation) < 1:
        raise ValueError(f"{counted(n, *_SENTENCES_ARE)} too few for a split of {fractions}")
    order = np.random.default_rng(seed).permutation(n)
    train, validation, test = np.split(order, [n_train, n_train + n_validation])
    return Split(train, validation, test)


def training_share(split: Split, share: float, seed: int) -> Split:
    """Keep a share of the training rows, drawn at random, and the other parts whole.

    The draw depends on the seed and on the number of training rows alone, so that it is the same
    for all that is compared, and the rows of a smaller share are among those of a larger one. It is
    a random draw for every kind of split, also where training rows are in the order of time. Rows
    keep their order: a share of 1 is the split as it was.

    Args:
        split: The split whose training rows are drawn from.
        share: The share to keep, above 0 and up to 1; the number of rows is rounded.
        seed: Seed of the draw.

    Raises:
        ValueError: Fewer than two rows are left: a pair alone has no negatives.
    """
    n = len(split.train)
    order = np.random.default_rng(seed).permutation(n)
    kept = np.sort(order[: round(share * n)])
    if len(kept) < 2:
        raise ValueError(
            f"a share of {share:g} leaves {len(kept)} of {n} to train on, and a batch needs 2 at "
            "least: its negatives are its other pairs"
        )
    return replace(split, train=split.train[kept])


def near(spans: np.ndarray, others: np.ndarray, gap: float) -> np.ndarray:
    """Which spans come nearer than the gap to any of the others, bool `[N]`.

    Args:
        spans: Starts and ends of the spans, `[N, 2]`.
        others: Starts and ends of the others, `[M, 2]`.
        gap: Gap in the spans' unit; 0 asks for overlap.
    """
    begun = np.searchsorted(np.sort(others[:, 0]), spans[:, 1] + gap, side="left")
    ended = np.searchsorted(np.sort(others[:, 1]), spans[:, 0] - gap, side="right")
    return begun > ended


def meet(split: Split, kind: SplitKind, spans_s: np.ndarray) -> bool:
    """Whether parts of a split share samples that its kind keeps apart in time.

    Args:
        split: The split.
        kind: Its kind; those whose parts are drawn at random keep nothing apart.
        spans_s: Start and end of each sentence's signal, `[N, 2]`, seconds.
    """
    apart = {
        "blocked": [(split.train, split.validation)],
        "held-out": [],  # training and validation are drawn from the same stretch
    }
    if kind not in apart:
        return False
    trained = np.concatenate([split.train, split.validation])
    parts = [*apart[kind], (trained, split.test)]
    return any(near(spans_s[one], spans_s[other], gap=0.0).any() for one, other in parts)


def leakage(splits: Iterable[Split], spans_s: np.ndarray) -> float:
    """Share of test segments that share samples with a training segment, mean over splits.

    Args:
        splits: The splits, one at least.
        spans_s: Start and end of each sentence's signal, `[N, 2]`, context included, seconds.
    """
    shares = [near(spans_s[s.test], spans_s[s.train], gap=0.0).mean() for s in splits]
    return float(np.mean(shares))


def _grouped(repeats: np.ndarray, seed: int) -> Split:
    """Whole groups, shuffled, into parts of the random split's sizes.

    A group goes to the first part with room for it, test before validation; what fits neither is
    trained on.
    """
    random = seeded_split(len(repeats), seed)
    rows_of: dict[int, list[int]] = defaultdict(list)
    for row, group in enumerate(repeats.tolist()):
        rows_of[group].append(row)
    groups = list(rows_of.values())
    test: list[int] = []
    validation: list[int] = []
    train: list[int] = []
    # Not in the order of shuffled rows: the larger a group, the sooner one of its rows comes.
    for number in np.random.default_rng(seed).permutation(len(groups)):
        rows = groups[number]
        if len(test) + len(rows) <= len(random.test):
            test += rows
        elif len(validation) + len(rows) <= len(random.validation):
            validation += rows
        else:
            train += rows
    return Split(*(np.array(rows, np.int64) for rows in (train, validation, test)))


def _blocked(spans_s: np.ndarray, seed: int) -> Split:
    order = np.argsort(spans_s[:, 0], kind="stable")
    dealt = seeded_split(BLOCKS, seed)
    length = len(order) // BLOCKS
    # Blocks of one length; what is left at the end, less than another one, is trained on.
    block = np.arange(len(order)) // max(length, 1)
    test, validation = (order[np.isin(block, part)] for part in (dealt.test, dealt.validation))
    train = np.setdiff1d(order, np.concatenate([test, validation]))
    validation = _away(spans_s, validation, test)
    return Split(_away(spans_s, _away(spans_s, train, test), validation), validation, test)


def _end_held_out(spans_s: np.ndarray, seed: int) -> Split:
    order = np.argsort(spans_s[:, 0], kind="stable")
    train_share, validation_share, _ = FRACTIONS
    n_train, n_validation = (math.floor(s * len(order)) for s in (train_share, validation_share))
    before, test = np.split(order, [n_train + n_validation])
    shuffled = np.random.default_rng(seed).permutation(before)
    train, validation = np.split(shuffled, [n_train])
    return Split(_away(spans_s, train, test), _away(spans_s, validation, test), test)


def _away(spans_s: np.ndarray, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    away: np.ndarray = rows[~near(spans_s[rows], spans_s[others], GAP_S)]
    return away
