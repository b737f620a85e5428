"""The MLflow view of a ledger: sweep, then configurations, then seeds. Only the driver writes it.

The view can be brought up to date from the ledger at any time: every run carries a key tag, and
a cell whose run is there and finished is not written again.
"""

from __future__ import annotations

import logging
import os
import textwrap
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from upath import UPath

from ssense.digest import digest
from ssense.retrieval import METRICS
from ssense.storage import is_local
from sweeps.engine.cell import describe, label
from sweeps.engine.ledger import Record
from sweeps.engine.progress import say
from sweeps.engine.search import Search
from sweeps.engine.sweep import Row

if TYPE_CHECKING:
    from mlflow.entities import Run

KEY = "ssense.key"
PARENT = "mlflow.parentRunId"
NAME = "mlflow.runName"

_BATCH = 1000  # metrics that MLflow takes in one call


def tracking_uri(storage: UPath) -> str:
    """MLFLOW_TRACKING_URI, or a database in the storage, by its absolute path."""
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if uri:
        return uri
    folder = Path(str(storage)) if is_local(storage) else Path.cwd()
    return f"sqlite:///{folder.resolve() / 'mlflow.db'}"


def metric_key(metric: str) -> str:
    """Spell a metric as MLflow allows: "recall@10" becomes "recall_at_10"."""
    return metric.replace("@", "_at_")


class Tracker:
    """Writes one sweep into MLflow. If MLflow fails, says so once and lets the sweep go on."""

    def __init__(self, storage: UPath, claim: str, sweep_name: str) -> None:
        """Connect, and find the runs of this sweep that are there already."""
        self._artifacts = storage / "mlartifacts"
        self._uri = tracking_uri(storage)
        self._sweep_name = sweep_name
        self._runs: dict[str, Run] = {}
        self._broken = False
        self._guard(lambda: self._connect(claim))

    def start(
        self,
        search: Search,
        tags: Mapping[str, str],
        params: Mapping[str, Any],
        texts: Mapping[str, str],
    ) -> None:
        """Open the sweep's run, and write the cells that the ledger has and the view lacks.

        Args:
            search: of the sweep.
            tags: of its run.
            params: of its run.
            texts: artifacts of its run, by file name.
        """

        def write() -> None:
            sweep_tags = {"ssense.level": "sweep", "seeds": _listing(search.sweep.seeds), **tags}
            run_id = self._open(self._sweep_name, self._sweep_name, None, sweep_tags, params)
            self._client.set_tag(run_id, "seeds", sweep_tags["seeds"])

        self._guard(write)
        for row, cell in search.cells():
            record = search.record(cell)
            if record is not None:
                self.cell(search, row, record)
        if not self._broken:
            self._log_texts(texts)

    def _log_texts(self, texts: Mapping[str, str]) -> None:
        """Keep texts as artifacts of the sweep's run; runs are shown without them as well."""
        run_id = self._runs[self._sweep_name].info.run_id
        try:
            there = {file.path for file in self._client.list_artifacts(run_id)}
            for name in texts.keys() - there:
                self._client.log_text(run_id, texts[name], name)
        except Exception as error:  # whatever the artifact store's client library raises
            say(f"  MLflow can't keep {', '.join(texts)} ({textwrap.shorten(str(error), 100)})")

    def cell(self, search: Search, row: Row, record: Record) -> None:
        """Write one cell's run, and bring its configuration's run up to date."""
        self._guard(lambda: self._write_cell(search, row, record))

    def end(self) -> None:
        """Mark the sweep's and the configurations' runs as finished."""
        for key, run in list(self._runs.items()):
            if run.info.status == "RUNNING":
                self._guard(lambda key=key: self._finish(key, "FINISHED"))

    def report(
        self,
        name: str,
        tags: Mapping[str, str],
        metrics: Mapping[str, float],
        files: Sequence[Path],
    ) -> None:
        """Write a run of its own below the sweep's, with files as artifacts."""

        def write() -> None:
            from mlflow.entities import Metric

            key = f"{self._sweep_name}/{name}"
            parent = self._runs.get(self._sweep_name)
            run_id = self._open(key, name, parent and parent.info.run_id, tags, {})
            values = [Metric(metric_key(m), v, 0, 0) for m, v in metrics.items()]
            self._client.log_batch(run_id, metrics=values)
            for file in files:
                self._client.log_artifact(run_id, str(file))
            self._finish(key, "FINISHED")

        self._guard(write)

    def _connect(self, claim: str) -> None:
        warnings.filterwarnings("ignore", module="mlflow")
        # A server that is away is not waited for: the view can be rebuilt from the ledger.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        from mlflow import MlflowClient

        for name in ("mlflow", "alembic"):  # importing mlflow sets its own level
            logging.getLogger(name).setLevel(logging.ERROR)

        self._client = MlflowClient(self._uri)
        experiment = self._client.get_experiment_by_name(claim)
        if experiment is None:
            location = self._artifacts.absolute().as_uri()
            self._experiment_id = self._client.create_experiment(claim, location)
        else:
            self._experiment_id = experiment.experiment_id
        self._find_runs()

    def _find_runs(self) -> None:
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment_id],
                f"tags.`ssense.sweep` = '{self._sweep_name}'",
                max_results=5000,
                page_token=token,
            )
            self._runs |= {run.data.tags[KEY]: run for run in page}
            token = page.token
            if not token:
                return

    def _write_cell(self, search: Search, row: Row, record: Record) -> None:
        configuration = self._open_configuration(row)
        known = self._runs.get(_cell_key(row, record))
        if known is not None and known.info.status == ("FINISHED" if record.done else "FAILED"):
            return
        tags = {**_labels(row), "ssense.level": "seed", "seed": str(record.seed)}
        tags |= {"reason": record.reason} if record.reason else {}
        run_id = self._open(
            _cell_key(row, record),
            f"seed {record.seed}",
            configuration,
            tags,
            {"seed": record.seed, "family": row.family, **row.configuration},
            start=_milliseconds(record) - round(1000 * record.timings.get("training", 0)),
        )
        metrics = _cell_metrics(record)
        for first in range(0, len(metrics), _BATCH):
            self._client.log_batch(run_id, metrics=metrics[first : first + _BATCH])
        if known is not None and record.done:
            self._client.delete_tag(run_id, "reason")
        self._client.log_batch(configuration, metrics=_configuration_metrics(search, row))
        # Last: a cell that is finished here is not written again.
        status = "FINISHED" if record.done else "FAILED"
        self._finish(_cell_key(row, record), status, end=_milliseconds(record))

    def _open_configuration(self, row: Row) -> str:
        return self._open(
            _configuration_key(self._sweep_name, row),
            label(row.family, row.configuration),
            self._runs[self._sweep_name].info.run_id,
            # "all" keeps these means apart from the seeds where the UI groups by seed.
            {**_labels(row), "ssense.level": "configuration", "seed": "all"},
            {"family": row.family, **row.configuration},
        )

    def _open(
        self,
        key: str,
        name: str,
        parent: str | None,
        tags: Mapping[str, str],
        params: Mapping[str, Any],
        start: int | None = None,
    ) -> str:
        """Return the run of a key, made if it is not there."""
        from mlflow.entities import Param

        if key not in self._runs:
            marks = {KEY: key, "ssense.sweep": self._sweep_name, NAME: name}
            marks |= {PARENT: parent} if parent else {}
            run = self._client.create_run(self._experiment_id, start, {**marks, **tags})
            values = [Param(name, str(value)) for name, value in params.items()]
            self._client.log_batch(run.info.run_id, params=values)
            self._runs[key] = run
        return self._runs[key].info.run_id

    def _finish(self, key: str, status: str, end: int | None = None) -> None:
        run_id = self._runs[key].info.run_id
        self._client.set_terminated(run_id, status, end)
        self._runs[key] = self._client.get_run(run_id)

    def _guard(self, write: Callable[[], Any]) -> None:
        if self._broken:
            return
        try:
            write()
        except Exception as error:  # whatever the server or database does, training goes on
            self._broken = True
            reason = textwrap.shorten(str(error), 100)
            say(f"  MLflow can't be written ({reason}); the results are in the ledger all the same")


