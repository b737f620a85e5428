"""The parts of the input that maps are about: electrodes, groups of them, windows and bands."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np

from analysis.options import MapKind
from ssense.signal.contacts import shafts_of

What = Literal[
    "electrode left out",
    "electrode alone",
    "shaft left out",
    "shaft alone",
    "region left out",
    "region alone",
    "channel left out",
    "channel alone",
    "time window",
    "frequency band",
    "time x frequency",
]
"""What a map says of each of its parts; windows and bands are hidden from the encoder."""
ALONE: tuple[What, ...] = ("electrode alone", "shaft alone", "region alone", "channel alone")


@dataclass(frozen=True, kw_only=True)
class Axes:
    """What the axes of a spectrogram `[E, F, T]`, or of a response `[E, T]`, are.

    Attributes:
        electrodes: Names of the E electrodes or channels.
        rows: Centre frequency in Hz, or name, of each of the F rows; none of a response.
        times_s: Time of each of the T frames, `[T]` seconds after the onset of the sentence or
            image.
    """

    electrodes: Sequence[str]
    rows: Sequence[float | str]
    times_s: np.ndarray

    @property
    def step_s(self) -> float:
        """Seconds from one frame to the next; 0 of a single frame."""
        return float(self.times_s[1] - self.times_s[0]) if len(self.times_s) > 1 else 0.0


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of the input, and what is done to it.

    Attributes:
        what: The kind of the map.
        name: The part as tables name it.
        kept: Electrodes that are left, by number; None for all of them.
        rows: Rows that are hidden, first and last; None where electrodes are left out instead.
        frames: Frames that are hidden, first and last; None likewise.
    """

    what: What
    name: str
    kept: tuple[int, ...] | None = None
    rows: tuple[int, int] | None = None
    frames: tuple[int, int] | None = None


def all_parts(
    kinds: Sequence[MapKind],
    axes: Axes,
    regions: Mapping[str, str],
    windows: int,
    bands: int,
) -> list[Part]:
    """Every part of the maps that are asked for, map by map.

    Groups that hold every electrode are no parts: nothing would be left of the input, or all of it.

    Args:
        kinds: The maps that are asked for.
        axes: The axes of the spectrograms.
        regions: Region of an electrode by name, of those that have one.
        windows: Windows of time; as many as there are frames at most.
        bands: Bands of frequency; as many as there are rows at most.
    """
    n_rows, n_frames = len(axes.rows), len(axes.times_s)
    in_time, in_frequency = _ranges(n_frames, windows), _ranges(n_rows, bands)
    all_rows, all_frames = (0, n_rows - 1), (0, n_frames - 1)
    parts: list[Part] = []
    if "electrodes" in kinds:
        parts += electrode_parts(axes.electrodes, regions)
    if "times" in kinds:
        parts += [_hidden("time window", axes, all_rows, at) for at in in_time]
    if "bands" in kinds:
        parts += [_hidden("frequency band", axes, at, all_frames) for at in in_frequency]
    if "times-bands" in kinds:
        pairs = product(in_frequency, in_time)
        parts += [_hidden("time x frequency", axes, *at) for at in pairs]
    return parts


def electrode_parts(names: Sequence[str], regions: Mapping[str, str]) -> list[Part]:
    """Each electrode, shaft and region left out and alone; a single electrode only alone."""
    single = {name: [number] for number, name in enumerate(names)}
    parts = _left_out(single, len(names), "electrode left out") if len(names) > 1 else []
    parts += _alone(single, "electrode alone")
    if is_divided(shafts := shafts_of(names), len(names)):
        parts += _left_out(shafts, len(names), "shaft left out") + _alone(shafts, "shaft alone")
    if is_divided(areas := regions_of(names, regions), len(names)):
        parts += _left_out(areas, len(names), "region left out") + _alone(areas, "region alone")
    return parts


def channel_parts(names: Sequence[str]) -> list[Part]:
    """Each channel of responses left out and alone; a single channel only alone."""
    single = {name: [number] for number, name in enumerate(names)}
    parts = _left_out(single, len(names), "channel left out") if len(names) > 1 else []
    return parts + _alone(single, "channel alone")


def window_parts(axes: Axes, windows: int) -> list[Part]:
    """Windows of responses, which have no rows; as many as there are frames at most."""
    ranges = _ranges(len(axes.times_s), windows)
    return [Part(what="time window", name=window_name(axes, at), frames=at) for at in ranges]


def is_divided(groups: Mapping[str, Sequence[int]], n: int) -> bool:
    """Whether some of n electrodes are in a group and others are not."""
    return any(len(group) < n for group in groups.values())


def regions_of(names: Sequence[str], regions: Mapping[str, str]) -> dict[str, list[int]]:
    """Numbers of the electrodes in each region, by the regions' names; others are in none."""
    groups: dict[str, list[int]] = defaultdict(list)
    for number, name in enumerate(names):
        if name in regions:
            groups[regions[name]].append(number)
    return dict(sorted(groups.items()))


def _left_out(groups: Mapping[str, Sequence[int]], n: int, what: What) -> list[Part]:
    everyone = range(n)
    return [
        Part(what=what, name=name, kept=tuple(e for e in everyone if e not in set(group)))
        for name, group in groups.items()
        if len(group) < n
    ]


def _alone(groups: Mapping[str, Sequence[int]], what: What) -> list[Part]:
    return [Part(what=what, name=name, kept=tuple(group)) for name, group in groups.items()]


def _ranges(n: int, parts: int) -> list[tuple[int, int]]:
    """First and last of each of some parts of n places in a row, alike in length."""
    chunks = np.array_split(np.arange(n), min(parts, n))
    return [(int(chunk[0]), int(chunk[-1])) for chunk in chunks]


def _hidden(what: What, axes: Axes, rows: tuple[int, int], frames: tuple[int, int]) -> Part:
    words = {
        "time window": [window_name(axes, frames)],
        "frequency band": [band_name(axes, rows)],
    }.get(what, [window_name(axes, frames), band_name(axes, rows)])
    return Part(what=what, name=", ".join(words), rows=rows, frames=frames)


def window_ends_s(axes: Axes, frames: tuple[int, int]) -> tuple[float, float]:
    """Where a window begins and ends, seconds after the sentence's onset: half a frame around."""
    first, last = (float(axes.times_s[place]) for place in frames)
    return first - axes.step_s / 2, last + axes.step_s / 2


def window_name(axes: Axes, frames: tuple[int, int]) -> str:
    """A window as tables name it, "-0.25 to 0.13 s"."""
    # As many that windows of a frame have names of their own; a single frame has no length.
    digits = max(2, math.ceil(-math.log10(axes.step_s))) if axes.step_s else 2
    return " to ".join(f"{end:z.{digits}f}" for end in window_ends_s(axes, frames)) + " s"


def band_name(axes: Axes, rows: tuple[int, int]) -> str:
    """A band as tables name it, "5 to 40 Hz", or by the names of its rows."""
    first, last = (axes.rows[place] for place in rows)
    if isinstance(first, str) or isinstance(last, str):
        return str(first) if first == last else f"{first} to {last}"
    return f"{first:.3g} Hz" if first == last else f"{first:.3g} to {last:.3g} Hz"
