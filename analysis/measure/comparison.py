"""Comparisons of configurations at the same seeds: each with chance, and each with each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np

from analysis.measure import formats
from analysis.measure.inference import (
    ROUNDING,
    Posterior,
    SignedRankTest,
    TTest,
    corrected_resampled_ttest,
    correlated_bayesian_ttest,
    effect_size,
    holm,
    naive_ttest,
    not_testable,
    stimulus_test,
    wilcoxon_signed_rank,
    win_share,
)
from ssense.engine.core.power import ALPHA, rank_words, smallest_rank_p

DASH = "–: there is no value, as the differences have no spread or are too few."
CUT = (
    "An interval ends at the least and the largest difference that two shares can have, where it "
    "would go beyond."
)

WINS = (
    "P(A > B): the share of seeds that A wins, where a tie counts half; takes seeds for "
    "independent."
)

LEGEND = (
    "p: corrected resampled t-test (Nadeau and Bengio), which allows for overlapping splits; "
    "Holm: for this number of comparisons. d: the mean difference in standard deviations over "
    f"seeds. {WINS} The naive p treats seeds as independent and is shown for comparison with "
    f"papers only. {CUT} {DASH}"
)

STIMULI_LEGEND = (
    "p: all seeds share these sentences, so the unit is the sentence, averaged over seeds. Blocks"
    " of neighbours change sign together (subset means, Hartigan 1969); what is above chance also"
    " exceeds permuted pairs of responses and sentences, which the interval does not show. Holm: "
    "for this number of comparisons. d: the mean difference in standard deviations over blocks. "
    f"{WINS} More seeds do not make the claim about sentences surer, and it is about the encoders "
    "of these seeds: how much others would differ is not part of it. The naive p treats seeds as "
    f"independent and is shown for comparison with papers only. {DASH}"
)
IMAGES_LEGEND = (
    "This is about one subject's responses, and about no other subject: the unit is the image, "
    "averaged over the seeds, which share these images and add no evidence. It is about the "
    "encoders of these seeds: how much others would differ is not part of it. Images are a sample "
    "of many (means of subsets of them, Hartigan 1969); what is above chance also exceeds "
    "permuted pairs of responses and images, which the interval does not show. Holm: for this "
    "number of comparisons. d: the mean difference in standard deviations over images. "
    f"{WINS} The naive p treats seeds as independent and is shown for comparison with papers only. "
    f"{DASH}"
)

EQUIVALENCE = 0.005
"""Half a point: smaller differences are negligible in practice."""

NOT_TESTABLE = "not testable"
"""Stands in place of a p-value where nothing estimates the spread of a difference."""

Bounds = tuple[float, float]
"""The lowest and the highest value that a mean difference can have."""
UNBOUNDED: Bounds = (-math.inf, math.inf)
SHARES: Bounds = (-1.0, 1.0)
"""Bounds of differences between two shares."""

Scores = Mapping[str, np.ndarray]
"""Scores by name of what is compared: `[J]`, one per seed, in the same order everywhere."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One difference between scores, and the test of it.

    Attributes:
        name: What is compared, "A vs B".
        by_seed: Difference at each seed, `[J]`.
        test: The test to go by, which knows what the seeds share.
        effect_size: The mean difference in standard deviations over the units of the test: seeds,
            blocks of stimuli that seeds share, or subjects.
        bounds: Between which values the mean difference must lie, whatever a t-test makes of it.
    """

    name: str
    by_seed: np.ndarray
    test: TTest
    effect_size: float
    bounds: Bounds = UNBOUNDED


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One of several differences of a kind, and what it shows.

    Attributes:
        difference: The difference and the test to go by.
        p_holm: The p-value of that test, adjusted for all comparisons of the kind.
        n_comparisons: How many comparisons of the kind there are.
        equivalence: Differences up to this mean nothing in practice; None where that is not stated.
    """

    difference: Difference
    p_holm: float
    n_comparisons: int
    equivalence: float | None

    @property
    def name(self) -> str:
        """What is compared, "A vs B"."""
        return self.difference.name

    @cached_property
    def corrected(self) -> TTest:
        """The test to go by; its interval ends where such differences do."""
        return bounded(self.difference.test, self.difference.bounds)

    @property
    def effect_size(self) -> float:
        """The mean difference in standard deviations over the units of the test."""
        return self.difference.effect_size

    @cached_property
    def naive(self) -> TTest:
        """The test that treats seeds as independent."""
        return naive_ttest(self.difference.by_seed)

    @property
    def wins(self) -> float:
        """P(A > B), the share of seeds at which A wins."""
        return win_share(self.difference.by_seed, np.zeros_like(self.difference.by_seed))

    @cached_property
    def ranks(self) -> SignedRankTest:
        """Wilcoxon's test, which treats seeds as independent too."""
        return wilcoxon_signed_rank(self.difference.by_seed)

    @property
    def posterior(self) -> Posterior:
        """The posterior of the difference; NaN where there is no region of equivalence."""
        if self.equivalence is None:
            return Posterior(math.nan, math.nan, math.nan)
        return correlated_bayesian_ttest(self.corrected, self.equivalence)


