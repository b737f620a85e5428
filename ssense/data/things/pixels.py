"""The pixels of image files, at the size that an image tower takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from upath import UPath

from ssense.data.things.images import ImageSet
from ssense.errors import UserError, one_line
from ssense.files.digest import digest, file_digest
from ssense.files.storage import exists
from ssense.files.tensor_file import read_tensor, write_tensor

FORMAT_VERSION = 1  # raise it when the same images give other pixels

Fit = Literal["squash", "crop"]
"""How an image becomes a square.

squash: both sides are resized, as NeuroBridge does, and UBP, which resizes bilinearly and saves the
    result as JPEG once more: its pixels are not quite these.
crop: the shorter side is resized and the middle taken, as open_clip does to evaluate.
"""


def read_pixels(
    images: ImageSet, size: int, fit: Fit = "squash", rows: Sequence[int] | None = None
) -> Tensor:
    """Read images as colours of square pixels, resized by cubic interpolation.

    Args:
        images: Images to read.
        size: Length of each side, pixels.
        fit: How an image becomes a square.
        rows: Numbers of the images to read, in order; None reads all.

    Returns:
        `[N, 3, size, size]` uint8.

    Raises:
        UserError: A file is missing or not an image.
    """
    rows = range(len(images)) if rows is None else rows
    pixels = torch.empty((len(rows), 3, size, size), dtype=torch.uint8)
    for out, row in zip(pixels, rows, strict=True):
        out.copy_(_read(images.folder / images.files[row], size, fit))
    return pixels


def cached_pixels(images: ImageSet, size: int, fit: Fit, folder: UPath) -> Tensor:
    """Pixels of all images, see `read_pixels`, from the cache in a folder or read into it.

    Raises:
        UserError: An image or a cached file is damaged.
    """
    origin = {"origin": digest(images_digest(images), size, fit, FORMAT_VERSION)}
    path = folder / f"{origin['origin']}.safetensors"
    if not exists(path):
        pixels = read_pixels(images, size, fit)
        write_tensor(path, "pixels", pixels, origin)
        return pixels
    shape = (len(images), 3, size, size)
    return read_tensor(path, "pixels", origin, shape=shape, dtype=torch.uint8)


def images_digest(images: ImageSet) -> str:
    """Name the images by the names and contents of their files, wherever the folder lies.

    Raises:
        UserError: A file can't be read.
    """
    try:
        contents = [file_digest(images.folder / name) for name in images.files]
    except OSError as error:
        raise _unreadable(Path(error.filename or images.folder), error) from error
    return digest(images.files, contents)


def _read(path: Path, size: int, fit: Fit) -> Tensor:
    try:
        with Image.open(path) as file:
            image = file.convert("RGB")
    # Pillow's readers raise what their formats' parsers do on a damaged file.
    except Exception as error:
        raise _unreadable(path, error) from error
    square = _squashed(image, size) if fit == "squash" else _cropped(image, size)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1)


def _squashed(image: Image.Image, size: int) -> Image.Image:
    return image.resize((size, size), Image.Resampling.BICUBIC)


def _cropped(image: Image.Image, size: int) -> Image.Image:
    shorter = min(image.size)
    width, height = (size * side // shorter for side in image.size)
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return resized.crop((left, top, left + size, top + size))


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(
        f"{path} can't be read as an image ({one_line(error)}). Restore it from the download."
    )
