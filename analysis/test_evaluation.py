"""Table 1 of SSENSE for one's own recording: the best configurations on held-out test splits.

    python analysis/test_evaluation.py --storage DIR [--sweep NAME]

Per family, the configuration with the best mean validation Recall@10; each of its seeds' encoders
on that seed's own test split. Nothing is trained. Every look at the test splits is counted.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and not __package__:
    # Run as a file, its folder comes first, and analysis/statistics.py hides the standard library's
    sys.path.pop(0)

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from upath import UPath

from analysis import report
from analysis.figures import family_figure, figure_bytes
from analysis.statistics import TTest, corrected_resampled_ttest, holm, naive_ttest
from ssense.command import python, run_command
from ssense.data.dataset import Pairs
from ssense.data.splits import seeded_split
from ssense.errors import UserError
from ssense.model.encoder import trained_encoder
from ssense.model.text import UNTRAINED
from ssense.retrieval import METRICS, chance_metrics, metric_title
from ssense.storage import open_storage, write_json, write_whole
from ssense.training import evaluate
from sweeps.engine.cell import Configuration, describe, label
from sweeps.engine.ledger import Ledger, Record, find_ledger, utc_now
from sweeps.engine.progress import console, say, step
from sweeps.engine.provenance import check_versions, code_digest
from sweeps.engine.race import POLICIES
from sweeps.engine.reproduce import sweep_dataset
from sweeps.engine.search import Search
from sweeps.engine.tracking import Tracker, tracking_uri

PRIMARY = "recall@10"

LEGEND = (
    "p: corrected resampled t-test (Nadeau and Bengio), which allows for overlapping splits; "
    "Holm: for this number of comparisons. The naive p takes seeds for independent and is "
    "shown for comparison with papers only."
)


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """Flags; each is also an environment variable, --storage as SSENSE_STORAGE."""

    storage: str = "storage"
    """Where the sweep was kept."""
    sweep: str | None = None
    """Name of the sweep [the one worked on last]."""


class Comparison(NamedTuple):
    """One difference, its corrected and naive tests, and the corrected p adjusted by Holm."""

    name: str
    corrected: TTest
    naive: TTest
    p_holm: float


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores of the chosen configurations on their seeds' test splits.

    Attributes:
        chosen: the best configuration of each family.
        scores: by family and metric, `[seeds]`, as fractions.
        n_train, n_test: sentences of the training and test splits.
    """

    chosen: Mapping[str, Configuration]
    scores: Mapping[str, Mapping[str, np.ndarray]]
    n_train: int
    n_test: int

    @property
    def chance(self) -> dict[str, float]:
        """What a random ranking of the test sentences reaches."""
        return chance_metrics(self.n_test)

    def against_chance(self, family: str, metric: str) -> tuple[TTest, TTest]:
        """One-sample tests of a family against chance: corrected, naive."""
        return self._tests(self.scores[family][metric] - self.chance[metric])

    def between(self, first: str, second: str, metric: str) -> tuple[TTest, TTest]:
        """Paired tests of two families over the seeds, first minus second: corrected, naive."""
        return self._tests(self.scores[first][metric] - self.scores[second][metric])

    def _tests(self, differences: np.ndarray) -> tuple[TTest, TTest]:
        corrected = corrected_resampled_ttest(differences, self.n_train, self.n_test)
        return corrected, naive_ttest(differences)


def best_configurations(search: Search) -> dict[str, Configuration]:
    """Choose each family's configuration by its mean validation metric over the seeds.

    Raises:
        UserError: cells of the sweep are missing, with their list.
    """
    missing = missing_cells(search)
    if missing:
        shown = "; ".join(missing[:5]) + ("; ..." if len(missing) > 5 else "")
        raise UserError(
            f"{search.sweep.name} lacks {len(missing)} of its {search.sweep.n_cells} cells: "
            f"{shown}. Run the sweep again to train them."
        )
    return {
        family.name: max(search.configurations(family), key=lambda c: search.score(c) or 0.0)
        for family in search.sweep.families
    }


def missing_cells(search: Search) -> list[str]:
    """Name the cells without a result that the sweep's policy wants."""
    return [
        f"{label(row.family, row.configuration)} seed {cell.seed}"
        + (" (failed)" if search.record(cell) else "")
        for row, cell in search.missing()
    ]


