"""A target from a file of vectors: any embedding that somebody has computed elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from ssense.errors import UserError, counted, printable
from ssense.files.digest import weights_identity
from ssense.targets.target import TargetSpec
from ssense.targets.vector_table import Id, VectorTable, as_id, id_file, read_vectors

_REMEMBERED = 2  # tables in memory, which may be large


@dataclass(frozen=True, kw_only=True)
class VectorSpec(TargetSpec):
    """Vectors by sentence, or by the sentence's number in the recording.

    Ids that are all whole numbers are numbers, by which one text may have several vectors: of a
    model that has read what was said before it.

    Attributes:
        file: The vectors, as .npy or .safetensors with the ids beside them, or as .parquet; default
            "", none.
    """

    kind: ClassVar[str] = "vectors"

    file: str = ""

    @property
    def name(self) -> str:
        """The file as people read it, without folders: "vectors words.npy"."""
        return f"{self.kind} {Path(self.file).name}"

    @property
    def is_away(self) -> bool:
        """Whether the file is not on this machine."""
        return not Path(self.file).is_file()

    def by_content(self) -> VectorSpec:
        """Name vectors and ids by their content, wherever they lie."""
        return self if self.is_away else replace(self, file=self._identity)

    def origin(self) -> dict[str, str]:
        """Everything the embeddings depend on: vectors and ids by their content."""
        return {"vectors": self._identity}

    @property
    def _identity(self) -> str:
        ids = id_file(Path(self.file))
        return " ".join(map(weights_identity, [self.file, *([str(ids)] if ids else [])]))

    def check(self) -> None:
        """Refuse a file that holds no vectors by id.

        Raises:
            UserError: The file can't be read, or a vector can't be used.
        """
        self._table()

    def dimensions(self) -> int:
        """Dimensions of the embeddings.

        Raises:
            UserError: The file can't be read, or a vector can't be used.
        """
        return self._table().vectors.shape[1]

    def embed(self, sentences: Sequence[str], numbers: Sequence[int] | None = None) -> Tensor:
        """The vectors of sentences by text or number, see `TargetSpec`.

        Raises:
            UserError: The file can't be read, or has no vector for a sentence.
        """
        table = self._table()
        if table.by_number and numbers is None:
            raise UserError(
                f"{self.file} has vectors by the sentences' numbers, which are not known here. Use "
                "the sentences themselves for ids."
            )
        ids: list[Id] = [*map(int, numbers or ())] if table.by_number else [*map(as_id, sentences)]
        missing = [row for row, each in enumerate(ids) if each not in table.rows]
        if missing:
            first = printable(sentences[missing[0]])
            number = f" (number {ids[missing[0]]})" if table.by_number else ""
            raise UserError(
                f"{self.file} has no vector for {len(missing):,} of "
                f"{counted(len(ids), 'sentence')}, such as “{first}”{number}. Add what is missing: "
                "ids are the sentences as the recording has them, or their numbers there."
            )
        return table.vectors[[table.rows[each] for each in ids]]

    def _table(self) -> VectorTable:
        if not self.file:
            raise UserError(
                f"a target of {self.kind} names no file. Give .npy, .parquet or .safetensors."
            )
        return _read(self.file, self._identity)


@lru_cache(maxsize=_REMEMBERED)
def _read(file: str, identity: str) -> VectorTable:  # noqa: ARG001 - read again if it changes
    return read_vectors(Path(file))
