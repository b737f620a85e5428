"""Spaces of coordinates: those of MNI told apart, and converted to MNI152.

MNI305, which FreeSurfer's fsaverage is in, and MNI152 differ by up to some millimetres. Spaces of
single subjects, and template spaces of others, are in no affine relation to either.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from ssense.data.coordinates import Place
from ssense.data.recordings.regions import read_rows
from ssense.errors import UserError, counted, printable
from ssense.files.tables import csv_columns
from ssense.signal.contacts import clean_label

MniSpace = Literal["MNI152", "MNI305"]

_LIKE: tuple[tuple[MniSpace, str], ...] = (
    ("MNI152", r"(tpl)?(mni152|icbm152).*"),  # BIDS: MNI152Lin, MNI152NLin2009cAsym and others
    ("MNI305", r"(tpl)?(mni305.*|fsaverage(sym|\d)?)"),
)
MNI305_TO_MNI152 = np.array(
    [
        [0.9975, -0.0073, 0.0176, -0.0429],
        [0.0146, 1.0009, -0.0024, 1.5496],
        [-0.0130, -0.0093, 0.9971, 1.1840],
    ]
)
"""Millimetres in MNI305 to millimetres in MNI152, as FreeSurfer's documentation on coordinate
systems gives it (https://surfer.nmr.mgh.harvard.edu/fswiki/CoordinateSystems, case 8)."""
_LOWEST, _HIGHEST = np.array([-110.0, -145.0, -90.0]), np.array([110.0, 115.0, 125.0])
"""Corners of a box, mm, that the heads of MNI spaces lie in with room to spare."""
_FARTHEST_CM = 11.0
"""What no brain in an MNI space reaches from the origin along an axis, cm: its occipital pole lies
10.5 cm behind. Several electrodes within as many mm are in centimetres: of those that are
implanted deepest, some contact lies farther."""
_NAMES = ("electrode_label", "electrode", "contact", "label", "name")


def mni_space(named: str) -> MniSpace | None:
    """Which of the MNI spaces a name means, as BIDS and others spell them; None for no one of them.

    "mni_tal", MNE's name, and "MNI" alone stand for either, and so for none.
    """
    spelt = named.strip().lower().replace(" ", "").replace("-", "").replace("_", "")
    return next((space for space, names in _LIKE if re.fullmatch(names, spelt)), None)


def in_mni152(places: np.ndarray, space: MniSpace) -> np.ndarray:
    """Convert coordinates `[E, 3]`, mm, of an MNI space to MNI152; NaN stays.

    Raises:
        UserError: They are in another unit, or lie outside of the head.
    """
    check_mni(places)
    if space == "MNI152":
        return places
    converted: np.ndarray = places @ MNI305_TO_MNI152[:, :3].T + MNI305_TO_MNI152[:, 3]
    return converted


def check_mni(places: np.ndarray) -> None:
    """Refuse coordinates `[E, 3]`, mm, that can't be in an MNI space; NaN is not known.

    Raises:
        UserError: They are in another unit, or lie outside of the head.
    """
    known = places[np.isfinite(places).all(axis=1)]
    if not len(known):
        return
    largest = float(np.abs(known).max())
    if largest < 1 or (len(known) > 1 and largest < _FARTHEST_CM):
        unit = "metres" if largest < 1 else "centimetres"
        raise UserError(
            f"no coordinate exceeds {largest:.3g}, which are {unit}, not the millimetres of an MNI "
            "space. Correct the coordinates, or draw electrodes by shaft with --space none."
        )
    outside = ((known < _LOWEST) | (known > _HIGHEST)).any(axis=1)
    if outside.any():
        x, y, z = known[outside][0]
        raise UserError(
            f"{counted(int(outside.sum()), 'electrode lies', 'electrodes lie')} outside of the "
            f"head in an MNI space, the first at ({x:.0f}, {y:.0f}, {z:.0f}) mm: the coordinates "
            "are in another space. Draw electrodes by shaft with --space none."
        )


def read_contacts(path: Path, subject: str) -> tuple[dict[str, Place], str]:
    """Coordinates of contacts by name, mm, from a CSV; and the space that it names.

    It has a column called electrode, contact, name, electrode_label or label, in any case, and x, y
    and z; or columns of a space, such as mni152_x, those of MNI152 where there are several. A
    column called space names the space of x, y and z, in one row for all. Contacts without
    coordinates are left out.

    Raises:
        UserError: The file is no such table, has a coordinate that is no number, names a contact or
            two spaces twice, or no place.
    """
    columns = {each.lower(): each for each in csv_columns(path)}
    name = next((columns[each] for each in _NAMES if each in columns), None)
    prefix = next(
        (each for each in ("mni152_", "mni305_", "fsaverage_", "") if f"{each}x" in columns), None
    )
    axes = [] if prefix is None else [columns.get(f"{prefix}{axis}", "") for axis in "xyz"]
    if name is None or not axes or not all(axes):
        raise UserError(
            f"{path} has no columns electrode, x, y and z; its columns are "
            f"{printable(', '.join(columns.values()))}. Give a CSV of contacts and coordinates."
        )
    spaces = columns.get("space") if not prefix else None
    wanted = dict.fromkeys([name, *axes], pa.string())
    rows = read_rows(path, wanted | ({spaces: pa.string()} if spaces else {}), subject)
    named = {row[spaces].strip() for row in rows if row[spaces].strip()} if spaces else set()
    if len(named) > 1:
        raise UserError(
            f"{path} has coordinates in {' and '.join(sorted(map(printable, named)))}. Keep the "
            "rows of one space."
        )
    found = _placed(rows, name, axes, path)
    if not found:
        raise UserError(f"{path} has coordinates of no contact of {subject}. Give another table.")
    return found, prefix.rstrip("_") if prefix else "".join(named)


def _placed(
    rows: Sequence[Mapping[str, str]], name: str, axes: Sequence[str], path: Path
) -> dict[str, Place]:
    found: dict[str, Place] = {}
    for row in rows:
        contact = clean_label(str(row[name]).strip())
        x, y, z = (
            _number(row[axis], f"{path}: {axis} of {printable(contact, 30)}") for axis in axes
        )
        if not np.isfinite([x, y, z]).all():
            continue
        if found.setdefault(contact, (x, y, z)) != (x, y, z):
            raise UserError(
                f"{path} has {printable(contact, 30)} at two places. Remove one of its rows."
            )
    return found


def _number(cell: str, where: str) -> float:
    """A coordinate as a table has it, NaN where it has none.

    Raises:
        UserError: It is no number.
    """
    if cell.strip().lower() in ("", "n/a", "nan", "na"):
        return np.nan
    try:
        return float(cell)
    except ValueError:
        raise UserError(
            f"{where} is {printable(cell, 30)}, not a number of mm. Correct it, with a decimal "
            "point, or leave it empty."
        ) from None
