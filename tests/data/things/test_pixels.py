from __future__ import annotations

from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from ssense.data.things.images import ImageSet, read_image_set
from ssense.data.things.pixels import images_digest, read_pixels
from ssense.errors import UserError

SIZES = {"a.jpg": (40, 40), "b.png": (61, 33), "c.jpg": (35, 70)}


def picture(width: int, height: int, seed: int) -> Image.Image:
    colours = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize((width, height))


@pytest.fixture
def images(tmp_path) -> ImageSet:
    folder = tmp_path / "training_images" / "00001_thing"
    folder.mkdir(parents=True)
    for seed, (name, size) in enumerate(SIZES.items()):
        picture(*size, seed).save(folder / name)
    return read_image_set(tmp_path, "training")


def literal(path: Path, size: int) -> np.ndarray:
    """NeuroBridge: `image.convert("RGB").resize((224, 224))`."""
    return np.array(Image.open(path).convert("RGB").resize((size, size)))


def test_squashed_images_are_pillow_s(images):
    pixels = read_pixels(images, 24)
    assert (pixels.shape, pixels.dtype) == ((3, 3, 24, 24), torch.uint8)
    for found, name in zip(pixels, images.files, strict=True):
        assert np.array_equal(found.permute(1, 2, 0), literal(images.folder / name, 24))


def test_cropped_images_are_open_clip_s(images):
    transform = open_clip.image_transform(24, is_train=False, mean=(0, 0, 0), std=(1, 1, 1))
    for found, name in zip(read_pixels(images, 24, "crop"), images.files, strict=True):
        with Image.open(images.folder / name) as image:
            assert torch.equal(found, (transform(image) * 255).round().to(torch.uint8))


def test_rows_select_and_order(images):
    assert torch.equal(read_pixels(images, 8, rows=[2, 0]), read_pixels(images, 8)[[2, 0]])
    assert read_pixels(images, 8, rows=[]).shape == (0, 3, 8, 8)


def test_grey_and_transparent_images_are_read_in_colour(images):
    path = images.folder / images.files[1]
    Image.open(path).convert("LA").save(path)
    (grey,) = read_pixels(images, 8, rows=[1])
    assert torch.equal(grey[0], grey[1])
    assert torch.equal(grey[0], grey[2])


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda _: b"", lambda _: b"GIF89a"])
def test_a_damaged_image_is_one_line(images, damage):
    path = images.folder / images.files[0]
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError) as error:
        read_pixels(images, 8)
    assert str(error.value).startswith(f"{path} can't be read as an image (")
    assert str(error.value).isprintable()


def test_a_missing_image_is_one_line(images):
    path = images.folder / images.files[0]
    path.unlink()
    for read in (images_digest, lambda images: read_pixels(images, 8)):
        with pytest.raises(UserError, match=r"can't be read as an image \(.*\)\. Restore"):
            read(images)


def test_the_digest_names_names_and_contents_and_not_the_folder(images, tmp_path):
    first = images_digest(images)
    moved = (tmp_path / "training_images").rename(tmp_path / "train_images").parent
    again = read_image_set(moved, "training")
    assert images_digest(again) == first
    picture(40, 40, 9).save(again.folder / again.files[0])
    assert images_digest(again) != first
    picture(40, 40, 0).save(again.folder / again.files[0])
    assert images_digest(again) == first
    (again.folder / again.files[0]).rename(again.folder / "00001_thing" / "aa.jpg")
    assert images_digest(read_image_set(moved, "training")) != first
