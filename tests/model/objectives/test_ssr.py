from __future__ import annotations

import dataclasses
import math
from typing import get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy, normalize, smooth_l1_loss

from ssense.data.things.dataset import Batch
from ssense.model.brain_encoders import EEGProject
from ssense.model.objectives.infonce import InfoNCESpec
from ssense.model.objectives.ssr import ABLATIONS, SSR, Ablation, SSRSpec, token_mask

SMALL = {"embedding": 20, "tokens": 5}
SIDES = ("image", "brain")


def build(seed: int = 0, **fields) -> SSR:
    """An objective in evaluation mode, without dropout."""
    torch.manual_seed(seed)
    spec = SSRSpec(**SMALL | fields)
    encoder = EEGProject(3, 8, 16)
    return spec.build(encoder, n_brain=16, n_features=24, tower=pytest.fail).eval()


def embeddings(objective: SSR, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """z_e, z_o and z_a."""
    augmented = objective.project_augmented or objective.project_image
    return (
        objective.project_brain(objective.encoder(batch.signals)),
        objective.project_image(batch.features["original"]),
        augmented(batch.features["augmented-mean"]),
    )


def l_nce(p: Tensor, q: Tensor, s: Tensor) -> Tensor:
    """L_nce(p, q) = [CE(s p qᵀ) + CE(s q pᵀ)] / 2, both sides normalised."""
    p, q, own = normalize(p, dim=1), normalize(q, dim=1), torch.arange(len(p))
    return (cross_entropy(s * p @ q.T, own) + cross_entropy(s * q @ p.T, own)) / 2


def literal_loss(objective: SSR, batch: Batch, seed: int) -> Tensor:
    """The reference's steps 4 to 6; a mask is drawn for each reconstruction, the image's first."""
    spec = objective.spec
    z_e, z_o, z_a = embeddings(objective, batch)
    s = objective.similarity.parameter.exp()
    loss = spec.original_brain * l_nce(z_e, z_o, s)
    loss = loss + spec.augmented_brain * l_nce(z_e, z_a, s)
    loss = loss + spec.augmented_original * l_nce(z_a, z_o, s)
    torch.manual_seed(seed)
    for side, target, context in (("image", z_a, z_e), ("brain", z_e, z_a)):
        if spec.reconstruct not in (side, "both"):
            continue
        mask = token_mask(len(z_e), spec.tokens, spec.mask_ratio, z_e.device)
        found = objective.reconstructors[side](target, mask, context)
        if spec.distance == "cosine":
            distance = 1 - cosine_similarity(found, target.detach(), dim=1).mean()
        else:
            hidden = mask.repeat_interleave(4, dim=1)
            distance = smooth_l1_loss(found[hidden], target.detach()[hidden])
        loss = loss + spec.reconstruction * distance
    return loss


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"original_brain": 0.3, "augmented_brain": 0.7, "augmented_original": 0.1},
        {"reconstruction": 2.0, "mask_ratio": 0.75, "reconstructor": "mlp"},
        {"distance": "smooth-l1", "share_image_projection": False},
        *ABLATIONS.values(),
    ],
)
def test_the_loss_is_its_formula(batch, fields):
    objective = build(**fields)
    torch.manual_seed(5)
    found = objective.loss(batch)
    expected = literal_loss(objective, batch, seed=5)
    assert found.shape == ()
    torch.testing.assert_close(found, expected)
    parameters = list(objective.trained().values())
    # The same gradients too: the literal formula says where they stop.
    for one, other in zip(
        torch.autograd.grad(found, parameters, allow_unused=True),
        torch.autograd.grad(expected, parameters, allow_unused=True),
        strict=True,
    ):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_nothing_flows_into_what_is_reconstructed(batch):
    for side, partner in (("image", "brain"), ("brain", "image")):
        objective = build(reconstruct=side, mask_ratio=0.8)
        z_e, _, z_a = (z.detach().requires_grad_() for z in embeddings(objective, batch))
        torch.manual_seed(3)
        mask = token_mask(len(z_e), 5, 0.8, z_e.device).repeat_interleave(4, dim=1)
        torch.manual_seed(3)
        objective.reconstruction(z_e, z_a).backward()
        gradient = {"image": z_a.grad, "brain": z_e.grad}
        # Masked values are the target alone, and the target is cut off.
        assert (gradient[side][mask] == 0).all()
        assert (gradient[side][~mask] != 0).all()
        assert (gradient[partner] != 0).all()


@pytest.mark.parametrize("ratio", [0.15, 0.3, 0.5, 0.75])
def test_masks_hide_the_floor_of_the_ratio_evenly(ratio):
    torch.manual_seed(0)
    mask = token_mask(4000, 16, ratio, torch.device("cpu"))
    count = math.floor(ratio * 16)
    assert (mask.sum(dim=1) == count).all()
    share = mask.double().mean(dim=0)
    spread = math.sqrt(count / 16 * (1 - count / 16) / 4000)
    assert (share - count / 16).abs().max() < 5 * spread
    torch.manual_seed(0)
    assert torch.equal(mask, token_mask(4000, 16, ratio, torch.device("cpu")))


