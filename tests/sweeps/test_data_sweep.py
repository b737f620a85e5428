"""A sweep over choices of the data from its plan to its report, on a running Ray."""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from analysis import catalogue, compare, evaluate
from analysis.options import CatalogueOptions, EvaluationOptions, ResultsOptions
from analysis.verify import find_faults
from ssense.data.synthetic.spec import SyntheticSpec
from ssense.engine.records.find import find_ledger
from ssense.engine.reproduce import reproduce_cell
from ssense.engine.run import run
from ssense.engine.tasks.recording_options import RecordingOptions
from ssense.engine.view.cell_table import CELLS_FILE
from ssense.engine.view.mlflow_database import tracking_uri
from ssense.files.storage import open_storage

WINDOWS = "encoder.windows"  # which the convolution lacks
LEVELS = (0.5, 1.5, 2.0, 3.0)
SIZE = SyntheticSpec(sentences=90, electrodes=5, sampling_rate=256)


OWN = """
import numpy as np


def letters(sentences):
    return np.array([[s.lower().count(c) + 0.5 for c in "aeinorst"] for s in sentences])
"""


def define(data, options):
    folder = Path(options.storage)
    families = {
        "as published": {},
        "context": {"data.context_after_s": LEVELS},
        "reference": {
            "data.reference": ("none",),
            "encoder": ("linear", "convolution"),
            WINDOWS: (4,),
        },
        "target": {
            "target": ("vectors", "own"),
            "target.file": (str(folder / "words.npy"),),
            "target.source": (f"{folder / 'mine.py'}:letters",),
        },
    }
    return options.sweep("data", data, families)


@pytest.mark.usefixtures("local_ray")
def test_datasets_are_made_as_cells_ask_for_them_and_named_in_the_report(tmp_path, capsys):
    given = {
        "storage": str(tmp_path),
        "synthetic": SIZE,
        "encoder": "linear",
        "configurations": 2,
        "seeds": (0, 1),
        "max_epochs": 1,
        "yes": True,
    }
    storage = open_storage(str(tmp_path))
    numbers = RecordingOptions(**given).plan_data().own.numbers
    np.save(tmp_path / "words.npy", np.random.default_rng(0).standard_normal((len(numbers), 12)))
    (tmp_path / "words.txt").write_text("\n".join(map(str, numbers)))
    (tmp_path / "mine.py").write_text(OWN)
    assert run(define, RecordingOptions(**given, budget_cells=3)) == []
    interrupted = find_ledger(storage).records()
    assert len(interrupted) == 3
    assert run(define, RecordingOptions(**given)) == [find_ledger(storage).folder.name]
    ledger = find_ledger(storage)
    records, sweep = ledger.records(), ledger.description().sweep
    for name, record in interrupted.items():
        assert records[name].finished_at == record.finished_at
    for record in records.values():
        assert record.dataset_digest == sweep.dataset_of(record.configuration)

    # Two of four contexts were tried, and the features of no other were made.
    tried = {record.configuration.get("data.context_after_s") for record in records.values()}
    assert len(sweep.all_datasets()) == 8
    assert len({record.dataset_digest for record in records.values()}) == 6
    made = {path.name for path in (storage / "shards").iterdir()}
    asked = {
        o.shards
        for o in ledger.description().origin.datasets
        if o.digest in {record.dataset_digest for record in records.values()}
    }
    assert made == asked
    said = capsys.readouterr().out
    assert "8 datasets of the same " in said
    assert len(re.findall(r"Spectrograms of .+: \d+ sentences", said)) >= 4
    assert tried < {None, *LEVELS}

    # A seed draws the same sentences for every configuration.
    by_seed = {(record.seed, record.split_digest) for record in records.values()}
    assert len(by_seed) == 2
    assert reproduce_cell(storage, "none, convolution, seed 1", 1).exact
    assert list(find_faults(storage, Counter())) == []

    evaluate.main(EvaluationOptions(storage=str(tmp_path)))
    page = (ledger.folder / "evaluation" / "report.html").read_text()
    for family in sweep.families:
        assert f"Data of {family.name}" in page
    sweep_plan = RecordingOptions(**given).plan_data()
    planned = sweep_plan.covering(sweep.specification, sweep.families)
    lines = planned.lines(sweep.specification, sweep.families, sweep.seeds)
    leaks = re.findall(r": (\d+) % of the test segments share samples with training", page)
    in_plan = re.findall(r"; (\d+)% of its test segments share samples", "".join(lines))
    assert len({*leaks}) > 1
    assert {*leaks} <= {*in_plan}
    assert f"{len(planned.own.rows)}, those that every dataset" in page
    assert "Trained weights" in page
    digests = re.findall(r"dataset ([0-9a-f]{16})", page)
    assert len(set(digests)) == 4
    assert {*digests} < {record.dataset_digest for record in records.values()}
    assert "vectors words.npy; " in page or "mine.py:letters; " in page
    check_views_of_a_field_that_some_configurations_lack(storage, ledger, capsys)


def check_views_of_a_field_that_some_configurations_lack(storage, ledger, capsys):
    """Nothing invents the field, stumbles over it or leaves out a configuration."""
    folder, wanted = ledger.folder / "evaluation", [("convolution", ""), ("linear", "4")]
    with (folder / CELLS_FILE).open() as file:
        cells = [row for row in csv.DictReader(file) if row["family"] == "reference"]
    assert sorted((row["encoder"], row[WINDOWS]) for row in cells) == sorted(2 * wanted)

    client = MlflowClient(tracking_uri(storage))
    experiments = [each.experiment_id for each in client.search_experiments()]
    params = [run.data.params for run in client.search_runs(experiments)]
    cells = [each for each in params if each.get("family") == "reference" and "seed" in each]
    assert sorted((p["encoder"], p.get(WINDOWS, "")) for p in cells) == sorted(2 * wanted)

    drawn = (folder / "response.svg").read_text()
    assert all(f">{word}</text>" in drawn for word in ("encoder", "linear", "convolution"))
    assert f">{WINDOWS}</text>" not in drawn  # of a single level
    capsys.readouterr()
    catalogue.main(CatalogueOptions(storage=str(storage)))
    compare.main(ResultsOptions(results=str(folder / "scores.csv")))
    said = capsys.readouterr().out
    assert "data: as published | context | reference" in said
    assert "reference vs as published" in said or "as published vs reference" in said
