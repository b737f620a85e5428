"""Flags from a dataclass: values from the command line and the environment, or one line why not.

A field `max_epochs` is the flag --max-epochs and the variable SSENSE_MAX_EPOCHS, a field
`sentences` of a nested class `synthetic` is --synthetic.sentences and SSENSE_SYNTHETIC_SENTENCES; a
field without default is given by its place. The command line wins. Lists are separated by blanks,
numbers by commas too; whole numbers may be ranges, 0-9 or 0..9, and shares percentages.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Generic,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from ssense.cli.field_docs import field_docs
from ssense.cli.subcommand import CALLED
from ssense.errors import UserError, printable

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Options = TypeVar("Options", bound="DataclassInstance")

PREFIX = "SSENSE_"
_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")
_RANGE = re.compile(r"([0-9]{1,18})(?:-|\.\.)([0-9]{1,18})")
_LONGEST_RANGE = 10_000
_LARGEST = 2**63  # what libraries take for a whole number
_MOST_DIGITS = 30  # with zeros in front; more are never converted
_COMMAND = re.compile(rf"(?<!\S)\S*(?:python[\d.]*|\.py)'?(?= )|{CALLED}")
"""Beginning of a command that a message prints."""
_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "1 (on) or 0 (off)",
    str: "a name",
    Path: "a path",
}
_EXAMPLES = {int: "8", float: "0.5", bool: "1", str: "NAME", Path: "FOLDER"}


_NOTHING = (None, (), "")  # defaults that the class or what is read fills in


@dataclass(frozen=True, kw_only=True)
class Flag:
    """A field of an options class as a flag of the command line.

    Attributes:
        name: Name of the field, dotted within a group: "synthetic.sampling_rate".
        kind: Type of a value, of one item of a list.
        items: How many values it takes: None for one, 0 for a list of any length, or the length.
        optional: Whether the field may be None, so that its class fills in.
        default: Value where none is given; MISSING where the field is given by its place.
        docs: Purpose of the field, and at the end, in brackets, what None stands for.
    """

    name: str
    kind: Any
    items: int | None
    optional: bool
    default: Any
    docs: str

    switch_prefix: ClassVar[str] = "no-"

    @property
    def by_place(self) -> bool:
        """Whether it has no default, and is given without a flag."""
        return self.default is dataclasses.MISSING

    @property
    def typed(self) -> str:
        """The flag as it is typed: "--max-epochs"; by its place: "RECORDING"."""
        if self.by_place:
            return self.name.upper()
        return f"--{self.name.rstrip('_').replace('_', '-')}"  # "as_", a word of Python's

    @property
    def variable(self) -> str:
        """The environment variable: "SSENSE_MAX_EPOCHS"."""
        return PREFIX + self.name.rstrip("_").upper().replace(".", "_")

    @property
    def purpose(self) -> str:
        """The documentation without what None stands for."""
        return re.sub(r"\s*\[[^\]]*\]\.?$", "", self.docs).rstrip(".")

    @property
    def takes_files(self) -> bool:
        """Whether a value may be a file or a folder, by its type or by what is said of it."""
        said = re.search(r"\b([Ff]older|[Ff]ile|FILE|Where|Table)\b", self.docs)
        return self.kind is Path or (self.kind is str and said is not None)

    @property
    def shown_default(self) -> str:
        """The one default, as it would be typed, or in words."""
        stands_for = re.search(r"\[([^\]]*)\]\.?$", self.docs)
        if self.default in _NOTHING and stands_for:
            return stands_for[1]
        return "none" if self.default in _NOTHING else shown(self.default)

    @property
    def example(self) -> str:
        """A right value, as it would be typed."""
        choices = get_args(self.kind) if get_origin(self.kind) is Literal else ()
        if self.default not in (*_NOTHING, dataclasses.MISSING) and self.kind is not bool:
            return shown(self.default)
        if choices:
            return shown(choices[0])
        if self.items == 0 and self.kind is int:
            return "0-9"
        word = self.shown_default.split(";")[0]
        if self.kind in (int, float):
            word = word.split()[0]
        single = self.items is None and re.fullmatch(r"\w[\w.%-]*", word)
        if single and word not in ("all", "none") and _is_value(word, self.kind):
            return word
        return "FOLDER" if self.docs.startswith("Folder") else _EXAMPLES[self.kind]


@dataclass(frozen=True)
class Source:
    """Where the value of a flag was found: the text, and the variable if it was in one."""

    flag: Flag
    texts: tuple[str, ...]
    variable: str = ""

    @property
    def name(self) -> str:
        """The name of the source in messages."""
        return self.variable or self.flag.typed

    def __str__(self) -> str:
        text = printable(" ".join(self.texts))
        if self.flag.by_place and not self.variable:
            return f"{self.flag.typed} {text}"
        return f"{self.name}={text}" if self.variable else f"{self.name} {text}".strip()

    def refuse(self, why: str) -> UserError:
        """The error for a wrong value, with an example of a right one."""
        return UserError(f"{str(self).rstrip(' =')}: {why}. {self.advice}")

    @property
    def advice(self) -> str:
        """An example of a right value."""
        if self.variable:
            quote = '"' * (" " in self.flag.example)
            return f"Example: {self.variable}={quote}{self.flag.example}{quote}."
        if self.flag.by_place:
            return f"Example: {self.flag.example}."
        if self.flag.kind is bool and self.flag.items is None:
            return f"Example: {self.flag.typed}."
        return f"Example: {self.flag.typed} {self.flag.example}."


@dataclass(frozen=True)
class Parsed(Generic[Options]):
    """Parsed options, and where the given values came from."""

    options: Options
    sources: Mapping[str, Source] = field(default_factory=dict)

    def by_source(self, message: str, other: type[DataclassInstance] | None = None) -> str:
        """A message in terms of this command: its flags, and variables where those were set.

        Code below the command line names fields, not flags: `encoder.weights` becomes
        --encoder-weights where the command has that flag, and stays as it is elsewhere.

        Args:
            message: The message, of one line.
            other: Options of another command that messages tell to run: fields that are flags of
                that one alone become its flags.
        """
        flags = [*(flags_of(other) if other else ()), *flags_of(type(self.options))]
        return _by_source(_with_flags(message, flags), self.sources.values())


class HelpAskedError(Exception):
    """The command line has --help."""


def flags_of(options: type[DataclassInstance], prefix: str = "") -> list[Flag]:
    """The flags of an options class, those of nested ones dotted."""
    return list(_flags(options, prefix))


def _flags(options: type[DataclassInstance], prefix: str, instance: Any = None) -> Iterator[Flag]:
    types, docs = _types(options), field_docs(options)
    for each in dataclasses.fields(options):
        kind, default = types[each.name], _default(each, instance)
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            yield from _flags(kind, f"{prefix}{each.name}.", default)
        else:
            yield Flag(
                name=prefix + each.name,
                default=default,
                docs=docs.get(each.name, ""),
                **_shape(kind),
            )


@functools.cache
def _types(options: type[Any]) -> Mapping[str, Any]:
    return get_type_hints(options)


def _default(each: dataclasses.Field[Any], instance: Any) -> Any:
    if instance is not None and instance is not dataclasses.MISSING:
        return getattr(instance, each.name)
    if each.default_factory is not dataclasses.MISSING:
        return each.default_factory()
    return each.default


def _shape(kind: Any) -> dict[str, Any]:
    """Type of a value, number of values and whether None is one, of a field's type."""
    options = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    optional = type(None) in options
    (kind,) = (option for option in options if option is not type(None))
    inner = get_args(kind)
    if get_origin(kind) is list or (get_origin(kind) is tuple and inner[1:] == (...,)):
        return {"kind": inner[0], "items": 0, "optional": optional}
    if get_origin(kind) is tuple:
        return {"kind": kind, "items": len(inner), "optional": optional}
    return {"kind": kind, "items": None, "optional": optional}


