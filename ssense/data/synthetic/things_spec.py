"""The specification of made-up THINGS data, and the options of the command that makes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ssense.choices import Part
from ssense.data.synthetic.spec import check_bounds
from ssense.errors import UserError, counted

FORMAT_VERSION = 1  # raise it when the same specification gives other files

Variant = Literal["official", "nice", "ubp", "neurobridge", "array"]
MEG_VARIANTS = ("ubp", "neurobridge", "array")

LEAST = {
    "subjects": 1,
    "concepts": 1,
    "images_per_concept": 1,
    "test_concepts": 1,
    "repetitions": 1,
}
LEAST |= {"test_repetitions": 1, "coupling": 0, "seed": 0, "image_px": 8}
MOST = {
    "subjects": 100,  # THINGS-EEG2 has 10
    "concepts": 10_000,  # of THINGS' 1854
    "images_per_concept": 100,
    "test_concepts": 10_000,
    "repetitions": 1_000,
    "test_repetitions": 1_000,  # THINGS-EEG2 has 80
    "coupling": 1_000,
    "seed": 2**32 - 1,  # as of every seed
    "image_px": 4_096,
}
MOST_VALUES = 2**33
"""Values of one subject, made in memory; THINGS-EEG2 has 1.0e9, THINGS-MEG 1.2e9."""
MOST_PIXELS = 2**36
"""Pixels of all images, written to disk; the 16,740 of THINGS-EEG2 have 4.2e9."""
_VALUES = {"eeg": 63 * 250, "meg": 271 * 201}  # of a response, at most


@dataclass(frozen=True, kw_only=True)
class SyntheticThingsSpec:
    """Specification of made-up THINGS data.

    Attributes:
        modality: EEG has 63 channels at 250 Hz (17 at 100 Hz in the official files), MEG 271 at
            200 Hz.
        variant: Whose files to write: THINGS-EEG2's own, those of NICE and ATM, of UBP, of
            NeuroBridge, or a bare array beside an info.json.
        subjects: Subjects who saw the images.
        concepts: Training concepts.
        images_per_concept: Images of each training concept; a test concept has one.
        test_concepts: Test concepts.
        repetitions: Repetitions of a training image.
        test_repetitions: Repetitions of a test image.
        coupling: Amplitude of what images evoke.
        seed: Draws images, patterns and noise.
        image_px: Side of the images, pixels.
        image_format: Format of the image files.
    """

    modality: Literal["eeg", "meg"] = "eeg"
    variant: Variant = "ubp"
    subjects: int = 3
    concepts: int = 300
    images_per_concept: int = 2
    test_concepts: int = 200
    repetitions: int = 2
    test_repetitions: int = 4
    coupling: float = 1.0
    seed: int = 0
    image_px: int = 32
    image_format: Literal["jpg", "png"] = "jpg"

    def __post_init__(self) -> None:
        """Refuse values that no data set can have."""
        object.__setattr__(self, "coupling", float(self.coupling))  # so that 1 is 1.0
        check_bounds(self, LEAST, MOST)
        if self.modality == "meg" and self.variant not in MEG_VARIANTS:
            raise UserError(
                f"there are no MEG files of the variant {self.variant}. "
                f"Choose {' or '.join(MEG_VARIANTS)}."
            )
        self._check_size()

    def _check_size(self) -> None:
        """Refuse more responses than a machine holds, and more pixels than a disk."""
        parts: tuple[Part, ...] = ("training", "test")
        for part in parts:
            concepts, each, repetitions = self.n_images(part)
            values = concepts * each * repetitions * _VALUES[self.modality]
            if values > MOST_VALUES:
                raise UserError(
                    f"{counted(repetitions, 'repetition')} of "
                    f"{counted(concepts * each, f'{part} image')} are about {values:.1e} samples "
                    f"of a subject; {MOST_VALUES:.1e} are the most. Ask for fewer of either."
                )
        images = self.concepts * self.images_per_concept + self.test_concepts
        if images * self.image_px**2 > MOST_PIXELS:
            raise UserError(
                f"{counted(images, 'image')} of {self.image_px} x {self.image_px} pixels are too "
                f"large: {MOST_PIXELS:.1e} pixels in all are the most. Ask for fewer or smaller "
                "ones."
            )

    def n_images(self, part: Part) -> tuple[int, int, int]:
        """Numbers of concepts, of images of each, and of repetitions of each."""
        if part == "test":
            return self.test_concepts, 1, self.test_repetitions
        return self.concepts, self.images_per_concept, self.repetitions


@dataclass(frozen=True, kw_only=True)
class SyntheticThingsCommand(SyntheticThingsSpec):
    """Data to make, and where."""

    out: Path
    """Folder to write to."""
