from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name

from ssense.engine.view.runs import metric_key, metric_keys
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
    keys = metric_keys(f"ssr, {name}/recall@1" for name in ABLATIONS)
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
