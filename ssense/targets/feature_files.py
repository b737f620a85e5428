"""Image features that were made elsewhere: `.npy` and `.pt` files of training and test images.

The forms of the peers, all of them in the order of the image folders:

    *train*.npy, *test*.npy      arrays `[images, F]`, `[concepts, images of each, F]`, or with
                                 layers, `[images, L, F]` and `[concepts, images of each, L, F]`
    *train*.pt, *test*.pt        such a tensor, or a dict with one under a name of `KEYS`
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssense.choices import Part
from ssense.data.things.images import ImageSet
from ssense.errors import UserError, printable
from ssense.files.digest import content_digest, digest
from ssense.files.restricted_pickle import load_restricted

KEYS = ("img_features", "image_features", "features")
"""Names of image features in a dict; ATM and UBP have the first."""
SUFFIXES = (".npy", ".pt")
_WORDS: dict[Part, str] = {"training": "train", "test": "test"}


def file_features(folder: str, images: ImageSet, layer: int | None = None) -> Tensor:
    """Features of the images of a part, float32 `[N, F]`, in their order.

    Args:
        folder: Folder of the files.
        images: Images that the features are of; the files know them by their order alone.
        layer: Number of the layer, from 1, where the files have several.

    Raises:
        UserError: A file is missing or damaged, is of other images, or has no such layer.
    """
    path = features_path(folder, "test" if images.folder.name.startswith("test") else "training")
    values = _of_layer(_by_image(_read(path), len(images), path), layer, path)
    return torch.from_numpy(np.array(values, np.float32, order="C"))


@cache
def file_shape(folder: str) -> tuple[int, int | None]:
    """Dimensions of an image's features in files, and how many layers; None without layers.

    Args:
        folder: Folder of the files.

    Raises:
        UserError: A file is missing or damaged.
    """
    path = features_path(folder, "test")  # where a concept has one image
    values = _read(path)
    by_image = _by_image(values, len(values), path)
    return by_image.shape[-1], by_image.shape[1] if by_image.ndim == 3 else None


def folder_identity(folder: str) -> str:
    """Name the features of a folder by the content of its files.

    Raises:
        UserError: A file is missing or can't be read.
    """
    parts: tuple[Part, ...] = ("training", "test")
    return f"files {digest([content_digest(features_path(folder, part)) for part in parts])}"


def features_path(folder: str, part: Part) -> Path:
    """The file of the features of a part.

    Args:
        folder: Folder of the files.
        part: Training or test.

    Raises:
        UserError: There is none, or more than one.
    """
    place = Path(folder)
    word = _WORDS[part]
    found = sorted(
        path
        for path in (place.iterdir() if place.is_dir() else ())
        if path.suffix in SUFFIXES and word in path.stem.lower()
    )
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise UserError(
            f"{printable(folder)}: features of {part} images are in one .npy or .pt file whose "
            f'name has "{word}" in it, found {printable(names)}. Give a folder with one such file '
            "for training and one for test images."
        )
    return found[0]


def _read(path: Path) -> np.ndarray:
    content: Any = load_restricted(path)
    if isinstance(content, dict):
        names = [name for name in KEYS if name in content]
        if not names:
            known = ", ".join(map(str, content)) or "nothing"
            raise UserError(
                f"{path} holds {printable(known)}, and image features are called "
                f"{' or '.join(KEYS)}. Save them alone, or under such a name."
            )
        content = content[names[0]]
    if not isinstance(content, np.ndarray) or content.dtype.kind != "f" or content.ndim < 2:
        shape = getattr(content, "shape", None)
        raise UserError(
            f"{path} holds {type(content).__name__} {shape or ''}, not features as an array of "
            "floating point, images first."
        )
    if not np.isfinite(content).all():
        raise UserError(f"{path} holds NaN or infinity. Make the features again.")
    return content


def _by_image(values: np.ndarray, n: int, path: Path) -> np.ndarray:
    """Features with one axis of images, `[n, F]` or `[n, L, F]`."""
    by_concept = values.ndim > 2 and values.shape[0] * values.shape[1] == n
    rows = values.reshape(n, *values.shape[2:]) if by_concept else values
    if len(rows) != n or rows.ndim > 3:
        raise UserError(
            f"{path} has features {values.shape}, which are not of {n} images. Give those of the "
            "same images, in the order of their folders."
        )
    return rows


def _of_layer(values: np.ndarray, layer: int | None, path: Path) -> np.ndarray:
    if values.ndim == 2:
        if layer is not None:
            raise UserError(f"{path} has features of no layers. Leave `layer` and `mixture` out.")
        return values
    n_layers = values.shape[1]
    if layer is None or layer > n_layers:
        asked = "none" if layer is None else f"layer {layer}"
        raise UserError(
            f"{path} has {n_layers} layers of features, and {asked} is asked for. Give `layer`, "
            f"from 1 to {n_layers}, or a `mixture`."
        )
    found: np.ndarray = values[:, layer - 1]
    return found
