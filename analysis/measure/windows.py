"""Windows of time that the families of a sweep were trained on, one each."""

from __future__ import annotations

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
        (changes,) = sweep.family(family).parts(("data",))
        specification = configured(sweep.specification, changes)
        assert isinstance(specification, SentenceSpec)  # which alone have the field
        found[family] = start_s, start_s + (specification.data.window_s or 0.0)
    return found


def stretches(windows: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Windows that follow each other or overlap as one stretch each, in order."""
    found: list[tuple[float, float]] = []
    for start_s, end_s in sorted(windows):
        if found and start_s <= found[-1][1] + 1e-9:
            found[-1] = found[-1][0], max(found[-1][1], end_s)
        else:
            found.append((start_s, end_s))
    return found
