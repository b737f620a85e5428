"""A sweep as its command line asks for it, and then its evaluation in the same process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ssense.cli.command import next_line
from ssense.cli.screen import say
from ssense.engine.core.sweep import Sweep
from ssense.engine.records.ledger import SWEEPS, Ledger
from ssense.engine.run import run as run_sweeps
from ssense.engine.tasks.engine_options import EngineOptions
from ssense.files.storage import open_storage

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
    from analysis.report.made_from import stands

    ledgers = [Ledger(open_storage(options.storage) / SWEEPS / name) for name in sweeps]
    if len(ledgers) == 1 and stands(ledgers[0]):
        report = ledgers[0].folder / "evaluation" / "report.html"
        say(f"Evaluated already, and nothing has changed since. Report: {report}")
        return
    from analysis.evaluate import main  # a sweep that is not evaluated needs none of its imports
    from analysis.options import EvaluationOptions

    meant: dict[str, Any] = {"sweep": sweeps[0]} if len(sweeps) == 1 else {"sweeps": (*sweeps,)}
    main(EvaluationOptions(storage=options.storage, **meant))
