"""The findings of an evaluation: its tests as sentences that a reader can quote."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from analysis import report
from analysis.comparison import Comparison
from analysis.evaluation import PRIMARY, Evaluation
from analysis.examples import repeated
from analysis.protocol import candidates
from ssense.retrieval import metric_title
from sweeps.engine.power import ALPHA, POWER, smallest_detectable_effect


def findings(evaluation: Evaluation) -> list[str]:
    """Say what the tests of Recall@10 show: each family against chance, then families in pairs."""
    families = list(evaluation.scores)
    tests = evaluation.comparisons(PRIMARY)
    pairs = zip(combinations(families, 2), tests[len(families) :], strict=True)
    return [
        *map(_above_chance, [evaluation] * len(families), families, tests),
        *(_difference(evaluation, *names, test) for names, test in pairs),
    ]


def power_note(evaluation: Evaluation) -> str:
    """Say which differences between two families these seeds would have shown."""
    n_seeds = len(evaluation.seeds)
    effect = smallest_detectable_effect(n_seeds, *evaluation.sizes)
    words = (
        f"With {n_seeds} seeds the corrected test finds a difference between two families "
        f"({100 * POWER:.0f} % power, two-sided {100 * ALPHA:.0f} %, before Holm) from "
        f"{effect:.1f} standard deviations of the paired differences on"
    )
    spreads = [_spread(evaluation, *names) for names in combinations(evaluation.scores, 2)]
    if not spreads:
        return f"{words}."
    low, high = (f"{100 * effect * spread:.1f}" for spread in (min(spreads), max(spreads)))
    points = f"{low} points" if low == high else f"{low} to {high} points, by the pair"
    return f"{words}; in {metric_title(PRIMARY)} that is {points}. Smaller ones may not show."


def repeats_note(evaluation: Evaluation, sentences: Sequence[str]) -> str:
    """Say how candidates of the same text are treated, and how many queries have some.

    Args:
        evaluation: of a dataset.
        sentences: N, of that dataset.
    """
    splits = next(iter(evaluation.retrievals.values()))
    counts = [repeated(split.rows, sentences) for split in splits]
    rule = (
        "A query counts as answered by its own sentence alone. Candidates of the same text have "
        "the same embedding and so the same score, and the true one takes the middle rank among "
        "them: of two that come first its rank is 1.5, no hit at 1, but one at 10."
    )
    if not any(counts):
        return f"{rule} No test sentence has such a double among its candidates."
    return (
        f"{rule} Of {candidates(evaluation)} test sentences {np.mean(counts):.1f} have such a "
        f"double among their candidates (mean over {len(counts)} seeds; "
        f"{min(counts)} to {max(counts)})."
    )


def _above_chance(evaluation: Evaluation, family: str, test: Comparison) -> str:
    score = 100 * evaluation.scores[family][PRIMARY].mean()
    words = (
        f"{_capital(family)} reaches {score:.1f} % {metric_title(PRIMARY)}, "
        f"{_points(test, 'above chance', 'below chance')} ({_evidence(test)})"
    )
    return f"{words}." if test.p_holm < ALPHA else f"{words}: this may be chance."


def _difference(evaluation: Evaluation, first: str, second: str, test: Comparison) -> str:
    effect = smallest_detectable_effect(len(evaluation.seeds), *evaluation.sizes)
    detectable = effect * _spread(evaluation, first, second)
    words = (
        f"{_capital(first)} is {_points(test, f'above {second}', f'below {second}')} in "
        f"{metric_title(PRIMARY)} ({_evidence(test)})"
    )
    if test.p_holm < ALPHA:
        return f"{words}."
    return f"{words}: no difference is shown; {100 * detectable:.1f} points or more would be."


def _spread(evaluation: Evaluation, first: str, second: str) -> float:
    one, other = (evaluation.scores[family][PRIMARY] for family in (first, second))
    return float((one - other).std(ddof=1))


def _points(test: Comparison, above: str, below: str) -> str:
    return f"{100 * abs(test.corrected.mean):.1f} points {below if _is_below(test) else above}"


def _evidence(test: Comparison) -> str:
    t = test.corrected
    ends = (-t.high, -t.low) if _is_below(test) else (t.low, t.high)
    low, high = (f"{100 * end:z.1f}" for end in ends)
    return f"95 % CI {low} to {high}, corrected p {_p(t.pvalue)}, after Holm p {_p(test.p_holm)}"


def _is_below(test: Comparison) -> bool:
    return test.corrected.mean < 0


def _p(p: float) -> str:
    shown = report.p_value(p)
    return shown if shown.startswith("<") else f"= {shown}"


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]
