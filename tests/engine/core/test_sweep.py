from __future__ import annotations

import dataclasses
import json

import pytest

from ssense.engine.core.cell import describe
from ssense.engine.core.sweep import Family, Sweep, check_levels, proposals_at_once
from ssense.engine.search.race import Full
from ssense.engine.search.search import Search
from ssense.errors import UserError
from ssense.files.plain_values import from_plain
from ssense.model.encoders.spectrogram_encoder import ResNetSpec
from ssense.specification import plain
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
    check_levels(ImageSpec(), {"mine": levels})
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
        ({"f": {"data.subset": (None,)}}, "data.subset can't be None .*not a text"),
        ({"f": {"training.share": (None,)}}, "training.share can't be None .*not a number"),
        ({"f": {"training.learning_rate": ("fast",)}}, "can't be fast .*not a number"),
        ({"f": {"target.layer": ("last",)}}, "target.layer can't be last .*not"),
    ],
)
def test_levels_of_another_form_or_type_are_one_line(families, message):
    with pytest.raises(UserError, match=message) as error:
        check_levels(SentenceSpec(), families)
    assert "\n" not in str(error.value)
    assert "NoneType" not in str(error.value)
