"""Embeddings of sentences by any target, computed once and kept by what they depend on.

    spec = TransformersSpec(model="gpt2", pooling="last", layer=8)
    cached_embeddings(["Who are you?", "No."], spec, storage / "text")  # [2, 768]

A target is a frozen specification that embeds by itself; what they share is in `target`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from ssense.data.repeats import TowerTexts, first_of
from ssense.files.digest import digest
from ssense.files.source_code import package_digest
from ssense.files.storage import exists
from ssense.files.tensor_file import read_tensor, write_tensor
from ssense.targets.clip import read_embeddings, write_embeddings
from ssense.targets.language_model import TransformersSpec
from ssense.targets.own_target import OwnTargetSpec
from ssense.targets.sentence_transformer import SentenceTransformerSpec
from ssense.targets.text import TextSpec
from ssense.targets.vectors import VectorSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor
    from upath import UPath

AnyTargetSpec = TextSpec | SentenceTransformerSpec | TransformersSpec | VectorSpec | OwnTargetSpec
"""The targets, by `kind`; see `ssense.targets.target.TargetSpec` for what they share."""


def cached_embeddings(
    sentences: Sequence[str],
    spec: AnyTargetSpec,
    folder: UPath,
    numbers: Sequence[int] | None = None,
) -> Tensor:
    """Embeddings `[N, D]` of the sentences, from the cache in `folder` or computed into it.

    Args:
        sentences: N sentences.
        spec: The target that embeds them.
        folder: Folder of the cache.
        numbers: Their numbers in the recording; None where they are not known.

    Raises:
        UserError: The target can't embed them, or the cached file is damaged.
    """
    path = embedding_file(sentences, spec, folder, numbers)
    origin = embedding_origin(sentences, spec, numbers)
    if exists(path):
        return read_embeddings(path, len(sentences), origin)
    embeddings = spec.embed(sentences, numbers)
    write_embeddings(path, embeddings, origin, embedding_code())
    return embeddings


def embedding_file(
    sentences: Sequence[str],
    spec: AnyTargetSpec,
    folder: UPath,
    numbers: Sequence[int] | None = None,
) -> UPath:
    """Where the embeddings of the sentences are kept, or will be."""
    name = digest(embedding_origin(sentences, spec, numbers))
    return folder / f"{spec.file_name}-{name}.safetensors"


def embedding_code() -> str:
    """Version of the code between sentences and their embeddings."""
    return package_digest("targets")


def embedding_origin(
    sentences: Sequence[str], spec: AnyTargetSpec, numbers: Sequence[int] | None = None
) -> dict[str, str]:
    """Everything the embeddings depend on: the target by its content, and the sentences.

    Args:
        sentences: N sentences.
        spec: The target that embeds them.
        numbers: Their numbers in the recording, for a target that goes by them.
    """
    by_number = isinstance(spec, VectorSpec) and numbers is not None
    return spec.origin() | {
        "sentences": digest(list(sentences)),
        **({"numbers": digest([*map(int, numbers or ())])} if by_number else {}),
    }


def tower_texts(
    sentences: Sequence[str],
    spec: AnyTargetSpec,
    folder: UPath,
    numbers: Sequence[int] | None = None,
    *,
    keep: bool = True,
) -> TowerTexts:
    """The sentences as a target reads them, from the cache in `folder` if they are there.

    Sentences are the same if they have the same tokens; without a tokeniser, the same vector.

    Args:
        sentences: N sentences.
        spec: The target.
        folder: Folder of the cache.
        numbers: Their numbers in the recording; None where they are not known.
        keep: Whether to write what is not there.

    Raises:
        UserError: The target can't read them, or the cached file is damaged.
    """
    if not spec.tokeniser:
        return _by_vectors(sentences, spec, folder, numbers)
    origin = {"origin": digest(spec.tokeniser, list(sentences))}
    path = folder / f"{spec.file_name}-tokens-{origin['origin']}.safetensors"
    if exists(path):
        shape = (len(sentences), None)
        tokens = read_tensor(path, "tokens", origin, shape=shape, dtype=torch.int32)
    else:
        tokens = spec.tokens(sentences)
        if keep:
            write_tensor(path, "tokens", tokens, origin)
    whole, cut = tokens[:, :-1].numpy(), tokens[:, -1].numpy().astype(bool)
    return TowerTexts(first_of(map(bytes, whole)), cut, whole.shape[1])


def _by_vectors(
    sentences: Sequence[str],
    spec: AnyTargetSpec,
    folder: UPath,
    numbers: Sequence[int] | None,
) -> TowerTexts:
    path = embedding_file(sentences, spec, folder, numbers)
    if exists(path):
        vectors = cached_embeddings(sentences, spec, folder, numbers)
    else:
        vectors = spec.embed(sentences, numbers)
    same_as = first_of(vector.tobytes() for vector in vectors.numpy() + 0)  # -0 is 0
    return TowerTexts(same_as, np.zeros(len(sentences), bool), 0)
