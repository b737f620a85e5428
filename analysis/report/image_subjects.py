"""Image decoding over subjects: a row per objective, a column per subject, as papers lay it out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from analysis.measure import formats
from analysis.measure.comparison import (
    CUT,
    DASH,
    SHARES,
    Bounds,
    Comparison,
    Difference,
    above,
    bounded,
    compare,
    interval,
    pairs_of,
)
from analysis.measure.evaluation import Evaluation
from analysis.measure.inference import (
    ENOUGH_TO_DRAW,
    crossed_ttest,
    effect_size,
    two_way_bootstrap,
)
from analysis.measure.seed_results import SeedResult
from analysis.measure.subjects import BySubject, subject_rows
from analysis.report.images import REPORTED, TOP_K, ImageReport, shown
from analysis.report.published import N_TEST, PublishedRow, Task, published_rows, sources
from ssense.engine.core.cell import describe
from ssense.retrieval import chance_metrics, metric_title
from ssense.training.images import ImageSpec

LEGEND = (
    "The units are subjects and images, both samples of many: the standard error has a part from "
    "each (min F', Clark 1973), and the degrees of freedom are those of the fewer. Intervals are "
    "about the mean of other subjects who meet other images, by the encoders of these seeds; ± is "
    "the sd over these subjects. Holm: for this number of comparisons. d: the mean difference in "
    "standard deviations over subjects. The naive p is over subjects alone, and treats these "
    f"images as all there are. {CUT} {DASH}"
)

PRIMARY = ImageSpec.primary
NOT_PUBLISHED = "– in a published row: not published."
OVER = "over subjects"
INTERVAL = "95 % of the mean"
SHARED_TRAINING = (
    "Each fold trained on all subjects but one, so that any two share nearly all they were trained "
    "on: scores of subjects are not independent, and the tests, which take them to be, may find "
    "too much."
)
"""Said of folds that leave one subject out."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SubjectResult:
    """What one subject's sweep reached on the test images.

    Attributes:
        sweep: Name of the sweep.
        subject: Name of the subject.
        specification: What its cells share.
        evaluation: What its chosen configurations retrieved; the family of each is an objective.
        look: What the choice may know of the test, in words.
        task: What was published of the same; None for synthetic data.
    """

    sweep: str
    subject: str
    specification: ImageSpec
    evaluation: Evaluation
    look: str
    task: Task | None

    @classmethod
    def of(cls, report: ImageReport, result: SeedResult) -> SubjectResult:
        """Gather the result of a subject at some seeds from its report."""
        return cls(
            sweep=report.ledger.folder.name,
            subject=report.origin.subject,
            specification=report.specification,
            evaluation=result.evaluation,
            look=result.look,
            task=report.published_task,
        )

    def by_image(self, objective: str, metric: str = PRIMARY) -> np.ndarray:
        """What an objective reaches at each test image, `[n]`, mean over seeds; images are in the
        order that all subjects share.
        """
        mean: np.ndarray = np.mean(self.evaluation.values(metric, objective), axis=0)
        return mean


def by_subject(found: Sequence[SubjectResult], metric: str) -> BySubject:
    """Gather the scores of a metric by subject and objective; a subject has one recording."""
    return {
        each.subject: {
            "": {name: scores[metric] for name, scores in each.evaluation.scores.items()}
        }
        for each in found
    }


def table_rows(found: Sequence[SubjectResult], metric: str) -> list[dict[str, str]]:
    """Lay out means over seeds by objective and subject as the papers do, and what they publish."""
    rows = subject_rows(by_subject(found, metric), partial(formats.score, metric))
    ours = [
        {"objective": row["configuration"], **{e.subject: row[e.subject] for e in found}}
        | {OVER: row[OVER], INTERVAL: _mean_interval(found, metric, row["configuration"])}
        for row in rows
    ]
    theirs = [
        {"objective": row.name}
        | dict(zip([e.subject for e in found], map(shown, row.of_subjects), strict=True))
        | {OVER: shown(row.over), INTERVAL: "–"}
        for row in rows_of_papers(found, metric)
    ]
    return [*ours, *theirs]


def crossed(found: Sequence[SubjectResult], objective: str, metric: str = PRIMARY) -> np.ndarray:
    """What an objective reaches, `[subjects, images]`, mean over seeds.

    Args:
        found: The results of the subjects.
        objective: Name of the objective.
        metric: The metric.
    """
    return np.stack([each.by_image(objective, metric) for each in found])


def _mean_interval(found: Sequence[SubjectResult], metric: str, objective: str) -> str:
    test = bounded(crossed_ttest(crossed(found, objective, metric)), (0.0, 1.0))
    return interval(test, partial(formats.score, metric))


