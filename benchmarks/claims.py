"""How often the claim "above chance" is right: on null recordings, and on coupled ones.

    python benchmarks/claims.py
    python benchmarks/claims.py --null 100 --coupled 40 --coupling 0.5

Every recording is written, read, cut, transformed, trained on at each seed and evaluated on the
held-out splits, as a cell of a sweep is, and tested by the corrected resampled t-test at 5 %. There
is one configuration, so nothing is chosen. All sentences are of one length: in null recordings
nothing at all tells them apart, in coupled ones only what words evoke.
"""

from __future__ import annotations

import json
import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from scipy import stats
from upath import UPath

from analysis.comparison import Comparison, against_chance
from ssense.command import run_command
from ssense.data.brain_treebank import SegmentSpec, open_recording
from ssense.data.dataset import Dataset
from ssense.data.synthetic import SyntheticSpec, write_synthetic
from ssense.fitting import fit
from ssense.model.encoder import trained_encoder
from ssense.model.text import TextSpec, cached_embeddings
from ssense.retrieval import chance_metrics
from ssense.training import TrainingSpec
from sweeps.engine.options import SMALL
from sweeps.engine.precompute import ShardTask, plan_dataset

METRIC = "recall@10"
LEVEL = 0.05


@dataclass(frozen=True, kw_only=True)
class Options:
    """How many recordings, and how large."""

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


def dataset_of(spec: SyntheticSpec, folder: Path) -> Dataset:
    """Write a recording and take it through the pipeline, without Ray."""
    write_synthetic(folder / "recording", spec)
    plan = plan_dataset(
        open_recording(folder / "recording"),
        SegmentSpec.literal(),
        SMALL,
        TextSpec(weights="untrained"),
        UPath(folder),
    )
    spectrograms, _ = ShardTask(plan).spectrograms(range(plan.shape[0]))
    segments = plan.segments
    return Dataset(
        digest=plan.digest,
        spectrograms=spectrograms,
        text=cached_embeddings(segments.text, plan.text_spec, UPath(folder)).numpy(),
        sentences=segments.text,
        spans_s=np.stack([segments.start, segments.stop], axis=1) / plan.sampling_rate_hz,
    )


def claim(spec: SyntheticSpec, options: Options) -> Comparison:
    """Test whether encoders trained on a recording retrieve above chance."""
    torch.set_num_threads(1)
    training = TrainingSpec(
        encoder_weights="random", batch_size=16, max_epochs=options.epochs, patience=options.epochs
    )
    with tempfile.TemporaryDirectory() as folder:
        dataset = dataset_of(spec, Path(folder))
    pairs = dataset.on(torch.device("cpu"))
    scores = []
    for seed in range(options.seeds):
        split = dataset.split("random", seed)
        found = fit(pairs.select(split.train), pairs.select(split.validation), training, seed)
        encoder = trained_encoder(found.encoder, training.precision)
        scores.append(training.evaluate(encoder, pairs.select(split.test))[METRIC])
    sizes = len(split.train), len(split.test)
    chance = np.full(options.seeds, chance_metrics(len(split.test))[METRIC])
    (comparison,) = against_chance({"encoder": np.array(scores)}, chance, *sizes)
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


def main(options: Options) -> None:
    common = {"sentences": options.sentences, "electrodes": 5, "sampling_rate": 256.0}
    null = [
        SyntheticSpec(seed=seed, coupling=0.0, equal_durations=True, **common)
        for seed in range(options.null)
    ]
    coupled = [
        SyntheticSpec(seed=seed, coupling=options.coupling, equal_durations=True, **common)
        for seed in range(1000, 1000 + options.coupled)
    ]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.processes, mp_context=context) as pool:
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


if __name__ == "__main__":
    run_command(Options, main)