def parse(
    options: type[Options], arguments: Sequence[str], environment: Mapping[str, str], program: str
) -> Parsed[Options]:
    """Read the options of a command.

    Args:
        options: A dataclass, see the module.
        arguments: Words of the command line, without the program's name.
        environment: Variables by name; an empty one counts as unset.
        program: Name of the command, for messages.

    Raises:
        UserError: An argument or a value is wrong; the line gives a right one.
        HelpAskedError: Help was asked for; then nothing else is checked.
    """
    if {"-h", "--help"} & {*arguments}:
        raise HelpAskedError
    flags = flags_of(options)
    sources = {
        flag.name: Source(flag, tuple(_split(flag, environment[flag.variable])), flag.variable)
        for flag in flags
        if not flag.by_place and environment.get(flag.variable)
    }
    given = _Arguments(flags, arguments, program).read()
    sources |= given
    missing = [flag for flag in flags if flag.by_place and flag.name not in sources]
    if missing:
        raise UserError(f"{missing[0].typed} is missing. {_usage_line(flags, program)}")
    values = {name: _value(source) for name, source in sources.items()}
    return Parsed(_build(options, values, sources), sources)


def _split(flag: Flag, text: str) -> list[str]:
    return [text] if flag.items is None else _with_percents(text.split())


