from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from ssense.data.synthetic.things import (
    BRIGHTEST,
    DARKEST,
    LATENTS,
    SyntheticThingsSpec,
    Variant,
    image_latents,
    write_synthetic_things,
)
from ssense.data.synthetic.things_spec import MEG_VARIANTS
from ssense.data.things.averages import Things, read_things
from ssense.data.things.folds import FoldKind, make_fold
from ssense.data.things.images import ImageSet, read_image_set
from ssense.data.things.responses import ResponseSpec
from ssense.errors import UserError

TINY = {"subjects": 1, "concepts": 2, "test_concepts": 2, "repetitions": 1, "test_repetitions": 1}


def contents(root: Path) -> dict[str, bytes]:
    files = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


@pytest.mark.parametrize("variant", get_args(Variant))
def test_the_same_spec_gives_the_same_bytes(variant, tmp_path):
    spec = SyntheticThingsSpec(variant=variant, **TINY)
    for name in "ab":
        write_synthetic_things(tmp_path / name, spec)
    write_synthetic_things(tmp_path / "c", SyntheticThingsSpec(variant=variant, seed=1, **TINY))
    first, again, other = (contents(tmp_path / name) for name in "abc")
    assert first == again
    assert list(first) == list(other) or sorted(first) == sorted(other)
    same = {name for name in first if first[name] == other[name]}
    assert same <= {"image_metadata.npy", "info.json"}


@pytest.mark.parametrize("variant", MEG_VARIANTS)
def test_meg_has_as_many_samples_whatever_the_variant_and_no_metadata(variant, tmp_path):
    spec = SyntheticThingsSpec(modality="meg", variant=variant, **TINY)
    write_synthetic_things(tmp_path / "meg", spec)
    things = read_things(tmp_path / "meg", tmp_path / "meg", ResponseSpec(channels="all"))
    assert things.training.shape == (1, 4, 271, 200)
    assert not (tmp_path / "meg" / "image_metadata.npy").exists()


def test_running_it_again_leaves_the_files_alone(tmp_path):
    spec, root = SyntheticThingsSpec(**TINY), tmp_path / "x"
    write_synthetic_things(root, spec)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    write_synthetic_things(root, spec)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    with pytest.raises(UserError, match="already exists and is not this synthetic data"):
        write_synthetic_things(root, SyntheticThingsSpec(seed=1, **TINY))
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("image_format", ["jpg", "png"])
def test_images_are_real_and_show_their_values(image_format, tmp_path):
    spec = SyntheticThingsSpec(**(TINY | {"concepts": 20}), image_format=image_format, image_px=40)
    write_synthetic_things(tmp_path / "x", spec)
    for part in ("training", "test"):
        images = read_image_set(tmp_path / "x", part)
        with Image.open(images.folder / images.files[0]) as image:
            assert image.format == {"jpg": "JPEG", "png": "PNG"}[image_format]
            assert (image.size, image.mode) == ((40, 40), "RGB")
        values = image_latents(spec, part).reshape(-1, LATENTS)
        assert np.abs(colours(images) - values).max() < 0.06


def colours(images: ImageSet) -> np.ndarray:
    """Mean colour of the four quarters of each image, on the scale of the values, `[N, 12]`."""
    rows = []
    for name in images.files:
        with Image.open(images.folder / name) as image:
            pixels = np.asarray(image, np.float64)
        side = len(pixels) // 2
        quarters = pixels.reshape(2, side, 2, side, 3).mean(axis=(1, 3))
        rows.append((quarters.ravel() - DARKEST) / (BRIGHTEST - DARKEST))
    return np.array(rows)


