"""Regions of electrodes, from a table of contacts, and coordinates that can be drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from ssense.errors import UserError, counted, printable
from ssense.files.tables import csv_columns, read_csv
from ssense.signal.contacts import clean_label

_NAMES = ("electrode", "contact", "name", "electrode_label", "label")
_REGIONS = ("region", "area", "roi")
_UNKNOWN = ("", "n/a", "nan", "unknown", "none")
_LOWEST, _HIGHEST = np.array([-110.0, -145.0, -90.0]), np.array([110.0, 115.0, 125.0])
"""Corners of a box, mm, that the heads of MNI spaces lie in with room to spare."""


def read_regions(path: Path, subject: str) -> dict[str, str]:
    """The region of each contact that a CSV names, by the contact's name.

    Its columns are called electrode, contact, name, electrode_label or label, and region, area or
    roi, in any case; of a table of several subjects, with the column subject, this one's rows are
    read. Contacts whose region is left blank, or unknown, have none.

    Raises:
        UserError: The file is no such table, names one contact twice, or no contact's region.
    """
    columns = csv_columns(path)
    name, region = (_column(path, columns, known) for known in (_NAMES, _REGIONS))
    whose = next((each for each in columns if each.lower() == "subject"), None)
    wanted = dict.fromkeys([name, region, *([whose] if whose else [])], pa.string())
    table = read_csv(path, wanted).to_pylist()
    found: dict[str, str] = {}
    for row in table:
        contact, where = clean_label(row[name].strip()), row[region].strip()
        if (whose and row[whose] != subject) or where.lower() in _UNKNOWN:
            continue
        if found.setdefault(contact, where) != where:
            raise UserError(
                f"{path} has two regions of {printable(contact, 30)}: {printable(found[contact])} "
                f"and {printable(where)}. Remove one."
            )
    if not found:
        raise UserError(f"{path} has no region of any contact of {subject}. Give another table.")
    return found


def _column(path: Path, columns: list[str], known: tuple[str, ...]) -> str:
    named = {each.lower(): each for each in columns}
    for name in known:
        if name in named:
            return named[name]
    raise UserError(
        f"{path} has no column {' or '.join(known)}; its columns are "
        f"{printable(', '.join(columns))}. Give a CSV of contacts and their regions."
    )


def of_electrodes(regions: dict[str, str], electrodes: list[str], source: Path) -> dict[str, str]:
    """The regions of electrodes: of a bipolar pair "A1-A2" that of its first contact.

    Raises:
        UserError: The table is of other contacts.
    """
    firsts = {name: name if name in regions else name.partition("-")[0] for name in electrodes}
    found = {name: regions[first] for name, first in firsts.items() if first in regions}
    if not found:
        raise UserError(
            f"{source} names none of the {counted(len(electrodes), 'electrode')} of the sweep, "
            f"{electrodes[0]} to {electrodes[-1]}, but {printable(', '.join(regions), 60)}. Give "
            "the table of this recording."
        )
    return found


def check_mni(places: np.ndarray) -> None:
    """Refuse coordinates `[E, 3]`, mm, that can't be in an MNI space; NaN is not known.

    Raises:
        UserError: They are in another unit, or lie outside of the head.
    """
    known = places[np.isfinite(places).all(axis=1)]
    if not len(known):
        return
    largest = float(np.abs(known).max())
    if largest < 1:
        raise UserError(
            f"no coordinate exceeds {largest:.3g}, which are metres, not the millimetres of an MNI "
            "space. Correct the recording's coordinates, or leave out --space mni."
        )
    outside = ((known < _LOWEST) | (known > _HIGHEST)).any(axis=1)
    if outside.any():
        x, y, z = known[outside][0]
        raise UserError(
            f"{counted(int(outside.sum()), 'electrode lies', 'electrodes lie')} outside of the "
            f"head in an MNI space, the first at ({x:.0f}, {y:.0f}, {z:.0f}) mm: the coordinates "
            "are in another space. Leave out --space mni."
        )
