"""The reader of single files, of any format that MNE reads, with a table of sentences."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ssense.data.recordings.recording import Recording, checked_rate
from ssense.data.recordings.sentence_table import read_sentence_table
from ssense.data.recordings.signals.copied_signals import CopiedSignals
from ssense.data.recordings.signals.edf_header import EDF_SUFFIXES
from ssense.data.recordings.signals.mne_signals import (
    channels_of,
    open_raw,
    read_file,
    space_of,
)
from ssense.data.recordings.tables.table_spec import TableSpec
from ssense.errors import UserError, printable
from ssense.files.tables import require_file
from ssense.specification import identity

if TYPE_CHECKING:
    import mne

_UNKNOWN_OF_EDF = "X"


def open_file(
    path: Path,
    sentences: Path,
    table: TableSpec,
    *,
    subject: str = "",
    trial: str = "",
) -> Recording:
    """Open a file by MNE, and read what was said from a table.

    Args:
        path: The file: EDF, BDF, BrainVision's header, FIF, EEGLAB's SET and others.
        sentences: Table of sentences or words, with times in seconds from the file's start.
        table: How the table is read.
        subject: Whose recording it is; whom the file names where empty.
        trial: Which of this subject's; the name of the file where empty.

    Raises:
        UserError: One of them can't be read, or no channel records the brain.
    """
    require_file(sentences, "Check `sentences`.")
    opened = open_raw(path)
    raw = opened.raw
    rate_hz, n_samples = checked_rate(raw.info["sfreq"], path), len(raw.times)
    spoken = read_sentence_table(sentences, table, rate_hz, n_samples / rate_hz)
    files = signal_files(path, [Path(name) for name in raw.filenames if name])
    return Recording.of_sentences(
        spoken,
        channels=channels_of(raw),
        n_samples=n_samples,
        sampling_rate_hz=rate_hz,
        signals=CopiedSignals(files, tuple(raw.ch_names), read_file),
        subject=subject or _subject(raw),
        trial=trial or printable(path.stem),
        title=printable(path.stem),
        space=space_of(raw),
        root=common_folder([path, sentences]),
        files={**files, "sentences": sentences},
        read_as=("table", identity(table)),
        understood=(
            f"{path.name}: {n_samples:,} samples at {rate_hz:g} Hz, read by MNE",
            *opened.understood,
            *([] if subject else _anonymous(raw, path)),
        ),
        doubts=opened.doubts,
        advice="Mark {name} as bad in the file, or name the others with `data.subset`.",
    )


def _subject(raw: mne.io.BaseRaw) -> str:
    """Whom a file names: never its folder, which is another wherever the file is fetched."""
    named = (raw.info["subject_info"] or {}).get("his_id")
    return printable(str(named or "").strip()) or "subject"


def _anonymous(raw: mne.io.BaseRaw, path: Path) -> list[str]:
    """That a file of EDF+ has its X, which stands for nothing, in place of a subject."""
    if path.suffix.lower() not in EDF_SUFFIXES or _subject(raw) != _UNKNOWN_OF_EDF:
        return []
    return [f"{path.name} is anonymous: {_UNKNOWN_OF_EDF} stands for its subject"]


def signal_files(path: Path, others: list[Path]) -> dict[str, Path]:
    """Files that samples are in, by role: the one that MNE is given, and those it leads to."""
    named = [other for other in others if other.resolve() != path.resolve()]
    return {"signals": path} | {f"samples {i}": other for i, other in enumerate(named, 1)}


def common_folder(paths: list[Path]) -> Path:
    """The deepest folder that some files are in.

    Raises:
        UserError: They are on different disks.
    """
    try:
        return Path(os.path.commonpath([path.absolute().parent for path in paths]))
    except ValueError as error:  # drives of Windows
        raise UserError(f"{paths[0]} and {paths[1]} share no folder. Move one to the other.") from (
            error
        )
