"""The sEEG encoder of SSENSE: one ResNet-18 over every electrode's spectrogram, then their mean."""

from __future__ import annotations

import functools
import urllib.error
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from ssense.choices import BatchNorm, Precision
from ssense.data.dataset import Pairs
from ssense.errors import UserError, one_line, printable
from ssense.files.weights import fault, load_weights, read_weights, some
from ssense.model.encoders.encoder import Encoder, EncoderSpec
from ssense.model.resnet import ResNet18, draw

_STRIDE = 32  # stride of the last stage of ResNet-18, pixels

_INPUT_CHANNELS = (1, 3)  # of grey and of colour images
_WHAT_TO_GIVE = "Give torchvision's resnet18 state dictionary."
_REASON_CHARACTERS = 150

Conv1 = Literal["sum", "mean", "random"]


@dataclass(frozen=True, kw_only=True)
class ResNetSpec(EncoderSpec):
    """The encoder of SSENSE, ResNet-18 over every electrode's spectrogram (section 2.2).

    Attributes:
        weights: What it starts from: "imagenet", "random" or a file, see `build_encoder`.
        conv1: How the three input channels of pretrained weights become one.
        batch_norm: What training normalises by, see `SpectrogramEncoder`.
    """

    kind: ClassVar[str] = "resnet-18"

    weights: str = "imagenet"
    conv1: Conv1 = "sum"
    batch_norm: BatchNorm = "chunk"

    def build(self, train: Pairs, precision: Precision) -> SpectrogramEncoder:
        """The encoder that a training on some pairs starts from, see `EncoderSpec`."""
        as_specified = self.weights, self.conv1, precision, self.batch_norm
        encoder = build_encoder(*as_specified, dimensions=train.targets.shape[1])
        encoder.resnet.crop(train.spectrograms.shape[-2:])
        return encoder

    def rebuild(self, state: Mapping[str, Tensor], precision: Precision) -> SpectrogramEncoder:
        """The trained encoder of a state dictionary, see `EncoderSpec`."""
        return trained_encoder(state, precision)

    def by_content(self) -> Self:
        """The same specification, with weights from a file named by their content."""
        from ssense.files.digest import weights_identity  # opens storages, which training does not

        return replace(self, weights=weights_identity(self.weights))

    def untrained(self) -> Self:
        """The same specification with random weights, which need no download."""
        return replace(self, weights="random")


