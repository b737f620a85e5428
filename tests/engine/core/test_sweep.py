from __future__ import annotations

import dataclasses

import pytest

from ssense.engine.core.sweep import Family, Sweep, check_levels
from ssense.errors import UserError
from ssense.model.encoder import ResNetSpec
from ssense.training.sentences import SentenceSpec

SWEEP = Sweep(
    claim="masking",
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
    with pytest.raises(UserError, match="--configurations must be at least 1, got 0"):
        dataclasses.replace(SWEEP, configurations=0)
    with pytest.raises(UserError, match=r"family f: masking.time has no level to try"):
        dataclasses.replace(SWEEP, families=(Family(name="f", levels={"masking.time": ()}),))


def test_more_seeds_or_configurations_extend_a_sweep_and_all_else_makes_another():
    assert dataclasses.replace(SWEEP, seeds=(5,), configurations=1).name == SWEEP.name
    others = [
        dataclasses.replace(SWEEP, dataset_digest="e"),
        dataclasses.replace(
            SWEEP, specification=SentenceSpec(encoder=ResNetSpec(weights="imagenet"))
        ),
        dataclasses.replace(SWEEP, families=SWEEP.families[:1]),
        dataclasses.replace(SWEEP, claim="temperature"),
    ]
    assert len({SWEEP.name, *(other.name for other in others)}) == 5


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        (
            {"masking.electrod": (0.1,)},
            "family mine: masking.electrod is not a field of SentenceSpec. Nearest first: "
            "masking.electrode, masking.",
        ),
        (
            {"objective.temprature": (0.1,)},
            "is not a field of SentenceSpec. Nearest first: objective.temperature, ",
        ),
        ({"masking": (0.1,)}, "masking is not a field of SentenceSpec. Nearest first: masking."),
        ({"x" * 500: (1,)}, "is not a field of SentenceSpec. Nearest first: "),
        (
            {"objective.temperature": (0.07, -1)},
            "mine: objective.temperature can't be -1 (temperature",
        ),
        ({"masking.time": (1.5,)}, "family mine: masking.time can't be 1.5 (time masking ratio"),
        ({"training.patience": ("long",)}, "family mine: training.patience can't be long ("),
    ],
)
def test_a_family_over_no_field_or_value_is_one_line_that_lists_the_fields(levels, message):
    with pytest.raises(UserError) as error:
        check_levels(SentenceSpec(), {"whole": {}, "mine": levels})
    assert message in str(error.value)
    assert len(str(error.value)) < 290
    assert str(error.value).isprintable()
