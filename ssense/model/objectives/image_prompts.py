"""What NeuroCLIP trains inside a frozen ViT: a filter of the image, its fusion, prompt tokens.

The paper's abstract names the parts: content-adaptive dynamic filtering, token-level fusion to
instance-level prompts that adjust the patch embeddings, and visual prompt tokens inside the
Transformer. What each is made of is our reading.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

KERNELS, KERNEL_PX = 4, 7
_GATE = 16  # width of the network that mixes the kernels
_BOTTLENECK = 16  # how many times narrower the fusion is than the tower
_DROPOUT = 0.1  # share of the prompts' values that training drops


class DynamicFilter(nn.Module):
    """Low-pass filter of an image, mixed from four kernels by what the image shows.

    Each of the basis kernels, 7 x 7 for each colour, is the softmax of its parameters: positive
    and of sum 1. They start as Gaussians of 0.5, 1, 2 and 4 pixels. A convolution, its mean over
    the image, and an MLP give the shares of the four, which sum to 1.
    """

    def __init__(self) -> None:
        super().__init__()
        distance = torch.arange(KERNEL_PX) - KERNEL_PX // 2
        squared = (distance[:, None] ** 2 + distance**2).flatten().float()
        widths = torch.tensor([0.5, 1.0, 2.0, 4.0])
        start = -squared / (2 * widths[:, None] ** 2)
        self.kernels = nn.Parameter(start[None].repeat(3, 1, 1))  # [colours, kernels, 49]
        self.look = nn.Conv2d(3, _GATE, KERNEL_PX, stride=4, padding=KERNEL_PX // 2)
        self.mix = nn.Sequential(
            nn.GELU(), nn.Linear(_GATE, _GATE), nn.GELU(), nn.Linear(_GATE, KERNELS)
        )

    def shares(self, images: Tensor) -> Tensor:
        """Shares of the kernels, `[B, 4]`, of images `[B, 3, H, W]`."""
        mixed: Tensor = self.mix(self.look(images).mean(dim=(2, 3)))
        return mixed.softmax(dim=1)

    def forward(self, images: Tensor) -> Tensor:
        """Filter images `[B, 3, H, W]`, mirrored beyond their edges."""
        weights = self.kernels.softmax(dim=-1).view(3 * KERNELS, 1, KERNEL_PX, KERNEL_PX)
        margin = [KERNEL_PX // 2] * 4
        filtered = conv2d(pad(images, margin, mode="reflect"), weights, groups=3)
        filtered = filtered.unflatten(1, (3, KERNELS))
        return torch.einsum("bckhw,bk->bchw", filtered, self.shares(images))


class Fusion(nn.Module):
    """Prompts of an instance: what filtering changed in each patch, gated and mapped.

    T0 + g W(T1 - T0): the gate g in (0, 1) is an MLP of both tokens, W a bottleneck of a
    sixteenth of the width. Its last layer starts at zero, so that the tower starts as it was.

    Args:
        width: D of the tokens.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = max(1, width // _BOTTLENECK)
        self.gate = nn.Sequential(nn.Linear(2 * width, hidden), nn.GELU(), nn.Linear(hidden, 1))
        first, last = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.change = nn.Sequential(first, nn.GELU(), last)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, plain: Tensor, filtered: Tensor) -> Tensor:
        """Adjust the tokens of an image `[B, N, D]` by those of the filtered image."""
        gate: Tensor = self.gate(torch.cat([plain, filtered], dim=2))
        change: Tensor = self.change(filtered - plain)
        return plain + gate.sigmoid() * change


class PromptTokens(nn.Module):
    """Tokens that stand behind the class token, others in each of the first layers.

    As the deep prompts of Jia et al. 2022, "Visual prompt tuning", with their initialisation:
    uniform with Xavier's bound for a patch of three colours and the width. After the last layer
    that has tokens of its own, those that come out of it continue.

    Args:
        n: Number of prompts M; with 0 the tower stays as it is.
        depth: Number of layers with prompts of their own.
        width: D of the tokens.
        patch: Pixels of one patch, its height times its width.
    """

    def __init__(self, n: int, depth: int, width: int, patch: int) -> None:
        super().__init__()
        bound = math.sqrt(6 / (3 * patch + width))
        self.n = n
        self.tokens = nn.Parameter(torch.empty(depth, n, width).uniform_(-bound, bound))
        self.dropout = nn.Dropout(_DROPOUT)

    def before(self, layer: int, x: Tensor) -> Tensor:
        """Insert the prompts of the first layer into `[B, 1 + N, D]`, or replace a later one's.

        Args:
            layer: Number of the layer that `x` enters next, from 0.
            x: Tokens, the class token first; from layer 1 on with prompts, `[B, 1 + M + N, D]`.
        """
        if not self.n or layer >= len(self.tokens):
            return x
        prompts = self.dropout(self.tokens[layer]).expand(len(x), -1, -1)
        rest = x[:, 1 if layer == 0 else 1 + self.n :]
        return torch.cat([x[:, :1], prompts, rest], dim=1)
