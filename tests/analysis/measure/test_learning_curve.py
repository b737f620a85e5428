"""Curves through made-up scores, of which the law is known."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from analysis.measure.inference import corrected_resampled_ttest
from analysis.measure.learning_curve import (
    CURVES,
    CurveName,
    FittedCurve,
    LearningCurve,
    fit_curves,
    shares_of,
)
from ssense.engine.core.sweep import Family, Sweep
from ssense.training.images import ImageSpec
from ssense.training.sentences import SHARE, SentenceSpec

SHARES = np.array([0.1, 0.2, 0.35, 0.5, 0.7, 1.0])
MOST = 40.0
LAWS: dict[CurveName, Callable[[np.ndarray], np.ndarray]] = {
    "straight line": lambda m: 0.05 + 0.0025 * m,
    "logarithmic line": lambda m: 0.02 + 0.035 * np.log(m),
    "power law": lambda m: 0.17 - 0.3 * m**-0.6,
}
COEFFICIENTS = {
    "straight line": (0.05, 0.0025),
    "logarithmic line": (0.02, 0.035),
    "power law": (0.17, 0.3),
}


def minutes_of(n_seeds: int, rng: np.random.Generator) -> np.ndarray:
    """Minutes of nested shares, which differ a little from seed to seed."""
    return np.sort(MOST * SHARES * np.exp(rng.normal(0, 0.03, (n_seeds, len(SHARES)))), axis=1)


def named(found: LearningCurve, name: CurveName) -> FittedCurve:
    return next(curve for curve in found.curves if curve.name == name)


@pytest.mark.parametrize("name", CURVES)
def test_the_law_of_scores_without_noise_is_recovered(name):
    rng = np.random.default_rng(0)
    minutes = minutes_of(4, rng)
    levels = rng.normal(0, 0.02, (4, 1))
    found = fit_curves(minutes, LAWS[name](minutes) + levels)
    (best,) = found.supported
    assert best.name == name
    a, b = COEFFICIENTS[name]
    assert best.coefficients == pytest.approx((a + levels.mean(), b), rel=0.03)
    if name == "power law":
        assert best.exponent == pytest.approx(0.6, rel=0.03)
    ends = np.array([found.furthest_minutes, found.most_minutes])
    assert ends[0] == 2 * ends[1]
    at_ends = LAWS[name](ends)
    assert best.gain(ends[0]).value == pytest.approx(at_ends[0] - at_ends[1], rel=0.01)
    assert best.at(ends[0]).value == pytest.approx(at_ends[0] + levels.mean(), rel=0.01)


@pytest.mark.parametrize("overlap", [0.0, 292 / 872])
def test_the_interval_of_a_straight_line_is_that_of_the_corrected_test(overlap):
    """Least squares over the same minutes are the mean over seeds of each one's own slope."""
    rng = np.random.default_rng(1)
    minutes = np.tile(MOST * SHARES, (10, 1))
    scores = LAWS["straight line"](minutes) + rng.normal(0, 0.02, (10, 6))
    slopes = [np.polyfit(MOST * SHARES, row, 1)[0] for row in scores]
    test = corrected_resampled_ttest(MOST * np.array(slopes), 1000, round(1000 * overlap))
    found = named(fit_curves(minutes, scores, overlap), "straight line").gain(2 * MOST)
    assert found.value == pytest.approx(test.mean)
    assert found.high - found.low == pytest.approx(test.high - test.low, rel=0.06)


def covered(name: CurveName, overlap: float, allowed: float, n: int = 60) -> float:
    """How often the interval of twice the minutes' gain has the true one, of seeds alike so far."""
    rng, hits, law = np.random.default_rng(2), 0, LAWS[name]
    shared = overlap / (1 + overlap)  # the correlation that Nadeau and Bengio assume
    for _ in range(n):
        minutes = minutes_of(8, rng)
        common, own = rng.normal(size=6), rng.normal(size=(8, 6))
        noise = math.sqrt(shared) * common + math.sqrt(1 - shared) * own
        scores = law(minutes) + rng.normal(0, 0.02, (8, 1)) + 0.008 * noise
        found = fit_curves(minutes, scores, allowed)
        _, low, high = named(found, name).gain(found.furthest_minutes)
        twice, once = law(np.array([found.furthest_minutes, found.most_minutes]))
        hits += low <= twice - once <= high
    return hits / n


@pytest.mark.parametrize("name", ["logarithmic line", "power law"])
def test_intervals_have_the_true_gain_as_often_as_they_say(name):
    assert covered(name, 0.0, 0.0) >= 0.87  # of 0.95, whose sd over 60 is 0.028
    assert covered(name, 1 / 3, 1 / 3) >= 0.87
    assert covered(name, 1 / 3, 0.0) <= 0.85  # where the overlap is left out


