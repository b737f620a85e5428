"""Recordings written in formats that other programs read: a BIDS folder, or EDF and a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ssense.data.recordings.recording import Recording
from ssense.data.recordings.segments import spoken_in
from ssense.data.recordings.signals.mne_signals import quietly
from ssense.files.tables import csv_table

if TYPE_CHECKING:
    import mne

SENTENCES = "sentences.tsv"
"""Table of what was said, beside an EDF file."""
_VOLTS = 1e-6  # in a microvolt
_METRES = 1e-3  # in a millimetre


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
    raw, events = raw_of(recording), sentence_rows(recording)

    def write(_: Any) -> Path:
        import mne_bids

        path = mne_bids.BIDSPath(
            subject=_label(recording.subject), task=task, datatype="ieeg", root=root
        )
        mne_bids.write_raw_bids(
            raw,
            path,
            format="BrainVision",
            allow_preload=True,
            overwrite=True,
            verbose="error",
        )
        return Path(str(path.copy().update(suffix="events", extension=".tsv").fpath))

    events_path = quietly(root, write)
    events_path.write_text(_tsv(events), encoding="utf-8")


def write_edf(recording: Recording, folder: Path) -> None:
    """Write a recording as EDF, 16 bits for each channel's own range, and a table of sentences.

    Args:
        recording: The recording, which must fit into memory.
        folder: Folder for both.

    Raises:
        UserError: It can't be written.
    """
    raw = raw_of(recording)
    path = folder / f"{recording.subject}_{recording.trial}.edf"

    def write(mne: Any) -> None:
        mne.export.export_raw(path, raw, physical_range="channelwise", verbose="error")

    quietly(path, write)
    (folder / SENTENCES).write_text(_tsv(sentence_rows(recording)), encoding="utf-8")


def raw_of(recording: Recording) -> mne.io.BaseRaw:
    """The recording as MNE holds it, in memory: kinds, bad channels and coordinates with it."""

    def made(mne: Any) -> mne.io.BaseRaw:
        names = [channel.name for channel in recording.channels]
        kinds = [channel.kind for channel in recording.channels]
        info = mne.create_info(names, recording.sampling_rate_hz, kinds)
        info["bads"] = [channel.name for channel in recording.channels if channel.is_bad]
        raw = mne.io.RawArray(_samples(recording), info, verbose="error")
        if recording.coordinates:
            places = {
                name: _METRES * np.array(place) for name, place in recording.coordinates.items()
            }
            frame = "mni_tal" if "mni" in recording.space.lower() else "unknown"
            montage = mne.channels.make_dig_montage(places, coord_frame=frame)
            raw.set_montage(montage, on_missing="ignore")
        return raw

    found: mne.io.BaseRaw = quietly(Path(recording.where), made)
    return found


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