def above(chance: np.ndarray) -> Bounds:
    """How far a share can be above chance, and below.

    Args:
        chance: Chance at each seed, `[J]`, as a share.
    """
    mean = float(chance.mean())
    return -mean, 1 - mean


def bounded(test: TTest, bounds: Bounds) -> TTest:
    """End an interval where its values do; one that nothing estimates stays without ends.

    Args:
        test: A test whose interval may go beyond.
        bounds: The lowest and the highest mean that there can be.
    """
    if not test.testable:
        return test
    low, high = bounds
    return test._replace(low=max(test.low, low), high=min(test.high, high))


def pairs_of(names: Iterable[str], baseline: str | None = None) -> list[tuple[str, str]]:
    """List the pairs to compare: each with each, or all with a baseline."""
    if baseline is None:
        return list(combinations(names, 2))
    return [(name, baseline) for name in names if name != baseline]


def difference_over_seeds(
    name: str,
    first: np.ndarray,
    second: np.ndarray,
    n_train: int,
    n_test: int,
    smallest_variance: float = 0.0,
    rounding: float = 0.0,
    bounds: Bounds = UNBOUNDED,
) -> Difference:
    """Test the difference of scores `[J]` over their seeds.

    Args:
        name: What is compared.
        first: Scores of one.
        second: Scores of the other, at the same seeds.
        n_train: Stimuli of the training split.
        n_test: Stimuli of the test split; 0 where the units are independent.
        smallest_variance: See `corrected_resampled_ttest`.
        rounding: What each score may be off by because it was rounded. It never makes a spread
            smaller: differences that are equal within it are not testable, unless a smallest
            variance is known, and those of some spread have at least what it can hide.
        bounds: The ends of what differences there can be, see `above` and `SHARES`.
    """
    d = paired_differences(first, second)
    # Two scores are subtracted, and two differences compared: each may be off by twice as much.
    alike = np.ptp(d) <= 4 * rounding + ROUNDING * max(np.abs(first).max(), np.abs(second).max())
    if alike and not smallest_variance:
        test = not_testable(d)
    else:
        hidden = (2 * rounding) ** 2 * len(d) / (len(d) - 1)  # half of them up, half of them down
        test = corrected_resampled_ttest(d, n_train, n_test, max(smallest_variance, hidden))
    effect = math.nan if alike else effect_size(d)
    return Difference(name=name, by_seed=d, test=test, effect_size=effect, bounds=bounds)


def difference_over_stimuli(
    name: str, by_seed: np.ndarray, by_stimulus: np.ndarray, n_blocks: int, p_chance: float = 0.0
) -> Difference:
    """Test a difference over the stimuli that all seeds share, see `stimulus_test`.

    Its interval is of means of such differences, and so needs no bounds.

    Args:
        name: What is compared.
        by_seed: Difference at each seed, `[J]`.
        by_stimulus: Difference at each stimulus, `[n]`, in the order of time.
        n_blocks: Blocks of neighbours that change sign together.
        p_chance: The p-value of permuted pairs, for a comparison with chance: a difference has to
            show in both tests. Blocks shorter than a drift let permutations show what is not there.
    """
    test = stimulus_test(by_stimulus, n_blocks)
    test = test._replace(pvalue=max(test.pvalue, p_chance))
    effect = test.statistic / math.sqrt(test.df + 1)
    return Difference(name=name, by_seed=by_seed, test=test, effect_size=effect)


def compare(
    differences: Sequence[Difference], equivalence: float | None = EQUIVALENCE
) -> list[Comparison]:
    """Say what differences of one kind show; Holm over all of them.

    Args:
        differences: Every comparison of the kind.
        equivalence: Differences up to this mean nothing in practice; None to say nothing of it.
    """
    adjusted = holm([difference.test.pvalue for difference in differences])
    return [
        Comparison(
            difference=difference,
            p_holm=float(p_holm),
            n_comparisons=len(differences),
            equivalence=equivalence,
        )
        for difference, p_holm in zip(differences, adjusted, strict=True)
    ]


