from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ssense.training.optimiser import Adam

SIZES = (3, 2), (5,), ()


def parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(size, generator=generator)) for size in SIZES]


@given(
    rate=st.floats(1e-5, 1),
    decay=st.none() | st.floats(0, 0.5),
    steps=st.lists(st.tuples(*[st.booleans()] * len(SIZES)), min_size=1, max_size=6),
)
def test_it_is_pytorch_s_to_the_bit(rate, decay, steps):
    ours, theirs = parameters(), parameters()
    optimiser = Adam(ours, rate, decay)
    if decay is None:
        reference = torch.optim.Adam(theirs, lr=rate, fused=True)
    else:
        reference = torch.optim.AdamW(theirs, lr=rate, weight_decay=decay, fused=True)
    generator = torch.Generator().manual_seed(1)
    for has_gradient in steps:
        optimiser.zero_grad()
        for one, other, has in zip(ours, theirs, has_gradient, strict=True):
            gradient = torch.randn(one.shape, generator=generator) if has else None
            one.grad, other.grad = gradient, gradient
        optimiser.step()
        reference.step()
    assert all(map(torch.equal, ours, theirs))
    for one, other in zip(ours, theirs, strict=True):
        kept = reference.state.get(other, {})
        assert optimiser.state[one].keys() == kept.keys()
        assert all(torch.equal(optimiser.state[one][name], kept[name]) for name in kept)


def test_adam_is_kingma_and_ba_s():
    weight = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimiser = Adam([weight], learning_rate=0.1)
    expected, mean, square = weight.detach().clone(), torch.zeros(2), torch.zeros(2)
    for t in range(1, 5):
        gradient = torch.tensor([0.5 * t, -1.0], dtype=torch.float64)
        weight.grad = gradient
        optimiser.step()
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        corrected = mean / (1 - 0.9**t), square / (1 - 0.999**t)
        expected = expected - 0.1 * corrected[0] / (corrected[1].sqrt() + 1e-8)
        assert weight.detach().numpy() == pytest.approx(expected.numpy(), rel=1e-9)


TRAINING = """
import sys
import numpy as np, torch
from ssense.data.dataset import Dataset
from ssense.training.loop import fit
from ssense.model.encoders.spectrogram_encoder import ResNetSpec
from ssense.training.sentences import SentenceSpec, TrainingSpec
from ssense.training.process import reset_process

reset_process(seed=0, threads=1)
drawn = np.random.default_rng(0)
pairs = Dataset(
    digest="noise",
    spectrograms=drawn.standard_normal((12, 2, 16, 16)).astype(np.float16),
    targets=drawn.standard_normal((12, 512)).astype(np.float32),
    stimuli=tuple(map(str, range(12))),
    spans_s=np.arange(24.0).reshape(12, 2),
).on(torch.device("cpu"))
spec = SentenceSpec(encoder=ResNetSpec(weights="random"), training=TrainingSpec(max_epochs=1))
fit(pairs, pairs, spec, seed=0)
print(*sys.modules)
"""


def test_a_process_that_trains_imports_neither_pytorch_s_compiler_nor_torchvision():
    found = subprocess.run(
        [sys.executable, "-c", TRAINING], capture_output=True, text=True, check=True
    )
    modules = found.stdout.split()
    assert "ssense.training.sentences" in modules
    unwanted = ("torch._dynamo", "torch._inductor", "torchvision", "scipy", "sympy")
    assert [
        name for name in modules if name.partition(".")[0] in unwanted or name in unwanted
    ] == []
