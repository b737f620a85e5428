"""What a sweep over six datasets costs beside one over a single dataset, in one run.

    python benchmarks/datasets.py
    python benchmarks/datasets.py --sentences 400 --electrodes 20 --seeds 2

Both sweeps have the same number of cells of the same size, and take turns: six qualities of the
notch filter, which leave all shapes alike, and six learning rates on one of these datasets. The
datasets are made before, and their making is measured by itself. The cell time is that of a worker
from the end of its first cell, in which libraries warm up, to that of its last, over the cells in
between: with reading the dataset, training, writing the result and waiting for the next cell.
"""

# ruff: noqa: E402 - flags are checked before the imports that take seconds

from __future__ import annotations

from dataclasses import dataclass

from bounds import at_least

from ssense.cli.command import check_flags, run_command


@dataclass(frozen=True)
class Options:
    """What to measure."""

    sentences: int = 150
    """Sentences of the synthetic recording."""
    electrodes: int = 8
    """Contacts of the synthetic recording."""
    epochs: int = 3
    """Epochs of a cell."""
    seeds: int = 3
    """Seeds of each sweep, each with six cells."""
    rounds: int = 4
    """How often both sweeps are run, each time the other one first."""

    def __post_init__(self) -> None:
        at_least(self, sentences=60, electrodes=3, epochs=1, seeds=1, rounds=1)


if __name__ == "__main__":
    check_flags(Options)  # before the imports that take seconds

import json
import os
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from statistics import fmean
from typing import Any
from unittest.mock import patch

import ray
from ray._private.internal_api import get_memory_info_reply, get_state_from_address
from upath import UPath

from ssense.cli.screen import say, step
from ssense.data.recordings.readers.brain_treebank import open_brain_treebank
from ssense.data.synthetic.recording import SyntheticSpec, write_synthetic
from ssense.engine.core.budget import Budget
from ssense.engine.core.record import Record
from ssense.engine.core.sweep import Family, Levels, Sweep
from ssense.engine.records.ledger import Ledger
from ssense.engine.search.race import Full
from ssense.engine.search.search import Change, Search
from ssense.engine.tasks.dataset_plan import plan_dataset
from ssense.engine.tasks.recording_data import RecordingData
from ssense.engine.tasks.recording_plan import SMALL
from ssense.engine.work import workers
from ssense.engine.work.cell import CellTrainable
from ssense.engine.work.shared_data import SharedData
from ssense.engine.work.workers import Resources, running_ray, train_cells
from ssense.files.storage import scratch_folder
from ssense.model.encoders.spectrogram_encoder import ResNetSpec
from ssense.targets.text import TextSpec
from ssense.training.process import fast_precision, gpus_here
from ssense.training.sentences import SentenceSpec, TrainingSpec

SWEEPS: Mapping[str, Mapping[str, Levels]] = {
    "one": {"training.learning_rate": (4.7e-4, 4.8e-4, 4.9e-4, 5e-4, 5.1e-4, 5.2e-4)},
    "six": {"data.notch_quality": (20.0, 25.0, 30.0, 35.0, 40.0, 45.0)},
}
"""The levels of both sweeps; the dataset of the first has a notch quality of 30."""


@dataclass(frozen=True)
class Taken:
    """Seconds per cell.

    Attributes:
        cell_s: Seconds of the worker.
        cpu_s: Processor seconds of the worker.
        training_s: Seconds of training and writing the result.
        data_s: Seconds until the dataset was at hand.
    """

    cell_s: float
    cpu_s: float
    training_s: float
    data_s: float


class TimedCell(CellTrainable):
    """The engine's cell; its record also says when the step began and ended, in Unix time."""

    def _data(self) -> Any:
        start = time.perf_counter()
        found = super()._data()
        self._data_s = time.perf_counter() - start
        return found

    def step(self) -> dict[str, Any]:
        """Train the cell."""
        result = super().step()
        record = result["record"]
        times = {"ended": time.time(), "cpu": time.process_time(), "data": self._data_s}
        return result | {"record": replace(record, timings={**record.timings, **times})}


def specification(epochs: int) -> SentenceSpec:
    precision = fast_precision(gpus_here(None))
    return SentenceSpec(
        features=SMALL,
        target=TextSpec(weights="untrained"),
        encoder=ResNetSpec(weights="random"),
        training=TrainingSpec(max_epochs=epochs, batch_size=16, precision=precision),
    )


def sweeps_of(data: RecordingData, options: Options) -> dict[str, tuple[Sweep, RecordingData]]:
    """Both sweeps, each with its data."""
    spec, found = specification(options.epochs), {}
    for name, levels in SWEEPS.items():
        families = (Family(name=name, levels=levels),)
        covering = data.covering(spec, families)
        sweep = Sweep(
            question=name,
            dataset_digest=covering.digest,
            specification=spec,
            families=families,
            configurations=len(next(iter(levels.values()))),
            seeds=tuple(range(options.seeds)),
            datasets=covering.datasets,
        )
        found[name] = sweep, covering
    return found


