"""The best configurations of a sweep on held-out test splits: tables, tests, figures, one page.

    python analysis/evaluate.py --storage DIR [--sweep NAME]
    python analysis/evaluate.py --confirm-seeds 100 101 102 103 104
    python analysis/evaluate.py --sweeps SWEEP SWEEP        # images: these subjects' sweeps

Per family, the configuration with the best mean validation Recall@10; the model of each of its
seeds on that seed's own test split. Nothing is trained, but for fresh seeds, at which the choice
was not made: they lessen what the choice owes to its seeds, not what it owes to the stimuli.
Fresh seeds deal the same sentences out anew, but not where --split held-out keeps the test
sentences from all seeds; the test images are the same for all seeds. Every look at test splits is
recorded. evaluation/report.html beside a sweep's ledger holds it all; tables and figures stand
beside it.

Of images, each subject's sweep is evaluated. Where there are several subjects, a further page
compares objectives over them and leads to the page of each; its tables have a column for each, and
the tests take both subjects and images for some of many. It is subjects.html in
STORAGE/image_evaluation/, in a folder of its own for each choice of sweeps.
"""

from __future__ import annotations

from analysis.options import EvaluationOptions
from ssense.cli.command import check_flags, next_line, run_command

if __name__ == "__main__":
    check_flags(EvaluationOptions)  # before the imports that take seconds

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from upath import UPath

from analysis.measure import formats
from analysis.measure.chosen_encoders import chosen_encoders
from analysis.measure.comparison import untestable
from analysis.measure.confirmation import confirming_sweep
from analysis.measure.evaluation import (
    Evaluation,
    best_configurations,
    evaluate_chosen,
    missing_cells,
    require_all,
    take_up,
)
from analysis.measure.further_cells import train_further
from analysis.measure.looks import Recorded, count_looks, record_look, withdrawn_unless_shown
from analysis.measure.seed_results import (
    FRESH_SEEDS,
    SEARCH_SEEDS,
    SeedResult,
    caption,
    difference_rows,
    mean_rows,
    score_rows,
    table_rows,
    value_rows,
)
from analysis.measure.subject_sweeps import check_alike, subject_ledgers
from analysis.measure.windows import windows_of
from analysis.report.figures import FIGURE_KINDS, figure_bytes
from analysis.report.image_subjects import SubjectResult
from analysis.report.images import ImageReport
from analysis.report.made_from import FILE as MADE_FROM
from analysis.report.made_from import folder_over_subjects, made_from
from analysis.report.material import QUESTIONS, Material, TaskReport
from analysis.report.origin import read_controls
from analysis.report.over_subjects import OverSubjects, TitledTable, contents
from analysis.report.page import html_page
from analysis.report.sections import draw_pictures, sections
from analysis.report.sentences import SentenceReport
from ssense.cli.screen import console, say, step
from ssense.engine.core.cell import Configuration, describe
from ssense.engine.core.record import Record, utc_now
from ssense.engine.records.description import Description
from ssense.engine.records.find import find_ledger
from ssense.engine.records.ledger import Ledger
from ssense.engine.records.reports import LEVEL, TEST_EVALUATION
from ssense.engine.search.search import Search
from ssense.engine.sweep_data import sweep_data
from ssense.engine.tasks.engine_options import EngineOptions
from ssense.engine.view.cell_table import CELLS_FILE, cells_csv
from ssense.engine.view.mlflow_database import browse_command
from ssense.engine.view.tracking import Tracker
from ssense.files.markdown import markdown_table
from ssense.files.storage import names_in, open_storage, remove, write_together
from ssense.files.tables import csv_table
from ssense.retrieval import metric_title
from ssense.training.loop import SELECTION_METRIC
from ssense.training.tasks import TaskData

SOMETIMES = ("fresh_seeds", "controls.", "response.", *(f"{kind.name}." for kind in QUESTIONS))
"""Names of files that not every evaluation writes, or their beginnings."""

REPORTS: Mapping[str, Callable[[Ledger, Description, Any, Any], TaskReport]] = {
    "sentences": SentenceReport.of,
    "images": ImageReport.of,
}
"""What a report says of each task alone, made of an origin and a dataset of that task's types."""


def screen_rows(rows: formats.Rows) -> formats.Rows:
    """Leave out the configurations, which make the table too wide for a terminal."""
    return [{k: cell for k, cell in row.items() if k != "best configuration"} for row in rows]


