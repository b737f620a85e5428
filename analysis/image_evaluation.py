"""Image decoding on the test images: every objective's best configuration, subject by subject.

    python analysis/image_evaluation.py --storage DIR [--sweeps SWEEP SWEEP]

Of each subject's sweep, and of each objective, the configuration with the best mean validation
Recall@10; each of its seeds' encoders retrieves the test images. Nothing is trained. All seeds
share the test, and so do all subjects: tests take both subjects and images for some of many. One
subject alone is tested over its images, and the claims are about that subject. Every look is
recorded.
Tables are in STORAGE/image_evaluation/, in a folder of their own for each choice of sweeps.
"""

from __future__ import annotations

from analysis.options import ImageEvaluationOptions
from ssense.cli.command import check_flags, run_command
from ssense.specification import settings

if __name__ == "__main__":
    check_flags(ImageEvaluationOptions)  # before the imports that take seconds

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.stats import rankdata
from upath import UPath

from analysis.measure import formats
from analysis.measure.comparison import (
    EQUIVALENCE,
    Comparison,
    Difference,
    compare,
    comparison_rows,
    comparison_values,
    further_legend,
    further_rows,
    pairs_of,
)
from analysis.measure.evaluation import (
    another_models,
    best_configurations,
    check_split,
    require_all,
    take_up,
)
from analysis.measure.image_comparison import LEGEND as IMAGES_LEGEND
from analysis.measure.image_comparison import compare_on_images
from analysis.measure.inference import crossed_ttest, effect_size
from analysis.measure.looks import count_looks, record_look, withdrawn_unless_written
from analysis.measure.score_splits import SPLIT
from analysis.measure.subjects import BySubject, subject_rows
from analysis.report.findings import verdict
from analysis.report.published import GALLERIES, MEANS, SSR, Modality, Task
from ssense.cli.screen import console, say, step
from ssense.data.synthetic.things import RECORD
from ssense.data.things.dataset import BEST_TEST_EPOCH, ImageDataset
from ssense.data.things.responses import POSTERIOR
from ssense.engine.core.cell import Configuration, describe
from ssense.engine.core.record import Record
from ssense.engine.records.find import find_ledger, readable_ledgers, sweep_folders
from ssense.engine.records.ledger import Ledger
from ssense.engine.reproduce import sweep_dataset
from ssense.engine.search.search import Search
from ssense.engine.view.tracking import Tracker
from ssense.errors import UserError, printable
from ssense.files.digest import digest
from ssense.files.storage import locate, open_storage, write_together
from ssense.files.weights import load_weights
from ssense.retrieval import chance_metrics, cosine_scores, metric_values, retrieval_ranks
from ssense.specification import configured
from ssense.training.images import ImageSpec
from ssense.training.process import any_device

LEGEND = (
    "The units are subjects and images, both some of many: the standard error has a part of "
    "either (min F', Clark 1973), the degrees of freedom are of the fewer. ± is the sd over "
    "subjects. Holm: for this number of comparisons. The naive p is over subjects alone, and "
    "takes these images for all there are."
)

TOPS = {"recall@1": "Top-1", "recall@5": "Top-5"}
PRIMARY = "recall@1"
N_TEST = 200  # test images of the published results
OVER = "over subjects"

