from __future__ import annotations

import json
from dataclasses import replace

import pandas as pd
import pytest
from made_records import made_record
from upath import UPath

import ssense
from ssense.api.result import SweepResult
from ssense.data.things.responses import ResponseSpec
from ssense.engine.core.cell import Cell
from ssense.engine.core.decision import Decision
from ssense.engine.core.origin import ImageOrigin, ImageSource, RecordingOrigin
from ssense.engine.core.sweep import Family, Row, Sweep
from ssense.engine.records.description import Description
from ssense.engine.records.ledger import SWEEPS, Ledger
from ssense.engine.records.reports import Report, keep_report, table_file, table_rows
from ssense.engine.search.race import POLICIES
from ssense.engine.search.search import Search
from ssense.errors import UserError
from ssense.targets.image_features import ImageTowerSpec
from ssense.training.images import ImageSpec
from ssense.training.loop import validation_metrics
from ssense.training.sentences import SentenceSpec

RATE = "training.learning_rate"
LEVELS = {RATE: (1e-4, 1e-3), "training.batch_size": (16,)}
RECORDING = RecordingOrigin(subject="sub_3", title="Up", shards="0123", recording="there")
IMAGES = ImageOrigin(
    title="things",
    source=ImageSource(
        responses="r",
        images="i",
        subject="sub-01",
        subjects=("sub-01",),
        responses_taken=ResponseSpec(),
        image_tower=ImageTowerSpec(),
        kinds=("original",),
        pixels=False,
    ),
    test="sub-01",
)
SCORES = {("plain", 0): 0.2, ("plain", 1): 0.3, (1e-4, 0): 0.1, (1e-3, 0): 0.5, (1e-3, 1): 0.4}
"""Validation Recall@10 by learning rate and seed; one cell failed, and (0.0001, 1) is not run."""


def written(storage: UPath, specification: object, origin: object) -> SweepResult:
    """A sweep of a single configuration and of a family of two, with records that are made up."""
    families = (Family(name="plain", levels={}), Family(name="rates", levels=LEVELS))
    sweep = Sweep(
        question="made",
        dataset_digest="d",
        specification=specification,
        families=families,
        configurations=2,
        seeds=(0, 1, 2),
    )
    rows = [Row("plain", {}), *(Row("rates", each) for each in families[1].configurations())]
    search = Search(sweep, POLICIES["full"], tuple(rows), {})
    ledger = Ledger(storage / SWEEPS / sweep.name)
    for (rate, seed), score in SCORES.items():
        row = next(
            r for r in rows if r.configuration.get("training.learning_rate", "plain") == rate
        )
        history = [
            {"epoch": 1, "loss": 2.0, "recall@1": score / 4, "recall@10": score / 2},
            {"epoch": 2, "loss": 1.5, "recall@1": score / 3, "recall@10": score},
            {"epoch": 3, "loss": 1.0, "recall@1": score, "recall@10": score / 3},
        ]
        more = {"history": history, "best_epoch": 2, "timings": {"training": 7.5}, "device": "CPU"}
        ledger.write(made_record(search, Cell(row.configuration, seed), score, **more))
    ledger.write(made_record(search, Cell({}, 2), None, attempts=3))
    ledger.describe(Description(sweep=sweep, origin=origin, policy="full", rows=tuple(rows)))
    return SweepResult(ledger)


@pytest.fixture(params=[(SentenceSpec(), RECORDING), (ImageSpec(), IMAGES)], ids=["text", "images"])
def made(request, tmp_path) -> SweepResult:
    return written(UPath(tmp_path), *request.param)


def test_cells_are_the_records_of_the_ledger_and_those_not_run(made):
    cells, records = made.cells, made.ledger.records()
    assert len(cells) == 9
    assert cells["status"].value_counts().to_dict() == {"done": 5, "waiting": 3, "failed": 1}
    for _, row in cells[cells["status"] == "done"].iterrows():
        record = records[row["signature"]]
        assert row["seed"] == record.seed
        for name in LEVELS:
            known = record.configuration.get(name)
            assert row[name] == known or (known is None and pd.isna(row[name]))
        for name, value in validation_metrics(record.best).items():
            assert row[name] == value
        assert (row["best_epoch"], row["epochs"], row["seconds"]) == (2, 3, 7.5)
        assert (row["finished_at"], row["device"]) == (record.finished_at, "CPU")
    (failed,) = cells[cells["status"] == "failed"].to_dict("records")
    assert (failed["reason"], failed["family"]) == ("NaN", "plain")
    assert cells["recall@10"].dtype == float
    waiting = cells[cells["status"] == "waiting"]
    assert waiting[["recall@10", "best_epoch", "seconds"]].isna().all().all()


def test_epochs_are_the_histories_of_the_ledger(made):
    epochs, records = made.epochs, made.ledger.records()
    assert len(epochs) == 15
    for signature, of_cell in epochs.groupby("signature"):
        history = records[signature].history
        for name in ("epoch", "loss", "recall@1", "recall@10"):
            assert of_cell[name].tolist() == [epoch[name] for epoch in history]
    rates = epochs.groupby("family")["training.learning_rate"].apply(set)
    assert rates["rates"] == {1e-4, 1e-3}


