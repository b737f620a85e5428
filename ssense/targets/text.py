"""Sentence embeddings of a frozen open_clip text tower, computed once and cached."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ssense.choices import TEXT_TOWER
from ssense.data.repeats import TowerTexts, first_of
from ssense.errors import UserError, one_line, printable
from ssense.files.digest import digest, weights_identity
from ssense.files.source_code import package_digest
from ssense.files.storage import exists
from ssense.files.tensor_file import read_tensor, write_tensor
from ssense.targets.clip import (
    embedding_dimensions,
    frozen_clip,
    model_config,
    read_embeddings,
    the_open_clip,
    write_embeddings,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from open_clip import CLIP
    from upath import UPath

_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class TextSpec:
    """Which frozen tower embeds the sentences, and where it is read.

    Attributes:
        model: Name of the model in open_clip; default "ViT-B-32-quickgelu". The plain name
            "ViT-B-32" would run OpenAI's weights with the wrong activation; they were trained with
            QuickGELU.
        weights: An open_clip tag, by default "openai"; a local file; or "untrained" for a tower at
            its seeded initialisation.
        layer: Number of the block, from 1, after which the tower is read, at the token that ends
            the text and normalised as the last block is. None (default) takes the tower's output,
            which is the last block's, projected to the space of the images.

    Raises:
        ValueError: The layer is below 1.
    """

    model: str = TEXT_TOWER
    weights: str = "openai"
    layer: int | None = None

    def __post_init__(self) -> None:
        if self.layer is not None and self.layer < 1:
            raise ValueError(f"layer must be at least 1, got {self.layer}")

    def by_content(self) -> TextSpec:
        """Name weights from a file by their content, wherever the file lies."""
        return replace(self, weights=weights_identity(self.weights))


def cached_embeddings(sentences: Sequence[str], spec: TextSpec, folder: UPath) -> Tensor:
    """Embeddings `[N, D]` of the sentences, from the cache in `folder` or computed into it.

    Raises:
        UserError: The weights can't be loaded, or the cached file is damaged.
    """
    path, origin = embedding_file(sentences, spec, folder), embedding_origin(sentences, spec)
    if exists(path):
        return read_embeddings(path, len(sentences), origin)
    embeddings = embed_sentences(sentences, spec)
    write_embeddings(path, embeddings, origin, embedding_code())
    return embeddings


def embedding_file(sentences: Sequence[str], spec: TextSpec, folder: UPath) -> UPath:
    """Where the embeddings of the sentences are kept, or will be."""
    return folder / f"{spec.model}-{digest(embedding_origin(sentences, spec))}.safetensors"


def embedding_code() -> str:
    """Version of the code between sentences and their embeddings."""
    return package_digest("targets")


def embedding_origin(sentences: Sequence[str], spec: TextSpec) -> dict[str, str]:
    """Everything the embeddings depend on: model, weights by content, tokeniser, sentences."""
    layer = {} if spec.layer is None else {"layer": str(spec.layer)}
    return layer | {
        "model": spec.model,
        "weights": weights_identity(spec.weights),
        "tokeniser": _tokeniser(spec.model),
        "sentences": digest(list(sentences)),
    }


def text_dimensions(spec: TextSpec) -> int:
    """Dimensions of the embeddings of sentences.

    Raises:
        UserError: There is no such model, or it has no such layer.
    """
    if spec.layer is None:
        return embedding_dimensions(spec.model)
    text = model_config(spec.model)["text_cfg"]
    n_layers = text.get("layers")
    if n_layers is None:
        raise UserError(
            f"layer {spec.layer}: the text tower of {printable(spec.model)} is not open_clip's "
            "own, and can be read at its output alone. Leave layers of this tower out."
        )
    if spec.layer > n_layers:
        raise UserError(
            f"layer {spec.layer}: the text tower of {printable(spec.model)} has {n_layers} layers. "
            f"Give 1 to {n_layers}."
        )
    return int(text["width"])


def tower_texts(
    sentences: Sequence[str], model: str, folder: UPath, *, keep: bool = True
) -> TowerTexts:
    """The sentences as a model's tokeniser has them, from the cache in `folder` if they are there.

    Args:
        sentences: N texts.
        model: Name of the model in open_clip.
        folder: Folder of the cache.
        keep: Whether to write what is not there.

    Raises:
        UserError: The model is unknown, its tokeniser can't be loaded, or the cached file is
            damaged.
    """
    origin = {"origin": digest(_tokeniser(model), list(sentences))}
    path = folder / f"{model}-tokens-{origin['origin']}.safetensors"
    if exists(path):
        shape = (len(sentences), None)
        tokens = read_tensor(path, "tokens", origin, shape=shape, dtype=torch.int32)
    else:
        tokens = _tokens(sentences, model)
        if keep:
            write_tensor(path, "tokens", tokens, origin)
    whole, cut = tokens[:, :-1].numpy(), tokens[:, -1].numpy().astype(bool)
    return TowerTexts(first_of(map(bytes, whole)), cut, whole.shape[1])


def _tokens(sentences: Sequence[str], model: str) -> Tensor:
    """Tokens that the tower reads, and in the last column whether there are more, int32 [N, L+1].

    A tokeniser with room for one token more finds what is cut off: its last token differs.
    """
    model_config(model)  # raises where there is no such model
    open_clip = the_open_clip()
    try:
        tokenise = open_clip.get_tokenizer(model)
        tokens = tokenise(list(sentences))
        longer = tokenise(list(sentences), context_length=tokens.shape[1] + 1)
    except Exception as error:  # the hub's client raises errors of its own
        raise UserError(
            f"could not load the tokeniser of {model} ({one_line(error)}). Go online once to fill "
            "the cache."
        ) from error
    cut = (longer[:, :-1] != tokens).any(dim=1, keepdim=True)
    return torch.cat([tokens, cut], dim=1).to(torch.int32)


def embed_sentences(sentences: Sequence[str], spec: TextSpec) -> Tensor:
    """Embed each distinct sentence once.

    Returns:
        `[N, D]` float32, rows of unit norm (SSENSE, section 2.3).

    Raises:
        UserError: The model is unknown or its weights can't be loaded.
    """
    open_clip = the_open_clip()
    distinct = list(dict.fromkeys(sentences))
    tower = _text_tower(spec)
    tokens = open_clip.get_tokenizer(spec.model)(distinct)
    # The longest first, so that each batch is cut to less than the one before.
    order = _length(tokens).argsort(descending=True, stable=True)
    batches = []
    with torch.inference_mode():
        for rows in order.split(_BATCH):
            batch = tokens[rows]
            if isinstance(tower, open_clip.CLIP):  # other classes keep their positions elsewhere
                batch = _without_padding(tower, batch)
            batches.append(tower.encode_text(batch))
    embeddings = normalize(torch.cat(batches).float(), dim=1)[order.argsort()]
    row = {sentence: i for i, sentence in enumerate(distinct)}
    return embeddings[[row[sentence] for sentence in sentences]]


def _without_padding(tower: CLIP, tokens: Tensor) -> Tensor:
    """Cut tokens, and the positions of the tower, to the length of the longest sentence.

    The tower is causal and read at the end-of-text token: positions after that change nothing but
    the time it takes.
    """
    longest = int(_length(tokens).max())
    tower.positional_embedding = nn.Parameter(tower.positional_embedding[:longest])
    tower.attn_mask = tower.attn_mask[:longest, :longest]
    return tokens[:, :longest]


def _length(tokens: Tensor) -> Tensor:
    """Tokens `[N]` of each sentence, up to the end-of-text token, which has the highest number.

    (Padding does not tell: its number, 0, is also the token "!".)
    """
    return tokens.argmax(dim=1) + 1


def _tokeniser(model: str) -> str:
    return f"open_clip {model}"


def _text_tower(spec: TextSpec) -> CLIP:
    clip = frozen_clip(spec.model, spec.weights, "text")
    if spec.layer is not None:
        text_dimensions(spec)  # refuses a layer that is not there
        text = getattr(clip, "text", clip)
        text.transformer.resblocks = text.transformer.resblocks[: spec.layer]
        text.text_projection = None
    return clip
