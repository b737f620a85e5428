"""Sentences of a test split, found again in whatever recording they come in."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ssense.files.digest import digest

_APART_S = 0.1  # onsets of one sentence may differ by, where samples were rounded
_FEWEST, _SHARE = 3, 0.1


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """A sentence that a model was not trained on.

    Attributes:
        text: Digest of its text, so that it can be known and not be read.
        onset_s: Start of its first word, in seconds of the movie.
    """

    text: str
    onset_s: float


def held_out_of(texts: Sequence[str], onsets_s: Sequence[float]) -> tuple[HeldOut, ...]:
    """Sentences to find again, by their texts and onsets in seconds."""
    said = zip(texts, onsets_s, strict=True)
    return tuple(HeldOut(text=digest(text), onset_s=float(onset)) for text, onset in said)


def held_out_rows(
    held_out: Sequence[HeldOut], texts: Sequence[str], onsets_s: Sequence[float] | np.ndarray
) -> set[int]:
    """Rows of a recording's sentences that are held-out ones, however the recording was opened.

    Opened from memory it may count its seconds from elsewhere, so that the times between sentences
    tell. At least three of the held-out ones and a tenth must be there at once: a sentence that
    people say often is no sign of the same recording. If so, one that is not found by its time, as
    behind a pause of the movie, is left out by its text wherever that is said.

    Args:
        held_out: The sentences to find.
        texts: Texts of the recording's sentences.
        onsets_s: Their onsets in seconds from any time.
    """
    rows_of = defaultdict[str, list[int]](list)
    for row, text in enumerate(texts):
        rows_of[digest(text)].append(row)
    pairs = sorted(
        (onsets_s[row] - each.onset_s, row, place)
        for place, each in enumerate(held_out)
        for row in rows_of.get(each.text, ())
    )
    shifts = np.array([shift for shift, _, _ in pairs])
    first = np.searchsorted(shifts, shifts - _APART_S)
    behind = np.searchsorted(shifts, shifts + _APART_S, side="right")
    fewest = min(len(held_out), max(_FEWEST, math.ceil(_SHARE * len(held_out))))
    found = {
        each
        for begin, end in zip(first, behind, strict=True)
        if end - begin >= fewest
        for each in pairs[begin:end]
    }
    if not found:
        return set()
    by_time = {place for _, _, place in found}
    others = (each.text for place, each in enumerate(held_out) if place not in by_time)
    return {row for _, row, _ in found} | {row for text in others for row in rows_of.get(text, ())}
