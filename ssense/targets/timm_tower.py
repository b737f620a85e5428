"""Image towers of timm, such as DINOv2, in the place of an open_clip model's image side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ssense.choices import PRETRAINED, TIMM, UNTRAINED
from ssense.errors import UserError, printable
from ssense.files.digest import weights_file
from ssense.files.weights import fault, read_weights
from ssense.targets.clip import told_of_weights

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

_UNTRAINED_SEED = 0


class TimmVisual(nn.Module):
    """A model of timm without its classifier, read as open_clip's towers are.

    Args:
        name: Name of the model in timm.
        image_px: Side of the images that it takes; None stands for its own.
        pretrained: Whether timm's weights are loaded.

    Attributes:
        trunk: The model.
        preprocess_cfg: Size, mean and standard deviation of the images it was trained on.
    """

    def __init__(self, name: str, image_px: int | None = None, *, pretrained: bool = False) -> None:
        super().__init__()
        timm = the_timm()
        sized = {} if image_px is None else {"img_size": image_px}
        try:
            self.trunk = timm.create_model(name, pretrained=pretrained, num_classes=0, **sized)
        except TypeError:  # a convolutional network takes any size, and no argument for it
            self.trunk = timm.create_model(name, pretrained=pretrained, num_classes=0)
        known = self.trunk.default_cfg
        self.preprocess_cfg = {
            "size": image_px or known["input_size"][1],
            "mean": known["mean"],
            "std": known["std"],
        }

    def forward(self, images: Tensor) -> Tensor:
        """Embed `[B, 3, S, S]` as `[B, F]`, by the model's own pooling."""
        features: Tensor = self.trunk(images)
        return features

    def forward_intermediates(
        self,
        images: Tensor,
        *,
        indices: list[int] | None,
        intermediates_only: bool,
        output_extra_tokens: bool,
    ) -> dict[str, Any]:
        """Read layers as open_clip's towers give them: patches, and where asked for, tokens."""
        extra = {"return_prefix_tokens": True} if output_extra_tokens else {}
        found = self.trunk.forward_intermediates(
            images, indices=indices, intermediates_only=intermediates_only, **extra
        )
        if not output_extra_tokens:
            return {"image_intermediates": found}
        patches, tokens = zip(*found, strict=True)
        return {"image_intermediates": [*patches], "image_intermediates_prefix": [*tokens]}


def is_timm(model: str) -> bool:
    """Whether a tower's name is one of timm's."""
    return model.startswith(TIMM)


def timm_visual(model: str, weights: str, image_px: int | None = None) -> TimmVisual:
    """Build a tower of timm in evaluation mode, on the CPU.

    Args:
        model: "timm/" and the name of the model in timm.
        weights: "pretrained", a local file, or "untrained" for the seeded initialisation.
        image_px: Side of the images that it takes; None stands for its own.

    Raises:
        UserError: There is no such model, or its weights can't be loaded.
    """
    name, file = _known(model), weights_file(weights)
    if file is None and weights not in (PRETRAINED, UNTRAINED):
        raise UserError(
            f"image weights {printable(weights)}: {model} has {PRETRAINED} ones. Set "
            f"`image.weights` to that, to a local file, or to {UNTRAINED} for a trial."
        )
    with told_of_weights(model, weights, "image"), torch.random.fork_rng(devices=[]):
        torch.manual_seed(_UNTRAINED_SEED)
        visual = TimmVisual(name, image_px, pretrained=weights == PRETRAINED)
        if file is not None:
            _load(visual.trunk, file, name)
    return visual.eval().requires_grad_(False)


def _load(trunk: nn.Module, file: Path, name: str) -> None:
    """Fill a model from a file; what is there of a classifier is passed over."""
    state, wanted = read_weights(file), trunk.state_dict()
    lacking = [each for each in wanted if each not in state]
    reason = f"it has no {lacking[0]}" if lacking else fault(state, wanted)
    if reason:
        raise UserError(f"{file}: {reason}. Give weights of timm's {name}.")
    trunk.load_state_dict({each: state[each] for each in wanted})


def bare_timm_visual(model: str) -> TimmVisual:
    """A tower of timm without numbers, for its shapes.

    Raises:
        UserError: There is no such model.
    """
    name = _known(model)
    with torch.device("meta"):
        return TimmVisual(name).eval()


def timm_px(model: str) -> int:
    """Side of the images that a model of timm takes.

    Raises:
        UserError: There is no such model.
    """
    px: int = bare_timm_visual(model).preprocess_cfg["size"]
    return px


def the_timm() -> ModuleType:
    """The module timm, which takes seconds to import."""
    import timm

    return timm


def _known(model: str) -> str:
    name = model.removeprefix(TIMM)
    if not the_timm().is_model(name.partition(".")[0]):
        raise UserError(
            f"timm knows no model {printable(name)}. See timm.list_models(pretrained=True)."
        )
    return name
