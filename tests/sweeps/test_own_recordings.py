"""A laboratory's own recording, from a BIDS folder to a ledger, and on to its controls."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from analysis.control.trained import TRAINED, plan_control
from ssense.data.synthetic.__main__ import main as make
from ssense.data.synthetic.spec import SyntheticCommand
from ssense.engine.core.origin import RecordingOrigin
from ssense.engine.records.find import find_ledger
from ssense.engine.sweep_data import sweep_dataset
from ssense.errors import UserError
from ssense.files.storage import open_storage
from sweeps.masking import MaskingOptions, main

RATE_HZ = 300.0


@pytest.fixture(scope="module")
def bids(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "bids"
    make(SyntheticCommand(out=folder, as_="bids", sentences=90, electrodes=8))
    return folder


def options(storage: Path, bids: Path, **changes: object) -> MaskingOptions:
    values = {
        "storage": str(storage),
        "recording": str(bids),
        "subject": "9",
        "resample_hz": RATE_HZ,
        "spectrogram": "small",
        "text_weights": "untrained",
        "encoder": "linear",
        "batch_size": 16,
        "configurations": 1,
        "seeds": (0, 1),
        "ratios": (0.5,),
        "max_epochs": 1,
        "precision": "float32",
        "yes": True,
    }
    return MaskingOptions(**values | changes)


@pytest.fixture(scope="module")
def swept(local_ray, tmp_path_factory, bids):  # noqa: ARG001
    storage = tmp_path_factory.mktemp("storage")
    shown = io.StringIO()
    with redirect_stdout(shown):
        main(options(storage, bids))
    return find_ledger(open_storage(str(storage))), shown.getvalue()


def test_the_plan_says_what_was_understood(swept, bids):
    _, shown = swept
    assert "Data of sub-9 task-synthetic" in shown
    assert "sentences of sub-9_task-synthetic_events.tsv" in " ".join(shown.split())
    assert "512 Hz, as the file states; resampled to 300 Hz" in " ".join(shown.split())
    assert str(bids) not in shown.partition("Data of")[2].partition("Question")[0]


def test_the_ledger_says_where_it_came_from(swept, bids):
    ledger, _ = swept
    origin = ledger.description().origin
    assert isinstance(origin, RecordingOrigin)
    assert (origin.subject, origin.title) == ("sub-9", "synthetic")
    assert origin.source.place == str(bids)
    assert origin.source.subject == "9"
    assert len(ledger.records()) == 8  # four families of a configuration each, at two seeds


def test_controls_read_the_same_recording_again(swept):
    ledger, _ = swept
    dataset = sweep_dataset(ledger)
    plan = plan_control(TRAINED["noise"], ledger, dataset, None)
    assert plan.data.features.recording.sampling_rate_hz == RATE_HZ
    assert plan.data.shape == (len(dataset.stimuli), *dataset.spectrograms.shape[1:])


def test_a_recipe_that_does_not_fit_the_rate_names_one_that_does(tmp_path, bids):
    with pytest.raises(
        UserError, match=r"128 Hz, and --spectrogram high-gamma.*Use --spectrogram small"
    ):
        options(tmp_path, bids, resample_hz=256.0, spectrogram="high-gamma").plan_data()


def test_another_table_takes_the_place_of_the_events(tmp_path, bids):
    events = next(bids.rglob("*events.tsv")).read_text().splitlines()
    table = tmp_path / "said.csv"
    rows = [line.split("\t") for line in events[:81]]
    table.write_text("\n".join(",".join(row) for row in rows) + "\n")
    data = options(tmp_path, bids, sentences=str(table)).plan_data()
    assert data.own.features.recording.files["sentences"] == table
    assert len(data.own.features.recording.transcript.sentences) == 80
