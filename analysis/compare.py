"""The comparison of the configurations of a table of results of any origin.

    python -m analysis.compare results.csv --n-train 872 --n-test 292

An evaluation's scores.csv says itself how its seeds split the items, and needs no sizes.
Comparisons are paired: a seed that a configuration has no score for is left out of its recording,
and named. With columns subject or recording or both, the subjects are the unit, or recordings where
there are no subjects.
"""

from __future__ import annotations

if __name__ == "__main__":
    from analysis.options import ResultsOptions
    from ssense.cli.command import check_flags

    check_flags(ResultsOptions)  # before the imports that take seconds

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from upath import UPath

from analysis.measure import formats
from analysis.measure.comparison import (
    CUT,
    DASH,
    EQUIVALENCE,
    LEGEND,
    SHARES,
    UNBOUNDED,
    Bounds,
    Comparison,
    Scores,
    compare,
    comparison_rows,
    comparison_values,
    difference_over_seeds,
    further_legend,
    further_rows,
    pairs_of,
    spread,
)
from analysis.measure.resolution import (
    PROGRAM_DIGITS,
    Resolution,
    exact_resolution,
    resolution_of,
)
from analysis.measure.score_splits import Splits
from analysis.measure.subjects import (
    BySubject,
    Resolutions,
    compare_subjects,
    legend,
    subject_tables,
)
from analysis.options import ResultsOptions
from analysis.scores.file import Results, Table, Unit, read_scores, unit_of
from ssense.cli.screen import console, say
from ssense.engine.core.power import smallest_detectable_effect
from ssense.errors import UserError, printable
from ssense.files.storage import write_whole
from ssense.files.tables import csv_table

TESTS_FILE, TABLES_FILE = "tests.csv", "tables.tex"
"""What is written into a folder."""

SHARED_TEST = (
    "p: t-test over seeds that share their test items. It asks whether other seeds "
    "would agree on these very items, and says nothing of others: configurations that are equally "
    "good differ on one test, and more seeds make that look surer. For a claim about items, test "
    "scores by item, or draw new test splits. Holm: for this number of comparisons. "
    f"{CUT} {DASH}"
)

CORRECTED = "corrected resampled t-test over seeds (Nadeau and Bengio 2003)"
SHARED = "t-test over seeds that share their test items"
SUBJECTS, RECORDINGS = "t-test over subjects", "t-test over recordings"
"""Which test a p-value is of, as numbers that leave their legend behind have to say."""

AT_LEAST = (
    "Differences that rounding or so few items can't tell from equal ones have no spread of their "
    "own; hits have at least the spread that their difference requires. An evaluation, "
    "which knows every item, may find more spread; then trust the evaluation."
)

_UNITS: Mapping[Unit, str] = {
    "fraction": "fractions of 1",
    "percent": "percentages",
    "own": "numbers in a unit of their own",
}


_WHOLE: Mapping[Unit, float] = {"fraction": 1.0, "percent": 100.0, "own": 0.0}
"""The score of whoever hits everything."""
_BOUNDS: Mapping[Unit, Bounds] = {
    "fraction": SHARES,
    "percent": (-100.0, 100.0),
    "own": UNBOUNDED,
}
"""The ends of what differences there can be."""


class Compared(NamedTuple):
    """A comparison of configurations.

    Attributes:
        tables: Tables for people.
        comparisons: What the tables show, as numbers.
        words: Text that explains the tables, a paragraph each.
        test: Name of the test that p is of.
        unpaired: Names what was left out for lack of a partner, a sentence each.
    """

    tables: Sequence[formats.Rows]
    comparisons: Sequence[Comparison]
    words: Sequence[str]
    test: str
    unpaired: Sequence[str] = ()


