"""Layers of image towers as targets: what is read, under which key, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from upath import UPath

from ssense.data.synthetic.things import SyntheticThingsSpec, write_synthetic_things
from ssense.data.things.images import ImageSet, read_image_set
from ssense.data.things.pixels import read_pixels
from ssense.errors import UserError
from ssense.targets import image_features
from ssense.targets.augmentations import COGNITIVE_PRIOR, Unchanged
from ssense.targets.image_features import (
    ImageTowerSpec,
    cached_features,
    feature_origin,
    feature_shape,
    image_tower,
    make_features,
    readable_layers,
)
from ssense.targets.timm_tower import timm_visual

TIMM_VIT, TIMM_RESNET = "timm/test_vit", "timm/test_resnet"
"""Models of timm's own tests: 0.4 million weights, and a few images at a time in milliseconds."""


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> ImageSet:
    root = tmp_path_factory.mktemp("things") / "set"
    spec = SyntheticThingsSpec(subjects=1, concepts=3, test_concepts=2, image_px=40)
    write_synthetic_things(root, spec)
    return read_image_set(root, "training")


def read(images: ImageSet, spec: ImageTowerSpec, folder: Path) -> Tensor:
    return cached_features(images, ["original"], spec, UPath(folder))["original"]


def spec_of(model: str, **fields: object) -> ImageTowerSpec:
    return ImageTowerSpec(model=model, weights="untrained", **fields)


def by_hooks(spec: ImageTowerSpec, images: ImageSet, blocks: str) -> list[Tensor]:
    """What each block gives, caught on its way: `[B, tokens, D]`, or `[B, D, H, W]`."""
    tower, caught = image_tower(spec.tower()), []
    parts = dict(tower.visual.named_modules())[blocks]
    for block in parts:
        block.register_forward_hook(lambda *found: caught.append(found[2]))
    with torch.inference_mode():
        tower(read_pixels(images, tower.image_px))
    return caught


@pytest.mark.parametrize(
    ("model", "blocks", "width"),
    [("tiny-vit", "transformer.resblocks", 48), (TIMM_VIT, "trunk.blocks", 64)],
)
def test_a_layer_is_what_its_block_gives(images, tiny_towers, tmp_path, model, blocks, width):
    assert tiny_towers
    caught = by_hooks(spec_of(model), images, blocks)
    assert feature_shape(spec_of(model, layer=1)) == (width,)
    for layer, tokens in enumerate(caught, 1):
        found = read(images, spec_of(model, layer=layer), tmp_path)
        torch.testing.assert_close(found, tokens[:, 0], rtol=1e-4, atol=1e-5)
        mean = read(images, spec_of(model, layer=layer, pooling="mean"), tmp_path)
        torch.testing.assert_close(mean, tokens[:, 1:].mean(dim=1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", ["tiny-resnet", TIMM_RESNET])
def test_stages_of_a_convolutional_network_have_patches_alone(images, tiny_towers, tmp_path, model):
    assert tiny_towers
    layers = readable_layers(spec_of(model))
    assert (layers.has_output, layers.poolings, len(layers.widths)) == (True, ("mean",), 5)
    for layer, width in enumerate(layers.widths, 1):
        spec = spec_of(model, layer=layer, pooling="mean")
        assert read(images, spec, tmp_path).shape == (len(images), width)
    with pytest.raises(
        UserError, match=r"has no class token in its layers\. Set `pooling` to mean"
    ):
        read(images, spec_of(model, layer=1), tmp_path)


def test_a_mixture_is_its_layers_side_by_side(images, tiny_towers, tmp_path):
    vit = tiny_towers[0]
    kinds = ["original", "augmented-mean"]
    mixed = cached_features(images, kinds, spec_of(vit, mixture="1 3"), UPath(tmp_path))
    for kind in kinds:
        layers = [
            cached_features(images, [kind], spec_of(vit, layer=layer), UPath(tmp_path))[kind]
            for layer in (1, 3)
        ]
        assert torch.equal(mixed[kind], torch.stack(layers, dim=1))
    assert feature_shape(spec_of(vit, mixture="all")) == (3, 48)


def test_layers_of_a_tower_share_one_pass_over_the_images(
    images, tiny_towers, tmp_path, monkeypatch
):
    built = []
    tower = image_features.image_tower
    monkeypatch.setattr(
        image_features, "image_tower", lambda spec: built.append(spec) or tower(spec)
    )
    vit, resnet = tiny_towers
    wanted = {
        spec_of(vit): ("original",),
        spec_of(vit, layer=2): ("original", "augmented-mean"),
        spec_of(vit, mixture="all", pooling="mean"): ("original",),
        spec_of(resnet): ("original",),
    }
    make_features(images, wanted, UPath(tmp_path))
    assert [spec.model for spec in built] == [vit, resnet]
    assert len(list(tmp_path.iterdir())) == 1 + (1 + len(COGNITIVE_PRIOR)) + 3 + 1
    for spec, kinds in wanted.items():
        cached_features(images, kinds, spec, UPath(tmp_path))
    read(images, spec_of(vit, layer=3, pooling="mean"), tmp_path)  # the mixture's own file
    assert len(built) == 2


def test_the_layer_and_its_pooling_are_in_the_key(tiny_towers):
    vit = tiny_towers[0]
    specs = [
        *(spec_of(vit), spec_of(vit, layer=1), spec_of(vit, layer=2)),
        *(spec_of(vit, layer=1, pooling="mean"), spec_of(TIMM_VIT)),
    ]
    origins = {str(feature_origin("images", Unchanged(), spec)) for spec in specs}
    assert len(origins) == len(specs)
    assert "layer" not in feature_origin("images", Unchanged(), spec_of(vit))  # as it was


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"layer": 0}, "layer must be at least 1, got 0"),
        ({"layer": 2, "mixture": "1 2"}, "layer is 2 and mixture 1 2: one of them is read"),
        ({"mixture": "2"}, "mixture must be all or two layers and more"),
        ({"mixture": "3 1"}, "mixture must be all or two layers and more"),
        ({"mixture": "1 x"}, "mixture must be all or two layers and more"),
        ({"pooling": "mean"}, "pooling is mean, but the tower's output has a pooling of its own"),
        ({"layer": 1, "pooling": "last"}, "pooling must be cls or mean, got last"),
    ],
)
def test_what_does_not_fit_together_is_refused(fields, problem):
    with pytest.raises(ValueError, match=problem):
        ImageTowerSpec(**fields)


