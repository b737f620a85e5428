"""A target from a file of the user's own, `my_target.py:MyTarget`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ssense.errors import UserError, counted
from ssense.files.digest import file_digest
from ssense.files.own_code import OwnCode, generators_kept, source_of
from ssense.files.own_source import own_source
from ssense.targets.target import TargetSpec, each_once, unit_rows

_OWN = OwnCode(role="target", form="class or function", example="my_target.py:MyTarget")
_HOW_USED = "It is called with a list of N sentences, and returns [N, D] floats."
_MADE_UP = ("Who are you?", "No.", "Who are you, and what do you want from me at this hour?")
_MOST_APART = 0.015  # of unit vectors, a cosine of 0.9999; half precision moves them less


@dataclass(frozen=True, kw_only=True)
class OwnTargetSpec(TargetSpec):
    """A function of the user's own, or a class whose instance is called as one.

    It is called once with all distinct sentences, and returns an array or a tensor `[N, D]`. A
    class is made without arguments. Random generators begin at the same seed.

    Attributes:
        source: The file and the class or function in it, "FOLDER/my_target.py:MyTarget"; default
            "", none.
    """

    kind: ClassVar[str] = "own"

    source: str = ""

    @classmethod
    def of(cls, made: str | Callable[..., Any]) -> OwnTargetSpec:
        """The specification of a file by its whole path.

        Args:
            made: The file and the name in it, "FILE.py:NAME", or the class or function itself.

        Raises:
            UserError: There is no such file, or nothing in it is named.
        """
        path, name = _OWN.find(source_of(made))
        return cls(source=f"{path.resolve()}:{name}")

    @property
    def name(self) -> str:
        """The file and the name in it, without folders: "my_target.py:MyTarget"."""
        return Path(self.source).name

    @property
    def is_away(self) -> bool:
        """Whether the file is not on this machine."""
        found = own_source(self.source)
        return found is None or not Path(found.path).is_file()

    @property
    def _content(self) -> str:
        found = own_source(self.source)
        return "" if found is None or self.is_away else file_digest(Path(found.path))

    def by_content(self) -> OwnTargetSpec:
        """Name the file by its content, wherever it lies."""
        if self.is_away:
            return self
        return replace(self, source=f"file {self._content}:{self.source.rpartition(':')[2]}")

    def origin(self) -> dict[str, str]:
        """Everything the embeddings depend on: the file by its content, and the name in it."""
        return {"own": self.by_content().source}

    def check(self) -> None:
        """Try it on made-up sentences.

        Raises:
            UserError: The file is missing, can't be run, or what it makes does not embed.
        """
        self.dimensions()

    def dimensions(self) -> int:
        """Dimensions of the embeddings, as made-up sentences have them.

        Raises:
            UserError: The file is missing, can't be run, or what it makes does not embed.
        """
        _OWN.find(self.source)
        return _dimensions(self.source, self._content)

    def embed(self, sentences: Sequence[str], numbers: Sequence[int] | None = None) -> Tensor:  # noqa: ARG002 - words are all it reads
        """Embed all distinct sentences in one call, see `TargetSpec`.

        Raises:
            UserError: The file is missing, can't be run, or what it makes does not embed.
        """
        return each_once(sentences, self._embedded)

    def _embedded(self, sentences: list[str]) -> Tensor:
        """Embeddings `[N, D]` of distinct sentences, as many dimensions as made-up ones have."""
        dimensions = self.dimensions()
        embeddings = _all_embedded(self.source, self._content, tuple(sentences))
        if embeddings.shape[1] != dimensions:
            raise UserError(
                f"{_OWN.called(self.source)} makes {list(embeddings.shape)} of "
                f"{counted(len(sentences), 'sentence')}, and vectors of {dimensions} of "
                f"{len(_MADE_UP)} made-up ones. Give all of them the same length."
            )
        return embeddings


@lru_cache(maxsize=8)
def _dimensions(source: str, content: str) -> int:
    """Dimensions of an own target, tried on made-up sentences together, again, and one alone.

    Raises:
        UserError: It can't be run, does not embed, or embeds a sentence otherwise when called again
            or with that sentence alone.
    """
    made = _made(source, content)
    with generators_kept():
        first, again = (_called(made, source, _MADE_UP) for _ in range(2))
        alone = _called(made, source, _MADE_UP[:1])
    if not torch.equal(first, again):
        raise UserError(
            f"{_OWN.called(source)} gives the same sentences other vectors when called again. Take "
            "out what is random: a model is put into evaluation mode by .eval()."
        )
    if alone.shape[1] != first.shape[1]:
        raise UserError(
            f"{_OWN.called(source)} makes {list(alone.shape)} of 1 sentence, and "
            f"{list(first.shape)} of {len(_MADE_UP)}. Give all of them the same length."
        )
    if (_direction(alone[0]) - _direction(first[0])).norm() > _MOST_APART:
        raise UserError(
            f"{_OWN.called(source)} gives a sentence another vector alone than together with "
            "others. Let each vector depend on its own sentence alone: nothing may be centred or "
            "scaled over the sentences of a call, and padding needs its mask."
        )
    return int(first.shape[1])


def _direction(vector: Tensor) -> Tensor:
    """A vector `[D]` in float64 at unit norm; of zeros, which has no direction, as it is."""
    exact = vector.detach().to("cpu", torch.float64)
    largest = exact.abs().max()
    return normalize(exact / largest, dim=0) if largest else exact


@lru_cache(maxsize=4)
def _all_embedded(source: str, content: str, sentences: tuple[str, ...]) -> Tensor:
    """Unit embeddings `[N, D]`; a plan asks which are the same, and the sweep for all again."""
    made = _made(source, content)
    with generators_kept():
        vectors = _called(made, source, sentences)
    return unit_rows(vectors, sentences, _OWN.called(source))


def _made(source: str, content: str) -> Callable[[list[str]], Any]:
    """The function of a file, or what its class makes.

    Raises:
        UserError: The file can't be run, or has nothing of that name to call.
    """
    with _OWN.told(source, "It is made without arguments."), generators_kept():
        found = _OWN.load(source, content)
        made: Callable[[list[str]], Any] = found() if isinstance(found, type) else found
    if not callable(made):
        kind = "nothing" if made is None else type(made).__name__
        raise UserError(
            f"{_OWN.called(source)}: {source.rpartition(':')[2]} is {kind}, not a function, nor a "
            "class with __call__. Check its name."
        )
    return made


def _called(made: Callable[[list[str]], Any], source: str, sentences: Sequence[str]) -> Tensor:
    """What an own target makes of sentences, `[N, D]` of a float type.

    Raises:
        UserError: It raises, or returns something else.
    """
    with _OWN.told(source, _HOW_USED), torch.no_grad():
        found = made(list(sentences))
        if isinstance(found, np.ndarray) and found.dtype.kind == "f":
            found = torch.from_numpy(np.ascontiguousarray(found, np.float64))
    n = len(sentences)
    if not isinstance(found, Tensor) or not found.is_floating_point():
        dtype = getattr(found, "dtype", None)
        what = type(found).__name__ if dtype is None else f"{list(found.shape)} of {dtype}"
    elif found.ndim != 2 or len(found) != n or not found.shape[1]:
        what = str(list(found.shape))
    elif not found.isfinite().all():
        what = f"values that are not finite, in {list(found.shape)}"
    else:
        return found
    raise UserError(
        f"{_OWN.called(source)} makes {what} of {counted(n, 'sentence')}, not [{n}, D] finite "
        "floats. Check it."
    )
