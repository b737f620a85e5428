"""Image decoding on the test images: every objective's best configuration, subject by subject.

    python analysis/image_evaluation.py --storage DIR [--sweeps SWEEP SWEEP]

Of each subject's sweep, and of each objective, the configuration with the best mean validation
Recall@10; each of its seeds' encoders retrieves the test images. Nothing is trained. All seeds
share the test: the unit of the tests is the subject. Every look is recorded.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and not __package__:
    # Run as a file, its folder comes first, and analysis/statistics.py hides the standard library's
    sys.path.pop(0)

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from upath import UPath

from analysis import report
from analysis.comparison import EQUIVALENCE, comparison_values
from analysis.evaluation import best_configurations, require_all, take_up
from analysis.looks import count_looks, record_look
from analysis.published_images import MEANS, SSR, Modality, Task
from analysis.subjects import BySubject, compare_subjects, legend, subject_rows, subject_tables
from ssense.command import run_command
from ssense.data.image_dataset import ImageDataset
from ssense.data.synthetic_things import RECORD
from ssense.data.things_responses import POSTERIOR
from ssense.errors import UserError
from ssense.image_training import ImageTrainingSpec
from ssense.retrieval import chance_metrics
from ssense.storage import locate, open_storage, write_whole
from sweeps.engine.cell import Configuration, configured, describe
from sweeps.engine.ledger import Ledger, Record, find_ledger, sweep_folders
from sweeps.engine.progress import console, say, step
from sweeps.engine.reproduce import sweep_dataset
from sweeps.engine.tracking import Tracker

TOPS = {"recall@1": "Top-1", "recall@5": "Top-5"}
PRIMARY = "recall@1"


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
        standing: what the choice may know of the test.
    """

    ledger: Ledger
    subject: str
    training: ImageTrainingSpec
    chosen: Mapping[str, Configuration]
    seeds: tuple[int, ...]
    scores: Mapping[str, Mapping[str, np.ndarray]]
    n_test: int
    task: Task | None
    standing: str


def subject_ledgers(storage: UPath, names: Sequence[str]) -> list[Ledger]:
    """The sweeps to evaluate, one of each subject.

    Args:
        storage: of the sweeps.
        names: of sweeps; none for the one of each subject that was worked on last.

    Raises:
        UserError: there is none, one is no sweep of images, or two are of one subject.
    """
    if names:
        ledgers = [find_ledger(storage, name) for name in dict.fromkeys(names)]
    else:
        found = [Ledger(folder) for folder in sweep_folders(storage)]
        last = sorted(found, key=lambda ledger: ledger.description()["updated_at"])
        ledgers = [ledger for ledger in last if ledger.method() == "images"]
        ledgers = list({_subject(ledger): ledger for ledger in ledgers}.values())
    if not ledgers:
        raise UserError(f"{storage} has no sweep of images. Run sweeps/images.py first.")
    subjects: dict[str, str] = {}
    for ledger in ledgers:
        if ledger.method() != "images":
            raise UserError(
                f"{ledger.folder.name} is no sweep of images. Use analysis/test_evaluation.py."
            )
        other = subjects.setdefault(_subject(ledger), ledger.folder.name)
        if other != ledger.folder.name:
            raise UserError(
                f"--sweeps: {other} and {ledger.folder.name} are both of {_subject(ledger)}. Give "
                "one sweep of each subject."
            )
    return sorted(ledgers, key=_subject)


def _subject(ledger: Ledger) -> str:
    return ledger.description()["dataset"]["subject"]


def check_alike(trainings: Mapping[str, ImageTrainingSpec]) -> None:
    """Refuse to put sweeps into one table that are trained or tested differently.

    Args:
        trainings: by name of the sweep.

    Raises:
        UserError: with the field in which two differ.
    """
    (first, wanted), *others = trainings.items()
    for name, training in others:
        for field in ("split", "gallery", "encoder", "tower"):
            one, other = getattr(wanted, field), getattr(training, field)
            if one != other:
                raise UserError(
                    f"{first} and {name} differ in their {field}: {_short(one)} and "
                    f"{_short(other)}. Name the sweeps of one table with --sweeps."
                )


def _short(value: object) -> str:
    return value if isinstance(value, str) else f"{value.model}, {value.weights}"


def evaluate_sweep(ledger: Ledger, *, allow_missing: bool) -> Evaluated:
    """Evaluate the best configurations of a subject's sweep, and record the look.

    Raises:
        UserError: cells are missing, or data or an encoder can't be read.
    """
    search = take_up(ledger)
    if not allow_missing:
        require_all(search)
    chosen = best_configurations(search)
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
        standing=record_look(ledger, search.sweep.seeds, chosen),
    )


