"""Table 1 of SSENSE for one's own recording: the best configurations on held-out test splits.

    python analysis/test_evaluation.py --storage DIR [--sweep NAME]
    python analysis/test_evaluation.py --confirm-seeds 100 101 102 103 104

Per family, the configuration with the best mean validation Recall@10; each of its seeds' encoders
on that seed's own test split. Nothing is trained, but for fresh seeds, at which the choice was not
made: their table is free of selection. Every look at test splits is recorded.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and not __package__:
    # Run as a file, its folder comes first, and analysis/statistics.py hides the standard library's
    sys.path.pop(0)

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from upath import UPath

from analysis import report
from analysis.comparison import LEGEND, comparison_rows, comparison_values
from analysis.confirmation import confirm, confirming_sweep
from analysis.evaluation import (
    PRIMARY,
    Evaluation,
    best_configurations,
    evaluate_chosen,
    missing_cells,
    require_all,
    take_up,
)
from analysis.figures import family_figure, figure_bytes
from analysis.looks import count_looks, record_look
from ssense.command import python, run_command
from ssense.model.text import UNTRAINED
from ssense.retrieval import METRICS, metric_title
from ssense.storage import open_storage, write_whole
from sweeps.engine.cell import describe
from sweeps.engine.ledger import Ledger, find_ledger
from sweeps.engine.progress import console, say, step
from sweeps.engine.reproduce import sweep_dataset
from sweeps.engine.search import Search
from sweeps.engine.tracking import Tracker, tracking_uri

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


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """Flags; each is also an environment variable, --storage as SSENSE_STORAGE."""

    storage: str = "storage"
    """Where the sweep was kept."""
    sweep: str | None = None
    """Name of the sweep [the one worked on last]."""
    confirm_seeds: tuple[int, ...] = ()
    """Fresh seeds at which to train and evaluate the chosen configurations too."""
    allow_missing: bool = False
    """Go without the cells that are missing, and name them in the report."""
    cpus_per_cell: int = 1
    """CPU cores of one cell at fresh seeds; as in the sweep, for the same results."""
    gpus_per_cell: float | None = None
    """GPU share of one cell at fresh seeds [1 where there are GPUs]."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One evaluation as it is reported.

    Attributes:
        name: "search seeds", at which the configurations were chosen, or "fresh seeds".
        evaluation: its scores.
        caption: what it shows, in words.
    """

    name: str
    evaluation: Evaluation
    caption: str

    @property
    def file_name(self) -> str:
        """Of its files: "search_seeds"."""
        return self.name.replace(" ", "_")


def table_rows(evaluation: Evaluation) -> list[dict[str, str]]:
    """Lay out Table 1 of SSENSE: mean and sd over seeds, and the chance row."""
    rows = []
    for family, by_metric in evaluation.scores.items():
        cells = report.mean_scores(by_metric)
        chosen = describe(evaluation.chosen[family])
        rows.append({"family": family, "best configuration": chosen, **cells})
    chance = {metric_title(m): report.score(m, value) for m, value in evaluation.chance.items()}
    return [*rows, {"family": "random retrieval", "best configuration": "", **chance}]


def published_rows(ledger: Ledger) -> list[dict[str, str]]:
    """Table 1 as published, where it is about the recording of the sweep; else nothing."""
    dataset = ledger.description()["dataset"]
    if dataset["subject"] != "sub_9" or "ant-man" not in dataset["title"].lower():
        return []
    titles = [metric_title(metric) for metric in METRICS]
    return [
        {"family": f"{family} (SSENSE)", "best configuration": ""}
        | dict(zip(titles, scores, strict=True))
        for family, scores in PUBLISHED.items()
    ]


def screen_rows(rows: report.Rows) -> report.Rows:
    """Leave out the configurations, which make the table too wide for a terminal."""
    return [{k: cell for k, cell in row.items() if k != "best configuration"} for row in rows]


def difference_rows(evaluation: Evaluation, metric: str) -> list[dict[str, str]]:
    """Lay out the tests of one metric for people."""
    return comparison_rows(
        evaluation.comparisons(metric), metric_title(metric), partial(report.score, metric)
    )


def score_rows(protocol: Protocol) -> list[dict[str, object]]:
    """List every score, one row per family and seed, as fractions."""
    evaluation = protocol.evaluation
    return [
        {
            "protocol": protocol.name,
            "family": family,
            "seed": seed,
            **{name: values[i] for name, values in by_metric.items()},
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


def markdown(ledger: Ledger, protocols: Sequence[Protocol], notes: Sequence[str]) -> str:
    """Write the whole report: for each protocol its table and the tests of every metric."""
    parts = [f"# Test evaluation of {ledger.folder.name}\n", *(f"{note}\n" for note in notes)]
    published = published_rows(ledger)
    for protocol in protocols:
        evaluation = protocol.evaluation
        parts += [f"## {protocol.name.capitalize()}\n", f"{protocol.caption}\n"]
        parts.append(report.markdown_table([*table_rows(evaluation), *published]))
        parts += [report.markdown_table(difference_rows(evaluation, m)) for m in METRICS]
    return "\n".join([*parts, f"{LEGEND}\n"])


def write_report(
    ledger: Ledger, protocols: Sequence[Protocol], notes: Sequence[str]
) -> list[UPath]:
    """Write tables (Markdown, CSV, LaTeX) and figures beside the ledger; return their paths."""
    folder = ledger.folder / "evaluation"
    contents: dict[str, str | bytes] = {
        "table.md": markdown(ledger, protocols, notes),
        "table.csv": report.csv_table([row for p in protocols for row in mean_rows(p)]),
        "tests.csv": report.csv_table([row for p in protocols for row in value_rows(p)]),
        "scores.csv": report.csv_table([row for p in protocols for row in score_rows(p)]),
    }
    for protocol in protocols:
        evaluation = protocol.evaluation
        rows = [*table_rows(evaluation), *published_rows(ledger)]
        contents[f"{protocol.file_name}.tex"] = report.latex_table(rows, protocol.caption)
        figure = family_figure(evaluation.scores, evaluation.chance, [PRIMARY, "mrr"])
        for kind in ("png", "svg"):
            contents[f"{protocol.file_name}.{kind}"] = figure_bytes(figure, kind)
    for name, content in contents.items():
        write_whole(folder / name, content)
    return [folder / name for name in contents]


def noise_floor(ledger: Ledger) -> list[str]:
    """Say how much cells changed that were trained once more, if any were."""
    found = ledger.reproductions()
    if not found:
        return []
    worst = max(reproduction["at_best"][PRIMARY] for reproduction in found)
    cells = "one cell" if len(found) == 1 else f"{len(found)} cells"
    if all(reproduction["exact"] for reproduction in found):
        return [f"Noise floor: {cells}, trained once more, came out the same to the bit."]
    return [
        f"Noise floor: {cells}, trained once more, changed by up to {worst:.2f} points of "
        f"{metric_title(PRIMARY)} on the validation split; smaller differences mean nothing."
    ]


def caption(ledger: Ledger, evaluation: Evaluation, origin: str) -> str:
    """Say in words what a table shows and on what; `origin` says how it was chosen."""
    dataset = ledger.description()["dataset"]
    seeds = " ".join(map(str, evaluation.seeds))
    untrained = dataset["text_spec"]["weights"] == UNTRAINED
    tower = " The text tower is untrained: a trial, not a result." if untrained else ""
    return (
        f"{dataset['subject']}, {dataset['title']}: held-out test splits of {evaluation.n_test} "
        f"sentences, mean ± sd over {len(evaluation.seeds)} seeds ({seeds}). Each family's best "
        f"configuration by mean validation Recall@10; {origin}. Text: {dataset['text']}.{tower}"
    )


def log_evaluation(
    storage: UPath, ledger: Ledger, protocols: Sequence[Protocol], files: list[UPath]
) -> None:
    """Write the evaluation to MLflow, as a run of its own below the sweep's."""
    sweep, dataset = ledger.sweep(), ledger.description()["dataset"]
    metrics = {
        f"{protocol.name}/{family.replace(' + ', ' and ')}/{metric}": float(values.mean())
        for protocol in protocols
        for family, by_metric in protocol.evaluation.scores.items()
        for metric, values in by_metric.items()
    }
    number = count_looks(ledger)
    tags = {"ssense.level": "test evaluation", "look": str(number), "text": dataset["text"]}
    tracker = Tracker(storage, sweep.claim, sweep.name)
    tracker.report(f"test evaluation {number}", tags, metrics, files)


