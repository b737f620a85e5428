"""A protocol: the evaluation of the chosen configurations at some seeds, and its tables."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from analysis.measure import formats
from analysis.measure.comparison import comparison_rows, comparison_values
from analysis.measure.evaluation import Evaluation
from analysis.measure.score_splits import N_TEST, N_TRAIN, SPLIT
from ssense.data.splits import GAP_S, SplitKind
from ssense.engine.core.cell import describe
from ssense.engine.records.ledger import Ledger
from ssense.retrieval import METRICS, metric_title
from ssense.targets.clip import UNTRAINED

PUBLISHED = {
    "no masking": ("1.20 ± 0.54", "10.68 ± 1.40", "40.58 ± 2.29", "0.0498 ± 0.0049"),
    "electrode": ("0.72 ± 0.25", "9.00 ± 1.21", "40.00 ± 1.76", "0.0446 ± 0.0044"),
    "frequency-time": ("0.99 ± 0.44", "9.65 ± 1.41", "38.69 ± 2.75", "0.0475 ± 0.0062"),
    "electrode + frequency-time": (
        "1.06 ± 0.57",
        "9.38 ± 1.78",
        "40.37 ± 1.78",
        "0.0465 ± 0.0077",
    ),
}
"""Table 1 of SSENSE: sub_9, Ant-Man, ten seeds; recalls in percent."""


SEARCH_SEEDS = "search seeds"
"""The protocol of the seeds at which the configurations were chosen."""
FRESH_SEEDS = "fresh seeds"
"""The protocol of seeds that the search has not met."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One evaluation as it is reported.

    Attributes:
        name: SEARCH_SEEDS or FRESH_SEEDS.
        evaluation: The evaluation's scores.
        caption: What the scores show, in words.
    """

    name: str
    evaluation: Evaluation
    caption: str

    @property
    def file_name(self) -> str:
        """Name of the protocol's files: "search_seeds"."""
        return self.name.replace(" ", "_")


SPLITS: dict[SplitKind, str] = {
    "random": "",
    "grouped": ", repeated ones kept together",
    "blocked": f" in whole stretches of the recording, at least {GAP_S:g} s from all others",
    "held-out": f" at the end of the recording, at least {GAP_S:g} s behind all others and the "
    "same for every seed, so that claims are about these sentences",
}
"""What captions say of test splits of each kind."""


AGAIN = (
    " Fresh seeds lessen what the choice owes to its seeds, not to these sentences: they deal out "
    "the same ones anew, and the search has trained and validated on most of them. A sweep with "
    "--split held-out has a test split that none of its seeds touches."
)
"""What captions say of fresh seeds whose test splits are not apart from the search."""


def caption(ledger: Ledger, name: str, evaluation: Evaluation, origin: str) -> str:
    """Say in words what the table of a protocol shows and on what.

    Args:
        ledger: The sweep's ledger.
        name: Name of the protocol.
        evaluation: The evaluation that the caption describes.
        origin: How the configurations were chosen, in words.
    """
    description = ledger.description()
    data, split = description.origin, description.sweep.specification.split
    seeds = " ".join(map(str, evaluation.seeds))
    untrained = data.text.weights == UNTRAINED
    tower = " The text tower is untrained: a trial, not a result." if untrained else ""
    return (
        f"{data.subject}, {data.title}: held-out test splits of "
        f"{candidates(evaluation)} sentences{SPLITS[split]}, "
        f"mean ± sd over {len(evaluation.seeds)} seeds ({seeds}). Each family's best "
        f"configuration by mean validation Recall@10; {origin}."
        f"{AGAIN if name == FRESH_SEEDS and split != 'held-out' else ''}"
        f" Text: {data.tower}.{tower}"
    )


def candidates(evaluation: Evaluation) -> str:
    """How many sentences a test split has: "292", or "290 to 292" where seeds differ."""
    sizes = [len(retrieval.rows) for retrieval in next(iter(evaluation.retrievals.values()))]
    low, high = min(sizes), max(sizes)
    return f"{low}" if low == high else f"{low} to {high}"


def table_rows(evaluation: Evaluation) -> list[dict[str, str]]:
    """Lay out Table 1 of SSENSE: mean and sd over seeds, and the chance row."""
    rows = []
    for family, by_metric in evaluation.scores.items():
        cells = formats.mean_scores(by_metric)
        chosen = describe(evaluation.chosen[family])
        rows.append({"family": family, "best configuration": chosen, **cells})
    chance = {metric_title(m): formats.score(m, value) for m, value in evaluation.chance.items()}
    return [*rows, {"family": "random retrieval", "best configuration": "", **chance}]


def published_rows(ledger: Ledger) -> list[dict[str, str]]:
    """Table 1 as published, where it is about the recording of the sweep; else nothing."""
    data = ledger.description().origin
    if data.subject != "sub_9" or "ant-man" not in data.title.lower():
        return []
    titles = [metric_title(metric) for metric in METRICS]
    return [
        {"family": f"{family} (SSENSE)", "best configuration": ""}
        | dict(zip(titles, scores, strict=True))
        for family, scores in PUBLISHED.items()
    ]


def difference_rows(evaluation: Evaluation, metric: str) -> list[dict[str, str]]:
    """Lay out the tests of one metric for people."""
    return comparison_rows(
        evaluation.comparisons(metric), metric_title(metric), partial(formats.score, metric)
    )


def score_rows(protocol: Protocol, split: SplitKind) -> list[dict[str, object]]:
    """List every score, one row per family and seed, as fractions; and what tests have to know.

    Args:
        protocol: The evaluation.
        split: The kind of its splits.
    """
    evaluation = protocol.evaluation
    splits = {SPLIT: split, N_TRAIN: evaluation.n_train, N_TEST: evaluation.n_test}
    return [
        {
            "protocol": protocol.name,
            "family": family,
            "seed": seed,
            **{name: values[i] for name, values in by_metric.items()},
            **splits,
        }
        for family, by_metric in evaluation.scores.items()
        for i, seed in enumerate(evaluation.seeds)
    ]


def mean_rows(protocol: Protocol) -> list[dict[str, object]]:
    """List means and sds, one row per family, as fractions."""
    evaluation = protocol.evaluation
    return [
        {
            "protocol": protocol.name,
            "family": family,
            "configuration": describe(evaluation.chosen[family]),
            "seeds": len(evaluation.seeds),
            **{name: values.mean() for name, values in by_metric.items()},
            **{f"{name}_sd": values.std(ddof=1) for name, values in by_metric.items()},
            **{f"{name}_chance": value for name, value in evaluation.chance.items()},
        }
        for family, by_metric in evaluation.scores.items()
    ]


def value_rows(protocol: Protocol) -> list[dict[str, object]]:
    """List the tests of every metric as numbers; differences as fractions."""
    return [
        {"protocol": protocol.name, **row}
        for metric in METRICS
        for row in comparison_values(protocol.evaluation.comparisons(metric), metric)
    ]
