"""The reader of folders in BIDS, the Brain Imaging Data Structure, of iEEG or EEG.

    ROOT/sub-01/ses-01/ieeg/sub-01_ses-01_task-film_run-01_ieeg.vhdr    or .edf, .set and others
                            sub-01_ses-01_task-film_run-01_channels.tsv
                            sub-01_ses-01_task-film_run-01_events.tsv
                            sub-01_ses-01_electrodes.tsv
                            sub-01_ses-01_coordsystem.json

Holdgraf et al., "iEEG-BIDS, extending the Brain Imaging Data Structure specification to human
intracranial electrophysiology", Scientific Data 2019.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ssense.data.coordinates import Place
from ssense.data.recordings.channels import NEURAL_KINDS, Channel, known_region, neural_alone
from ssense.data.recordings.readers.bids_files import (
    Run,
    find_recording,
    sidecar,
    sidecars,
    trial_of,
)
from ssense.data.recordings.readers.mne_file import common_folder, signal_files
from ssense.data.recordings.recording import Recording, checked_rate
from ssense.data.recordings.sentence_table import read_sentence_table
from ssense.data.recordings.signals.copied_signals import CopiedSignals
from ssense.data.recordings.signals.mne_signals import (
    OpenedRaw,
    channel_rates,
    channels_of,
    open_raw,
    read_file,
    units_of,
)
from ssense.data.recordings.tables.delimited import delimited_table
from ssense.data.recordings.tables.file_text import read_text
from ssense.data.recordings.tables.table_spec import TableSpec
from ssense.data.recordings.tables.times import NO_TIME
from ssense.errors import UserError, counted, printable
from ssense.files.tables import listing, read_json_as, require_file
from ssense.signal.contacts import Contact, clean_label, plain_name, read_names
from ssense.specification import identity

if TYPE_CHECKING:
    import mne_bids

# Types of BIDS that MNE calls otherwise; any other is its lower case.
_KINDS = {
    **dict.fromkeys(("veog", "heog", "eyegaze", "pupil"), "eog"),
    **dict.fromkeys(("audio", "other", "ref", "sysclock", "adc", "dac", "pd"), "misc"),
    "trig": "stim",
}
_MILLIMETRES = {"m": 1e3, "cm": 10.0, "mm": 1.0}
_REGIONS = ("region", "anatomical_label", "anatomy", "roi", "area", "location")
"""Columns of electrodes.tsv that data sets name regions in, the first that is there."""
_BRAIN_M = 0.3  # no contact lies farther from the origin of any space
_NEAR_MM = 1.0  # within which not all contacts lie
_RATE_TOLERANCE = 1e-3  # by which tables round
_MOST_NAMED = 4


def open_bids(
    root: Path, run: Run, sentences: Path | None = None, table: TableSpec | None = None
) -> Recording:
    """Open a recording of a BIDS folder.

    Args:
        root: The folder.
        run: Which recording; what is left empty must not be needed to tell it.
        sentences: Table of what was said; the run's events.tsv without.
        table: How the table is read.

    Raises:
        UserError: No recording, or several, are meant; or a file is missing or malformed.
    """
    path = find_recording(root, run)
    signals = Path(str(path.fpath))
    if path.extension == ".nwb":
        raise UserError(
            f"{signals} is NWB, which is read by itself: give it as the recording, and its "
            "events.tsv as `sentences`."
        )
    opened, table = open_raw(signals), table or TableSpec()
    raw = opened.raw
    rate_hz, n_samples = checked_rate(raw.info["sfreq"], signals), len(raw.times)
    events = sentences or _events(path)
    require_file(events, "Check `sentences`.")
    described = sidecar(path, "channels", ".tsv")
    channels, about_channels = _described(opened, described)
    channels, space, about_places = _placed(channels, path)
    files = signal_files(signals, [Path(name) for name in raw.filenames if name])
    read = f"{signals.name}: {n_samples:,} samples at {rate_hz:g} Hz; sentences of {events.name}"
    return Recording.of_sentences(
        read_sentence_table(events, table, rate_hz, n_samples / rate_hz),
        channels=channels,
        n_samples=n_samples,
        sampling_rate_hz=rate_hz,
        signals=CopiedSignals(files, tuple(raw.ch_names), read_file),
        subject=f"sub-{path.subject}",
        trial=trial_of(path),
        title=str(path.task or "recording"),
        space=space,
        root=common_folder([root / "participants.tsv", events]),
        files=files | ({"channels": described} if described else {}) | {"sentences": events},
        read_as=("table", identity(table)),
        stated_rates=_stated_rate(path) | _rates_of_channels(described, channels, opened),
        understood=(read, *opened.understood, *about_places.understood),
        doubts=(*opened.doubts, *about_channels, *about_places.doubts),
        advice=(
            f"Set its status to bad in {described or 'channels.tsv'} ({{name}}), or name the others"
            " with `data.subset`."
        ),
    )


def _events(path: mne_bids.BIDSPath) -> Path:
    if (events := sidecar(path, "events", ".tsv")) is None:
        raise UserError(
            f"{path.fpath} has no events.tsv, which says what was said and when. Write one, or "
            "give a table with `sentences`."
        )
    return events


def _described(opened: OpenedRaw, described: Path | None) -> tuple[list[Channel], list[str]]:
    """Channels as channels.tsv describes them: kinds, units and bad ones; and what looks wrong."""
    channels = channels_of(opened.raw)
    if described is None:
        return list(channels), ["no channels.tsv says what the channels are: by their names"]
    table = _read_tsv(described, ["name"])
    names = [channel.name for channel in channels]
    row_of = _rows([*names, *map(clean_label, opened.left_out)], table["name"])
    found = [
        _row(channel, table, row_of[channel.name]) if channel.name in row_of else channel
        for channel in channels
    ]
    doubts = []
    known = set(row_of.values())
    if missing := [name for row, name in enumerate(table["name"]) if row not in known]:
        doubts.append(
            f"{described.name} describes what the file does not have: "
            f"{listing(missing, most=_MOST_NAMED)}"
        )
    if unknown := [name for name in names if name not in row_of]:
        doubts.append(
            f"{described.name} does not describe {listing(unknown, most=_MOST_NAMED)}: taken for "
            "what the file says"
        )
    stated = {
        channel.name: _unit(table["units"][row_of[channel.name]])
        for channel in found
        if "units" in table and channel.kind in NEURAL_KINDS and channel.name in row_of
    }
    return found, [*doubts, *_unit_doubts(described.name, stated, units_of(opened.raw))]


def _unit_doubts(name: str, stated: Mapping[str, str], of_file: Mapping[str, str]) -> Iterator[str]:
    """What units of channels.tsv contradict: those of the file, by which samples are scaled."""
    against: dict[tuple[str, str], list[str]] = {}
    for channel, unit in stated.items():
        if unit and (other := _unit(of_file.get(channel, ""))) and unit != other:
            against.setdefault((unit, other), []).append(channel)
    for (unit, other), channels in against.items():
        yield (
            f"{name} gives {printable(unit)} as the unit of {listing(channels, most=_MOST_NAMED)}, "
            f"the file {printable(other)}: taken for what the file says"
        )
    alone = {unit for channel, unit in stated.items() if unit and not of_file.get(channel)}
    if len(alone) > 1:
        yield (
            f"{name} gives {listing(sorted(alone))} for channels of one recording: are the signals "
            "of all in the same unit?"
        )


def _unit(text: str) -> str:
    """A unit as BIDS writes it: "µV" for "uV" and for the Greek letter."""
    unit = text.strip().replace("\u03bc", "µ")
    return f"µ{unit[1:]}" if unit.lower() == "uv" else unit


def _row(channel: Channel, table: Mapping[str, Sequence[str]], row: int) -> Channel:
    def value(column: str) -> str:
        return table[column][row].strip() if column in table else ""

    kind = value("type").lower()
    return replace(
        channel,
        kind=_KINDS.get(kind, kind) or channel.kind,
        unit=value("units") or channel.unit,
        is_bad=channel.is_bad or value("status").lower() == "bad",
    )


def _rows(names: Sequence[str], described: Sequence[str]) -> dict[str, int]:
    """The row that describes each channel, by name or, spelt otherwise, by contact."""
    exact = {clean_label(name): row for row, name in enumerate(described)}
    found = {name: exact[name] for name in names if name in exact}
    taken = set(found.values())
    keys = _keys([clean_label(name) for name in described])
    n_of = Counter(keys)
    by_key = {key: row for row, key in enumerate(keys) if n_of[key] == 1 and row not in taken}
    for name, key in zip(names, _keys(names), strict=True):
        if name not in found and key in by_key:
            found[name] = by_key.pop(key)
    return found


def _keys(names: Sequence[str]) -> list[Contact | str]:
    """What a name stands for, however it is spelt: "LA01", "LA 1" and "EEG LA1" are one contact."""
    contacts = {
        name: Contact(contact.shaft.rstrip(" -_."), contact.number)
        for name, contact in read_names(names).contacts.items()
    }
    return [contacts.get(name) or plain_name(name) for name in names]


class _About(NamedTuple):
    """How places were understood, and what looks wrong about them."""

    understood: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


def _placed(
    channels: Sequence[Channel], path: mne_bids.BIDSPath
) -> tuple[list[Channel], str, _About]:
    """Channels with their places, the space of these, and how they were understood.

    Raises:
        UserError: A file is malformed.
    """
    table, system, about = _place_files(path)
    described = table or next(iter(sidecars(path, "electrodes", ".tsv").values()), None)
    channels = _in_regions(channels, described) if described else list(channels)
    if table is None or system is None:
        return channels, "", about
    places, space, said = _places(table, system)
    row_of = _rows([channel.name for channel in channels], list(places))
    at = list(places.values())
    found = [
        replace(each, place=at[row_of[each.name]]) if each.name in row_of else each
        for each in channels
    ]
    understood = (*about.understood, *said.understood)
    doubts = (*about.doubts, *said.doubts, *_without_place(table, found))
    if unmet := len(places) - len(row_of):
        are = "is" if unmet == 1 else "are"
        doubts = (*doubts, f"{counted(unmet, 'contact')} of {table.name} {are} no channel")
    return found, space, _About(understood, doubts)


def _in_regions(channels: Sequence[Channel], table: Path) -> list[Channel]:
    """Channels with the regions that a column of electrodes.tsv names, which BIDS leaves free.

    Raises:
        UserError: The table is malformed.
    """
    columns = _read_tsv(table, ["name"])
    spelt = {name.lower(): name for name in columns}
    column = next((spelt[name] for name in _REGIONS if name in spelt), None)
    if column is None:
        return list(channels)
    row_of = _rows([channel.name for channel in channels], list(columns["name"]))
    regions = [known_region(text) for text in columns[column]]
    return [
        replace(each, region=regions[row_of[each.name]]) if each.name in row_of else each
        for each in channels
    ]


def _without_place(table: Path, channels: Sequence[Channel]) -> Iterator[str]:
    """Which contacts have no place where others have one."""
    contacts = [each for each in neural_alone(channels)[0] if each.kind in NEURAL_KINDS]
    unplaced = [each.name for each in contacts if each.place is None]
    if 0 < len(unplaced) < len(contacts):
        have = "has" if len(unplaced) == 1 else "have"
        yield (
            f"{len(unplaced)} of {len(contacts)} contacts {have} no place in {table.name}: "
            f"{listing(unplaced, most=_MOST_NAMED)}"
        )


def _place_files(path: mne_bids.BIDSPath) -> tuple[Path | None, Path | None, _About]:
    """The electrodes.tsv and coordsystem.json of one space: of several one of MNI, or the first."""
    tables, systems = sidecars(path, "electrodes", ".tsv"), sidecars(path, "coordsystem", ".json")
    if not tables:
        return None, None, _About(("no electrodes.tsv says where the contacts lie",))
    if "" in tables and "" not in systems and len(systems) == 1:
        systems = {**systems, "": next(iter(systems.values()))}
    usable = {
        space: system
        for space in tables
        if (system := systems.get(space) or systems.get("")) is not None
    }
    if not usable:
        which = listing([each.name for each in systems.values()], most=_MOST_NAMED)
        no_one = f"none of {which} is" if systems else "no coordsystem.json is"
        name = next(iter(tables.values())).name
        return None, None, _About((), (f"{name}: {no_one} of its space: places are not used",))
    space = min(usable, key=lambda each: (not each.upper().startswith("MNI"), each))
    said = f"contacts have places in {len(tables)} spaces: those of {tables[space].name} are used"
    return tables[space], usable[space], _About((said,) if len(tables) > 1 else ())


def _places(table: Path, system: Path) -> tuple[dict[str, Place], str, _About]:
    """Places of contacts by name, mm; their space; and how they were understood.

    Raises:
        UserError: A file is malformed, or a place is no number or beyond any head.
    """
    described = read_json_as(system, dict)
    prefix = "iEEG" if "iEEGCoordinateSystem" in described else "EEG"
    space = str(described.get(f"{prefix}CoordinateSystem", ""))
    unit = str(described.get(f"{prefix}CoordinateUnits", "")).lower()
    columns = _read_tsv(table, ["name", "x", "y", "z"])
    numbers = np.stack([_coordinates(table, columns, axis) for axis in "xyz"], axis=1)
    if not np.isfinite(numbers).any():
        return {}, space, _About((f"{table.name} says of no contact where it lies",))
    if (scale := _MILLIMETRES.get(unit)) is None:
        unknown = printable(unit) or "no unit"
        said = f"{table.name}: places in {unknown} are not used, only those in m, cm or mm"
        return {}, space, _About((), (said,))
    placed = scale * numbers
    known = np.all(np.isfinite(placed), axis=1)
    far = known & (np.abs(placed).max(axis=1, initial=0) > 1e3 * _BRAIN_M)
    if np.any(far):
        first = int(np.argmax(far))
        raise UserError(
            f"{table}: {printable(columns['name'][first])} lies "
            f"{np.abs(placed[first]).max() / 1e3:.3g} m from the origin by the unit {unit} of "
            f"{system.name}. Correct the unit there."
        )
    places: dict[str, Place] = {}
    for name, (x, y, z), is_known in zip(
        columns["name"], placed.tolist(), known.tolist(), strict=True
    ):
        if is_known:
            places[clean_label(name)] = x, y, z
    said = f"places of {len(places)} contacts in {space or 'an unnamed space'}"
    farthest_mm = np.abs(placed[known]).max(initial=0)
    if len(places) < 2 or farthest_mm >= _NEAR_MM:
        return places, space, _About((said,))
    near = (
        f"{counted(len(places), 'contact')} of {table.name} lie within {farthest_mm:.2g} mm of the"
    )
    doubt = f"{near} origin by the unit {unit} of {system.name}: is it another?"
    return places, space, _About((said,), (doubt,))


def _coordinates(table: Path, columns: Mapping[str, Sequence[str]], axis: str) -> np.ndarray:
    """Coordinates [rows] of an axis as numbers, NaN where a row has none."""
    cells = columns[axis]
    for row, text in enumerate(cells):
        if text.lower() not in NO_TIME and not math.isfinite(_number(text)):
            raise UserError(
                f'{table}: "{printable(text)}" in column {axis} is no number (contact '
                f"{printable(columns['name'][row])}). Write it with a decimal point, or n/a where "
                "it is not known."
            )
    return np.array([_number(text) for text in cells])


def _stated_rate(path: mne_bids.BIDSPath) -> dict[str, tuple[float | str, ...]]:
    described = sidecar(path, str(path.datatype), ".json")
    if described is None:
        return {}
    stated = read_json_as(described, dict).get("SamplingFrequency")
    if stated is None:
        return {}
    number = _number(str(stated))
    return {"SamplingFrequency": (number if math.isfinite(number) else printable(str(stated)),)}


def _rates_of_channels(
    described: Path | None, channels: Sequence[Channel], opened: OpenedRaw
) -> dict[str, tuple[float | str, ...]]:
    """Rates that channels.tsv states of electrodes, but for those that MNE brings to another."""
    column = "sampling_frequency"
    table = _read_tsv(described, ["name"]) if described else {}
    if column not in table:
        return {}
    rate_hz, of_file = opened.raw.info["sfreq"], channel_rates(opened.raw)
    row_of = _rows([each.name for each in channels], table["name"])
    stated: list[float | str] = []
    for each, name in zip(channels, opened.raw.ch_names, strict=True):
        text = table[column][row_of[each.name]] if each.name in row_of else ""
        if not text or each.kind not in NEURAL_KINDS:
            continue
        number, own_hz = _number(text), of_file.get(name, rate_hz)
        if own_hz == rate_hz or not math.isclose(number, own_hz, rel_tol=_RATE_TOLERANCE):
            stated.append(number if math.isfinite(number) else printable(text))
    return {column: tuple(dict.fromkeys(stated))} if stated else {}


def _read_tsv(path: Path, wanted: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """Columns of one of BIDS's tables, as text; "n/a" is empty.

    Raises:
        UserError: It is malformed, or lacks a wanted column.
    """
    text, _ = read_text(path)
    columns = delimited_table(text, str(path)).columns
    if missing := [name for name in wanted if name not in columns]:
        raise UserError(
            f"{path} has no column {missing[0]}. Found: {listing(list(columns))}. BIDS wants it."
        )
    return {
        name: ["" if (text := str(cell).strip()).lower() == "n/a" else text for cell in cells]
        for name, cells in columns.items()
    }


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
