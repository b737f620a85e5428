"""Comparisons of configurations over paired seeds: each against chance, and each with each.

    python -m analysis.statistics results.csv --n-train 872 --n-test 292

does it for results of any origin: a table of configuration, seed and score; with a further column
recording, the recordings are the unit.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from analysis import report
from analysis.statistics import (
    Estimate,
    Posterior,
    SignedRankTest,
    TTest,
    corrected_resampled_ttest,
    correlated_bayesian_ttest,
    effect_size,
    holm,
    naive_ttest,
    wilcoxon_signed_rank,
    win_probability,
)
from ssense.errors import UserError, one_line, printable
from sweeps.engine.power import smallest_detectable_effect
from sweeps.engine.progress import console, say

LEGEND = (
    "p: corrected resampled t-test (Nadeau and Bengio), which allows for overlapping splits; "
    "Holm: for this number of comparisons. The naive p takes seeds for independent and is "
    "shown for comparison with papers only."
)

EQUIVALENCE = 0.005
"""Differences of half a point mean nothing in practice."""

Scores = Mapping[str, np.ndarray]
"""By name of what is compared: `[J]`, one score per seed, in the same order everywhere."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One difference between scores at the same seeds, and what it shows.

    Attributes:
        name: "A – B".
        corrected: the test to go by.
        naive: the test that takes seeds for independent.
        p_holm: corrected p, adjusted for all comparisons of its kind.
        effect_size: mean difference in standard deviations.
        wins: P(A > B).
        ranks: Wilcoxon's test, which takes seeds for independent too.
        posterior: of the difference, with a region of practical equivalence.
    """

    name: str
    corrected: TTest
    naive: TTest
    p_holm: float
    effect_size: float
    wins: Estimate
    ranks: SignedRankTest
    posterior: Posterior


def against_chance(
    scores: Scores, chance: float, n_train: int, n_test: int, equivalence: float = EQUIVALENCE
) -> list[Comparison]:
    """Compare each with what guessing reaches; Holm over all of them.

    Args:
        scores: by name.
        chance: of the same metric.
        n_train: sentences of the training split.
        n_test: sentences of the test split; 0 where all seeds share their splits.
        equivalence: differences up to this mean nothing in practice.
    """
    pairs = [(f"{name} – chance", s, np.full(len(s), chance)) for name, s in scores.items()]
    return _compare(pairs, n_train, n_test, equivalence)


def between(
    scores: Scores,
    n_train: int,
    n_test: int,
    baseline: str | None = None,
    equivalence: float = EQUIVALENCE,
) -> list[Comparison]:
    """Compare in pairs, or all with a baseline; Holm over all of them.

    Args:
        scores: by name.
        n_train: sentences of the training split.
        n_test: sentences of the test split; 0 where all seeds share their splits.
        baseline: one of the names.
        equivalence: differences up to this mean nothing in practice.
    """
    chosen = (
        combinations(scores, 2)
        if baseline is None
        else ((name, baseline) for name in scores if name != baseline)
    )
    pairs = [(f"{a} – {b}", scores[a], scores[b]) for a, b in chosen]
    return _compare(pairs, n_train, n_test, equivalence)


def _compare(
    pairs: Sequence[tuple[str, np.ndarray, np.ndarray]],
    n_train: int,
    n_test: int,
    equivalence: float,
) -> list[Comparison]:
    tests = [corrected_resampled_ttest(a - b, n_train, n_test) for _, a, b in pairs]
    return [
        Comparison(
            name=name,
            corrected=test,
            naive=naive_ttest(a - b),
            p_holm=float(adjusted),
            effect_size=effect_size(a - b),
            wins=win_probability(a, b),
            ranks=wilcoxon_signed_rank(a - b),
            posterior=correlated_bayesian_ttest(a - b, n_train, n_test, equivalence),
        )
        for (name, a, b), test, adjusted in zip(
            pairs, tests, holm([test.pvalue for test in tests]), strict=True
        )
    ]


def comparison_rows(
    comparisons: Iterable[Comparison], title: str, shown: Callable[[float], str]
) -> list[dict[str, str]]:
    """Lay comparisons out for people.

    Args:
        comparisons: a line each.
        title: of the column of their names.
        shown: writes a difference.
    """
    return [
        {
            title: c.name,
            "difference": shown(c.corrected.mean),
            "95 % interval": f"{shown(c.corrected.low)} to {shown(c.corrected.high)}",
            "p": report.p_value(c.corrected.pvalue),
            "p, Holm": report.p_value(c.p_holm),
            "d": f"{c.effect_size:.2f}",
            "P(A > B)": f"{c.wins.value:.2f}",
            "naive p": report.p_value(c.naive.pvalue),
        }
        for c in comparisons
    ]


def comparison_values(comparisons: Iterable[Comparison], metric: str) -> list[dict[str, object]]:
    """List comparisons as numbers; differences in the metric's own unit."""
    return [
        {
            "metric": metric,
            "comparison": c.name,
            **{field: getattr(c.corrected, field) for field in ("mean", "low", "high")},
            "t": c.corrected.statistic,
            "df": c.corrected.df,
            "p": c.corrected.pvalue,
            "p_holm": c.p_holm,
            "effect_size": c.effect_size,
            "win_probability": c.wins.value,
            "win_low": c.wins.low,
            "win_high": c.wins.high,
            **{f"posterior_{name}": value for name, value in c.posterior._asdict().items()},
            "p_naive": c.naive.pvalue,
            "p_wilcoxon": c.ranks.pvalue,
        }
        for c in comparisons
    ]


