"""Layers of an image tower: which there are, how wide they are, and what they make of images.

Layers count from 1: blocks of a Transformer, stages of a convolutional network. They are read as
they are, before the norm and the projection behind the last of them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ssense.choices import ImagePooling
from ssense.errors import UserError, printable
from ssense.targets.clip import model_config, the_open_clip
from ssense.targets.timm_tower import bare_timm_visual, is_timm

if TYPE_CHECKING:
    from open_clip.transformer import VisionTransformer


@dataclass(frozen=True, kw_only=True)
class TowerShape:
    """What there is to read of a tower.

    Attributes:
        output: Dimensions of its output.
        widths: Dimensions of each layer, from the first on.
        has_class_token: Whether its layers have one; else there are patches alone.
    """

    output: int
    widths: tuple[int, ...]
    has_class_token: bool


@cache
def tower_shape(model: str) -> TowerShape:
    """The shapes of an image tower, by a run without numbers; no weights are loaded.

    Args:
        model: Name of the tower, in open_clip, or "timm/" and a name in timm.

    Raises:
        UserError: There is no such model, or its layers can't be read.
    """
    visual = _bare_visual(model)
    size = visual.preprocess_cfg["size"]
    px = size if isinstance(size, int) else min(size)
    try:
        found = _forward(visual, torch.zeros(1, 3, px, px, device="meta"), None)
        output = visual(torch.zeros(1, 3, px, px, device="meta"))
    except (AttributeError, NotImplementedError, RuntimeError) as error:
        raise UserError(
            f"the layers of {printable(model)} can't be read ({type(error).__name__}). Take its "
            "output, or another `tower`."
        ) from error
    return TowerShape(
        output=output.shape[1],
        widths=tuple(each.shape[1] for each in found["image_intermediates"]),
        has_class_token=has_class_token(visual),
    )


def read_layers(
    visual: VisionTransformer, images: Tensor, layers: Sequence[int], pooling: ImagePooling
) -> dict[int, Tensor]:
    """Read layers of a tower in one pass, float32 `[B, F]` each.

    Args:
        visual: Image side of an open_clip model, or a timm model in its place.
        images: Images as the tower was trained on them, `[B, 3, S, S]`.
        layers: Numbers of the layers, from 1.
        pooling: What stands for an image; a class token only where there is one.
    """
    order = sorted({*layers})
    found = _forward(visual, images, [layer - 1 for layer in order])
    if pooling == "cls":
        tokens = [each[:, 0] for each in found["image_intermediates_prefix"]]
    else:
        tokens = [each.mean(dim=(2, 3)) for each in found["image_intermediates"]]
    return {layer: each.float() for layer, each in zip(order, tokens, strict=True)}


def has_class_token(visual: nn.Module) -> bool:
    """Whether the layers of a tower have a class token.

    Args:
        visual: Image side of an open_clip model, or a timm model in its place.
    """
    if (trunk := getattr(visual, "trunk", None)) is not None:
        return bool(getattr(trunk, "num_prefix_tokens", 0))
    return hasattr(visual, "class_embedding")


def _forward(visual: Any, images: Tensor, indices: list[int] | None) -> dict[str, list[Tensor]]:
    found: dict[str, list[Tensor]] = visual.forward_intermediates(
        images,
        indices=indices,
        intermediates_only=True,
        output_extra_tokens=has_class_token(visual),
    )
    return found


def _bare_visual(model: str) -> Any:
    """The image side of a model without numbers."""
    if is_timm(model):
        return bare_timm_visual(model)
    model_config(model)  # raises where there is none
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with torch.device("meta"):
            clip = the_open_clip().create_model(model, device="meta", pretrained_text=False)
    finally:
        logging.disable(level)
    return clip.visual.eval()
