"""Plain values, as JSON has them, read back into the types that they were written from.

A file that was edited by hand, or cut short, may be JSON that parses and means nothing: a list for
an object, a number of four hundred digits, null. Each of these is found here, and named by its
place.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ssense.errors import UserError, printable
from ssense.specification import KIND, WITHOUT_KIND, kind_of

_LARGEST = 2.0**63  # larger whole numbers do not fit into int64 or float; NaN is not below it
_KINDS = {dict: "an object", list: "a list", str: "a text", bool: "true or false", int: "a number"}
_KINDS |= {float: "a number", type(None): "null"}

Kind = TypeVar("Kind")


def from_plain(kind: type[Kind], value: Any) -> Kind:
    """Read a dataclass, or a container of plain values, from what `json.loads` gave.

    Fields with a default may be missing. Nothing is converted, except that lists become tuples.

    Args:
        kind: The type that is wanted, as it is written in an annotation.
        value: The plain value to read.

    Raises:
        ValueError: The value is of another shape. The message names the place, and what is there:
            "history[3].loss is null, not a number".
    """
    wanted: Any = kind  # not only a class: an alias such as list[str], or a union, too
    try:
        read: Callable[[Any], Kind] = _reader(wanted)
        return read(value)
    except _WrongError as wrong:
        raise ValueError(str(wrong)) from None


class _WrongError(Exception):
    """What is wrong, and where: each container that it passes on its way out adds its part."""

    def __init__(self, problem: str, place: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.place = place

    def within(self, part: str) -> _WrongError:
        separator = "." if self.place and not self.place.startswith("[") else ""
        return _WrongError(self.problem, f"{part}{separator}{self.place}")

    def __str__(self) -> str:
        return f"{printable(self.place)} {self.problem}" if self.place else f"it {self.problem}"


@cache
def _reader(kind: Any) -> Callable[[Any], Any]:
    """How a value of a kind is read; the types are looked up once, not for every value."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return lambda value: value
    if kind in (float, int, str, bool, None, type(None)):
        return _SCALARS[kind]
    if origin is Literal:
        return _choice(inner)
    if origin in (Union, types.UnionType):
        is_tagged = all(hasattr(each, KIND) for each in inner)
        return _tagged(inner) if is_tagged else _either(inner)
    if origin is tuple and inner[-1] is not Ellipsis:
        return _tuple(inner)
    if origin in (tuple, list, Sequence):
        return _sequence(inner[0], tuple if origin is tuple else list)
    if origin in (dict, Mapping):
        return _mapping(inner[1])
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind)
    raise TypeError(f"no plain values are read as {kind}")


def _expected(value: Any, wanted: str) -> _WrongError:
    return _WrongError(f"is {_KINDS.get(type(value), 'something else')}, not {wanted}")


def _number(value: Any) -> Any:
    if type(value) not in (float, int):
        raise _expected(value, "a number")
    if not abs(value) < _LARGEST:
        raise _WrongError("is too large or not finite")
    return value


def _whole(value: Any) -> Any:
    if type(value) is not int:
        raise _expected(value, "a whole number")
    return _number(value)


def _text(value: Any) -> Any:
    if type(value) is not str:
        raise _expected(value, "a text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _WrongError("is a text with a broken character") from None
    return value


def _switch(value: Any) -> Any:
    if type(value) is not bool:
        raise _expected(value, "true or false")
    return value


def _nothing(value: Any) -> None:
    if value is not None:
        raise _expected(value, "null")


_SCALARS: Mapping[Any, Callable[[Any], Any]] = {
    float: _number,
    int: _whole,
    str: _text,
    bool: _switch,
    None: _nothing,
    type(None): _nothing,
}


def _choice(known: tuple[Any, ...]) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if type(value) not in map(type, known) or value not in known:
            shown = printable(repr(value), 40)
            raise _WrongError(f"is {shown}, not one of {', '.join(map(str, known))}")
        return value

    return read


def _either(kinds: tuple[Any, ...]) -> Callable[[Any], Any]:
    readers = [_reader(kind) for kind in kinds]

    def read(value: Any) -> Any:
        problems = []
        for each in readers:
            try:
                return each(value)
            except _WrongError as wrong:
                problems.append(wrong)
        raise problems[0]

    return read


def _tagged(kinds: tuple[Any, ...]) -> Callable[[Any], Any]:
    """Read the member of a union that the value's own "kind" names.

    A value without one is of the member that says so by `without_kind`: it was written before
    there were others.
    """
    readers = {kind_of(kind): _reader(kind) for kind in kinds}
    unnamed = next((kind for kind in kinds if getattr(kind, WITHOUT_KIND, False)), None)

    def read(value: Any) -> Any:
        if type(value) is not dict:
            raise _expected(value, "an object")
        if KIND not in value and unnamed is not None:
            return readers[kind_of(unnamed)](value)
        if KIND not in value:
            raise _WrongError("is missing").within(KIND)
        kind = _at(KIND, _choice(tuple(readers)), value[KIND])
        return readers[kind](value)

    return read


def _tuple(kinds: tuple[Any, ...]) -> Callable[[Any], Any]:
    readers = [_reader(kind) for kind in kinds]

    def read(value: Any) -> Any:
        if type(value) not in (list, tuple):
            raise _expected(value, "a list")
        if len(value) != len(readers):
            raise _WrongError(f"has {len(value)} entries, not {len(readers)}")
        return tuple(
            _at(f"[{i}]", *each) for i, each in enumerate(zip(readers, value, strict=True))
        )

    return read


def _sequence(kind: Any, made: type) -> Callable[[Any], Any]:
    reader = _reader(kind)

    def read(value: Any) -> Any:
        if type(value) not in (list, tuple):
            raise _expected(value, "a list")
        return made(_at(f"[{i}]", reader, each) for i, each in enumerate(value))

    return read


def _mapping(kind: Any) -> Callable[[Any], Any]:
    reader = _reader(kind)

    def read(value: Any) -> Any:
        if type(value) is not dict:
            raise _expected(value, "an object")
        return {_at("a name", _text, key): _at(key, reader, each) for key, each in value.items()}

    return read


def _dataclass(kind: Any) -> Callable[[Any], Any]:
    hints = get_type_hints(kind)
    fields = {each.name: each for each in dataclasses.fields(kind)}
    readers = {name: _reader(hints[name]) for name in fields}
    missing = dataclasses.MISSING
    needed = [n for n, f in fields.items() if f.default is missing and f.default_factory is missing]

    def read(value: Any) -> Any:
        if type(value) is not dict:
            raise _expected(value, "an object")
        if (tag := kind_of(kind)) and value.get(KIND) == tag:
            value = {name: each for name, each in value.items() if name != KIND}
        for name in value:
            if name not in fields:
                raise _WrongError("is unknown here").within(name)
        for name in needed:
            if name not in value:
                raise _WrongError("is missing").within(name)
        found = {name: _at(name, readers[name], each) for name, each in value.items()}
        try:
            return kind(**found)
        except (ValueError, UserError) as error:  # a value that the dataclass refuses
            raise _WrongError(f"is refused ({printable(str(error), 200).rstrip('.')})") from error

    return read


def _at(place: str, read: Callable[[Any], Any], value: Any) -> Any:
    try:
        return read(value)
    except _WrongError as wrong:
        raise wrong.within(place) from None
