"""Sweeps of several subjects' recordings, compared over subjects.

    python analysis/recordings.py --storage DIR --sweeps SWEEP SWEEP SWEEP

The sweeps must have been evaluated, each by `python analysis/evaluate.py --sweep SWEEP`, all
by one protocol, and be alike in splits, training, families and target; no test split is looked
at again. A verdict comes first, then the tests over subjects, and how much subjects differ. Tables
and a forest plot are in STORAGE/recordings_compared/, in a folder of their own for each choice of
sweeps.
"""

from __future__ import annotations

from analysis.options import RecordingsOptions
from ssense.cli.command import check_flags, run_command

if __name__ == "__main__":
    check_flags(RecordingsOptions)  # before the imports that take seconds

import csv
import io
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np

from analysis.control.scores import PRIMARY
from analysis.measure import formats, subject_sweeps
from analysis.measure.comparison import EQUIVALENCE, Comparison, Scores, comparison_values
from analysis.measure.seed_results import FRESH_SEEDS, SEARCH_SEEDS
from analysis.measure.subjects import BySubject, compare_subjects, legend, subject_tables
from analysis.report.figures import FIGURE_KINDS, figure_bytes
from analysis.report.findings import explained_by, in_list, is_above, shown_from, verdict
from analysis.report.forest_figure import forest_figure
from analysis.report.origin import control_verdict, read_controls
from analysis.report.sentences import SPLITS, tower_words
from analysis.subjects.heterogeneity import LEGEND as HETEROGENEITY
from analysis.subjects.heterogeneity import (
    SubjectEffects,
    averaged,
    heterogeneity_rows,
    heterogeneity_values,
)
from ssense.choices import SplitKind
from ssense.cli.command import shell_command
from ssense.cli.screen import console, say
from ssense.engine.core.origin import RecordingOrigin
from ssense.engine.records.find import find_ledger
from ssense.engine.records.ledger import Ledger
from ssense.errors import UserError, one_line
from ssense.files.digest import digest
from ssense.files.markdown import markdown_table
from ssense.files.storage import open_storage, read_whole, write_anew
from ssense.files.tables import csv_table
from ssense.retrieval import metric_title
from ssense.training.sentences import SentenceSpec

PROTOCOLS = {
    SEARCH_SEEDS: "the search seeds, at which the configurations were chosen",
    FRESH_SEEDS: "fresh seeds, at which nothing was chosen",
}

_WITHOUT_ERRORS = (
    "How much subjects differ is not stated: no difference has a standard error in every subject. "
    "Seeds that agree exactly have none; evaluations of earlier versions kept none, and are made "
    "again by analysis/evaluate.py."
)

Row = Mapping[str, str]
Parsed = TypeVar("Parsed")


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """A sweep's last test evaluation, at fresh seeds if there were any.

    Attributes:
        ledger: The sweep's ledger.
        origin: The origin of its sentences.
        split: Kind of the sweep's splits.
        protocol: FRESH_SEEDS or SEARCH_SEEDS.
        seeds: Seeds of the protocol.
        scores: Scores by family, `[J]`, in the order of the seeds.
        chance: Chance of the same metric.
        missing: Cells that the sweep lacked, so that the choice was between fewer.
        controlled: The family that its controls are of, empty where none are of what was evaluated.
        controls: What they say, as a clause of a verdict.
        effects: The difference of each comparison, and its standard error; empty for evaluations
            of earlier versions, which kept no errors.
    """

    ledger: Ledger
    origin: RecordingOrigin
    split: SplitKind
    protocol: str
    seeds: tuple[int, ...]
    scores: Scores
    chance: float
    missing: int
    controlled: str
    controls: str
    effects: Mapping[str, tuple[float, float]]

    @property
    def subject(self) -> str:
        """The subject of the recording."""
        return self.origin.subject

    @property
    def title(self) -> str:
        """The title of the recording."""
        return self.origin.title


def read_evaluation(ledger: Ledger, metric: str) -> Evaluated:
    """Read what a sweep's last test evaluation left.

    Raises:
        UserError: The sweep was not evaluated, or a file of the evaluation is damaged.
    """
    protocol, seeds, scores = _parsed(ledger, "scores.csv", partial(_last_protocol, metric=metric))
    chance, missing = _parsed(
        ledger, "table.csv", partial(_chance_and_missing, protocol=protocol, metric=metric)
    )
    controlled = _parsed(ledger, "table.csv", partial(_controlled, ledger=ledger))
    description = ledger.description()
    specification, origin = description.sweep.specification, description.origin
    # `main` asks for sweeps over sentences.
    assert isinstance(specification, SentenceSpec)
    assert isinstance(origin, RecordingOrigin)
    return Evaluated(
        ledger=ledger,
        origin=origin,
        split=specification.split,
        protocol=protocol,
        seeds=seeds,
        scores=scores,
        chance=chance,
        missing=missing,
        controlled=controlled,
        controls=control_verdict(ledger) if controlled else "",
        effects=_parsed(ledger, "tests.csv", partial(_effects, protocol=protocol, metric=metric)),
    )


