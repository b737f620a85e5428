"""The findings of an evaluation: a verdict in one paragraph, and tests as sentences to quote."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from analysis.measure import formats
from analysis.measure.comparison import Comparison
from analysis.measure.evaluation import Evaluation
from analysis.measure.examples import repeated
from analysis.measure.seed_results import candidates
from ssense.engine.core.power import ALPHA, POWER, detectable_errors
from ssense.retrieval import metric_title

PROPER_NAMES = {
    "infonce": "InfoNCE",
    "ssr": "SSR",
    "neuroclip": "NeuroCLIP",
    "resnet-18": "ResNet-18",
}
"""How prose writes families that are called after something with a name of its own."""

MOST_NAMED = 10
"""Differences in pairs that a verdict names; it counts more of them."""
MOST_PAIRS = 20
"""Pairs that have a sentence each; of more those that differ have one."""

NO_CONTROLS = "no controls were run"
"""Stands in a verdict in place of what the controls say."""
MAY_EXPLAIN = "sentence length alone may explain the score"
"""What controls that were not run leave open of a score above chance."""
OTHER_SEEDS = ", which were run at the seeds of the search and not at these"
"""Said of controls in a verdict on fresh seeds."""


def findings(evaluation: Evaluation) -> list[str]:
    """Say what the tests show: each family against chance, then families in pairs."""
    families = list(evaluation.scores)
    metric, tests = metric_title(evaluation.primary), evaluation.comparisons(evaluation.primary)
    pairs = [*zip(combinations(families, 2), tests[len(families) :], strict=True)]
    told = [pair for pair in pairs if is_shown(pair[1])] if len(pairs) > MOST_PAIRS else pairs
    n_others = len(pairs) - len(told)
    return [
        *map(_above_chance, [evaluation] * len(families), families, tests),
        *(_difference(*names, test, metric, evaluation.p_of) for names, test in told),
        *([f"Between {n_others} other pairs no difference is shown."] if n_others else []),
    ]


def verdict(
    names: Sequence[str],
    tests: Sequence[Comparison],
    metric: str,
    explained: str = "",
    kind: str = "families",
) -> str:
    """Say in a paragraph to quote what is above chance, what is better, and what explains it.

    Args:
        names: What is compared.
        tests: The comparison of each with chance, and then of each pair.
        metric: The title of the metric.
        explained: What the controls say, as a clause; empty where they say nothing.
        kind: What is compared, in the plural.
    """
    names = [proper(name) for name in names]
    above, pairs = tests[: len(names)], tests[len(names) :]
    clauses = [_chance_clause(names, above, kind), _pairs_clause(names, pairs), explained]
    return f"In {metric}, {'; '.join(filter(None, clauses))}."


def explained_by(family: str, clause: str, *, fresh: bool, above: bool) -> str:
    """Say as a clause of a verdict what controls say, and at which seeds.

    Args:
        family: The family whose configuration they are of.
        clause: What they say; empty where there are none of that configuration.
        fresh: Whether the verdict is on fresh seeds; controls are run at those of the search.
        above: Whether anything is shown to be above chance, so that there is a score to explain.
    """
    if not clause:
        return f"{NO_CONTROLS}: {MAY_EXPLAIN}" if above else NO_CONTROLS
    return f"by the controls of {family}{OTHER_SEEDS if fresh else ''}, {clause}"


def _chance_clause(names: Sequence[str], tests: Sequence[Comparison], kind: str) -> str:
    above = [n for n, t in zip(names, tests, strict=True) if is_above(t)]
    if len(names) == 1:
        return f"{names[0]} is {'above' if above else 'not shown to be above'} chance"
    if not above:
        return f"none of the {len(names)} {kind} is shown to be above chance"
    if len(above) == len(names):
        return f"{'both' if len(names) == 2 else f'all {len(names)}'} {kind} are above chance"
    verb = "is" if len(above) == 1 else "are"
    return f"{in_list(above)} {verb} above chance, the others are not shown to be"


def _pairs_clause(families: Sequence[str], tests: Sequence[Comparison]) -> str:
    better = [
        f"{b} is better than {a}" if _is_below(test) else f"{a} is better than {b}"
        for (a, b), test in zip(combinations(families, 2), tests, strict=True)
        if is_shown(test)
    ]
    if len(better) > MOST_NAMED:
        return f"{len(better)} of {len(tests)} pairs differ"
    if better:
        return in_list(better)
    return "none is shown to be better than another" if tests else ""


def power_note(evaluation: Evaluation) -> str:
    """Say which differences between two families this test would have shown."""
    metric = evaluation.primary
    tests = evaluation.comparisons(metric)[len(evaluation.scores) :]
    if not tests:
        return "There is a single family: no difference between families is tested."
    unit = (
        f"{len(evaluation.seeds)} seeds that share one test split, whose {evaluation.stimulus}s "
        "are the unit,"
        if evaluation.test_blocks is not None
        else f"{len(evaluation.seeds)} seeds"
    )
    return shown_from(unit, tests, metric_title(metric), "families")


def shown_from(unit: str, tests: Sequence[Comparison], metric: str, kind: str) -> str:
    """Say from which size on tests would have shown a difference.

    Args:
        unit: What the tests are over, and how many there are.
        tests: The comparisons in pairs, of shares.
        metric: The title of the metric.
        kind: What is compared, in the plural.
    """
    found = [_detectable(test) for test in tests if _is_bounded(test)]
    if not found:
        return f"No difference between two {kind} is testable here."
    if min(found) >= 1:
        return f"With {unit} hardly any difference between two {kind} could be shown."
    low, high = (f"{100 * min(1, each):.1f}" for each in (min(found), max(found)))
    points = f"{low} points" if low == high else f"{low} to {high} points, by the pair,"
    return (
        f"With {unit} the test finds a difference between two {kind} ({100 * POWER:.0f} % power, "
        f"two-sided {100 * ALPHA:.0f} %, after Holm over {len(tests)}) in {metric} from {points} "
        "on. Smaller ones may not show."
    )


def repeats_note(evaluation: Evaluation, sentences: Sequence[str]) -> str:
    """Say how candidates of the same text are treated, and how many queries have some.

    Args:
        evaluation: The evaluation of a dataset.
        sentences: The sentences `[N]` of the dataset that was evaluated.
    """
    splits = next(iter(evaluation.retrievals.values()))
    counts = [repeated(split.stimuli, sentences) for split in splits]
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
    score = 100 * evaluation.scores[family][evaluation.primary].mean()
    words = (
        f"{capital(proper(family))} reaches {score:.1f} % {metric_title(evaluation.primary)}, "
        f"{_points(test, 'chance')} ({_evidence(test, evaluation.p_of)})"
    )
    return f"{words}." if is_shown(test) else f"{words}: this may be chance."


def _difference(first: str, second: str, test: Comparison, metric: str, p_of: str) -> str:
    first, second = capital(proper(first)), proper(second)
    words = f"{first} is {_points(test, second)} in {metric} ({_evidence(test, p_of)})"
    if is_shown(test):
        return f"{words}."
    if not _is_bounded(test):  # too few, or all alike
        return f"{words}: no difference is shown."
    if _detectable(test) >= 1:
        return f"{words}: no difference is shown, and hardly any could be."
    would = f"{100 * _detectable(test):.1f} points or more would be, {100 * POWER:.0f} % of times"
    return f"{words}: no difference is shown; {would}."


def is_shown(test: Comparison) -> bool:
    """Whether a test shows a difference, after Holm's adjustment."""
    return test.p_holm < ALPHA


