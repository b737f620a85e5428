"""The matrix configuration x seed as people see it: the state of every cell, and what came out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, stdev
from typing import Literal

State = Literal["done", "running", "failed", "waiting", "dropped", "ahead"]
"""What has become of a cell; ahead: it has run, and counts once the policy grants it."""

# Told apart without colour, and one column wide in any font.
MARKS: Mapping[State, str] = {
    "done": "■",
    "running": ">",
    "failed": "×",
    "waiting": "·",
    "dropped": "–",
    "ahead": "□",
}


@dataclass(frozen=True, kw_only=True)
class MatrixRow:
    """One configuration.

    Its mean and sd are over the seeds that are done, so they are shown with `n_done`; means of
    rows with other seeds can't be compared. `Matrix.behind` compares, seed by seed.

    Attributes:
        family: Family of the configuration.
        name: Name as shown to people.
        states: States of the cells, in the order of the seeds.
        scores: Validation metric of the cells that are done, as fractions; None for the others.
        dropped: Whether the race took the configuration out; cells under way at that time may have
            ended since.
        leads: Whether the configuration leads its family.

    Raises:
        ValueError: States and scores don't match.
    """

    family: str
    name: str
    states: tuple[State, ...]
    scores: tuple[float | None, ...]
    dropped: bool = False
    leads: bool = False

    def __post_init__(self) -> None:
        scored = tuple(score is not None for score in self.scores)
        if scored != tuple(state == "done" for state in self.states):
            raise ValueError(
                f"{self.name}: scores {self.scores} do not match states {self.states}; "
                "every cell that is done has a score, and no other"
            )

    @property
    def known(self) -> list[float]:
        """Scores of the cells that are done."""
        return [score for score in self.scores if score is not None]

    @property
    def n_done(self) -> int:
        """How many seeds the mean and the sd are over."""
        return len(self.known)

    @property
    def mean(self) -> float | None:
        """Mean score over the seeds that are done; None where none is."""
        return fmean(self.known) if self.known else None

    @property
    def sd(self) -> float | None:
        """Sample standard deviation (n - 1) over the seeds that are done; None below two."""
        return stdev(self.known) if self.n_done > 1 else None


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """Configurations x seeds, at one moment of a sweep.

    Attributes:
        metric: Metric of the scores, such as "recall@10".
        seeds: Seeds, the columns.
        rows: The configurations proposed so far, in order of proposal.

    Raises:
        ValueError: A row has not one cell per seed, or a family has two leaders.
    """

    metric: str
    seeds: tuple[int, ...]
    rows: tuple[MatrixRow, ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.states) != len(self.seeds):
                raise ValueError(
                    f"{row.name} has {len(row.states)} cells for {len(self.seeds)} seeds"
                )
        if sum(row.leads for row in self.rows) > len(self.leaders):
            raise ValueError("a family has more than one leader")

    @cached_property
    def leaders(self) -> dict[str, MatrixRow]:
        """The leader of each family that has one."""
        return {row.family: row for row in self.rows if row.leads}

    @cached_property
    def families(self) -> list[str]:
        """Families in order of their first proposal."""
        return list(dict.fromkeys(row.family for row in self.rows))

    def counts(self) -> Counter[State]:
        """How many cells are in each state."""
        return Counter(state for row in self.rows for state in row.states)

    def behind(self, row: MatrixRow) -> float | None:
        """How far a row is behind its family's leader: mean difference over seeds both have done.

        Returns:
            A fraction, negative where the row is ahead; None for the leader itself, and where
            there is no leader or no common seed.
        """
        leader = self.leaders.get(row.family)
        if leader is None or leader is row:
            return None
        pairs = zip(leader.scores, row.scores, strict=True)
        differences = [best - own for best, own in pairs if best is not None and own is not None]
        return fmean(differences) if differences else None


def standing(row: MatrixRow) -> str:
    """What has become of a configuration, in a word."""
    return "leads" if row.leads else "dropped" if row.dropped else "–"


def mean_and_sd(row: MatrixRow) -> str:
    """Show a row's mean and sd in percent: "57.9 ± 10.5"; one seed has no sd."""
    if row.mean is None:
        return ""
    return f"{100 * row.mean:4.1f}" + ("" if row.sd is None else f" ± {100 * row.sd:.1f}")
