"""Signatures that never change again, and what may change without changing one."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, ClassVar, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssense.engine.core.cell import Cell, dataset_choice, signature
from ssense.files.plain_values import from_plain
from ssense.specification import (
    configured,
    field_names,
    identity,
    kind_of,
    parts_of,
    plain,
    settings,
    walk,
)
from ssense.training.images import ImageSpec
from ssense.training.sentences import SentenceSpec

# ---------------------------------------------------------------- signatures of stored cells

STORED: dict[str, tuple[type, dict[str, Any], dict[str, Any], int, str]] = {
    "as published": (SentenceSpec, {}, {}, 0, "0f5591646b854fe9"),
    "masked": (
        SentenceSpec,
        {},
        {"masking.electrode": 0.25, "masking.time": 0.5},
        3,
        "82454de8c76068fa",
    ),
    "a shared encoder": (
        SentenceSpec,
        {"encoder.weights": "random", "encoder.batch_norm": "frozen", "training.precision": "bf16"},
        {"objective.temperature": 0.1},
        1,
        "7f9a02d20ce84c54",
    ),
    "held out": (
        SentenceSpec,
        {"split": "held-out"},
        {"training.learning_rate": 1e-3},
        2,
        "76721d83bab6dee0",
    ),
    "images": (ImageSpec, {}, {}, 0, "1b9a2da800233a09"),
    "ssr": (
        ImageSpec,
        {},
        {"objective": "ssr", "objective.mask_ratio": 0.3},
        4,
        "b90c544ce299948c",
    ),
    "neuroclip": (
        ImageSpec,
        {"encoder": "ts-conv", "target.model": "ViT-B-16-quickgelu"},
        {"objective": "neuroclip", "objective.prompts": 8},
        5,
        "50f619811a101b36",
    ),
}
"""By name: the specification, what a sweep shares, a configuration, the seed, and the signature
that ledgers hold for it. What is here stays: whoever changes a line orphans somebody's ledger.
"""


@pytest.mark.parametrize("name", STORED)
def test_the_signature_of_a_stored_cell_never_changes(name):
    kind, shared, configuration, seed, known = STORED[name]
    assert signature(Cell(configuration, seed), configured(kind(), shared), "dataset") == known


# ---------------------------------------------------------------- what changes, and what does not


@dataclass(frozen=True)
class Round:
    kind: ClassVar[str] = "round"
    radius: float = 1.0


@dataclass(frozen=True)
class Square:
    kind: ClassVar[str] = "square"
    side: float = 1.0
    corners: int = 4


@dataclass(frozen=True)
class Spec:
    shape: Round | Square = field(default_factory=Round)
    size: int = 3


@dataclass(frozen=True)
class Hole:
    depth: float = 0.5


@dataclass(frozen=True)
class Flat:
    kind: ClassVar[str] = "flat"


@dataclass(frozen=True)
class LaterRound(Round):
    smooth: bool = True


@dataclass(frozen=True)
class LaterSpec:
    """The same with a field more in a part, another kind, another part and another field."""

    shape: LaterRound | Square | Flat = field(default_factory=LaterRound)
    size: int = 3
    colour: str = "blue"
    hole: Hole = field(default_factory=Hole)


numbers = st.floats(0.1, 9, allow_nan=False)
rounds = st.builds(Round, numbers)
squares = st.builds(Square, numbers, st.integers(1, 9))
specs = st.builds(Spec, rounds | squares, st.integers(1, 9))


@given(specs)
def test_a_new_field_part_or_kind_changes_no_identity(spec):
    shape = spec.shape
    later = LaterRound(shape.radius) if isinstance(shape, Round) else shape
    assert identity(LaterSpec(shape=later, size=spec.size)) == identity(spec)


@given(specs, specs)
def test_specifications_that_differ_have_other_identities(one, other):
    assert (identity(one) == identity(other)) == (one == other)


@given(specs)
def test_what_is_written_is_read_as_it_was(spec):
    assert from_plain(Spec, json.loads(json.dumps(plain(spec)))) == spec


@given(specs)
def test_settings_configure_a_specification(spec):
    assert configured(Spec(), settings(spec)) == spec


def test_a_stepped_version_of_a_part_is_another_identity_wherever_the_part_is():
    @dataclass(frozen=True)
    class Stepped(Round):
        version: ClassVar[int] = 2

    @dataclass(frozen=True)
    class Holder:
        shape: Stepped | Square = field(default_factory=Stepped)
        size: int = 3

    assert identity(Spec()) == {}
    assert identity(Holder()) == {"shape": {"version": 2}}
    assert identity(Holder(shape=Square())) == identity(Spec(shape=Square()))


def test_whole_numbers_are_the_numbers_that_they_are():
    assert identity(Spec(shape=Round(2))) == identity(Spec(shape=Round(2.0)))
    assert json.dumps(identity(Spec(shape=Round(2)))) == json.dumps({"shape": {"radius": 2.0}})


def test_a_part_of_another_kind_begins_with_its_defaults_and_one_of_its_own_stays():
    small = Spec(shape=Round(0.5))
    assert configured(small, {"shape": "square"}).shape == Square()
    assert configured(small, {"shape": "round"}) == small
    changes = {"shape.side": 2.0, "shape": "square"}  # in any order
    assert configured(small, changes).shape == Square(side=2.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape.side": 2.0}, "names shape.side, which is not a field of round"),
        ({"shape": "oval"}, "shape is oval, not round, square"),
        ({"shape": 3}, "shape is 3, not round, square"),
        ({"size.x": 3}, "names size.x, which is not a field of Spec"),
        ({"colour": 3}, "names colour, which is not a field of Spec"),
    ],
)
def test_what_there_is_not_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        configured(Spec(), changes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"shape": {"radius": 1.0}}, "shape.kind is missing"),
        ({"shape": {"kind": "oval"}}, "shape.kind is 'oval', not one of round, square"),
        ({"shape": {"kind": "round", "side": 1.0}}, "shape.side is unknown here"),
        ({"shape": None}, "shape is null, not an object"),
    ],
)
def test_a_part_that_is_not_what_it_says_is_named(content, message):
    with pytest.raises(ValueError, match=message):
        from_plain(Spec, content)


# ---------------------------------------------------------------- the specifications that there are

KINDS = (SentenceSpec, ImageSpec)


def every_part(kind: type) -> set[type]:
    inner = {part for kinds in parts_of(kind).values() for part in kinds}
    return {kind}.union(*map(every_part, inner))


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_has_a_default_and_a_part_those_of_its_type(kind):
    for part in every_part(kind):
        for each in dataclasses.fields(part):
            default = getattr(part(), each.name)
            if dataclasses.is_dataclass(default):
                assert default == type(default)()
    assert identity(kind()) == {}


@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_a_union_have_names_of_their_own(kind):
    for part in every_part(kind):
        for kinds in parts_of(part).values():
            names = [kind_of(each) for each in kinds]
            assert len(set(names)) == len(names)
            assert all(names) or len(names) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_in_use_is_in_the_signature_or_chooses_the_dataset(kind):
    beside = {"data.window_start_s": {"data.window_s": 2.0}}
    for name, other in others(kind()):
        base = configured(kind(), beside.get(name, {}))
        spec = configured(base, {name: other})
        same = signature(Cell({}, 0), spec, "d") == signature(Cell({}, 0), base, "d")
        is_of_data = name.partition(".")[0] in kind.data_groups
        assert same == is_of_data, name
        assert (dataset_choice(spec) == dataset_choice(base)) == (not is_of_data), name
        assert signature(Cell({name: other}, 0), base, "d") == signature(Cell({}, 0), spec, "d")


def others(spec: Any) -> list[tuple[str, Any]]:
    """Each setting of a specification with another value that it may take."""
    values = {bool: lambda v: not v, int: lambda v: v + 1, float: lambda v: v / 2 + 0.01}
    named = {
        "split": {"random": "blocked", "intra-subject": "leave-one-subject-out"},
        "encoder.weights": {"imagenet": "random"},
        "encoder.conv1": {"sum": "mean"},
        "encoder.batch_norm": {"chunk": "frozen"},
        "training.precision": {"float32": "bf16"},
        "features": {"superlets": "fourier"},
        "target": {"open-clip": "vectors"},
        "encoder": {"eeg-project": "ts-conv", "resnet-18": "linear"},
        "objective": {"infonce": "ssr"},
        "target.model": {
            "RN50-quickgelu": "ViT-B-32-quickgelu",
            "ViT-B-32-quickgelu": "RN50-quickgelu",
        },
        "target.weights": {"openai": "untrained"},
        "target.fit": {"squash": "crop"},
        "target.image_px": {None: 64},
        "gallery": {"original": "blurred"},
        "objective.norm": {"both": "image"},
        "objective.scale": {"exp": "raw"},
        "objective.image": {"original": "blurred"},
        "data.resample_hz": {None: 512.0},
        "data.window_s": {None: 2.0},
        "data.window_start_s": {None: -0.5},
        "data.subset": {"all": "LA*"},
        "data.pad_to": {None: 4000},
        "data.notch_highest_hz": {360.0: 400.0},
        "target.layer": {None: 3},
        "target.mixture": {"": "all"},
    }
    found = []
    for name, value in settings(spec).items():
        if name not in field_names(type(spec)) or name in spec.unused:
            continue
        if name == "target.pooling":  # of layers alone
            continue
        if name in named and value in named[name]:
            found.append((name, named[name][value]))
        elif isinstance(value, str):  # one of a few
            found.append((name, next(each for each in choices_of(spec, name) if each != value)))
        else:
            found.append((name, values[type(value)](value)))
    assert len(found) > 10
    return found


def choices_of(spec: Any, name: str) -> tuple[Any, ...]:
    """The texts that a field may be."""
    *parts, field = name.split(".")
    for part in parts:
        spec = getattr(spec, part)
    return get_args(get_type_hints(type(spec))[field])


def test_the_pooling_of_a_layer_is_in_the_signature():
    layer = {"target.layer": 3}
    found = {
        signature(Cell({**layer, "target.pooling": pooling}, 0), ImageSpec(), "d")
        for pooling in ("cls", "mean")
    }
    assert len(found | {signature(Cell(layer, 0), ImageSpec(), "d")}) == 2


def test_parts_are_walked_from_the_whole_to_the_last():
    assert list(walk(Spec())) == [Spec(), Round()]
