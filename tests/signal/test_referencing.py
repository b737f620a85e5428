"""References, against direct sums over the contacts that each names."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Sequence
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssense.choices import Reference
from ssense.signal.contacts import read_names
from ssense.signal.filtering import notch_filter
from ssense.signal.referencing import Derivation, derivations, referenced

REFERENCES: tuple[Reference, ...] = get_args(Reference)
SUBTRACTING = [reference for reference in REFERENCES if reference != "none"]
NAMES = ["A1", "A2", "A3", "A4", "B1", "B2", "G1", "G2", "G3", "G4", "Cz", "D1-D2"]


def signals_of(names: Sequence[str], samples: int = 40) -> dict[str, np.ndarray]:
    values = np.random.default_rng(7).normal(0, 50, (len(names), samples))
    return dict(zip(names, values, strict=True))


def computed(
    derived: Sequence[Derivation], signals: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The electrodes' signals, each read in two stretches."""
    stretched = referenced(derived, lambda name: [signals[name][:9], signals[name][9:]])
    found = [np.concatenate(stretches) for stretches in stretched]
    return dict(zip([each.name for each in derived], found, strict=True))


def names_of(reference: Reference, usable: Sequence[str] = NAMES) -> list[str]:
    return [each.name for each in derivations(reference, NAMES, usable, {"G"})]


# --- Which electrodes there are -------------------------------------------------------------------


def test_electrodes_of_each_reference_in_the_order_of_the_labels():
    assert names_of("laplacian") == ["A2", "A3"]
    assert names_of("bipolar") == ["A1-A2", "A2-A3", "A3-A4", "B1-B2"]
    assert names_of("shaft-average") == NAMES[:10]  # a grid counts as a shaft
    assert names_of("average") == NAMES[:11]  # a pair of contacts has its reference already
    assert names_of("none") == NAMES


def test_a_contact_that_may_not_be_used_is_neither_an_electrode_nor_subtracted():
    usable = [name for name in NAMES if name not in ("A2", "B1")]
    assert names_of("laplacian", usable) == []
    assert names_of("bipolar", usable) == ["A3-A4"]
    assert names_of("shaft-average", usable) == ["A1", "A3", "A4", "G1", "G2", "G3", "G4"]
    for reference in SUBTRACTING:
        for each in derivations(reference, NAMES, usable, {"G"}):
            assert {each.contact, *each.subtracted} <= {*usable}


def test_a_single_contact_has_no_average():
    assert derivations("average", NAMES, ["A1"]) == []
    assert derivations("shaft-average", NAMES, ["A1", "B2"]) == []


def test_a_pair_is_named_without_what_amplifiers_add():
    labels = ["POL LA01-Ref", "POL LA02-Ref"]
    (pair,) = derivations("bipolar", labels, labels)
    assert (pair.name, pair.contact, pair.subtracted) == ("LA01-LA02", labels[0], (labels[1],))


@pytest.mark.parametrize("reference", ["laplacian", "bipolar", "shaft-average"])
def test_two_names_for_one_contact_are_refused_where_shafts_count(reference):
    with pytest.raises(ValueError, match="contact 1 of shaft A has two names: 'A1' and 'A01'"):
        derivations(reference, ["A1", "A01"], [])


# --- Their signals --------------------------------------------------------------------------------


@st.composite
def montages(draw: st.DrawFn) -> tuple[list[str], list[str]]:
    """Contacts of a few shafts in any order, and those that may be used."""
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    names = [f"{'ABCD'[shaft]}{n}" for shaft, size in enumerate(sizes) for n in range(1, size + 1)]
    usable = draw(st.lists(st.sampled_from(names), unique=True))
    return draw(st.permutations(names)), usable


