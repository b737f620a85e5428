from __future__ import annotations

import pytest
import torch

from ssense.data.things.dataset import Batch
from ssense.targets.image_features import ImageTower, ImageTowerSpec, image_tower


@pytest.fixture(scope="session")
def tower(tiny_towers) -> ImageTower:
    """A ViT of three layers and sixteen patches."""
    return image_tower(ImageTowerSpec(model=tiny_towers[0], weights="untrained"))


@pytest.fixture(scope="session")
def batch(tower) -> Batch:
    """Six responses of three channels and eight samples, and all that is known of their images."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (6, 3, 32, 32), generator=generator).to(torch.uint8)
    with torch.no_grad():  # what is made in inference mode could not be trained on
        original = tower(pixels)
    augmented = original + 0.3 * torch.randn(6, 24, generator=generator)
    return Batch(
        signals=torch.randn(6, 3, 8, generator=generator),
        features={"original": original, "augmented-mean": augmented, "blurred": augmented.flip(1)},
        pixels=pixels,
    )
