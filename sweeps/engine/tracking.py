"""The MLflow view of a ledger: sweep, then configurations, then seeds. Only the driver writes it.

    python -m sweeps.engine.tracking --storage DIR

brings the view of every sweep up to date with its ledger, in any database, as often as called.
"""

from __future__ import annotations

from ssense.command import check_flags, run_command
from sweeps.engine.command_options import TrackingOptions

if __name__ == "__main__":
    check_flags(TrackingOptions)  # before the imports that take seconds

import logging
import os
import tempfile
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import optuna
from upath import UPath

from ssense.digest import digest
from ssense.errors import UserError, one_line, printable
from ssense.storage import cache_folder, exists, is_local, open_storage, read_whole
from sweeps.engine.driver import sole_driver
from sweeps.engine.ledger import Ledger, Record, all_ledgers, find_ledger
from sweeps.engine.matrix_figure import matrix_figure
from sweeps.engine.progress import say, step
from sweeps.engine.provenance import counting
from sweeps.engine.race import POLICIES
from sweeps.engine.search import Search
from sweeps.engine.view import (
    FINISHED_AT,
    LEVEL,
    MATRIX_FILE,
    Point,
    ViewRun,
    cell_run,
    configuration_run,
    metric_key,
    row_records,
    saved_views,
    sweep_run,
)

if TYPE_CHECKING:
    from mlflow.entities import Run

KEY = "ssense.key"
SWEEP = "ssense.sweep"
PARENT = "mlflow.parentRunId"
NAME = "mlflow.runName"

DATA_REPORT = "data_report.md"

# A server that does not answer is given up after twice this time, and is then left alone.
_HTTP = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
# A server with a new database takes half a minute to answer, and may have been started with us.
_STARTING_S = 120.0
_TRY_AGAIN_S = 5.0
_QUIET = {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}

_REASON_CHARACTERS = 100


