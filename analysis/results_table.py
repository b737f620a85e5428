"""A table of results of any origin, and the comparison of its configurations.

    python -m analysis.statistics results.csv --n-train 872 --n-test 292

The table has the columns configuration and seed, and one more: the score. With further columns
subject or recording or both, the subjects are the unit, or recordings where there are no subjects.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from analysis import report
from analysis.comparison import (
    LEGEND,
    Scores,
    between,
    comparison_rows,
    further_legend,
    further_rows,
    spread,
)
from analysis.options import ResultsOptions
from analysis.subjects import BySubject, compare_subjects, legend, subject_tables
from ssense.errors import UserError, one_line, printable
from sweeps.engine.power import smallest_detectable_effect
from sweeps.engine.progress import console, say

COLUMNS = ("configuration", "seed")
SUBJECT, RECORDING = UNITS = ("subject", "recording")

Table = Mapping[str, Mapping[int, float]]
"""Scores of one recording by configuration and seed."""


class Results(NamedTuple):
    """A table of scores.

    Attributes:
        metric: name of the score's column.
        has_subjects: whether it says whose recordings they are; else each is one subject's.
        tables: by subject and recording; "" where there is no such column.
    """

    metric: str
    has_subjects: bool
    tables: Mapping[str, Mapping[str, Table]]


def read_scores(path: Path) -> Results:
    """Read a table of scores.

    Raises:
        UserError: it can't be read, a column is missing, or a value makes no sense.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            metrics = [name for name in columns if name not in (*COLUMNS, *UNITS)]
            once = len(set(columns)) == len(columns)
            if len(metrics) != 1 or not set(COLUMNS) <= set(columns) or not once:
                found = printable(", ".join(map(str, columns)) or "nothing")
                raise UserError(
                    f"{path} must have the columns configuration, seed and one score, each once, "
                    f"got {found}."
                )
            return Results(metrics[0], SUBJECT in columns, _tables(path, reader, metrics[0]))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} can't be read as CSV ({one_line(error)}).") from error


def _tables(
    path: Path, rows: Iterable[Mapping[str, str]], metric: str
) -> Mapping[str, Mapping[str, Table]]:
    scores: dict[str, dict[str, dict[str, dict[int, float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(dict))
    )
    for number, row in enumerate(rows, start=2):
        where = f"{path}, line {number}"
        if None in row:  # as of 0,1 for 0.1
            raise UserError(f"{where}: more values than columns. Write decimals with a point.")
        recording = _named(where, row, RECORDING) if RECORDING in row else ""
        subject = _named(where, row, SUBJECT) if SUBJECT in row else recording
        name = _named(where, row, "configuration")
        seed, score = _seed_and_score(where, row, metric)
        known = scores[subject][recording][name]
        if seed in known:
            raise UserError(f"{where}: {printable(name)} has seed {seed} twice. Keep one.")
        known[seed] = score
    return scores


def _named(where: str, row: Mapping[str, str | None], column: str) -> str:
    name = row[column] or ""
    if not name.strip():
        raise UserError(f"{where}: {column} is empty. Name it, or leave the line out.")
    return name


def _seed_and_score(where: str, row: Mapping[str, str], metric: str) -> tuple[int, float]:
    seed, value = row["seed"], row[metric]
    try:
        found = int(seed), float(value)
    except (TypeError, ValueError):
        shown = printable(f"seed {seed!r}, {metric} {value!r}")
        raise UserError(f"{where}: expected a whole seed and a number, got {shown}.") from None
    if not math.isfinite(found[1]):
        raise UserError(f"{where}: {metric} is {value}. Leave out what has no result.")
    return found


def paired(where: str, table: Table) -> dict[str, np.ndarray]:
    """Put the scores of one recording into the order of the seeds, which configurations must share.

    Args:
        where: it is, for messages.
        table: its scores.

    Returns:
        By configuration, `[J]`.

    Raises:
        UserError: they don't, or there is a single configuration.
    """
    if len(table) < 2:
        raise UserError(f"{where} has {len(table)} configurations. Comparing takes at least two.")
    seeds = sorted(set().union(*table.values()))
    for name, known in table.items():
        missing = [seed for seed in seeds if seed not in known]
        if missing:
            listed = printable(" ".join(map(str, missing)))
            raise UserError(
                f"{where}: {printable(name)} lacks seed {listed}, which others have. Run it, or "
                "leave that seed out everywhere: comparisons are paired."
            )
    return {name: np.array([known[seed] for seed in seeds]) for name, known in table.items()}


def paired_by_subject(path: Path, tables: Mapping[str, Mapping[str, Table]]) -> BySubject:
    """Pair the scores of every recording.

    Raises:
        UserError: as `paired`.
    """
    return {
        subject: {
            recording: paired(", ".join(filter(None, (str(path), subject, recording))), table)
            for recording, table in recordings.items()
        }
        for subject, recordings in tables.items()
    }


def main(options: ResultsOptions) -> None:
    """Compare configurations over paired seeds, or over subjects where there are several."""
    _check_flags(options)
    path = Path(options.results)
    results = read_scores(path)
    scores = paired_by_subject(path, results.tables or {"": {"": {}}})
    recordings = [found for by_recording in scores.values() for found in by_recording.values()]
    if options.baseline is not None and options.baseline not in recordings[0]:
        names = printable(", ".join(recordings[0]))
        raise UserError(f"--baseline {options.baseline} is not in {path}. Found: {names}.")
    if len(recordings) == 1:
        _compare_over_seeds(options, results.metric, recordings[0])
        return
    _compare_over_subjects(options, scores)
    if not results.has_subjects:
        say("There is no column subject: each recording was taken for a subject of its own.")


def _check_flags(options: ResultsOptions) -> None:
    if options.n_train is not None and options.n_train < 1:
        raise UserError(f"--n-train must be at least 1, got {options.n_train}.")
    if options.n_test is not None and options.n_test < 0:
        raise UserError(f"--n-test must be at least 0, got {options.n_test}.")
    if not options.equivalence >= 0:
        raise UserError(f"--equivalence must be at least 0, got {options.equivalence}.")


def _compare_over_seeds(options: ResultsOptions, metric: str, scores: Scores) -> None:
    n_seeds = len(next(iter(scores.values())))
    if n_seeds < 2:
        raise UserError(f"{options.results} has a single seed: nothing can be tested. Run more.")
    if options.n_train is None or options.n_test is None:
        raise UserError(
            "the test depends on how far splits overlap. Give --n-train and --n-test, the items of "
            "the training and test splits; --n-test 0 if all seeds share their splits."
        )
    sizes = options.n_train, options.n_test
    comparisons = between(scores, *sizes, options.baseline, options.equivalence)
    means = [
        {"configuration": name, metric: report.plain(values.mean(), spread(values))}
        for name, values in scores.items()
    ]
    tests = comparison_rows(comparisons, "comparison", report.plain)
    for rows in (means, tests, further_rows(comparisons)):
        console.print(report.screen_table(rows))
    detectable = smallest_detectable_effect(n_seeds, *sizes)
    say(f"{n_seeds} seeds show differences from {detectable:.2f} sd on (80 % power).")
    say(LEGEND)
    say(further_legend(comparisons, options.equivalence, report.plain))


def _compare_over_subjects(options: ResultsOptions, scores: BySubject) -> None:
    comparisons = compare_subjects(
        scores, baseline=options.baseline, equivalence=options.equivalence
    )
    for rows in subject_tables(scores, comparisons, report.plain):
        console.print(report.screen_table(rows))
    say(legend(comparisons, options.equivalence, report.plain))
