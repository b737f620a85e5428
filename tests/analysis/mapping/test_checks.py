from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from analysis.mapping.checks import (
    check_noise,
    check_permuted,
    check_similar,
    check_untrained,
    label,
    of_durations,
)
from analysis.mapping.effects import EffectMap
from analysis.mapping.parts import Part
from analysis.measure.inference import TTest

K = 20
PARTS = [Part(what="electrode alone", name=f"A{k + 1}", kept=(k,)) for k in range(K)]


def effects(means: np.ndarray, threshold: float = 0.1, p: float = 0.001) -> EffectMap:
    tests = [TTest(1.0, p, 3, float(mean), mean - 0.01, mean + 0.01, 0.005) for mean in means]
    ones = np.full(len(means), p)
    return EffectMap(
        what="electrode alone",
        metric="recall@10",
        parts=PARTS[: len(means)],
        by_seed=np.tile(means, (4, 1)),
        scores=np.tile(means, (4, 1)),
        tests=tests,
        p_holm=ones,
        p_fdr=ones,
        p_max=np.where(means > threshold, 0.01, 0.5),
        threshold=threshold,
    )


REAL = effects(np.linspace(0, 0.5, K))


def test_an_untrained_map_that_is_the_same_contradicts():
    same = check_untrained(REAL, effects(np.linspace(0, 0.2, K)))
    assert (same.correlation, same.largest) == (pytest.approx(1), 0.2)
    assert same.pvalue < 0.01
    assert same.contradicts
    assert label(REAL, [same]) == "contradicted: an untrained encoder has the same map"


@pytest.mark.parametrize(
    "untrained",
    [
        np.linspace(0, 0.09, K),  # like the real one, but no larger than permuted pairs give
        np.random.default_rng(0).normal(0.3, 0.1, K),  # large, but another map
        np.linspace(0.5, 0, K),
        np.zeros(K),
    ],
)
def test_another_or_an_empty_untrained_map_does_not(untrained):
    assert not check_untrained(REAL, effects(untrained)).contradicts


def test_of_a_few_parts_nothing_is_known_to_be_alike():
    few = effects(np.array([0.1, 0.2, 0.3]))
    found = check_untrained(few, effects(np.array([0.2, 0.3, 0.4])))
    assert found.correlation == pytest.approx(1)
    assert found.pvalue > 0.05  # one order of six
    assert not found.contradicts


def test_noise_is_like_a_map_in_few_reports():
    rng = np.random.default_rng(1)
    alike = [check_untrained(REAL, effects(rng.normal(0.2, 0.1, K))) for _ in range(100)]
    assert sum(each.contradicts for each in alike) <= 5


def test_permuted_pairs_that_have_the_same_map_contradict():
    rng = np.random.default_rng(2)
    noise = rng.normal(0, 0.1, (100, K))
    same = check_permuted(REAL, REAL.means + noise)
    other = check_permuted(REAL, noise)
    assert (same.contradicts, other.contradicts) == (True, False)
    assert abs(other.correlation) < 0.1
    assert math.isnan(check_permuted(REAL, np.zeros((10, K))).correlation)


def test_a_map_is_labelled_by_what_it_shows():
    fine = check_permuted(REAL, np.random.default_rng(3).normal(0, 0.1, (50, K)))
    n = int((REAL.means > REAL.threshold).sum())
    assert label(REAL, [fine]) == f"{n} of {K} shown"
    assert label(replace(REAL, p_holm=np.ones(K)), [fine]) == "nothing shown"


def test_a_map_of_the_noise_control_that_is_the_same_contradicts():
    same = check_noise(REAL, effects(np.linspace(0, 0.2, K)))
    assert same.contradicts
    assert label(REAL, [same]).endswith("noise of the same lengths have the same map")
    assert not check_noise(REAL, effects(np.zeros(K))).contradicts


@pytest.mark.parametrize(("left", "contradicts"), [(0.6, True), (0.4, False), (0.0, False)])
def test_a_map_is_of_durations_where_half_of_it_is_left_among_similar_ones(left, contradicts):
    found = replace(REAL, similar=np.tile(left * REAL.means, (4, 1)))
    check = check_similar(found)
    assert check.left == pytest.approx(left)
    assert check.contradicts == contradicts
    assert (of_durations(found) == (REAL.found & contradicts)).all()
    assert (label(found, [check]) == "contradicted: it is of how long sentences are") == contradicts


def test_a_part_that_shows_durations_is_told_apart_from_those_that_do_not():
    similar = np.zeros(K)
    similar[-3] = REAL.means[-3]
    found = replace(REAL, similar=np.tile(similar, (4, 1)))
    assert not check_similar(found).contradicts
    assert np.flatnonzero(of_durations(found)).tolist() == [K - 3]
    n = int(REAL.found.sum())
    assert label(found, [check_similar(found)]) == (
        f"{n} of {K} shown, 1 by how long sentences are"
    )
    nothing = replace(found, p_holm=np.ones(K))
    assert math.isnan(check_similar(nothing).left)
    assert not check_similar(nothing).contradicts
