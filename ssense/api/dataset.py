"""The data of a sweep over sentences: read when they are asked for."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ssense.data.dataset import Dataset
from ssense.data.paired import read_paired
from ssense.data.shards import Manifest, manifest_of_origin, read_sentences
from ssense.data.splits import Split
from ssense.engine.core.origin import DatasetOrigin, RecordingOrigin
from ssense.engine.records.ledger import Ledger
from ssense.engine.tasks.dataset_plan import load_dataset, rows_of
from ssense.engine.tasks.registry import kept_data
from ssense.errors import UserError, counted

if TYPE_CHECKING:
    import pandas as pd


class SweepDataset:
    """One of the datasets of a sweep over sentences.

    Features and targets are of all sentences. Each is of the test split at some seed: who compares
    the two looks at the test, and nothing counts it.

    Args:
        ledger: The ledger of the sweep.
        origin: The origin of the sweep's data.
        made: The origin of this dataset.
    """

    def __init__(self, ledger: Ledger, origin: RecordingOrigin, made: DatasetOrigin) -> None:
        self._ledger, self._origin, self._made = ledger, origin, made

    def __repr__(self) -> str:
        return (
            f"{self._origin.subject}, {self._origin.title}: "
            f"{counted(len(self.stimuli), 'sentence')}, "
            f"{counted(len(self.electrodes), 'electrode')}, dataset {self.digest}"
        )

    @property
    def digest(self) -> str:
        """Digest of the whole origin: recording, segments, features, target."""
        return self._made.digest

    @cached_property
    def manifest(self) -> Manifest:
        """What the shards hold, and where they came from."""
        return manifest_of_origin(self._ledger.storage / "shards" / self._made.shards)

    @property
    def electrodes(self) -> tuple[str, ...]:
        """Names of the electrodes, in the order of the features."""
        return self._made.electrodes or tuple(self.manifest.electrodes)

    @cached_property
    def _shard_columns(self) -> dict[str, list[object]]:
        return read_sentences(self._ledger.storage / "shards" / self._made.shards)

    @property
    def longest_samples(self) -> int:
        """Samples of the longest segment that features were made of, before padding."""
        start, stop = (np.array(self._shard_columns[name]) for name in ("start", "stop"))
        return int((stop - start).max())

    @cached_property
    def stimuli(self) -> pd.DataFrame:
        """A row for each sentence, in the order of `features` and `targets`.

        Its number in the transcript (sentence_idx), its text, onset_s and offset_s in seconds of
        the movie, start and stop in samples of the recording, and how it sounds, where that is
        known.
        """
        import pandas as pd

        table = pd.DataFrame(self._shard_columns)
        if not self._made.paired:
            return table
        paired = read_paired(self._ledger.storage, self._made.paired)
        folder = self._ledger.storage / "shards" / self._made.shards
        rows = rows_of(paired, table["sentence_idx"].to_numpy(), folder)
        return table.iloc[rows].reset_index(drop=True)

    @cached_property
    def _without_features(self) -> Dataset:
        """The dataset but for its features, which may be gigabytes."""
        made, storage = self._made, self._ledger.storage
        paired = read_paired(storage, made.paired) if made.paired else None
        found = load_dataset(
            made.shards, made.text, storage, paired, made.electrodes, with_features=False
        )
        self._check(found)
        return found

    @cached_property
    def features(self) -> np.ndarray:
        """Features `[N, electrodes, frequencies, frames]` float16, read when first asked for."""
        found = kept_data(self._origin, self._ledger.storage).load(self.digest)
        assert isinstance(found, Dataset)
        self._check(found)
        return found.spectrograms

    def _check(self, found: Dataset) -> None:
        if found.digest != self.digest:
            raise UserError(
                f"the dataset was {self.digest}, now it is {found.digest}: shards of "
                f"{self._made.shards}, or the target {self._made.tower}, have changed. Restore "
                "them."
            )

    @property
    def targets(self) -> np.ndarray:
        """Embeddings `[N, D]` float32 of the sentences, unit norm."""
        return self._without_features.targets

    def split(self, seed: int) -> Split:
        """How a seed of the sweep divides the sentences: rows of `stimuli`.

        Raises:
            UserError: The seed is none of a sweep's.
        """
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise UserError(f"seed must be a whole number from 0, got {seed!r}.")
        specification = self._ledger.description().sweep.specification
        found: Split = self._without_features.split(specification.split, seed)  # type: ignore[arg-type]
        return found
