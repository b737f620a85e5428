from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ssense.data.things_images import ImageSet
from ssense.errors import UserError
from ssense.model.galleries import class_centre_gallery, feature_gallery, require_one_gallery


def image_set(*files: str) -> ImageSet:
    concepts = sorted({file.split("/")[0] for file in files})
    concept = np.array([concepts.index(file.split("/")[0]) for file in files])
    return ImageSet(folder=Path("images"), files=files, concepts=tuple(concepts), concept=concept)


TRAINING = image_set("00001_ant/a.jpg", "00001_ant/b.jpg", "00001_ant/c.jpg", "00002_bee/a.jpg")
FEATURES = torch.arange(8.0).view(4, 2) ** 2


def test_features_are_gathered_in_order():
    kinds = {"original": FEATURES, "blurred": -FEATURES}
    for name in ("original", "blurred"):
        gallery = feature_gallery(name, kinds, np.array([2, 0, 2]))
        assert gallery.name == name
        assert torch.equal(gallery.candidates, kinds[name][[2, 0, 2]])


def test_a_class_centre_leaves_out_what_was_shown():
    gallery = class_centre_gallery(TRAINING, np.array([1, 0]), TRAINING, FEATURES)
    assert gallery.name == "class-centre"
    expected = torch.stack([(FEATURES[0] + FEATURES[2]) / 2, (FEATURES[1] + FEATURES[2]) / 2])
    assert torch.equal(gallery.candidates, expected)


def test_other_images_may_come_from_a_folder_with_other_numbers():
    test = image_set("00001_bee/shown.jpg", "00002_ant/b.jpg")
    gallery = class_centre_gallery(test, np.array([0, 1]), TRAINING, FEATURES)
    expected = torch.stack([FEATURES[3], (FEATURES[0] + FEATURES[2]) / 2])
    assert torch.equal(gallery.candidates, expected)


def test_a_concept_without_other_images_is_one_line():
    for shown, others in ((TRAINING, TRAINING), (image_set("00001_cow/a.jpg"), TRAINING)):
        with pytest.raises(UserError, match=r"images holds no other image of 0000._(bee|cow)"):
            class_centre_gallery(shown, np.array([len(shown) - 1]), others, FEATURES)


def test_galleries_do_not_mix():
    assert require_one_gallery(["blurred", "blurred"]) == "blurred"
    with pytest.raises(UserError, match=r"these have blurred, original\. Make a table for each"):
        require_one_gallery(["original", "blurred", "original"])
    with pytest.raises(UserError, match="these have none"):
        require_one_gallery([])
