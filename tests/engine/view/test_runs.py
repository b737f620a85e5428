from __future__ import annotations

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name

from ssense.engine.core.matrix import Matrix, MatrixRow
from ssense.engine.core.origin import RecordingOrigin
from ssense.engine.records.description import Description
from ssense.engine.view.runs import metric_key, metric_keys, note
from ssense.model.objectives.ssr import ABLATIONS

names = st.text(st.sampled_from("aB1é .,+/@%-_:()[]=τ*\t'\"") | st.characters(), max_size=300)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("recall@10", "recall_at_10"),
        ("search seeds/electrode + time/mrr", "search seeds/electrode and time/mrr"),
        ("noise, shifted/recall@1", "noise shifted/recall_at_1"),
        ("NICE+/mrr", "NICE plus/mrr"),
        ("a//../b/mrr", "a/b/mrr"),
        ("ratio = 0.5 (τ)/mrr", "ratio 0.5 τ/mrr"),
        ("../mrr", "mrr"),
        ("%", "_"),
    ],
)
def test_names_stay_readable(name, key):
    assert metric_key(name) == key


def test_ablations_are_names_that_mlflow_takes():
    keys = metric_keys(f"{name}/recall@1" for name in ABLATIONS)
    assert len(set(keys.values())) == len(ABLATIONS)
    for name, key in keys.items():
        _validate_metric_name(key)
        assert key.endswith("/recall_at_1")
        assert re.findall(r"\w+", key.replace(" and ", " ")) == re.findall(
            r"\w+", name.replace("@", "_at_")
        )


@given(st.lists(names, unique=True, max_size=6))
def test_any_names_are_taken_by_mlflow_and_differ(families):
    keys = metric_keys(f"search seeds/{family}/mrr" for family in families)
    assert len({key.casefold() for key in keys.values()}) == len(families)
    for key in keys.values():
        _validate_metric_name(key)
        assert len(key) <= 250
        assert key.rpartition("/")[2] == "mrr"


@given(st.lists(names, unique=True, max_size=6))
def test_any_single_names_are_taken_and_differ(metrics):
    keys = metric_keys(metrics).values()
    assert len({key.casefold() for key in keys}) == len(metrics)
    for key in keys:
        _validate_metric_name(key)
        assert len(key) <= 250


def test_the_note_is_a_table_of_leaders_with_every_name_in_one_cell(sweep):
    origin = RecordingOrigin(subject="sub_9", title="Ant-Man", shards="0123", recording="there")
    description = Description(sweep=sweep, origin=origin)
    row = MatrixRow(family="a | b", name="x | 1", states=("done", "done"), scores=(0.5, 0.25))
    waiting = Matrix(metric="recall@10", seeds=(0, 1), rows=(row,))
    assert note(waiting, description).startswith("1 configuration in 1 family x 2 seeds (0 1) on")
    led = dataclasses.replace(waiting, rows=(dataclasses.replace(row, leads=True),))
    head, rule, cells, empty, words = note(led, description).split("\n")
    assert head == "| family | leader | seeds | validation Recall@10, % |"
    assert rule == "| --- | --- | --- | --- |"
    assert re.split(r" (?<!\\)\| ", cells.strip("| "))[:3] == [r"a \| b", r"x \| 1", "2 of 2"]
    assert not empty
    assert words == note(waiting, description)
