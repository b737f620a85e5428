"""Transcripts of Whisper and WhisperX as JSON: segments, each perhaps with its words.

A list of objects, or JSON Lines with an object in each, is a table too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ssense.data.recordings.tables.table import RowKind, Table, not_plain
from ssense.errors import UserError, one_line, printable
from ssense.files.tables import listing

_WORD_LISTS = ("word_segments", "words")  # of WhisperX; of OpenAI's service
_SHAPE = 'a list "segments" whose entries have "start", "end" and "text"'


def is_json(text: str) -> bool:
    """Whether a text begins as JSON does."""
    return text.lstrip()[:1] in ("{", "[")


def whisper_table(text: str, where: str, words: bool) -> Table:
    """Read the segments of a transcript, or their words; or a plain list of objects.

    Args:
        text: The text of the file.
        where: Its name in messages.
        words: Whether the words are wanted and not the segments.

    Raises:
        UserError: The text is not JSON, of another shape, or has no words where they are wanted.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        if lines := _objects_by_line(text, where):
            return _table(list(lines.values()), where, "line", "", list(lines))
        raise UserError(f"{where} is not valid JSON: {one_line(error)}. Save it again.") from error
    if isinstance(value, list):
        return _table(value, where, "entry", "")
    segments = value.get("segments")
    if not isinstance(segments, list):
        found = next((name for name in _WORD_LISTS if isinstance(value.get(name), list)), "")
        if not found:
            raise UserError(
                f"{where} is JSON without {_SHAPE}. Found: {listing(list(value))}. Give it as "
                "Whisper or WhisperX writes it, or as a table."
            )
        return _table(value[found], where, "word", "words")
    return (
        _word_table(value, segments, where)
        if words
        else _table(segments, where, "segment", "sentences")
    )


def _word_table(value: dict[str, Any], segments: list[Any], where: str) -> Table:
    """The words within segments, with number and speaker of their segment; or beside them."""
    _require_objects(segments, where, "segment")
    inner = [
        {**_speaker(segment), **word, "segment": number}
        for number, segment in enumerate(segments)
        for word in _objects(segment.get("words"))
    ]
    if inner:
        return _table(inner, where, "word", "words")
    for name in _WORD_LISTS:
        if _objects(value.get(name)):
            return _table(value[name], where, "word", "words")
    raise UserError(
        f"{where} has segments and no words with times. Make it with word timestamps, or set "
        '`grouping` to "none", by which each segment is a sentence.'
    )


def _speaker(segment: dict[str, Any]) -> dict[str, Any]:
    return {"speaker": segment["speaker"]} if "speaker" in segment else {}


def _objects_by_line(text: str, where: str) -> dict[int, dict[str, Any]]:
    """The objects of JSON Lines by the number of their line; none where the first is no object."""
    found: dict[int, dict[str, Any]] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            if not found:
                return {}
            raise UserError(
                f"{where}: line {number} is not valid JSON: {one_line(error)}. Give every line of "
                "JSON Lines an object of its own."
            ) from error
        _require_objects([value], where, "line", number)
        found[number] = value
    return found


def _table(
    entries: list[Any],
    where: str,
    place: str,
    rows_are: RowKind,
    numbers: Sequence[int] | None = None,
) -> Table:
    """A column for each key that holds plain values."""
    _require_objects(entries, where, place)
    names = dict.fromkeys(name for entry in entries for name in entry)
    columns = {name: [_plain(entry.get(name)) for entry in entries] for name in names}
    unread = {name: held for name, cells in columns.items() if (held := not_plain(cells))}
    kinds = {"segment": "segments", "word": "words", "entry": "entries", "line": "lines"}
    return Table(
        where,
        {name: cells for name, cells in columns.items() if name not in unread},
        range(len(entries)) if numbers is None else numbers,
        place=place,
        unit="seconds" if rows_are else "",
        rows_are=rows_are,
        unread=unread,
        understood=(f"JSON, of which the {kinds[place]} were read.",),
    )


def _plain(value: Any) -> Any:
    return "" if value is None or value != value else value


def _objects(value: Any) -> Sequence[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _require_objects(entries: list[Any], where: str, place: str, first: int = 0) -> None:
    for number, entry in enumerate(entries, first):
        if not isinstance(entry, dict):
            raise UserError(
                f"{where}: {place} {number} is {printable(repr(entry))}, not an object with times "
                f"and a text. Give {_SHAPE}."
            )
