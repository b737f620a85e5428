"""The ledger: a record and weights for each finished cell, the truth that all else derives from.

SWEEP/sweep.json                     what is compared: families, configurations, seeds
SWEEP/cells/SIGNATURE/record.json    written last, whole: a cell without it is not finished
SWEEP/cells/SIGNATURE/weights.safetensors
SWEEP/cells/SIGNATURE/checkpoint.safetensors   of a cell in progress; removed when it has finished
SWEEP/reproductions/SIGNATURE.json   how a cell differed when it was trained once more
SWEEP/records.json.gz                in an object store: a copy of the records, read at once
SWEEP/readers/ID.json                encoders that an evaluation is reading, `readers`
SWEEP/looks/ID.json                  that its test splits were looked at, `analysis.measure.looks`

Every JSON file has a checksum of all else in it: one that was edited, or has none, is refused.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import safetensors.torch
from torch import Tensor
from upath import UPath

from ssense.engine.core.record import Record
from ssense.engine.core.reproduction import Reproduction
from ssense.engine.records.description import (
    FORMAT_VERSION,
    Description,
    read_description,
    write_description,
)
from ssense.errors import UserError, one_line, printable
from ssense.files.plain_values import from_plain
from ssense.files.sealed_json import check_format, unsealed, write_sealed
from ssense.files.storage import (
    exists,
    is_local,
    names_in,
    parse_json,
    read_json,
    read_many,
    read_whole,
    remove,
    subfolders_with,
    write_whole,
)

SWEEPS = "sweeps"
COPIES = "records.json.gz"
_WEIGHTS = "weights.safetensors"
COPY_AFTER = 50
"""Cells that a driver finishes, beyond as many as there were, until it copies the records."""


class WeightsNotKeptError(UserError):
    """The weights of a cell were deleted, as no evaluation asked for them."""


@dataclass(frozen=True)
class Ledger:
    """The folder of one sweep."""

    folder: UPath

    @property
    def storage(self) -> UPath:
        """The storage of the ledger, with other sweeps, spectrograms and recordings."""
        return self.folder.parent.parent

    def records(self) -> dict[str, Record]:
        """Read every finished cell's record, by signature.

        In an object store, records that had to be read one by one are in the copy from then on.

        Raises:
            UserError: A record is damaged or of another format.
        """
        cells = self.folder / "cells"
        marks = subfolders_with(cells, "record.json")
        copies = self._copies() if any(marks.values()) else {}
        found = {name: copies[name, mark] for name, mark in marks.items() if (name, mark) in copies}
        others = [cells / name / "record.json" for name in marks if name not in found]
        for path, text in zip(others, read_many(others), strict=True):
            content = parse_json(path, text)
            found[path.parent.name] = content, _as_record(cells, path.parent.name, content)
        if others and any(marks.values()):
            self._write_copies([(n, mark, found[n][0]) for n, mark in marks.items() if mark])
        return {name: found[name][1] for name in marks}

    def copy_records(self) -> None:
        """Copy what is not copied yet, so that the next driver need not read them one by one.

        Nothing is done on a disk, which is as quick without, nor where the storage can't be
        reached.
        """
        if not is_local(self.folder):
            with contextlib.suppress(UserError):
                self.records()

    def _copies(self) -> dict[tuple[str, str], tuple[Any, Record]]:
        """Copied records by signature and mark of the file that each was read from."""
        cells = self.folder / "cells"
        try:
            copies = json.loads(gzip.decompress(read_whole(self.folder / COPIES)))
            return {
                (name, mark): (content, _as_record(cells, name, content))
                for name, mark, content in copies
            }
        except (OSError, EOFError, ValueError, TypeError, RecursionError, zlib.error, UserError):
            return {}  # none, or damaged: the records themselves are read

    def _write_copies(self, copies: Sequence[tuple[str, str, Any]]) -> None:
        content = gzip.compress(json.dumps(copies).encode(), compresslevel=1)
        with contextlib.suppress(UserError):  # a storage that can only be read will do
            write_whole(self.folder / COPIES, content)

    def signatures(self) -> list[str]:
        """Signatures of the finished cells."""
        return list(subfolders_with(self.folder / "cells", "record.json"))

    def cell_folder(self, signature: str) -> UPath:
        """The folder of a cell."""
        return self.folder / "cells" / signature

    def n_begun(self) -> int:
        """Number of cells that were begun.

        Raises:
            UserError: The storage can't be read.
        """
        return len(names_in(self.folder / "cells"))

    def has(self, signature: str) -> bool:
        """Whether a cell is finished, done or failed.

        Raises:
            UserError: The storage can't be read.
        """
        return exists(self.cell_folder(signature) / "record.json")

    def record(self, signature: str) -> Record | None:
        """Read one cell's record, if it is finished.

        Raises:
            UserError: See `records`.
        """
        path = self.cell_folder(signature) / "record.json"
        try:
            return _as_record(self.folder / "cells", signature, read_json(path))
        except FileNotFoundError:
            return None

    def checkpoint_path(self, signature: str) -> UPath:
        """The path at which a cell in progress keeps what it needs to resume."""
        return self.cell_folder(signature) / "checkpoint.safetensors"

    def write(self, record: Record, weights: Mapping[str, Tensor] | None = None) -> Record:
        """Keep a finished cell: its weights first, then the record that makes it count.

        Returns:
            The record as it was written, with the digest of the weights.

        Raises:
            UserError: The storage can't be written to.
        """
        if weights is not None:
            content = _as_file(weights)
            write_whole(self._weights_path(record.signature), content)
            record = replace(record, weights_digest=hashlib.sha256(content).hexdigest())
        return self._write_record(record)

    def _write_record(self, record: Record) -> Record:
        path = self.cell_folder(record.signature) / "record.json"
        write_sealed(path, {"format": FORMAT_VERSION, **asdict(record)})
        return record

    def _weights_path(self, signature: str) -> UPath:
        return self.cell_folder(signature) / _WEIGHTS

    def weights(self, record: Record) -> dict[str, Tensor]:
        """Load the state dictionary of a cell's best epoch.

        Raises:
            WeightsNotKeptError: The ledger no longer keeps them, and the file is gone.
            UserError: The file is missing, not what the record was written with, or not finite.
        """
        path = self._weights_path(record.signature)
        advice = f"Delete {path.parent} and run the sweep again to retrain this cell."
        try:
            content = read_whole(path)
        except FileNotFoundError:
            now = self.record(record.signature)  # a driver may have deleted them meanwhile
            if now is not None and not now.weights_kept:
                raise WeightsNotKeptError(
                    f"the encoder of cell {record.signature} was deleted, as no evaluation asked "
                    f"for it. `cell` {record.signature} makes it again."
                ) from None
            raise UserError(f"{path} is missing. {advice}") from None
        if hashlib.sha256(content).hexdigest() != record.weights_digest:
            raise UserError(f"{path} is damaged: its checksum does not match. {advice}")
        try:
            weights = safetensors.torch.load(content)
        except (safetensors.SafetensorError, KeyError, ValueError, RuntimeError) as error:
            raise UserError(f"{path} is damaged: {one_line(error)}. {advice}") from error
        for name, tensor in weights.items():
            if not tensor.isfinite().all():
                raise UserError(f"{path} has NaN or infinity in {name}. {advice}")
        return weights

    def cells_with_weights(self) -> set[str]:
        """Signatures of the cells whose weights are there, in a listing of the storage.

        Raises:
            UserError: The storage can't be read.
        """
        return set(subfolders_with(self.folder / "cells", _WEIGHTS))

    def delete_weights(self, signature: str) -> None:
        """Delete the weights of a finished cell; its record says so first.

        So whoever finds no weights can know why, also where this was killed in between.

        Raises:
            UserError: See `record`; or the storage can't be written to.
        """
        record = self.record(signature)
        if record is None or not record.done:
            return
        if record.weights_kept:
            self._write_record(replace(record, weights_kept=False))
        remove(self._weights_path(signature))

    def restore_weights(self, record: Record, weights: Mapping[str, Tensor] | None) -> Record:
        """Keep the weights of a cell again that was trained once more; then its record says so.

        Args:
            record: The record of the cell, as the ledger has it.
            weights: What the cell's training made now; None where it failed.

        Returns:
            The record as it was written: the same result, with weights.

        Raises:
            UserError: The weights are not the same to the bit, or the storage can't be written to.
        """
        content = b"" if weights is None else _as_file(weights)
        if hashlib.sha256(content).hexdigest() != record.weights_digest:
            host = record.worker.rpartition(":")[0]
            raise UserError(
                f"the encoder of cell {record.signature} was deleted, and training the cell again "
                f"did not make the same to the bit: it was trained on {record.device} of {host}. "
                f"Make it there, with `cell` {record.signature}; or delete "
                f"{self.cell_folder(record.signature)} and run the sweep again."
            )
        write_whole(self._weights_path(record.signature), content)
        return self._write_record(replace(record, weights_kept=True))

    def keep_reproduction(self, signature: str, found: Reproduction) -> None:
        """Keep how a cell differed when it was trained again, in place of an earlier time.

        Raises:
            UserError: The storage can't be written to.
        """
        write_sealed(self.folder / "reproductions" / f"{signature}.json", asdict(found))

    def reproductions(self) -> list[Reproduction]:
        """How cells differed that were trained again.

        Raises:
            UserError: A reproduction is damaged, or the storage can't be read.
        """
        folder = self.folder / "reproductions"
        paths = [folder / name for name in names_in(folder) if name.endswith(".json")]
        return [_as_reproduction(*each) for each in zip(paths, read_many(paths), strict=True)]

    def exists(self) -> bool:
        """Whether a sweep was ever started here.

        Raises:
            UserError: The storage can't be read.
        """
        return exists(self._description_path)

    def describe(self, description: Description) -> None:
        """Keep what the sweep compares, and how far it has come.

        Raises:
            UserError: The storage can't be written to.
        """
        write_description(self._description_path, description)

    def description(self) -> Description:
        """Read what the sweep compares, and how far it has come, from its file.

        Raises:
            UserError: There is no description, or it is damaged, of another format or version of
                the code, or contradicts itself.
        """
        return read_description(self._description_path)

    @property
    def _description_path(self) -> UPath:
        return self.folder / "sweep.json"


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """The digest that a record has of these weights."""
    return hashlib.sha256(_as_file(weights)).hexdigest()


def _as_file(weights: Mapping[str, Tensor]) -> bytes:
    return safetensors.torch.save(dict(weights))


def _as_record(cells: UPath, signature: str, content: Any) -> Record:
    path = cells / signature / "record.json"
    check_format(path, content, FORMAT_VERSION)
    try:
        record = from_plain(Record, unsealed(content, without="format"))
        if record.signature != signature:
            raise ValueError(f"it is the record of {printable(record.signature)}")
        record.check()
    except ValueError as error:
        raise UserError(
            f"{path} is not a record of its cell ({one_line(error)}). Delete {path.parent} and "
            "run the sweep again to retrain it."
        ) from error
    return record


def _as_reproduction(path: UPath, content: bytes) -> Reproduction:
    try:
        return from_plain(Reproduction, unsealed(parse_json(path, content)))
    except ValueError as error:
        raise UserError(
            f"{path} is not a reproduction ({one_line(error)}). Delete it, and reproduce the cell "
            "again with `cell`."
        ) from error
