from __future__ import annotations

import json
import math

import numpy as np
import pytest
from upath import UPath

from ssense.errors import UserError
from sweeps.engine.reports import Report, keep_report, kept_reports, table_file


def report(name: str = "controls", **changes) -> Report:
    known = {
        "tags": {"look": "1"},
        "metrics": {"a/mrr": 0.1},
        "files": {"table.md": b"| \xc3\xa9 |", "figure.png": bytes(range(256))},
    }
    return Report(name=name, written_at="2026-01-01T00:00:00+00:00", **(known | changes))


def test_reports_come_back_as_they_were_kept_and_the_last_of_a_name_stays(tmp_path):
    folder = UPath(tmp_path)
    assert kept_reports(folder) == []
    for kept in (report(), report("test evaluation 1", files={}), report(metrics={})):
        keep_report(folder, kept)
    assert kept_reports(folder) == [report(metrics={}), report("test evaluation 1", files={})]


def test_what_is_not_finite_comes_back(tmp_path):
    keep_report(UPath(tmp_path), report(metrics={"a": math.inf, "b": math.nan}))
    (kept,) = kept_reports(UPath(tmp_path))
    assert kept.metrics["a"] == math.inf
    assert math.isnan(kept.metrics["b"])


@pytest.mark.parametrize("damage", [lambda c: c[:-5], lambda _: b"", lambda _: b"[]"])
def test_a_damaged_one_is_named(tmp_path, damage):
    keep_report(UPath(tmp_path), report())
    path = tmp_path / "reports" / "controls.zip"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError) as refused:
        kept_reports(UPath(tmp_path))
    assert str(refused.value).startswith(f"{path} is damaged (")


def test_a_table_is_json_that_browsers_read():
    rows = [{"seed": np.int64(3), "mrr": np.float64(0.25)}, {"seed": 4, "mrr": math.nan}]
    assert table_file(rows) == b'{"columns":["seed","mrr"],"data":[[3,0.25],[4,null]]}'
    assert json.loads(table_file([{"family": "é"}]))["data"] == [["é"]]
