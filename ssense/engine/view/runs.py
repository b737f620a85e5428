"""MLflow's view of a sweep as plain values: runs of the sweep, configurations and cells.

All of it is made from the search and the ledger's description, so a view that grew with the sweep
and one that was rebuilt later are the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from itertools import count
from statistics import fmean, stdev
from typing import Any, Literal, NamedTuple

from ssense.engine.core.cell import Cell, describe, label
from ssense.engine.core.matrix import Matrix, MatrixRow, mean_and_sd, standing
from ssense.engine.core.record import Record
from ssense.engine.core.sweep import Row
from ssense.engine.records.description import Description
from ssense.engine.records.provenance import code_versions
from ssense.engine.records.reports import LEVEL, Report
from ssense.engine.search.search import Search
from ssense.files.digest import digest
from ssense.files.markdown import markdown_table
from ssense.retrieval import metric_title
from ssense.specification import settings
from ssense.training.loop import SELECTION_METRIC, SELECTION_RANK, validation_metrics

FINISHED_AT = "finished"
MATRIX_FILE = "matrix.png"

ORDER = "best_first"
"""Metric of a configuration by which MLflow's page sorts, see `Search.orders`."""

# MLflow's page shows this tag as the description.
NOTE = "mlflow.note.content"

# A view that MLflow's page offers under "Views" is a tag of the experiment.
_SAVED_VIEW = "mlflow.sharedViewState."
_NAME_PIXELS = 330

_MOST_ROWS = 10_000
_VERSION_CHARACTERS = 8
_COMMIT_CHARACTERS = 7

# MLflow refuses the name of a metric that has other characters, is longer, or is not a plain path.
_REFUSED = re.compile(r"[^\w.\-: ]+")
_KEY_CHARACTERS = 250
_METRIC_CHARACTERS = 100

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]
"""MLflow's status of a run; killed is one of cells that are still to be trained."""


class Point(NamedTuple):
    """A value of a metric at one epoch."""

    metric: str
    value: float
    epoch: int


@dataclass(frozen=True, kw_only=True)
class ViewRun:
    """One run of the view.

    Attributes:
        key: Key that tells the run from all others of the sweep.
        name: Name as shown.
        parent: Key of the run that this one is shown below; None for the sweep's own.
        tags: Tags to set; others that are there stay.
        params: Parameters, set once; MLflow lets nobody change them.
        metrics: Latest values, by MLflow's names.
        curves: Values by epoch, of a cell.
        status: Status to set; None leaves it, and a new run is running.
        start, end: Start and end, milliseconds since 1970; None for now.
        place: Start in milliseconds after the parent's, instead of `start`: MLflow's tree is in
            order of these.
    """

    key: str
    name: str
    parent: str | None
    tags: Mapping[str, str]
    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    curves: Sequence[Point] = ()
    status: Status | None = None
    start: int | None = None
    end: int | None = None
    place: int | None = None


@cache
def metric_key(name: str, number: int = 1) -> str:
    """Spell the name of a metric, or a path of names, as MLflow allows.

    "time + space/recall@10" becomes "time and space/recall_at_10".

    Args:
        name: Name of the metric as it is called here.
        number: Tells apart names that would be spelt alike, from 2 on.
    """
    spelt = name.replace("@", "_at_").replace(" + ", " and ").replace("+", " plus ")
    words = (" ".join(_REFUSED.sub(" ", part).split()) for part in spelt.split("/"))
    # Dots at the beginning could lead up the path.
    *parts, last = [part for each in words if (part := each.strip(" ."))] or ["_"]
    last = last[:_METRIC_CHARACTERS]
    again = f" {number}" if number > 1 else ""
    if not parts:
        return last + again
    tail = f"{again}/{last}"
    return "/".join(parts)[: _KEY_CHARACTERS - len(tail)].rstrip(" ./") + tail


def metric_keys(names: Iterable[str]) -> dict[str, str]:
    """Spell names of metrics as MLflow allows, each unlike all others, whatever their case."""
    keys: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        spellings = (metric_key(name, number) for number in count(1))
        keys[name] = next(key for key in spellings if key.casefold() not in taken)
        taken.add(keys[name].casefold())
    return keys


