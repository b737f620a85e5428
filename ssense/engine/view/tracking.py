"""The MLflow view of a ledger: sweep, then configurations, then seeds. Only the driver writes it.

    python -m ssense.engine.view.tracking --storage DIR

brings the view of every sweep up to date with its ledger, in any database, as often as called.
"""

from __future__ import annotations

from ssense.cli.command import check_flags, run_command
from ssense.engine.view.view_options import TrackingOptions

if __name__ == "__main__":
    check_flags(TrackingOptions)  # before the imports that take seconds

import json
import logging
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from types import MappingProxyType
from typing import TYPE_CHECKING

import optuna
from upath import UPath

from ssense.cli.screen import say, step
from ssense.engine.core.record import Record
from ssense.engine.records.description import Description
from ssense.engine.records.driver import sole_driver
from ssense.engine.records.find import all_ledgers, find_ledger
from ssense.engine.records.ledger import SWEEPS, Ledger
from ssense.engine.records.provenance import counting
from ssense.engine.records.reports import (
    LEVEL,
    Report,
    Table,
    keep_report,
    kept_reports,
    table_file,
)
from ssense.engine.search.race import POLICIES
from ssense.engine.search.search import Search
from ssense.engine.tasks.registry import kept_data
from ssense.engine.view.cell_table import CELLS_FILE, cells_csv
from ssense.engine.view.matrix_figure import matrix_figure
from ssense.engine.view.mlflow_batch import DatabaseBatch, Measured
from ssense.engine.view.mlflow_database import (
    ARTIFACTS,
    DATABASE,
    home,
    is_another_place,
    is_database,
    is_own,
    place_experiment,
    place_runs,
    prepare_database,
    tracking_uri,
)
from ssense.engine.view.runs import (
    FINISHED_AT,
    MATRIX_FILE,
    Point,
    Status,
    ViewRun,
    cell_run,
    configuration_run,
    metric_keys,
    report_run,
    row_records,
    saved_views,
    sweep_run,
)
from ssense.errors import UserError, one_line, printable
from ssense.files.digest import digest
from ssense.files.storage import exists, open_storage, read_whole, scratch_folder

if TYPE_CHECKING:
    from mlflow.entities import Experiment, Run

KEY = "ssense.key"
SWEEP = "ssense.sweep"
PARENT = "mlflow.parentRunId"
NAME = "mlflow.runName"
TABLES = "mlflow.loggedArtifacts"

_DEFAULT = "Default"  # experiment that MLflow makes, with a place in the working directory

# A server that does not answer is given up after twice this time, and is then left alone.
_HTTP = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
# A server with a new database takes half a minute to answer, and may have been started with us.
_STARTING_S = 120.0
_TRY_AGAIN_S = 5.0
_QUIET = {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}

_GATHERING_S = 1.0
_RUNS_AT_ONCE = 500
_MOST_QUEUED = 5000  # runs that wait: a slow MLflow must not fill the memory
_REASON_CHARACTERS = 100
_PAGE_RUNS = 5000  # runs that are asked for at a time