def markdown(material: Material) -> str:
    """Write the tables as Markdown: scores and the tests of every metric, by kind of seeds."""
    parts = [f"# Test evaluation of {material.ledger.folder.name}\n", f"{material.verdict}\n"]
    parts += [f"{note}\n" for note in (*material.missing_note, *material.notes)]
    if material.question:
        parts += [f"{material.question.quote}\n", markdown_table(material.question.table_rows())]
    for result in material.results:
        evaluation = result.evaluation
        rows = [*table_rows(evaluation), *material.task.published()]
        parts += [f"## {result.name.capitalize()}\n", f"{result.caption}\n"]
        parts.append(markdown_table(rows))
        parts += [markdown_table(difference_rows(evaluation, m)) for m in evaluation.chance]
    return "\n".join([*parts, f"{material.last.evaluation.legend}\n"])


def number_tables(material: Material) -> dict[str, formats.Rows]:
    """List means, tests and scores as numbers, by the name of their file."""
    results, missing = material.results, {"missing_cells": len(material.missing)}
    of_scores = partial(score_rows, split=material.search.sweep.specification.split)
    listed: Mapping[str, Callable[[SeedResult], list[dict[str, object]]]] = {
        "table": mean_rows,
        "tests": value_rows,
        "scores": of_scores,
    }
    tables: dict[str, formats.Rows] = {
        name: [row | missing for result in results for row in rows(result)]
        for name, rows in listed.items()
    }
    if question := material.question:
        tables[question.name] = [{**row, **missing} for row in question.value_rows()]
    return tables


def write_report(
    material: Material, before_any: Callable[[], object] = lambda: None
) -> list[UPath]:
    """Write tables, figures and the page of both beside the ledger; return their paths.

    Files of an earlier evaluation that this one does not write are removed.

    Args:
        material: All that the report is made from.
        before_any: Called right before the first file can be seen.

    Raises:
        UserError: The storage can't be written to, or the folder of the shards is damaged.
    """
    ledger, pictures = material.ledger, draw_pictures(material)
    origin = ledger.description().origin
    title = f"Test evaluation of {ledger.folder.name}: {origin.subject}, {origin.title}"
    files: dict[str, str | bytes] = {
        "report.html": html_page(title, sections(material, pictures)),
        "table.md": markdown(material),
        CELLS_FILE: cells_csv(material.search),
    }
    for name, rows in number_tables(material).items():
        files[f"{name}.csv"] = csv_table(rows)
    for result in material.results:
        rows = [*table_rows(result.evaluation), *material.task.published()]
        words = " ".join([result.caption, *material.missing_note])
        files[f"{result.file_name}.tex"] = formats.latex_table(rows, words)
        tests = difference_rows(result.evaluation, result.evaluation.primary)
        files[f"{result.file_name}_tests.tex"] = formats.latex_table(
            tests, result.evaluation.legend
        )
    for name, picture in pictures.items():
        for kind in FIGURE_KINDS:
            files[f"{name}.{kind}"] = figure_bytes(picture.figure, kind)
    folder = ledger.folder / "evaluation"
    # The first is put in its place last: it vouches for all others.
    write_together(folder, {MADE_FROM: made_from(ledger) + "\n", **files}, before_any)
    for name in names_in(folder):
        if name.startswith(SOMETIMES) and name not in files:
            remove(folder / name)
    return [folder / name for name in files]


def noise_floor(ledger: Ledger) -> list[str]:
    """Say how much cells changed that were trained once more, if any were."""
    found = ledger.reproductions()
    if not found:
        return []
    worst = max(reproduction.at_best[SELECTION_METRIC] for reproduction in found)
    cells = "one cell" if len(found) == 1 else f"{len(found)} cells"
    if all(reproduction.exact for reproduction in found):
        return [f"Noise floor: {cells}, trained once more, came out the same to the bit."]
    return [
        f"Noise floor: {cells}, trained once more, changed by up to {worst:.2f} points of "
        f"{metric_title(SELECTION_METRIC)} on the validation split; smaller differences mean "
        "nothing."
    ]


def log_evaluation(storage: UPath, material: Material, files: Sequence[UPath]) -> None:
    """Write the evaluation to MLflow, as a run of its own below the sweep's."""
    ledger = material.ledger
    sweep, origin = material.search.sweep, ledger.description().origin
    metrics = {
        f"{result.name}/{family}/{metric}": float(values.mean())
        for result in material.results
        for family, by_metric in result.evaluation.scores.items()
        for metric, values in by_metric.items()
    }
    number = count_looks(ledger)
    tags = {LEVEL: TEST_EVALUATION, "look": str(number), "tower": origin.tower}
    tags["missing cells"] = "; ".join(material.missing) or "none"
    tables = number_tables(material)
    tracker = Tracker(storage, sweep.question, sweep.name)
    tracker.report(f"{TEST_EVALUATION} {number}", tags, metrics, files, tables)


