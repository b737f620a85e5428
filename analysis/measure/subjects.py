"""Scores of several subjects: the subject is the unit, its seeds and recordings are averaged first.

Seeds and recordings of one subject say nothing of other subjects (Demsar 2006, with subjects in
place of data sets).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from analysis.measure import formats
from analysis.measure.comparison import (
    EQUIVALENCE,
    SHARES,
    UNBOUNDED,
    Bounds,
    Comparison,
    Scores,
    above,
    compare,
    comparison_rows,
    difference_over_seeds,
    further_legend,
    further_rows,
    pairs_of,
    spread,
)
from analysis.measure.inference import interquartile_mean
from ssense.errors import UserError, printable

LEGEND = (
    "The unit is the subject: scores are averaged over the seeds of a recording, then over the "
    "recordings of a subject; ± is the sd over subjects, and the t-test is over subjects. Where "
    "they met the same sentences, it says nothing of others. Holm: for this number of "
    "comparisons. d: the mean difference in standard deviations over subjects. Interquartile mean: "
    "of the middle half of all runs, each counting once, with a bootstrap over the seeds of each "
    "recording."
)

BySubject = Mapping[str, Mapping[str, Scores]]
"""Scores by subject, recording and configuration: `[J]`, one per seed; J may differ between
recordings."""


def subject_means(scores: BySubject) -> dict[str, np.ndarray]:
    """Average over seeds, then over the recordings of a subject; by configuration, `[subjects]`.

    Raises:
        UserError: There is a single subject, or recordings differ in their configurations.
    """
    if len(scores) < 2:
        listed = printable(", ".join(scores) or "none")
        raise UserError(
            "the subject is the unit, and comparing takes recordings of at least two, got "
            f"{listed}. Add some of others."
        )
    (first, wanted), *others = _recordings(scores)
    for recording, found in others:
        odd = set(wanted) ^ set(found)
        if odd:
            raise UserError(
                f"{recording} and {first} don't have the same configurations: "
                f"{printable(', '.join(sorted(odd)))} is in one of them only. Comparisons are "
                "paired: run it there too, or leave it out."
            )
    return {
        name: np.array(
            [
                np.mean([found[name].mean() for found in recordings.values()])
                for recordings in scores.values()
            ]
        )
        for name in wanted
    }


def compare_subjects(
    scores: BySubject,
    chance: Mapping[str, float] | None = None,
    baseline: str | None = None,
    equivalence: float | None = EQUIVALENCE,
    bounds: Bounds = UNBOUNDED,
) -> list[Comparison]:
    """Compare configurations over subjects, and with chance where it is known.

    Args:
        scores: Scores by subject, recording and configuration.
        chance: Chance of each subject, mean over its recordings; scores are shares then.
        baseline: A configuration to compare all others with; every pair without one.
        equivalence: Differences up to this are negligible in practice; None to say nothing of it.
        bounds: The ends of what differences there can be, where chance does not tell.

    Raises:
        UserError: See `subject_means`.
    """
    bounds = bounds if chance is None else SHARES
    means = subject_means(scores)
    # No responses are in two subjects' splits, so nothing needs correction.
    test = partial(difference_over_seeds, n_train=1, n_test=0)
    pairs = compare(
        [
            test(f"{a} vs {b}", means[a], means[b], bounds=bounds)
            for a, b in pairs_of(means, baseline)
        ],
        equivalence,
    )
    if chance is None:
        return pairs
    levels = np.array([chance[subject] for subject in scores])
    from_chance = [
        test(f"{name} vs chance", values, levels, bounds=above(levels))
        for name, values in means.items()
    ]
    return compare(from_chance, equivalence) + pairs


def subject_rows(scores: BySubject, shown: Callable[..., str]) -> list[dict[str, str]]:
    """Lay out each configuration's mean by subject, over subjects, and of the middle half.

    Args:
        scores: Scores by subject, recording and configuration.
        shown: Function that writes a score, or a mean and its standard deviation.

    Raises:
        UserError: See `subject_means`.
    """
    return [
        {
            "configuration": name,
            **dict(zip(scores, map(shown, means), strict=True)),
            "over subjects": shown(means.mean(), spread(means)),
            "interquartile mean": _middle(scores, name, shown),
        }
        for name, means in subject_means(scores).items()
    ]


def subject_tables(
    scores: BySubject, comparisons: Sequence[Comparison], shown: Callable[..., str]
) -> list[formats.Rows]:
    """Lay out the means of subjects and the tests over them; `legend` explains them.

    Raises:
        UserError: See `subject_means`.
    """
    tests = comparison_rows(comparisons, "comparison", shown)
    for row in tests:
        del row["naive p"]  # subjects are independent: it is the p that is shown
    return [subject_rows(scores, shown), tests, further_rows(comparisons)]


def legend(
    comparisons: Sequence[Comparison], equivalence: float | None, shown: Callable[[float], str]
) -> str:
    """Explain `subject_tables`."""
    return f"{LEGEND} {further_legend(comparisons, equivalence, shown)}"


def _recordings(scores: BySubject) -> list[tuple[str, Scores]]:
    """All recordings, by a name for messages."""
    return [
        (printable(", ".join(filter(None, (subject, recording)))), found)
        for subject, recordings in scores.items()
        for recording, found in recordings.items()
    ]


def _middle(scores: BySubject, name: str, shown: Callable[[float], str]) -> str:
    runs = [found[name] for _, found in _recordings(scores)]
    middle = interquartile_mean(runs)
    if max(map(len, runs)) == 1:  # there are no seeds to draw again
        return shown(middle.value)
    return f"{shown(middle.value)} ({shown(middle.low)} to {shown(middle.high)})"