# ---------------------------------------------------------------- ablation


def test_the_ablation_adds_one_part_at_a_time():
    assert tuple(ABLATIONS) == get_args(Ablation)
    specs = {name: SSRSpec(**changes) for name, changes in ABLATIONS.items()}
    weights = {
        name: (spec.original_brain, spec.augmented_brain, spec.augmented_original)
        for name, spec in specs.items()
    }
    assert weights.pop("InfoNCE on originals") == (1, 0, 0)
    assert weights.pop("InfoNCE on augmented images") == (0, 1, 0)
    assert set(weights.values()) == {(1, 1, 1)}
    assert [spec.reconstruct for spec in specs.values()] == [
        *("none", "none", "none", "image", "brain", "both"),
    ]
    assert specs["SSR"] == SSRSpec()


def test_the_rows_of_the_ablation_have_names_that_none_is_a_list_or_a_sum_of():
    """Names stand in "a vs b" and in lists: no comma, no plus, nothing relative to another row."""
    assert not [name for name in ABLATIONS if {*name} & {*",+/;"} or name in ("none", "full")]


@pytest.mark.parametrize(
    ("name", "image"),
    [("InfoNCE on originals", "original"), ("InfoNCE on augmented images", "augmented-mean")],
)
def test_without_its_parts_it_is_info_nce(batch, name, image):
    objective = build(**ABLATIONS[name])
    torch.manual_seed(0)
    spec = InfoNCESpec(image=image, embedding=20)
    plain = spec.build(EEGProject(3, 8, 16), n_brain=16, n_features=24, tower=pytest.fail).eval()
    assert torch.equal(objective.loss(batch), plain.loss(batch))


def test_all_rows_start_with_the_same_encoder_and_projections():
    first = build().state_dict()
    for changes in ABLATIONS.values():
        state = build(**changes).state_dict()
        for name, tensor in state.items():
            assert torch.equal(tensor, first[name]) or name.startswith("reconstructors")
        assert {name for name in first if not name.startswith("reconstructors")} <= set(state)


@pytest.mark.parametrize("reconstruct", ["none", "image", "brain", "both"])
def test_only_the_wanted_reconstructors_are_built(reconstruct):
    expected = [side for side in SIDES if reconstruct in (side, "both")]
    assert list(build(reconstruct=reconstruct).reconstructors) == expected


def test_original_and_augmented_share_a_projection_unless_told_otherwise(batch):
    shared, apart = build(), build(share_image_projection=False)
    assert set(apart.state_dict()) - set(shared.state_dict()) == {
        "project_augmented.weight",
        "project_augmented.bias",
    }
    assert len({t.data_ptr() for t in apart.state_dict().values()}) == len(apart.state_dict())
    for objective in (shared, apart):
        expected = objective.project_image(batch.features["original"])
        assert torch.equal(objective.gallery(batch.features["original"]), expected)
    assert isinstance(apart.project_augmented, nn.Linear)


# ---------------------------------------------------------------- specification


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"mask_ratio": 0.0},
            "mask_ratio must mask at least one of 16 tokens and not all, got 0.0",
        ),
        ({"mask_ratio": 0.05}, "mask_ratio must mask at least one of 16 tokens"),
        (
            {"mask_ratio": 1.0},
            "mask_ratio must mask at least one of 16 tokens and not all, got 1.0",
        ),
        ({"tokens": 15}, "tokens must divide embedding 512, got 15"),
        ({"tokens": 0}, "tokens must divide embedding 512, got 0"),
        ({"reconstruction": -0.1}, "reconstruction must not be negative, got -0.1"),
        ({"augmented_original": math.nan}, "augmented_original must not be negative, got nan"),
        ({"original_brain": 0, "augmented_brain": 0}, "no response is paired with its image"),
        ({"reconstruct": "all"}, "reconstruct must be none or image or brain or both, got all"),
        ({"reconstructor": "big"}, "reconstructor must be attention or mlp, got big"),
        ({"distance": "l2"}, "distance must be cosine or smooth-l1, got l2"),
        ({"norm": "none"}, "norm must be both or image, got none"),
        ({"scale": "log"}, "scale must be exp or softplus or raw, got log"),
        ({"temperature": 0}, r"temperature must be in \(0, 1\), got 0"),
        ({"embedding": 0}, "embedding must be at least 1, got 0"),
    ],
)
def test_impossible_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        SSRSpec(**fields)
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SSRSpec(), **fields)


def test_a_batch_holds_the_original_and_the_augmented_features():
    assert SSRSpec().features == ("original", "augmented-mean")
    assert not SSRSpec().pixels
