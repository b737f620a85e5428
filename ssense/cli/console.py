"""The command `ssense`: its sub-commands run the scripts, in this process and by their own flags.

ssense                                  what there is, in the order of work
ssense sweep                            the questions that come with the package
ssense sweep masking --recording DIR    one of them
ssense sweep my_sweep.py                one of your own
ssense --complete WORD ...              what the last word can become, for a shell
"""

from __future__ import annotations

import contextlib
import runpy
import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from ssense.cli.candidates import Candidate, files, show_candidates
from ssense.cli.command import errors_in_one_line, program, python
from ssense.cli.flags import nearest_name
from ssense.cli.interrupt import show_interrupts_in_one_line
from ssense.cli.subcommand import (
    SUBCOMMANDS,
    SWEEP,
    is_command,
    sources,
    started,
    summary,
    sweep_sources,
)
from ssense.cli.usage import usage_width
from ssense.errors import UserError, printable

_HELP = ("-h", "--help")
_COMPLETE = "--complete"


def main() -> NoReturn:
    """Run the sub-command that the command line names, or say what there is; and exit."""
    show_interrupts_in_one_line()
    started.head, started.words, started.to_complete = _head(), (), False
    with errors_in_one_line():
        words = sys.argv[1:]
        if words[:1] == [_COMPLETE]:
            _complete([_unquoted(word) for word in words[1:]])
        elif not words or words[0] in _HELP:
            print(_overview(), flush=True)
        else:
            _run(words)
    raise SystemExit(0)


def _head() -> tuple[str, ...]:
    """How a user would type what started this process."""
    script = Path(sys.argv[0]).absolute()
    if script.name == "__main__.py":
        return python(), "-m", "ssense"
    found = shutil.which(script.name)
    if found and Path(found).absolute().parent == script.parent:
        return (script.name,)
    here = Path.cwd()
    return (str(script.relative_to(here) if script.is_relative_to(here) else script),)


def _run(words: Sequence[str]) -> None:
    """Run a sub-command.

    Raises:
        UserError: There is none of that name, or no such sweep.
    """
    name, *arguments = words
    if name == SWEEP.name:
        _run_sweep(arguments)
        return
    if name not in sources():
        known = [*sources()]
        raise UserError(
            f"{program()} has no sub-command {_told(name)}. {_nearest(name, known)}Give one of "
            f"{', '.join(known)}."
        )
    started.words = (name,)
    _run_module(dict(SUBCOMMANDS)[name], arguments)


def _run_sweep(words: Sequence[str]) -> None:
    started.words = (SWEEP.name,)
    if not words or words[0] in _HELP:
        print(_sweeps(), flush=True)
        return
    name, *arguments = words
    if name.startswith("-"):
        raise UserError(f"{program()} {_told(name)}: the sweep comes first. See {program()}.")
    stem = _stem(name)
    if stem in sweep_sources():
        started.words = (SWEEP.name, stem)
        _run_module(f"{SWEEP.module}.{stem}", arguments)
    elif Path(name).is_file():
        started.words = (SWEEP.name, name)
        _run_file(Path(name), arguments)
    else:
        known = [*sweep_sources()]
        raise UserError(
            f"{program()} {_told(name)}: there is no such sweep, and no such file. "
            f"{_nearest(stem, known)}Give one of {', '.join(known)}, or a file of your own."
        )


def _stem(name: str) -> str:
    """The name of a sweep as its file has it: learning-curve is typed for learning_curve too."""
    return name.replace("-", "_")


def _run_module(module: str, arguments: Sequence[str]) -> None:
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _run_file(path: Path, arguments: Sequence[str]) -> None:
    """Run a file as Python does: what is in its folder can be imported."""
    sys.argv[1:] = arguments
    sys.path.insert(0, str(path.absolute().parent))
    runpy.run_path(str(path), run_name="__main__")


def _told(name: str) -> str:
    return printable(name) or "of an empty name"


def _nearest(name: str, known: Sequence[str]) -> str:
    nearest = nearest_name(name, known)
    return f"Nearest: {nearest}. " if nearest else ""


def _overview() -> str:
    shown = program()
    first = f"{shown} {SWEEP.name} masking"
    return "\n".join(
        [
            f"usage: {shown} COMMAND [flags]",
            "",
            "Does a choice really help decode the brain, or did one seed get lucky?",
            "",
            "commands, in the order of work:",
            *_listed({name: summary(path) for name, path in sources().items()}),
            "",
            f"Flags of a command: {shown} COMMAND --help",
            f"First, on a synthetic recording: {first}",
            f"On yours: {first} --recording DIR --dry-run",
            "",
        ]
    )


def _sweeps() -> str:
    shown = program()
    return "\n".join(
        [
            f"usage: {shown} NAME [flags]",
            f"       {shown} FILE [flags]",
            "",
            "sweeps, and what each asks:",
            *_listed({name: summary(path) for name, path in sweep_sources().items()}),
            "",
            f"Flags of a sweep: {shown} NAME --help",
            f"The plan alone: {shown} NAME --dry-run",
            "FILE is a sweep of your own; docs/extending.md has one.",
            "",
        ]
    )


def _listed(lines: Mapping[str, str]) -> Iterator[str]:
    indent = max(map(len, lines)) + 4
    for name, line in lines.items():
        yield from textwrap.wrap(
            line,
            usage_width(),
            initial_indent=f"  {name}".ljust(indent),
            subsequent_indent=" " * indent,
            break_on_hyphens=False,
        )


# ---------------------------------------------------------------- what a shell asks


def _complete(words: Sequence[str]) -> None:
    """Print what the last word can become: a name, or what the command's flags say.

    The command itself is started as for its help, and its flags answer in `run_command`'s stead.
    """
    name, *arguments = words or [""]
    if not arguments:
        named = {each: summary(path) for each, path in sources().items()}
        show_candidates(Candidate(*each) for each in named.items() if each[0].startswith(name))
        return
    if name == SWEEP.name and len(arguments) == 1:
        named = {each: summary(path) for each, path in sweep_sources().items()}
        known = [Candidate(*each) for each in named.items() if each[0].startswith(arguments[0])]
        show_candidates([*known, files("*.py")])
        return
    if name == SWEEP.name and _stem(arguments[0]) not in sweep_sources():
        path = arguments[0] = str(Path(arguments[0]).expanduser())
        if not Path(path).is_file() or not is_command(Path(path)):
            return  # a file that may do more than answer
    started.to_complete = True
    with contextlib.redirect_stdout(sys.stderr):
        _run([name, *arguments])


def _unquoted(word: str) -> str:
    """A word as it would reach a command; as it is typed where its quotes are not closed."""
    for end in ("", '"', "'"):
        with contextlib.suppress(ValueError):
            return " ".join(shlex.split(word + end))
    return word
