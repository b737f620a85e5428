"""Provenance: what made a cell, and the rule that versions of the code are never mixed silently.

A version of the code is named by what `source_digest` makes of it.
"""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ssense.data.splits import Split
from ssense.engine.core.record import Record
from ssense.errors import UserError
from ssense.files.digest import digest
from ssense.files.source_code import code_digest

LIBRARIES = ("ssense", "torch", "torchvision", "numpy")

_PACKAGE = Path(__file__).parents[2]
_NAME_CHARACTERS = 8
_UNKNOWN = "unknown"  # name of the version of records that do not say
_GIT_SECONDS = 20  # a network file system may be slow, and git is not needed


@dataclass(frozen=True, kw_only=True)
class CodeVersion:
    """Cells of a ledger that one version of the code has made.

    Attributes:
        digest: Digest of the code; empty where the records do not say.
        commit: Commit of the last of the cells; empty where there was no git repository.
        dirty: Whether tracked files differed from that commit.
        cells: Number of cells.
        last: When the last cell was finished, ISO 8601.
    """

    digest: str
    commit: str
    dirty: bool
    cells: int
    last: str

    @property
    def name(self) -> str:
        """Short name for people: "3f2a1c9e"."""
        return _version_name(self.digest)

    def __str__(self) -> str:
        commit = f", commit {self.commit[:7]}" if self.commit else ""
        if self.commit and self.dirty:
            commit += " with changes"
        made = "1 cell was" if self.cells == 1 else f"{self.cells} cells were"
        origin = f"({self.name}{commit}, last {self.last[:10]})"
        return f"{made} made by another version of the code {origin}"


def _version_name(code: str) -> str:
    return code[:_NAME_CHARACTERS] or _UNKNOWN


def provenance(device: torch.device, split: Split) -> dict[str, Any]:
    """What the cell that this process trains is made by and from, as fields of its record.

    Without a git repository there is no `commit` and no `dirty`; without a lock file beside the
    package, no `requirements_digest`.
    """
    return {
        "code_digest": code_digest(),
        **_git_state(),
        **_requirements(),
        "versions": versions(),
        "device": device_name(device),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "split_digest": split_digest(split),
    }


def split_digest(split: Split) -> str:
    """Hash the rows in each part of a split."""
    return digest({part: rows.tolist() for part, rows in vars(split).items()})


def check_versions(
    records: Mapping[str, Record],
    current: str,
    keep: Sequence[str] = (),
    retrain: Sequence[str] = (),
) -> dict[str, Record]:
    """Choose the records that count in a sweep that is taken up with the current code.

    A failed cell of another version does not count: it is tried again.

    Args:
        records: Records of the ledger, by signature.
        current: Digest of the code that runs now.
        keep: Names of other versions whose cells count as if the current one had made them.
        retrain: Names of other versions whose cells do not count.

    Raises:
        UserError: A version is in neither list, or in both; or the current one would be retrained.
    """
    now = current[:_NAME_CHARACTERS]
    for name in retrain:
        if name == now:
            raise UserError(f"`retrain_version` {name} is the code that runs now. Leave it out.")
        if name in keep:
            raise UserError(f"{name} is in `keep_version` and `retrain_version`. Choose one.")
    others = [v for v in code_versions(records.values()) if v.digest != current]
    unnamed = [str(v) for v in others if v.name not in (*keep, *retrain)]
    if unnamed:
        raise UserError(
            f"{'; '.join(unnamed)} than {now}, which runs now. Run the sweep with `keep_version` "
            "NAME to count its cells, or with `retrain_version` NAME to train them again."
        )
    return counting(records, current, keep)


def counting(records: Mapping[str, Record], current: str, keep: Sequence[str]) -> dict[str, Record]:
    """The records of the current code, and the results of the versions that are kept."""
    return {
        signature: record
        for signature, record in records.items()
        if record.code_digest == current
        or (record.done and _version_name(record.code_digest) in keep)
    }


def code_versions(records: Iterable[Record]) -> list[CodeVersion]:
    """Group the cells that have a result by the version of the code, the latest version first."""
    made: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda record: record.finished_at, reverse=True):
        if record.done:
            made.setdefault(record.code_digest, []).append(record)
    return [
        CodeVersion(
            digest=code,
            commit=group[0].commit,
            dirty=bool(group[0].dirty),
            cells=len(group),
            last=group[0].finished_at,
        )
        for code, group in made.items()
    ]


@cache
def versions() -> dict[str, str]:
    """Versions of what computes a cell."""
    return {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}


def device_name(device: torch.device) -> str:
    """Name a device as a person would: "NVIDIA H200", "CPU"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


@cache
def _git_state() -> dict[str, Any]:
    """Commit of the source, and whether tracked files differ from it; empty without repository."""
    # An installed package may lie in a folder that the repository of something else ignores.
    if _git("ls-files", "--error-unmatch", "__init__.py") is None:
        return {}
    described = _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    if described is None:
        return {}
    commit = described.removesuffix("-dirty")
    return {"commit": commit, "dirty": commit != described}


def _git(*arguments: str) -> str | None:
    command = ["git", "--no-optional-locks", "-C", str(_PACKAGE), *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=_GIT_SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@cache
def _requirements() -> dict[str, str]:
    lock = _PACKAGE.parent / "requirements.lock"
    return {"requirements_digest": digest(lock.read_text())} if lock.is_file() else {}
