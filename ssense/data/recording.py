"""One recording of the Brain Treebank dataset, as its files lie on disk after unpacking.

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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import h5py
import numpy as np

from ssense.data.gzip_chunks import read_stretches
from ssense.data.tables import listing, read_json, require_file
from ssense.data.timeline import Timeline, read_timeline
from ssense.data.transcript import Transcript, read_transcript
from ssense.digest import digest, file_digest
from ssense.errors import UserError, one_line, printable

NOT_NEURAL = ("DC", "TRIG")  # auxiliary inputs of the amplifier, in any case: triggers, audio
LARGEST_UV = 1e9  # a kilovolt: no amplifier gives more, and single precision can still square it

# The release holds datasets that no label names: one for sub_1, 10 beside 154 labels for sub_2.
# A larger surplus means that the labels belong to another recording or are cut short.
UNLABELLED_ALWAYS_TOLERATED = 1
UNLABELLED_TOLERATED_FRACTION = 0.07

LONGEST_NAME = 255  # bytes, on every common file system

_CHANNEL = re.compile(r"electrode_(0|[1-9][0-9]{0,8})")
_RECORDING_FILE = re.compile(r"(sub_\d+)_(trial\d+)(\.h5|_metadata\.json|_timings\.csv)")
_SIGNAL_FOLDERS = ("", "all_subject_data")


@dataclass(frozen=True, eq=False)
class Recording:
    """One subject watching one movie. Signals stay on disk until `read_channel` asks for them.

    Attributes:
        subject, trial, title, movie: names; `movie` is the transcript's folder.
        electrodes: neural channels by cleaned label, in the order of the labels.
        corrupted: labels among them that the dataset's authors advise against.
        channel_of: number of the HDF5 dataset of each electrode.
        n_samples: length of every channel.
        timeline, transcript: trigger timings and words.
        files: what was read, by role.
    """

    subject: str
    trial: str
    title: str
    movie: str
    electrodes: tuple[str, ...]
    corrupted: frozenset[str]
    channel_of: dict[str, int]
    n_samples: int
    timeline: Timeline
    transcript: Transcript
    files: dict[str, Path]

    @cached_property
    def digest(self) -> str:
        """Hash of the bytes of every file the recording depends on, wherever they lie."""
        contents = {role: file_digest(path) for role, path in self.files.items()}
        return digest(self.subject, self.trial, contents)

    @cached_property
    def sampling_rate_hz(self) -> float:
        """Samples per second, measured from the trigger timings."""
        return self.timeline.sampling_rate_hz()

    @property
    def root(self) -> Path:
        """The folder that Brain Treebank's files were unpacked in."""
        return self.files["corrupted"].parent

    def moved(self, root: Path) -> Self:
        """The same recording with its files in another folder; they are not looked at."""
        files = {role: root / path.relative_to(self.root) for role, path in self.files.items()}
        return replace(self, files=files)

    @property
    def clean_electrodes(self) -> tuple[str, ...]:
        """The electrodes that are not corrupted."""
        return tuple(name for name in self.electrodes if name not in self.corrupted)

    def read_channel(
        self, electrode: str, stretches: Sequence[tuple[int, int]]
    ) -> list[np.ndarray]:
        """Read stretches [start, stop) of one electrode: float64 arrays [stop - start], microvolts.

        Only the stretches are read, whatever the type of number they are stored as. An electrode
        that never varies is no error: z-scored spectrograms turn constants into zeros.

        Raises:
            UserError: the file cannot be read, or a sample is NaN, infinite or over a kilovolt.
        """
        path = self.files["signals"]
        dataset = f"data/electrode_{self.channel_of[electrode]}"
        with _open_signals(path) as file:
            signals = read_stretches(file[dataset], stretches)
        for (start, _), signal in zip(stretches, signals, strict=True):
            # NaN fails every comparison.
            if len(signal) and not -LARGEST_UV <= signal.min() <= signal.max() <= LARGEST_UV:
                first = int(np.argmin(np.abs(signal) <= LARGEST_UV))
                raise UserError(
                    f"{path}: electrode {electrode} ({dataset}) holds {signal[first]:g} at sample "
                    f"{start + first}, which is no voltage. Add {electrode} to "
                    f"{self.files['corrupted']} under {self.subject}, or restore the file from "
                    "the download."
                )
        return signals


def of_recording(subject: str, trial: str, name: str) -> bool:
    """Whether a file of a download may be needed for one recording: signals of others are not.

    Args:
        subject: of the recording.
        trial: of the recording.
        name: path of the file within the download.
    """
    signals = name.endswith((".h5", ".zip"))
    return not signals or Path(name).name == f"{subject}_{trial}.h5"


