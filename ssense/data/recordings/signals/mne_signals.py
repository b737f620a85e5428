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
from ssense.data.recordings.signals.edf_header import EDF_SUFFIXES, read_edf_header, refuse_gaps
from ssense.errors import UserError, one_line, printable
from ssense.files.tables import listing
from ssense.signal.contacts import clean_label, not_neural

if TYPE_CHECKING:
    import mne

_MICROVOLTS = 1e6  # in a volt, the unit in which MNE gives samples
_MILLIMETRES = 1e3  # in a metre, in which it gives places
_REMARK_CHARACTERS = 300
# Units of EDF that MNE scales to volts; the second and third µ are the letter's, and Shift JIS's.
_UNITS_OF_EDF = ("uV", "\u00b5V", "\u03bcV", "\x83\xcaV", "mV", "V")
_HEAD = 2**16  # bytes
# Headers by the files of samples and markers that they name: BrainVision's, EEGLAB's.
_HEADERS = {**dict.fromkeys((".eeg", ".vmrk", ".dat"), ".vhdr"), ".fdt": ".set"}
_OF_NAMES = "does not conform to MNE naming conventions"  # of files, which harms nobody


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


@dataclass(frozen=True, kw_only=True)
class OpenedRaw:
    """A file that MNE opened, and what it makes of it.

    Attributes:
        raw: The recording; samples are not read yet.
        left_out: Channels of the file that are not read, by name.
        understood: How the file is read, a sentence each.
        doubts: What looks wrong about it, a sentence each.
    """

    raw: mne.io.BaseRaw
    left_out: tuple[str, ...] = ()
    understood: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


def open_raw(path: Path) -> OpenedRaw:
    """Open a recording by MNE; samples are not read yet.

    Channels that record no brain are left out where their rate is not that of the electrodes: MNE
    would bring all to the highest rate, block by block.

    Raises:
        UserError: MNE can't read it, another file of the recording leads to it, it has gaps, or two
            electrodes have one name.
    """
    _refuse_part(path)
    refuse_gaps(path)
    remarks: list[str] = []
    raw = _read_raw(path, remarks)
    _refuse_repeated(path, raw.ch_names, remarks)
    # Of GDF, MNE reads other channels than those that are left when some are left out.
    left_out = _at_other_rates(raw) if path.suffix.lower() in EDF_SUFFIXES else {}
    if left_out:
        raw = _read_raw(path, remarks, exclude=list(left_out))
    return OpenedRaw(
        raw=raw,
        left_out=tuple(left_out),
        understood=_not_read(left_out),
        doubts=(
            *(f"MNE remarks on {path.name}: {text}" for text in dict.fromkeys(remarks)),
            *doubts_of(raw),
            *_unit_doubts(path),
        ),
    )


def _refuse_part(path: Path) -> None:
    """Refuse the samples or markers of a recording whose header, beside them, is to be given."""
    suffix = _HEADERS.get(path.suffix.lower())
    if suffix is None or not path.is_file():
        return
    beside = sorted(each for each in path.parent.iterdir() if each.suffix.lower() == suffix)
    of_name = [each for each in beside if each.stem == path.stem]
    if found := of_name or [each for each in beside if _names(each, path.name)]:
        raise UserError(
            f"{path} is a part of a recording, to which its header leads. Give the header: "
            f"{found[0]}."
        )


def _names(header: Path, name: str) -> bool:
    """Whether the beginning of a header has a file's name."""
    with header.open("rb") as file:
        return name.encode() in file.read(_HEAD)


def own_raw(raw: object) -> mne.io.BaseRaw:
    """A copy of a recording that MNE holds, which stays as it is whatever becomes of the other.

    Raises:
        UserError: It is no recording of MNE, its file has gaps, or MNE would resample channels of
            it piece by piece.
    """
    import mne

    if not isinstance(raw, mne.io.BaseRaw):
        raise UserError(
            f"`raw` is {printable(repr(raw))}, a {type(raw).__name__}. Give what mne.io.read_raw "
            "returns, or open a file with ssense.open_recording."
        )
    for path in filter(None, raw.filenames):
        refuse_gaps(Path(path))
    if len(rates := set(channel_rates(raw).values())) > 1:
        raise UserError(
            f"the channels of `raw` have {listing([f'{rate:g}' for rate in sorted(rates)])} samples"
            " a second in their file, and MNE would resample them piece by piece. Read it with "
            "preload=True."
        )
    return raw.copy()


def doubts_of(raw: mne.io.BaseRaw) -> tuple[str, ...]:
    """What looks wrong about a recording that MNE holds, a sentence each."""
    doubts = []
    rate_hz = raw.info["sfreq"]
    slower = {name: rate for name, rate in channel_rates(raw).items() if rate != rate_hz}
    if slower:
        doubts.append(
            f"MNE brings {_with_rates(slower)} to the {rate_hz:g} Hz of the fastest channel"
        )
    bad = [
        (text, length_s)
        for text, length_s in zip(
            raw.annotations.description, raw.annotations.duration, strict=True
        )
        if str(text).upper().startswith("BAD")
    ]
    if bad:
        are = "stretch is" if len(bad) == 1 else "stretches are"
        doubts.append(
            f"{len(bad)} {are} annotated as bad ({listing(sorted({str(text) for text, _ in bad}))};"
            f" {sum(length_s for _, length_s in bad):.3g} s in all): they are used as any other"
        )
    return tuple(doubts)


