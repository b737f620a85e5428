from __future__ import annotations

import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from upath import UPath

from ssense.data.synthetic.things import SyntheticThingsSpec, write_synthetic_things
from ssense.data.things.averages import read_things
from ssense.data.things.images import read_image_set
from ssense.data.things.responses import ResponseSpec, average, open_responses
from ssense.errors import UserError

SPEC = SyntheticThingsSpec(
    variant="nice", subjects=3, concepts=3, test_concepts=2, image_px=8, test_repetitions=2
)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("things") / "nice"
    write_synthetic_things(root, SPEC)
    return root


def message(*arguments, **settings) -> str:
    with pytest.raises(UserError) as error:
        read_things(*arguments, **settings)
    assert str(error.value).isprintable()
    return str(error.value)


def test_subjects_are_stacked_in_order(root):
    things = read_things(root, root, ResponseSpec())
    assert things.subjects == ("sub-01", "sub-02", "sub-03")
    assert things.training.shape == (3, 6, 17, 250)
    assert things.test.shape == (3, 2, 17, 250)
    assert {things.training.dtype, things.test.dtype} == {np.dtype(np.float32)}
    for part, stacked in (("training", things.training), ("test", things.test)):
        images = read_image_set(root, part)
        for signals, subject in zip(stacked, things.subjects, strict=True):
            alone = average(open_responses(root / subject, part), images, ResponseSpec())
            assert np.array_equal(signals, alone)


def test_rows_are_the_same_memory(root):
    things = read_things(root, root, ResponseSpec())
    rows = things.rows("training")
    assert np.shares_memory(rows, things.training)
    assert np.array_equal(rows[2 * 6 + 5], things.training[2, 5])
    assert np.array_equal(things.rows("test")[3], things.test[1, 1])


def test_the_digest_names_what_the_responses_are_made_of(root, tmp_path):
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    spec = ResponseSpec()
    first = read_things(root, root, spec).digest
    assert read_things(tmp_path, tmp_path, spec).digest == first  # not where it lies
    others = {
        read_things(root, root, ResponseSpec(channels="all")).digest,
        read_things(root, root, ResponseSpec(stop_s=0.8)).digest,
        read_things(root, root, spec, ["sub-01", "sub-02"]).digest,
        read_things(root, root, spec, ["sub-02", "sub-01"]).digest,
    }
    path = tmp_path / "sub-02" / "preprocessed_eeg_test.npy"
    content = bytearray(path.read_bytes())
    content[-2000] ^= 1
    path.write_bytes(content)
    others.add(read_things(tmp_path, tmp_path, spec).digest)
    assert len(others | {first}) == 6


def test_it_fits_through_a_process_boundary(root):
    things = read_things(root, root, ResponseSpec(), ["sub-02"])
    again = pickle.loads(pickle.dumps(things, protocol=5))
    assert np.array_equal(again.training, things.training)
    assert again.training_images.files == things.training_images.files


def test_subjects_that_are_not_there_are_refused(root, tmp_path):
    spec = ResponseSpec()
    assert message(root, root, spec, ["sub-11"]) == (
        f"no subject sub-11 in {root}. Found: sub-01, sub-02, sub-03. Check `subjects`."
    )
    assert "sub-01 is given more than once" in message(root, root, spec, ["sub-01", "sub-01"])
    assert "has no folder of a subject" in message(tmp_path, root, spec)


def test_what_the_system_refuses_to_read_is_said_in_one_line(root):
    far = root / ("x" * 300)
    assert message(root, far, ResponseSpec()) == (
        f"cannot read {far}/training_images: File name too long. Check its permissions."
    )


def test_subjects_of_other_variants_are_refused(root, tmp_path):
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    official = tmp_path / "official"
    small = {"concepts": 3, "test_concepts": 2, "image_px": 8, "subjects": 1}
    write_synthetic_things(official, SyntheticThingsSpec(variant="official", **small))
    shutil.copytree(official / "sub-01", tmp_path / "sub-04")
    spec = ResponseSpec(stop_s=0.8)
    text = message(tmp_path, tmp_path, spec)
    assert "gives 17 channels (P7, P5, …, O2) x 80 samples" in text
    assert "x 200. Use files of one variant." in text


def test_a_concept_of_training_in_the_test_is_refused(root, tmp_path):
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    (tmp_path / "image_metadata.npy").unlink()
    (tmp_path / "test_images/00001_synthetic00003").rename(
        tmp_path / "test_images/00001_synthetic00001"
    )
    assert "1 concept of" in message(tmp_path, tmp_path, ResponseSpec())


def test_averages_are_kept_and_a_damaged_one_is_refused(root, tmp_path):
    cache = UPath(tmp_path / "averages")
    first = read_things(root, root, ResponseSpec(), ["sub-01"], cache)
    kept = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert len(kept) == 2  # training and test
    again = read_things(root, root, ResponseSpec(), ["sub-01", "sub-02"], cache)
    assert np.array_equal(again.training[0], first.training[0])
    assert np.array_equal(again.training, read_things(root, root, ResponseSpec()).training[:2])
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert len(list(cache.iterdir())) == 4
    other = read_things(root, root, ResponseSpec(start_s=0.2), ["sub-01"], cache)
    assert np.array_equal(other.test[0], first.test[0][..., 50:])

    for path in kept:
        path.write_bytes(path.read_bytes()[:-8])
    text = message(root, root, ResponseSpec(), ["sub-01"], cache)
    assert re.search(
        r"averages/\w+\.safetensors is damaged \(.*\)\. Delete it and run again\.", text
    )
