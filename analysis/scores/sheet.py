"""The cells of a file of scores, of whatever program saved it: separators, encodings, indices."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ssense.errors import UserError, one_line, printable

CONFIGURATION, SEED, PROTOCOL, MISSING_CELLS = "configuration", "seed", "protocol", "missing_cells"
SUBJECT, RECORDING = UNITS = ("subject", "recording")
KNOWN = (CONFIGURATION, SEED, *UNITS, PROTOCOL, MISSING_CELLS)
_ALSO = {"config": CONFIGURATION, "family": CONFIGURATION, "seeds": SEED}
INDEX = re.compile(r"(unnamed: ?\d+(_level_\d+)?|index|level_\d+)?")  # of pandas, and of R
"""What the numbers of rows are called, in a column of their own."""


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """The cells of a file.

    Attributes:
        path: Path of the file.
        separator: The character between cells.
        columns: Their names; those of known columns in lower case.
        rows: The line of each row, and its cells, one per column.
        notes: How the file was understood, a line each.
    """

    path: Path
    separator: str
    columns: Sequence[str]
    rows: Sequence[tuple[int, Sequence[str]]]
    notes: Sequence[str] = field(default_factory=list)

    def column(self, name: str) -> list[str]:
        """The cells of a column."""
        place = list(self.columns).index(name)
        return [cells[place] for _, cells in self.rows]

    def without(self, places: Sequence[int]) -> Sheet:
        """The same without the columns at some places."""
        kept = [place for place in range(len(self.columns)) if place not in places]
        return replace(
            self,
            columns=[self.columns[place] for place in kept],
            rows=[(line, [cells[place] for place in kept]) for line, cells in self.rows],
        )


def read_sheet(path: Path) -> Sheet:
    """Read the cells of a file.

    Raises:
        UserError: It can't be read, has no row, or a row has more cells than there are columns.
    """
    try:
        content = path.read_bytes()
        _check_workbook(path, content)
        text, notes = _decoded(content)
        lines = list(io.StringIO(text, newline=""))  # a form feed ends no line, nor does U+2028
        lines, separator = _table(lines, notes)
        rows = _rows(lines, separator)
    except OSError as error:
        raise UserError(
            f"{path} can't be read ({error.strerror}). Give the path of a table of scores."
        ) from error
    except (UnicodeError, csv.Error) as error:
        raise UserError(
            f"{path} can't be read as CSV ({one_line(error)}). Save it as CSV with UTF-8."
        ) from error
    if not rows:
        raise no_columns(path, [])
    (_, head), *body = rows
    names = [_column_name(name) for name in head]
    _check_synonyms(path, head, names)
    while names and not names[-1] and all(len(c) < len(names) or not c[-1] for _, c in body):
        names.pop()  # a separator at the end of every line
    body = [(line, _as_long(path, line, cells, names)) for line, cells in body]
    shown = {";": "semicolons", "\t": "tabs"}.get(separator)
    if shown:
        notes.append(f"Separated by {shown}.")
    return Sheet(path=path, separator=separator, columns=names, rows=body, notes=notes)


def _check_workbook(path: Path, content: bytes) -> None:
    if content.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise UserError(f"{path} is a workbook, as of Excel, or an archive. Save the table as CSV.")


def _decoded(content: bytes) -> tuple[str, list[str]]:
    """The text of a file, and how it was understood where that may be wrong.

    Raises:
        UnicodeError: It is none.
    """
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16"), []
    try:
        return content.decode("utf-8-sig"), []
    except UnicodeError:
        if b"\0" in content:
            raise
        return content.decode("cp1252"), ["Read as Windows-1252, because it is not UTF-8."]


def _table(lines: Sequence[str], notes: list[str]) -> tuple[list[str], str]:
    """The lines with those above the header left blank, and what separates cells.

    Above the header, lines that begin with "#" are comments; below it they are rows, for a
    configuration may be called "#3". NumPy writes the header itself as a comment.

    Args:
        lines: Lines of the file, with their ends.
        notes: How the file was understood; what was skipped is added.
    """
    lines, separator = list(lines), ""
    top = _top(lines)
    if re.fullmatch(r"sep=.", lines[top].strip() if lines[top:] else "", re.IGNORECASE):  # Excel's
        separator, lines[top] = lines[top].strip()[-1], "\n"
        top = _top(lines)
    comments = [place for place in range(top) if lines[place].startswith("#")]
    header = _commented_header([lines[place].lstrip("#") for place in comments], lines[top:])
    if header:
        top = comments.pop()
        lines[top] = header
        notes.append(f"Line {top + 1} is a comment, and taken for the header.")
    for place in comments:
        lines[place] = "\n"
    if comments:
        n = "1 line" if len(comments) == 1 else f"{len(comments)} lines"
        notes.append(f"Comments above the header: {n} skipped.")
    return lines, separator or _separator("".join(lines[top : top + 1]))


def _top(lines: Sequence[str]) -> int:
    """The place of the first line that is neither blank nor a comment."""
    filled = (p for p, line in enumerate(lines) if line.strip() and not line.startswith("#"))
    return next(filled, len(lines))


def _commented_header(comments: Sequence[str], lines: Sequence[str]) -> str:
    """The last comment, if it names the columns of the lines below it, and they do not."""
    if not comments or not lines:
        return ""
    header, first = (_cells(line) for line in (comments[-1], lines[0]))
    is_header = _names_columns(header) and not _names_columns(first) and len(header) == len(first)
    return comments[-1] if is_header else ""


def _names_columns(cells: Sequence[str]) -> bool:
    return not {CONFIGURATION, SEED}.isdisjoint(map(_column_name, cells))


def _cells(line: str) -> list[str]:
    return next(csv.reader([line], delimiter=_separator(line)), [])


def _separator(head: str) -> str:
    """What separates the cells of a table: its header tells."""
    unquoted = re.sub(r'"[^"]*"', "", head)
    return max(",;\t", key=lambda separator: (unquoted.count(separator), separator == ","))


def _rows(lines: Sequence[str], separator: str) -> list[tuple[int, list[str]]]:
    """The rows that hold anything, and the line that each begins in: quoted cells may have several.

    Raises:
        csv.Error: It is no CSV, as where quotes are not closed.
    """
    reader, rows, first = csv.reader(lines, delimiter=separator, strict=True), [], 1
    for cells in reader:
        if any(cell.strip() for cell in cells):
            rows.append((first, cells))
        first = reader.line_num + 1
    return rows


def _check_synonyms(path: Path, head: Sequence[str], names: Sequence[str]) -> None:
    """Refuse columns of two names that mean the same, as family and configuration."""
    for known in (CONFIGURATION, SEED):
        those = dict.fromkeys(
            title.strip() for title, name in zip(head, names, strict=True) if name == known
        )
        if len({title.casefold() for title in those}) > 1:
            raise UserError(
                f"{path} has the columns {listed([*those])}, of which one alone can be the {known}."
                " Keep one of them; of an evaluation, give scores.csv, which has every seed."
            )


def _column_name(name: str) -> str:
    name = name.strip()
    known = _ALSO.get(name.casefold(), name.casefold())
    return known if known in KNOWN or INDEX.fullmatch(known) else name


def _as_long(path: Path, line: int, cells: Sequence[str], names: Sequence[str]) -> list[str]:
    extra = cells[len(names) :]
    if any(cell.strip() for cell in extra):  # as of 0,1 for 0.1
        raise UserError(
            f"{path}, line {line}: more values than columns. Write decimals with a point, or "
            "separate columns with semicolons."
        )
    return [*cells[: len(names)], *[""] * (len(names) - len(cells))]


def without_index(sheet: Sheet, notes: list[str]) -> Sheet:
    """Leave out the numbers of the rows, which pandas and R write in front, and empty columns."""
    dropped = []
    for place, name in enumerate(sheet.columns):
        if not INDEX.fullmatch(name):
            continue
        column = [cells[place].strip() for _, cells in sheet.rows]
        numbers = [_plain(text) for text in column if _plain(text).isdecimal()]
        shown = f"Column {place + 1}{f' ({name})' if name else ''}"
        if len(numbers) == len(column) and len({*numbers}) == len(numbers):
            dropped.append(place)
            notes.append(f"{shown} numbers the rows.")
        elif not any(column):
            dropped.append(place)
            notes.append(f"{shown} is empty.")
    return sheet.without(dropped)


def _plain(text: str) -> str:
    """A whole number without ".0"."""
    return re.sub(r"[.,]0+$", "", text)


def listed(names: Sequence[str]) -> str:
    """Join names for a message, which they are not to fill."""
    return printable(", ".join(names), 100)


def no_columns(path: Path, names: Sequence[str], advice: str = "") -> UserError:
    """The refusal of a table whose columns say nothing.

    Args:
        path: Path of the table.
        names: Names of its columns.
        advice: What to do; to rename columns where nothing better is known.
    """
    shown = [name or f"column {n}, without a name" for n, name in enumerate(names, start=1)]
    if len(names) == 1:
        advice = advice or "Separate columns by commas, semicolons or tabs."
    return UserError(
        f"{path} must have the columns configuration, seed and a score, or a column for each seed "
        f"or configuration, got {listed(shown) or 'nothing'}. "
        f"{advice or 'Rename them, as: configuration,seed,recall@10'}"
    )