def bootstrap_words(found: Sequence[SubjectResult]) -> list[str]:
    """Say what drawing subjects and images again makes of the means and their differences.

    Args:
        found: The results of the subjects.
    """
    if len(found) < ENOUGH_TO_DRAW:
        return []
    tables = {name: crossed(found, name) for name in found[0].evaluation.retrievals}
    drawn = tables | {f"{a} minus {b}": tables[a] - tables[b] for a, b in pairs_of(tables)}
    listed = [
        f"{name} {100 * each.low:.1f} to {100 * each.high:.1f}"
        for name, each in ((name, two_way_bootstrap(table)) for name, table in drawn.items())
    ]
    return [
        f"Two-way bootstrap of {metric_title(PRIMARY)}, subjects and images drawn again (95 %, in "
        f"points): {'; '.join(listed)}."
    ]


def rows_of_papers(found: Sequence[SubjectResult], metric: str) -> list[PublishedRow]:
    """What was published on the same task, where the subjects are among those of the papers.

    Args:
        found: The results of the subjects.
        metric: One of those that papers report.
    """
    first, place = found[0], REPORTED.index(metric)
    if first.task is None or first.evaluation.n_test != N_TEST:
        return []
    by_test = first.specification.chosen_by_test
    return published_rows(first.task, [e.subject for e in found], place, by_test=by_test)


def compare_objectives(found: Sequence[SubjectResult]) -> list[Comparison]:
    """Compare each objective with chance, and objectives in pairs, over subjects and images.

    Subjects met the same images, so a test over subjects alone would take these for all there are,
    see `crossed_ttest`.
    """
    chance = found[0].evaluation.chance_by_seed[PRIMARY]  # the same at all: of one test
    tables = {name: crossed(found, name) for name in found[0].evaluation.retrievals}
    from_chance = [
        _crossed(f"{name} vs chance", table - chance[0], above(chance))
        for name, table in tables.items()
    ]
    pairs = [_crossed(f"{a} vs {b}", tables[a] - tables[b], SHARES) for a, b in pairs_of(tables)]
    return compare(from_chance) + compare(pairs)


def _crossed(name: str, differences: np.ndarray, bounds: Bounds) -> Difference:
    by_subject = differences.mean(axis=1)
    return Difference(
        name=name,
        by_seed=by_subject,
        test=crossed_ttest(differences),
        effect_size=effect_size(by_subject),
        bounds=bounds,
    )


def standard_errors(by_image: np.ndarray) -> tuple[float, float]:
    """Standard errors of a mean if other test images were drawn for the same subjects.

    Subjects find the same images easy, so averaging over subjects takes little of it away.

    Args:
        by_image: What each subject reaches at each image, `[subjects, n]`.

    Returns:
        The largest error of one subject's mean, which is nearest to a half where scores are hits,
        and that of the mean over all.
    """
    n = by_image.shape[1]
    alone = float(by_image.var(axis=1, ddof=1).max())
    over = float(by_image.mean(axis=0).var(ddof=1))
    return math.sqrt(alone / n), math.sqrt(over / n)


def words(found: Sequence[SubjectResult]) -> list[str]:
    """Say what the tables show, what their numbers cannot tell, and what was chosen."""
    first = found[0]
    spec, evaluation = first.specification, first.evaluation
    errors = [standard_errors(crossed(found, name)) for name in evaluation.retrievals]
    alone, over = map(max, zip(*errors, strict=True))
    chance = chance_metrics(evaluation.n_test, (1, 5))
    seeds = " ".join(map(str, evaluation.seeds))
    quoted = sources(rows_of_papers(found, PRIMARY))
    published = f" {NOT_PUBLISHED} {quoted}" if quoted else ""
    return [
        f"{evaluation.n_test}-way retrieval of test images by {spec.split} training, gallery "
        f"{spec.gallery}, {spec.target.model} ({spec.target.weights}), {spec.encoder.kind}; mean "
        f"over seeds {seeds}. SSR and NeuroCLIP are reimplemented from the papers' descriptions. "
        f"{TOP_K}{published}",
        f"Chance: {100 * chance['recall@1']:.1f} and {100 * chance['recall@5']:.1f} %. If "
        f"{evaluation.n_test} other images were drawn, one subject's {metric_title(PRIMARY)} would "
        f"have a standard error of up to {100 * alone:.1f} points, the mean over {len(found)} "
        f"subjects one of up to {100 * over:.1f}.",
        *bootstrap_words(found),
        *([SHARED_TRAINING] if spec.split.startswith("leave-one-subject-out") else []),
        *(
            f"{each.subject}, chosen in {each.sweep}: "
            f"{'; '.join(map(describe, each.evaluation.chosen.values()))}; {each.look}."
            for each in found
        ),
    ]