class Tracker:
    """Writes one sweep into MLflow, in a thread of its own, so that nobody waits before the end.

    A server that is still starting is tried again for two minutes, or until the sweep ends. If
    MLflow fails, it says so once and writes nothing more.

    Attributes:
        failure: What MLflow failed with, once it has; else empty.
        is_advised: Whether that says what to do.
    """

    def __init__(self, storage: UPath, question: str, sweep_name: str) -> None:
        """Begin to connect, and to find the runs of this sweep that are there already."""
        self.failure = ""
        self.is_advised = False
        self._storage = storage
        self._uri = tracking_uri(storage)
        self._question = question
        self._sweep_name = sweep_name
        self._description: Description | None = None
        self._runs: dict[str, _Known] = {}
        self._orders: list[float] = []  # as they were shown last
        self._reorder_at = 0.0  # time.monotonic
        self._numbers: dict[int, int] = {}  # of the search's rows, by identity
        self._queue: SimpleQueue[ViewRun | Callable[[], None] | None] = SimpleQueue()
        self._batch: DatabaseBatch | None = None  # while runs are shown in a database
        self._unshown: set[str] = set()  # cells that were too many to queue
        self._queue.put(self._connect_in_time)
        self._is_ending = threading.Event()
        self._thread = threading.Thread(target=self._write_all, name="mlflow", daemon=True)
        self._thread.start()

    def start(self, search: Search, description: Description) -> None:
        """Show the sweep and all cells that it has results of, and nothing else.

        Args:
            search: The sweep's search.
            description: The description of the ledger's sweep.
        """
        self._description = description
        self._orders = search.orders()
        self._queue.put(partial(self._offer_views, search.sweep.specification.recall_at))
        runs = [sweep_run(search, description, "RUNNING")]
        for row, order in zip(search.rows, self._orders, strict=True):
            records = row_records(search, row)
            if records:
                runs.append(configuration_run(search, row, order))
                runs += [cell_run(search, row, record) for record in records]
        self._queue.put(lambda: self._show_all(runs))
        self._queue.put(lambda: self._delete_others({run.key for run in runs}))
        report = kept_data(description.origin, self._storage).report
        if report is not None:
            self._queue.put(lambda: self._keep_report(report))

    def cell(self, search: Search, record: Record) -> None:
        """Show a finished cell, and bring configurations that it changes up to date.

        Where MLflow is so slow that very many cells wait for it, further ones are shown at the end.
        """
        if self._queue.qsize() > _MOST_QUEUED:
            self._unshown.add(record.signature)
            return
        for number in range(len(self._numbers), len(search.rows)):
            self._numbers[id(search.rows[number])] = number
        own = search.rows_of(record.signature)
        numbers, others = [self._numbers[id(row)] for row in own], self._reordered(search)
        for number in sorted({*numbers, *others}):
            row = search.rows[number]
            if number in numbers or row_records(search, row):
                self._put_runs([configuration_run(search, row, self._orders[number])])
        self._put_runs([cell_run(search, row, record) for row in own])

    def _reordered(self, search: Search) -> list[int]:
        """Numbers of the rows whose order has changed since they were shown.

        To look takes longer with more rows: it is done for a hundredth of the time at most. Until
        then a row keeps its order, and a new one is the last; what is shown at the end is exact.
        """
        shown, start = self._orders, time.monotonic()
        if start < self._reorder_at:
            last = -4.0 * (len(search.sweep.seeds) + 1)  # below all of `Search.orders`
            self._orders += [last] * (len(search.rows) - len(shown))
            return []
        self._orders = search.orders()
        now = time.monotonic()
        self._reorder_at = now + 100 * (now - start)
        return [
            number
            for number, order in enumerate(self._orders)
            if number >= len(shown) or order != shown[number]
        ]

    def end(self, search: Search, most_s: float | None = None) -> None:
        """Show how the sweep has ended, or that cells are left, and wait until all is written.

        Args:
            search: The sweep's search.
            most_s: Seconds to wait at most; None for as long as it takes.
        """
        matrix = search.matrix()
        runs = [
            configuration_run(search, row, order, shown)
            for row, order, shown in zip(search.rows, search.orders(), matrix.rows, strict=True)
            if row_records(search, row)
        ]
        self._put_runs(self._late_cells(search))
        assert self._description is not None  # a view is begun before it ends
        status: Status = "KILLED" if search.left() else "FINISHED"
        self._put_runs([*runs, sweep_run(search, self._description, status)])
        files = {MATRIX_FILE: matrix_figure(matrix), CELLS_FILE: cells_csv(search)}
        self._queue.put(lambda: self._keep(files))
        self._close(most_s)

    def _late_cells(self, search: Search) -> Iterator[ViewRun]:
        """Runs of the cells that were too many to queue, below those of their configurations."""
        ledger = Ledger(self._storage / SWEEPS / self._sweep_name)
        orders = dict(zip(map(digest, search.rows), search.orders(), strict=True))
        for signature in sorted(self._unshown):
            record = ledger.record(signature)
            if record is None:  # deleted meanwhile
                continue
            for row in search.rows_of(signature):
                yield configuration_run(search, row, orders[digest(row)])
                yield cell_run(search, row, record)
        self._unshown.clear()

    def report(
        self,
        name: str,
        tags: Mapping[str, str],
        metrics: Mapping[str, float],
        files: Sequence[UPath],
        tables: Mapping[str, Table] = MappingProxyType({}),
    ) -> None:
        """Keep a report beside the ledger, show it as a run below the sweep's, and wait for it.

        Args:
            name: Name of the run.
            tags: Tags of the run.
            metrics: Metrics of the run, as they are called here.
            files: Files to keep as artifacts.
            tables: Tables to keep as MLflow's own, which its page compares across runs; rows by
                name.

        Raises:
            UserError: The storage can't be read or written to.
        """
        contents = {f"{table}.json": table_file(rows) for table, rows in tables.items()}
        shown = json.dumps([{"path": file, "type": "table"} for file in contents])
        keys = metric_keys(metrics)
        report = Report(
            name=name,
            tags={**tags, TABLES: shown} if contents else tags,
            metrics={keys[metric]: value for metric, value in metrics.items()},
            files={**{file.name: read_whole(file) for file in files}, **contents},
        )
        keep_report(self._storage / SWEEPS / self._sweep_name, report)
        self.show_report(report)
        self._close()

    def show_report(self, report: Report) -> None:
        """Show a report as a run below the sweep's."""
        run = report_run(self._sweep_name, report)
        # By MLflow itself, which refuses names that it can't show.
        self._queue.put(lambda: self._show(run))
        self._queue.put(lambda: self._keep(report.files, run.key))

    def _close(self, most_s: float | None = None) -> None:
        self._is_ending.set()
        self._queue.put(None)
        self._thread.join(most_s)

    def _put_runs(self, runs: Iterable[ViewRun]) -> None:
        for run in runs:
            self._queue.put(run)

    def _tasks(self) -> Iterator[Callable[[], None]]:
        """What is queued, in order; the runs of a second are one task."""
        runs: list[ViewRun] = []
        while True:
            if runs and (self._queue.empty() or len(runs) >= _RUNS_AT_ONCE):
                yield partial(self._show_all, runs)
                runs = []
            task = self._queue.get()
            if isinstance(task, ViewRun):
                if not runs:
                    self._is_ending.wait(_GATHERING_S)
                runs.append(task)
                continue
            if runs:
                yield partial(self._show_all, runs)
                runs = []
            if task is None:
                return
            yield task

    def _write_all(self) -> None:
        """Do what is queued; after a failure nothing is tried any more."""
        for write in self._tasks():
            if self.failure:
                continue
            try:
                write()
            except Exception as error:  # whatever the server or database does, training continues
                self.failure = _reason(error)
                self.is_advised = isinstance(error, UserError)
                say(f"  MLflow can't be written ({self.failure}); all results are in the ledger")
                self._give_up()

    def _give_up(self) -> None:
        """End the runs that nothing will be written to any more, if that is possible.

        The next sweep, or the rebuilt view, continues them. MLflow itself is asked which there are:
        of what a refused batch was to make or to end, nothing has happened.
        """
        with suppress(Exception):
            self._find_runs()
            for known in self._runs.values():
                if known.status == "RUNNING":
                    self._client.set_terminated(known.run_id, "FAILED")

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

        # Importing mlflow sets its level; of what fails, it logs the traceback besides raising it,
        # and urllib3 warns of every request that is repeated.
        for name in ("mlflow", "alembic", "urllib3"):
            logging.getLogger(name).setLevel(logging.CRITICAL)

        prepare_database(self._uri, own=is_own())
        self._client = MlflowClient(self._uri)
        self._find_experiment()
        self._find_runs()
        self._place_artifacts()

    def _find_experiment(self) -> None:
        """Find the question's experiment, or make one; one deleted in MLflow's page returns."""
        experiment = self._client.get_experiment_by_name(self._question)
        if experiment is None:
            experiment = self._make_experiment()
        elif experiment.lifecycle_stage == "deleted":
            self._client.restore_experiment(experiment.experiment_id)
        self._experiment = experiment

    def _offer_views(self, recall_at: Sequence[int]) -> None:
        for name, tag in saved_views(recall_at).items():
            if self._experiment.tags.get(name) != tag:
                self._tag_experiment(name, tag)

    def _make_experiment(self) -> Experiment:
        """Make the question's experiment, unless another driver does at the same moment."""
        # A server may be elsewhere, and knows a place of its own.
        place = None if self._uri.startswith("http") else self._artifacts()
        try:
            return self._client.get_experiment(
                self._client.create_experiment(self._question, place)
            )
        except Exception:
            made = self._client.get_experiment_by_name(self._question)
            if made is None:
                raise
            return made

    def _tag_experiment(self, name: str, tag: str) -> None:
        """Tag the experiment, unless another driver does at the same moment."""
        experiment_id = self._experiment.experiment_id
        try:
            self._client.set_experiment_tag(experiment_id, name, tag)
        except Exception:
            if self._client.get_experiment(experiment_id).tags.get(name) != tag:
                raise

    def _artifacts(self, run_id: str | None = None) -> str:
        """Where artifacts are kept, of all runs or of one, where the storage is now."""
        place = (home(self._storage) / ARTIFACTS).as_uri()
        return place if run_id is None else f"{place}/{run_id}/artifacts"

    def _place_artifacts(self) -> None:
        """Let artifacts be where the storage is now: it may have been moved or copied."""
        if not is_database(self._uri):
            return
        experiment, place = self._experiment, self._artifacts()
        if is_own() and is_another_place(experiment.artifact_location, place):
            place_experiment(self._uri, experiment.experiment_id, place)
        default = self._client.get_experiment_by_name(_DEFAULT)
        if is_own() and default is not None and default.artifact_location != place:
            place_experiment(self._uri, default.experiment_id, place)
        self._place_runs(self._runs.values())

    def _place_runs(self, runs: Iterable[_Known]) -> None:
        elsewhere = [
            known
            for known in runs
            if is_another_place(known.artifacts, self._artifacts(known.run_id))
        ]
        for known in elsewhere:
            known.artifacts = self._artifacts(known.run_id)
        place_runs(self._uri, {known.run_id: known.artifacts for known in elsewhere})

    def _find_runs(self) -> None:
        self._runs.clear()  # an earlier try may have found some
        again: list[str] = []  # made twice, by a request that was repeated
        token = None
        while True:
            # In quotes, a quote can't be written: "_" stands for any character.
            pattern = self._sweep_name.replace("'", "_")
            page = self._client.search_runs(
                [self._experiment.experiment_id],
                f"tags.`{SWEEP}` LIKE '{pattern}'",
                max_results=_PAGE_RUNS,
                page_token=token,
            )
            for run in page:
                key = run.data.tags.get(KEY)
                if key is None or run.data.tags[SWEEP] != self._sweep_name:
                    continue
                if key in self._runs:
                    again.append(run.info.run_id)
                else:
                    self._runs[key] = _Known.of(run)
            token = page.token
            if not token:
                break
        for run_id in again:  # the next page begins after as many runs as those before had
            self._client.delete_run(run_id)

    def _show_all(self, runs: Iterable[ViewRun]) -> None:
        """Show many runs, each as the last of its key says; in a database in few transactions."""
        latest = list({run.key: run for run in runs}.values())
        if not is_database(self._uri):
            for run in latest:
                self._show(run)
            return
        for first in range(0, len(latest), _RUNS_AT_ONCE):
            self._batch = DatabaseBatch(self._uri, self._experiment)
            for run in latest[first : first + _RUNS_AT_ONCE]:
                self._show(run)
            batch, self._batch = self._batch, None
            batch.write()

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
            self._set_status(known, run.status, run.end)

    def _create(self, run: ViewRun, tags: Mapping[str, str]) -> _Known:
        start = run.start
        if run.place is not None and run.parent is not None:
            start = self._runs[run.parent].start + run.place
        if self._batch is not None:
            start, place = start or _now(), self._artifacts_of_new()
            run_id = self._batch.create_run(start, tags, place)
            known = _Known(run_id, "RUNNING", start, place.format(run_id), {}, dict(tags), {})
            self._runs[run.key] = known
            return known
        made = self._client.create_run(self._experiment.experiment_id, start, dict(tags))
        known = self._runs[run.key] = _Known.of(made)
        if is_database(self._uri):
            self._place_runs([known])  # another storage may share the experiment
        return known

    def _artifacts_of_new(self) -> str:
        """Where the artifacts of a new run are, with "{}" in place of its identifier."""
        from mlflow.utils.uri import append_to_uri_path

        place, own = self._experiment.artifact_location, self._artifacts("{}")
        place = append_to_uri_path(place, "RUN", "artifacts").replace("{", "{{").replace("}", "}}")
        place = place.replace("/RUN/artifacts", "/{}/artifacts")
        # Another storage may share the experiment.
        return own if is_another_place(place, own) else place

    def _update(
        self, known: _Known, run: ViewRun, tags: Mapping[str, str], curves: Sequence[Point] = ()
    ) -> None:
        """Write what MLflow lacks, in one request if it is not more than it takes."""
        params = {
            name: str(value) for name, value in run.params.items() if name not in known.params
        }
        changed = {name: tag for name, tag in tags.items() if known.tags.get(name) != tag}
        values = {m: value for m, value in run.metrics.items() if known.metrics.get(m) != value}
        at, now = run.end or _now(), _now()
        metrics = [(metric, value, at, epoch) for metric, value, epoch in curves]
        # Of several values without a step MLflow shows the one that was written last.
        metrics += [(metric, value, now, 0) for metric, value in values.items()]
        if self._batch is not None:
            self._batch.log(known.run_id, metrics, params, changed)
        else:
            self._log(known.run_id, metrics, params, changed)
        known.params |= params
        known.tags |= changed
        known.metrics |= values

    def _log(
        self,
        run_id: str,
        metrics: Iterable[Measured],
        params: Mapping[str, str],
        tags: Mapping[str, str],
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        self._client.log_batch(
            run_id,
            [Metric(*metric) for metric in metrics],
            [Param(*param) for param in params.items()],
            [RunTag(*tag) for tag in tags.items()],
        )

    def _set_status(self, known: _Known, status: Status, end: int | None) -> None:
        if self._batch is not None:
            ended = None if status == "RUNNING" else end or _now()
            self._batch.set_status(known.run_id, status, ended)
        elif status == "RUNNING":
            self._client.update_run(known.run_id, "RUNNING")
        else:
            self._client.set_terminated(known.run_id, status, end)
        known.status = status

    def _delete(self, key: str) -> None:
        self._client.delete_run(self._runs.pop(key).run_id)

    def _delete_others(self, keys: set[str]) -> None:
        """Delete configurations and cells that the sweep no longer has, or not with a result."""
        for key, known in list(self._runs.items()):
            if key not in keys and known.tags.get(LEVEL) in ("configuration", "seed"):
                self._delete(key)

    def _keep_report(self, path: UPath) -> None:
        if exists(path):
            self._keep({path.name: read_whole(path)})

    def _keep(self, files: Mapping[str, bytes], key: str | None = None) -> None:
        """Keep files as artifacts of a run, the sweep's if none is named, in place of earlier ones.

        Runs are shown even if their files can't be kept.
        """
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        known = self._runs[key or self._sweep_name]
        try:
            # Not the client's own way, which remembers where the artifacts of a run were.
            artifacts = get_artifact_repository(known.artifacts, tracking_uri=self._uri)
            with scratch_folder() as folder:
                for name, content in files.items():
                    path = folder / name
                    path.write_bytes(content)
                    try:
                        artifacts.log_artifact(str(path))
                    except Exception:
                        with suppress(Exception):  # none is better than half of one
                            artifacts.delete_artifacts(name)
                        raise
        except Exception as error:  # whatever the artifact store's client library raises
            self._client.get_run(known.run_id)  # fails where MLflow itself can't be reached
            say(f"  MLflow can't keep {', '.join(files)} ({_reason(error)})")


@dataclass
class _Known:
    """What MLflow holds of a run."""

    run_id: str
    status: str
    start: int
    artifacts: str
    params: dict[str, str]
    tags: dict[str, str]
    metrics: dict[str, float]

    @classmethod
    def of(cls, run: Run) -> _Known:
        info, data = run.info, run.data
        known = dict(data.params), dict(data.tags), dict(data.metrics)
        return cls(info.run_id, info.status, info.start_time, info.artifact_uri, *known)

    def is_of_another_record(self, tags: Mapping[str, str]) -> bool:
        """Whether it is half written, or of a record or report that has been replaced since."""
        if FINISHED_AT not in tags:  # a run that grows with the sweep
            return False
        return self.status == "RUNNING" or self.tags.get(FINISHED_AT) != tags[FINISHED_AT]


def rebuild(storage: UPath, ledger: Ledger) -> None:
    """Bring the view of a sweep up to date with its ledger, or make it again.

    A damaged report is named, and left out.

    Raises:
        UserError: The ledger is damaged, a driver works on the sweep, or MLflow fails.
    """
    with sole_driver(ledger.folder):
        search = _as_it_ended(ledger)
        description = ledger.description()
        reports, damaged = kept_reports(ledger.folder)
        for line in damaged:
            say(f"  Left out: {line}")
        tracker = Tracker(storage, search.sweep.question, search.sweep.name)
        tracker.start(search, description)
        for report in reports:
            tracker.show_report(report)
        tracker.end(search)
    if tracker.is_advised:
        raise UserError(f"MLflow can't be written: {tracker.failure}.")
    if tracker.failure:
        database = home(storage) / DATABASE
        advice = f"If {database} is damaged, delete it: it is made again from the ledger."
        if not is_own():
            advice = "Check MLFLOW_TRACKING_URI."
        raise UserError(f"MLflow can't be written ({tracker.failure}). {advice}")


def _as_it_ended(ledger: Ledger) -> Search:
    """The search when its last driver ended: a failed cell counts, not yet to be tried again."""
    description = ledger.description()
    versions = description.code_digest, description.kept_versions
    records = counting(ledger.records(), *versions)
    done = {signature: record for signature, record in records.items() if record.done}
    search = Search(description.sweep, POLICIES[description.policy], description.rows, done)
    for record in records.values():
        if not record.done:
            search.finish(record)
    return search


def _reason(error: BaseException) -> str:
    """What an error began with: libraries wrap a refused connection several times over."""
    if isinstance(error, UserError):
        return str(error).rstrip(".")
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
