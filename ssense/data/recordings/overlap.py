"""What segments share with each other: samples that random splits put on both sides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ssense.data.splits import seeded_split

SPLIT_SEEDS = tuple(range(10))


def inside_shares(
    start: np.ndarray,
    stop: np.ndarray,
    other_start: np.ndarray,
    other_stop: np.ndarray,
    least: int = 1,
) -> np.ndarray:
    """Share of each window [start, stop) that at least `least` of the others cover, [windows].

    For windows among themselves `least` is 2, since each covers itself. A window without a sample
    has share 0. Takes n log n steps.

    Args:
        start: First sample of each window, int [windows].
        stop: The sample after the last of each window, int [windows].
        other_start: First sample of each of the others, int [others], at least one.
        other_stop: The sample after the last of each of the others, int [others].
        least: How many of the others must cover a sample for it to count.
    """
    edges = np.unique(np.concatenate([other_start, other_stop]))
    begun = np.searchsorted(np.sort(other_start), edges, side="right")
    ended = np.searchsorted(np.sort(other_stop), edges, side="right")
    covered = np.diff(edges) * ((begun - ended)[:-1] >= least)
    # How many covered samples lie below a sample: straight lines between the edges.
    below = np.concatenate([[0], np.cumsum(covered)])
    inside = np.interp(stop, edges, below) - np.interp(start, edges, below)
    shares: np.ndarray = inside / np.maximum(stop - start, 1)
    return shares


def split_overlap(
    start: np.ndarray, stop: np.ndarray, seeds: Sequence[int] = SPLIT_SEEDS
) -> tuple[float, float]:
    """What test segments share with training segments under `seeded_split`, means over the seeds.

    With Ant-Man's timings and 0.5 s of context before and 1 s after, two thirds of the test
    segments share samples with a training segment.

    Args:
        start: First sample of each segment, int [segments].
        stop: The sample after the last of each segment, int [segments].
        seeds: Seeds of the splits.

    Returns:
        Share of the test segments that share samples with a training segment, and share of a test
        segment that lies inside training segments, mean over the test segments.

    Raises:
        ValueError: Too few segments for a split.
    """
    found = []
    for seed in seeds:
        split = seeded_split(len(start), seed)
        test, train = split.test, split.train
        shares = inside_shares(start[test], stop[test], start[train], stop[train])
        found.append((np.mean(shares > 0), np.mean(shares)))
    segments, inside = np.mean(found, axis=0).tolist()
    return segments, inside
