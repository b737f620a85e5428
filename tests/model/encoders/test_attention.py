from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ssense.data.coordinates import Coordinates
from ssense.data.dataset import Pairs
from ssense.errors import UserError
from ssense.model.encoders.attention import AttentionEncoder, AttentionSpec
from ssense.model.encoders.spectrogram_encoder import ResNetSpec
from ssense.model.encoders.waves import waves
from ssense.model.losses import info_nce
from ssense.training.loop import fit
from ssense.training.sentences import SentenceSpec, TrainingSpec

TOLD = AttentionSpec(weights="random", coordinates=True)


def built(spec, pairs):
    torch.manual_seed(0)
    return spec.build(pairs, "float32").train()


@pytest.mark.parametrize("spec", [AttentionSpec(weights="random"), TOLD])
def test_it_starts_as_the_mean_over_electrodes(pairs, spec):
    x, _ = pairs.batch(torch.arange(8))
    found = [built(each, pairs)(x) for each in (ResNetSpec(weights="random"), spec)]
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


# ---------------------------------------------------------------- told where electrodes lie


def preferring(encoder: AttentionEncoder) -> AttentionEncoder:
    """The encoder as it may be after a training, with some preference of places."""
    with torch.no_grad():
        encoder.of_place.copy_(torch.randn(encoder.of_place.shape, generator=torch.manual_seed(1)))
    return encoder


def test_without_coordinates_it_is_what_it_was(pairs):
    """Coordinates that are there, and not asked for, change neither names nor bits."""
    x, _ = pairs.batch(torch.arange(8))
    blind = replace(pairs, coordinates=None)
    one, other = (built(AttentionSpec(weights="random"), each) for each in (pairs, blind))
    assert not [name for name in one.state_dict() if "place" in name]
    assert one(x).equal(other(x))


def test_the_order_of_electrodes_changes_nothing(pairs):
    order = [2, 0, 1]
    places = tuple(pairs.coordinates.places[each] for each in order)
    turned = Pairs(
        pairs.spectrograms[:, order],
        pairs.targets,
        coordinates=replace(pairs.coordinates, places=places),
    )
    found = [
        preferring(built(TOLD, each)).eval()(each.batch(torch.arange(8))[0])
        for each in (pairs, turned)
    ]
    torch.testing.assert_close(*found)
    stayed = replace(turned, coordinates=pairs.coordinates)
    other = preferring(built(TOLD, stayed)).eval()(stayed.batch(torch.arange(8))[0])
    assert (other - found[0]).norm() > 0.01 * found[0].norm()


def test_an_electrode_without_coordinates_has_no_preference_of_its_place(pairs):
    encoder = preferring(built(TOLD, pairs)).eval()
    assert pairs.coordinates.places[2] is None
    torch.testing.assert_close(encoder._preferences()[2], torch.zeros(8))
    assert encoder._preferences()[:2].abs().min() > 0


def test_the_gradient_reaches_the_map_of_places(pairs):
    encoder = built(TOLD, pairs)
    x, texts = pairs.batch(torch.arange(16))
    info_nce(encoder(x), texts, 0.07).backward()
    assert encoder.of_place.grad.abs().max() > 0


def test_electrodes_of_one_side_are_found_at_least_as_well_with_coordinates():
    """Only the pooling is trained, so that nothing else tells the two apart."""
    rng = np.random.default_rng(0)
    n, electrodes, dimensions = 128, 24, 32
    places = rng.uniform(-50, 50, (electrodes, 3))
    is_right = torch.from_numpy(places[:, 0] > 0)
    texts = torch.from_numpy(rng.standard_normal((n, dimensions))).float()
    heard = torch.from_numpy(2 * rng.standard_normal((n, electrodes, dimensions))).float()
    heard[:, is_right] += texts[:, None]
    losses, shares = [], []
    for told in (waves(places), None):
        encoder = AttentionEncoder(dimensions=dimensions, electrodes=electrodes, places=told)
        pooling = [encoder.query, encoder.preference, *([] if told is None else [encoder.of_place])]
        adam = torch.optim.Adam(pooling, 2e-3)
        for _ in range(60):
            adam.zero_grad()
            info_nce(encoder.pool(heard[:64]), texts[:64], 0.07).backward()
            adam.step()
        with torch.inference_mode():
            losses.append(float(info_nce(encoder.pool(heard[64:]), texts[64:], 0.07)))
            shares.append(float(encoder.weights(heard[64:])[:, is_right].sum(dim=1).mean()))
    assert losses[0] < losses[1]
    assert shares[0] > shares[1] > float(is_right.float().mean())


def test_coordinates_that_are_not_there_are_one_line(pairs):
    with pytest.raises(UserError, match="the recording has coordinates of none") as error:
        TOLD.build(replace(pairs, coordinates=None), "float32")
    assert "\n" not in str(error.value)


def test_coordinates_of_another_digest_are_refused(pairs):
    spec = SentenceSpec(encoder=TOLD, contacts=pairs.coordinates.contacts)
    spec.initial(pairs)
    moved = replace(pairs, coordinates=Coordinates(contacts="moved", places=((0.0,) * 3,) * 3))
    with pytest.raises(UserError, match=f"have the digest moved, not {spec.contacts}. Restore"):
        spec.initial(moved)
    with pytest.raises(UserError, match="not one that the specification names"):
        SentenceSpec(encoder=TOLD).initial(pairs)
    SentenceSpec(encoder=AttentionSpec(weights="random")).initial(moved)  # it is not told


@pytest.mark.parametrize(
    ("trained", "read", "missing"),
    [
        (TOLD, replace(TOLD, coordinates=False), "of_place is unknown"),
        (replace(TOLD, coordinates=False), TOLD, "of_place is missing"),
    ],
)
def test_a_state_of_the_other_kind_is_refused(pairs, trained, read, missing):
    state = built(trained, pairs).state_dict()
    with pytest.raises(ValueError, match=missing):
        read.rebuild(state, "float32")
