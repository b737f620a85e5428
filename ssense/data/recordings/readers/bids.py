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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ssense.data.coordinates import Place
from ssense.data.recordings.channels import AUXILIARY_KIND, Channel
from ssense.data.recordings.readers.mne_file import common_folder, signal_files
from ssense.data.recordings.recording import Recording, checked_rate
from ssense.data.recordings.sentence_table import read_sentence_table
from ssense.data.recordings.signals.copied_signals import CopiedSignals
from ssense.data.recordings.signals.mne_signals import (
    channels_of,
    open_raw,
    quietly,
    read_file,
)
from ssense.data.recordings.tables.delimited import delimited_table
from ssense.data.recordings.tables.file_text import read_text
from ssense.data.recordings.tables.table_spec import TableSpec
from ssense.errors import UserError, counted, printable
from ssense.files.tables import listing, read_json_as, require_file
from ssense.signal.contacts import clean_label, read_names
from ssense.specification import identity

if TYPE_CHECKING:
    import mne_bids

ENTITIES = ("subject", "session", "task", "run")
_SHORT = {"subject": "sub", "session": "ses", "task": "task", "run": "run"}
_DATATYPES = ("ieeg", "eeg")
_SIDECARS = {".tsv", ".json", ".eeg", ".vmrk", ".fdt", ".gz", ".txt", ".md", ".html", ".svg"}
# Types of BIDS that MNE calls otherwise; any other is its lower case.
_KINDS = {
    **dict.fromkeys(("veog", "heog", "eyegaze", "pupil"), "eog"),
    **dict.fromkeys(("audio", "other", "ref", "sysclock", "adc", "dac", "pd", "n/a"), "misc"),
    "trig": "stim",
}
_MILLIMETRES = {"m": 1e3, "cm": 10.0, "mm": 1.0}
_BRAIN_M = 0.3  # no contact lies farther from the origin of any space
_MOST_NAMED = 4


@dataclass(frozen=True, kw_only=True)
class Run:
    """Which recording of a BIDS folder: values of its entities, empty for any.

    Attributes:
        subject: Label of the subject, "01" or "sub-01".
        session: Label of the session.
        task: Label of the task.
        run: Label of the run.
    """

    subject: str = ""
    session: str = ""
    task: str = ""
    run: str = ""

    def labels(self) -> dict[str, str]:
        """Labels by entity without their prefixes, of those that are given."""
        found = {each: getattr(self, each) for each in ENTITIES if getattr(self, each)}
        return {each: label.removeprefix(f"{_SHORT[each]}-") for each, label in found.items()}


def is_bids(root: Path) -> bool:
    """Whether a folder is one of BIDS."""
    return (root / "dataset_description.json").is_file() or any(
        path.is_dir() for path in root.glob("sub-*")
    )


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
    path = _find(root, run)
    signals = Path(str(path.fpath))
    if path.extension == ".nwb":
        raise UserError(
            f"{signals} is NWB, which is read by itself: give it as the recording, and its "
            "events.tsv as `sentences`."
        )
    opened = open_raw(signals)
    raw = opened.raw
    rate_hz, n_samples = checked_rate(raw.info["sfreq"], signals), len(raw.times)
    events = sentences or _sidecar(path, "events", ".tsv")
    if events is None:
        raise UserError(
            f"{signals} has no events.tsv, which says what was said and when. Write one, or give "
            "a table with `sentences`."
        )
    require_file(events, "Check `sentences`.")
    table = table or TableSpec()
    spoken = read_sentence_table(events, table, rate_hz, n_samples / rate_hz)
    channels, doubts = _described(
        channels_of(raw), opened.left_out, _sidecar(path, "channels", ".tsv")
    )
    places, space, about_places = _places(path)
    placed, unplaced = _placed(channels, places)
    files = signal_files(signals, [Path(name) for name in raw.filenames if name])
    if (described := _sidecar(path, "channels", ".tsv")) is not None:
        files["channels"] = described
    return Recording.of_sentences(
        spoken,
        channels=placed,
        n_samples=n_samples,
        sampling_rate_hz=rate_hz,
        signals=CopiedSignals(
            {role: file for role, file in files.items() if role != "channels"},
            tuple(raw.ch_names),
            read_file,
        ),
        subject=f"sub-{path.subject}",
        trial=_trial(path),
        title=str(path.task or "recording"),
        space=space,
        root=common_folder([root / "participants.tsv", events]),
        files={**files, "sentences": events},
        read_as=("table", identity(table)),
        stated_rates=_stated_rate(path),
        understood=(
            f"{signals.name}: {n_samples:,} samples at {rate_hz:g} Hz; sentences of {events.name}",
            *opened.understood,
            *about_places,
        ),
        doubts=(*opened.doubts, *doubts, *unplaced),
        advice=(
            f"Set its status to bad in {files.get('channels', 'channels.tsv')} ({{name}}), or name "
            "the others with `data.subset`."
        ),
    )


