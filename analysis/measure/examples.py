"""Examples of retrieved stimuli: where the encoder did best, as usual, and worst."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.measure.evaluation import Retrieval

EACH = 3
"""Number of examples of each kind."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """One query and what it retrieved.

    Attributes:
        kind: "best", "median" or "worst" of its split.
        query: The stimulus that the subject met, as text.
        rank: Rank of that stimulus among the candidates.
        retrieved: The stimuli that came first, the best first.
        hits: Whether each of these is the query's own.
    """

    kind: str
    query: str
    rank: float
    retrieved: tuple[str, ...]
    hits: tuple[bool, ...]


def examples(retrieval: Retrieval, names: Sequence[str]) -> list[Example]:
    """Choose queries by the rank of the truth, nothing else; of equals the earlier in the dataset.

    Args:
        retrieval: What the queries of one test split retrieved.
        names: Names of the stimuli of the dataset.
    """
    order = np.lexsort((retrieval.stimuli, retrieval.ranks))
    each = min(EACH, len(order) // 3)  # fewer where the split is small
    middle = (len(order) - each) // 2
    kinds = {
        "best": order[:each],
        "median": order[middle : middle + each],
        "worst": order[len(order) - each :],
    }
    return [
        Example(
            kind=kind,
            query=names[retrieval.stimuli[place]],
            rank=float(retrieval.ranks[place]),
            retrieved=tuple(names[row] for row in retrieval.first[place]),
            hits=tuple(bool(row == retrieval.stimuli[place]) for row in retrieval.first[place]),
        )
        for kind, places in kinds.items()
        for place in places
    ]


def repeated(rows: np.ndarray, sentences: Sequence[str]) -> int:
    """Number of rows that share their text with another of them."""
    counts = Counter(sentences[row] for row in rows)
    return sum(count for count in counts.values() if count > 1)