def test_results_of_code_that_the_sweep_did_not_count_are_left_out(made):
    description = made.description
    records = made.ledger.records()
    first = next(name for name, record in records.items() if record.done)
    made.ledger.write(replace(records[first], code_digest="0badc0de"))
    again = SweepResult(made.ledger)
    assert (again.cells["status"] == "done").sum() == 4
    made.ledger.describe(replace(description, kept_versions=("0badc0de",)))
    kept = SweepResult(made.ledger).cells
    assert (kept["status"] == "done").sum() == 5
    assert "0badc0de" in set(kept["code_digest"])


def test_decisions_are_those_of_the_race(tmp_path):
    made = written(UPath(tmp_path), SentenceSpec(), RECORDING)
    assert made.decisions.empty
    assert "threshold" in made.decisions
    search = made.search
    described = replace(made.description, decisions=_decided(search))
    made.ledger.describe(described)
    found = SweepResult(made.ledger).decisions.to_dict("records")
    (row, decision) = described.decisions[0]
    assert found == [{"family": row.family, **row.configuration, **vars(decision)}]


def _decided(search: Search) -> tuple[tuple[Row, Decision], ...]:
    decision = Decision(
        place=0,
        reason="behind",
        after_seeds=1,
        leader=1,
        difference=0.4,
        standard_error=0.1,
        threshold=3.0,
    )
    return ((search.rows[1], decision),)


def report(look: int, score: float, at: str, level: str = "test evaluation") -> Report:
    scores = [{"protocol": "search seeds", "family": "plain", "seed": 0, "recall@10": score}]
    tests = [{"protocol": "search seeds", "metric": "recall@10", "comparison": "a", "p": None}]
    tables = {"scores.json": table_file(scores), "tests.json": table_file(tests)}
    return Report(
        name=f"{level} {look}",
        tags={"ssense.level": level, "look": str(look)},
        metrics={},
        files=tables,
        written_at=at,
    )


def test_tests_are_the_evaluations_that_were_made_and_nothing_is_evaluated(made, capsys):
    assert made.tests.empty
    assert made.comparisons.empty
    folder = made.ledger.folder
    keep_report(folder, report(11, 0.25, "2026-01-03T00:00:00+00:00"))
    keep_report(folder, report(2, 0.125, "2026-01-02T00:00:00+00:00"))
    keep_report(folder, report(3, 0.9, "2026-01-04T00:00:00+00:00", level="controls"))
    tests = made.tests
    assert tests["look"].tolist() == [2, 11]
    assert tests["recall@10"].tolist() == [0.125, 0.25]
    assert tests["evaluated_at"].tolist()[0] == "2026-01-02T00:00:00+00:00"
    assert made.comparisons["comparison"].tolist() == ["a", "a"]
    assert not list(made.ledger.storage.rglob("look-*"))
    (folder / "reports" / "damaged.zip").write_bytes(b"")
    assert len(made.tests) == 2
    assert "damaged.zip is damaged" in capsys.readouterr().out
    broken = replace(report(12, 0, "2026-01-05T00:00:00+00:00"), files={"scores.json": b"[]"})
    keep_report(folder, broken)
    with pytest.raises(UserError, match=r"scores\.json of test evaluation 12 .* is damaged"):
        _ = made.tests


def test_what_is_of_sentences_alone_is_refused_for_images(tmp_path):
    made = written(UPath(tmp_path), ImageSpec(), IMAGES)
    assert "(images); plain, rates; 5 of 9 cells done" in repr(made)
    with pytest.raises(UserError, match="is over images, and `dataset` is of sentences alone"):
        _ = made.dataset
    with pytest.raises(UserError, match="is over images, and `model` is of sentences alone"):
        made.model()


def test_the_best_of_a_family_is_at_its_first_seed(result):
    best = result.best()
    assert (best.seed, dict(best.configuration)) == (0, {})
    assert result.best("no masking") == best
    with pytest.raises(UserError, match=r"no family electrode in tiny-.* Found: no masking"):
        result.best("electrode")


def test_a_family_without_every_seed_has_no_best(made):
    with pytest.raises(UserError, match="no configuration of rates has a result at every seed"):
        made.best("rates")
    with pytest.raises(UserError, match="no configuration has a result at every seed"):
        made.best()


def test_a_cell_goes_by_signature_or_what_it_is_called(result):
    signature = result.cells["signature"][1]
    assert result.record(signature[:6]).signature == signature
    assert result.record("no masking, seed 1").signature == signature
    with pytest.raises(UserError, match="no finished cell ffffffff"):
        result.record("ffffffff")
    with pytest.raises(UserError, match="a cell goes by its signature, a text, not 1"):
        result.record(1)


def test_a_failed_cell_has_no_model(made):
    failed = made.cells.loc[made.cells["status"] == "failed", "signature"].item()
    with pytest.raises(UserError, match=f"cell {failed} failed: NaN"):
        made.record(failed)


def test_opening_a_sweep_changes_nothing(result):
    folder = result.ledger.folder
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    opened = ssense.open(result.ledger.storage).sweeps["tiny"]
    _ = opened.cells, opened.epochs, opened.decisions, opened.tests, opened.dataset.targets
    opened.model()
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_table_in_a_report_reads_back_as_it_was():
    rows = [{"a": 0.1 + 0.2, "b": "x"}, {"a": None, "b": "y|z"}]
    assert table_rows(table_file(rows)) == rows
    for content in (b"{}", b"[]", b'{"columns": ["a"], "data": [[1, 2]]}', b"\xff", b"no"):
        with pytest.raises(ValueError):  # noqa: PT011 - of JSON, of a zip or our own
            table_rows(content)
    assert json.loads(table_file(rows))["columns"] == ["a", "b"]
