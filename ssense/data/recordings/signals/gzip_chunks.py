"""Stretches of a long HDF5 channel, decompressed faster than libhdf5 does it.

Reading is mostly decompression, and ISA-L inflates more than twice as fast as zlib. Channels that
are stored in another way than as plain gzip chunks are left to h5py.
"""

from __future__ import annotations

from collections.abc import Sequence

import h5py
import numpy as np
from isal import isal_zlib


def read_stretches(channel: h5py.Dataset, stretches: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    """Read stretches [start, stop) of a channel [samples], float64 each.

    Raises:
        OSError: A chunk is damaged. (h5py may raise others.)
    """
    if not _is_plain_gzip(channel):
        return [channel[start:stop].astype(np.float64) for start, stop in stretches]
    chunks = _Chunks(channel)
    return [chunks.read(start, min(stop, len(channel))) for start, stop in stretches]


def _is_plain_gzip(channel: h5py.Dataset) -> bool:
    creation = channel.id.get_create_plist()
    only_filter = creation.get_nfilters() == 1 and creation.get_filter(0)[0]
    return only_filter == h5py.h5z.FILTER_DEFLATE and channel.chunks is not None


class _Chunks:
    """The chunks of a channel; the last one is kept, since stretches often share it."""

    def __init__(self, channel: h5py.Dataset) -> None:
        self._channel = channel
        (self._length,) = channel.chunks
        self._last: tuple[int, np.ndarray] | None = None

    def read(self, start: int, stop: int) -> np.ndarray:
        samples = np.empty(max(stop - start, 0))
        first = start // self._length * self._length
        for offset in range(first, stop, self._length):
            part = self._chunk(offset)[max(start - offset, 0) : stop - offset]
            begin = max(start, offset) - start
            samples[begin : begin + len(part)] = part
        return samples

    def _chunk(self, offset: int) -> np.ndarray:
        if self._last is None or self._last[0] != offset:
            self._last = offset, self._decompressed(offset)
        return self._last[1]

    def _decompressed(self, offset: int) -> np.ndarray:
        dtype, stop = self._channel.dtype, min(offset + self._length, len(self._channel))
        try:
            unfiltered, content = self._channel.id.read_direct_chunk((offset,))
        except (OSError, RuntimeError):
            # Never written: h5py knows the fill value. Asking for the chunk's place beforehand
            # would take the library a walk over all chunks, for each of them.
            return np.asarray(self._channel[offset:stop])
        if not unfiltered:
            wanted = self._length * dtype.itemsize
            try:
                content = isal_zlib.decompressobj().decompress(content, wanted + 1)
            except isal_zlib.error as error:  # type: ignore[misc]  # a class, whatever its stub says
                raise OSError(f"the chunk at sample {offset} is damaged: {error}") from error
        if len(content) != self._length * dtype.itemsize:
            raise OSError(f"the chunk at sample {offset} has {len(content)} bytes")
        return np.frombuffer(content, dtype)
