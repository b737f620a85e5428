from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ssense.model.objectives.reconstruction import AttentionReconstructor, MLPReconstructor

MODULES = (AttentionReconstructor, MLPReconstructor)


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def half(n: int, tokens: int) -> Tensor:
    return gaussian(n, tokens, seed=9).argsort(dim=1) < tokens // 2


def layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5) * weight + bias


def gelu(x: np.ndarray) -> np.ndarray:
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


def literal_attention(
    module: AttentionReconstructor, vector: np.ndarray, mask: np.ndarray, context: np.ndarray
) -> np.ndarray:
    """One vector through the block, head by head and token by token."""
    w = {name: tensor.double().numpy() for name, tensor in module.state_dict().items()}
    n = len(mask)
    widen = lambda tokens: tokens.reshape(n, -1) @ w["widen.weight"].T + w["widen.bias"]  # noqa: E731
    x = np.where(mask[:, None], w["masked"], widen(vector)) + w["position"] + w["modality"][1]
    keys = widen(context) + w["position"] + w["modality"][0]
    keys = layer_norm(keys, w["norm_context.weight"], w["norm_context.bias"])
    queries = layer_norm(x, w["norm_query.weight"], w["norm_query.bias"])
    q, k, v = (
        part @ matrix.T + bias
        for part, matrix, bias in zip(
            (queries, keys, keys),
            np.split(w["attention.in_proj_weight"], 3),
            np.split(w["attention.in_proj_bias"], 3),
            strict=True,
        )
    )
    heads = np.zeros((n, 128))
    for h in range(4):
        own = slice(32 * h, 32 * (h + 1))
        for i in range(n):
            scores = np.exp([q[i, own] @ k[j, own] / math.sqrt(32) for j in range(n)])
            heads[i, own] = scores / scores.sum() @ v[:, own]
    x = x + heads @ w["attention.out_proj.weight"].T + w["attention.out_proj.bias"]
    hidden = layer_norm(x, w["norm_hidden.weight"], w["norm_hidden.bias"])
    hidden = gelu(hidden @ w["perceptron.0.weight"].T + w["perceptron.0.bias"])
    x = x + hidden @ w["perceptron.3.weight"].T + w["perceptron.3.bias"]
    return (x @ w["narrow.weight"].T + w["narrow.bias"]).ravel()


def test_attention_is_its_formula():
    torch.manual_seed(0)
    module = AttentionReconstructor(24, 6).eval()
    vectors, context, mask = gaussian(3, 24), gaussian(3, 24, seed=1), half(3, 6)
    for found, *given_ in zip(module(vectors, mask, context), vectors, mask, context, strict=True):
        expected = literal_attention(
            module, *(x.double().numpy() if x.is_floating_point() else x.numpy() for x in given_)
        )
        np.testing.assert_allclose(found.detach(), expected, rtol=1e-4, atol=1e-5)


def test_the_perceptron_is_its_formula():
    torch.manual_seed(0)
    module = MLPReconstructor(24, 6).eval()
    vectors, context, mask = gaussian(3, 24), gaussian(3, 24, seed=1), half(3, 6)
    w = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    seen = vectors.numpy() * (1 - np.repeat(mask.numpy(), 4, axis=1))
    x = np.concatenate([seen, context.numpy()], axis=1)
    hidden = gelu(x @ w["perceptron.0.weight"].T + w["perceptron.0.bias"])
    expected = hidden @ w["perceptron.2.weight"].T + w["perceptron.2.bias"]
    np.testing.assert_allclose(
        module(vectors, mask, context).detach(), expected, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("made", MODULES)
def test_nothing_passes_of_what_is_masked(made):
    torch.manual_seed(0)
    module = made(24, 6).eval()
    vectors, context, mask = gaussian(3, 24).requires_grad_(), gaussian(3, 24, seed=1), half(3, 6)
    hidden = mask.repeat_interleave(4, dim=1)
    changed = vectors.detach() + 7 * hidden
    found = module(vectors, mask, context)
    assert torch.equal(found, module(changed, mask, context))
    assert not torch.allclose(found, module(vectors + ~hidden, mask, context))
    assert not torch.allclose(found, module(vectors, mask, context + 1))
    (gradient,) = torch.autograd.grad(found.square().sum(), vectors)
    assert (gradient[hidden] == 0).all()
    assert (gradient[~hidden] != 0).all()


@given(
    made=st.sampled_from(MODULES),
    n=st.integers(1, 4),
    tokens=st.integers(1, 5),
    per_token=st.integers(1, 4),
    seed=st.integers(0, 2**32),
)
def test_any_sizes_and_each_vector_by_itself(made, n, tokens, per_token, seed):
    torch.manual_seed(seed)
    d = tokens * per_token
    module, vectors, context = (
        made(d, tokens).eval(),
        gaussian(n, d, seed=1),
        gaussian(n, d, seed=2),
    )
    mask = half(n, tokens)
    found = module(vectors, mask, context)
    assert found.shape == (n, d)
    flipped = module(vectors.flip(0), mask.flip(0), context.flip(0)).flip(0)
    torch.testing.assert_close(flipped, found, rtol=1e-4, atol=1e-5)


def test_sizes_are_those_of_the_specification():
    module = AttentionReconstructor(512, 16)
    assert module.widen.in_features == module.narrow.out_features == 32
    assert module.attention.num_heads == 4
    assert module.perceptron[0].out_features == 256
    assert [m.out_features for m in MLPReconstructor(512, 16).perceptron[::2]] == [512, 512]