def train(sweep: Sweep, refs: Mapping[str, ray.ObjectRef[Any]], folder: UPath) -> Taken:
    """Train all cells of a sweep by the engine; what they took, without each worker's first."""
    search, records = Search(sweep, Full()), list[Record]()

    def keep(record: Record, _: Change) -> None:
        if not record.done:
            raise RuntimeError(f"a cell failed: {record.reason}")
        records.append(record)

    resources = Resources.of_cell(1, None)
    with patch.object(workers, "CellTrainable", TimedCell):
        train_cells(search, refs, Ledger(folder), resources, Budget(), keep)
    of_worker = defaultdict(list)
    for record in sorted(records, key=lambda record: record.timings["ended"]):
        of_worker[record.worker].append(record.timings)
    n_cells = sum(len(timings) - 1 for timings in of_worker.values())

    def per_cell(name: str) -> float:
        return sum(each[-1][name] - each[0][name] for each in of_worker.values()) / n_cells

    after = [timings for each in of_worker.values() for timings in each[1:]]
    return Taken(
        per_cell("ended"),
        per_cell("cpu"),
        fmean(timings["training"] for timings in after),
        fmean(timings["data"] for timings in after),
    )


def stored_bytes() -> int:
    """Bytes that the object store of the running Ray holds."""
    address = ray.get_runtime_context().gcs_address
    reply = get_memory_info_reply(get_state_from_address(address))
    return int(reply.store_stats.object_store_bytes_used)


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def make(data: RecordingData, storage: Path) -> tuple[SharedData, list[dict[str, float]]]:
    """Make and share the datasets, one after another; what each took to make."""
    shared = SharedData(data, use_gpus=bool(ray.cluster_resources().get("GPU")))
    made, wanted = [], [*data.datasets.values()]
    for digest in wanted:
        before = folder_bytes(storage), stored_bytes()
        start = time.perf_counter()
        shared.add([digest])
        made.append(
            {
                "s": time.perf_counter() - start,
                "disk_mb": (folder_bytes(storage) - before[0]) / 1e6,
                "store_mb": (stored_bytes() - before[1]) / 1e6,
            }
        )
    return shared, made


def main(options: Options) -> None:
    """Measure both sweeps in turns; print one line of JSON."""
    with scratch_folder() as scratch:
        with step("Making a recording"):
            size = SyntheticSpec(sentences=options.sentences, electrodes=options.electrodes)
            write_synthetic(scratch / "recording", size)
        storage = scratch / "storage"
        spec = specification(options.epochs)
        recording = open_brain_treebank(scratch / "recording")
        plan = plan_dataset(recording, spec.data, spec.features, spec.target, UPath(storage))
        sweeps = sweeps_of(RecordingData(own=plan), options)
        with running_ray():
            datasets = sweeps["six"][1]
            datasets.warm(spec)
            shared, made = make(datasets, storage)
            say(f"load {os.getloadavg()[0]:.1f}; {sweeps['one'][0].n_cells} cells in each sweep")
            taken: dict[str, list[Taken]] = {name: [] for name in sweeps}
            for number in range(options.rounds):
                for name in [*sweeps][:: 1 - 2 * (number % 2)]:
                    sweep, _ = sweeps[name]
                    refs = {each: shared.refs[each] for each in sweep.all_datasets()}
                    with step(f"Round {number + 1}: {name}"):
                        folder = UPath(scratch / "ledgers") / f"{name} {number}"
                        taken[name].append(train(sweep, refs, folder))
        means = {
            field.name: {
                name: fmean(getattr(each, field.name) for each in of) for name, of in taken.items()
            }
            for field in fields(Taken)
        }
        pairs = zip(taken["one"], taken["six"], strict=True)
        result = {
            "shape": datasets.shape,
            "cells": options.rounds * sweeps["one"][0].n_cells,
            "load": round(os.getloadavg()[0], 1),
            **{
                name: {sweep: round(seconds, 4) for sweep, seconds in of.items()}
                for name, of in means.items()
            },
            "six_over_one": round(means["cell_s"]["six"] / means["cell_s"]["one"], 3),
            "cpu_six_over_one": round(means["cpu_s"]["six"] / means["cpu_s"]["one"], 3),
            "rounds": [round(six.cell_s / one.cell_s, 3) for one, six in pairs],
            "making": {name: [round(each[name], 2) for each in made] for name in made[0]},
        }
        print(json.dumps(result))


if __name__ == "__main__":
    run_command(Options, main)
