"""The contrastive loss of SSENSE, and its gradient for batches that don't fit the memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from ssense.model.encoders.encoder import Encoder
from ssense.specification import require_positive


@dataclass(frozen=True, kw_only=True)
class OneWayInfoNCE:
    """The loss of SSENSE: brain embeddings find their texts, at a fixed temperature.

    Attributes:
        temperature: Temperature tau of equation 1.

    Raises:
        ValueError: The temperature is not positive.
    """

    kind: ClassVar[str] = "infonce"

    temperature: float = 0.07

    def __post_init__(self) -> None:
        require_positive(self, "temperature")


def info_nce(brain: Tensor, text: Tensor, temperature: float = 0.07) -> Tensor:
    """InfoNCE from brain to text over a batch of pairs (SSENSE, equations 1 and 2).

    Row i of each input is a pair; the other rows of `text` are its negatives. Similarity is the
    cosine, so the inputs need no normalisation.

    Args:
        brain: Brain embeddings `[N, D]`.
        text: Text embeddings `[N, D]`.
        temperature: Temperature tau of equation 1.

    Returns:
        The mean over the batch, a scalar, in nats.

    Raises:
        ValueError: The shapes differ, or the temperature is not positive.
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


def backward_in_chunks(
    encoder: Encoder,
    chunks: Sequence[Tensor],
    loss: Callable[[Tensor], Tensor],
) -> Tensor:
    """Add the gradient of a loss over all embeddings of a batch, in the memory of one chunk.

    Gradient caching (Gao et al. 2021, "Scaling deep contrastive learning batch size under memory
    limited setup"): a first pass embeds every chunk and keeps no graph; the loss of all embeddings
    gives the gradient of each; a second pass embeds every chunk again and goes backward from its
    embeddings' gradient. By the chain rule that is the gradient of one pass through all chunks,
    within rounding. It costs one forward pass more, unless there is only one chunk.

    Args:
        encoder: Encoder that normalises every chunk by itself, or by frozen statistics; its running
            statistics take in every chunk once.
        chunks: Chunks `[n, E, 1, F, T]` of the batch, in order.
        loss: Loss of the batch's embeddings `[N, D]`, a scalar.

    Returns:
        The loss, without a graph.
    """
    if len(chunks) == 1:
        value = loss(encoder(chunks[0]))
        value.backward()
        return value.detach()
    with torch.no_grad(), encoder.statistics_kept():
        parts = [encoder(chunk) for chunk in chunks]
    embeddings = torch.cat(parts).requires_grad_()
    value = loss(embeddings)
    (gradient,) = torch.autograd.grad(value, embeddings)
    for chunk, part in zip(chunks, gradient.split([len(part) for part in parts]), strict=True):
        encoder(chunk).backward(part)
    return value.detach()
