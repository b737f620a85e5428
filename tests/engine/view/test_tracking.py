from __future__ import annotations

import dataclasses
import errno
import json
import os
import shlex
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from unittest.mock import patch
from urllib.error import URLError
from urllib.parse import unquote

import pytest
from mlflow import MlflowClient
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from upath import UPath

from ssense.engine.core.cell import Cell
from ssense.engine.core.origin import RecordingOrigin
from ssense.engine.core.record import Record
from ssense.engine.core.sweep import Family, Sweep
from ssense.engine.records.description import Description
from ssense.engine.records.driver import sole_driver
from ssense.engine.records.ledger import SWEEPS, Ledger
from ssense.engine.records.reports import Report
from ssense.engine.search.race import Full, Race
from ssense.engine.search.search import Search
from ssense.engine.view.cell_table import cells_csv
from ssense.engine.view.matrix_figure import matrix_figure
from ssense.engine.view.mlflow_database import NO_JOBS, browse_command, database_path
from ssense.engine.view.runs import LEVEL, metric_key, saved_views
from ssense.engine.view.tracking import KEY, PARENT, Tracker, main, rebuild, tracking_uri
from ssense.engine.view.view_options import TrackingOptions
from ssense.errors import UserError
from ssense.files.storage import write_whole
from ssense.retrieval import METRICS, RECALL_AT
from ssense.training.images import ImageSpec

ROOT = Path(__file__).parents[3]
A_MOMENT_S = 2.0

ORIGIN = RecordingOrigin(subject="sub_9", title="Ant-Man", shards="0123", recording="there")


@pytest.fixture(autouse=True)
def no_server(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory) -> Path:
    """MLflow takes seconds to make one."""
    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def storage(tmp_path, empty_database) -> UPath:
    storage = UPath(tmp_path / "storage")
    write_whole(storage / "shards" / ORIGIN.shards / "data_report.md", "# Data")
    shutil.copy(empty_database, storage / "mlflow.db")
    return storage


@pytest.fixture
def in_a_fresh_database(tmp_path, empty_database, monkeypatch) -> Callable[[], None]:
    """Let all that follows use another database, with nothing in it."""

    def change() -> None:
        shutil.copy(empty_database, tmp_path / "fresh.db")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'fresh.db'}")

    return change


@pytest.fixture
def search(sweep) -> Search:
    """A sweep of two configurations and two seeds, before its first cell."""
    return Search(sweep, Full())


CODE = "0" * 32
KEPT = ("11111111", "unknown")


def ledger_of(storage: UPath, search: Search) -> Ledger:
    ledger = Ledger(storage / SWEEPS / search.sweep.name)
    ledger.describe(description_of(search, search.sweep))
    return ledger


def description_of(search: Search, sweep: Sweep) -> Description:
    return Description(
        sweep=sweep,
        origin=ORIGIN,
        policy="full",
        rows=tuple(search.rows),
        decisions=tuple(search.decisions()),
        code_digest=CODE,
        kept_versions=KEPT,
    )


def next_record(search: Search, epochs: int = 2, **changes) -> Record:
    """What a worker would make of the next cell; the k-th of a sweep has the score k / 10."""
    return next_record_of(search, search.next_cell(), epochs, **changes)


def next_record_of(search: Search, cell: Cell, epochs: int = 2, **changes) -> Record:
    number = len(search.records)
    history = [
        {"epoch": e, "loss": 3.0 / e, "recall@1": 0.0, "recall@10": 0.1 * number * e / epochs}
        | {"recall@50": 1.0, "mrr": 0.1}
        for e in range(1, epochs + 1)
    ]
    known = {
        "signature": search.signature(cell),
        "configuration": dict(cell.configuration),
        "seed": cell.seed,
        "status": "done",
        "dataset_digest": search.sweep.dataset_digest,
        "history": history,
        "best_epoch": epochs,
        "timings": {"training": 1.5},
        # A failure of another version would not count.
        "code_digest": CODE if "status" in changes else f"{number % 2}" * 32,
        "commit": "f9086e6a1b2c3d4e5f60718293a4b5c6d7e8f901",
        "dirty": True,
        "device": "NVIDIA H200",
        "versions": {"python": "3.11.7", "torch": "2.15.0"},
        "requirements_digest": "b" * 32,
        "split_digest": "c" * 32,
        "finished_at": f"2026-01-01T00:00:0{number}+00:00",
    }
    return Record(**(known | changes))


def failed(search: Search) -> Record:
    return next_record(search, status="failed", reason="NaN", history=[], best_epoch=0)


def run_live(storage: UPath, search: Search, cells: int = 4) -> Tracker:
    """Run a sweep as the driver does; its last cell fails."""
    ledger = ledger_of(storage, search)
    tracker = Tracker(storage, "masking", search.sweep.name)
    tracker.start(search, ledger.description())
    for number in range(cells):
        record = failed(search) if number == 3 else next_record(search)
        ledger.write(record)
        search.finish(record)
        tracker.cell(search, record)
    tracker.end(search)
    return tracker


def client_of(storage: UPath) -> MlflowClient:
    return MlflowClient(tracking_uri(storage))


def runs_by_level(storage: UPath) -> dict[str, list]:
    client = client_of(storage)
    experiment = client.get_experiment_by_name("masking")
    levels: dict[str, list] = {"sweep": [], "configuration": [], "seed": []}
    for run in client.search_runs([experiment.experiment_id], order_by=["start_time"]):
        levels.setdefault(run.data.tags[LEVEL], []).append(run)
    return levels


