"""Where a model of Hugging Face's is: a folder of one's own, or the hub's cache on this machine.

Everything is read from a folder on this machine, models as safetensors and without code that they
bring along. The network is asked once, for what the cache lacks.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ssense.errors import UserError, one_line, printable
from ssense.files.digest import folder_digest

# What a model is made of; other frameworks' weights and pictures would be gigabytes more.
_OF_A_MODEL = ("*.json", "*.txt", "*.model", "*.safetensors", "*.jinja")
_OF_LAYERS = ("[1-9]_*/pytorch_model.bin",)  # behind the model, of some; read as tensors alone
_NOT_OF_A_MODEL = ("onnx/*", "openvino/*")
_PROSE = (".md",)
LIBRARIES = ("transformers", "sentence_transformers")
"""Modules of the libraries that the extra `text` installs."""
_REASON_CHARACTERS = 100


def model_folder(model: str, revision: str | None, parts: str = "") -> Path:
    """The folder of a model, fetched from the hub where this machine lacks it.

    Args:
        model: A folder, or a name on the hub.
        revision: Branch, tag or commit on the hub; None for the main branch.
        parts: The file that names the model's parts, of a library whose models have one. Where the
            cache lacks it, another library may have fetched one part alone, and the hub is asked.
            Default "", no such file.

    Raises:
        UserError: There is no such folder, and the hub can't be asked or has no such model; or the
            model may be in the cache in part alone, and the hub can't be asked.
    """
    found = known_folder(model, revision)
    has_weights = found is not None and any(found.rglob("*.safetensors"))
    if found and has_weights and (local_folder(model) or _has_parts(model, found, parts)):
        return found
    if local_folder(model):
        raise UserError(
            f"the model {printable(model, 150)} is a folder without *.safetensors. Save it by "
            "save_pretrained, or give the folder that has its weights."
        )
    try:
        with quiet():
            return _fetched(model, found.name if found and has_weights else revision, parts)
    except Exception as error:  # the hub's client raises errors of its own
        reason = printable(one_line(error), _REASON_CHARACTERS)
        wanted = f"{model}, revision {revision}" if revision else model
        if has_weights:
            raise UserError(
                f"the model {printable(wanted, 150)} is in the hub's cache on this machine without "
                f"{parts}, perhaps fetched in part by another library, and the hub can't be asked "
                f"({reason}). Go online once to complete it, or give a folder."
            ) from error
        raise UserError(
            f"the model {printable(wanted, 150)} is neither a folder nor in the hub's cache on "
            f"this machine, and can't be fetched ({reason}). Check its name, go online once to "
            "fill the cache, or give a folder."
        ) from error


def _has_parts(model: str, snapshot: Path, parts: str) -> bool:
    """Whether a snapshot has the file of a model's parts, or the hub is known to have none."""
    from huggingface_hub import _CACHED_NO_EXIST, try_to_load_from_cache

    if not parts or (snapshot / parts).is_file():
        return True
    return try_to_load_from_cache(model, parts, revision=snapshot.name) is _CACHED_NO_EXIST


def _fetched(model: str, revision: str | None, parts: str) -> Path:
    """The snapshot of a model, fetched from the hub as far as the cache lacks it.

    Offline, the hub's client may return a snapshot of which it does not know whether it is whole:
    that the model has no file of its parts is taken from the hub alone, and noted in the cache.
    """
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import RemoteEntryNotFoundError

    def fetch(revision: str | None) -> Path:
        fetched = snapshot_download(
            model,
            revision=revision,
            allow_patterns=[*_OF_A_MODEL, *_OF_LAYERS],
            ignore_patterns=[*_NOT_OF_A_MODEL],
        )
        return Path(fetched)

    snapshot = fetch(revision)
    if _has_parts(model, snapshot, parts):
        return snapshot
    try:
        hf_hub_download(model, parts, revision=snapshot.name)
    except RemoteEntryNotFoundError:
        return snapshot
    return fetch(snapshot.name)  # the first call could not reach the hub


def known_folder(model: str, revision: str | None) -> Path | None:
    """The folder of a model on this machine; None where it would have to be fetched."""
    return local_folder(model) or _cached_folder(model, revision)


def local_folder(model: str) -> Path | None:
    """The folder that a model is given as; None where its name is one on the hub."""
    return Path(model) if model and Path(model).is_dir() else None


def model_identity(model: str, revision: str | None) -> str:
    """Name a model by what it is: a folder by its content, one of the hub by name and commit.

    One that is not on this machine has the name that it was given by.

    Raises:
        UserError: A folder can't be read.
    """
    if folder := local_folder(model):
        try:
            return f"folder {folder_digest(folder, leave_out=_PROSE)}"
        except OSError as error:
            raise UserError(
                f"the model {printable(model, 150)} can't be read ({one_line(error)}). Check the "
                "permissions of its files."
            ) from error
    if cached := _cached_folder(model, revision):
        return f"{model} {cached.name}"
    return f"{model} {revision}" if revision else model


def short_name(model: str, revision: str | None) -> str:
    """A model as people read it: the name of its folder, or its name on the hub."""
    name = Path(model).name if local_folder(model) or Path(model).is_absolute() else model
    return f"{name}, revision {revision}" if revision else name


@contextmanager
def quiet() -> Iterator[None]:
    """Keep libraries from drawing bars and logging advice while a model is fetched or read.

    Raises:
        UserError: They are not installed.
    """
    try:
        from transformers.utils import logging as bars
    except ImportError as error:
        raise missing_library(error) from error
    level, had_bars = logging.root.manager.disable, bars.is_progress_bar_enabled()
    logging.disable(logging.CRITICAL)
    bars.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.disable(level)
        if had_bars:
            bars.enable_progress_bar()  # type: ignore[no-untyped-call]


def missing_library(error: ImportError) -> UserError:
    """Say what to install where a library of the extra `text` is missing."""
    return UserError(
        f"language models need the library {error.name or 'sentence-transformers'}, which is not "
        "installed. Run: pip install 'ssense[text]'."
    )


def _cached_folder(model: str, revision: str | None) -> Path | None:
    """The snapshot of a model in the hub's cache: its folder is named by the commit."""
    from huggingface_hub import constants

    if not model or Path(model).is_absolute():
        return None
    kept = Path(constants.HF_HUB_CACHE) / f"models--{model.replace('/', '--')}"
    reference = kept / "refs" / (revision or "main")
    try:
        commit = reference.read_text().strip() if reference.is_file() else revision
    except (OSError, ValueError):
        return None
    snapshot = kept / "snapshots" / commit if commit else None
    return snapshot if snapshot and snapshot.is_dir() else None
