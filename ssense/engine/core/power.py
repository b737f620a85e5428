"""Power: how small a difference between two configurations a number of seeds can show."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from itertools import count

import numpy as np
from scipy import optimize, special

from ssense.errors import counted
from ssense.retrieval import metric_title

ALPHA = 0.05  # two-sided
POWER = 0.8

SEEDS = (10, 20)  # shown beside the sweep's own number
ENOUGH_SEEDS = 10  # twice as many detect effects a tenth smaller
ENDLESS_SEEDS = 10**6
LITTLE_GAIN = 0.95  # more seeds are advised only if they detect less than this share of an effect
SHOWN_RECALL = 0.2  # recall at which the power of a shared test split is stated, in points
MANY_SUBJECTS = 10  # shown beside the sweep's own number
MOST_SUBJECTS = 100  # beyond which nothing is said of how many are needed
RARELY_MET = 0.5  # differences between shares of hits that are rarely so large


@dataclass(frozen=True, kw_only=True)
class Power:
    """What the tests of a sweep can show, before it runs.

    Attributes:
        seeds: How many seeds every configuration meets.
        sizes: Stimuli of the training and test splits, as far as seeds draw them again.
        comparisons: How many pairs of families are compared, which Holm's adjustment allows for.
        noise: Standard deviation of paired differences between configurations, in the metric, from
            the cells that are done; None where that is unknown.
        metric: The validation metric that configurations are judged by.
        shared_test: Stimuli of the one test split that all seeds share, and how many blocks of them
            are the units of the test, 0 where subjects are; None where each seed draws its own.
    """

    seeds: int
    sizes: tuple[int, int]
    comparisons: int
    noise: float | None
    metric: str
    shared_test: tuple[int, int] | None = None

    def lines(self) -> list[str]:
        """What can be shown, in words, and what would show more."""
        if self.seeds < 2:
            return ["  power: a single seed can show no difference; give more"]
        if self.shared_test:
            stimuli, blocks = self.shared_test
            if not blocks:
                return self._of_one_subject(stimuli)
            return self._of_stimuli(stimuli, min(blocks, stimuli))
        own = self._detectable(self.seeds)
        seeds = counted(self.seeds, "seed shows", "seeds show")
        shown = [
            f"{seeds} no difference that can be ({self._amount(own)} points)"
            if self._is_beyond(own)
            else f"{seeds} differences from {self._amount(own)} {self._unit()}"
        ]
        more = (n for n in SEEDS if n > self.seeds and not self._is_beyond(self._detectable(n)))
        shown += [f"{n} seeds from {self._amount(self._detectable(n))}" for n in more]
        power = f"  power: {', '.join(shown)} (80 %, corrected test{self._holm()})"
        return [power, *self._of_two_seeds(), self._advice(own)]

    def over_subjects(self, n_subjects: int) -> list[str]:
        """What a comparison over subjects who met the same test stimuli can show, in words.

        Nothing is said of a single subject, or where seeds draw their own test splits.

        Args:
            n_subjects: How many subjects are compared.
        """
        if n_subjects < 2 or not self.shared_test:
            return []
        stimuli, _ = self.shared_test
        return [
            f"  over subjects: {subject_words(n_subjects, stimuli, self.comparisons)}",
            f"  over subjects: {rank_words(n_subjects, 'subjects', self.comparisons)}",
        ]

    def _advice(self, own: float) -> str:
        if self._detectable(ENOUGH_SEEDS) < LITTLE_GAIN * own:
            return f"  advice: seeds 0-{ENOUGH_SEEDS - 1}; more than these would gain little"
        limit = self._amount(self._detectable(ENDLESS_SEEDS))
        return f"  advice: enough seeds; splits overlap, so that no number shows less than {limit}"

    def _of_two_seeds(self) -> list[str]:
        """Two seeds have one degree of freedom: they must agree almost to the digit."""
        if self.seeds != 2:
            return []
        n_train, n_test = self.sizes
        errors = critical_value(1, self.comparisons) * math.sqrt(1 / 2 + n_test / n_train)
        return [
            "  beware: 2 seeds almost never show a difference: it must be the same at both to "
            f"within {100 * math.sqrt(2) / errors:.0f} %, but not exactly the same"
        ]

    def _of_one_subject(self, stimuli: int) -> list[str]:
        """A subject alone is tested over its stimuli; `over_subjects` says what several show."""
        points = 100 * least_over_stimuli(stimuli, stimuli, self.comparisons)
        return [
            f"  power: all seeds share {stimuli} test stimuli, over which one subject alone shows "
            f"differences from about {points:.1f} points on where {100 * SHOWN_RECALL:.0f} % are "
            f"hits (80 %{self._holm()}); more seeds show nothing smaller"
        ]

    def _of_stimuli(self, stimuli: int, blocks: int) -> list[str]:
        points = 100 * least_over_stimuli(stimuli, blocks, self.comparisons)
        return [
            f"  power: all seeds share {stimuli} test stimuli, which show differences from about "
            f"{points:.1f} points on where {100 * SHOWN_RECALL:.0f} % are hits, "
            f"more where neighbours are alike (80 %{self._holm()})",
            "  advice: more seeds average out training alone; smaller differences need more "
            "stimuli",
        ]

    def _holm(self) -> str:
        return _holm(self.comparisons)

    def _detectable(self, n_seeds: int) -> float:
        return smallest_detectable_effect(n_seeds, *self.sizes, self.comparisons)

    def _is_beyond(self, effect: float) -> bool:
        """Whether an effect is larger than a difference of two shares can be."""
        return self.noise is not None and effect * self.noise > 1

    def _amount(self, effect: float) -> str:
        return f"{effect:.1f}" if self.noise is None else f"{100 * effect * self.noise:.1f}"

    def _unit(self) -> str:
        if self.noise is None:
            return "sd of paired differences"
        return f"points of {metric_title(self.metric)}"


def _holm(comparisons: int) -> str:
    return f", Holm over {comparisons} pairs" if comparisons > 1 else ""


def smallest_detectable_effect(
    n_seeds: int, n_train: int, n_test: int, comparisons: int = 1
) -> float:
    """Difference that the corrected resampled t-test finds at `ALPHA` with probability `POWER`.

    The test of Nadeau and Bengio (2003) has the standard error sd * sqrt(1/J + n_test/n_train) with
    J seeds and J - 1 degrees of freedom.

    Args:
        n_seeds: J, seeds that both configurations met.
        n_train: Stimuli of the training split.
        n_test: Stimuli of the test split.
        comparisons: How many comparisons Holm's adjustment allows for.

    Returns:
        The effect in standard deviations of the paired differences; infinite for a single seed.
    """
    errors = detectable_errors(n_seeds - 1, comparisons)
    return errors * math.sqrt(1 / n_seeds + n_test / n_train)


def least_over_stimuli(n_stimuli: int, n_blocks: int, comparisons: int = 1) -> float:
    """Difference between shares of hits that a test over the stimuli of one test split shows.

    At `ALPHA` with probability `POWER`, for two configurations of which `SHOWN_RECALL` are hits, at
    stimuli that have nothing to do with each other.

    Args:
        n_stimuli: How many stimuli there are.
        n_blocks: Blocks of neighbours that are the units of the test; as many as stimuli where each
            is one.
        comparisons: How many comparisons Holm's adjustment allows for.
    """
    errors = detectable_errors(n_blocks - 1, comparisons)
    return errors * math.sqrt(2 * SHOWN_RECALL * (1 - SHOWN_RECALL) / n_stimuli)


def least_over_subjects(n_subjects: int, n_stimuli: int, comparisons: int = 1) -> float:
    """Difference between shares of hits that subjects who met the same stimuli show at best.

    By the test over both (`crossed_ttest` in the analysis), at `ALPHA` with probability `POWER`,
    where `SHOWN_RECALL` are hits: as if neither subjects nor stimuli differed, and all hits were
    independent. The test then finds their variance twice, over subjects and over stimuli.

    Args:
        n_subjects: How many subjects there are, two at least.
        n_stimuli: How many stimuli each of them met.
        comparisons: How many comparisons Holm's adjustment allows for.

    Returns:
        The difference as a share; more than `RARELY_MET` where hardly any can be shown, and more
        than 1 where none can.
    """
    errors = detectable_errors(min(n_subjects, n_stimuli) - 1, comparisons, besides=1)
    return errors * math.sqrt(2 * SHOWN_RECALL * (1 - SHOWN_RECALL) / (n_subjects * n_stimuli))


def subject_words(n_subjects: int, n_stimuli: int, comparisons: int = 1) -> str:
    """Say which differences subjects who met the same stimuli show at best, and how many it takes.

    Args:
        n_subjects: How many subjects there are, two at least.
        n_stimuli: How many stimuli each of them met.
        comparisons: How many comparisons Holm's adjustment allows for.
    """
    reach = partial(least_over_subjects, n_stimuli=n_stimuli, comparisons=comparisons)
    enough = range(n_subjects, max(n_subjects, MOST_SUBJECTS) + 1)
    n = next((n for n in enough if reach(n) < RARELY_MET), None)
    if n is None:
        return f"{n_subjects} subjects with {n_stimuli} stimuli each show hardly any difference"
    shown = f"{n_subjects} subjects show "
    if n > n_subjects:
        shown += f"hardly any difference; at least {n} are needed, which show "
    shown += f"differences from {100 * reach(n):.0f} points on at best"
    if n < MANY_SUBJECTS:
        shown += f", {MANY_SUBJECTS} from {100 * reach(MANY_SUBJECTS):.0f}"
    return f"{shown}, where {100 * SHOWN_RECALL:.0f} % are hits (80 %{_holm(comparisons)})"


def smallest_rank_p(n_pairs: int) -> float:
    """The smallest two-sided p that Wilcoxon's signed-rank test of so many pairs can reach."""
    return 2.0 ** (1 - n_pairs)


