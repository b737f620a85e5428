"""Galleries: what stands for an image to be retrieved, such as the mean of its concept."""

from __future__ import annotations

import torch
from torch import Tensor

from ssense.data.things.images import ImageSet, concept_name
from ssense.errors import UserError


def class_centres(images: ImageSet, others: ImageSet, features: Tensor) -> Tensor:
    """Average the features of the other images of each image's concept.

    Args:
        images: The N images that were shown.
        others: The P images to average; the file that was shown is left out where it is among them.
            THINGS-EEG2 holds a single image of each test concept, so these come from elsewhere.
        features: Features of `others`, `[P, F]`.

    Returns:
        `[N, F]`.

    Raises:
        UserError: A concept has no other image.
    """
    rows_of: dict[str, list[int]] = {}
    for row, concept in enumerate(others.concept):
        rows_of.setdefault(concept_name(others.concepts[concept]), []).append(row)
    centres = []
    for shown in images.files:
        folder, file = shown.split("/")
        known = rows_of.get(concept_name(folder), [])
        rows = [row for row in known if others.files[row].split("/")[1] != file]
        if not rows:
            raise UserError(
                f"{others.folder} holds no other image of {folder}, so its concept has no centre. "
                "Choose another `gallery`, or give a folder with more images of the concepts as "
                "`more_images`."
            )
        centres.append(features[rows].mean(dim=0))
    return torch.stack(centres)
