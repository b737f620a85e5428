"""TextGrids: of Praat, in its long and short format, and of the Montreal Forced Aligner.

Both formats are one sequence of numbers, quoted texts and flags; whatever else stands between
them, such as "xmin =" or "intervals [3]:", is for people (Praat's manual, "TextGrid file formats").
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ssense.data.recordings.tables.table import Table
from ssense.data.recordings.tables.tiers import chosen_tiers, rows_of_tier
from ssense.errors import UserError, printable

_VALUE = re.compile(
    r'"([^"]*(?:""[^"]*)*)"'  # a text, in which a quotation mark is doubled
    r"|(?<!\S)([+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)(?!\S)"  # a number that stands alone
    r"|(?<!\S)(<exists>|<absent>)"
)
_INTERVALS, _POINTS = "IntervalTier", "TextTier"
_SILENCE = frozenset({"", "sil", "sp", "<sil>", "<eps>", "<p:>"})  # of aligners
_ADVICE = "Save it again in Praat as a TextGrid"


@dataclass(frozen=True, eq=False)
class _Tier:
    kind: str
    name: str
    begin: list[str]
    end: list[str]
    label: list[str]


def is_text_grid(text: str) -> bool:
    """Whether a text begins as TextGrids do."""
    return '"ooTextFile' in text[:200] and "TextGrid" in text[:400]


def text_grid_table(text: str, where: str, tier: str) -> Table:
    """Read the intervals of a TextGrid's tier, or of one tier per speaker, in order of time.

    Args:
        text: The text of the file.
        where: Its name in messages.
        tier: Name of the tier, see `chosen_tiers`.

    Raises:
        UserError: The file is damaged, has no tier of intervals, or several that may be meant.
    """
    tiers = _tiers(text, where)
    intervals = [each for each in tiers if each.kind == _INTERVALS]
    if not intervals:
        points = ", ".join(printable(each.name) for each in tiers[:12]) or "none"
        raise UserError(
            f"{where} has no tier of intervals (its tiers of points: {points}). Use one in which "
            "every sentence or word has a beginning and an end."
        )
    speakers = chosen_tiers([each.name for each in intervals], tier, where)
    chosen = [each for each in intervals if each.name in speakers]
    if len(chosen) > len(speakers):
        raise UserError(f"{where} has two tiers {printable(chosen[0].name)}. Rename one of them.")
    said_by = [speakers[each.name] for each in chosen for _ in each.label]
    names = ", ".join(printable(name) for name in speakers)
    return Table(
        where,
        columns={
            "xmin": [begin for each in chosen for begin in each.begin],
            "xmax": [end for each in chosen for end in each.end],
            "text": [label for each in chosen for label in each.label],
            **({"speaker": said_by} if any(said_by) else {}),
        },
        numbers=[number for each in chosen for number in range(1, len(each.label) + 1)],
        place=f"tier {printable(chosen[0].name)}: interval" if len(chosen) == 1 else "interval",
        roles={"onset": "xmin", "offset": "xmax", "text": "text"},
        unit="seconds",
        rows_are=rows_of_tier(chosen[0].name),
        tiers=True,
        pauses=_SILENCE,
        understood=(f"A TextGrid, of which the tier {names} was read.",),
    )


def _tiers(text: str, where: str) -> list[_Tier]:
    """All tiers of the file."""
    # The type of the file and of the object, both texts, come first; then the span of time.
    values = iter(_VALUE.findall(text)[2:])
    try:
        for _ in range(2):
            _number(values)
        if next(values)[2] != "<exists>":
            return []
        return [_tier(values) for _ in range(_count(values))]
    except (StopIteration, ValueError) as error:
        raise UserError(f"{where} is a damaged TextGrid, or ends too early. {_ADVICE}.") from error


def _tier(values: Iterator[tuple[str, str, str]]) -> _Tier:
    kind, name = _label(values), _label(values)
    if kind not in (_INTERVALS, _POINTS):
        raise ValueError(kind)
    _number(values), _number(values)
    tier = _Tier(kind, name, [], [], [])
    for _ in range(_count(values)):
        tier.begin.append(_number(values))
        if kind == _INTERVALS:
            tier.end.append(_number(values))
        tier.label.append(_label(values))
    return tier


def _number(values: Iterator[tuple[str, str, str]]) -> str:
    _, number, _ = next(values)
    if not number:
        raise ValueError("a number is missing")
    return number


def _count(values: Iterator[tuple[str, str, str]]) -> int:
    return int(_number(values))


def _label(values: Iterator[tuple[str, str, str]]) -> str:
    label, number, flag = next(values)
    if number or flag:
        raise ValueError("a text is missing")
    return label.replace('""', '"')
