"""Checks of values that several commands take, without the libraries that make use of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from ssense.errors import UserError, printable


def check_above_0(options: Any, names: Iterable[str]) -> None:
    """Refuse options that are given and not above 0.

    Args:
        options: Options of a command, with flags of the same names.
        names: Fields to check; None passes.

    Raises:
        UserError: with the flag and its value.
    """
    for name in names:
        value = getattr(options, name)
        if value is not None and not 0 < value < math.inf:
            raise UserError(f"--{name.replace('_', '-')} must be above 0, got {value}.")


def check_shares(cpus: int, gpus: float | None) -> None:
    """Refuse a cell without a core, and shares of GPUs that mean nothing.

    Args:
        cpus: of one cell.
        gpus: of one cell; None where nothing is asked for.

    Raises:
        UserError: with the flag and its value.
    """
    if cpus < 1:
        raise UserError(f"--cpus-per-cell must be at least 1, got {cpus}.")
    if gpus is not None and not 0 <= gpus < math.inf:
        raise UserError(f"--gpus-per-cell must be 0 or more, got {gpus}.")
    if gpus and gpus > 1 and gpus % 1:
        raise UserError(f"--gpus-per-cell above 1 must be whole, got {gpus}.")


def check_seeds(seeds: Sequence[int], flag: str = "--seeds") -> None:
    """Refuse seeds that are missing, negative, too large or repeated.

    Args:
        seeds: to check.
        flag: that they were given by.

    Raises:
        UserError: with the offending seed.
    """
    given = f"{flag} {printable(' '.join(map(str, seeds)))}"
    if not seeds:
        raise UserError(f"{flag} is empty. Give at least one.")
    for seed in seeds:
        if seed < 0:
            raise UserError(f"{given}: {seed} is negative. Seeds are 0 or more.")
        if seed >= 2**32:  # NumPy's legacy generator takes no more
            raise UserError(f"{given}: {seed} is too large. Seeds are below 2^32.")
        if seeds.count(seed) > 1:
            raise UserError(f"{given}: {seed} appears twice. Remove one.")
