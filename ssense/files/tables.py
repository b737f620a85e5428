"""Small CSV and JSON files: tables to write, and what is wrong with one read, in one line."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv

from ssense.errors import UserError, one_line, printable

WHOLE_NUMBERS = 2.0**53  # below it a float64, as columns are read, holds every whole number

_OTHER_SEPARATORS = {b"\t": "tabs", b";": "semicolons", b"|": "vertical bars"}
_LONGEST_HEADER = 2**16  # bytes; a damaged file may have no second line
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def csv_table(rows: Sequence[Mapping[str, object]], delimiter: str = ",") -> str:
    """Write rows as CSV: a column for each key of any row, empty where a row lacks it.

    Args:
        rows: Values by column.
        delimiter: Character between two columns.
    """
    # Not DataFrame.to_csv: a NaN would look as if the row lacked it.
    columns = dict.fromkeys(name for row in rows for name in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def csv_columns(path: Path) -> list[str]:
    """Names in the header line of a CSV file, in file order.

    Raises:
        UserError: The file is missing, empty, not UTF-8 or not a CSV table.
    """
    _require_utf8_file(path)
    _refuse_other_separator(path)
    try:
        with pyarrow.csv.open_csv(path, parse_options=_parse_options()) as reader:
            names: list[str] = reader.schema.names
            return names
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _malformed_csv(path, error) from error


def read_csv(path: Path, columns: dict[str, pa.DataType]) -> pa.Table:
    """Read the named columns of a CSV file with the given types; numbers left blank are null.

    Raises:
        UserError: See `csv_columns`; also if a column is missing or holds values of another type.
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
    """Refuse a CSV file in which a wanted column is missing or repeated.

    Raises:
        UserError: A column is missing or repeated; the message names it, and the columns found.
    """
    found = csv_columns(path)
    repeated = [name for name in wanted if found.count(name) > 1]
    if repeated:
        raise UserError(
            f"{path} has the column {repeated[0]} {found.count(repeated[0])} times. "
            "Restore the file from the download."
        )
    missing = [name for name in wanted if name not in found]
    if missing:
        raise UserError(
            f"{path} has no column {', '.join(missing)}. Found: {listing(found)}. "
            "Restore the file from the download."
        )


def read_json_as(path: Path, kind: type[list[Any]] | type[dict[str, Any]]) -> Any:
    """Parse a JSON file whose top level must be a list or an object.

    Raises:
        UserError: The file is missing, not UTF-8, not JSON or of the other kind.
    """
    require_file(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise _not_utf8(path, error.start) from error
    except (ValueError, RecursionError) as error:  # also a whole number of over 4,300 digits
        raise UserError(
            f"{path} is not valid JSON: {one_line(error)}. Restore the file from the download."
        ) from error
    except OSError as error:
        raise _cannot_read(path, error) from error
    if not isinstance(value, kind):
        raise UserError(
            f"{path} must hold a JSON {'list' if kind is list else 'object'}, "
            f"got {type(value).__name__}. Restore the file from the download."
        )
    return value


def require_file(path: Path, advice: str = "") -> None:
    """Refuse a path that is not a file.

    Args:
        path: The path.
        advice: What the user can do; by default to download what is missing of a recording.

    Raises:
        UserError: The path is not a file; the message names it and, where the folder exists, what
            it holds.
    """
    try:
        if path.is_file():
            return
        entries = list(path.parent.iterdir()) if path.parent.is_dir() else None
    except OSError as error:
        raise _cannot_read(path, error) from error
    if entries is None:
        advice = advice or "Download the missing part of the recording and unpack it there."
        raise UserError(f"{path} is missing, its folder too. {advice}")
    raise UserError(
        f"{path} is missing. Its folder holds: {listing(sorted(entry.name for entry in entries))}. "
        f"{advice or 'Download the missing file and unpack it there.'}"
    )


def listing(names: Sequence[str], most: int = 12) -> str:
    """Names separated by commas, each printable, shortened in the middle when there are many."""
    if not names:
        return "nothing"
    if len(names) > most:
        names = [*names[: most - 2], "…", names[-1]]
    return ", ".join(printable(name) for name in names)


def _parse_options() -> pyarrow.csv.ParseOptions:
    return pyarrow.csv.ParseOptions(newlines_in_values=True)


def _require_utf8_file(path: Path) -> None:
    require_file(path)
    try:
        with path.open("rb") as file:
            start = file.read(2)
    except OSError as error:
        raise _cannot_read(path, error) from error
    if start in _UTF16_MARKS:
        raise _not_utf8(path, 0)


def _refuse_other_separator(path: Path) -> None:
    """Refuse a table whose header line has another separator than commas."""
    with path.open("rb") as file:
        header = file.readline(_LONGEST_HEADER)
    for separator, name in _OTHER_SEPARATORS.items():
        if separator in header and b"," not in header:
            raise UserError(
                f"{path}: its columns are separated by {name}. Save it again with commas, and with "
                "points in decimals."
            )


def _cannot_read(path: Path, error: OSError) -> UserError:
    return UserError(f"cannot read {path}: {one_line(error)}. Check its permissions.")


def _not_utf8(path: Path, position: int) -> UserError:
    return UserError(f"{path} is not UTF-8 text (byte {position}). Save it again as UTF-8.")


def _malformed_csv(path: Path, error: BaseException) -> UserError:
    if isinstance(error, UnicodeDecodeError) or "utf8" in str(error).lower():
        return UserError(f"{path} is not UTF-8 text: {one_line(error)}. Save it again as UTF-8.")
    return UserError(
        f"{path} is not the table expected: {one_line(error)}. Restore the file from the download."
    )
