"""Image features of a frozen tower, or of layers inside it, computed once and cached."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, get_args

import torch
from torch import Tensor, nn

from ssense.choices import FEATURE_FILES, FeatureKind, ImagePooling
from ssense.data.things.images import ImageSet
from ssense.data.things.pixels import Fit, images_digest, read_pixels
from ssense.errors import UserError, counted, printable
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
from ssense.targets.clip import (
    check_file,
    check_weights,
    embedding_dimensions,
    frozen_clip,
    model_config,
    read_embeddings,
    write_embeddings,
)
from ssense.targets.feature_files import file_features, file_shape, folder_identity
from ssense.targets.image_layers import read_layers, tower_shape
from ssense.targets.timm_tower import is_timm, timm_px, timm_visual

if TYPE_CHECKING:
    from open_clip.transformer import VisionTransformer
    from upath import UPath

FORMAT_VERSION = 1  # raise it when the same images, tower and view give other features

VIEWS: dict[FeatureKind, tuple[Augmentation, ...]] = {
    "original": (Unchanged(),),
    "augmented-mean": COGNITIVE_PRIOR,
    "blurred": (FovealBlur(),),
}
ALL = "all"
"""A mixture of every layer that a tower has."""
_BATCH = 64
_READERS = ("data/things/images.py", "data/things/pixels.py")  # of what a tower is fed


@dataclass(frozen=True, kw_only=True)
class ImageTowerSpec:
    """Which frozen tower embeds the images, and where it is read.

    The default is the output of the tower of NeuroBridge, and so of SSR; "ViT-B-16-quickgelu" is
    the one that NeuroCLIP has here. OpenAI's weights were trained with QuickGELU, which the plain
    names lack.

    Attributes:
        model: Name of the tower in open_clip, "timm/" and its name in timm, or "files" for features
            that were made elsewhere.
        weights: An open_clip tag ("openai"), "pretrained" of timm, a local file, "untrained" for a
            tower at its seeded initialisation, or the folder of the files.
        fit: How an image becomes a square. The random crops that open_clip trains with are refused:
            features are computed once, and would keep one draw for good.
        image_px: Side of the tower's input, pixels; None stands for its own.
        layer: Number of the block or stage, from 1, that is read; None for the output.
        mixture: Layers that are mixed, by weights that training learns: their numbers, "3 6 9", or
            "all"; empty for none.
        pooling: What stands for an image in a layer.

    Raises:
        UserError: The transform is not one of those in `Fit`.
        ValueError: Layer, mixture and pooling don't fit together.
    """

    model: str = "RN50-quickgelu"
    weights: str = "openai"
    fit: Fit = "squash"
    image_px: int | None = None
    layer: int | None = None
    mixture: str = ""
    pooling: ImagePooling = "cls"

    def __post_init__(self) -> None:
        """Refuse transforms that are not the same at every call, and layers that are none."""
        if self.fit not in get_args(Fit):
            raise UserError(
                f"fit {printable(str(self.fit))} is not a transform whose features can be cached: "
                f"a random one would keep a single draw. Use {' or '.join(get_args(Fit))}."
            )
        if self.pooling not in get_args(ImagePooling):
            known = " or ".join(get_args(ImagePooling))
            raise ValueError(f"pooling must be {known}, got {self.pooling}")
        if self.layer is not None and self.layer < 1:
            raise ValueError(f"layer must be at least 1, got {self.layer}")
        if self.layer is not None and self.mixture:
            raise ValueError(
                f"layer is {self.layer} and mixture {self.mixture}: one of them is read, not both"
            )
        if self.pooling != "cls" and self.is_output:
            raise ValueError(
                f"pooling is {self.pooling}, but the tower's output has a pooling of its own: give "
                "a layer or a mixture"
            )
        if self.mixture and self.mixture != ALL:
            self._check_mixture()

    def _check_mixture(self) -> None:
        words = self.mixture.split()
        layers = [int(word) for word in words if word.isdecimal()]
        if len(layers) < max(2, len(words)) or layers != sorted({*layers}) or layers[0] < 1:
            raise ValueError(
                f"mixture must be {ALL} or two layers and more in increasing order, as in "
                f"'3 6 9', got {printable(self.mixture)}"
            )

    @property
    def is_output(self) -> bool:
        """Whether the tower's output is read, and no layer."""
        return self.layer is None and not self.mixture

    @property
    def name(self) -> str:
        """The tower as people read it: "ViT-B-32-quickgelu, openai, layer 9, mean"."""
        read = "" if self.layer is None else f", layer {self.layer}"
        read = f", mixture of layers {self.mixture}" if self.mixture else read
        pooled = "" if self.pooling == "cls" else f", {self.pooling} of patches"
        return f"{self.model}, {self.weights}{read}{pooled}"

    def mixed_layers(self) -> tuple[int, ...]:
        """Numbers of the layers that are mixed; none without a mixture.

        Raises:
            UserError: There is no such model.
        """
        if self.mixture == ALL:
            return tuple(range(1, self._n_layers() + 1))
        return tuple(map(int, self.mixture.split()))

    def _n_layers(self) -> int:
        if self.model == FEATURE_FILES:
            return file_shape(self.weights)[1] or 0
        return len(tower_shape(self.model).widths)

    def readings(self) -> tuple[ImageTowerSpec, ...]:
        """The output or the layers that are read, each as a specification of its own."""
        if not self.mixture:
            return (self,)
        return tuple(replace(self, mixture="", layer=layer) for layer in self.mixed_layers())

    def tower(self) -> ImageTowerSpec:
        """The same tower, read at its output."""
        return replace(self, layer=None, mixture="", pooling="cls")


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
    if is_timm(spec.model):
        visual: Any = timm_visual(spec.model, spec.weights, spec.image_px)
    else:
        visual = frozen_clip(spec.model, spec.weights, "image", spec.image_px).visual
    tower = ImageTower(visual)
    size = tower.visual.preprocess_cfg["size"]
    if not isinstance(size, int) and len(set(size)) > 1:
        raise UserError(
            f"{spec.model} takes images of {size} pixels. Use one that takes square images."
        )
    return tower


