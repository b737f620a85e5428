"""A storage, opened to be read: its sweeps by question or name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

from upath import UPath

from ssense.api.result import SweepResult
from ssense.engine.core.checks import check_storage
from ssense.engine.records.find import all_ledgers, find_ledger, readable_ledgers
from ssense.errors import UserError, counted, printable
from ssense.files.storage import exists, locate


def open(location: str | Path = "storage") -> Storage:  # noqa: A001 - called ssense.open
    """Open a storage to read its sweeps; nothing in it is changed.

        storage = ssense.open("storage")
        storage.sweeps["masking"].cells

    Args:
        location: Path or URL of the storage.

    Raises:
        UserError: There is no storage with a sweep.
    """
    check_storage(str(location))
    root = locate(str(location))
    if not exists(root):
        raise UserError(f"no storage at {root}. Check `storage`, or run a sweep first.")
    all_ledgers(root)  # refuses a folder without any
    return Storage(root)


class Storage:
    """A storage that sweeps were kept in.

    Args:
        location: Path or URL of the storage.
    """

    def __init__(self, location: UPath) -> None:
        self.location = location

    def __repr__(self) -> str:
        return f"Storage({str(self.location)!r}): {self.sweeps!r}"

    @property
    def sweeps(self) -> Sweeps:
        """The sweeps that can be read, as they are now, the one worked on last at the end."""
        return Sweeps(self.location)


class Sweeps(Sequence[SweepResult]):
    """The sweeps of a storage, by place or by words about them.

    Args:
        location: Path or URL of the storage.
    """

    def __init__(self, location: UPath) -> None:
        self._location = location
        self._ledgers = list(readable_ledgers(all_ledgers(location)))

    @overload
    def __getitem__(self, which: int | str) -> SweepResult: ...
    @overload
    def __getitem__(self, which: slice) -> list[SweepResult]: ...
    def __getitem__(self, which: Any) -> Any:
        """A sweep by its place, -1 the last; or by its question, its name, or words about it.

        Raises:
            UserError: There is no such sweep, or several match.
        """
        if isinstance(which, str):
            return SweepResult(find_ledger(self._location, which))
        if isinstance(which, slice):
            return [SweepResult(ledger) for ledger in self._ledgers[which]]
        try:
            return SweepResult(self._ledgers[which])
        except IndexError:
            sweeps = counted(len(self._ledgers), "sweep")
            raise UserError(f"no sweep {which}: {self._location} has {sweeps}.") from None
        except TypeError:
            shown = printable(repr(which))
            raise UserError(f"sweeps go by place or name, not {shown}.") from None

    def __iter__(self) -> Iterator[SweepResult]:
        return map(SweepResult, self._ledgers)

    def __len__(self) -> int:
        return len(self._ledgers)

    def __repr__(self) -> str:
        lines = (f"  {place}  {found!r}" for place, found in enumerate(self))
        return "\n".join([counted(len(self), "sweep"), *lines])
