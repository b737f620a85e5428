"""A cell: one configuration x one seed, and the signature under which its result is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeGuard

from ssense.files.digest import digest
from ssense.specification import configured, identity
from ssense.training.tasks import TaskSpec

SIGNATURE_VERSION = 3
"""Version of what signatures and names of sweeps are made of: it may never change again."""

_UNITS = {"s": "s", "hz": "Hz", "uv": "µV"}
"""Units by the last word of a field's name."""

Level = float | str | bool | None
"""A value of a field of the specification."""

Configuration = Mapping[str, Level]
"""Hyperparameters under comparison: fields of the cell's specification by dotted name, to values.
"""


@dataclass(frozen=True)
class Cell:
    """The unit of work, of resuming and of accounting."""

    configuration: Configuration
    seed: int


def signature(cell: Cell, specification: TaskSpec, dataset_digest: str) -> str:
    """Hash everything that changes a cell's result, and nothing else.

    Workers, devices and paths stay out, and so do values at their defaults and parts that are not
    in use; weights from a file count by their content. For the parts that the dataset is made by
    stands its digest. The family is left out too: it is only a
    name for configurations of one kind.
    """
    spec = configured(specification, cell.configuration).by_content()
    named = identity(spec, leave_out=(*spec.data_groups, *spec.unused))
    return digest(SIGNATURE_VERSION, dataset_digest, spec.split_identity(), named, cell.seed)


def dataset_choice(specification: TaskSpec) -> str:
    """Hash what of a specification decides which dataset a cell is trained on.

    Weights count by their name: workers ask for it, and have no use for a file of a text tower.
    """
    named = identity(specification)
    return digest({name: named[name] for name in specification.data_groups if name in named})


def describe(configuration: Configuration) -> str:
    """Show a configuration in a few words: "electrode 0.25, time 0.1", "ssr, mask ratio 0.5".

    A text stands alone, of electrodes with a name that name; a number, a switch and a lack of a
    value stand behind the field's name, and a number before its unit: "context after 2 s".
    """
    names = (name.rpartition(".")[2].replace("_", " ") for name in configuration)
    parts = (_part(*each) for each in zip(names, configuration.values(), strict=True))
    return ", ".join(parts) or "–"


def _part(name: str, value: Level) -> str:
    if isinstance(value, str):
        called, colon, _ = value.partition(": ")
        return called if name == "subset" and colon else value
    words, _, last = name.rpartition(" ")
    unit = f" {_UNITS[last]}" if last in _UNITS and words else ""
    named = words if unit else name
    return f"{named} {value:g}{unit}" if is_number(value) else f"{named} {value}"


def is_number(value: Level) -> TypeGuard[float]:
    """Whether a level is a number, and no switch."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def label(family: str, configuration: Configuration) -> str:
    """Name a configuration where its family goes without saying, unless it is all there is."""
    return describe(configuration) if configuration else family
