"""What every target is to the data: a frozen specification of how sentences are embedded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor

from ssense.errors import UserError, printable


class TargetSpec(ABC):
    """The specification of a target: a frozen dataclass."""

    kind: ClassVar[str]

    @property
    @abstractmethod
    def name(self) -> str:
        """The target as people read it: "ViT-B-32-quickgelu, openai, layer 9"."""

    @property
    def file_name(self) -> str:
        """The beginning of the names of files that are made by it."""
        return self.kind

    @property
    def is_untrained(self) -> bool:
        """Whether its weights were drawn at random, for trials."""
        return False

    @property
    @abstractmethod
    def is_away(self) -> bool:
        """Whether a file or folder that it is read from is not on this machine."""

    @property
    def tokeniser(self) -> str:
        """The tokeniser that decides which sentences are one to it; empty where vectors do."""
        return ""

    @abstractmethod
    def by_content(self) -> Self:
        """The same specification, with what comes from a file named by its content."""

    @abstractmethod
    def origin(self) -> dict[str, str]:
        """Everything that embeddings depend on besides the sentences, files by their content."""

    @abstractmethod
    def check(self) -> None:
        """Refuse what can't embed, before anything is planned; get what is on the network alone.

        Raises:
            UserError: A model, a layer or a file is unknown, missing or does not fit.
        """

    def fetch(self) -> None:  # noqa: B027 - most need nothing
        """Get weights from the network that `check` does not, unless they are on this machine.

        Raises:
            UserError: They can't be had.
        """

    @abstractmethod
    def dimensions(self) -> int:
        """Dimensions of the embeddings.

        Raises:
            UserError: It can't embed, see `check`.
        """

    @abstractmethod
    def embed(self, sentences: Sequence[str], numbers: Sequence[int] | None = None) -> Tensor:
        """Embed sentences, each distinct one once.

        Args:
            sentences: N sentences.
            numbers: Their numbers in the recording; None where they are not known.

        Returns:
            Embeddings `[N, D]` float32, rows of unit norm (SSENSE, section 2.3).

        Raises:
            UserError: It can't be loaded, or a sentence has no embedding.
        """

    def tokens(self, sentences: Sequence[str]) -> Tensor:
        """Tokens that are read of sentences, int32 `[N, L + 1]`.

        Args:
            sentences: N sentences.

        Returns:
            Tokens that the target reads, and in the last column whether there are more.

        Raises:
            UserError: Its tokeniser can't be loaded.
        """
        raise NotImplementedError(f"{self.kind} has no tokeniser")


def each_once(sentences: Sequence[str], embed: Callable[[list[str]], Tensor]) -> Tensor:
    """Embed each distinct sentence once.

    Args:
        sentences: N sentences.
        embed: Function that gives the embeddings `[n, D]` of n distinct ones.

    Returns:
        The embeddings `[N, D]` of all.
    """
    distinct = list(dict.fromkeys(sentences))
    embeddings = embed(distinct)
    row = {sentence: i for i, sentence in enumerate(distinct)}
    return embeddings[[row[sentence] for sentence in sentences]]


def token_rows(read: Sequence[list[int]], whole: Sequence[list[int]]) -> Tensor:
    """Tokens as `TargetSpec.tokens` gives them, -1 behind the last.

    Args:
        read: The tokens that are read of each sentence.
        whole: The same with room for one more, which finds what is cut off.
    """
    rows = torch.full((len(read), max(map(len, read)) + 1), -1, dtype=torch.int32)
    for row, (ids, more) in enumerate(zip(read, whole, strict=True)):
        rows[row, : len(ids)] = torch.tensor(ids, dtype=torch.int32)
        rows[row, -1] = len(more) > len(ids)
    return rows


def unit_rows(vectors: Tensor, named: Sequence[str], where: str) -> Tensor:
    """Vectors of unit norm, as a target gives them.

    Args:
        vectors: Vectors `[N, D]` of any float type.
        named: What each row is called in a message.
        where: What they come from.

    Returns:
        Rows `[N, D]` float32 of unit norm, whatever the norms were.

    Raises:
        UserError: A value is not finite, or a vector is zero: it has no direction.
    """
    exact = vectors.detach().to("cpu", torch.float64)
    largest = exact.abs().amax(dim=1, keepdim=True)
    for is_wrong, what in ((~largest.isfinite(), "has NaN or infinity"), (largest == 0, "is zero")):
        if is_wrong.any():
            row = int(is_wrong[:, 0].nonzero()[0])
            n_wrong = int(is_wrong.sum())
            more = f", and {n_wrong - 1} more" if n_wrong > 1 else ""
            raise UserError(
                f"{where}: the vector of “{printable(named[row])}” {what}{more}. Every sentence "
                "needs a direction to be retrieved by: mend or leave out such rows."
            )
    scaled = exact / largest  # so that no square overflows
    unit: Tensor = (scaled / scaled.norm(dim=1, keepdim=True)).float()
    return unit
