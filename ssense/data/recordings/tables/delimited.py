"""Tables as text: CSV and TSV, events of BIDS, what ELAN, Praat and Audacity export."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from ssense.data.recordings.tables.table import Table, refuse_repeated
from ssense.data.recordings.tables.times import is_time, looks_like_times, read_times
from ssense.errors import UserError, one_line, printable

_DELIMITERS = {"\t": "tabs", ";": "semicolons", ",": "commas"}
_TRIED_ROWS = 100  # to tell the delimiter by
_SEPARATOR_LINE = re.compile(r'\A"?sep=(.)"?[,;\t]*(?=[\r\n])', re.I)  # which is for Excel
_NO_ADVICE = "Separate the columns by tabs, commas or semicolons"


@dataclass(frozen=True, eq=False)
class _Rows:
    """Cells by row, the line that each row begins in, and the first row of another length."""

    cells: list[tuple[str, ...]]
    lines: list[int]
    odd: int | None


def delimited_table(text: str, where: str) -> Table:
    """Read a delimited text; whether it has a header, quotes, and which delimiter, is found.

    Columns without a name are called "column 1" and so on. Where the first row holds times there is
    no header, and what columns mean is told by their cells, see `_roles_by_cells`.

    Args:
        text: The text of the file.
        where: Its name in messages.

    Raises:
        UserError: There is one column only, rows differ in length, a quotation mark is not closed,
            or two columns have one name.
    """
    said = _SEPARATOR_LINE.match(text)
    text = text[said.end() :] if said else text  # the line stays, and is blank
    delimiter = said[1] if said and said[1] in _DELIMITERS else _delimiter(text, where)
    rows = _parsed(text, delimiter, where)
    if rows.odd is not None:
        raise _odd_length(rows, delimiter, where)
    first = [cell.strip() for cell in rows.cells[0]]
    headed = not any(map(is_time, first)) or all(cell == "" or is_time(cell) for cell in first)
    given = first if headed else [""] * len(first)
    names = [name or f"column {place}" for place, name in enumerate(given, 1)]
    refuse_repeated(names, where)
    cells, lines = rows.cells[int(headed) :], rows.lines[int(headed) :]
    by_column = [list(column) for column in zip(*cells, strict=True)] or [[] for _ in names]
    columns = dict(zip(names, by_column, strict=True))
    table = Table(where, columns, lines)
    kind = f"Columns are separated by {_DELIMITERS[delimiter]}"
    if headed:
        return Table(where, columns, lines, understood=(f"{kind}.",))
    understood = (f"{kind} and have no header: they are told apart by what they hold.",)
    return Table(where, columns, lines, roles=_roles_by_cells(table), understood=understood)


def _delimiter(text: str, where: str) -> str:
    sample = "".join(islice(io.StringIO(text, newline=""), _TRIED_ROWS))
    tried = {delimiter: _parsed(sample, delimiter, where) for delimiter in _DELIMITERS}
    for delimiter, rows in tried.items():
        if rows.odd is None and len(rows.cells[0]) > 1:
            return delimiter
    widest = max(tried, key=lambda delimiter: len(tried[delimiter].cells[0]))
    if len(tried[widest].cells[0]) < 2:
        first = printable(tried[widest].cells[0][0])
        raise UserError(f'{where} is no table with columns; it begins "{first}". {_NO_ADVICE}.')
    return widest


def _parsed(text: str, delimiter: str, where: str) -> _Rows:
    """Read rows with quotation marks as CSV has them, or as letters where that makes no table."""
    if '"' not in text:
        return _read(text, delimiter, where, quoted=False)
    quoted = _read(text, delimiter, where, quoted=True)
    if quoted.odd is None and not _has_long_cells(quoted):
        return quoted
    plain = _read(text, delimiter, where, quoted=False)
    if plain.odd is None:
        cells = [tuple(map(_unquoted, row)) for row in plain.cells]
        return _Rows(cells, plain.lines, None)
    return quoted if quoted.odd is None and not _swallowed(quoted, delimiter) else plain


def _read(text: str, delimiter: str, where: str, quoted: bool) -> _Rows:
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        strict=quoted,
    )
    cells: list[tuple[str, ...]] = []
    lines: list[int] = []
    line = 1
    try:
        for row in reader:
            if "".join(row).strip():
                cells.append(tuple(row))  # which the garbage collector need not visit again
                lines.append(line)
            line = reader.line_num + 1
    except csv.Error as error:
        if quoted:
            return _Rows(cells or [("",)], lines or [1], max(len(cells) - 1, 0))
        raise UserError(
            f"{where}: row {line} can't be read ({one_line(error)}). Check it."
        ) from error
    if not cells:
        return _Rows([("",)], [1], None)
    first = _first_row(cells)
    return _of_one_length(cells[first:], lines[first:])


def _first_row(cells: list[tuple[str, ...]]) -> int:
    """The first row behind lines that say where a file came from, as ELAN writes them."""
    row = 0
    while row + 1 < len(cells) and cells[row][0].lstrip('"').startswith("#"):
        if len(cells[row]) >= len(cells[row + 1]):
            break
        row += 1
    return row


def _of_one_length(cells: list[tuple[str, ...]], lines: list[int]) -> _Rows:
    """Cut empty cells behind the last column; a row that still has another length is odd."""
    width = len(cells[0])
    odd = None
    for place, row in enumerate(cells):
        if len(row) > width and not any(cell.strip() for cell in row[width:]):
            cells[place] = row[:width]
        if len(cells[place]) != width:
            odd = place
            break
    return _Rows(cells, lines, odd)


def _has_long_cells(rows: _Rows) -> bool:
    return any("\n" in cell or "\r" in cell for row in rows.cells for cell in row)


def _swallowed(rows: _Rows, delimiter: str) -> bool:
    """Whether a cell of several lines holds what looks like rows of the table."""
    width = len(rows.cells[0])
    inner = (
        line
        for row in rows.cells
        for cell in row
        if "\n" in cell or "\r" in cell
        for line in cell.splitlines()[1:]
    )
    return any(line.count(delimiter) >= width - 1 for line in inner)


def _unquoted(cell: str) -> str:
    inner = cell[1:-1]
    whole = len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if whole else cell


def _odd_length(rows: _Rows, delimiter: str, where: str) -> UserError:
    assert rows.odd is not None
    found, width = len(rows.cells[rows.odd]), len(rows.cells[0])
    advice = "Give every row as many cells as the first, n/a where there is nothing"
    if delimiter == ",":
        advice += "; where decimals or texts have commas, save it with tabs or semicolons"
    if '"' in "".join(rows.cells[rows.odd]):
        advice += "; check that every quotation mark is closed"
    return UserError(
        f"{where}: row {rows.lines[rows.odd]} has {found} cells, the first row {width} (separated "
        f"by {_DELIMITERS[delimiter]}). {advice}."
    )


def _roles_by_cells(table: Table) -> dict[str, str]:
    """What columns without names mean, by their cells; nothing where that can't be told.

    Times are onset and end or duration, each perhaps written in several ways, as ELAN does. One
    text behind them, or before them if none is behind, is what was said; ELAN's first is the tier.
    """
    names = list(table.columns)
    timed = [name for name in names if looks_like_times(table.columns[name])]
    by_role = _times_by_role(table, timed)
    if by_role is None:
        return {}
    texts = [name for name in names if name not in timed and any(table.columns[name])]
    begin = names.index(timed[0])
    before = [name for name in texts if names.index(name) < begin]
    behind = [name for name in texts if names.index(name) > begin]
    if len(behind) == 1:
        tier = {"tier": before[0]} if before else {}
        return {**by_role, "text": behind[0], **tier}
    return {**by_role, "text": before[0]} if len(before) == 1 and not behind else {}


def _times_by_role(table: Table, names: Sequence[str]) -> dict[str, str] | None:
    values: dict[str, np.ndarray] = {}
    for name, times in read_times(table, names).items():
        scales = (1.0, 1000.0) if not times.clock else (1.0,)
        known = [
            np.allclose(times.values, v * s, atol=0.01, equal_nan=True)
            for v in values.values()
            for s in scales
        ]
        if not any(known):
            values[name] = times.values
    if len(values) == 3:
        (onset, x), (offset, y), (duration, z) = values.items()
        if np.allclose(y - x, z, atol=0.01, equal_nan=True):
            return {"onset": onset, "offset": offset, "duration": duration}
    if len(values) != 2:
        return None
    (onset, x), (other, y) = values.items()
    if np.any(y < x):
        return {"onset": onset, "duration": other}
    # Ends that were taken for durations would make most rows reach into the next; and rows that
    # all last longer than all that was before them cannot be many.
    overlapping = np.mean(x[:-1] + y[:-1] > x[1:]) if len(x) > 1 else 0.0
    return {"onset": onset, "offset": other} if overlapping > 0.5 or len(x) > 2 else None
