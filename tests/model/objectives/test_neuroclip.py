from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from ssense.errors import UserError
from ssense.model.brain_encoders import EEGProject
from ssense.model.objectives import neuroclip
from ssense.model.objectives.contrast import softened_targets
from ssense.model.objectives.neuroclip import NeuroCLIP, NeuroCLIPSpec
from ssense.targets.image_features import ImageTower, ImageTowerSpec, image_tower


@pytest.fixture
def build(tower):
    def build(seed: int = 0, **fields) -> NeuroCLIP:
        torch.manual_seed(seed)
        spec = NeuroCLIPSpec(**fields)
        encoder = EEGProject(3, 8, 16)
        return spec.build(encoder, n_brain=16, n_features=24, tower=lambda: tower).eval()

    return build


def disturbed(objective: NeuroCLIP) -> NeuroCLIP:
    """As if trained: filter, fusion and prompts are not what they start as."""
    with torch.no_grad():
        for name, parameter in objective.trained().items():
            if name.startswith(("filter.", "fusion.", "prompts.")):
                parameter.add_(0.5 * torch.randn_like(parameter))
    return objective


# ---------------------------------------------------------------- images


def test_without_prompts_it_starts_as_plain_open_clip(build, tower, batch):
    assert torch.equal(
        build(prompts=0).gallery(batch.pixels), tower.visual(tower.normalised(batch.pixels))
    )
    assert torch.equal(build(prompts=0).gallery(batch.pixels), batch.features["original"])


@pytest.mark.parametrize("part", ["filter", "fusion", "prompts"])
def test_every_part_has_an_effect_once_trained(build, batch, part):
    objective = build(prompts=2)
    with torch.no_grad():
        nn.init.normal_(objective.fusion.change[-1].weight)  # zero at the start
    before = objective.gallery(batch.pixels)
    with torch.no_grad():
        for parameter in getattr(objective, part).parameters():
            parameter.add_(torch.randn_like(parameter))
    assert (objective.gallery(batch.pixels) - before).norm(dim=1).min() > 1e-3


@pytest.mark.parametrize("depth", [1, 2, None])
@pytest.mark.parametrize("prompts", [0, 1, 5])
def test_the_gallery_is_its_formula(build, tower, batch, prompts, depth):
    objective = disturbed(build(prompts=prompts, depth=depth))
    visual = tower.visual
    v = (batch.pixels.float() / 255 - tower.mean) / tower.std

    def patch_embed(images: Tensor) -> Tensor:
        """[M, 16, D]: each patch of 8 x 8 by itself."""
        patches = images.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).flatten(3)
        return (patches @ visual.conv1.weight.flatten(1).T).flatten(1, 2)

    t0, t1 = patch_embed(v), patch_embed(objective.filter(v))
    x = torch.cat([visual.class_embedding.repeat(6, 1, 1), objective.fusion(t0, t1)], dim=1)
    x = visual.ln_pre(x + visual.positional_embedding)
    patches, tokens, cls = x[:, 1:], x[:, :0], x[:, :1]
    for layer, block in enumerate(visual.transformer.resblocks):
        if layer < (depth or 3):
            tokens = objective.prompts.tokens[layer].repeat(6, 1, 1)
        cls, tokens, patches = block(torch.cat([cls, tokens, patches], dim=1)).split(
            [1, prompts, 16], dim=1
        )
    expected = visual.ln_post(cls[:, 0]) @ visual.proj
    torch.testing.assert_close(objective.gallery(batch.pixels), expected, rtol=1e-4, atol=1e-5)


def test_each_image_passes_by_itself(build, batch):
    objective = disturbed(build())
    found = objective.gallery(batch.pixels)
    order = torch.tensor([4, 2, 0])
    torch.testing.assert_close(
        objective.gallery(batch.pixels[order]), found[order], rtol=1e-4, atol=1e-5
    )


def test_a_projection_follows_if_told_to(build, batch):
    plain, projected = build(), build(project=True, embedding=10)
    assert plain.gallery(batch.pixels).shape == plain.brain(batch.signals).shape == (6, 24)
    assert projected.gallery(batch.pixels).shape == projected.brain(batch.signals).shape == (6, 10)
    assert {name for name in projected.trained() if name not in plain.trained()} == {
        "project_image.weight",
        "project_image.bias",
    }


# ---------------------------------------------------------------- the loss


