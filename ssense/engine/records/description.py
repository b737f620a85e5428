"""The description of a sweep: what it compares, on which data, and how far it has come.

It is kept in the file sweep.json, which has one reader and one writer: those of this module.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from upath import UPath

from ssense.choices import PolicyName
from ssense.data.recordings.segments import segment_spec
from ssense.data.shards import feature_spec, find_manifest
from ssense.engine.core.decision import Decision
from ssense.engine.core.origin import ImageOrigin, RecordingOrigin
from ssense.engine.core.record import utc_now
from ssense.engine.core.sweep import Row, Sweep, checked_levels
from ssense.errors import UserError, one_line
from ssense.files.plain_values import from_plain
from ssense.files.sealed_json import check_format, unsealed, write_sealed
from ssense.files.storage import read_json
from ssense.specification import plain

FORMAT_VERSION = 4
"""Format of the files of a ledger: the description and the records."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a sweep is, and how far it has come.

    A format may gain fields: what an earlier version did not write has a default.

    Attributes:
        sweep: What is compared.
        origin: Where its data come from.
        policy: Name of the policy by which seeds are spent.
        rows: Configurations proposed so far, in order.
        decisions: What the policy has decided so far, each with the configuration it is about.
        code_digest: Digest of the code that the sweep ran by.
        kept_versions: Names of other versions of the code whose cells count.
        updated_at: When it was written, ISO 8601.

    Raises:
        ValueError: A row is of no family of the sweep, or the origin is of another task.
    """

    sweep: Sweep
    origin: RecordingOrigin | ImageOrigin
    policy: PolicyName = "race"
    rows: tuple[Row, ...] = ()
    decisions: tuple[tuple[Row, Decision], ...] = ()
    code_digest: str = ""
    kept_versions: tuple[str, ...] = ()
    updated_at: str = field(default_factory=utc_now)

    def __post_init__(self) -> None:
        if self.origin.kind != self.task:
            raise ValueError(f"its origin is of {self.origin.kind}, its cells train {self.task}")
        families = {family.name: family for family in self.sweep.families}
        for place, row in enumerate(self.rows):
            family = families.get(row.family)
            fault = family.fault_of(row.configuration) if family else "belongs to no family"
            if fault:
                raise ValueError(f"rows[{place}] {fault}")

    @property
    def task(self) -> str:
        """Name of the task that its cells train: "sentences" or "images"."""
        return self.sweep.specification.kind


def write_description(path: UPath, description: Description) -> None:
    """Write a description, whole, with its format and a checksum.

    Raises:
        UserError: The file can't be written.
    """
    write_sealed(path, {"format": FORMAT_VERSION, **plain(description)})


def read_description(path: UPath) -> Description:
    """Read a description.

    Raises:
        UserError: There is no description, or it is damaged, of another format or version of the
            code, or contradicts itself.
    """
    try:
        content = read_json(path)
    except FileNotFoundError:
        raise UserError(f"no sweep in {path.parent}. Run a file of sweeps/ first.") from None
    check_format(path, content, FORMAT_VERSION)
    try:
        found = unsealed(content, without="format")
    except ValueError as error:
        raise _damaged(path, error) from error
    _add_data(path, found)
    _check_known(path, found)
    try:
        return from_plain(Description, found)
    except ValueError as error:
        raise _damaged(path, error) from error


def _add_data(path: UPath, content: dict[str, Any]) -> None:
    """Add the specification of the data where an earlier version of the code wrote none.

    Shards say what they were made by; where they are gone, defaults stand for it.
    """
    match content:
        case {"sweep": {"specification": dict(spec)}, "origin": {"shards": str(name), **origin}}:
            pass
        case _:
            return
    if "data" in spec:
        return
    with suppress(UserError):  # it is reported where shards are checked
        if manifest := find_manifest(path.parent.parent.parent / "shards" / name):
            spec["data"] = plain(segment_spec(manifest.settings["segments"]))
            spec["features"] = plain(feature_spec(manifest.settings["superlets"]))
            spec["target"] = origin.get("text", {})


def _check_known(path: UPath, content: dict[str, Any]) -> None:
    """Refuse a sweep of fields or values that this version of the code does not have."""
    try:
        sweep = from_plain(Sweep, content.get("sweep"))
        checked_levels(sweep.specification, {each.name: each.levels for each in sweep.families})
    except (ValueError, UserError) as error:
        if "is missing" in str(error):
            raise _damaged(path, error) from error
        raise UserError(
            f"{path} was written by another version of the code ({one_line(error)}). Use that "
            "version, or name another sweep."
        ) from error


def _damaged(path: UPath, error: Exception) -> UserError:
    return UserError(
        f"{path} is damaged ({one_line(error)}). Delete this file and run the sweep's command "
        "again: its cells are kept."
    )
