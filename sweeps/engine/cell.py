"""A cell: one configuration x one seed, and the signature under which its result is kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ssense.digest import digest
from ssense.fitting import Method

FORMAT_VERSION = 2

Configuration = Mapping[str, float | str]
"""Hyperparameters under comparison: fields of the cell's specification by dotted name, to values.
"""


@dataclass(frozen=True)
class Cell:
    """The unit of work, of resuming and of accounting."""

    configuration: Configuration
    seed: int


def configured(training: Method, configuration: Configuration) -> Method:
    """Replace the fields that a configuration names, such as `masking.electrode`.

    Raises:
        ValueError: there is no such field, or it refuses the value.
    """
    changes: dict[str, Any] = {}
    for name, value in configuration.items():
        field, _, inner = name.partition(".")
        _check_field(training, field, name)
        if inner:
            group = changes.get(field, getattr(training, field))
            _check_field(group, inner, name)
            value = dataclasses.replace(group, **{inner: value})
        changes[field] = value
    return dataclasses.replace(training, **changes)


def field_names(training: Method) -> list[str]:
    """Names of the fields that a configuration may replace, dotted within a group."""
    names = []
    for each in dataclasses.fields(training):
        group = getattr(training, each.name)
        inner = dataclasses.fields(group) if dataclasses.is_dataclass(group) else ()
        names += [f"{each.name}.{part.name}" for part in inner] or [each.name]
    return names


def _check_field(spec: Any, field: str, name: str) -> None:
    known = dataclasses.fields(spec) if dataclasses.is_dataclass(spec) else ()
    if field not in [each.name for each in known]:
        kind = type(spec).__name__
        raise ValueError(f"a configuration names {name}, which is no field of {kind}")


def signature(cell: Cell, training: Method, dataset_digest: str) -> str:
    """Hash everything that changes a cell's result, and nothing else.

    Workers, devices and paths stay out; weights from a file count by their content. The family is
    left out too: it is only a name for configurations of one kind.
    """
    spec = configured(training, cell.configuration).by_content()
    return digest(FORMAT_VERSION, dataset_digest, spec.split_identity(), spec, cell.seed)


def describe(configuration: Configuration) -> str:
    """Show a configuration in a few words: "electrode 0.25, time 0.1", "ssr, mask ratio 0.5"."""
    names = (name.rpartition(".")[2].replace("_", " ") for name in configuration)
    parts = (
        value if isinstance(value, str) else f"{name} {value:g}"
        for name, value in zip(names, configuration.values(), strict=True)
    )
    return ", ".join(parts) or "–"


def label(family: str, configuration: Configuration) -> str:
    """Name a configuration where its family goes without saying, unless it is all there is."""
    return describe(configuration) if configuration else family
