"""A target that is spelled in one word, as a specification and as a family's levels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ssense.errors import UserError, one_line
from ssense.files.own_source import own_source
from ssense.specification import configured, plain
from ssense.targets.sentence_embeddings import AnyTargetSpec
from ssense.targets.target_source import OPEN_CLIP, TARGET, WEIGHTS, target_changes
from ssense.training.sentences import SentenceSpec

if TYPE_CHECKING:
    from ssense.engine.core.sweep import Levels

PLACES: tuple[str, ...] = ("target.model", "target.file", "target.source")
"""Fields whose level may be a file or a folder."""


def target_of(text: str, weights: str) -> AnyTargetSpec:
    """The target that a text names, its files by their whole paths.

    Args:
        text: The target in one word, see `ssense.targets.target_source`.
        weights: Weights of a text tower that is named without.

    Raises:
        ValueError: It is no target, or a value is refused.
    """
    return configured(SentenceSpec(), _changes(text, weights)).target


def target_levels(text: str, weights: str, specification: SentenceSpec) -> dict[str, Levels]:
    """The levels of a family of one target.

    Args:
        text: The target in one word, see `ssense.targets.target_source`.
        weights: Weights of a text tower that is named without.
        specification: What the cells of all families share.

    Raises:
        UserError: It is no target, or can't embed.
    """
    try:
        changes = _changes(text, weights)
        wanted = configured(SentenceSpec(), changes).target
        wanted.check()
    except ValueError as error:
        raise UserError(f"{one_line(error)}.") from error
    if wanted.kind == specification.target.kind:
        del changes[TARGET]
    made = plain(configured(specification, {**changes}).target)
    for name, value in plain(wanted).items():
        if value != made[name]:  # the specification's own target has another
            changes[f"{TARGET}.{name}"] = value
    return {name: (level,) for name, level in changes.items()}


def whole_path(text: str) -> str:
    """A file, the folder of a model or FILE.py:NAME by its whole path; anything else as it is."""
    source = own_source(text)
    if source is not None and source.path.endswith(".py") and Path(source.path).is_file():
        return f"{Path(source.path).resolve()}:{source.name}"
    path = Path(text)
    is_model = any((path / name).is_file() for name in ("config.json", "modules.json"))
    return str(path.resolve()) if text and (path.is_file() or is_model) else text


def _changes(text: str, weights: str) -> dict[str, str | int]:
    """The target as fields of a specification by dotted name, its kind among them.

    Raises:
        ValueError: It is no target.
    """
    changes, places = target_changes(text), PLACES
    if changes[TARGET] == OPEN_CLIP:
        changes.setdefault(WEIGHTS, weights)
        places = (WEIGHTS,)  # a model of open_clip's has a name alone
    return {
        name: whole_path(str(value)) if name in places else value for name, value in changes.items()
    }
