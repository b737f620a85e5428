from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from upath import UPath

from ssense.data.splits import seeded_split
from ssense.engine.core.budget import Budget
from ssense.engine.core.cell import Cell
from ssense.engine.core.record import Record
from ssense.engine.records.ledger import Ledger
from ssense.engine.records.provenance import split_digest
from ssense.engine.search.race import Full
from ssense.engine.search.search import Search
from ssense.engine.work.cell import run_cell
from ssense.engine.work.shared_data import shared
from ssense.engine.work.workers import Resources, train_cells
from ssense.errors import UserError
from ssense.model.encoders.spectrogram_encoder import Precision
from ssense.specification import configured
from ssense.training.loop import fit
from ssense.training.sentences import SHARE

pytestmark = pytest.mark.usefixtures("local_ray")

FRESH_PROCESS = """
import sys, json, torch
sys.path.insert(0, {tests!r})
from conftest import make_dataset
from upath import UPath
from ssense.model.encoders.spectrogram_encoder import ResNetSpec
from ssense.training.sentences import SentenceSpec, TrainingSpec
from ssense.engine.core.cell import Cell
from ssense.data.splits import seeded_split
from ssense.engine.records.ledger import Ledger
from ssense.engine.work.cell import reset_process, run_cell
configuration, seed, folder = json.loads(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
reset_process(seed, threads=1)
spec = SentenceSpec(
    encoder=ResNetSpec(weights="random"),
    training=TrainingSpec(max_epochs=2, batch_size=8, precision=sys.argv[4]),
)
dataset = make_dataset()
pairs = dataset.on(torch.device("cpu"))
run_cell(Cell(configuration, seed), dataset, pairs, spec, Ledger(UPath(folder)))
"""


def train(search: Search, dataset, ledger: Ledger) -> list[Record]:
    records: list[Record] = []
    resources = Resources(cpus=1, gpus=0)
    train_cells(
        search,
        shared(dataset),
        ledger,
        resources,
        Budget(),
        lambda record, _: records.append(record),
    )
    return records


def fresh_process(record: Record, folder: Path, precision: Precision) -> Record:
    """Train the cell of a record alone, in a process of its own."""
    script = FRESH_PROCESS.format(tests=str(Path(__file__).parents[1]))
    arguments = [json.dumps(record.configuration), str(record.seed), str(folder), precision]
    subprocess.run([sys.executable, "-c", script, *arguments], check=True)
    return Ledger(UPath(folder)).records()[record.signature]


def test_every_cell_is_trained_once_and_is_in_the_ledger(sweep, dataset, tmp_path):
    ledger = Ledger(UPath(tmp_path))
    search = Search(sweep, Full())
    records = train(search, dataset, ledger)
    assert sorted(r.signature for r in records) == sorted(ledger.records())
    assert len(records) == sweep.n_cells
    assert all(r.done and len(r.history) == 2 for r in records)
    assert all(r.sizes == {"train": 18, "validation": 6, "test": 6} for r in records)
    assert train(Search(sweep, Full(), search.rows, ledger.records()), dataset, ledger) == []


def test_a_worker_with_other_code_stops_the_sweep_in_one_line(
    sweep, dataset, tmp_path, monkeypatch
):
    monkeypatch.setattr("ssense.engine.work.workers.code_digest", lambda: "of the driver")
    ledger = Ledger(UPath(tmp_path))
    with pytest.raises(UserError, match="runs another version of the code than the driver"):
        train(Search(sweep, Full()), dataset, ledger)
    assert not ledger.records()


@pytest.mark.parametrize("precision", get_args(Precision))
def test_a_reused_worker_gives_bitwise_the_result_of_a_fresh_process(
    precision, sweep, dataset, tmp_path
):
    training = configured(sweep.specification, {"training.precision": precision})
    sweep = dataclasses.replace(sweep, specification=training)
    ledger = Ledger(UPath(tmp_path / "reused"))
    records = train(Search(sweep, Full()), dataset, ledger)
    workers = [record.worker for record in records]
    reused = [r for place, r in enumerate(records) if r.worker in workers[:place]]
    assert reused, "no worker was reused"
    last = reused[-1]
    again = fresh_process(last, tmp_path / "fresh", precision)
    assert again.worker != last.worker
    assert again.history == last.history
    ours = ledger.weights(last)
    theirs = Ledger(UPath(tmp_path / "fresh")).weights(last)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


