"""The sEEG encoder of SSENSE: one ResNet-18 over every electrode's spectrogram, then their mean."""

from __future__ import annotations

import functools
import urllib.error
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from ssense.errors import UserError

EMBEDDING_DIMENSIONS = 512

Conv1 = Literal["sum", "mean", "random"]


class SpectrogramEncoder(nn.Module):
    """Maps spectrograms of many electrodes to one sentence embedding (SSENSE, section 2.2).

    ResNet-18 with a one-channel first convolution and a 512-d linear head embeds each electrode
    by itself; the mean over electrodes is the sample's embedding.
    """

    def __init__(self) -> None:
        super().__init__()
        import torchvision  # takes as long to import as all else together

        self.resnet = torchvision.models.resnet18(weights=None)
        self.resnet.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(self.resnet.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.resnet.fc = nn.Linear(self.resnet.fc.in_features, EMBEDDING_DIMENSIONS)

    def forward(self, x: Tensor) -> Tensor:
        """Embed `[B, E, 1, F, T]` spectrograms as `[B, 512]`."""
        n_samples, n_electrodes = x.shape[:2]
        embeddings = self.resnet(x.flatten(0, 1))
        return embeddings.view(n_samples, n_electrodes, -1).mean(dim=1)


def build_encoder(weights: str, conv1: Conv1 = "sum") -> SpectrogramEncoder:
    """Build an encoder; whatever stays random is drawn from torch's global generator.

    Args:
        weights: "imagenet" for torchvision's, "random", or the path of a ResNet-18 state
            dictionary (.safetensors, or a .pth of plain tensors).
        conv1: how three input channels of pretrained weights become one.

    Raises:
        UserError: the weights can't be had or don't fit.
    """
    encoder = SpectrogramEncoder()
    if weights == "random":
        return encoder
    pretrained = dict(_pretrained_state(weights))
    rgb = pretrained.pop("conv1.weight", None)
    if rgb is not None and rgb.ndim == 4 and conv1 != "random":
        pretrained["conv1.weight"] = getattr(rgb, conv1)(dim=1, keepdim=True)
    body = {name: tensor for name, tensor in pretrained.items() if not name.startswith("fc.")}
    try:
        missing, unexpected = encoder.resnet.load_state_dict(body, strict=False)
    except RuntimeError as error:
        raise UserError(f"{weights}: not the weights of a ResNet-18 ({error.args[0]!r})") from None
    forgotten = sorted({*missing, *unexpected} - {"conv1.weight", "fc.weight", "fc.bias"})
    if forgotten or rgb is None or rgb.ndim != 4:
        raise UserError(
            f"{weights}: not the weights of a ResNet-18, {forgotten or 'conv1.weight'} do not "
            "match. Give torchvision's resnet18 state dictionary."
        )
    return encoder


def trained_encoder(state: Mapping[str, Tensor]) -> SpectrogramEncoder:
    """Rebuild an encoder from its state dictionary.

    Raises:
        RuntimeError: the state is another model's.
    """
    with torch.device("meta"):  # no random weights that the next line would replace
        encoder = SpectrogramEncoder()
    encoder.load_state_dict(state, assign=True)
    return encoder


@functools.lru_cache(maxsize=1)
def _pretrained_state(weights: str) -> dict[str, Tensor]:
    if weights == "imagenet":
        return _imagenet_state()
    from safetensors.torch import load_file

    path = Path(weights)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{weights}: no such file. Check --encoder-weights.") from None
    except Exception as error:  # safetensors and pickle raise a dozen kinds for a damaged file
        raise UserError(f"{weights}: unreadable weights ({type(error).__name__}).") from error
    if not isinstance(state, Mapping) or not all(isinstance(t, Tensor) for t in state.values()):
        raise UserError(f"{weights}: holds more than tensors by name. Save a state dictionary.")
    return dict(state)


def _imagenet_state() -> dict[str, Tensor]:
    import torchvision

    try:
        return torchvision.models.ResNet18_Weights.IMAGENET1K_V1.get_state_dict(progress=False)
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        raise UserError(
            f"the ImageNet weights of ResNet-18 can't be downloaded ({type(error).__name__}). "
            "Go online once to fill the cache, or pass a local file with --encoder-weights FILE, "
            "or start from scratch with --encoder-weights random."
        ) from error
