from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from ssense.targets.augmentations import (
    COGNITIVE_PRIOR,
    Blur,
    FovealBlur,
    LowResolution,
    Mosaic,
    Noise,
    Unchanged,
)

ALL = [Unchanged(), FovealBlur(), *COGNITIVE_PRIOR]


def pictures(n: int, side: int, seed: int = 0) -> Tensor:
    return torch.randint(
        0, 256, (n, 3, side, side), generator=torch.Generator().manual_seed(seed)
    ).to(torch.uint8)


def names(n: int) -> list[str]:
    return [f"00001_thing/thing_{i:02d}.jpg" for i in range(n)]


def by_scipy(image: Tensor, kernel: int) -> np.ndarray:
    """OpenCV's GaussianBlur(image, (kernel, kernel), 0), before rounding."""
    sd = 0.3 * ((kernel - 1) * 0.5 - 1) + 0.8
    taps = np.array([math.exp(-((i - (kernel - 1) / 2) ** 2) / (2 * sd**2)) for i in range(kernel)])
    values = image.double().numpy()
    for axis in (1, 2):
        values = scipy.ndimage.correlate1d(values, taps / taps.sum(), axis, mode="mirror")
    return values


def test_parameters_are_those_of_the_papers_code():
    assert (
        Blur(kernel=15),
        Noise(sd=25.0),
        LowResolution(share=0.1),
        Mosaic(px=5),
    ) == COGNITIVE_PRIOR
    assert FovealBlur() == FovealBlur(kernel=45, centre=0.5, decay=3.0)


# 6 and 13 are smaller than half of the wider kernel.
@pytest.mark.parametrize("side", [6, 13, 40])
@pytest.mark.parametrize("kernel", [3, 15, 45])
def test_the_blur_is_scipy_s(kernel, side):
    pixels = pictures(2, side)
    for found, image in zip(Blur(kernel=kernel).apply(pixels, names(2)), pixels, strict=True):
        assert np.abs(found.numpy() - by_scipy(image, kernel)).max() <= 0.501


def test_the_foveal_blur_keeps_half_of_the_middle_and_little_of_the_corner():
    (image,) = pixels = pictures(1, 24)
    blurred, found = by_scipy(image, 45), FovealBlur().apply(pixels, names(1))[0].numpy()
    farthest = math.hypot(11, 11)
    for row in range(24):
        for column in range(24):
            r = min(1.0, math.hypot(row - 12, column - 12) / farthest)
            alpha = 0.5 * math.exp(-3 * r)
            mixed = alpha * image[:, row, column].numpy() + (1 - alpha) * blurred[:, row, column]
            assert np.abs(found[:, row, column] - mixed).max() <= 0.501


@pytest.mark.parametrize("side", [30, 224])
def test_low_resolution_is_pillow_s(side):
    pixels = pictures(2, side)
    for found, image in zip(LowResolution().apply(pixels, names(2)), pixels, strict=True):
        small = (int(0.1 * side),) * 2
        expected = Image.fromarray(image.permute(1, 2, 0).numpy())
        expected = expected.resize(small, Image.Resampling.BILINEAR)
        expected = expected.resize((side, side), Image.Resampling.BILINEAR)
        difference = found.permute(1, 2, 0).numpy().astype(int) - np.array(expected)
        assert np.abs(difference).max() <= 2  # Pillow rounds after rows and after columns


@pytest.mark.parametrize("side", [10, 32, 224])
def test_a_mosaic_has_squares_of_one_colour(side):
    (image,) = pixels = pictures(1, side)
    found = Mosaic().apply(pixels, names(1))[0]
    n = side // 5
    for row in range(side):
        for column in (0, side // 3, side - 1):
            # OpenCV's INTER_LINEAR down, INTER_NEAREST up
            centres = [(math.floor(i * n / side) + 0.5) * side / n - 0.5 for i in (row, column)]
            (y, v), (x, u) = ((math.floor(c), c - math.floor(c)) for c in centres)
            corners = image[:, y : y + 2, x : x + 2].double()
            if corners.shape[1] == 1:
                corners = corners.expand(3, 2, corners.shape[2])
            if corners.shape[2] == 1:
                corners = corners.expand(3, 2, 2)
            weights = torch.tensor([[(1 - v) * (1 - u), (1 - v) * u], [v * (1 - u), v * u]])
            expected = (corners * weights).sum(dim=(1, 2))
            assert (found[:, row, column] - expected).abs().max() <= 0.51
    assert len(found.flatten(1).unique(dim=1)[0]) <= n * n


def test_noise_has_its_standard_deviation_and_differs_between_images():
    grey = torch.full((3, 3, 64, 64), 128, dtype=torch.uint8)
    noise = Noise().apply(grey, names(3)).double() - 128
    assert noise.mean().item() == pytest.approx(0, abs=0.5)
    assert noise.std().item() == pytest.approx(25, rel=0.02)
    correlation = np.corrcoef(noise.flatten(1).numpy()) - np.eye(3)
    assert np.abs(correlation).max() < 0.05
    assert not torch.equal(Noise().apply(grey, names(3)), Noise(seed=1).apply(grey, names(3)))


@given(
    n=st.integers(1, 4),
    side=st.integers(1, 24),
    seed=st.integers(0, 99),
    which=st.sampled_from(ALL),
)
def test_an_image_is_augmented_alike_whatever_the_company(n, side, seed, which):
    pixels, files = pictures(n, side, seed), names(n)
    found = which.apply(pixels, files)
    assert (found.shape, found.dtype) == (pixels.shape, torch.uint8)
    assert torch.equal(which.apply(pixels.flip(0), files[::-1]).flip(0), found)
    assert torch.equal(which.apply(pixels[:1], files[:1]), found[:1])
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - nothing must listen to it
    assert torch.equal(which.apply(pixels, files), found)


@given(side=st.integers(1, 40), colour=st.integers(0, 255))
def test_one_colour_stays_what_it_is(side, colour):
    plain = torch.full((1, 3, side, side), colour, dtype=torch.uint8)
    for which in ALL:
        if not isinstance(which, Noise):
            assert torch.equal(which.apply(plain, names(1)), plain), which
