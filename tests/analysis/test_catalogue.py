from __future__ import annotations

import pytest
from upath import UPath

from analysis.catalogue import catalogue, main
from analysis.measure.looks import record_look
from analysis.options import CatalogueOptions
from ssense.engine.core.cell import Cell, signature
from ssense.engine.core.origin import RecordingOrigin
from ssense.engine.core.record import Record
from ssense.engine.core.sweep import Family, Row, Sweep
from ssense.engine.records.description import Description
from ssense.engine.records.ledger import SWEEPS, Ledger
from ssense.engine.search.race import POLICIES
from ssense.engine.search.search import Search
from ssense.errors import UserError
from ssense.files.storage import write_whole
from ssense.model.encoders.spectrogram_encoder import ResNetSpec
from ssense.training.loop import SELECTION_METRIC
from ssense.training.sentences import SentenceSpec

LEVELS = {"masking.electrode": (0.5, 0.75)}
ORIGIN = RecordingOrigin(subject="sub_9", title="Ant-Man", shards="0123", recording="there")


def write(storage: UPath, question: str, at: str) -> tuple[Ledger, Sweep]:
    """A sweep of five cells with one done, one failed, and a cell of a control."""
    sweep = Sweep(
        question=question,
        dataset_digest="d",
        specification=SentenceSpec(encoder=ResNetSpec(weights="random")),
        families=(Family(name="no masking", levels={}), Family(name="electrode", levels=LEVELS)),
        configurations=2,
        seeds=(0, 1),
    )
    ledger = Ledger(storage / SWEEPS / sweep.name)
    rows = [Row("no masking", {}), Row("electrode", {"masking.electrode": 0.5})]
    ledger.describe(Description(sweep=sweep, origin=ORIGIN, rows=tuple(rows), updated_at=at))
    for status, seed, data in (("done", 0, "d"), ("failed", 1, "d"), ("done", 1, "of a control")):
        record = Record(
            signature=signature(Cell({}, seed), sweep.specification, data),
            configuration={},
            seed=seed,
            status=status,
            dataset_digest=data,
            history=[{"epoch": 1, SELECTION_METRIC: 0.5}],
            best_epoch=1,
        )
        ledger.write(record)
    return ledger, sweep


def test_sweeps_are_listed_with_what_they_are(tmp_path, capsys):
    storage = UPath(tmp_path)
    first, sweep = write(storage, "masking", "2026-01-02T03:04:05+00:00")
    second, _ = write(storage, "later", "2026-01-03T03:04:05+00:00")
    record_look(first, sweep.seeds, {})
    write_whole(first.folder / "evaluation" / "scores.csv", "")
    rows = catalogue(storage)
    assert [row["sweep"] for row in rows] == [second.folder.name, first.folder.name]
    assert rows[1] == {
        "sweep": first.folder.name,
        "of": "sub_9, Ant-Man (sentences)",
        "question": "masking: no masking | electrode",
        "cells": "1 of 6, 1 failed",
        "worked on": "2026-01-02 03:04",
        "evaluated": "yes, 1 look at the test",
    }
    assert rows[0]["evaluated"] == "no"
    main(CatalogueOptions(storage=str(tmp_path)))
    shown = capsys.readouterr().out
    assert all(cell in shown for row in rows for cell in row.values())
    assert shown.endswith("2 sweeps: 2 of sentences.\n")


@pytest.mark.parametrize(("policy", "spared"), [("race", True), ("full", False)])
def test_a_finished_race_is_shown_as_finished(tmp_path, policy, spared):
    storage = UPath(tmp_path)
    sweep = Sweep(
        question="masking",
        dataset_digest="d",
        specification=SentenceSpec(encoder=ResNetSpec(weights="random")),
        families=(Family(name="electrode", levels={"masking.electrode": (0.1, 0.5, 0.75)}),),
        configurations=3,
        seeds=tuple(range(6)),
    )
    search, ledger = Search(sweep, POLICIES[policy]), Ledger(storage / SWEEPS / sweep.name)
    while cell := search.next_cell():  # the less is masked the better, and by far
        ratio = float(cell.configuration["masking.electrode"])
        score = 1 - ratio + (cell.seed * round(100 * ratio) % 7) / 1000
        record = Record(
            signature=search.signature(cell),
            configuration=cell.configuration,
            seed=cell.seed,
            status="done",
            dataset_digest="d",
            history=[{"epoch": 1, SELECTION_METRIC: score}],
            best_epoch=1,
        )
        search.finish(ledger.write(record))
    rows, at = tuple(search.rows), "2026-01-02T03:04:05+00:00"
    ledger.describe(
        Description(sweep=sweep, origin=ORIGIN, rows=rows, policy=policy, updated_at=at)
    )
    ((cells),) = (row["cells"] for row in catalogue(storage))
    n_done = len(ledger.records())
    assert (n_done < 18) == spared
    assert cells == (f"{n_done} of 18, {18 - n_done} dropped" if spared else "18 of 18")


def test_a_sweep_that_cannot_be_read_is_said_and_the_others_listed(tmp_path, capsys):
    whole, _ = write(UPath(tmp_path), "masking", "2026-01-02T03:04:05+00:00")
    damaged, _ = write(UPath(tmp_path), "later", "2026-01-03T03:04:05+00:00")
    (damaged.folder / "sweep.json").write_text("{")
    assert [row["sweep"] for row in catalogue(UPath(tmp_path))] == [whole.folder.name]
    assert "Left out: " in capsys.readouterr().out


def test_a_damaged_record_or_look_leaves_all_sweeps_listed(tmp_path, capsys):
    storage = UPath(tmp_path)
    damaged, sweep = write(storage, "masking", "2026-01-02T03:04:05+00:00")
    whole, _ = write(storage, "later", "2026-01-03T03:04:05+00:00")
    record = next(damaged.folder.glob("cells/*/record.json"))
    record.write_text(record.read_text().replace('"seed": ', '"seed": 1'))
    record_look(whole, sweep.seeds, {})
    look = next(storage.glob("looks/*/look-0001.json"))
    look.write_text("{}")
    rows = catalogue(storage)
    assert [row["cells"] for row in rows] == ["1 of 6, 1 failed", "damaged, see above"]
    assert rows[0]["evaluated"] == "no, looks damaged, see above"
    said = capsys.readouterr().out.replace("\n", " ")
    assert f"{record} is not a record of its cell" in said
    assert f"{look} is not the look" in said


def test_a_single_sweep_is_one(tmp_path, capsys):
    write(UPath(tmp_path), "masking", "2026-01-02T03:04:05+00:00")
    main(CatalogueOptions(storage=str(tmp_path)))
    assert capsys.readouterr().out.endswith("\n1 sweep: 1 of sentences.\n")


def test_a_storage_without_sweeps_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no sweep in"):
        main(CatalogueOptions(storage=str(tmp_path)))