def channel_rates(raw: mne.io.BaseRaw) -> dict[str, float]:
    """Samples per second of each channel in its file, where MNE resamples as it reads.

    It does so with EDF, BDF and GDF; empty for other formats and for samples that are in memory,
    which were resampled as a whole.
    """
    # No public attribute tells it, and GDF has another header than EDF.
    of_file = raw._raw_extras[0] if len(raw._raw_extras) else None
    if raw.preload or not isinstance(of_file, dict) or "max_samp" not in of_file:
        return {}
    samples = of_file["n_samps"][of_file["sel"]][raw._read_picks[0]]
    rates = raw.info["sfreq"] * samples / of_file["max_samp"]
    return dict(zip(raw.ch_names, rates.tolist(), strict=True))


def _read_raw(path: Path, remarks: list[str], **given: Any) -> mne.io.BaseRaw:
    def read(mne: Any) -> mne.io.BaseRaw:
        return mne.io.read_raw(path, preload=False, verbose="warning", **given)

    raw: mne.io.BaseRaw = quietly(path, read, remarks)
    return raw


def _refuse_repeated(path: Path, names: Sequence[str], remarks: Sequence[str]) -> None:
    """Refuse electrodes of one name: the numbers that MNE gives them would make a shaft of them."""
    if not any("names are not unique" in text for text in remarks):
        return
    first = [name.removesuffix("-0") for name in names if name.endswith("-0")]
    repeated = [name for name in first if f"{name}-1" in names]
    if electrodes := [name for name in repeated if name not in not_neural(repeated)]:
        raise UserError(
            f"{path} has {listing(electrodes)} more than once. Give every channel of the file a "
            "name of its own."
        )


def _at_other_rates(raw: mne.io.BaseRaw) -> dict[str, float]:
    """Channels that record no brain and have a rate that no electrode has; their rates, Hz."""
    rates = channel_rates(raw)
    others = not_neural(list(rates))
    of_electrodes = {rate for name, rate in rates.items() if name not in others}
    if not of_electrodes:
        return {}
    return {n: rate for n, rate in rates.items() if n in others and rate not in of_electrodes}


def _not_read(left_out: Mapping[str, float]) -> tuple[str, ...]:
    if not left_out:
        return ()
    are = "is" if len(left_out) == 1 else "are"
    return (f"{_with_rates(left_out)} {are} not read: the electrodes have another rate",)


def _with_rates(rates: Mapping[str, float]) -> str:
    return listing([f"{name} ({rate:g} Hz)" for name, rate in rates.items()], most=6)


def _unit_doubts(path: Path) -> list[str]:
    """What of an EDF file's units MNE takes for volts though they are none."""
    header = read_edf_header(path)
    if header is None:
        return []
    others = not_neural(header.labels)
    by_unit: dict[str, list[str]] = {}
    for name, unit in zip(header.labels, header.units, strict=True):
        if name not in others and unit not in _UNITS_OF_EDF:
            by_unit.setdefault(unit, []).append(name)
    return [
        f"{path.name} gives {printable(unit) if unit else 'no unit'} as the unit of "
        f"{listing(names, most=4)}, none of µV, mV and V: taken for volts"
        for unit, names in by_unit.items()
    ]


def quietly(path: Path, read: Callable[[Any], Any], remarks: list[str] | None = None) -> Any:
    """What MNE reads of a file, without the remarks of its readers on screen.

    Args:
        path: The file or folder, for the message.
        read: Function of the module mne that reads it.
        remarks: List that the remarks are added to, a line each.

    Raises:
        UserError: It can't be read.
    """
    import mne

    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = read(mne)
    except UserError:
        raise
    except Exception as error:  # readers of thirty formats raise anything on damaged files
        raise UserError(
            f"MNE can't read {path}: {one_line(error)}. Give a file that mne.io.read_raw opens, "
            "with the files that belong to it beside it."
        ) from error
    if remarks is not None:
        said = [str(each.message) for each in caught if each.category is RuntimeWarning]
        remarks.extend(
            printable(text, _REMARK_CHARACTERS).rstrip(".")
            for text in said
            if _OF_NAMES not in text
        )
    return found


def channels_of(raw: mne.io.BaseRaw) -> tuple[Channel, ...]:
    """The channels of a recording that MNE holds, with kinds, bad ones, and places in mm."""
    places, units = _places(raw), units_of(raw)
    return tuple(
        Channel(
            name=clean_label(name),
            kind=kind,
            unit=units.get(clean_label(name), Channel.unit),
            is_bad=name in raw.info["bads"],
            place=places.get(name),
        )
        for name, kind in zip(raw.ch_names, raw.get_channel_types(), strict=True)
    )


def units_of(raw: mne.io.BaseRaw) -> dict[str, str]:
    """Unit of each channel in its file, by name without marks; of those that MNE knows."""
    known = getattr(raw, "_orig_units", None) or {}  # no public attribute tells it
    return {clean_label(name): unit for name, unit in known.items() if unit and unit != "n/a"}


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
    raw = open_raw(path).raw
    if len(set(channel_rates(raw).values())) > 1:
        # MNE resamples what it reads at once, without what lies before and after.
        quietly(path, lambda _: raw.load_data(verbose="error"))
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