def saved_views(recall_at: Sequence[int]) -> dict[str, str]:
    """Ways to look at the runs that MLflow's page is to offer, as tags of the experiment.

    The tree needs the order of start; of a page of 100 runs it then holds all configurations.

    Args:
        recall_at: Ranks of recall that the sweep's task reports.
    """
    chosen_by = metric_key(SELECTION_METRIC)
    others = (metric_key(f"recall@{rank}") for rank in recall_at if rank != SELECTION_RANK)
    columns = chosen_by, f"{chosen_by}_sd", "n", *others, "mrr"
    by_start = {"orderByKey": "attributes.start_time", "orderByAsc": True}
    best_first = {
        "searchFilter": f"tags.`{LEVEL}` = 'configuration'",
        "orderByKey": f"metrics.`{ORDER}`",
        "orderByAsc": False,
    }
    return {
        f"{_SAVED_VIEW}tree": _saved_view("Tree", columns, by_start),
        f"{_SAVED_VIEW}best": _saved_view("Configurations, best first", columns, best_first),
    }


def _saved_view(name: str, metrics: Sequence[str], state: Mapping[str, Any]) -> str:
    columns = [*(f"metrics.`{metric}`" for metric in metrics), "tags.`standing`"]
    run_name = "attributes.`Run Name`"
    state = {
        **state,
        "selectedColumns": columns,
        "columnOrder": [run_name, *columns],
        "columnWidths": {run_name: _NAME_PIXELS},
    }
    return json.dumps({"name": name, "createdAt": 0, "updatedAt": 0, "state": json.dumps(state)})


def sweep_run(search: Search, description: Description, status: Status | None) -> ViewRun:
    """The run of a sweep, as far as it has come.

    Args:
        search: The sweep's search.
        description: The description of the ledger's sweep.
        status: Status to show.
    """
    sweep, origin, matrix = search.sweep, description.origin, search.matrix()
    records = [record for row in search.rows for record in row_records(search, row)]
    versions = sorted(version.name for version in code_versions(records))
    tags = {
        LEVEL: "sweep",
        "seeds": " ".join(map(str, sweep.seeds)),
        "configurations": str(sweep.configurations),
        "policy": description.policy,
        "code": " ".join(versions),
        "digest": sweep.dataset_digest,
        "subject": origin.subject,
        "title": origin.title,
        "tower": origin.tower,
        NOTE: note(matrix, description),
    }
    return ViewRun(
        key=sweep.name,
        name=sweep.name,
        parent=None,
        tags=tags,
        params={"metric": SELECTION_METRIC, **settings(sweep.specification)},
        status=status,
        start=min(map(_started, records), default=None),
        end=max(map(_finished, records), default=None),
    )


def configuration_run(
    search: Search, row: Row, order: float, ended: MatrixRow | None = None
) -> ViewRun:
    """The run of a configuration: mean and sd of every metric over the seeds done so far.

    Args:
        search: The sweep's search.
        row: The configuration.
        order: Its place among all others: the one of `Search.orders`.
        ended: How the configuration stands at the end of the sweep.
    """
    tags = {**_labels(row), LEVEL: "configuration"}
    if ended is not None:
        tags["standing"] = standing(ended)
    records = row_records(search, row)
    done = [record for record in records if record.done]
    return ViewRun(
        key=_configuration_key(search, row),
        name=label(row.family, row.configuration),
        parent=search.sweep.name,
        # "all" keeps these means apart from the seeds where the UI groups by seed.
        tags={**tags, "seed": "all"},
        params={"family": row.family, **row.configuration},
        metrics=(_means(done) if done else {}) | {ORDER: order},
        status=None if ended is None else _status(ended),
        place=_place(search, row),
        end=max(map(_finished, records), default=None),
    )


def cell_run(search: Search, row: Row, record: Record) -> ViewRun:
    """The run of a finished cell: curves by epoch, and the best epoch's values as its metrics."""
    tags = {**_labels(row), LEVEL: "seed", "seed": str(record.seed), "reason": record.reason}
    tags |= {FINISHED_AT: record.finished_at, **provenance_tags(record)}
    return ViewRun(
        key=f"{row.family}/{record.signature}",
        name=f"seed {record.seed}",
        parent=_configuration_key(search, row),
        tags={name: value for name, value in tags.items() if value},
        params={"seed": record.seed, "family": row.family, **row.configuration},
        metrics=_result(record) if record.done else {},
        curves=[
            Point(f"epoch/{metric_key(name)}", value, int(epoch["epoch"]))
            for epoch in record.history
            for name, value in epoch.items()
            if name != "epoch"
        ],
        status="FINISHED" if record.done else "FAILED",
        start=_started(record),
        end=_finished(record),
    )


