"""Seeded splits of a recording's sentences into training, validation and test."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

FRACTIONS = (0.6, 0.2, 0.2)


@dataclass(frozen=True)
class Split:
    """Row indices of the three parts, int64, disjoint, together all rows."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def seeded_split(n: int, seed: int, fractions: tuple[float, float, float] = FRACTIONS) -> Split:
    """Shuffle n rows by the seed and cut them; the remainder of rounding goes to the test split.

    Training and validation take floor(fraction * n) rows each: 1,454 gives 872, 290 and 292, the
    numbers of SSENSE, section 3.1.

    Raises:
        ValueError: the seed is negative, the fractions do not sum to 1, or a part would be empty.
    """
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    if min(fractions) <= 0 or not math.isclose(sum(fractions), 1):
        raise ValueError(f"fractions must be positive and sum to 1, got {fractions}")
    n_train, n_validation = (math.floor(fraction * n) for fraction in fractions[:2])
    if min(n_train, n_validation, n - n_train - n_validation) < 1:
        raise ValueError(f"{n} sentences are too few for a split of {fractions}")
    order = np.random.default_rng(seed).permutation(n)
    train, validation, test = np.split(order, [n_train, n_train + n_validation])
    return Split(train, validation, test)