def _scores(
    records: Sequence[Record], training: ImageTrainingSpec, dataset: ImageDataset, ledger: Ledger
) -> dict[str, np.ndarray]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    responses = dataset.on(device)
    found = []
    for record in records:
        test = responses.select(dataset.split(training.split, record.seed).test)
        try:
            model = training.initial(test)
            model.load_state_dict(ledger.encoder(record))
        except RuntimeError as error:
            raise UserError(
                f"the encoder of cell {record.signature} is another model's. Delete "
                f"{ledger.cell_folder(record.signature)} and run the sweep again."
            ) from error
        found.append(training.evaluate(model.to(device), test))
    return {name: np.array([each[name] for each in found]) for name in found[0]}


def _task(ledger: Ledger, dataset: ImageDataset, training: ImageTrainingSpec) -> Task | None:
    folder = locate(ledger.description()["dataset"]["responses"])
    if (folder / RECORD).exists() or training.split.partition(",")[2]:
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
    rows = []
    if len(found) > 1:
        for row in subject_rows(by_subject(found, metric), shown):
            del row["interquartile mean"]
            rows.append({"objective": row.pop("configuration"), **row})
    else:
        for name, scores in found[0].scores.items():
            values = scores[metric]
            rows.append(
                {"objective": name, found[0].subject: shown(values.mean(), values.std(ddof=1))}
            )
    return [*rows, *published_rows(found, metric)]


def published_rows(found: Sequence[Evaluated], metric: str) -> report.Rows:
    """What was published on the same task, where all subjects are those of the papers."""
    task = found[0].task
    if task is None or found[0].n_test != 200:
        return []
    place = list(TOPS).index(metric)
    rows = []
    for method, means in MEANS[task].items():
        row = {"objective": f"{method} (published)"}
        if method == "SSR":
            row |= {
                each.subject: f"{SSR[task][place][_number(each.subject) - 1]:.1f}" for each in found
            }
        mean = means[place]
        rows.append(row | {"over subjects": "–" if mean is None else f"{mean:.1f}"})
    return rows


def _number(subject: str) -> int:
    return int(subject.removeprefix("sub-"))


def binomial_floor(mean: float, n_test: int, n_subjects: int) -> tuple[float, float]:
    """Standard error of one run's share of hits among n queries, and of a mean over subjects.

    The square root of p (1 - p) / n: what remains of differences if nothing but the test images
    were drawn anew.
    """
    alone = math.sqrt(mean * (1 - mean) / n_test)
    return alone, alone / math.sqrt(n_subjects)


def words(found: Sequence[Evaluated]) -> list[str]:
    """Say what the tables show, what their numbers cannot tell, and what the choices may know."""
    first = found[0]
    best = max(scores[PRIMARY].mean() for each in found for scores in each.scores.values())
    alone, over = binomial_floor(best, first.n_test, len(found))
    chance = chance_metrics(first.n_test, (1, 5))
    peers = (
        " The test chose the epoch, as in many papers: these numbers estimate nothing."
        if "best test epoch" in first.training.split
        else ""
    )
    seeds = " ".join(map(str, first.seeds))
    return [
        f"{first.n_test}-way retrieval of test images by {first.training.split} training, gallery "
        f"{first.training.gallery}, {first.training.tower.model} ({first.training.tower.weights}), "
        f"{first.training.encoder}; mean over seeds {seeds}. The configuration was chosen by "
        f"validation Recall@10 on held-out concepts.{peers} SSR and NeuroCLIP are reimplemented "
        "from the papers' descriptions.",
        f"Chance: {100 * chance['recall@1']:.1f} and {100 * chance['recall@5']:.1f} %. One run on "
        f"{first.n_test} queries has a binomial standard error of up to {100 * alone:.1f} points "
        f"at Top-1, a mean over {len(found)} subjects one of {100 * over:.1f}.",
        *(f"{each.subject}: {each.standing}." for each in found),
        *(
            f"{each.subject}, chosen: {'; '.join(map(describe, each.chosen.values()))}."
            for each in found
        ),
    ]


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
    check_alike({ledger.folder.name: ledger.sweep().training for ledger in ledgers})
    found = []
    for ledger in ledgers:
        with step(f"Test images of {_subject(ledger)}"):
            found.append(evaluate_sweep(ledger, allow_missing=options.allow_missing))
    parts = ["# Image decoding on the test images"]
    tables = [(title, table_rows(found, metric)) for metric, title in TOPS.items()]
    texts = words(found)
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
    folder = storage / "image_evaluation"
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
