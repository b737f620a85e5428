"""Frozen open_clip models: their weights or what to do without, and embeddings that are kept."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ssense.choices import UNTRAINED
from ssense.errors import UserError, printable
from ssense.tensor_file import read_tensor, write_tensor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from upath import UPath

_TOWERS = Path(__file__).parent / "towers"
_UNTRAINED_SEED = 0


def frozen_clip(model: str, weights: str, what: str, image_px: int | None = None) -> nn.Module:
    """Build an open_clip model in evaluation mode whose weights never change.

    Args:
        model: open_clip's name of it.
        weights: an open_clip tag ("openai"), a local file, or "untrained" for the seeded
            initialisation.
        what: the weights are for, "text" or "image", as messages and flags name it.
        image_px: side of the images it takes, its own where none is given.

    Raises:
        UserError: the model is unknown or its weights can't be had.
    """
    import open_clip

    pretrained = None if weights == UNTRAINED else weights
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # the hub client logs a screenful of retries
    try:
        model_config(model)  # which says that there is no such model
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_UNTRAINED_SEED)
            clip = open_clip.create_model(model, pretrained=pretrained, force_image_size=image_px)
    except UserError:
        raise
    except Exception as error:  # open_clip raises whatever its hub, pickle or tensor reader does
        raise UserError(
            f"{what} weights {weights} of {model} can't be had ({type(error).__name__}). "
            f"Go online once to fill the cache, or pass a local file with --{what}-weights FILE, "
            f"or run a trial with --{what}-weights untrained."
        ) from error
    finally:
        logging.disable(level)
    return clip.eval().requires_grad_(False)


def model_config(model: str) -> dict[str, Any]:
    """What open_clip knows of a model.

    Raises:
        UserError: it knows none of that name.
    """
    import open_clip

    open_clip.add_model_config(_TOWERS)
    config = open_clip.get_model_config(model)
    if config is None:
        raise UserError(
            f"open_clip knows no model {printable(model)}. See open_clip.list_models()."
        )
    return config


def write_embeddings(path: UPath, embeddings: Tensor, origin: Mapping[str, str]) -> None:
    """Keep embeddings `[N, D]` with everything they depend on: the whole file or none.

    Raises:
        UserError: it can't be written.
    """
    write_tensor(path, "embeddings", embeddings, origin)


def read_embeddings(path: UPath, n: int) -> Tensor:
    """Read embeddings `[n, D]` that were kept.

    Raises:
        UserError: the file is damaged or holds another number of rows.
    """
    embeddings = read_tensor(path, "embeddings")
    if len(embeddings) != n:
        raise UserError(f"{path} holds {len(embeddings)} rows, not {n}. Delete it.")
    return embeddings