def rank_words(n_pairs: int, unit: str, comparisons: int = 1) -> str:
    """Say the smallest p that Wilcoxon's signed-rank test can reach, and how many pairs it needs.

    Args:
        n_pairs: How many pairs there are.
        unit: What the pairs are of, in the plural.
        comparisons: How many comparisons Holm's adjustment allows for.
    """
    reached = f"Wilcoxon's p over {n_pairs} {unit} can't be below {smallest_rank_p(n_pairs):.3g}"
    needed = next(n for n in count(1) if comparisons * smallest_rank_p(n) < ALPHA)
    if n_pairs >= needed:
        return reached
    after = f" after Holm over {comparisons}" if comparisons > 1 else ""
    return f"{reached}; at least {needed} are needed for p < {ALPHA:g}{after}"


def detectable_errors(df: float, comparisons: int = 1, besides: float = 0.0) -> float:
    """Difference, in its standard errors, that a t-test finds at `ALPHA` with probability `POWER`.

    With an effect, the statistic follows a noncentral t. Whatever the other comparisons show,
    Holm's adjustment finds what is found at `ALPHA` divided by their number.

    Args:
        df: Degrees of freedom of the test.
        comparisons: How many comparisons Holm's adjustment allows for.
        besides: A variance that the test adds to that of the mean, which it estimates with these
            degrees of freedom, in the unit of that variance.
    """
    if df <= 0:
        return math.inf
    critical = critical_value(df, comparisons)

    def missing(noncentrality: float) -> float:
        # Mean over the distribution of the standard error; the other tail adds less than 1e-4.
        return float(special.ndtr(noncentrality - critical * spread).mean()) - POWER

    # Chi-squared at midpoints of equal probability; SciPy's noncentral t is NaN for few df.
    quantiles = (np.arange(5_000) + 0.5) / 5_000
    spread = np.sqrt(besides + 2 * special.gammaincinv(df / 2, quantiles) / df)
    return float(optimize.brentq(missing, 0.0, 2 * critical * spread[-1] + 10))


def critical_value(df: float, comparisons: int = 1) -> float:
    """How many standard errors a difference must exceed to be shown, two-sided."""
    return float(-special.stdtrit(df, ALPHA / (2 * comparisons)))
