"""Sub-commands of `ssense`: what each of them runs, and how messages name it.

Scripts and modules know nothing of `ssense`: they name each other as scripts, and where `ssense`
started the process, these names become its own.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

_SWEEPS = "sweeps"
_NAMED = re.compile(
    r"(?<![\w/.-])(?:(?:python )?(?P<script>(?:sweeps|analysis)/\w+)\.py"
    r"|python -m (?P<module>\w+(?:\.\w+)+))(?![\w/])"
)
"""A script or a module as docstrings and messages name it."""


class Subcommand(NamedTuple):
    """A sub-command.

    Attributes:
        name: Word behind `ssense`.
        module: Module that is run; for sweeps the package that has a module for each.
    """

    name: str
    module: str

    @property
    def source(self) -> Path | None:
        """The file that is run; of sweeps that of the package; None where it is not installed."""
        try:
            found = importlib.util.find_spec(self.module)
        except ModuleNotFoundError:  # the package that it would be in is not there
            return None
        if found is None or found.origin is None:
            return None
        path = Path(found.origin)
        main = path.with_name("__main__.py")
        return main if path.name == "__init__.py" and main.is_file() else path


SUBCOMMANDS = (
    Subcommand("data", "ssense.data.synthetic"),
    Subcommand("sweep", _SWEEPS),
    Subcommand("evaluate", "analysis.evaluate"),
    Subcommand("controls", "analysis.controls"),
    Subcommand("maps", "analysis.maps"),
    Subcommand("generalise", "analysis.generalise"),
    Subcommand("recordings", "analysis.recordings"),
    Subcommand("export", "analysis.export"),
    Subcommand("compare", "analysis.compare"),
    Subcommand("catalogue", "analysis.catalogue"),
    Subcommand("verify", "analysis.verify"),
    Subcommand("ui", "ssense.engine.view.mlflow_ui"),
    Subcommand("completion", "ssense.cli.completion"),
)
"""All sub-commands in the order of work, of which some may not be installed."""

SWEEP = SUBCOMMANDS[1]


CALLED = rf"(?<!\S)\S*ssense'? (?:{'|'.join(dict(SUBCOMMANDS))})(?= )"
"""Pattern of a sub-command's beginning, as a message prints it."""


def sources() -> dict[str, Path]:
    """The file of every sub-command that is installed, by name."""
    found = {command.name: command.source for command in SUBCOMMANDS}
    return {name: path for name, path in found.items() if path is not None}


@cache
def sweep_sources() -> Mapping[str, Path]:
    """The file of every sweep that comes with the package, by the name that it is called by."""
    package = SWEEP.source
    files = sorted(package.parent.glob("*.py")) if package else []
    return {path.stem: path for path in files if is_command(path)}


def is_command(path: Path) -> bool:
    """Whether a file's source makes flags and runs, so that asking for its flags does no more."""
    text = path.read_text(errors="replace")
    return "__main__" in text and "run_command(" in text


def summary(path: Path) -> str:
    """The first paragraph of a file's docstring, read without running it."""
    text = ast.get_docstring(ast.parse(path.read_bytes())) or ""
    return " ".join(text.partition("\n\n")[0].split())


@dataclass
class Started:
    """How `ssense` started this process.

    Attributes:
        head: What `ssense` itself was called as, a word each; empty where a script was called.
        words: Sub-command that runs, and the name of its sweep.
        to_complete: Whether the flags are not to be used: a shell asks how they go on.
    """

    head: Sequence[str] = ()
    words: Sequence[str] = ()
    to_complete: bool = False


started = Started()
"""How this process was started: there is one command in a process."""


def words_for(words: Sequence[str]) -> list[str]:
    """What to type behind Python to run a script or a module; by `ssense` where that was called.

    Args:
        words: A script of this repository or "-m" and a module, and arguments.

    Returns:
        The words of `ssense`, its own first; nothing where none of its sub-commands is meant.
    """
    behind = 2 if words[:1] == ["-m"] else 1
    module = words[behind - 1].removesuffix(".py").replace("/", ".") if words[behind - 1 :] else ""
    meant = _by_module().get(module) if started.head else None
    return [*started.head, *meant, *words[behind:]] if meant else []


def in_its_words(text: str) -> str:
    """A text in which scripts are named as sub-commands, where `ssense` was called."""
    return _NAMED.sub(_in_its_words, text) if started.head else text


def _in_its_words(named: re.Match[str]) -> str:
    module = named["module"] or named["script"].replace("/", ".")
    meant = _by_module().get(module)
    return shlex.join([*started.head, *meant]) if meant else named[0]


@cache
def _by_module() -> Mapping[str, Sequence[str]]:
    sweeps = {f"{_SWEEPS}.{name}": (SWEEP.name, name) for name in sweep_sources()}
    return {command.module: (command.name,) for command in SUBCOMMANDS} | sweeps
