"""What looks wrong with sentences: order, overlap, length, place in the recording, texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ssense.errors import UserError, counted, printable

_LONG_S = 30.0  # a sentence that lasts longer is doubtful
_ROUNDING_S = 1e-3  # by which neighbours may overlap, or reach beyond the recording
_REPEATED = 0.05  # different texts per sentence, below which they look like kinds of events
_ENOUGH = 40  # sentences or words, to say so
_MOST_KINDS = 50  # of events; the words of a language recur too, but more than these do
_JUMPS = 3  # backward, at most, look like recordings that follow each other


@dataclass(frozen=True, eq=False)
class Spans:
    """When sentences are said, in order of onset.

    Attributes:
        onset_s, offset_s: Beginnings and ends in seconds, float64 [sentences].
        place: What each sentence begins with in the table, such as "row 12" [sentences].
        length_s: Length of the recording in seconds, None where it is not known.
    """

    onset_s: np.ndarray
    offset_s: np.ndarray
    place: Sequence[str]
    length_s: float | None


def refuse_outside(spans: Spans, where: str) -> None:
    """Refuse a table without a sentence that lasts and lies within the recording."""
    if not len(spans.onset_s):
        raise UserError(
            f"{where}: no sentence has an onset and an end behind it. Check the columns of times."
        )
    if spans.length_s is None:
        return
    if not np.any((spans.offset_s > 0) & (spans.onset_s < spans.length_s)):
        raise UserError(
            f"{where}: no sentence lies within the recording of {spans.length_s:.6g} s; they are "
            f"said from {spans.onset_s[0]:.6g} to {spans.offset_s.max():.6g} s. Check that table "
            "and recording belong together, and count times from the recording's beginning."
        )


def doubts_of_spans(spans: Spans) -> list[str]:
    """Doubts about when sentences are said, a sentence each."""
    onset_s, offset_s = spans.onset_s, spans.offset_s
    latest = np.maximum.accumulate(np.concatenate([[-np.inf], offset_s[:-1]]))
    overlapping = onset_s < latest - _ROUNDING_S
    long = offset_s - onset_s > _LONG_S
    found = [
        _said(
            overlapping,
            "sentence overlaps one before it",
            "sentences overlap ones before them",
            spans.place,
        ),
        _said(
            long,
            f"sentence lasts over {_LONG_S:g} s",
            f"sentences last over {_LONG_S:g} s",
            spans.place,
        ),
        _said(
            onset_s < -_ROUNDING_S,
            "sentence begins before the recording",
            "sentences begin before the recording",
            spans.place,
        ),
    ]
    if spans.length_s is not None:
        end = f"after the recording, which lasts {spans.length_s:.6g} s"
        beyond = offset_s > spans.length_s + _ROUNDING_S
        found.append(_said(beyond, f"sentence ends {end}", f"sentences end {end}", spans.place))
    return [each for each in found if each]


def doubts_of_order(onset_s: np.ndarray, place: Sequence[str]) -> list[str]:
    """Doubts about the order in which the table has the sentences.

    Args:
        onset_s: Beginnings in seconds in the order of the table [sentences].
        place: What each begins with in the table [sentences].
    """
    back = np.flatnonzero(np.diff(onset_s) < -_ROUNDING_S) + 1
    if not len(back):
        return []
    row = int(back[0])
    several = (
        ", as if recordings followed each other" if len(back) <= _JUMPS < len(onset_s) / 3 else ""
    )
    return [
        f"Sentences are not in order of time: {place[row]} begins at {onset_s[row]:.6g} s, the one "
        f"before at {onset_s[row - 1]:.6g} s{several}. They were sorted."
    ]


def doubts_of_times(place: Sequence[str], timed: np.ndarray, lasting: np.ndarray) -> list[str]:
    """Doubts about sentences that are left out for their times.

    Args:
        place: What each sentence begins with in the table [sentences].
        timed: Whether a sentence has an onset and an end, bool [sentences].
        lasting: Whether it lasts, besides, bool [sentences].
    """
    without = "no known time and is left out", "no known time and are left out"
    instant = "no duration and is left out", "no duration and are left out"
    found = [
        _said(which, f"sentence has {one}", f"sentences have {many}", place)
        for which, (one, many) in ((~timed, without), (timed & ~lasting, instant))
    ]
    return [each for each in found if each]


def doubts_of_texts(text: Sequence[str], column: str) -> list[str]:
    """Doubts about a column whose few texts recur: it may name kinds of events."""
    different = len(set(text))
    if len(text) < _ENOUGH or different > _REPEATED * len(text):
        return []
    return [
        f"{len(text):,} sentences have {counted(different, 'text')} only, as if the column "
        f"{printable(column)} named kinds of events."
    ]


def doubts_of_words(word: Sequence[str], column: str) -> list[str]:
    """Doubts about words that sentences are made of, likewise: few of them recur."""
    different = len({each.strip() for each in word})
    if len(word) < _ENOUGH or different > min(_REPEATED * len(word), _MOST_KINDS):
        return []
    return [
        f"The sentences are made of {len(word):,} rows with {counted(different, 'text')} only, as "
        f"if the column {printable(column)} named kinds of events."
    ]


def _said(which: np.ndarray, one: str, many: str, place: Sequence[str]) -> str:
    n = int(which.sum())
    return (
        f"{counted(n, one, many)} ({'' if n == 1 else 'first '}{place[int(np.argmax(which))]})."
        if n
        else ""
    )
