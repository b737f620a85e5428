"""Reports that MLflow shows below a sweep, kept beside its ledger so that the view can be rebuilt.

SWEEP/reports/NAME.zip    about.json (tags, metrics, time) and the files of the report
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

from upath import UPath

from ssense.errors import one_line, printable
from ssense.files.storage import names_in, read_many, write_whole

FOLDER = "reports"
LEVEL = "ssense.level"
"""Name of the tag that says what a run in MLflow is of."""
TEST_EVALUATION = "test evaluation"
"""What the tag says of the evaluation of test splits; the tag "look" numbers it."""
_ABOUT = "about.json"
_FILES = "files/"
_SUFFIX = ".zip"

Table = Sequence[Mapping[str, object]]
"""Rows of values by column; all rows have the columns of the first."""


def _now() -> str:
    return datetime.now(UTC).isoformat()


@dataclass(frozen=True, kw_only=True)
class Report:
    """A run in MLflow below that of a sweep.

    Attributes:
        name: Name of the run, unlike all others of the sweep's reports.
        tags: Tags of the run.
        metrics: Metrics of the run, by MLflow's names.
        files: Its artifacts by name.
        written_at: ISO 8601, to the microsecond: it tells apart two reports of one name.
    """

    name: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    files: Mapping[str, bytes]
    written_at: str = field(default_factory=_now)


def keep_report(folder: UPath, report: Report) -> None:
    """Keep a report, in place of an earlier one of its name.

    Args:
        folder: Folder of the sweep.
        report: Report to keep.

    Raises:
        UserError: The storage can't be written to.
    """
    about = {name: value for name, value in asdict(report).items() if name != "files"}
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_ABOUT, json.dumps(about, indent=1))
        for name, file in report.files.items():
            archive.writestr(_FILES + name, file)
    write_whole(folder / FOLDER / f"{report.name}{_SUFFIX}", content.getvalue())


def kept_reports(folder: UPath) -> tuple[list[Report], list[str]]:
    """Read the reports of a sweep, in the order of their names.

    Args:
        folder: Folder of the sweep.

    Returns:
        The reports that can be read, and a line on each that is damaged.

    Raises:
        UserError: The storage can't be read.
    """
    names = [name for name in names_in(folder / FOLDER) if name.endswith(_SUFFIX)]
    paths = [folder / FOLDER / name for name in sorted(names)]
    reports, damaged = [], []
    for path, content in zip(paths, read_many(paths), strict=True):
        try:
            reports.append(_parsed(content))
        except Exception as error:  # whatever zipfile, its decompressors and JSON raise
            damaged.append(
                f"{path} is damaged ({one_line(error)}). Delete it: MLflow then lacks this "
                "report; its tables and figures are kept elsewhere."
            )
    return reports, damaged


def _parsed(content: bytes) -> Report:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {
            _plain_name(name.removeprefix(_FILES)): archive.read(name)
            for name in archive.namelist()
            if name.startswith(_FILES)
        }
        about = json.loads(archive.read(_ABOUT))
    if not isinstance(about, dict):
        raise TypeError(f"{_ABOUT} is not an object")
    for name in ("name", "written_at"):
        _check(name, about.get(name), str)
    values: dict[str, type | tuple[type, ...]] = {"tags": str, "metrics": (int, float)}
    for name, kinds in values.items():
        _check(name, about.get(name), dict)
        for key, value in about[name].items():
            _check(f"{name}: {key}", value, kinds)
    datetime.fromisoformat(about["written_at"]).timestamp()
    metrics = {key: float(value) for key, value in about["metrics"].items()}
    return Report(**{**about, "metrics": metrics}, files=files)


def _plain_name(name: str) -> str:
    """The name of a file of a report, if it is one: with a folder it could lead elsewhere."""
    if name in ("", ".", "..") or "/" in name or "\\" in name:
        raise ValueError(f"it holds a file named {printable(name)!r}")
    return name


def _check(name: str, value: object, kinds: type | tuple[type, ...]) -> None:
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise TypeError(f"{name} is {printable(repr(value))}")


def table_file(rows: Table) -> bytes:
    """Write a table as MLflow's page compares them across runs: JSON of columns and rows."""
    columns = list(rows[0])
    values = [[_known(row[column]) for column in columns] for row in rows]
    table = {"columns": columns, "data": values}
    return json.dumps(table, default=_plain, separators=(",", ":"), ensure_ascii=False).encode()


def table_rows(content: bytes) -> list[dict[str, object]]:
    """Read a table that `table_file` wrote.

    Raises:
        ValueError: It is no such table.
    """
    table = json.loads(content.decode())
    try:
        columns, rows = table["columns"], table["data"]
        return [dict(zip(columns, row, strict=True)) for row in rows]
    except (KeyError, TypeError) as error:
        raise ValueError(f"it is no table ({one_line(error)})") from error


def _known(value: object) -> object:
    """A value as JSON knows it, which has no NaN."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _plain(value: object) -> object:
    """A number of NumPy's as one of Python's."""
    return value.item() if hasattr(value, "item") else str(value)