# ---------------------------------------------------------------- results of any origin

COLUMNS = ("configuration", "seed")
RECORDING = "recording"

Table = Mapping[str, Mapping[int, float]]
"""Scores by configuration and seed."""


@dataclass(frozen=True, kw_only=True)
class ComparisonOptions:
    """Flags; each is also an environment variable, --n-train as SSENSE_N_TRAIN."""

    results: str
    """CSV with the columns configuration and seed, recording if there are several, and one more:
    the score."""
    n_train: int | None = None
    """Items of the training split; needed for a single recording."""
    n_test: int | None = None
    """Items of the test split; 0 if all seeds share their splits; needed for a single recording."""
    baseline: str | None = None
    """Configuration to compare all others with [every pair]."""
    equivalence: float = EQUIVALENCE
    """Differences up to this mean nothing in practice, in units of the score."""


def read_scores(path: Path) -> tuple[str, dict[str, Table]]:
    """Read a table of scores.

    Returns:
        The name of the score's column, and a table by recording; "" where there is no such column.

    Raises:
        UserError: it can't be read, a column is missing, or a value makes no sense.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            metrics = [name for name in columns if name not in (*COLUMNS, RECORDING)]
            if len(metrics) != 1 or not set(COLUMNS) <= set(columns):
                found = printable(", ".join(map(str, columns)) or "nothing")
                raise UserError(
                    f"{path} must have the columns configuration, seed and one score, got {found}."
                )
            return metrics[0], _by_recording(path, reader, metrics[0])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} can't be read as CSV ({one_line(error)}).") from error


def _by_recording(path: Path, rows: Iterable[Mapping[str, str]], metric: str) -> dict[str, Table]:
    scores: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for number, row in enumerate(rows, start=2):
        name, seed, value = row["configuration"], row["seed"], row[metric]
        where = f"{path}, line {number}"
        try:
            known, score = scores[row.get(RECORDING) or ""][name], float(value)
            place = int(seed)
        except (TypeError, ValueError):
            found = printable(f"seed {seed!r}, {metric} {value!r}")
            raise UserError(f"{where}: expected a whole seed and a number, got {found}.") from None
        if not math.isfinite(score):
            raise UserError(f"{where}: {metric} is {value}. Leave out what has no result.")
        if place in known:
            raise UserError(f"{where}: {name} has seed {place} twice. Keep one.")
        known[place] = score
    return dict(scores)


def paired(path: Path, scores: Table) -> dict[str, np.ndarray]:
    """Put scores into the order of the seeds, which all configurations must share.

    Raises:
        UserError: they don't, or there is a single configuration or seed.
    """
    if len(scores) < 2:
        raise UserError(f"{path} has {len(scores)} configurations. Comparing takes at least two.")
    seeds = sorted(set().union(*scores.values()))
    for name, known in scores.items():
        missing = [seed for seed in seeds if seed not in known]
        if missing:
            listed = printable(" ".join(map(str, missing)))
            raise UserError(
                f"{path}: {printable(name)} lacks seed {listed}, which others have. Run it, or "
                "leave that seed out everywhere: comparisons are paired."
            )
    if len(seeds) < 2:
        raise UserError(f"{path} has the single seed {seeds[0]}: nothing can be tested. Run more.")
    return {name: np.array([known[seed] for seed in seeds]) for name, known in scores.items()}


def _sizes(options: ComparisonOptions) -> tuple[int, int]:
    if options.n_train is None or options.n_test is None:
        raise UserError(
            "the test depends on how far splits overlap. Give --n-train and --n-test, the items of "
            "the training and test splits; --n-test 0 if all seeds share their splits."
        )
    if options.n_train < 1 or options.n_test < 0:
        found = f"{options.n_train}, {options.n_test}"
        raise UserError(f"--n-train must be at least 1 and --n-test at least 0, got {found}.")
    if not options.equivalence >= 0:
        raise UserError(f"--equivalence must be at least 0, got {options.equivalence}.")
    return options.n_train, options.n_test


def main(options: ComparisonOptions) -> None:
    """Compare configurations over paired seeds, allowing for overlapping splits."""
    path = Path(options.results)
    metric, tables = read_scores(path)
    known = {recording: paired(path, table) for recording, table in (tables or {"": {}}).items()}
    scores = next(iter(known.values()))
    if options.baseline is not None and options.baseline not in scores:
        names = printable(", ".join(scores))
        raise UserError(f"--baseline {options.baseline} is not in {path}. Found: {names}.")
    if len(known) > 1:
        from analysis.recordings import show_recordings  # which builds on this module

        show_recordings(known, None, report.plain, options.baseline)
        return
    sizes = _sizes(options)
    comparisons = between(scores, *sizes, options.baseline, options.equivalence)
    means = [
        {"configuration": name, metric: report.plain(values.mean(), values.std(ddof=1))}
        for name, values in scores.items()
    ]
    console.print(report.screen_table(means))
    console.print(report.screen_table(comparison_rows(comparisons, "comparison", report.plain)))
    n_seeds = len(next(iter(scores.values())))
    detectable = smallest_detectable_effect(n_seeds, *sizes)
    say(f"{n_seeds} seeds show differences from {detectable:.2f} sd on (80 % power).")
    say(LEGEND)
