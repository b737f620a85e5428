from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from upath import UPath

from ssense.data.shards import Manifest, shard_name, write_shard
from ssense.engine.core.cell import Cell
from ssense.engine.core.cell import signature as cell_signature
from ssense.engine.core.origin import RecordingOrigin
from ssense.engine.core.record import Record
from ssense.engine.core.sweep import Family, Row, Sweep
from ssense.engine.records.description import Description
from ssense.engine.records.driver import sole_driver
from ssense.engine.records.ledger import SWEEPS, Ledger, WeightsNotKeptError
from ssense.engine.reproduce import compare, device_of, find_cell, reproduce_cell
from ssense.engine.tasks.dataset_plan import load_dataset
from ssense.engine.work.cell import run_cell
from ssense.errors import UserError
from ssense.files.digest import digest
from ssense.files.sealed_json import unsealed, write_sealed
from ssense.files.storage import write_json
from ssense.model.encoders.spectrogram_encoder import ResNetSpec
from ssense.specification import configured
from ssense.targets.sentence_embeddings import cached_embeddings
from ssense.targets.text import TextSpec
from ssense.training.loop import Fit
from ssense.training.process import reset_process
from ssense.training.sentences import SentenceSpec, TrainingSpec

TEXT = TextSpec(weights="untrained")
TRAINING = SentenceSpec(
    encoder=ResNetSpec(weights="random"), training=TrainingSpec(max_epochs=2, batch_size=8)
)
CONFIGURATION = {"masking.electrode": 0.5}
ORIGIN = RecordingOrigin(subject="sub_9", title="Ant-Man", shards="0123", recording="there")
SENTENCES = {
    "sentence_idx": list(range(30)),
    "text": [f"sentence {number}" for number in range(30)],
    "start": list(range(0, 30_000, 1000)),
    "stop": list(range(900, 30_900, 1000)),
}

# A worker: one process that trains one cell on two threads.
WORKER = """
import json, sys, torch
from upath import UPath
from ssense.targets.text import TextSpec
from ssense.engine.core.cell import Cell
from ssense.engine.records.ledger import Ledger
from ssense.engine.tasks.dataset_plan import load_dataset
from ssense.engine.work.cell import reset_process, run_cell
folder, shards, configuration = UPath(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
dataset = load_dataset(shards, TextSpec(weights="untrained"), folder.parents[1])
reset_process(3, threads=2)
ledger = Ledger(folder)
pairs = dataset.on(torch.device("cpu"))
run_cell(Cell(configuration, 3), dataset, pairs, ledger.description().sweep.specification, ledger)
"""