def shown(storage: UPath) -> dict[str, tuple]:
    """All that MLflow shows, by the runs' keys, without what it draws at random."""
    client = client_of(storage)
    runs = [run for runs in runs_by_level(storage).values() for run in runs]
    key_of = {run.info.run_id: run.data.tags[KEY] for run in runs}
    assert len(set(key_of.values())) == len(runs)
    return {
        run.data.tags[KEY]: (
            run.info.status,
            run.info.end_time if run.data.tags[LEVEL] == "seed" else None,
            run.data.params,
            run.data.metrics,
            {**run.data.tags, PARENT: key_of.get(run.data.tags.get(PARENT))},
            {
                name: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]
                for name in run.data.metrics
                if name.startswith("epoch/")
            },
            artifacts(client, run),
        )
        for run in runs
    }


def artifacts(client: MlflowClient, run) -> dict[str, bytes]:
    names = [file.path for file in client.list_artifacts(run.info.run_id)]
    folder = Path(unquote(run.info.artifact_uri.removeprefix("file://")))
    return {name: (folder / name).read_bytes() for name in names}


def warnings_in(capsys) -> list[str]:
    return [line for line in capsys.readouterr().out.splitlines() if "MLflow can't" in line]


def test_the_view_is_a_tree_of_sweep_configurations_and_seeds(storage, search):
    run_live(storage, search)
    levels = runs_by_level(storage)
    (sweep_run,) = levels["sweep"]
    assert {run.data.tags[PARENT] for run in levels["configuration"]} == {sweep_run.info.run_id}
    assert [run.info.run_name for run in levels["configuration"]] == ["no masking", "electrode 0.5"]
    parents = [run.data.tags[PARENT] for run in levels["seed"]]
    assert sorted(parents) == sorted(2 * [run.info.run_id for run in levels["configuration"]])
    assert {run.info.status for runs in levels.values() for run in runs} == {"FINISHED", "FAILED"}


def test_the_run_of_the_sweep_says_what_it_is_and_who_leads(storage, search):
    run_live(storage, search)
    (run,) = runs_by_level(storage)["sweep"]
    tags = run.data.tags
    assert tags["code"] == "00000000 11111111"
    assert (tags["seeds"], tags["policy"], tags["tower"]) == ("0 1", "full", ORIGIN.tower)
    assert (run.data.params["metric"], run.data.params["training.max_epochs"]) == ("recall@10", "2")
    note = tags["mlflow.note.content"]
    assert "| no masking | no masking | 2 of 2 | 10.0 ± 14.1 |" in note
    assert "| electrode | electrode 0.5 | 1 of 2 | 10.0 |" in note
    assert "Cells: 3 done, 1 failed" in note


def test_matrix_and_data_report_are_artifacts_of_the_sweep_in_their_latest_state(storage, search):
    client = client_of(storage)
    run_live(storage, search, cells=2)
    (run,) = runs_by_level(storage)["sweep"]
    kept = artifacts(client, run)
    assert kept == {
        "data_report.md": b"# Data",
        "matrix.png": matrix_figure(search.matrix()),
        "cells.csv": cells_csv(search),
    }
    run_live(storage, search, cells=1)
    assert artifacts(client, run)["matrix.png"] == matrix_figure(search.matrix())
    assert artifacts(client, run)["matrix.png"] != kept["matrix.png"]


def test_seed_runs_carry_what_the_ui_groups_by_and_curves_by_epoch(storage, search):
    run_live(storage, search)
    done = {r.signature: r for r in search.records.values() if r.done}
    client = client_of(storage)
    for run in runs_by_level(storage)["seed"]:
        signature = run.data.tags[KEY].rpartition("/")[2]
        assert run.data.params["seed"] == run.data.tags["seed"]
        assert run.data.params["family"] == run.data.tags["family"]
        if signature not in done:
            assert (run.info.status, run.data.tags["reason"]) == ("FAILED", "NaN")
            continue
        record = done[signature]
        curve = client.get_metric_history(run.info.run_id, "epoch/recall_at_10")
        assert [(m.step, m.value) for m in curve] == [
            (epoch["epoch"], epoch["recall@10"]) for epoch in record.history
        ]
        assert run.data.metrics["recall_at_10"] == record.best["recall@10"]
        assert run.data.metrics["training_s"] == 1.5
        assert run.info.end_time - run.info.start_time == 1500


def test_seed_runs_say_what_made_them(storage, search):
    run_live(storage, search, cells=1)
    (run,) = runs_by_level(storage)["seed"]
    expected = {
        "code": "0" * 8,
        "commit": "f9086e6",
        "dirty": "true",
        "device": "NVIDIA H200",
        "versions": "python 3.11.7, torch 2.15.0",
        "split": "c" * 32,
        "requirements": "b" * 32,
    }
    assert {name: run.data.tags[name] for name in expected} == expected


def test_a_cell_that_does_not_know_what_made_it_has_no_such_tags(storage, search):
    ledger = ledger_of(storage, search)
    known = next_record(search)
    unknown = {"code_digest": "", "commit": "", "device": "", "versions": {}}
    ledger.write(dataclasses.replace(known, **unknown))
    rebuild(storage, ledger)
    (run,) = runs_by_level(storage)["seed"]
    assert not {"code", "commit", "dirty", "device", "versions"} & run.data.tags.keys()
    assert runs_by_level(storage)["sweep"][0].data.tags["code"] == "unknown"


