"""Where contacts lie, from the table that comes with the Brain Treebank's download."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from ssense.files.tables import csv_columns, read_csv
from ssense.signal.contacts import LONGEST_LABEL, Contact, clean_label, read_names

COORDINATES = Path("localization") / "elec_coords_full.csv"

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
