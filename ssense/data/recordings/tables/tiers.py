"""Which tier holds the sentences or words, and whose: of a TextGrid, of what ELAN exports."""

from __future__ import annotations

from collections.abc import Sequence

from ssense.data.recordings.tables.table import RowKind
from ssense.errors import UserError, printable
from ssense.files.tables import listing

ALL = "all"
_OF_SPEAKER = " - "  # in front of it the Montreal Forced Aligner writes the speaker
_SENTENCE_TIERS = frozenset({"sentence", "sentences", "utterance", "utterances"})
WORD_TIERS = frozenset({"word", "words"})


def chosen_tiers(names: Sequence[str], tier: str, where: str) -> dict[str, str]:
    """Choose tiers: the one named, the only one, or by the names that aligners give.

    Tiers "ann - words" and "bob - words" are the words of two speakers. A tier of sentences is
    taken before one of words.

    Args:
        names: Names of the tiers, in order.
        tier: The name wanted; "all" where each tier is a speaker's; empty to choose.
        where: What messages begin with.

    Returns:
        The speaker of each tier chosen, empty where its name says none.

    Raises:
        UserError: No tier has the name, or several may be meant.
    """
    tiers = list(dict.fromkeys(names))
    if tier:
        return _named(tiers, tier, where)
    if len(tiers) == 1:
        return {tiers[0]: _speaker(tiers[0]) if rows_of_tier(tiers[0]) else ""}
    for kinds in (_SENTENCE_TIERS, WORD_TIERS):
        found = [name for name in tiers if _kind(name) in kinds]
        if found and len({_kind(name) for name in found}) == 1:
            return {name: _speaker(name) for name in found}
    raise UserError(
        f'{where} has several tiers: {listing(tiers)}. Set `tier` to one of them, or to "{ALL}" '
        "where each holds what one speaker said."
    )


def rows_of_tier(tier: str) -> RowKind:
    """What the name of a tier says of its rows."""
    kind = _kind(tier)
    if kind in WORD_TIERS:
        return "words"
    return "sentences" if kind in _SENTENCE_TIERS else ""


def _named(tiers: list[str], tier: str, where: str) -> dict[str, str]:
    if tier in tiers:
        return {tier: ""}
    of_speakers = [name for name in tiers if name.endswith(f"{_OF_SPEAKER}{tier}")]
    if of_speakers:
        return {name: _speaker(name) for name in of_speakers}
    if tier == ALL:
        return {name: name for name in tiers}
    raise UserError(
        f"{where} has no tier {printable(tier)}. Found: {listing(tiers)}. Set `tier` to one of "
        "them."
    )


def _kind(tier: str) -> str:
    return tier.rpartition(_OF_SPEAKER)[2].strip().lower()


def _speaker(tier: str) -> str:
    return tier.rpartition(_OF_SPEAKER)[0].strip()
