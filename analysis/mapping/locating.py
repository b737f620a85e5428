"""Where the electrodes of a sweep lie and in which regions, from all that may say so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from analysis.mapping.atlas import open_atlas
from analysis.mapping.places import Places
from analysis.mapping.spaces import MniSpace, in_mni152, mni_space, read_contacts
from analysis.options import Space
from ssense.data.coordinates import Coordinates, electrode_coordinates
from ssense.data.recordings.regions import of_electrodes, read_regions
from ssense.data.shards import Manifest
from ssense.errors import UserError, counted, printable
from ssense.signal.contacts import contacts_of
from ssense.signal.referencing import Derivation

_SPACES: dict[Space, MniSpace] = {"mni152": "MNI152", "mni305": "MNI305"}
_SAYS_NOTHING = ("", "other", "unknown", "mni", "mni_tal", "n/a")
"""Names of spaces that leave it to the user to say which one it is."""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What else than the recording says where electrodes lie.

    Attributes:
        space: Space of the coordinates; "recorded" for what their source says, "none" to use none.
        coordinates: CSV of contacts and coordinates; None for those of the recording.
        regions: CSV of contacts and regions; None for those of the recording.
        atlas: Atlas to name regions by, see `open_atlas`; None for none.
        atlas_labels: CSV of its numbers and names; None for none.
    """

    space: Space = "recorded"
    coordinates: str | None = None
    regions: str | None = None
    atlas: str | None = None
    atlas_labels: str | None = None


def locate(
    electrodes: Sequence[str], manifest: Manifest, subject: str, sources: Sources
) -> tuple[Places, list[str]]:
    """Find where electrodes lie; and say in sentences how, and of which it is not known.

    Args:
        electrodes: Names of the electrodes, some or all of the shards'.
        manifest: Manifest of the shards.
        subject: Whose electrodes they are.
        sources: What else says so.

    Raises:
        UserError: A table or atlas can't be read or is of other contacts, coordinates are in
            another space or unit than is said, or an atlas is asked for without coordinates.
    """
    at = {name: number for number, name in enumerate(manifest.electrodes)}
    numbers = [at[name] for name in electrodes]
    known = manifest.derivations or _by_name(manifest.electrodes)
    derivations = [known[number] for number in numbers]
    places, said = _placed(electrodes, derivations, numbers, manifest, subject, sources)
    if places.located.any() and places.without_coordinates:
        said.append(f"Without coordinates: {', '.join(places.without_coordinates)}.")
    places = _in_regions(places, numbers, manifest, subject, sources)
    if places.region_source and not places.region_of:
        said.append(f"{places.region_source} names a region of no electrode: regions have no map.")
    if places.region_of:
        said.append(f"Regions are those of {places.region_source}.")
        if not places.without_region and len({*places.region_of.values()}) == 1:
            said.append("All electrodes are in one region: regions have no map.")
        if places.without_region:
            said.append(f"Without a region: {', '.join(places.without_region)}.")
    return places, said


def _placed(
    electrodes: Sequence[str],
    derivations: Sequence[Derivation],
    numbers: Sequence[int],
    manifest: Manifest,
    subject: str,
    sources: Sources,
) -> tuple[Places, list[str]]:
    unknown = Places.unknown(electrodes)
    if sources.space == "none":
        return unknown, ["Electrodes are drawn by shaft, as was asked for."]
    coordinates = manifest.coordinates and manifest.coordinates.select(numbers)
    stated, source = manifest.space, "the recording"
    if sources.coordinates is not None:
        path = _file("--coordinates", sources.coordinates)
        coordinates, stated = _of_table(path, derivations, subject)
        source = sources.coordinates
    if coordinates is None:
        return unknown, ["No electrode's coordinates are known: all are drawn by shaft."]
    space = _space(stated, sources.space, source)
    if space is None:
        named = printable(stated) or f"a space that {source} does not name"
        advice = (
            "Where it is MNI152, or MNI305 as of fsaverage, --space mni152 or mni305 says so; "
            "others are to be registered to a template first."
            if _leaves_open(stated)
            else "Register them to a template first, and give them with --coordinates; or correct "
            f"the space that {source} names."
        )
        return unknown, [
            f"The coordinates are in {named}, which is none of MNI's: electrodes are drawn by "
            f"shaft. {advice}"
        ]
    mm = in_mni152(coordinates.array.astype(np.float64), space)
    said = ["Coordinates were converted from MNI305 to MNI152."] if space == "MNI305" else []
    return replace(unknown, mm=mm, space=stated or space), said


def _of_table(
    path: Path, derivations: Sequence[Derivation], subject: str
) -> tuple[Coordinates, str]:
    """Coordinates of electrodes from a table of contacts, and the space that it names."""
    contacts, stated = read_contacts(path, subject)
    found = electrode_coordinates(derivations, contacts)
    if found is None:
        raise UserError(
            f"{path} has coordinates of none of the {counted(len(derivations), 'electrode')} of "
            f"the sweep, {derivations[0].name} to {derivations[-1].name}, but of "
            f"{printable(', '.join(contacts), 60)}. Give the table of this recording."
        )
    return found, stated


def _space(stated: str, asked: Space, source: str) -> MniSpace | None:
    """The MNI space of coordinates; None where they are in none that is known."""
    found = mni_space(stated)
    if asked == "recorded":
        return found
    wanted = _SPACES[asked]
    if found != wanted and not _leaves_open(stated):
        raise UserError(
            f"--space {asked}: {source} says that its coordinates are in {printable(stated)}. "
            "Leave out --space, or correct what it says."
        )
    return wanted


def _leaves_open(stated: str) -> bool:
    """Whether the name of a space leaves it to the user to say which one it is."""
    return stated.strip().lower() in _SAYS_NOTHING


def _in_regions(
    places: Places, numbers: Sequence[int], manifest: Manifest, subject: str, sources: Sources
) -> Places:
    electrodes = places.electrodes
    if sources.regions is not None:
        path = _file("--regions", sources.regions)
        named = of_electrodes(read_regions(path, subject), list(electrodes), path)
        regions = tuple(named.get(name, "") for name in electrodes)
        return replace(places, regions=regions, region_source=path.name)
    if sources.atlas is not None:
        atlas = open_atlas(sources.atlas, sources.atlas_labels)
        if not places.located.any():
            raise UserError(
                f"--atlas {printable(sources.atlas)} names regions in MNI152, and no electrode's "
                "coordinates are known there. Say their space with --space, give a table with "
                "--coordinates, or name regions in one with --regions."
            )
        source = f"the atlas {sources.atlas}"
        return replace(places, regions=atlas.regions(places.mm), region_source=source)
    if not manifest.regions:
        return places
    regions = tuple(manifest.regions[number] for number in numbers)
    return replace(places, regions=regions, region_source="the recording")


def _by_name(names: Sequence[str]) -> tuple[Derivation, ...]:
    """What electrodes are made of where nothing noted it: of a pair "A1-A2", its contacts."""
    return tuple(
        Derivation(name, contacts[0] if len(contacts) > 1 else name, contacts[1:])
        for name, contacts in contacts_of(names).items()
    )


def _file(flag: str, given: str) -> Path:
    path = Path(given)
    if not path.is_file():
        raise UserError(f"{flag} {printable(given)} is no file. Give a CSV of electrodes.")
    return path
