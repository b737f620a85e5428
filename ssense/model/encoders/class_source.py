"""Where a class of the user's own is: "FILE.py:CLASS"; imports nothing slow."""

from __future__ import annotations

from typing import NamedTuple


class ClassSource(NamedTuple):
    """The file that a class is in, and the name that it has there."""

    path: str
    name: str


def class_source(text: str) -> ClassSource | None:
    """Read "FILE.py:CLASS"; None where the text names no class. The file need not be there."""
    path, colon, name = text.rpartition(":")
    return ClassSource(path, name) if colon and name.isidentifier() else None
