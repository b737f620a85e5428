from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ssense.data.things.images import ImageSet
from ssense.errors import UserError
from ssense.targets.galleries import class_centres


def image_set(*files: str) -> ImageSet:
    concepts = sorted({file.split("/")[0] for file in files})
    concept = np.array([concepts.index(file.split("/")[0]) for file in files])
    return ImageSet(folder=Path("images"), files=files, concepts=tuple(concepts), concept=concept)


ANTS = image_set("00001_ant/a.jpg", "00001_ant/b.jpg", "00001_ant/c.jpg")
POOL = image_set(*ANTS.files, "00002_bee/a.jpg")
FEATURES = torch.arange(8.0).view(4, 2) ** 2


def test_a_class_centre_leaves_out_what_was_shown():
    a, b, c, _ = FEATURES
    expected = torch.stack([(b + c) / 2, (a + c) / 2, (a + b) / 2])
    assert torch.equal(class_centres(ANTS, POOL, FEATURES), expected)


def test_other_images_may_come_from_a_folder_with_other_numbers():
    test = image_set("00001_bee/shown.jpg", "00002_ant/b.jpg")
    expected = torch.stack([FEATURES[3], (FEATURES[0] + FEATURES[2]) / 2])
    assert torch.equal(class_centres(test, POOL, FEATURES), expected)


def test_a_concept_without_other_images_is_one_line():
    for shown in (POOL, image_set("00001_cow/a.jpg")):
        with pytest.raises(UserError, match=r"images holds no other image of 0000._(bee|cow), so"):
            class_centres(shown, POOL, FEATURES)