def tracking_uri(storage: UPath) -> str:
    """MLFLOW_TRACKING_URI, or a database in the storage, by its absolute path.

    A database needs a disk: of a storage that is none, the view is kept in the user's cache, and
    can be made again from the ledger anywhere.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if uri:
        return uri
    return f"sqlite:///{_home(storage) / 'mlflow.db'}"


def _home(storage: UPath) -> Path:
    """Folder of the database and the artifacts, where no server keeps them."""
    if is_local(storage):
        return Path(str(storage)).resolve()
    return cache_folder() / "mlflow" / digest(str(storage))


class Tracker:
    """Writes one sweep into MLflow, in a thread of its own: nobody waits before the end.

    A server that is still starting is tried again for two minutes, or until the sweep ends. If
    MLflow fails, it says so once and writes nothing more.

    Attributes:
        failure: what MLflow failed with, once it has; else empty.
    """

    def __init__(self, storage: UPath, claim: str, sweep_name: str) -> None:
        """Begin to connect, and to find the runs of this sweep that are there already."""
        self.failure = ""
        self._storage = storage
        self._uri = tracking_uri(storage)
        self._claim = claim
        self._sweep_name = sweep_name
        self._description: Mapping[str, Any] = {}
        self._runs: dict[str, _Known] = {}
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._queue.put(self._connect_in_time)
        self._is_ending = threading.Event()
        self._thread = threading.Thread(target=self._write_all, name="mlflow", daemon=True)
        self._thread.start()

    def start(self, search: Search, description: Mapping[str, Any]) -> None:
        """Show the sweep and all cells that it has results of, and nothing else.

        Args:
            search: of the sweep.
            description: of its ledger.
        """
        self._description = description
        runs = [sweep_run(search, description, "RUNNING")]
        for row in search.rows:
            records = row_records(search, row)
            if records:
                runs.append(configuration_run(search, row))
                runs += [cell_run(search, row, record) for record in records]
        self._put_runs(runs)
        self._queue.put(lambda: self._delete_others({run.key for run in runs}))
        if "shards" in description["dataset"]:
            report = self._storage / "shards" / description["dataset"]["shards"] / DATA_REPORT
            self._queue.put(lambda: self._keep_report(report))

    def cell(self, search: Search, record: Record) -> None:
        """Show a finished cell, and bring its configuration up to date."""
        for row in search.rows_of(record.signature):
            self._put_runs([configuration_run(search, row), cell_run(search, row, record)])

    def end(self, search: Search) -> None:
        """Show that the sweep has ended, and wait until all is written."""
        matrix = search.matrix()
        runs = [
            configuration_run(search, row, shown)
            for row, shown in zip(search.rows, matrix.rows, strict=True)
            if row_records(search, row)
        ]
        self._put_runs([*runs, sweep_run(search, self._description, "FINISHED")])
        self._queue.put(lambda: self._keep({MATRIX_FILE: matrix_figure(matrix)}))
        self._close()

    def report(
        self,
        name: str,
        tags: Mapping[str, str],
        metrics: Mapping[str, float],
        files: Sequence[UPath],
        tables: Mapping[str, Sequence[Mapping[str, object]]] = MappingProxyType({}),
    ) -> None:
        """Write a run of its own below the sweep's, and wait for it.

        Args:
            name: of the run.
            tags: of the run.
            metrics: of the run, as they are called here.
            files: to keep as artifacts.
            tables: to keep as MLflow's own, which its page compares across runs; rows by name.
        """
        run = ViewRun(
            key=f"{self._sweep_name}/{name}",
            name=name,
            parent=self._sweep_name,
            tags=tags,
            metrics={metric_key(metric): value for metric, value in metrics.items()},
            status="FINISHED",
        )
        self._put_runs([run])
        self._queue.put(lambda: self._keep({f.name: read_whole(f) for f in files}, run.key))
        self._queue.put(lambda: self._keep_tables(tables, run.key))
        self._close()

    def _close(self) -> None:
        self._is_ending.set()
        self._queue.put(None)
        self._thread.join()

    def _put_runs(self, runs: Sequence[ViewRun]) -> None:
        for run in runs:
            self._queue.put(lambda run=run: self._show(run))

    def _write_all(self) -> None:
        """Do what is queued, in order; after a failure nothing is tried any more."""
        while (write := self._queue.get()) is not None:
            if self.failure:
                continue
            try:
                write()
            except Exception as error:  # whatever the server or database does, training goes on
                self.failure = _reason(error)
                say(f"  MLflow can't be written ({self.failure}); all results are in the ledger")

    def _connect_in_time(self) -> None:
        deadline = time.monotonic() + _STARTING_S
        while True:
            try:
                return self._connect()
            except Exception:
                may_start = self._uri.startswith("http") and time.monotonic() < deadline
                if not may_start or self._is_ending.wait(_TRY_AGAIN_S):
                    raise

    def _connect(self) -> None:
        warnings.filterwarnings("ignore", module="mlflow")
        for name, value in {**_HTTP, **_QUIET}.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        # Importing mlflow sets its level, and urllib3 warns of every request that is repeated.
        for name in ("mlflow", "alembic", "urllib3"):
            logging.getLogger(name).setLevel(logging.ERROR)

        create_database(self._uri)
        self._client = MlflowClient(self._uri)
        experiment = self._client.get_experiment_by_name(self._claim)
        if experiment is None:
            self._experiment_id = self._client.create_experiment(self._claim, self._artifacts())
        else:
            self._experiment_id = experiment.experiment_id
        known = experiment.tags if experiment else {}
        for name, tag in saved_views().items():
            if known.get(name) != tag:
                self._client.set_experiment_tag(self._experiment_id, name, tag)
        self._find_runs()

    def _artifacts(self) -> str | None:
        """Where artifacts are kept: a server may be elsewhere, and knows a place of its own."""
        if self._uri.startswith("http"):
            return None
        return (_home(self._storage) / "mlartifacts").as_uri()

    def _find_runs(self) -> None:
        self._runs.clear()  # an earlier try may have found some
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment_id],
                f"tags.`{SWEEP}` = '{self._sweep_name}'",
                max_results=5000,
                page_token=token,
            )
            for run in page:
                key = run.data.tags[KEY]
                if key in self._runs:  # made twice, by a request that was repeated
                    self._client.delete_run(run.info.run_id)
                else:
                    self._runs[key] = _Known.of(run)
            token = page.token
            if not token:
                return

    def _show(self, run: ViewRun) -> None:
        """Make a run, or bring it up to date; nothing is written where nothing has changed."""
        tags = {**run.tags, SWEEP: self._sweep_name, KEY: run.key, NAME: run.name}
        if run.parent in self._runs:
            tags[PARENT] = self._runs[run.parent].run_id
        known = self._runs.get(run.key)
        if known is not None and known.is_of_another_record(tags):
            self._delete(run.key)
            known = None
        if known is None:
            known = self._create(run, tags)
            self._update(known, run, tags, run.curves)
        else:
            self._update(known, run, tags)
        if run.status is not None and run.status != known.status:
            self._set_status(known, run)

    def _create(self, run: ViewRun, tags: Mapping[str, str]) -> _Known:
        start = run.start
        if run.place is not None:
            start = self._runs[run.parent].start + run.place
        made = self._client.create_run(self._experiment_id, start, dict(tags))
        known = self._runs[run.key] = _Known.of(made)
        return known

    def _update(
        self, known: _Known, run: ViewRun, tags: Mapping[str, str], curves: Sequence[Point] = ()
    ) -> None:
        """Write what MLflow lacks, in one request if it is not more than it takes."""
        from mlflow.entities import Metric, Param, RunTag

        params = {
            name: str(value) for name, value in run.params.items() if name not in known.params
        }
        changed = {name: tag for name, tag in tags.items() if known.tags.get(name) != tag}
        values = {m: value for m, value in run.metrics.items() if known.metrics.get(m) != value}
        at, now = run.end or _now(), _now()
        self._client.log_batch(
            known.run_id,
            # Of several values without a step MLflow shows the one that was written last.
            [Metric(metric, value, at, epoch) for metric, value, epoch in curves]
            + [Metric(metric, value, now, 0) for metric, value in values.items()],
            [Param(*param) for param in params.items()],
            [RunTag(*tag) for tag in changed.items()],
        )
        known.params |= params
        known.tags |= changed
        known.metrics |= values

    def _set_status(self, known: _Known, run: ViewRun) -> None:
        if run.status == "RUNNING":
            self._client.update_run(known.run_id, "RUNNING")
        else:
            self._client.set_terminated(known.run_id, run.status, run.end)
        known.status = run.status

    def _delete(self, key: str) -> None:
        self._client.delete_run(self._runs.pop(key).run_id)

    def _delete_others(self, keys: set[str]) -> None:
        """Delete configurations and cells that the sweep no longer has, or not with a result."""
        for key, known in list(self._runs.items()):
            if key not in keys and known.tags.get(LEVEL) in ("configuration", "seed"):
                self._delete(key)

    def _keep_report(self, path: UPath) -> None:
        if exists(path):
            self._keep({DATA_REPORT: read_whole(path)})

    def _keep(self, files: Mapping[str, bytes], key: str | None = None) -> None:
        """Keep files as artifacts of a run, the sweep's if none is named, in place of earlier ones.

        Runs are shown without them as well.
        """
        run_id = self._runs[key or self._sweep_name].run_id
        try:
            with tempfile.TemporaryDirectory(prefix="ssense-") as folder:
                for name, content in files.items():
                    path = Path(folder) / name
                    path.write_bytes(content)
                    self._client.log_artifact(run_id, str(path))
        except Exception as error:  # whatever the artifact store's client library raises
            self._client.get_run(run_id)  # fails where it is MLflow itself that is away
            say(f"  MLflow can't keep {', '.join(files)} ({_reason(error)})")

    def _keep_tables(self, tables: Mapping[str, Sequence[Mapping[str, object]]], key: str) -> None:
        """Keep tables as MLflow's own; a run is shown without them as well."""
        run_id = self._runs[key].run_id
        try:
            for name, rows in tables.items():
                columns = {column: [row[column] for row in rows] for column in rows[0]}
                self._client.log_table(run_id, columns, f"{name}.json")
        except Exception as error:  # whatever the artifact store's client library raises
            self._client.get_run(run_id)  # fails where it is MLflow itself that is away
            say(f"  MLflow can't keep the tables {', '.join(tables)} ({_reason(error)})")


