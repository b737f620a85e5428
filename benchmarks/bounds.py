"""Lower bounds of the benchmarks' flags, refused before anything is measured."""

from __future__ import annotations

from typing import Any

from ssense.errors import UserError


def at_least(options: Any, **lowest: float) -> None:
    """Refuse numbers that are too small to measure anything.

    Args:
        options: The options of a benchmark; a number that is None is passed over.
        lowest: The lowest value of a field, or of each item of it, by its name.

    Raises:
        UserError: A value is lower, or not a number.
    """
    for name, least in lowest.items():
        value = getattr(options, name)
        for each in value if isinstance(value, tuple) else () if value is None else (value,):
            if not each >= least:  # nor is NaN
                right = f"Give one such as {least + 1:g}."
                raise UserError(f"{name} must be at least {least:g}, got {each:g}. {right}")
