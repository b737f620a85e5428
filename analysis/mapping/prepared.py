"""An encoder as maps run it: batch normalisation folded, and in the arithmetic that is fast here.

ResNet-18 takes nearly all of the time of a map. It is run thousands of times on the same weights,
so that preparing it once pays. Other encoders are run as they are.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor

from ssense.choices import Precision
from ssense.data.dataset import Pairs
from ssense.model.encoders.encoder import Encoder
from ssense.model.encoders.spectrogram_encoder import SpectrogramEncoder
from ssense.model.resnet import folded
from ssense.precision import full_precision
from ssense.retrieval import cosine_scores
from ssense.training.sentences import SPECTROGRAMS_PER_PASS

IMAGES_PER_PASS = 128
"""Images that pass ResNet-18 together on a CPU, whose caches hold no more of them."""
BOUND = 0.05
"""Share of the ten best candidates that bf16 may exchange for others than float32 finds."""
COMPARED = 16
"""Sentences by which bf16 is compared with float32."""
_BEST = 10


def prepared(encoder: Encoder, precision: Precision) -> Encoder:
    """An encoder for evaluation alone that computes the same, faster; the given one stays as it is.

    Args:
        encoder: The encoder.
        precision: Precision of ResNet-18's products; every other encoder keeps its own.
    """
    if not isinstance(encoder, SpectrogramEncoder):
        return encoder.eval()
    copy = deepcopy(encoder).eval()
    copy.precision = precision
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    # Once here, and not in every pass.
    copy.resnet = folded(encoder.resnet).to(dtype).to(memory_format=torch.channels_last)
    return copy


def batches(pairs: Pairs, encoder: Encoder | None = None) -> tuple[Tensor, ...]:
    """Places of some pairs, batch by batch, each of as many spectrograms as should pass at a time.

    Args:
        pairs: The pairs.
        encoder: The encoder that they pass; None where they pass none.
    """
    index = torch.arange(len(pairs), device=pairs.device)
    in_caches = isinstance(encoder, SpectrogramEncoder) and pairs.device.type == "cpu"
    most = IMAGES_PER_PASS if in_caches else SPECTROGRAMS_PER_PASS
    parts: tuple[Tensor, ...] = index.split(max(1, most // pairs.spectrograms.shape[1]))
    return parts


@torch.inference_mode()
def embedded(encoder: Encoder, pairs: Pairs) -> Tensor:
    """Embed the spectrograms of some pairs, `[N, D]` float32, in evaluation mode.

    Float32 is float32 here as it was in the training, whatever the process allows.
    """
    encoder.eval()
    with full_precision(pairs.device.type):
        return torch.cat([encoder(pairs.batch(part)[0]) for part in batches(pairs, encoder)])


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far bf16 retrieves what float32 does.

    Attributes:
        sentences: Number of sentences that were compared.
        exchanged: Share of the ten best candidates by float32 that are not among those by bf16.
        cosine: Lowest cosine of a sentence's two embeddings.
    """

    sentences: int
    exchanged: float
    cosine: float

    @property
    def within_bound(self) -> bool:
        """Whether bf16 may stand in for float32."""
        return self.exchanged <= BOUND

    @property
    def words(self) -> str:
        """What was found, as the end of a sentence."""
        return (
            f"of {self.sentences} validation sentences of the first seed, {self.exchanged:.1%} of "
            f"the ten best candidates are others than in float32, where at most {BOUND:.0%} may be "
            f"(lowest cosine of embeddings {self.cosine:.6f})"
        )


def agreement(encoder: Encoder, pairs: Pairs) -> Agreement:
    """Compare bf16 with float32 by what some sentences retrieve among those of a part.

    A large share exchanged would be suspicious: the candidates are then nearly equally good, as by
    an encoder that has learned nothing, or its embeddings are nearly the same for all sentences.

    Args:
        encoder: An encoder with ResNet-18, in any precision.
        pairs: A part of the split, of which the first sentences are compared.
    """
    some = pairs.select(torch.arange(min(COMPARED, len(pairs))).numpy())
    _, candidates = pairs.batch(torch.arange(len(pairs), device=pairs.device))
    of_float32, of_bf16 = (
        embedded(prepared(encoder, precision), some).double() for precision in ("float32", "bf16")
    )
    best, others = (
        cosine_scores(each, candidates).topk(min(_BEST, len(candidates)), dim=1).indices
        for each in (of_float32, of_bf16)
    )
    kept = (best[:, :, None] == others[:, None, :]).any(dim=2)
    cosine = torch.cosine_similarity(of_float32, of_bf16, dim=1).min()
    return Agreement(
        sentences=len(some), exchanged=1 - float(kept.double().mean()), cosine=float(cosine)
    )
