from __future__ import annotations

import dataclasses
import json
import re

import pytest
import torch
from upath import UPath

from ssense.engine.core.decision import Decision
from ssense.engine.core.origin import RecordingOrigin
from ssense.engine.core.record import Record
from ssense.engine.core.sweep import Family, Row, Sweep
from ssense.engine.records.description import Description
from ssense.engine.records.find import find_ledger
from ssense.engine.records.ledger import SWEEPS, Ledger
from ssense.errors import UserError
from ssense.files.sealed_json import CHECKSUM, sealed
from ssense.model.encoders.spectrogram_encoder import ResNetSpec
from ssense.model.masking import Masking
from ssense.specification import plain
from ssense.training.sentences import SentenceSpec

RECORD = Record(
    signature="abc",
    configuration={"masking.time": 0.1},
    seed=2,
    status="done",
    dataset_digest="d",
    history=[{"epoch": 1, "recall@10": 0.1}, {"epoch": 2, "recall@10": 0.4}],
    best_epoch=2,
    timings={"training": 1.5},
)
SWEEP = Sweep(
    question="masking",
    dataset_digest="d",
    specification=SentenceSpec(masking=Masking(time=0.2), encoder=ResNetSpec(weights="random")),
    families=(Family(name="none", levels={}), Family(name="t", levels={"masking.time": (0.1,)})),
    configurations=3,
    seeds=(0, 1),
)
ORIGIN = RecordingOrigin(subject="sub_9", title="Ant-Man", shards="0123", recording="there")
OUT = Decision(place=0, reason="behind", after_seeds=2, leader=1, difference=0.04)


def edit(path: UPath, **changes: object) -> None:
    """Change names of a sealed file, as whoever wrote it would."""
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(sealed({n: v for n, v in content.items() if n != CHECKSUM})))


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    return Ledger(UPath(tmp_path) / SWEEPS / SWEEP.name)


def test_a_record_and_its_encoder_come_back_as_they_were(ledger):
    encoder = {"weight": torch.randn(3, 4)}
    written = ledger.write(RECORD, encoder)
    assert dataclasses.replace(written, weights_digest="") == RECORD
    assert ledger.records() == {"abc": written}
    assert ledger.record("abc") == written
    assert ledger.record("abd") is None
    assert RECORD.best == {"epoch": 2, "recall@10": 0.4}
    assert torch.equal(ledger.weights(written)["weight"], encoder["weight"])


def test_a_cell_without_a_record_is_not_finished(ledger):
    ledger.write(RECORD, {"weight": torch.zeros(1)})
    (ledger.folder / "cells" / "abc" / "record.json").unlink()
    assert ledger.records() == {}


def test_an_empty_ledger_has_no_records_and_no_rows(ledger):
    assert ledger.records() == {}
    assert not ledger.exists()
    with pytest.raises(UserError, match=r"no sweep in .*masking-.*Run a file of sweeps/ first"):
        ledger.description()


def test_the_sweep_and_its_rows_come_back(ledger):
    rows = (Row("none", {}), Row("t", {"masking.time": 0.1}))
    description = Description(
        sweep=SWEEP,
        origin=ORIGIN,
        policy="full",
        rows=rows,
        decisions=((rows[0], OUT),),
        code_digest="7d5e",
        kept_versions=("3f2a1c9e",),
    )
    ledger.describe(description)
    assert ledger.exists()
    assert ledger.description() == description


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"training": {"warmup": 3}},
            r"sweep.json was written by another version of the code \(.*warmup",
        ),
        ({"masking": {"time": 2}}, r"sweep.json was written by another version .*got 2"),
    ],
)
def test_a_sweep_of_another_version_of_the_code_is_one_line(ledger, changes, message):
    ledger.describe(Description(sweep=SWEEP, origin=ORIGIN))
    known = plain(SWEEP)
    known["specification"] |= changes
    edit(ledger.folder / "sweep.json", sweep=known)
    with pytest.raises(UserError, match=message) as error:
        ledger.description()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "record.json is damaged"),
        ("[]", "has format None, not 4"),
        ('{"format": 0}', "has format 0, not 4"),
        ('{"format": 4, "signature": "abc"}', "is not a record"),
    ],
)
def test_a_damaged_record_is_named_in_one_line(ledger, content, message):
    ledger.write(RECORD)
    (ledger.folder / "cells" / "abc" / "record.json").write_text(content)
    with pytest.raises(UserError, match=message) as error:
        ledger.records()
    assert "\n" not in str(error.value)