def main(options: EvaluationOptions) -> None:
    """Evaluate the best configurations of sweeps on their held-out test splits."""
    storage = open_storage(options.storage, must_exist=True)
    ledgers = ledgers_to_evaluate(storage, options)
    say(f"Test evaluation of {', '.join(ledger.folder.name for ledger in ledgers)}")
    # All are chosen before any test split is read.
    searches = {ledger: take_up(ledger) for ledger in ledgers}
    for search in searches.values():
        if not options.allow_missing:
            require_all(search)
    choices = {ledger: best_configurations(search) for ledger, search in searches.items()}
    gathered = [gather(led, searches[led], choices[led], options) for led in ledgers]
    # Looks are recorded when all is evaluated: a run that is refused shows nothing.
    with step("Report"):
        materials, written = zip(*map(report, gathered), strict=True)
        across = write_across_subjects(storage, materials)
    for material in materials:
        show(material)
    show_across_subjects(across)
    with step("MLflow"):
        for material, files in zip(materials, written, strict=True):
            log_evaluation(storage, material, [*files, *across.files])
    for files in written:
        say(f"Report, tables and figures: {files[0]}")
    if across.files:
        say(f"Over subjects, with links to these pages: {across.files[0]}")
    say(f"Browse every run: {browse_command(storage)}")
    for ledger in ledgers:
        if ledger.description().task == "sentences" and read_controls(ledger) is None:
            say(next_line("analysis/controls.py", storage=storage, sweep=ledger.folder.name))
        if windows_of(searches[ledger].sweep):
            say(next_line("analysis/generalise.py", storage=storage, sweep=ledger.folder.name))


def ledgers_to_evaluate(storage: UPath, options: EvaluationOptions) -> list[Ledger]:
    """The sweep that is meant, or of images that of every subject.

    Raises:
        UserError: There is none, or those of images differ in more than their subjects.
    """
    if not options.sweeps:
        ledger = find_ledger(storage, options.sweep)
        if options.sweep or ledger.description().task != "images":
            return [ledger]
    ledgers = subject_ledgers(storage, options.sweeps)
    check_alike(ledgers)
    return ledgers


class Gathered(NamedTuple):
    """What the evaluation of a sweep found, before a look is recorded for it.

    Attributes:
        ledger: The ledger of the sweep.
        task: What is said of the sweep's task alone.
        stimuli: The stimuli of the dataset by name.
        chosen: The best configuration of each family.
        searches: The search, and the one at fresh seeds, by name of their protocol.
        evaluations: The evaluations, by name of their protocol.
    """

    ledger: Ledger
    task: TaskReport
    stimuli: Sequence[str]
    chosen: Mapping[str, Configuration]
    searches: Mapping[str, Search]
    evaluations: Mapping[str, Evaluation]


def gather(
    ledger: Ledger,
    search: Search,
    chosen: Mapping[str, Configuration],
    options: EvaluationOptions,
) -> Gathered:
    """Evaluate the best configurations at the seeds of the search and, if asked, at fresh ones.

    Raises:
        UserError: A seed is not fresh or leaves too few validation stimuli, a cell failed, or data,
            weights or the table of controls can't be read.
    """
    datasets = sweep_data(ledger)
    data = datasets.of(next(iter(chosen.values())))
    task = task_report(ledger, data)
    searches = {SEARCH_SEEDS: search}
    resources = options.cpus_per_cell, options.gpus_per_cell
    title = f"Best configurations of {ledger.folder.name} on their test splits"
    if options.confirm_seeds:
        confirming = confirming_sweep(
            search.sweep, chosen, options.confirm_seeds, search.records.values(), data
        )
        searches[FRESH_SEEDS] = train_further(
            f"at {FRESH_SEEDS}", confirming, search.records, ledger, datasets.of, *resources
        )
    with chosen_encoders(search, chosen, ledger, datasets.of, *resources), step(title):
        evaluations = {
            name: evaluate_chosen(each, chosen, ledger, datasets.of)
            for name, each in searches.items()
        }
    return Gathered(ledger, task, data.stimuli, chosen, searches, evaluations)