def unpaired(table: Table, absent: Sequence[tuple[str, int]] = ()) -> dict[int, list[str]]:
    """Seeds that not all configurations of a recording have a score for, and which lack it.

    Args:
        table: Scores of the recording.
        absent: Scores that the file names without a value.
    """
    names = dict.fromkeys([*table, *(name for name, _ in absent)])
    seeds = {seed for known in table.values() for seed in known} | {seed for _, seed in absent}
    lacking = {
        seed: [name for name in names if seed not in table.get(name, {})] for seed in sorted(seeds)
    }
    return {seed: those for seed, those in lacking.items() if those}


def paired(
    where: str, table: Table, absent: Sequence[tuple[str, int]] = ()
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Put the scores of one recording into the order of the seeds that all configurations have.

    Args:
        where: Where the scores come from, for messages.
        table: Scores of the recording.
        absent: Scores that the file names without a value.

    Returns:
        Scores `[J]` by configuration, and a line for each that was left out without a partner.

    Raises:
        UserError: There is a single configuration, or no seed that all have.
    """
    if len(table) < 2:
        only = f"a single configuration, {printable(next(iter(table)))}" if table else "no scores"
        raise UserError(f"{where} has {only}. Comparing takes at least two configurations.")
    left_out = unpaired(table, absent)
    seeds = sorted(set().union(*table.values()) - left_out.keys())
    if not seeds:
        seed, names = next(iter(left_out.items()), (0, list(table)))
        raise UserError(
            f"{where}: no seed has a score for every configuration: seed {seed} lacks "
            f"{printable(', '.join(names))}. Comparisons are paired: run what is missing."
        )
    notes = [
        f"Unpaired: seed {seed} is left out, without a score of {printable(', '.join(names), 100)}."
        for seed, names in left_out.items()
    ]
    if notes:
        notes.append(f"{where}: {len(seeds)} of {len(seeds) + len(left_out)} seeds can be paired.")
    return {name: np.array([known[seed] for seed in seeds]) for name, known in table.items()}, notes


def paired_by_subject(path: Path, results: Results) -> tuple[BySubject, list[str]]:
    """Pair the scores of every recording, and say what was left out.

    Raises:
        UserError: See `paired`.
    """
    scores: dict[str, dict[str, Scores]] = {}
    notes = []
    for subject, recordings in (results.tables or {"": {"": {}}}).items():
        for recording, table in recordings.items():
            where = ", ".join(dict.fromkeys(filter(None, (str(path), subject, recording))))
            found, lines = paired(where, table, results.absent.get((subject, recording), ()))
            scores.setdefault(subject, {})[recording] = found
            notes += lines
    return scores, notes


def region(text: str | None, unit: Unit) -> float | None:
    """Differences that mean nothing in practice, in the unit of the scores.

    Args:
        text: A number in that unit, or percentage points with a percent sign; None for half a
            percentage point.
        unit: Unit of the scores.

    Returns:
        None where nothing is known of the unit but that it is no percentage.

    Raises:
        UserError: The text is in percentage points, but the scores are not.
    """
    if text is None and unit == "own":
        return None
    text = f"{100 * EQUIVALENCE:g}%" if text is None else text
    if not text.endswith("%"):
        return float(text)
    if unit == "own":
        raise UserError(
            f"--equivalence {text}: the scores are not percentages. Give it in their unit, such as "
            "0.005."
        )
    points = float(text.removesuffix("%"))
    return points if unit == "percent" else points / 100


def split_sizes(options: ResultsOptions, splits: Splits | None) -> tuple[int | None, int | None]:
    """Items to train on, and those of the test split that seeds draw anew, as far as anyone says.

    Args:
        options: Flags, which may give them.
        splits: What the file says of its splits.

    Raises:
        UserError: A flag contradicts the file.
    """
    flags = options.n_train, options.n_test
    if splits is None:
        return flags
    for name, flag, known in zip(("--n-train", "--n-test"), flags, splits.sizes, strict=True):
        if None not in (flag, known) and flag != known:
            raise UserError(
                f"{name} {flag} contradicts {options.results}, whose {splits.kind} splits make it "
                f"{known}. Leave it out."
            )
    (flag, n_test), (known, stated) = flags, splits.sizes
    any_size = 1 if splits.shared else None  # where nothing is drawn anew, tests don't depend on it
    return known or flag or any_size, n_test if stated is None else stated


def main(options: ResultsOptions) -> None:
    """Compare configurations over paired seeds, or over subjects where there are several."""
    path = Path(options.results)
    if options.out is not None:
        _check_out(Path(options.out), path)
    results = read_scores(path, options.metric)
    unit = unit_of(results)
    equivalence, sizes = region(options.equivalence, unit), split_sizes(options, results.splits)
    scores, notes = paired_by_subject(path, results)
    recordings = [found for by_recording in scores.values() for found in by_recording.values()]
    if options.baseline is not None and options.baseline not in recordings[0]:
        names, given = printable(", ".join(recordings[0])), printable(options.baseline)
        raise UserError(f"--baseline {given} is not in {path}. Found: {names}.")
    for note in (*results.notes, *([results.splits.note] if results.splits else []), *notes):
        say(note)
    say(f"Scores are taken for {_UNITS[unit]}; {_in_practice(equivalence)}.")
    if len(recordings) == 1:
        compared = _over_seeds(options, results, unit, recordings[0], sizes, equivalence)
    else:
        compared = _over_subjects(options, results, scores, unit, equivalence)
    if results.splits is not None and results.splits.caveat:
        compared = compared._replace(words=[*compared.words, results.splits.caveat])
    for rows in compared.tables:
        console.print(formats.screen_table(rows))
    for line in compared.words:
        say(line)
    if len(recordings) > 1 and not results.has_subjects:
        say("There is no column subject: each recording was taken for a subject of its own.")
    compared = compared._replace(unpaired=[note.replace(str(path), path.name) for note in notes])
    if options.out is not None:
        for written in write_tables(Path(options.out), compared, results.metric):
            say(f"Written: {written}")


def _in_practice(equivalence: float | None) -> str:
    if equivalence is None:
        return "say with --equivalence which differences are negligible in practice"
    return f"differences up to {equivalence:g} mean nothing"


def _over_seeds(
    options: ResultsOptions,
    results: Results,
    unit: Unit,
    scores: Scores,
    sizes: tuple[int | None, int | None],
    equivalence: float | None,
) -> Compared:
    """The comparison of a single recording."""
    n_train, n_test = sizes
    n_seeds = len(next(iter(scores.values())))
    if n_seeds < 2:
        raise UserError(
            f"{options.results} has a single seed at which every configuration has a score: "
            "nothing can be tested. Run more."
        )
    if n_test == 0:
        n_train = n_train or 1  # which the test does not depend on
    if n_train is None or n_test is None:
        raise UserError(
            "the test depends on how far splits overlap. Give --n-train and --n-test, the items of "
            "the training and test splits; --n-test 0 if all seeds share their splits."
        )
    resolution = resolution_of(
        results.metric,
        (score for values in scores.values() for score in values),
        results.decimals,
        n_test,
        _WHOLE[unit],
    )
    differences = [
        difference_over_seeds(
            f"{a} vs {b}",
            *(scores[a], scores[b], n_train, n_test),
            resolution.smallest_variance(scores[a] - scores[b], n_train),
            resolution.rounded,
            bounds=_BOUNDS[unit],
        )
        for a, b in pairs_of(scores, options.baseline)
    ]
    comparisons, metric = compare(differences, equivalence), results.metric
    means = [
        {"configuration": name, metric: formats.plain(values.mean(), spread(values))}
        for name, values in scores.items()
    ]
    tests = comparison_rows(comparisons, "comparison", formats.plain)
    detectable = smallest_detectable_effect(n_seeds, n_train, n_test, len(comparisons))
    words = [
        f"{n_seeds} seeds show differences from {detectable:.2f} sd on (80 % power, after Holm).",
        f"{LEGEND} {AT_LEAST}" if n_test else SHARED_TEST,
        further_legend(comparisons, equivalence, formats.plain),
    ]
    test = CORRECTED if n_test else SHARED
    return Compared([means, tests, further_rows(comparisons)], comparisons, words, test)


def _over_subjects(
    options: ResultsOptions,
    results: Results,
    scores: BySubject,
    unit: Unit,
    equivalence: float | None,
) -> Compared:
    """The comparison of several recordings."""
    comparisons = compare_subjects(
        scores,
        baseline=options.baseline,
        equivalence=equivalence,
        bounds=_BOUNDS[unit],
        resolutions=resolutions_of(options, results, scores, unit),
        shared=(results.splits is not None and results.splits.shared) or options.n_test == 0,
    )
    tables = subject_tables(scores, comparisons, formats.plain)
    words = [legend(comparisons, equivalence, formats.plain)]
    return Compared(tables, comparisons, words, SUBJECTS if results.has_subjects else RECORDINGS)


def resolutions_of(
    options: ResultsOptions, results: Results, scores: BySubject, unit: Unit
) -> Resolutions:
    """How finely the scores of each recording are known: from their test items, or their digits.

    Args:
        options: Flags, which may say how many items a test split has.
        results: The table of the scores.
        scores: Scores by subject, recording and configuration.
        unit: Unit of the scores.
    """
    stated = options.n_test or (results.splits.n_test if results.splits else None) or 0
    whole = _WHOLE[unit]

    def of_recording(found: Scores) -> Resolution:
        n_test = stated
        if not n_test and results.decimals >= PROGRAM_DIGITS:
            n_test = exact_resolution(found, whole).n_test
        values = (score for by_seed in found.values() for score in by_seed)
        return resolution_of(results.metric, values, results.decimals, n_test, whole)

    return {
        subject: {name: of_recording(found) for name, found in recordings.items()}
        for subject, recordings in scores.items()
    }


def write_tables(out: Path, compared: Compared, metric: str) -> Iterator[Path]:
    """Write the comparisons as numbers and the tables as LaTeX; yield what was written.

    Args:
        out: A .csv of the comparisons, a .tex of all tables, or a folder for both.
        compared: Comparison to write.
        metric: Name of the score.

    Raises:
        UserError: The file can't be written.
    """
    last, unpaired = len(compared.tables) - 1, " ".join(compared.unpaired)
    more = {"test": compared.test} | ({"unpaired": unpaired} if unpaired else {})
    values = [row | more for row in comparison_values(compared.comparisons, metric)]
    legend = " ".join([*compared.words, *compared.unpaired])
    contents = {
        ".csv": csv_table(values),
        ".tex": "\n".join(
            formats.latex_table(rows, legend if place == last else metric)
            for place, rows in enumerate(compared.tables)
        ),
    }
    for kind, path in _paths(out).items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"--out {path} can't be written ({error.strerror}). Name a .csv, a .tex or a "
                "folder, in one that can be written."
            ) from error
        write_whole(UPath(path), contents[kind])
        yield path


def _paths(out: Path) -> Mapping[str, Path]:
    """Where the numbers and the tables are written, by the kind of file."""
    suffix = out.suffix.lower()
    return {suffix: out} if suffix else {".csv": out / TESTS_FILE, ".tex": out / TABLES_FILE}


def _check_out(out: Path, results: Path) -> None:
    """Refuse to write the comparisons over the scores that they are of, or below a file."""
    for path in _paths(out).values():
        parent = next(each for each in path.parents if each.exists() or each == each.parent)
        blocked = f"{path} is a folder" if path.is_dir() else f"{parent} is a file, not a folder"
        if path.is_dir() or parent.is_file():
            raise UserError(f"--out {out}: {blocked}. Name another .csv, .tex or folder.")
        try:
            is_same = path.samefile(results)
        except OSError:  # one of them is not there, which its reader or writer tells
            continue
        if is_same:
            raise UserError(
                f"--out {out} would write over the scores in {results}. Name another place."
            )


if __name__ == "__main__":
    from ssense.cli.command import run_command

    run_command(ResultsOptions, main)