def test_a_missing_or_damaged_encoder_is_named(ledger):
    record = ledger.write(RECORD, {"weight": torch.zeros(1000)})
    path = ledger.folder / "cells" / "abc" / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"weights.safetensors is damaged") as error:
        ledger.weights(record)
    assert "\n" not in str(error.value)
    path.unlink()
    with pytest.raises(UserError, match=r"weights.safetensors is missing"):
        ledger.weights(record)


def test_the_sweep_worked_on_last_is_found(tmp_path):
    storage = UPath(tmp_path)
    for name, at in (("a", "2026-01-02"), ("b", "2026-01-03"), ("c", "2026-01-01")):
        ledger = Ledger(storage / SWEEPS / name)
        ledger.describe(Description(sweep=SWEEP, origin=ORIGIN, updated_at=at))
    assert find_ledger(storage).folder.name == "b"
    assert find_ledger(storage, "c").folder.name == "c"
    with pytest.raises(UserError, match=r"no sweep d in .*Found: a .*, b .*, c "):
        find_ledger(storage, "d")


def test_a_sweep_that_cannot_be_read_is_left_out_and_said(tmp_path, capsys):
    storage = UPath(tmp_path)
    for name in ("whole", "damaged"):
        Ledger(storage / SWEEPS / name).describe(Description(sweep=SWEEP, origin=ORIGIN))
    (storage / SWEEPS / "damaged" / "sweep.json").write_text("{")
    assert find_ledger(storage).folder.name == "whole"
    assert re.match("Left out: .*damaged/sweep.json is damaged", capsys.readouterr().out)
    (storage / SWEEPS / "whole" / "sweep.json").write_text('{"format": 1}')
    with pytest.raises(UserError, match="no readable sweep in"):
        find_ledger(storage)
    assert capsys.readouterr().out.count("Left out: ") == 2


def test_no_sweep_at_all_is_said(tmp_path):
    with pytest.raises(UserError, match="no sweep in"):
        find_ledger(UPath(tmp_path))


def write_sweeps(storage: UPath) -> None:
    for name, subject in (
        ("masking-1a", "sub_9"),
        ("masking-1b", "sub_10"),
        ("optimisation-2", "sub_1"),
    ):
        question = name.partition("-")[0]
        sweep = dataclasses.replace(SWEEP, question=question)
        origin = dataclasses.replace(ORIGIN, subject=subject)
        Ledger(storage / SWEEPS / name).describe(Description(sweep=sweep, origin=origin))


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("masking-1a", "masking-1a"),
        ("optimisation", "optimisation-2"),
        ("opt", "optimisation-2"),
        ("masking sub_9", "masking-1a"),
        ("MASKING, Sub_10", "masking-1b"),
        ("sub_10 ant-man", "masking-1b"),
    ],
)
def test_a_sweep_is_named_by_a_beginning_or_in_words(said, meant, tmp_path):
    write_sweeps(UPath(tmp_path))
    assert find_ledger(UPath(tmp_path), said).folder.name == meant


@pytest.mark.parametrize("said", ["learning_curve", "learning-curve", "learning_curve sub-9"])
def test_a_sweep_is_named_by_its_file_too(said, tmp_path):
    write_sweeps(UPath(tmp_path))
    folder = UPath(tmp_path) / SWEEPS / "learning-curve-3"
    Ledger(folder).describe(Description(sweep=SWEEP, origin=ORIGIN))
    assert find_ledger(UPath(tmp_path), said).folder.name == "learning-curve-3"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            "masking",
            "masking matches 2 sweeps: masking-1a (sub_9, Ant-Man), masking-1b (sub_10, Ant-Man). "
            "Give more of the name.",
        ),
        ("Ant-Man", "Ant-Man matches 3 sweeps"),
        ("masking sub_3", "no sweep masking sub_3 in "),
        (" ", "no sweep  in "),
    ],
)
def test_what_no_sweep_or_several_are_called_is_one_line(said, message, tmp_path):
    write_sweeps(UPath(tmp_path))
    with pytest.raises(UserError) as error:
        find_ledger(UPath(tmp_path), said)
    assert str(error.value).startswith(message)
    assert "masking-1b (sub_10, Ant-Man)" in str(error.value)
