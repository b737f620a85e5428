"""Recordings that are kept as one folder: samples channel after channel, and all else as text.

    FOLDER/recording.json
    FOLDER/signals.npy

It is what a recording in memory becomes, so that every machine can read it.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ssense.data.recordings.channels import Channel
from ssense.data.recordings.recording import Recording, checked_rate
from ssense.data.recordings.segments import spoken_in
from ssense.data.recordings.sentence_table import SpokenSentences
from ssense.data.recordings.signals.array_signals import NpySignals, new_samples, open_samples
from ssense.errors import UserError
from ssense.files.digest import digest
from ssense.files.storage import write_folder
from ssense.files.tables import read_json_as

DESCRIPTION, SAMPLES = "recording.json", "signals.npy"
_FORMAT = 1


def is_kept(folder: Path) -> bool:
    """Whether a folder holds a recording that was kept by `keep`."""
    return (folder / DESCRIPTION).is_file()


def keep(recording: Recording, folder: Path) -> Recording:
    """Write a recording, with its signals in single precision, to a new folder: all or nothing.

    Args:
        recording: Any recording.
        folder: Folder to write; one that holds this very recording is left as it is.

    Returns:
        The recording as it is read from there.

    Raises:
        UserError: The folder holds something else or can't be written.
    """
    write_folder(
        folder,
        "recording",
        partial(_write, recording),
        partial(_holds, folder, _named(recording)),
    )
    return open_kept(folder)


def open_kept(folder: Path) -> Recording:
    """Open a recording that `keep` wrote.

    Raises:
        UserError: A file is missing or malformed.
    """
    path = folder / DESCRIPTION
    kept = read_json_as(path, dict)
    try:
        channels = [_channel(**each) for each in kept["channels"]]
        said = kept["sentences"]
        spoken = SpokenSentences(
            text=tuple(said["text"]),
            onset_s=np.array(said["onset_s"], dtype=float),
            offset_s=np.array(said["offset_s"], dtype=float),
            speaker=tuple(said["speaker"]),
            extra={name: tuple(values) for name, values in said["extra"].items()},
            understood=tuple(kept["understood"]),
            doubts=tuple(kept["doubts"]),
        )
        about = {name: str(kept[name]) for name in ("subject", "trial", "title", "space")}
        rate_hz = checked_rate(kept["sampling_rate_hz"], path)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path} is no recording that was kept here ({error}). Keep it again."
        ) from error
    samples = open_samples(folder / SAMPLES)
    if len(samples) != len(channels):
        raise UserError(
            f"{folder / SAMPLES} has {len(samples)} channels, {path.name} {len(channels)}. Keep "
            "the recording again."
        )
    return Recording.of_sentences(
        spoken,
        channels=channels,
        n_samples=samples.shape[1],
        sampling_rate_hz=rate_hz,
        signals=NpySignals(folder / SAMPLES, tuple(each.name for each in channels)),
        root=folder,
        files={"signals": folder / SAMPLES, "description": path},
        advice="Leave {name} out with `data.subset`, or keep the recording without it.",
        **about,
    )


def _channel(
    *,
    name: str,
    kind: str,
    unit: str,
    is_bad: bool,
    place: list[float] | None,
    region: str = "",
) -> Channel:
    if not all(isinstance(each, str) for each in (name, kind, unit, region)):
        raise TypeError(f"channel {name!r}")
    x, y, z = place or (0.0, 0.0, 0.0)
    where = (float(x), float(y), float(z)) if place else None
    about = {"name": name, "kind": kind, "unit": unit, "region": region}
    return Channel(**about, is_bad=bool(is_bad), place=where)


def _holds(folder: Path, digest: str) -> bool:
    return is_kept(folder) and read_json_as(folder / DESCRIPTION, dict).get("of") == digest


def _named(recording: Recording) -> str:
    """What tells a recording that is to be kept from others, its rate included."""
    return digest(recording.digest, recording.sampling_rate_hz)


def _write(recording: Recording, folder: Path) -> None:
    spoken = spoken_in(recording)
    description: dict[str, Any] = {
        "format": _FORMAT,
        "of": _named(recording),
        "subject": recording.subject,
        "trial": recording.trial,
        "title": recording.title,
        "space": recording.space,
        "sampling_rate_hz": recording.sampling_rate_hz,
        "channels": [asdict(each) for each in recording.channels],
        "sentences": {
            "text": spoken.text,
            "onset_s": spoken.onset_s.tolist(),
            "offset_s": spoken.offset_s.tolist(),
            "speaker": spoken.speaker,
            "extra": {name: list(map(_text, values)) for name, values in spoken.extra.items()},
        },
        "understood": list(recording.understood),
        "doubts": list(recording.doubts),
    }
    shape = len(recording.channels), recording.n_samples
    samples = new_samples(folder / SAMPLES, shape)
    for number in range(len(recording.channels)):
        samples[number] = recording.read_whole(number)
    samples.flush()
    (folder / DESCRIPTION).write_text(json.dumps(description, ensure_ascii=False, indent=1))


def _text(value: object) -> str:
    return "" if value is None else str(value)
