"""Families over parts of several kinds: fields that exist with some of them alone."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssense.engine.core.sweep import Family, check_different, checked_levels, family_of, needs_of
from ssense.engine.search.search import propose
from ssense.errors import UserError
from ssense.files.plain_values import from_plain
from ssense.specification import configured, plain, settings
from ssense.training.sentences import SentenceSpec

ENCODERS = ("resnet-18", "linear", "attention")
LEVELS = {
    "encoder": ENCODERS,
    "encoder.weights": ("random", "imagenet"),
    "masking.time": (0.1, 0.2),
}


def family(levels: dict) -> Family:
    checked_levels(SentenceSpec(), {"mixed": levels})
    return Family(name="mixed", levels=levels, needs=needs_of(SentenceSpec(), levels))


def brute_force(levels: dict) -> list[dict]:
    """Every combination, without the fields that its specification does not have; each once."""
    found = []
    for values in product(*levels.values()):
        whole = dict(zip(levels, values, strict=True))
        kinds = {name: whole[name] for name in whole if "." not in name}
        fields = settings(configured(SentenceSpec(), kinds))
        configuration = {name: value for name, value in whole.items() if name in fields}
        if configuration not in found:
            found.append(configuration)
    return found


def test_a_field_of_one_kind_is_in_the_configurations_of_that_kind_alone():
    mixed = family(LEVELS)
    assert mixed.needs == {"encoder.weights": {"encoder": ("resnet-18", "attention")}}
    found = [*mixed.configurations()]
    assert found == brute_force(LEVELS)
    assert mixed.size == len(found) == (2 + 1 + 2) * 2
    assert {"encoder": "linear", "masking.time": 0.2} in found


@given(
    kinds=st.lists(st.sampled_from(ENCODERS), min_size=1, unique=True),
    fields=st.sets(st.sampled_from(["encoder.weights", "encoder.batch_norm", "masking.time"])),
)
def test_configurations_and_their_number_are_those_of_brute_force(kinds, fields):
    of = {
        "encoder.weights": ("random", "imagenet"),
        "encoder.batch_norm": ("chunk", "frozen"),
        "masking.time": (0.1, 0.2, 0.3),
    }
    exists = {
        name for kind in kinds for name in settings(configured(SentenceSpec(), {"encoder": kind}))
    }
    levels = {"encoder": tuple(kinds)} | {name: of[name] for name in sorted(fields & exists)}
    mixed = family(levels)
    found = [*mixed.configurations()]
    assert sorted(map(str, found)) == sorted(map(str, brute_force(levels)))
    assert mixed.size == len(found)
    assert all(mixed.fault_of(configuration) == "" for configuration in found)


def test_the_sampler_proposes_every_configuration_of_a_conditional_space_once():
    mixed = family(LEVELS)
    scored = []
    while (configuration := propose(mixed, scored)) is not None:
        # Linear encoders do best, so that the sampler comes to fields that others lack.
        scored.append((configuration, 0.9 if configuration["encoder"] == "linear" else 0.1))
    found = [configuration for configuration, _ in scored]
    assert len(found) == mixed.size
    assert sorted(map(str, found)) == sorted(map(str, mixed.configurations()))


def test_names_are_proposed_with_and_without_an_order():
    named = family({"features.pad_domain": ("raw", "raw_masked", "spec")})
    scored = [({"features.pad_domain": "raw"}, 1.0), ({"features.pad_domain": "spec"}, 0.9)]
    for unordered in (False, True):
        assert propose(named, scored, False, unordered) == {"features.pad_domain": "raw_masked"}


@pytest.mark.parametrize(
    ("configuration", "fault"),
    [
        ({"encoder": "linear", "masking.time": 0.1}, ""),
        ({"encoder": "linear", "encoder.weights": "random", "masking.time": 0.1}, "no family"),
        ({"encoder": "resnet-18", "masking.time": 0.1}, "belongs to no family"),
        ({"encoder": "linear", "masking.time": 0.3}, "masking.time 0.3, which is not one of"),
        ({}, "belongs to no family"),
    ],
)
def test_a_configuration_of_another_family_is_told_apart(configuration, fault):
    assert fault in family(LEVELS).fault_of(configuration)
    assert bool(family(LEVELS).fault_of(configuration)) == bool(fault)


def test_a_conditional_family_is_read_as_it_was_written():
    mixed = family(LEVELS)
    assert from_plain(Family, plain(mixed)) == mixed


def test_a_field_that_no_kind_of_the_family_has_is_refused():
    with pytest.raises(UserError, match=r"encoder\.weights can't be random .*not a field of linea"):
        checked_levels(
            SentenceSpec(), {"f": {"encoder": ("linear",), "encoder.weights": ("random",)}}
        )


def test_a_level_that_one_kind_with_the_field_refuses_is_refused():
    with pytest.raises(UserError, match=r"f: encoder\.batch_norm can't be both"):
        checked_levels(SentenceSpec(), {"f": LEVELS | {"encoder.batch_norm": ("both",)}})


def test_two_families_that_are_one_configuration_are_refused():
    families = [
        Family(name="as specified", levels={}),
        Family(name="wide", levels={"masking.time": (0.0, 0.1)}),
        Family(name="zero", levels={"masking.time": (0.0,)}),
    ]
    check_different(SentenceSpec(), families[:2])
    with pytest.raises(UserError, match="as specified and zero are the same configuration, time 0"):
        check_different(SentenceSpec(), families)
    twice = [Family(name="a", levels={}), Family(name="a2", levels={})]
    with pytest.raises(UserError, match="a and a2 are the same configuration, as specified"):
        check_different(SentenceSpec(), twice)


def test_a_field_may_be_named_before_the_kind_that_it_needs():
    levels = {"encoder.windows": (4, 8), "encoder": ("resnet-18", "linear")}
    mixed = family_of(SentenceSpec(), "mixed", levels)
    assert mixed.size == len([*mixed.configurations()]) == 3
    with pytest.raises(UserError, match=r"encoder\.windows can't be 0 \(windows must be positive"):
        family({"encoder.windows": (0, 4), "encoder": ("resnet-18", "linear")})