def _with_percents(words: Iterable[str]) -> list[str]:
    """The words, percent signs joined to the numbers before them: 5 % is typed for 5% too."""
    joined: list[str] = []
    for word in words:
        if joined and re.fullmatch("%([,;].*)?", word) and re.search(r"\d\.?$", joined[-1]):
            joined[-1] += word
        else:
            joined.append(word)
    return joined


def _usage_line(flags: Sequence[Flag], program: str) -> str:
    places = " ".join(flag.typed for flag in flags if flag.by_place)
    return f"Call it as: {program} {places}." if places else f"See {program} --help."


class _Arguments:
    """The words of a command line, dealt out to the flags."""

    def __init__(self, flags: Sequence[Flag], words: Sequence[str], program: str) -> None:
        self._flags, self._words, self._program = flags, words, program
        self._by_name = {flag.typed: flag for flag in flags if not flag.by_place}
        self._places = [flag for flag in flags if flag.by_place]
        self._found: dict[str, Source] = {}

    def read(self) -> dict[str, Source]:
        """The sources of the given values, by name of the flag.

        Raises:
            UserError: A word is neither a flag nor a value, a flag is repeated, or lacks its value.
        """
        words = _with_percents(self._words)
        while words:
            word = words.pop(0)
            if not word.startswith("--"):
                self._keep(Source(self._next_place(word), (word,)))
                continue
            name, equals, value = word.partition("=")
            flag, off = self._flag(name)
            if off and equals:
                raise UserError(f"{printable(name)} takes no value. Example: {printable(name)}.")
            if flag.kind is bool and flag.items is None:
                self._keep(Source(flag, (value if equals else "0" if off else "1",)))
                continue
            texts = [value] if equals else self._values(flag, words)
            if not texts:
                raise UserError(f"{flag.typed} lacks its value. {Source(flag, ()).advice}")
            self._keep(Source(flag, tuple(texts)))
        return self._found

    def _keep(self, source: Source) -> None:
        if source.flag.name in self._found:
            raise UserError(f"{source.flag.typed} is given twice. Give it once. {source.advice}")
        self._found[source.flag.name] = source

    def _next_place(self, word: str) -> Flag:
        for flag in self._places:
            if flag.name not in self._found:
                return flag
        shown_word = printable(word) or "an empty word"
        raise UserError(
            f"{shown_word} belongs to no flag of {self._program}. "
            f"{_usage_line(self._flags, self._program)}"
        )

    def _flag(self, word: str) -> tuple[Flag, bool]:
        """The flag of a word, and whether the word switches it off."""
        typed = word.replace("_", "-")
        if typed in self._by_name:
            return self._by_name[typed], False
        *group, last = typed.removeprefix("--").split(".")
        if last.startswith(Flag.switch_prefix):
            on = "--" + ".".join([*group, last.removeprefix(Flag.switch_prefix)])
            if on in self._by_name and self._by_name[on].kind is bool:
                return self._by_name[on], True
        names = [name.removeprefix("--") for name in self._by_name]
        nearest = nearest_name(typed.removeprefix("--"), names)
        advice = f"Nearest: --{nearest}. " if nearest else ""
        raise UserError(
            f"{self._program} has no flag {printable(word)}. {advice}"
            f"All flags: {self._program} --help."
        )

    def _values(self, flag: Flag, words: list[str]) -> list[str]:
        """Take the values of a flag off the words that follow it."""
        most = 1 if flag.items is None else flag.items or len(words)
        values: list[str] = []
        while words and len(values) < most and not words[0].startswith("--"):
            values.append(words.pop(0))
        return values


