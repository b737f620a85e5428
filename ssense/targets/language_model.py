"""Targets from language models of Hugging Face's, read by `transformers` as they are.

All sentences of a batch have the same number of tokens, so that none is padded: a sentence is
embedded as it would be alone, by models that know no token for padding too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, get_args

import torch
from torch import Tensor

from ssense.choices import Pooling
from ssense.errors import UserError, one_line, printable
from ssense.files.weights import some
from ssense.targets.model_folder import (
    LIBRARIES,
    known_folder,
    missing_library,
    model_folder,
    model_identity,
    quiet,
    short_name,
)
from ssense.targets.target import TargetSpec, each_once, token_rows, unit_rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_BATCH = 64
_UNBOUNDED = 10**6  # tokenisers without a limit say 10^30
_REASON_CHARACTERS = 150


@dataclass(frozen=True, kw_only=True)
class TransformersSpec(TargetSpec):
    """A language model as `transformers` has it, and how its tokens become one embedding.

    Attributes:
        model: Folder that `save_pretrained` wrote, or a name on the hub, such as "gpt2"; default
            "", none.
        revision: Branch, tag or commit on the hub; None (default) for the main branch as the cache
            of this machine has it.
        pooling: What stands for a sentence: "mean" (default) of all of its tokens, those for start
            and end included; "cls", its first token; or "last", its last one, which alone has read
            the whole sentence where the model reads from left to right.
        layer: Number of the block, from 1, after which the tokens are read. None (default) takes
            the model's output, which a last normalisation may follow.

    Raises:
        ValueError: The layer is below 1, or there is no such pooling.
    """

    kind: ClassVar[str] = "transformers"

    model: str = ""
    revision: str | None = None
    pooling: Pooling = "mean"
    layer: int | None = None

    def __post_init__(self) -> None:
        if self.layer is not None and self.layer < 1:
            raise ValueError(f"layer must be at least 1, got {self.layer}")
        if self.pooling not in get_args(Pooling):
            known = ", ".join(get_args(Pooling))
            raise ValueError(f"pooling must be one of {known}, got {printable(str(self.pooling))}")

    @property
    def name(self) -> str:
        """The model as people read it: "transformers gpt2, last, layer 8"."""
        layer = "" if self.layer is None else f", layer {self.layer}"
        return f"{self.kind} {short_name(self.model, self.revision)}, {self.pooling}{layer}"

    @property
    def is_away(self) -> bool:
        """Whether the model is not on this machine."""
        return known_folder(self.model, self.revision) is None

    @property
    def tokeniser(self) -> str:
        """The model's tokeniser."""
        return f"{self.kind} {model_identity(self.model, self.revision)}"

    def by_content(self) -> TransformersSpec:
        """Name a folder by its content, and a model of the hub by its commit."""
        return replace(self, model=model_identity(self.model, self.revision), revision=None)

    def origin(self) -> dict[str, str]:
        """Everything the embeddings depend on: the model by its content, what is read of it."""
        layer = {} if self.layer is None else {"layer": str(self.layer)}
        return layer | {"tokeniser": self.tokeniser, "pooling": self.pooling}

    def check(self) -> None:
        """Refuse a model that is not there, one of something else, and a layer that it lacks.

        Raises:
            UserError: The model can't be had or read, or has no such layer.
        """
        self.dimensions()
        self.tokens(["Who are you?"])

    def dimensions(self) -> int:
        """Dimensions of the embeddings.

        Raises:
            UserError: The model can't be had or read, or has no such layer.
        """
        with self._read() as folder:
            config = _config(folder)
            n_layers, width = config.num_hidden_layers, config.hidden_size
        if self.layer is not None and self.layer > n_layers:
            raise UserError(
                f"layer {self.layer}: {printable(self.name, 150)} has {n_layers} layers. Give 1 to "
                f"{n_layers}."
            )
        return int(width)

    def tokens(self, sentences: Sequence[str]) -> Tensor:
        """Tokens that the model reads, -1 behind the last, see `TargetSpec`.

        Raises:
            UserError: The tokeniser can't be had or read.
        """
        with self._read() as folder:
            most = _most_tokens(folder)
            read, whole = (_tokenised(folder, sentences, each) for each in (most, most + 1))
        return token_rows(read, whole)

    def embed(self, sentences: Sequence[str], numbers: Sequence[int] | None = None) -> Tensor:  # noqa: ARG002 - words are all it reads
        """Embed each distinct sentence once, see `TargetSpec`.

        Raises:
            UserError: The model can't be had or read, or a sentence has no token.
        """
        self.dimensions()  # refuses a layer that is not there
        return each_once(sentences, self._embedded)

    def _embedded(self, sentences: list[str]) -> Tensor:
        """Embeddings `[N, D]` of distinct sentences."""
        with self._read() as folder:
            tokens = _tokenised(folder, sentences, _most_tokens(folder))
            if empty := [text for text, ids in zip(sentences, tokens, strict=True) if not ids]:
                raise UserError(
                    f"{self.name}: “{printable(empty[0])}” has no token. Leave this sentence out."
                )
            vectors = self._vectors(_loaded(folder), tokens)
        return unit_rows(vectors, sentences, self.name)

    def _vectors(self, model: PreTrainedModel, tokens: Sequence[list[int]]) -> Tensor:
        """Vectors `[N, D]` of token sequences, in batches of one length each."""
        of_length: dict[int, list[int]] = defaultdict(list)
        for row, ids in enumerate(tokens):
            of_length[len(ids)].append(row)
        parts, places = [], []
        with torch.inference_mode():
            for rows in of_length.values():
                for some in torch.tensor(rows).split(_BATCH):
                    batch = torch.tensor([tokens[row] for row in some.tolist()])
                    parts.append(self._pooled(model, batch))
                    places.append(some)
        return torch.cat(parts)[torch.cat(places).argsort()]

    def _pooled(self, model: PreTrainedModel, batch: Tensor) -> Tensor:
        """One vector `[B, D]` float32 for each row of tokens `[B, L]`."""
        output = model(input_ids=batch, output_hidden_states=self.layer is not None)
        read = output.last_hidden_state if self.layer is None else output.hidden_states[self.layer]
        states: Tensor = read.float()
        match self.pooling:
            case "mean":
                return states.mean(dim=1)
            case "cls":
                return states[:, 0]
            case "last":
                return states[:, -1]

    @contextmanager
    def _read(self) -> Iterator[Path]:
        """The folder of the model, read in silence; what libraries raise is said in one line."""
        if not self.model:
            raise UserError(
                f"a target of {self.kind} names no model. Give a folder, or a name on the hub such "
                "as gpt2."
            )
        with quiet(), refusing(f"the model {printable(self.model, 150)}"):
            yield model_folder(self.model, self.revision)


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Say in one line what libraries raise that read a model: they raise dozens of kinds.

    Args:
        what: The model, as a message calls it.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if isinstance(error, ImportError) and error.name in LIBRARIES:
            raise missing_library(error) from error
        reason = printable(one_line(error), _REASON_CHARACTERS)
        raise UserError(
            f"{what} can't be read as a model of sentences ({type(error).__name__}: {reason}). "
            "Give one that embeds text, with its tokeniser and *.safetensors, and no code of its "
            "own."
        ) from error


