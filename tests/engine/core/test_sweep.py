from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from ssense.engine.core.cell import describe
from ssense.engine.core.sweep import Family, Sweep, checked_levels, proposals_at_once
from ssense.engine.search.race import Full
from ssense.engine.search.search import Search
from ssense.errors import UserError
from ssense.files.plain_values import from_plain
from ssense.model.encoders.spectrogram_encoder import ResNetSpec
from ssense.specification import configured, plain, settings
from ssense.training.images import ImageSpec
from ssense.training.sentences import SentenceSpec

SWEEP = Sweep(
    question="masking",
    dataset_digest="d",
    specification=SentenceSpec(encoder=ResNetSpec(weights="random")),
    families=(
        Family(name="none", levels={}),
        Family(name="both", levels={"masking.time": (0.1, 0.2), "masking.electrode": (0.5,)}),
    ),
    configurations=3,
    seeds=(0, 1, 2),
)


def test_a_family_holds_every_combination_of_its_levels():
    assert [family.size for family in SWEEP.families] == [1, 2]
    assert [SWEEP.wanted(family) for family in SWEEP.families] == [1, 2]
    assert SWEEP.n_cells == 9


def test_how_many_are_proposed_at_once_follows_the_configurations_and_makes_no_other_sweep():
    assert [proposals_at_once(n) for n in (1, 10, 16, 20, 21, 40)] == [6, 6, 6, 8, 9, 18]
    other = dataclasses.replace(SWEEP, proposals_at_once=18, spread_proposals=True)
    assert other.name == SWEEP.name
    with pytest.raises(ValueError, match="proposals_at_once must be at least 1, got 0"):
        dataclasses.replace(SWEEP, proposals_at_once=0)


def test_where_contacts_lie_is_no_level_and_makes_another_sweep():
    places = [dataclasses.replace(SWEEP.specification, contacts=name) for name in ("a", "b")]
    names = {dataclasses.replace(SWEEP, specification=each).name for each in places}
    assert len({*names, SWEEP.name}) == 3
    families = (Family(name="mine", levels={"contacts": ("a", "b")}),)
    with pytest.raises(UserError, match="family mine varies contacts, but all cells"):
        dataclasses.replace(SWEEP, families=families)


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ((1, 3, 3), "`seeds` 1 3 3: 3 appears twice. Remove one."),
        ((0, -1), "`seeds` 0 -1: -1 is negative. Seeds are 0 or more."),
        ((), "`seeds` is empty. Give at least one."),
    ],
)
def test_bad_seeds_are_refused(seeds, message):
    with pytest.raises(UserError) as error:
        dataclasses.replace(SWEEP, seeds=seeds)
    assert str(error.value) == message


def test_nothing_to_compare_is_refused():
    with pytest.raises(UserError, match="`configurations` must be at least 1, got 0"):
        dataclasses.replace(SWEEP, configurations=0)


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ((), "has no level to try."),
        ((0.1, 0.1, 0.2), "has the level 0.1 twice. Remove one."),
        ((1, 1.0), "has the level 1 twice. Remove one."),
        (("a", "b", "a"), "has the level a twice. Remove one."),
        (
            (None, 0.3, 0.1),
            "has the level 0.1 after 0.3. Give its levels in increasing order.",
        ),
    ],
)
def test_levels_that_are_missing_repeated_or_out_of_order_are_refused(levels, message):
    with pytest.raises(UserError) as error:
        Family(name="f", levels={"masking.time": levels})
    assert str(error.value) == f"family f: masking.time {message}"


def test_levels_of_a_kind_without_an_order_are_taken_as_they_come():
    levels = {"objective": ("ssr", "infonce"), "objective.depth": (None, 2), "x": (True, False)}
    assert Family(name="f", levels=levels).size == 8


@pytest.mark.parametrize(
    ("levels", "label"),
    [
        ({"objective": ("infonce",), "objective.learnable": (True, False)}, "learnable False"),
        ({"objective": ("neuroclip",), "objective.depth": (None, 2)}, "depth None"),
    ],
)
def test_a_switch_or_a_field_without_a_value_is_swept_like_any_other(levels, label):
    checked_levels(ImageSpec(), {"mine": levels})
    sweep = dataclasses.replace(
        SWEEP, specification=ImageSpec(), families=(Family(name="mine", levels=levels),)
    )
    assert from_plain(Sweep, json.loads(json.dumps(plain(sweep)))) == sweep
    search = Search(sweep, Full())
    assert label in " ".join(describe(row.configuration) for row in search.rows)
    assert len({search.signature(cell) for _, cell in search.cells()}) == 2 * len(sweep.seeds)


