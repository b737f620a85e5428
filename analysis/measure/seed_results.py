"""The evaluation of the chosen configurations at some seeds, as it is reported, and its tables."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from analysis.measure import formats
from analysis.measure.comparison import comparison_rows, comparison_values
from analysis.measure.evaluation import Evaluation
from analysis.measure.score_splits import N_TEST, N_TRAIN, SPLIT
from ssense.engine.core.cell import describe
from ssense.retrieval import metric_title
from ssense.training.loop import SELECTION_METRIC

SEARCH_SEEDS = "search seeds"
"""The protocol of the seeds at which the configurations were chosen."""
FRESH_SEEDS = "fresh seeds"
"""The protocol of seeds that the search has not met."""


@dataclass(frozen=True, kw_only=True)
class SeedResult:
    """One evaluation as it is reported.

    Attributes:
        name: SEARCH_SEEDS or FRESH_SEEDS.
        evaluation: The evaluation's scores.
        look: What the choice may know of the test, in words.
        caption: What the scores show, in words.
    """

    name: str
    evaluation: Evaluation
    look: str
    caption: str

    @property
    def file_name(self) -> str:
        """Name of its files: "search_seeds"."""
        return self.name.replace(" ", "_")


def caption(evaluation: Evaluation, tested: str, looks: str, end: str) -> str:
    """Say in words what the table of an evaluation shows and on what.

    Args:
        evaluation: The evaluation that the caption describes.
        tested: What was tested, and among what.
        looks: What the choice of the configurations may know of the test, in words.
        end: What else there is to say, as sentences.
    """
    seeds = " ".join(map(str, evaluation.seeds))
    return (
        f"{tested}, mean ± sd over {len(evaluation.seeds)} seeds ({seeds}). Each family's best "
        f"configuration by mean validation {metric_title(SELECTION_METRIC)}; {looks}. {end}"
    )


def candidates(evaluation: Evaluation) -> str:
    """How many stimuli a test split has: "292", or "290 to 292" where seeds differ."""
    sizes = [len(retrieval.ranks) for retrieval in next(iter(evaluation.retrievals.values()))]
    low, high = min(sizes), max(sizes)
    return f"{low}" if low == high else f"{low} to {high}"


def table_rows(evaluation: Evaluation) -> list[dict[str, str]]:
    """Lay out Table 1 of SSENSE: mean and sd over seeds, and the chance row."""
    rows = []
    for family, by_metric in evaluation.scores.items():
        cells = formats.mean_scores(by_metric)
        configuration = evaluation.chosen[family]
        chosen = describe(configuration) if configuration else "no field changed"
        rows.append({"family": family, "best configuration": chosen, **cells})
    chance = {metric_title(m): formats.score(m, value) for m, value in evaluation.chance.items()}
    return [*rows, {"family": "random retrieval", "best configuration": "", **chance}]


def difference_rows(evaluation: Evaluation, metric: str) -> list[dict[str, str]]:
    """Lay out the tests of one metric for people."""
    return comparison_rows(
        evaluation.comparisons(metric), metric_title(metric), partial(formats.score, metric)
    )


def score_rows(result: SeedResult, split: str) -> list[dict[str, object]]:
    """List every score, one row per family and seed, as fractions; and what tests have to know.

    Args:
        result: The evaluation.
        split: The kind of its splits.
    """
    evaluation = result.evaluation
    return [
        {
            "protocol": result.name,
            "family": family,
            "seed": seed,
            **{name: values[i] for name, values in by_metric.items()},
            SPLIT: split,
            N_TRAIN: evaluation.n_trained(family),
            N_TEST: evaluation.n_test,
        }
        for family, by_metric in evaluation.scores.items()
        for i, seed in enumerate(evaluation.seeds)
    ]


def mean_rows(result: SeedResult) -> list[dict[str, object]]:
    """List means and sds, one row per family, as fractions."""
    evaluation = result.evaluation
    return [
        {
            "protocol": result.name,
            "family": family,
            "configuration": describe(evaluation.chosen[family]),
            "seeds": len(evaluation.seeds),
            **{name: values.mean() for name, values in by_metric.items()},
            **{f"{name}_sd": values.std(ddof=1) for name, values in by_metric.items()},
            **{f"{name}_chance": value for name, value in evaluation.chance.items()},
        }
        for family, by_metric in evaluation.scores.items()
    ]


def value_rows(result: SeedResult) -> list[dict[str, object]]:
    """List the tests of every metric as numbers; differences as fractions."""
    return [
        {"protocol": result.name, **row}
        for metric in result.evaluation.chance
        for row in comparison_values(result.evaluation.comparisons(metric), metric)
    ]