class Undecided(Full):
    """A policy that fails as soon as it has a result to judge."""

    def judge(self, scores, seeds, *, all_proposed, **others):
        if any(scores):
            raise ArithmeticError("no verdict")
        return super().judge(scores, seeds, all_proposed=all_proposed, **others)


def test_a_search_that_fails_over_a_result_ends_the_sweep_with_its_reason(sweep, dataset, tmp_path):
    alone = dataclasses.replace(sweep, families=sweep.families[:1], seeds=(0,))
    ledger = Ledger(UPath(tmp_path))
    with pytest.raises(ArithmeticError, match="no verdict"):
        train(Search(alone, Undecided()), dataset, ledger)
    assert len(ledger.records()) == 1  # its result is kept


def test_a_cell_that_fails_is_recorded_with_its_reason_and_the_others_go_on(
    sweep, dataset, tmp_path
):
    # One sentence is unreadable: the cells that train on it fail, those that test on it do not.
    spoilt = dataset.spectrograms.copy()
    spoilt[row_in_train_of_one_seed_alone(len(dataset))] = np.nan
    broken = dataclasses.replace(dataset, spectrograms=spoilt)
    ledger = Ledger(UPath(tmp_path))
    records = train(Search(sweep, Full()), broken, ledger)
    assert {r.seed for r in records if not r.done} == {0}
    assert {r.seed for r in records if r.done} == {1}
    failed = next(record for record in records if not record.done)
    assert failed.reason == "the training loss became nan"
    assert ledger.records()[failed.signature] == failed


def test_a_cell_with_a_share_of_the_training_data_sees_no_other_rows_of_it(
    sweep, dataset, tmp_path
):
    """Whatever the other rows hold: here nothing that anyone could train on."""
    cell, split = Cell({SHARE: 0.4}, seed=0), seeded_split(len(dataset), 0)
    spec = configured(sweep.specification, cell.configuration)
    part = spec.cell_split(split, cell.seed)
    spoilt = dataset.spectrograms.copy()
    spoilt[np.setdiff1d(split.train, part.train)] = np.nan
    spoilt[split.test] = np.nan
    records = []
    for name, data in (
        ("whole", dataset),
        ("spoilt", dataclasses.replace(dataset, spectrograms=spoilt)),
    ):
        pairs = data.on(torch.device("cpu"))
        ledger = Ledger(UPath(tmp_path / name))
        records.append(run_cell(cell, data, pairs, sweep.specification, ledger))
    clean, other = records
    assert clean.history == other.history
    assert clean.sizes == {"train": 7, "validation": 6, "test": 6}
    assert clean.split_digest == split_digest(part) != split_digest(split)
    trained = fit(pairs.select(part.train), pairs.select(part.validation), spec, cell.seed)
    assert trained.history == clean.history


def test_a_cell_that_diverges_in_its_last_step_fails_like_any_other(sweep, dataset, tmp_path):
    training = configured(
        sweep.specification,
        {"training.learning_rate": 1e38, "training.batch_size": len(dataset)},
    )
    ledger, pairs = Ledger(UPath(tmp_path)), dataset.on(torch.device("cpu"))
    record = run_cell(Cell({}, seed=0), dataset, pairs, training, ledger)
    assert (record.status, record.reason[:25]) == ("failed", "embeddings must be finite")


def row_in_train_of_one_seed_alone(n: int) -> int:
    """Return a row that seed 0 trains on and seed 1 keeps for its test."""
    return int(np.intersect1d(seeded_split(n, 0).train, seeded_split(n, 1).test)[0])