def by_hand(
    reference: Reference, names: Sequence[str], usable: Sequence[str], x: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """What each reference is, from its definition."""
    found = {}
    for name in (name for name in names if name in usable):
        shaft, number = name[0], int(name[1:])
        lower, higher = f"{shaft}{number - 1}", f"{shaft}{number + 1}"
        own = [x[other] for other in usable if other[0] == shaft]
        if reference == "none":
            found[name] = x[name]
        elif reference == "laplacian" and lower in usable and higher in usable:
            found[name] = x[name] - (x[lower] + x[higher]) / 2
        elif reference == "bipolar" and higher in usable:
            found[f"{name}-{higher}"] = x[name] - x[higher]
        elif reference == "shaft-average" and len(own) > 1:
            found[name] = x[name] - np.mean(own, axis=0)
        elif reference == "average" and len(usable) > 1:
            found[name] = x[name] - np.mean([x[other] for other in usable], axis=0)
    return found


@pytest.mark.parametrize("reference", REFERENCES)
@settings(max_examples=60, derandomize=True)
@given(montage=montages())
def test_signals_are_those_of_the_definition(reference, montage):
    names, usable = montage
    signals = signals_of(names)
    found = computed(derivations(reference, names, usable), signals)
    expected = by_hand(reference, names, usable, signals)
    assert list(found) == list(expected)
    for name, signal in expected.items():
        np.testing.assert_allclose(found[name], signal, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("reference", SUBTRACTING)
@settings(max_examples=30, derandomize=True)
@given(montage=montages(), common=st.floats(-1e4, 1e4))
def test_what_all_contacts_share_changes_nothing(reference, montage, common):
    names, usable = montage
    derived, signals = derivations(reference, names, usable), signals_of(names)
    shared = common * np.sin(np.arange(40))
    shifted = computed(derived, {name: signal + shared for name, signal in signals.items()})
    for name, signal in computed(derived, signals).items():
        np.testing.assert_allclose(shifted[name], signal, atol=1e-9)


def test_pairs_of_a_shaft_sum_up_to_the_difference_of_its_ends():
    names = [f"A{number}" for number in range(1, 9)]
    signals = signals_of(names)
    pairs = computed(derivations("bipolar", names, names), signals)
    assert len(pairs) == 7
    np.testing.assert_allclose(sum(pairs.values()), signals["A1"] - signals["A8"], atol=1e-12)


def test_electrodes_of_a_shaft_s_average_sum_up_to_nothing():
    names = [f"A{number}" for number in range(1, 9)]
    averaged = computed(derivations("shaft-average", names, names), signals_of(names))
    np.testing.assert_allclose(sum(averaged.values()), 0, atol=1e-11)


def test_the_laplacian_is_to_the_bit_what_it_always_was():
    names = ["A1", "A2", "A3"]
    signals = signals_of(names, 5000)
    expected = (signals["A1"] + signals["A3"]) * -0.5 + signals["A2"]
    (found,) = computed(derivations("laplacian", names, names), signals).values()
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("reference", SUBTRACTING)
def test_notches_and_reference_may_change_places(reference):
    names = ["A1", "A2", "A3"]
    derived, signals = derivations(reference, names, names), signals_of(names, 3000)
    filtered = {name: notch_filter(signal, 1024.0) for name, signal in signals.items()}
    first = computed(derived, filtered)
    for name, signal in computed(derived, signals).items():
        np.testing.assert_allclose(notch_filter(signal, 1024.0), first[name], atol=1e-10)


# --- What it takes --------------------------------------------------------------------------------


@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize("shuffled", [False, True])
def test_no_channel_is_read_more_than_twice_and_few_are_held(reference, shuffled):
    names = [f"{shaft}{number}" for shaft in "ABCDEFGH" for number in range(1, 13)]
    if shuffled:
        names = np.random.default_rng(0).permutation(names).tolist()
    reads: Counter[str] = Counter()
    arrays: list[weakref.ref[np.ndarray]] = []
    most = 0

    def read(name: str) -> list[np.ndarray]:
        nonlocal most
        array = np.zeros(10)
        reads[name] += 1
        arrays.append(weakref.ref(array))
        most = max(most, sum(made() is not None for made in arrays))
        return [array]

    for _ in referenced(derivations(reference, names, names), read):
        pass
    assert reads.keys() == {*read_names(names).contacts}
    twice = reference in ("shaft-average", "average")
    assert max(reads.values()) == (2 if twice else 1)
    assert shuffled or most <= 3


@pytest.mark.parametrize("reference", REFERENCES)
def test_no_stretches_give_none(reference):
    derived = derivations(reference, NAMES, NAMES)
    assert list(referenced(derived, lambda _: [])) == [[]] * len(derived)
