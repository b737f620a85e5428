"""Comparisons of configurations over paired seeds: each against chance, and each with each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from analysis import report
from analysis.statistics import (
    Estimate,
    Posterior,
    SignedRankTest,
    TTest,
    corrected_resampled_ttest,
    correlated_bayesian_ttest,
    effect_size,
    holm,
    naive_ttest,
    wilcoxon_signed_rank,
    win_probability,
)

LEGEND = (
    "p: corrected resampled t-test (Nadeau and Bengio), which allows for overlapping splits; "
    "Holm: for this number of comparisons. The naive p takes seeds for independent and is "
    "shown for comparison with papers only."
)

EQUIVALENCE = 0.005
"""Differences of half a point mean nothing in practice."""

ROUNDING = 1e-12
"""Of a score: less than that is an error of rounding, which subtracting and averaging leave."""

Scores = Mapping[str, np.ndarray]
"""By name of what is compared: `[J]`, one score per seed, in the same order everywhere."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One difference between scores at the same seeds, and what it shows.

    Attributes:
        name: "A – B".
        corrected: the test to go by.
        naive: the test that takes seeds for independent.
        p_holm: corrected p, adjusted for all comparisons of its kind.
        effect_size: mean difference in standard deviations.
        wins: P(A > B).
        ranks: Wilcoxon's test, which takes seeds for independent too.
        posterior: of the difference, with a region of practical equivalence.
    """

    name: str
    corrected: TTest
    naive: TTest
    p_holm: float
    effect_size: float
    wins: Estimate
    ranks: SignedRankTest
    posterior: Posterior


def against_chance(
    scores: Scores, chance: np.ndarray, n_train: int, n_test: int, equivalence: float = EQUIVALENCE
) -> list[Comparison]:
    """Compare each with what guessing reaches; Holm over all of them.

    Args:
        scores: by name.
        chance: `[J]`, of the same metric at the same seeds, for test splits may differ in size.
        n_train: sentences of the training split.
        n_test: sentences of the test split; 0 where all seeds share their splits.
        equivalence: differences up to this mean nothing in practice.
    """
    pairs = [(f"{name} – chance", values, chance) for name, values in scores.items()]
    return _compare(pairs, n_train, n_test, equivalence)


def between(
    scores: Scores,
    n_train: int,
    n_test: int,
    baseline: str | None = None,
    equivalence: float = EQUIVALENCE,
) -> list[Comparison]:
    """Compare in pairs, or all with a baseline; Holm over all of them.

    Args:
        scores: by name.
        n_train: sentences of the training split.
        n_test: sentences of the test split; 0 where all seeds share their splits.
        baseline: one of the names.
        equivalence: differences up to this mean nothing in practice.
    """
    chosen = (
        combinations(scores, 2)
        if baseline is None
        else ((name, baseline) for name in scores if name != baseline)
    )
    pairs = [(f"{a} – {b}", scores[a], scores[b]) for a, b in chosen]
    return _compare(pairs, n_train, n_test, equivalence)


def _compare(
    pairs: Sequence[tuple[str, np.ndarray, np.ndarray]],
    n_train: int,
    n_test: int,
    equivalence: float,
) -> list[Comparison]:
    differences = [(name, paired_differences(a, b)) for name, a, b in pairs]
    tests = [corrected_resampled_ttest(d, n_train, n_test) for _, d in differences]
    return [
        Comparison(
            name=name,
            corrected=test,
            naive=naive_ttest(d),
            p_holm=float(adjusted),
            effect_size=effect_size(d),
            wins=win_probability(d, np.zeros_like(d)),
            ranks=wilcoxon_signed_rank(d),
            posterior=correlated_bayesian_ttest(d, n_train, n_test, equivalence),
        )
        for (name, d), test, adjusted in zip(
            differences, tests, holm([test.pvalue for test in tests]), strict=True
        )
    ]


def paired_differences(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Subtract scores `[J]` of the same seeds; 0, or all alike, where they are but for rounding.

    Else 0.6 - 0.5 and 0.5 - 0.4 would differ, and by next to nothing: a difference of no spread
    would be 1e16 standard deviations large.
    """
    d = first - second
    rounding = ROUNDING * max(np.abs(first).max(), np.abs(second).max())
    d[np.abs(d) <= rounding] = 0.0
    return np.full_like(d, d[0]) if np.ptp(d) <= rounding else d


