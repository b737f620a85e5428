"""Reconstruction of a masked embedding with the help of another modality's (SSR).

The paper's figure draws a module for each direction and a vector of which a half is masked. What
is inside the modules is our reading.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_WIDTH, _HEADS, _HIDDEN, _DROPOUT = 128, 4, 256, 0.1  # sizes of the block of attention
_CONTEXT, _SELF = 0, 1  # rows of the modality embedding


class AttentionReconstructor(nn.Module):
    """One block of cross-attention from the masked vector's tokens to the context's.

    Both vectors are cut into tokens, mapped to 128 dimensions, and get an embedding of position
    and one of modality; a learned token takes the place of each masked one. Queries are the masked
    vector's, keys and values the context's: 4 heads, then an MLP of 256, each added to what
    goes in after layer normalisation, dropout 0.1.

    Args:
        dimensions: D of the vectors.
        tokens: Number of tokens that a vector is cut into, a divisor of D.
    """

    def __init__(self, dimensions: int, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.widen = nn.Linear(dimensions // tokens, _WIDTH)
        self.masked = nn.Parameter(0.02 * torch.randn(_WIDTH))
        self.position = nn.Parameter(0.02 * torch.randn(tokens, _WIDTH))
        self.modality = nn.Parameter(0.02 * torch.randn(2, _WIDTH))
        self.norm_query, self.norm_context, self.norm_hidden = (
            nn.LayerNorm(_WIDTH) for _ in range(3)
        )
        self.attention = nn.MultiheadAttention(_WIDTH, _HEADS, dropout=_DROPOUT, batch_first=True)
        self.perceptron = nn.Sequential(
            nn.Linear(_WIDTH, _HIDDEN), nn.GELU(), nn.Dropout(_DROPOUT), nn.Linear(_HIDDEN, _WIDTH)
        )
        self.narrow = nn.Linear(_WIDTH, dimensions // tokens)

    def forward(self, vectors: Tensor, mask: Tensor, context: Tensor) -> Tensor:
        """Reconstruct vectors `[N, D]`.

        Args:
            vectors: Vectors to mask and reconstruct; nothing of what is masked passes.
            mask: Mask `[N, tokens]`, true where masked.
            context: Vectors of the other modality `[N, D]`, seen whole.
        """
        seen = torch.where(mask[..., None], self.masked, self._tokens(vectors))
        x = seen + self.position + self.modality[_SELF]
        context = self._tokens(context) + self.position + self.modality[_CONTEXT]
        keys = self.norm_context(context)
        x = x + self.attention(self.norm_query(x), keys, keys, need_weights=False)[0]
        x = x + self.perceptron(self.norm_hidden(x))
        reconstructed: Tensor = self.narrow(x)
        return reconstructed.flatten(1)

    def _tokens(self, vectors: Tensor) -> Tensor:
        tokens: Tensor = self.widen(vectors.unflatten(1, (self.tokens, -1)))
        return tokens


class MLPReconstructor(nn.Module):
    """The cheap variant: an MLP of the masked vector, zero where masked, and the context.

    Linear from 2 D to D, GELU, linear.

    Args:
        dimensions: D of the vectors.
        tokens: Number of tokens, each masked as a whole, a divisor of D.
    """

    def __init__(self, dimensions: int, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.perceptron = nn.Sequential(
            nn.Linear(2 * dimensions, dimensions), nn.GELU(), nn.Linear(dimensions, dimensions)
        )

    def forward(self, vectors: Tensor, mask: Tensor, context: Tensor) -> Tensor:
        """Reconstruct vectors `[N, D]`, see `AttentionReconstructor.forward`."""
        seen = vectors.unflatten(1, (self.tokens, -1)).masked_fill(mask[..., None], 0)
        reconstructed: Tensor = self.perceptron(torch.cat([seen.flatten(1), context], dim=1))
        return reconstructed