def _labels(row: Row) -> dict[str, str]:
    return {"family": row.family, "configuration": describe(row.configuration)}


def _cell_key(row: Row, record: Record) -> str:
    return f"{row.family}/{record.signature}"


def _configuration_key(sweep_name: str, row: Row) -> str:
    return f"{sweep_name}/{digest(row)}"


def _cell_metrics(record: Record) -> list[Any]:
    """Curves by epoch, then the best epoch's values under the plain names."""
    from mlflow.entities import Metric

    at = _milliseconds(record)
    curves = [
        Metric(f"epoch/{metric_key(name)}", value, at, int(epoch["epoch"]))
        for epoch in record.history
        for name, value in epoch.items()
        if name != "epoch"
    ]
    if not record.done:
        return curves
    best = [Metric(metric_key(name), record.best[name], at, 0) for name in METRICS]
    extra = {"best_epoch": record.best_epoch, "training_s": record.timings["training"]}
    return [*curves, *best, *(Metric(name, value, at, 0) for name, value in extra.items())]


def _configuration_metrics(search: Search, row: Row) -> list[Any]:
    """Mean and sd over the seeds done so far, with their number as the step."""
    from mlflow.entities import Metric

    done = search.done(row.configuration)
    if not done:
        return []
    at, n = max(map(_milliseconds, done)), len(done)
    values = {"n": float(n)}
    for name in METRICS:
        scores = [record.best[name] for record in done]
        values[metric_key(name)] = fmean(scores)
        values[f"{metric_key(name)}_sd"] = stdev(scores) if n > 1 else 0.0
    return [Metric(name, value, at, n) for name, value in values.items()]


def _milliseconds(record: Record) -> int:
    return int(datetime.fromisoformat(record.finished_at).timestamp() * 1000)


def _listing(seeds: Sequence[int]) -> str:
    return " ".join(map(str, seeds))