def _parsed(ledger: Ledger, file: str, parse: Callable[[list[Row]], Parsed]) -> Parsed:
    path = ledger.folder / "evaluation" / file
    try:
        return parse(list(csv.DictReader(io.StringIO(read_whole(path).decode()), strict=True)))
    except FileNotFoundError:
        name = ledger.folder.name
        raise UserError(f"{name} was not evaluated. Run {_evaluation(ledger)} first.") from None
    except KeyError as error:
        problem = f"no column {error}"
    except (TypeError, ValueError, csv.Error) as error:
        problem = one_line(error)
    raise UserError(f"{path} is damaged ({problem}). Run {_evaluation(ledger)} again.")


def _last_protocol(
    rows: Sequence[Row], metric: str
) -> tuple[str, tuple[int, ...], dict[str, np.ndarray]]:
    """The strictest protocol, its seeds, and scores by family."""
    fresh = any(row["protocol"] == FRESH_SEEDS for row in rows)
    protocol = FRESH_SEEDS if fresh else SEARCH_SEEDS
    table: dict[str, dict[int, float]] = defaultdict(dict)
    for row in rows:
        if row["protocol"] == protocol:
            table[row["family"]][int(row["seed"])] = _fraction(row[metric])
    if not table:
        raise ValueError(f"nothing at {protocol}")
    seeds = tuple(next(iter(table.values())))
    for family, known in table.items():
        if tuple(known) != seeds:
            raise ValueError(f"{family} has other seeds than {next(iter(table))}")
    scores = {family: np.array(list(known.values())) for family, known in table.items()}
    return protocol, seeds, scores


def _chance_and_missing(rows: Sequence[Row], protocol: str, metric: str) -> tuple[float, int]:
    for row in rows:
        if row["protocol"] == protocol:
            return _fraction(row[f"{metric}_chance"]), int(row["missing_cells"])
    raise ValueError(f"nothing at {protocol}")


def _effects(rows: Sequence[Row], protocol: str, metric: str) -> dict[str, tuple[float, float]]:
    """Each difference and its error; without those that the seeds say nothing of."""
    return {
        row["comparison"]: (float(row["mean"]), float(row["error"]))
        for row in rows
        if (row["protocol"], row["metric"]) == (protocol, metric) and row.get("error")
    }


def _controlled(rows: Sequence[Row], ledger: Ledger) -> str:
    """The family that the controls are of, if they are of a configuration that was evaluated."""
    kept, seeds = read_controls(ledger), ledger.description().sweep.seeds
    for row in rows:
        if kept and kept.belong_to(row["family"], row["configuration"], seeds):
            return row["family"]
    return ""


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError(f"expected a fraction, got {text}")
    return value


def _evaluation(ledger: Ledger) -> str:
    """The command that evaluates a sweep."""
    script = "analysis/evaluate.py"
    return shell_command(script, storage=ledger.storage, sweep=ledger.folder.name)


def check_alike(found: Sequence[Evaluated]) -> None:
    """Refuse evaluations that say different things of their configurations.

    Raises:
        UserError: Two are of one recording, or they differ in protocol, or in what
            `subject_sweeps.check_alike` compares.
    """
    known: dict[tuple[str, str], str] = {}
    for each in found:
        name, recording = each.ledger.folder.name, (each.subject, each.title)
        if recording in known:
            raise UserError(
                f"`sweeps`: {known[recording]} and {name} are both of {', '.join(recording)}. "
                "Give one sweep of each recording."
            )
        known[recording] = name
    fresh = [each for each in found if each.protocol == FRESH_SEEDS]
    search = [each for each in found if each.protocol != FRESH_SEEDS]
    if fresh and search:
        seeds = " ".join(map(str, fresh[0].seeds))
        raise UserError(
            f"{search[0].ledger.folder.name} was evaluated at search seeds alone, "
            f"{fresh[0].ledger.folder.name} at fresh ones, and they can't be mixed. Run "
            f"{_evaluation(search[0].ledger)} --confirm-seeds {seeds}."
        )
    subject_sweeps.check_alike([each.ledger for each in found])


def by_subject(found: Sequence[Evaluated]) -> tuple[BySubject, dict[str, float]]:
    """Gather scores by subject and recording, and chance by subject, mean over its recordings."""
    scores: dict[str, dict[str, Scores]] = defaultdict(dict)
    levels: dict[str, list[float]] = defaultdict(list)
    for each in found:
        scores[each.subject][each.title] = each.scores
        levels[each.subject].append(each.chance)
    return scores, {subject: float(np.mean(values)) for subject, values in levels.items()}


