from __future__ import annotations

import numpy as np
import pytest
import torch

from ssense.data.coordinates import Coordinates
from ssense.data.dataset import Dataset, Pairs

N, ELECTRODES, FREQUENCIES, FRAMES, D = 96, 3, 8, 18, 32
CONTACTS = "0123"  # digest of the coordinates of the recording


@pytest.fixture(scope="session")
def pairs() -> Pairs:
    """The second of three electrodes has a linear view of what the targets have; two are noise.

    Where the third lies is not known.
    """
    rng = np.random.default_rng(0)
    latent = rng.standard_normal((N, 5))
    x = rng.standard_normal((N, ELECTRODES, FREQUENCIES, FRAMES))
    x[:, 1] += (latent @ rng.standard_normal((5, FREQUENCIES * FRAMES))).reshape(N, -1, FRAMES)
    targets = latent @ rng.standard_normal((5, D))
    return Dataset(
        digest="0",
        spectrograms=x.astype(np.float16),
        targets=(targets / np.linalg.norm(targets, axis=1, keepdims=True)).astype(np.float32),
        stimuli=tuple(map(str, range(N))),
        spans_s=np.arange(2.0 * N).reshape(N, 2),
        coordinates=Coordinates(
            contacts=CONTACTS, places=((1.0, 2.0, 3.0), (4.0, -6.0, 8.0), None)
        ),
    ).on(torch.device("cpu"))
