"""Rows of a table that say something: their texts, speakers, and times in seconds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ssense.data.recordings.tables.column_names import (
    Columns,
    find_columns,
    names_sentences,
    names_words,
    refuse_several_recordings,
)
from ssense.data.recordings.tables.row_times import row_times
from ssense.data.recordings.tables.table import NOT_AVAILABLE, RowKind, Table
from ssense.data.recordings.tables.table_spec import TableSpec
from ssense.data.recordings.tables.tiers import chosen_tiers, rows_of_tier
from ssense.errors import UserError, counted, printable
from ssense.files.tables import listing

# Thai, Lao, Burmese, Khmer, kana, Chinese characters.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
_SINGLE = 0.9  # of the rows, at least, are a single word each in a table of words


@dataclass(frozen=True, eq=False)
class SpokenRows:
    """Rows with a text, in the order of the table.

    Attributes:
        table: The table of these rows.
        columns: Names of its columns by what they mean.
        text: What each row says, as the cell has it [rows].
        speaker: Who says it, empty where not known [rows].
        onset_s, offset_s: Seconds of the recording, float64 [rows]; NaN where a row has no time.
        rows_are: Whether rows are words or sentences.
        understood: How the table was read, a sentence each.
        doubts: What looks wrong, a sentence each.
    """

    table: Table
    columns: Columns
    text: list[str]
    speaker: list[str]
    onset_s: np.ndarray
    offset_s: np.ndarray
    rows_are: RowKind
    understood: tuple[str, ...]
    doubts: tuple[str, ...]

    def of(self, rows: np.ndarray) -> SpokenRows:
        """Some of the rows, in this order."""
        return replace(
            self,
            table=self.table.of(rows.tolist()),
            text=[self.text[row] for row in rows],
            speaker=[self.speaker[row] for row in rows],
            onset_s=self.onset_s[rows],
            offset_s=self.offset_s[rows],
        )


def spoken_rows(
    table: Table, spec: TableSpec, sampling_rate_hz: float | None, length_s: float | None
) -> SpokenRows:
    """Read what a table says and when.

    Args:
        table: The table.
        spec: How it is read; what makes sentences is not looked at.
        sampling_rate_hz: Sampling rate of the recording in Hz, if known.
        length_s: Length of the recording in seconds, if known.

    Raises:
        UserError: Columns, tier, or unit can't be told, a time is malformed, a row ends before it
            starts, rows are of several recordings, or none says anything.
    """
    if not len(table):
        names = listing(list(table.columns))
        raise UserError(
            f"{table.where} has no {table.place}s (columns: {names}): nothing was said. Check "
            "that it is the right file."
        )
    columns = find_columns(table, spec.named, spec.group)
    refuse_several_recordings(table, columns)
    table, of_tier, kind = _of_tier(table, columns, spec.tier)
    rows = _with_text(table, columns.text)
    doubts = _left_out(table, len(table) - len(rows))
    table, speaker = table.of(rows), [of_tier[row] for row in rows]
    text = [_text(cell) for cell in table.columns[columns.text]]
    if columns.speaker:
        speaker = [_speaker(cell) for cell in table.columns[columns.speaker]]
    times = row_times(table, columns, text, spec.time_unit, sampling_rate_hz, length_s)
    return SpokenRows(
        table,
        columns,
        text,
        speaker,
        times.onset_s,
        times.offset_s,
        kind or table.rows_are or _rows_are(columns.text, text),
        (*table.understood, _columns_understood(columns), *times.understood),
        (*table.doubts, *doubts, *times.doubts),
    )


def _with_text(table: Table, column: str) -> list[int]:
    """Rows whose cell of a column says something, of which there must be one."""
    absent = NOT_AVAILABLE | table.pauses
    cells = table.columns[column]
    rows = [row for row, cell in enumerate(cells) if _text(cell).strip().lower() not in absent]
    if not rows:
        raise UserError(
            f"{table.where}: none of {counted(len(cells), table.place)} has a text in column "
            f"{printable(column)}. Set `text` to the column that has."
        )
    return rows


def _left_out(table: Table, n: int) -> list[str]:
    """Doubts about rows that say nothing, unless the format has them for silence."""
    if not n or table.pauses:
        return []
    rows = counted(n, f"{table.place} has", f"{table.place}s have")
    return [f"{rows} no text and {'is' if n == 1 else 'are'} left out."]


def _of_tier(table: Table, columns: Columns, tier: str) -> tuple[Table, list[str], RowKind]:
    """The rows of the tiers chosen, the speaker of each by its tier, and what its name says."""
    if not columns.tier:
        if tier and not table.tiers:
            raise UserError(
                f"{table.where} has no tiers, and `tier` is {printable(tier)}. Found the columns: "
                f"{listing(list(table.columns))}. Remove `tier`."
            )
        return table, [""] * len(table), ""
    cells = [str(cell).strip() for cell in table.columns[columns.tier]]
    chosen = chosen_tiers(cells, tier, table.where)
    rows = [row for row, name in enumerate(cells) if name in chosen]
    said = f"Of the tiers ({printable(columns.tier)}), {listing(list(chosen))} was read."
    table = replace(table.of(rows), understood=(*table.understood, said))
    return table, [chosen[cells[row]] for row in rows], rows_of_tier(next(iter(chosen)))


def _text(cell: Any) -> str:
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell)) if abs(cell) < 1e15 else str(cell)
    return str(cell)


def _speaker(cell: Any) -> str:
    name = " ".join(_text(cell).split())
    return "" if name.lower() in NOT_AVAILABLE else name


def is_unspaced(text: str) -> bool:
    """Whether a text has letters of a script that is written without blanks between words."""
    return not text.isascii() and bool(_UNSPACED.search(text))


def _rows_are(column: str, text: Sequence[str]) -> RowKind:
    """Words if nearly all rows are single ones and the column is not called a sentence.

    Where no blanks part words, the name of the column alone can say so.
    """
    single = float(np.mean([len(each.split(maxsplit=1)) == 1 for each in text]))
    unspaced = sum(map(is_unspaced, text)) > len(text) / 2
    if names_sentences(column) or (unspaced and not names_words(column)):
        return "sentences"
    return "words" if single >= (0.5 if names_words(column) else _SINGLE) else "sentences"


def _columns_understood(columns: Columns) -> str:
    parts = [
        f"{printable(name)} is the {called}"
        for name, called in (
            (columns.onset, "onset"),
            (columns.offset, "end"),
            ("" if columns.offset else columns.duration, "duration"),
            (columns.text, "text"),
            (columns.speaker, "speaker"),
        )
        if name
    ]
    return f"Of the columns, {', '.join(parts)}."
