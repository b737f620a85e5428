"""Where a class or function of the user's own is: "FILE.py:NAME"; imports nothing slow."""

from __future__ import annotations

from typing import NamedTuple


class OwnSource(NamedTuple):
    """The file that a class or function is in, and the name that it has there."""

    path: str
    name: str


def own_source(text: str) -> OwnSource | None:
    """Read "FILE.py:NAME"; None where the text names nothing in a file, which need not be there."""
    path, colon, name = text.rpartition(":")
    return OwnSource(path, name) if colon and name.isidentifier() else None
