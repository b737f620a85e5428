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
from functools import partial

import numpy as np
import torch
from upath import UPath

from analysis import report
from analysis.comparison import (
    LEGEND,
    Comparison,
    against_chance,
    between,
    comparison_rows,
    comparison_values,
)
from analysis.figures import family_figure, figure_bytes
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


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """Flags; each is also an environment variable, --storage as SSENSE_STORAGE."""

    storage: str = "storage"
    """Where the sweep was kept."""
    sweep: str | None = None
    """Name of the sweep [the one worked on last]."""


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

    def comparisons(self, metric: str) -> list[Comparison]:
        """Compare each family with chance, and families in pairs; Holm within each kind."""
        scores = {family: by_metric[metric] for family, by_metric in self.scores.items()}
        sizes = self.n_train, self.n_test
        return against_chance(scores, self.chance[metric], *sizes) + between(scores, *sizes)


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
    chosen = {}
    for family in search.sweep.families:
        complete = [c for c in search.configurations(family) if search.score(c) is not None]
        if not complete:
            raise UserError(
                f"{search.sweep.name}: every configuration of {family.name} has failed cells. "
                f"Look into {search.failed()[0][1].reason!r}, or sweep other values."
            )
        chosen[family.name] = max(complete, key=search.score)
    return chosen


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


def difference_rows(evaluation: Evaluation, metric: str) -> list[dict[str, str]]:
    """Lay out the tests of one metric for people."""
    return comparison_rows(
        evaluation.comparisons(metric), metric_title(metric), partial(report.score, metric)
    )


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
    tests = {metric: difference_rows(evaluation, metric) for metric in METRICS}
    values = [
        row for m in METRICS for row in comparison_values(evaluation.comparisons(m), metric=m)
    ]
    markdown = [f"# Test evaluation of {sweep.name}\n", f"{caption(ledger, evaluation, look)}\n"]
    markdown += [report.markdown_table(rows) for rows in (table, *tests.values())]
    markdown.append(f"{LEGEND}\n")
    contents: dict[str, str | bytes] = {
        "table.md": "\n".join(markdown),
        "table.csv": report.csv_table(table),
        "tests.csv": report.csv_table(values),
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
    console.print(report.screen_table(difference_rows(evaluation, PRIMARY)))
    say(LEGEND)
    with step("MLflow"):
        log_evaluation(storage, ledger, evaluation, look, files)
    say(f"Tables and figures: {files[0].parent}")
    say(f"Browse every run: {python()} -m mlflow ui --backend-store-uri {tracking_uri(storage)}")


if __name__ == "__main__":
    run_command(EvaluationOptions, main)
