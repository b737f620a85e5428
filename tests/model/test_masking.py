from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from itertools import combinations
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor

from ssense.model.masking import Masking, mask_electrodes, mask_time_frequency, masked_count

SHAPE = (6, 5, 2, 8, 10)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ones(*shape: int) -> Tensor:
    return torch.ones(shape or SHAPE)


def zeroed(sample: Tensor, axis: int) -> list[int]:
    """Which slices of a sample along an axis are zero throughout."""
    return [i for i in range(sample.shape[axis]) if not sample.select(axis, i).any()]


class Drawn(NamedTuple):
    """Per sample, the masked indices."""

    electrodes: list[list[int]]
    frequencies: list[list[int]]
    frames: list[list[int]]

    @classmethod
    def out_of(cls, masked: Tensor) -> Drawn:
        return cls(*([zeroed(sample, axis) for sample in masked] for axis in (0, 2, 3)))


def algorithm_1(x: Tensor, frequencies: list[list[int]], frames: list[list[int]]) -> Tensor:
    """SSENSE, Algorithm 1, line by line, with the samples of its lines 3 and 7 given."""
    x = x.clone()
    for b in range(x.shape[0]):
        for f in frequencies[b]:
            x[b, :, :, f, :] = 0
        for t in frames[b]:
            x[b, :, :, :, t] = 0
    return x


def algorithm_2(x: Tensor, electrodes: list[list[int]]) -> Tensor:
    """SSENSE, Algorithm 2, line by line, with the samples of its line 2 given."""
    x = x.clone()
    for b in range(x.shape[0]):
        for e in electrodes[b]:
            x[b, e, :, :, :] = 0
    return x


def counts(indices: list[list[int]]) -> set[int]:
    return {len(drawn) for drawn in indices}


ratios = st.floats(0, 1, exclude_max=True)
shapes = st.tuples(*[st.integers(1, 6)] * 3, st.integers(1, 12), st.integers(1, 12))


# ---------------------------------------------------------------- the algorithms


@settings(deadline=None)
@given(shape=shapes, ratio_f=ratios, ratio_t=ratios, seed=st.integers(0, 2**32))
def test_time_frequency_masks_are_algorithm_1(shape, ratio_f, ratio_t, seed):
    x = torch.rand(shape, generator=generator(seed)) + 1
    out = mask_time_frequency(x, ratio_f, ratio_t, generator(seed))
    drawn = Drawn.out_of(out)
    assert counts(drawn.frequencies) == {math.floor(ratio_f * shape[3])}
    assert counts(drawn.frames) == {math.floor(ratio_t * shape[4])}
    assert out.equal(algorithm_1(x, drawn.frequencies, drawn.frames))


@settings(deadline=None)
@given(shape=shapes, ratio=ratios, seed=st.integers(0, 2**32))
def test_electrode_masks_are_algorithm_2(shape, ratio, seed):
    x = torch.rand(shape, generator=generator(seed)) + 1
    out = mask_electrodes(x, ratio, generator(seed))
    electrodes = Drawn.out_of(out).electrodes
    assert counts(electrodes) == {math.floor(ratio * shape[1])}
    assert out.equal(algorithm_2(x, electrodes))


def test_a_masking_applies_algorithm_1_then_algorithm_2():
    x = torch.rand(SHAPE) + 1
    masking = Masking(electrode=0.5, frequency=0.3, time=0.25)
    out = masking.apply(x, generator())
    source = generator()
    first = mask_time_frequency(x, 0.3, 0.25, source)
    assert out.equal(mask_electrodes(first, 0.5, source))
    rows = Drawn.out_of(first)
    drawn = Drawn.out_of(out)
    assert [*map(counts, (drawn.electrodes, rows.frequencies, rows.frames))] == [{2}, {2}, {2}]
    by_hand = algorithm_2(algorithm_1(x, rows.frequencies, rows.frames), drawn.electrodes)
    assert out.equal(by_hand)


@pytest.mark.parametrize(
    ("ratio", "n", "count"),
    [(0.0, 50, 0), (0.05, 16, 0), (0.1, 10, 1), (0.15, 121, 18), (0.5, 7, 3), (0.999, 10, 9)],
)
def test_masked_counts(ratio, n, count):
    assert masked_count(ratio, n) == count


# ---------------------------------------------------------------- the draw


Mask = Callable[[Tensor, torch.Generator], Tensor]
MASKS = [
    pytest.param(lambda x, g: mask_electrodes(x, 0.4, g), id="electrodes"),
    pytest.param(lambda x, g: mask_time_frequency(x, 0.4, 0.0, g), id="frequencies"),
    pytest.param(lambda x, g: mask_time_frequency(x, 0.0, 0.4, g), id="frames"),
    pytest.param(Masking(electrode=0.3, frequency=0.2, time=0.2).apply, id="all"),
]


