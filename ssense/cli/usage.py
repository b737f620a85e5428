"""What --help shows: a command's flags in groups, each with what it is for and its default."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

from ssense.cli.flags import Flag, flags_of, shown
from ssense.cli.subcommand import in_its_words

OTHERS = "flags"
"""Title of the flags that are in no group of the class."""

_PIPED_COLUMNS = 100
_WIDEST = 100  # longer lines are hard to read
_METAVARS = {int: "N", float: "X", str: "TEXT"}


def usage(options: type, program: str, description: str) -> str:
    """Lay out the help of a command for the width of the terminal.

    Args:
        options: Class of its options; its class variable `groups`, if any, has names of fields by
            the title of their group.
        program: Name of the command.
        description: What it does.
    """
    width = usage_width()
    flags = flags_of(options)
    places = [flag for flag in flags if flag.by_place]
    named = [flag for flag in flags if not flag.by_place]
    lines = [f"usage: {' '.join([program, *(flag.typed for flag in places), '[flags]'])}", ""]
    for part in in_its_words(description).split("\n\n"):
        # Indented lines are commands.
        lines += [*(part.splitlines() if part.startswith(" ") else _wrapped(part, width)), ""]
    groups = {"by place": places} if places else {}
    for title, members in (groups | _grouped(named, getattr(options, "groups", {}))).items():
        lines += [f"{title}:", *(line for flag in members for line in _entry(flag, width)), ""]
    lines += _wrapped(
        "Each flag is also an environment variable, --max-epochs 5 as SSENSE_MAX_EPOCHS=5; the "
        "command line wins. Lists are separated by blanks, numbers also by commas; whole numbers "
        "may be ranges: 0-9.",
        width,
    )
    return "\n".join([*lines, ""])


def usage_width() -> int:
    """Columns of a help: those of the terminal, but no more than are easy to read."""
    return min(_WIDEST, shutil.get_terminal_size((_PIPED_COLUMNS, 24)).columns)


def _grouped(flags: Sequence[Flag], groups: Mapping[str, Sequence[str]]) -> dict[str, list[Flag]]:
    """Flags by title: those in no group first, those of a nested class under its name last."""
    by_name = {flag.name: flag for flag in flags}
    titles = {name: title for title, names in groups.items() for name in names}
    found: dict[str, list[Flag]] = {}
    for title in (OTHERS, *groups):
        members = [
            flag
            for name, flag in by_name.items()
            if "." not in name and titles.get(name, OTHERS) == title
        ]
        if members:
            found[title] = members
    for name, flag in by_name.items():
        if "." in name:
            found.setdefault(name.rpartition(".")[0], []).append(flag)
    return found


def _entry(flag: Flag, width: int) -> Iterator[str]:
    head = "  " + " ".join(filter(None, (flag.typed, "" if flag.by_place else metavar(flag))))
    default = "" if flag.by_place else f" [{flag.shown_default}]"
    yield head
    yield from _wrapped(f"{_capitalised(in_its_words(flag.purpose))}.{default}", width, " " * 6)


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def metavar(flag: Flag) -> str:
    """What stands for a flag's value: "N", "race|full", "N ..."; nothing for a switch."""
    if flag.items is None and flag.kind is bool:
        return ""
    if flag.items:
        return " ".join(map(_metavar, get_args(flag.kind)))
    value = _metavar(flag.kind)
    return f"{value} ..." if flag.items == 0 else value


def _metavar(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "|".join(map(shown, get_args(kind)))
    return _METAVARS.get(kind, "PATH")


def _wrapped(text: str, width: int, indent: str = "") -> Iterable[str]:
    return textwrap.wrap(
        " ".join(text.split()),
        width,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
