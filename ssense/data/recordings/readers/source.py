"""Where a recording is, which it is of those there, and how it is opened, whatever its format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ssense.data.recordings.readers.arrays import is_kept, open_kept
from ssense.data.recordings.readers.bids import Run, is_bids, open_bids
from ssense.data.recordings.readers.brain_treebank import of_recording, open_recording
from ssense.data.recordings.readers.mne_file import open_file
from ssense.data.recordings.readers.nwb import SUFFIX, open_nwb
from ssense.data.recordings.recording import Recording
from ssense.data.recordings.tables.table_spec import TableSpec
from ssense.errors import UserError, printable
from ssense.files.storage import is_local, local_copy, locate

SUBJECT, TRIAL = "sub_9", "trial000"
"""The recording of Brain Treebank that SSENSE was published on."""

# Folders that are one recording to MNE, and files that belong to one.
_FOLDERS = (".ds", ".mff", ".mefd")
_OF_BIDS = ("session", "task", "run")
_NOT_OF_A_RUN = ("derivatives", "sourcedata", "stimuli", "code")


@dataclass(frozen=True, kw_only=True)
class RecordingSource:
    """Where a recording is, and which of those there.

    Attributes:
        place: Folder of a BIDS data set, of an unpacked Brain Treebank download or of a recording
            that was kept; a file that MNE reads; or the URL of one of them.
        subject: Which subject; empty for the only one, or for Brain Treebank's sub_9.
        trial: Which of a subject's recordings of Brain Treebank; empty for trial000.
        session: Which session of BIDS, empty for the only one.
        task: Which task of BIDS, likewise.
        run: Which run of BIDS, likewise.
        sentences: Table of what was said, in place of the run's events.tsv. A single file needs
            one.
        table: How the table is read.
    """

    place: str
    subject: str = ""
    trial: str = ""
    session: str = ""
    task: str = ""
    run: str = ""
    sentences: str = ""
    table: TableSpec = field(default_factory=TableSpec)

    @property
    def name(self) -> str:
        """What it is called before it is opened: "sub_9 trial000", "sub-01 task-film"."""
        given = (self.subject, self.session, self.task, self.run, self.trial)
        return printable(" ".join(filter(None, given)) or PurePosixPath(self.place).name)

    @property
    def is_shared(self) -> bool:
        """Whether machines share its files, or each fetches them."""
        return is_local(locate(self.place))

    def open(self) -> Recording:
        """Open the recording where it is, or what was fetched of it.

        Raises:
            UserError: It can't be read, or what says which it is does not fit its format.
        """
        path = self.here()
        if path.is_file() or path.suffix in _FOLDERS:
            self._refuse(f"{self.place} is one recording", "trial", "session", "task", "run")
            if path.suffix == SUFFIX:
                return open_nwb(
                    path, self._sentences(needed=path), self.table, subject=self.subject
                )
            return open_file(path, self._sentences(needed=path), self.table, subject=self.subject)
        if is_kept(path):
            kept = f"{self.place} is one recording"
            self._refuse(kept, *_OF_BIDS, "trial", "sentences", "subject")
            return open_kept(path)
        if is_bids(path):
            self._refuse(f"{self.place} is a BIDS folder", "trial")
            run = Run(subject=self.subject, session=self.session, task=self.task, run=self.run)
            sentences = self._sentences() if self.sentences else None
            return open_bids(path, run, sentences, self.table)
        self._refuse(f"{self.place} is no BIDS folder", *_OF_BIDS, "sentences")
        return open_recording(path, self.subject or SUBJECT, self.trial or TRIAL)

    def here(self) -> Path:
        """The folder or file on this machine: itself, or a copy of what belongs to it.

        Raises:
            UserError: It can't be read.
        """
        place = locate(self.place)
        if is_local(place):
            return Path(str(place))
        if place.suffix:  # a file: with what lies beside it and is named like it
            return local_copy(place.parent, self._beside(place.name)) / place.name
        return local_copy(place, self._of_recording)

    def folder(self) -> Path:
        """The folder on this machine that the recording's files are in, see `here`."""
        path = self.here()
        return path if path.is_dir() else path.parent

    def _of_recording(self, name: str) -> bool:
        """Whether a file of a folder may be needed: signals of other recordings are not."""
        first, *below = PurePosixPath(name).parts
        if first in _NOT_OF_A_RUN:
            return False
        if below and first.startswith("sub-"):
            subject = self.subject.removeprefix("sub-")
            return not subject or first.removeprefix("sub-").lstrip("0") == subject.lstrip("0")
        return of_recording(self.subject or SUBJECT, self.trial or TRIAL, name)

    def _beside(self, name: str) -> Callable[[str], bool]:
        stem = PurePosixPath(name).stem
        return lambda other: other.startswith(f"{stem}.") or other == self.sentences

    def _sentences(self, needed: Path | None = None) -> Path:
        """The table of sentences; in the recording's folder, where that is fetched."""
        if not self.sentences and needed is not None:
            raise UserError(
                f"{self.place} says nothing of what was said. Give a table with `sentences`: "
                "onset, duration and text of each."
            )
        return Path(self.sentences) if self.is_shared else self.here().parent / self.sentences

    def _refuse(self, because: str, *names: str) -> None:
        for name in names:
            if given := getattr(self, name):
                raise UserError(
                    f"{because}, and `{name}` is {printable(given)}. Leave `{name}` out."
                )
