"""Scores from a file of any origin: long or wide, with commas, semicolons or tabs, as it was saved.

Long: a row for each configuration and seed, and a column for each score. Wide: a column for each
seed, or for each configuration. An evaluation's scores.csv is long, with the family as the
configuration, a protocol and the kind of split; that of images has objectives, which are compared.
Columns subject and recording, either or both, say whose scores they are. What was understood is
said, and what can't be told apart is refused.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Literal, NamedTuple

from analysis.measure.score_splits import COLUMNS, Splits, read_splits
from analysis.measure.seed_results import FRESH_SEEDS
from analysis.scores.sheet import (
    CONFIGURATION,
    INDEX,
    KNOWN,
    MISSING_CELLS,
    PROTOCOL,
    RECORDING,
    SEED,
    SUBJECT,
    UNITS,
    Sheet,
    listed,
    no_columns,
    read_sheet,
    without_index,
)
from ssense.errors import UserError, printable
from ssense.training.images import ImageSpec
from ssense.training.sentences import SentenceSpec

OBJECTIVE = "objective"
_SEED = re.compile(r"(?:seed[ _-]?)?(\d{1,19})(?:[.,]0+)?")
_NUMBER = re.compile(r"[+-]?(?:\d+[.,]?\d*|[.,]\d+)(?:[eE][+-]?\d{1,9})?")
"""A number as people and programs write it; Python's own reading takes 0_1 for 1."""
_CELL_COLUMNS = ("status", "standing", "signature")
"""Columns that a sweep's table of cells has, and no table of test scores."""
_EXACT_WHOLE = 2**53
"""Whole numbers below it have floats of their own."""
_LEAST, _MOST = 1e-100, 1e100
"""Magnitudes of scores that can be squared and added up without loss."""
_THOUSANDS = re.compile(r"[1-9]\d{0,2}(,\d{3})+")
_ERRORS = re.compile(r"loss|nll|entropy|perplexity|error|rank\b|seconds|_s\b", re.IGNORECASE)
"""Scores of these names are no percentages, whatever they range over."""
_ABSENT = ("", "na", "n/a", "#n/a", "nan", "none", "null", "-", "–", ".", "missing")

Unit = Literal["fraction", "percent", "own"]
Table = Mapping[str, Mapping[int, float]]
"""Scores of one recording by configuration and seed."""


class Results(NamedTuple):
    """A table of scores.

    Attributes:
        metric: Name of the score's column.
        has_subjects: Whether the table says whose recordings they are; else each is one subject's.
        tables: Scores by subject and recording; "" where there is no such column.
        absent: Configuration and seed of each score without a value, by subject and recording.
        percent_signs: Whether every score has a percent sign.
        decimals: The most digits behind the point that any score is written with.
        splits: The splits that the scores come from, where the file says so.
        notes: How the file was understood, a line each.
    """

    metric: str
    has_subjects: bool
    tables: Mapping[str, Mapping[str, Table]]
    absent: Mapping[tuple[str, str], Sequence[tuple[str, int]]]
    percent_signs: bool
    decimals: int
    splits: Splits | None
    notes: Sequence[str]


class Entry(NamedTuple):
    """A score as the file has it: where, whose, and the texts of its seed and value."""

    where: str
    subject: str
    recording: str
    configuration: str
    seed: str
    value: str


def unit_of(results: Results) -> Unit:
    """Whether scores are fractions of 1, percentages, or in a unit of their own.

    A percentage is above 1 somewhere: a table whose largest is below 1 % is taken for fractions.
    """
    scores = [
        score
        for recordings in results.tables.values()
        for table in recordings.values()
        for by_seed in table.values()
        for score in by_seed.values()
    ]
    if results.percent_signs:
        return "percent"
    if not scores or min(scores) < 0 or max(scores) > 100 or _ERRORS.search(results.metric):
        return "own"
    return "fraction" if max(scores) <= 1 else "percent"