@dataclass
class _Known:
    """What MLflow holds of a run."""

    run_id: str
    status: str
    start: int
    params: dict[str, str]
    tags: dict[str, str]
    metrics: dict[str, float]

    @classmethod
    def of(cls, run: Run) -> _Known:
        info, data = run.info, run.data
        known = dict(data.params), dict(data.tags), dict(data.metrics)
        return cls(info.run_id, info.status, info.start_time, *known)

    def is_of_another_record(self, tags: Mapping[str, str]) -> bool:
        """Whether it is a cell's, and half written or of a record that has been replaced since."""
        if tags.get(LEVEL) != "seed":
            return False
        return self.status == "RUNNING" or self.tags.get(FINISHED_AT) != tags[FINISHED_AT]


def rebuild(storage: UPath, ledger: Ledger) -> None:
    """Bring the view of a sweep up to date with its ledger, or make it anew.

    Raises:
        UserError: the ledger is damaged, a driver works on the sweep, or MLflow fails.
    """
    with sole_driver(ledger.folder):
        search = _as_it_ended(ledger)
        tracker = Tracker(storage, search.sweep.claim, search.sweep.name)
        tracker.start(search, ledger.description())
        tracker.end(search)
    if tracker.failure:
        raise UserError(
            f"MLflow can't be written ({tracker.failure}). Check MLFLOW_TRACKING_URI if it is set, "
            "else mlflow.db in the storage."
        )


