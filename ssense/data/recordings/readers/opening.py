"""Recordings are opened whatever their format, which is found by looking."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ssense.data.recordings.readers.arrays import is_kept, open_kept
from ssense.data.recordings.readers.bids import open_bids
from ssense.data.recordings.readers.bids_files import ENTITIES, Run, is_bids
from ssense.data.recordings.readers.brain_treebank import open_brain_treebank
from ssense.data.recordings.readers.mne_file import open_file
from ssense.data.recordings.readers.nwb import SUFFIX, open_nwb
from ssense.data.recordings.recording import Recording
from ssense.data.recordings.recording_source import (
    FOLDERS,
    SUBJECT,
    TRIAL,
    RecordingSource,
)
from ssense.data.recordings.tables.table_spec import TableSpec
from ssense.errors import UserError, printable

_OF_BIDS = ("session", "task", "acquisition", "run")


def open_recording(
    place: str | Path,
    *,
    subject: str = "",
    trial: str = "",
    session: str = "",
    task: str = "",
    acquisition: str = "",
    run: str = "",
    sentences: str | Path = "",
    table: TableSpec | Mapping[str, object] | None = None,
) -> Recording:
    """Open a recording: of BIDS, a file that MNE reads, NWB, Brain Treebank, or one that was kept.

    Args:
        place: Folder, file, or URL of one of them.
        subject: Which subject; empty for the only one, or for Brain Treebank's sub_9.
        trial: Which of a subject's recordings of Brain Treebank; empty for trial000.
        session: Which session of BIDS; empty for the only one.
        task: Which task of BIDS; empty for the only one.
        acquisition: Which acquisition of BIDS; empty for the only one.
        run: Which run of BIDS; empty for the only one.
        sentences: Table of what was said, for a recording that comes without.
        table: How the table is read, a specification or its fields by name.

    Raises:
        UserError: It can't be read, or what says which it is does not fit its format.
    """
    return open_source(
        RecordingSource(
            place=str(place),
            subject=subject,
            trial=trial,
            session=session,
            task=task,
            acquisition=acquisition,
            run=run,
            sentences=str(sentences),
            table=TableSpec.of(table),
        )
    )


def open_source(source: RecordingSource) -> Recording:
    """Open the recording of a source, which the recording keeps.

    Raises:
        UserError: See `open_recording`.
    """
    opened = _opened(source, source.here())
    if source.is_shared:  # found by whoever works in another folder
        named = str(Path(source.sentences).absolute()) if source.sentences else ""
        source = replace(source, place=str(source.here().absolute()), sentences=named)
    return replace(opened, source=source)


def _opened(source: RecordingSource, path: Path) -> Recording:
    with suppress(PermissionError):  # told by whoever reads it
        if not path.exists():
            raise UserError(f"recording {source.place} does not exist. Check the path.")
    if path.is_file() or path.suffix in FOLDERS:
        _refuse(source, "is one recording", "trial", *_OF_BIDS)
        open_one = open_nwb if path.suffix.lower() == SUFFIX else open_file
        return open_one(path, _sentences(source), source.table, subject=source.subject)
    if is_kept(path):
        _refuse(source, "is one recording", *_OF_BIDS, "trial", "sentences", "subject")
        return open_kept(path)
    if is_bids(path):
        _refuse(source, "is a BIDS folder", "trial")
        run = Run(**{each: getattr(source, each) for each in ENTITIES})
        return open_bids(path, run, _sentences(source) if source.sentences else None, source.table)
    _refuse(source, "is no BIDS folder", *_OF_BIDS, "sentences")
    return open_brain_treebank(path, source.subject or SUBJECT, source.trial or TRIAL)


def _sentences(source: RecordingSource) -> Path:
    """The table of sentences, or one of its name where the recording has moved to with it."""
    if not source.sentences:
        raise UserError(
            f"{source.place} says nothing of what was said. Give a table with `sentences`: onset, "
            "duration and text of each."
        )
    path, beside = Path(source.sentences), source.folder() / Path(source.sentences).name
    if source.is_shared:
        return beside if beside.is_file() and not path.is_file() else path
    if path.is_absolute():
        raise UserError(
            f"{source.place} is fetched by every machine, and `sentences` {path} lies on this one "
            "alone. Put the table beside the recording, and give its name there."
        )
    return source.folder() / path


def _refuse(source: RecordingSource, because: str, *names: str) -> None:
    for name in names:
        if given := getattr(source, name):
            raise UserError(
                f"{source.place} {because}, and `{name}` is {printable(given)}. Leave `{name}` out."
            )