def report(found: Gathered) -> tuple[Material, list[UPath]]:
    """Record the look at the test splits of a sweep, and write what it shows.

    The look counts from when the first file of the report can be seen; before, an error or an
    interrupt withdraws it.

    Raises:
        UserError: The storage can't be read or written to.
    """
    with withdrawn_unless_shown() as looks:
        seeds = [seed for each in found.evaluations.values() for seed in each.seeds]
        looks.append(look := record_look(found.ledger, seeds, found.chosen))
        material = material_of(found, look)
        return material, write_report(material, before_any=looks.clear)


def material_of(found: Gathered, look: Recorded) -> Material:
    """Put together what a report is made from.

    Args:
        found: What the evaluation of a sweep found.
        look: The look at its test splits, which is one for all seeds of a run.
    """
    task, results = found.task, []
    for name, evaluation in found.evaluations.items():
        known = task.choice_knows(look.standing(evaluation.seeds))
        words = caption(evaluation, task.tested(evaluation), known, task.caption_end(name))
        results.append(SeedResult(name=name, evaluation=evaluation, look=known, caption=words))
    search = found.searches[SEARCH_SEEDS]
    return Material(
        ledger=found.ledger,
        search=search,
        task=task,
        stimuli=found.stimuli,
        results=results,
        records=searched_records(found.searches.values()),
        missing=missing_cells(search),
        notes=noise_floor(found.ledger),
        written_at=utc_now(),
    )


def task_report(ledger: Ledger, data: TaskData) -> TaskReport:
    """What a report says of the task of a sweep alone.

    Raises:
        UserError: The table of controls is damaged.
    """
    description = ledger.description()
    return REPORTS[description.task](ledger, description, description.origin, data)


class Across(NamedTuple):
    """The comparison over subjects, where there are several.

    Attributes:
        compared: The comparison at the seeds of each protocol, the strictest last.
        files: Files that hold it, the page first.
    """

    compared: Sequence[OverSubjects] = ()
    files: Sequence[UPath] = ()


def write_across_subjects(storage: UPath, materials: Sequence[Material]) -> Across:
    """Compare several subjects' sweeps over images, at the seeds of each protocol; write it.

    Raises:
        UserError: The storage can't be written to.
    """
    reports = [each.task for each in materials if isinstance(each.task, ImageReport)]
    if len(reports) < 2:
        return Across()
    # One run evaluates all sweeps at the same protocols, so results of one place are of one.
    compared = [
        OverSubjects(protocol=results[0].name, found=list(map(SubjectResult.of, reports, results)))
        for results in zip(*(each.results for each in materials), strict=True)
    ]
    files = contents(compared)
    folder = folder_over_subjects(storage, [each.ledger for each in reports])
    write_together(folder, files)
    return Across(compared, [folder / name for name in files])


def show_across_subjects(across: Across) -> None:
    """Print the verdict over subjects, the scores, and the tests at the strictest seeds."""
    for last in across.compared[-1:]:
        say(last.verdict)
        for each in across.compared:
            _show_tables(each.score_tables(), each.notes())
        _show_tables(last.test_tables(), last.legends())


def _show_tables(tables: Sequence[TitledTable], words: Sequence[str]) -> None:
    for title, rows in tables:
        say(title)
        console.print(formats.screen_table(rows))
    for line in words:
        say(line)


def searched_records(searches: Iterable[Search]) -> list[Record]:
    """Records of the searches' own cells; a ledger has those of controls and other seeds too."""
    found = {
        record.signature: record
        for search in searches
        for row in search.rows
        for record in search.done(row.configuration)
    }
    return list(found.values())


def show(material: Material) -> None:
    """Print the verdict, the tables, and the tests at the strictest seeds."""
    published, last = material.task.published(), material.last.evaluation
    say(material.verdict)
    for note in (*material.missing_note, *material.notes):
        say(note)
    if material.question:
        say(material.question.quote)
    for result in material.results:
        rows = [*table_rows(result.evaluation), *published]
        console.print(formats.screen_table(screen_rows(rows)))
        say(result.caption)
    for family, configuration in last.chosen.items():
        if configuration:
            say(f"Best of {family}: {describe(configuration)}.")
    console.print(formats.screen_table(difference_rows(last, last.primary)))
    for words in (last.legend, *untestable(last.comparisons(last.primary))):
        say(words)


if __name__ == "__main__":
    run_command(EvaluationOptions, main, other=EngineOptions)
