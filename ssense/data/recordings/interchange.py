"""Recordings written in formats that other programs read: a BIDS folder, or EDF and a table."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ssense.data.recordings.recording import Recording
from ssense.data.recordings.segments import spoken_in
from ssense.errors import UserError, one_line
from ssense.files.tables import csv_table

if TYPE_CHECKING:
    import mne

SENTENCES = "sentences.tsv"
"""Table of what was said, beside an EDF file."""
_VOLTS = 1e-6  # in a microvolt
_METRES = 1e-3  # in a millimetre
_LONGEST_RECORD_S = 100  # of EDF; readers expect some seconds


def write_bids(recording: Recording, root: Path, *, task: str) -> None:
    """Write a recording as a BIDS folder: BrainVision's files, single precision, and side-cars.

    Its sentences are the events, in seconds of the recording.

    Args:
        recording: The recording, which must fit into memory.
        root: New folder.
        task: Label of the task, of letters and digits.

    Raises:
        UserError: It can't be written.
    """
    import mne_bids

    path = mne_bids.BIDSPath(
        subject=_label(recording.subject), task=task, datatype="ieeg", root=root
    )
    events = path.copy().update(suffix="events", extension=".tsv")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mne_bids.write_raw_bids(
                raw_of(recording),
                path,
                format="BrainVision",
                allow_preload=True,
                overwrite=True,
                verbose="error",
            )
        Path(str(events.fpath)).write_text(_tsv(sentence_rows(recording)), encoding="utf-8")
    except (OSError, ValueError, RuntimeError) as error:
        raise _unwritable(root, error) from error


def write_edf(recording: Recording, folder: Path) -> None:
    """Write a recording as EDF, 16 bits for each channel's own range, and a table of sentences.

    Its end is filled with zeros up to a whole record.

    Args:
        recording: The recording, which must fit into memory.
        folder: Folder for both.

    Raises:
        UserError: EDF can't hold its rate, or it can't be written.
    """
    import edfio

    rate_hz, record_s = recording.sampling_rate_hz, _record_s(recording)
    n_records = math.ceil(recording.n_samples / rate_hz / record_s)
    n_samples = round(n_records * record_s * rate_hz)
    signals = [
        edfio.EdfSignal(
            np.pad(recording.read_whole(number), (0, n_samples - recording.n_samples)),
            rate_hz,
            label=channel.name,
            physical_dimension="uV",
        )
        for number, channel in enumerate(recording.channels)
    ]
    path = folder / f"{recording.subject}_{recording.trial}.edf"
    try:
        edfio.Edf(signals, data_record_duration=record_s).write(path)
        (folder / SENTENCES).write_text(_tsv(sentence_rows(recording)), encoding="utf-8")
    except (OSError, ValueError) as error:
        raise _unwritable(path, error) from error


def _record_s(recording: Recording) -> int:
    """The least seconds of a record that has a whole number of samples.

    Raises:
        UserError: There is none that is not far too long.
    """
    rate_hz = recording.sampling_rate_hz
    for seconds in range(1, _LONGEST_RECORD_S + 1):
        if math.isclose(rate_hz * seconds, round(rate_hz * seconds), rel_tol=1e-9):
            return seconds
    raise UserError(
        f"{recording.where}: EDF wants a whole number of samples in each record, and {rate_hz:g} "
        f"a second make one in no record of up to {_LONGEST_RECORD_S} s. Write it as BIDS."
    )


def _unwritable(path: Path, error: Exception) -> UserError:
    return UserError(
        f"cannot write {path}: {one_line(error)}. Free space, or choose another folder."
    )


def raw_of(recording: Recording) -> mne.io.BaseRaw:
    """The recording as MNE holds it, in memory, with kinds and bad channels.

    Coordinates come with it where they are in an MNI space: of others MNE does not know.
    """
    import mne

    names = [channel.name for channel in recording.channels]
    kinds = [channel.kind for channel in recording.channels]
    info = mne.create_info(names, recording.sampling_rate_hz, kinds)
    info["bads"] = [channel.name for channel in recording.channels if channel.is_bad]
    raw = mne.io.RawArray(_samples(recording), info, verbose="error")
    if recording.coordinates and "mni" in recording.space.lower():
        places = {name: _METRES * np.array(place) for name, place in recording.coordinates.items()}
        montage = mne.channels.make_dig_montage(places, coord_frame="mni_tal")
        raw.set_montage(montage, on_missing="ignore", verbose="error")
    return raw


def sentence_rows(recording: Recording) -> list[dict[str, object]]:
    """Onset, duration, and text of each sentence that has a place in the recording, in its seconds.

    Those during which the stimulus was paused have none.
    """
    spoken = spoken_in(recording)
    return [
        {"onset": f"{onset:.6f}", "duration": f"{offset - onset:.6f}", "sentence": text}
        for onset, offset, text in zip(
            spoken.onset_s.tolist(), spoken.offset_s.tolist(), spoken.text, strict=True
        )
    ]


def _samples(recording: Recording) -> np.ndarray:
    """All samples in the units of MNE: volts of channels that record voltages, `[channels, n]`."""
    samples = np.empty((len(recording.channels), recording.n_samples))
    for number in range(len(samples)):
        samples[number] = recording.read_whole(number)
    return samples * _VOLTS


def _label(name: str) -> str:
    """A name as BIDS wants labels, of letters and digits."""
    return "".join(filter(str.isalnum, name.removeprefix("sub-").removeprefix("sub_"))) or "01"


def _tsv(rows: list[dict[str, object]]) -> str:
    return csv_table(rows, "\t")
