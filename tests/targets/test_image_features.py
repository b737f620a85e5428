from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import get_args

import huggingface_hub.constants
import open_clip
import pytest
import torch
from PIL import Image
from torch import Tensor
from upath import UPath

from ssense.choices import FeatureKind
from ssense.data.synthetic.things import SyntheticThingsSpec, write_synthetic_things
from ssense.data.things.images import ImageSet, read_image_set
from ssense.data.things.pixels import read_pixels
from ssense.errors import UserError
from ssense.targets import image_features
from ssense.targets.augmentations import COGNITIVE_PRIOR, Mosaic, Noise, Unchanged
from ssense.targets.image_features import (
    ImageTowerSpec,
    cached_features,
    embed_images,
    feature_origin,
    image_tower,
)

KINDS = get_args(FeatureKind)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("things") / "set"
    spec = SyntheticThingsSpec(subjects=1, concepts=35, test_concepts=2, image_px=40)
    write_synthetic_things(root, spec)
    return root


@pytest.fixture(scope="module")
def images(root) -> ImageSet:
    """More than one batch of them."""
    images = read_image_set(root, "training")
    assert len(images) > image_features._BATCH
    return images


@pytest.fixture(scope="module", params=["tiny-vit", "tiny-resnet"])
def spec(tiny_towers, request) -> ImageTowerSpec:
    assert request.param in tiny_towers
    return ImageTowerSpec(model=request.param, weights="untrained")


@pytest.fixture
def vit(tiny_towers) -> ImageTowerSpec:
    return ImageTowerSpec(model=tiny_towers[0], weights="untrained")


@pytest.fixture
def built(monkeypatch) -> list[ImageTowerSpec]:
    """Towers built so far."""
    built: list[ImageTowerSpec] = []
    tower = image_features.image_tower
    monkeypatch.setattr(
        image_features, "image_tower", lambda spec: built.append(spec) or tower(spec)
    )
    return built


def by_open_clip(images: ImageSet, model: str) -> Tensor:
    """One image at a time, with open_clip's own model and transform."""
    torch.manual_seed(0)
    clip, _, transform = open_clip.create_model_and_transforms(model, pretrained=None)
    clip.eval()
    with torch.inference_mode():
        return torch.cat(
            [
                clip.encode_image(transform(Image.open(images.folder / name))[None])
                for name in images.files
            ]
        )


# ---------------------------------------------------------------- features


def test_features_are_those_of_open_clip(images, spec, tmp_path):
    found = cached_features(images, ["original"], spec, UPath(tmp_path))["original"]
    assert (found.shape, found.dtype) == ((70, 24), torch.float32)
    torch.testing.assert_close(found, by_open_clip(images, spec.model), rtol=1e-4, atol=1e-5)


def test_the_default_is_the_tower_of_neurobridge():
    assert ImageTowerSpec() == ImageTowerSpec(
        model="RN50-quickgelu", weights="openai", fit="squash", image_px=None
    )


def test_the_augmented_mean_is_the_mean_of_four_views(images, vit, tmp_path):
    found = cached_features(images, ["augmented-mean"], vit, UPath(tmp_path))["augmented-mean"]
    tower, total = image_tower(vit), 0
    pixels = read_pixels(images, 32)
    for view in COGNITIVE_PRIOR:
        with torch.inference_mode():
            total = total + tower(view.apply(pixels, images.files))
    torch.testing.assert_close(found, total / 4, rtol=1e-4, atol=1e-5)


def test_kinds_differ(images, vit, tmp_path):
    found = cached_features(images, KINDS, vit, UPath(tmp_path))
    assert tuple(found) == KINDS
    for kind in KINDS[1:]:
        assert (found[kind] - found["original"]).norm(dim=1).min() > 0.01


def test_a_tower_stays_frozen_in_training_mode(vit):
    tower = image_tower(vit).train()
    assert not any(module.training for module in tower.modules())
    assert not any(parameter.requires_grad for parameter in tower.parameters())


def test_a_tower_may_take_smaller_images(tiny_towers):
    tower = image_tower(ImageTowerSpec(model=tiny_towers[0], weights="untrained", image_px=16))
    assert tower.image_px == 16
    assert tower(torch.zeros(2, 3, 16, 16, dtype=torch.uint8)).shape == (2, 24)


@pytest.mark.parametrize("fit", ["train", "random", None])
def test_random_transforms_are_refused(fit):
    with pytest.raises(UserError, match="a random one would keep a single draw") as error:
        ImageTowerSpec(fit=fit)
    assert str(error.value).isprintable()


# ---------------------------------------------------------------- the cache


