"""The one layer through which results reach local disks, shared file systems and object stores."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
import uuid
from pathlib import Path
from typing import Any

from upath import UPath

from ssense.errors import UserError, one_line

_PARTIAL = re.compile(r"\..+\.[0-9a-f]{32}")
ABANDONED_S = 60.0
"""A file that is still being written changes more often."""


def open_storage(location: str, *, must_exist: bool = False) -> UPath:
    """Return the storage folder of a path or URL, made if need be and shown to be writable.

    Raises:
        UserError: it can't be written to, or must exist and does not.
    """
    if not location:
        raise UserError("--storage is empty. Name a folder or a URL.")
    try:
        root = UPath(location)
        if root.protocol in ("", "file"):
            root = UPath(Path(location.removeprefix("file://")).expanduser().resolve())
        if must_exist and not root.exists():
            raise UserError(f"no storage at {root}. Check --storage, or run a sweep first.")
        probe = root / f".probe-{uuid.uuid4().hex}"
        root.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except UserError:
        raise
    except Exception as error:  # an object store raises whatever its client library does
        reason = getattr(error, "strerror", None) or one_line(error)
        raise UserError(
            f"storage {location} can't be written to ({reason}). Check --storage."
        ) from error
    return root


def write_whole(path: UPath, content: bytes | memoryview | str) -> None:
    """Write a file so that readers see the old one or the new one, never a part.

    A local file is written beside its place and moved there; object stores put whole objects.

    Raises:
        UserError: it can't be written: the storage is full, read-only or away.
    """
    if isinstance(content, str):
        content = content.encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if is_local(path):
            with partial_file(path) as partial:
                partial.write_bytes(content)
        else:
            path.write_bytes(content)
    except Exception as error:  # an object store raises whatever its client library does
        raise UserError(
            f"{path} can't be written ({one_line(error)}). Free space, or check the storage, and "
            "run the same command again: what is done is kept."
        ) from error


class partial_file:  # noqa: N801 - a context manager, used like a function
    """Yield a local path beside `path` to write to; on success it is moved onto `path`."""

    def __init__(self, path: Path) -> None:
        self._path = Path(path)
        self._partial = self._path.with_name(f".{self._path.name}.{uuid.uuid4().hex}")

    def __enter__(self) -> Path:
        return self._partial

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                os.replace(self._partial, self._path)
        finally:
            self._partial.unlink(missing_ok=True)


def remove_partial_files(folder: UPath, abandoned_s: float = ABANDONED_S) -> None:
    """Remove what processes left behind that were killed while they wrote into a local folder.

    Args:
        folder: to look into; not below it.
        abandoned_s: seconds without a change after which nobody writes a file any more.
    """
    if not is_local(folder) or not folder.exists():
        return
    for path in folder.glob(".*"):
        with contextlib.suppress(OSError):  # another process may have finished or removed it
            unchanged_s = time.time() - path.stat().st_mtime
            if _PARTIAL.fullmatch(path.name) and unchanged_s >= abandoned_s:
                path.unlink()


def is_local(path: UPath) -> bool:
    """Whether the path lies on a file system of this machine (a network mount counts)."""
    return isinstance(path, Path)


def write_json(path: UPath, value: Any) -> None:
    """Write a value as indented JSON, whole."""
    write_whole(path, json.dumps(value, indent=1) + "\n")


def read_json(path: UPath) -> Any:
    """Read a JSON file.

    Raises:
        UserError: it is damaged, or can't be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"{path} can't be read ({one_line(error)}). Check the storage.") from error
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}). Delete it and run again.") from error
