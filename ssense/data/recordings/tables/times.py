"""Times as cells have them: numbers, numbers with decimal commas, clock times, time spans."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ssense.data.recordings.tables.table import Table
from ssense.errors import UserError, printable

NO_TIME = frozenset({"", "n/a", "na", "nan", "none", "null", "undefined"})
"""What stands for an absent time, in lower case; around the last Praat writes dashes."""
_FARTHEST = 1e12  # in any unit; beyond it sums lose what a sample is
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_WITH_COMMA = re.compile(r"[+-]?[0-9]*,[0-9]+")
_AS_IF_THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2},[0-9]{3}")
_CLOCK = re.compile(r"(?:([0-9]+):)?([0-9]+):([0-9]{1,2}(?:[.,][0-9]+)?)")
_PLAIN = re.compile(r"[0-9.eE+\-\n]*")  # then all that `float` takes is a number as people write it
_EXAMPLE = "Write times as 12.345 or as 00:00:12.345, and n/a where one is not known"


@dataclass(frozen=True, eq=False)
class Times:
    """The times of a column.

    Attributes:
        values: The times as numbers, float64 [rows]; NaN where a cell has none.
        clock: Whether the values are seconds, read from clock times or time spans.
        commas: Whether decimals are written with commas.
    """

    values: np.ndarray
    clock: bool = False
    commas: bool = False


def read_times(table: Table, names: Sequence[str]) -> dict[str, Times]:
    """Read the times of columns; commas are understood over all of them at once.

    Args:
        table: The table.
        names: Names of the columns.

    Raises:
        UserError: A cell is no time, is not finite, is written in another way than its column, or
            has a comma that may separate thousands.
    """
    cells = {name: [_text(cell) for cell in table.columns[name]] for name in names}
    commas = _decimal_commas(table, cells)
    return {name: _times(table, name, texts, commas) for name, texts in cells.items()}


def looks_like_times(cells: Iterable[Any]) -> bool:
    """Whether all cells that hold something are numbers or clock times, and there is one."""
    found = False
    for text in map(_text, cells):
        if not _is_absent(text):
            if not is_time(text):
                return False
            found = True
    return found


def is_time(text: str) -> bool:
    """Whether a text is a number or a clock time."""
    return any(form.fullmatch(text) for form in (_NUMBER, _WITH_COMMA, _CLOCK))


def _is_absent(text: str) -> bool:
    return text.lower().strip("-") in NO_TIME


def _text(cell: object) -> str:
    if isinstance(cell, str):
        return cell.strip()
    if isinstance(cell, bool):
        return str(cell)
    if isinstance(cell, int):
        return str(cell) if abs(cell) < _FARTHEST else f"{float(min(abs(cell), 10**300)):g}"
    if hasattr(cell, "total_seconds") and cell.total_seconds() >= 0:
        minutes, seconds = divmod(cell.total_seconds(), 60)
        return f"{int(minutes)}:{seconds:.9f}"
    return str(cell)


def _decimal_commas(table: Table, cells: dict[str, list[str]]) -> bool:
    """Whether commas in numbers are decimal ones: all numbers must agree, and one must prove it."""
    if not any("," in "".join(texts) for texts in cells.values()):
        return False
    numbers = [
        (name, row, text)
        for name, texts in cells.items()
        for row, text in enumerate(texts)
        if ":" not in text and not _is_absent(text)
    ]
    with_comma = [each for each in numbers if "," in each[2]]
    if not with_comma:
        return False
    for name, row, text in numbers:
        if "." in text or ("," in text and not _WITH_COMMA.fullmatch(text)):
            raise _refusal(
                table, name, row, text, "Write decimals with points, and no thousands separators"
            )
    if all(_AS_IF_THOUSANDS.fullmatch(text) for _, _, text in with_comma):
        name, row, text = with_comma[0]
        raise _refusal(
            table,
            name,
            row,
            text,
            "Its comma may separate decimals or thousands: write decimals with points",
        )
    return True


def _times(table: Table, name: str, texts: list[str], commas: bool) -> Times:
    joined = "\n".join(texts)
    if _PLAIN.fullmatch(joined) and "\n\n" not in f"\n{joined}\n":
        try:
            return Times(_checked(table, name, texts, np.array([float(text) for text in texts])))
        except ValueError:
            pass  # the cell is found below
    clock = _is_clock(texts)
    read = _seconds if clock else _number
    values = np.full(len(texts), np.nan)
    for row, text in enumerate(texts):
        if _is_absent(text):
            continue
        value = read(text.replace(",", ".") if commas or clock else text)
        if value is None:
            raise _refusal(table, name, row, text, _EXAMPLE)
        values[row] = value
    return Times(_checked(table, name, texts, values), clock, commas)


def _is_clock(texts: list[str]) -> bool:
    first = next((text for text in texts if not _is_absent(text)), "")
    return ":" in first


def _number(text: str) -> float | None:
    return float(text) if _NUMBER.fullmatch(text) else None


def _seconds(text: str) -> float | None:
    found = _CLOCK.fullmatch(text)
    if found is None:
        return None
    hours, minutes, seconds = found.groups()
    if float(seconds) >= 60 or (hours and float(minutes) >= 60):
        return None
    return 3600.0 * float(hours or 0) + 60.0 * float(minutes) + float(seconds)


def _checked(table: Table, name: str, texts: list[str], values: np.ndarray) -> np.ndarray:
    far = np.flatnonzero(np.abs(values) > _FARTHEST)
    if len(far):
        raise _refusal(table, name, int(far[0]), texts[far[0]], _EXAMPLE)
    return values


def _refusal(table: Table, name: str, row: int, text: str, advice: str) -> UserError:
    return UserError(
        f'{table.at(row)}: "{printable(text)}" in column {printable(name)} is not a time. {advice}.'
    )
