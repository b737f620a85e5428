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

    A recording that was opened from memory may count its seconds from elsewhere, so that the times
    between sentences tell. Some of the held-out ones must be there, three and a tenth of them: a
    sentence that people say often is no sign of the same recording.

    Args:
        held_out: The sentences to find.
        texts: Texts of the recording's sentences.
        onsets_s: Their onsets in seconds from any time.
    """
    known = defaultdict(list)
    for each in held_out:
        known[each.text].append(each.onset_s)
    pairs = [
        (onset - before, row)
        for row, (text, onset) in enumerate(zip(texts, onsets_s, strict=True))
        for before in known.get(digest(text), ())
    ]
    if not pairs:
        return set()
    shifts, rows = (np.array(each) for each in zip(*sorted(pairs), strict=True))
    first = np.searchsorted(shifts, shifts - _APART_S)
    behind = np.searchsorted(shifts, shifts + _APART_S, side="right")
    most = int((behind - first).argmax())
    found = rows[first[most] : behind[most]]
    fewest = min(len(held_out), max(_FEWEST, math.ceil(_SHARE * len(held_out))))
    return {*found.tolist()} if len(found) >= fewest else set()
