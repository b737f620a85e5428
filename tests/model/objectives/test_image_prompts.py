from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ssense.model.objectives.image_prompts import DynamicFilter, Fusion, PromptTokens


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def trained_filter(seed: int = 0) -> DynamicFilter:
    """One whose parameters are not those it starts with."""
    torch.manual_seed(seed)
    dynamic = DynamicFilter()
    with torch.no_grad():
        for parameter in dynamic.parameters():
            parameter.add_(torch.randn_like(parameter))
    return dynamic


def test_filtering_is_a_convolution_with_the_image_s_own_mixture():
    dynamic, images = trained_filter(), gaussian(2, 3, 9, 11)
    shares, found = dynamic.shares(images), dynamic(images)
    for b in range(2):
        for c in range(3):
            kernel = sum(
                shares[b, k] * dynamic.kernels[c, k].exp() / dynamic.kernels[c, k].exp().sum()
                for k in range(4)
            ).view(7, 7)
            for row in range(9):
                for column in range(11):
                    total = 0.0
                    for i in range(7):
                        for j in range(7):
                            y, x = abs(row + i - 3), abs(column + j - 3)
                            y, x = 8 - abs(y - 8), 10 - abs(x - 10)  # mirrored at the edges
                            total += (kernel[i, j] * images[b, c, y, x]).item()
                    assert found[b, c, row, column].item() == pytest.approx(total, abs=1e-4)


def test_the_kernels_start_as_gaussians_of_rising_width():
    kernels = DynamicFilter().kernels.softmax(dim=-1)
    squared = torch.tensor([(i - 3) ** 2 + (j - 3) ** 2 for i in range(7) for j in range(7)])
    for kernel, width in zip(kernels[0], (0.5, 1, 2, 4), strict=True):
        expected = torch.exp(-squared / (2 * width**2))
        torch.testing.assert_close(kernel, expected / expected.sum())
    assert torch.equal(kernels[0], kernels[2])


@given(seed=st.integers(0, 2**32), side=st.integers(4, 20), colour=st.floats(-3, 3))
def test_a_low_pass_keeps_one_colour_and_widens_nothing(seed, side, colour):
    dynamic = trained_filter(seed)
    plain = torch.full((1, 3, side, side), colour)
    torch.testing.assert_close(dynamic(plain), plain, rtol=1e-4, atol=1e-4)
    images = gaussian(2, 3, side, side, seed=seed)
    found = dynamic(images)
    assert found.shape == images.shape
    low, high = images.amin(dim=(2, 3)) - 1e-4, images.amax(dim=(2, 3)) + 1e-4
    assert ((found.amin(dim=(2, 3)) >= low) & (found.amax(dim=(2, 3)) <= high)).all()
    shares = dynamic.shares(images)
    assert (shares >= 0).all()
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(2))
    # What the image shows decides, not the others of the batch.
    torch.testing.assert_close(dynamic(images.flip(0)).flip(0), found, rtol=1e-4, atol=1e-5)


def test_shares_depend_on_the_image():
    shares = trained_filter().shares(3 * gaussian(2, 3, 16, 16))
    assert (shares[0] - shares[1]).abs().max() > 1e-3


def test_the_fusion_is_its_formula():
    torch.manual_seed(0)
    fusion = Fusion(32)
    torch.nn.init.normal_(fusion.change[-1].weight)
    torch.nn.init.normal_(fusion.change[-1].bias)
    plain, filtered = gaussian(2, 5, 32), gaussian(2, 5, 32, seed=1)
    w = fusion.state_dict()
    gelu = torch.nn.functional.gelu
    for b in range(2):
        for n in range(5):
            t0, t1 = plain[b, n], filtered[b, n]
            hidden = gelu(w["gate.0.weight"] @ torch.cat([t0, t1]) + w["gate.0.bias"])
            gate = 1 / (1 + torch.exp(-(w["gate.2.weight"] @ hidden + w["gate.2.bias"])))
            change = gelu(w["change.0.weight"] @ (t1 - t0) + w["change.0.bias"])
            expected = t0 + gate * (w["change.2.weight"] @ change + w["change.2.bias"])
            torch.testing.assert_close(
                fusion(plain, filtered)[b, n], expected, rtol=1e-4, atol=1e-5
            )
    assert fusion.change[0].out_features == 2  # a sixteenth


def test_the_fusion_starts_without_effect_and_learns():
    torch.manual_seed(0)
    fusion = Fusion(32)
    plain, filtered = gaussian(2, 5, 32), gaussian(2, 5, 32, seed=1)
    found = fusion(plain, filtered)
    assert torch.equal(found, plain)
    found.square().sum().backward()
    assert fusion.change[-1].weight.grad.abs().min() > 0


@given(n=st.integers(1, 4), depth=st.integers(1, 3), seed=st.integers(0, 2**32))
def test_prompts_stand_behind_the_class_token_and_are_replaced(n, depth, seed):
    torch.manual_seed(seed)
    prompts = PromptTokens(n, depth, width=6, patch=16).eval()
    x = gaussian(2, 5, 6)
    first = prompts.before(0, x)
    assert torch.equal(first[:, [0, *range(n + 1, n + 5)]], x)
    for layer in range(depth):
        if layer:
            first = prompts.before(layer, first + 1)
        for image in first:
            assert torch.equal(image[1 : n + 1], prompts.tokens[layer])
    for layer in (depth, depth + 1):
        assert prompts.before(layer, first) is first


def test_no_prompts_change_nothing():
    x = gaussian(2, 5, 6)
    assert PromptTokens(0, 3, width=6, patch=16).before(0, x) is x


def test_prompts_start_within_xavier_s_bound_and_are_dropped_in_training():
    torch.manual_seed(0)
    prompts = PromptTokens(8, 12, width=768, patch=256)
    bound = math.sqrt(6 / (3 * 256 + 768))
    assert prompts.tokens.shape == (12, 8, 768)
    assert bound * 0.99 < prompts.tokens.abs().max() <= bound
    assert prompts.tokens.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.01)
    x = torch.zeros(1, 3, 768)
    dropped = prompts.before(0, x)[0, 1:9] == 0
    assert dropped.double().mean().item() == pytest.approx(0.1, abs=0.02)