@pytest.mark.parametrize("softening", [0.0, 0.2, 0.5])
def test_the_loss_is_its_formula(build, batch, softening):
    objective = disturbed(build(softening=softening))
    brain = normalize(objective.brain(batch.signals), dim=1)
    image = normalize(objective.gallery(batch.pixels), dim=1)
    logits = objective.similarity.parameter.exp() * brain @ image.T
    own = torch.arange(6)
    if softening:
        targets = softened_targets(batch.features["original"], softening, 0.05)
        columns = targets.T / targets.sum(dim=0)[:, None]
        expected = -(targets * logits.log_softmax(dim=1)).sum(dim=1).mean() / 2
        expected = expected - (columns * logits.T.log_softmax(dim=1)).sum(dim=1).mean() / 2
    else:  # InfoNCE
        expected = (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2
    torch.testing.assert_close(objective.loss(batch), expected)


def test_a_batch_holds_pixels_and_the_features_that_soften():
    assert NeuroCLIPSpec.pixels
    assert NeuroCLIPSpec().features == ("original",)
    assert NeuroCLIPSpec(softening=0.0).features == ()


# ---------------------------------------------------------------- what is trained


def test_the_tower_is_frozen_to_the_bit(build, tower, batch):
    objective = build()
    before = {name: tensor.clone() for name, tensor in tower.state_dict().items()}
    start = {name: p.detach().clone() for name, p in objective.trained().items()}
    # Decay would move a parameter that has no gradient.
    optimiser = torch.optim.AdamW(objective.trained().values(), lr=0.1, weight_decay=0.5)
    for _ in range(3):
        objective.train()
        optimiser.zero_grad()
        objective.loss(batch).backward()
        optimiser.step()
    assert all(torch.equal(tensor, before[name]) for name, tensor in tower.state_dict().items())
    assert all(parameter.grad is None for parameter in tower.parameters())
    assert not any(module.training for module in tower.modules())
    assert not any(torch.equal(p, start[name]) for name, p in objective.trained().items())


def test_defaults_are_those_of_the_specification():
    spec = NeuroCLIPSpec()
    assert (spec.prompts, spec.depth, spec.softening, spec.softening_temperature) == (
        8,
        None,
        0.2,
        0.05,
    )


def test_states_are_without_the_tower(build, tower, batch):
    objective = disturbed(build())
    state = objective.state_dict()
    assert not [name for name in state if name.startswith("tower")]
    assert set(objective.trained()) <= set(state)
    other = build(seed=1)
    before = other.gallery(batch.pixels)
    other.load_state_dict(state)
    found = other.gallery(batch.pixels)
    assert torch.equal(found, objective.gallery(batch.pixels))
    assert not torch.equal(found, before)
    with pytest.raises(RuntimeError, match=r"prompts\.tokens"):
        other.load_state_dict({name: t for name, t in state.items() if name != "prompts.tokens"})
    with pytest.raises(RuntimeError, match="elsewhere"):
        other.load_state_dict({**state, "elsewhere": torch.zeros(1)})
    assert len(tower.state_dict()) > 0


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompts": -1}, "prompts must not be negative, got -1"),
        ({"depth": 0}, "depth must be at least 1, got 0"),
        ({"softening": 1.0}, r"softening must be in \[0, 1\), got 1.0"),
        ({"softening": -0.1}, r"softening must be in \[0, 1\), got -0.1"),
        ({"softening_temperature": 0.0}, "softening_temperature must be positive, got 0.0"),
    ],
)
def test_impossible_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        NeuroCLIPSpec(**fields)


def test_prompts_in_more_layers_than_there_are_are_one_line(build):
    with pytest.raises(UserError, match=r"depth 4 exceeds the 3 layers of the image tower\. Lower"):
        build(depth=4)


def test_a_tower_that_is_no_vit_is_one_line(tiny_towers):
    resnet = image_tower(ImageTowerSpec(model=tiny_towers[1], weights="untrained"))
    with pytest.raises(UserError, match="the image tower is a ModifiedResNet; NeuroCLIP puts"):
        NeuroCLIP(NeuroCLIPSpec(), nn.Identity(), n_brain=4, tower=resnet)


def test_a_tower_that_averages_its_tokens_is_one_line(tiny_towers):
    tower: ImageTower = image_tower(ImageTowerSpec(model=tiny_towers[0], weights="untrained"))
    tower.visual.pool_type = "avg"
    with pytest.raises(UserError, match="a ViT that reads its class token"):
        NeuroCLIP(NeuroCLIPSpec(), nn.Identity(), n_brain=4, tower=tower)


def test_images_a_few_at_a_time_have_the_gradient_of_one_pass(tower, batch, monkeypatch):
    """Without dropout, which draws in another order."""
    torch.manual_seed(0)
    encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(24, 16))
    model = NeuroCLIPSpec(prompts=2).build(encoder, n_brain=16, n_features=24, tower=lambda: tower)
    model.eval()

    def gradients() -> tuple[float, dict[str, torch.Tensor]]:
        model.zero_grad()
        loss = model.loss(batch)
        loss.backward()
        return loss.item(), {name: p.grad.clone() for name, p in model.trained().items()}

    at_once, expected = gradients()
    monkeypatch.setattr(neuroclip, "IMAGES_PER_PASS", 4)  # six images: four, and two
    in_parts, found = gradients()
    assert in_parts == pytest.approx(at_once, rel=1e-6)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert torch.allclose(found[name], gradient, rtol=1e-4, atol=1e-7), name