def paired_differences(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Subtract scores `[J]` of the same seeds; differences by arithmetic alone are none.

    Else 0.6 - 0.5 and 0.5 - 0.4 would differ, and by next to nothing: a difference of no spread
    would be 1e16 standard deviations large.

    Args:
        first: Scores of one.
        second: Scores of the other.
    """
    d = first - second
    rounding = ROUNDING * max(np.abs(first).max(), np.abs(second).max())
    d[np.abs(d) <= rounding] = 0.0
    return np.full_like(d, d[0]) if np.ptp(d) <= rounding else d


def spread(values: np.ndarray) -> float:
    """Standard deviation of `[J]` (ddof 1); 0 where all are alike within rounding."""
    sd = float(values.std(ddof=1))
    return sd if sd > ROUNDING * np.abs(values).max() else 0.0


def comparison_rows(
    comparisons: Iterable[Comparison], title: str, shown: Callable[[float], str]
) -> list[dict[str, str]]:
    """Lay comparisons out for people.

    Args:
        comparisons: The comparisons, a line each.
        title: The title of the column of their names.
        shown: Writes a difference.
    """
    return [
        {
            title: c.name,
            "difference": shown(c.corrected.mean),
            "95 % interval": interval(c.corrected, shown),
            "p": formats.p_value(c.corrected.pvalue) if c.corrected.testable else NOT_TESTABLE,
            "p, Holm": formats.p_value(c.p_holm) if c.corrected.testable else "–",
            "d": "–" if math.isnan(c.effect_size) else f"{c.effect_size:z.2f}",
            "P(A > B)": f"{c.wins:.2f}",
            "naive p": formats.p_value(c.naive.pvalue) if c.naive.testable else "–",
        }
        for c in comparisons
    ]


def interval(test: TTest, shown: Callable[[float], str]) -> str:
    """Write the interval of a difference; a dash where nothing bounds it."""
    if math.isinf(test.low) or math.isinf(test.high):
        return "–"
    return f"{shown(test.low)} to {shown(test.high)}"


def further_rows(comparisons: Iterable[Comparison]) -> list[dict[str, str]]:
    """Lay out what other tests say of the same differences; `further_legend` explains it."""
    return [
        {
            "comparison": c.name,
            "P(A > B)": f"{c.wins:.2f}",
            "Wilcoxon p": f"{formats.p_value(c.ranks.pvalue)} ({c.ranks.smallest:.3g})"
            if c.corrected.testable
            else "–",
            **({} if c.equivalence is None else _posterior_cells(c.posterior)),
        }
        for c in comparisons
    ]


def _posterior_cells(posterior: Posterior) -> dict[str, str]:
    return {
        f"P({name})": "–" if math.isnan(value) else f"{value:.3f}"
        for name, value in posterior._asdict().items()
    }


def further_legend(
    comparisons: Sequence[Comparison], equivalence: float | None, shown: Callable[[float], str]
) -> str:
    """Explain `further_rows`, and name the differences without spread.

    Args:
        comparisons: The comparisons in the table.
        equivalence: Differences up to this mean nothing in practice; None where that is not stated.
        shown: Writes a difference.
    """
    words = [
        "P(A > B): share of pairs that A wins. It and Wilcoxon's p treat pairs as independent; "
        "that p can't be smaller than in brackets."
    ]
    n_pairs = min((len(c.difference.by_seed) for c in comparisons), default=0)
    if n_pairs and smallest_rank_p(n_pairs) > ALPHA:
        words.append(f"{rank_words(n_pairs, 'pairs')}.")
    if equivalence is not None:
        words.append(
            "P(below), P(equivalent), P(above): probability that the true difference is below, "
            f"within or above ±{shown(equivalence)} (Bayesian correlated t-test)."
        )
    return " ".join([*words, *untestable(comparisons)])


def untestable(comparisons: Iterable[Comparison]) -> list[str]:
    """Name the comparisons that nothing can be tested of, and say why, if there are any."""
    names = [c.name for c in comparisons if not c.corrected.testable]
    if not names:
        return []
    return [
        "Not testable, because all differences are the same, or can't be told apart as they are "
        f"rounded, so that nothing estimates their spread: {', '.join(names)}."
    ]


def comparison_values(comparisons: Iterable[Comparison], metric: str) -> list[dict[str, object]]:
    """List comparisons as numbers; differences in the metric's own unit.

    A value without a number, such as the p-value of a difference that is not testable, is None.
    """
    return [
        {
            "metric": metric,
            "comparison": c.name,
            **{field: _finite(getattr(c.corrected, field)) for field in ("mean", "low", "high")},
            "t": _finite(c.corrected.statistic),
            "error": _finite(c.corrected.error),
            "df": c.corrected.df,
            "p": c.corrected.pvalue if c.corrected.testable else None,
            "p_holm": c.p_holm if c.corrected.testable else None,
            "effect_size": _finite(c.effect_size),
            "win_share": c.wins,
            **{f"posterior_{k}": _finite(value) for k, value in c.posterior._asdict().items()},
            "p_naive": c.naive.pvalue if c.naive.testable else None,
            "p_wilcoxon": c.ranks.pvalue if c.corrected.testable else None,
        }
        for c in comparisons
    ]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
