"""What a report was made from, to tell whether it still says all that there is to say."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from upath import UPath

import analysis
import ssense
from analysis.report.origin import CONTROLS
from ssense.engine.records.ledger import Ledger
from ssense.files.digest import digest
from ssense.files.source_code import python_files, source_digest
from ssense.files.storage import exists, read_whole

FILE = "made_from.txt"
REPORT = "evaluation/report.html"
OVER_SUBJECTS = "subjects.html"
"""The page over subjects, in the folder of their comparison."""

_CODE = [Path(str(package.__file__)).parent for package in (analysis, ssense)]


def made_from(ledger: Ledger) -> str:
    """Hash what a report is made from: the sweep, its cells, its controls, and all code.

    Raises:
        UserError: The storage can't be read, or a record is damaged.
    """
    cells = {signature: record.finished_at for signature, record in ledger.records().items()}
    sweep = replace(ledger.description(), updated_at="")  # each call writes it anew
    controls = hashlib.sha256(_content(ledger, CONTROLS)).hexdigest()
    files = {
        path.relative_to(folder.parent).as_posix(): path
        for folder in _CODE
        for path in python_files(folder)
    }
    return digest(cells, sweep, controls, ledger.reproductions(), source_digest(files))


def stands(ledger: Ledger) -> bool:
    """Whether a sweep's report is there, and all that it was made from is as it was.

    Raises:
        UserError: The storage can't be read, or a record is damaged.
    """
    kept = _content(ledger, f"evaluation/{FILE}").decode(errors="replace")
    return kept.strip() == made_from(ledger) and exists(ledger.folder / REPORT)


def folder_over_subjects(storage: UPath, ledgers: Sequence[Ledger]) -> UPath:
    """Folder of the comparison over the subjects of sweeps, by their names in order."""
    return storage / "image_evaluation" / digest([each.folder.name for each in ledgers])


def _content(ledger: Ledger, name: str) -> bytes:
    try:
        return read_whole(ledger.folder / name)
    except FileNotFoundError:
        return b""