def report_run(sweep: str, report: Report) -> ViewRun:
    """The run of a report on a sweep.

    Args:
        sweep: Its name.
        report: Report to show.
    """
    at = _milliseconds(report.written_at)
    return ViewRun(
        key=f"{sweep}/{report.name}",
        name=report.name,
        parent=sweep,
        tags={**report.tags, FINISHED_AT: report.written_at},
        metrics=report.metrics,
        status="FINISHED",
        start=at,
        end=at,
    )


def provenance_tags(record: Record) -> dict[str, str]:
    """What made a cell; a value that its record does not know is empty."""
    return {
        "code": record.code_digest[:_VERSION_CHARACTERS],
        "commit": record.commit[:_COMMIT_CHARACTERS],
        "dirty": str(record.dirty).lower() if record.commit else "",
        "device": record.device,
        "versions": ", ".join(f"{name} {number}" for name, number in record.versions.items()),
        "split": record.split_digest,
        "requirements": record.requirements_digest,
    }


def note(matrix: Matrix, description: Description) -> str:
    """What a sweep is and who leads, in Markdown."""
    origin, counts = description.origin, matrix.counts()
    cells = ", ".join(f"{n} {state}" for state, n in counts.items() if n)
    n_rows, n_families, n_seeds = len(matrix.rows), len(matrix.families), len(matrix.seeds)
    score = f"validation {metric_title(matrix.metric)}, %"
    leaders = [
        {
            "family": family,
            "leader": row.name,
            "seeds": f"{row.n_done} of {len(row.states)}",
            score: mean_and_sd(row),
        }
        for family, row in matrix.leaders.items()
    ]
    words = (
        f"{n_rows} configuration{'s' * (n_rows != 1)} in {n_families} "
        f"famil{'y' if n_families == 1 else 'ies'} x {n_seeds} seed{'s' * (n_seeds != 1)} "
        f"({' '.join(map(str, matrix.seeds))}) on {origin.subject}, "
        f"{origin.title}. Target: {origin.tower}. Seeds are spent by the policy "
        f"`{description.policy}`. Cells: {cells}; all of them are in `{MATRIX_FILE}`, under "
        "Artifacts."
    )
    return f"{markdown_table(leaders)}\n{words}" if leaders else words


def row_records(search: Search, row: Row) -> list[Record]:
    """Records of a configuration's cells, done and failed, in the order of the seeds."""
    cells = (Cell(row.configuration, seed) for seed in search.sweep.seeds)
    return [record for record in map(search.record, cells) if record is not None]


def _status(ended: MatrixRow) -> Status:
    """The status of a configuration at the end of a call of the sweep."""
    return "KILLED" if {"waiting", "running"} & {*ended.states} else "FINISHED"


def _labels(row: Row) -> dict[str, str]:
    return {"family": row.family, "configuration": describe(row.configuration)}


def _configuration_key(search: Search, row: Row) -> str:
    return f"{search.sweep.name}/{digest(row)}"


def _place(search: Search, row: Row) -> int:
    """A number unlike that of any other row: family by family, and in order of proposal."""
    family = [family.name for family in search.sweep.families].index(row.family)
    # By identity: to compare thousands of configurations would take milliseconds.
    same = (number for number, other in enumerate(search.rows) if other is row)
    number = next(same, None)
    return 1 + family * _MOST_ROWS + (search.rows.index(row) if number is None else number)


def _means(done: Sequence[Record]) -> dict[str, float]:
    values = {"n": float(len(done))}
    for name in validation_metrics(done[0].best):
        scores = [record.best[name] for record in done]
        values[metric_key(name)] = fmean(scores)
        values[f"{metric_key(name)}_sd"] = stdev(scores) if len(done) > 1 else 0.0
    return values


def _result(record: Record) -> dict[str, float]:
    best = {metric_key(name): score for name, score in validation_metrics(record.best).items()}
    return best | {"best_epoch": record.best_epoch, "training_s": record.timings["training"]}


def _started(record: Record) -> int:
    return _finished(record) - round(1000 * record.timings.get("training", 0))


def _finished(record: Record) -> int:
    return _milliseconds(record.finished_at)


def _milliseconds(time: str) -> int:
    """Milliseconds since 1970 of a time in ISO 8601."""
    return int(datetime.fromisoformat(time).timestamp() * 1000)
