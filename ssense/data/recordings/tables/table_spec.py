"""How a table of sentences or of words is read: names of columns, what makes a sentence, units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ssense.errors import UserError
from ssense.files.plain_values import from_plain
from ssense.signal.checks import check_at_least, check_choice

Grouping = Literal["auto", "none", "column", "punctuation", "gaps"]
TimeUnit = Literal["auto", "seconds", "milliseconds", "samples"]


@dataclass(frozen=True, kw_only=True)
class TableSpec:
    """How a table of sentences or of words is read.

    Attributes:
        onset: Name of the column of onsets [found by the names that people use].
        offset: Name of the column of ends [found likewise].
        duration: Name of the column of durations, used where there is no end [found likewise].
        text: Name of the column of what was said [found likewise].
        speaker: Name of the column of who said it [found likewise, if there is one].
        grouping: What makes sentences of rows. "none": each row is a sentence. "column": rows that
            share a value of a column. "punctuation": rows up to one that ends as sentences do.
            "gaps": rows with no gap over `gap_s` between them. "auto": "none" if rows
            are sentences; if they are words "column" where one numbers sentences, else
            "punctuation" where there is some, else "gaps".
        group: Name of the column that numbers or names the sentence of each word [found likewise].
        gap_s: Longest gap between two words of a sentence in seconds, for "gaps". Most pauses
            within a sentence are shorter than 0.7 s, but so are half of those between sentences in
            a movie: gaps are for want of punctuation.
        time_unit: Unit of the times: "seconds", "milliseconds" or "samples"; "auto"
            takes the one that nothing excludes, and refuses where several are left.
        tier: Name of the tier of a TextGrid or of an export of ELAN; "all" takes each as what one
            speaker said [the only one, or one named after sentences or words].

    Raises:
        ValueError: A field is none of its choices, or `gap_s` is negative.
    """

    onset: str = ""
    offset: str = ""
    duration: str = ""
    text: str = ""
    speaker: str = ""
    grouping: Grouping = "auto"
    group: str = ""
    gap_s: float = 0.7
    time_unit: TimeUnit = "auto"
    tier: str = ""

    def __post_init__(self) -> None:
        check_choice("grouping", self.grouping, Grouping)
        check_choice("time_unit", self.time_unit, TimeUnit)
        check_at_least("gap_s", self.gap_s, 0)

    @classmethod
    def of(cls, given: TableSpec | Mapping[str, object] | None) -> TableSpec:
        """A specification as calls may give it: itself, its fields by name, or None for defaults.

        Raises:
            UserError: There is no such field, or a field is none of its choices.
        """
        if isinstance(given, TableSpec):
            return given
        try:
            return from_plain(cls, given or {})
        except ValueError as error:
            raise UserError(f"table: {error}. See ssense.TableSpec for its fields.") from error

    @property
    def named(self) -> dict[str, str]:
        """Names of columns by what they mean; empty where they are to be found."""
        roles = ("onset", "offset", "duration", "text", "speaker")
        return {role: getattr(self, role) for role in roles}