def main(options: EvaluationOptions) -> None:
    """Evaluate the best configurations of a sweep on their held-out test splits."""
    storage = open_storage(options.storage, must_exist=True)
    ledger = find_ledger(storage, options.sweep)
    say(f"Test evaluation of {ledger.folder.name}")
    search = take_up(ledger)
    if not options.allow_missing:
        require_all(search)
    missing = missing_cells(search)
    notes = [f"Without {len(missing)} missing cells: {'; '.join(missing)}."] if missing else []
    notes += noise_floor(ledger)
    protocols = evaluate_protocols(storage, ledger, search, options)
    files = write_report(ledger, protocols, notes)
    show(ledger, protocols, notes)
    with step("MLflow"):
        log_evaluation(storage, ledger, protocols, files)
    say(f"Tables and figures: {files[0].parent}")
    say(f"Browse every run: {python()} -m mlflow ui --backend-store-uri {tracking_uri(storage)}")


def evaluate_protocols(
    storage: UPath, ledger: Ledger, search: Search, options: EvaluationOptions
) -> list[Protocol]:
    """Evaluate the best configurations at the seeds of the search and, if asked, at fresh ones."""
    chosen = best_configurations(search)
    confirming = None
    if options.confirm_seeds:
        confirming = confirming_sweep(search.sweep, chosen, options.confirm_seeds)
    data = sweep_dataset(ledger, storage)
    searches = {"search seeds": search}
    if confirming is not None:
        searches["fresh seeds"] = confirm(
            ledger, confirming, search.records, data, options.cpus_per_cell, options.gpus_per_cell
        )
    pairs = data.on(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    protocols = []
    with step("Encoders of the best configurations on their test splits"):
        for name, searched in searches.items():
            evaluation = evaluate_chosen(searched, chosen, ledger, pairs)
            words = caption(ledger, evaluation, record_look(ledger, evaluation.seeds, chosen))
            protocols.append(Protocol(name=name, evaluation=evaluation, caption=words))
    return protocols


def show(ledger: Ledger, protocols: Sequence[Protocol], notes: Sequence[str]) -> None:
    """Print the tables, and the tests of the last protocol, the strictest."""
    published, last = published_rows(ledger), protocols[-1]
    for note in notes:
        say(note)
    for protocol in protocols:
        rows = [*table_rows(protocol.evaluation), *published]
        console.print(report.screen_table(screen_rows(rows)))
        say(protocol.caption)
    for family, configuration in last.evaluation.chosen.items():
        if configuration:
            say(f"Best of {family}: {describe(configuration)}.")
    console.print(report.screen_table(difference_rows(last.evaluation, PRIMARY)))
    say(LEGEND)


if __name__ == "__main__":
    run_command(EvaluationOptions, main)
