"""A small convolutional encoder that mixes electrodes by learned weights first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool1d

from ssense.choices import Precision
from ssense.data.dataset import Pairs
from ssense.files.weights import load_weights
from ssense.model.encoders.encoder import Encoder, EncoderSpec
from ssense.specification import require_positive

_STAGES = 3
_PLACES = 2, 4  # of frequency and of time that the head tells apart


class ConvolutionEncoder(Encoder):
    """Learned mixtures of electrodes, then three convolutions that each halve the image.

    Args:
        precision: See `Encoder`.
        electrodes: Electrodes E of a sample, always the same.
        channels: Mixtures of electrodes, and filters of the first convolution; each later one has
            twice as many.
        dimensions: Dimensions D of the embedding.
    """

    def __init__(
        self, precision: Precision, electrodes: int, channels: int, dimensions: int
    ) -> None:
        super().__init__(precision)
        self.mix = nn.Conv2d(electrodes, channels, 1, bias=False)
        widths = [channels * 2**stage for stage in range(_STAGES)]
        self.stages = nn.Sequential(*map(_stage, [channels, *widths[:-1]], widths))
        self.head = nn.Linear(widths[-1] * _PLACES[0] * _PLACES[1], dimensions)

    def embed(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Embed spectrograms as `[B, D]`."""
        images = x.squeeze(2).to(dtype, memory_format=torch.channels_last)
        maps = self.stages(self.mix(images))
        # Products, since the gradient of adaptive pooling is not deterministic on a GPU.
        rows, columns = (
            adaptive_avg_pool1d(torch.eye(side, dtype=maps.dtype, device=maps.device), places)
            for side, places in zip(maps.shape[-2:], _PLACES, strict=True)
        )
        embeddings: Tensor = self.head((rows.T @ maps @ columns).flatten(1))
        return embeddings

    def trains_on_one(self, x: Tensor) -> bool:
        """Whether the last normalisation, before its pooling, sees two values of a channel."""
        halved: int = 2 ** (_STAGES - 1)
        return max(x.shape[-2:]) > halved


def _stage(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(n_out),
        nn.GELU(),
        nn.AvgPool2d(2, ceil_mode=True),
    )


@dataclass(frozen=True, kw_only=True)
class ConvolutionSpec(EncoderSpec):
    """A small convolutional encoder, as EEGNet and its kind mix channels before they convolve.

    Attributes:
        channels: Mixtures of electrodes, and filters of the first of three convolutions.
    """

    kind: ClassVar[str] = "convolution"

    channels: int = 32

    def __post_init__(self) -> None:
        require_positive(self, "channels")

    def build(self, train: Pairs, precision: Precision) -> ConvolutionEncoder:
        """The encoder that a training on some pairs starts from, see `EncoderSpec`."""
        electrodes, dimensions = train.spectrograms.shape[1], train.targets.shape[1]
        return ConvolutionEncoder(precision, electrodes, self.channels, dimensions)

    def rebuild(self, state: Mapping[str, Tensor], precision: Precision) -> ConvolutionEncoder:
        """The trained encoder of a state dictionary, see `EncoderSpec`."""
        mix, bias = state.get("mix.weight"), state.get("head.bias")
        electrodes = mix.shape[1] if mix is not None and mix.ndim == 4 else 1  # refused below
        dimensions = len(bias) if bias is not None and bias.ndim == 1 else 1
        with torch.device("meta"):
            encoder = ConvolutionEncoder(precision, electrodes, self.channels, dimensions)
        load_weights(encoder, state, assign=True)
        return encoder
