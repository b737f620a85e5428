"""Optuna's pruner as a policy, which the race is compared with."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.exceptions import ExperimentalWarning

from ssense.engine.core.decision import Decision

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from wilcoxon_policy import Wilcoxon

TABLES = st.integers(0, 10**6).flatmap(
    lambda seed: st.tuples(st.integers(1, 9), st.integers(1, 8)).map(
        lambda shape: np.random.default_rng(seed).normal(0, 1, shape)
    )
)


@settings(max_examples=15, deadline=None)
@given(TABLES)
def test_wilcoxon_is_optuna_pruning_as_it_goes(table):
    met: list[int] = []

    def objective(trial: optuna.Trial) -> float:
        row = table[trial.number]
        for step, score in enumerate(row):
            trial.report(score, step)
            if trial.should_prune():
                break
        met.append(step + 1)
        return float(np.mean(row[: step + 1]))

    with pytest.warns(ExperimentalWarning):
        pruner = optuna.pruners.WilcoxonPruner(p_threshold=0.1)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    study.optimize(objective, n_trials=len(table))
    scores = [dict(enumerate(row)) for row in table.tolist()]
    verdict = Wilcoxon().judge(scores, range(table.shape[1]), all_proposed=True)
    assert list(verdict.granted) == met
    assert verdict.estimates == pytest.approx([trial.value for trial in study.trials])
    assert all(d.difference > 0 for d in verdict.decisions)
    short = [place for place, k in enumerate(met) if k < table.shape[1]]
    assert [d.place for d in verdict.decisions] == short


def test_wilcoxon_runs_one_cell_after_the_other():
    scores: list[dict[int, float | None]] = [{0: 1.0, 1: None}, {0: 2.0}, {}]
    verdict = Wilcoxon().judge(scores, range(4), all_proposed=True)
    assert verdict.granted == (2, 2, 0)
    assert verdict.decisions == (Decision(place=0, reason="failed", after_seeds=2),)
