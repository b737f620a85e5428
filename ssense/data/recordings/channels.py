"""Channels of a recording: what each records, where it lies, and how its samples are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from ssense.data.coordinates import Place
from ssense.errors import UserError, printable
from ssense.signal.contacts import clean_label, grids, not_neural, read_names, sheets

NEURAL_KINDS = ("seeg", "ecog", "dbs", "eeg")
"""Kinds of channels that record the brain, by MNE's names, in microvolts."""
AUXILIARY_KIND = "misc"
"""Kind of a channel that records no brain, where its source does not say what it records."""
_OTHER_KINDS = (
    *("misc", "ecg", "eog", "emg", "stim", "resp", "bio", "gsr", "temperature", "eyegaze"),
    *("pupil", "syst", "exci", "ias", "ref_meg", "mag", "grad", "csd", "dipole", "gof", "chpi"),
    *("fnirs_cw_amplitude", "fnirs_fd_ac_amplitude", "fnirs_fd_phase", "fnirs_od", "hbo", "hbr"),
    *("fnirs_td_gated_amplitude", "fnirs_td_moments_intensity", "fnirs_td_moments_mean"),
    "fnirs_td_moments_variance",
)
"""Kinds that record no potential of the brain, by MNE's names too."""
_SCALP = "eeg"
_NO_REGION = ("", "n/a", "nan", "none", "unknown", "null")


@dataclass(frozen=True, kw_only=True)
class Channel:
    """One channel of a recording.

    Attributes:
        name: Its name, without what label files add.
        kind: What it records, by MNE's names: one of `NEURAL_KINDS`, or "misc", "ecg" and others.
        unit: Unit that its source states; signals are given in microvolts whatever it is.
        is_bad: Whether the source advises against it.
        place: Coordinates, mm, in the space of the recording; None where they are not known.
        region: Region of the brain that its source says it is in; empty where it says none.
    """

    name: str
    kind: str = "seeg"
    unit: str = "µV"
    is_bad: bool = False
    place: Place | None = None
    region: str = ""


class Signals(Protocol):
    """Samples of a recording's channels, read when they are asked for."""

    def read(self, number: int, stretches: Sequence[tuple[int, int]]) -> list[np.ndarray]:
        """Read stretches [start, stop) of one channel: float64 arrays [stop - start], microvolts.

        Args:
            number: Number of the channel in the recording's channels.
            stretches: First sample of each, and the one after its last.

        Raises:
            UserError: The samples can't be read.
        """

    def moved(self, files: Mapping[str, Path]) -> Signals:
        """The same signals with the recording's files elsewhere."""

    def where(self, number: int) -> str:
        """The channel's place in a message: its file, and its name there."""

    @property
    def name(self) -> str:
        """The samples in a message: the name of their file."""

    @property
    def content(self) -> str:
        """Hash of samples that lie in no file; empty where they do."""


def known_region(text: str) -> str:
    """The name of a region as a table has it; empty for what only says that it is not known."""
    return "" if text.strip().lower() in _NO_REGION else text.strip()


def checked_channels(given: Iterable[str | Channel]) -> list[Channel]:
    """Channels of a user, a name or a `Channel` each.

    Raises:
        UserError: One has no name, a kind that MNE has not, or a place that is none.
    """
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise UserError(
            f"`channels` is {printable(repr(given))}. Give a list with a name for every channel."
        )
    return [_checked(each, number) for number, each in enumerate(given)]


def _checked(given: object, number: int) -> Channel:
    channel = given if isinstance(given, Channel) else Channel(name=given)  # type: ignore[arg-type]
    for what in ("name", "kind", "unit", "region"):
        value = getattr(channel, what)
        if not isinstance(value, str) or not (what == "region" or clean_label(value)):
            raise UserError(
                f"the {what} of channel {number} is {printable(repr(value))}. Give a text."
            )
    if channel.kind not in (*NEURAL_KINDS, *_OTHER_KINDS):
        raise UserError(
            f"the kind of {printable(channel.name)} is {printable(channel.kind)}, which MNE has "
            f"not. Give {', '.join(NEURAL_KINDS)} for an electrode, or one such as "
            f"{', '.join(_OTHER_KINDS[:5])} for what records no brain."
        )
    place = None if channel.place is None else np.asarray(channel.place)
    if place is not None and (place.shape != (3,) or place.dtype.kind not in "fiu"):
        raise UserError(
            f"the place of {printable(channel.name)} is {printable(repr(channel.place))}. Give x, "
            "y and z in mm, or None."
        )
    x, y, z = (0.0, 0.0, 0.0) if place is None else place.tolist()
    known = place is not None and bool(np.isfinite(place).all())
    return replace(
        channel,
        name=clean_label(channel.name),
        is_bad=bool(channel.is_bad),
        place=(float(x), float(y), float(z)) if known else None,
    )


def neural_alone(channels: Sequence[Channel]) -> tuple[tuple[Channel, ...], tuple[str, ...]]:
    """Take channels for no electrodes that their names, or those beside them, say are none.

    A name such as ECG or TRIG1 counts where the source calls every channel EEG, as EDF does.
    Electrodes on the scalp do not count beside electrodes in or on the brain.

    Args:
        channels: The channels as their source describes them.

    Returns:
        The channels, and a sentence on each group that was taken for another kind.
    """
    electrodes = [each for each in channels if each.kind in NEURAL_KINDS]
    named_otherwise = not_neural([each.name for each in electrodes])
    inside = any(e.kind != _SCALP for e in electrodes if e.name not in named_otherwise)
    scalp = [e.name for e in electrodes if inside and e.kind == _SCALP]
    others = named_otherwise.union(scalp)
    said = []
    if scalp_left := [name for name in scalp if name not in named_otherwise]:
        said.append(
            f"{len(scalp_left)} on the scalp ({', '.join(scalp_left[:3])}"
            f"{', …' if len(scalp_left) > 3 else ''}) are not used beside those in the brain"
        )
    found = tuple(
        replace(each, kind=AUXILIARY_KIND)
        if each.kind in NEURAL_KINDS and each.name in others
        else each
        for each in channels
    )
    return found, tuple(said)


def grids_of(channels: Sequence[Channel]) -> frozenset[str]:
    """Names of grids and strips among the shafts: those with more contacts than a depth electrode.

    Or on a sheet by their coordinates, see `ssense.signal.contacts`.
    """
    names = [channel.name for channel in channels if channel.kind in NEURAL_KINDS]
    contacts = read_names(names).contacts
    places = {
        contacts[channel.name]: np.array(channel.place)
        for channel in channels
        if channel.name in contacts and channel.place is not None
    }
    return grids(contacts.values()) | sheets(places)
