"""A decision of the race: a configuration is taken out of it, or back into it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A configuration taken out of a race, or back into it.

    Attributes:
        place: Place of the configuration, in order of proposal.
        reason: "behind" a leader; "failed" in a cell; "returned" since those ahead of it failed.
        after_seeds: How many of the first seeds were looked at.
        leader: Place of the configuration that is ahead.
        difference: Difference to the leader in mean score over these seeds.
        standard_error: Standard error of the difference.
        threshold: How many standard errors a configuration may be behind.
    """

    place: int
    reason: Literal["behind", "failed", "returned"]
    after_seeds: int
    leader: int | None = None
    difference: float | None = None
    standard_error: float | None = None
    threshold: float | None = None
