"""Words that become sentences: by a column, by punctuation, or by the gaps between them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from ssense.data.recordings.tables.column_names import group_column
from ssense.data.recordings.tables.spoken_rows import SpokenRows, is_unspaced
from ssense.data.recordings.tables.table import NOT_AVAILABLE, Table
from ssense.data.recordings.tables.table_spec import Grouping, TableSpec
from ssense.errors import UserError, counted, printable
from ssense.files.tables import listing

LONGEST_PAUSE_S = 20.0  # between words of one number; beyond it the numbers begin anew
_STEP_BACK_S = 1.0  # by which words may overlap before they count as out of order
_OVERLAP_S = 0.05  # by which a word may reach into the next; aligners round
_OPEN_ENDED = 0.2  # of the segments, at least, look like parts of sentences
_PUNCTUATED = 0.02  # of the words, at least, end a sentence where there is punctuation
_END = re.compile(r"[.!?…。！？]+[\"'”’»)\]]*$")
# What ends in a full stop and ends no sentence.
_ABBREVIATION = re.compile(r"(?:[A-HJ-Z]|Mr|Mrs|Ms|Dr|Prof|St|vs|Hr|Fr|Sra?|Mme)\.$")
_CLOSING = re.compile(r"[.,!?;:…%)\]。！？，、；：）」』]+")


@dataclass(frozen=True, eq=False)
class GroupedRows:
    """Rows with the sentence that each belongs to.

    Attributes:
        rows: The rows, those of a sentence side by side and in order.
        sentence: Number of each row's sentence, int64 [rows], at least 0.
        glued: Whether the texts bring the blanks between them, as those of Whisper do.
        understood: What makes a sentence, a sentence.
        doubts: What looks wrong, a sentence each.
    """

    rows: SpokenRows
    sentence: np.ndarray
    glued: bool
    understood: str
    doubts: tuple[str, ...] = ()


def grouped(rows: SpokenRows, spec: TableSpec) -> GroupedRows:
    """Group rows into sentences.

    Args:
        rows: Rows with texts.
        spec: What makes sentences of them.

    Raises:
        UserError: The column can't be told, its numbers recur, or words are not in order of time.
    """
    grouping, column = spec.grouping, _column(rows, spec.grouping, spec.group)
    if grouping == "auto":
        marks: Grouping = "punctuation" if is_punctuated(rows.text) else "gaps"
        grouping = "column" if column else marks if rows.rows_are == "words" else "none"
    if grouping == "none":
        return _as_they_are(rows)
    is_column = grouping == "column"
    found = _by_column(rows, column) if is_column else _by_time(rows, grouping, spec.gap_s)
    return replace(found, doubts=(*found.doubts, *_overlapping_words(found)))


def _as_they_are(rows: SpokenRows) -> GroupedRows:
    """Each row is a sentence; segments of Whisper often are parts of one, which is a doubt."""
    number = np.arange(len(rows.text))
    understood = f"Each {rows.table.place} is a sentence."
    ends = sum(map(ends_sentence, rows.text))
    open_ended = len(rows.text) - ends
    if rows.table.place != "segment" or not ends or open_ended < _OPEN_ENDED * len(rows.text):
        return GroupedRows(rows, number, False, understood)
    doubt = (
        f"{open_ended:,} of {len(rows.text):,} segments do not end as sentences do: set `grouping` "
        'to "punctuation" to make sentences of their words.'
    )
    return GroupedRows(rows, number, False, understood, (doubt,))


def _by_time(rows: SpokenRows, grouping: Grouping, gap_s: float) -> GroupedRows:
    rows = rows.of(in_order(rows))
    if grouping == "punctuation":
        number, by = by_punctuation(rows.text, rows.speaker), "punctuation"
    else:
        number = by_gaps(rows.onset_s, rows.offset_s, rows.speaker, gap_s)
        by = f"gaps over {gap_s:g} s"
    return GroupedRows(rows, number, bring_blanks(rows.text), _words_by(len(rows.text), by))


def _words_by(n: int, by: str) -> str:
    return f"{counted(n, 'word was', 'words were')} grouped by {by}."


def _overlapping_words(found: GroupedRows) -> list[str]:
    """Doubts about words of a sentence that begin long before the one before them has ended."""
    rows = found.rows
    same = found.sentence[1:] == found.sentence[:-1]
    overlaps = np.flatnonzero(same & (rows.onset_s[1:] < rows.offset_s[:-1] - _OVERLAP_S)) + 1
    if not len(overlaps):
        return []
    said = counted(
        len(overlaps), "word overlaps the one before it", "words overlap the ones before them"
    )
    return [f"{said} (first {rows.table.place} {rows.table.numbers[int(overlaps[0])]})."]


def _column(rows: SpokenRows, grouping: Grouping, group: str) -> str:
    """The column that words are grouped by; empty if they are grouped otherwise."""
    may_be = group or rows.rows_are == "words"
    if grouping not in ("column", "auto") or (grouping == "auto" and not may_be):
        return ""
    found = group_column(rows.table, rows.columns, group)
    if grouping == "column" and not found:
        raise UserError(
            f"{rows.table.where} has no column known as the number of a sentence. Found: "
            f"{listing(list(rows.table.columns))}. Set `group` to the name of its column."
        )
    return found


def _by_column(rows: SpokenRows, column: str) -> GroupedRows:
    number = by_column(rows.table.columns[column])
    order = _side_by_side(number, rows.onset_s)
    order = order[number[order] >= 0]
    if not len(order):
        raise UserError(
            f"{rows.table.where}: the column {printable(column)} has no number for any of "
            f"{counted(len(number), 'word')}. Set `group` to another column."
        )
    left = len(number) - len(order)
    doubts = (
        (f"{counted(left, 'word has', 'words have')} no number of a sentence.",) if left else ()
    )
    rows, number = rows.of(order), number[order]
    refuse_numbers_that_recur(number, rows.onset_s, rows.offset_s, rows.table, column)
    understood = _words_by(len(order), f"the column {printable(column)}")
    return GroupedRows(rows, number, bring_blanks(rows.text), understood, doubts)


def _side_by_side(number: np.ndarray, onset_s: np.ndarray) -> np.ndarray:
    """Rows by number, those of one number by onset; where one has none, as they are written."""
    order = np.argsort(number, kind="stable")
    place = np.arange(len(order))
    begins = np.diff(number[order], prepend=number[order[0]] - 1) != 0
    known = np.maximum.accumulate(np.where(begins | np.isfinite(onset_s[order]), place, 0))
    onset = np.nan_to_num(onset_s[order][known], nan=-np.inf)
    inner: np.ndarray = order[np.lexsort((place, onset, number[order]))]
    return inner


def ends_sentence(word: str) -> bool:
    """Whether a word ends a sentence by its punctuation, and is no initial or title ("Dr.")."""
    word = word.strip()
    if word[-1:].isalnum():  # most words: a quick answer
        return False
    return bool(_END.search(word)) and not _ABBREVIATION.match(word)


def is_punctuated(words: Sequence[str]) -> bool:
    """Whether punctuation tells the sentences apart: one word of 50, at least, ends one."""
    return sum(map(ends_sentence, words)) > _PUNCTUATED * len(words)


def in_order(rows: SpokenRows) -> np.ndarray:
    """Rows by onset [rows]; words without one stay behind the one before them.

    Raises:
        UserError: A word starts over a second before an earlier one of the same speaker: rows are
            not in order of time, or those of another recording follow.
    """
    onset_s, table = rows.onset_s, rows.table
    known = np.where(np.isfinite(onset_s), onset_s, -np.inf)
    latest = np.empty_like(known)
    _, code = np.unique(np.array(_known_speakers(rows.speaker)), return_inverse=True)
    by_speaker = np.argsort(code, kind="stable")  # aligners write one speaker after the other
    for own in np.split(by_speaker, np.flatnonzero(np.diff(code[by_speaker])) + 1):
        latest[own] = np.maximum.accumulate(known[own])
    late = np.flatnonzero(np.isfinite(onset_s) & (onset_s < latest - _STEP_BACK_S))
    if len(late):
        row = int(late[0])
        raise UserError(
            f"{table.at(row)} starts at {onset_s[row]:.6g} s, one before at {latest[row]:.6g} s: "
            "words must be in order of time to be grouped. Sort the table by onset, or split it "
            "where another recording begins."
        )
    return np.argsort(np.where(np.isfinite(onset_s), onset_s, latest), kind="stable")


def by_punctuation(words: Sequence[str], speaker: Sequence[str]) -> np.ndarray:
    """Number of each word's sentence, int64 [words]; another speaker begins another sentence.

    Args:
        words: The words, in order of time.
        speaker: Who says each of them.
    """
    ends = np.fromiter(map(ends_sentence, words), dtype=bool, count=len(words))
    begins = np.concatenate([[False], ends[:-1]]) | _changes(speaker)
    # A full stop or a quotation mark that stands alone belongs to the words before it.
    alone = np.array([bool(_CLOSING.fullmatch(word.strip())) for word in words])
    return np.cumsum(begins & ~alone)


def by_gaps(
    onset_s: np.ndarray, offset_s: np.ndarray, speaker: Sequence[str], gap_s: float
) -> np.ndarray:
    """Number of each word's sentence, int64 [words]; a longer gap than `gap_s` begins another.

    Args:
        onset_s: Beginnings of the words, in order [words], NaN where not known.
        offset_s: Their ends [words], NaN where not known.
        speaker: Who says each of them; another speaker begins another sentence.
        gap_s: The longest gap within a sentence, in seconds.
    """
    latest = np.fmax.accumulate(offset_s)
    gap = onset_s - np.concatenate([[np.nan], latest[:-1]])
    return np.cumsum((gap > gap_s) | _changes(speaker))


def by_column(cells: Sequence[Any]) -> np.ndarray:
    """Number of each word's sentence, int64 [words]; -1 where the column names none."""
    numbers: dict[str, int] = {}
    codes = np.empty(len(cells), dtype=np.int64)
    for row, cell in enumerate(cells):
        name = str(cell).strip()
        absent = name.lower() in NOT_AVAILABLE
        codes[row] = -1 if absent else numbers.setdefault(name, len(numbers))
    return codes


