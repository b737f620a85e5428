"""The reader of NWB files, with a table of sentences: their first electrical series.

Neurodata Without Borders 2 is HDF5: a series has samples `[time, channels]`, a factor that makes
volts of them, a rate, and the rows of a table of electrodes. Rübel et al., "The Neurodata Without
Borders ecosystem for neurophysiological data science", eLife 2022.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ssense.data.coordinates import Place
from ssense.data.recordings.channels import Channel, known_region
from ssense.data.recordings.readers.mne_file import common_folder
from ssense.data.recordings.recording import Recording, checked_rate
from ssense.data.recordings.sentence_table import read_sentence_table
from ssense.data.recordings.signals.copied_signals import BLOCK_BYTES, Blocks, CopiedSignals
from ssense.data.recordings.signals.signal_file import open_signals, other_file
from ssense.data.recordings.tables.table_spec import TableSpec
from ssense.errors import UserError, counted, printable
from ssense.files.tables import listing, require_file
from ssense.signal.contacts import clean_label
from ssense.specification import identity

SUFFIX = ".nwb"
_MICROVOLTS = 1e6  # in a volt
_TABLE = "general/extracellular_ephys/electrodes"
_LOCATION = "location"  # the region, of each row
_NAMES = ("label", "electrode_name", "channel_name", "name")
# No contact lies farther than 0.3 m from the origin of any space, and some lie over 0.3 mm away.
_UNITS = ((0.3, "m", 1e3), (300.0, "mm", 1.0), (float("inf"), "µm", 1e-3))
_SERIES = "ElectricalSeries"
_PLACES = ("acquisition", "processing")  # in this order
_DEPTH = 2  # of containers: processing/ecephys/LFP/ElectricalSeries
_HALF_A_SAMPLE = 0.5  # time stamps farther from a steady clock leave a gap


def open_nwb(path: Path, sentences: Path, table: TableSpec, *, subject: str = "") -> Recording:
    """Open an NWB file, and read what was said from a table.

    Args:
        path: The file.
        sentences: Table of sentences or words, with times in seconds from the file's start.
        table: How the table is read.
        subject: Whose recording it is; the subject of the file where empty.

    Raises:
        UserError: One of them can't be read, or the file has no electrical series.
    """
    require_file(sentences, "Check `sentences`.")
    with open_signals(path) as file:
        name, others = _series(file, path)
        _refuse_other_files(file, name, path)
        rate_hz, n_samples = _rate(file[name], path), file[name]["data"].shape[0]
        doubts = [*others, *_late(file[name])]
        channels, about_places = _channels(file, name, path)
        whose = subject or _text(file.get("general/subject/subject_id")) or "subject"
    spoken = read_sentence_table(sentences, table, rate_hz, n_samples / rate_hz)
    return Recording.of_sentences(
        spoken,
        channels=channels,
        n_samples=n_samples,
        sampling_rate_hz=rate_hz,
        signals=CopiedSignals(
            {"signals": path}, tuple(channel.name for channel in channels), read_series, name
        ),
        subject=printable(whose) or "subject",
        trial=printable(path.stem),
        title=printable(path.stem),
        root=common_folder([path, sentences]),
        files={"signals": path, "sentences": sentences},
        read_as=("table", identity(table), name),
        understood=(
            f"{path.name}, {name}: {n_samples:,} samples at {rate_hz:g} Hz",
            *about_places,
        ),
        doubts=doubts,
        advice="Name the others with `data.subset`.",
    )


def _series(file: h5py.File, path: Path) -> tuple[str, list[str]]:
    """Path of the first electrical series, by name; what of the others.

    Those that were acquired come first; then those of processing modules, as processing/ecephys,
    by themselves or in a container such as LFP.
    """
    kinds = {at: dict(_kinds(file, at)) for at in _PLACES}
    found = [[n for n, kind in of.items() if kind == _SERIES] for of in kinds.values()]
    name, *others = next(filter(None, found), [""])
    if not name:
        listed = [f"{name} ({kind})" for of in kinds.values() for name, kind in of.items()]
        raise UserError(
            f"{path} has no {_SERIES} in {' or '.join(_PLACES)}: {listing(listed)}. Give a file "
            "with the signals of electrodes."
        )
    if not isinstance(file[name].get("data"), h5py.Dataset):
        raise UserError(f"{path}: {name} has no data. Give a file with its samples.")
    read, *left = (each.partition("/")[2] for each in (name, *others))
    said = f"of {1 + len(left)} electrical series {read} is read, not {listing(left, most=4)}"
    return name, [said] if left else []


def _kinds(file: h5py.File, at: str, depth: int = _DEPTH) -> Iterator[tuple[str, str]]:
    """Paths and kinds of what lies in a group; of what a container holds, after the container."""
    group = file.get(at)
    below = []
    for name in group if isinstance(group, h5py.Group) else ():
        item = group.get(name)
        if item is None or "neurodata_type" not in item.attrs:
            continue
        kind = _text(item.attrs["neurodata_type"])
        yield f"{at}/{name}", kind
        if depth and kind != _SERIES and isinstance(item, h5py.Group):
            below.append(f"{at}/{name}")
    for inner in below:
        yield from _kinds(file, inner, depth - 1)


def _refuse_other_files(file: h5py.File, name: str, path: Path) -> None:
    """Refuse a series of which a part lies in another file."""
    parts = [f"{name}/{part}" for part in file[name]]
    parts += [f"{_TABLE}/{column}" for column in file.get(_TABLE, ())]
    for part in parts:
        if elsewhere := other_file(file, part):
            raise UserError(
                f"{path}: {part} lies in another file, {printable(Path(elsewhere).name)}, whose "
                "changes would go unnoticed. Write it into the file itself."
            )


def _late(series: h5py.Group) -> list[str]:
    """That a series does not start with its session, which times in the table may count from."""
    given = series["starting_time"][()] if "starting_time" in series else series["timestamps"][0]
    if not np.isfinite(start_s := float(given)) or start_s == 0:
        return []
    return [
        f"{series.name} starts {start_s:g} s into the session: times in the table are taken to "
        "count from its first sample"
    ]


def _rate(series: h5py.Group, path: Path) -> float:
    """Samples per second: as stated, or of time stamps that keep a steady clock."""
    if "starting_time" in series:
        return checked_rate(series["starting_time"].attrs.get("rate"), path)
    times_s = np.asarray(series["timestamps"]) if "timestamps" in series else np.empty(0)
    if len(times_s) < 2:
        raise UserError(f"{path}: {series.name} has neither a rate nor time stamps.")
    step_s = (times_s[-1] - times_s[0]) / (len(times_s) - 1)
    steady_s = times_s[0] + step_s * np.arange(len(times_s))
    if np.abs(times_s - steady_s).max() > _HALF_A_SAMPLE * step_s:
        raise UserError(
            f"{path}: the time stamps of {series.name} leave gaps, the first after "
            f"{times_s[int(np.argmax(np.diff(times_s)))]:g} s. Write a file for each stretch."
        )
    return checked_rate(1 / step_s, path)


def _channels(file: h5py.File, name: str, path: Path) -> tuple[list[Channel], list[str]]:
    """The channels of a series by the table of electrodes, and how places were understood."""
    series = file[name]
    rows = np.asarray(series["electrodes"]) if "electrodes" in series else None
    table = file.get(_TABLE)
    shape = series["data"].shape
    n_rows = len(table["id"]) if table is not None and "id" in table else 0
    fitting = rows is not None and all(0 <= row < n_rows for row in rows.tolist())
    if len(shape) != 2 or rows is None or table is None or not fitting or len(rows) != shape[1]:
        raise UserError(
            f"{path}: {name} has samples of the shape {list(shape)} and "
            f"{counted(0 if rows is None else len(rows), 'electrode')} for them, of a table of "
            f"{n_rows:,}. Write samples [time, channels], and the number of a row of the table of "
            "electrodes for each channel."
        )
    named = next((column for column in _NAMES if column in table), "")
    names = [_text(value) for value in np.asarray(table[named])] if named else []
    places, said = _places(table)
    located = [_text(value) for value in np.asarray(table[_LOCATION])] if _LOCATION in table else []
    channels = [
        Channel(
            name=(names and clean_label(names[row])) or f"E{np.asarray(table['id'])[row]}",
            kind="seeg",
            place=places.get(int(row)),
            region=known_region(located[row]) if located else "",
        )
        for row in rows.tolist()
    ]
    return channels, said if named else [*said, "electrodes are called by their numbers, E0, E1"]


def _places(table: h5py.Group) -> tuple[dict[int, Place], list[str]]:
    """Places of the rows of a table of electrodes, mm; NWB leaves open in which unit they are."""
    if not all(axis in table for axis in "xyz"):
        return {}, []
    numbers = np.stack([np.asarray(table[axis], dtype=float) for axis in "xyz"], axis=1)
    known = np.isfinite(numbers).all(axis=1) & numbers.any(axis=1)
    if not known.any():
        return {}, []
    farthest = np.abs(numbers[known]).max()
    unit, scale = next((unit, scale) for most, unit, scale in _UNITS if farthest <= most)
    numbers = scale * numbers
    places: dict[int, Place] = {}
    for row in np.flatnonzero(known).tolist():
        x, y, z = numbers[row].tolist()
        places[row] = x, y, z
    return places, [f"places of {counted(len(places), 'contact')}, taken for {unit} by their size"]


def read_series(path: Path, name: str) -> tuple[tuple[int, int], Blocks]:
    """Numbers of channels and samples of a series, and its samples block after block.

    Args:
        path: The file.
        name: Path of the series in it.

    Raises:
        UserError: The file can't be read.
    """
    with open_signals(path) as file:
        n_samples, n_channels = file[name]["data"].shape
    return (n_channels, n_samples), _blocks(path, name)


def _blocks(path: Path, name: str) -> Blocks:
    with open_signals(path) as file:
        series, data = file[name], file[name]["data"]
        scale = _MICROVOLTS * float(data.attrs.get("conversion", 1.0))
        offset = _MICROVOLTS * float(data.attrs.get("offset", 0.0))
        of_channels = series.get("channel_conversion")
        factors = scale * (np.ones(1) if of_channels is None else np.asarray(of_channels))
        step = max(BLOCK_BYTES // (8 * data.shape[1]), 1)
        for start in range(0, data.shape[0], step):
            block = np.asarray(data[start : start + step], dtype=np.float64)
            yield start, (block * factors + offset).T


def _text(value: Any) -> str:
    if isinstance(value, h5py.Dataset):
        value = value[()]
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")
