from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ssense.data.things.images import ImageSet, read_image_set, require_zero_shot
from ssense.errors import UserError

FILES = (
    *("00001_aardvark/aardvark_01b.jpg", "00001_aardvark/aardvark_02s.jpg"),
    *("00002_abacus/abacus_01b.PNG", "00010_zebra/zebra_01b.jpeg", "00010_zebra/zebra_10s.jpg"),
)


def written(root: Path, files=FILES, folder: str = "training_images") -> Path:
    for name in reversed(files):  # so that the order of making is not the order expected
        path = root / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def metadata(files=FILES, key: str = "train") -> dict[str, list[str]]:
    pairs = [name.split("/") for name in files]
    return {
        f"{key}_img_concepts": [concept for concept, _ in pairs],
        f"{key}_img_files": [name for _, name in pairs],
    }


def message(root: Path, part="training") -> str:
    with pytest.raises(UserError) as error:
        read_image_set(root, part)
    assert str(error.value).isprintable()
    return str(error.value)


@pytest.mark.parametrize("folder", ["training_images", "train_images"])
def test_images_are_sorted_by_concept_and_file(folder, tmp_path):
    images = read_image_set(written(tmp_path, folder=folder), "training")
    assert images.files == FILES
    assert images.concepts == ("00001_aardvark", "00002_abacus", "00010_zebra")
    assert images.concept.tolist() == [0, 0, 1, 2, 2]
    assert images.concept.dtype == np.int64
    assert all((images.folder / name).is_file() for name in images.files)
    assert len(images) == 5


def test_what_is_no_image_is_passed_over(tmp_path):
    odd = (".DS_Store", "00001_aardvark/._aardvark_01b.jpg", "00002_abacus/Thumbs.db", "notes.txt")
    written(tmp_path, (*FILES, *odd, ".cache/x.jpg"))
    assert read_image_set(tmp_path, "training").files == FILES


def test_the_metadata_must_agree(tmp_path):
    written(tmp_path)
    path = tmp_path / "image_metadata.npy"
    np.save(path, metadata())
    assert read_image_set(tmp_path, "training").files == FILES
    arrays = {key: np.array(names) for key, names in metadata().items()}
    np.save(path, arrays)
    assert read_image_set(tmp_path, "training").files == FILES
    np.save(path, metadata((FILES[1], FILES[0], *FILES[2:])))
    assert message(tmp_path) == (
        f"{path} has 00001_aardvark/aardvark_02s.jpg as training image 0, "
        f"{tmp_path}/training_images has 00001_aardvark/aardvark_01b.jpg there. "
        "Unpack the images again, or restore the file from the download."
    )
    np.save(path, metadata(FILES[1:]))
    assert f"lists 4 training images, {tmp_path}/training_images holds 5" in message(tmp_path)
    np.save(path, metadata() | {"train_img_concepts": ["x"]})
    assert "lists 5 training images of 1 concept," in message(tmp_path)
    for content in (metadata(key="test"), metadata() | {"train_img_files": [1] * 5}, [1], 3):
        np.save(path, np.array(content, dtype=object))
        assert "has no list of names train_img_" in message(tmp_path)


def test_missing_and_empty_folders_are_named(tmp_path):
    assert "has no folder training_images or train_images. Found: nothing" in message(tmp_path)
    assert "has no folder test_images" in message(tmp_path / "nowhere", "test")
    (tmp_path / "test_images").mkdir()
    assert f"{tmp_path}/test_images holds no image" in message(tmp_path, "test")
    (tmp_path / "test_images" / "00001_x").mkdir()
    assert f"{tmp_path}/test_images/00001_x holds no image" in message(tmp_path, "test")


def image_set(*concepts: str) -> ImageSet:
    files = tuple(f"{concept}/a.jpg" for concept in concepts)
    concept = np.arange(len(concepts))
    return ImageSet(folder=Path("set"), files=files, concepts=concepts, concept=concept)


def test_test_concepts_must_be_new_whatever_their_number():
    training = image_set("00001_aardvark", "00002_ice_cream")
    require_zero_shot(training, image_set("00001_airplane", "00002_cream"))
    with pytest.raises(
        UserError, match="1 concept of set can be found in set too: 00007_ice_cream"
    ):
        require_zero_shot(training, image_set("00001_airplane", "00007_ice_cream"))
