"""A sweep as its command line asks for it, and then its evaluation in the same process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from upath import UPath

from ssense.cli.command import next_line
from ssense.cli.screen import say
from ssense.engine.core.sweep import Sweep
from ssense.engine.records.ledger import SWEEPS, Ledger
from ssense.engine.run import run as run_sweeps
from ssense.engine.tasks.engine_options import EngineOptions
from ssense.files.storage import exists, open_storage

Options = TypeVar("Options", bound=EngineOptions)


def run(define: Callable[[Any, Options], Sweep], options: Options) -> None:
    """Run a sweep, or rerun one of its cells; evaluate it at its end if that is asked for.

    Args:
        define: Function that makes the sweep of a dataset, of a plan that the options make.
        options: Options of the command line.

    Raises:
        UserError: The recording, the weights or the storage fail.
        SystemExit: Cells are still without a result, or a cell was not reproduced; the exit code is
            1.
    """
    full = run_sweeps(define, options)
    if not full:
        return
    if options.evaluate:
        evaluate(full, options)
    else:
        say(next_line("analysis/evaluate.py", storage=options.storage))


def evaluate(sweeps: list[str], options: EngineOptions) -> None:
    """Evaluate the best configurations of full sweeps on their held-out test splits.

    An evaluation that would find the same again is no further look at the test splits.

    Raises:
        UserError: The storage can't be read or written to.
    """
    if (report := report_that_stands(open_storage(options.storage), sweeps)) is not None:
        say(f"Evaluated already, and nothing has changed since. Report: {report}")
        return
    from analysis.evaluate import main  # a sweep that is not evaluated needs none of its imports
    from analysis.options import EvaluationOptions

    meant: dict[str, Any] = {"sweep": sweeps[0]} if len(sweeps) == 1 else {"sweeps": (*sweeps,)}
    main(EvaluationOptions(storage=options.storage, **meant))


def report_that_stands(storage: UPath, sweeps: list[str]) -> UPath | None:
    """The page of an evaluation of sweeps that would find the same again; None if there is none.

    Raises:
        UserError: The storage can't be read, or a record is damaged.
    """
    from analysis.measure.subject_sweeps import subject_ledgers
    from analysis.report.made_from import OVER_SUBJECTS, REPORT, folder_over_subjects, stands

    if len(sweeps) == 1:
        ledgers = [Ledger(storage / SWEEPS / sweeps[0])]
        page = ledgers[0].folder / REPORT
    else:
        ledgers = subject_ledgers(storage, sweeps)
        page = folder_over_subjects(storage, ledgers) / OVER_SUBJECTS
    return page if exists(page) and all(map(stands, ledgers)) else None
