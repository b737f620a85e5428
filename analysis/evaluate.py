"""Table 1 of SSENSE for one's own recording: the best configurations on held-out test splits.

    python analysis/evaluate.py --storage DIR [--sweep NAME]
    python analysis/evaluate.py --confirm-seeds 100 101 102 103 104

Evaluates, for each family, the configuration with the best mean validation Recall@10: the encoder
of each of its seeds on that seed's own test split. Nothing is trained, except at fresh seeds, at
which the choice was not made: they lessen what the choice owes to its seeds. They do not undo that
it was made among configurations on these sentences, which fresh seeds deal out again; only a sweep
with --split held-out keeps its test sentences from all seeds. Every look at test splits is
recorded. tables.html holds everything, with figures; the tables and figures lie beside it as files.
"""

from __future__ import annotations

from analysis.options import EvaluationOptions
from ssense.cli.command import check_flags, run_command

if __name__ == "__main__":
    check_flags(EvaluationOptions)  # before the imports that take seconds

from collections.abc import Iterable, Sequence
from functools import partial

from upath import UPath

from analysis.measure import formats
from analysis.measure.comparison import untestable
from analysis.measure.confirmation import confirming_sweep
from analysis.measure.evaluation import (
    PRIMARY,
    Evaluation,
    best_configurations,
    evaluate_chosen,
    missing_cells,
    require_all,
    take_up,
)
from analysis.measure.further_cells import train_further
from analysis.measure.looks import count_looks, record_look, withdrawn_unless_written
from analysis.measure.protocol import (
    FRESH_SEEDS,
    SEARCH_SEEDS,
    Protocol,
    caption,
    difference_rows,
    mean_rows,
    published_rows,
    score_rows,
    table_rows,
    value_rows,
)
from analysis.report.figures import FIGURE_KINDS, figure_bytes
from analysis.report.origin import read_controls
from analysis.report.page import html_page
from analysis.report.sections import Material, draw_pictures, sections
from ssense.cli.screen import console, say, step
from ssense.engine.core.cell import describe
from ssense.engine.core.record import Record, utc_now
from ssense.engine.records.find import find_ledger
from ssense.engine.records.ledger import Ledger
from ssense.engine.reproduce import sweep_dataset
from ssense.engine.search.search import Search
from ssense.engine.view.cell_table import CELLS_FILE, cells_csv
from ssense.engine.view.mlflow_database import browse_command
from ssense.engine.view.tracking import Tracker
from ssense.files.storage import names_in, open_storage, remove, write_together
from ssense.retrieval import METRICS, metric_title

SOMETIMES = ("fresh_seeds", "controls.", "response.")
"""Names of files that not every evaluation writes, or their beginnings."""


def screen_rows(rows: formats.Rows) -> formats.Rows:
    """Leave out the configurations, which make the table too wide for a terminal."""
    return [{k: cell for k, cell in row.items() if k != "best configuration"} for row in rows]


def markdown(material: Material) -> str:
    """Write the tables as Markdown: for each protocol its scores and the tests of every metric."""
    ledger = material.ledger
    parts = [f"# Test evaluation of {ledger.folder.name}\n", f"{material.verdict}\n"]
    parts += [f"{note}\n" for note in (*material.missing_note, *material.notes)]
    for protocol in material.protocols:
        evaluation = protocol.evaluation
        rows = [*table_rows(evaluation), *published_rows(ledger)]
        parts += [f"## {protocol.name.capitalize()}\n", f"{protocol.caption}\n"]
        parts.append(formats.markdown_table(rows))
        parts += [formats.markdown_table(difference_rows(evaluation, m)) for m in METRICS]
    return "\n".join([*parts, f"{material.last.evaluation.legend}\n"])


def number_tables(material: Material) -> dict[str, formats.Rows]:
    """List means, tests and scores as numbers, by the name of their file."""
    protocols, missing = material.protocols, {"missing_cells": len(material.missing)}
    of_scores = partial(score_rows, split=material.search.sweep.specification.split)
    listed = {"table": mean_rows, "tests": value_rows, "scores": of_scores}
    return {
        name: [row | missing for protocol in protocols for row in rows(protocol)]
        for name, rows in listed.items()
    }


def write_report(material: Material) -> list[UPath]:
    """Write tables, figures and the page of both beside the ledger; return their paths.

    What an earlier evaluation had and this one has not is removed.

    Raises:
        UserError: The storage can't be written to, or the folder of the shards is damaged.
    """
    ledger, pictures = material.ledger, draw_pictures(material)
    origin = ledger.description().origin
    title = f"Test evaluation of {ledger.folder.name}: {origin.subject}, {origin.title}"
    contents: dict[str, str | bytes] = {
        "tables.html": html_page(title, sections(material, pictures)),
        "table.md": markdown(material),
        CELLS_FILE: cells_csv(material.search),
    }
    for name, rows in number_tables(material).items():
        contents[f"{name}.csv"] = formats.csv_table(rows)
    for protocol in material.protocols:
        rows = [*table_rows(protocol.evaluation), *published_rows(ledger)]
        words = " ".join([protocol.caption, *material.missing_note])
        contents[f"{protocol.file_name}.tex"] = formats.latex_table(rows, words)
        tests = difference_rows(protocol.evaluation, PRIMARY)
        contents[f"{protocol.file_name}_tests.tex"] = formats.latex_table(
            tests, protocol.evaluation.legend
        )
    for name, picture in pictures.items():
        for kind in FIGURE_KINDS:
            contents[f"{name}.{kind}"] = figure_bytes(picture.figure, kind)
    folder = ledger.folder / "evaluation"
    write_together(folder, contents)
    for name in names_in(folder):
        if name.startswith(SOMETIMES) and name not in contents:
            remove(folder / name)
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


