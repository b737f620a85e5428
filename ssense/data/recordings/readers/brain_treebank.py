"""The reader of the Brain Treebank dataset, whose files lie on disk as they were unpacked.

    ROOT/corrupted_elec.json
    ROOT/sub_9_trial000.h5                       or ROOT/all_subject_data/sub_9_trial000.h5
    ROOT/electrode_labels/sub_9/electrode_labels.json
    ROOT/subject_metadata/sub_9_trial000_metadata.json
    ROOT/subject_timings/sub_9_trial000_timings.csv
    ROOT/transcripts/<movie>/features.csv

Wang et al., "Brain Treebank: large-scale intracranial recordings from naturalistic language
stimuli", 2024, https://braintreebank.dev.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np

from ssense.data.coordinates import Place
from ssense.data.recordings.channels import AUXILIARY_KIND, Channel, grids_of
from ssense.data.recordings.readers.coordinates import (
    COORDINATES,
    read_coordinates,
    read_regions,
)
from ssense.data.recordings.recording import LONGEST_S, Recording
from ssense.data.recordings.signals.gzip_chunks import read_stretches
from ssense.data.recordings.signals.signal_file import (
    channel_length,
    open_signals,
    stated_rates,
    unlabelled,
)
from ssense.data.recordings.timeline import read_timeline
from ssense.data.recordings.transcript import read_transcript
from ssense.errors import UserError, one_line, printable
from ssense.files.tables import listing, read_json_as, require_file
from ssense.signal.contacts import (
    LONGEST_LABEL,
    Contact,
    clean_label,
    not_neural,
    plain_name,
    read_names,
)

LONGEST_NAME = 255  # bytes, on every common file system

_RECORDING_FILE = re.compile(r"(sub_\d+)_(trial\d+)(\.h5|_metadata\.json|_timings\.csv)")
_SIGNAL_FOLDERS = ("", "all_subject_data")


Known = TypeVar("Known")


@dataclass(frozen=True)
class TreebankSignals:
    """The samples of Brain Treebank's HDF5 file, a dataset for each channel.

    Attributes:
        path: The file.
        names: Names of the channels, by which messages call them.
    """

    path: Path
    names: tuple[str, ...]
    content: ClassVar[str] = ""

    @property
    def name(self) -> str:
        """The samples in a message: the name of their file."""
        return self.path.name

    def read(self, number: int, stretches: Sequence[tuple[int, int]]) -> list[np.ndarray]:
        """Read stretches of one channel, see `Signals.read`."""
        with open_signals(self.path) as file:
            return read_stretches(file[f"data/electrode_{number}"], stretches)

    def moved(self, files: Mapping[str, Path]) -> TreebankSignals:
        """The same signals with the recording's files elsewhere."""
        return replace(self, path=files["signals"])

    def where(self, number: int) -> str:
        """The channel's place in a message."""
        return f"{self.path}: electrode {self.names[number]} (data/electrode_{number})"


def open_brain_treebank(root: Path, subject: str = "sub_9", trial: str = "trial000") -> Recording:
    """Find and check the files of one recording.

    Raises:
        UserError: The folder, subject, trial or a file is missing or malformed, or the labels do
            not fit the signals.
    """
    files = _find_files(root, subject, trial)
    title, movie = _read_metadata(files["metadata"])
    files["transcript"] = root / "transcripts" / movie / "features.csv"
    labels = _read_labels(files["labels"])
    n_samples = channel_length(files["signals"], len(labels), files["labels"])
    neural = _neural(labels, files["labels"])
    listed = _read_corrupted(files["corrupted"], subject)
    names = tuple(map(clean_label, labels))
    electrodes = [name for name in names if name in neural]
    corrupted = _meant(listed, electrodes)
    others = _meant(listed, [name for name in names if name not in neural])
    timeline = read_timeline(files["timings"])
    _check_length(n_samples / timeline.sampling_rate_hz(), files["signals"])
    places = _places(electrodes, read_coordinates(root / COORDINATES, subject))
    regions = _by_name(electrodes, read_regions(root, subject))
    bad = frozenset[str]().union(*corrupted.values())
    channels = tuple(
        Channel(
            name=name,
            kind="seeg" if name in neural else AUXILIARY_KIND,
            is_bad=name in bad,
            place=places.get(name),
            region=regions.get(name, ""),
        )
        for name in names
    )
    return Recording(
        subject=subject,
        trial=trial,
        title=title,
        channels=channels,
        signals=TreebankSignals(files["signals"], names),
        n_samples=n_samples,
        timeline=timeline,
        transcript=read_transcript(files["transcript"]),
        grids=grids_of(channels),
        root=root,
        files=files,
        unknown_bad=tuple(
            name for name, meant in corrupted.items() if not meant and not others[name]
        ),
        unlabelled=unlabelled(files["signals"], len(labels)),
        stated_rates=stated_rates(files["signals"]),
        advice=(
            f"Add {{name}} to {files['corrupted']} under {subject}, or restore the file from the "
            "download."
        ),
    )