def _find(root: Path, run: Run) -> mne_bids.BIDSPath:
    """The one recording that is meant."""
    import mne_bids

    def paths(_: Any) -> list[mne_bids.BIDSPath]:
        return list(mne_bids.find_matching_paths(root, datatypes=list(_DATATYPES)))

    everything = [
        path
        for path in quietly(root, paths)
        if path.suffix in _DATATYPES and path.extension not in _SIDECARS
    ]
    if not everything:
        raise UserError(
            f"{root} has no recording of iEEG or EEG such as sub-01/ieeg/sub-01_task-film_ieeg.edf."
            " Give the folder of a BIDS data set with its signals."
        )
    left = everything
    for entity, label in run.labels().items():
        found = _labels(left, entity)
        left = [path for path in left if _same(getattr(path, entity), label)]
        if not left:
            raise UserError(
                f"no {entity} {printable(label)} in {root}. Found: {listing(found)}. Check "
                f"`{entity}`."
            )
    for entity in ENTITIES:
        if len(found := _labels(left, entity)) > 1:
            raise UserError(
                f"{root} has {counted(len(left), 'recording')} that may be meant. Say which "
                f"{entity} with `{entity}`: {listing(found)}."
            )
    if len(left) > 1:
        raise UserError(
            f"{root} has {len(left)} files for one run: "
            f"{listing([path.basename for path in left], most=_MOST_NAMED)}. Leave one there."
        )
    return left[0]


def _labels(paths: Iterable[mne_bids.BIDSPath], entity: str) -> list[str]:
    return sorted({str(getattr(path, entity) or "none") for path in paths})


def _same(label: str | None, wanted: str) -> bool:
    """Whether two labels are the same; of whole numbers zeros in front don't count."""
    if label is None:
        return False
    if label.isdigit() and wanted.isdigit():
        return int(label) == int(wanted)
    return label == wanted


def _trial(path: mne_bids.BIDSPath) -> str:
    parts = [(short, getattr(path, entity)) for entity, short in _SHORT.items()][1:]
    return " ".join(f"{short}-{label}" for short, label in parts if label) or "recording"


def _sidecar(path: mne_bids.BIDSPath, suffix: str, extension: str) -> Path | None:
    """The file beside a recording that describes it, by BIDS's rule of inheritance."""

    def found(_: Any) -> Path | None:
        sidecar = path.copy().update(suffix=None, extension=None)
        where = sidecar.find_matching_sidecar(suffix=suffix, extension=extension, on_error="ignore")
        return Path(str(where)) if where is not None else None

    which: Path | None = quietly(Path(str(path.fpath)), found)
    return which


def _described(
    channels: Sequence[Channel], left_out: Sequence[str], described: Path | None
) -> tuple[list[Channel], list[str]]:
    """Channels as channels.tsv describes them: kinds, units and bad ones; and what looks wrong."""
    if described is None:
        return list(channels), ["no channels.tsv says what the channels are: by their names"]
    table = _read_tsv(described, ["name"])
    rows = {clean_label(name): row for row, name in enumerate(table["name"])}
    found, doubts = [], []
    for channel in channels:
        row = rows.get(channel.name)
        found.append(channel if row is None else _row(channel, table, row))
    names = {channel.name for channel in channels}.union(map(clean_label, left_out))
    if missing := [name for name in rows if name not in names]:
        doubts.append(
            f"{described.name} describes what the file does not have: "
            f"{listing(missing, most=_MOST_NAMED)}"
        )
    if unknown := [channel.name for channel in channels if channel.name not in rows]:
        doubts.append(
            f"{described.name} does not describe {listing(unknown, most=_MOST_NAMED)}: taken for "
            "what the file says"
        )
    units = {channel.unit for channel in found if channel.kind in ("seeg", "ecog", "dbs", "eeg")}
    if len(units) > 1:
        doubts.append(
            f"{described.name} gives {listing(sorted(units))} for channels of one recording: are "
            "the signals of all in the same unit?"
        )
    return found, doubts


