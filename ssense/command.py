"""Command lines from dataclasses: flags, environment variables, and errors in one line."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import platform
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_args, get_origin, get_type_hints

from ssense.errors import UserError
from ssense.terminal import show_lookalikes

Options = TypeVar("Options")

PREFIX = "SSENSE_"
_SCRIPTS = ("sweeps", "analysis")  # packages whose files are run as scripts too
_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")


def run_command(options: type[Options], command: Callable[[Options], Any]) -> NoReturn:
    """Parse the command line into `options`, run the command, and exit.

    A field without default is given by its place. A flag may also be given as an environment
    variable, `--max-epochs 5` as SSENSE_MAX_EPOCHS=5; the command line wins. Exit code
    2 is an error that the user can put right.
    """
    import tyro

    show_lookalikes()
    try:
        _check_installed()
        arguments = [*environment_arguments(options, os.environ), *sys.argv[1:]]
        by_place = (tyro.conf.PositionalRequiredArgs,)
        command(tyro.cli(options, args=arguments, description=command.__doc__, config=by_place))
    except UserError as error:
        print("error:", " ".join(str(error).splitlines()), file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("interrupted: run the same command again to go on", file=sys.stderr)
        raise SystemExit(130) from None
    raise SystemExit(0)


def inherited(options: Any, base: type[Options]) -> Options:
    """The part of options that they have from a base class, as an instance of it."""
    return base(**{field.name: getattr(options, field.name) for field in dataclasses.fields(base)})


def _check_installed() -> None:
    """Refuse a script that `ray submit` copied, where the package installed there has another.

    That one file is all that it copies: of other edits at home, nothing gets here to be compared.
    A job that brings the whole repository uses it; each worker compares the code of all packages.

    Raises:
        UserError: they differ.
    """
    script = getattr(sys.modules["__main__"], "__file__", None)
    if script is None or not os.environ.get("RAY_ADDRESS"):
        return
    for package in _SCRIPTS:
        found = importlib.util.find_spec(package)
        installed = Path(next(iter(found.submodule_search_locations))) / Path(script).name
        if installed.is_file() and installed.read_bytes() != Path(script).read_bytes():
            raise UserError(
                f"{script} is not the {package}/{installed.name} that is installed on "
                f"{platform.node()}: the code there is another. Run `ray up --no-restart` on your "
                "cluster file and submit it again, or give a file of your own another name."
            )


def python() -> str:
    """How to call this Python from here, for commands that are shown to be typed.

    A word as it is; `shell_command` quotes what a shell would read otherwise.
    """
    path, found = Path(sys.executable), shutil.which("python")
    if path.is_relative_to(Path.cwd()):
        return str(path.relative_to(Path.cwd()))
    # Of one folder, not of one file: the Python of an environment is a link to that of the system.
    return "python" if found and Path(found).parent == path.parent else str(path)


def shell_command(*words: object, **flags: object) -> str:
    """A command of this Python's, as it is typed into a shell: each word quoted as it needs.

        >>> shell_command("analysis/controls.py", storage="my results #1").partition(" ")[2]
        "analysis/controls.py --storage 'my results #1'"

    Args:
        words: Script or module and its arguments; a script of this repository is named as it is
            found from the current folder.
        flags: Flags and their values, `keep_version` for --keep-version.
    """
    root, here = Path(__file__).parents[1], Path.cwd()
    line = [python(), *map(str, words)]
    for place, word in enumerate(line):
        script = root / word
        if word.endswith(".py") and root != here and script.is_file():
            line[place] = str(script.relative_to(here) if script.is_relative_to(here) else script)
    for name, value in flags.items():
        flag = f"--{name.replace('_', '-')}"
        # A value with a dash in front would be taken for a flag.
        line += [f"{flag}={value}"] if str(value).startswith("-") else [flag, str(value)]
    return shlex.join(line)


def environment_arguments(options: type, environment: Mapping[str, str]) -> list[str]:
    """Turn the variables that name fields of `options` into command-line arguments.

    The values of a list are separated by blanks; an empty variable counts as unset.

    Raises:
        UserError: a switch is neither on nor off.
    """
    arguments: list[str] = []
    for name, kind in _flags(options):
        variable = PREFIX + name.upper().replace(".", "_").replace("-", "_")
        value = environment.get(variable, "")
        if not value:
            continue
        if kind is bool:
            arguments.append(_switch(name, variable, value))
        elif _is_list(kind):
            arguments += [f"--{name}", *value.split()]
        else:
            arguments.append(f"--{name}={value}")
    return arguments


def _switch(name: str, variable: str, value: str) -> str:
    if value.lower() in _TRUE:
        return f"--{name}"
    if value.lower() in _FALSE:
        group, dot, last = name.rpartition(".")
        return f"--{group}{dot}no-{last}"
    raise UserError(f"{variable}={value}: a switch is on with 1 and off with 0.")


def _is_list(kind: Any) -> bool:
    return any(get_origin(option) in (list, tuple) for option in (kind, *get_args(kind)))


def _flags(options: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Flag names of a dataclass, nested ones dotted, and their types."""
    types = get_type_hints(options)
    for field in dataclasses.fields(options):
        name, kind = prefix + field.name.replace("_", "-"), types[field.name]
        if field.default is field.default_factory is dataclasses.MISSING:
            continue  # given by its place
        if dataclasses.is_dataclass(kind):
            yield from _flags(kind, f"{name}.")
        else:
            yield name, kind