def write_dataset(storage: UPath) -> tuple[str, RecordingOrigin]:
    """Write shards and embeddings of thirty sentences; return their digest and origin."""
    spectrograms = np.random.default_rng(0).standard_normal((30, 2, 16, 16))
    origin = {"made": "at random", "recording_rate_hz": 2048.0}
    folder = storage / "shards" / digest(origin)
    shard = write_shard(folder / shard_name(0), folder.name, SENTENCES, spectrograms)
    Manifest(
        digest=folder.name,
        origin=origin,
        settings={},
        sources={},
        sampling_rate_hz=2048.0,
        electrodes=("a", "b"),
        dropped={},
        shards=[shard],
    ).write(folder)
    cached_embeddings(SENTENCES["text"], TEXT, storage / "text")
    dataset = load_dataset(folder.name, TEXT, storage)
    return dataset.digest, dataclasses.replace(ORIGIN, shards=folder.name, text=TEXT)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A storage with one sweep, and one cell of it that a worker trained."""
    storage = UPath(tmp_path_factory.mktemp("trained"))
    dataset_digest, origin = write_dataset(storage)
    sweep = Sweep(
        question="masking",
        dataset_digest=dataset_digest,
        specification=TRAINING,
        families=(Family(name="electrode", levels={"masking.electrode": (0.5,)}),),
        configurations=1,
        seeds=(3,),
    )
    ledger = Ledger(storage / SWEEPS / sweep.name)
    rows = (Row("electrode", CONFIGURATION),)
    ledger.describe(Description(sweep=sweep, origin=origin, rows=rows))
    arguments = [ledger.folder, origin.shards, json.dumps(CONFIGURATION)]
    subprocess.run([sys.executable, "-c", WORKER, *map(str, arguments)], check=True)
    return storage


@pytest.fixture
def storage(trained, tmp_path) -> Iterator[UPath]:
    """A copy of it to change; and a process that later tests find as it was."""
    threads = torch.get_num_threads()
    yield UPath(shutil.copytree(trained, tmp_path / "storage"))
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


def only_cell(storage: UPath) -> tuple[Ledger, Record]:
    return find_cell(storage, "")


# ---------------------------------------------------------------- a worker's cell, once more


def test_a_cell_is_the_same_to_the_bit_and_stays_as_it_is(storage, capsys):
    ledger, record = only_cell(storage)
    assert record.threads == 2
    before = {path: path.read_bytes() for path in storage.rglob("*.*")}
    reproduction = reproduce_cell(storage, record.signature[:6], threads=1)
    assert torch.get_num_threads() == 2, "not trained on as many threads as the record says"
    assert reproduction.exact
    assert before.items() <= {path: path.read_bytes() for path in storage.rglob("*.*")}.items()
    (kept,) = ledger.reproductions()
    assert kept == reproduction
    assert max(kept.at_best.values()) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == f"Cell {record.signature} of {ledger.folder.name}: electrode 0.5, seed 3"
    assert shown[-1] == "Reproduced to the bit: 2 epochs, and the weights of the best."
    assert not any(" was " in line for line in shown)


def test_a_deleted_encoder_is_compared_by_its_digest_and_kept_again(storage, capsys):
    ledger, record = only_cell(storage)
    encoder = ledger.weights(record)
    ledger.delete_weights(record.signature)
    with sole_driver(ledger.folder), pytest.raises(UserError, match="is being worked on by"):
        reproduce_cell(storage, record.signature, threads=1)
    assert reproduce_cell(storage, record.signature, threads=1).exact
    assert "Its encoder is kept again" in capsys.readouterr().out
    again = ledger.weights(record)
    assert all(torch.equal(encoder[name], again[name]) for name in encoder)
    assert ledger.record(record.signature) == record


def test_another_encoder_does_not_take_the_place_of_a_deleted_one(storage, capsys):
    ledger, record = only_cell(storage)
    encoder = ledger.weights(record)
    encoder["resnet.conv1.weight"].view(-1)[7] += 0.25
    record = ledger.write(record, encoder)
    ledger.delete_weights(record.signature)
    assert not reproduce_cell(storage, "", threads=2).exact
    assert "training loss: 0; weights: not comparable" in capsys.readouterr().out
    with pytest.raises(WeightsNotKeptError):
        ledger.weights(record)


def test_a_worker_that_trains_a_cell_with_a_deleted_encoder_keeps_its_result(storage):
    ledger, record = only_cell(storage)
    encoder = ledger.weights(record)
    ledger.delete_weights(record.signature)
    description = ledger.description()
    dataset = load_dataset(description.origin.shards, TEXT, storage)
    pairs, spec = dataset.on(torch.device("cpu")), description.sweep.specification
    reset_process(record.seed, threads=record.threads)
    cell = Cell(record.configuration, record.seed)
    assert run_cell(cell, dataset, pairs, spec, ledger) == record
    again = ledger.weights(record)
    assert all(torch.equal(encoder[name], again[name]) for name in encoder)


def test_a_cell_that_was_another_is_measured(storage, capsys):
    ledger, record = only_cell(storage)
    history = [dict(epoch) for epoch in record.history]
    history[record.best_epoch - 1]["mrr"] -= 1 / 8  # it stays the best, by recall@10
    history[0]["loss"] += 1e-3
    encoder = ledger.weights(record)
    encoder["resnet.conv1.weight"].view(-1)[7] += 0.25
    ledger.write(dataclasses.replace(record, history=history), encoder)
    reproduction = reproduce_cell(storage, "", threads=2)
    assert not reproduction.exact
    gaps = {"recall@1": 0, "recall@10": 0, "recall@50": 0, "mrr": 12.5}
    assert reproduction.at_best == pytest.approx(gaps)
    assert reproduction.by_epoch[record.best_epoch - 1] == pytest.approx(12.5)
    assert sum(reproduction.by_epoch) == pytest.approx(12.5)
    assert reproduction.loss == pytest.approx(1e-3)
    assert reproduction.weights == pytest.approx(0.25, abs=1e-6)
    shown = capsys.readouterr().out
    assert "Recall@1 0.00, Recall@10 0.00, Recall@50 0.00, MRR 12.50 points" in shown


@pytest.mark.parametrize(
    ("was", "has_gpu", "device"),
    [("CPU", True, "cpu"), ("NVIDIA H200", True, "cuda"), ("NVIDIA H200", False, "cpu")],
)
def test_a_cell_is_reproduced_on_a_device_of_its_kind(storage, monkeypatch, was, has_gpu, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    _, record = only_cell(storage)
    assert device_of(dataclasses.replace(record, device=was)).type == device


def test_other_circumstances_are_said(storage, capsys):
    ledger, record = only_cell(storage)
    record = dataclasses.replace(
        record,
        device="NVIDIA H200",
        code_digest="",
        instructions="NEON",
        threads=0,
        worker="elsewhere:17",
        versions=dict(record.versions, torch="2.14.0"),
    )
    ledger.write(record)
    reproduce_cell(storage, "", threads=1)
    assert torch.get_num_threads() == 1
    shown = capsys.readouterr().out
    assert "device was NVIDIA H200, is CPU" in shown or torch.cuda.is_available()
    assert re.search(r"  host was elsewhere, is \S+\n", shown)
    assert f"instruction set was NEON, is {torch.backends.cpu.get_cpu_capability()}" in shown
    assert re.search(r"  code was not noted, is [0-9a-f]{16}\n", shown)
    assert f"  torch was 2.14.0, is {torch.__version__.partition('+')[0]}" in shown
    assert "numpy was" not in shown
    assert record.finished_at[:10] in shown


def test_a_cell_that_would_be_another_today_is_not_trained(storage):
    ledger, record = only_cell(storage)
    path = ledger.folder / "sweep.json"
    content = unsealed(json.loads(path.read_text()))
    content["sweep"]["specification"]["training"]["learning_rate"] = 0.01
    write_sealed(path, content)
    with pytest.raises(UserError, match=f"cell {record.signature} would be [0-9a-f]+ today"):
        reproduce_cell(storage, "", threads=2)


def test_a_training_that_fails_now_is_one_line(storage):
    _, record = only_cell(storage)
    (shard,) = storage.glob("shards/*/*.parquet")
    spoilt = np.full((30, 2, 16, 16), np.nan)
    made = write_shard(shard, shard.parent.name, SENTENCES, spoilt)
    manifest = shard.parent / "manifest.json"
    content = unsealed(json.loads(manifest.read_text()))
    write_sealed(manifest, content | {"shards": [dataclasses.asdict(made)]})
    with pytest.raises(UserError) as error:
        reproduce_cell(storage, "", threads=2)
    assert str(error.value) == (
        f"cell {record.signature} is done in the ledger, but fails here: "
        "the training loss became nan."
    )


# ---------------------------------------------------------------- finding a cell


def write_cells(storage: UPath, *signatures: str, **changes: object) -> None:
    for signature in signatures:
        record = Record(
            signature=signature,
            configuration={},
            seed=0,
            status="done",
            dataset_digest="d",
            history=[{"epoch": 1, "recall@10": 0.5}],
            best_epoch=1,
        )
        ledger = Ledger(storage / SWEEPS / f"sweep-{signature[0]}")
        ledger.write(dataclasses.replace(record, **changes))
        write_json(ledger.folder / "sweep.json", {})


@pytest.mark.parametrize(("prefix", "found"), [("12", "1234"), ("12f", "12ff"), ("5", "5678")])
def test_a_cell_is_found_by_any_beginning_that_no_other_has(prefix, found, tmp_path):
    write_cells(UPath(tmp_path), "1234", "5678", *(["12ff"] if prefix == "12f" else []))
    ledger, record = find_cell(UPath(tmp_path), prefix)
    assert record.signature == found
    assert ledger.folder.name == f"sweep-{found[0]}"


def test_a_cell_that_is_not_there_or_not_one_is_one_line(tmp_path):
    storage = UPath(tmp_path)
    with pytest.raises(UserError, match=r"no finished cell 12 in .*\. No cell is finished\.$"):
        find_cell(storage, "12")
    write_cells(storage, "1234", "1299", "5678")
    (storage / SWEEPS / "sweep-1" / "cells" / "99ff").mkdir()  # in progress
    with pytest.raises(UserError, match=r"no finished cell 99 in .*\. Nearest of 3: 1299\.$"):
        find_cell(storage, "99")
    with pytest.raises(UserError, match=r"^2 cells begin with 12: 1234, 1299\. Give more"):
        find_cell(storage, "12")


def test_a_failed_cell_says_why(tmp_path):
    write_cells(UPath(tmp_path), "1234", status="failed", reason="OutOfMemoryError: 3 GiB")
    with pytest.raises(UserError) as error:
        find_cell(UPath(tmp_path), "1")
    assert str(error.value) == (
        "cell 1234 failed: OutOfMemoryError: 3 GiB. There is nothing to reproduce."
    )


@pytest.fixture
def called(tmp_path) -> UPath:
    """Two sweeps with cells of one name between them, and cells of their own."""
    storage = UPath(tmp_path)
    levels = {"masking.electrode": (0.5, 0.75)}
    for question, families in (
        ("masking", (Family(name="no masking", levels={}), Family(name="e", levels=levels))),
        ("other", (Family(name="no masking", levels={}),)),
    ):
        sweep = Sweep(
            question=question,
            dataset_digest="d",
            specification=configured(TRAINING, {"training.patience": len(families)}),
            families=families,
            configurations=2,
            seeds=(0, 1),
        )
        rows = [Row("no masking", {})]
        rows += [Row("e", {"masking.electrode": 0.75})] * (question == "masking")
        ledger = Ledger(storage / SWEEPS / sweep.name)
        ledger.describe(Description(sweep=sweep, origin=ORIGIN, rows=tuple(rows)))
        for row in rows:
            record = Record(
                signature=cell_signature(Cell(row.configuration, 1), sweep.specification, "d"),
                configuration=row.configuration,
                seed=1,
                status="done",
                dataset_digest="d",
                history=[{"epoch": 1, "recall@10": 0.5}],
                best_epoch=1,
            )
            ledger.write(record)
            # As of a control: the same configuration and seed on other splits.
            ledger.write(dataclasses.replace(record, signature=f"c{record.signature[1:]}"))
    return storage


@pytest.mark.parametrize("name", ["electrode 0.75, seed 1", "electrode 0.75 seed 1"])
def test_a_cell_is_found_by_what_it_is_called(name, called):
    ledger, record = find_cell(called, name)
    assert ledger.folder.name.startswith("masking-")
    assert (record.configuration, record.seed) == ({"masking.electrode": 0.75}, 1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("electrode 0.7, seed 1", r"no finished cell is called electrode 0.7, seed 1. Nearest of"),
        (
            "electrode 0.75, seed 7",
            r"electrode 0.75, seed 7. Of electrode 0.75 there are cells of seed 1\.$",
        ),
        (
            "electrode 0.75",
            r'electrode 0.75 lacks a seed. There are cells of seed 1: give one, as "elec',
        ),
        ("electrod 0.7", r'is called electrod 0.7. Nearest: "electrode 0.75, seed 1"\.$'),
        ("seed 1", r'`cell` seed 1 lacks a configuration, before the seed. Such as "\w.*, seed 1"'),
        (
            "seed 7",
            r"lacks a configuration.* No cell of that seed is finished; there are cells of seed",
        ),
        (
            "e, seed 7",
            r"is called e, seed 7. No cell of that seed is finished; there are cells of seed 1\.$",
        ),
        ("no masking, seed 1", r"2 cells are called no masking, seed 1: \w+ of \w+-.*, \w+ of "),
    ],
)
def test_a_name_of_no_cell_or_of_several_is_one_line(name, message, called):
    with pytest.raises(UserError, match=message) as error:
        find_cell(called, name)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("name", ["e, seed 7", "seed 7", "e", "1234"])
def test_where_no_cell_is_finished_that_is_said(name, tmp_path):
    with pytest.raises(UserError, match=r"No cell is finished\.$") as error:
        find_cell(UPath(tmp_path), name)
    assert "none" not in str(error.value)


# ---------------------------------------------------------------- comparing


def epoch(number: int, loss: float, recall: float) -> dict[str, float]:
    recalls = {"recall@1": 0.0, "recall@10": recall, "recall@50": 1.0}
    return {"epoch": number, "loss": loss, **recalls, "mrr": recall / 2}


THEN = [epoch(1, 3.0, 0.10), epoch(2, 2.0, 0.30), epoch(3, 1.5, 0.20)]


def a_record(history: list[dict[str, float]], best_epoch: int) -> Record:
    return Record(
        signature="s",
        configuration={},
        seed=0,
        status="done",
        dataset_digest="d",
        history=history,
        best_epoch=best_epoch,
    )


def test_the_gaps_are_of_the_same_epochs_and_of_the_best_of_each():
    now = [epoch(1, 3.0, 0.15), epoch(2, 2.25, 0.30), epoch(3, 1.5, 0.32), epoch(4, 1.0, 0.31)]
    encoder = {"weight": torch.tensor([1.0, 2.0]), "n": torch.tensor(3)}
    moved = encoder | {"weight": torch.tensor([1.25, 1.5])}
    again = Fit(history=now, best_epoch=3, weights=moved)
    found = compare(a_record(THEN, 2), encoder, again)
    assert not found.exact
    assert found.best_epochs == (2, 3)
    assert found.epochs == (3, 4)
    assert found.by_epoch == pytest.approx([5, 0, 12])
    gaps = {"recall@1": 0, "recall@10": 2, "recall@50": 0, "mrr": 1}
    assert found.at_best == pytest.approx(gaps)
    assert found.loss == 0.25
    assert found.weights == 0.5
    assert found.lines() == [
        "Not reproduced to the bit. Largest differences:",
        "  at the best epoch (2 of 3, now 3 of 4): "
        "Recall@1 0.00, Recall@10 2.00, Recall@50 0.00, MRR 1.00 points",
        "  by epoch: 5.00 0.00 12.00 points",
        "  training loss: 0.25; weights: 0.5",
    ]


@pytest.mark.parametrize(
    ("one", "other", "exact", "weights"),
    [
        ([0.1, 2.0], [0.1, 2.0], True, 0.0),
        ([0.0], [-0.0], False, 0.0),
        ([math.nan], [math.nan], True, None),
        ([1.0], [math.nextafter(1.0, 2.0)], False, 2**-52),
        ([1.0], [1.0, 1.0], False, None),
    ],
)
def test_the_same_to_the_bit_means_the_bits(one, other, exact, weights):
    encoders = [{"weight": torch.tensor(values, dtype=torch.float64)} for values in (one, other)]
    again = Fit(history=list(THEN), best_epoch=2, weights=encoders[1])
    found = compare(a_record(THEN, 2), encoders[0], again)
    assert found.exact == exact
    assert found.weights == pytest.approx(weights, abs=0)


def test_another_type_or_name_of_a_tensor_is_no_reproduction():
    encoder = {"weight": torch.ones(2)}
    for other in ({"weight": torch.ones(2).double()}, {"bias": torch.ones(2)}, {}):
        found = compare(a_record(THEN, 2), encoder, Fit(history=THEN, best_epoch=2, weights=other))
        assert not found.exact


def test_a_loss_alone_that_differs_is_no_reproduction():
    now = [dict(THEN[0], loss=math.nextafter(3.0, 4.0)), *THEN[1:]]
    encoder = {"weight": torch.ones(2)}
    found = compare(a_record(THEN, 2), encoder, Fit(history=now, best_epoch=2, weights=encoder))
    assert not found.exact
    assert max(found.by_epoch) == found.weights == 0
    assert found.loss == math.ulp(3.0)