def evaluate_sweep(ledger: Ledger, pairs: Pairs) -> Evaluation:
    """Evaluate the best configuration of every family on its seeds' test splits.

    Raises:
        UserError: cells are missing, there is a single seed, or an encoder can't be read.
    """
    sweep = ledger.sweep()
    if len(sweep.seeds) < 2:
        raise UserError(
            f"{sweep.name} has the single seed {sweep.seeds[0]}: nothing can be tested. "
            "Run the sweep again with more --seeds."
        )
    records = check_versions(ledger.records(), code_digest(), ledger.kept_versions())
    search = Search(sweep, POLICIES[ledger.policy()], ledger.rows(), records)
    chosen = best_configurations(search)
    scores: dict[str, dict[str, np.ndarray]] = {}
    for family, configuration in chosen.items():
        metrics = [
            held_out_metrics(ledger, record, pairs, sweep.training.batch_size)
            for record in search.done(configuration)
        ]
        scores[family] = {name: np.array([m[name] for m in metrics]) for name in METRICS}
    split = seeded_split(len(pairs), sweep.seeds[0])
    return Evaluation(
        chosen=chosen, scores=scores, n_train=len(split.train), n_test=len(split.test)
    )


def held_out_metrics(
    ledger: Ledger, record: Record, pairs: Pairs, batch_size: int
) -> dict[str, float]:
    """Metrics of one cell's encoder on its seed's test split.

    Raises:
        UserError: the encoder is missing, damaged, or another model's.
    """
    name = record.signature
    advice = f"Delete {ledger.folder / 'cells' / name} and run the sweep again."
    try:
        encoder = trained_encoder(ledger.encoder(record))
    except RuntimeError as error:
        raise UserError(f"the encoder of cell {name} is another model's. {advice}") from error
    encoder.to(pairs.text.device)
    test = pairs.select(seeded_split(len(pairs), record.seed).test)
    try:
        return evaluate(encoder, test, batch_size)
    except ValueError as error:
        raise UserError(f"the encoder of cell {name} is damaged: {error}. {advice}") from error


def table_rows(evaluation: Evaluation) -> list[dict[str, str]]:
    """Lay out Table 1 of SSENSE: mean and sd over seeds, and the chance row."""
    rows = []
    for family, by_metric in evaluation.scores.items():
        cells = {
            metric_title(metric): report.score(metric, values.mean(), values.std(ddof=1))
            for metric, values in by_metric.items()
        }
        chosen = describe(evaluation.chosen[family])
        rows.append({"family": family, "best configuration": chosen, **cells})
    chance = {metric_title(m): report.score(m, value) for m, value in evaluation.chance.items()}
    return [*rows, {"family": "random retrieval", "best configuration": "", **chance}]


def screen_rows(evaluation: Evaluation) -> list[dict[str, str]]:
    """Lay out Table 1 without the configurations, which make it too wide for a terminal."""
    rows = table_rows(evaluation)
    return [{k: cell for k, cell in row.items() if k != "best configuration"} for row in rows]


def compare(evaluation: Evaluation, metric: str) -> list[Comparison]:
    """Test one metric: each family against chance, then families in pairs; Holm within each."""
    families = list(evaluation.scores)
    against = [(f"{f} – chance", *evaluation.against_chance(f, metric)) for f in families]
    between = [
        (f"{a} – {b}", *evaluation.between(a, b, metric)) for a, b in combinations(families, 2)
    ]
    return [
        Comparison(name, corrected, naive, float(adjusted))
        for group in (against, between)
        for (name, corrected, naive), adjusted in zip(
            group, holm([corrected.pvalue for _, corrected, _ in group]), strict=True
        )
    ]


def comparison_rows(evaluation: Evaluation, metric: str) -> list[dict[str, str]]:
    """Lay out the tests of one metric for people."""

    def shown(value: float) -> str:
        return report.score(metric, value)

    return [
        {
            metric_title(metric): name,
            "difference": shown(corrected.mean),
            "95 % interval": f"{shown(corrected.low)} to {shown(corrected.high)}",
            "p": report.p_value(corrected.pvalue),
            "p, Holm": report.p_value(p_holm),
            "naive p": report.p_value(naive.pvalue),
        }
        for name, corrected, naive, p_holm in compare(evaluation, metric)
    ]


def comparison_values(evaluation: Evaluation) -> list[dict[str, object]]:
    """List the tests of every metric as numbers; differences as fractions."""
    return [
        {
            "metric": metric,
            "comparison": name,
            **{field: getattr(corrected, field) for field in ("mean", "low", "high")},
            "t": corrected.statistic,
            "df": corrected.df,
            "p": corrected.pvalue,
            "p_holm": p_holm,
            "p_naive": naive.pvalue,
        }
        for metric in METRICS
        for name, corrected, naive, p_holm in compare(evaluation, metric)
    ]


