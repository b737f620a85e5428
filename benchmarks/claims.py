"""How often a report claims what is not there: on simulated reports, and on null recordings.

    python benchmarks/claims.py
    python benchmarks/claims.py --worlds 1000 --null 0 --coupled 0
    python benchmarks/claims.py --worlds 0 --null 100 --coupled 40 --coupling 0.5

Worlds: four families of equally good configurations, decoded by ridge regression and tested by the
functions that write a report. In "nothing" no signal has anything to do with a sentence, in "equal"
each family measures the same signal with noise of its own, in "drift" signals and sentences change
slowly, each for itself. A claim is a p below 5 % after Holm, within either kind of comparison: with
chance, and in pairs; "any" is a claim of either kind. Coarse: reports of 59 sentences whose hits
are drawn at chance, so that whole sentences often make the same difference at every seed; one
recording, or two and three subjects, whose test splits may differ in size. Images: two, four and
ten subjects who find the same images easy, two methods that are equally good, or each better at
some of the images, or for some of the subjects, tested over both, over subjects alone and by a
two-way bootstrap of five subjects or more; and one subject, whose images are the unit, decoded by
four methods with noise of their own.

Recordings: each is written, read, cut, transformed, trained on at each seed and evaluated on the
held-out splits, as a cell of a sweep is. There is one configuration, so nothing is chosen. All
sentences are of one length: in null recordings nothing at all tells them apart, in coupled ones
only what words evoke.
"""

# ruff: noqa: E402 - flags are checked before the imports that take seconds

from __future__ import annotations

from dataclasses import dataclass

from bounds import at_least

from ssense.cli.command import check_flags, run_command


@dataclass(frozen=True, kw_only=True)
class Options:
    """How many worlds and recordings, and how large."""

    worlds: int = 200
    """Simulated worlds of each kind."""
    null: int = 40
    """Recordings without anything in them."""
    coupled: int = 20
    """Recordings with a coupling."""
    coupling: float = 1.0
    """Amplitude of what words evoke in the coupled ones."""
    sentences: int = 200
    """Sentences of a recording."""
    seeds: int = 5
    """Seeds per recording."""
    epochs: int = 3
    """Most epochs of a training."""
    processes: int = 2
    """Recordings at a time."""

    def __post_init__(self) -> None:
        at_least(self, worlds=0, null=0, coupled=0, sentences=60, seeds=2, epochs=1, processes=1)


if __name__ == "__main__":
    check_flags(Options)  # before the imports that take seconds

import json
import multiprocessing
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from scipy import signal, stats
from upath import UPath

from analysis.measure.comparison import Comparison, compare, difference_over_seeds
from analysis.measure.evaluation import Evaluation, Retrieval, retrieval_of
from analysis.measure.inference import (
    ENOUGH_TO_DRAW,
    crossed_ttest,
    holm,
    naive_ttest,
    two_way_bootstrap,
)
from analysis.measure.subjects import compare_subjects
from ssense.data.dataset import Dataset
from ssense.data.recordings.readers.brain_treebank import open_brain_treebank
from ssense.data.recordings.segments import SegmentSpec
from ssense.data.splits import Split, SplitKind, split_sentences
from ssense.data.synthetic.recording import SyntheticSpec, write_synthetic
from ssense.engine.core.cell import Configuration
from ssense.engine.tasks.dataset_plan import plan_dataset
from ssense.engine.tasks.feature_making import ShardTask
from ssense.engine.tasks.recording_plan import SMALL
from ssense.model.encoders.spectrogram_encoder import ResNetSpec, trained_encoder
from ssense.retrieval import chance_metrics, cosine_scores
from ssense.targets.sentence_embeddings import cached_embeddings
from ssense.targets.text import TextSpec
from ssense.training.images import ImageSpec
from ssense.training.loop import evaluate, fit
from ssense.training.sentences import SentenceSpec, TrainingSpec

METRIC = "recall@10"
N_IMAGES = 200
LEVEL = 0.05


SENTENCES, ROWS, TEXT_ROWS, FAMILIES = 288, 8, 32, 4
SPANS = np.stack([np.arange(SENTENCES) * 2.3, np.arange(SENTENCES) * 2.3 + 2.2], axis=1)
WORLDS = ("nothing", "equal", "drift")
SPLITS: tuple[SplitKind, ...] = ("random", "blocked", "held-out")
NUMBERS_OF_SEEDS = (2, 3, 5, 10)
NUMBERS_OF_SUBJECTS = (2, 4, 10)
DIFFERENT_AT = {"equal": (0.0, 0.0), "image by image": (1.0, 0.0), "by subject": (0.0, 0.35)}
"""How much methods differ from image to image and from subject to subject, in log odds."""
SIZES_OF_SUBJECTS = ((59, 59), (59, 60), (59, 61, 60), (288, 292))

