"""ResNet-18, with the names that its weights have in torchvision, and drawn in the same order.

Importing torchvision instead would take as long as everything else that a training needs, because
of detection operators and PyTorch's compiler.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import conv2d, linear, relu

WIDTHS = 64, 128, 256, 512


class Convolution(nn.Conv2d):
    """A 3 x 3 convolution that leaves out the taps which meet nothing but padding.

    The last stages see images of one or two pixels where spectrograms are small, and up to eight of
    nine taps would multiply zeros there. The function and its weights are those of `nn.Conv2d`; the
    gradient of a tap left out is 0. Where every tap meets a pixel, the bits are the same too.
    """

    def __init__(self, n_in: int, n_out: int, stride: int = 1) -> None:
        super().__init__(n_in, n_out, 3, stride, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[N, n_in, H, W]` to `[N, n_out, H / stride, W / stride]`, rounded up."""
        (rows, above), (columns, left) = (
            _met_taps(size, int(self.stride[0])) for size in x.shape[2:]
        )
        weight = self.weight[:, :, rows, columns]
        if x.shape[2:] == (1, 1):  # a product of matrices, for which a convolution is a detour
            return linear(x.flatten(1), weight.flatten(1)).view(len(x), -1, 1, 1)
        return conv2d(x, weight, None, self.stride, (above, left))


def _met_taps(size: int, stride: int) -> tuple[slice, int]:
    """Which of three taps, padded by one, meet one of so many pixels; and the padding they need."""
    last = (size - 1) // stride  # place of the last output
    first_tap = 1 if last == 0 else 0  # a step further down, it meets the first pixel
    return slice(first_tap, min(3, size + 1)), 1 - first_tap


class Block(nn.Module):
    """Two 3 x 3 convolutions, and a way around them (He et al. 2016, figure 2).

    Maps `[N, n_in, H, W]` to `[N, n_out, H / stride, W / stride]`.
    """

    def __init__(self, n_in: int, n_out: int, stride: int = 1) -> None:
        super().__init__()
        way_around = None
        if stride != 1 or n_in != n_out:
            way_around = nn.Sequential(
                nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out)
            )
        self.conv1 = Convolution(n_in, n_out, stride)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = Convolution(n_out, n_out)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.downsample = way_around

    def forward(self, x: Tensor) -> Tensor:
        """Add what the convolutions make of an image to the image, and cut off at 0."""
        y = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)), inplace=True)))
        y += x if self.downsample is None else self.downsample(x)
        return relu(y, inplace=True)


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
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Score the classes of images `[N, 3, H, W]`."""
        x = self.maxpool(relu(self.bn1(self.conv1(x)), inplace=True))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        scores: Tensor = self.fc(self.avgpool(x).flatten(1))
        return scores
