"""Folds of THINGS data: one subject alone, or all others for one, validated on held-out concepts.

A fold is a few arrays of row numbers into the one copy of the responses. Rows count through all
subjects, subject after subject: row `s·N + i` is subject s, image i, see `Things.rows`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from ssense.data.splits import Split
from ssense.data.things.averages import Things
from ssense.data.things.images import ImageSet
from ssense.errors import UserError, counted

FoldKind = Literal["intra-subject", "leave-one-subject-out"]
"""Whom a fold trains on.

intra-subject: the subject that is tested.
leave-one-subject-out: all subjects but the one that is tested.
"""

VALIDATION_CONCEPTS = 200
"""Number of held-out concepts: as many as the test has, so that recalls can be compared."""


def make_fold(
    kind: FoldKind,
    things: Things,
    subject: str,
    seed: int,
    n_validation: int = VALIDATION_CONCEPTS,
) -> Split:
    """Make the fold that tests one subject.

    The seed draws the held-out concepts and the one image of each, the same for every subject and
    kind; the rest of their images serves neither training nor validation. Of the subject that is
    left out nothing but test responses is used.

    Args:
        kind: Whom to train on.
        things: Subjects and images; the responses are not looked at.
        subject: Subject that is tested.
        seed: Seed of the split, apart from those of loader and model.
        n_validation: Number of concepts to hold out.

    Returns:
        Rows of the training responses to train on, and those to one image of each held-out concept;
        and the subject's rows of the test responses, for the test evaluation alone.

    Raises:
        UserError: There is no such subject, nobody else to train on, or too few concepts.
    """
    tested = _place(subject, things.subjects)
    sources = np.array([tested])
    if kind == "leave-one-subject-out":
        sources = np.delete(np.arange(len(things.subjects)), tested)
    if not len(sources):
        raise UserError(
            f"{subject} is the only subject, so leave-one-subject-out has none to train on. Give "
            "more in `subjects`."
        )
    held_out = held_out_images(things.training_images, seed, n_validation)
    concept = things.training_images.concept
    images = np.flatnonzero(~np.isin(concept, concept[held_out]))
    n_images, n_test = len(things.training_images), len(things.test_images)
    return Split(
        train=_rows(sources, images, n_images),
        validation=_rows(sources, held_out, n_images),
        test=_rows(np.array([tested]), np.arange(n_test), n_test),
    )


def held_out_images(images: ImageSet, seed: int, n_concepts: int) -> np.ndarray:
    """Draw concepts and one image of each, int64 `[n_concepts]`, in ascending order.

    Raises:
        UserError: Fewer concepts would be left to train on than one.
        ValueError: The seed is negative.
    """
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    if not 0 < n_concepts < len(images.concepts):
        raise UserError(
            f"{images.folder} has {counted(len(images.concepts), 'concept')}, of which "
            f"{n_concepts} cannot be held out for validation. Use fewer, or more images."
        )
    generator = np.random.default_rng(seed)
    drawn = np.sort(generator.choice(len(images.concepts), n_concepts, replace=False))
    return np.array([generator.choice(np.flatnonzero(images.concept == c)) for c in drawn])


def _place(subject: str, subjects: Sequence[str]) -> int:
    if subject not in subjects:
        raise UserError(
            f"no subject {subject} in the data. Found: {', '.join(subjects)}. Check `subjects`."
        )
    return subjects.index(subject)


def _rows(subjects: np.ndarray, images: np.ndarray, n_images: int) -> np.ndarray:
    rows: np.ndarray = subjects[:, None] * n_images + images
    return rows.ravel()
