"""The files of a BIDS folder: which recording is meant, and which side-cars describe it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssense.data.recordings.signals.mne_signals import quietly
from ssense.errors import UserError, counted, printable
from ssense.files.tables import listing

if TYPE_CHECKING:
    import mne_bids

_SHORT = {
    "subject": "sub",
    "session": "ses",
    "task": "task",
    "acquisition": "acq",
    "run": "run",
}
ENTITIES = tuple(_SHORT)
_DATATYPES = ("ieeg", "eeg")  # in this order where a run has both
_SIDECARS = {".tsv", ".json", ".eeg", ".vmrk", ".fdt", ".gz", ".txt", ".md", ".html", ".svg"}
_MOST_NAMED = 4


@dataclass(frozen=True, kw_only=True)
class Run:
    """Which recording of a BIDS folder: values of its entities, empty for any.

    Attributes:
        subject: Label of the subject, "01" or "sub-01".
        session: Label of the session.
        task: Label of the task.
        acquisition: Label of the acquisition.
        run: Label of the run.
    """

    subject: str = ""
    session: str = ""
    task: str = ""
    acquisition: str = ""
    run: str = ""

    def labels(self) -> dict[str, str]:
        """Labels by entity without their prefixes, of those that are given."""
        found = {each: getattr(self, each) for each in ENTITIES if getattr(self, each)}
        return {each: label.removeprefix(f"{_SHORT[each]}-") for each, label in found.items()}


def is_bids(root: Path) -> bool:
    """Whether a folder is one of BIDS."""
    return (root / "dataset_description.json").is_file() or any(
        path.is_dir() for path in root.glob("sub-*")
    )


def find_recording(root: Path, run: Run) -> mne_bids.BIDSPath:
    """The one recording that is meant; of a run with iEEG and EEG the iEEG.

    Raises:
        UserError: There is none, or several may be meant.
    """
    left = _recordings(root)
    for entity, label in run.labels().items():
        found = _labels(left, entity)
        exact = [path for path in left if getattr(path, entity) == label]
        left = exact or [path for path in left if _same(getattr(path, entity), label)]
        if not left:
            raise UserError(
                f"no {entity} {printable(label)} in {root}. Found: {listing(found)}. Check "
                f"`{entity}`."
            )
    for entity in ENTITIES:
        if len(found := _labels(left, entity)) > 1:
            raise UserError(
                f"{root} has {counted(len(left), 'recording')} that may be meant. Say which "
                f"{entity} with `{entity}`: {listing(found)}."
            )
    first = min(_DATATYPES.index(str(path.datatype)) for path in left)
    left = [path for path in left if path.datatype == _DATATYPES[first]]
    if len(left) > 1:
        names = [path.basename for path in left]
        raise UserError(
            f"{root} has {len(left)} files for one run, which differ in {_differing(names)}. Give "
            "one of them as the recording, with its events.tsv as `sentences`."
        )
    return left[0]


def _recordings(root: Path) -> list[mne_bids.BIDSPath]:
    """All recordings of subjects; those in derivatives, sourcedata and such are others' copies."""
    import mne_bids

    def paths(_: Any) -> list[mne_bids.BIDSPath]:
        return list(
            mne_bids.find_matching_paths(root, datatypes=list(_DATATYPES), ignore_nosub=True)
        )

    found = [
        path
        for path in quietly(root, paths)
        if path.suffix in _DATATYPES and path.extension not in _SIDECARS
    ]
    if not found:
        raise UserError(
            f"{root} has no recording of iEEG or EEG such as sub-01/ieeg/sub-01_task-film_ieeg.edf."
            " Give the folder of a BIDS data set with its signals."
        )
    return found


def trial_of(path: mne_bids.BIDSPath) -> str:
    """What tells a recording from others of its subject: "task-film run-01"."""
    parts = [(short, getattr(path, entity)) for entity, short in _SHORT.items()][1:]
    return " ".join(f"{short}-{label}" for short, label in parts if label) or "recording"


def sidecar(path: mne_bids.BIDSPath, suffix: str, extension: str) -> Path | None:
    """The file that describes a recording, of no space of its own, see `sidecars`."""
    return sidecars(path, suffix, extension).get("")


def sidecars(path: mne_bids.BIDSPath, suffix: str, extension: str) -> dict[str, Path]:
    """Files that describe a recording, by BIDS's rule of inheritance, by the space in their names.

    Such a file lies in the recording's folder or one above it, and its name has no entity that the
    recording's has not; that which is nearest, and names most, counts.

    Raises:
        UserError: Two of them have the same right.
    """
    own = _entities(path.basename)
    folder, root = Path(path.directory), Path(path.root)
    found: dict[str, Path] = {}
    for at in (folder, *(each for each in folder.parents if each.is_relative_to(root))):
        here: dict[str, list[tuple[int, Path]]] = {}
        for file in sorted(at.glob(f"*{suffix}{extension}")):
            named = _entities(file.name)
            space = named.pop("space", "")
            is_one = file.name.removesuffix(extension).split("_")[-1] == suffix
            if is_one and named.items() <= own.items():
                here.setdefault(space, []).append((len(named), file))
        for space, files in here.items():
            found.setdefault(space, _most_named(files))
    return found


def _most_named(files: Sequence[tuple[int, Path]]) -> Path:
    most = max(n for n, _ in files)
    first, *others = [file for n, file in files if n == most]
    if others:
        raise UserError(
            f"{first} and {others[0].name} describe the same recording. Name in them the entities "
            "of the one that each is of, or join them."
        )
    return first


def _entities(name: str) -> dict[str, str]:
    """Labels by short entity of a file's name: "sub-01_run-2_events.tsv" has "01" and "2"."""
    parts = (part.partition("-") for part in name.split(".")[0].split("_")[:-1])
    return {entity: label for entity, dash, label in parts if dash}


def _differing(names: Sequence[str]) -> str:
    """What tells names of files apart: entities and endings."""
    all_of = [{**_entities(name), "ending": name.partition(".")[2]} for name in names]
    values = {
        key: sorted({each.get(key, "none") for each in all_of}) for each in all_of for key in each
    }
    return ", ".join(
        f"{key} ({listing(found, most=_MOST_NAMED)})"
        for key, found in values.items()
        if len(found) > 1
    )


def _labels(paths: Iterable[mne_bids.BIDSPath], entity: str) -> list[str]:
    return sorted({str(getattr(path, entity) or "none") for path in paths})


def _same(label: str | None, wanted: str) -> bool:
    """Whether two labels are the same; of whole numbers zeros in front don't count."""
    if label is None:
        return False
    if label.isdecimal() and wanted.isdecimal():
        return int(label) == int(wanted)
    return label == wanted
