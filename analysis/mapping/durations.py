"""What maps show that is of how long sentences are, and not of what was said, in sentences."""

from __future__ import annotations

import numpy as np

from analysis.mapping.checks import LEFT, of_durations
from analysis.mapping.effects import EffectMap
from analysis.mapping.parts import Axes, window_ends_s

_MOST = 5


def said_of_durations(found: EffectMap, axes: Axes, spoken_s: np.ndarray) -> list[str]:
    """Say which shown parts carry the score by durations, and which windows lie behind the end.

    Args:
        found: Effects of parts of one kind.
        axes: The axes of the spectrograms.
        spoken_s: Spoken duration of each sentence `[N]`, seconds.
    """
    said = []
    if by_length := _listed(found, of_durations(found)):
        said.append(
            f"{_capital(found.what)}: {by_length} by how long sentences are: at least {LEFT:.0%} "
            "of the effect is left where each query is paired with other sentences of similar "
            "duration."
        )
    if late := _listed(found, found.found & behind_most(found, axes, spoken_s)):
        said.append(
            f"{_capital(found.what)}: {late} where fewer than half of the sentences are still "
            "being spoken: by the padding, which shows how long a sentence was, by the context "
            "behind it, or by what its last words evoke."
        )
    return said


def behind_most(found: EffectMap, axes: Axes, spoken_s: np.ndarray) -> np.ndarray:
    """Which parts `[K]` bool are windows whose middle lies behind the end of most sentences."""
    if found.what != "time window":
        return np.zeros(len(found.parts), bool)
    ends_s = [window_ends_s(axes, part.frames) for part in found.parts if part.frames]
    return np.array([(spoken_s > np.mean(each)).mean() < 0.5 for each in ends_s])


def _listed(found: EffectMap, which: np.ndarray) -> str:
    """Some parts as the beginning of a sentence, with their verb; empty where there are none."""
    names = [found.parts[at].name for at in np.flatnonzero(which).tolist()]
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    verb = "carries the score" if len(names) == 1 else "carry the score"
    return f"{', '.join(names[:_MOST])}{more} {verb}" if names else ""


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
