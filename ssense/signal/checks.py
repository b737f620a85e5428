"""Checks of a specification's fields, which raise ValueError with the field's name and value."""

from __future__ import annotations

import math
from typing import get_args


def check_positive(name: str, value: float) -> None:
    """Refuse what is not a finite number above 0."""
    if not (_is_finite(value) and value > 0):
        raise ValueError(f"{name} must be a finite number above 0, got {value!r}.")


def check_at_least(name: str, value: float, lowest: float) -> None:
    """Refuse what is not a finite number, or is too small."""
    if not (_is_finite(value) and value >= lowest):
        raise ValueError(f"{name} must be a number of at least {lowest:g}, got {value!r}.")


def check_whole(name: str, value: int, lowest: int) -> None:
    """Refuse what is not a whole number, or is too small."""
    if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
        raise ValueError(f"{name} must be a whole number of at least {lowest}, got {value!r}.")


def check_choice(name: str, value: str, choices: object) -> None:
    """Refuse what is none of the values of a Literal type."""
    known = get_args(choices)
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}.")


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
