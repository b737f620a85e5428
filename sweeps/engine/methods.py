"""The methods that the engine trains, by the names that ledgers keep them under."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ssense.errors import UserError, printable
from ssense.fitting import Method
from ssense.image_training import ImageTrainingSpec
from ssense.plain_values import from_plain
from ssense.training import TrainingSpec

METHODS: Mapping[str, type[Method]] = {"sentences": TrainingSpec, "images": ImageTrainingSpec}


def method_name(training: Method) -> str:
    """The name of a specification's method."""
    return next(name for name, kind in METHODS.items() if isinstance(training, kind))


def specification(name: str, values: Mapping[str, Any]) -> Method:
    """Rebuild a specification from plain values, as `dataclasses.asdict` gives them.

    Args:
        name: of the method.
        values: by field; specifications within it are mappings.

    Raises:
        UserError: this version knows no such method.
        ValueError: it knows no such field of it, or refuses a value.
    """
    if name not in METHODS:
        raise UserError(
            f"a sweep of {printable(name)}, which this version of ssense can't train. Use a newer "
            "one."
        )
    return from_plain(METHODS[name], values)