@pytest.mark.parametrize(
    ("families", "message"),
    [
        ({"f": {"masking.time": 0.5}}, "levels of masking.time are 0.5, no tuple .* as \\(0.5,\\)"),
        ({"f": {"data.reference": "none"}}, "levels of data.reference are none, no tuple of them"),
        ({"f": {"training.patience": range(2, 4)}}, "are range\\(2, 4\\), no tuple of them"),
        ({"f": None}, "family f is None, not levels by field. Give them as"),
        ({"f": {5: (1,)}}, "family f names the field 5, which is no text"),
        ({}, "families are {}, and a sweep compares one at least"),
        (["a"], r"families are \['a'\], and a sweep compares one at least"),
        ({3: {}}, "a family is called 3. Give it a name"),
        ({" ": {}}, "a family is called ' '. Give it a name"),
        ({"f": {"data.subset": (None,)}}, "data.subset can't be None .*not a text"),
        ({"f": {"training.share": (None,)}}, "training.share can't be None .*not a number"),
        ({"f": {"training.learning_rate": ("fast",)}}, "can't be fast .*not a number"),
        ({"f": {"target.layer": ("last",)}}, "target.layer can't be last .*not"),
    ],
)
def test_levels_of_another_form_or_type_are_one_line(families, message):
    with pytest.raises(UserError, match=message) as error:
        checked_levels(SentenceSpec(), families)
    assert "\n" not in str(error.value)
    assert "NoneType" not in str(error.value)


CLASHING = {
    "features.minimum_hz": (4.0, 150.0),
    "features.maximum_hz": (50.0, 190.0),
    "features.order_min": (3,),
}


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        (CLASHING, r"f: features.minimum_hz 150.0 and features.maximum_hz 50.0 can't stand toget"),
        (
            {"data.line_hz": (60.0, 100.0), "data.notch_highest_hz": (80.0, 360.0)},
            "data.line_hz 100.0 and data.notch_highest_hz 80.0 can't stand together .notch_highest",
        ),
        (
            {
                "features.window_s": (0.1,),
                "features": ("fourier",),
                "features.minimum_hz": (500.0,),
            },
            r"f: features.minimum_hz can't be 500.0 \(maximum_hz must be above",
        ),
        (
            {"training.share": (0.5, 2.0), "training.patience": (1, 2)},
            "training.share can't be 2.0",
        ),
    ],
)
def test_levels_that_clash_are_refused_by_the_fields_that_do(levels, message):
    with pytest.raises(UserError, match=message) as error:
        checked_levels(SentenceSpec(), {"f": levels})
    assert "\n" not in str(error.value)
    assert "order_min" not in str(error.value)


@pytest.mark.parametrize(
    "levels",
    [
        {"data.line_hz": (50.0,), "data.notch_highest_hz": (55.0,)},
        {"features.minimum_hz": (205.0,), "features.maximum_hz": (250.0,)},
        {"features.maximum_hz": (0.05,), "features.minimum_hz": (0.01,)},
        {"features.order_min": (40,), "features.order_max": (50,)},
        {
            "features.minimum_hz": (70.0,),
            "features.maximum_hz": (70.0,),
            "features.n_frequencies": (1,),
        },
    ],
)
def test_levels_that_fit_each_other_alone_are_taken_together(levels):
    assert checked_levels(SentenceSpec(), {"f": levels}) == {"f": levels}
    (only,) = Family(name="f", levels=levels).configurations()
    assert settings(configured(SentenceSpec(), only)).items() >= only.items()


def test_numpy_s_numbers_are_levels_as_python_s_are():
    levels = {
        "data.context_after_s": tuple(np.linspace(0, 2, 3)),
        "training.patience": (np.int64(2),),
        "encoder.batch_norm": (np.str_("frozen"),),
    }
    (found,) = checked_levels(SentenceSpec(), {"f": levels}).values()
    assert [*map(type, next(iter(found.values())))] == [float] * 3
    assert found == levels
    assert [type(found[name][0]) for name in (*found,)[1:]] == [int, str]
