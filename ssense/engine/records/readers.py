"""Evaluations that read encoders now, so that no driver deletes them meanwhile.

SWEEP/readers/ID.json    who reads, and the signatures of the cells

A mark that a killed evaluation left behind is removed by the next driver: at once on the machine
where the process is known to be dead, elsewhere after a day.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

from upath import UPath

from ssense.engine.records.driver import Holder, this_process
from ssense.engine.records.ledger import Ledger
from ssense.errors import UserError
from ssense.files.plain_values import from_plain
from ssense.files.storage import names_in, read_whole, remove, write_json

FOLDER = "readers"

_LONGEST = timedelta(days=1)
"""How long a mark counts; on disks that machines share, clocks agree far better than this."""


@dataclass(frozen=True, kw_only=True)
class _Mark:
    """What an evaluation reads, and who it is."""

    holder: Holder
    signatures: tuple[str, ...]

    @property
    def is_left_behind(self) -> bool:
        age = datetime.now(UTC) - datetime.fromisoformat(self.holder.started).astimezone(UTC)
        return self.holder.is_dead or abs(age) > _LONGEST


@contextmanager
def reading_encoders(ledger: Ledger, signatures: Iterable[str]) -> Iterator[None]:
    """Keep drivers from deleting the encoders of cells; those deleted before stay so.

    In a storage that can't be written to there is no driver to keep from it.
    """
    mark = _Mark(holder=this_process(), signatures=tuple(signatures))
    path = ledger.folder / FOLDER / f"{mark.holder.id}.json"
    with suppress(UserError):
        write_json(path, asdict(mark))
    try:
        yield
    finally:
        with suppress(UserError):
            remove(path)


def being_read(ledger: Ledger) -> set[str]:
    """Signatures of the cells whose encoders are being read; removes marks left behind.

    Raises:
        UserError: The storage can't be read or written to.
    """
    found: set[str] = set()
    for name in names_in(ledger.folder / FOLDER):
        path = ledger.folder / FOLDER / name
        mark = _read(path)
        if mark is None:
            continue
        if mark.is_left_behind:
            remove(path)
        else:
            found.update(mark.signatures)
    return found


def _read(path: UPath) -> _Mark | None:
    """A mark; None where it has just gone, or is none."""
    try:
        mark = from_plain(_Mark, json.loads(read_whole(path)))
        datetime.fromisoformat(mark.holder.started).utctimetuple()
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    return mark
