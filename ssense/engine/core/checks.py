"""Checks of option values that several commands share; imports nothing slow."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ssense.choices import CLIP_TAGS, ENCODERS, TEXT_TOWER, UNTRAINED
from ssense.errors import UserError, printable
from ssense.files.own_source import own_source
from ssense.targets.target_source import (
    MODEL,
    OPEN_CLIP,
    SPELLINGS,
    TARGET,
    WEIGHTS,
    target_changes,
)

_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss")
"""Protocols of object stores, whose folders can be listed."""


def check_above_0(options: Any, names: Iterable[str]) -> None:
    """Refuse options that are given and not above 0.

    Args:
        options: Options of a command.
        names: Fields to check; None passes.

    Raises:
        UserError: An option is not above 0; the message has its name and value.
    """
    for name in names:
        value = getattr(options, name)
        if value is not None and not 0 < value < math.inf:
            raise UserError(f"`{name}` must be above 0, got {value}.")


def check_shares(cpus: int, gpus: float | None) -> None:
    """Refuse a cell without a core, and shares of GPUs that mean nothing.

    Args:
        cpus: CPU cores of one cell.
        gpus: GPUs of one cell; None where nothing is asked for.

    Raises:
        UserError: A value means nothing; the message has its name.
    """
    if cpus < 1:
        raise UserError(f"`cpus_per_cell` must be at least 1, got {cpus}.")
    if gpus is not None and not 0 <= gpus < math.inf:
        raise UserError(f"`gpus_per_cell` must be 0 or more, got {gpus}.")
    if gpus and gpus > 1 and gpus % 1:
        raise UserError(f"`gpus_per_cell` above 1 must be whole, got {gpus}.")


def check_seeds(seeds: Sequence[int], name: str = "`seeds`") -> None:
    """Refuse seeds that are missing, negative, too large or repeated.

    Args:
        seeds: Seeds to check.
        name: Name of the field that has them, in backquotes.

    Raises:
        UserError: A seed is refused; the message names it.
    """
    given = f"{name} {printable(' '.join(map(str, seeds)))}"
    if not seeds:
        raise UserError(f"{name} is empty. Give at least one.")
    for seed in seeds:
        if seed < 0:
            raise UserError(f"{given}: {seed} is negative. Seeds are 0 or more.")
        if seed >= 2**32:  # NumPy's legacy generator takes no larger seed
            raise UserError(f"{given}: {seed} is too large. Seeds are below 2^32.")
        if seeds.count(seed) > 1:
            raise UserError(f"{given}: {seed} appears twice. Remove one.")


def check_storage(location: str) -> None:
    """Refuse a storage on a disk that is no folder there, for a command that only reads one.

    Raises:
        UserError: The storage is not there, or is a file; the message names the place.
    """
    path = _path(location)
    if location and "://" not in path and not os.path.exists(path):
        raise UserError(
            f"no storage at {Path(path).resolve()}. Check `storage`, or run a sweep first."
        )
    if os.path.isfile(path):
        raise UserError(f"`storage` {printable(location, 150)} is a file, not a folder.")


def check_folder(flag: str, location: str | None) -> None:
    """Refuse a folder on a disk that is not there; None and URLs pass.

    Args:
        flag: Flag that the folder was given by.
        location: A path or a URL.

    Raises:
        UserError: The folder is not there; the message has the flag and the place.
    """
    if location is not None and "://" not in _path(location) and not os.path.isdir(_path(location)):
        raise UserError(f"{flag} {printable(location, 150)} is not a folder. Check its name.")


def check_place(flag: str, location: str | None) -> None:
    """Refuse what is not there on a disk, and URLs of nothing that files are fetched from.

    Args:
        flag: Flag that the place was given by.
        location: A path or a URL; None passes.

    Raises:
        UserError: The place can't be one; the message has the flag and the place as it was given.
    """
    protocol, is_url, rest = (location or "").partition("://")
    if location is None or not is_url or protocol == "file":
        if location is not None and not os.path.exists(_path(location)):
            given = f"{flag} {printable(location, 150)}"
            raise UserError(f"{given} is neither a folder nor a file. Check its name.")
        return
    given = f"{flag} {printable(location, 150)}"
    if protocol not in _STORES:
        raise UserError(
            f"{given}: folders are not fetched by {printable(protocol)}://. Give a folder on a "
            "disk, or in an object store, such as s3://BUCKET/FOLDER."
        )
    if not rest.partition("/")[0].strip():
        raise UserError(f"{given} names no bucket. Give it as {protocol}://BUCKET/FOLDER.")


def check_weights(
    flag: str, given: str | None, names: Sequence[str], *, tower: str | None = None
) -> None:
    """Refuse weights that are neither a known name nor a file, as far as names tell.

    Args:
        flag: Flag that the weights were given by.
        given: A name or the path of a file; None passes.
        names: Names that are known.
        tower: Name in open_clip of the model that the weights are for; one of its tags will do too.
            Asking for the tags of a model that is not in `CLIP_TAGS` takes seconds, and is left
            for later.

    Raises:
        UserError: The weights are neither; the message has the flag and the value.
    """
    tags = () if tower is None else CLIP_TAGS.get(tower)
    known = (*(("openai",) if tags is None else tags), *names)
    if given is None or given in known or os.path.isfile(given):
        return
    what = "no such file"
    if os.path.exists(given):
        what = "it is a folder" if os.path.isdir(given) else "it is not a regular file"
    elif tower is not None and re.fullmatch(r"[\w-]+", given):
        if tags is None or given.lower().replace("-", "_") in tags:  # as open_clip reads them
            return
        what = f"open_clip has no such weights for {tower}, and there is no such file"
    raise UserError(
        f"{flag} {printable(given)}: {what}. Give {', '.join(known)}, or the path of a file."
    )


def check_encoder(flag: str, given: str) -> None:
    """Refuse an encoder that is neither a known name nor a class in a file.

    Args:
        flag: Flag that the encoder was given by.
        given: A name, or "FILE.py:CLASS".

    Raises:
        UserError: The encoder is neither; the message has the flag and the value.
    """
    if given in ENCODERS:
        return
    known = f"Give {', '.join(ENCODERS)}, or FILE.py:CLASS."
    if (source := own_source(given)) is None:
        raise UserError(
            f"{flag} {printable(given)}: neither an encoder nor a class in a file. {known}"
        )
    if not os.path.isfile(source.path):
        raise UserError(f"{flag} {printable(given)}: no such file. {known}")


def check_target(flag: str, given: str | None, weights_flag: str, weights: str | None) -> None:
    """Refuse a target of sentences that is none, as far as its name tells.

    Args:
        flag: Flag that the target was given by.
        given: The target in one word, see `ssense.targets.target_source`; None passes.
        weights_flag: Flag of the weights of a text tower.
        weights: Weights of a text tower by that flag; None passes.

    Raises:
        UserError: The target or its weights can't be; the message has the flag and the value.
    """
    shown = f"{flag} {printable(given or '', 150)}"
    try:
        changes = target_changes(given or TEXT_TOWER)
    except ValueError as error:
        raise UserError(f"{shown}: {error}. Give {SPELLINGS}.") from error
    if weights is not None and (changes[TARGET] != OPEN_CLIP or WEIGHTS in changes):
        why = "names its own" if WEIGHTS in changes else f"is of {changes[TARGET]}, without any"
        raise UserError(
            f"{weights_flag} {printable(weights)}: {shown} {why}. Leave {weights_flag} out."
        )
    if changes[TARGET] == OPEN_CLIP:
        tower, named = str(changes[MODEL]), changes.get(WEIGHTS)
        if named is None:
            check_weights(weights_flag, weights, (UNTRAINED,), tower=tower)
        else:
            check_weights(f"{shown}:", str(named), (UNTRAINED,), tower=tower)
    source = own_source(str(changes.get("target.source", "")))
    file = source.path if source else changes.get("target.file")
    if file is not None and not os.path.isfile(str(file)):
        raise UserError(f"{shown}: no such file. Check its name.")


def _path(location: str) -> str:
    return os.path.expanduser(location.removeprefix("file://"))
