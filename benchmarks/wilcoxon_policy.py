"""Optuna's `WilcoxonPruner` as a policy of the engine, to compare the race with."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.trial import TrialState

from ssense.engine.core.decision import Decision
from ssense.engine.core.sweep import BY_THREES
from ssense.engine.search.race import Scores, Verdict


@dataclass(frozen=True, kw_only=True)
class Wilcoxon:
    """Depth first: a configuration stops once Optuna's `WilcoxonPruner` finds it behind.

    For comparison with the race. One configuration runs at a time, a seed at a time; and with
    seeds added later it may decide otherwise than before.

    Attributes:
        p: One-sided level of the signed-rank test against the best configuration so far.
    """

    p: float = 0.1

    def judge(
        self,
        scores: Sequence[Scores],
        seeds: Sequence[int],
        *,
        all_proposed: bool,  # noqa: ARG002 - it never looks ahead
        at_once: int = BY_THREES,  # noqa: ARG002
    ) -> Verdict:
        """Replay the configurations, in order of proposal, in an Optuna study in memory."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            pruner = optuna.pruners.WilcoxonPruner(p_threshold=self.p)
        study = optuna.create_study(direction="maximize", pruner=pruner)
        granted = np.zeros(len(scores), dtype=int)
        decisions: list[Decision] = []
        for place, known in enumerate(scores):
            granted[place], change = _play(study, known, seeds)
            decisions += change
            if any(seed not in known for seed in seeds[: granted[place]]):
                break
        estimates = [trial.value for trial in study.get_trials(deepcopy=False)]
        return Verdict(
            granted=tuple(granted.tolist()),
            estimates=(*estimates, *[None] * (len(scores) - len(estimates))),
            decisions=tuple(decisions),
        )


def _play(study: optuna.Study, known: Scores, seeds: Sequence[int]) -> tuple[int, list[Decision]]:
    """Run the study's next trial as far as its scores go; return its seeds, and why it stopped."""
    trial = study.ask()
    values: list[float] = []
    for step, seed in enumerate(seeds):
        if seed not in known:
            return step + 1, []
        score = known[seed]
        if score is None:
            study.tell(trial, state=TrialState.FAIL)
            return step + 1, [Decision(place=trial.number, reason="failed", after_seeds=step + 1)]
        values.append(score)
        trial.report(score, step)
        if step + 1 < len(seeds) and trial.should_prune():
            change = _pruned(study.best_trial, trial.number, values)
            # As Optuna advises: a state "pruned" would hide its value from the sampler.
            study.tell(trial, fmean(values))
            return step + 1, [change]
    study.tell(trial, fmean(values))
    return len(seeds), []


def _pruned(best: optuna.trial.FrozenTrial, place: int, values: Sequence[float]) -> Decision:
    ahead = fmean(best.intermediate_values[step] for step in range(len(values)))
    return Decision(
        place=place,
        reason="behind",
        after_seeds=len(values),
        leader=best.number,
        difference=ahead - fmean(values),
    )
