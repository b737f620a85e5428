from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from analysis.mapping.occlusion import Occluder, filling_of
from analysis.mapping.parts import Axes, all_parts
from analysis.mapping.prepared import BOUND, Agreement, agreement, embedded, prepared
from ssense.data.dataset import Dataset, Pairs
from ssense.model.encoders.attention import AttentionSpec
from ssense.model.encoders.convolution import ConvolutionSpec
from ssense.model.encoders.spectrogram_encoder import ResNetSpec
from ssense.training.loop import initial_model
from ssense.training.sentences import SentenceSpec, train_step

N, E, F, T, D = 32, 3, 8, 20, 16
AXES = Axes(electrodes=("A1", "A2", "B1"), rows=[5.0 * k for k in range(F)], times_s=np.arange(T))
SPECS = {"resnet": ResNetSpec(weights="random"), "attention": AttentionSpec(weights="random")}


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    rng = np.random.default_rng(3)
    return Dataset(
        digest="0",
        spectrograms=rng.standard_normal((N, E, F, T)).astype(np.float16),
        targets=rng.standard_normal((N, D)).astype(np.float32),
        stimuli=tuple(map(str, range(N))),
        spans_s=np.arange(2.0 * N).reshape(N, 2),
    ).on(torch.device("cpu"))


def trained(encoder_spec, pairs):
    """An encoder after a few steps: its statistics are those of data."""
    torch.manual_seed(0)
    spec = SentenceSpec(encoder=encoder_spec)
    encoder = initial_model(spec, pairs, 0).train()
    for _ in range(3):
        x, text = pairs.batch(torch.arange(len(pairs)))
        train_step(encoder, spec.optimiser(encoder), x, text, spec)
    return encoder.eval()


@pytest.mark.parametrize("name", SPECS)
def test_every_embedding_is_that_of_the_encoder_but_for_rounding(name, pairs):
    encoder, filling = trained(SPECS[name], pairs), filling_of(pairs, "mean")
    before = {key: tensor.clone() for key, tensor in encoder.state_dict().items()}
    slow, fast = (
        Occluder(encoder, pairs, filling),
        Occluder(prepared(encoder, "float32"), pairs, filling),
    )
    parts = all_parts(("electrodes", "times", "bands", "times-bands"), AXES, {}, 2, 2)
    for part in parts:
        embeddings = [each.without(part) for each in (fast, slow)]
        torch.testing.assert_close(*embeddings, atol=1e-5, rtol=1e-5)
    assert all(map(torch.equal, encoder.state_dict().values(), before.values()))


def test_bf16_is_close_and_how_close_is_measured(pairs):
    encoder = trained(SPECS["resnet"], pairs)
    found = agreement(encoder, pairs)
    by_float32, by_bf16 = (
        normalize(embedded(prepared(encoder, precision), pairs).double()[:16], dim=1)
        for precision in ("float32", "bf16")
    )
    assert not torch.equal(by_float32, by_bf16)
    candidates = normalize(pairs.targets.double(), dim=1)
    best, others = (
        (each @ candidates.T).topk(10).indices.tolist() for each in (by_float32, by_bf16)
    )
    lost = [len(set(mine) - set(theirs)) / 10 for mine, theirs in zip(best, others, strict=True)]
    assert found.exchanged == pytest.approx(np.mean(lost))
    assert found.cosine == pytest.approx(float((by_float32 * by_bf16).sum(dim=1).min()))
    assert found.cosine > 0.999
    assert found.sentences == 16


def test_bf16_that_retrieves_others_is_out_of_bounds():
    assert Agreement(sentences=16, exchanged=BOUND, cosine=1.0).within_bound
    assert not Agreement(sentences=16, exchanged=BOUND + 0.01, cosine=1.0).within_bound


def test_an_encoder_without_resnet_runs_as_it_is(pairs):
    encoder = initial_model(SentenceSpec(encoder=ConvolutionSpec(channels=4)), pairs, 0).train()
    assert prepared(encoder, "bf16") is encoder
    assert not encoder.training
    assert encoder.precision == "float32"