def subject_effects(
    found: Sequence[Evaluated], comparisons: Sequence[Comparison]
) -> list[SubjectEffects]:
    """The differences that every recording has an error of, by subject."""
    kept = []
    for name in (each.name for each in comparisons):
        if not all(name in each.effects and each.effects[name][1] > 0 for each in found):
            continue
        sessions: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for each in found:
            sessions[each.subject].append(each.effects[name])
        means, errors = zip(
            *(averaged(*zip(*own, strict=True)) for own in sessions.values()), strict=True
        )
        kept.append(SubjectEffects(name, tuple(sessions), np.array(means), np.array(errors)))
    return kept


def caption(found: Sequence[Evaluated]) -> str:
    """Say in words what was compared; all are of one protocol and kind of split."""
    recordings = "; ".join(
        f"{each.subject}, {each.title} ({each.ledger.folder.name})" for each in found
    )
    first = found[0]
    lacking = [f"{each.ledger.folder.name} lacks {each.missing}" for each in found if each.missing]
    missing = f" Cells missing from the search: {', '.join(lacking)}." if lacking else ""
    return (
        f"{recordings}: held-out test splits ({first.split}){SPLITS[first.split]}, at "
        f"{PROTOCOLS[first.protocol]}.{missing} {tower_words(first.origin)}"
    )


def all_explained(found: Sequence[Evaluated], *, above: bool) -> str:
    """What the controls of all recordings say, those together that say the same.

    Args:
        found: The evaluations.
        above: Whether any family is shown to be above chance.
    """
    said: dict[str, list[str]] = defaultdict(list)
    for each in found:
        fresh = each.protocol == FRESH_SEEDS
        words = explained_by(each.controlled, each.controls, fresh=fresh, above=above)
        said[words].append(f"{each.subject} ({each.title})")
    if len(said) == 1:
        return next(iter(said))
    return "; ".join(f"of {in_list(names)}, {words}" for words, names in said.items())


def main(options: RecordingsOptions) -> None:
    """Compare families over subjects, which are the unit."""
    storage = open_storage(options.storage, must_exist=True)
    names = dict.fromkeys(options.sweeps)
    found = [read_evaluation(find_ledger(storage, name, "sentences"), PRIMARY) for name in names]
    check_alike(found)
    scores, chance = by_subject(found)
    comparisons = compare_subjects(scores, chance, shared=found[0].split == "held-out")
    shown = partial(formats.score, PRIMARY)
    effects = subject_effects(found, comparisons)
    tables = subject_tables(scores, comparisons, shown)
    if effects:
        tables.append(heterogeneity_rows(effects, shown))
    protocol, split = found[0].protocol, found[0].split
    metric = f"{metric_title(PRIMARY)} over {len(scores)} subjects at {protocol}"
    title = f"{metric}, {split} splits"
    families = list(found[0].scores)
    explained = all_explained(found, above=any(map(is_above, comparisons[: len(families)])))
    first = verdict(families, comparisons, metric, explained)
    pairs, unit = comparisons[len(families) :], f"{len(scores)} subjects"
    power = [shown_from(unit, pairs, metric_title(PRIMARY), "families")] if pairs else []
    words = [caption(found), *power, legend(comparisons, EQUIVALENCE, shown)]
    words.append(HETEROGENEITY if effects else _WITHOUT_ERRORS)
    say(first)
    say(title)
    for rows in tables:
        console.print(formats.screen_table(rows))
    for line in words:
        say(line)
    # The order of the sweeps does not matter.
    folder = (
        storage / "recordings_compared" / digest(sorted(each.ledger.folder.name for each in found))
    )
    parts = [f"# {title}", first, *words, *map(markdown_table, tables)]
    captions = [*[title] * (len(tables) - 1), " ".join([first, *words])]
    latex = map(formats.latex_table, tables, captions)
    values = [
        {"protocol": protocol, "split": split, **row}
        for row in comparison_values(comparisons, PRIMARY)
    ]
    contents: dict[str, str | bytes] = {
        "recordings.md": "\n\n".join(parts),
        "recordings.tex": "\n".join(latex),
        "recordings.csv": csv_table(values),
    }
    if effects:
        contents["heterogeneity.csv"] = csv_table(heterogeneity_values(effects, PRIMARY))
        figure = forest_figure(effects, PRIMARY)
        contents |= {f"forest.{kind}": figure_bytes(figure, kind) for kind in FIGURE_KINDS}
    write_anew(folder, contents)
    say(f"Tables{' and forest plot' if effects else ''}: {folder}")


if __name__ == "__main__":
    run_command(RecordingsOptions, main)
