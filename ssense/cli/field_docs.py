"""What the fields of a dataclass are for, in the words of its source."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import itertools
import re
import textwrap
from collections.abc import Mapping

_ENTRY = re.compile(r"    (\w+(?:, \w+)*): (.*)")


@functools.cache
def field_docs(kind: type) -> Mapping[str, str]:
    """Read the documentation of a dataclass's fields, one paragraph each, by name.

    A string below a field documents it, and so does an entry under "Attributes:" of the class; a
    class's own words go before those of its bases. Fields without either are left out.
    """
    docs: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if dataclasses.is_dataclass(base):
            docs |= _attribute_entries(base) | _strings_below_fields(base)
    return {name: " ".join(text.split()) for name, text in docs.items()}


def _strings_below_fields(kind: type) -> dict[str, str]:
    try:
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    except (OSError, TypeError, SyntaxError, ValueError):  # made without a file
        return {}
    statements = getattr(definition, "body", [])
    found = {}
    for statement, following in itertools.pairwise(statements):
        if not isinstance(statement, ast.AnnAssign) or not isinstance(following, ast.Expr):
            continue
        text = getattr(following.value, "value", None)
        if isinstance(statement.target, ast.Name) and isinstance(text, str):
            found[statement.target.id] = text
    return found


def _attribute_entries(kind: type) -> dict[str, str]:
    _, _, section = inspect.cleandoc(kind.__doc__ or "").partition("\nAttributes:\n")
    found: dict[str, str] = {}
    names: list[str] = []
    for line in section.splitlines():
        if line and not line.startswith("    "):
            break
        entry = _ENTRY.fullmatch(line)
        if entry:
            names = entry[1].split(", ")
        for name in names:
            found[name] = entry[2] if entry else f"{found[name]} {line}"
    return found
