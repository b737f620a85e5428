"""A dataset of sentences: the spectrograms and text embeddings that cells train on."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ssense.choices import SplitKind
from ssense.data.coordinates import Coordinates
from ssense.data.paired import PairedStimuli
from ssense.data.repeats import TowerTexts, repeat_groups
from ssense.data.splits import Split, split_sentences


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One recording ready for training, in NumPy arrays that processes of a node can share.

    Attributes:
        digest: Digest of the whole origin: recording, segments, spectrograms, target.
        spectrograms: Spectrograms `[N, electrodes, frequencies, frames]` float16.
        targets: Embeddings `[N, D]` float32 of the sentences, unit norm.
        stimuli: The N sentences.
        spans_s: Start and end of each segment's signal, `[N, 2]` float64, context included, seconds
            of the recording.
        tower: The sentences as the target reads them; None to tell them apart by their words.
        paired: The sentences as all datasets of a sweep have them; None where this is the only one.
        coordinates: Where the electrodes lie; None where that is not known of any. The digest
            leaves them out, see `SentenceSpec.contacts`.
    """

    digest: str
    spectrograms: np.ndarray
    targets: np.ndarray
    stimuli: tuple[str, ...]
    spans_s: np.ndarray
    tower: TowerTexts | None = None
    paired: PairedStimuli | None = None
    coordinates: Coordinates | None = None

    def __len__(self) -> int:
        return len(self.spectrograms)

    @property
    def nbytes(self) -> int:
        """Bytes of spectrograms and embeddings."""
        return self.spectrograms.nbytes + self.targets.nbytes

    def split(self, kind: SplitKind, seed: int) -> Split:
        """Divide the sentences, see `split_sentences`."""
        if self.paired is not None:
            return self.paired.split(kind, seed)
        repeats = repeat_groups(self.stimuli, self.tower)
        return split_sentences(kind, seed, repeats, self.spans_s)

    def n_candidates(self, split: Split) -> int:
        """Sentences of the validation, of which each query has to find its own."""
        return len(split.validation)

    def on(self, device: torch.device) -> Pairs:
        """All pairs on a device; on the CPU they share the arrays' memory."""
        with warnings.catch_warnings():
            # Arrays out of Ray's object store are read-only, and nothing here writes to them.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            arrays = self.spectrograms, self.targets
            spectrograms, targets = (torch.from_numpy(array).to(device) for array in arrays)
        return Pairs(spectrograms, targets, coordinates=self.coordinates)


@dataclass(frozen=True)
class Pairs:
    """Pairs of spectrograms and sentence embeddings, or a selection of their rows.

    The batches of a selection hold its own rows and no others: training code is handed the
    training and validation selections, and so is never given a pair of the test split.

    Attributes:
        spectrograms: Spectrograms `[N, E, F, T]` float16.
        targets: Embeddings `[N, D]` float32.
        rows: Rows `[B]` of the selection; None for all.
        coordinates: Where the electrodes lie; None where that is not known of any.
    """

    spectrograms: Tensor
    targets: Tensor
    rows: Tensor | None = None
    coordinates: Coordinates | None = None

    def __len__(self) -> int:
        return len(self.targets if self.rows is None else self.rows)

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.targets.device

    def select(self, rows: np.ndarray) -> Pairs:
        """Restrict to some rows, counted in this selection."""
        index = torch.from_numpy(rows).to(self.device)
        return replace(self, rows=index if self.rows is None else self.rows[index])

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Gather spectrograms `[B, E, 1, F, T]` float16 and targets `[B, D]` of this selection."""
        rows = index if self.rows is None else self.rows[index]
        return self.spectrograms[rows].unsqueeze(2), self.targets[rows]
