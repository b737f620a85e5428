"""Waves over the space that electrodes lie in: what a smooth function of place is a sum of."""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from torch import Tensor

_SHORTEST = 3  # the shortest wave in parts of the longest, which is twice as long as the extent


def _wave_vectors() -> np.ndarray:
    """One of each two opposite vectors of whole numbers up to a length, [W, 3]."""
    numbers = range(-_SHORTEST, _SHORTEST + 1)
    opposite = (vector for vector in product(numbers, repeat=3) if vector > (0, 0, 0))
    return np.array([v for v in opposite if np.square(v).sum() <= _SHORTEST**2])


_VECTORS = _wave_vectors()
N_WAVES = 2 * len(_VECTORS)
"""Values of a place: cosines and sines."""


def waves(coordinates: np.ndarray) -> Tensor:
    """What cosines and sines over space are at each electrode, `[E, N_WAVES]` float32, unit norm.

    They are the terms of a Fourier series over a cube twice as wide as the electrodes reach, whose
    middle is theirs: it tells any two places apart, and no term is finer than a third of its width.
    A linear map of them is a smooth function of place (Défossez et al. 2023, "Decoding speech
    perception from non-invasive brain recordings", Nature Machine Intelligence 5, in two
    dimensions). The unit that places are measured in makes no difference. Electrodes without a
    place get zeros.

    Args:
        coordinates: Coordinates `[E, 3]`, in any unit; NaN where they are not known.
    """
    values = np.zeros((len(coordinates), N_WAVES), np.float32)
    located = np.isfinite(coordinates).all(axis=1)
    places = coordinates[located].astype(np.float64)
    if len(places):
        lowest, highest = places.min(axis=0), places.max(axis=0)
        width = float((highest - lowest).max()) or 1.0  # of one place alone
        phases = np.pi / width * (places - (lowest + highest) / 2) @ _VECTORS.T
        terms = np.concatenate([np.cos(phases), np.sin(phases)], axis=1)
        values[located] = terms / np.sqrt(len(_VECTORS))
    return torch.from_numpy(values)
