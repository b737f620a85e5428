"""Retrieval of cells trained in bf16 against the same cells in float32, in one run.

    python benchmarks/precision.py

The default job without masks on its synthetic recording: every seed is trained in both precisions,
on the same split, weights and batches. The difference of a pair stands beside the spread between
seeds, the noise that every comparison of a sweep has to live with anyway.
"""

# ruff: noqa: E402 - flags are checked before the imports that take seconds

from __future__ import annotations

from dataclasses import dataclass

from bounds import at_least

from ssense.choices import Precision
from ssense.cli.command import check_flags, run_command


@dataclass(frozen=True)
class Options:
    """What to measure."""

    seeds: int = 10
    """Seeds to train in both precisions."""
    max_epochs: int = 5
    """Most epochs of a cell."""
    sentences: int = 300
    """Sentences of the synthetic recording."""

    def __post_init__(self) -> None:
        at_least(self, seeds=2, max_epochs=1, sentences=60)


if __name__ == "__main__":
    check_flags(Options)  # before the imports that take seconds

import json
import tempfile
from typing import get_args

import numpy as np

from ssense.data.synthetic.recording import SyntheticSpec
from ssense.engine.tasks.feature_making import make_shards
from ssense.engine.tasks.recording_options import RecordingOptions
from ssense.engine.work.workers import running_ray
from ssense.model.encoders.spectrogram_encoder import trained_encoder
from ssense.specification import configured
from ssense.training.loop import evaluate, fit
from ssense.training.process import any_device, reset_process

METRICS = ("recall@10", "mrr")


def main(options: Options) -> None:
    """Train the pairs of cells and compare their metrics on the test splits."""
    with tempfile.TemporaryDirectory() as storage:
        sweep = RecordingOptions(
            storage=storage,
            max_epochs=options.max_epochs,
            synthetic=SyntheticSpec(sentences=options.sentences),
        )
        plan = sweep.plan_data()
        with running_ray():
            make_shards(plan.own.features, plan.own.report, on_shard=lambda *_: None)
        dataset = plan.load(plan.digest)
    shared = sweep.specification()
    device = any_device()
    pairs = dataset.on(device)
    found: dict[str, list[list[float]]] = {precision: [] for precision in get_args(Precision)}
    for seed in range(options.seeds):
        split = dataset.split(shared.split, seed)
        for precision, rows in found.items():
            reset_process(seed, threads=1)
            spec = configured(shared, {"training.precision": precision})
            train, validation, test = (
                pairs.select(part) for part in (split.train, split.validation, split.test)
            )
            trained = fit(train, validation, spec, seed)
            encoder = trained_encoder(trained.weights, precision).to(device)
            metrics = evaluate(spec, encoder, test)
            rows.append([metrics[name] for name in METRICS])
    bf16, float32 = (np.array(found[precision]) for precision in ("bf16", "float32"))
    difference = bf16 - float32
    result = {
        name: {
            "float32": round(float32[:, i].mean(), 4),
            "bf16": round(bf16[:, i].mean(), 4),
            "sd_between_seeds": round(float32[:, i].std(ddof=1), 4),
            "difference": round(difference[:, i].mean(), 4),
            "standard_error": round(difference[:, i].std(ddof=1) / np.sqrt(options.seeds), 4),
        }
        for i, name in enumerate(METRICS)
    }
    print(json.dumps(result))


if __name__ == "__main__":
    run_command(Options, main)
