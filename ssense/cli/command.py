"""Command lines from dataclasses: flags, environment variables, and errors in one line."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import inspect
import os
import platform
import re
import select
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from ssense.cli.candidates import candidates_of, show_candidates
from ssense.cli.flags import PREFIX, HelpAskedError, Parsed, flags_of, nearest_name, parse
from ssense.cli.interrupt import INTERRUPTED, show_interrupts_in_one_line
from ssense.cli.subcommand import CALLED, in_its_words, started, words_for
from ssense.cli.terminal import show_lookalikes, shown
from ssense.cli.usage import usage
from ssense.errors import UserError, printable

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Options = TypeVar("Options", bound="DataclassInstance")

_SCRIPTS = ("sweeps", "analysis")  # packages whose files are run as scripts too
_SLIP = 0.82  # likeness from which a name counts as a slip of another: RATOIS and RATIOS


def check_flags(options: type[DataclassInstance]) -> None:
    """Refuse wrong flags, or show the help, before the imports of a script that take seconds.

    A script calls it between its quick imports and the others, with the class that it gives to
    `run_command` below; from here on an interrupt is one line.
    """
    show_interrupts_in_one_line()
    with errors_in_one_line():
        _check_installed()
        _parsed(options, sys.modules["__main__"].__doc__)


def run_command(
    options: type[Options],
    command: Callable[[Options], Any],
    other: type[DataclassInstance] | None = None,
) -> NoReturn:
    """Parse the command line into `options`, run the command, and exit.

    A field without default is given by its place. A flag may also be given as an environment
    variable, `--max-epochs 5` as SSENSE_MAX_EPOCHS=5; the command line wins. Exit code
    2 is an error that the user can put right.

    Args:
        options: A dataclass, of whose fields the flags are made.
        command: What to do with the options.
        other: Options of another command that errors tell to run, as an evaluation's do a sweep.
    """
    with errors_in_one_line():
        _check_installed()
        found = _parsed(options, _description(command))
        for line in unknown_variables(options, os.environ):
            print(line, file=sys.stderr)
        try:
            command(found.options)
            sys.stdout.flush()  # not at the exit, where nobody could catch what it raises
        except UserError as error:
            raise UserError(found.by_source(str(error), other)) from error
    raise SystemExit(0)


@contextlib.contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Print interrupts and errors that the user can put right in one line, and exit."""
    show_lookalikes()
    try:
        yield
    except UserError as error:
        print("error:", in_its_words(" ".join(str(error).splitlines())), file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:
        if not _nobody_reads():
            raise
        # What is still in the buffer is written at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(128 + signal.SIGPIPE) from None


def _nobody_reads() -> bool:
    """Whether the standard output is a pipe whose reader has had enough, as `head` has."""
    output = select.poll()
    output.register(sys.stdout, 0)
    return bool(output.poll(0))


def _parsed(options: type[Options], description: str | None) -> Parsed[Options]:
    if started.to_complete:
        show_candidates(candidates_of(options, sys.argv[1:]))
        raise SystemExit(0)
    try:
        return parse(options, sys.argv[1:], os.environ, program())
    except HelpAskedError:
        print(usage(options, program(), (description or "").strip()), flush=True)
        raise SystemExit(0) from None


def _description(command: Callable[..., Any]) -> str | None:
    """What a command does, in the words of its module, or else in its own."""
    # A module's lines keep their indentation, which tells commands from prose.
    return sys.modules[command.__module__].__doc__ or inspect.getdoc(command)


def program() -> str:
    """How the running command is called, for messages: "sweeps/masking.py", "ssense evaluate"."""
    if started.head:
        return " ".join(map(_quoted, (*started.head, *started.words)))
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return f"python -m {spec.name.removesuffix('.__main__')}"
    return sys.argv[0] or "python"


def unknown_variables(
    options: type[DataclassInstance], environment: Mapping[str, str]
) -> list[str]:
    """Report environment variables that look like a misspelt flag of a command.

    Any other variable may belong to another command, because the environment is shared.
    """
    known = [flag.variable.removeprefix(PREFIX) for flag in flags_of(options)]
    given = sorted(name.removeprefix(PREFIX) for name in environment if name.startswith(PREFIX))
    lines = []
    for name in given:
        meant = nearest_name(name, known, cutoff=_SLIP)
        if meant and name not in known:
            told = printable(PREFIX + name)
            lines.append(f"ignored: {told} is not a flag of {program()}. Nearest: {PREFIX}{meant}.")
    return lines


def inherited(options: Any, base: type[Options]) -> Options:
    """Return the options that a base class defines, as an instance of that class."""
    return base(**{field.name: getattr(options, field.name) for field in dataclasses.fields(base)})


def _check_installed() -> None:
    """Refuse a script that `ray submit` copied, where the package installed there has another.

    `ray submit` copies that one file only; other edits at home do not get here, so they can't be
    compared. A job that brings the whole repository uses it; each worker compares the code of all
    packages.

    Raises:
        UserError: The script differs from the installed one.
    """
    script = getattr(sys.modules["__main__"], "__file__", None)
    if script is None or not os.environ.get("RAY_ADDRESS"):
        return
    for package in _SCRIPTS:
        found = importlib.util.find_spec(package)
        if found is None or not found.submodule_search_locations:
            continue
        installed = Path(found.submodule_search_locations[0]) / Path(script).name
        if installed.is_file() and installed.read_bytes() != Path(script).read_bytes():
            raise UserError(
                f"{script} differs from the {package}/{installed.name} that is installed on "
                f"{platform.node()}. Run `ray up --no-restart` on your "
                "cluster file and submit it again, or give a file of your own another name."
            )


def holds_command(text: str) -> bool:
    """Whether a text holds a command to be typed, of this Python or of `ssense`."""
    return f"{_quoted(python())} " in text or re.search(CALLED, text) is not None


def python() -> str:
    """Return the command that starts this Python, as a user would type it.

    It is not quoted; `shell_command` quotes what a shell would read otherwise.
    """
    path, found = Path(sys.executable), shutil.which("python")
    if path.is_relative_to(Path.cwd()):
        return str(path.relative_to(Path.cwd()))
    # The same folder, not the same file: an environment's Python is a link to that of the system.
    return "python" if found and Path(found).parent == path.parent else str(path)


def shell_command(*words: object, **flags: object) -> str:
    """Return a command line of this Python, each word quoted for a shell.

    Where `ssense` started the process, it is one of `ssense`, if that has such a sub-command.
    What the standard output can't show is given by its bytes: a look-alike would name another file.

        >>> shell_command("analysis/controls.py", storage="my results #1").partition(" ")[2]
        "analysis/controls.py --storage 'my results #1'"

    Args:
        words: Script or module and its arguments; a script of this repository is named as it is
            found from the current folder.
        flags: Flags and their values, `keep_version` for --keep-version.
    """
    root, here = Path(__file__).parents[2], Path.cwd()
    given = [*map(str, words)]
    line = words_for(given) or [python(), *given]
    for place, word in enumerate(line):
        script = root / word
        if word.endswith(".py") and root != here and script.is_file():
            line[place] = str(script.relative_to(here) if script.is_relative_to(here) else script)
    for name, value in flags.items():
        flag = f"--{name.replace('_', '-')}"
        # A value with a dash in front would be taken for a flag.
        line += [f"{flag}={value}"] if str(value).startswith("-") else [flag, str(value)]
    return " ".join(map(_quoted, line))


def next_line(script: str, **flags: object) -> str:
    """The line that says which script comes next; on a cluster, that it is submitted likewise.

    Args:
        script: A script of this repository.
        flags: Flags and their values, as for `shell_command`.
    """
    if os.environ.get("RAY_ADDRESS") and not started.head:
        return f"Next: {script}, submitted in the same way"
    return f"Next: {shell_command(script, **flags)}"


def _quoted(word: str) -> str:
    """A word as a shell takes it, of characters that the standard output can show."""
    if shown(word) == word:
        return shlex.quote(word)
    escaped = (
        chr(byte) if 32 <= byte < 127 and chr(byte) not in "\\'" else f"\\{byte:03o}"
        for byte in os.fsencode(word)
    )
    return f"$'{''.join(escaped)}'"