def nearest_name(name: str, names: Sequence[str], cutoff: float = 0.6) -> str:
    """The name most like another; empty where none is as like it as the cutoff, of 0 to 1."""
    return next(iter(get_close_matches(printable(name), names, n=1, cutoff=cutoff)), "")


def _value(source: Source) -> Any:
    """The value that a text stands for.

    Raises:
        UserError: The text is nothing of the flag's type.
    """
    flag = source.flag
    if flag.items is None:
        return _item(source, source.texts[0], flag.kind)
    if flag.items:
        kinds = get_args(flag.kind)
        if len(source.texts) != len(kinds):
            raise source.refuse(f"expected {len(kinds)} values, got {len(source.texts)}")
        return tuple(
            _item(source, text, kind) for text, kind in zip(source.texts, kinds, strict=True)
        )
    values: list[Any] = []
    for text in source.texts:
        # Names may have commas, of which "intra-subject, best test epoch" is one.
        parts = [text] if flag.kind in (str, Path) else filter(None, re.split(r"[,;]", text))
        for part in parts:
            values += _items(source, part.strip())
    if not values:
        raise source.refuse("no value")
    return values if isinstance(flag.default, list) else tuple(values)


def _items(source: Source, text: str) -> list[Any]:
    """The values that an item of a list stands for: one, or a range of whole numbers."""
    bounds = _RANGE.fullmatch(text) if source.flag.kind is int else None
    if bounds:
        first, last = int(bounds[1]), int(bounds[2])
        if last < first:
            raise source.refuse(f"the range {printable(text)} runs backwards")
        if last - first >= _LONGEST_RANGE:
            raise source.refuse(f"the range {printable(text)} has over {_LONGEST_RANGE:,} numbers")
        return list(range(first, last + 1))
    return [_item(source, text, source.flag.kind)]


def _item(source: Source, text: str, kind: Any) -> Any:
    """The value of a text: a choice, a switch, a name, or a number, which may be in percent."""
    if get_origin(kind) is Literal:
        for choice in get_args(kind):
            if text == str(choice):
                return choice
        choices = ", ".join(_quoted(str(choice)) for choice in get_args(kind))
        raise source.refuse(f"{_told(text)} is not one of {choices}")
    if not text.strip():
        raise source.refuse("it is empty")
    if kind is bool:
        return _switch(source, text)
    if kind in (str, Path):
        return kind(text)
    if kind is float and text.endswith("%"):
        # By division, so that 5% is the number nearest to 0.05.
        return _item(source, text.removesuffix("%"), float) / 100
    if not _is_value(text, kind):
        if _is_too_large(text, kind):
            raise source.refuse(f"{_told(text)} is too large")
        raise source.refuse(f"{_told(text)} is not {_WORDS[kind]}{_hint(text, source.flag)}")
    return kind(text)


def _told(text: str) -> str:
    return printable(text, 30) or "nothing"


def _quoted(text: str) -> str:
    return f'"{text}"' if " " in text else text


def _hint(text: str, flag: Flag) -> str:
    ranges = ", nor a range such as 0-9" if flag.items == 0 and flag.kind is int else ""
    return f"{ranges}; decimals have a point" if "," in text else ranges


def _is_value(text: str, kind: Any) -> bool:
    """Whether a text is a number that libraries can take."""
    if kind is int:
        return (
            bool(re.fullmatch(rf"\s*[+-]?[0-9]{{1,{_MOST_DIGITS}}}\s*", text))
            and abs(int(text)) < _LARGEST
        )
    if kind is float:
        try:
            return math.isfinite(float(text)) and "_" not in text
        except ValueError:
            return False
    return kind in (str, Path)


