"""Targets from models of the library sentence-transformers, which end in one vector a text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from ssense.errors import UserError, printable
from ssense.targets.language_model import refusing
from ssense.targets.model_folder import (
    known_folder,
    local_folder,
    model_folder,
    model_identity,
    quiet,
    short_name,
)
from ssense.targets.target import TargetSpec, each_once, token_rows, unit_rows

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_BATCH = 64
_MADE_UP = "Who are you?"
_PARTS = "modules.json"  # which modules a model is made of; a plain language model has none
_OWN_MODULES = "sentence_transformers."  # of the library; all others are code of the model's


@dataclass(frozen=True, kw_only=True)
class SentenceTransformerSpec(TargetSpec):
    """A model of sentence-transformers, with the pooling and the prompt that are its own.

    Attributes:
        model: Folder of the model, or a name on the hub, such as
            "all-MiniLM-L6-v2" or "intfloat/e5-base-v2"; default "", none. A plain language model,
            such as "bert-base-uncased", is read as the mean of its tokens.
        revision: Branch, tag or commit on the hub; None (default) for the main branch as the cache
            of this machine has it.
    """

    kind: ClassVar[str] = "sentence-transformers"

    model: str = ""
    revision: str | None = None

    @property
    def _model(self) -> str:
        """The folder, or the whole name on the hub: the library's own models go by their last.

        A name without an owner that the cache has alone is that of a plain language model.
        """
        if not self.model or "/" in self.model or local_folder(self.model):
            return self.model
        own = f"{self.kind}/{self.model}"
        in_cache = [each for each in (own, self.model) if known_folder(each, self.revision)]
        return in_cache[0] if in_cache else own

    def _folder(self) -> Path:
        """The folder of the model; a name that is none of the library's is one without an owner.

        Raises:
            UserError: The model can't be had.
        """
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

        try:
            return model_folder(self._model, self.revision, _PARTS)
        except UserError as error:
            why = error.__cause__
            is_none = isinstance(why, RepositoryNotFoundError) and not isinstance(
                why, GatedRepoError
            )
            if not is_none or self._model == self.model:
                raise
        return model_folder(self.model, self.revision, _PARTS)

    @property
    def name(self) -> str:
        """The model as people read it: "sentence-transformers all-MiniLM-L6-v2"."""
        named = short_name(self.model, self.revision)
        return f"{self.kind} {named.removeprefix(f'{self.kind}/')}"

    @property
    def is_away(self) -> bool:
        """Whether the model is not on this machine."""
        return known_folder(self._model, self.revision) is None

    @property
    def tokeniser(self) -> str:
        """The model's tokeniser."""
        return f"{self.kind} {model_identity(self._model, self.revision)}"

    def by_content(self) -> SentenceTransformerSpec:
        """Name a folder by its content, and a model of the hub by its commit."""
        return replace(self, model=model_identity(self._model, self.revision), revision=None)

    def origin(self) -> dict[str, str]:
        """Everything the embeddings depend on: the model by its content."""
        return {"tokeniser": self.tokeniser}

    def check(self) -> None:
        """Refuse a model that is not there, or does not embed.

        Raises:
            UserError: The model can't be had, read or used.
        """
        self.dimensions()

    def dimensions(self) -> int:
        """Dimensions of the embeddings.

        Raises:
            UserError: The model can't be had, read or used.
        """
        return _dimensions(self, self.tokeniser)

    def tokens(self, sentences: Sequence[str]) -> Tensor:
        """Tokens that the model reads, -1 behind the last, see `TargetSpec`.

        Raises:
            UserError: The model can't be had or read.
        """
        with self._loaded() as model:
            read, most = _tokenised(model, sentences), model.max_seq_length
            longer = read
            if most is not None and most < torch.inf:
                model.max_seq_length = most + 1
                longer = _tokenised(model, sentences)
        return token_rows(read, longer)

    def embed(self, sentences: Sequence[str], numbers: Sequence[int] | None = None) -> Tensor:  # noqa: ARG002 - words are all it reads
        """Embed each distinct sentence once, see `TargetSpec`.

        Raises:
            UserError: The model can't be had, read or used.
        """
        return each_once(sentences, self._embedded)

    def _embedded(self, sentences: list[str]) -> Tensor:
        """Embeddings `[N, D]` of distinct sentences."""
        with self._loaded() as model:
            vectors = model.encode(
                sentences,
                batch_size=_BATCH,
                convert_to_tensor=True,
                show_progress_bar=False,
            )
        return unit_rows(vectors, sentences, self.name)

    @contextmanager
    def _loaded(self) -> Iterator[SentenceTransformer]:
        """The model in float32 on the CPU; what libraries raise is said in one line."""
        if not self.model:
            raise UserError(
                f"a target of {self.kind} names no model. Give a folder, or a name on the hub such "
                "as all-MiniLM-L6-v2."
            )
        with quiet(), refusing(f"the model {printable(self.model, 150)}"):
            from sentence_transformers import SentenceTransformer

            folder = self._folder()
            _refuse_code(folder)
            _refuse_activation(folder)
            model = SentenceTransformer(
                str(folder),
                device="cpu",
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
            yield model.float().eval()


def _refuse_code(folder: Path) -> None:
    """Refuse a model whose modules are not the library's, which versions of it would import.

    Raises:
        UserError: A module is of the model's own.
    """
    path = folder / _PARTS
    if not path.is_file():
        return  # a plain language model, which is given a mean of its tokens
    for module in json.loads(path.read_text()):
        if not str(module["type"]).startswith(_OWN_MODULES):
            raise UserError(
                f"the model {folder} brings code of its own, {printable(str(module['type']))}, "
                "which is not run. Write it as a class or function in a file of yours, and give "
                "FILE.py:NAME."
            )


def _refuse_activation(folder: Path) -> None:
    """Refuse a dense layer whose activation is not PyTorch's: the library would take Tanh for it.

    Raises:
        UserError: An activation is of another package.
    """
    for path in sorted(folder.rglob("config.json")):
        config = json.loads(path.read_text())
        if not {"in_features", "out_features"} <= config.keys():
            continue  # of something else: language models name their activations too
        activation = str(config.get("activation_function", "torch."))
        if not activation.startswith("torch."):
            raise UserError(
                f"the model {folder} has a dense layer with an activation of its own, "
                f"{printable(activation)} in {path.relative_to(folder)}, which is not run. Write "
                "the model as a class or function in a file of yours, and give FILE.py:NAME."
            )


@lru_cache(maxsize=8)
def _dimensions(spec: SentenceTransformerSpec, identity: str) -> int:  # noqa: ARG001
    """Dimensions, found by embedding; known by the content, as the model may change."""
    return spec.embed([_MADE_UP]).shape[1]


def _tokenised(model: Any, sentences: Sequence[str]) -> list[list[int]]:
    """Tokens of each sentence by itself, behind the model's prompt where it has one."""
    prompt = (model.prompts or {}).get(model.default_prompt_name) or ""
    read = model.preprocess if hasattr(model, "preprocess") else model.tokenize
    return [read([prompt + text])["input_ids"].flatten().tolist() for text in sentences]