def test_configuration_runs_carry_mean_sd_and_number_of_seeds(storage, search):
    run_live(storage, search)
    runs = runs_by_level(storage)["configuration"]
    metrics = {run.data.tags["family"]: run.data.metrics for run in runs}
    scores = [record.best["recall@10"] for record in search.done({})]
    assert metrics["no masking"]["n"] == 2
    assert metrics["no masking"]["recall_at_10"] == pytest.approx(mean(scores))
    assert metrics["no masking"]["recall_at_10_sd"] == pytest.approx(stdev(scores))
    assert metrics["electrode"]["n"] == 1
    assert {run.data.tags["standing"] for run in runs} == {"leads"}


def test_more_epochs_than_mlflow_takes_at_a_time(storage, search):
    ledger = ledger_of(storage, search)
    record = next_record(search, epochs=250)  # x 5 metrics: over 1000
    ledger.write(record)
    rebuild(storage, ledger)
    (run,) = runs_by_level(storage)["seed"]
    for name in ("loss", "mrr"):
        curve = client_of(storage).get_metric_history(run.info.run_id, f"epoch/{name}")
        assert [m.value for m in curve] == [epoch[name] for epoch in record.history]


@pytest.mark.parametrize("cells", [0, 3, 4])
def test_a_rebuilt_view_is_the_live_one_again(storage, search, cells, in_a_fresh_database):
    run_live(storage, search, cells)
    live = shown(storage)
    ids = {run.info.run_id for runs in runs_by_level(storage).values() for run in runs}
    rebuild(storage, ledger_of(storage, search))
    assert shown(storage) == live
    assert {r.info.run_id for runs in runs_by_level(storage).values() for r in runs} == ids
    in_a_fresh_database()
    rebuild(storage, ledger_of(storage, search))
    assert shown(storage) == live


def rows_of(path: Path) -> dict[str, Counter[tuple]]:
    """What MLflow's tables hold of runs, without what is drawn at random or read from the clock."""
    columns = {
        "runs": "name, source_type, source_name, entry_point_name, user_id, status, deleted_time, "
        "source_version, lifecycle_stage, experiment_id, length(artifact_uri), "
        "replace(artifact_uri, r.run_uuid, 'ID'), end_time is null",
        "tags": "r.name, t.key, case when t.key = 'mlflow.parentRunId' then '' else t.value end",
        "params": "r.name, t.key, t.value",
        "latest_metrics": "r.name, t.key, t.value, t.step, t.is_nan, t.timestamp > 0",
        "metrics": "r.name, t.key, t.value, t.step, t.is_nan, "
        "case when t.key like 'epoch/%' then t.timestamp end",
    }
    with closing(sqlite3.connect(path)) as database:
        return {
            table: Counter(
                database.execute(
                    f"select {names} from runs r "
                    + (f"join {table} t on t.run_uuid = r.run_uuid" if table != "runs" else "")
                ).fetchall()
            )
            for table, names in columns.items()
        }


def run_in_steps(storage: UPath, search: Search, records: list[Record]) -> dict[str, Counter]:
    """Show a sweep in two calls, so that runs are made and changed; return the tables."""
    ledger = Ledger(storage / SWEEPS / search.sweep.name)
    known: dict[str, Record] = {}
    for part in (records[:2], records[2:]):
        search = Search(search.sweep, Full(), search.rows, known)
        while search.next_cell():  # all of them are being trained
            pass
        tracker = Tracker(storage, "masking", search.sweep.name)
        tracker.start(search, ledger.description())
        for record in part:
            known[record.signature] = ledger.write(record)
            search.finish(record)
            tracker.cell(search, record)
        tracker.end(search)
        assert not tracker.failure
    return rows_of(database_path(tracking_uri(storage)))


def test_a_batch_writes_what_mlflow_itself_would(storage, search, in_a_fresh_database, monkeypatch):
    ledger_of(storage, search)
    records = []
    for number in range(4):
        records.append(failed(search) if number == 3 else next_record(search, epochs=3))
        search.finish(records[-1])
    in_batches = run_in_steps(storage, search, records)
    in_a_fresh_database()
    monkeypatch.setattr("ssense.engine.view.tracking.is_database", lambda _: False)
    one_by_one = run_in_steps(storage, search, records)
    assert one_by_one["metrics"].keys() >= in_batches["metrics"].keys()  # fewer between
    assert sum(in_batches["runs"].values()) == 7
    for table in ("runs", "tags", "params", "latest_metrics"):
        assert in_batches[table] == one_by_one[table]