def spread(values: np.ndarray) -> float:
    """Standard deviation of `[J]` (ddof 1); 0 where all are alike but for rounding."""
    sd = float(values.std(ddof=1))
    return sd if sd > ROUNDING * np.abs(values).max() else 0.0


def comparison_rows(
    comparisons: Iterable[Comparison], title: str, shown: Callable[[float], str]
) -> list[dict[str, str]]:
    """Lay comparisons out for people.

    Args:
        comparisons: a line each.
        title: of the column of their names.
        shown: writes a difference.
    """
    return [
        {
            title: c.name,
            "difference": shown(c.corrected.mean),
            "95 % interval": f"{shown(c.corrected.low)} to {shown(c.corrected.high)}",
            "p": report.p_value(c.corrected.pvalue),
            "p, Holm": report.p_value(c.p_holm),
            "d": f"{c.effect_size:.2f}" if math.isfinite(c.effect_size) else "sd 0",
            "P(A > B)": f"{c.wins.value:.2f}",
            "naive p": report.p_value(c.naive.pvalue),
        }
        for c in comparisons
    ]


def further_rows(comparisons: Iterable[Comparison]) -> list[dict[str, str]]:
    """Lay out what other tests say of the same differences; `further_legend` explains it."""
    return [
        {
            "comparison": c.name,
            "P(A > B)": "{:.2f} ({:.2f} to {:.2f})".format(*c.wins),
            "Wilcoxon p": f"{report.p_value(c.ranks.pvalue)} ({c.ranks.smallest:.3g})",
            "P(below)": f"{c.posterior.below:.3f}",
            "P(equivalent)": f"{c.posterior.equivalent:.3f}",
            "P(above)": f"{c.posterior.above:.3f}",
        }
        for c in comparisons
    ]


def further_legend(
    comparisons: Iterable[Comparison], equivalence: float, shown: Callable[[float], str]
) -> str:
    """Explain `further_rows`, and name the differences without spread.

    Args:
        comparisons: in the table.
        equivalence: differences up to this mean nothing in practice.
        shown: writes a difference.
    """
    words = (
        "P(A > B): share of pairs that A wins, with its 95 % bootstrap interval. Wilcoxon's p "
        "takes pairs for independent and can't be smaller than in brackets. P(below), "
        "P(equivalent), P(above): probability that the true difference is below, within or above "
        f"±{shown(equivalence)} (Bayesian correlated t-test)."
    )
    without = [c.name for c in comparisons if c.corrected.low == c.corrected.high]
    if not without:
        return words
    return (
        f"{words} The same difference in every pair, with standard deviation 0: "
        f"{', '.join(without)}. Its p and interval allow for no error at all."
    )


def comparison_values(comparisons: Iterable[Comparison], metric: str) -> list[dict[str, object]]:
    """List comparisons as numbers; differences in the metric's own unit."""
    return [
        {
            "metric": metric,
            "comparison": c.name,
            **{field: getattr(c.corrected, field) for field in ("mean", "low", "high")},
            "t": c.corrected.statistic,
            "df": c.corrected.df,
            "p": c.corrected.pvalue,
            "p_holm": c.p_holm,
            "effect_size": c.effect_size,
            "win_probability": c.wins.value,
            "win_low": c.wins.low,
            "win_high": c.wins.high,
            **{f"posterior_{name}": value for name, value in c.posterior._asdict().items()},
            "p_naive": c.naive.pvalue,
            "p_wilcoxon": c.ranks.pvalue,
        }
        for c in comparisons
    ]
