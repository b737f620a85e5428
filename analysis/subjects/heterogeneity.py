"""How much subjects differ in an effect: each subject's own with its error, and all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from analysis.measure import formats
from analysis.subjects.random_effects import FEWEST_TO_PREDICT, RandomEffects, random_effects

LEGEND = (
    "Random effects: each subject's own difference counts by how well it is measured, as its own "
    "test has it; sessions of a subject are averaged. 95 % interval: of the mean over all subjects "
    "there might be, by Hartung and Knapp. tau: the standard deviation of true differences over "
    "subjects (Paule and Mandel); I²: the share of the variance between subjects that their errors "
    "do not explain. New subject: 95 % of further subjects would have a true difference in this "
    "interval; –: there are fewer than three subjects."
)


@dataclass(frozen=True)
class SubjectEffects:
    """One difference in several subjects.

    Attributes:
        name: What is compared, "A vs B".
        subjects: The subjects' names.
        effects: The difference in each, `[subjects]`.
        errors: The standard error of each, `[subjects]`.
    """

    name: str
    subjects: tuple[str, ...]
    effects: np.ndarray
    errors: np.ndarray

    @cached_property
    def over(self) -> RandomEffects:
        """The effect over subjects."""
        return random_effects(self.effects, self.errors)


def averaged(effects: Sequence[float], errors: Sequence[float]) -> tuple[float, float]:
    """The mean effect of one subject's sessions, each of which counts alike, and its error.

    Args:
        effects: The effect in each session.
        errors: The standard error of each; sessions are independent.
    """
    return float(np.mean(effects)), math.sqrt(float(np.sum(np.square(errors)))) / len(effects)


def heterogeneity_rows(
    effects: Iterable[SubjectEffects], shown: Callable[[float], str]
) -> list[dict[str, str]]:
    """Lay out each difference over subjects; `LEGEND` explains it.

    Args:
        effects: The differences.
        shown: Function that writes a difference.
    """
    return [
        {
            "random effects": each.name,
            "mean": shown(each.over.mean),
            "95 % interval": f"{shown(each.over.low)} to {shown(each.over.high)}",
            "p": formats.p_value(each.over.pvalue),
            "tau": shown(each.over.tau),
            "I²": f"{100 * each.over.i_squared:.0f} %",
            "new subject": _new_subject(each, shown),
        }
        for each in effects
    ]


def heterogeneity_values(effects: Iterable[SubjectEffects], metric: str) -> list[dict[str, object]]:
    """List each difference of each subject, and over them, as numbers in the metric's own unit."""
    rows: list[dict[str, object]] = []
    for each in effects:
        found = zip(each.subjects, each.effects, each.errors, each.over.weights, strict=True)
        about = {"metric": metric, "comparison": each.name}
        rows += [
            {**about, "subject": subject, "mean": mean, "error": error, "weight": weight}
            for subject, mean, error, weight in map(_plain, found)
        ]
        over = each.over
        rows.append(
            {
                **about,
                "subject": "over subjects",
                **{name: getattr(over, name) for name in ("mean", "error", "low", "high")},
                "p": over.pvalue,
                "tau": over.tau,
                "i_squared": over.i_squared,
                "new_subject_low": _known(over.predicted_low),
                "new_subject_high": _known(over.predicted_high),
            }
        )
    names = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name) for name in names} for row in rows]


def _plain(row: tuple[str, float, float, float]) -> tuple[str, float, float, float]:
    subject, *numbers = row
    mean, error, weight = map(float, numbers)
    return subject, mean, error, weight


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _new_subject(found: SubjectEffects, shown: Callable[[float], str]) -> str:
    if len(found.subjects) < FEWEST_TO_PREDICT:
        return "–"
    return f"{shown(found.over.predicted_low)} to {shown(found.over.predicted_high)}"
