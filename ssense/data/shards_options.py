"""Options of the command that looks at a folder of shards; imports nothing slow."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ShardsOptions:
    """Flags of the look at shards."""

    folder: str
    """Folder of shards, STORAGE/shards/DIGEST; a path or a URL."""
