"""Degraded views of an image that stand for what the brain keeps of it, the same at every call.

NeuroBridge's four (blur, noise, low resolution, mosaic, with the parameters of its code) and the
foveal blur of UBP. Each takes uint8 pixels `[B, 3, H, W]` of square images and returns as many,
rounded to the nearest colour.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv1d, interpolate


@dataclass(frozen=True, kw_only=True)
class Unchanged:
    """The image itself."""

    def apply(self, pixels: Tensor, names: Sequence[str]) -> Tensor:  # noqa: ARG002
        """Return the images as they are."""
        return pixels


@dataclass(frozen=True, kw_only=True)
class Blur:
    """A Gaussian blur.

    Attributes:
        kernel: Width of the kernel, pixels, odd. The standard deviation follows from it as in
            OpenCV, 0.3 ((kernel - 1) / 2 - 1) + 0.8; beyond the edges the image is mirrored.
    """

    kernel: int = 15

    def apply(self, pixels: Tensor, names: Sequence[str]) -> Tensor:  # noqa: ARG002
        """Blur the images."""
        return _colours(_blurred(pixels.float(), self.kernel))


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Gaussian noise on every colour value, drawn from the name of the image.

    Attributes:
        sd: Standard deviation, on the scale 0 to 255.
        seed: Seed of the noise, so that the same names may get other noise.
    """

    sd: float = 25.0
    seed: int = 0

    def apply(self, pixels: Tensor, names: Sequence[str]) -> Tensor:
        """Add to each image the noise of its name, whatever else is in the batch."""
        noise = np.stack([self._noise(name, pixels.shape[1:]) for name in names])
        return _colours(pixels.float() + torch.from_numpy(noise).to(pixels.device))

    def _noise(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
        generator = np.random.default_rng([self.seed, key])
        return self.sd * generator.standard_normal(shape, dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class LowResolution:
    """Fewer pixels, then as many as before, by linear interpolation.

    Attributes:
        share: Share of the pixels along each side that are left.
    """

    share: float = 0.1

    def apply(self, pixels: Tensor, names: Sequence[str]) -> Tensor:  # noqa: ARG002
        """Lower the resolution of the images."""
        small = [max(1, int(side * self.share)) for side in pixels.shape[2:]]
        images = interpolate(pixels.float(), small, mode="bilinear", antialias=True)
        # Between the two, as in NeuroBridge, is an image of whole colour values.
        return _colours(interpolate(images.round(), pixels.shape[2:], mode="bilinear"))


@dataclass(frozen=True, kw_only=True)
class Mosaic:
    """Squares of one colour, each that of the image near the middle of the square.

    Attributes:
        px: Side of a square, pixels; it grows by a fraction where it does not divide the image's.
    """

    px: int = 5

    def apply(self, pixels: Tensor, names: Sequence[str]) -> Tensor:  # noqa: ARG002
        """Lay the images out in squares."""
        squares = [max(1, side // self.px) for side in pixels.shape[2:]]
        images = interpolate(pixels.float(), squares, mode="bilinear")
        return _colours(interpolate(images, pixels.shape[2:], mode="nearest"))


@dataclass(frozen=True, kw_only=True)
class FovealBlur:
    """A blur that grows from the middle, as sight does (UBP, its medium level).

    The share centre * exp(-decay * r) of the image stays sharp, r being the distance from the
    middle over that of the farthest corner.

    Attributes:
        kernel: Width of the blur's kernel, see `Blur`.
        centre: Share of the image that stays sharp in the middle.
        decay: How fast sharpness falls with the distance from the middle.
    """

    kernel: int = 45
    centre: float = 0.5
    decay: float = 3.0

    def apply(self, pixels: Tensor, names: Sequence[str]) -> Tensor:  # noqa: ARG002
        """Blur the images around their middles."""
        height, width = pixels.shape[2:]
        rows = torch.arange(height, device=pixels.device)[:, None] - height // 2
        columns = torch.arange(width, device=pixels.device) - width // 2
        farthest = np.hypot(height - height // 2 - 1, width - width // 2 - 1)
        distance = torch.hypot(rows.float(), columns.float()) / max(farthest, 1)
        sharp = self.centre * torch.exp(-self.decay * distance.clamp(max=1))
        images = pixels.float()
        return _colours(sharp * images + (1 - sharp) * _blurred(images, self.kernel))


Augmentation = Unchanged | Blur | Noise | LowResolution | Mosaic | FovealBlur

COGNITIVE_PRIOR: tuple[Augmentation, ...] = (Blur(), Noise(), LowResolution(), Mosaic())
"""NeuroBridge's four augmentations, of which the mean of the features is taken."""


def _blurred(images: Tensor, kernel: int) -> Tensor:
    sd = 0.3 * ((kernel - 1) / 2 - 1) + 0.8
    distances = torch.arange(kernel, device=images.device) - kernel // 2
    weights = torch.exp(-((distances / sd) ** 2) / 2)
    weights /= weights.sum()
    for axis in (2, 3):
        # Not torch's own padding: that refuses to mirror an image smaller than the kernel.
        mirrored = np.pad(np.arange(images.shape[axis]), kernel // 2, mode="reflect")
        index = torch.from_numpy(mirrored).to(images.device)
        lines = images.movedim(axis, -1).index_select(-1, index)
        blurred = conv1d(lines.reshape(-1, 1, lines.shape[-1]), weights.view(1, 1, -1))
        images = blurred.view(*lines.shape[:-1], -1).movedim(-1, axis)
    return images


def _colours(values: Tensor) -> Tensor:
    return values.round().clamp(0, 255).to(torch.uint8)