Claims = dict[str, bool]
"""Whether a report makes a claim, by what it is about."""


def drifting(generator: np.random.Generator, rows: int) -> np.ndarray:
    """Rows `[SENTENCES, rows]` that keep .95 of themselves from one sentence to the next."""
    fresh = generator.standard_normal((SENTENCES, rows)) * np.sqrt(1 - 0.95**2)
    fresh[0] /= np.sqrt(1 - 0.95**2)
    return signal.lfilter([1], [1, -0.95], fresh, axis=0)


def world(kind: str, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Signals `[FAMILIES, SENTENCES, ROWS]` and sentences `[SENTENCES, TEXT_ROWS]`."""
    text = generator.standard_normal((SENTENCES, TEXT_ROWS))
    evoked = text @ generator.standard_normal((TEXT_ROWS, ROWS)) / np.sqrt(TEXT_ROWS)
    if kind == "drift":
        text = drifting(generator, TEXT_ROWS) + text
        evoked = drifting(generator, ROWS)
    noise = generator.standard_normal((FAMILIES, SENTENCES, ROWS))
    return {"nothing": 0, "equal": 1, "drift": 1}[kind] * evoked + 2 * noise, text


def decoded(signals: np.ndarray, text: np.ndarray, split: Split, shared: bool) -> Retrieval:
    """What a ridge regression retrieves on a test split."""
    x, y = signals[split.train], text[split.train]
    weights = np.linalg.solve(x.T @ x + 5 * np.eye(ROWS), x.T @ (y - y.mean(axis=0)))
    queries, candidates = (
        torch.from_numpy(v) for v in (signals[split.test] @ weights, text[split.test])
    )
    return retrieval_of(cosine_scores(queries, candidates), split.test, shared)


def evaluation_of(
    signals: np.ndarray, text: np.ndarray, kind: SplitKind, seeds: range
) -> Evaluation:
    """The evaluation that a report is written from."""
    splits = [split_sentences(kind, seed, np.arange(SENTENCES), SPANS) for seed in seeds]
    shared = kind == "held-out"
    return Evaluation(
        specification=SentenceSpec(split=kind),
        chosen={f"family {i}": {} for i in range(FAMILIES)},
        splits=dict(zip(seeds, splits, strict=True)),
        retrievals={
            f"family {i}": [decoded(of_family, text, split, shared) for split in splits]
            for i, of_family in enumerate(signals)
        },
    )


def claims_of(comparisons: Sequence[Comparison], about: str) -> Claims:
    """What a report claims of comparisons, of which the first are with chance."""
    kinds = {"above chance": comparisons[:FAMILIES], "a pair": comparisons[FAMILIES:]}
    found = {
        f"{about}, {name}{by}": any(
            p < LEVEL and (name == "a pair" or c.corrected.mean > 0)
            for c, p in zip(found, adjusted, strict=True)
        )
        for name, found in kinds.items()
        for by, adjusted in (
            ("", [c.p_holm for c in found]),
            (", naive", holm([c.naive.pvalue for c in found])),
        )
    }
    return found | {f"{about}, any": any(found[f"{about}, {name}"] for name in kinds)}


def world_claims(seed: int) -> Claims:
    """What reports on one world of each kind claim, by the number of seeds."""
    found: Claims = {}
    for kind in WORLDS:
        signals, text = world(kind, np.random.default_rng([seed, WORLDS.index(kind)]))
        for split in SPLITS:
            for n_seeds in NUMBERS_OF_SEEDS:
                evaluation = evaluation_of(signals, text, split, range(n_seeds))
                about = f"{kind}, {split} splits, {n_seeds} seeds"
                found |= claims_of(evaluation.comparisons(METRIC), about)
    told = ("chance", ", any")  # equal families are above chance
    return {
        k: v for k, v in found.items() if not (k.startswith("equal") and any(t in k for t in told))
    }


def coarse_evaluation(generator: np.random.Generator, n_seeds: int, n_test: int = 59) -> Evaluation:
    """Families at chance, whose hits among so many sentences are drawn anew at each seed."""
    rows = np.arange(n_test)
    retrievals = {
        f"family {i}": [
            Retrieval(
                stimuli=rows,
                ranks=generator.integers(1, n_test + 1, n_test) * 1.0,
                first=rows[:, None],
            )
            for _ in range(n_seeds)
        ]
        for i in range(FAMILIES)
    }
    chosen: dict[str, Configuration] = {name: {} for name in retrievals}
    split = Split(np.arange(3 * n_test - 1), np.arange(0), rows)
    return Evaluation(
        specification=SentenceSpec(),
        chosen=chosen,
        splits=dict.fromkeys(range(n_seeds), split),
        retrievals=retrievals,
    )


def coarse_claims(seed: int) -> Claims:
    """What reports on families at chance claim, of few seeds and of two or three subjects."""
    generator, found = np.random.default_rng([seed, 7]), {}
    for n_seeds in NUMBERS_OF_SEEDS:
        evaluation = coarse_evaluation(generator, n_seeds)
        about = f"coarse, random splits, {n_seeds} seeds"
        found |= claims_of(evaluation.comparisons(METRIC), about)
    for tests in SIZES_OF_SUBJECTS:
        for n_seeds in NUMBERS_OF_SEEDS:
            about = f"coarse, subjects of {', '.join(map(str, tests))} sentences, {n_seeds} seeds"
            comparisons = subject_comparisons(generator, n_seeds, tests)
            found |= claims_of(comparisons, about)
    return found


def subject_comparisons(
    generator: np.random.Generator, n_seeds: int, tests: Sequence[int]
) -> list[Comparison]:
    """The comparisons over subjects whose test splits have so many sentences, all at chance."""
    subjects = [coarse_evaluation(generator, n_seeds, n_test) for n_test in tests]
    scores = {
        f"subject {i}": {"": {name: by[METRIC] for name, by in evaluation.scores.items()}}
        for i, evaluation in enumerate(subjects)
    }
    chance = {f"subject {i}": e.chance[METRIC] for i, e in enumerate(subjects)}
    return compare_subjects(scores, chance)


def image_claims(seed: int) -> Claims:
    """Whether two methods are told apart that are equally good over all subjects and images."""
    generator, found = np.random.default_rng([seed, 8]), {}
    for kind, (sd_image, sd_subject) in DIFFERENT_AT.items():
        for n in NUMBERS_OF_SUBJECTS:
            easy = generator.normal(0.3, 0.35, (n, 1)) + generator.normal(0, 1, N_IMAGES)
            d = np.subtract(*(hits_of_method(generator, easy, sd_image, sd_subject) for _ in "ab"))
            about = f"images, {n} subjects, {kind}"
            found[about] = crossed_ttest(d).pvalue < LEVEL
            found[f"{about}, over subjects alone"] = naive_ttest(d.mean(axis=1)).pvalue < LEVEL
            if n >= ENOUGH_TO_DRAW:
                _, low, high = two_way_bootstrap(d)
                found[f"{about}, two-way bootstrap"] = bool(low > 0 or high < 0)
    return found


def hits_of_method(
    generator: np.random.Generator, easy: np.ndarray, sd_image: float, sd_subject: float
) -> np.ndarray:
    """Hits `[subjects, images]` of a method that is better at some images, for some subjects.

    Args:
        generator: Draws them.
        easy: How easy the images are for each subject, in log odds, `[subjects, images]`.
        sd_image: How much the method differs from image to image, alike for all subjects.
        sd_subject: How much it differs from subject to subject.
    """
    own = generator.normal(0, sd_image, easy.shape[1]) + generator.normal(
        0, sd_subject, (easy.shape[0], 1)
    )
    return (generator.random(easy.shape) < 1 / (1 + np.exp(-easy - own))).astype(float)


def one_subject_claims(seed: int) -> Claims:
    """What a report claims of one subject's images, at five seeds that share the responses."""
    generator = np.random.default_rng([seed, 9])
    split = Split(np.arange(N_IMAGES), np.arange(0), np.arange(N_IMAGES))
    found: Claims = {}
    for kind, coupling in (("nothing", 0.0), ("equal", 0.55)):
        images = generator.standard_normal((N_IMAGES, 16))
        retrievals = {}
        for family in "abcd":
            responses = coupling * images + generator.standard_normal(images.shape)
            seeds = responses + 0.5 * generator.standard_normal((5, *images.shape))
            scores = seeds @ (images / np.linalg.norm(images, axis=1, keepdims=True)).T
            retrievals[family] = [
                retrieval_of(torch.from_numpy(each), np.arange(N_IMAGES), shared=True)
                for each in scores
            ]
        evaluation = Evaluation(
            specification=ImageSpec(),
            chosen={family: {} for family in retrievals},
            splits=dict.fromkeys(range(5), split),
            retrievals=retrievals,
        )
        tests = evaluation.comparisons(ImageSpec.primary)
        found |= claims_of(tests, f"images, one subject, {kind}")
    return found


def simulated_claims(seed: int) -> Claims:
    """What all simulated reports of one number claim."""
    torch.set_num_threads(1)
    images = image_claims(seed) | one_subject_claims(seed)
    return world_claims(seed) | coarse_claims(seed) | images


def dataset_of(spec: SyntheticSpec, folder: Path) -> Dataset:
    """Write a recording and take it through the pipeline, without Ray."""
    write_synthetic(folder / "recording", spec)
    plan = plan_dataset(
        open_brain_treebank(folder / "recording"),
        SegmentSpec.literal(),
        SMALL,
        TextSpec(weights="untrained"),
        UPath(folder),
    )
    spectrograms, _ = ShardTask(plan.features).spectrograms(range(plan.shape[0]))
    segments = plan.features.segments
    return Dataset(
        digest=plan.digest,
        spectrograms=spectrograms,
        targets=cached_embeddings(segments.text, plan.target, UPath(folder)).numpy(),
        stimuli=segments.text,
        spans_s=np.stack([segments.start, segments.stop], axis=1) / plan.features.sampling_rate_hz,
    )


def claim(spec: SyntheticSpec, options: Options) -> Comparison:
    """Test whether encoders trained on a recording retrieve above chance."""
    torch.set_num_threads(1)
    cell = SentenceSpec(
        encoder=ResNetSpec(weights="random"),
        training=TrainingSpec(batch_size=16, max_epochs=options.epochs, patience=options.epochs),
    )
    with tempfile.TemporaryDirectory() as folder:
        dataset = dataset_of(spec, Path(folder))
    pairs = dataset.on(torch.device("cpu"))
    scores = []
    for seed in range(options.seeds):
        split = dataset.split("random", seed)
        found = fit(pairs.select(split.train), pairs.select(split.validation), cell, seed)
        encoder = trained_encoder(found.weights, cell.training.precision)
        scores.append(evaluate(cell, encoder, pairs.select(split.test))[METRIC])
    sizes = len(split.train), len(split.test)
    chance = np.full(options.seeds, chance_metrics(len(split.test))[METRIC])
    difference = difference_over_seeds("encoder vs chance", np.array(scores), chance, *sizes)
    (comparison,) = compare([difference])
    return comparison


def claimed(comparison: Comparison) -> bool:
    """Whether a reader would be told that it is above chance."""
    return comparison.corrected.pvalue < LEVEL and comparison.corrected.mean > 0


def share(found: list[bool]) -> str:
    """So many of so many, with Wilson's interval."""
    if not found:
        return "none tried"
    low, high = stats.binomtest(sum(found), len(found)).proportion_ci(method="wilson")
    return f"{sum(found)} of {len(found)} ({100 * low:.0f} to {100 * high:.0f} %)"


def above(tests: list[Comparison]) -> float:
    """Mean difference from chance, over recordings."""
    return fmean(test.corrected.mean for test in tests) if tests else 0.0


def show_worlds(options: Options, pool: ProcessPoolExecutor) -> None:
    """Simulate reports and print how often they claim what is not there."""
    reports = list(pool.map(simulated_claims, range(options.worlds), chunksize=4))
    for about in reports[0]:
        print(f"{about}: {share([report[about] for report in reports])}")
    wrong = {about: fmean(report[about] for report in reports) for about in reports[0]}
    print(json.dumps({"worlds": len(reports), "claims": wrong}))


def show_recordings(options: Options, pool: ProcessPoolExecutor) -> None:
    """Train on recordings and print how often reports claim that they are above chance."""
    common = {"sentences": options.sentences, "electrodes": 5, "sampling_rate": 256.0}
    null = [
        SyntheticSpec(seed=seed, coupling=0.0, equal_durations=True, **common)
        for seed in range(options.null)
    ]
    coupled = [
        SyntheticSpec(seed=seed, coupling=options.coupling, equal_durations=True, **common)
        for seed in range(1000, 1000 + options.coupled)
    ]
    tests = list(pool.map(partial(claim, options=options), [*null, *coupled]))
    nothing, something = tests[: len(null)], tests[len(null) :]
    wrong = [claimed(each) for each in nothing]
    naive = [each.naive.pvalue < LEVEL and each.naive.mean > 0 for each in nothing]
    print(f"claims on null recordings: {share(wrong)}, with the naive test {share(naive)}")
    print(f"claims on coupled recordings: {share([claimed(each) for each in something])}")
    print(
        json.dumps(
            {
                "null": len(wrong),
                "false_claims": sum(wrong),
                "false_claims_naive": sum(naive),
                "mean_above_chance_null": above(nothing),
                "coupled": len(something),
                "true_claims": sum(map(claimed, something)),
                "mean_above_chance_coupled": above(something),
            }
        )
    )


def main(options: Options) -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.processes, mp_context=context) as pool:
        if options.worlds:
            show_worlds(options, pool)
        if options.null or options.coupled:
            show_recordings(options, pool)


if __name__ == "__main__":
    run_command(Options, main)