def _as_it_ended(ledger: Ledger) -> Search:
    """The search when its last driver ended: a failed cell counts, not yet to be tried again."""
    description = ledger.description()
    versions = description["code_digest"], description["kept_versions"]
    records = counting(ledger.records(), *versions)
    done = {signature: record for signature, record in records.items() if record.done}
    search = Search(ledger.sweep(), POLICIES[ledger.policy()], ledger.rows(), done)
    for record in records.values():
        if not record.done:
            search.finish(record)
    return search


def create_database(uri: str) -> None:
    """Make a local database whole or not at all: MLflow can't go on with half of its tables."""
    path = Path(uri.removeprefix("sqlite:///"))
    if not uri.startswith("sqlite:///") or path.exists():
        return
    from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine_with_retry

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    engine = create_sqlalchemy_engine_with_retry(f"sqlite:///{partial}")
    _initialize_tables(engine)
    engine.dispose()
    try:
        os.link(partial, path)
    except FileExistsError:  # another driver's, as whole as ours
        pass
    finally:
        partial.unlink()


def _reason(error: BaseException) -> str:
    """What an error began with: libraries wrap a refused connection several times over."""
    while error.__context__ is not None:
        error = error.__context__
    return printable(one_line(error), _REASON_CHARACTERS)


def _now() -> int:
    return time.time_ns() // 1_000_000


def main(command: TrackingOptions) -> None:
    """Bring MLflow's view of sweeps up to date with their ledgers, in any database."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = open_storage(command.storage, must_exist=True)
    if command.sweep is None:
        ledgers = all_ledgers(storage)
    else:
        ledgers = [find_ledger(storage, command.sweep)]
    refused = []
    for ledger in ledgers:
        try:
            with step(f"{ledger.folder.name} into MLflow"):
                rebuild(storage, ledger)
        except UserError as error:
            refused.append(str(error))
    if refused:
        raise UserError(" ".join(refused))


if __name__ == "__main__":
    run_command(TrackingOptions, main)
