"""The reader of NWB files, with a table of sentences: their first electrical series.

Neurodata Without Borders 2 is HDF5: a series has samples `[time, channels]`, a factor that makes
volts of them, a rate, and the rows of a table of electrodes. Rübel et al., "The Neurodata Without
Borders ecosystem for neurophysiological data science", eLife 2022.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ssense.data.coordinates import Place
from ssense.data.recordings.channels import Channel
from ssense.data.recordings.readers.mne_file import common_folder
from ssense.data.recordings.recording import Recording, checked_rate
from ssense.data.recordings.sentence_table import read_sentence_table
from ssense.data.recordings.signals.copied_signals import BLOCK_BYTES, Blocks, CopiedSignals
from ssense.data.recordings.signals.signal_file import open_signals
from ssense.data.recordings.tables.table_spec import TableSpec
from ssense.errors import UserError, counted, printable
from ssense.files.tables import listing, require_file
from ssense.specification import identity

SUFFIX = ".nwb"
_MICROVOLTS = 1e6  # in a volt
_TABLE = "general/extracellular_ephys/electrodes"
_NAMES = ("label", "electrode_name", "channel_name", "name")
_BRAIN = 300.0  # no contact lies farther from the origin, in mm; in µm all lie farther
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
    require_file(sentences)
    with open_signals(path) as file:
        name = _series(file, path)
        rate_hz, n_samples = _rate(file[name], path), file[name]["data"].shape[0]
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
        advice="Name the others with `data.subset`.",
    )


def _series(file: h5py.File, path: Path) -> str:
    """Path of the first electrical series, by name, of what was acquired."""
    group = file.get("acquisition")
    names = list(group) if isinstance(group, h5py.Group) else []
    kinds = {name: _text(group[name].attrs.get("neurodata_type")) for name in names}
    found = [name for name, kind in kinds.items() if kind == "ElectricalSeries"]
    if not found:
        raise UserError(
            f"{path} has no ElectricalSeries among what was acquired: "
            f"{listing([f'{name} ({kind})' for name, kind in kinds.items()])}. Give a file with "
            "the signals of electrodes."
        )
    return f"acquisition/{found[0]}"


def _rate(series: h5py.Group, path: Path) -> float:
    """Samples per second: as stated, or of time stamps that keep a steady clock."""
    if "starting_time" in series:
        return checked_rate(series["starting_time"].attrs.get("rate"))
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
    return checked_rate(1 / step_s)


def _channels(file: h5py.File, name: str, path: Path) -> tuple[list[Channel], list[str]]:
    """The channels of a series by the table of electrodes, and how places were understood."""
    series = file[name]
    rows = np.asarray(series["electrodes"]) if "electrodes" in series else None
    table = file.get(_TABLE)
    shape = series["data"].shape
    if len(shape) != 2 or rows is None or table is None or len(rows) != shape[1]:
        raise UserError(
            f"{path}: {name} has samples of the shape {list(shape)} and "
            f"{counted(0 if rows is None else len(rows), 'electrode')} for them. Write samples "
            "[time, channels], and a row of the table of electrodes for each channel."
        )
    named = next((column for column in _NAMES if column in table), "")
    names = [_text(value) for value in np.asarray(table[named])] if named else []
    places, said = _places(table)
    channels = [
        Channel(
            name=names[row] if names else f"E{np.asarray(table['id'])[row]}",
            kind="seeg",
            place=places.get(int(row)),
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
    in_micrometres = np.abs(numbers[known]).max() > _BRAIN
    numbers = numbers / 1e3 if in_micrometres else numbers
    places: dict[int, Place] = {}
    for row in np.flatnonzero(known).tolist():
        x, y, z = numbers[row].tolist()
        places[row] = x, y, z
    unit = "µm" if in_micrometres else "mm"
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