def test_layers_that_a_tower_lacks_or_that_differ_are_refused(tiny_towers):
    vit, resnet = tiny_towers
    with pytest.raises(UserError, match="tiny-vit has 3 layers and no layer 4"):
        feature_shape(spec_of(vit, layer=4))
    with pytest.raises(UserError, match=r"differ in width .*, so they can't be mixed"):
        feature_shape(spec_of(resnet, mixture="all", pooling="mean"))


# ---------------------------------------------------------------- timm


def test_a_tower_of_timm_embeds_as_timm_does(images, tmp_path):
    import timm

    torch.manual_seed(0)
    model = timm.create_model("test_vit", num_classes=0).eval()
    cfg = model.default_cfg
    px = cfg["input_size"][1]
    mean, std = (torch.tensor(cfg[name]).view(-1, 1, 1) for name in ("mean", "std"))
    with torch.inference_mode():
        expected = model((read_pixels(images, px).float() / 255 - mean) / std)
    found = read(images, spec_of(TIMM_VIT), tmp_path)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert feature_shape(spec_of(TIMM_VIT)) == (expected.shape[1],)


def test_weights_of_timm_may_be_in_a_file(tmp_path):
    import timm

    torch.manual_seed(5)
    own = timm.create_model("test_vit")  # with a classifier, which is passed over
    path = tmp_path / "weights.pt"
    torch.save(own.state_dict(), path)
    found = timm_visual(TIMM_VIT, str(path)).trunk.state_dict()
    assert all(torch.equal(tensor, own.state_dict()[name]) for name, tensor in found.items())
    torch.save({n: t for n, t in own.state_dict().items() if n != "cls_token"}, path)
    with pytest.raises(UserError, match=r"it has no cls_token\. Give weights of timm's test_vit"):
        timm_visual(TIMM_VIT, str(path))


def test_a_tower_of_timm_may_take_other_sizes(images, tmp_path):
    for model in (TIMM_VIT, TIMM_RESNET):
        tower = image_tower(spec_of(model, image_px=64))
        assert tower.image_px == 64
        assert read(images, spec_of(model, image_px=64), tmp_path).shape[0] == len(images)


@pytest.mark.parametrize(
    ("model", "weights", "problem"),
    [
        ("timm/no_such", "untrained", "timm knows no model no_such"),
        (TIMM_VIT, "openai", "image weights openai: timm/test_vit has pretrained ones"),
    ],
)
def test_what_timm_does_not_have_is_one_line(model, weights, problem):
    with pytest.raises(UserError, match=problem) as error:
        timm_visual(model, weights)
    assert "\n" not in str(error.value)