def refuse_numbers_that_recur(
    sentence: np.ndarray, onset_s: np.ndarray, offset_s: np.ndarray, table: Table, column: str
) -> None:
    """Refuse a column in which a number comes back long after its sentence.

    Args:
        sentence: Number of each word's sentence [words], in order, equal ones side by side.
        onset_s: Beginnings of these words in seconds [words].
        offset_s: Their ends in seconds [words].
        table: The table of these words.
        column: The column of the numbers.
    """
    same = sentence[1:] == sentence[:-1]
    gap = np.where(same, onset_s[1:] - offset_s[:-1], 0.0)
    far = np.flatnonzero(gap > LONGEST_PAUSE_S)
    if len(far):
        row = int(far[0]) + 1
        raise UserError(
            f'{table.at(row)}: "{printable(str(table.columns[column][row]))}" in column '
            f"{printable(column)} comes {gap[row - 1]:.4g} s after the word before it, as if two "
            "sentences had one number. Number every sentence differently, or set another `group`."
        )


def joined(words: Sequence[str], glued: bool) -> str:
    """The text of a sentence: words with blanks between, none before a closing mark.

    Args:
        words: The words of the sentence.
        glued: Whether words bring their own blanks, as Whisper's do.
    """
    if glued:
        return "".join(words)
    text = ""
    for word in map(str.strip, words):
        follows = not text or _CLOSING.fullmatch(word)
        unspaced = is_unspaced(text[-1:]) and is_unspaced(word[:1])
        text += word if follows or unspaced else f" {word}"
    return text


def bring_blanks(words: Sequence[str]) -> bool:
    """Whether words begin with the blank before them: then it is no blank that parts them."""
    return sum(word[:1] == " " for word in words) > len(words) / 2


def _last_known(before: str, now: str) -> str:
    return now or before


def _changes(speaker: Sequence[str]) -> np.ndarray:
    """Where another speaker begins, bool [words]."""
    known = _known_speakers(speaker)
    return np.array([False, *(before != now for before, now in pairwise(known))])


def _known_speakers(speaker: Sequence[str]) -> list[str]:
    """Speakers, of words without one who spoke before: WhisperX knows none without a time."""
    return list(accumulate(speaker, _last_known))