def _find_files(root: Path, subject: str, trial: str) -> dict[str, Path]:
    try:
        if not root.is_dir():
            raise UserError(
                f"{root} is not a folder. "
                "Give the folder of a BIDS data set, or that of Brain Treebank's files."
            )
        _require_known(root, subject, trial)
    except OSError as error:
        raise UserError(f"cannot read {root}: {one_line(error)}. Check its permissions.") from error
    stem = f"{subject}_{trial}"
    files = {
        "signals": _find_signals(root, stem),
        "labels": root / "electrode_labels" / subject / "electrode_labels.json",
        "corrupted": root / "corrupted_elec.json",
        "metadata": root / "subject_metadata" / f"{stem}_metadata.json",
        "timings": root / "subject_timings" / f"{stem}_timings.csv",
    }
    for path in files.values():
        require_file(path)
    return files


def _require_known(root: Path, subject: str, trial: str) -> None:
    """Refuse a subject or trial of which no file exists, and list what there is."""
    folders = [root / name for name in (*_SIGNAL_FOLDERS, "subject_metadata", "subject_timings")]
    names = [path.name for folder in folders if folder.is_dir() for path in folder.iterdir()]
    found = {match.groups()[:2] for name in names if (match := _RECORDING_FILE.fullmatch(name))}
    if not found:
        raise UserError(
            f"{root} holds no Brain Treebank recording such as {subject}_{trial}.h5. "
            f"Found: {listing(sorted(path.name for path in root.iterdir()))}. "
            "Give the folder of a BIDS data set, or that of Brain Treebank's files."
        )
    subjects = sorted({name for name, _ in found}, key=_natural)
    if subject not in subjects:
        raise UserError(
            f"no subject {printable(subject)} in {root}. Found: {listing(subjects)}. Check "
            "`subject`."
        )
    trials = sorted(number for name, number in found if name == subject)
    if trial not in trials:
        raise UserError(
            f"no trial {printable(trial)} of {subject} in {root}. Found: {listing(trials)}. Check "
            "`trial`."
        )


def _natural(name: str) -> list[int | str]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _find_signals(root: Path, stem: str) -> Path:
    candidates = [root / folder / f"{stem}.h5" for folder in _SIGNAL_FOLDERS]
    for path in candidates:
        if path.is_file():
            return path
    zipped = any(path.with_name(f"{stem}.h5.zip").is_file() for path in candidates)
    advice = f"Unzip {stem}.h5.zip." if zipped else f"Download and unzip {stem}.h5.zip."
    raise UserError(f"{stem}.h5 is neither in {root} nor in its all_subject_data. {advice}")


def _read_metadata(path: Path) -> tuple[str, str]:
    """Title of the movie, and the folder of its transcript."""
    metadata = read_json_as(path, dict)
    movie, title = metadata.get("filename"), metadata.get("title")
    if not isinstance(movie, str) or not _names_a_folder(movie):
        raise UserError(
            f"{path} must name the transcript's folder under the key filename, "
            f"got {printable(repr(movie))}. Restore the file from the download."
        )
    return (printable(title) if isinstance(title, str) else "") or movie, movie


