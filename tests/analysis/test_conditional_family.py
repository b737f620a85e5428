"""Fields of texts, one of which some configurations lack, from the plan to the report."""

from __future__ import annotations

import csv

import pytest
from mlflow import MlflowClient

from analysis import catalogue, compare, evaluate
from analysis.options import CatalogueOptions, EvaluationOptions, ResultsOptions
from ssense.data.synthetic.recording import SyntheticSpec
from ssense.engine.core.budget import Budget
from ssense.engine.records.find import find_ledger
from ssense.engine.run import run_sweep
from ssense.engine.tasks.recording_options import RecordingOptions
from ssense.engine.view.cell_table import CELLS_FILE
from ssense.engine.view.mlflow_database import tracking_uri
from ssense.files.storage import open_storage

NORM = "encoder.batch_norm"
FAMILIES = {
    "rate": {"training.learning_rate": (1e-3,)},
    "mixed": {"encoder": ("resnet-18", "linear"), NORM: ("chunk", "frozen")},
}
MIXED = [("resnet-18", "chunk"), ("resnet-18", "frozen"), ("linear", None)]


@pytest.mark.usefixtures("local_ray")
def test_a_field_that_some_configurations_lack_is_left_out_of_theirs(tmp_path, capsys):
    storage = open_storage(str(tmp_path))
    options = RecordingOptions(
        storage=str(storage),
        synthetic=SyntheticSpec(sentences=60, electrodes=5),
        configurations=3,
        seeds=(0, 1),
        max_epochs=1,
        policy="full",
        yes=True,
    )
    data = options.plan_data()
    assert run_sweep(options.sweep("mixed", data, FAMILIES), data, options, Budget()) == "full"
    evaluate.main(EvaluationOptions(storage=str(storage)))
    catalogue.main(CatalogueOptions(storage=str(storage)))
    folder = find_ledger(storage).folder / "evaluation"
    assert "mixed: rate | mixed" in capsys.readouterr().out

    with (folder / CELLS_FILE).open() as file:
        cells = [row for row in csv.DictReader(file) if row["family"] == "mixed"]
    named = [(row["encoder"], row[NORM] or None) for row in cells]
    assert sorted(named, key=str) == sorted(MIXED * 2, key=str)

    client = MlflowClient(tracking_uri(storage))
    experiments = [each.experiment_id for each in client.search_experiments()]
    params = [run.data.params for run in client.search_runs(experiments)]
    cells = [each for each in params if each.get("family") == "mixed" and "seed" in each]
    logged = [(each["encoder"], each.get(NORM)) for each in cells]
    assert sorted(logged, key=str) == sorted(MIXED * 2, key=str)

    drawn = (folder / "response.svg").read_text()
    assert all(f">{name}</text>" in drawn for name in (NORM, "chunk", "frozen", "linear"))
    assert "response" in (folder / "report.html").read_text()
    compare.main(ResultsOptions(results=str(folder / "scores.csv")))
    assert "mixed" in capsys.readouterr().out
