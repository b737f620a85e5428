"""The image folders of THINGS-EEG2 and THINGS-MEG, in the order of the responses to them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ssense.choices import Part
from ssense.errors import UserError, counted, one_line, printable
from ssense.files.restricted_pickle import load_restricted
from ssense.files.tables import listing

FOLDERS: dict[Part, tuple[str, ...]] = {
    "training": ("training_images", "train_images"),
    "test": ("test_images",),
}
METADATA = "image_metadata.npy"
_METADATA_KEYS: dict[Part, str] = {"training": "train", "test": "test"}
_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, eq=False, kw_only=True)
class ImageSet:
    """The N images of one part.

    Attributes:
        folder: Folder with a folder for each concept.
        files: "00001_aardvark/aardvark_01b.jpg" and so on, N, in the order of the responses.
        concepts: Names of the folders in `folder`, in order.
        concept: Number of each image's concept, int64 `[N]`.
    """

    folder: Path
    files: tuple[str, ...]
    concepts: tuple[str, ...]
    concept: np.ndarray

    def __len__(self) -> int:
        return len(self.files)


def read_image_set(root: Path, part: Part) -> ImageSet:
    """List the images of one part: concepts sorted by folder name, images by file name.

    Rows of the published responses are in this order. The file of THINGS-EEG2 that says so,
    `image_metadata.npy` beside the folders, is compared if it exists. A file that is neither JPEG
    nor PNG, or is hidden, does not count as an image.

    Raises:
        UserError: A folder is missing or empty, or the metadata file is damaged or has another
            order.
    """
    image_set = list_images(_folder(root, part))
    if (root / METADATA).exists():
        _compare(image_set, root / METADATA, part)
    return image_set


def list_images(folder: Path) -> ImageSet:
    """List the images of a folder with a folder for each concept, both in the order of names.

    Raises:
        UserError: The folder or one of a concept is missing or empty.
    """
    try:
        concepts = _visible(path for path in folder.iterdir() if path.is_dir())
        images = [_visible(_images(folder / concept)) for concept in concepts]
    except OSError as error:
        raise UserError(
            f"cannot read {folder}: {one_line(error)}. Check its permissions."
        ) from error
    empty = [concept for concept, names in zip(concepts, images, strict=True) if not names]
    if empty or not concepts:
        raise UserError(
            f"{folder / printable(empty[0]) if empty else folder} holds no image. "
            "Unpack the images there, or remove the folder."
        )
    return ImageSet(
        folder=folder,
        files=tuple(
            f"{c}/{name}" for c, names in zip(concepts, images, strict=True) for name in names
        ),
        concepts=tuple(concepts),
        concept=np.repeat(np.arange(len(concepts)), [len(names) for names in images]),
    )


def require_zero_shot(training: ImageSet, test: ImageSet) -> None:
    """Refuse test concepts that occur in training.

    Raises:
        UserError: Concepts occur in both; the message names them.
    """
    known = {concept_name(concept) for concept in training.concepts}
    shared = [concept for concept in test.concepts if concept_name(concept) in known]
    if shared:
        raise UserError(
            f"{counted(len(shared), 'concept')} of {test.folder} can be found in {training.folder} "
            f"too: {listing(shared)}. Remove them from the training images and responses."
        )


def concept_name(folder: str) -> str:
    """The concept of a folder "00001_aardvark", whose number the two parts count apart."""
    number, _, name = folder.partition("_")
    return name if number.isdigit() and name else folder


def _folder(root: Path, part: Part) -> Path:
    for name in FOLDERS[part]:
        if (root / name).is_dir():
            return root / name
    found = sorted(path.name for path in root.iterdir()) if root.is_dir() else []
    raise UserError(
        f"{root} has no folder {' or '.join(FOLDERS[part])}. Found: {listing(found)}. "
        "Give the folder that holds the image folders."
    )


def _images(folder: Path) -> Iterable[Path]:
    return (path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)


def _visible(paths: Iterable[Path]) -> list[str]:
    return sorted(path.name for path in paths if not path.name.startswith("."))


def _compare(image_set: ImageSet, path: Path, part: Part) -> None:
    metadata, key = load_restricted(path), _METADATA_KEYS[part]
    columns = [_names(metadata, f"{key}_img_{name}", path) for name in ("concepts", "files")]
    if len(columns[0]) != len(columns[1]):
        raise UserError(
            f"{path} lists {counted(len(columns[1]), f'{part} image')} of "
            f"{counted(len(columns[0]), 'concept')}, one concept for each was expected. Restore "
            "the file from the download."
        )
    listed = [f"{concept}/{name}" for concept, name in zip(*columns, strict=True)]
    if len(listed) != len(image_set):
        raise UserError(
            f"{path} lists {counted(len(listed), f'{part} image')}, {image_set.folder} holds "
            f"{len(image_set)}. Unpack the images again, or restore the file from the download."
        )
    for row, (ours, theirs) in enumerate(zip(image_set.files, listed, strict=True)):
        if ours != theirs:
            raise UserError(
                f"{path} has {printable(theirs)} as {part} image {row}, {image_set.folder} has "
                f"{printable(ours)} there. Unpack the images again, or restore the file from the "
                "download."
            )


def _names(metadata: Any, key: str, path: Path) -> list[str]:
    names = metadata.get(key) if isinstance(metadata, dict) else None
    names = names.tolist() if isinstance(names, np.ndarray) else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path} has no list of names {key}. Restore the file from the download.")
    return names
