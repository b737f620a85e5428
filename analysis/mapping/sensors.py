"""Where the channels of EEG and MEG are on a head seen from above, by their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_MONTAGES = ("colin27_1005", "standard_1005")  # the name in MNE from 1.13 on, and before
_LAYOUT = "CTF-275"


@dataclass(frozen=True, kw_only=True, eq=False)
class Sensors:
    """Where channels are.

    Attributes:
        channels: Names of the C channels.
        xy: Places `[C, 2]` on a head seen from above, nose up, whose outline has radius 1; NaN
            where the name is not known.
        layout: What the places are from; empty where no name is known.
    """

    channels: tuple[str, ...]
    xy: np.ndarray
    layout: str = ""

    @classmethod
    def of(cls, channels: Sequence[str]) -> Sensors:
        """The places of channels by MNE's extended 10-20 system, or its layout of CTF's 275.

        The one that knows more of the names; of neither, all places are unknown. CTF's names may
        end in the number of the system, "MLC11-1609".
        """
        found = [_in_montage(channels), _in_layout(channels)]
        best = max(found, key=lambda each: int(each.located.sum()))
        return best if best.located.any() else cls(channels=tuple(channels), xy=best.xy)

    @property
    def located(self) -> np.ndarray:
        """Whose places are known, `[C]` bool."""
        known: np.ndarray = np.isfinite(self.xy).all(axis=1)
        return known

    def of_names(self, names: Sequence[str]) -> np.ndarray:
        """Places `[K, 2]` of some of the channels, in the order of their names."""
        places: np.ndarray = self.xy[[self.channels.index(name) for name in names]]
        return places


def _in_montage(channels: Sequence[str]) -> Sensors:
    """By the angle from the top of the head, which is drawn at its middle, and 90 degrees at 1."""
    from mne.channels import get_builtin_montages, make_standard_montage  # takes a second

    name = next(each for each in _MONTAGES if each in get_builtin_montages())
    known = make_standard_montage(name).get_positions()["ch_pos"]
    by_name = {name.casefold(): place for name, place in known.items()}
    nowhere = np.full(3, np.nan)
    places = np.stack([by_name.get(name.casefold(), nowhere) for name in channels])
    places = places - np.stack([by_name[name] for name in ("t7", "t8")]).mean(axis=0)
    across = np.hypot(places[:, 0], places[:, 1])
    angle = np.arctan2(across, places[:, 2]) / (np.pi / 2)
    xy = places[:, :2] * (angle / np.maximum(across, 1e-9))[:, None]
    return Sensors(channels=tuple(channels), xy=xy, layout="extended 10-20 system (MNE)")


def _in_layout(channels: Sequence[str]) -> Sensors:
    from mne.channels import read_layout

    layout = read_layout(_LAYOUT)
    middles = layout.pos[:, :2] + layout.pos[:, 2:] / 2
    middles = middles - (middles.min(axis=0) + middles.max(axis=0)) / 2
    middles = middles / np.linalg.norm(middles, axis=1).max()
    by_name = dict(zip(map(_plain, layout.names), middles, strict=True))
    nowhere = np.full(2, np.nan)
    xy = np.stack([by_name.get(_plain(name), nowhere) for name in channels])
    return Sensors(channels=tuple(channels), xy=xy, layout=f"layout {_LAYOUT} (MNE)")


def _plain(name: str) -> str:
    return name.partition("-")[0].casefold()
