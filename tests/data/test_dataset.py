from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssense.data.dataset import Dataset, Pairs

CPU = torch.device("cpu")
N, E, F, T, D = 12, 2, 3, 4, 5


def numbered(n: int = N) -> Dataset:
    """Every value of row i is i."""
    rows = np.arange(n)
    return Dataset(
        digest="0",
        spectrograms=np.broadcast_to(rows[:, None, None, None], (n, E, F, T)).astype(np.float16),
        targets=np.broadcast_to(rows[:, None], (n, D)).astype(np.float32),
        stimuli=tuple(map(str, rows)),
        spans_s=np.stack([rows, rows + 1.0], axis=1),
    )


def rows_of(pairs: Pairs) -> list[int]:
    x, text = pairs.batch(torch.arange(len(pairs)))
    assert x.flatten(1).eq(text[:, :1]).all()
    return text[:, 0].int().tolist()


def test_a_batch_has_one_channel_and_the_precision_of_the_dataset():
    x, text = numbered().on(CPU).batch(torch.tensor([7, 0, 7]))
    assert x.shape == (3, E, 1, F, T)
    assert text.shape == (3, D)
    assert (x.dtype, text.dtype) == (torch.float16, torch.float32)
    assert x[:, 0, 0, 0, 0].tolist() == text[:, 0].tolist() == [7, 0, 7]


def test_lengths():
    dataset = numbered()
    pairs = dataset.on(CPU)
    assert len(dataset) == len(pairs) == N
    assert len(pairs.select(np.array([4, 2]))) == 2


def test_pairs_on_the_cpu_share_the_memory_of_the_dataset():
    dataset = numbered()
    pairs = dataset.on(CPU)
    assert pairs.spectrograms.data_ptr() == dataset.spectrograms.ctypes.data
    assert pairs.targets.data_ptr() == dataset.targets.ctypes.data
    assert pairs.select(np.array([1])).spectrograms is pairs.spectrograms


def test_read_only_arrays_pass_without_a_warning():
    dataset = numbered()
    dataset.spectrograms.flags.writeable = dataset.targets.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rows_of(dataset.on(CPU)) == list(range(N))


def test_changing_a_batch_leaves_the_dataset():
    pairs = numbered().on(CPU).select(np.arange(3))
    for tensor in pairs.batch(torch.arange(3)):
        tensor.fill_(99)
    assert rows_of(pairs) == [0, 1, 2]


@given(st.data())
def test_a_selection_of_a_selection_counts_in_the_first(data):
    rows = data.draw(st.permutations(range(N)))[: data.draw(st.integers(1, N))]
    again = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1))
    pairs = numbered().on(CPU).select(np.array(rows))
    assert rows_of(pairs) == rows
    assert rows_of(pairs.select(np.array(again))) == [rows[i] for i in again]


@given(index=st.integers(-2 * N, 2 * N))
def test_no_index_reaches_a_row_outside_the_selection(index):
    pairs = numbered().on(CPU).select(np.array([3, 8, 5]))
    if -3 <= index < 3:
        assert pairs.batch(torch.tensor([index]))[1][0, 0] in (3, 8, 5)
    else:
        with pytest.raises(IndexError):
            pairs.batch(torch.tensor([index]))
        with pytest.raises(IndexError):
            pairs.select(np.array([index]))
