from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ssense.data.things.dataset import Batch
from ssense.model.brain_encoders import EEGProject
from ssense.model.losses import info_nce
from ssense.model.objectives.contrast import (
    MixedProjection,
    Similarity,
    softened_targets,
    symmetric_cross_entropy,
)
from ssense.model.objectives.infonce import InfoNCESpec
from ssense.model.objectives.ssr import SSRSpec

SIZES = {"n": st.integers(1, 6), "d": st.integers(1, 5), "seed": st.integers(0, 2**32)}


def gaussian(n: int, d: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64)


def length(row: list[float]) -> float:
    return math.sqrt(math.fsum(x * x for x in row))


def dot(one: list[float], other: list[float]) -> float:
    return math.fsum(x * y for x, y in zip(one, other, strict=True))


def log_softmax(row: list[float]) -> list[float]:
    highest = max(row)
    total = math.log(math.fsum(math.exp(x - highest) for x in row)) + highest
    return [x - total for x in row]


def literal(logits: list[list[float]], targets: list[list[float]]) -> float:
    """The reference's L = [CE(Y, log p_{e→v}) + CE(Yᵀ renormalised, log p_{v→e})] / 2."""
    n, total = len(logits), 0.0
    for i in range(n):
        rows = log_softmax(logits[i])
        columns = log_softmax([logits[j][i] for j in range(n)])
        given_to_column = math.fsum(targets[j][i] for j in range(n))
        for j in range(n):
            total -= targets[i][j] * rows[j] / 2
            total -= targets[j][i] / given_to_column * columns[j] / 2
    return total / n


@given(
    norm=st.sampled_from(["both", "image"]),
    scale=st.sampled_from(["exp", "softplus", "raw"]),
    temperature=st.floats(0.02, 0.9),
    **SIZES,
)
def test_similarities_are_scaled_products(norm, scale, temperature, n, d, seed):
    spec = InfoNCESpec(norm=norm, scale=scale, temperature=temperature)
    brain, image = gaussian(n, d, seed), gaussian(n + 1, d, seed + 1)
    found = Similarity(spec).double()(brain, image)
    p = math.log(1 / temperature)
    s = {"exp": math.exp(p), "softplus": math.log1p(math.exp(p)), "raw": p}[scale]
    for i, row in enumerate(brain.tolist()):
        for j, column in enumerate(image.tolist()):
            cosine = s * dot(row, column) / length(column)
            expected = cosine / length(row) if norm == "both" else cosine
            assert found[i, j].item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_the_scales_of_the_peers():
    scale = {s: Similarity(InfoNCESpec(scale=s)).scale().item() for s in ("exp", "softplus", "raw")}
    assert scale == pytest.approx({"exp": 14.2857, "softplus": 2.727, "raw": 2.659}, abs=5e-4)
    assert Similarity(InfoNCESpec.neurobridge()).scale().item() == pytest.approx(2.727, abs=5e-4)


def test_the_scale_is_trained_or_not_and_stays_below_100():
    assert [name for name, _ in Similarity(InfoNCESpec()).named_parameters()] == ["parameter"]
    fixed = Similarity(InfoNCESpec(learnable=False))
    assert not list(fixed.parameters())
    assert list(fixed.state_dict()) == ["parameter"]
    assert Similarity(InfoNCESpec(temperature=1e-6)).scale().item() == 100


@given(temperature=st.floats(0.01, 0.9), **SIZES)
def test_without_softening_it_is_info_nce_both_ways(temperature, n, d, seed):
    brain, image = gaussian(n, d, seed), gaussian(n, d, seed + 1)
    logits = Similarity(InfoNCESpec(temperature=temperature)).double()(brain, image)
    both = (info_nce(brain, image, temperature) + info_nce(image, brain, temperature)) / 2
    assert symmetric_cross_entropy(logits).item() == pytest.approx(both.item(), rel=1e-5, abs=1e-9)
    # A target of the pair alone, given as shares, is the same.
    shares = softened_targets(image, 0.0, 0.05)
    assert torch.equal(shares, torch.eye(n))
    assert symmetric_cross_entropy(logits, shares.double()).item() == pytest.approx(
        both.item(), rel=1e-5, abs=1e-9
    )


