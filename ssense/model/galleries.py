"""Galleries: what a brain's query retrieves from, by name, so that tables never mix them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ssense.data.things_images import ImageSet, concept_name
from ssense.errors import UserError
from ssense.model.image_features import FeatureKind

GalleryName = Literal["original", "augmented-mean", "blurred", "class-centre"]
"""What stands for an image that was shown.

original, augmented-mean, blurred: its features of that kind (SSR, NeuroBridge and UBP).
class-centre: the mean of other images of its concept (NICE), which is another task.
"""


@dataclass(frozen=True, eq=False, kw_only=True)
class Gallery:
    """The candidates of a retrieval.

    Attributes:
        name: what stands for an image.
        candidates: features `[M, F]`, or uint8 pixels `[M, 3, S, S]` for an objective with the
            images in the loop.
    """

    name: GalleryName
    candidates: Tensor


def feature_gallery(
    name: FeatureKind, features: Mapping[FeatureKind, Tensor], shown: np.ndarray
) -> Gallery:
    """Gather the features of the images that were shown.

    Args:
        name: of the gallery, and kind of the features.
        features: of all images of a part, by kind.
        shown: rows of the candidates in it, `[M]`.
    """
    return Gallery(name=name, candidates=features[name][torch.from_numpy(shown)])


def class_centre_gallery(
    images: ImageSet, shown: np.ndarray, others: ImageSet, features: Tensor
) -> Gallery:
    """Average the features of other images of each concept that was shown.

    Args:
        images: of a part.
        shown: rows of the candidates in it, `[M]`.
        others: images to average; the file that was shown is left out where it is among them.
            The validation takes the training images, the test needs images that THINGS-EEG2 does
            not hold.
        features: of `others`, `[P, F]`.

    Raises:
        UserError: a concept has no other image.
    """
    rows_of: dict[str, list[int]] = {}
    for row, concept in enumerate(others.concept):
        rows_of.setdefault(concept_name(others.concepts[concept]), []).append(row)
    centres = []
    for row in shown:
        folder, file = images.files[row].split("/")
        known = rows_of.get(concept_name(folder), [])
        rows = [other for other in known if others.files[other].split("/")[1] != file]
        if not rows:
            raise UserError(
                f"{others.folder} holds no other image of {folder}, so its concept has no centre. "
                "Use the gallery original, or a folder with more images of the concepts."
            )
        centres.append(features[rows].mean(dim=0))
    return Gallery(name="class-centre", candidates=torch.stack(centres))


def require_one_gallery(names: Iterable[str]) -> str:
    """Refuse to put results of several galleries into one table.

    Args:
        names: of the galleries of all results.

    Returns:
        The one name.

    Raises:
        UserError: there are several, or none.
    """
    found = sorted(set(names))
    if len(found) != 1:
        raise UserError(
            f"a table needs results of one gallery, these have {', '.join(found) or 'none'}. "
            "Make a table for each."
        )
    return found[0]
