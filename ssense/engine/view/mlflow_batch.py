"""Many changes of MLflow's runs in one transaction of its database.

MLflow's own interface takes several transactions for each run, 25 ms and more for one that is new.
Its tables are written here as it would write them: those of `mlflow.store.tracking.dbmodels`, whose
schema `mlflow_database` has compared with that of the installed version.
"""

from __future__ import annotations

import math
import sys
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow.entities import Experiment
    from sqlalchemy import Connection, Table

    from ssense.engine.view.runs import Status

Measured = tuple[str, float, int, int]
"""A metric's name, its value, when it was written (milliseconds since 1970), and the step."""

Row = dict[str, Any]

_MOST_CHARACTERS = 8000  # of a tag's or parameter's value, in MLflow's tables
_NAME, _USER = "mlflow.runName", "mlflow.user"


class DatabaseBatch:
    """Changes of runs that are gathered, and then written all or none."""

    def __init__(self, uri: str, experiment: Experiment) -> None:
        """Begin without changes.

        Args:
            uri: Address of the database.
            experiment: Experiment of the runs.
        """
        self._uri = uri
        self._experiment = experiment
        self._made: dict[str, Row] = {}  # by run, as the next
        self._changed: dict[str, Row] = {}
        self._values: dict[str, dict[tuple[Any, ...], Row]] = {}  # by table and key

    def create_run(self, start: int, tags: Mapping[str, str], place: str) -> str:
        """Add a running run; return MLflow's identifier of it.

        Args:
            start: When it began, milliseconds since 1970.
            tags: Its tags.
            place: Address of its artifacts, with the place of the identifier as "{}".
        """
        run_id = uuid.uuid4().hex
        self._made[run_id] = {
            "run_uuid": run_id,
            "name": tags[_NAME],
            "source_type": "UNKNOWN",
            "source_name": "",
            "entry_point_name": "",
            "user_id": tags.get(_USER, "unknown"),
            "status": "RUNNING",
            "start_time": start,
            "end_time": None,
            "deleted_time": None,
            "source_version": "",
            "lifecycle_stage": "active",
            "artifact_uri": place.format(run_id),
            "experiment_id": int(self._experiment.experiment_id),
        }
        self.log(run_id, (), {}, tags)
        return run_id

    def log(
        self,
        run_id: str,
        metrics: Iterable[Measured],
        params: Mapping[str, str],
        tags: Mapping[str, str],
    ) -> None:
        """Add metrics, parameters and tags to a run."""
        for name, value in params.items():
            self._put("params", run_id, {"key": name, "value": value[:_MOST_CHARACTERS]})
        for name, value in tags.items():
            self._put("tags", run_id, {"key": name, "value": value[:_MOST_CHARACTERS]})
        if _NAME in tags:
            self._change(run_id, name=tags[_NAME])
        latest: dict[str, Row] = {}
        history = self._values.setdefault("metrics", {})
        for metric, number, at, step in metrics:
            row: Row = {"run_uuid": run_id, "key": metric, "timestamp": at, "step": step}
            row |= {"value": _finite(number), "is_nan": math.isnan(number)}
            history[tuple(row.values())] = row
            if metric not in latest or _age(latest[metric]) < _age(row):
                latest[metric] = row
        for row in latest.values():
            self._put("latest_metrics", run_id, row)

    def set_status(self, run_id: str, status: Status, end: int | None) -> None:
        """Set the status of a run, and when it ended."""
        times = {} if end is None else {"end_time": end}
        self._change(run_id, status=status, **times)

    def write(self) -> None:
        """Write all changes in one transaction."""
        from mlflow.store.db.base_sql_model import Base
        from mlflow.store.db.utils import create_sqlalchemy_engine
        from mlflow.store.tracking.dbmodels import models  # noqa: F401 - they name its tables

        engine = create_sqlalchemy_engine(self._uri)
        try:
            with engine.begin() as connection:
                tables = Base.metadata.tables
                _insert(connection, tables["runs"], list(self._made.values()))
                for run_id, changes in self._changed.items():
                    runs = tables["runs"]
                    where = runs.c.run_uuid == run_id
                    connection.execute(runs.update().where(where).values(changes))
                for name, rows in self._values.items():
                    self._replace(connection, tables[name], list(rows.values()))
        finally:
            engine.dispose()

    def _change(self, run_id: str, **changes: Any) -> None:
        made = self._made.get(run_id)
        (self._changed.setdefault(run_id, {}) if made is None else made).update(changes)

    def _put(self, table: str, run_id: str, row: Row) -> None:
        """Put a row into a table; a later one of the same key takes its place."""
        self._values.setdefault(table, {})[run_id, row["key"]] = {**row, "run_uuid": run_id}

    def _replace(self, connection: Connection, table: Table, rows: Sequence[Row]) -> None:
        """Insert rows, in place of those of the same key; runs made here have none."""
        known = [row for row in rows if row["run_uuid"] not in self._made]
        keys = [column.name for column in table.primary_key]
        if known:
            from sqlalchemy import and_, bindparam

            same = and_(*(table.c[name] == bindparam(f"old_{name}") for name in keys))
            found = [{f"old_{name}": row[name] for name in keys} for row in known]
            connection.execute(table.delete().where(same), found)
        _insert(connection, table, rows)


def _insert(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    if rows:
        connection.execute(table.insert(), rows)


def _finite(value: float) -> float:
    """A value as MLflow's tables take it, which have a column for NaN and know no infinity."""
    if math.isnan(value):
        return 0.0
    return min(max(value, -sys.float_info.max), sys.float_info.max)


def _age(row: Row) -> tuple[int, int, float]:
    """What MLflow tells the latest value of a metric by."""
    return row["step"], row["timestamp"], row["value"]