def open_recording(root: Path, subject: str = "sub_9", trial: str = "trial000") -> Recording:
    """Find and check the files of one recording.

    Raises:
        UserError: the folder, subject, trial or a file is missing or malformed, or the labels do
            not fit the signals.
    """
    files = _find_files(root, subject, trial)
    title, movie = _read_metadata(files["metadata"])
    files["transcript"] = root / "transcripts" / movie / "features.csv"
    labels = _read_labels(files["labels"])
    n_samples = _check_signals(files["signals"], len(labels), files["labels"])
    channel_of = _neural_channels(labels, files["labels"])
    return Recording(
        subject=subject,
        trial=trial,
        title=title,
        movie=movie,
        electrodes=tuple(channel_of),
        corrupted=_read_corrupted(files["corrupted"], subject).intersection(channel_of),
        channel_of=channel_of,
        n_samples=n_samples,
        timeline=read_timeline(files["timings"]),
        transcript=read_transcript(files["transcript"]),
        files=files,
    )


def clean_label(label: str) -> str:
    """An electrode's name without the marks `*`, `#` and `_` that the label files sprinkle in."""
    return label.translate({ord(mark): None for mark in "*#_"})


def _find_files(root: Path, subject: str, trial: str) -> dict[str, Path]:
    try:
        if not root.is_dir():
            raise UserError(
                f"{root} is not a folder. "
                "Give the folder that Brain Treebank's files were unpacked in."
            )
        _require_known(root, subject, trial)
    except OSError as error:
        raise UserError(
            f"cannot look into {root}: {one_line(error)}. Check its permissions."
        ) from error
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
            "Give the folder that Brain Treebank's files were unpacked in."
        )
    subjects = sorted({name for name, _ in found}, key=_natural)
    if subject not in subjects:
        raise UserError(
            f"no subject {printable(subject)} in {root}. Found: {listing(subjects)}. "
            "Check --subject."
        )
    trials = sorted(number for name, number in found if name == subject)
    if trial not in trials:
        raise UserError(
            f"no trial {printable(trial)} of {subject} in {root}. Found: {listing(trials)}. "
            "Check --trial."
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
    metadata = read_json(path, dict)
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
    labels = read_json(path, list)
    odd = [label for label in labels if not isinstance(label, str) or not clean_label(label)]
    if odd or not labels:
        found = f"{printable(repr(odd[0]))} in it" if odd else "none"
        raise UserError(
            f"{path} must hold a list of names, got {found}. Restore the file from the download."
        )
    return labels


def _neural_channels(labels: list[str], path: Path) -> dict[str, int]:
    """Number of the dataset of each electrode; DC and TRIG channels are left out."""
    names = [clean_label(label) for label in labels]
    neural = [name for name in names if not name.upper().startswith(NOT_NEURAL)]
    repeated = [name for name, count in Counter(neural).items() if count > 1]
    if repeated or not neural:
        only = "only DC and TRIG channels"
        found = f"{printable(repeated[0])} more than once" if repeated else only
        raise UserError(f"{path} names {found}. Restore the file from the download.")
    return {name: names.index(name) for name in neural}


def _read_corrupted(path: Path, subject: str) -> frozenset[str]:
    by_subject = read_json(path, dict)
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
    return frozenset(clean_label(name) for name in names)


def _check_signals(path: Path, n_labels: int, labels_path: Path) -> int:
    """Length of the channels, once their number and lengths are found to fit the labels."""
    with _open_signals(path) as file:
        shapes = _channel_shapes(file)
    missing = [number for number in range(n_labels) if number not in shapes]
    if missing:
        raise UserError(
            f"{path} lacks data/electrode_{missing[0]} as numbers: {labels_path} names {n_labels} "
            f"channels, {n_labels - len(missing)} of them are there. "
            "Restore both files from the download."
        )
    surplus = len(shapes) - n_labels
    if surplus > max(UNLABELLED_ALWAYS_TOLERATED, UNLABELLED_TOLERATED_FRACTION * n_labels):
        raise UserError(
            f"{path} holds {len(shapes)} channels but {labels_path} names only {n_labels}. "
            "Restore both files from the download."
        )
    return _common_length(path, [shapes[number] for number in range(n_labels)])


def _channel_shapes(file: h5py.File) -> dict[int, tuple[int, ...]]:
    """Shapes of the channels by number; datasets of anything but real numbers are none."""
    group = file.get("data")
    if not isinstance(group, h5py.Group):
        return {}
    channels = {int(match[1]): group[match[0]] for match in map(_CHANNEL.fullmatch, group) if match}
    return {
        number: channel.shape
        for number, channel in channels.items()
        if isinstance(channel, h5py.Dataset)
        and channel.dtype.kind in "fiu"
        and channel.shape is not None
    }


def _common_length(path: Path, shapes: list[tuple[int, ...]]) -> int:
    usual = Counter(shapes).most_common(1)[0][0]
    for number, shape in enumerate(shapes):
        if shape != usual or len(shape) != 1:
            raise UserError(
                f"{path}: data/electrode_{number} has shape {shape}, electrode_"
                f"{shapes.index(usual)} has {usual}; all must be alike, [samples]. "
                "Restore the file from the download."
            )
    return int(usual[0])


@contextmanager
def _open_signals(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file; whatever goes wrong while it is read is a `UserError`."""
    try:
        with h5py.File(path, "r") as file:
            yield file
    except Exception as error:  # h5py raises half of the built-in ones on a damaged file
        raise UserError(
            f"cannot read {path} as HDF5: {one_line(error)}. "
            "The file may be cut short: download and unzip it again."
        ) from error
