"""Embeddings of a test split from which a part of the input is hidden, without training.

Electrodes are left out as the encoder allows. One that embeds each electrode by itself does so
once, and the embeddings of those that are left are combined again, by their mean or by attention's
weights, renormalised. A linear one adds up what each electrode contributes. For any other, the
electrode's spectrogram is filled. Windows of time and bands of frequency are filled for all.

What is hidden is filled with the mean over the sentences that the cell was trained on, which an
encoder knows as ordinary, or with zeros, the mean of a z-scored row over its time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.mapping.parts import Part
from analysis.mapping.prepared import batches, embedded
from analysis.options import Fill
from ssense.data.dataset import Pairs
from ssense.model.encoders.encoder import Encoder
from ssense.model.encoders.linear import LinearEncoder
from ssense.model.encoders.spectrogram_encoder import SpectrogramEncoder
from ssense.precision import full_precision
from ssense.training.sentences import SPECTROGRAMS_PER_PASS


@dataclass(frozen=True)
class FilledPairs(Pairs):
    """Pairs whose batches have a part of every spectrogram filled.

    Attributes:
        hidden: What is filled, `[E, F, T]` bool; None for nothing.
        filling: What it is filled with, `[E, F, T]`; where something is hidden.
    """

    hidden: Tensor | None = None
    filling: Tensor | None = None

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Gather spectrograms `[B, E, 1, F, T]`, filled, and targets `[B, D]`."""
        x, targets = super().batch(index)
        if self.hidden is None or self.filling is None:
            return x, targets
        filling = self.filling.to(x.dtype).unsqueeze(1)
        return torch.where(self.hidden.unsqueeze(1), filling, x), targets


def filled(pairs: Pairs, hidden: Tensor, filling: Tensor) -> FilledPairs:
    """Some pairs with a part of every spectrogram filled."""
    return FilledPairs(
        pairs.spectrograms, pairs.targets, pairs.rows, pairs.coordinates, hidden, filling
    )


def filling_of(train: Pairs, fill: Fill) -> Tensor:
    """What hidden values are filled with, `[E, F, T]` float32.

    Args:
        train: The training split, whose mean it may be.
        fill: "mean" of these pairs at each electrode, frequency and frame; or "zero".
    """
    total = torch.zeros(train.spectrograms.shape[1:], dtype=torch.float64, device=train.device)
    if fill == "mean":
        for part in batches(train):
            total += train.batch(part)[0].squeeze(2).sum(dim=0, dtype=torch.float32)
    return (total / len(train)).float()


class ElectrodeEmbeddings(ABC):
    """Embeddings of a test split from any of its electrodes."""

    @abstractmethod
    def embed(self, kept: Tensor) -> Tensor:
        """Embed the sentences by the electrodes `[E]` bool that are kept, `[N, D]` float32."""


class _Pooled(ElectrodeEmbeddings):
    """Of an encoder that embeds each electrode by itself: each is embedded once."""

    def __init__(self, encoder: SpectrogramEncoder, test: Pairs) -> None:
        self._encoder = encoder
        parts = (test.batch(part)[0] for part in batches(test, encoder))
        self._each = torch.cat([encoder.embed_electrodes(x) for x in parts])

    def embed(self, kept: Tensor) -> Tensor:
        size = max(1, SPECTROGRAMS_PER_PASS // self._each.shape[1])
        return torch.cat([self._encoder.pool(part, kept) for part in self._each.split(size)])


class _Added(ElectrodeEmbeddings):
    """Of a linear encoder: what electrodes add to its bias, and what their filling would."""

    def __init__(self, encoder: LinearEncoder, test: Pairs, filling: Tensor) -> None:
        self._bias = encoder.map.bias
        parts = (test.batch(part)[0] for part in batches(test))
        self._each = torch.cat([encoder.contributions(x) for x in parts])
        like_a_batch = filling.to(test.spectrograms.dtype)[None, :, None]
        self._filled = encoder.contributions(like_a_batch)[0]

    def embed(self, kept: Tensor) -> Tensor:
        added = torch.einsum("ned,e->nd", self._each, kept.float())
        return self._bias + added + self._filled[~kept].sum(dim=0)


class _Filled(ElectrodeEmbeddings):
    """Of any other encoder: the spectrograms of the other electrodes are filled."""

    def __init__(self, encoder: Encoder, test: Pairs, filling: Tensor) -> None:
        self._encoder, self._test, self._filling = encoder, test, filling

    def embed(self, kept: Tensor) -> Tensor:
        hidden = (~kept)[:, None, None].expand_as(self._filling)
        return embedded(self._encoder, filled(self._test, hidden, self._filling))


@torch.inference_mode()
def electrode_embeddings(encoder: Encoder, test: Pairs, filling: Tensor) -> ElectrodeEmbeddings:
    """Prepare an encoder to embed a test split from any of its electrodes.

    Args:
        encoder: The encoder, in any mode; it is left in that of evaluation.
        test: The test split.
        filling: See `filling_of`.
    """
    encoder.eval()
    with full_precision(test.device.type):
        if isinstance(encoder, SpectrogramEncoder):
            return _Pooled(encoder, test)
        if isinstance(encoder, LinearEncoder):
            return _Added(encoder, test, filling)
    return _Filled(encoder, test, filling)


class Occluder:
    """Embeds a test split from which parts are hidden.

    Args:
        encoder: The encoder.
        test: The test split.
        filling: See `filling_of`.
    """

    def __init__(self, encoder: Encoder, test: Pairs, filling: Tensor) -> None:
        self._encoder, self._test, self._filling = encoder, test, filling
        self._electrodes: ElectrodeEmbeddings | None = None

    def intact(self, part: Part) -> Tensor:
        """Embed everything, `[N, D]`, in the way that the embedding without a part is computed."""
        if part.kept is None:
            return embedded(self._encoder, self._test)
        return self._by_electrodes(range(len(self._filling)))

    @torch.inference_mode()
    def without(self, part: Part) -> Tensor:
        """Embed the sentences `[N, D]` float32 by what is left without a part, or by it alone."""
        if part.kept is not None:
            return self._by_electrodes(part.kept)
        assert part.rows is not None
        assert part.frames is not None
        hidden = torch.zeros_like(self._filling, dtype=torch.bool)
        (low, high), (first, last) = part.rows, part.frames
        hidden[:, low : high + 1, first : last + 1] = True
        return embedded(self._encoder, filled(self._test, hidden, self._filling))

    @torch.inference_mode()
    def _by_electrodes(self, numbers: Sequence[int]) -> Tensor:
        if self._electrodes is None:
            self._electrodes = electrode_embeddings(self._encoder, self._test, self._filling)
        kept = torch.zeros(len(self._filling), dtype=torch.bool, device=self._filling.device)
        kept[list(numbers)] = True
        with full_precision(self._filling.device.type):
            return self._electrodes.embed(kept)
