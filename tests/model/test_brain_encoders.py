from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from ssense.errors import UserError
from ssense.model.brain_encoders import EEGProject, TSConv

ENCODERS = {"eeg-project": EEGProject, "ts-conv": TSConv}


def signals(n: int, n_channels: int, n_samples: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, n_channels, n_samples, generator=generator)


def literal_ts_conv(encoder: TSConv, x: Tensor) -> Tensor:
    """The reference's paragraph on TSConv, layer by layer, with the weights of an encoder."""
    n_channels = x.shape[1]
    layers = nn.Sequential(
        nn.Conv2d(1, 40, (1, 25)),
        nn.AvgPool2d((1, 51), (1, 5)),
        nn.BatchNorm2d(40),
        nn.ELU(),
        nn.Conv2d(40, 40, (n_channels, 1)),
        nn.BatchNorm2d(40),
        nn.ELU(),
        nn.Conv2d(40, 40, 1),
    )
    weights = iter(encoder.state_dict().items())
    state = {name: next(weights)[1] for name in layers.state_dict()}
    layers.load_state_dict(state)
    flat = layers.train(encoder.training)(x[:, None]).flatten(1)
    linear, residual, norm = list(encoder.children())[-3:]
    h = linear(flat)
    h = h + residual[1](nn.functional.gelu(h))
    return norm(h)


@pytest.mark.parametrize(("n_samples", "n_flat"), [(250, 1440), (200, 1040)])
def test_ts_conv_flattens_to_the_published_sizes(n_samples, n_flat):
    linears = [m for m in TSConv(17, n_samples).modules() if isinstance(m, nn.Linear)]
    assert (linears[0].in_features, linears[0].out_features) == (n_flat, 1024)


@pytest.mark.parametrize("training", [False, True])
def test_ts_conv_is_its_layers_one_after_another(training):
    torch.manual_seed(0)
    encoder = TSConv(5, 111, 32).train(training)
    for dropout in (m for m in encoder.modules() if isinstance(m, nn.Dropout)):
        dropout.p = 0.0
    x = signals(6, 5, 111)
    expected = literal_ts_conv(encoder, x)
    torch.testing.assert_close(encoder(x), expected, rtol=1e-4, atol=1e-5)


def test_ts_conv_s_gradient_is_that_of_its_layers():
    torch.manual_seed(0)
    encoder = TSConv(3, 90, 8).eval().double()
    x = signals(2, 3, 90).double()
    found = torch.autograd.grad(encoder(x).square().sum(), encoder[1].weight)[0]
    plain = nn.Conv2d(1, 40, (1, 25)).double()
    plain.load_state_dict(encoder[1].state_dict())
    rest = nn.Sequential(*list(encoder)[2:])
    literal = rest(nn.functional.avg_pool2d(plain(x[:, None]), (1, 51), (1, 5)))
    expected = torch.autograd.grad(literal.square().sum(), plain.weight)[0]
    torch.testing.assert_close(found, expected)


def test_eeg_project_is_its_formula():
    torch.manual_seed(0)
    encoder = EEGProject(3, 20, 16).eval()
    state, x = encoder.state_dict(), signals(4, 3, 20)
    h = x.reshape(4, 60) @ state["1.weight"].T + state["1.bias"]
    h = h + nn.functional.gelu(h) @ state["2.1.weight"].T + state["2.1.bias"]
    centred = h - h.mean(dim=1, keepdim=True)
    expected = centred / (h.var(dim=1, correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(encoder(x), expected, rtol=1e-4, atol=1e-5)


def test_sizes_and_dropout_are_neurobridge_s():
    project = EEGProject(17, 250)
    # With a linear layer of either side, 1024 to 512: 6.45 million.
    n_linears = 2 * (1024 * 512 + 512)
    assert sum(p.numel() for p in project.parameters()) + n_linears == pytest.approx(
        6.45e6, rel=2e-3
    )
    for encoder, rates in ((project, [0.3]), (TSConv(17, 250), [0.5, 0.5])):
        assert [m.p for m in encoder.modules() if isinstance(m, nn.Dropout)] == rates


@given(
    name=st.sampled_from(sorted(ENCODERS)),
    n=st.integers(1, 3),
    n_channels=st.integers(1, 7),
    n_samples=st.integers(80, 130),
    seed=st.integers(0, 2**32),
)
def test_any_sizes_and_each_response_by_itself(name, n, n_channels, n_samples, seed):
    torch.manual_seed(seed)
    encoder = ENCODERS[name](n_channels, n_samples, 6).eval()
    x = signals(n, n_channels, n_samples, seed)
    found = encoder(x)
    assert (found.shape, found.dtype) == ((n, 6), torch.float32)
    torch.testing.assert_close(encoder(x.flip(0)).flip(0), found, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(encoder(x[:1]), found[:1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n_samples", [1, 74, 79])
def test_too_few_samples_for_the_convolution_are_one_line(n_samples):
    with pytest.raises(UserError, match=f"at least 80 samples, these have {n_samples}"):
        TSConv(17, n_samples)


def test_the_fewest_samples_can_be_trained_on_one_response_as_a_last_batch_has():
    out = TSConv(17, 80).train()(signals(1, 17, 80, 0))
    out.sum().backward()
    assert out.isfinite().all()
