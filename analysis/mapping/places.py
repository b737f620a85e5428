"""Where the electrodes of a map lie in MNI152 space, and in which regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np


@dataclass(frozen=True, kw_only=True, eq=False)
class Places:
    """Where electrodes lie, as far as it is known.

    Attributes:
        electrodes: Names of the E electrodes.
        mm: Coordinates `[E, 3]` float64, mm, in MNI152 space: x to the right, y to the front, z up.
            NaN where they are not known, or are known in another space only.
        regions: Region of each electrode; empty where it is in none that is known.
        space: Space that the coordinates were given in, such as "MNI152" or "fsaverage"; empty
            where none are in a space of MNI.
        region_source: What names the regions: a column of the recording's files, a table, or an
            atlas; empty where there are none.
    """

    electrodes: tuple[str, ...]
    mm: np.ndarray
    regions: tuple[str, ...]
    space: str = ""
    region_source: str = ""

    @classmethod
    def unknown(cls, electrodes: Sequence[str]) -> Self:
        """The places of electrodes of which nothing is known."""
        n = len(electrodes)
        return cls(electrodes=tuple(electrodes), mm=np.full((n, 3), np.nan), regions=("",) * n)

    @property
    def located(self) -> np.ndarray:
        """Whose coordinates are known, `[E]` bool."""
        known: np.ndarray = np.isfinite(self.mm).all(axis=1)
        return known

    @property
    def without_coordinates(self) -> list[str]:
        """Names of the electrodes whose coordinates are not known."""
        return [
            name for name, known in zip(self.electrodes, self.located, strict=True) if not known
        ]

    @property
    def region_of(self) -> Mapping[str, str]:
        """Region of an electrode by name, of those that have one."""
        named = zip(self.electrodes, self.regions, strict=True)
        return {name: region for name, region in named if region}

    @property
    def without_region(self) -> list[str]:
        """Names of the electrodes whose region is not known."""
        return [name for name in self.electrodes if name not in self.region_of]

    def of(self, names: Sequence[str]) -> Self:
        """The places of some of the electrodes, in the order of their names."""
        at = [self.electrodes.index(name) for name in names]
        regions = tuple(self.regions[each] for each in at)
        return replace(self, electrodes=tuple(names), mm=self.mm[at], regions=regions)
