"""Regions of places in MNI152 space, by an atlas: of a file, of nilearn, or of points in nilearn.

An atlas of points comes with nilearn. Others nilearn downloads once, to its folder in the home
directory, or are files of the user's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from ssense.errors import UserError, one_line, printable
from ssense.files.tables import csv_columns, read_csv

NEAR_MM = 4.0
"""How far from a region of a volume a contact may lie to count as in it: about as far as contacts
are apart, since many lie in the white matter below the grey matter that they hear."""
POINT_MM = 15.0
"""How far from the centre of a region a contact may lie, where an atlas has centres alone."""
_VALUES, _LABELS = ("index", "value", "id", "label"), ("name", "region", "area", "label", "roi")


class Atlas(Protocol):
    """What names the region of a place."""

    def regions(self, mm: np.ndarray) -> tuple[str, ...]:
        """Name the region of each place `[E, 3]`, mm in MNI152; empty where it is in none.

        NaN, which is nowhere, is in none.
        """


@dataclass(frozen=True, kw_only=True, eq=False)
class Points:
    """An atlas of centres.

    Attributes:
        mm: Centres `[R, 3]`, mm in MNI152.
        names: Their names; several may have the same.
    """

    mm: np.ndarray
    names: tuple[str, ...]

    def regions(self, mm: np.ndarray) -> tuple[str, ...]:
        """Name the region with the nearest centre, up to `POINT_MM` away; see `Atlas`."""
        found = []
        for place in mm:
            distance = np.linalg.norm(self.mm - place, axis=1)
            nearest = int(np.argmin(distance)) if np.isfinite(place).all() else -1
            is_near = nearest >= 0 and distance[nearest] <= POINT_MM
            found.append(self.names[nearest] if is_near else "")
        return tuple(found)


@dataclass(frozen=True, kw_only=True, eq=False)
class Volume:
    """An atlas of voxels.

    Attributes:
        values: Number of the region at each voxel `[X, Y, Z]`; 0 for none.
        affine: Maps voxels to mm in MNI152, `[4, 4]`.
        names: Name of the region of a number; of others the number itself is the name.
    """

    values: np.ndarray
    affine: np.ndarray
    names: Mapping[int, str]

    def regions(self, mm: np.ndarray) -> tuple[str, ...]:
        """Name the region of the nearest voxel that has one, up to `NEAR_MM` away; see `Atlas`."""
        return tuple(map(self._region, mm))

    def _region(self, place: np.ndarray) -> str:
        if not np.isfinite(place).all():
            return ""
        at = np.linalg.solve(self.affine, [*place, 1.0])[:3]
        reach = np.ceil(NEAR_MM / np.linalg.norm(self.affine[:3, :3], axis=0)).astype(int) + 1
        low = np.maximum(np.rint(at).astype(int) - reach, 0)
        high = np.minimum(np.rint(at).astype(int) + reach + 1, self.values.shape)
        if (low >= high).any():
            return ""
        voxels = np.stack(np.meshgrid(*map(np.arange, low, high), indexing="ij"), -1).reshape(-1, 3)
        values = self.values[tuple(voxels.T)]
        away = np.linalg.norm((voxels - at) @ self.affine[:3, :3].T, axis=1)
        # The voxel that the place lies in counts as nearest, however large it is.
        away[(np.rint(at) == voxels).all(axis=1)] = 0
        away[(values == 0) | (away > NEAR_MM)] = np.inf
        nearest = int(np.argmin(away))
        number = int(values[nearest])
        return self.names.get(number, str(number)) if np.isfinite(away[nearest]) else ""


def open_atlas(named: str, labels: str | None) -> Atlas:
    """An atlas by the name that nilearn has for it, or by its file.

    Args:
        named: "dosenbach", "harvard-oxford", "aal", or the path of a NIfTI file in MNI152 space.
        labels: A CSV with the columns index and name, of a file; None to name regions by numbers.

    Raises:
        UserError: There is no such atlas, or it can't be read or downloaded.
    """
    if labels is not None and named in _NILEARN:
        raise UserError(f"--atlas-labels is for a file, and {named} has names. Leave it out.")
    if named in _NILEARN:
        return _NILEARN[named]()
    path = Path(named)
    if not path.is_file():
        raise UserError(
            f"--atlas {printable(named)} is no file, and none of {', '.join(_NILEARN)}. Give one "
            "of these, or a NIfTI file of numbered regions in MNI152 space."
        )
    return _volume(path, _names(Path(labels)) if labels is not None else {})


def _volume(image: Any, names: Mapping[int, str]) -> Volume:
    import nibabel

    try:
        opened: Any = nibabel.load(image) if isinstance(image, Path) else image
        values = np.asanyarray(opened.dataobj)
        affine = np.asarray(opened.affine, np.float64)
    except (OSError, ValueError, nibabel.filebasedimages.ImageFileError) as error:
        raise UserError(
            f"--atlas {image}: no NIfTI file ({printable(one_line(error), 100)}). Give another."
        ) from error
    if values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
    if values.ndim != 3 or (np.rint(values) != values).any():
        raise UserError(
            f"--atlas {image} has the shape {list(values.shape)} or values that are no whole "
            "numbers. Give an image with the number of a region at each voxel."
        )
    return Volume(values=values.astype(np.int64), affine=affine, names=names)


def _names(path: Path) -> dict[int, str]:
    if not path.is_file():
        raise UserError(f"--atlas-labels {printable(str(path))} is no file. Give a CSV.")
    spelt = {each.lower(): each for each in csv_columns(path)}
    value = next((spelt[each] for each in _VALUES if each in spelt), None)
    label = next((spelt[each] for each in _LABELS if each in spelt and spelt[each] != value), None)
    if value is None or label is None:
        raise UserError(
            f"{path} has no columns index and name; its columns are "
            f"{printable(', '.join(spelt.values()))}. Give a CSV of numbers and names."
        )
    rows = read_csv(path, {value: pa.int64(), label: pa.string()}).to_pylist()
    return {row[value]: row[label].strip() for row in rows if row[value] is not None}


def _dosenbach() -> Atlas:
    from nilearn.datasets import fetch_coords_dosenbach_2010

    found = fetch_coords_dosenbach_2010()  # comes with nilearn
    mm = found.rois[["x", "y", "z"]].to_numpy(np.float64)
    # A number after the name, as in "vmPFC 1", tells several centres of one region apart.
    regions = [str(label).rsplit(" ", 1)[0] for label in found.labels]
    sides = np.where(mm[:, 0] < 0, "left", "right")
    names = tuple(f"{side} {region}" for side, region in zip(sides, regions, strict=True))
    return Points(mm=mm, names=names)


def _downloaded(fetch: Callable[[Any], Any]) -> Atlas:
    import nibabel
    from nilearn import datasets

    try:
        found = fetch(datasets)
    except Exception as error:  # of whatever the network and archives raise
        raise UserError(
            f"nilearn could not download the atlas ({printable(one_line(error), 100)}). Go online "
            "once, name dosenbach, which comes with nilearn, or give a file with --atlas."
        ) from error
    image = nibabel.load(found.maps) if isinstance(found.maps, str) else found.maps
    lut = found.lut
    names = dict(zip(map(int, lut["index"]), map(str, lut["name"]), strict=True))
    return _volume(image, names)


def _harvard_oxford() -> Atlas:
    return _downloaded(
        lambda nilearn: nilearn.fetch_atlas_harvard_oxford(
            "cort-maxprob-thr25-1mm", symmetric_split=True
        )
    )


def _aal() -> Atlas:
    return _downloaded(lambda nilearn: nilearn.fetch_atlas_aal("SPM12"))


_NILEARN: dict[str, Callable[[], Atlas]] = {
    "dosenbach": _dosenbach,
    "harvard-oxford": _harvard_oxford,
    "aal": _aal,
}
"""Atlases by name: the first comes with nilearn, which downloads the others."""
