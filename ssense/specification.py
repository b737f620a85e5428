"""Specifications as values: their identity, their fields by name, their plain form.

A specification is a frozen dataclass of plain values and of parts, which are such dataclasses
themselves: masking, encoder, objective. A part that stands where several kinds of it may, a tagged
union such as `InfoNCESpec | SSRSpec`, has the name of its kind in `kind`.

A part's `version` is counted up from 1 when a default of it changes or a field's meaning does.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

KIND, VERSION = "kind", "version"
WITHOUT_KIND = "without_kind"
"""Set on the kind of a part that stored values without a kind are of: it was the only one once."""

Spec = TypeVar("Spec")


def identity(spec: Any, leave_out: Collection[str] = ()) -> dict[str, Any]:
    """Reduce a specification to plain values that tell it from every other with other results.

    Only what differs from a default is named, and only of the parts in use: a new field with a
    default, a new part, or another kind that a part may be leaves the identity as it was. The
    version of a part is named from 2 on, its kind where that is not the default's.

    Args:
        spec: The specification, a dataclass.
        leave_out: Names of its fields that are not to be named.
    """
    named: dict[str, Any] = {}
    if (version := getattr(spec, VERSION, 1)) != 1:
        named[VERSION] = version
    for field in dataclasses.fields(spec):
        if field.name in leave_out:
            continue
        value, default = getattr(spec, field.name), _default(field)
        if is_part(value):
            part = identity(value)
            if type(value) is not type(default):
                part[KIND] = kind_of(value) or type(value).__name__
            if part:
                named[field.name] = part
        elif value != default:
            # A learning rate of 1 is one of 1.0, in JSON too.
            is_float = isinstance(default, float) and value is not None
            named[field.name] = float(value) if is_float else value
    return named


def plain(spec: Any) -> dict[str, Any]:
    """Write a specification as plain values, those at their defaults too; `from_plain` reads it.

    Args:
        spec: The specification, a dataclass.
    """
    written: dict[str, Any] = {KIND: kind_of(spec)} if kind_of(spec) else {}
    for field in dataclasses.fields(spec):
        written[field.name] = _plain(getattr(spec, field.name))
    return written


def settings(spec: Any) -> dict[str, Any]:
    """Every value of a specification by its dotted name; a part's kind by the part's own name.

    Args:
        spec: The specification, a dataclass.
    """
    found: dict[str, Any] = {}
    for field in dataclasses.fields(spec):
        value = getattr(spec, field.name)
        if not is_part(value):
            found[field.name] = value
            continue
        if kind_of(value):
            found[field.name] = kind_of(value)
        found |= {f"{field.name}.{name}": inner for name, inner in settings(value).items()}
    return found


def field_names(kind: type) -> list[str]:
    """Dotted names of the fields that a specification may have, whichever kinds its parts are of.

    Args:
        kind: The type of the specification.
    """
    names: dict[str, None] = {}  # a set in order
    for name, types_of_part in parts_of(kind).items():
        if not types_of_part or len(types_of_part) > 1:
            names[name] = None
        for part in types_of_part:
            names |= dict.fromkeys(f"{name}.{inner}" for inner in field_names(part))
    return list(names)


def configured(spec: Spec, changes: Mapping[str, Any]) -> Spec:
    """Replace fields by their dotted names: {"objective": "ssr", "objective.mask_ratio": 0.3}.

    A part that changes its kind begins with the defaults of the new kind. All fields of a part are
    replaced at once: values that only fit together are never apart.

    Args:
        spec: The specification, a dataclass.
        changes: Values by dotted name; a kind by the name of its part.

    Raises:
        ValueError: There is no such field or kind, or a value is refused.
    """
    replaced: Spec = _replaced(spec, {name: (name, value) for name, value in changes.items()})
    return replaced


@cache
def parts_of(kind: type) -> Mapping[str, tuple[type, ...]]:
    """The types that each field of a specification may be a part of; none where it is a value.

    Args:
        kind: The type of the specification.
    """
    hints = get_type_hints(kind)
    found: dict[str, tuple[type, ...]] = {}
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        is_union = get_origin(hint) in (Union, types.UnionType)
        members = get_args(hint) if is_union else (hint,)
        found[field.name] = tuple(filter(dataclasses.is_dataclass, members))
    return found


def unions(kind: type) -> list[str]:
    """Names of the parts that may be of several kinds.

    Args:
        kind: The type of the specification.
    """
    return [name for name, kinds in parts_of(kind).items() if len(kinds) > 1]


def is_part(value: Any) -> bool:
    """Whether a value is a part with fields of its own."""
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def kind_of(part: Any) -> str:
    """The name of a part's kind, or of a type of parts; empty where there is but one."""
    return getattr(part, KIND, "")


def walk(spec: Any) -> Iterator[Any]:
    """A specification and all parts within it."""
    yield spec
    for field in dataclasses.fields(spec):
        if is_part(value := getattr(spec, field.name)):
            yield from walk(value)


def require_positive(spec: Any, *names: str) -> None:
    """Refuse fields that are not positive and finite.

    Args:
        spec: The specification, a dataclass.
        names: Names of its fields.

    Raises:
        ValueError: The first field that is not positive and finite, named.
    """
    for name in names:
        if not 0 < getattr(spec, name) < math.inf:
            raise ValueError(f"{name} must be positive, got {getattr(spec, name)}")


def _plain(value: Any) -> Any:
    if is_part(value):
        return plain(value)
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default  # MISSING, which equals no value, where there is none


def _replaced(spec: Any, changes: Mapping[str, tuple[str, Any]]) -> Any:
    """Replace fields by their names below a part, each with its whole name and its value."""
    kind: type = type(spec)
    kinds = parts_of(kind)
    found: dict[str, Any] = {}
    below: dict[str, dict[str, tuple[str, Any]]] = {}
    for path, (name, value) in changes.items():
        field, _, inner = path.partition(".")
        if field not in kinds or (inner and not kinds[field]):
            raise ValueError(
                f"a configuration names {name}, which is not a field of {_called(spec)}"
            )
        if inner:
            below.setdefault(field, {})[inner] = name, value
        elif kinds[field] and not is_part(value):
            found[field] = _of_kind(kinds[field], getattr(spec, field), name, value)
        else:
            found[field] = value
    for field, inside in below.items():  # kinds are known by now
        found[field] = _replaced(found.get(field, getattr(spec, field)), inside)
    return dataclasses.replace(spec, **found) if found else spec


def _of_kind(kinds: tuple[type, ...], now: Any, name: str, kind: Any) -> Any:
    """The part as it is where it is of that kind, or that kind's defaults."""
    if kind_of(now) == kind:
        return now
    known = {kind_of(each): each for each in kinds}
    if kind not in known or not kind:
        listed = ", ".join(filter(None, known)) or "a part with fields of its own"
        raise ValueError(f"{name} is {kind}, not {listed}")
    return known[kind]()


def _called(spec: Any) -> str:
    return kind_of(spec) or type(spec).__name__
