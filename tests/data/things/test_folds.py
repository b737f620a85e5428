from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssense.data.things.averages import Things
from ssense.data.things.folds import FoldKind, held_out_images, make_fold
from ssense.data.things.images import ImageSet
from ssense.errors import UserError

KINDS = get_args(FoldKind)


def image_set(counts: list[int]) -> ImageSet:
    concepts = tuple(f"{i:05d}_c{i}" for i in range(len(counts)))
    concept = np.repeat(np.arange(len(counts)), counts)
    files = tuple(f"{concepts[c]}/{i}.jpg" for i, c in enumerate(concept))
    return ImageSet(folder=Path("images"), files=files, concepts=concepts, concept=concept)


def things(n_subjects: int, counts: list[int], n_test: int) -> Things:
    """Responses that say whose and to what they are: [subject, image]."""
    training, test = image_set(counts), image_set([1] * n_test)

    def responses(n: int) -> np.ndarray:
        pairs = np.stack(np.meshgrid(np.arange(n_subjects), np.arange(n), indexing="ij"), axis=-1)
        return pairs[:, :, None].astype(np.float32)

    return Things(
        digest="",
        subjects=tuple(f"sub-{i + 1:02d}" for i in range(n_subjects)),
        channels=("Oz",),
        training=responses(len(training)),
        test=responses(n_test),
        training_images=training,
        test_images=test,
    )


CASES = {
    "n_subjects": st.integers(2, 5),
    "counts": st.lists(st.integers(1, 4), min_size=2, max_size=12),
    "n_test": st.integers(1, 7),
    "tested": st.integers(0, 4),
    "seed": st.integers(0, 2**32),
    "share": st.floats(0, 1),
}


@given(kind=st.sampled_from(KINDS), **CASES)
def test_a_fold_keeps_apart_what_must_be_apart(
    kind, n_subjects, counts, n_test, tested, seed, share
):
    data = things(n_subjects, counts, n_test)
    tested %= n_subjects
    n_validation = 1 + int(share * (len(counts) - 2))
    fold = make_fold(kind, data, data.subjects[tested], seed, n_validation)
    concept = data.training_images.concept
    whose, image = (data.rows("training")[fold.train, 0, i].astype(int) for i in (0, 1))
    others, shown = (data.rows("training")[fold.validation, 0, i].astype(int) for i in (0, 1))

    sources = {tested} if kind == "intra-subject" else set(range(n_subjects)) - {tested}
    assert set(whose) == set(others) == sources
    assert set(data.rows("test")[fold.test, 0, 0]) == {tested}
    # No image of a held-out concept is trained on, all others are, by every source once.
    held_out = set(concept[shown])
    assert len(held_out) == n_validation == len(set(shown))
    assert set(concept[image]).isdisjoint(held_out)
    assert len(set(zip(whose, image, strict=True))) == len(fold.train)
    assert len(fold.train) == len(sources) * np.sum(~np.isin(concept, list(held_out)))
    # Every source saw the one image of each, and the subject all of the test.
    assert len(set(zip(others, shown, strict=True))) == len(fold.validation)
    assert len(fold.validation) == len(sources) * n_validation
    assert data.rows("test")[fold.test, 0, 1].tolist() == list(range(n_test))
    assert {rows.dtype for rows in vars(fold).values()} == {np.dtype(np.int64)}


@given(seed=st.integers(0, 2**32), **{k: CASES[k] for k in ("counts",)})
def test_all_subjects_and_kinds_hold_out_the_same_images(seed, counts):
    data = things(3, counts, 2)
    shown = [
        set(make_fold(kind, data, subject, seed, 1).validation % sum(counts))
        for kind in KINDS
        for subject in data.subjects
    ]
    assert all(images == shown[0] for images in shown)


def test_the_papers_sizes():
    data = things(2, [10] * 1654, 200)
    fold = make_fold("intra-subject", data, "sub-02", 0)
    assert [len(rows) for rows in (fold.train, fold.validation, fold.test)] == [14540, 200, 200]
    fold = make_fold("leave-one-subject-out", things(10, [10] * 1654, 200), "sub-02", 0)
    assert [len(rows) for rows in (fold.train, fold.validation, fold.test)] == [130860, 1800, 200]


def test_the_seed_draws_concepts_and_images():
    images = image_set([10] * 50)
    drawn = {tuple(held_out_images(images, seed, 20)) for seed in range(20)}
    assert len(drawn) == 20
    assert np.array_equal(held_out_images(images, 3, 20), held_out_images(images, 3, 20))
    # Over many seeds every image is as likely as any other: 2,000 draws from 500, 4 each.
    counts = np.bincount(
        np.concatenate([held_out_images(images, seed, 20) for seed in range(100)]), minlength=500
    )
    chi_square = np.sum((counts - 4) ** 2 / 4)
    assert 400 < chi_square < 600  # 499 degrees of freedom, standard deviation 32


def test_what_cannot_be_split_is_refused():
    data = things(1, [2, 2, 2], 2)
    with pytest.raises(UserError, match="sub-01 is the only subject"):
        make_fold("leave-one-subject-out", data, "sub-01", 0, 1)
    with pytest.raises(UserError, match="images has 3 concepts, of which 200 cannot be held out"):
        make_fold("intra-subject", data, "sub-01", 0)
    with pytest.raises(UserError, match="of which 3 cannot"):
        make_fold("intra-subject", data, "sub-01", 0, 3)
    with pytest.raises(UserError, match="of which 0 cannot"):
        make_fold("intra-subject", data, "sub-01", 0, 0)
    with pytest.raises(UserError, match=r"no subject sub-09 in the data\. Found: sub-01"):
        make_fold("intra-subject", data, "sub-09", 0, 1)
    with pytest.raises(ValueError, match="seed must not be negative, got -1"):
        make_fold("intra-subject", data, "sub-01", -1, 1)
