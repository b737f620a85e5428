from __future__ import annotations

import dataclasses
from statistics import mean, stdev

import pytest
from mlflow import MlflowClient
from upath import UPath

from sweeps.engine.ledger import Record
from sweeps.engine.race import Full
from sweeps.engine.search import Search
from sweeps.engine.tracking import KEY, PARENT, Tracker, tracking_uri


@pytest.fixture(autouse=True)
def no_server(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def search(sweep) -> Search:
    """A finished sweep of two configurations and two seeds; the last cell failed."""
    search = Search(sweep, Full())
    while (cell := search.next_cell()) is not None:
        score = 0.1 * len(search.records)
        epochs = [
            {"epoch": e, "loss": 3.0 - e, "recall@1": 0.0, "recall@10": score * e}
            | {"recall@50": 1.0, "mrr": 0.1}
            for e in (1, 2)
        ]
        record = Record(
            signature=search.signature(cell),
            configuration=cell.configuration,
            seed=cell.seed,
            status="done",
            dataset_digest="tiny",
            history=epochs,
            best_epoch=2,
            timings={"training": 1.5},
        )
        if len(search.records) == sweep.n_cells - 1:
            record = dataclasses.replace(
                record, status="failed", reason="NaN", history=[], best_epoch=0
            )
        search.finish(record)
    return search


def write_view(storage: UPath, search: Search) -> None:
    tracker = Tracker(storage, "masking", search.sweep.name)
    texts = {"data_report.md": "# Data"}
    tracker.start(search, {"text": "untrained"}, {"metric": "recall@10"}, texts)
    tracker.end()


def runs_by_level(storage: UPath) -> dict[str, list]:
    client = MlflowClient(tracking_uri(storage))
    experiment = client.get_experiment_by_name("masking")
    levels: dict[str, list] = {}
    for run in client.search_runs([experiment.experiment_id]):
        levels.setdefault(run.data.tags["ssense.level"], []).append(run)
    return levels


def test_the_view_is_a_tree_of_sweep_configurations_and_seeds(tmp_path, search):
    storage = UPath(tmp_path)
    write_view(storage, search)
    levels = runs_by_level(storage)
    (sweep_run,) = levels["sweep"]
    assert {run.data.tags[PARENT] for run in levels["configuration"]} == {sweep_run.info.run_id}
    assert len(levels["configuration"]) == 2
    parents = [run.data.tags[PARENT] for run in levels["seed"]]
    assert sorted(parents) == sorted(2 * [run.info.run_id for run in levels["configuration"]])
    assert sweep_run.data.tags["text"] == "untrained"
    artifact = tmp_path.glob(f"mlartifacts/{sweep_run.info.run_id}/artifacts/data_report.md")
    assert [path.read_text() for path in artifact] == ["# Data"]
    assert {run.info.status for runs in levels.values() for run in runs} == {"FINISHED", "FAILED"}


def test_seed_runs_carry_what_the_ui_groups_by_and_curves_by_epoch(tmp_path, search):
    storage = UPath(tmp_path)
    write_view(storage, search)
    runs = runs_by_level(storage)["seed"]
    done = {r.signature: r for r in search.records.values() if r.done}
    client = MlflowClient(tracking_uri(storage))
    for run in runs:
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


def test_configuration_runs_carry_mean_sd_and_number_of_seeds(tmp_path, search):
    storage = UPath(tmp_path)
    write_view(storage, search)
    runs = runs_by_level(storage)["configuration"]
    metrics = {run.data.tags["family"]: run.data.metrics for run in runs}
    scores = [record.best["recall@10"] for record in search.done({})]
    assert metrics["no masking"]["n"] == 2
    assert metrics["no masking"]["recall_at_10"] == pytest.approx(mean(scores))
    assert metrics["no masking"]["recall_at_10_sd"] == pytest.approx(stdev(scores))
    assert metrics["electrode"]["n"] == 1


def test_writing_the_view_again_adds_nothing(tmp_path, search):
    storage = UPath(tmp_path)
    write_view(storage, search)
    before = runs_by_level(storage)
    write_view(storage, search)
    after = runs_by_level(storage)
    assert {level: len(runs) for level, runs in before.items()} == {
        level: len(runs) for level, runs in after.items()
    }


def test_a_report_is_a_run_below_the_sweep_with_its_files(tmp_path, search):
    storage = UPath(tmp_path)
    write_view(storage, search)
    (tmp_path / "table.md").write_text("| a |")
    tracker = Tracker(storage, "masking", search.sweep.name)
    tags = {"ssense.level": "test evaluation"}
    tracker.report("test evaluation 1", tags, {"a/recall@10": 0.5}, [tmp_path / "table.md"])
    levels = runs_by_level(storage)
    (run,) = levels["test evaluation"]
    assert run.data.tags[PARENT] == levels["sweep"][0].info.run_id
    assert run.data.metrics == {"a/recall_at_10": 0.5}
    artifacts = MlflowClient(tracking_uri(storage)).list_artifacts(run.info.run_id)
    assert [artifact.path for artifact in artifacts] == ["table.md"]
    assert (tmp_path / "mlartifacts").is_dir()


def test_a_broken_mlflow_is_said_once_and_stops_nothing(tmp_path, search, monkeypatch, capsys):
    (tmp_path / "mlflow.db").write_text("this is no database, only text that lies in its place")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    write_view(UPath(tmp_path), search)
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if "MLflow can't be written" in line]) == 1


def test_a_server_named_by_the_environment_is_used(tmp_path, monkeypatch):
    assert tracking_uri(UPath(tmp_path)) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert tracking_uri(UPath(tmp_path)) == "http://127.0.0.1:5000"


def test_a_failed_cell_that_succeeds_later_is_shown_as_finished(tmp_path, search):
    storage = UPath(tmp_path)
    write_view(storage, search)
    failed = next(record for record in search.records.values() if not record.done)
    example = next(record for record in search.records.values() if record.done)
    search.finish(dataclasses.replace(failed, status="done", history=example.history, best_epoch=2))
    write_view(storage, search)
    runs = runs_by_level(storage)["seed"]
    assert len(runs) == 4
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.info.end_time - run.info.start_time for run in runs} == {1500}
