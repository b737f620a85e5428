from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from analysis.mapping.occlusion import Occluder, filling_of
from analysis.mapping.parts import Axes, Part, all_parts
from analysis.mapping.seed_map import Pairings, SeedMap, map_of, of_similar_duration, pairings_of
from ssense.data.dataset import Dataset, Pairs
from ssense.model.encoders.attention import AttentionEncoder, AttentionSpec
from ssense.model.encoders.convolution import ConvolutionSpec
from ssense.model.encoders.linear import LinearSpec
from ssense.model.encoders.spectrogram_encoder import ResNetSpec, SpectrogramEncoder
from ssense.signal.contacts import shafts_of
from ssense.training.loop import initial_model
from ssense.training.sentences import SentenceSpec

N, E, F, T, D = 60, 4, 6, 12, 16
NAMES = ("A1", "A2", "B1", "B2")
TRAIN, TEST = np.arange(40), np.arange(40, 60)
AXES = Axes(electrodes=NAMES, rows=[5.0, 10.0, 20.0, 40.0, 80.0, 120.0], times_s=np.arange(T) / 10)
REGIONS = {"A1": "STG", "A2": "insula", "B1": "STG"}
KINDS = ("electrodes", "times", "bands", "times-bands")
ENCODERS = {
    "resnet": ResNetSpec(weights="random"),
    "attention": AttentionSpec(weights="random"),
    "linear": LinearSpec(windows=4, start="random"),
    "convolution": ConvolutionSpec(channels=4),
}


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    rng = np.random.default_rng(3)
    x, targets = rng.standard_normal((N, E, F, T)) + 0.5, rng.standard_normal((N, D))
    return Dataset(
        digest="0",
        spectrograms=x.astype(np.float16),
        targets=(targets / np.linalg.norm(targets, axis=1, keepdims=True)).astype(np.float32),
        stimuli=tuple(map(str, range(N))),
        spans_s=np.arange(2.0 * N).reshape(N, 2),
    ).on(torch.device("cpu"))


def encoder_of(spec, pairs):
    """An encoder as it may be after a training: attention prefers some electrodes."""
    encoder = initial_model(SentenceSpec(encoder=spec), pairs.select(TRAIN), 0)
    if isinstance(encoder, AttentionEncoder):
        with torch.no_grad():
            encoder.preference.copy_(torch.randn(encoder.preference.shape))
            encoder.query.copy_(torch.randn(encoder.query.shape))
    return encoder.eval()


@torch.inference_mode()
def by_brute_force(encoder, x: torch.Tensor, filling: torch.Tensor, part: Part) -> torch.Tensor:
    """Change the input `[B, E, 1, F, T]` itself, and run the encoder on it."""
    x = x.clone()
    if part.kept is None:
        rows, frames = (slice(a, b + 1) for a, b in (part.rows, part.frames))
        x[:, :, 0, rows, frames] = filling[:, rows, frames]
        return encoder(x)
    if isinstance(encoder, AttentionEncoder):
        return attended(encoder, x, list(part.kept))
    if isinstance(encoder, SpectrogramEncoder):
        return encoder(x[:, list(part.kept)])
    for electrode in set(range(E)) - set(part.kept):
        x[:, electrode, 0] = filling[electrode]
    return encoder(x)


@torch.inference_mode()
def attended(encoder: AttentionEncoder, x: torch.Tensor, kept: list[int]) -> torch.Tensor:
    """Attention over some electrodes written out: exponentials over their sum, head by head."""
    each = np.stack([encoder.resnet(x[:, e].float()).numpy() for e in kept], axis=1)
    parts = each.reshape(*each.shape[:2], *encoder.query.shape)
    logits = (parts * encoder.query.numpy()).sum(-1) / encoder.query.shape[1] ** 0.5
    raised = np.exp(logits + encoder.preference.numpy()[kept])
    weights = raised / raised.sum(axis=1, keepdims=True)
    return torch.from_numpy((weights[..., None] * parts).sum(axis=1).reshape(len(x), -1))


