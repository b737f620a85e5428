"""Where contacts lie, from the tables that come with the Brain Treebank's download."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from ssense.data.recordings.channels import known_region
from ssense.files.tables import csv_columns, read_csv
from ssense.signal.contacts import LONGEST_LABEL, Contact, clean_label, read_names

COORDINATES = Path("localization") / "elec_coords_full.csv"
VOXELS = "depth-wm.csv"
"""Name of the table of a subject's voxels, in its folder below localization."""
_REGION, _DESIKAN_KILLIANY = "Region", "DesikanKilliany"

_AXES = ("X", "Y", "Z")


def read_coordinates(path: Path, subject: str) -> dict[Contact, np.ndarray]:
    """Coordinates [3] of a subject's contacts, mm; empty without such a file.

    Contacts with a coordinate left blank, NaN or infinite are left out.

    Raises:
        UserError: The file is not a table, or a coordinate is not a number.
    """
    columns = {"Subject": pa.string(), "Electrode": pa.string()} | dict.fromkeys(
        _AXES, pa.float64()
    )
    if not path.is_file() or not set(columns) <= set(csv_columns(path)):
        return {}
    table = read_csv(path, columns)
    names = table["Electrode"].to_pylist()
    places = np.stack([table[axis].to_numpy() for axis in _AXES], axis=1)
    known = np.isfinite(places).all(axis=1)
    own = {
        clean_label(name): place
        for name, whose, is_known, place in zip(
            names, table["Subject"].to_pylist(), known, places, strict=True
        )
        if whose == subject and is_known and len(name) <= LONGEST_LABEL  # longer: not a label
    }
    contacts = read_names(list(own)).contacts
    return {contact: own[name] for name, contact in contacts.items()}


def read_regions(root: Path, subject: str) -> dict[Contact, str]:
    """The region of each of a subject's contacts that the download names.

    That of the table of coordinates; where it names none, the Desikan-Killiany parcel of the
    subject's table of voxels.

    Raises:
        UserError: A file is not a table.
    """
    found = _regions(root / COORDINATES, _REGION, subject)
    return found or _regions(root / COORDINATES.parent / subject / VOXELS, _DESIKAN_KILLIANY)


def _regions(path: Path, column: str, subject: str | None = None) -> dict[Contact, str]:
    wanted = ["Electrode", column, *(["Subject"] if subject else [])]
    if not path.is_file() or not set(wanted) <= set(csv_columns(path)):
        return {}
    rows = read_csv(path, dict.fromkeys(wanted, pa.string())).to_pylist()
    named = {
        clean_label(row["Electrode"]): region
        for row in rows
        if row.get("Subject", subject) == subject
        and len(row["Electrode"]) <= LONGEST_LABEL
        and (region := known_region(row[column]))
    }
    contacts = read_names(list(named)).contacts
    return {contact: named[name] for name, contact in contacts.items()}