@pytest.mark.parametrize("mask", MASKS)
def test_a_seed_gives_the_same_masks_whatever_else_is_drawn(mask: Mask):
    first = mask(ones(), generator(7))
    torch.manual_seed(1)
    assert first.equal(mask(ones(), generator(7)))
    assert not first.equal(mask(ones(), generator(8)))


@pytest.mark.parametrize("mask", MASKS)
def test_masks_leave_the_global_random_state(mask: Mask):
    before = torch.get_rng_state()
    mask(ones(), generator())
    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize("mask", MASKS)
def test_samples_and_batches_draw_their_own(mask: Mask):
    source = generator()
    first, second = mask(ones(32, 10, 1, 10, 10), source), mask(ones(32, 10, 1, 10, 10), source)
    assert not first.equal(second)
    assert len({tuple(sample.flatten().tolist()) for sample in first}) > 16


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_the_input_stays_as_it_is(mask: Mask, dtype):
    x = torch.rand(SHAPE).add(1).to(dtype)
    copy = x.clone()
    out = mask(x, generator())
    assert x.equal(copy)
    assert (out.dtype, out.shape) == (x.dtype, x.shape)


@pytest.mark.parametrize(
    ("mask", "axis"),
    [
        (lambda x, g: mask_electrodes(x, 0.5, g), 0),
        (lambda x, g: mask_time_frequency(x, 0.5, 0, g), 2),
        (lambda x, g: mask_time_frequency(x, 0, 0.5, g), 3),
    ],
    ids=["electrodes", "frequencies", "frames"],
)
def test_every_subset_is_equally_likely(mask: Mask, axis: int):
    n, samples = 5, 6000
    shape = [samples, 1, 1, 1, 1]
    shape[axis + 1] = n
    drawn = Counter(tuple(zeroed(sample, axis)) for sample in mask(ones(*shape), generator()))
    subsets = list(combinations(range(n), 2))
    assert set(drawn) == set(subsets)
    assert chisquare([drawn[subset] for subset in subsets]).pvalue > 0.001


def test_rows_and_columns_are_drawn_independently():
    out = mask_time_frequency(ones(6000, 1, 1, 3, 3), 0.34, 0.34, generator())
    drawn = Drawn.out_of(out)
    pairs = Counter((f, t) for (f,), (t,) in zip(drawn.frequencies, drawn.frames, strict=True))
    assert len(pairs) == 9
    assert chisquare(list(pairs.values())).pvalue > 0.001


# ---------------------------------------------------------------- the edges


@pytest.mark.parametrize("ratio", [0, 0.0, 0.09])  # the last is less than one of ten
def test_nothing_to_mask_returns_the_tensor_itself_and_draws_nothing(ratio):
    x = torch.rand(2, 10, 1, 10, 10)
    source = generator()
    assert mask_electrodes(x, ratio, source) is x
    assert mask_time_frequency(x, ratio, ratio, source) is x
    assert Masking(electrode=ratio, frequency=ratio, time=ratio).apply(x, source) is x
    assert source.get_state().equal(generator().get_state())


def test_no_masking_is_the_default():
    assert Masking() == Masking(electrode=0.0, frequency=0.0, time=0.0)


@pytest.mark.parametrize("ratio", [-0.1, 1.0, 1.5, math.nan, math.inf])
def test_ratios_outside_the_range_are_refused(ratio):
    x, source = ones(), generator()
    for name, call in {
        "frequency_ratio": lambda: mask_time_frequency(x, ratio, 0.0, source),
        "time_ratio": lambda: mask_time_frequency(x, 0.0, ratio, source),
        "ratio": lambda: mask_electrodes(x, ratio, source),
        "electrode masking ratio": lambda: Masking(electrode=ratio),
        "frequency masking ratio": lambda: Masking(frequency=ratio),
        "time masking ratio": lambda: Masking(time=ratio),
    }.items():
        with pytest.raises(ValueError, match=rf"^{name} must be in \[0, 1\), got {ratio}$"):
            call()


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3, 1, 4, 5, 6), ()])
def test_a_tensor_without_the_five_axes_is_refused(shape):
    message = r"\[batch, electrodes, channels, frequencies, frames\], got \[" + ", ".join(
        map(str, shape)
    )
    with pytest.raises(ValueError, match=message):
        mask_electrodes(torch.ones(shape), 0.5, generator())
    with pytest.raises(ValueError, match=message):
        mask_time_frequency(torch.ones(shape), 0.5, 0.5, generator())
