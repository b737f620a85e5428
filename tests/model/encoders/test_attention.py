from __future__ import annotations

import numpy as np
import torch

from ssense.model.encoders.attention import AttentionSpec
from ssense.model.encoders.spectrogram_encoder import ResNetSpec
from ssense.training.loop import fit
from ssense.training.sentences import SentenceSpec, TrainingSpec


def test_it_starts_as_the_mean_over_electrodes(pairs):
    x, _ = pairs.batch(torch.arange(8))
    found = []
    for kind in (ResNetSpec, AttentionSpec):
        torch.manual_seed(0)
        found.append(kind(weights="random").build(pairs, "float32").train()(x))
    torch.testing.assert_close(*found)


def test_it_comes_to_prefer_the_electrode_that_says_something(pairs):
    spec = SentenceSpec(
        encoder=AttentionSpec(weights="random"),
        training=TrainingSpec(batch_size=16, max_epochs=20, patience=20, learning_rate=1e-3),
    )
    train, validation = pairs.select(np.arange(60)), pairs.select(np.arange(60, 96))
    trained = fit(train, validation, spec, seed=0)
    encoder = spec.rebuild(trained.weights, pairs).eval()
    x, _ = validation.batch(torch.arange(36))
    with torch.inference_mode():
        of_electrodes = encoder.resnet(x.flatten(0, 1).float()).view(36, 3, -1)
        weights = encoder.weights(of_electrodes)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(36, 8))
    assert weights.mean(dim=(0, 2)).argmax() == 1
