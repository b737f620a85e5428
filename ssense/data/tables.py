"""Reading small CSV and JSON files: what is wrong with one becomes a one-line `UserError`."""

from __future__ import annotations

import codecs
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv

from ssense.errors import UserError

_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def csv_columns(path: Path) -> list[str]:
    """Names in the header line of a CSV file, in file order.

    Raises:
        UserError: the file is missing, empty, not UTF-8 or not a CSV table.
    """
    _require_utf8_file(path)
    try:
        with pyarrow.csv.open_csv(path, parse_options=_parse_options()) as reader:
            return reader.schema.names
    except (pa.ArrowException, OSError) as error:
        raise _malformed_csv(path, error) from error


def read_csv(path: Path, columns: dict[str, pa.DataType]) -> pa.Table:
    """Read the named columns of a CSV file with the given types; numbers left blank are null.

    Raises:
        UserError: as `csv_columns`, or a column is missing or holds values of another type.
    """
    require_columns(path, list(columns))
    options = pyarrow.csv.ConvertOptions(
        include_columns=list(columns), column_types=columns, strings_can_be_null=False
    )
    try:
        return pyarrow.csv.read_csv(path, convert_options=options, parse_options=_parse_options())
    except (pa.ArrowException, OSError) as error:
        raise _malformed_csv(path, error) from error


def require_columns(path: Path, wanted: Sequence[str]) -> None:
    """Refuse a CSV file without all the wanted columns.

    Raises:
        UserError: naming the missing columns and the ones found.
    """
    found = csv_columns(path)
    missing = [name for name in wanted if name not in found]
    if missing:
        raise UserError(
            f"{path} has no column {', '.join(missing)}. Found: {listing(found)}. "
            "Restore the file from the download."
        )


def read_json(path: Path, kind: type[list] | type[dict]) -> Any:
    """Parse a JSON file whose top level must be a list or an object.

    Raises:
        UserError: the file is missing, not UTF-8, not JSON or of the other kind.
    """
    require_file(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise _not_utf8(path, error.start) from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(
            f"{path} is not valid JSON: {one_line(error)}. Restore the file from the download."
        ) from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {one_line(error)}. Check its permissions.") from error
    if not isinstance(value, kind):
        raise UserError(
            f"{path} must hold a JSON {'list' if kind is list else 'object'}, "
            f"got {type(value).__name__}. Restore the file from the download."
        )
    return value


def require_file(path: Path) -> None:
    """Refuse a path that is not a file.

    Raises:
        UserError: naming the path and, where the folder exists, what it holds.
    """
    if path.is_file():
        return
    if path.parent.is_dir():
        beside = listing(sorted(entry.name for entry in path.parent.iterdir()))
        raise UserError(
            f"{path} is missing. Its folder holds: {beside}. Download the missing file and "
            "unpack it there."
        )
    raise UserError(
        f"{path} is missing, its folder too. Download the missing part of the recording and "
        "unpack it there."
    )


def listing(names: Sequence[str], most: int = 12) -> str:
    """Names separated by commas, shortened in the middle when there are many."""
    if not names:
        return "nothing"
    if len(names) > most:
        names = [*names[: most - 2], "…", names[-1]]
    return ", ".join(names)


def one_line(error: BaseException) -> str:
    """The message of an exception without line breaks, control characters or a final full stop."""
    text = " ".join(str(error).split()).rstrip(".")
    return "".join(character if character.isprintable() else "?" for character in text)


def _parse_options() -> pyarrow.csv.ParseOptions:
    return pyarrow.csv.ParseOptions(newlines_in_values=True)


def _require_utf8_file(path: Path) -> None:
    require_file(path)
    try:
        with path.open("rb") as file:
            start = file.read(2)
    except OSError as error:
        raise UserError(f"cannot read {path}: {one_line(error)}. Check its permissions.") from error
    if start in _UTF16_MARKS:
        raise _not_utf8(path, 0)


def _not_utf8(path: Path, position: int) -> UserError:
    return UserError(f"{path} is not UTF-8 text (byte {position}). Save it again as UTF-8.")


def _malformed_csv(path: Path, error: BaseException) -> UserError:
    if "utf8" in str(error).lower():
        return UserError(f"{path} is not UTF-8 text: {one_line(error)}. Save it again as UTF-8.")
    return UserError(
        f"{path} is not the table expected: {one_line(error)}. Restore the file from the download."
    )
