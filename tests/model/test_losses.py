from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ssense.model.encoders.spectrogram_encoder import (
    BatchNorm,
    Precision,
    SpectrogramEncoder,
    build_encoder,
)
from ssense.model.losses import backward_in_chunks, info_nce


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


# ---------------------------------------------------------------- in chunks

X, TEXT = (
    torch.rand(11, 3, 1, 24, 32, generator=torch.Generator().manual_seed(0)),
    gaussian(11, 512),
)


def batch_loss(brain: Tensor) -> Tensor:
    return info_nce(brain, TEXT.float())


def encoder_in_training(batch_norm: BatchNorm, precision: Precision) -> SpectrogramEncoder:
    """With running statistics of images like these, as pretrained weights have of theirs."""
    torch.manual_seed(1)
    encoder = build_encoder("random", precision=precision, batch_norm=batch_norm, dimensions=512)
    for norm in encoder.norms():
        norm.train()
    with torch.no_grad():
        for _ in range(20):
            encoder(X)
    return encoder.train()


def gradients(encoder: SpectrogramEncoder) -> Tensor:
    return torch.cat([parameter.grad.flatten() for parameter in encoder.parameters()])


def statistics(encoder: SpectrogramEncoder) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in encoder.named_buffers()}


def relative_distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize(("precision", "rounding"), [("float32", 1e-5), ("bf16", 3e-2)])
@pytest.mark.parametrize("chunk", [1, 4, 10])
def test_with_frozen_statistics_chunks_have_the_gradient_of_one_pass(chunk, precision, rounding):
    one_pass = encoder_in_training("frozen", precision)
    before = statistics(one_pass)
    expected = batch_loss(one_pass(X))
    expected.backward()
    chunked = encoder_in_training("frozen", precision)
    loss = backward_in_chunks(chunked, X.split(chunk), batch_loss)
    assert loss.item() == pytest.approx(expected.item(), rel=rounding)
    assert not loss.requires_grad
    assert relative_distance(gradients(chunked), gradients(one_pass)) < rounding
    after = statistics(chunked)
    assert all(after[name].equal(before[name]) for name in before)


@pytest.mark.parametrize(("precision", "rounding"), [("float32", 1e-5), ("bf16", 1e-2)])
def test_chunks_that_normalise_themselves_have_the_gradient_of_one_graph_of_them(
    precision, rounding
):
    one_graph = encoder_in_training("chunk", precision)
    batch_loss(torch.cat([one_graph(chunk) for chunk in X.split(4)])).backward()
    chunked = encoder_in_training("chunk", precision)
    backward_in_chunks(chunked, X.split(4), batch_loss)
    assert relative_distance(gradients(chunked), gradients(one_graph)) < rounding
    expected, found = statistics(one_graph), statistics(chunked)
    assert all(found[name].equal(expected[name]) for name in expected)  # taken in once, not twice
    whole = encoder_in_training("chunk", precision)
    batch_loss(whole(X)).backward()
    assert relative_distance(gradients(chunked), gradients(whole)) > 10 * rounding


def test_a_batch_of_one_chunk_is_one_pass():
    one_pass, chunked = (encoder_in_training("chunk", "float32") for _ in range(2))
    batch_loss(one_pass(X)).backward()
    backward_in_chunks(chunked, [X], batch_loss)
    assert gradients(chunked).equal(gradients(one_pass))


def saved_bytes_at_most(work: Callable[[], object]) -> int:
    """The most bytes that graphs keep at a time while `work` runs, every storage counted once."""
    held: Counter[int] = Counter()
    sizes: dict[int, int] = {}
    most = 0

    class Held:
        def __init__(self, tensor: Tensor) -> None:
            nonlocal most
            self.tensor, self.key = tensor, tensor.untyped_storage().data_ptr()
            sizes[self.key] = tensor.untyped_storage().nbytes()
            held[self.key] += 1
            most = max(most, sum(sizes[key] for key, n in held.items() if n))

        def __del__(self) -> None:
            held[self.key] -= 1

    with torch.autograd.graph.saved_tensors_hooks(Held, lambda kept: kept.tensor):
        work()
    return most


def test_a_batch_in_chunks_keeps_the_graph_of_one_chunk():
    encoder = encoder_in_training("chunk", "float32")

    def kept(n: int) -> int:
        x = X[0].expand(n, -1, -1, -1, -1)
        text = gaussian(n, 512).float()
        return saved_bytes_at_most(
            lambda: backward_in_chunks(encoder, x.split(4), lambda brain: info_nce(brain, text))
        )

    of_two = kept(4) - kept(2)  # the rest are weights
    assert of_two > 1.8 * (kept(2) - kept(1))
    assert kept(16) - kept(4) < 0.1 * of_two