class SpectrogramEncoder(Encoder):
    """Maps spectrograms of many electrodes to one sentence embedding (SSENSE, section 2.2).

    ResNet-18 with a one-channel first convolution and a linear head embeds each electrode by
    itself; the mean over electrodes is the sample's embedding.

    Args:
        precision: "float32", or "bf16": bfloat16 in convolutions and what lies between them, with
            weights, normalisation statistics and embeddings in float32.
        batch_norm: What training normalises by: "chunk", the mean and variance of the images that
            pass together; "frozen", the running ones, which then stay those of the initial weights.
        dimensions: Dimensions D of the embedding, those of the targets.
    """

    def __init__(
        self,
        precision: Precision = "float32",
        batch_norm: BatchNorm = "chunk",
        *,
        dimensions: int,
    ) -> None:
        super().__init__(precision)
        self.batch_norm = batch_norm
        self.resnet = ResNet18()
        self.resnet.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
        draw(self.resnet.conv1)
        self.resnet.fc = nn.Linear(self.resnet.fc.in_features, dimensions)

    def embed(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Embed every electrode's image, and take the mean over electrodes in float32."""
        return self.pool(self._embed_each(x, dtype))

    def embed_electrodes(self, x: Tensor) -> Tensor:
        """Embed `[B, E, 1, F, T]` spectrograms as `[B, E, D]` float32, each electrode by itself."""
        with self.products_on(x.device) as dtype:
            return self._embed_each(x, dtype)

    def _embed_each(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        # Channels last is how matrix units read images; the network keeps the layout of its input.
        images = x.flatten(0, 1).to(dtype, memory_format=torch.channels_last)
        embeddings: Tensor = self.resnet(images)
        return embeddings.float().view(*x.shape[:2], -1)

    def pool(self, electrodes: Tensor, kept: Tensor | None = None) -> Tensor:
        """One embedding `[B, D]` of those of the electrodes `[B, E, D]`, float32: their mean.

        Args:
            electrodes: Embeddings of the electrodes.
            kept: Which electrodes count, `[E]` bool, one at least; None for all.
        """
        if kept is None:
            return electrodes.mean(dim=1)
        # A product, which copies no embeddings: maps pool the same ones hundreds of times.
        return (kept.float() / kept.sum()) @ electrodes

    def train(self, mode: bool = True) -> Self:
        """Switch to training, with batch normalisation as chosen, or to evaluation."""
        super().train(mode)
        for norm in self.norms():
            norm.train(mode and self.batch_norm == "chunk")
        return self

    def trains_on_one(self, x: Tensor) -> bool:
        """Whether a single one of `[B, E, 1, F, T]` can pass by itself in training.

        Batch normalisation needs two values of a channel. Where images end as a single pixel, a
        32nd of their size, one image of one electrode has only one value.
        """
        electrodes, (frequencies, frames) = x.shape[1], x.shape[-2:]
        pixels = -(-frequencies // _STRIDE) * -(-frames // _STRIDE)
        return self.batch_norm == "frozen" or electrodes * pixels > 1


def build_encoder(
    weights: str,
    conv1: Conv1 = "sum",
    precision: Precision = "float32",
    batch_norm: BatchNorm = "chunk",
    *,
    dimensions: int,
) -> SpectrogramEncoder:
    """Build an encoder; whatever stays random is drawn from torch's global generator.

    Args:
        weights: "imagenet" for torchvision's, "random", or the path of a ResNet-18 state
            dictionary (.safetensors, or a .pth of plain tensors).
        conv1: How three input channels of pretrained weights become one.
        precision: Precision of the arithmetic, see `SpectrogramEncoder`.
        batch_norm: What training normalises by, see `SpectrogramEncoder`.
        dimensions: Dimensions of the embedding, those of the targets.

    Raises:
        UserError: The weights can't be loaded or don't fit.
    """
    encoder = SpectrogramEncoder(precision, batch_norm, dimensions=dimensions)
    load_initial(encoder, weights, conv1)
    return encoder


def load_initial(encoder: SpectrogramEncoder, weights: str, conv1: Conv1 = "sum") -> None:
    """Give an encoder the initial weights of its ResNet-18; its head stays as it was drawn.

    Args:
        encoder: The encoder, with random weights.
        weights: See `build_encoder`; "random" leaves those that it has.
        conv1: How three input channels of pretrained weights become one.

    Raises:
        UserError: The weights can't be loaded or don't fit.
    """
    if weights == "random":
        return
    pretrained = dict(_pretrained_state(weights))
    if reason := fault(pretrained, encoder.resnet.state_dict()):
        raise UserError(f"{weights}: not the weights of a ResNet-18, {reason}. {_WHAT_TO_GIVE}")
    rgb = pretrained.pop("conv1.weight", None)
    if rgb is not None and (rgb.ndim != 4 or rgb.shape[1] not in _INPUT_CHANNELS):
        raise UserError(
            f"{weights}: not the weights of a ResNet-18, conv1.weight has the shape "
            f"{list(rgb.shape)}, not [64, 3, 7, 7]. {_WHAT_TO_GIVE}"
        )
    if rgb is not None and conv1 != "random":
        pretrained["conv1.weight"] = getattr(rgb, conv1)(dim=1, keepdim=True)
        if fault({"conv1.weight": pretrained["conv1.weight"]}, encoder.resnet.state_dict()):
            raise UserError(
                f"{weights}: not the weights of a ResNet-18, conv1.weight summed over its input "
                f"channels is infinite. {_WHAT_TO_GIVE}"
            )
    body = {name: tensor for name, tensor in pretrained.items() if not name.startswith("fc.")}
    try:
        missing, unexpected = encoder.resnet.load_state_dict(body, strict=False)
    except RuntimeError as error:
        reason = printable(one_line(error), _REASON_CHARACTERS)
        raise UserError(
            f"{weights}: not the weights of a ResNet-18 ({reason}). {_WHAT_TO_GIVE}"
        ) from None
    forgotten = sorted({*missing, *unexpected} - {"conv1.weight", "fc.weight", "fc.bias"})
    if forgotten or rgb is None:
        raise UserError(
            f"{weights}: not the weights of a ResNet-18, {some(forgotten or ['conv1.weight'])} do "
            f"not match. {_WHAT_TO_GIVE}"
        )


def trained_encoder(state: Mapping[str, Tensor], precision: Precision) -> SpectrogramEncoder:
    """Rebuild an encoder from its state dictionary.

    Args:
        state: State dictionary of the trained encoder.
        precision: Precision in which the encoder was trained and selected.

    Raises:
        ValueError: The state belongs to another model.
    """
    head = state.get("resnet.fc.weight")
    dimensions = len(head) if head is not None and head.ndim == 2 else 1  # refused below
    with torch.device("meta"):  # no random weights that the next line would replace
        encoder = SpectrogramEncoder(precision, dimensions=dimensions)
    load_weights(encoder, state, assign=True)
    return encoder


@functools.lru_cache(maxsize=1)
def _pretrained_state(weights: str) -> dict[str, Tensor]:
    if weights == "imagenet":
        return _imagenet_state()
    path = Path(weights)
    if not path.exists():
        raise UserError(
            f"{weights}: no such file. Set `encoder.weights` to imagenet, random, or the path of "
            "a ResNet-18 state dictionary."
        )
    return read_weights(path)


def _imagenet_state() -> dict[str, Tensor]:
    import torchvision  # takes as long to import as everything else together

    pretrained = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    try:
        state: dict[str, Tensor] = pretrained.get_state_dict(progress=False)
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        raise UserError(
            f"could not download the ImageNet weights of ResNet-18 ({one_line(error)}). Go online "
            "once to fill the cache, or set `encoder.weights` to a local file, or to random to "
            "start from scratch."
        ) from error
    return state
