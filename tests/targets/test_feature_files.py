"""Features that were made elsewhere, in every form in which the peers have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ssense.data.things.images import ImageSet
from ssense.errors import UserError
from ssense.targets.feature_files import file_features, file_shape, folder_identity
from ssense.targets.image_features import ImageTowerSpec, cached_features, feature_shape

CONCEPTS, EACH, N_TEST, WIDTH = 6, 2, 4, 5
N = CONCEPTS * EACH
DRAWN = np.random.default_rng(0)
TRAINING, TEST = (DRAWN.standard_normal((n, WIDTH)).astype(np.float32) for n in (N, N_TEST))
LAYERS = DRAWN.standard_normal((N, 3, WIDTH)).astype(np.float32)
TEST_LAYERS = DRAWN.standard_normal((N_TEST, 3, WIDTH)).astype(np.float32)


def image_set(part: str, n: int) -> ImageSet:
    files = tuple(f"{i:05d}_c/{i}.jpg" for i in range(n))
    concepts = tuple(f"{i:05d}_c" for i in range(n))
    folder = Path(f"{part}_images")
    return ImageSet(folder=folder, files=files, concepts=concepts, concept=np.arange(n))


TRAINING_IMAGES, TEST_IMAGES = image_set("training", N), image_set("test", N_TEST)


def save_arrays(folder: Path, training: np.ndarray, test: np.ndarray) -> str:
    np.save(folder / "clip_feature_maps_training.npy", training)
    np.save(folder / "clip_feature_maps_test.npy", test)
    return str(folder)


def test_arrays_of_images(tmp_path):
    """NICE's."""
    folder = save_arrays(tmp_path, TRAINING, TEST)
    assert torch.equal(file_features(folder, TRAINING_IMAGES), torch.from_numpy(TRAINING))
    assert torch.equal(file_features(folder, TEST_IMAGES), torch.from_numpy(TEST))
    assert file_shape(folder) == (WIDTH, None)


def test_arrays_by_concept(tmp_path):
    by_concept = TRAINING.reshape(CONCEPTS, EACH, WIDTH).astype(np.float64)
    folder = save_arrays(tmp_path, by_concept, TEST[:, None])
    assert torch.equal(file_features(folder, TRAINING_IMAGES), torch.from_numpy(TRAINING))
    assert torch.equal(file_features(folder, TEST_IMAGES), torch.from_numpy(TEST))
    assert file_shape(folder) == (WIDTH, None)


@pytest.mark.parametrize("key", ["img_features", None])
def test_tensors_of_torch(tmp_path, key):
    """ATM's and UBP's, a dict with features of texts beside them."""
    for name, values in (("ViT-H-14_features_train.pt", TRAINING), ("ViT-H-14_test.pt", TEST)):
        tensor = torch.from_numpy(values)
        other = {"text_features": torch.zeros(2, 3)}
        torch.save(tensor if key is None else other | {key: tensor}, tmp_path / name)
    assert torch.equal(file_features(str(tmp_path), TRAINING_IMAGES), torch.from_numpy(TRAINING))
    assert torch.equal(file_features(str(tmp_path), TEST_IMAGES), torch.from_numpy(TEST))


@pytest.mark.parametrize("by_concept", [True, False])
def test_layers(tmp_path, by_concept):
    """SAMGA's."""
    training, test = LAYERS, TEST_LAYERS
    if by_concept:
        training = training.reshape(CONCEPTS, EACH, 3, WIDTH)
        test = test[:, None]
    folder = save_arrays(tmp_path, training, test)
    assert file_shape(folder) == (WIDTH, 3)
    found = file_features(folder, TRAINING_IMAGES, layer=2)
    assert torch.equal(found, torch.from_numpy(LAYERS[:, 1]))
    spec = ImageTowerSpec(model="files", weights=folder, mixture="all")
    assert feature_shape(spec) == (3, WIDTH)
    mixed = cached_features(TEST_IMAGES, ["original"], spec, tmp_path)["original"]
    assert torch.equal(mixed, torch.from_numpy(TEST_LAYERS))
    with pytest.raises(UserError, match="has 3 layers of features, and layer 4 is asked for"):
        file_features(folder, TEST_IMAGES, layer=4)
    with pytest.raises(UserError, match="has 3 layers of features, and none is asked for"):
        file_features(folder, TEST_IMAGES)


def test_features_are_named_by_what_they_are(tmp_path):
    first, second, third = (tmp_path / name for name in "abc")
    for folder in (first, second, third):
        folder.mkdir()
        save_arrays(folder, TRAINING, TEST if folder != third else TEST + 1)
    assert folder_identity(str(first)) == folder_identity(str(second))
    assert folder_identity(str(first)) != folder_identity(str(third))


def test_what_is_not_there_or_not_of_these_images_is_one_line(tmp_path):
    def refused(problem: str, images: ImageSet = TRAINING_IMAGES, layer: int | None = None) -> None:
        with pytest.raises(UserError, match=problem) as error:
            file_features(str(tmp_path), images, layer)
        assert "\n" not in str(error.value)

    refused('whose name has "train" in it, found none')
    save_arrays(tmp_path, TRAINING[:-1], TEST)
    refused(r"has features \(11, 5\), which are not of 12 images")
    refused("has features of no layers. Leave `layer` and `mixture` out", TEST_IMAGES, 1)
    save_arrays(tmp_path, np.full_like(TRAINING, np.nan), TEST)
    refused("holds NaN or infinity")
    save_arrays(tmp_path, np.arange(N), TEST)
    refused("not features as an array of floating point")
    torch.save(torch.from_numpy(TRAINING), tmp_path / "training.pt")
    refused("found clip_feature_maps_training.npy, training.pt")


def test_other_views_of_the_images_are_not_in_files(tmp_path):
    spec = ImageTowerSpec(model="files", weights=save_arrays(tmp_path, TRAINING, TEST))
    with pytest.raises(UserError, match="holds features of the original images, and blurred ones"):
        cached_features(TEST_IMAGES, ["blurred"], spec, tmp_path)