@pytest.mark.parametrize(
    ("name", "fill"), [*((name, "mean") for name in ENCODERS), ("linear", "zero")]
)
def test_every_part_is_hidden_as_if_the_input_had_been_changed(name, fill, pairs):
    encoder, spec = encoder_of(ENCODERS[name], pairs), SentenceSpec(encoder=ENCODERS[name])
    test, filling = pairs.select(TEST), filling_of(pairs.select(TRAIN), fill)
    by_hand = pairs.spectrograms[:40].double().mean(dim=0).float() * (fill == "mean")
    torch.testing.assert_close(filling, by_hand)
    occluder = Occluder(encoder, test, filling)
    x, targets = test.batch(torch.arange(len(TEST)))
    before = x.clone()
    intact = occluder.intact(Part(what="time window", name=""))
    parts = all_parts(KINDS, AXES, REGIONS, windows=2, bands=2)
    assert len({part.what for part in parts}) == 9
    for part in parts:
        expected = by_brute_force(encoder, x, filling.half(), part)
        found = occluder.without(part)
        scores = [normalize(each, dim=1) @ targets.T for each in (found, expected)]
        torch.testing.assert_close(*scores, atol=1e-5, rtol=0, msg=f"{part}")
        if part.kept is not None:
            torch.testing.assert_close(occluder.intact(part), intact, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(scores[0], normalize(intact, dim=1) @ targets.T, atol=1e-4)
    assert torch.equal(intact, spec.embed(encoder, test).queries)
    assert torch.equal(before, test.batch(torch.arange(len(TEST)))[0])  # nothing was overwritten


def test_what_attention_leaves_out_may_have_had_all_the_weight(pairs):
    encoder = encoder_of(AttentionSpec(weights="random"), pairs)
    with torch.no_grad():
        encoder.preference.zero_()
        encoder.preference[0] = 1e4
    filling = filling_of(pairs.select(TRAIN), "mean")
    test = pairs.select(TEST)
    occluder = Occluder(encoder, test, filling)
    found = occluder.without(Part(what="electrode left out", name="A1", kept=(1, 2, 3)))
    by_hand = attended(encoder, test.batch(torch.arange(1))[0], [1, 2, 3])
    torch.testing.assert_close(found[0], by_hand[0])


def test_parts_are_every_electrode_shaft_region_window_and_band():
    parts = all_parts(KINDS, AXES, REGIONS, windows=3, bands=2)
    named = {what: [p.name for p in parts if p.what == what] for what in {p.what for p in parts}}
    assert named["electrode left out"] == named["electrode alone"] == list(NAMES)
    assert named["shaft alone"] == ["A", "B"]
    assert named["region left out"] == ["STG", "insula"]
    assert named["time window"] == [
        "-0.05 to 0.35 s",
        "0.35 to 0.75 s",
        "0.75 to 1.15 s",
    ]
    assert named["frequency band"] == ["5 to 20 Hz", "40 to 120 Hz"]
    assert len(named["time x frequency"]) == 6
    (stg,) = [p for p in parts if (p.what, p.name) == ("region left out", "STG")]
    assert stg.kept == (1, 3)
    covered = np.zeros((F, T), int)
    for part in parts:
        if part.what == "time x frequency":
            (low, high), (first, last) = part.rows, part.frames
            covered[low : high + 1, first : last + 1] += 1
    assert (covered == 1).all()


def test_groups_that_hold_everything_or_nothing_make_no_map():
    one = replace(AXES, electrodes=("A1",))
    assert [p.what for p in all_parts(("electrodes",), one, {}, 3, 2)] == ["electrode alone"]
    on_one_shaft = replace(AXES, electrodes=("A1", "A2", "A3"))
    found = {p.what for p in all_parts(("electrodes",), on_one_shaft, {}, 3, 2)}
    assert found == {"electrode left out", "electrode alone"}
    # More windows than frames are as many as there are frames.
    assert len(all_parts(("times",), AXES, {}, 100, 2)) == T


def test_pairs_of_contacts_are_on_the_shaft_of_the_first():
    assert shafts_of(["A1-A2", "A2-A3", "LB7-LB8", "MKR"]) == {"A": [0, 1], "LB": [2]}


def test_effects_are_what_is_lost_and_what_is_reached_above_chance():
    parts = [
        Part(what="electrode left out", name="A1", kept=(1,)),
        Part(what="electrode alone", name="A1", kept=(0,)),
    ]
    intact, occluded = (
        np.array([[1.0, 11.0, 2.0, 40.0]] * 2),
        np.array([[11.0, 11.0, 4.0, 1.0]] * 2),
    )
    found = SeedMap(
        seed=0, parts=parts, intact=intact, occluded=occluded, permuted=np.empty((0, 2))
    )
    np.testing.assert_allclose(found.effects("recall@10"), [[1, 0, 0, -1], [-1, -1, 0, 0]])
    chance = (1 + 1 / 2 + 1 / 3 + 1 / 4) / 4
    np.testing.assert_allclose(
        found.effects("mrr"),
        [[1 - 1 / 11, 0, 1 / 2 - 1 / 4, 1 / 40 - 1], np.array([1 / 11, 1 / 11, 1 / 4, 1]) - chance],
    )


def test_permuted_effects_are_those_of_permuted_targets(pairs):
    spec = SentenceSpec(encoder=ENCODERS["linear"])
    encoder, test = encoder_of(spec.encoder, pairs), pairs.select(TEST)
    occluder = Occluder(encoder, test, filling_of(pairs.select(TRAIN), "mean"))
    parts = all_parts(KINDS, AXES, {}, windows=2, bands=2)
    _, targets = test.batch(torch.arange(len(TEST)))
    pairings = pairings_of(len(TEST), 3, seed=1)
    found = map_of(0, occluder, parts, targets, "recall@10", Pairings(anywhere=pairings))
    for pairing, effects in zip(pairings, found.permuted, strict=True):
        again = map_of(0, occluder, parts, targets[pairing], "recall@10")
        np.testing.assert_allclose(again.effects("recall@10").mean(axis=1), effects, atol=1e-12)
    assert found.permuted.std() > 0


@pytest.mark.parametrize("n_blocks", [0, 5])
def test_pairings_are_permutations_that_seeds_draw(n_blocks):
    found = pairings_of(20, 50, seed=2, n_blocks=n_blocks)
    assert (np.sort(found, axis=1) == np.arange(20)).all()
    assert (found == pairings_of(20, 50, seed=2, n_blocks=n_blocks)).all()
    assert (found != pairings_of(20, 50, seed=3, n_blocks=n_blocks)).any()
    neighbours = (np.diff(found, axis=1) % 20 == 1).mean()
    assert (neighbours > 0.6) == bool(n_blocks)


def test_effects_of_some_queries_are_their_part_of_all(pairs):
    spec = SentenceSpec(encoder=ENCODERS["linear"])
    encoder, test = encoder_of(spec.encoder, pairs), pairs.select(TEST)
    filling, parts = filling_of(pairs.select(TRAIN), "mean"), all_parts(KINDS, AXES, {}, 2, 2)
    _, targets = test.batch(torch.arange(len(TEST)))
    pairings = Pairings(
        anywhere=pairings_of(len(TEST), 5, seed=1),
        similar=of_similar_duration(np.arange(20.0) % 7),
    )
    whole = map_of(0, Occluder(encoder, test, filling), parts, targets, "mrr", pairings)
    some = np.array([1, 4, 5, 19])
    occluder = Occluder(encoder, test.select(some), filling)
    found = map_of(0, occluder, parts, targets, "mrr", pairings, some)
    np.testing.assert_allclose(found.occluded, whole.occluded[:, some])
    np.testing.assert_allclose(found.effects("mrr"), whole.effects("mrr")[:, some])
    assert found.permuted.shape == whole.permuted.shape
    assert found.similar.shape == (len(parts),)


def test_pairs_of_similar_duration_are_all_others_of_a_bin(pairs):
    spoken_s = np.random.default_rng(4).permutation(20) / 10
    similar = of_similar_duration(spoken_s)
    assert not similar.diagonal().any()
    assert (similar.sum(axis=1) == 3).all()  # five bins of four sentences
    first, second = np.nonzero(similar)
    assert np.abs(spoken_s[first] - spoken_s[second]).max() < 0.31
    spec = SentenceSpec(encoder=ENCODERS["linear"])
    encoder, test = encoder_of(spec.encoder, pairs), pairs.select(TEST)
    occluder = Occluder(encoder, test, filling_of(pairs.select(TRAIN), "mean"))
    parts = all_parts(KINDS, AXES, {}, windows=2, bands=2)
    _, targets = test.batch(torch.arange(len(TEST)))
    pairings = Pairings(anywhere=pairings_of(len(TEST), 1, seed=1), similar=similar)
    found = map_of(0, occluder, parts, targets, "recall@10", pairings)
    # Every way to pair each sentence with the next, second or third other one of its bin.
    others = np.array([np.flatnonzero(row) for row in similar])
    by_hand = np.mean(
        [
            map_of(0, occluder, parts, targets, "recall@10", queries=others[:, place])
            .effects("recall@10")
            .mean(axis=1)
            for place in range(3)
        ],
        axis=0,
    )
    np.testing.assert_allclose(found.similar, by_hand, atol=1e-12)
