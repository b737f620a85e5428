"""Versions of the code, told apart by what can change a result.

Code is named by its syntax trees without docstrings. A comment, a docstring or the layout changes
no result, and must not ask anybody to compute again; any other edit may. Bytecode would say no
more, and differs between versions of Python.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ssense.files.digest import digest, remember, remembered

_PACKAGE = Path(__file__).parents[1]
_NO_RESULTS = ("api", "cli", "decoder", "engine")
"""Folders whose code changes no result, except for two modules of the engine."""
_ENGINE = ("engine/core/cell.py", "engine/work/cell.py")


def python_files(folder: Path) -> Iterator[Path]:
    """The Python files below a folder, without hidden ones, which editors leave."""
    for path in folder.rglob("*.py"):
        if not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def source_digest(files: Mapping[str, Path]) -> str:
    """Hash Python files by name and syntax tree, without comments, docstrings and line endings.

    To parse a package takes a second of every process: what was found for the same bytes is
    remembered.

    Raises:
        SyntaxError: A file is not Python.
    """
    sources = {name: path.read_bytes() for name, path in files.items()}
    hashes = {name: hashlib.sha256(source).hexdigest() for name, source in sources.items()}
    own = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()  # how the trees are hashed
    name = digest("source", hashes, own, sys.version)
    known = remembered(name)
    if not known:
        known = digest({name: _outline(ast.parse(source)) for name, source in sources.items()})
        remember(name, known)
    return known


@cache
def package_digest(*parts: str) -> str:
    """Hash parts of this package, see `source_digest`; each is read once per process.

    Args:
        parts: Folders, with all that is below them, and modules: "signal", "targets/clip.py".
    """
    found = [_PACKAGE / part for part in parts]
    paths = [path for part in found for path in (python_files(part) if part.is_dir() else [part])]
    return source_digest({path.relative_to(_PACKAGE).as_posix(): path for path in paths})


@cache
def code_digest() -> str:
    """Hash the code that computes results, in a clone as in a wheel, read once per process."""
    files = {place: _PACKAGE / place for place in _ENGINE}
    for path in python_files(_PACKAGE):
        place = path.relative_to(_PACKAGE)
        if place.parts[0] not in _NO_RESULTS:
            files[place.as_posix()] = path
    return source_digest(files)


def _outline(node: Any) -> Any:
    """A syntax tree as plain values, without statements that are a mere constant (docstrings).

    Empty fields are left out, since each version of Python adds some; so Python 3.11 and 3.13 agree
    on the code of this project, and 3.12 does except for f-strings with nested formats.
    """
    if isinstance(node, ast.AST):
        fields = {name: _outline(value) for name, value in ast.iter_fields(node)}
        return [type(node).__name__, {name: value for name, value in fields.items() if value}]
    if isinstance(node, list):
        return [_outline(item) for item in node if not _is_bare_constant(item)]
    return "" if node is None else repr(node)


def _is_bare_constant(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