def _row(channel: Channel, table: Mapping[str, Sequence[str]], row: int) -> Channel:
    def value(column: str) -> str:
        return table[column][row].strip() if column in table else ""

    kind = value("type").lower()
    return replace(
        channel,
        kind=_KINDS.get(kind, kind) or AUXILIARY_KIND,
        unit=value("units") or channel.unit,
        is_bad=value("status").lower() == "bad",
    )


def _places(path: mne_bids.BIDSPath) -> tuple[dict[str, Place], str, list[str]]:
    """Places of contacts by name, mm; their space; and how they were understood.

    Raises:
        UserError: A file is malformed.
    """
    table = _sidecar(path, "electrodes", ".tsv")
    system = _sidecar(path, "coordsystem", ".json")
    if table is None:
        return {}, "", ["no electrodes.tsv says where the contacts lie"]
    described: dict[str, Any] = read_json_as(system, dict) if system is not None else {}
    prefix = "iEEG" if "iEEGCoordinateSystem" in described else "EEG"
    space = str(described.get(f"{prefix}CoordinateSystem", ""))
    unit = str(described.get(f"{prefix}CoordinateUnits", "")).lower()
    columns = _read_tsv(table, ["name", "x", "y", "z"])
    numbers = np.array([[_number(each) for each in columns[axis]] for axis in "xyz"]).T
    if not np.isfinite(numbers).any():
        return {}, space, [f"{table.name} says of no contact where it lies"]
    if (scale := _MILLIMETRES.get(unit)) is None:
        return {}, space, [f"{table.name}: places in {unit or 'no unit'} are not used"]
    placed = scale * numbers.reshape(-1, 3)
    known = np.all(np.isfinite(placed), axis=1)
    far = known & (np.abs(placed).max(axis=1, initial=0) > 1e3 * _BRAIN_M)
    if np.any(far):
        first = int(np.argmax(far))
        raise UserError(
            f"{table}: {printable(columns['name'][first])} lies "
            f"{np.abs(placed[first]).max() / 1e3:.3g} m from the origin by the unit {unit} of "
            f"{system.name if system else 'coordsystem.json'}. Correct the unit there."
        )
    places: dict[str, Place] = {}
    for name, (x, y, z), is_known in zip(
        columns["name"], placed.tolist(), known.tolist(), strict=True
    ):
        if is_known:
            places[clean_label(name)] = x, y, z
    return places, space, [f"places of {len(places)} contacts in {space or 'an unnamed space'}"]


def _placed(
    channels: Sequence[Channel], places: Mapping[str, Place]
) -> tuple[list[Channel], list[str]]:
    """Channels with their places, by name or, spelt otherwise, by contact; and what was not met."""
    by_contact = {
        contact: places[name] for name, contact in read_names(list(places)).contacts.items()
    }
    contacts = read_names([channel.name for channel in channels]).contacts
    found = []
    for channel in channels:
        contact = contacts.get(channel.name)
        place = places.get(channel.name) or (by_contact.get(contact) if contact else None)
        found.append(replace(channel, place=place))
    unmet = len(places) - len({each.place for each in found if each.place is not None})
    doubts = []
    if places and unmet > 0:
        are = "is" if unmet == 1 else "are"
        doubts.append(f"{counted(unmet, 'contact')} of electrodes.tsv {are} no channel")
    return found, doubts


def _stated_rate(path: mne_bids.BIDSPath) -> dict[str, tuple[float | str, ...]]:
    sidecar = _sidecar(path, str(path.datatype), ".json")
    if sidecar is None:
        return {}
    stated = read_json_as(sidecar, dict).get("SamplingFrequency")
    if stated is None:
        return {}
    number = _number(str(stated))
    return {"SamplingFrequency": (number if math.isfinite(number) else printable(str(stated)),)}


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
        name: ["" if str(cell) == "n/a" else str(cell) for cell in cells]
        for name, cells in columns.items()
    }


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
