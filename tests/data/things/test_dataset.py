from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from ssense.data.synthetic.things import SyntheticThingsSpec, write_synthetic_things
from ssense.data.things.averages import Things, read_things
from ssense.data.things.dataset import ImageDataset
from ssense.data.things.responses import ResponseSpec

SUBJECTS, CONCEPTS, EACH, TEST = 3, 12, 2, 5
IMAGES = CONCEPTS * EACH
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def things(tmp_path_factory) -> Things:
    root = tmp_path_factory.mktemp("things") / "data"
    spec = SyntheticThingsSpec(
        subjects=SUBJECTS,
        concepts=CONCEPTS,
        images_per_concept=EACH,
        test_concepts=TEST,
        test_repetitions=2,
        image_px=8,
    )
    write_synthetic_things(root, spec)
    return read_things(root, root, ResponseSpec())


@pytest.fixture(scope="module")
def dataset(things) -> ImageDataset:
    """Feature i of an image says which it is, and so does its red."""
    number = np.arange(IMAGES + TEST, dtype=np.float32)
    pixels = np.zeros((IMAGES + TEST, 3, 2, 2), np.uint8)
    pixels[:, 0] = number[:, None, None]
    return ImageDataset(
        digest="tiny",
        things=things,
        subject="sub-02",
        n_validation=4,
        features={"original": np.stack([number, -number], axis=1)},
        pixels=pixels,
    )


def test_every_response_comes_with_the_image_it_is_to(dataset, things):
    responses = dataset.on(CPU)
    for kind in ("intra-subject", "leave-one-subject-out"):
        split = dataset.split(kind, seed=3)
        for rows, signals in (
            (split.train, things.training),
            (split.validation, things.training),
            (split.test - SUBJECTS * IMAGES, things.test),
        ):
            test = signals is things.test
            pairs = responses.select(rows + test * SUBJECTS * IMAGES)
            n = TEST if test else IMAGES
            batch = pairs.batch(torch.arange(len(pairs)), ["original"], pixels=True)
            bare = pairs.batch(torch.arange(len(pairs)), [], pixels=False)
            assert (bare.features, bare.pixels) == ({}, None)
            for row, signal, feature, image in zip(
                rows, batch.signals, batch.features["original"], batch.pixels, strict=True
            ):
                subject, shown = divmod(int(row), n)
                assert np.array_equal(signal, signals[subject, shown])
                assert feature.tolist() == [shown + IMAGES * test, -shown - IMAGES * test]
                assert int(image[0, 0, 0]) == shown + IMAGES * test


def test_a_gallery_holds_each_shown_image_once(dataset):
    split = dataset.split("leave-one-subject-out", seed=0)
    validation = dataset.on(CPU).select(split.validation)
    images, targets = validation.gallery()
    assert len(validation) == 2 * 4  # of the two other subjects
    assert len(images) == 4
    assert torch.equal(images[targets], validation.images)
    test = dataset.on(CPU).select(split.test)
    assert test.gallery()[0].tolist() == list(range(IMAGES, IMAGES + TEST))


def test_nothing_that_chooses_has_been_trained_on(dataset, things):
    for seed in range(20):
        split = dataset.split("leave-one-subject-out", seed)
        concept = things.training_images.concept
        trained, held_out = (concept[rows % IMAGES] for rows in (split.train, split.validation))
        assert not set(trained) & set(held_out)
        assert not {1} & {int(row) // IMAGES for row in (*split.train, *split.validation)}
        assert (split.test >= SUBJECTS * IMAGES).all()
        assert (split.test - SUBJECTS * IMAGES).tolist() == list(range(TEST, 2 * TEST))


def test_one_split_seed_holds_the_concepts_fixed_for_all_seeds(dataset):
    fixed = dataclasses.replace(dataset, split_seed=7)
    alone = dataset.split("intra-subject", 7)
    for seed in (0, 1, 7):
        split = fixed.split("intra-subject", seed)
        assert np.array_equal(split.train, alone.train)
        assert np.array_equal(split.validation, alone.validation)
    assert not np.array_equal(dataset.split("intra-subject", 1).train, alone.train)


def test_the_peers_choice_by_the_test_has_a_name_of_its_own(dataset):
    honest = dataset.split("intra-subject", seed=1)
    peers = dataset.split("intra-subject, best test epoch", seed=1)
    assert np.array_equal(peers.validation, honest.test)
    assert {*peers.train} == {*range(IMAGES, 2 * IMAGES)}  # every concept of the subject
    assert np.array_equal(peers.test, honest.test)


def test_rows_of_training_and_test_do_not_mix(dataset):
    rows = np.array([0, SUBJECTS * IMAGES])
    with pytest.raises(ValueError, match="all of the training responses or all of the test"):
        dataset.on(CPU).select(rows)


def test_on_the_cpu_all_folds_share_one_copy(dataset, things):
    for subject in things.subjects:
        fold = dataclasses.replace(dataset, subject=subject).on(CPU)
        assert np.shares_memory(fold.training.numpy(), things.training)
        assert np.shares_memory(fold.test.numpy(), things.test)