def test_a_second_call_reads_the_files_of_the_first(images, vit, tmp_path, built):
    folder = UPath(tmp_path / "features")
    first = cached_features(images, ["original", "augmented-mean"], vit, folder)
    files = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert len(files) == 5
    again = cached_features(images, ["augmented-mean", "original"], vit, folder)
    assert len(built) == 1
    assert all(torch.equal(first[kind], again[kind]) for kind in first)
    # What is there is not computed again where something is missing.
    cached_features(images, KINDS, vit, folder)
    assert len(built) == 2
    assert len(list(folder.iterdir())) == 6
    assert {path: path.stat().st_mtime_ns for path in files} == files


def test_an_interrupted_computation_goes_on(images, vit, tmp_path, monkeypatch):
    folder, calls = UPath(tmp_path), []
    write = image_features.write_embeddings

    def write_two(*arguments) -> None:
        calls.append(arguments)
        if len(calls) > 2:
            raise KeyboardInterrupt
        write(*arguments)

    monkeypatch.setattr(image_features, "write_embeddings", write_two)
    with pytest.raises(KeyboardInterrupt):
        cached_features(images, KINDS, vit, folder)
    assert len(list(folder.iterdir())) == 2
    monkeypatch.undo()
    whole = cached_features(images, KINDS, vit, UPath(tmp_path / "other"))
    found = cached_features(images, KINDS, vit, folder)
    assert all(torch.equal(found[kind], whole[kind]) for kind in KINDS)


def test_the_key_names_all_that_changes_a_feature_and_nothing_else(tiny_towers, tmp_path):
    vit, resnet = tiny_towers
    weights = tmp_path / "weights.pt"
    origin = partial(feature_origin, "a list", Mosaic())
    base = ImageTowerSpec(model=vit, weights=str(weights))
    found = []
    for content in (b"one", b"two"):
        weights.write_bytes(content)
        found.append(origin(base))
    moved = weights.rename(tmp_path / "moved.pt")
    assert origin(ImageTowerSpec(model=vit, weights=str(moved))) == found[-1]
    assert str(tmp_path) not in str(found)
    plain = ImageTowerSpec(model=vit, weights="untrained")
    found += [
        origin(plain),
        origin(ImageTowerSpec(model=resnet, weights="untrained")),
        origin(ImageTowerSpec(model=vit, weights="untrained", fit="crop")),
        origin(ImageTowerSpec(model=vit, weights="untrained", image_px=16)),
        feature_origin("another list", Mosaic(), plain),
        feature_origin("a list", Mosaic(px=6), plain),
        feature_origin("a list", Unchanged(), plain),
        feature_origin("a list", Noise(), plain),
        feature_origin("a list", Noise(seed=1), plain),
    ]
    assert len({str(one) for one in found}) == len(found)


def test_features_do_not_depend_on_the_random_state(images, vit):
    torch.manual_seed(1)
    first = embed_images(images, COGNITIVE_PRIOR, vit)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    again = embed_images(images, COGNITIVE_PRIOR, vit)
    assert all(torch.equal(first[view], again[view]) for view in COGNITIVE_PRIOR)
    assert torch.get_rng_state().equal(before)


def test_features_are_computed_in_full_and_the_process_stays_as_it_was(images, vit):
    class Noted(Unchanged):
        def apply(self, pixels: Tensor, names: Sequence[str]) -> Tensor:
            precisions.append(convolutions.fp32_precision)
            return super().apply(pixels, names)

    precisions, convolutions = [], torch.backends.cudnn.conv
    before, convolutions.fp32_precision = convolutions.fp32_precision, "tf32"
    try:
        embed_images(images, [Noted()], vit)
        assert {*precisions} == {"ieee"}
        assert convolutions.fp32_precision == "tf32"
    finally:
        convolutions.fp32_precision = before


@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda _: b""])
def test_a_damaged_cache_is_one_line(images, vit, tmp_path, damage):
    cached_features(images, ["original"], vit, UPath(tmp_path))
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError) as error:
        cached_features(images, ["original"], vit, UPath(tmp_path))
    assert str(error.value).startswith(f"{path} is damaged (")
    assert str(error.value).isprintable()


@pytest.mark.parametrize("spec", [ImageTowerSpec(), ImageTowerSpec(weights="no.pt")])
def test_weights_that_cannot_be_had_name_three_ways_out(spec, root, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError) as error:
        cached_features(read_image_set(root, "test"), ["original"], spec, UPath(tmp_path / "x"))
    message = str(error.value)
    known = spec.weights == "openai"
    weights = f"image weights {spec.weights}"
    why = (
        f"could not load the {weights} of {spec.model} ("
        if known
        else f"{weights}: neither a file nor weights that open_clip has"
    )
    assert message.startswith(why)
    for way_out in (
        "Go online once" if known else "go online",
        "set `image.weights` to a local file",
        "or to untrained",
    ):
        assert way_out in message
    assert not (tmp_path / "x").exists()
