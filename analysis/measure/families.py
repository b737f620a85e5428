"""What families of a sweep differ in, where that is a single field."""

from __future__ import annotations

from ssense.engine.core.cell import is_number
from ssense.engine.core.sweep import Sweep
from ssense.specification import settings


def numbers_of(sweep: Sweep, field: str, fewest: int) -> dict[str, float]:
    """The number that each family has in a field, by its name, in increasing order.

    Args:
        sweep: The sweep.
        field: The field, by its dotted name.
        fewest: Families that there must be.

    Returns:
        None of them where cells have no such field, where families differ in other fields too or
        search this one, where two have the same number, or where they are too few.
    """
    known = settings(sweep.specification)
    if field not in known:
        return {}
    others, found = [], dict[str, float]()
    for family in sweep.families:
        levels = dict(family.levels)
        at = levels.pop(field, (known[field],))
        others.append(levels)
        if len(at) == 1 and is_number(at[0]):
            found[family.name] = float(at[0])
    n = len(sweep.families)
    alike = all(levels == others[0] for levels in others)
    if not alike or n < fewest or len({*found.values()}) < n:
        return {}
    return dict(sorted(found.items(), key=lambda each: each[1]))
