"""What the last word of a command line can become, by the flags of its command."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args, get_origin

from ssense.cli.flags import Flag, flags_of, shown

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_PURPOSE_CHARACTERS = 70


class Candidate(NamedTuple):
    """A word, and what it is for.

    Attributes:
        word: The whole word; empty for the files that a pattern in `purpose` matches.
        purpose: What it is for, in a line; or the pattern of files, as a shell has it.
    """

    word: str
    purpose: str = ""


def files(pattern: str = "*") -> Candidate:
    """The candidate that stands for folders, and for the files that match a pattern."""
    return Candidate("", pattern)


def show_candidates(candidates: Iterable[Candidate]) -> None:
    """Print candidates, a line each: the word and its purpose, with a tab between them."""
    for word, purpose in candidates:
        line = textwrap.shorten(purpose, _PURPOSE_CHARACTERS, placeholder=" …")
        print(f"{word}\t{line}", file=sys.__stdout__)


def candidates_of(options: type[DataclassInstance], words: Sequence[str]) -> list[Candidate]:
    """What the last word can become.

    Args:
        options: Class of the command's options.
        words: Words behind the command, up to the one that is being typed; that may be empty.
    """
    *before, current = words or [""]
    line = _Line(flags_of(options), before)
    name, equals, value = current.partition("=")
    if current.startswith("--") and equals:
        flag = line.named(name)
        return _values(flag, 0, value) if flag else []
    if current.startswith("-"):
        return _starting(line.unused(), current)
    if line.open and line.taken < line.fewest:
        return _values(line.open, line.taken, current)
    found = _values(line.open, line.taken, current) if line.open else []
    place = next(line.places, None)
    return found + (_values(place, 0, current) if place else _starting(line.unused(), current))


class _Line:
    """The words in front of the one that is typed, as `flags.parse` deals them out.

    Attributes:
        open: The flag that takes the next word as a value, if it may.
        taken: Number of values that it has.
        fewest: Number of values that it needs.
        places: Flags by their place that have no value yet.
    """

    def __init__(self, flags: Sequence[Flag], words: Sequence[str]) -> None:
        self._by_name = {flag.typed: flag for flag in flags if not flag.by_place}
        self.places = iter([flag for flag in flags if flag.by_place])
        self._used: set[Flag] = set()
        self.open: Flag | None = None
        self.taken = 0
        for word in words:
            self._take(word)

    def named(self, word: str) -> Flag | None:
        """The flag of a word, that which it switches off included."""
        typed = word.replace("_", "-")
        return self._by_name.get(typed) or next(
            (flag for flag in self._by_name.values() if _off(flag) == typed), None
        )

    def _take(self, word: str) -> None:
        if word.startswith("--"):
            name, equals, _ = word.partition("=")
            self.open, self.taken = self.named(name), 0
            self._used |= {self.open} if self.open else set()
            if equals or (self.open and _is_switch(self.open)):
                self.open = None
        elif self.open:
            self.taken += 1
            if self.open.items != 0 and self.taken >= self.fewest:
                self.open = None
        else:
            next(self.places, None)

    @property
    def fewest(self) -> int:
        return (self.open and self.open.items) or 1

    def unused(self) -> Iterator[Candidate]:
        """The flags that are not given yet; of a switch that is on, what switches it off."""
        for flag in self._by_name.values():
            if flag not in self._used:
                on = _is_switch(flag) and flag.default is True
                yield Candidate(_off(flag) if on else flag.typed, flag.purpose)
        yield Candidate("--help", "What the command does, and all of its flags.")


def _is_switch(flag: Flag) -> bool:
    return flag.kind is bool and flag.items is None


def _off(flag: Flag) -> str:
    group, dot, last = flag.typed.removeprefix("--").rpartition(".")
    return f"--{group}{dot}{Flag.switch_prefix}{last}" if _is_switch(flag) else ""


def _values(flag: Flag, place: int, start: str) -> list[Candidate]:
    """The values of a flag: choices, or files where it takes them.

    Args:
        flag: A flag.
        place: Which of its values, from 0.
        start: Text that values begin with.
    """
    kind: Any = get_args(flag.kind)[place] if flag.items else flag.kind
    if get_origin(kind) is Literal:
        return _starting((Candidate(shown(choice).strip('"')) for choice in get_args(kind)), start)
    if _is_switch(flag):
        return _starting([Candidate("1", "on"), Candidate("0", "off")], start)
    return [files()] if flag.takes_files else []


def _starting(candidates: Iterable[Candidate], start: str) -> list[Candidate]:
    return [each for each in candidates if each.word.startswith(start)]
