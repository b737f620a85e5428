"""Does what is told apart last? Encoders trained at one window of time, tested at the others.

    python analysis/generalise.py --storage DIR [--sweep NAME]

On the held-out test splits of an evaluated sweep of sweeps/windows.py, with the encoders of each
window at every seed (temporal generalisation, King and Dehaene 2014). Nothing is trained; encoders
that were deleted are made again. Every pair of windows is tested against chance over the seeds, and
adjusted over all pairs of two; the windows by themselves as in the evaluation. Like every use of
test splits, a run counts as a look.

generalisation/generalisation.html beside the sweep's ledger holds it all; tables and figures stand
beside it.
"""

from __future__ import annotations

from analysis.options import GeneralisationOptions
from ssense.cli.command import check_flags, run_command

if __name__ == "__main__":
    check_flags(GeneralisationOptions)  # before the imports that take seconds

from collections.abc import Callable, Sequence

from upath import UPath

from analysis.measure import formats
from analysis.measure.chosen_encoders import chosen_encoders
from analysis.measure.evaluation import (
    best_configurations,
    require_all,
    require_evaluated,
    take_up,
)
from analysis.measure.generalisation import generalise
from analysis.measure.looks import record_look, withdrawn_unless_shown
from analysis.measure.windows import Windows, windows_of
from analysis.report.figures import FIGURE_KINDS, figure_bytes
from analysis.report.generalisation import MOST_ROWS, GeneralisationReport
from analysis.report.page import html_page
from ssense.cli.screen import console, count, say, step
from ssense.engine.records.find import find_ledger
from ssense.engine.records.ledger import Ledger
from ssense.engine.records.reports import LEVEL
from ssense.engine.search.search import Search
from ssense.engine.sweep_data import sweep_data
from ssense.engine.tasks.engine_options import EngineOptions
from ssense.engine.view.tracking import Tracker
from ssense.errors import UserError, counted
from ssense.files.markdown import markdown_table
from ssense.files.storage import open_storage, write_anew
from ssense.files.tables import csv_table

FOLDER = "generalisation"


def main(options: GeneralisationOptions) -> None:
    """Test the encoders of each window of a sweep at every window."""
    ledger = find_ledger(open_storage(options.storage, must_exist=True), options.sweep, "sentences")
    say(f"Temporal generalisation of {ledger.folder.name}")
    require_evaluated(ledger)
    search = take_up(ledger)
    windows = windows_to_test(search)
    if not options.allow_missing:
        require_all(search)
    best = best_configurations(search)
    data = sweep_data(ledger)
    resources = options.cpus_per_cell, options.gpus_per_cell
    title = f"{counted(len(windows), 'window')}, each encoder at every one"
    with chosen_encoders(search, best, ledger, data.of, *resources), step(title):
        found = generalise(search, best, windows, ledger, data.of, count("windows"))
    # The look is recorded when all is tested: a run that is refused shows nothing.
    with withdrawn_unless_shown() as looks:
        looks.append(look := record_look(ledger, search.sweep.seeds, best))
        origin = ledger.description().origin
        report = GeneralisationReport(
            title=f"Generalisation of {ledger.folder.name}: {origin.subject}, {origin.title}",
            caption=f"Encoders of {counted(len(windows), 'window')}; "
            f"{look.standing(search.sweep.seeds)}.",
            found=found,
        )
        files = write_generalisation(ledger, report, before_any=looks.clear)
    for line in (report.caption, report.quote):
        say(line)
    console.print(formats.screen_table(report.table_rows()[:MOST_ROWS]))
    with step("MLflow"):
        log_generalisation(ledger, report, files)
    say(f"Page, tables and figure: {files[0]}")


def windows_to_test(search: Search) -> Windows:
    """The windows of a sweep.

    Raises:
        UserError: Its families are no windows.
    """
    windows = windows_of(search.sweep)
    if not windows:
        raise UserError(
            f"{search.sweep.name} has no families that differ in where their window begins alone, "
            "whose encoders could be tested at each other's. Run sweeps/windows.py, evaluate it, "
            "and name it with --sweep."
        )
    return windows


def write_generalisation(
    ledger: Ledger, report: GeneralisationReport, before_any: Callable[[], object] = lambda: None
) -> list[UPath]:
    """Write page, tables and figure beside the ledger; return their paths, the page first.

    Args:
        ledger: The sweep's ledger.
        report: All that the page is made from.
        before_any: Called right before the first file can be seen.
    """
    picture = report.picture()
    contents: dict[str, str | bytes] = {
        "generalisation.html": html_page(report.title, report.sections(picture)),
        "generalisation.md": markdown(report),
        "generalisation.csv": csv_table(report.value_rows()),
        "tests.csv": csv_table(report.test_rows()),
    }
    for kind in FIGURE_KINDS:
        contents[f"{picture.name}.{kind}"] = figure_bytes(picture.figure, kind)
    return write_anew(ledger.folder / FOLDER, contents, before_any)


def markdown(report: GeneralisationReport) -> str:
    """Write what was found as Markdown."""
    parts = [f"# {report.title}", report.caption, report.quote, markdown_table(report.table_rows())]
    return "\n\n".join(parts) + "\n"


def log_generalisation(
    ledger: Ledger, report: GeneralisationReport, files: Sequence[UPath]
) -> None:
    """Write what was found to MLflow, as a run of its own below the sweep's."""
    shown = report.found.found
    metrics = {
        "shown": float(shown.sum()),
        "shown/same window": float(shown.diagonal().sum()),
        "highest": float(report.found.by_seed(report.found.metric).mean(axis=0).max()),
    }
    sweep = ledger.description().sweep
    tracker = Tracker(ledger.storage, sweep.question, sweep.name)
    tables = {FOLDER: report.value_rows()}
    tracker.report(FOLDER, {LEVEL: FOLDER}, metrics, files, tables)


if __name__ == "__main__":
    run_command(GeneralisationOptions, main, other=EngineOptions)