def score_rows(evaluation: Evaluation, seeds: tuple[int, ...]) -> list[dict[str, object]]:
    """List every score, one row per family and seed, as fractions."""
    return [
        {"family": family, "seed": seed, **{name: values[i] for name, values in by_metric.items()}}
        for family, by_metric in evaluation.scores.items()
        for i, seed in enumerate(seeds)
    ]


def count_look(ledger: Ledger, evaluation: Evaluation) -> int:
    """Record that the test splits were looked at; return how often by now."""
    folder = ledger.folder / "looks"
    look = 1 + (len(list(folder.iterdir())) if folder.exists() else 0)
    chosen = {family: dict(values) for family, values in evaluation.chosen.items()}
    write_json(folder / f"look-{look:04d}.json", {"at": utc_now(), "chosen": chosen})
    return look


def write_report(ledger: Ledger, evaluation: Evaluation, look: int) -> list[UPath]:
    """Write tables (Markdown, CSV) and figures (PNG, SVG) beside the ledger; return their paths."""
    sweep, folder = ledger.sweep(), ledger.folder / "evaluation"
    table = table_rows(evaluation)
    tests = {metric: comparison_rows(evaluation, metric) for metric in METRICS}
    markdown = [f"# Test evaluation of {sweep.name}\n", f"{caption(ledger, evaluation, look)}\n"]
    markdown += [report.markdown_table(rows) for rows in (table, *tests.values())]
    markdown.append(f"{LEGEND}\n")
    contents: dict[str, str | bytes] = {
        "table.md": "\n".join(markdown),
        "table.csv": report.csv_table(table),
        "tests.csv": report.csv_table(comparison_values(evaluation)),
        "scores.csv": report.csv_table(score_rows(evaluation, sweep.seeds)),
    }
    figure = family_figure(evaluation.scores, evaluation.chance, [PRIMARY, "mrr"])
    for kind in ("png", "svg"):
        contents[f"families.{kind}"] = figure_bytes(figure, kind)
    for name, content in contents.items():
        write_whole(folder / name, content)
    return [folder / name for name in contents]


def caption(ledger: Ledger, evaluation: Evaluation, look: int) -> str:
    """Say in words what the table shows and on what."""
    sweep, dataset = ledger.sweep(), ledger.description()["dataset"]
    seeds = " ".join(map(str, sweep.seeds))
    untrained = dataset["text_spec"]["weights"] == UNTRAINED
    tower = " The text tower is untrained: a trial, not a result." if untrained else ""
    return (
        f"{dataset['subject']}, {dataset['title']}: held-out test splits of {evaluation.n_test} "
        f"sentences, mean ± sd over {len(sweep.seeds)} seeds ({seeds}). Each family's best "
        "configuration by mean validation Recall@10, chosen before this look at the test splits, "
        f"which is number {look}. Text: {dataset['text']}.{tower}"
    )


def log_evaluation(
    storage: UPath, ledger: Ledger, evaluation: Evaluation, look: int, files: list[UPath]
) -> None:
    """Write the evaluation to MLflow, as a run of its own below the sweep's."""
    sweep = ledger.sweep()
    dataset = ledger.description()["dataset"]
    metrics = {
        f"{family.replace(' + ', ' and ')}/{metric}": float(values.mean())
        for family, by_metric in evaluation.scores.items()
        for metric, values in by_metric.items()
    }
    tags = {"ssense.level": "test evaluation", "look": str(look), "text": dataset["text"]}
    tracker = Tracker(storage, sweep.claim, sweep.name)
    tracker.report(f"test evaluation {look}", tags, metrics, files)


def main(options: EvaluationOptions) -> None:
    """Evaluate the best configurations of a sweep on their held-out test splits."""
    storage = open_storage(options.storage, must_exist=True)
    ledger = find_ledger(storage, options.sweep)
    say(f"Test evaluation of {ledger.folder.name}")
    data = sweep_dataset(ledger, storage)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with step("Encoders of the best configurations on their test splits"):
        evaluation = evaluate_sweep(ledger, data.on(device))
    look = count_look(ledger, evaluation)
    files = write_report(ledger, evaluation, look)
    console.print(report.screen_table(screen_rows(evaluation)))
    for family, configuration in evaluation.chosen.items():
        if configuration:
            say(f"Best of {family}: {describe(configuration)}.")
    say(caption(ledger, evaluation, look))
    console.print(report.screen_table(comparison_rows(evaluation, PRIMARY)))
    say(LEGEND)
    with step("MLflow"):
        log_evaluation(storage, ledger, evaluation, look, files)
    say(f"Tables and figures: {files[0].parent}")
    say(f"Browse every run: {python()} -m mlflow ui --backend-store-uri {tracking_uri(storage)}")


if __name__ == "__main__":
    run_command(EvaluationOptions, main)
