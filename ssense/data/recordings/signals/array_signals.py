"""Samples that are in memory, or in a file of samples channel by channel."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ssense.errors import UserError, one_line


@dataclass(frozen=True, eq=False)
class ArraySignals:
    """Samples in memory.

    Attributes:
        samples: Microvolts, `[channels, samples]`.
        names: Names of the channels, by which messages call them.
    """

    samples: np.ndarray
    names: tuple[str, ...]
    name: ClassVar[str] = "the array"

    def read(self, number: int, stretches: Sequence[tuple[int, int]]) -> list[np.ndarray]:
        """Read stretches of one channel, see `Signals.read`."""
        return [self.samples[number, start:stop].astype(np.float64) for start, stop in stretches]

    def moved(self, files: Mapping[str, Path]) -> ArraySignals:  # noqa: ARG002  (has no files)
        """The same: memory is nowhere else."""
        return self

    def where(self, number: int) -> str:
        """The channel's place in a message."""
        return f"channel {self.names[number]}"

    @cached_property
    def content(self) -> str:
        """Hash of the samples."""
        return samples_digest([self.samples])


@dataclass(frozen=True)
class NpySignals:
    """Samples in a `.npy` file, microvolts `[channels, samples]`, of which stretches are read.

    Attributes:
        path: The file.
        names: Names of the channels, by which messages call them.
    """

    path: Path
    names: tuple[str, ...]
    content: ClassVar[str] = ""

    @property
    def name(self) -> str:
        """The samples in a message: the name of their file."""
        return self.path.name

    @cached_property
    def _samples(self) -> np.ndarray:
        return open_samples(self.path)

    def __getstate__(self) -> dict[str, object]:
        """Without the mapped file: a copy of it would be the whole file."""
        return {"path": self.path, "names": self.names}

    def read(self, number: int, stretches: Sequence[tuple[int, int]]) -> list[np.ndarray]:
        """Read stretches of one channel, see `Signals.read`."""
        return [self._samples[number, start:stop].astype(np.float64) for start, stop in stretches]

    def moved(self, files: Mapping[str, Path]) -> NpySignals:
        """The same signals with the recording's files elsewhere."""
        return replace(self, path=files["signals"])

    def where(self, number: int) -> str:
        """The channel's place in a message."""
        return f"{self.path}: channel {self.names[number]}"


def samples_digest(blocks: Iterable[np.ndarray]) -> str:
    """Hash of samples, block after block, by their bytes."""
    found = hashlib.sha256()
    for block in blocks:
        found.update(f"{block.dtype} {block.shape}".encode())
        found.update(np.ascontiguousarray(block).data)
    return found.hexdigest()


def new_samples(path: Path, shape: tuple[int, int]) -> np.memmap[Any, np.dtype[np.float32]]:
    """A new `.npy` file of single precision `[channels, samples]`, mapped to be written.

    Raises:
        OSError: The disk has no room for it, or the file can't be written.
    """
    samples = np.lib.format.open_memmap(path, "w+", np.float32, shape)
    if hasattr(os, "posix_fallocate"):  # macOS has none
        with path.open("r+b") as file:
            # A page without room on the disk would end the process when it is written.
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return samples


def open_samples(path: Path) -> np.ndarray:
    """Map a `.npy` file of real numbers, `[channels, samples]`.

    Raises:
        UserError: It can't be read, or holds something else.
    """
    try:
        samples: np.ndarray = np.lib.format.open_memmap(path, "r")
    except (OSError, EOFError, ValueError) as error:
        raise UserError(
            f"cannot read {path} as samples: {one_line(error)}. Write it with numpy.save, an array "
            "of numbers, [channels, samples]."
        ) from error
    if samples.ndim != 2 or samples.dtype.kind not in "fiu":
        raise UserError(
            f"{path} holds {samples.dtype} of the shape {list(samples.shape)}. Write an array of "
            "real numbers, [channels, samples], in microvolts."
        )
    return samples