def read_scores(path: Path, metric: str | None = None) -> Results:
    """Read a table of scores.

    Args:
        path: Path of the file.
        metric: Column of the score, where there are several.

    Raises:
        UserError: The file can't be read, columns can't be told apart, or a value makes no sense.
    """
    sheet = read_sheet(path)
    notes: list[str] = []
    sheet = without_index(sheet, notes)
    entries, name, splits = _entries(sheet, metric, notes)
    signs: Counter[bool] = Counter()
    tables: dict[str, dict[str, dict[str, dict[int, float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(dict))
    )
    absent: dict[tuple[str, str], list[tuple[str, int]]] = defaultdict(list)
    seen: Counter[tuple[str, str, str, int]] = Counter()
    texts: list[str] = []
    for entry in entries:
        seed = _seed(entry)
        cell = entry.subject, entry.recording, entry.configuration, seed
        if seen[cell]:
            raise _twice(entry, seed, sheet.columns)
        seen[cell] += 1
        known = tables[entry.subject][entry.recording][entry.configuration]
        if entry.value.strip().casefold() in _ABSENT:
            absent[entry.subject, entry.recording].append((entry.configuration, seed))
        else:
            known[seed] = _score(entry, name)
            texts.append(_number_text(entry))
            signs[entry.value.strip().endswith("%")] += 1
            if len(signs) > 1:
                raise UserError(
                    f"{entry.where}: only some scores have a percent sign. Make all alike."
                )
    _check_commas(path, texts)
    notes = [*sheet.notes, *notes]
    if any("," in text for text in texts):
        notes.append("A decimal comma is read as a point.")
    results = Results(
        metric=name,
        has_subjects=SUBJECT in sheet.columns,
        tables=tables,
        absent=absent,
        percent_signs=signs[True] > 0,
        decimals=max((_decimals(text) for text in texts), default=0),
        splits=splits,
        notes=notes,
    )
    if unit_of(results) == "percent" and not results.percent_signs:
        _check_scales(path, tables)
    return results


def _twice(entry: Entry, seed: int, columns: Sequence[str]) -> UserError:
    advice = "Keep one."
    if not {*UNITS} & {*columns}:
        advice = "Keep one; or say in a column subject or recording whose each is."
    return UserError(
        f"{entry.where}: {printable(entry.configuration)} has seed {seed} twice. {advice}"
    )


def _check_commas(path: Path, texts: Sequence[str]) -> None:
    """Refuse numbers whose commas may part thousands as well as decimals."""
    with_comma = [text for text in texts if "," in text]
    if with_comma and all(map(_THOUSANDS.fullmatch, with_comma)):
        raise UserError(
            f"{path}: {printable(with_comma[0], 20)} may be a decimal or thousands, as every number"
            " with a comma may here. Write decimals with a point, and thousands without a comma."
        )


def _check_scales(
    path: Path, tables: Mapping[str, Mapping[str, Mapping[str, Mapping[int, float]]]]
) -> None:
    """Refuse fractions beside percentages: scores up to 1, and all others over 20 times as large.

    Asked of what has most in common: the seeds of a configuration, two configurations of one
    recording, and one configuration in all recordings. A zero is the same in both, and two scores
    alone may differ as much.
    """
    recordings = [table for by_name in tables.values() for table in by_name.values()]
    names = dict.fromkeys(name for table in recordings for name in table)
    alike = [some for t in recordings for n in (1, 2) for some in combinations(t.items(), n)]
    alike += [tuple((name, t.get(name, {})) for t in recordings) for name in names]
    for groups in alike:
        scores = [(x, name) for name, by_seed in groups for x in by_seed.values() if x > 0]
        low = max((found for found in scores if found[0] <= 1), default=None)
        high = min((found for found in scores if found[0] > 1), default=None)
        if low and high and high[0] > 20 * low[0] and len(scores) > 2:
            raise UserError(
                f"{path} has fractions beside percentages, as it seems: {low[0]:g} of "
                f"{printable(low[1], 50)}, {high[0]:g} of {printable(high[1], 50)}. Make all alike,"
                " or write a percent sign behind each percentage."
            )


def _decimals(text: str) -> int:
    """Digits behind the point; many where a power of ten is given."""
    mantissa, _, exponent = text.casefold().replace(",", ".").partition("e")
    shift = int(exponent or 0) if float(mantissa) else 0  # zero has no power of ten
    return len(mantissa.partition(".")[2]) - shift


# ---------------------------------------------------------------- layouts


class _Content(NamedTuple):
    """The scores of a file, what they are called, and the splits they come from."""

    entries: Iterator[Entry]
    metric: str
    splits: Splits | None = None


def _entries(sheet: Sheet, metric: str | None, notes: list[str]) -> _Content:
    """The scores of the file, by its layout."""
    names = list(sheet.columns)
    twice = [name for name, n in Counter(names).items() if n > 1]
    if twice:
        name = printable(twice[0]) or "one without a name"
        raise UserError(f"{sheet.path} must have each column once, got {name} twice.")
    if {SEED, *_CELL_COLUMNS} <= {*names}:
        raise UserError(
            f"{sheet.path} is a sweep's table of all its cells, scored in validation. Give the "
            "evaluation's scores.csv, which has the chosen configurations on test splits."
        )
    # A table of pandas with a named row for each configuration has no name above them.
    if CONFIGURATION not in names and SEED not in names and names and INDEX.fullmatch(names[0]):
        names[0] = CONFIGURATION
    sheet = replace(sheet, columns=names)
    others = [name for name in names if name not in KNOWN]
    if CONFIGURATION in names and SEED in names:
        return _long(sheet, metric, notes)
    if CONFIGURATION in names and others and all(_SEED.fullmatch(n.casefold()) for n in others):
        notes.append(f"Read as wide: a column for each seed, {listed(others)}.")
        return _wide(sheet, others, metric, seeds_in_columns=True)
    if SEED in names and "" in others:
        advice = "Call it configuration, if that is what it says, or leave it out."
        raise no_columns(sheet.path, names, advice)
    if SEED in names and len(others) > 1:
        _check_numbers(sheet, others)
        notes.append(f"Read as wide: a column for each configuration, {listed(others)}.")
        return _wide(sheet, others, metric, seeds_in_columns=False)
    odd = [name for name in others if not _SEED.fullmatch(name.casefold())]
    if CONFIGURATION in names and len(odd) < len(others):
        raise no_columns(sheet.path, names, f"Leave out what is no seed: {listed(odd)}.")
    raise no_columns(sheet.path, names)


def _check_numbers(sheet: Sheet, others: Sequence[str]) -> None:
    """Refuse a column of words among those of configurations: it names them, or whose they are."""
    words = [name for name in others if not any(map(_is_score, sheet.column(name)))]
    if words and sheet.rows:
        raise no_columns(
            sheet.path,
            sheet.columns,
            f"{printable(words[0], 30)} holds no numbers: call it configuration, if that is what "
            "it says, or leave it out.",
        )


def _long(sheet: Sheet, metric: str | None, notes: list[str]) -> _Content:
    rows, chosen = _one_protocol(sheet)
    splits = read_splits(sheet.path, sheet.columns, rows)
    plain = replace(sheet, rows=rows)
    sheet = _by_objective(plain, notes)
    known = [*KNOWN, *(COLUMNS if splits else ())]
    others = [name for name in sheet.columns if name.casefold() not in known]
    had_objectives = sheet is not plain
    if had_objectives or (splits is not None and splits.of_images):
        primary = [ImageSpec.primary, SentenceSpec.primary]
    else:
        primary = [SentenceSpec.primary]
    name = _metric(sheet, others, metric, primary)
    left = [other for other in others if other != name]
    if left:
        notes.append(f"Score: {name}. Not used: {listed(left)}.")
    if PROTOCOL in sheet.columns:
        notes.append(f"Rows of the protocol {chosen}.")
    if MISSING_CELLS in sheet.columns and any(cell != "0" for cell in sheet.column(MISSING_CELLS)):
        notes.append("The sweep lacked cells: the choice was between fewer configurations.")
    places = {column: place for place, column in enumerate(sheet.columns)}

    def entries() -> Iterator[Entry]:
        for line, cells in sheet.rows:
            where = f"{sheet.path}, line {line}"
            configuration = _named(where, cells[places[CONFIGURATION]], CONFIGURATION)
            unit = _unit(where, cells, places)
            yield Entry(where, *unit, configuration, cells[places[SEED]], cells[places[name]])

    return _Content(entries(), name, splits)


def _by_objective(sheet: Sheet, notes: list[str]) -> Sheet:
    """The table of an image evaluation over subjects with what it compares as configuration.

    These are the objectives, whose configurations were chosen subject by subject; or the
    configurations, where a subject has several of an objective. Other tables stay as they are.
    """
    columns = [OBJECTIVE if n.casefold() == OBJECTIVE else n for n in sheet.columns]
    found = replace(sheet, columns=columns)
    named = OBJECTIVE in columns and not any(map(_is_score, found.column(OBJECTIVE)))
    if not named or SUBJECT not in columns:
        return sheet
    of = [found.column(name) for name in (*UNITS, OBJECTIVE) if name in columns]
    chosen = {(*row,) for row in zip(*of, found.column(CONFIGURATION), strict=True)}
    if len(chosen) > len({row[:-1] for row in chosen}):
        notes.append("Configurations are compared, for an objective has several.")
        return found.without([columns.index(OBJECTIVE)])
    notes.append("Objectives are compared, each at the configuration that its subject has of it.")
    found = found.without([columns.index(CONFIGURATION)])
    names = [CONFIGURATION if name == OBJECTIVE else name for name in found.columns]
    return replace(found, columns=names)


def _is_score(text: str) -> bool:
    """Whether a cell may be a score, or one that is missing."""
    text = text.strip().removesuffix("%").strip()
    return text.casefold() in _ABSENT or _NUMBER.fullmatch(text) is not None


def _metric(sheet: Sheet, others: Sequence[str], asked: str | None, primary: Sequence[str]) -> str:
    by_name = {name.casefold(): name for name in others}
    if asked is not None:
        if asked.casefold() not in by_name:
            raise UserError(
                f"`metric` {printable(asked)} is not a column of {sheet.path}. Found: "
                f"{listed(others) or 'no score'}."
            )
        return by_name[asked.casefold()]
    if len(others) == 1:
        return others[0]
    for name in primary:
        if name in by_name:
            return by_name[name]
    if not others:
        raise no_columns(sheet.path, sheet.columns)
    numbers = [name for name in others if all(map(_is_score, sheet.column(name)))] or others
    words = [name for name in others if name not in numbers]
    advice = ""
    if words and SUBJECT not in sheet.columns:
        advice = f" If {printable(words[0], 30)} says whose scores they are, call it subject."
    raise UserError(
        f"{sheet.path} has several columns beside configuration and seed: {listed(others)}. Name "
        f"the score, as `metric` {printable(numbers[0], 30)}.{advice}"
    )


def _one_protocol(sheet: Sheet) -> tuple[Sequence[tuple[int, Sequence[str]]], str]:
    """The rows of an evaluation at fresh seeds if there are any, else at those of the search."""
    if PROTOCOL not in sheet.columns:
        return sheet.rows, ""
    protocols = list(dict.fromkeys(sheet.column(PROTOCOL)))
    chosen = FRESH_SEEDS if FRESH_SEEDS in protocols else protocols[0] if protocols else ""
    if len(protocols) > 1 and FRESH_SEEDS not in protocols:
        raise UserError(
            f"{sheet.path} has rows of several protocols: {listed(protocols)}. Keep one."
        )
    place = list(sheet.columns).index(PROTOCOL)
    return [row for row in sheet.rows if row[1][place] == chosen], chosen


def _wide(
    sheet: Sheet, others: Sequence[str], metric: str | None, *, seeds_in_columns: bool
) -> _Content:
    if metric is not None:
        raise UserError(
            f"`metric` {printable(metric)}: {sheet.path} is wide, with a column for each "
            f"{'seed' if seeds_in_columns else 'configuration'} and none for a metric "
            f"({listed(others)}). Leave it out, or give a column for each score."
        )
    places = {column: place for place, column in enumerate(sheet.columns)}

    def entries() -> Iterator[Entry]:
        for line, cells in sheet.rows:
            where = f"{sheet.path}, line {line}"
            unit = _unit(where, cells, places)
            for name in others:
                value = cells[places[name]]
                if seeds_in_columns:
                    configuration = _named(where, cells[places[CONFIGURATION]], CONFIGURATION)
                    yield Entry(where, *unit, configuration, name, value)
                else:
                    yield Entry(where, *unit, name, cells[places[SEED]], value)

    return _Content(entries(), "score")


def _unit(where: str, cells: Sequence[str], places: Mapping[str, int]) -> tuple[str, str]:
    """Subject and recording of a row; a recording without subject is a subject of its own."""
    named = {
        column: _named(where, cells[places[column]], column) for column in UNITS if column in places
    }
    recording = named.get(RECORDING, "")
    return named.get(SUBJECT, recording), recording


def _named(where: str, name: str, column: str) -> str:
    if not name.strip():
        raise UserError(f"{where}: {column} is empty. Name it, or leave the line out.")
    return name.strip()


# ---------------------------------------------------------------- values


def _seed(entry: Entry) -> int:
    text = entry.seed.strip().casefold()
    found = _SEED.fullmatch(_without_power(text))
    if found is None:
        shown = printable(entry.seed) or "nothing"
        advice = "Number the seeds, and leave out lines that are no scores of one seed."
        if entry.configuration.startswith("#"):
            advice = "Comments go above the header; below it, # begins a name."
        raise UserError(f"{entry.where}: expected a whole seed, such as 0, got {shown}. {advice}")
    return int(found[1])


def _without_power(text: str) -> str:
    """A whole number that NumPy wrote with a power of ten, such as 1.000e+01, as 10."""
    if not re.fullmatch(r"\d[.,]?\d*e[+-]?\d{1,2}", text):
        return text
    value = float(text.replace(",", "."))
    return str(int(value)) if value.is_integer() and value < _EXACT_WHOLE else text


def _number_text(entry: Entry) -> str:
    """A score as it is written, without its percent sign."""
    return entry.value.strip().removesuffix("%").strip()


def _score(entry: Entry, metric: str) -> float:
    text = _number_text(entry)
    expected = f"{entry.where}: expected a number as {printable(metric)}, got"
    if not _NUMBER.fullmatch(text):
        raise UserError(
            f"{expected} {printable(entry.value)}. Write decimals with a point, or leave the cell "
            "empty where there is no result."
        )
    value = float(text.replace(",", "."))
    if value and not _LEAST <= abs(value) <= _MOST:
        raise UserError(
            f"{expected} {printable(entry.value)}, which is beyond {_LEAST:g} to {_MOST:g}. Give "
            "scores in another unit."
        )
    return value
