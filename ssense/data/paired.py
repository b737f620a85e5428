"""The stimuli that all datasets of a sweep have, and what their splits go by."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from ssense.choices import SplitKind
from ssense.data.splits import Split, split_sentences
from ssense.errors import UserError
from ssense.files.digest import digest
from ssense.files.storage import exists
from ssense.files.tensor_file import read_tensor, write_tensor

if TYPE_CHECKING:
    from upath import UPath


@dataclass(frozen=True, eq=False)
class PairedStimuli:
    """Sentences that every dataset of a sweep has, in the order of their rows.

    A split is drawn over these alone, by places and groups that are the same for every dataset. So
    a seed draws the same sentences into the same parts, whichever data a configuration asks for.

    Attributes:
        numbers: Numbers of the N sentences in the transcript, int64 [N].
        groups: Number of each sentence's group of repeats, int64 [N].
        spans_s: Start and end of each sentence's signal, `[N, 2]` float64, seconds of the
            recording, by the sweep's own specification.
    """

    numbers: np.ndarray
    groups: np.ndarray
    spans_s: np.ndarray

    def __len__(self) -> int:
        return len(self.numbers)

    @cached_property
    def digest(self) -> str:
        """What tells these stimuli, and their splits, from others."""
        return digest(self.numbers.tolist(), self.groups.tolist(), self.spans_s.tolist())

    def split(self, kind: SplitKind, seed: int) -> Split:
        """Divide the sentences, see `split_sentences`.

        Raises:
            ValueError: The sentences are too few.
        """
        return split_sentences(kind, seed, self.groups, self.spans_s)

    def rows_in(self, numbers: np.ndarray) -> np.ndarray:
        """The place `[N]` of each of these sentences among other numbers.

        Raises:
            ValueError: One of them is not there.
        """
        places = {number: row for row, number in enumerate(numbers.tolist())}
        try:
            return np.array([places[number] for number in self.numbers.tolist()], np.int64)
        except KeyError as error:
            raise ValueError(f"sentence {error} is not there") from error

    def is_kept(self, storage: UPath) -> bool:
        """Whether a storage has them."""
        return exists(_path(storage, self.digest))

    def write(self, storage: UPath) -> None:
        """Keep them in a storage, under their digest.

        Raises:
            UserError: The storage can't be written to.
        """
        if not self.is_kept(storage):
            path = _path(storage, self.digest)
            columns = self.numbers[:, None], self.groups[:, None], self.spans_s
            table = np.concatenate(columns, axis=1, dtype=np.float64)
            write_tensor(path, "stimuli", torch.from_numpy(table), {"origin": self.digest})


def read_paired(storage: UPath, origin: str) -> PairedStimuli:
    """Read the stimuli that were kept under a digest.

    Raises:
        UserError: They are missing, damaged or others.
    """
    path = _path(storage, origin)
    kept = {"origin": origin}
    try:
        table = read_tensor(path, "stimuli", kept, shape=(None, 4), dtype=torch.float64).numpy()
    except FileNotFoundError:
        raise UserError(f"{path} is missing. Run the sweep's command again.") from None
    whole = table[:, :2].astype(np.int64)
    return PairedStimuli(whole[:, 0], whole[:, 1], table[:, 2:])


def _path(storage: UPath, origin: str) -> UPath:
    return storage / "stimuli" / f"{origin}.safetensors"