@dataclass(frozen=True, kw_only=True)
class ReadableLayers:
    """What of a tower can be a target.

    Attributes:
        has_output: Whether it has an output beside its layers.
        widths: Dimensions of each layer; none where it has no layers.
        poolings: What may stand for an image in a layer.
    """

    has_output: bool
    widths: tuple[int, ...]
    poolings: tuple[ImagePooling, ...]


def readable_layers(spec: ImageTowerSpec) -> ReadableLayers:
    """What of a tower, or of features in files, can be a target.

    Args:
        spec: The tower; where it is read does not matter.

    Raises:
        UserError: There is no such tower, or a file is missing or damaged.
    """
    if spec.model == FEATURE_FILES:
        width, n_layers = file_shape(spec.weights)
        widths = (width,) * (n_layers or 0)
        return ReadableLayers(has_output=n_layers is None, widths=widths, poolings=("cls",))
    shape = tower_shape(spec.model)
    poolings = get_args(ImagePooling) if shape.has_class_token else ("mean",)
    return ReadableLayers(has_output=True, widths=shape.widths, poolings=poolings)


def feature_shape(spec: ImageTowerSpec) -> tuple[int, ...]:
    """What an image's features are: `[F]`, or `[L, F]` where layers are mixed.

    Raises:
        UserError: There is no such tower, or it has no such layer or class token, or layers to be
            mixed differ in width.
    """
    if spec.model == FEATURE_FILES:
        width, _ = file_shape(spec.weights)
        return (len(spec.mixed_layers()), width) if spec.mixture else (width,)
    if spec.is_output:
        timm = is_timm(spec.model)
        return (tower_shape(spec.model).output if timm else embedding_dimensions(spec.model),)
    shape = tower_shape(spec.model)
    layers = spec.mixed_layers() if spec.mixture else (spec.layer or 1,)
    if (beyond := max(layers)) > len(shape.widths):
        raise UserError(
            f"{spec.model} has {counted(len(shape.widths), 'layer')} and no layer {beyond}. Ask "
            "for one that it has."
        )
    if spec.pooling == "cls" and not shape.has_class_token:
        raise UserError(
            f"{spec.model} has no class token in its layers. Set `pooling` to mean, for the mean "
            "of its patches."
        )
    widths = {shape.widths[layer - 1] for layer in layers}
    if len(widths) > 1:
        raise UserError(
            f"layers {' '.join(map(str, layers))} of {spec.model} differ in width "
            f"({', '.join(map(str, sorted(widths)))}), so they can't be mixed. Mix layers alike."
        )
    return (len(layers), *widths) if spec.mixture else (*widths,)


