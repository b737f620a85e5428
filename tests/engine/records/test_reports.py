from __future__ import annotations

import json
import math
import re
import zipfile

import numpy as np
import pytest
from upath import UPath

from ssense.engine.records.reports import Report, keep_report, kept_reports, table_file


def report(name: str = "controls", **changes) -> Report:
    known = {
        "tags": {"look": "1"},
        "metrics": {"a/mrr": 0.1},
        "files": {"table.md": b"| \xc3\xa9 |", "figure.png": bytes(range(256))},
    }
    return Report(name=name, written_at="2026-01-01T00:00:00+00:00", **(known | changes))


def test_reports_come_back_as_they_were_kept_and_the_last_of_a_name_stays(tmp_path):
    folder = UPath(tmp_path)
    assert kept_reports(folder) == ([], [])
    for kept in (report(), report("test evaluation 1", files={}), report(metrics={})):
        keep_report(folder, kept)
    known = [report(metrics={}), report("test evaluation 1", files={})]
    assert kept_reports(folder) == (known, [])


def test_what_is_not_finite_comes_back(tmp_path):
    keep_report(UPath(tmp_path), report(metrics={"a": math.inf, "b": math.nan}))
    (kept,), _ = kept_reports(UPath(tmp_path))
    assert kept.metrics["a"] == math.inf
    assert math.isnan(kept.metrics["b"])


def with_method(content: bytes, method: int) -> bytes:
    """The archive as if its files were compressed in another way."""
    for signature, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        content = re.sub(
            re.escape(signature) + b".{%d}" % (place - 4) + b"(..)",
            lambda found: found[0][:-2] + method.to_bytes(2, "little"),
            content,
            flags=re.DOTALL,
        )
    return content


@pytest.mark.parametrize(
    "damage",
    [
        lambda c: c[:-5],
        lambda _: b"",
        lambda _: b"[]",
        lambda c: c.replace(c[45:60], b"\xff" * 15, 1),  # of the first file's own bytes
        lambda c: with_method(c, 99),
        lambda c: with_method(c, 14),
    ],
)
def test_a_damaged_one_is_named_and_the_others_are_read(tmp_path, damage):
    keep_report(UPath(tmp_path), report())
    keep_report(UPath(tmp_path), report("other"))
    path = tmp_path / "reports" / "controls.zip"
    path.write_bytes(damage(path.read_bytes()))
    reports, (line,) = kept_reports(UPath(tmp_path))
    assert reports == [report("other")]
    assert line.startswith(f"{path} is damaged (")
    assert "\n" not in line


@pytest.mark.parametrize("name", ["../../evil", "/tmp/evil", "..", "a/b", "", "a\\b"])
def test_a_file_that_would_lie_elsewhere_is_damage(tmp_path, name):
    keep_report(UPath(tmp_path), report(files={name: b"evil"}))
    reports, (line,) = kept_reports(UPath(tmp_path))
    assert reports == []
    assert f"is damaged (it holds a file named {name!r}). Delete it" in line


@pytest.mark.parametrize(
    "change",
    [
        {"name": 3},
        {"tags": ["a"]},
        {"tags": {"a": 1}},
        {"metrics": {"a": "0.1"}},
        {"metrics": {"a": True}},
        {"metrics": {"a": 10**400}},
        {"metrics": None},
        {"written_at": "yesterday"},
        {"written_at": 5},
        {"files": {}},
    ],
    ids=str,
)
def test_fields_of_other_types_are_damage(tmp_path, change):
    known = {"name": "controls", "tags": {}, "metrics": {}, "written_at": "2026-01-01"}
    (tmp_path / "reports").mkdir()
    path = tmp_path / "reports" / "controls.zip"
    for about, n_damaged in ((known, 0), (known | change, 1)):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("about.json", json.dumps(about))
        reports, damaged = kept_reports(UPath(tmp_path))
        assert (len(reports), len(damaged)) == (1 - n_damaged, n_damaged)


def test_a_table_is_json_that_browsers_read():
    rows = [{"seed": np.int64(3), "mrr": np.float64(0.25)}, {"seed": 4, "mrr": math.nan}]
    assert table_file(rows) == b'{"columns":["seed","mrr"],"data":[[3,0.25],[4,null]]}'
    assert json.loads(table_file([{"family": "é"}]))["data"] == [["é"]]