def _config(folder: Path) -> Any:
    """The configuration of the part of a model that reads text."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return config.get_text_config()


def _tokeniser(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _most_tokens(folder: Path) -> int:
    """Tokens of the longest text that a model reads, those for start and end included."""
    places = getattr(_config(folder), "max_position_embeddings", None)
    return min(int(_tokeniser(folder).model_max_length), places or _UNBOUNDED, _UNBOUNDED)


def _tokenised(folder: Path, sentences: Sequence[str], most: int) -> list[list[int]]:
    encoded = _tokeniser(folder)(list(sentences), truncation=True, max_length=most)
    return [list(ids) for ids in encoded["input_ids"]]


def _loaded(folder: Path) -> PreTrainedModel:
    """The frozen model of a folder, in float32; of one that also writes, the part that reads.

    Raises:
        UserError: Weights that it needs are not in the folder: they would be random.
    """
    from transformers import AutoModel

    model, found = AutoModel.from_pretrained(
        folder,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        output_loading_info=True,
    )
    # What only pools, and is not read here, may have been left out.
    if missing := sorted(name for name in found["missing_keys"] if "pooler" not in name):
        raise UserError(
            f"the model {folder} lacks weights: {some(missing)}. Give the folder of a model that "
            "was saved whole."
        )
    reader = model.get_encoder() if model.config.is_encoder_decoder else model
    frozen: PreTrainedModel = reader.float().eval().requires_grad_(False)
    return frozen
