"""Image decoding on the test images: every objective's best configuration, subject by subject.

    python analysis/image_evaluation.py --storage DIR [--sweeps SWEEP SWEEP]

Of each subject's sweep, and of each objective, the configuration with the best mean validation
Recall@10; each of its seeds' encoders retrieves the test images. Nothing is trained. All seeds
share the test: the unit of the tests is the subject. Every look is recorded.
Tables are in STORAGE/image_evaluation/, in a folder of their own for each choice of sweeps.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and not __package__:
    # Run as a file, its folder comes first, and analysis/statistics.py hides the standard library's
    sys.path.pop(0)

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial

import numpy as np
from upath import UPath

from analysis import report
from analysis.comparison import EQUIVALENCE, comparison_values
from analysis.evaluation import another_models, best_configurations, require_all, take_up
from analysis.looks import count_looks, record_look
from analysis.published_images import GALLERIES, MEANS, SSR, Modality, Task
from analysis.subjects import BySubject, compare_subjects, legend, subject_rows, subject_tables
from ssense.command import run_command
from ssense.data.image_dataset import BEST_TEST_EPOCH, ImageDataset
from ssense.data.synthetic_things import RECORD
from ssense.data.things_responses import POSTERIOR
from ssense.digest import digest
from ssense.errors import UserError, printable
from ssense.image_training import ImageTrainingSpec
from ssense.retrieval import chance_metrics
from ssense.storage import locate, open_storage, write_whole
from sweeps.engine.cell import Configuration, configured, describe
from sweeps.engine.ledger import Ledger, Record, find_ledger, readable_ledgers, sweep_folders
from sweeps.engine.process import any_device
from sweeps.engine.progress import console, say, step
from sweeps.engine.reproduce import sweep_dataset
from sweeps.engine.search import Search
from sweeps.engine.tracking import Tracker

TOPS = {"recall@1": "Top-1", "recall@5": "Top-5"}
PRIMARY = "recall@1"
N_TEST = 200  # images, of the published tests
OVER = "over subjects"


@dataclass(frozen=True, kw_only=True)
class ImageEvaluationOptions:
    """Flags; each is also an environment variable, --storage as SSENSE_STORAGE."""

    storage: str = "storage"
    """Where the sweeps were kept."""
    sweeps: tuple[str, ...] = ()
    """Names of sweeps, one per subject [each subject's last one]."""
    allow_missing: bool = False
    """Go without the cells that are missing."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluated:
    """One subject's sweep on the test images.

    Attributes:
        ledger: of the sweep.
        subject: that was tested.
        training: what its cells share.
        chosen: configuration of each objective.
        seeds: of the sweep.
        scores: by objective and metric, `[J]`, one for each seed.
        n_test: images of the test.
        task: what was published of the same; None for synthetic data.
    """

    ledger: Ledger
    subject: str
    training: ImageTrainingSpec
    chosen: Mapping[str, Configuration]
    seeds: tuple[int, ...]
    scores: Mapping[str, Mapping[str, np.ndarray]]
    n_test: int
    task: Task | None


def subject_ledgers(storage: UPath, names: Sequence[str]) -> list[Ledger]:
    """The sweeps to evaluate, one of each subject.

    Args:
        storage: of the sweeps.
        names: of sweeps; none for the one of each subject that was worked on last.

    Raises:
        UserError: there is none, one is no sweep of images, or two are of one subject.
    """
    if names:
        ledgers = [find_ledger(storage, name, "images") for name in dict.fromkeys(names)]
    else:
        found = readable_ledgers(map(Ledger, sweep_folders(storage)), "images")
        ledgers = list({_subject(ledger): ledger for ledger in found}.values())
    if not ledgers:
        raise UserError(f"{storage} has no sweep of images. Run sweeps/images.py first.")
    subjects: dict[str, str] = {}
    for ledger in ledgers:
        other = subjects.setdefault(_subject(ledger), ledger.folder.name)
        if other != ledger.folder.name:
            raise UserError(
                f"--sweeps: {other} and {ledger.folder.name} are both of {_subject(ledger)}. Give "
                "one sweep of each subject."
            )
    return sorted(ledgers, key=_subject)


def _subject(ledger: Ledger) -> str:
    return ledger.description()["dataset"]["subject"]


def check_alike(ledgers: Sequence[Ledger]) -> None:
    """Refuse to put sweeps into one table that differ in more than their subjects.

    Raises:
        UserError: with what two differ in.
    """
    first, *others = ledgers
    wanted = _circumstances(first)
    for other in others:
        for name, value in _circumstances(other).items():
            if value != wanted[name]:
                raise UserError(
                    f"{first.folder.name} and {other.folder.name} differ in their {name}: "
                    f"{printable(str(wanted[name]))} and {printable(str(value))}. Name the sweeps "
                    "of one table with --sweeps."
                )


def _circumstances(ledger: Ledger) -> dict[str, object]:
    """All that the sweeps of one table must share, by name."""
    sweep, dataset = ledger.sweep(), ledger.description()["dataset"]
    data = ("responses", "images", "responses_taken", "split_seed", "more_images")
    return {
        "seeds": sweep.seeds,
        "objectives": ", ".join(sorted(family.name for family in sweep.families)),
        **{field.name: getattr(sweep.training, field.name) for field in fields(sweep.training)},
        **{name: dataset[name] for name in data},
    }


def evaluate_all(ledgers: Sequence[Ledger], *, allow_missing: bool) -> list[Evaluated]:
    """Evaluate each sweep's best configurations; all are chosen before any test image is read.

    Raises:
        UserError: cells are missing, an objective has no configuration with every seed, or data or
            an encoder can't be read.
    """
    searches = [take_up(ledger) for ledger in ledgers]
    if not allow_missing:
        for search in searches:
            require_all(search)
    choices = list(map(best_configurations, searches))
    found = []
    for ledger, search, chosen in zip(ledgers, searches, choices, strict=True):
        with step(f"Test images of {_subject(ledger)}"):
            found.append(evaluate_sweep(ledger, search, chosen))
    return found


def evaluate_sweep(
    ledger: Ledger, search: Search, chosen: Mapping[str, Configuration]
) -> Evaluated:
    """Evaluate a configuration of each objective on the test images of a sweep's subject.

    Raises:
        UserError: data or an encoder can't be read.
    """
    dataset = sweep_dataset(ledger)
    training = search.sweep.training
    scores = {
        family: _scores(
            search.done(configuration), configured(training, configuration), dataset, ledger
        )
        for family, configuration in chosen.items()
    }
    return Evaluated(
        ledger=ledger,
        subject=dataset.subject,
        training=training,
        chosen=chosen,
        seeds=search.sweep.seeds,
        scores=scores,
        n_test=len(dataset.things.test_images),
        task=_task(ledger, dataset, training),
    )


def look_in_words(found: Evaluated) -> str:
    """Record the look at a subject's test images; say what the choice may know of them.

    Raises:
        UserError: the storage can't be read or written to.
    """
    if _by_test(found.training):
        return f"{found.subject}: the test chose."
    return f"{found.subject}: {record_look(found.ledger, found.seeds, found.chosen)}."


def _scores(
    records: Sequence[Record], training: ImageTrainingSpec, dataset: ImageDataset, ledger: Ledger
) -> dict[str, np.ndarray]:
    device = any_device()
    responses = dataset.on(device)
    found = []
    for record in records:
        test = responses.select(dataset.split(training.split, record.seed).test)
        try:
            model = training.initial(test)
            model.load_state_dict(ledger.encoder(record))
        except RuntimeError as error:
            raise another_models(ledger, record) from error
        found.append(training.evaluate(model.to(device), test))
    return {name: np.array([each[name] for each in found]) for name in found[0]}


def _task(ledger: Ledger, dataset: ImageDataset, training: ImageTrainingSpec) -> Task | None:
    folder = locate(ledger.description()["dataset"]["responses"])
    if (folder / RECORD).exists() or _by_test(training):
        return None
    modality: Modality = "EEG" if {*POSTERIOR} <= {*dataset.things.channels} else "MEG"
    return modality, training.split


def by_subject(found: Sequence[Evaluated], metric: str) -> BySubject:
    """Gather the scores of a metric by subject and objective; a subject has one recording."""
    return {
        each.subject: {"": {name: scores[metric] for name, scores in each.scores.items()}}
        for each in found
    }


def table_rows(found: Sequence[Evaluated], metric: str) -> report.Rows:
    """Lay out means over seeds by objective and subject as the papers do, and what they publish."""
    shown = partial(report.score, metric)
    if len(found) > 1:
        rows = subject_rows(by_subject(found, metric), shown)
        ours = [
            {"objective": row["configuration"], **{e.subject: row[e.subject] for e in found}}
            | {OVER: row[OVER]}
            for row in rows
        ]
    else:
        scores = {name: known[metric] for name, known in found[0].scores.items()}
        ours = [
            {"objective": name, found[0].subject: shown(values.mean(), values.std(ddof=1))}
            for name, values in scores.items()
        ]
    return [*ours, *published_rows(found, metric)]


def published_rows(found: Sequence[Evaluated], metric: str) -> report.Rows:
    """What was published on the same task, where the subjects are those of the papers."""
    task, subjects = found[0].task, [each.subject for each in found]
    if task is None or found[0].n_test != N_TEST or subjects != paper_subjects(task):
        return []
    place = list(TOPS).index(metric)
    rows = []
    for method, means in MEANS[task].items():
        alone = SSR[task][place] if method == "SSR" else [None] * len(subjects)
        cells = [*alone, means[place]]
        shown = ["–" if value is None else f"{value:.1f}" for value in cells]
        named = f"{method} (published; gallery {GALLERIES[method]})"
        rows.append({"objective": named, **dict(zip([*subjects, OVER], shown, strict=True))})
    return rows


def paper_subjects(task: Task) -> list[str]:
    """The subjects that a task's published results are of."""
    return [f"sub-{number:02d}" for number in range(1, len(SSR[task][0]) + 1)]


def binomial_floor(mean: float, n_test: int, n_subjects: int) -> tuple[float, float]:
    """Standard error of one run's share of hits among n queries, and of a mean over subjects.

    The square root of p (1 - p) / n: what remains of differences if nothing but the test images
    were drawn anew.
    """
    alone = math.sqrt(mean * (1 - mean) / n_test)
    return alone, alone / math.sqrt(n_subjects)


def words(found: Sequence[Evaluated]) -> list[str]:
    """Say what the tables show, what their numbers cannot tell, and what was chosen."""
    first = found[0]
    best = max(scores[PRIMARY].mean() for each in found for scores in each.scores.values())
    alone, over = binomial_floor(best, first.n_test, len(found))
    chance = chance_metrics(first.n_test, (1, 5))
    seeds = " ".join(map(str, first.seeds))
    return [
        f"{first.n_test}-way retrieval of test images by {first.training.split} training, gallery "
        f"{first.training.gallery}, {first.training.tower.model} ({first.training.tower.weights}), "
        f"{first.training.encoder}; mean over seeds {seeds}. {_choice(first)} SSR and NeuroCLIP "
        "are reimplemented from the papers' descriptions.",
        f"Chance: {100 * chance['recall@1']:.1f} and {100 * chance['recall@5']:.1f} %. One run on "
        f"{first.n_test} queries has a binomial standard error of up to {100 * alone:.1f} points "
        f"at Top-1, a mean over {len(found)} subjects one of {100 * over:.1f}.",
        *(
            f"{each.subject}, chosen in {each.ledger.folder.name}: "
            f"{'; '.join(map(describe, each.chosen.values()))}."
            for each in found
        ),
    ]


def _choice(found: Evaluated) -> str:
    if _by_test(found.training):
        return (
            "The test itself chose epochs and configurations, as many papers' does: these numbers "
            "reproduce theirs and estimate nothing."
        )
    return "Configurations and epochs were chosen by validation Recall@10 on held-out concepts."


def _by_test(training: ImageTrainingSpec) -> bool:
    return training.split.endswith(BEST_TEST_EPOCH)


def score_rows(found: Sequence[Evaluated]) -> report.Rows:
    """List every subject's and seed's scores as numbers."""
    return [
        {
            "subject": each.subject,
            "objective": name,
            "configuration": describe(each.chosen[name]),
            "seed": seed,
            **{metric: values[place] for metric, values in scores.items()},
        }
        for each in found
        for name, scores in each.scores.items()
        for place, seed in enumerate(each.seeds)
    ]


def log_evaluation(storage: UPath, found: Evaluated, folder: UPath) -> None:
    """Write a subject's evaluation to MLflow, as a run of its own below the sweep's."""
    sweep, number = found.ledger.sweep(), count_looks(found.ledger)
    metrics = {
        f"{name}/{metric}": float(values.mean())
        for name, scores in found.scores.items()
        for metric, values in scores.items()
    }
    tags = {"ssense.level": "test evaluation", "look": str(number), "subject": found.subject}
    files = [folder / "tables.md", folder / "scores.csv"]
    tables = {"scores": score_rows([found])}
    tracker = Tracker(storage, sweep.claim, sweep.name)
    tracker.report(f"test evaluation {number}", tags, metrics, files, tables)


def main(options: ImageEvaluationOptions) -> None:
    """Evaluate the objectives of image decoding on the test images."""
    storage = open_storage(options.storage, must_exist=True)
    ledgers = subject_ledgers(storage, options.sweeps)
    check_alike(ledgers)
    found = evaluate_all(ledgers, allow_missing=options.allow_missing)
    looks = list(map(look_in_words, found))  # not before, for a run that is refused shows nothing
    parts = ["# Image decoding on the test images"]
    tables = [(title, table_rows(found, metric)) for metric, title in TOPS.items()]
    texts = [*words(found), *looks]
    values: report.Rows = []
    if len(found) > 1:
        chance = dict.fromkeys((e.subject for e in found), 1 / found[0].n_test)
        scores = by_subject(found, PRIMARY)
        comparisons = compare_subjects(scores, chance)
        shown = partial(report.score, PRIMARY)
        _, tests, further = subject_tables(scores, comparisons, shown)
        tables += [("Top-1, over subjects", tests), ("Top-1, further measures", further)]
        texts.append(legend(comparisons, EQUIVALENCE, shown))
        values = comparison_values(comparisons, PRIMARY)
    else:
        texts.append("One subject: nothing is claimed beyond it. Tests need at least two.")
    for title, rows in tables:
        say(title)
        console.print(report.screen_table(rows))
        parts += [f"## {title}", report.markdown_table(rows)]
    for line in texts:
        say(line)
    folder = storage / "image_evaluation" / digest([ledger.folder.name for ledger in ledgers])
    write_whole(folder / "tables.md", "\n\n".join([*parts, *texts]) + "\n")
    write_whole(folder / "scores.csv", report.csv_table(score_rows(found)))
    if values:
        write_whole(folder / "tests.csv", report.csv_table(values))
    with step("MLflow"):
        for each in found:
            log_evaluation(storage, each, folder)
    say(f"Tables: {folder}")


if __name__ == "__main__":
    run_command(ImageEvaluationOptions, main)
