"""Show an interrupt as one line instead of a traceback, from a command's first import on."""

from __future__ import annotations

import os
import sys
from types import TracebackType

INTERRUPTED = "interrupted: run the same command again to continue"
_OF_COMMANDS = ("sweeps", "analysis", "benchmarks", "ssense")


def show_interrupts_in_one_line() -> None:
    """Show an interrupt that nobody catches as one line; other exceptions as usual."""
    sys.excepthook = _excepthook


def is_own_command() -> bool:
    """Whether the program that runs is a file of this repository, and not one that imports it."""
    root = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
    main = os.path.abspath(getattr(sys.modules["__main__"], "__file__", None) or os.sep)
    return main.startswith(tuple(os.path.join(root, folder, "") for folder in _OF_COMMANDS))


def _excepthook(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    print(INTERRUPTED, file=sys.stderr, flush=True)
    raise SystemExit(130)