def _names_a_folder(name: str) -> bool:
    """Whether it is the name of one folder, never a path that leads somewhere else."""
    if name in ("", ".", "..") or not name.isprintable() or set(name) & set("/\\"):
        return False
    return len(name.encode()) <= LONGEST_NAME


def _read_labels(path: Path) -> list[str]:
    labels: list[str] = read_json_as(path, list)
    _check_label_lengths([label for label in labels if isinstance(label, str)], path)
    odd = [label for label in labels if not isinstance(label, str) or not clean_label(label)]
    if odd or not labels:
        found = f"{printable(repr(odd[0]))} in it" if odd else "none"
        raise UserError(
            f"{path} must hold a list of names, got {found}. Restore the file from the download."
        )
    return labels


def _check_label_lengths(labels: list[str], path: Path) -> None:
    """Refuse names too long for a channel: reading one takes the square of its length or more."""
    longest = max(labels, key=len, default="")
    if len(longest) > LONGEST_LABEL:
        raise UserError(
            f"{path} has a name of {len(longest):,} characters, {printable(longest)}. Give names "
            f"of at most {LONGEST_LABEL}, or restore the file from the download."
        )


def _neural(labels: list[str], path: Path) -> frozenset[str]:
    """Names of the channels that record the brain, of which no two are the same."""
    names = [clean_label(label) for label in labels]
    # A mark may stand for a blank, "X_ECG", or have got into a word, "D_C4".
    words = [label.translate({ord("*"): None, ord("#"): None, ord("_"): " "}) for label in labels]
    by_words = not_neural(words)
    others = not_neural(names) | {
        name for name, text in zip(names, words, strict=True) if text in by_words
    }
    neural = [name for name in names if name not in others]
    repeated = [name for name, count in Counter(neural).items() if count > 1]
    if repeated or not neural:
        only = f"only channels that are not neural ({listing(sorted(others), most=4)})"
        found = f"{printable(repeated[0])} more than once" if repeated else only
        raise UserError(f"{path} names {found}. Restore the file from the download.")
    return frozenset(neural)


def _places(electrodes: list[str], places: Mapping[Contact, np.ndarray]) -> dict[str, Place]:
    known = {name: place.tolist() for name, place in _by_name(electrodes, places).items()}
    return {name: (x, y, z) for name, (x, y, z) in known.items()}


def _by_name(electrodes: list[str], known: Mapping[Contact, Known]) -> dict[str, Known]:
    """What is known of contacts, by the names that electrodes have here."""
    contacts = read_names(electrodes).contacts
    return {name: known[contact] for name, contact in contacts.items() if contact in known}


def _meant(listed: Sequence[str], channels: Sequence[str]) -> dict[str, frozenset[str]]:
    """The channels that each name of a list means, also where it spells them otherwise.

    "A\u20191" is A'1, and "pol a01" is A1: the case of letters counts only where both are there.
    """
    meant = dict.fromkeys(listed, frozenset[str]())
    for letters in (str, str.casefold):
        spelt = {name: letters(name) for name in (*channels, *listed)}
        contacts = read_names(list(dict.fromkeys(spelt.values()))).contacts
        same = {name: contacts.get(text, plain_name(text)) for name, text in spelt.items()}
        for name in listed:
            meant[name] = meant[name] or frozenset(
                channel for channel in channels if same[channel] == same[name]
            )
    return meant


def _check_length(length_s: float, path: Path) -> None:
    if length_s > LONGEST_S:
        raise UserError(
            f"{path}: its channels last {length_s / 86400:,.0f} days by the triggers. Give a "
            f"recording of at most {LONGEST_S / 86400:g} days, or check the triggers."
        )


def _read_corrupted(path: Path, subject: str) -> list[str]:
    by_subject = read_json_as(path, dict)
    if subject not in by_subject:
        raise UserError(
            f"{path} has no entry {subject}. Found: {listing(list(by_subject))}. "
            "Use the file of the same name from the download."
        )
    names = by_subject[subject]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(
            f"{path} must hold a list of names under {subject}, got {printable(repr(names))}. "
            "Restore the file from the download."
        )
    _check_label_lengths(names, path)
    return sorted({clean_label(name) for name in names})
