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
    CUT,
    DASH,
    EQUIVALENCE,
    SHARES,
    UNBOUNDED,
    Bounds,
    Comparison,
    Difference,
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
from analysis.measure.resolution import Resolution, exact_resolution
from ssense.errors import UserError, printable

LEGEND = (
    "The unit is the subject: scores are averaged over the seeds of a recording, then over the "
    "recordings of a subject; ± is the sd over subjects, and the t-test is over subjects, whose "
    "variance has a floor where scores are shares of hits: the spread of their hits. Where they "
    "met the same sentences, it says nothing of others. Holm: for this number of comparisons. d: "
    "the mean difference in standard deviations over subjects. Interquartile mean: of the middle "
    "half of all runs, each counting once, with a bootstrap over the seeds of each recording. "
    f"{CUT} {DASH}"
)

Resolutions = Mapping[str, Mapping[str, Resolution]]
"""How finely scores are known, by subject and recording."""

OfItems = Callable[[str, Scores, Resolution], float]
"""The variance that hits give a score at one seed: of a subject, a recording's scores, and how
finely they are known."""

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
    resolutions: Resolutions | None = None,
    shared: bool = False,
) -> list[Comparison]:
    """Compare configurations over subjects, and with chance where it is known.

    No responses are in two subjects' splits, so nothing needs correction. Two or three subjects
    easily differ by nearly the same, by whole sentences of 59 and of 60: where scores are shares of
    hits, the variance over subjects is not trusted below that which hits have within each.

    Args:
        scores: Scores by subject, recording and configuration.
        chance: Chance of each subject, mean over its recordings; scores are shares then.
        baseline: A configuration to compare all others with; every pair without one.
        equivalence: Differences up to this are negligible in practice; None to say nothing of it.
        bounds: The ends of what differences there can be, where chance does not tell.
        resolutions: How finely the scores of each subject and recording are known; without them,
            scores between 0 and 1 count as exact, and tell themselves if they are shares of hits.
        shared: Whether the seeds of a recording share their test items, so that hits at more seeds
            are no more items.

    Raises:
        UserError: See `subject_means`.
    """
    means = subject_means(scores)
    known = _exact_resolutions(scores) if resolutions is None else resolutions
    difference = partial(_difference, scores, known, shared)
    ends = bounds if chance is None else SHARES
    pairs = [
        difference(f"{a} vs {b}", means[a], means[b], _hits_of_pair(a, b), ends)
        for a, b in pairs_of(means, baseline)
    ]
    if chance is None:
        return compare(pairs, equivalence)
    levels = np.array([chance[subject] for subject in scores])
    with_chance = [
        difference(f"{name} vs chance", each, levels, _hits_above(chance, name), above(levels))
        for name, each in means.items()
    ]
    return compare(with_chance, equivalence) + compare(pairs, equivalence)


def _difference(
    scores: BySubject,
    resolutions: Resolutions,
    shared: bool,
    name: str,
    first: np.ndarray,
    second: np.ndarray,
    of_items: OfItems,
    ends: Bounds,
) -> Difference:
    """The difference of two means over subjects, whose variance is at least that of the hits."""
    rounded = max(each.rounded for found in resolutions.values() for each in found.values())
    smallest = _smallest_variance(scores, resolutions, of_items, shared)
    return difference_over_seeds(name, first, second, 1, 0, smallest, rounded, ends)


def _hits_of_pair(a: str, b: str) -> OfItems:
    return lambda _, found, resolution: resolution.variance_of_hits(found[a] - found[b])


def _hits_above(chance: Mapping[str, float], name: str) -> OfItems:
    return lambda subject, found, resolution: max(
        resolution.variance_of_hits(values) for values in (found[name], np.array([chance[subject]]))
    )


def _exact_resolutions(scores: BySubject) -> Resolutions:
    """How finely exact scores are known; those between 0 and 1 may be shares of hits."""
    values = [row for _, found in _recordings(scores) for row in found.values()]
    whole = 1.0 if all(row.min() >= 0 and row.max() <= 1 for row in values) else 0.0
    return {
        subject: {name: exact_resolution(found, whole) for name, found in recordings.items()}
        for subject, recordings in scores.items()
    }


def _smallest_variance(
    scores: BySubject, resolutions: Resolutions, of_items: OfItems, shared: bool
) -> float:
    """The variance over subjects that hits alone bring about: that of each mean, over subjects."""
    of_subjects = []
    for subject, recordings in scores.items():
        of_means = [
            of_items(subject, found, resolutions[subject][name])
            / (1 if shared else len(next(iter(found.values()))))
            for name, found in recordings.items()
        ]
        of_subjects.append(sum(of_means) / len(of_means) ** 2)
    return float(np.mean(of_subjects))


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
