"""A table as a file or a notebook has it: columns of cells, before anything is understood."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ssense.errors import UserError, printable
from ssense.files.tables import listing

RowKind = Literal["", "words", "sentences"]
Unit = Literal["seconds", "milliseconds", "samples"]

NOT_AVAILABLE = frozenset({"", "n/a"})
"""What stands for an absent text, in lower case; None and NaN of arrays are read as "" too."""
_NUMBER = re.compile(r"[+-]?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,2})?")
_SEVERAL = (list, tuple, set, dict)
_FRACTION = re.compile(r"[.eE]")


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of cells, and what the format alone says of them.

    Attributes:
        where: Name of the file or the table, with which messages begin.
        columns: Cells of each column by its name; texts, numbers, or "" where there is none.
        numbers: Number of each row in messages [rows], such as its line in a file.
        place: What a row is called in messages.
        roles: Names of the columns whose meaning the format fixes, by role ("onset", "text").
        unit: Unit of times that the format prescribes; empty where it prescribes none.
        rows_are: What the format says that rows are; empty where it does not.
        tiers: Whether the reader has chosen among tiers already.
        pauses: Texts that stand for silence in this format, in lower case.
        unread: What columns hold that are left out as no text or number, by their names.
        understood: How the format was read, a sentence each.
        doubts: What looks wrong in how it was read, a sentence each.
    """

    where: str
    columns: dict[str, list[Any]]
    numbers: Sequence[int]
    place: str = "row"
    roles: Mapping[str, str] = field(default_factory=dict)
    unit: Unit | Literal[""] = ""
    rows_are: RowKind = ""
    tiers: bool = False
    pauses: frozenset[str] = frozenset()
    unread: Mapping[str, str] = field(default_factory=dict)
    understood: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.numbers)

    def at(self, row: int) -> str:
        """Where a row is, for the beginning of a message: "words.csv: row 12"."""
        return f"{self.where}: {self.place} {self.numbers[row]}"

    def of(self, rows: Sequence[int]) -> Table:
        """The table of some of the rows."""
        columns = {name: [cells[row] for row in rows] for name, cells in self.columns.items()}
        return replace(self, columns=columns, numbers=[self.numbers[row] for row in rows])


def table_of(table: Any, where: str) -> Table:
    """Take a pandas DataFrame, or a mapping of names to columns; rows are counted from 0.

    Args:
        table: The DataFrame or the mapping. None, NaN and pandas' NA and NaT are absent cells,
            and bytes are texts in UTF-8.
        where: What messages call the table.

    Raises:
        UserError: It is neither, two columns have one name, columns differ in length, or bytes are
            no UTF-8.
    """
    if not (hasattr(table, "columns") or isinstance(table, Mapping)):
        raise UserError(
            f"{where} must be a table, a pandas DataFrame or columns by name, got "
            f"{type(table).__name__}. Give it a row for each sentence or word."
        )
    named = {
        name: name.decode(errors="replace") if isinstance(name, bytes) else str(name)
        for name in (table.columns if hasattr(table, "columns") else table)
    }
    refuse_repeated(list(named.values()), where)
    columns = {called: _cells(table[name], called, where) for name, called in named.items()}
    lengths = {name: len(cells) for name, cells in columns.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{printable(name)} {n}" for name, n in list(lengths.items())[:12])
        raise UserError(
            f"{where}: its columns differ in length ({said}). Give each a value for every row."
        )
    return Table(where, columns, range(next(iter(lengths.values()), 0)))


def not_plain(cells: Sequence[Any]) -> str:
    """What a column holds in place of texts and numbers; empty where it holds these."""
    several = any(isinstance(cell, _SEVERAL) or getattr(cell, "ndim", 0) for cell in cells)
    return "lists" if several else ""


def refuse_repeated(names: Sequence[str], where: str) -> None:
    """Refuse a table in which two columns have one name."""
    if len(set(names)) == len(names):
        return
    repeated = next(name for place, name in enumerate(names) if name in names[:place])
    raise UserError(
        f"{where} has several columns {printable(repeated)}. Rename all but one of them."
    )


def refuse_absent(name: str, role: str, table: Table) -> None:
    """Refuse a column that a field names and the table lacks, or which holds no texts."""
    if held := table.unread.get(name) or not_plain(table.columns.get(name, ())):
        raise UserError(
            f"{table.where}: column {printable(name)}, which `{role}` names, holds {held}. Set "
            f"`{role}` to a column with a text or a number in each row, of "
            f"{listing([each for each in table.columns if each != name])}."
        )
    if name not in table.columns:
        raise UserError(
            f"{table.where} has no column {printable(name)}, which `{role}` names. Found: "
            f"{listing(list(table.columns))}. Set `{role}` to one of them."
        )


def numbers_or_texts(cells: Sequence[Any]) -> tuple[Any, ...]:
    """Cells of a column as numbers where all that are there are written as such, else as they are.

    A column with leading zeros, as codes have, stays as it is. An absent number is NaN.
    """
    if not all(isinstance(cell, str) for cell in cells):
        numeric = all(isinstance(cell, int | float) or cell == "" for cell in cells)
        return tuple(math.nan if numeric and cell == "" else cell for cell in cells)
    texts = [cell.strip() for cell in cells]
    known = [text for text in texts if text.lower() not in NOT_AVAILABLE]
    if not known or not all(map(_NUMBER.fullmatch, known)):
        return tuple(texts)
    if len(known) == len(texts) and not any(map(_FRACTION.search, known)):
        return tuple(map(int, texts))
    return tuple(math.nan if text.lower() in NOT_AVAILABLE else float(text) for text in texts)


def _cells(values: Any, name: str, where: str) -> list[Any]:
    if isinstance(values, str) or not hasattr(values, "__len__"):
        raise UserError(
            f"{where}: column {printable(name)} is {printable(repr(values))}, not a list of "
            "values. Give it a value for every row."
        )
    cells = values.tolist() if hasattr(values, "tolist") else list(values)
    return ["" if _is_absent(cell) else cell for cell in _decoded(cells, name, where)]


def _decoded(cells: list[Any], name: str, where: str) -> Iterator[Any]:
    """Cells of which bytes, as HDF5 and arrays of bytes have them, become texts."""
    for row, cell in enumerate(cells):
        try:
            yield cell.decode() if isinstance(cell, bytes) else cell
        except UnicodeDecodeError as error:
            raise UserError(
                f"{where}: row {row} of column {printable(name)} is {printable(repr(cell))}, bytes "
                "that are not UTF-8. Give texts: decode the column first."
            ) from error


def _is_absent(cell: object) -> bool:
    # NaN and NaT are the values that differ from themselves; pandas' NA refuses to be compared.
    kind = type(cell)
    if kind is str:
        return False
    return (
        cell is None or kind.__name__ in ("NAType", "NaTType") or (kind is float and cell != cell)
    )