def is_above(test: Comparison) -> bool:
    """Whether a test shows the first to be above the second."""
    return is_shown(test) and not _is_below(test)


def _detectable(test: Comparison) -> float:
    """The difference that a test of this error shows, after Holm's adjustment."""
    return detectable_errors(test.corrected.df, test.n_comparisons) * test.corrected.error


def _points(test: Comparison, other: str) -> str:
    points = f"{100 * abs(test.corrected.mean):.1f}"
    where = "from" if float(points) == 0 else "below" if _is_below(test) else "above"
    return f"{points} points {where} {other}"


def _evidence(test: Comparison, p_of: str) -> str:
    t = test.corrected
    if not t.testable:
        return "not testable: the difference is the same everywhere"
    return f"{_interval(test)}{p_of} {_p(t.pvalue)}, after Holm p {_p(test.p_holm)}"


def _interval(test: Comparison) -> str:
    if not _is_bounded(test):
        return ""
    t = test.corrected
    ends = (-t.high, -t.low) if _is_below(test) else (t.low, t.high)
    low, high = (f"{100 * end:z.1f}" for end in ends)
    return f"95 % CI {low} to {high}, "


def _is_bounded(test: Comparison) -> bool:
    return math.isfinite(test.corrected.high - test.corrected.low)


def _is_below(test: Comparison) -> bool:
    return test.corrected.mean < 0


def _p(p: float) -> str:
    shown = formats.p_value(p)
    return shown if shown.startswith("<") else f"= {shown}"


def proper(name: str) -> str:
    """Write a family as prose does: "SSR, without reconstruction", where its name is "ssr, ..."."""
    first, comma, rest = name.partition(",")
    return f"{PROPER_NAMES.get(first, first)}{comma}{rest}"


def capital(name: str) -> str:
    """Begin a sentence with a name."""
    return name[:1].upper() + name[1:]


def in_list(names: Sequence[str]) -> str:
    """Join names: "a, b and c"."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
