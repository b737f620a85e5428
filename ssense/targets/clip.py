"""Frozen open_clip models: their weights, and what to do without; embeddings that are kept."""

from __future__ import annotations

import importlib.util
import json
import logging
import re
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ssense.choices import UNTRAINED
from ssense.errors import UserError, one_line, printable
from ssense.files.digest import weights_file
from ssense.files.tensor_file import read_tensor, write_tensor
from ssense.targets.clip_weights import check_clip_weights, load_clip_weights

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from open_clip import CLIP
    from upath import UPath

_TOWERS = Path(__file__).parent / "towers"
_UNTRAINED_SEED = 0
_OFFERED = 3  # names to offer in place of an unknown one
_REASON_CHARACTERS = 100


def frozen_clip(model: str, weights: str, what: str, image_px: int | None = None) -> CLIP:
    """Build an open_clip model in evaluation mode whose weights never change.

    Args:
        model: Name of the model in open_clip.
        weights: An open_clip tag ("openai"), a local file, or "untrained" for the seeded
            initialisation.
        what: The tower that the weights are for, "text" or "image", as messages name it.
        image_px: Side of the images that the model takes; None stands for its own.

    Raises:
        UserError: The model is unknown or its weights can't be loaded.
    """
    open_clip = the_open_clip()
    check_weights(model, weights, what)
    file = weights_file(weights)
    pretrained = None if file or weights == UNTRAINED else weights
    with told_of_weights(model, weights, what):
        model_config(model)  # raises where there is no such model
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_UNTRAINED_SEED)
            clip = open_clip.create_model(model, pretrained=pretrained, force_image_size=image_px)
        if file:
            load_clip_weights(clip, file, what)
    return clip.eval().requires_grad_(False)


def fetch_weights(model: str, weights: str, what: str) -> None:
    """Download weights that open_clip has, unless they are on this machine; nothing is loaded.

    Args:
        model: Name of the model in open_clip.
        weights: What `check_weights` takes.
        what: The tower that the weights are for, "text" or "image", as messages name it.

    Raises:
        UserError: They can't be had.
    """
    if weights == UNTRAINED or weights_file(weights) is not None:
        return
    with told_of_weights(model, weights, what):
        configuration = the_open_clip().get_pretrained_cfg(model, weights)
        the_open_clip().download_pretrained(configuration)


@contextmanager
def told_of_weights(model: str, weights: str, what: str) -> Iterator[None]:
    """Say in one line what weights can't be loaded, and what to do."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # the hub client logs a screenful of retries
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # open_clip raises whatever its hub, pickle or tensor reader does
        reason = printable(one_line(error), _REASON_CHARACTERS)
        raise UserError(
            f"could not load the {what} weights {printable(weights)} of {model} ({reason}). Go "
            f"online once to fill the cache, or set `{what}.weights` to a local file, or to "
            f"{UNTRAINED} for a trial."
        ) from error
    finally:
        logging.disable(level)


def the_open_clip() -> Any:
    """The module open_clip, which takes seconds to import, with our own models among its own."""
    import open_clip

    open_clip.add_model_config(_TOWERS)
    return open_clip


def model_config(model: str) -> dict[str, Any]:
    """Return the configuration that open_clip has of a model.

    Raises:
        UserError: There is no model of that name in open_clip.
    """
    if (on_disk := _config_on_disk(model)) is not None:
        return on_disk
    open_clip = the_open_clip()
    config: dict[str, Any] | None = open_clip.get_model_config(model)
    if config is None:
        known = _similar(model, open_clip.list_models())
        raise UserError(
            f"open_clip knows no model {printable(model)}. {_offered(known)}"
            "See open_clip.list_models()."
        )
    return config


def _config_on_disk(model: str) -> dict[str, Any] | None:
    """The configuration of a model in a file of ours or of open_clip, which takes long to import.

    None where there is no such file: a model may be known to open_clip in other ways.
    """
    package = importlib.util.find_spec("open_clip")
    if package is None or package.origin is None or not re.fullmatch(r"[\w.+-]+", model):
        return None
    for folder in (_TOWERS, Path(package.origin).parent / "model_configs"):
        if (path := folder / f"{model}.json").is_file():
            config: dict[str, Any] = json.loads(path.read_text())
            return config
    return None


def embedding_dimensions(model: str) -> int:
    """Dimensions of the embeddings that an open_clip model makes of texts and images alike.

    Raises:
        UserError: There is no such model.
    """
    return int(model_config(model)["embed_dim"])


def check_weights(model: str, weights: str, what: str) -> None:
    """Refuse a name of weights that is neither a file nor known to open_clip; nothing is loaded.

    Args:
        model: Name of the model in open_clip.
        weights: An open_clip tag, a local file, or "untrained", see `frozen_clip`.
        what: The tower that the weights are for, "text" or "image", as messages name it.

    Raises:
        UserError: There are no weights of that name in open_clip, or no such model; or the file
            can't be read.
    """
    if weights == UNTRAINED or weights_file(weights) is not None:
        return
    open_clip = the_open_clip()
    model_config(model)
    if open_clip.is_pretrained_cfg(model, weights):
        return
    tags = open_clip.list_pretrained_tags_by_model(model)
    known = ", ".join(_similar(weights, tags) or tags[:_OFFERED]) or "none"
    raise UserError(
        f"{what} weights {printable(weights)}: neither a file nor weights that open_clip has for "
        f"{model} (it has: {known}). Check the path, or go online with one of these, or set "
        f"`{what}.weights` to a local file, or to {UNTRAINED} for a trial."
    )


def check_file(model: str, weights: str, what: str) -> None:
    """Refuse a file of weights that `frozen_clip` would refuse, without building the model.

    Args:
        model: Name of the model in open_clip.
        weights: What `check_weights` takes; whatever is no file passes.
        what: The tower that the weights are for, "text" or "image".

    Raises:
        UserError: The file can't be read, or is another model's.
    """
    open_clip = the_open_clip()
    file = weights_file(weights)
    if file is None:
        return
    model_config(model)
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with torch.device("meta"):
            clip = open_clip.create_model(model, device="meta", pretrained_text=False)
        check_clip_weights(clip, file, what)
    except UserError:
        raise
    except Exception:  # of a model that can't be built without numbers: `frozen_clip` says so
        return
    finally:
        logging.disable(level)


def _similar(name: str, known: Sequence[str]) -> list[str]:
    """Names that resemble one that is misspelt, whatever the case."""
    as_written = {each.lower(): each for each in known}
    return [as_written[each] for each in get_close_matches(name.lower(), as_written, _OFFERED)]


def _offered(names: Sequence[str]) -> str:
    return f"Did you mean {' or '.join(names)}? " if names else ""


def write_embeddings(path: UPath, embeddings: Tensor, origin: Mapping[str, str], code: str) -> None:
    """Keep embeddings `[N, D]` with everything they depend on: the whole file or none.

    Args:
        path: The file to write.
        embeddings: The embeddings, on the CPU.
        origin: What they depend on.
        code: Version of the code that made them, see `tensor_file.tensor_code`.

    Raises:
        UserError: The file can't be written.
    """
    write_tensor(path, "embeddings", embeddings, origin, code)


def read_embeddings(path: UPath, n: int, origin: Mapping[str, str] | None = None) -> Tensor:
    """Read embeddings `[n, D]` that were kept.

    Args:
        path: The file to read.
        n: The rows that it must have.
        origin: What they must have been made from; None where that is not known.

    Raises:
        UserError: The file is damaged, of another origin, or holds something else.
    """
    return read_tensor(path, "embeddings", origin, shape=(n, None), dtype=torch.float32)