def recall(things: Things, kind: FoldKind, subject: str, n_validation: int = 40) -> list[float]:
    """Recall@1 in validation and test of colours read from responses by ridge regression."""
    fold = make_fold(kind, things, subject, 0, n_validation)
    training, test = (things.rows(part).reshape(-1, 17 * 80) for part in ("training", "test"))
    shown, shown_in_test = colours(things.training_images), colours(things.test_images)
    x, y = training[fold.train].astype(np.float64), shown[fold.train % len(shown)]
    kernel = (x - x.mean(0)) @ (x - x.mean(0)).T
    weights = np.linalg.solve(kernel + 3000 * np.eye(len(x)), y - y.mean(0))

    def correct(queries: np.ndarray, gallery: np.ndarray, targets: np.ndarray) -> float:
        read = (queries - x.mean(0)) @ (x - x.mean(0)).T @ weights
        gallery = gallery - y.mean(0)
        scores = read @ (gallery / np.linalg.norm(gallery, axis=1, keepdims=True)).T
        return float(np.mean(scores.argmax(axis=1) == targets))

    gallery, targets = np.unique(fold.validation % len(shown), return_inverse=True)
    return [
        correct(training[fold.validation], shown[gallery], targets),
        correct(test[fold.test], shown_in_test, fold.test % len(shown_in_test)),
    ]


@pytest.fixture(scope="module")
def coupled(tmp_path_factory) -> dict[float, Things]:
    return {c: _things(tmp_path_factory.mktemp("things") / "x", c) for c in (1.0, 0.0)}


def _things(root: Path, coupling: float) -> Things:
    spec = SyntheticThingsSpec(
        variant="official", concepts=200, images_per_concept=1, test_concepts=100, coupling=coupling
    )
    write_synthetic_things(root, spec)
    return read_things(root, root, ResponseSpec(stop_s=0.8))


def test_images_can_be_retrieved_from_responses_to_new_concepts(coupled):
    within = recall(coupled[1.0], "intra-subject", "sub-02")
    across = recall(coupled[1.0], "leave-one-subject-out", "sub-02")
    assert min(within) > 0.5  # chance is 1 in 40 and in 100
    assert within[1] > across[1] > 0.2


def test_without_coupling_nothing_can_be_retrieved(coupled):
    for kind in get_args(FoldKind):
        validation, test = recall(coupled[0.0], kind, "sub-02")
        assert validation < 0.15
        assert test < 0.08  # eight hits or more of 100 have a probability of 1e-5


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"subjects": 0}, "subjects must be at least 1, got 0."),
        ({"coupling": float("nan")}, "coupling must be at least 0, got nan."),
        ({"image_px": 4}, "image_px must be at least 8, got 4."),
        ({"subjects": 10**7}, "subjects must be at most 100, got 10000000."),
        ({"coupling": float("inf")}, "coupling must be at most 1000, got inf."),
        ({"seed": 2**32}, "seed must be at most 4294967295, got 4294967296."),
        (
            {"concepts": 9_000, "images_per_concept": 10, "repetitions": 20, "modality": "meg"},
            "20 repetitions of 90,000 training images are about 9.8e+10 samples of a subject; "
            "8.6e+09 are the most. Ask for fewer of either.",
        ),
        (
            {"image_px": 4_000, "concepts": 5_000},
            "10,200 images of 4000 x 4000 pixels are too large: 6.9e+10 pixels in all are the "
            "most. Ask for fewer or smaller ones.",
        ),
        (
            {"modality": "meg", "variant": "official"},
            "there are no MEG files of the variant official. Choose ubp or neurobridge or array.",
        ),
    ],
)
def test_values_that_no_data_can_have(settings, text):
    with pytest.raises(UserError) as error:
        SyntheticThingsSpec(**settings)
    assert str(error.value) == text


def test_the_command_line(tmp_path):
    command = [sys.executable, "-m", "ssense.data.synthetic.things", str(tmp_path / "x")]
    command += [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items()]
    runs = [
        subprocess.run([*command, *more], capture_output=True, text=True, check=False)
        for more in ([], ["--seed", "1"])
    ]
    assert [run.returncode for run in runs] == [0, 2]
    assert runs[0].stdout == (
        f"{tmp_path / 'x'}: written, eeg ubp, 1 subject, 2 x 2 + 2 images, coupling 1, seed 0\n"
    )
    assert runs[1].stderr.startswith(f"error: {tmp_path / 'x'} already exists")
    assert read_things(tmp_path / "x", tmp_path / "x", ResponseSpec()).training.shape[1] == 4
