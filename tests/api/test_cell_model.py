from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import ssense
from ssense.api.result import SweepResult
from ssense.data.recordings.recording_source import RecordingSource
from ssense.data.shards import read_manifest
from ssense.engine.records.ledger import Ledger
from ssense.errors import UserError


@pytest.fixture
def copied(tiny_sweep, linked, tmp_path) -> SweepResult:
    """The tiny sweep in a storage of its own, to be damaged."""
    return ssense.open(linked(tiny_sweep, tmp_path / "storage")).sweeps["tiny"]


def test_a_model_says_what_it_is(result):
    model = result.model("no masking, seed 1")
    record = result.record("no masking, seed 1")
    assert (model.signature, model.seed) == (record.signature, 1)
    assert (model.code_digest, model.dataset_digest) == (record.code_digest, result.dataset.digest)
    assert model.electrodes == result.dataset.electrodes
    assert set(model.electrodes) < set(model.contacts)
    assert model.sampling_rate_hz == 256
    assert model.lead_samples > 4 * 256  # the notches of 60 Hz ring for four seconds
    numbers = result.dataset.stimuli["sentence_idx"].to_numpy()
    assert model.held_out == {*numbers[result.dataset.split(1).test].tolist()}


def test_a_deleted_encoder_is_made_again_only_if_asked(copied):
    signature = copied.best().signature
    copied.ledger.delete_weights(signature)
    with pytest.raises(UserError) as refused:
        copied.model(signature)
    message = str(refused.value)
    assert message.startswith(f"the encoder of cell {signature} was deleted, as no evaluation")
    assert f"sweeps/masking.py --storage {copied.ledger.storage} --cell {signature}" in message


def test_a_cell_of_a_control_is_no_model_of_the_sweep(copied):
    ledger, record = copied.ledger, copied.best()
    for changes in ({"split_digest": "of blocks"}, {"dataset_digest": "of noise"}):
        ledger.write(dataclasses.replace(record, **changes))
        with pytest.raises(UserError, match="on other data or splits than its sweep's: it belongs"):
            SweepResult(ledger).model(record.signature)


def test_another_version_of_the_code_is_a_warning(copied):
    record = copied.best()
    copied.ledger.write(dataclasses.replace(record, code_digest="0badc0de00"))
    with pytest.warns(UserWarning, match="by another version of the code .0badc0de, this is"):
        copied.model(record.signature)


def test_earlier_shards_take_what_electrodes_are_of_from_the_recording(copied):
    ledger, dataset = copied.ledger, copied.dataset
    folder = ledger.storage / "shards" / ledger.description().origin.shards
    manifest = read_manifest(folder)
    assert [each.name for each in manifest.derivations] == list(manifest.electrodes)
    dataclasses.replace(manifest, derivations=()).write(folder)
    again = SweepResult(ledger).model()
    assert again.preprocessing.derivations == manifest.derivations
    description = ledger.description()
    nowhere = RecordingSource(place="/nowhere")
    gone = dataclasses.replace(description.origin, recording="/nowhere", source=nowhere)
    ledger.describe(dataclasses.replace(description, origin=gone))
    with pytest.raises(UserError, match=r"recording of tiny-.* is not in /nowhere. Put it back"):
        SweepResult(ledger).model()
    assert np.array_equal(dataset.targets, copied.dataset.targets)


def test_the_encoder_of_another_model_is_refused(copied):
    record = copied.best()
    weights = copied.ledger.weights(record)
    weights["odd"] = weights.pop("resnet.fc.bias")
    damaged = copied.ledger.write(record, weights)
    with pytest.raises(UserError, match=f"encoder of cell {damaged.signature} belongs to another"):
        SweepResult(Ledger(copied.ledger.folder)).model(record.signature)
