from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ssense.model.losses import info_nce


def gaussian(n: int, d: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def sim(a: list[float], b: list[float]) -> float:
    dot = math.fsum(x * y for x, y in zip(a, b, strict=True))
    return dot / (math.hypot(*a) * math.hypot(*b))


def equations_1_and_2(brain: Tensor, text: Tensor, tau: float) -> float:
    """SSENSE, section 2.5, term by term."""
    z_brain, z_text = brain.tolist(), text.tolist()
    total = 0.0
    for i in range(len(z_brain)):
        positive = math.exp(sim(z_brain[i], z_text[i]) / tau)
        denominator = 0.0
        for j in range(len(z_text)):
            denominator += math.exp(sim(z_brain[i], z_text[j]) / tau)
        total += -math.log(positive / denominator)
    return total / len(z_brain)


@settings(deadline=None)
@given(
    n=st.integers(1, 8),
    d=st.integers(1, 6),
    tau=st.floats(0.01, 10),
    seed=st.integers(0, 2**32),
)
def test_the_loss_is_equations_1_and_2(n, d, tau, seed):
    brain, text = gaussian(n, d, seed), gaussian(n, d, seed + 1)
    loss = info_nce(brain, text, tau)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(equations_1_and_2(brain, text, tau), rel=1e-9, abs=1e-12)


def test_the_temperature_is_the_paper_s():
    brain, text = gaussian(32, 512), gaussian(32, 512, seed=1)
    assert info_nce(brain, text).item() == pytest.approx(equations_1_and_2(brain, text, 0.07))


@pytest.mark.parametrize("tau", [0.07, 1.0])
@pytest.mark.parametrize("n", [1, 2, 32])
def test_closed_forms(n, tau):
    eye, same = torch.eye(n, dtype=torch.float64), torch.ones(n, n, dtype=torch.float64)
    # Every pair matches and every negative is orthogonal: one term e^(1/tau), n - 1 terms 1.
    matched = math.log(math.exp(1 / tau) + n - 1) - 1 / tau
    assert info_nce(eye, eye, tau).item() == pytest.approx(matched, abs=1e-9)
    # Sentences that can't be told apart leave a choice of one in n.
    assert info_nce(eye, same, tau).item() == pytest.approx(math.log(n), abs=1e-12)


def test_opposite_pairs_cost_most():
    eye = torch.eye(2, dtype=torch.float64)
    # Equation 1 with similarities -1 for the pair and 0 for the negative.
    assert info_nce(eye, -eye, 0.07).item() == pytest.approx(math.log(1 + math.exp(1 / 0.07)))


def test_the_direction_is_from_brain_to_text():
    brain, text = gaussian(5, 4), gaussian(5, 4, seed=1)
    assert info_nce(brain, text).item() != pytest.approx(info_nce(text, brain).item())


def test_lengths_of_rows_do_not_matter():
    brain, text = gaussian(6, 4), gaussian(6, 4, seed=1)
    lengths = torch.logspace(-3, 3, 6, dtype=torch.float64)[:, None]
    expected = info_nce(brain, text).item()
    assert info_nce(brain * lengths, text).item() == pytest.approx(expected)
    assert info_nce(brain, text * lengths).item() == pytest.approx(expected)


def test_the_order_of_pairs_does_not_matter():
    brain, text = gaussian(6, 4), gaussian(6, 4, seed=1)
    order = torch.tensor([3, 5, 0, 1, 4, 2])
    expected = info_nce(brain, text).item()
    assert info_nce(brain[order], text[order]).item() == pytest.approx(expected)


def test_gradients_are_those_of_finite_differences():
    brain = gaussian(4, 3).requires_grad_()
    text = gaussian(4, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda b, t: info_nce(b, t, 0.5), (brain, text))


def test_a_low_temperature_does_not_overflow_in_float32():
    # e^(1/tau) alone would be infinite in float32.
    brain = gaussian(8, 16, dtype=torch.float32)
    assert info_nce(brain, brain, 1e-3).item() == 0
    assert info_nce(brain, -brain, 1e-3).isfinite()


@pytest.mark.parametrize(
    ("brain", "text"), [((3, 4), (2, 4)), ((3, 4), (3, 5)), ((3,), (3,)), ((2, 3, 4), (2, 3, 4))]
)
def test_shapes_that_are_no_pairs_are_refused(brain, text):
    with pytest.raises(ValueError, match=r"must both be \[N, D\], got \[.*\] and \[.*\]") as error:
        info_nce(torch.ones(brain), torch.ones(text))
    assert f"{list(brain)} and {list(text)}" in str(error.value)


@pytest.mark.parametrize("tau", [0.0, -0.07])
def test_a_temperature_that_is_not_positive_is_refused(tau):
    with pytest.raises(ValueError, match=f"temperature must be positive, got {tau}"):
        info_nce(torch.ones(2, 2), torch.ones(2, 2), tau)
