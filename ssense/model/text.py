"""Sentence embeddings of a frozen open_clip text tower, computed once and cached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ssense.digest import digest, weights_identity
from ssense.model.clip import frozen_clip, read_embeddings, write_embeddings
from ssense.storage import exists

if TYPE_CHECKING:
    from collections.abc import Sequence

    from upath import UPath

_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class TextSpec:
    """Which frozen tower embeds the sentences.

    `weights` is an open_clip tag ("openai"), a local file, or "untrained" for a tower at its
    seeded initialisation. The plain model name "ViT-B-32" would run OpenAI's weights with the
    wrong activation; they were trained with QuickGELU.
    """

    model: str = "ViT-B-32-quickgelu"
    weights: str = "openai"


def cached_embeddings(sentences: Sequence[str], spec: TextSpec, folder: UPath) -> Tensor:
    """Embeddings `[N, D]` of the sentences, from the cache in `folder` or computed into it.

    Raises:
        UserError: the weights can't be had, or the cached file is damaged.
    """
    origin = embedding_origin(sentences, spec)
    path = folder / f"{spec.model}-{digest(origin)}.safetensors"
    if exists(path):
        return read_embeddings(path, len(sentences))
    embeddings = embed_sentences(sentences, spec)
    write_embeddings(path, embeddings, origin)
    return embeddings


def embedding_origin(sentences: Sequence[str], spec: TextSpec) -> dict[str, str]:
    """Everything the embeddings depend on: model, weights by content, tokeniser, sentences."""
    return {
        "model": spec.model,
        "weights": weights_identity(spec.weights),
        "tokeniser": f"open_clip {spec.model}",
        "sentences": digest(list(sentences)),
    }


def embed_sentences(sentences: Sequence[str], spec: TextSpec) -> Tensor:
    """Embed each distinct sentence once.

    Returns:
        `[N, D]` float32, rows of length 1 (SSENSE, section 2.3).

    Raises:
        UserError: the model is unknown or its weights can't be had.
    """
    import open_clip

    distinct = list(dict.fromkeys(sentences))
    tower = _text_tower(spec)
    tokens = open_clip.get_tokenizer(spec.model)(distinct)
    # The tower is causal and read at the end-of-text token, which has the highest number:
    # positions after that of the longest sentence change nothing but the time it takes. (Padding
    # does not tell: its number, 0, is also the token "!".)
    length = int(tokens.argmax(dim=1).max()) + 1
    tower.positional_embedding = nn.Parameter(tower.positional_embedding[:length])
    tower.attn_mask = tower.attn_mask[:length, :length]
    with torch.inference_mode():
        batches = [tower.encode_text(batch) for batch in tokens[:, :length].split(_BATCH)]
    embeddings = normalize(torch.cat(batches).float(), dim=1)
    row = {sentence: i for i, sentence in enumerate(distinct)}
    return embeddings[[row[sentence] for sentence in sentences]]


def _text_tower(spec: TextSpec) -> nn.Module:
    return frozen_clip(spec.model, spec.weights, "text")
