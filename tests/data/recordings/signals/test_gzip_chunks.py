from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssense.data.recordings.signals.gzip_chunks import read_stretches

N = 1000

storages = st.sampled_from(
    [
        {"compression": "gzip"},
        {"compression": "gzip", "compression_opts": 0},
        {"compression": "gzip", "shuffle": True},
        {"compression": "gzip", "fletcher32": True},
        {"compression": "lzf"},
        {},
    ]
)
stretches = st.lists(
    st.tuples(st.integers(0, N), st.integers(0, N)).map(lambda s: (min(s), max(s))), max_size=6
)


@settings(max_examples=100)
@given(
    storages,
    st.integers(1, 1500),
    st.sampled_from(["<f8", ">f8", "<f4", "<i2", ">u4"]),
    stretches,
)
def test_stretches_are_those_of_h5py(storage, chunk, dtype, wanted):
    values = np.random.default_rng(0).normal(500, 90, N).astype(dtype)
    with TemporaryDirectory() as folder, h5py.File(Path(folder) / "a.h5", "w") as file:
        chunked = {"chunks": (min(chunk, N),)} if storage else {}
        channel = file.create_dataset("a", data=values, **chunked, **storage)
        found = read_stretches(channel, wanted)
    assert [signal.dtype for signal in found] == [np.dtype(np.float64)] * len(wanted)
    for (start, stop), signal in zip(wanted, found, strict=True):
        np.testing.assert_array_equal(signal, values[start:stop].astype(float))


@pytest.fixture
def file(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as opened:
        yield opened


def test_chunks_that_were_never_written_hold_the_fill_value(file):
    channel = file.create_dataset("a", (N,), "f8", chunks=(64,), compression="gzip", fillvalue=7)
    channel[100:130] = 1
    (signal,) = read_stretches(channel, [(90, 400)])
    np.testing.assert_array_equal(signal, channel[90:400])


def test_chunks_that_skipped_their_filter_are_read_as_they_are(file):
    channel = file.create_dataset("a", (128,), "f8", chunks=(64,), compression="gzip")
    values = np.arange(128.0)
    channel.id.write_direct_chunk((0,), values[:64].tobytes(), filter_mask=1)
    channel[64:] = values[64:]
    (signal,) = read_stretches(channel, [(0, 128)])
    np.testing.assert_array_equal(signal, values)


@pytest.mark.parametrize(
    "content", [b"no gzip", bytes(64), b"x\x9c\x03\x00\x00\x00\x00\x01"], ids=str
)
def test_a_damaged_chunk_is_an_error(file, content):
    channel = file.create_dataset("a", (128,), "f8", chunks=(64,), compression="gzip")
    channel[:] = 1
    channel.id.write_direct_chunk((64,), content)
    assert len(read_stretches(channel, [(0, 64)])[0]) == 64
    with pytest.raises(OSError, match="chunk at sample 64"):
        read_stretches(channel, [(0, 65)])


def test_a_chunk_that_inflates_beyond_its_size_is_an_error(file):
    channel = file.create_dataset("a", (128,), "f8", chunks=(64,), compression="gzip")
    larger = file.create_dataset("b", data=np.zeros(10_000), chunks=(10_000,), compression="gzip")
    channel.id.write_direct_chunk((0,), larger.id.read_direct_chunk((0,))[1])
    with pytest.raises(OSError, match="chunk at sample 0 has 513 bytes"):
        read_stretches(channel, [(0, 1)])


def test_the_time_of_many_small_chunks_grows_with_their_number(file):
    """A walk over all chunks for each would take ten seconds here."""
    values = np.arange(30_000.0)
    channel = file.create_dataset("a", data=values, chunks=(1,), compression="gzip")
    file.flush()
    start_s = time.process_time()
    (signal,) = read_stretches(channel, [(0, len(values))])
    assert time.process_time() - start_s < 5
    np.testing.assert_array_equal(signal, values)
