"""The paper's encoder with attention over electrodes, of which their mean is a special case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ssense.choices import BatchNorm, Precision
from ssense.data.dataset import Pairs
from ssense.files.weights import load_weights
from ssense.model.encoders.encoder import known_coordinates
from ssense.model.encoders.spectrogram_encoder import ResNetSpec, SpectrogramEncoder, load_initial
from ssense.model.encoders.waves import N_WAVES, waves

_HEADS = 8


class AttentionEncoder(SpectrogramEncoder):
    """ResNet-18 on every electrode's image, and their mean by learned weights.

    Each of several heads has a part of the embedding's dimensions. Its weight of an electrode is
    the softmax, over the electrodes, of a product with a learned query plus a learned preference
    for that electrode. Where it is told where electrodes lie, it learns a preference for places
    too: a smooth function over space, so that what one electrode teaches counts for those nearby.
    All begin at 0, so that training begins at the mean over electrodes.

    Args:
        precision: See `SpectrogramEncoder`.
        batch_norm: See `SpectrogramEncoder`.
        dimensions: Dimensions D of the embedding, those of the targets.
        electrodes: Electrodes E of a sample, always the same.
        places: What `waves` makes of the electrodes' coordinates, `[E, N_WAVES]`; None without.
    """

    places: Tensor | None

    def __init__(
        self,
        precision: Precision = "float32",
        batch_norm: BatchNorm = "chunk",
        *,
        dimensions: int,
        electrodes: int,
        places: Tensor | None = None,
    ) -> None:
        super().__init__(precision, batch_norm, dimensions=dimensions)
        heads = _heads(dimensions)
        self.query = nn.Parameter(torch.zeros(heads, dimensions // heads))
        self.preference = nn.Parameter(torch.zeros(electrodes, heads))
        self.register_buffer("places", places)
        if places is not None:
            self.of_place = nn.Parameter(torch.zeros(N_WAVES, heads))

    def weights(self, electrodes: Tensor, kept: Tensor | None = None) -> Tensor:
        """Weights `[B, E, heads]` of embeddings `[B, E, D]`, which add to 1 over electrodes.

        Args:
            electrodes: Embeddings of the electrodes.
            kept: Which electrodes count, `[E]` bool, one at least; others have the weight 0. None
                for all.
        """
        match = (self._parts(electrodes) * self.query).sum(dim=-1)
        logits = match / self.query.shape[1] ** 0.5 + self._preferences()
        if kept is not None:
            logits = logits.masked_fill(~kept[:, None], -torch.inf)
        weights: Tensor = logits.softmax(dim=1)
        return weights

    def _preferences(self) -> Tensor:
        """How much each electrode is preferred whatever it says, `[E, heads]`."""
        if self.places is None:
            return self.preference
        # Not a matrix product, which autocast would round.
        return self.preference + (self.places.unsqueeze(-1) * self.of_place).sum(dim=1)

    def pool(self, electrodes: Tensor, kept: Tensor | None = None) -> Tensor:
        """One embedding `[B, D]` of those of the electrodes `[B, E, D]`, float32.

        Args:
            electrodes: Embeddings of the electrodes.
            kept: See `weights`.
        """
        weights = self.weights(electrodes, kept).unsqueeze(-1)
        return (weights * self._parts(electrodes)).sum(dim=1).flatten(1)

    def _parts(self, electrodes: Tensor) -> Tensor:
        """Embeddings by head `[B, E, heads, D / heads]`."""
        return electrodes.view(*electrodes.shape[:2], *self.query.shape)


@dataclass(frozen=True, kw_only=True)
class AttentionSpec(ResNetSpec):
    """Attention over electrodes, each embedded by the paper's ResNet-18.

    Attributes:
        weights: What ResNet-18 starts from, see `ResNetSpec`.
        conv1: See `ResNetSpec`.
        batch_norm: See `ResNetSpec`.
        coordinates: Whether it is told where the electrodes lie, and prefers places besides single
            electrodes. An electrode whose coordinates are not known has no such preference.
    """

    kind: ClassVar[str] = "attention"

    coordinates: bool = False

    @property
    def uses_coordinates(self) -> bool:
        """Whether it is told where the electrodes lie, see `EncoderSpec`."""
        return self.coordinates

    def build(self, train: Pairs, precision: Precision) -> AttentionEncoder:
        """The encoder that a training on some pairs starts from, see `EncoderSpec`.

        Raises:
            UserError: Its weights can't be loaded, or no electrode's coordinates are known.
        """
        sizes = {"dimensions": train.targets.shape[1], "electrodes": train.spectrograms.shape[1]}
        places = waves(known_coordinates(train)) if self.coordinates else None
        encoder = AttentionEncoder(precision, self.batch_norm, **sizes, places=places)
        load_initial(encoder, self.weights, self.conv1)
        encoder.resnet.crop(train.spectrograms.shape[-2:])
        return encoder

    def rebuild(self, state: Mapping[str, Tensor], precision: Precision) -> AttentionEncoder:
        """The trained encoder of a state dictionary, see `EncoderSpec`."""
        query, preference = state.get("query"), state.get("preference")
        dimensions = 1 if query is None else query.numel()  # refused below
        electrodes = preference.shape[0] if preference is not None and preference.ndim else 1
        with torch.device("meta"):
            places = torch.zeros(electrodes, N_WAVES) if self.coordinates else None
            encoder = AttentionEncoder(
                precision,
                self.batch_norm,
                dimensions=dimensions,
                electrodes=electrodes,
                places=places,
            )
        load_weights(encoder, state, assign=True)
        return encoder


def _heads(dimensions: int) -> int:
    return _HEADS if dimensions % _HEADS == 0 else 1
