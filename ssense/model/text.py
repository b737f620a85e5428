"""Sentence embeddings of a frozen open_clip text tower, computed once and cached."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ssense.digest import digest, weights_identity
from ssense.errors import UserError
from ssense.storage import read_whole, write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from upath import UPath

UNTRAINED = "untrained"
_UNTRAINED_SEED = 0
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
    if path.exists():
        return _read_cached(path, len(sentences))
    embeddings = embed_sentences(sentences, spec)
    write_whole(path, safetensors.torch.save({"embeddings": embeddings}, metadata=origin))
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
    import open_clip

    pretrained = None if spec.weights == UNTRAINED else spec.weights
    logging.disable(logging.CRITICAL)  # the hub client logs a screenful of retries
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_UNTRAINED_SEED)
            tower = open_clip.create_model(spec.model, pretrained=pretrained)
    except Exception as error:  # open_clip raises whatever its hub, pickle or tensor reader does
        raise UserError(
            f"text weights {spec.weights} of {spec.model} can't be had ({type(error).__name__}). "
            "Go online once to fill the cache, or pass a local file with --text-weights FILE, "
            "or run a trial with --text-weights untrained."
        ) from error
    finally:
        logging.disable(logging.NOTSET)
    return tower.eval().requires_grad_(False)


def _read_cached(path: UPath, n_sentences: int) -> Tensor:
    try:
        embeddings = safetensors.torch.load(read_whole(path))["embeddings"]
    except (safetensors.SafetensorError, KeyError) as error:
        raise UserError(f"{path} is damaged ({error}). Delete it and run again.") from error
    if len(embeddings) != n_sentences:
        raise UserError(f"{path} holds {len(embeddings)} rows, not {n_sentences}. Delete it.")
    return embeddings
