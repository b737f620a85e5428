"""Maps of responses in which two channels carry the images, for a third of a second, and no other.

Brute force: what is hidden is hidden in the data set itself, which is embedded as any is.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from analysis.mapping.effects import EffectMap, Resampling, effect_maps
from analysis.mapping.image_maps import (
    ResponseOccluder,
    response_axes,
    response_filling,
    response_parts,
)
from analysis.mapping.seed_map import NO_PAIRINGS, Pairings, map_of, pairings_of
from ssense.data.things.averages import Things
from ssense.data.things.dataset import ImageDataset
from ssense.data.things.images import ImageSet
from ssense.data.things.responses import ResponseSpec
from ssense.errors import UserError
from ssense.training.images import ImageSpec, ImageTrainingSpec
from ssense.training.loop import fit, initial_model

CHANNELS = ("Oz", "O1", "Fp1", "Cz", "T7", "O2")
SPEAKING = [1, 5]  # O1 and O2
SPEAKS_S = (1 / 3, 2 / 3)
N, M, DIMENSIONS = 600, 80, 16
SPEC = ImageSpec(training=ImageTrainingSpec(batch_size=200, learning_rate=2e-3, max_epochs=6))
SEEDS = (0, 1, 2)


def image_set(n: int, part: str) -> ImageSet:
    concepts = tuple(f"{part}{i}" for i in range(n))
    files = tuple(f"{concept}/0.jpg" for concept in concepts)
    return ImageSet(folder=Path("x"), files=files, concepts=concepts, concept=np.arange(n))


def responses(features: np.ndarray, rng: np.random.Generator, gain: float) -> np.ndarray:
    """`[n, 6, 24]`: noise, and in two channels and eight samples what the features evoke."""
    signals = rng.standard_normal((len(features), len(CHANNELS), 24))
    pattern = np.random.default_rng(7).standard_normal((DIMENSIONS, len(SPEAKING), 8))
    signals[:, SPEAKING, 8:16] += gain * np.einsum("nd,dct->nct", features, pattern)
    return signals.astype(np.float32)


def made(gain: float) -> ImageDataset:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((N + M, DIMENSIONS)).astype(np.float32)
    signals = responses(features, rng, gain)
    things = Things(
        digest="0",
        subjects=("sub-01",),
        channels=CHANNELS,
        training=signals[None, :N],
        test=signals[None, N:],
        training_images=image_set(N, "a"),
        test_images=image_set(M, "b"),
    )
    kinds = dict.fromkeys({"original", *SPEC.objective.features}, features)
    return ImageDataset(
        digest="0", things=things, subject="sub-01", n_validation=100, features=kinds
    )


def maps_of(dataset: ImageDataset) -> dict[str, EffectMap]:
    axes = response_axes(dataset, ResponseSpec())
    parts, found = response_parts(("electrodes", "times", "bands"), axes, 3), []
    pairs = dataset.on(torch.device("cpu"))
    for seed in SEEDS:
        split = dataset.split("intra-subject", seed)
        train, validation, test = (
            pairs.select(rows) for rows in (split.train, split.validation, split.test)
        )
        model = SPEC.rebuild(fit(train, validation, SPEC, seed).weights, test)
        occluder = ResponseOccluder(model, test, response_filling(train, "mean"), 32)
        embedded = SPEC.embed(model, test)
        candidates = embedded.candidates[embedded.truth]
        pairings = Pairings(anywhere=pairings_of(M, 200, 0))
        found.append(map_of(seed, occluder, parts, candidates, SPEC.primary, pairings))
    sizes = Resampling(n_train=N, n_test=M, blocks=SPEC.test_blocks)
    return {each.what: each for each in effect_maps(found, SPEC.primary, sizes)}


@pytest.fixture(scope="module")
def maps() -> dict[str, EffectMap]:
    return maps_of(made(gain=0.7))


def test_maps_find_the_channels_and_the_window_that_carry_the_images_and_no_others(maps):
    assert list(maps) == ["channel left out", "channel alone", "time window"]
    for what in ("channel left out", "channel alone"):
        shown = [part.name for part in np.array(maps[what].parts)[maps[what].found]]
        assert shown == ["O1", "O2"]
    (window,) = np.array(maps["time window"].parts)[maps["time window"].found]
    assert window.name == "0.31 to 0.65 s"  # half a sample before the window to half of its last
    assert [part.frames for part in maps["time window"].parts] == [(0, 7), (8, 15), (16, 23)]


def test_responses_that_say_nothing_have_empty_maps():
    for found in maps_of(made(gain=0.0)).values():
        assert not found.found.any()


@pytest.mark.parametrize("fill", ["mean", "zero"])
def test_what_is_hidden_is_hidden_as_in_data_that_never_had_it(fill):
    dataset = made(gain=0.7)
    axes = response_axes(dataset, ResponseSpec())
    pairs, split = dataset.on(torch.device("cpu")), dataset.split("intra-subject", 0)
    train, test = pairs.select(split.train), pairs.select(split.test)
    filling = response_filling(train, fill)
    mean = dataset.things.training[0][split.train].mean(axis=0)
    np.testing.assert_allclose(filling, mean if fill == "mean" else 0 * mean, atol=1e-6)
    model = initial_model(SPEC, train, 0)
    occluder = ResponseOccluder(model, test, filling, 32)
    for part in response_parts(("electrodes", "times"), axes, 4):
        signals = dataset.things.test.copy()
        for channel in range(len(CHANNELS)):
            for frame in range(24):
                by_channel = part.kept is not None and channel not in part.kept
                by_time = part.frames is not None and part.frames[0] <= frame <= part.frames[1]
                if by_channel or by_time:
                    signals[0, :, channel, frame] = filling[channel, frame]
        without = replace(dataset, things=replace(dataset.things, test=signals))
        expected = SPEC.embed(model, without.on(torch.device("cpu")).select(split.test)).queries
        torch.testing.assert_close(occluder.without(part), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(
            occluder.intact(part), SPEC.embed(model, test).queries, atol=1e-5, rtol=1e-5
        )
    candidates = torch.randn(M, occluder.intact(part).shape[1])
    found = map_of(0, occluder, [part], candidates, SPEC.primary, NO_PAIRINGS)
    assert found.permuted.size == 0


def test_a_single_channel_is_not_left_out_and_frequencies_alone_are_refused():
    axes = response_axes(made(gain=0.0), ResponseSpec(start_s=-0.2, stop_s=1.0))
    assert axes.times_s[0] == pytest.approx(-0.2)
    assert axes.step_s == pytest.approx(0.05)
    (part,) = response_parts(("electrodes",), replace(axes, electrodes=("Oz",)), 3)
    assert (part.what, part.kept) == ("channel alone", (0,))
    with pytest.raises(UserError, match=r"--maps bands times-bands: responses to images have no "):
        response_parts(("bands", "times-bands"), axes, 3)
