from __future__ import annotations

from itertools import product

import numpy as np
import torch

from ssense.model.encoders.waves import N_WAVES, waves

PLACES = np.random.default_rng(0).uniform(-60, 60, (40, 3))


def test_they_are_every_wave_up_to_a_third_of_the_longest_once():
    """Two places are alike as far as the mean over all waves, of both signs, of the cosine says."""
    extent = PLACES.max(axis=0) - PLACES.min(axis=0)
    vectors = [v for v in product(range(-3, 4), repeat=3) if 0 < np.dot(v, v) <= 9]
    apart = (PLACES[:, None] - PLACES[None]) * 2 * np.pi / (2 * extent.max())
    alike = np.mean([np.cos(apart @ np.array(v)) for v in vectors], axis=0)
    found = waves(PLACES)
    assert found.shape == (40, N_WAVES)
    assert len(vectors) == N_WAVES
    np.testing.assert_allclose(found @ found.T, alike, atol=1e-5)


def test_neither_unit_nor_origin_matter_and_the_order_is_kept():
    found = waves(PLACES)
    torch.testing.assert_close(waves(PLACES / 10 + 7), found, atol=1e-4, rtol=0)
    order = np.random.default_rng(1).permutation(40)
    assert waves(PLACES[order]).equal(found[order])


def test_an_electrode_without_a_place_gets_none():
    some = PLACES.copy()
    some[[3, 5]] = np.nan
    some[7, 1] = np.nan
    found = waves(some)
    assert not found[[3, 5, 7]].any()
    kept = np.setdiff1d(np.arange(40), [3, 5, 7])
    assert found[kept].equal(waves(PLACES[kept]))
    assert not waves(np.full((2, 3), np.nan)).any()
    assert waves(np.zeros((2, 3))).isfinite().all()  # at one place, as one contact alone is
