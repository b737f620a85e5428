"""Which sentences are the same: in words, or to the target that embeds them."""

from __future__ import annotations

import unicodedata
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class TowerTexts:
    """N sentences as a target reads them.

    Attributes:
        same_as: The first sentence with the same tokens, or with the same vector to a target
            without a tokeniser; itself if there is none, int64 [N].
        cut: Whether the text is longer than the target reads, bool [N].
        most_tokens: Tokens that it reads, those for start and end included; 0 without a tokeniser.
    """

    same_as: np.ndarray
    cut: np.ndarray
    most_tokens: int


def repeat_groups(text: Sequence[str], tower: TowerTexts | None = None) -> np.ndarray:
    """Number the groups of sentences that are the same, by their first appearance, int64 [N].

    Sentences are the same if they have the same words, see `normalised`, or the same tokens, which
    the target cannot tell apart: “it’s” and "it's", or long texts that differ beyond its last
    token. Two that are each the same as a third are in one group with it.

    Args:
        text: N sentences.
        tower: The same sentences as a tower reads them, where one is known.
    """
    words = first_of(map(normalised, text))
    tokens = words if tower is None else tower.same_as
    first = list(range(len(text)))  # first row of the group so far, or one on the way to it

    def found(row: int) -> int:
        while first[row] != row:
            row = first[row]
        return row

    for row, others in enumerate(zip(words.tolist(), tokens.tolist(), strict=True)):
        for other in others:
            low, high = sorted((found(row), found(other)))
            first[high] = low
    return np.unique([found(row) for row in range(len(text))], return_inverse=True)[1]


def normalised(sentence: str) -> str:
    """Keep only the words of a sentence: "Oh, yeah!" and "oh yeah" are the same."""
    text = ""
    for character in unicodedata.normalize("NFC", sentence.casefold()):
        # Vowels of Hindi and Thai are marks upon the letter before them.
        upon_a_letter = unicodedata.category(character)[0] == "M" and text[-1:].strip()
        in_a_word = character.isalnum() or character in "_'" or upon_a_letter
        text += character if in_a_word else " "
    return " ".join(text.split())


def first_of(values: Iterable[Hashable]) -> np.ndarray:
    """The place of the first equal value of each of N values, int64 [N]."""
    first: dict[Hashable, int] = {}
    return np.array([first.setdefault(value, row) for row, value in enumerate(values)], np.int64)
