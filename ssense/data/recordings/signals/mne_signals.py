"""Samples and channels of whatever MNE reads: EDF, BDF, BrainVision, FIF, EEGLAB and others."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ssense.data.coordinates import Place
from ssense.data.recordings.channels import Channel
from ssense.data.recordings.signals.array_signals import samples_digest
from ssense.data.recordings.signals.copied_signals import BLOCK_BYTES, Blocks
from ssense.errors import UserError, one_line
from ssense.signal.contacts import clean_label

if TYPE_CHECKING:
    import mne

_MICROVOLTS = 1e6  # in a volt, the unit in which MNE gives samples
_MILLIMETRES = 1e3  # in a metre, in which it gives places


@dataclass(frozen=True, eq=False)
class RawSignals:
    """Samples of a recording that MNE holds open.

    Attributes:
        raw: The recording.
    """

    raw: mne.io.BaseRaw
    name: ClassVar[str] = "the recording of MNE"

    def read(self, number: int, stretches: Sequence[tuple[int, int]]) -> list[np.ndarray]:
        """Read stretches of one channel, see `Signals.read`."""
        return [read_block(self.raw, [number], start, stop)[0] for start, stop in stretches]

    def moved(self, files: Mapping[str, Path]) -> RawSignals:  # noqa: ARG002  (as it is open)
        """The same: it is open."""
        return self

    def where(self, number: int) -> str:
        """The channel's place in a message."""
        return f"channel {self.raw.ch_names[number]}"

    @cached_property
    def content(self) -> str:
        """Hash of the samples."""
        return samples_digest(block for _, block in blocks_of(self.raw))


def open_raw(path: Path) -> mne.io.BaseRaw:
    """Open a recording by MNE; samples are not read yet.

    Raises:
        UserError: MNE can't read it.
    """
    return quietly(path, lambda mne: mne.io.read_raw(path, preload=False, verbose="error"))


def quietly(path: Path, read: Callable[[Any], Any]) -> Any:
    """What MNE reads of a file, without the remarks of its readers.

    Args:
        path: The file or folder, for the message.
        read: Function of the module mne that reads it.

    Raises:
        UserError: It can't be read.
    """
    import mne

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read(mne)
    except UserError:
        raise
    except Exception as error:  # readers of thirty formats raise anything on damaged files
        raise UserError(
            f"MNE can't read {path}: {one_line(error)}. Give a file that mne.io.read_raw opens, "
            "with the files that belong to it beside it."
        ) from error


def channels_of(raw: mne.io.BaseRaw) -> tuple[Channel, ...]:
    """The channels of a recording that MNE holds, with kinds, bad ones, and places in mm."""
    places = _places(raw)
    return tuple(
        Channel(
            name=clean_label(name),
            kind=kind,
            is_bad=name in raw.info["bads"],
            place=places.get(name),
        )
        for name, kind in zip(raw.ch_names, raw.get_channel_types(), strict=True)
    )


def space_of(raw: mne.io.BaseRaw) -> str:
    """The space of the places of a recording's channels, by MNE's name; empty without places."""
    montage = raw.get_montage()
    found = montage.get_positions() if montage is not None else {}
    return str(found.get("coord_frame") or "")


def read_block(raw: mne.io.BaseRaw, channels: Sequence[int], start: int, stop: int) -> np.ndarray:
    """Samples [start, stop) of some channels, microvolts, float64 `[channels, stop - start]`.

    Raises:
        UserError: MNE can't read them.
    """

    def read(_: Any) -> np.ndarray:
        block: np.ndarray = raw.get_data(picks=list(channels), start=start, stop=stop)
        return block * _MICROVOLTS

    found: np.ndarray = quietly(Path(str(raw.filenames[0] or "the recording")), read)
    return found


def _places(raw: mne.io.BaseRaw) -> dict[str, Place]:
    montage = raw.get_montage()
    found = montage.get_positions()["ch_pos"] if montage is not None else {}
    places: dict[str, Place] = {}
    for name, place in found.items():
        if np.isfinite(place).all():
            x, y, z = (_MILLIMETRES * np.asarray(place, dtype=float)).tolist()
            places[name] = x, y, z
    return places


def read_file(path: Path, _: str) -> tuple[tuple[int, int], Blocks]:
    """Numbers of channels and samples of a file, and its samples block after block.

    Raises:
        UserError: MNE can't read it.
    """
    raw = open_raw(path)
    return (len(raw.ch_names), len(raw.times)), blocks_of(raw)


def blocks_of(raw: mne.io.BaseRaw) -> Blocks:
    """All samples block after block, see `Blocks`.

    Raises:
        UserError: MNE can't read them.
    """
    channels, n_samples = range(len(raw.ch_names)), len(raw.times)
    step = max(BLOCK_BYTES // (8 * len(channels)), 1)
    for start in range(0, n_samples, step):
        yield start, read_block(raw, channels, start, min(start + step, n_samples))
