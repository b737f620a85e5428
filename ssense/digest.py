"""Short content hashes that name specifications, datasets and cells."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from pathlib import Path
from typing import Any

DIGEST_CHARACTERS = 16  # 64 bits: no collision among millions of cells, and readable in a path


def digest(*parts: Any) -> str:
    """Hash dataclasses, mappings, sequences and scalars by value, whatever their key order.

    Raises:
        TypeError: a part holds something without a canonical JSON form (an array, an object).
    """
    text = json.dumps(parts, sort_keys=True, default=_plain, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_CHARACTERS]


def file_digest(path: Path) -> str:
    """Hash the bytes of one file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:DIGEST_CHARACTERS]


def weights_identity(weights: str) -> str:
    """Name weights by what they are: a file by its content, anything else by its own name."""
    path = Path(weights)
    if not path.is_file():
        return weights
    status = path.stat()
    return f"file {_digest_of_state(path, status.st_ino, status.st_size, status.st_mtime_ns)}"


@functools.lru_cache(maxsize=8)
def _digest_of_state(path: Path, *_: int) -> str:
    # Weights are hundreds of megabytes and every cell's signature names them: one reading is
    # enough until the file changes.
    return file_digest(path)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {"": type(value).__name__, **vars(value)}
    raise TypeError(f"cannot hash a {type(value).__name__} by value: {value!r}")
