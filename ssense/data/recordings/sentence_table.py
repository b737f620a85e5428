"""What was said and when, from a table that a lab has: of sentences, or of words that form them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ssense.data.recordings.tables.delimited import delimited_table
from ssense.data.recordings.tables.file_text import read_text
from ssense.data.recordings.tables.grouping import GroupedRows, grouped, joined
from ssense.data.recordings.tables.sentence_doubts import (
    Spans,
    doubts_of_order,
    doubts_of_spans,
    doubts_of_texts,
    doubts_of_times,
    doubts_of_words,
    refuse_outside,
)
from ssense.data.recordings.tables.spoken_rows import spoken_rows
from ssense.data.recordings.tables.table import Table, numbers_or_texts, table_of
from ssense.data.recordings.tables.table_spec import TableSpec
from ssense.data.recordings.tables.text_grid import is_text_grid, text_grid_table
from ssense.data.recordings.tables.whisper import is_json, whisper_table
from ssense.errors import UserError

_ARROW = re.compile(r"\d --> \d")  # of subtitles
_SUBTITLES = "subtitles. Give the transcript as JSON or TSV"
_OTHER_TEXTS = {
    "WEBVTT": _SUBTITLES,
    "<?xml": "XML. In ELAN, export it as tab-delimited text",
    "<ANNOTATION": "XML. In ELAN, export it as tab-delimited text",
}


@dataclass(frozen=True, eq=False)
class SpokenSentences:
    """Sentences in order of onset, with times in seconds of the recording.

    Attributes:
        text: What each sentence says, with single blanks between words [sentences].
        onset_s, offset_s: Beginnings and ends in seconds, float64 [sentences]; each ends after it
            begins.
        speaker: Who says each sentence, empty where not known [sentences].
        extra: Values of the other columns by their names, each [sentences]; of a sentence made of
            words, those of its first word.
        understood: How the table was read, a sentence each.
        doubts: What looks wrong, a sentence each.
    """

    text: tuple[str, ...]
    onset_s: np.ndarray
    offset_s: np.ndarray
    speaker: tuple[str, ...]
    extra: Mapping[str, tuple[Any, ...]]
    understood: tuple[str, ...]
    doubts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.text)


def read_sentence_table(
    path: Path, spec: TableSpec, sampling_rate_hz: float | None, length_s: float | None
) -> SpokenSentences:
    """Read sentences from a file: CSV, TSV, BIDS events, Whisper's JSON, TextGrid, ELAN's export.

    Args:
        path: The file. What it is is told by its content, not by its name.
        spec: How it is read.
        sampling_rate_hz: Sampling rate of the recording in Hz, None where it is not known.
        length_s: Length of the recording in seconds, None where it is not known.

    Raises:
        UserError: The file is no table of known format, or see `spoken_sentences`.
    """
    text, doubt = read_text(path)
    table = _table(text, path, spec)
    if doubt:
        table = replace(table, doubts=(*table.doubts, doubt))
    return _sentences(table, spec, sampling_rate_hz, length_s)


def spoken_sentences(
    table: Any,
    where: str,
    spec: TableSpec,
    sampling_rate_hz: float | None,
    length_s: float | None,
) -> SpokenSentences:
    """Make sentences of a table in memory.

    Args:
        table: A pandas DataFrame, or a mapping of names to columns; messages count rows from 0.
        where: What messages call the table.
        spec: How it is read.
        sampling_rate_hz: Sampling rate of the recording in Hz, None where it is not known.
        length_s: Length of the recording in seconds, None where it is not known.

    Raises:
        UserError: A column is missing or may be one of several, a time is malformed or its unit
            can't be told, a row ends before it starts, words are not in order of time, rows are of
            several recordings, or none of them makes a sentence within the recording.
    """
    return _sentences(table_of(table, where), spec, sampling_rate_hz, length_s)


def _table(text: str, path: Path, spec: TableSpec) -> Table:
    where = str(path)
    beginnings = (kind for begin, kind in _OTHER_TEXTS.items() if text.lstrip().startswith(begin))
    if other := _SUBTITLES if _ARROW.search(text[:200]) else next(beginnings, ""):
        raise UserError(f"{where} holds {other}.")
    if is_text_grid(text):
        return text_grid_table(text, where, spec.tier)
    if is_json(text):
        grouped = spec.grouping in ("column", "punctuation", "gaps") or bool(spec.group)
        return whisper_table(text, where, words=grouped)
    table = delimited_table(text, where)
    # BIDS prescribes seconds for onset and duration of events.
    is_bids = path.name.endswith("_events.tsv") and not table.roles
    return replace(table, unit="seconds") if is_bids else table


def _sentences(
    table: Table, spec: TableSpec, sampling_rate_hz: float | None, length_s: float | None
) -> SpokenSentences:
    rows = spoken_rows(table, spec, sampling_rate_hz, length_s)
    return _assembled(grouped(rows, spec), length_s)


def _assembled(words: GroupedRows, length_s: float | None) -> SpokenSentences:
    """Sentences of rows that stand side by side and have one number each, in order of onset."""
    rows, table, column = words.rows, words.rows.table, words.rows.columns.text
    first = np.flatnonzero(np.diff(words.sentence, prepend=-1)).tolist()
    onset_s = np.fmin.reduceat(rows.onset_s, first)
    offset_s = np.fmax.reduceat(rows.offset_s, first)
    timed = np.isfinite(onset_s) & np.isfinite(offset_s)
    lasting = timed & (offset_s > onset_s)
    place = [f"{table.place} {table.numbers[row]}" for row in first]
    kept = np.flatnonzero(lasting)
    order = kept[np.argsort(onset_s[kept], kind="stable")].tolist()
    spans = Spans(onset_s[order], offset_s[order], [place[each] for each in order], length_s)
    refuse_outside(spans, table.where)
    stop = [*first[1:], len(rows.text)]
    text = [_clean(joined(rows.text[first[i] : stop[i]], words.glued)) for i in order]
    heads = [first[i] for i in order]
    extra = {
        name: numbers_or_texts([cells[row] for row in heads])
        for name, cells in table.columns.items()
        if name not in rows.columns.read
    }
    doubts = (
        *rows.doubts,
        *words.doubts,
        *doubts_of_times(place, timed, lasting),
        *doubts_of_order(onset_s[kept], [place[each] for each in kept]),
        *doubts_of_spans(spans),
        *(doubts_of_texts(text, column) or doubts_of_words(rows.text, column)),
    )
    return SpokenSentences(
        tuple(text),
        spans.onset_s,
        spans.offset_s,
        tuple(rows.speaker[row] for row in heads),
        extra,
        (*rows.understood, words.understood),
        doubts,
    )


def _clean(text: str) -> str:
    """A text with single blanks, without control characters and halves of surrogate pairs."""
    if not text.isprintable():
        text = "".join(" " if unicodedata.category(each) == "Cc" else each for each in text)
        text = text.encode("utf-8", "replace").decode()
    return " ".join(text.split())