Table = tuple[str, formats.Rows]
"""Rows, under a title."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluated:
    """One subject's sweep on the test images.

    Attributes:
        ledger: The sweep's ledger.
        subject: Subject that was tested.
        specification: What the sweep's cells share.
        chosen: Configuration of each objective.
        seeds: Seeds of the sweep.
        by_image: What each seed's encoder reaches at each test image, by objective and metric, `[J,
            n]`, in an order that all subjects share.
        if_own: The PRIMARY metric that the responses to each test image would reach if each
            candidate were their own, mean over seeds, by objective `[n, n]`.
        task: Published task with the same data; None for synthetic data.
    """

    ledger: Ledger
    subject: str
    specification: ImageSpec
    chosen: Mapping[str, Configuration]
    seeds: tuple[int, ...]
    by_image: Mapping[str, Mapping[str, np.ndarray]]
    if_own: Mapping[str, np.ndarray]
    task: Task | None

    @property
    def scores(self) -> dict[str, dict[str, np.ndarray]]:
        """By objective and metric, `[J]`, one for each seed."""
        return {
            name: {metric: values.mean(axis=1) for metric, values in by_metric.items()}
            for name, by_metric in self.by_image.items()
        }

    @property
    def n_test(self) -> int:
        """How many test images there are."""
        return next(iter(self.by_image.values()))[PRIMARY].shape[1]


def subject_ledgers(storage: UPath, names: Sequence[str]) -> list[Ledger]:
    """The sweeps to evaluate, one of each subject.

    Args:
        storage: Storage of the sweeps.
        names: Names of sweeps; none for the one of each subject that was worked on last.

    Raises:
        UserError: There is no sweep of images, a name is another's, or two are of one subject.
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
    return ledger.description().origin.subject


def check_alike(ledgers: Sequence[Ledger]) -> None:
    """Refuse to put sweeps into one table that differ in more than their subjects.

    Raises:
        UserError: Two sweeps differ; the message says in what.
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
    description = ledger.description()
    sweep, source = description.sweep, description.origin.source
    data = ("responses", "images", "responses_taken", "split_seed", "more_images")
    return {
        "seeds": sweep.seeds,
        "objectives": ", ".join(sorted(family.name for family in sweep.families)),
        **settings(sweep.specification),
        **{name: getattr(source, name) for name in data},
    }


def evaluate_all(ledgers: Sequence[Ledger], *, allow_missing: bool) -> list[Evaluated]:
    """Evaluate each sweep's best configurations; all are chosen before any test image is read.

    Raises:
        UserError: Cells are missing, an objective has no configuration with every seed, or data or
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
        UserError: Data or an encoder can't be read.
    """
    dataset = sweep_dataset(ledger)
    specification = search.sweep.specification
    retrieved = {
        family: _retrieved(
            search.done(configuration), configured(specification, configuration), dataset, ledger
        )
        for family, configuration in chosen.items()
    }
    return Evaluated(
        ledger=ledger,
        subject=dataset.subject,
        specification=specification,
        chosen=chosen,
        seeds=search.sweep.seeds,
        by_image={family: by_metric for family, (by_metric, _) in retrieved.items()},
        if_own={family: if_own for family, (_, if_own) in retrieved.items()},
        task=_task(ledger, dataset, specification),
    )


def look_in_words(found: Evaluated) -> str:
    """Record the look at a subject's test images; say what the choice may know of them.

    Raises:
        UserError: The storage can't be read or written to.
    """
    if _by_test(found.specification):
        return f"{found.subject}: the test chose."
    return f"{found.subject}: {record_look(found.ledger, found.seeds, found.chosen)}."


def _retrieved(
    records: Sequence[Record], specification: ImageSpec, dataset: ImageDataset, ledger: Ledger
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What each seed's encoder reaches, see `by_image` and `if_own` of `Evaluated`."""
    device = any_device()
    responses = dataset.on(device)
    found, if_own = [], []
    for record in records:
        split = dataset.split(specification.split, record.seed)
        check_split(ledger, record, split)
        test = responses.select(split.test)
        try:
            model = specification.initial(test)
            load_weights(model, ledger.encoder(record))
        except ValueError as error:
            raise another_models(ledger, record, error) from error
        queries, candidates, images = specification.embed(model.to(device), test)
        ranks = retrieval_ranks(queries, candidates, images).cpu().numpy()
        of_all = rankdata(-cosine_scores(queries, candidates).cpu().numpy(), axis=1)
        shown = images.cpu().numpy()
        found.append((ranks, shown))
        if_own.append(_mean_of_images(metric_values(PRIMARY, of_all), shown))
    by_metric = {
        metric: np.stack([_mean_of_images(metric_values(metric, r), i) for r, i in found])
        for metric in TOPS
    }
    return by_metric, np.mean(if_own, axis=0)


def _mean_of_images(values: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Average over the responses to each image, `[n]` or `[n, m]`."""
    sums = np.zeros((images.max() + 1, *values.shape[1:]))
    np.add.at(sums, images, values)
    return (sums.T / np.bincount(images)).T


def _task(ledger: Ledger, dataset: ImageDataset, specification: ImageSpec) -> Task | None:
    folder = locate(ledger.description().origin.source.responses)
    if (folder / RECORD).exists() or _by_test(specification):
        return None
    modality: Modality = "EEG" if {*POSTERIOR} <= {*dataset.things.channels} else "MEG"
    return modality, specification.split


def by_subject(found: Sequence[Evaluated], metric: str) -> BySubject:
    """Gather the scores of a metric by subject and objective; a subject has one recording."""
    return {
        each.subject: {"": {name: scores[metric] for name, scores in each.scores.items()}}
        for each in found
    }


def table_rows(found: Sequence[Evaluated], metric: str) -> formats.Rows:
    """Lay out means over seeds by objective and subject as the papers do, and what they publish."""
    shown = partial(formats.score, metric)
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


def published_rows(found: Sequence[Evaluated], metric: str) -> formats.Rows:
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


def compare_objectives(found: Sequence[Evaluated]) -> list[Comparison]:
    """Compare each objective with chance, and objectives in pairs, in the PRIMARY metric.

    Over subjects and images: subjects met the same, so a test over subjects alone would take these
    for all there are, see `crossed_ttest`. One subject alone is compared over its images.
    """
    first, *others = found
    chance = chance_metrics(first.n_test, (1, 5))[PRIMARY]
    if not others:
        by_image = {name: by_metric[PRIMARY] for name, by_metric in first.by_image.items()}
        return compare_on_images(by_image, first.if_own, chance)
    tables = {
        name: np.stack([each.by_image[name][PRIMARY].mean(axis=0) for each in found])
        for name in first.by_image
    }
    above = [_crossed(f"{name} vs chance", table - chance) for name, table in tables.items()]
    pairs = [_crossed(f"{a} vs {b}", tables[a] - tables[b]) for a, b in pairs_of(tables)]
    return compare(above) + compare(pairs)


def _crossed(name: str, differences: np.ndarray) -> Difference:
    by_subject = differences.mean(axis=1)
    test = crossed_ttest(differences)
    return Difference(name=name, by_seed=by_subject, test=test, effect_size=effect_size(by_subject))


def standard_errors(by_image: np.ndarray) -> tuple[float, float]:
    """Standard errors of a mean if other test images were drawn for the same subjects.

    Subjects find the same images easy, so averaging over subjects takes little of it away.

    Args:
        by_image: Mean that each subject reaches at each image, `[subjects, n]`.

    Returns:
        The error of one subject's mean (of their mean variance), and that of the mean over all.
    """
    n = by_image.shape[1]
    alone = float(by_image.var(axis=1, ddof=1).mean())
    over = float(by_image.mean(axis=0).var(ddof=1))
    return math.sqrt(alone / n), math.sqrt(over / n)


def words(found: Sequence[Evaluated]) -> list[str]:
    """Say what the tables show, what their numbers cannot tell, and what was chosen."""
    first = found[0]
    spec = first.specification
    errors = [
        standard_errors(np.stack([each.by_image[name][PRIMARY].mean(axis=0) for each in found]))
        for name in first.by_image
    ]
    alone, over = map(max, zip(*errors, strict=True))
    chance = chance_metrics(first.n_test, (1, 5))
    seeds = " ".join(map(str, first.seeds))
    return [
        f"{first.n_test}-way retrieval of test images by {spec.split} training, gallery "
        f"{spec.gallery}, {spec.target.model} ({spec.target.weights}), {spec.encoder.kind}; mean "
        f"over seeds {seeds}. {_choice(first)} SSR and NeuroCLIP are reimplemented "
        "from the papers' descriptions.",
        f"Chance: {100 * chance['recall@1']:.1f} and {100 * chance['recall@5']:.1f} %. If "
        f"{first.n_test} other images were drawn, one subject's Top-1 would have a standard error "
        f"of up to {100 * alone:.1f} points, the mean over {len(found)} "
        f"{'subjects' if len(found) > 1 else 'subject'} one of "
        f"{100 * over:.1f}.",
        *(
            f"{each.subject}, chosen in {each.ledger.folder.name}: "
            f"{'; '.join(map(describe, each.chosen.values()))}."
            for each in found
        ),
    ]


def _choice(found: Evaluated) -> str:
    if _by_test(found.specification):
        return (
            "The test itself chose epochs and configurations, as many papers' does: these numbers "
            "reproduce theirs and estimate nothing."
        )
    return "Configurations and epochs were chosen by validation Recall@10 on held-out concepts."


def _by_test(specification: ImageSpec) -> bool:
    return specification.split.endswith(BEST_TEST_EPOCH)


def score_rows(found: Sequence[Evaluated]) -> formats.Rows:
    """List every subject's and seed's scores as numbers; all seeds of a split share the test."""
    return [
        {
            "subject": each.subject,
            "objective": name,
            "configuration": describe(each.chosen[name]),
            "seed": seed,
            **{metric: values[place] for metric, values in scores.items()},
            SPLIT: each.specification.split,
        }
        for each in found
        for name, scores in each.scores.items()
        for place, seed in enumerate(each.seeds)
    ]


def log_evaluation(storage: UPath, found: Evaluated, folder: UPath) -> None:
    """Write a subject's evaluation to MLflow, as a run of its own below the sweep's."""
    sweep, number = found.ledger.description().sweep, count_looks(found.ledger)
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


def test_tables(comparisons: Sequence[Comparison], over: str) -> list[Table]:
    """Lay out the tests of PRIMARY under their titles.

    Args:
        comparisons: The tests.
        over: Their units, in words.
    """
    shown, title = partial(formats.score, PRIMARY), TOPS[PRIMARY]
    return [
        (f"{title}, over {over}", comparison_rows(comparisons, "comparison", shown)),
        (f"{title}, further measures", further_rows(comparisons)),
    ]


def write_tables(
    folder: UPath, found: Sequence[Evaluated], tables: Sequence[Table], texts: Sequence[str]
) -> None:
    """Write the tables as Markdown and LaTeX, and scores and tests as numbers.

    Args:
        folder: Where to.
        found: What the tables are of.
        tables: Under their titles.
        texts: What explains them, a paragraph each; the first stands before the tables.
    """
    first, *others = texts
    shown = [f"## {title}\n\n{formats.markdown_table(rows)}" for title, rows in tables]
    parts = ["# Image decoding on the test images", first, *shown, *others]
    captions = [*(title for title, _ in tables[:-1]), " ".join(texts)]
    latex = [formats.latex_table(rows, c) for (_, rows), c in zip(tables, captions, strict=True)]
    contents = {
        "tables.md": "\n\n".join(parts) + "\n",
        "tables.tex": "\n".join(latex),
        "scores.csv": formats.csv_table(score_rows(found)),
        "tests.csv": formats.csv_table(comparison_values(compare_objectives(found), PRIMARY)),
    }
    write_together(folder, contents)


def tables_and_texts(
    found: Sequence[Evaluated], looks: Sequence[str]
) -> tuple[list[Table], list[str]]:
    """Everything that is shown: tables by title, and texts, of which the verdict comes first.

    Args:
        found: What was evaluated, a subject each.
        looks: What the looks at the test images were, in words.
    """
    comparisons, (first, *others) = compare_objectives(found), found
    over, legend = ("subjects and images", LEGEND) if others else ("images", IMAGES_LEGEND)
    tables = [(title, table_rows(found, metric)) for metric, title in TOPS.items()]
    tables += test_tables(comparisons, over)
    further = further_legend(comparisons, EQUIVALENCE, partial(formats.score, PRIMARY))
    texts = [*words(found), *looks, legend, further]
    if not _by_test(first.specification):
        metric = TOPS[PRIMARY] if others else f"{TOPS[PRIMARY]} of {first.subject} alone"
        texts.insert(0, verdict(list(first.by_image), comparisons, metric, kind="objectives"))
    return tables, texts


def main(options: ImageEvaluationOptions) -> None:
    """Evaluate the objectives of image decoding on the test images."""
    storage = open_storage(options.storage, must_exist=True)
    ledgers = subject_ledgers(storage, options.sweeps)
    check_alike(ledgers)
    found = evaluate_all(ledgers, allow_missing=options.allow_missing)
    folder = storage / "image_evaluation" / digest([ledger.folder.name for ledger in ledgers])
    with withdrawn_unless_written():
        # Looks are recorded when all is evaluated: a run that is refused shows nothing.
        tables, texts = tables_and_texts(found, list(map(look_in_words, found)))
        write_tables(folder, found, tables, texts)
    say(texts[0])
    for title, rows in tables:
        say(title)
        console.print(formats.screen_table(rows))
    for line in texts[1:]:
        say(line)
    with step("MLflow"):
        for each in found:
            log_evaluation(storage, each, folder)
    say(f"Tables: {folder}")


if __name__ == "__main__":
    run_command(ImageEvaluationOptions, main)