def log_evaluation(storage: UPath, material: Material, files: Sequence[UPath]) -> None:
    """Write the evaluation to MLflow, as a run of its own below the sweep's."""
    ledger = material.ledger
    sweep, origin = ledger.description().sweep, ledger.description().origin
    metrics = {
        f"{protocol.name}/{family}/{metric}": float(values.mean())
        for protocol in material.protocols
        for family, by_metric in protocol.evaluation.scores.items()
        for metric, values in by_metric.items()
    }
    number = count_looks(ledger)
    tags = {"ssense.level": "test evaluation", "look": str(number), "tower": origin.tower}
    tags["missing cells"] = "; ".join(material.missing) or "none"
    tables = number_tables(material)
    tracker = Tracker(storage, sweep.claim, sweep.name)
    tracker.report(f"test evaluation {number}", tags, metrics, files, tables)


def main(options: EvaluationOptions) -> None:
    """Evaluate the best configurations of a sweep on their held-out test splits."""
    storage = open_storage(options.storage, must_exist=True)
    ledger = find_ledger(storage, options.sweep, "sentences")
    say(f"Test evaluation of {ledger.folder.name}")
    search = take_up(ledger)
    if not options.allow_missing:
        require_all(search)
    with withdrawn_unless_written():
        material = gather(storage, ledger, search, options)
        with step("Report"):
            files = write_report(material)
    show(material)
    with step("MLflow"):
        log_evaluation(storage, material, files)
    say(f"Report, tables and figures: {files[0]}")
    say(f"Browse every run: {browse_command(storage)}")


def gather(storage: UPath, ledger: Ledger, search: Search, options: EvaluationOptions) -> Material:
    """Evaluate the best configurations at the seeds of the search and, if asked, at fresh ones.

    Looks are recorded when all is evaluated, so that a refused run does not count.

    Raises:
        UserError: A family has no configuration to evaluate, a seed is not fresh or leaves too few
            validation sentences, a cell failed, or data, encoders or the table of controls can't be
            read.
    """
    chosen, controls = best_configurations(search), read_controls(ledger)
    data = sweep_dataset(ledger)
    searches = {SEARCH_SEEDS: search}
    if options.confirm_seeds:
        confirming = confirming_sweep(
            search.sweep, chosen, options.confirm_seeds, search.records.values(), data
        )
        resources = options.cpus_per_cell, options.gpus_per_cell
        searches[FRESH_SEEDS] = train_further(
            f"at {FRESH_SEEDS}", confirming, search.records, ledger, data, *resources
        )
    with step("Encoders of the best configurations on their test splits"):
        evaluations = {
            name: evaluate_chosen(each, chosen, ledger, data) for name, each in searches.items()
        }
    protocols = [looked_at(ledger, *each) for each in evaluations.items()]
    return Material(
        ledger=ledger,
        search=search,
        shards=storage / "shards" / ledger.description().origin.shards,
        sentences=data.sentences,
        controls=controls,
        protocols=protocols,
        records=searched_records(searches.values()),
        missing=missing_cells(search),
        notes=noise_floor(ledger),
        written_at=utc_now(),
    )


def searched_records(searches: Iterable[Search]) -> list[Record]:
    """Records of the searches' own cells; a ledger has those of controls and other seeds too."""
    found = {
        record.signature: record
        for search in searches
        for row in search.rows
        for record in search.done(row.configuration)
    }
    return list(found.values())


def looked_at(ledger: Ledger, name: str, evaluation: Evaluation) -> Protocol:
    """Record the look at the test splits of an evaluation, and say what it shows.

    Raises:
        UserError: The storage can't be read or written to.
    """
    look = record_look(ledger, evaluation.seeds, evaluation.chosen)
    words = caption(ledger, name, evaluation, look)
    return Protocol(name=name, evaluation=evaluation, caption=words)


def show(material: Material) -> None:
    """Print the verdict, the tables, and the tests of the last protocol, the strictest."""
    published, last = published_rows(material.ledger), material.last.evaluation
    say(material.verdict)
    for note in (*material.missing_note, *material.notes):
        say(note)
    for protocol in material.protocols:
        rows = [*table_rows(protocol.evaluation), *published]
        console.print(formats.screen_table(screen_rows(rows)))
        say(protocol.caption)
    for family, configuration in last.chosen.items():
        if configuration:
            say(f"Best of {family}: {describe(configuration)}.")
    console.print(formats.screen_table(difference_rows(last, PRIMARY)))
    for words in (last.legend, *untestable(last.comparisons(PRIMARY))):
        say(words)


if __name__ == "__main__":
    run_command(EvaluationOptions, main)
