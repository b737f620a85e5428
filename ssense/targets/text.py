"""Sentence embeddings of a frozen open_clip text tower."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ssense.choices import TEXT_TOWER, UNTRAINED
from ssense.errors import UserError, one_line, printable
from ssense.files.digest import weights_file, weights_identity
from ssense.targets.clip import (
    check_file,
    check_weights,
    embedding_dimensions,
    fetch_weights,
    frozen_clip,
    model_config,
    the_open_clip,
)
from ssense.targets.target import TargetSpec, each_once

if TYPE_CHECKING:
    from collections.abc import Sequence

    from open_clip import CLIP

_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class TextSpec(TargetSpec):
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

    kind: ClassVar[str] = "open-clip"
    without_kind: ClassVar[bool] = True  # stored before there were other targets

    model: str = TEXT_TOWER
    weights: str = "openai"
    layer: int | None = None

    def __post_init__(self) -> None:
        if self.layer is not None and self.layer < 1:
            raise ValueError(f"layer must be at least 1, got {self.layer}")

    @property
    def name(self) -> str:
        """The tower as people read it: "ViT-B-32-quickgelu, openai, layer 9"."""
        layer = "" if self.layer is None else f", layer {self.layer}"
        return f"{self.model}, {self.weights}{layer}"

    @property
    def file_name(self) -> str:
        """Name of the model, see `TargetSpec`."""
        return self.model

    @property
    def is_untrained(self) -> bool:
        """Whether its weights were drawn at random, for trials."""
        return self.weights == UNTRAINED

    @property
    def is_away(self) -> bool:
        """Whether the file of its weights is not on this machine."""
        return Path(self.weights).is_absolute() and weights_file(self.weights) is None

    @property
    def tokeniser(self) -> str:
        """The model's tokeniser."""
        return f"open_clip {self.model}"

    def by_content(self) -> TextSpec:
        """Name weights from a file by their content, wherever the file lies."""
        return replace(self, weights=weights_identity(self.weights))

    def origin(self) -> dict[str, str]:
        """Everything the embeddings depend on: layer, model, weights by content, tokeniser."""
        layer = {} if self.layer is None else {"layer": str(self.layer)}
        return layer | {
            "model": self.model,
            "weights": weights_identity(self.weights),
            "tokeniser": self.tokeniser,
        }

    def check(self) -> None:
        """Refuse an unknown model, weights that are not its own, and a layer that it lacks.

        Raises:
            UserError: The model is unknown, has no such layer, or the weights are another's.
        """
        check_weights(self.model, self.weights, "text")
        check_file(self.model, self.weights, "text")
        self.dimensions()

    def fetch(self) -> None:
        """Download the tower's weights, unless they are on this machine.

        Raises:
            UserError: They can't be had.
        """
        fetch_weights(self.model, self.weights, "text")

    def dimensions(self) -> int:
        """Dimensions of the embeddings of sentences.

        Raises:
            UserError: There is no such model, or it has no such layer.
        """
        if self.layer is None:
            return embedding_dimensions(self.model)
        text = model_config(self.model)["text_cfg"]
        n_layers = text.get("layers")
        if n_layers is None:
            raise UserError(
                f"layer {self.layer}: the text tower of {printable(self.model)} is not open_clip's "
                "own, and can be read at its output alone. Leave layers of this tower out."
            )
        if self.layer > n_layers:
            raise UserError(
                f"layer {self.layer}: the text tower of {printable(self.model)} has {n_layers} "
                f"layers. Give 1 to {n_layers}."
            )
        return int(text["width"])

    def tokens(self, sentences: Sequence[str]) -> Tensor:
        """Tokens that the tower reads, see `TargetSpec`.

        A tokeniser with room for one token more finds what is cut off: its last token differs.

        Raises:
            UserError: The model is unknown, or its tokeniser can't be loaded.
        """
        model_config(self.model)  # raises where there is no such model
        open_clip = the_open_clip()
        try:
            tokenise = open_clip.get_tokenizer(self.model)
            tokens = tokenise(list(sentences))
            longer = tokenise(list(sentences), context_length=tokens.shape[1] + 1)
        except Exception as error:  # the hub's client raises errors of its own
            raise UserError(
                f"could not load the tokeniser of {self.model} ({one_line(error)}). Go online once "
                "to fill the cache."
            ) from error
        cut = (longer[:, :-1] != tokens).any(dim=1, keepdim=True)
        return torch.cat([tokens, cut], dim=1).to(torch.int32)

    def embed(self, sentences: Sequence[str], numbers: Sequence[int] | None = None) -> Tensor:  # noqa: ARG002 - words are all it reads
        """Embed each distinct sentence once, see `TargetSpec`.

        Raises:
            UserError: The model is unknown or its weights can't be loaded.
        """
        return each_once(sentences, self._embedded)

    def _embedded(self, sentences: list[str]) -> Tensor:
        """Embeddings `[N, D]` of distinct sentences."""
        open_clip = the_open_clip()
        tower = _text_tower(self)
        tokens = open_clip.get_tokenizer(self.model)(sentences)
        # The longest first, so that each batch is cut to less than the one before.
        order = _length(tokens).argsort(descending=True, stable=True)
        batches = []
        with torch.inference_mode():
            for rows in order.split(_BATCH):
                batch = tokens[rows]
                if _is_read_at_highest(tower):
                    batch = _without_padding(tower, batch)
                batches.append(tower.encode_text(batch))
        return normalize(torch.cat(batches).float(), dim=1)[order.argsort()]


def _is_read_at_highest(tower: CLIP) -> bool:
    """Whether a tower is causal and read at the token of the highest number, as OpenAI's are.

    Others read a token after that one, or let each token see all, padding too; other classes keep
    their positions elsewhere.
    """
    is_plain = isinstance(tower, the_open_clip().CLIP)
    return is_plain and tower.text_pool_type == "argmax" and tower.attn_mask is not None


def _without_padding(tower: CLIP, tokens: Tensor) -> Tensor:
    """Cut tokens, and the positions of the tower, to the length of the longest sentence.

    For towers of `_is_read_at_highest`: positions after the end-of-text token change nothing but
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


def _text_tower(spec: TextSpec) -> CLIP:
    clip = frozen_clip(spec.model, spec.weights, "text")
    if spec.layer is not None:
        spec.dimensions()  # refuses a layer that is not there
        text = getattr(clip, "text", clip)
        text.transformer.resblocks = text.transformer.resblocks[: spec.layer]
        text.text_projection = None
    return clip