def _is_too_large(text: str, kind: Any) -> bool:
    """Whether a text that is no value says a number all the same, or a range of whole ones."""
    if kind is int:
        parts = re.fullmatch(r"\s*[+-]?([0-9]+)(?:(?:-|\.\.)([0-9]+))?\s*", text)
        found = filter(None, parts.groups()) if parts else ()
        return any(len(part) > _MOST_DIGITS or int(part) >= _LARGEST for part in found)
    try:
        return kind is float and math.isinf(float(text)) and any(map(str.isdigit, text))
    except ValueError:
        return False


def _switch(source: Source, text: str) -> bool:
    if text.lower() in (*_TRUE, *_FALSE):
        return text.lower() in _TRUE
    raise source.refuse("a switch is on with 1 and off with 0")


def _build(
    options: type[Options],
    values: Mapping[str, Any],
    sources: Mapping[str, Source],
    prefix: str = "",
    default: Options | None = None,
) -> Options:
    """Make the options of values by dotted name; of a group, its default with changes.

    Raises:
        UserError: The class refuses a value.
    """
    changes: dict[str, Any] = {}
    types = _types(options)
    for each in dataclasses.fields(options):
        name, kind = prefix + each.name, types[each.name]
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            group = _default(each, default)
            changes[each.name] = _build(kind, values, sources, f"{name}.", group)
        elif name in values:
            changes[each.name] = values[name]
    try:
        if isinstance(default, options):
            return dataclasses.replace(default, **changes)
        return options(**changes)
    except (UserError, ValueError) as error:  # a specification's class knows no users
        message = _with_flags(str(error), flags_of(options))
        raise UserError(_as_flag(message, sources, prefix)) from None


def _as_flag(message: str, sources: Mapping[str, Source], prefix: str) -> str:
    """Express the error of an options class in terms of its flag or variable, with an example."""
    word = re.match(r"-{0,2}[\w-]+", message)
    name = prefix + (word[0].removeprefix("--").replace("-", "_") if word else "")
    source = sources.get(name)
    if source is None or word is None:
        return _by_source(message, sources.values())
    message = source.flag.typed + message[word.end() :]
    if source.advice not in message and "such as" not in message:
        message = f"{message} {source.advice}"
    return _by_source(message, sources.values())


def _with_flags(message: str, flags: Sequence[Flag]) -> str:
    """A message with flags in place of fields; one of a group, as `table`, by its own name too."""
    typed = {flag.name.replace(".", "_"): flag.typed for flag in flags}
    of_groups: dict[str, set[str]] = {}
    for flag in flags:
        of_groups.setdefault(flag.name.rpartition(".")[2], set()).add(flag.typed)
    own = {name: next(iter(found)) for name, found in of_groups.items() if len(found) == 1}
    typed = own | typed
    return re.sub(
        r"`([a-z_.]+)`", lambda word: typed.get(word[1].replace(".", "_"), word[0]), message
    )


def _by_source(message: str, sources: Iterator[Source] | Any) -> str:
    """A message with variables in place of flags, but for those of commands, which are to be typed.

    A variable in front of a value becomes an assignment: "Lower SSENSE_CPUS_PER_CELL, or give
    SSENSE_GPUS_PER_CELL=0."
    """
    command = _COMMAND.search(message)
    end = command.start() if command else len(message)
    blamed, rest = message[:end], message[end:]
    for source in sources:
        if source.variable:
            value = rf"{re.escape(' '.join(source.texts))}|[-+.]?\d"
            flag = rf"{re.escape(source.flag.typed)}(?![\w-]|\.\w)"
            blamed = re.sub(rf"{flag} (?={value})", f"{source.variable}=", blamed)
            blamed = re.sub(flag, source.variable, blamed)
    return blamed + rest


def shown(value: Any) -> str:
    """A value as it would be typed; whole numbers in a row as a range."""
    if isinstance(value, (tuple, list)):
        whole = len(value) > 2 and all(isinstance(each, int) for each in value)
        if whole and list(value) == list(range(value[0], value[0] + len(value))):
            return f"{value[0]}-{value[-1]}"
        return " ".join(map(shown, value))
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    return _quoted(str(value))
