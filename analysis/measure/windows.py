"""Windows of time that the families of a sweep were trained on, one each."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.measure.families import numbers_of
from ssense.engine.core.sweep import Sweep
from ssense.specification import configured
from ssense.training.sentences import SentenceSpec

FIELD = "data.window_start_s"
FEWEST_WINDOWS = 2

Windows = dict[str, tuple[float, float]]
"""Where each window begins and ends, seconds after the sentence's onset, by its family."""


def windows_of(sweep: Sweep) -> Windows:
    """The window of each family, the earliest first; where they differ in its beginning alone.

    Returns:
        None of them where families differ in other fields too, or where there is a single one.
    """
    found: Windows = {}
    for family, start_s in numbers_of(sweep, FIELD, FEWEST_WINDOWS).items():
        of_data = [*sweep.family(family).parts(("data",))]
        if len(of_data) > 1:  # the family searches another choice of the data
            return {}
        specification = configured(sweep.specification, of_data[0])
        assert isinstance(specification, SentenceSpec)  # which alone have the field
        found[family] = start_s, start_s + (specification.data.window_s or 0.0)
    return found


def stretches(
    windows: Sequence[tuple[float, float]], shown: Sequence[bool]
) -> list[tuple[float, float]]:
    """Windows that are shown, those next to each other that meet or overlap as one stretch.

    Args:
        windows: Where each begins and ends, in order.
        shown: Whether each is; one that is not parts what is on its sides, also where these meet.
    """
    found: list[tuple[float, float]] = []
    for place, (start_s, end_s) in enumerate(windows):
        if not shown[place]:
            continue
        if place and shown[place - 1] and start_s <= found[-1][1] + 1e-9:
            found[-1] = found[-1][0], max(found[-1][1], end_s)
        else:
            found.append((start_s, end_s))
    return found
