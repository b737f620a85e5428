"""The contrastive loss of SSENSE."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize


def info_nce(brain: Tensor, text: Tensor, temperature: float = 0.07) -> Tensor:
    """InfoNCE from brain to text over a batch of pairs (SSENSE, equations 1 and 2).

    Row i of each input is a pair; the other rows of `text` are its negatives. Similarity is the
    cosine, so the inputs need no normalisation.

    Args:
        brain: `[N, D]`.
        text: `[N, D]`.
        temperature: tau of equation 1.

    Returns:
        The mean over the batch, a scalar, in nats.

    Raises:
        ValueError: the shapes differ, or the temperature is not positive.
    """
    if brain.shape != text.shape or brain.ndim != 2:
        raise ValueError(
            f"brain and text must both be [N, D], got {list(brain.shape)} and {list(text.shape)}"
        )
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    similarity = normalize(brain, dim=1) @ normalize(text, dim=1).T
    pairs = torch.arange(len(brain), device=brain.device)
    return cross_entropy(similarity / temperature, pairs)
