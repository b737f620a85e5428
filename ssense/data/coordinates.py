"""Where the electrodes of a dataset lie, by the coordinates of the contacts that they are of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ssense.files.digest import digest
from ssense.signal.referencing import Derivation

Place = tuple[float, float, float]
"""Coordinates of a contact, mm: x, y and z of the recording's own table, in the table's space."""


@dataclass(frozen=True, kw_only=True)
class Coordinates:
    """Where the electrodes of a dataset lie.

    Attributes:
        contacts: Digest of the coordinates of all contacts of the recording. It is the same for
            all datasets of a recording, whichever electrodes they have.
        places: Coordinates of each electrode, mm, in the space of the recording's own table; None
            where they are not known.
    """

    contacts: str
    places: tuple[Place | None, ...]

    @property
    def array(self) -> np.ndarray:
        """Coordinates `[E, 3]` float32, mm; NaN where they are not known."""
        nowhere = (np.nan,) * 3
        return np.array([place or nowhere for place in self.places], np.float32)

    def select(self, electrodes: Sequence[int]) -> Coordinates | None:
        """Where some of the electrodes lie, by their numbers; None where it is not known of any."""
        places = tuple(self.places[each] for each in electrodes)
        return replace(self, places=places) if any(places) else None


def contacts_digest(contacts: Mapping[str, Place]) -> str:
    """Name the coordinates of a recording's contacts."""
    return digest(contacts)


def electrode_coordinates(
    derivations: Sequence[Derivation], contacts: Mapping[str, Place]
) -> Coordinates | None:
    """Where electrodes lie; None where that is not known of any.

    A bipolar pair lies midway between its two contacts. By any other reference an electrode lies
    where its contact does: the mean that is subtracted is that of contacts around it, or of many.

    Args:
        derivations: What each electrode is made of.
        contacts: Coordinates of the recording's contacts, mm, by name.
    """
    places = tuple(_place(each, contacts) for each in derivations)
    if not any(places):
        return None
    return Coordinates(contacts=contacts_digest(contacts), places=places)


def _place(derivation: Derivation, contacts: Mapping[str, Place]) -> Place | None:
    names = [derivation.contact]
    if len(derivation.subtracted) == 1:
        names += derivation.subtracted
    if not all(name in contacts for name in names):
        return None
    x, y, z = np.mean([contacts[name] for name in names], axis=0).tolist()
    return x, y, z
