from __future__ import annotations

import dataclasses

import pytest
from safetensors.torch import save_file
from torch import zeros

from ssense.engine.core.cell import Cell, describe, signature
from ssense.model.encoders.attention import AttentionSpec
from ssense.model.encoders.own import OwnSpec
from ssense.model.encoders.spectrogram_encoder import ResNetSpec
from ssense.model.masking import Masking
from ssense.specification import configured
from ssense.training.sentences import SHARE, SentenceSpec, TrainingSpec

SPEC = SentenceSpec(encoder=ResNetSpec(weights="random"))
CELL = Cell({"masking.electrode": 0.25}, seed=3)


def test_configuration_replaces_the_fields_that_it_names():
    spec = configured(
        SPEC, {"masking.electrode": 0.25, "masking.time": 0.1, "training.learning_rate": 1e-3}
    )
    assert spec.masking == Masking(electrode=0.25, time=0.1)
    assert spec.training == TrainingSpec(learning_rate=1e-3)
    assert spec == dataclasses.replace(SPEC, masking=spec.masking, training=spec.training)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("momentum", "sentences"),
        ("step", "sentences"),  # a method
        ("shares_test", "sentences"),  # a property
        ("masking.phase", "Masking"),
        ("masking.time.start", "Masking"),
        ("training.learning_rate.decay", "TrainingSpec"),
        ("objective.mask_ratio", "infonce"),
    ],
)
def test_unknown_field_is_refused(name, kind):
    with pytest.raises(ValueError, match=f"names {name}, which is not a field of {kind}$"):
        configured(SPEC, {name: 0.9})


def test_value_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"in \[0, 1\), got 1.5"):
        configured(SPEC, {"masking.time": 1.5})


def test_signature_names_everything_that_changes_the_result():
    signatures = [
        signature(CELL, SPEC, "dataset"),
        signature(Cell(CELL.configuration, seed=4), SPEC, "dataset"),
        signature(Cell({"masking.electrode": 0.5}, seed=3), SPEC, "dataset"),
        signature(Cell({"masking.time": 0.25}, seed=3), SPEC, "dataset"),
        signature(Cell({}, seed=3), SPEC, "dataset"),
        signature(CELL, configured(SPEC, {"training.max_epochs": 7}), "dataset"),
        signature(CELL, SPEC, "another dataset"),
    ]
    assert len(set(signatures)) == len(signatures)


def test_a_share_of_the_training_data_counts_unless_it_is_all_of_it():
    whole = signature(Cell({}, seed=3), SPEC, "dataset")
    assert {signature(Cell({SHARE: share}, seed=3), SPEC, "dataset") for share in (1.0, 1)} == {
        whole
    }
    assert signature(Cell({SHARE: 0.5}, seed=3), SPEC, "dataset") != whole


@pytest.mark.parametrize("encoder", [AttentionSpec(coordinates=True), OwnSpec(coordinates=True)])
def test_where_contacts_lie_counts_for_encoders_that_are_told_and_for_no_other(encoder):
    cell = Cell({}, seed=3)
    nowhere, here, there = (
        [
            signature(cell, dataclasses.replace(SPEC, encoder=each, contacts=contacts), "d")
            for each in (encoder, dataclasses.replace(encoder, coordinates=False))
        ]
        for contacts in (None, "0123", "4567")
    )
    assert len({nowhere[0], here[0], there[0]}) == 3
    assert nowhere[1] == here[1] == there[1] != here[0]


def test_an_encoder_that_is_not_told_where_electrodes_lie_has_the_signature_that_it_had():
    """Stored of the version before there were coordinates."""
    cell = Cell({"encoder": "attention", "encoder.weights": "random"}, seed=3)
    assert signature(cell, SPEC, "d") == "7308b4d59bc98c5f"


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, float("nan")])
def test_a_share_outside_its_range_is_refused(share):
    with pytest.raises(ValueError, match=rf"share must be .*, got {share}"):
        configured(SPEC, {SHARE: share})


def test_signature_looks_at_values_not_at_how_they_are_given():
    base = dataclasses.replace(SPEC, masking=Masking(electrode=0.25))
    assert signature(CELL, SPEC, "d") == signature(Cell({}, seed=3), base, "d")
    both = {"masking.time": 0.1, "masking.electrode": 0.2}
    turned = dict(reversed(both.items()))
    assert signature(Cell(both, 0), SPEC, "d") == signature(Cell(turned, 0), SPEC, "d")


def test_weights_from_a_file_count_by_content_not_by_path(tmp_path):
    paths = [tmp_path / name for name in ("a.safetensors", "b.safetensors", "c.safetensors")]
    for path, size in zip(paths, (1, 1, 2), strict=True):
        save_file({"x": zeros(size)}, path)
    same, moved, other = (
        signature(CELL, configured(SPEC, {"encoder.weights": str(path)}), "d") for path in paths
    )
    assert same == moved
    assert same != other


def test_description_is_short():
    assert describe({"masking.electrode": 0.25, "training.learning_rate": 1e-3}) == (
        "electrode 0.25, learning rate 0.001"
    )
    assert describe({}) == "–"