@given(share=st.floats(0, 1), temperature=st.floats(0.02, 2), **SIZES)
def test_the_softened_loss_is_its_formula(share, temperature, n, d, seed):
    features, logits = gaussian(n, d, seed), 3 * gaussian(n, n, seed + 1)
    rows = features.tolist()
    targets = []
    for i in range(n):
        alike = [dot(rows[i], row) / length(rows[i]) / length(row) / temperature for row in rows]
        soft = [math.exp(x) for x in log_softmax(alike)]
        targets.append([(1 - share) * (i == j) + share * soft[j] for j in range(n)])
    found = softened_targets(features, share, temperature)
    torch.testing.assert_close(found, torch.tensor(targets, dtype=torch.float64))
    assert symmetric_cross_entropy(logits, found).item() == pytest.approx(
        literal(logits.tolist(), targets), rel=1e-6
    )


@given(share=st.floats(0, 1), **SIZES)
def test_the_order_of_pairs_does_not_matter(share, n, d, seed):
    features, logits = gaussian(n, d, seed), gaussian(n, n, seed + 1)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    one = symmetric_cross_entropy(logits, softened_targets(features, share, 0.05))
    shuffled = softened_targets(features[order], share, 0.05)
    other = symmetric_cross_entropy(logits[order][:, order], shuffled)
    assert other.item() == pytest.approx(one.item(), rel=1e-9)


def test_no_gradient_reaches_the_features_that_soften():
    features = gaussian(4, 3, 0).requires_grad_()
    assert not softened_targets(features, 0.5, 0.05).requires_grad


def test_images_that_look_the_same_share_their_match():
    features = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    shares = softened_targets(features, 0.4, 0.01)
    expected = torch.tensor([[0.8, 0.2, 0.0], [0.2, 0.8, 0.0], [0.0, 0.0, 1.0]])
    torch.testing.assert_close(shares, expected)


# ---------------------------------------------------------------- mixtures of layers


def test_a_mixture_is_the_weighted_sum_of_normalised_layers():
    torch.manual_seed(0)
    project = MixedProjection(n_features=6, n_layers=3, embedding=4)
    torch.manual_seed(0)
    plain = torch.nn.Linear(6, 4)
    assert torch.equal(project.weight, plain.weight)  # it starts as the projection of one layer
    with torch.no_grad():
        project.layers.copy_(torch.tensor([0.0, 0.05, -0.02]))
    features = torch.randn(5, 3, 6) * torch.tensor([1.0, 100.0, 0.01])[:, None]
    shares = np.exp(32 * np.array([0.0, 0.05, -0.02]))
    shares /= shares.sum()
    x = features.double().numpy()
    alike = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    mixed = np.einsum("mlf,l->mf", alike, shares)
    expected = mixed @ plain.weight.double().detach().numpy().T + plain.bias.detach().numpy()
    assert project(features).detach().numpy() == pytest.approx(expected, abs=1e-5)
    assert project.weights().detach().numpy() == pytest.approx(shares, abs=1e-6)


def test_each_layer_counts_the_same_at_first_and_all_are_trained():
    spec = InfoNCESpec(embedding=8)
    torch.manual_seed(0)
    objective = spec.build(
        EEGProject(3, 8, 16), n_brain=16, n_features=6, n_layers=4, tower=pytest.fail
    )
    assert objective.layer_weights() == pytest.approx([0.25] * 4)
    batch = Batch(signals=torch.randn(5, 3, 8), features={"original": torch.randn(5, 4, 6)})
    objective.loss(batch).backward()
    assert objective.project_image.layers.grad.abs().min() > 0
    plain = spec.build(EEGProject(3, 8, 16), n_brain=16, n_features=6, tower=pytest.fail)
    assert plain.layer_weights() == []


def test_ssr_mixes_layers_of_both_kinds_of_images():
    for shared in (True, False):
        spec = SSRSpec(embedding=16, tokens=4, share_image_projection=shared)
        objective = spec.build(
            EEGProject(3, 8, 16), n_brain=16, n_features=6, n_layers=2, tower=pytest.fail
        )
        kinds = {kind: torch.randn(5, 2, 6) for kind in spec.features}
        objective.loss(Batch(signals=torch.randn(5, 3, 8), features=kinds)).backward()
        grads = [p.grad for n, p in objective.named_parameters() if n.endswith(".layers")]
        assert len(grads) == (1 if shared else 2)
        assert all(grad.abs().min() > 0 for grad in grads)