@cache
def check_tower(spec: ImageTowerSpec) -> None:
    """Refuse a tower that is not there, or can't be read so; its weights are not loaded.

    Raises:
        UserError: The tower, its weights, the files or the layer are not there.
    """
    feature_shape(spec)
    if spec.model != FEATURE_FILES and not is_timm(spec.model):
        check_weights(spec.model, spec.weights, "image")
        check_file(spec.model, spec.weights, "image")


def tower_layers(model: str) -> int:
    """How many layers the image Transformer of an open_clip model has.

    Raises:
        UserError: There is no such model, or it is not a Transformer of open_clip's own.
    """
    own = not is_timm(model) and model != FEATURE_FILES
    layers = model_config(model)["vision_cfg"].get("layers") if own else None
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
    if is_timm(model):
        return timm_px(model)
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

    There is a file for each view of the images and each layer. What is missing is computed in one
    pass over the image files. Call it once before work is handed out: then nothing is left to
    compute.

    Args:
        images: Images to embed.
        kinds: Kinds of features to compute.
        spec: Specification of the tower.
        folder: Folder of the cache.
        device: Device to compute on.

    Returns:
        Features by kind, `[N, F]` float32 on the CPU, not normalised; `[N, L, F]` where layers are
        mixed.

    Raises:
        UserError: The weights can't be loaded, or an image or a cached file is damaged.
    """
    if spec.model == FEATURE_FILES:
        return {kind: _from_files(images, kind, spec) for kind in kinds}
    make_features(images, {spec: kinds}, folder, device)
    listed, found = images_digest(images), {}
    for kind in kinds:
        paths = {
            (view, reading): path
            for reading in spec.readings()
            for view, path in feature_files(listed, (kind,), reading, folder).items()
        }
        rows = {
            (view, reading): read_embeddings(
                path, len(images), feature_origin(listed, view, reading)
            )
            for (view, reading), path in paths.items()
        }
        # As NeuroBridge does, the features are averaged as they are, without normalisation.
        means = [
            torch.stack([rows[view, reading] for view in VIEWS[kind]]).mean(dim=0)
            for reading in spec.readings()
        ]
        found[kind] = torch.stack(means, dim=1) if spec.mixture else means[0]
    return found


def make_features(
    images: ImageSet,
    wanted: Mapping[ImageTowerSpec, Iterable[FeatureKind]],
    folder: UPath,
    device: torch.device | str = "cpu",
) -> None:
    """Compute what is missing in the cache, in one pass over the images for each tower.

    Args:
        images: Images to embed.
        wanted: Kinds of features by specification; those that read one tower share its pass.
        folder: Folder of the cache.
        device: Device to compute on.

    Raises:
        UserError: The weights can't be loaded, or an image is damaged.
    """
    listed = images_digest(images)
    missing: dict[ImageTowerSpec, dict[tuple[Augmentation, ImageTowerSpec], UPath]] = {}
    for spec, kinds in wanted.items():
        for reading in spec.readings():
            for view, path in feature_files(listed, tuple(kinds), reading, folder).items():
                if not exists(path):
                    missing.setdefault(spec.tower(), {})[view, reading] = path
    for tower, paths in missing.items():
        made = _embed(images, [*paths], tower, device)
        for (view, reading), features in made.items():
            origin = feature_origin(listed, view, reading)
            write_embeddings(paths[view, reading], features, origin, feature_code())


def _from_files(images: ImageSet, kind: FeatureKind, spec: ImageTowerSpec) -> Tensor:
    if kind != "original":
        raise UserError(
            f"{spec.weights} holds features of the original images, and {kind} ones are asked for. "
            "Choose an objective and a gallery of originals, or a tower."
        )
    of_layers = [file_features(spec.weights, images, each.layer) for each in spec.readings()]
    return torch.stack(of_layers, dim=1) if spec.mixture else of_layers[0]


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
    if spec.model == FEATURE_FILES:
        return {}  # they are where they are
    views = dict.fromkeys(view for kind in kinds for view in VIEWS[kind])
    names = {view: digest(feature_origin(images, view, spec)) for view in views}
    model = spec.model.replace("/", "-")
    return {view: folder / f"{model}-{name}.safetensors" for view, name in names.items()}


def tower_identity(spec: ImageTowerSpec) -> str:
    """Name a tower's weights, or the files of its features, by what they are.

    Raises:
        UserError: A file can't be read.
    """
    if spec.model == FEATURE_FILES:
        return folder_identity(spec.weights)
    return weights_identity(spec.weights)


def feature_code() -> str:
    """Version of the code between image files and their features."""
    return package_digest("targets", *_READERS, "precision.py")


def feature_origin(images: str, view: Augmentation, spec: ImageTowerSpec) -> dict[str, str]:
    """Everything that features depend on.

    Args:
        images: Digest of the image list, see `images_digest`.
        view: View of the images, such as a blur.
        spec: Specification of the tower, read at its output or at one layer; weights count by
            their content.
    """
    read = {} if spec.layer is None else {"layer": f"{spec.layer} {spec.pooling}"}
    return read | {
        "model": spec.model,
        "weights": tower_identity(spec),
        "transform": f"{spec.fit} {spec.image_px or 'own size'}",
        "view": f"{type(view).__name__} {digest(view)}",
        "images": images,
        "format": str(FORMAT_VERSION),
    }


def embed_images(
    images: ImageSet,
    views: Sequence[Augmentation],
    spec: ImageTowerSpec,
    device: torch.device | str = "cpu",
) -> dict[Augmentation, Tensor]:
    """Embed views of all images.

    Args:
        images: Images to embed.
        views: Views of them.
        spec: Specification of the tower, read at its output or at one layer.
        device: Device to compute on.

    Returns:
        Features by view, `[N, F]` float32 on the CPU.

    Raises:
        UserError: The weights can't be loaded, or an image is damaged.
    """
    made = _embed(images, [(view, spec) for view in views], spec.tower(), device)
    return {view: features for (view, _), features in made.items()}


@torch.inference_mode()
def _embed(
    images: ImageSet,
    wanted: Sequence[tuple[Augmentation, ImageTowerSpec]],
    spec: ImageTowerSpec,
    device: torch.device | str,
) -> dict[tuple[Augmentation, ImageTowerSpec], Tensor]:
    """Embed views of all images, by all that is to be read of each, in one pass."""
    readings: dict[Augmentation, list[ImageTowerSpec]] = {}
    for view, reading in wanted:
        feature_shape(reading)  # raises where the tower has no such layer
        readings.setdefault(view, []).append(reading)
    tower = image_tower(spec).to(device)
    parts: dict[tuple[Augmentation, ImageTowerSpec], list[Tensor]] = {each: [] for each in wanted}
    for first in range(0, len(images), _BATCH):
        rows = range(first, min(first + _BATCH, len(images)))
        names = [images.files[row] for row in rows]
        pixels = read_pixels(images, tower.image_px, spec.fit, rows).to(device)
        with full_precision(pixels.device.type):  # the cache has one key for all devices
            for view, of_view in readings.items():
                read = _read(tower, view.apply(pixels, names), of_view)
                for reading, features in read.items():
                    parts[view, reading].append(features.cpu())
    return {each: torch.cat(features) for each, features in parts.items()}


def _read(
    tower: ImageTower, pixels: Tensor, readings: Sequence[ImageTowerSpec]
) -> dict[ImageTowerSpec, Tensor]:
    """Read a batch at the output and at layers, `[B, F]` each."""
    found = {reading: tower(pixels) for reading in readings if reading.layer is None}
    for pooling in get_args(ImagePooling):
        of_layers = {r.layer: r for r in readings if r.layer and r.pooling == pooling}
        if of_layers:
            layers = read_layers(tower.visual, tower.normalised(pixels), [*of_layers], pooling)
            found |= {of_layers[layer]: features for layer, features in layers.items()}
    return found
