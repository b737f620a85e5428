"""Samples of files that hold their channels side by side, read from a copy channel by channel.

To read one channel of such a file would be to read all of it. The copy is kept in the user's cache,
named by the content of the files, as long as it is of use.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from ssense.data.recordings.signals.array_signals import new_samples, open_samples
from ssense.errors import UserError, one_line
from ssense.files.digest import content_digest, digest
from ssense.files.storage import cache_folder, partial_file, remove_partial_files

_FORMAT = 2  # of copies: stepped where other samples are read from the same files
_ABANDONED_S = 3600.0  # a copy that is being written grows with every block
BLOCK_BYTES = 2**26
"""Bytes of a block of samples of all channels, in double precision."""
Blocks = Iterable[tuple[int, np.ndarray]]
"""First sample of each block of a recording, and its microvolts `[channels, n]`."""


@dataclass(frozen=True)
class CopiedSignals:
    """Samples that a function reads from files, block after block.

    Attributes:
        files: The files, by role; that called "signals" is given to the function.
        names: Names of the channels, by which messages call them.
        read_blocks: Function of the file that gives number of channels, number of samples, and all
            samples. It is sent to workers.
        part: Which of the signals in the file; empty where it has no others.
    """

    files: Mapping[str, Path]
    names: tuple[str, ...]
    read_blocks: Callable[[Path, str], tuple[tuple[int, int], Blocks]]
    part: str = ""
    content: ClassVar[str] = ""

    @property
    def path(self) -> Path:
        """The file that is read."""
        return self.files["signals"]

    @property
    def name(self) -> str:
        """The samples in a message: the name of their file."""
        return self.path.name

    @cached_property
    def _samples(self) -> np.ndarray:
        contents = {role: content_digest(path) for role, path in self.files.items()}
        named = digest("channel by channel", _FORMAT, contents, self.part)
        copy = cache_folder() / "signals" / f"{named}.npy"
        with contextlib.suppress(UserError):  # it is not there, or damaged
            return open_samples(copy)
        _write_by_channel(copy, *self.read_blocks(self.path, self.part))
        return open_samples(copy)

    def __getstate__(self) -> dict[str, object]:
        """Without the mapped copy: other machines have their own."""
        return {name: value for name, value in vars(self).items() if name != "_samples"}

    def read(self, number: int, stretches: Sequence[tuple[int, int]]) -> list[np.ndarray]:
        """Read stretches of one channel, see `Signals.read`."""
        samples = self._samples[number]
        return [samples[start:stop].astype(np.float64) for start, stop in stretches]

    def moved(self, files: Mapping[str, Path]) -> CopiedSignals:
        """The same signals with the recording's files elsewhere."""
        return replace(self, files={role: files[role] for role in self.files})

    def where(self, number: int) -> str:
        """The channel's place in a message."""
        return f"{self.path}: channel {self.names[number]}"


def _write_by_channel(path: Path, shape: tuple[int, int], blocks: Blocks) -> None:
    """Write samples to a `.npy` file, float32 microvolts `[channels, samples]`, or nothing.

    Single precision holds 24 bits, as many as the finest converters give.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_partial_files(path.parent, _ABANDONED_S)
        with partial_file(path) as partial:
            samples = new_samples(partial, shape)
            for start, block in blocks:
                samples[:, start : start + block.shape[1]] = block
            samples.flush()
    except OSError as error:
        raise UserError(
            f"cannot write a copy of the signals to {path.parent}: {one_line(error)}. Make room "
            f"for {4 * shape[0] * shape[1] / 1e9:.1f} GB there, or set XDG_CACHE_HOME."
        ) from error
