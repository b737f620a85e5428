"""ResNet-18, with the names that its weights have in torchvision, and drawn in the same order.

Importing torchvision instead would take as long as everything else that a training needs, because
of detection operators and PyTorch's compiler.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear, relu

WIDTHS = 64, 128, 256, 512
"""Channels of ResNet-18's four stages; its head maps the last to the size of the targets."""
FEW = 2
"""Most outputs along a side at which a product for each is faster than a convolution."""


class Convolution(nn.Conv2d):
    """A convolution that leaves out the taps which meet nothing but padding.

    The last stages see images of a few pixels where spectrograms are small, and up to eight of nine
    taps would multiply zeros there. The function and its weights are those of `nn.Conv2d`, padded
    by half of the odd kernel; the gradient of a tap left out is 0. Where there are more than a few
    pixels, the bits are the same too. (oneDNN 3.13 takes the bf16 gradient of a 3 x 3 filter of
    stride 2 from memory it never wrote where images are one pixel wide. None gets there.)

    Attributes:
        cropped: The whole weights as they were when `crop` left `weight` only the taps that are
            met, and where these lie in them; None before.
    """

    cropped: tuple[Tensor, tuple[slice, ...]] | None = None

    def __init__(self, n_in: int, n_out: int, size: int, stride: int = 1) -> None:
        super().__init__(n_in, n_out, size, stride, padding=size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[N, n_in, H, W]` to `[N, n_out, H / stride, W / stride]`, rounded up."""
        rows, columns = self._sides(x.shape[2:])
        taps = self.weight if self.cropped else self.weight[:, :, rows.met, columns.met]
        assert taps.shape[2:] == (_length(rows.met), _length(columns.met))  # cropped to this size
        most = 1 if x.is_cuda else FEW
        if max(len(rows.windows), len(columns.windows)) > most:
            return conv2d(x, taps, self.bias, self.stride, (rows.padding, columns.padding))
        by_row = taps.permute(0, 2, 3, 1).contiguous()
        return _by_pixel(x.permute(0, 2, 3, 1), by_row, self.bias, rows, columns)

    def crop(self, pixels: Sequence[int]) -> list[int]:
        """Keep as parameters the taps that images of a size `(H, W)` meet; return the output's.

        The others have no gradient, so that Adam never moves them, and reading and writing them is
        most of a step where images are small. State dictionaries have the whole weights.
        """
        assert self.cropped is None
        rows, columns = sides = self._sides(pixels)
        met = (slice(None), slice(None), rows.met, columns.met)
        whole = self.weight.detach()
        if whole[met].shape != whole.shape:
            self.cropped = whole, met
            # In the order in which a product for each pixel reads them.
            taps = whole[met].contiguous(memory_format=torch.channels_last)
            self.weight = nn.Parameter(taps)
            self.register_state_dict_post_hook(_make_whole)  # type: ignore[no-untyped-call]
            self.register_load_state_dict_pre_hook(_take_met)  # type: ignore[no-untyped-call]
        return [len(side.windows) for side in sides]

    def _sides(self, pixels: Sequence[int]) -> tuple[_Side, _Side]:
        size, stride = int(self.kernel_size[0]), int(self.stride[0])
        height, width = pixels
        return _Side.of(height, size, stride), _Side.of(width, size, stride)


def _make_whole(
    module: Convolution, state: dict[str, Tensor], prefix: str, _metadata: object
) -> None:
    """Put the taps of a cropped convolution back among those that no image meets."""
    assert module.cropped
    before, met = module.cropped
    taps = state[f"{prefix}weight"]
    whole = before.to(taps.device, copy=True)
    whole[met] = taps
    state[f"{prefix}weight"] = whole


def _take_met(module: Convolution, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Take whole weights into a cropped convolution."""
    assert module.cropped
    whole = state[f"{prefix}weight"]
    met = module.cropped[1]
    module.cropped = whole.detach().clone(), met
    state[f"{prefix}weight"] = whole[met]


def _length(part: slice) -> int:
    return int(part.stop - part.start)


class _Side(NamedTuple):
    """Which taps of a convolution meet pixels along one side of an image.

    Attributes:
        met: Taps that meet a pixel anywhere.
        padding: Padding that a convolution with these taps needs.
        windows: The pixels that each output sees, and the taps among `met` that see them.
    """

    met: slice
    padding: int
    windows: list[tuple[slice, slice]]

    @classmethod
    def of(cls, pixels: int, size: int, stride: int) -> Self:
        """A side of so many pixels, under a kernel padded by half of its odd size."""
        half = size // 2
        firsts = range(-half, pixels - half, stride)  # where the kernel is put for each output
        met = slice(max(0, -firsts[-1]), min(size, pixels - firsts[0]))
        windows = []
        for first in firsts:
            seen = slice(max(first, 0), min(first + size, pixels))
            windows.append(
                (seen, slice(*(at - first - met.start for at in (seen.start, seen.stop))))
            )
        return cls(met, half - met.start, windows)


def _by_pixel(x: Tensor, taps: Tensor, bias: Tensor | None, rows: _Side, columns: _Side) -> Tensor:
    """Convolve `[N, H, W, n_in]` by `[n_out, rows, columns, n_in]`: a product for each output.

    A CPU's kernels for convolutions waste half of their time on images so small, and more in
    backward passes.
    """
    outputs = [
        linear(x[:, r, c].flatten(1), taps[:, tap_r, tap_c].flatten(1), bias)
        for r, tap_r in rows.windows
        for c, tap_c in columns.windows
    ]
    n_rows, n_columns = len(rows.windows), len(columns.windows)
    return torch.stack(outputs, dim=1).view(len(x), n_rows, n_columns, -1).permute(0, 3, 1, 2)


def draw(convolution: nn.Conv2d) -> None:
    """Draw weights from He's normal distribution by the number of outputs.

    Weights without memory, for which a state dictionary will stand in, are left alone: PyTorch
    would load a second to draw none.
    """
    if not convolution.weight.is_meta:
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")


class Block(nn.Module):
    """Two 3 x 3 convolutions, and a way around them (He et al. 2016, figure 2).

    Maps `[N, n_in, H, W]` to `[N, n_out, H / stride, W / stride]`.
    """

    def __init__(self, n_in: int, n_out: int, stride: int = 1) -> None:
        super().__init__()
        way_around = None
        if stride != 1 or n_in != n_out:
            way_around = nn.Sequential(Convolution(n_in, n_out, 1, stride), nn.BatchNorm2d(n_out))
        self.conv1 = Convolution(n_in, n_out, 3, stride)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = Convolution(n_out, n_out, 3)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.downsample = way_around

    def forward(self, x: Tensor) -> Tensor:
        """Add what the convolutions make of an image to the image, and cut off at 0."""
        y = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)), inplace=True)))
        y += x if self.downsample is None else self.downsample(x)
        return relu(y, inplace=True)

    def crop(self, pixels: Sequence[int]) -> list[int]:
        """Crop the convolutions to images of a size `(H, W)`; return the size of the output."""
        if self.downsample is not None:
            first = self.downsample[0]
            assert isinstance(first, Convolution)
            first.crop(pixels)
        return self.conv2.crop(self.conv1.crop(pixels))


class ResNet18(nn.Module):
    """Maps images `[N, 3, H, W]` to `[N, classes]` (He et al. 2016, table 1).

    Its random weights are drawn from torch's global generator as torchvision 0.29 draws them, so
    that a seed gives the same network: every layer draws its default, then the convolutions He's
    normal distribution by their number of outputs.
    """

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        n_in = WIDTHS[0]
        for stage, width in enumerate(WIDTHS, start=1):
            blocks = Block(n_in, width, 1 if stage == 1 else 2), Block(width, width)
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
            n_in = width
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(WIDTHS[-1], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                draw(module)

    def forward(self, x: Tensor) -> Tensor:
        """Score the classes of images `[N, 3, H, W]`."""
        x = self.maxpool(relu(self.bn1(self.conv1(x)), inplace=True))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        scores: Tensor = self.fc(self.avgpool(x).flatten(1))
        return scores

    def crop(self, pixels: Sequence[int]) -> None:
        """Leave as parameters of the stages what images of a size `(H, W)` can train."""
        pixels = [-(-side // 4) for side in pixels]  # halved, rounded up, by conv1 and the pooling
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            for block in stage:
                assert isinstance(block, Block)
                pixels = block.crop(pixels)


def folded(network: ResNet18) -> ResNet18:
    """A copy for evaluation alone, whose convolutions do what batch normalisation would do.

    Scales are multiplied into filters and shifts become biases, so that every image is read and
    written less often. Only rounding differs; the copy can't be trained.
    """
    copy = deepcopy(network).eval().requires_grad_(False)
    _fold(copy, "conv1", "bn1")
    for block in (module for module in copy.modules() if isinstance(module, Block)):
        _fold(block, "conv1", "bn1")
        _fold(block, "conv2", "bn2")
        if block.downsample is not None:
            _fold(block.downsample, "0", "1")
    return copy


def _fold(module: nn.Module, convolution: str, norm: str) -> None:
    """Fold a batch normalisation into the convolution before it, both children of a module."""
    conv, bn = module.get_submodule(convolution), module.get_submodule(norm)
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(bn, nn.BatchNorm2d)
    assert bn.running_mean is not None
    assert bn.running_var is not None
    scale = bn.weight.double() / (bn.running_var.double() + bn.eps).sqrt()
    shift = bn.bias.double() - bn.running_mean.double() * scale
    weight = conv.weight.double() * scale.view(-1, 1, 1, 1)
    conv.weight = nn.Parameter(weight.to(conv.weight.dtype), requires_grad=False)
    conv.bias = nn.Parameter(shift.to(conv.weight.dtype), requires_grad=False)
    module.add_module(norm, nn.Identity())