def test_a_wrong_curve_is_hardly_ever_the_only_one_supported():
    rng, wrong = np.random.default_rng(3), Counter[CurveName]()
    for name, law in LAWS.items():
        for _ in range(60):
            minutes = minutes_of(6, rng)
            noise = rng.normal(0, 0.01, (6, 6)) + rng.normal(0, 0.005, 6)
            supported = fit_curves(minutes, law(minutes) + noise, 0.25).supported
            wrong[name] += name not in [curve.name for curve in supported]
    assert max(wrong.values()) <= 4


def test_scores_of_another_shape_follow_no_curve():
    rng = np.random.default_rng(4)
    minutes = minutes_of(8, rng)
    late = np.array([0.05, 0.05, 0.05, 0.05, 0.06, 0.2])  # all at the end: nobody knows what next
    scores = late + rng.normal(0, 0.005, (8, 6))
    assert fit_curves(minutes, scores).supported == ()


def test_much_noise_tells_no_curves_apart():
    rng = np.random.default_rng(5)
    minutes = minutes_of(4, rng)
    scores = LAWS["logarithmic line"](minutes) + rng.normal(0, 0.05, (4, 6))
    assert {curve.name for curve in fit_curves(minutes, scores, 1 / 3).supported} == {*CURVES}


def test_scores_that_are_all_the_same_gain_nothing():
    found = fit_curves(minutes_of(3, np.random.default_rng(6)), np.full((3, 6), 0.1))
    for curve in found.supported:
        assert curve.gain(found.furthest_minutes) == pytest.approx((0, 0, 0))
        assert curve.at(found.furthest_minutes) == pytest.approx((0.1, 0.1, 0.1))


def test_a_share_of_hits_stays_one():
    minutes = np.tile(MOST * SHARES, (3, 1))
    steep = 0.9 * minutes / MOST + np.array([[0.0], [0.04], [0.08]])
    best = fit_curves(minutes, steep).curves[0]
    assert best.at(2 * MOST) == (1.0, 1.0, 1.0)
    assert best.gain(2 * MOST).value == pytest.approx(1 - (0.9 + 0.04))


def test_nothing_is_extrapolated_beyond_twice_the_minutes():
    best = fit_curves(np.tile(MOST * SHARES, (2, 1)), np.tile(SHARES, (2, 1))).curves[0]
    with pytest.raises(ValueError, match="a curve of 40 minutes is extrapolated to 2 times as"):
        best.at(81)


@pytest.mark.parametrize(("n_seeds", "n_shares"), [(1, 6), (3, 3)])
def test_one_seed_or_three_shares_make_no_curve(n_seeds, n_shares):
    scores = np.ones((n_seeds, n_shares))
    with pytest.raises(ValueError, match=f"2 seeds and 4 shares, got {n_seeds} and {n_shares}"):
        fit_curves(scores, scores)


# ---------------------------------------------------------------- which sweeps are learning curves


def sweep_of(**levels: dict) -> Sweep:
    return Sweep(
        question="q",
        dataset_digest="d",
        specification=SentenceSpec(),
        families=tuple(Family(name=name, levels=each) for name, each in levels.items()),
        configurations=3,
        seeds=(0, 1),
    )


def test_families_that_differ_in_their_share_alone_are_a_curve():
    few = {"c": {SHARE: (0.5,)}, "a": {SHARE: (0.1,)}, "b": {SHARE: (0.25,)}}
    assert shares_of(sweep_of(**few, all={})) == {"a": 0.1, "b": 0.25, "c": 0.5, "all": 1.0}
    searched = {"training.learning_rate": (1e-4, 1e-3)}  # at every share alike
    also = {name: levels | searched for name, levels in few.items()}
    assert [*shares_of(sweep_of(**also, all=searched))] == ["a", "b", "c", "all"]


@pytest.mark.parametrize(
    "others",
    [
        {},  # three are too few
        {"again": {SHARE: (0.5,)}},
        {"masked": {SHARE: (0.7,), "masking.time": (0.1,)}},
        {"several": {SHARE: (0.7, 0.9)}},
    ],
)
def test_other_sweeps_are_no_curves(others):
    few = {f"{share:g}": {SHARE: (share,)} for share in (0.1, 0.25, 0.5)}
    assert shares_of(sweep_of(**few, **others)) == {}
    images = dataclasses.replace(sweep_of(a={}), specification=ImageSpec())
    assert shares_of(images) == {}


@pytest.mark.parametrize("n_seeds", [2, 3, 5, 10])
@pytest.mark.parametrize("hits", [(2, 4, 7, 10, 14, 20), (2, 4, 6, 8, 10, 12), (5, 5, 5, 5, 5, 6)])
def test_seeds_that_grow_alike_to_the_hit_support_no_curve(n_seeds, hits):
    minutes = minutes_of(n_seeds, np.random.default_rng(6))
    levels = np.arange(n_seeds)[:, None]
    scores = (levels + np.array(hits)) / 59
    found = fit_curves(minutes, scores, 1 / 3, n_test=59)
    assert not found.has_spread
    assert found.supported == ()
    other = scores.copy()
    other[0, ::2] += 3 / 59
    assert fit_curves(minutes, other, 1 / 3, n_test=59).has_spread
