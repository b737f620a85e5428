"""Short content hashes that name specifications, datasets and cells."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Collection, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from ssense.errors import UserError, printable
from ssense.files.storage import cache_folder
from ssense.specification import identity

DIGEST_CHARACTERS = 16  # 64 bits: no collision among millions of cells, and readable in a path
# A recording has 6 GB and is named at every start; weights are named by every cell's signature.
_WORTH_REMEMBERING = 2**20
_SETTLED_S = 2.0  # some file systems' times are no finer: a change could go unnoticed


def digest(*parts: Any) -> str:
    """Hash dataclasses, mappings, sequences and scalars by value, whatever their key order.

    Only the fields of a dataclass that differ from their defaults count, see
    `specification.identity`.

    Raises:
        TypeError: A part holds something without a canonical JSON form (an array, an object).
    """
    text = json.dumps(parts, sort_keys=True, default=_plain, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_CHARACTERS]


def file_digest(path: Path) -> str:
    """Hash the bytes of one file; a large one is not read again until it changes."""
    status = path.stat()
    if status.st_size < _WORTH_REMEMBERING:
        return _digest_of_bytes(path)
    name = digest(str(path.resolve()), *_state(status))
    known = remembered(name)
    if len(known) != DIGEST_CHARACTERS:
        known = _digest_of_bytes(path)
        if time.time() - status.st_ctime > _SETTLED_S:
            remember(name, known)
    return known


def content_digest(path: Path) -> str:
    """Hash a file, or all files of a folder, see `file_digest` and `folder_digest`.

    Raises:
        UserError: It is not there any more, or can't be read.
    """
    try:
        return folder_digest(path) if path.is_dir() else file_digest(path)
    except OSError as error:
        raise UserError(
            f"cannot read {path} ({error.strerror}). Put it back, or check its permissions."
        ) from error


def folder_digest(folder: Path, leave_out: Collection[str] = ()) -> str:
    """Hash all files in a folder and below it, by name and content, without hidden ones.

    Args:
        folder: The folder.
        leave_out: Endings of names of files that do not count, ".md".

    Raises:
        OSError: A file can't be read.
    """
    paths = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    counting = {
        name.as_posix(): path
        for name, path in paths.items()
        if name.suffix not in leave_out and not any(p.startswith(".") for p in name.parts)
    }
    found = {name: counting[name].stat() for name in sorted(counting)}
    if all(time.time() - status.st_ctime > _SETTLED_S for status in found.values()):
        states = tuple((name, *_state(status)) for name, status in found.items())
        return _settled_digest(folder.resolve(), states)
    return _digest_of_files(folder, found)


def weights_identity(weights: str) -> str:
    """Name weights by what they are: a file by its content, anything else by its own name.

    Raises:
        UserError: The file can't be read.
    """
    path = weights_file(weights)
    return f"file {file_digest(path)}" if path else weights


def weights_file(weights: str) -> Path | None:
    """The file that weights are in; None where they are named otherwise ("openai").

    Raises:
        UserError: The file can't be read.
    """
    path = Path(weights)
    try:
        if not path.is_file():
            return None
        path.open("rb").close()
    except OSError as error:
        raise UserError(
            f"weights {printable(weights)} can't be read ({error.strerror}). Check the name of the "
            "file and its permissions."
        ) from error
    return path


@lru_cache(maxsize=16)
def _settled_digest(folder: Path, states: tuple[tuple[str, *tuple[int, ...]], ...]) -> str:
    """Read what is as it was no second time: every cell's signature asks."""
    return _digest_of_files(folder, [name for name, *_ in states])


def _digest_of_files(folder: Path, names: Iterable[str]) -> str:
    return digest({name: file_digest(folder / name) for name in names})


def _state(status: os.stat_result) -> tuple[int, int, int, int]:
    """What of a file changes when its content does."""
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _digest_of_bytes(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:DIGEST_CHARACTERS]


def _cache_folder() -> Path:
    return cache_folder() / "digests"


def remembered(name: str) -> str:
    """What was remembered under a name, on this machine; empty if nothing is."""
    try:
        return (_cache_folder() / name).read_text()
    except (OSError, UserError, ValueError):
        return ""


def remember(name: str, known: str) -> None:
    """Keep a digest for later; where nothing can be kept, it is computed again next time.

    Args:
        name: What the digest is of, itself a digest: whatever changes it has to be in the name.
        known: The digest.
    """
    with contextlib.suppress(OSError, UserError):
        note = _cache_folder() / name
        partial = note.with_name(f"{name}.{os.getpid()}")
        note.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(known)
        partial.replace(note)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {"": type(value).__name__, **identity(value)}
    raise TypeError(f"cannot hash a {type(value).__name__} by value: {value!r}")
