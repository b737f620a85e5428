"""Where a recording is, and which it is of those there."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ssense.data.recordings.tables.table_spec import TableSpec
from ssense.errors import printable
from ssense.files.storage import is_local, local_copy, locate

SUBJECT, TRIAL = "sub_9", "trial000"
"""The recording of Brain Treebank that SSENSE was published on."""
FOLDERS = (".ds", ".mff", ".mefd")
"""Endings of the names of folders that are one recording to MNE."""
_SPLIT = re.compile(r"_split-\d+")
_LED_TO = re.compile(r"^(?:DataFile|MarkerFile) *= *(.*?) *$", re.M)
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
        acquisition: Which acquisition of BIDS, likewise.
        run: Which run of BIDS, likewise.
        sentences: Table of what was said, in place of the run's events.tsv. A single file needs
            one. Of a recording that is fetched it is a path within the folder.
        table: How the table is read.
    """

    place: str
    subject: str = ""
    trial: str = ""
    session: str = ""
    task: str = ""
    acquisition: str = ""
    run: str = ""
    sentences: str = ""
    table: TableSpec = field(default_factory=TableSpec)

    @property
    def name(self) -> str:
        """What it is called before it is opened: "sub_9 trial000", "sub-01 task-film"."""
        of_bids = self.session, self.task, self.acquisition, self.run
        given = (self.subject, *of_bids, self.trial)
        return printable(" ".join(filter(None, given)) or PurePosixPath(self.place).name)

    @property
    def is_shared(self) -> bool:
        """Whether machines share its files, or each fetches them."""
        return is_local(locate(self.place))

    def here(self) -> Path:
        """The folder or file on this machine: itself, or a copy of what belongs to it.

        Raises:
            UserError: It can't be read.
        """
        place = locate(self.place)
        if is_local(place):
            return Path(str(place))
        if place.suffix:  # a file: with what lies beside it and is named like it
            wanted = self._beside(place.name)
            path = local_copy(place.parent, wanted) / place.name
            if led_to := _led_to(path):
                local_copy(place.parent, lambda other: wanted(other) or other in led_to)
            return path
        return local_copy(place, self.needs)

    def folder(self) -> Path:
        """The folder on this machine that the recording's files are in, see `here`."""
        path = self.here()
        return path.parent if path.is_file() or path.suffix in FOLDERS else path

    def needs(self, name: str) -> bool:
        """Whether a file of the folder may be needed: signals of other recordings are not.

        Args:
            name: Path of the file within the folder.
        """
        first, *below = PurePosixPath(name).parts
        if first in _NOT_OF_A_RUN:
            return False
        if below and first.startswith("sub-"):
            subject = self.subject.removeprefix("sub-")
            return not subject or first.removeprefix("sub-").lstrip("0") == subject.lstrip("0")
        signals = name.endswith((".h5", ".zip"))
        whose = f"{self.subject or SUBJECT}_{self.trial or TRIAL}.h5"
        return not signals or PurePosixPath(name).name == whose

    def _beside(self, name: str) -> Callable[[str], bool]:
        path = PurePosixPath(name)
        stem = r"_split-\d+".join(re.escape(part) for part in _SPLIT.split(path.stem))
        further = r"(-\d+)?" if path.suffix == ".fif" else ""  # as MNE splits a long recording
        like_it = re.compile(rf"{stem}{further}\..*")
        return lambda other: bool(like_it.fullmatch(other)) or other == self.sentences


def _led_to(path: Path) -> set[str]:
    """Names of the files that a BrainVision header leads to; it may be renamed without them."""
    if path.suffix not in (".vhdr", ".ahdr") or not path.is_file():
        return set()
    return set(_LED_TO.findall(path.read_text(encoding="latin-1")))
