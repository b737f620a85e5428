"""What a report says of a sweep's own question, where its families are of a kind that is known."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from analysis.report.page import Block, Picture


class QuestionReport(ABC):
    """The answer to a sweep's question: a sentence, a table, a figure and a section.

    Attributes:
        name: Name of its figure and of its table.
        title: Title of its section.
    """

    name: ClassVar[str]
    title: ClassVar[str]

    @property
    @abstractmethod
    def quote(self) -> str:
        """The answer, in sentences to quote."""

    @abstractmethod
    def table_rows(self) -> Sequence[Mapping[str, str]]:
        """Lay out what was found for people."""

    @abstractmethod
    def value_rows(self) -> Sequence[Mapping[str, object]]:
        """List what was found as numbers, scores as fractions."""

    @abstractmethod
    def picture(self) -> Picture:
        """The figure."""

    @abstractmethod
    def blocks(self, picture: Picture) -> list[Block]:
        """The section of the report.

        Args:
            picture: The figure, once it is drawn.
        """