def test_cells_that_a_slow_mlflow_does_not_keep_up_with_are_shown_at_the_end(
    storage, search, in_a_fresh_database, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr("ssense.engine.view.tracking._MOST_QUEUED", -1)
        run_live(storage, search)
    late = shown(storage)
    assert len(late) == 7
    in_a_fresh_database()
    rebuild(storage, ledger_of(storage, search))
    assert shown(storage) == late


def test_the_view_takes_up_where_an_earlier_driver_left_it(storage, search, in_a_fresh_database):
    run_live(storage, search, cells=1)
    run_live(storage, search, cells=2)
    grown = shown(storage)
    in_a_fresh_database()
    rebuild(storage, ledger_of(storage, search))
    assert shown(storage) == grown
    assert len(runs_by_level(storage)["seed"]) == 3


def test_cells_that_the_sweep_no_longer_has_are_not_shown(storage, search):
    run_live(storage, search)
    ledger = ledger_of(storage, search)
    fewer = dataclasses.replace(search.sweep, seeds=(0,))
    ledger.describe(description_of(search, fewer))
    rebuild(storage, ledger)
    assert [run.data.tags["seed"] for run in runs_by_level(storage)["seed"]] == ["0", "0"]
    assert {run.data.metrics["n"] for run in runs_by_level(storage)["configuration"]} == {1.0}
    rebuild(storage, ledger_of(storage, search))
    assert len(runs_by_level(storage)["seed"]) == 4
    assert sorted(r.data.metrics["n"] for r in runs_by_level(storage)["configuration"]) == [1, 2]


def test_a_cell_that_was_trained_again_replaces_the_earlier_one(storage, search):
    run_live(storage, search)
    ledger = ledger_of(storage, search)
    old = next(record for record in search.records.values() if not record.done)
    other = next(record for record in search.records.values() if record.done)
    again = {"status": "done", "reason": "", "history": other.history, "best_epoch": 1}
    ledger.write(dataclasses.replace(old, **again, finished_at="2026-01-02T00:00:00+00:00"))
    rebuild(storage, ledger)
    runs = runs_by_level(storage)["seed"]
    assert len(runs) == 4
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert not any("reason" in run.data.tags for run in runs)


def test_what_a_killed_driver_left_half_written_is_written_anew(storage, search):
    run_live(storage, search)
    whole = shown(storage)
    client = client_of(storage)
    run = runs_by_level(storage)["seed"][0]
    tags = {**run.data.tags}
    client.delete_run(run.info.run_id)
    client.create_run(run.info.experiment_id, tags=tags)  # and again, by a repeated request
    client.create_run(run.info.experiment_id, tags=tags)
    rebuild(storage, ledger_of(storage, search))
    assert shown(storage) == whole


def test_runs_that_were_made_twice_are_deleted_on_whatever_page_they_are(
    storage, search, monkeypatch
):
    run_live(storage, search)
    whole, client = shown(storage), client_of(storage)
    experiment = client.get_experiment_by_name("masking").experiment_id
    made = client.search_runs([experiment])
    for run in made:
        client.create_run(experiment, run.info.start_time, run.data.tags)
    monkeypatch.setattr("ssense.engine.view.tracking._PAGE_RUNS", 2)
    rebuild(storage, ledger_of(storage, search))
    assert len(client.search_runs([experiment])) == len(made)
    assert shown(storage) == whole


def test_a_sweep_with_a_driver_at_work_is_left_to_it(storage, search):
    run_live(storage, search)
    ledger = ledger_of(storage, search)
    with (
        sole_driver(ledger.folder, heartbeat_s=0.2),
        pytest.raises(UserError, match="is being worked on by process"),
    ):
        rebuild(storage, ledger)


def test_a_report_is_a_run_below_the_sweep_with_its_files(storage, search):
    run_live(storage, search)
    (storage / "table.md").write_text("| a |")
    tracker = Tracker(storage, "masking", search.sweep.name)
    tags = {LEVEL: "test evaluation"}
    tables = {"scores": [{"family": "a", "mrr": 0.25}, {"family": "b", "mrr": 0.5}]}
    metrics = {"a/recall@10": 0.5}
    tracker.report("test evaluation 1", tags, metrics, [storage / "table.md"], tables)
    levels = runs_by_level(storage)
    (run,) = levels["test evaluation"]
    assert run.data.tags[PARENT] == levels["sweep"][0].info.run_id
    assert run.data.metrics == {"a/recall_at_10": 0.5}
    assert run.info.status == "FINISHED"
    table = b'{"columns":["family","mrr"],"data":[["a",0.25],["b",0.5]]}'
    assert artifacts(client_of(storage), run) == {"table.md": b"| a |", "scores.json": table}
    logged = json.loads(run.data.tags["mlflow.loggedArtifacts"])
    assert logged == [{"path": "scores.json", "type": "table"}]


def log_reports(storage: UPath, search: Search) -> None:
    """Log two evaluations and, twice, controls: of these only the latter are shown."""
    (storage / "table.md").write_text("| a |")
    rows = [{"family": "a", "mrr": 0.25}]

    def log(name: str, metrics: dict[str, float]) -> None:
        tracker = Tracker(storage, "masking", search.sweep.name)
        tracker.report(name, {LEVEL: name}, metrics, [storage / "table.md"], {"scores": rows})
        assert not tracker.failure

    log("test evaluation 1", {"a/mrr": 0.1})
    log("test evaluation 2", {"a/mrr": 0.2, "b/mrr": 0.3})
    log("controls", {"noise/mrr": 0.1, "shifted/mrr": 0.1})
    rows.append({"family": "b", "mrr": 0.5})
    log("controls", {"noise/mrr": 0.2})


def test_reports_come_back_with_the_view_as_often_as_it_is_made(
    storage, search, in_a_fresh_database
):
    run_live(storage, search)
    log_reports(storage, search)
    live = shown(storage)
    (controls,) = runs_by_level(storage)["controls"]
    assert controls.data.metrics == {"noise/mrr": 0.2}
    (storage / "table.md").unlink()  # as of an evaluation that has been replaced since
    in_a_fresh_database()
    for _ in range(2):
        rebuild(storage, ledger_of(storage, search))
        assert shown(storage) == live


def test_a_damaged_report_is_named_and_all_else_is_shown(
    storage, search, in_a_fresh_database, capsys
):
    run_live(storage, search)
    log_reports(storage, search)
    path = storage / SWEEPS / search.sweep.name / "reports" / "controls.zip"
    path.write_bytes(path.read_bytes()[:-9])
    in_a_fresh_database()
    rebuild(storage, ledger_of(storage, search))
    assert f"Left out: {path} is damaged (" in " ".join(capsys.readouterr().out.split())
    levels = runs_by_level(storage)
    assert {"sweep", "test evaluation 1", "test evaluation 2"} <= set(levels)
    assert "controls" not in levels


def test_a_report_of_any_names_ends_finished_and_one_that_is_refused_failed(
    storage, search, capsys
):
    run_live(storage, search)
    names = ["ssr, original + masked", "ssr original and masked", "../a", "NICE+", "é = 1/2 (%)"]
    metrics = {f"seeds/{name}/recall@1": place / 10 for place, name in enumerate(names)}
    Tracker(storage, "masking", search.sweep.name).report("odd", {LEVEL: "odd"}, metrics, [])
    (run,) = runs_by_level(storage)["odd"]
    assert run.info.status == "FINISHED"
    assert sorted(run.data.metrics.values()) == list(metrics.values())
    assert run.data.metrics["seeds/ssr original and masked/recall_at_1"] == 0
    assert not warnings_in(capsys)
    refused = {"mrr": "high"}
    Tracker(storage, "masking", search.sweep.name).report("bad", {LEVEL: "bad"}, refused, [])
    (run,) = runs_by_level(storage)["bad"]
    assert run.info.status == "FAILED"
    assert len(warnings_in(capsys)) == 1


def test_every_run_ends_where_the_database_refuses_the_end_of_a_sweep(storage, search, capsys):
    refuse = """CREATE TRIGGER refuse BEFORE INSERT ON tags WHEN NEW.key = 'standing'
        BEGIN SELECT RAISE(ABORT, 'refused'); END"""
    database = sqlite3.connect(str(storage / "mlflow.db"))
    database.execute(refuse)
    database.commit()
    run_live(storage, search)
    assert len(warnings_in(capsys)) == 1
    runs = [run for runs in runs_by_level(storage).values() for run in runs]
    assert runs
    assert "RUNNING" not in {run.info.status for run in runs}
    database.execute("DROP TRIGGER refuse")
    database.close()
    rebuild(storage, ledger_of(storage, search))
    (sweep_run,) = runs_by_level(storage)["sweep"]
    assert sweep_run.info.status == "FINISHED"


def test_an_experiment_deleted_in_the_page_comes_back_whole(storage, search):
    run_live(storage, search)
    log_reports(storage, search)
    whole = shown(storage)
    client = client_of(storage)
    for _ in range(2):
        client.delete_experiment(client.get_experiment_by_name("masking").experiment_id)
        rebuild(storage, ledger_of(storage, search))
        assert shown(storage) == whole


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("how", [shutil.move, shutil.copytree])
def test_a_storage_that_was_moved_or_copied_has_its_artifacts_where_it_is_now(
    storage, search, how, tmp_path
):
    run_live(storage, search)
    log_reports(storage, search)
    whole = shown(storage)
    moved = UPath(tmp_path / "other" / "100% moved?")
    moved.parent.mkdir()
    how(str(storage), str(moved))
    before = files_of(Path(str(storage)))
    rebuild(moved, ledger_of(moved, search))
    assert shown(moved) == whole
    Tracker(moved, "masking", search.sweep.name).report("more", {LEVEL: "more"}, {}, [])
    runs = [run for runs in runs_by_level(moved).values() for run in runs]
    here = (Path(str(moved)) / "mlartifacts").as_uri()
    assert {run.info.artifact_uri for run in runs} == {
        f"{here}/{run.info.run_id}/artifacts" for run in runs
    }
    for experiment in ("masking", "Default"):
        assert client_of(moved).get_experiment_by_name(experiment).artifact_location == here
    assert files_of(Path(str(storage))) == before
    assert [path.name for path in moved.parent.iterdir()] == [moved.name]


def test_storages_that_share_a_database_keep_their_artifacts_apart(
    storage, search, in_a_fresh_database, tmp_path
):
    in_a_fresh_database()
    run_live(storage, search)
    before = files_of(Path(str(storage)))
    other = UPath(tmp_path / "other")
    run_live(other, Search(dataclasses.replace(search.sweep, dataset_digest="other"), Full()))
    assert files_of(Path(str(storage))) == before
    assert [*other.rglob("mlartifacts/*/artifacts/matrix.png")]


def test_a_database_of_an_older_mlflow_is_brought_up_to_date(storage, search, older_database):
    with closing(sqlite3.connect(older_database)) as database, database:
        database.execute(
            "insert or ignore into experiments (experiment_id, name, lifecycle_stage, workspace) "
            "values (7, 'mine', 'active', 'default')"
        )
    shutil.copy(older_database, storage / "mlflow.db")
    run_live(storage, search)
    assert len(runs_by_level(storage)["seed"]) == 4
    assert client_of(storage).get_experiment_by_name("mine").experiment_id == "7"
    assert [path.name for path in storage.glob("*.db")] == ["mlflow.db"]


def test_a_database_of_a_later_mlflow_is_kept_aside_and_all_is_shown_in_a_new_one(
    storage, search, capsys
):
    run_live(storage, search)
    log_reports(storage, search)
    whole = shown(storage)
    with closing(sqlite3.connect(storage / "mlflow.db")) as database, database:
        database.execute("update alembic_version set version_num = 'fedcba987654'")
    rebuild(storage, ledger_of(storage, search))
    assert shown(storage) == whole
    assert "is kept as mlflow-fedcba987654.db; a new one is made" in capsys.readouterr().out
    assert sorted(path.name for path in storage.glob("*.db")) == [
        "mlflow-fedcba987654.db",
        "mlflow.db",
    ]


def test_a_database_that_was_deleted_is_made_again_in_the_same_process_too(storage, search):
    run_live(storage, search)
    whole = shown(storage)
    (storage / "mlflow.db").unlink()
    rebuild(storage, ledger_of(storage, search))
    assert (storage / "mlflow.db").exists()
    assert shown(storage) == whole


def test_another_s_database_of_another_mlflow_is_left_as_it_is(
    storage, search, older_database, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{older_database}")
    before = older_database.read_bytes()
    ledger_of(storage, search)
    with pytest.raises(UserError, match=r"was made by another MLflow .* mlflow db upgrade sqlite"):
        rebuild(storage, ledger_of(storage, search))
    assert older_database.read_bytes() == before
    assert [*older_database.parent.iterdir()] == [older_database]


def test_a_path_of_any_characters_holds_the_view_and_nothing_is_written_beside_it(
    tmp_path, search, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    storage = UPath(tmp_path / "labs" / "My%20Drive? #1 'it''s' \"é\" & $HOME;")
    run_live(storage, search)
    assert (storage / "mlflow.db").exists()
    assert len(runs_by_level(storage)["seed"]) == 4
    assert all(artifacts(client_of(storage), run) for run in runs_by_level(storage)["sweep"])
    assert [*tmp_path.iterdir()] == [tmp_path / "labs"]
    assert [path.name for path in (tmp_path / "labs").iterdir()] == [storage.name]
    job, _, *command = shlex.split(browse_command(storage))
    assert job == "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false"
    assert command == ["-m", "mlflow", "ui", "--backend-store-uri", tracking_uri(storage)]
    assert database_path(tracking_uri(storage)) == Path(str(storage / "mlflow.db"))


def test_a_sweep_may_have_quotes_in_its_name(storage, search):
    question = 'Broca\'s "area" 100%'
    renamed = Search(dataclasses.replace(search.sweep, question=question), Full())
    for _ in range(2):
        tracker = Tracker(storage, question, renamed.sweep.name)
        tracker.start(renamed, ledger_of(storage, renamed).description())
        tracker.end(renamed)
        assert not tracker.failure
    client = client_of(storage)
    experiment = client.get_experiment_by_name(question)
    assert len(client.search_runs([experiment.experiment_id])) == 1


def test_in_the_view_best_first_none_that_was_dropped_comes_first(storage, search):
    """Its mean is over the first seeds, at which all reach more."""
    line = Family(name="line", levels={"masking.time": (0.1, 0.2, 0.3)})
    wanted = dataclasses.replace(search.sweep, families=(line,), configurations=3, seeds=(0, 1, 2))
    raced = Search(wanted, Race())
    scores = {0.1: (0.8, 0.81, 0.3), 0.2: (0.79, 0.81, 0.2), 0.3: (0.6, 0.61, 0.9)}
    tracker = Tracker(storage, "masking", wanted.name)
    tracker.start(raced, ledger_of(storage, raced).description())
    names: list[list[str]] = []
    while (cell := raced.next_cell()) is not None:
        score = scores[cell.configuration["masking.time"]][cell.seed]
        record = dataclasses.replace(
            next_record_of(raced, cell), history=[{"epoch": 1, "recall@10": score}], best_epoch=1
        )
        raced.finish(record)
        tracker.cell(raced, record)
        names.append([row.configuration["masking.time"] for row in raced.dropped()])
    assert names[-1] == [0.3]
    tracker.end(raced)
    client = client_of(storage)
    experiment = client.get_experiment_by_name("masking")
    (view,) = [json.loads(v) for v in experiment.tags.values() if "best first" in v]
    state = json.loads(view["state"])
    order = f"{state['orderByKey']} {'ASC' if state['orderByAsc'] else 'DESC'}"
    runs = client.search_runs([experiment.experiment_id], state["searchFilter"], order_by=[order])
    assert [run.info.run_name for run in runs] == ["time 0.1", "time 0.2", "time 0.3"]
    assert [run.data.tags["standing"] for run in runs] == ["leads", "–", "dropped"]
    assert runs[2].data.metrics["recall_at_10"] > runs[1].data.metrics["recall_at_10"]


def test_the_page_offers_views_of_columns_that_there_are(storage, search):
    run_live(storage, search)
    experiment = client_of(storage).get_experiment_by_name("masking")
    saved = {k: json.loads(v) for k, v in experiment.tags.items() if "sharedViewState" in k}
    assert sorted(view["name"] for view in saved.values()) == ["Configurations, best first", "Tree"]
    run = runs_by_level(storage)["configuration"][0]
    known = {f"metrics.`{name}`" for name in run.data.metrics}
    known |= {f"tags.`{name}`" for name in run.data.tags}
    assert known >= {f"metrics.`{metric_key(metric)}`" for metric in METRICS}
    for view in saved.values():
        state = json.loads(view["state"])
        assert known >= set(state["selectedColumns"])
    (found,) = [json.loads(v["state"]) for v in saved.values() if "best" in v["name"]]
    runs = client_of(storage).search_runs(
        [experiment.experiment_id], found["searchFilter"], order_by=[f"{found['orderByKey']} DESC"]
    )
    assert [r.data.tags[LEVEL] for r in runs] == 2 * ["configuration"]


def test_the_columns_of_images_are_the_ranks_that_images_report():
    for view in saved_views(ImageSpec.recall_at).values():
        columns = json.loads(json.loads(view)["state"])["selectedColumns"]
        assert columns == [
            *("metrics.`recall_at_10`", "metrics.`recall_at_10_sd`", "metrics.`n`"),
            *("metrics.`recall_at_1`", "metrics.`recall_at_5`", "metrics.`mrr`"),
            "tags.`standing`",
        ]


@pytest.mark.parametrize("trained", [0, 1, 3])
def test_a_sweep_with_cells_left_is_not_shown_as_finished(storage, search, trained):
    def shown() -> dict[str, list[str]]:
        levels = runs_by_level(storage)
        return {
            level: [run.info.status for run in levels[level]]
            for level in ("sweep", "configuration")
        }

    run_live(storage, search, cells=trained)
    # The first seed of both configurations comes before the second of either.
    configurations = {0: [], 1: ["KILLED"], 3: ["FINISHED", "KILLED"]}[trained]
    assert shown()["sweep"] == ["KILLED"]
    assert sorted(shown()["configuration"]) == configurations
    rebuild(storage, Ledger(storage / SWEEPS / search.sweep.name))
    assert shown()["sweep"] == ["KILLED"]
    run_live(storage, search, cells=4 - trained)
    assert shown() == {"sweep": ["FINISHED"], "configuration": 2 * ["FINISHED"]}


def test_a_broken_database_is_said_once_and_stops_nothing(storage, search, capsys):
    (storage / "mlflow.db").write_text("this is no database, only text that lies in its place")
    run_live(storage, search)
    assert len(warnings_in(capsys)) == 1
    with pytest.raises(UserError, match="file is not a database"):
        rebuild(storage, ledger_of(storage, search))


def test_artifacts_that_cannot_be_kept_leave_the_runs(storage, search, capsys):
    (storage / "mlartifacts").write_text("in the way")
    run_live(storage, search)
    assert {"data_report.md" in line or "matrix.png" in line for line in warnings_in(capsys)} == {
        True
    }
    assert len(runs_by_level(storage)["seed"]) == 4


def test_a_full_disk_is_one_line_and_the_view_is_whole_once_there_is_room(
    storage, search, capfd, small_disk
):
    room = (storage / "mlflow.db").stat().st_size + 8192
    with small_disk(room):
        tracker = run_live(storage, search)
    said, errors = capfd.readouterr()
    assert said.count("MLflow can't be written") == 1
    assert tracker.failure
    assert errors == ""  # no traceback of MLflow's log
    rebuild(storage, ledger_of(storage, search))
    assert len(runs_by_level(storage)["seed"]) == 4


def test_of_an_artifact_that_does_not_fit_no_half_is_left(storage, search, capsys):
    run_live(storage, search)
    files = {"small.txt": b"fits", "large.txt": bytes(2_000_000)}
    tracker = Tracker(storage, "masking", search.sweep.name)
    tracker.show_report(Report(name="large", tags={}, metrics={}, files=files))
    with patch.object(LocalArtifactRepository, "log_artifact", half_written):
        tracker._close()
    assert len(warnings_in(capsys)) == 1
    kept = [path.name for path in Path(storage).rglob("*.txt")]
    assert kept == ["small.txt"]


def half_written(self: LocalArtifactRepository, file: str) -> None:
    """Keep an artifact on a disk with room for a kilobyte."""
    content = Path(file).read_bytes()
    Path(self.artifact_dir).mkdir(parents=True, exist_ok=True)
    (Path(self.artifact_dir) / Path(file).name).write_bytes(content[:1000])
    if len(content) > 1000:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_server_named_by_the_environment_is_used(tmp_path, monkeypatch):
    assert tracking_uri(UPath(tmp_path)) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert tracking_uri(UPath(tmp_path)) == "http://127.0.0.1:5000"


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def seconds(work) -> float:
    start = time.monotonic()
    work()
    return time.monotonic() - start


def test_a_server_that_never_answers_is_waited_for_once_and_not_by_the_sweep(
    storage, search, silent_port, monkeypatch, capsys, caplog
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent_port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "4")
    ledger = ledger_of(storage, search)
    tracker = Tracker(storage, "masking", search.sweep.name)
    assert seconds(lambda: tracker.start(search, ledger.description())) < A_MOMENT_S
    for _ in range(4):
        record = next_record(search)
        search.finish(record)
        assert seconds(lambda record=record: tracker.cell(search, record)) < A_MOMENT_S
    # The first request and its repetition, and nothing after them.
    assert seconds(lambda: tracker.end(search)) < 2 * 4 + A_MOMENT_S
    assert "timed out" in tracker.failure
    assert len(warnings_in(capsys)) == 1
    assert not caplog.records


def test_a_server_that_was_never_there_is_an_error_of_a_rebuild_only(
    storage, search, monkeypatch, capsys
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    assert seconds(lambda: run_live(storage, search)) < 10
    assert len(warnings_in(capsys)) == 1
    with pytest.raises(UserError, match=r"MLflow can't be written \(.*refused"):
        rebuild(storage, ledger_of(storage, search))


@pytest.fixture
def server(tmp_path) -> Iterator[tuple[str, subprocess.Popen]]:
    """A real MLflow server on loopback that is just starting."""
    port = free_port()
    place = f"sqlite:///{tmp_path}/server.db"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
    command += ["--port", str(port), "--backend-store-uri", place]
    command += ["--artifacts-destination", str(tmp_path / "served")]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=os.environ | NO_JOBS,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield f"http://127.0.0.1:{port}", process
    finally:
        kill(process)


def wait_for(url: str) -> None:
    for _ in range(600):
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.5)
    raise AssertionError(f"{url} did not come up")


def kill(process: subprocess.Popen) -> None:
    """End the server and its workers, which are a session of their own."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize("is_there", [False, True])
def test_drivers_that_start_at_the_same_moment_share_an_experiment(
    storage, search, is_there, monkeypatch
):
    if is_there:
        client_of(storage).create_experiment("masking", (storage / "mlruns").as_uri())
    at_once, asked = threading.Barrier(4), threading.local()

    def asked_at_once(self, name):
        found = by_name(self, name)
        if not hasattr(asked, "once"):
            asked.once = at_once.wait(60)
        return found

    by_name = MlflowClient.get_experiment_by_name
    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", asked_at_once)
    trackers = [Tracker(storage, "masking", search.sweep.name) for _ in range(4)]
    for tracker in trackers:
        tracker._queue.put(partial(tracker._offer_views, RECALL_AT))
        tracker._close()
    monkeypatch.undo()
    assert [tracker.failure for tracker in trackers] == [""] * 4
    experiment = client_of(storage).get_experiment_by_name("masking")
    assert saved_views(RECALL_AT).items() <= experiment.tags.items()


@pytest.mark.slow
def test_a_server_may_start_late_and_killed_mid_sweep_costs_one_warning_until_a_rebuild(
    storage, search, server, monkeypatch, capsys
):
    url, process = server
    monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")  # it may be slow beside other tests
    tracker = Tracker(storage, "masking", search.sweep.name)  # while it takes no connections
    wait_for(f"{url}/health")
    deadline = time.monotonic() + 60
    while client_of(storage).get_experiment_by_name("masking") is None:
        assert time.monotonic() < deadline, tracker.failure
        time.sleep(0.1)
    assert not capsys.readouterr().out
    run_live(storage, search, cells=1)
    levels = runs_by_level(storage)
    assert [run.info.status for run in levels["seed"]] == ["FINISHED"]
    names = [
        file.path for file in client_of(storage).list_artifacts(levels["sweep"][0].info.run_id)
    ]
    assert sorted(names) == ["cells.csv", "data_report.md", "matrix.png"]

    ledger = ledger_of(storage, search)
    tracker = Tracker(storage, "masking", search.sweep.name)
    tracker.start(search, ledger.description())
    kill(process)
    for _ in range(3):
        record = next_record(search)
        ledger.write(record)
        search.finish(record)
        assert seconds(lambda record=record: tracker.cell(search, record)) < A_MOMENT_S
    assert seconds(lambda: tracker.end(search)) < 5 * A_MOMENT_S
    assert tracker.failure
    said = capsys.readouterr().out
    assert said.count("MLflow can't") == 1
    assert "View run" not in said

    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    rebuild(storage, ledger)
    assert len(runs_by_level(storage)["seed"]) == 4


def test_a_damaged_database_is_one_advice(storage, search):
    ledger_of(storage, search).write(next_record(search))
    (storage / "mlflow.db").write_bytes(b"nonsense" * 512)
    with pytest.raises(
        UserError, match=r"^MLflow can't be written: .*mlflow\.db is damaged"
    ) as error:
        rebuild(storage, ledger_of(storage, search))
    assert str(error.value).endswith("). Delete it: it is made again.")
    assert str(error.value).lower().count("delete it") == 1


def test_a_damaged_sweep_keeps_no_other_from_being_rebuilt(storage, search, capsys):
    ledger_of(storage, search).write(next_record(search))
    write_whole(storage / SWEEPS / "damaged" / "sweep.json", "{")
    with pytest.raises(UserError, match=r"damaged/sweep\.json is damaged"):
        main(TrackingOptions(storage=str(storage)))
    assert "Left out" not in capsys.readouterr().out  # the error says it
    assert len(runs_by_level(storage)["seed"]) == 1


def call(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "ssense.engine.view.tracking", *arguments]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_the_command_rebuilds_every_sweep_of_a_storage_or_one(
    storage, search, tmp_path, in_a_fresh_database
):
    run_live(storage, search)
    other = Search(dataclasses.replace(search.sweep, dataset_digest="other"), Full())
    ledger_of(storage, other).write(next_record(other))
    in_a_fresh_database()
    done = call("--storage", str(storage), "--sweep", search.sweep.name, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert [run.info.run_name for run in runs_by_level(storage)["sweep"]] == [search.sweep.name]
    done = call("--storage", str(storage), cwd=tmp_path)
    assert done.returncode == 0
    assert f"{search.sweep.name} into MLflow" in done.stdout
    levels = runs_by_level(storage)
    assert {r.info.run_name for r in levels["sweep"]} == {search.sweep.name, other.sweep.name}
    assert len(levels["seed"]) == 5


@pytest.mark.slow
def test_errors_of_the_command_are_one_line(storage, search, tmp_path):
    empty = call("--storage", str(storage), cwd=tmp_path)
    assert (empty.returncode, empty.stderr.count("\n")) == (2, 1)
    assert "no sweep in" in empty.stderr
    ledger_of(storage, search)
    unknown = call("--storage", str(storage), "--sweep", "masking-0", cwd=tmp_path)
    assert unknown.returncode == 2
    assert f"Found: {search.sweep.name}" in unknown.stderr
