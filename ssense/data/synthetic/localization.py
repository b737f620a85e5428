"""Where the contacts of a made-up recording lie: those of the published sub_9 where it has as many.

The coordinates are those of the Brain Treebank's sub_9 (Wang et al. 2024, https://braintreebank.dev,
CC BY 4.0) as the neuroprobe package 0.1.8 ships them (MIT licence), in MNI152 space, rounded to
0.01 mm. What words evoke in a made-up recording is made up wherever its contacts lie.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files

from ssense.data.coordinates import Place

LOCALIZATION = "localization/elec_coords_full.csv"
"""Path of the table in the Brain Treebank's layout."""
HEADER = "ID,Z,X,Y,Hemisphere,Subject,Electrode,Region\n"
SUB_9_UNLOCATED = ("P2a6", "P2a7", "P2a8")
"""Contacts of sub_9 that the published table has no coordinates of."""


def sub_9_places(names: Sequence[str]) -> Mapping[str, Place]:
    """Coordinates of the published sub_9's contacts by name, mm in MNI152 space (x, y, z).

    Args:
        names: Names of all contacts of a recording. Of others than the 106 of sub_9, nothing is
            known.
    """
    places = _published()
    return {name: places[name] for name in names} if set(names) == set(places) else {}


def coordinates_table(subject: str, places: Mapping[str, Place]) -> str:
    """The Brain Treebank's table of coordinates, with its order of the axes and without regions.

    Args:
        subject: Whose contacts they are.
        places: Coordinates by the name of the contact, mm (x, y, z).
    """
    lines = [
        f"{number},{z:.2f},{x:.2f},{y:.2f},{int(x < 0)},{subject},{name},\n"
        for number, (name, (x, y, z)) in enumerate(places.items())
    ]
    return "".join([HEADER, *lines])


@cache
def _published() -> Mapping[str, Place]:
    text = files("ssense.data.synthetic").joinpath("sub_9_contacts.csv").read_text("utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return {row["electrode"]: (float(row["x"]), float(row["y"]), float(row["z"])) for row in rows}
