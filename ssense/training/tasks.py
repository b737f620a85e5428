"""The tasks that the engine trains, by the names that ledgers keep them under."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ssense.errors import UserError, printable
from ssense.files.plain_values import from_plain
from ssense.training.images import ImageSpec
from ssense.training.loop import Specification
from ssense.training.sentences import SentenceSpec

TASKS: Mapping[str, type[Specification]] = {"sentences": SentenceSpec, "images": ImageSpec}


def task_name(specification: Specification) -> str:
    """The name of a specification's task."""
    return next(name for name, kind in TASKS.items() if isinstance(specification, kind))


def read_specification(task: str, values: Mapping[str, Any]) -> Specification:
    """Rebuild a specification from plain values, as `ssense.specification.plain` gives them.

    Args:
        task: The name of its task.
        values: Its values by field; parts within it are mappings.

    Raises:
        UserError: This version knows no such task.
        ValueError: It knows no such field of it, or refuses a value.
    """
    if task not in TASKS:
        raise UserError(
            f"a sweep of {printable(task)}, which this version of ssense can't train. Use a newer "
            "one."
        )
    return from_plain(TASKS[task], values)
