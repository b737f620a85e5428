"""Tests over the images of a test that all seeds share."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping

import numpy as np
import pytest
import torch

from analysis.measure.evaluation import Evaluation, Retrieval, retrieval_of
from analysis.measure.inference import stimulus_test
from ssense.data.splits import Split
from ssense.training.images import ImageSpec
from ssense.training.sentences import SentenceSpec


def evaluation_of(retrievals: Mapping[str, list[Retrieval]]) -> Evaluation:
    n = len(next(iter(retrievals.values()))[0].ranks)
    seeds = range(len(next(iter(retrievals.values()))))
    return Evaluation(
        specification=ImageSpec(),
        chosen={name: {} for name in retrievals},
        splits=dict.fromkeys(seeds, Split(np.arange(1000), np.arange(0), np.arange(n))),
        retrievals=retrievals,
    )


def retrieved(scores: np.ndarray) -> Retrieval:
    return retrieval_of(torch.from_numpy(scores), np.arange(len(scores)), shared=True)


def test_more_seeds_on_the_same_images_are_no_more_evidence():
    generator = np.random.default_rng(5)
    once = {
        name: [retrieved(generator.standard_normal((40, 40)) + np.eye(40)) for _ in range(3)]
        for name in ("a", "b")
    }
    found = evaluation_of(once).comparisons("recall@1")
    again = evaluation_of({name: 4 * rows for name, rows in once.items()}).comparisons("recall@1")
    for before, after in zip(found, again, strict=True):
        assert after.corrected == pytest.approx(before.corrected)
        assert after.naive.pvalue <= before.naive.pvalue


def test_one_subject_at_chance_is_not_called_above_it():
    """Top-1 of 60 images by nothing, where seeds agree as those on one response do."""
    generator, claims = np.random.default_rng(6), Counter()
    for _ in range(60):
        retrievals = {}
        for name in ("a", "b"):
            common = generator.standard_normal((60, 60))
            noise = generator.standard_normal((3, 60, 60))
            retrievals[name] = [retrieved(common + 0.5 * each) for each in noise]
        *chance, pair = evaluation_of(retrievals).comparisons("recall@1")
        claims["chance"] += any(c.p_holm < 0.05 for c in chance)
        claims["pair"] += pair.p_holm < 0.05
    assert max(claims.values(), default=0) <= 7  # of 60 at 5 %, with probability .98 or more


def test_a_legend_is_that_of_the_units():
    scores = np.eye(12)
    images = evaluation_of({"a": [retrieved(scores)] * 2})
    assert "the unit is the image" in images.legend
    units = {
        SentenceSpec(): "seeds",
        SentenceSpec(split="held-out"): "blocks",
        ImageSpec(): "images",
    }
    for specification, unit in units.items():
        legend = dataclasses.replace(images, specification=specification).legend
        assert f"d: the mean difference in standard deviations over {unit}." in legend
        assert "P(A > B): the share of seeds that A wins, where a tie counts half; takes" in legend


def test_the_curve_of_recalls_has_the_test_of_each_k():
    generator = np.random.default_rng(7)
    found = evaluation_of(
        {"a": [retrieved(generator.standard_normal((40, 40)) + np.eye(40)) for _ in range(3)]}
    )
    metrics = [f"recall@{k}" for k in range(1, 41)]
    for metric, test in zip(metrics, found.means(metrics, "a"), strict=True):
        alone = stimulus_test(np.mean(found.values(metric, "a"), axis=0), 40)
        assert test == pytest.approx(alone, rel=1e-12, nan_ok=True)
    assert not test.testable  # every query is among all
