"""Comparisons of the objectives of image decoding on one subject, over the test images.

All seeds share the test images, so these are the unit (see `stimulus_test`), and what is shown is
about the one subject. Several subjects are compared over subjects and images, see `crossed_ttest`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from analysis.measure.comparison import (
    Comparison,
    Difference,
    compare,
    difference_over_stimuli,
    paired_differences,
    pairs_of,
)
from analysis.measure.inference import pairing_test

LEGEND = (
    "This is about one subject's responses, and about no other subject: the unit is the image, "
    "averaged over the seeds, which share these images and are no further evidence. It speaks of "
    "the encoders of these seeds: how far others would differ is not in it. Images are "
    "some of many (means of subsets of them, Hartigan 1969); what is above chance also exceeds "
    "permuted pairs of responses and images, which the interval does not show. `d` is in standard "
    "deviations of images. Holm: for this number of comparisons. The naive p takes seeds for "
    "independent and is shown for comparison with papers only."
)


def compare_on_images(
    by_image: Mapping[str, np.ndarray], if_own: Mapping[str, np.ndarray], chance: float
) -> list[Comparison]:
    """Compare each objective with chance, and objectives in pairs, over one subject's images.

    Args:
        by_image: What each seed's encoder reaches at each test image, by objective `[J, n]`.
        if_own: What the responses to each image would reach if each candidate were their own, mean
            over seeds, by objective `[n, n]`.
        chance: What a random ranking reaches.
    """
    above = []
    for name, values in by_image.items():
        p_permuted = pairing_test(if_own[name], values.shape[1])
        guessed = np.full_like(values, chance)
        above.append(_over_images(f"{name} vs chance", values, guessed, p_permuted))
    pairs = [_over_images(f"{a} vs {b}", by_image[a], by_image[b]) for a, b in pairs_of(by_image)]
    return compare(above) + compare(pairs)


def _over_images(
    name: str, first: np.ndarray, second: np.ndarray, p_chance: float = 0.0
) -> Difference:
    by_seed, by_image = (
        paired_differences(first.mean(axis=axis), second.mean(axis=axis)) for axis in (1, 0)
    )
    # Images are shown in random order: each is a block.
    return difference_over_stimuli(name, by_seed, by_image, len(by_image), p_chance)
