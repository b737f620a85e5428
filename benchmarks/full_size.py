r"""One cell at the paper's size, from recording to test evaluation: what each stage takes.

    python -m ssense.data.synthetic OUT --timings tests/data/antman_sentence_timings.csv \
        --electrodes 106 --sampling-rate 1024
    python benchmarks/full_size.py OUT

Every stage is that of a sweep; the cell trains a single epoch, with its validation, on one thread,
as each core's cell does. Beside the wall time stand the processor's seconds, since other work may
share it, the highest memory of all processes together, and the load average at the end. From them
follows what the paper's experiment takes on this machine, in the words and assumptions printed.
"""

# ruff: noqa: E402 - flags are checked before the imports that take seconds

from __future__ import annotations

from dataclasses import dataclass

from ssense.cli.command import check_flags, run_command


@dataclass(frozen=True)
class Options:
    """What to measure on."""

    recording: str
    """Folder of the recording."""


if __name__ == "__main__":
    check_flags(Options)  # before the imports that take seconds

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from precompute import MemoryWatch
from upath import UPath

from analysis.measure.evaluation import held_out_retrieval
from ssense.data.recordings.readers.brain_treebank import open_brain_treebank
from ssense.data.recordings.segments import SegmentSpec
from ssense.engine.core.cell import Cell
from ssense.engine.records.ledger import Ledger
from ssense.engine.tasks.dataset_plan import DatasetPlan, plan_dataset
from ssense.engine.tasks.feature_making import make_shards
from ssense.engine.work.cell import run_cell
from ssense.engine.work.workers import running_ray
from ssense.model.encoders.spectrogram_encoder import ResNetSpec
from ssense.signal.superlets import SuperletSpec
from ssense.targets.sentence_embeddings import cached_embeddings
from ssense.targets.text import TextSpec
from ssense.training.process import reset_process, usable_cores
from ssense.training.sentences import SentenceSpec, TrainingSpec

SEED = 0
CELLS = (1 + 7 + 2 * 10) * 10  # no masking, seven ratios, ten configurations of two; ten seeds
EPOCHS = 20  # of a cell, assumed; the most are 100
REFERENCE_MS = (627, 908)  # of the authors' superlets, per channel and segment


@dataclass(frozen=True)
class Stage:
    """What a stage took."""

    name: str
    wall_s: float
    cpu_s: float
    peak_bytes: int
    load: float

    def row(self) -> str:
        """Of a table in Markdown."""
        memory = f"{self.peak_bytes / 1e9:.1f}"
        return (
            f"| {self.name} | {self.wall_s:.1f} | {self.cpu_s:.1f} | {memory} | {self.load:.1f} |"
        )


@contextmanager
def stage(name: str, stages: dict[str, Stage]) -> Iterator[None]:
    """Measure a stage, show it, and keep it by its name."""
    start = time.perf_counter()
    with MemoryWatch() as watch:
        yield
        wall_s, cpu_s = time.perf_counter() - start, watch.cpu_s
    stages[name] = Stage(name, wall_s, cpu_s, watch.peak, os.getloadavg()[0])
    print(stages[name].row(), flush=True)


def planned(recording: str, storage: UPath) -> DatasetPlan:
    """The paper's segments and spectrograms of all clean contacts."""
    segments = replace(SegmentSpec.paper(), reference="none")
    text = TextSpec(weights="untrained")
    return plan_dataset(
        open_brain_treebank(Path(recording)), segments, SuperletSpec.brainbert(), text, storage
    )


def run_stages(recording: str, storage: UPath) -> tuple[DatasetPlan, dict[str, Stage]]:
    """All stages of a sweep with one cell of one epoch."""
    stages: dict[str, Stage] = {}
    print("| stage | wall, s | processor, s | peak memory, GB | load |")
    print("| --- | --- | --- | --- | --- |")
    with stage("plan", stages):
        plan = planned(recording, storage)
    with stage("precompute", stages), running_ray():
        make_shards(plan.features, plan.report, on_shard=lambda *_: None)
    with stage("text", stages):
        cached_embeddings(plan.stimuli, plan.target, storage / "text")
    with stage("load", stages):
        dataset = plan.load()
    ledger = Ledger(storage / "sweeps" / "full-size")
    spec = SentenceSpec(
        encoder=ResNetSpec(weights="random"), training=TrainingSpec(precision="bf16", max_epochs=1)
    )
    pairs = dataset.on(torch.device("cpu"))
    with stage("epoch", stages):
        reset_process(SEED, threads=1)
        record = run_cell(Cell({}, SEED), dataset, pairs, spec, ledger)
    with stage("test", stages):
        test = dataset.split(spec.split, SEED).test
        held_out_retrieval(ledger, record, spec, pairs.select(test))
    return plan, stages


def estimate(plan: DatasetPlan, stages: dict[str, Stage]) -> list[str]:
    """The paper's experiment on this machine, were it free, from the processor's seconds."""
    cores = usable_cores()
    sentences, electrodes, *_ = plan.shape
    once = sum(stages[name].cpu_s for name in ("precompute", "text", "load"))
    cell = EPOCHS * stages["epoch"].cpu_s + stages["test"].cpu_s
    reference = [ms / 1e3 * sentences * electrodes / cores / 3600 for ms in REFERENCE_MS]
    return [
        f"{sentences} sentences x {electrodes} electrodes. {CELLS} cells of {EPOCHS} epochs (an "
        f"assumption), on {cores} cores with nothing else on them:",
        f"  precompute, text, load {once / cores / 60:.1f} min; the authors' superlets would take "
        f"{reference[0]:.0f} to {reference[1]:.0f} h",
        f"  cells {CELLS * cell / cores / 3600:.0f} h, {cell / 3600:.2f} core-hours each",
    ]


def main(options: Options) -> None:
    """Print the table of stages and what follows from it; what was computed is deleted."""
    with tempfile.TemporaryDirectory() as scratch:
        plan, stages = run_stages(options.recording, UPath(scratch))
    for line in estimate(plan, stages):
        print(line)


if __name__ == "__main__":
    run_command(Options, main)
