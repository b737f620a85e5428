"""The race: which cells of one family deserve a seed, decided from results alone.

Configurations meet the seeds in the same order, so that any two can be compared seed by seed. A
policy reads the scores of one family and grants every configuration its first few seeds. It is a
function of the scores: the number of workers, the order in which cells end and interruptions
change nothing. Scores of cells that it did not grant are never looked at.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from ssense.choices import PolicyName
from ssense.engine.core.decision import Decision
from ssense.engine.core.sweep import BY_THREES, STARTUP_PROPOSALS

Scores = Mapping[int, float | None]
"""A configuration's validation metric by seed; None: the cell failed; absent: not run yet."""

_NO_SPREAD = 1e-9
"""Residuals below this are rounding: they say nothing of the noise."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A policy's verdict on a family's scores; one entry per configuration, as proposed.

    Attributes:
        granted: How many of the seeds, from the first on, each configuration may run now.
        estimates: Score of each configuration as the sampler is told; None while unknown, or where
            a cell failed.
        decisions: All decisions so far, in order.
    """

    granted: tuple[int, ...]
    estimates: tuple[float | None, ...]
    decisions: tuple[Decision, ...] = ()


class Policy(Protocol):
    """How seeds are spent on the configurations of a family."""

    def judge(
        self,
        scores: Sequence[Scores],
        seeds: Sequence[int],
        *,
        all_proposed: bool,
        at_once: int = BY_THREES,
    ) -> Verdict:
        """Say what may run next.

        Args:
            scores: Scores of the configurations so far, in order of proposal.
            seeds: Seeds of the sweep, in order.
            all_proposed: Whether no further configuration will come.
            at_once: How many configurations are proposed at once, after the first ones.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Full:
    """Every configuration meets every seed."""

    def judge(
        self,
        scores: Sequence[Scores],
        seeds: Sequence[int],
        *,
        all_proposed: bool,  # noqa: ARG002 - of no interest to it
        at_once: int = BY_THREES,  # noqa: ARG002
    ) -> Verdict:
        """Grant everything; the sampler learns from means over all seeds."""
        matrix = _Matrix.of(scores, seeds)
        means = (None if np.isnan(row).any() else fmean(row) for row in matrix.scores)
        return Verdict(granted=(len(seeds),) * len(scores), estimates=tuple(means))


@dataclass(frozen=True, kw_only=True)
class Race:
    """Breadth first, a few seeds at a time, without the configurations that are clearly behind.

    While the sampler proposes, every configuration gets its first rung of seeds. Before each batch
    of proposals the configurations that look best get a seed more: TPE follows the best few, and
    two seeds often name the wrong ones. It is told their effects in the additive model.

    Once all are proposed, and after every rung, the leader is the configuration with the highest
    mean. Those behind it by more than `z * s * sqrt(2 / k) * sqrt(rung / k)` are out, where k seeds
    are known and s is the residual standard deviation of the additive model, over all that the
    race has granted. The others get a rung more, and the last one left gets all. So a sum of
    differences meets the same bound at every rung, as in Wald's sequential test (1945): the later,
    the less the seeds to come can turn the order. Where few residuals are known, Student's
    quantile takes the place of z. Nothing is decided after the last seed.

    A configuration with a failed cell is out. If no other is left, those that went out last
    return: a family should not end without a winner.

    The defaults come from benchmarks/race.py.

    Attributes:
        z: Standard errors that a configuration may be behind at the first rung, for many residuals.
        rung: Number of seeds between decisions, at least 2.
        leaders: How many configurations get a seed more before a batch of proposals.

    Raises:
        ValueError: A value is out of range.
    """

    z: float = 1.8
    rung: int = 2
    leaders: int = 3

    def __post_init__(self) -> None:
        if not self.z > 0:
            raise ValueError(f"z must be positive, got {self.z}")
        if self.rung < 2:  # one seed leaves no residuals
            raise ValueError(f"rung must be at least 2, got {self.rung}")
        if self.leaders < 0:
            raise ValueError(f"leaders must be at least 0, got {self.leaders}")

    def judge(
        self,
        scores: Sequence[Scores],
        seeds: Sequence[int],
        *,
        all_proposed: bool,
        at_once: int = BY_THREES,
    ) -> Verdict:
        """Explore while configurations are proposed, then race."""
        matrix = _Matrix.of(scores, seeds)
        return self._race(matrix) if all_proposed else self._explore(matrix, at_once)

    def _explore(self, matrix: _Matrix, at_once: int) -> Verdict:
        n, n_seeds = matrix.scores.shape
        granted = np.full(n, min(self.rung, n_seeds))
        end = 0
        for end in range(STARTUP_PROPOSALS, n + 1, at_once):
            # What was known before the next batch was proposed, whatever has come since.
            known = matrix.rows(end)
            if not known.is_settled(granted[:end]):
                return _verdict(granted, [None] * n)
            granted[self._best(known, granted[:end])] += 1
        estimates = matrix.rows(end).estimates(granted[:end])
        return _verdict(granted, estimates + [None] * (n - end))

    def _best(self, matrix: _Matrix, granted: NDArray[np.intp]) -> NDArray[np.intp]:
        """Places of the best configurations that have seeds left."""
        left = ~matrix.failed(granted).any(axis=1) & (granted < matrix.scores.shape[1])
        places = np.flatnonzero(left)
        order = np.argsort(-matrix.effects(granted)[places], kind="stable")
        return places[order][: self.leaders]

    def _race(self, matrix: _Matrix) -> Verdict:
        n, n_seeds = matrix.scores.shape
        rung = min(self.rung, n_seeds)
        granted = np.full(n, rung)
        live = list(range(n))
        decisions: list[Decision] = []
        while matrix.is_settled(granted):
            failed = matrix.failures(granted, live)
            live = _without(live, failed)
            decisions += failed
            if not live:
                returned = matrix.returned(granted)
                if not returned:
                    break
                live, rung = [back.place for back in returned], returned[0].after_seeds
                decisions += returned
            elif rung == n_seeds:
                break
            else:
                behind = self._behind(matrix, granted, live, rung)
                live = _without(live, behind)
                decisions += behind
            rung = min(rung + self.rung, n_seeds) if len(live) > 1 else n_seeds
            granted[live] = rung
        return _verdict(granted, (None,) * n, decisions)

    def _behind(
        self, matrix: _Matrix, granted: NDArray[np.intp], live: list[int], rung: int
    ) -> list[Decision]:
        means = {place: fmean(matrix.scores[place, :rung]) for place in live}
        leader = max(live, key=lambda place: means[place])  # the first of equals
        fit = fit_additive(matrix.seen(np.minimum(granted, rung))[:, :rung])
        if fit.residual_sd < _NO_SPREAD:  # a recall has few values, and few cells may agree
            return []
        error = fit.residual_sd * math.sqrt(2 / rung)
        quantile = float(-stdtrit(fit.degrees_of_freedom, ndtr(-self.z)))
        threshold = quantile * math.sqrt(self.rung / rung)
        return [
            Decision(
                place=place,
                reason="behind",
                after_seeds=rung,
                leader=leader,
                difference=means[leader] - means[place],
                standard_error=error,
                threshold=threshold,
            )
            for place in live
            if means[leader] - means[place] > threshold * error
        ]


class AdditiveFit(NamedTuple):
    """Least squares of score = configuration + seed + residual.

    Attributes:
        effects: Score of each configuration at an average seed, `[configurations]`; NaN where it
            has none.
        residual_sd: Standard deviation of the residuals, unbiased in its square; NaN without
            degrees of freedom.
        degrees_of_freedom: Degrees of freedom of the residuals.
    """

    effects: NDArray[np.float64]
    residual_sd: float
    degrees_of_freedom: int


def fit_additive(scores: NDArray[np.float64]) -> AdditiveFit:
    """Fit the additive model to scores of which any may be missing.

    The configurations are eliminated first, so that a small system in the seeds is left.

    Args:
        scores: Scores `[configurations, seeds]`, NaN where there is none.
    """
    seen = ~np.isnan(scores)
    count = seen.sum(axis=1)
    share = seen / np.maximum(count, 1)[:, None]
    mean = np.where(count > 0, (share * np.where(seen, scores, 0.0)).sum(axis=1), np.nan)
    within = np.where(seen, scores - mean[:, None], 0.0)
    # Singular by the level, which the configurations carry: the seeds' effects sum to 0.
    system = np.diag(seen.sum(axis=0)) - seen.T.astype(float) @ share
    seed_effects, _, rank, _ = np.linalg.lstsq(system, within.sum(axis=0), rcond=1e-9)
    shift = share @ seed_effects
    residuals = np.where(seen, within - seed_effects + shift[:, None], 0.0)
    degrees = int(count.sum() - (count > 0).sum() - rank)
    sd = math.sqrt((residuals**2).sum() / degrees) if degrees else math.nan
    return AdditiveFit(effects=mean - shift, residual_sd=sd, degrees_of_freedom=degrees)


class _Matrix(NamedTuple):
    """Configurations x seeds: `scores`, NaN where there is none, and whether they are `settled`."""

    scores: NDArray[np.float64]
    settled: NDArray[np.bool_]

    @classmethod
    def of(cls, scores: Sequence[Scores], seeds: Sequence[int]) -> _Matrix:
        shape = len(scores), len(seeds)
        values = [known.get(seed) for known in scores for seed in seeds]
        settled = [seed in known for known in scores for seed in seeds]
        return cls(
            np.array(values, dtype=float).reshape(shape),
            np.array(settled, dtype=bool).reshape(shape),
        )

    def rows(self, n: int) -> _Matrix:
        return _Matrix(self.scores[:n], self.settled[:n])

    def within(self, granted: NDArray[np.intp]) -> NDArray[np.bool_]:
        return np.arange(self.scores.shape[1]) < granted[:, None]

    def seen(self, granted: NDArray[np.intp]) -> NDArray[np.float64]:
        return np.where(self.within(granted), self.scores, np.nan)

    def is_settled(self, granted: NDArray[np.intp]) -> bool:
        return bool((self.settled | ~self.within(granted)).all())

    def failed(self, granted: NDArray[np.intp]) -> NDArray[np.bool_]:
        """`[configurations, seeds]`, the granted cells that failed."""
        return self.within(granted) & self.settled & np.isnan(self.scores)

    def failures(self, granted: NDArray[np.intp], live: Sequence[int]) -> list[Decision]:
        failed = self.failed(granted)
        return [
            Decision(place=place, reason="failed", after_seeds=int(failed[place].argmax()) + 1)
            for place in live
            if failed[place].any()
        ]

    def returned(self, granted: NDArray[np.intp]) -> list[Decision]:
        """Of the configurations without a failed cell, those that got furthest."""
        sound = np.flatnonzero(~self.failed(granted).any(axis=1))
        furthest = int(granted[sound].max(initial=0))
        return [
            Decision(place=int(place), reason="returned", after_seeds=furthest)
            for place in sound[granted[sound] == furthest]
        ]

    def effects(self, granted: NDArray[np.intp]) -> NDArray[np.float64]:
        fit = fit_additive(self.seen(granted)[:, : granted.max(initial=0)])
        return fit.effects.round(9)  # equal configurations tie, on every machine

    def estimates(self, granted: NDArray[np.intp]) -> list[float | None]:
        if not self.is_settled(granted):
            return [None] * len(granted)
        failed = np.asarray(self.failed(granted).any(axis=1))
        effects = self.effects(granted)
        return [None if lost else float(e) for lost, e in zip(failed, effects, strict=True)]


def _without(live: Sequence[int], out: Sequence[Decision]) -> list[int]:
    gone = {decision.place for decision in out}
    return [place for place in live if place not in gone]


def _verdict(
    granted: NDArray[np.intp],
    estimates: Sequence[float | None],
    decisions: Sequence[Decision] = (),
) -> Verdict:
    return Verdict(
        granted=tuple(granted.tolist()), estimates=tuple(estimates), decisions=tuple(decisions)
    )


POLICIES: Mapping[PolicyName, Policy] = {"race": Race(), "full": Full()}
"""The policies by name."""
