"""Image features of a frozen open_clip tower, computed once and cached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import torch
from torch import Tensor, nn

from ssense.choices import FeatureKind
from ssense.data.things.images import ImageSet
from ssense.data.things.pixels import Fit, images_digest, read_pixels
from ssense.errors import UserError, printable
from ssense.files.digest import digest, weights_identity
from ssense.files.source_code import package_digest
from ssense.files.storage import exists
from ssense.precision import full_precision
from ssense.targets.augmentations import (
    COGNITIVE_PRIOR,
    Augmentation,
    FovealBlur,
    Unchanged,
)
from ssense.targets.clip import frozen_clip, model_config, read_embeddings, write_embeddings

if TYPE_CHECKING:
    from open_clip.transformer import VisionTransformer
    from upath import UPath

FORMAT_VERSION = 1  # raise it when the same images, tower and view give other features

VIEWS: dict[FeatureKind, tuple[Augmentation, ...]] = {
    "original": (Unchanged(),),
    "augmented-mean": COGNITIVE_PRIOR,
    "blurred": (FovealBlur(),),
}
_BATCH = 64
_READERS = ("data/things/images.py", "data/things/pixels.py")  # of what a tower is fed


@dataclass(frozen=True, kw_only=True)
class ImageTowerSpec:
    """Which frozen tower embeds the images.

    The default is the tower of NeuroBridge, and so of SSR; "ViT-B-16-quickgelu" is the one that
    NeuroCLIP has here. OpenAI's weights were trained with QuickGELU, which the plain names lack.

    Attributes:
        model: Name of the tower in open_clip.
        weights: An open_clip tag ("openai"), a local file, or "untrained" for a tower at its seeded
            initialisation.
        fit: How an image becomes a square. The random crops that open_clip trains with are refused:
            features are computed once, and would keep one draw for good.
        image_px: Side of the tower's input, pixels; None stands for its own.

    Raises:
        UserError: The transform is not one of those in `Fit`.
    """

    model: str = "RN50-quickgelu"
    weights: str = "openai"
    fit: Fit = "squash"
    image_px: int | None = None

    def __post_init__(self) -> None:
        """Refuse transforms that are not the same at every call."""
        if self.fit not in get_args(Fit):
            raise UserError(
                f"fit {printable(str(self.fit))} is not a transform whose features can be cached: "
                f"a random one would keep a single draw. Use {' or '.join(get_args(Fit))}."
            )


class ImageTower(nn.Module):
    """The image side of an open_clip model, frozen, fed with pixels.

    Args:
        visual: Image encoder of open_clip, frozen and in evaluation mode, see `frozen_clip`.

    Attributes:
        image_px: Side of the images that the tower takes, pixels.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, visual: VisionTransformer) -> None:
        super().__init__()
        self.visual = visual
        settings = visual.preprocess_cfg
        size = settings["size"]
        self.image_px = size if isinstance(size, int) else min(size)
        for name in ("mean", "std"):
            values = torch.tensor(settings[name]).view(-1, 1, 1)
            self.register_buffer(name, values, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Embed uint8 `[B, 3, S, S]` as float32 `[B, F]`, not normalised."""
        features: Tensor = self.visual(self.normalised(pixels))
        return features.float()

    def normalised(self, pixels: Tensor) -> Tensor:
        """Scale uint8 pixels to what the encoder was trained on, float32."""
        return (pixels.float() / 255 - self.mean) / self.std

    def train(self, mode: bool = True) -> ImageTower:  # noqa: ARG002
        """Stay in evaluation mode: a frozen tower drops no patch and keeps its statistics."""
        return super().train(False)


def image_tower(spec: ImageTowerSpec) -> ImageTower:
    """Build the frozen tower, on the CPU.

    Raises:
        UserError: The model is unknown, its weights can't be loaded, or its images are not square.
    """
    tower = ImageTower(frozen_clip(spec.model, spec.weights, "image", spec.image_px).visual)
    size = tower.visual.preprocess_cfg["size"]
    if not isinstance(size, int) and len(set(size)) > 1:
        raise UserError(
            f"{spec.model} takes images of {size} pixels. Use one that takes square images."
        )
    return tower


def tower_layers(model: str) -> int:
    """How many layers the image Transformer of an open_clip model has.

    Raises:
        UserError: There is no such model, or it is not a Transformer.
    """
    layers = model_config(model)["vision_cfg"].get("layers")
    if not isinstance(layers, int):
        raise UserError(
            f"{model} is not a Transformer that takes prompts. Choose another `tower`, such as "
            "ViT-B-16-quickgelu, or leave neuroclip out of `objectives`."
        )
    return layers


def tower_px(model: str) -> int:
    """Side of the images that an open_clip model takes.

    Raises:
        UserError: There is no such model.
    """
    size = model_config(model)["vision_cfg"]["image_size"]
    return size if isinstance(size, int) else min(size)


def cached_features(
    images: ImageSet,
    kinds: Sequence[FeatureKind],
    spec: ImageTowerSpec,
    folder: UPath,
    device: torch.device | str = "cpu",
) -> dict[FeatureKind, Tensor]:
    """Features of all images, from the cache in `folder` or computed into it.

    There is a file for each view of the images. What is missing is computed in one pass over the
    image files. Call it once before work is handed out: then nothing is left to compute.

    Args:
        images: Images to embed.
        kinds: Kinds of features to compute.
        spec: Specification of the tower.
        folder: Folder of the cache.
        device: Device to compute on.

    Returns:
        Features by kind, `[N, F]` float32 on the CPU, not normalised.

    Raises:
        UserError: The weights can't be loaded, or an image or a cached file is damaged.
    """
    listed = images_digest(images)
    paths = feature_files(listed, kinds, spec, folder)
    origins = {view: feature_origin(listed, view, spec) for view in paths}
    found = {
        view: read_embeddings(path, len(images), origins[view])
        for view, path in paths.items()
        if exists(path)
    }
    missing = [view for view in paths if view not in found]
    if missing:
        found |= embed_images(images, missing, spec, device)
    for view in missing:
        write_embeddings(paths[view], found[view], origins[view], feature_code())
    # As NeuroBridge does, the features are averaged as they are, without normalisation.
    return {kind: torch.stack([found[view] for view in VIEWS[kind]]).mean(dim=0) for kind in kinds}


def feature_files(
    images: str, kinds: Sequence[FeatureKind], spec: ImageTowerSpec, folder: UPath
) -> dict[Augmentation, UPath]:
    """Where the features of images are kept, or will be, by the view that each file is of.

    Args:
        images: Digest of the image list, see `images_digest`.
        kinds: Kinds of features, each made of one or more views.
        spec: Specification of the tower.
        folder: Folder of the cache.
    """
    views = dict.fromkeys(view for kind in kinds for view in VIEWS[kind])
    names = {view: digest(feature_origin(images, view, spec)) for view in views}
    return {view: folder / f"{spec.model}-{name}.safetensors" for view, name in names.items()}


def feature_code() -> str:
    """Version of the code between image files and their features."""
    return package_digest("targets", *_READERS, "precision.py")


def feature_origin(images: str, view: Augmentation, spec: ImageTowerSpec) -> dict[str, str]:
    """Everything that features depend on.

    Args:
        images: Digest of the image list, see `images_digest`.
        view: View of the images, such as a blur.
        spec: Specification of the tower; weights count by their content.
    """
    return {
        "model": spec.model,
        "weights": weights_identity(spec.weights),
        "transform": f"{spec.fit} {spec.image_px or 'own size'}",
        "view": f"{type(view).__name__} {digest(view)}",
        "images": images,
        "format": str(FORMAT_VERSION),
    }


@torch.inference_mode()
def embed_images(
    images: ImageSet,
    views: Sequence[Augmentation],
    spec: ImageTowerSpec,
    device: torch.device | str = "cpu",
) -> dict[Augmentation, Tensor]:
    """Embed views of all images.

    Returns:
        Features by view, `[N, F]` float32 on the CPU.

    Raises:
        UserError: The weights can't be loaded, or an image is damaged.
    """
    tower = image_tower(spec).to(device)
    parts: dict[Augmentation, list[Tensor]] = {view: [] for view in views}
    for first in range(0, len(images), _BATCH):
        rows = range(first, min(first + _BATCH, len(images)))
        names = [images.files[row] for row in rows]
        pixels = read_pixels(images, tower.image_px, spec.fit, rows).to(device)
        with full_precision(pixels.device.type):  # the cache has one key for all devices
            for view in views:
                parts[view].append(tower(view.apply(pixels, names)).cpu())
    return {view: torch.cat(features) for view, features in parts.items()}
