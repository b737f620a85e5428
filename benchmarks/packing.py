"""What a device trains per second with one cell on it, and with several at a time, in one run.

    python benchmarks/packing.py
    python benchmarks/packing.py --method infonce --at-once 1 2 4 8 16

Cells are processes, as in a sweep, that train the same random data by the loop of every cell. On a
GPU each has its share of the memory, as by `--gpus-per-cell`; on a CPU they divide its cores, as by
`--cpus-per-cell`. All begin together, and each goes on, uncounted, until the time of all is over.
"""

# ruff: noqa: E402 - flags are checked before the imports that take seconds

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bounds import at_least

from ssense.choices import Precision
from ssense.cli.command import check_flags, run_command


@dataclass(frozen=True)
class Options:
    """What to measure."""

    method: Literal["ssense", "infonce", "ssr"] = "ssense"
    """Method that the cells train."""
    at_once: tuple[int, ...] = (1, 2, 4)
    """Cells at a time, one measurement each."""
    electrodes: int | None = None
    """Electrodes of a sentence [99; 8 on a CPU]."""
    sentences: int | None = None
    """Sentences of an epoch of ssense, a quarter more for validation [872; 32 on a CPU]."""
    precision: Precision = "bf16"
    """Precision of ssense."""
    seconds: float = 30.0
    """Seconds of each measurement."""

    def __post_init__(self) -> None:
        at_least(self, at_once=1, electrodes=1, sentences=8, seconds=0)


if __name__ == "__main__":
    check_flags(Options)  # before the imports that take seconds

import json
import multiprocessing
import time
from contextlib import suppress
from multiprocessing.managers import BarrierProxy

import image_cell
import numpy as np
import torch
from training_step import MASKING, random_pairs

from ssense.engine.records.provenance import device_name
from ssense.model.encoders.spectrogram_encoder import ResNetSpec
from ssense.specification import configured
from ssense.training.images import ImageSpec
from ssense.training.loop import Checkpoint, Examples, Specification, fit
from ssense.training.process import any_device, assigned_device, reset_process, usable_cores
from ssense.training.sentences import SentenceSpec, TrainingSpec

ENDLESS = 10**6  # epochs
PATIENCE_S = 900.0  # for the others: one that failed never comes


class TimeIsOver(Exception):  # noqa: N818 - not an error
    """The end of a measurement."""


def cell(options: Options, device: torch.device) -> tuple[Specification, Examples, Examples]:
    """What a cell trains, and the random data that it trains and validates on."""
    if options.method == "ssense":
        on_gpu = device.type == "cuda"
        electrodes = options.electrodes or (99 if on_gpu else 8)
        n = options.sentences or (872 if on_gpu else 32)
        pairs = (random_pairs(size, (electrodes, 40, 154), device) for size in (n, n // 4))
        spec = SentenceSpec(
            masking=MASKING,
            encoder=ResNetSpec(weights="random"),
            training=TrainingSpec(precision=options.precision),
        )
        return spec, *pairs
    dataset = image_cell.noise(image_cell.Options(), subjects=1)
    images = configured(ImageSpec(), {"objective": options.method})
    responses, split = dataset.on(device), dataset.split(images.split, seed=0)
    return images, responses.select(split.train), responses.select(split.validation)


def train(options: Options, at_once: int, begin: BarrierProxy, rates: list[float]) -> None:
    """Train until the time of all is over.

    Args:
        options: Options of the measurement.
        at_once: Number of processes that train at a time.
        begin: Barrier where the processes wait for each other.
        rates: Examples per second of each process whose own time is over, shared by them.
    """
    reset_process(0, threads=max(1, usable_cores() // at_once))
    device = assigned_device(1 / at_once if torch.cuda.is_available() else 0)
    method, training, validation = cell(options, device)
    ends: list[float] = []
    counted = False

    def note(_: Checkpoint) -> None:
        nonlocal counted
        if not ends:
            begin.wait(PATIENCE_S)  # the first epoch loads libraries and chooses kernels
        ends.append(time.perf_counter())
        seconds = ends[-1] - ends[0]
        if not counted and seconds > options.seconds:
            rates.append(len(training) * (len(ends) - 1) / seconds)
            counted = True
        if len(rates) == at_once:
            raise TimeIsOver

    endless = configured(method, {"training.max_epochs": ENDLESS, "training.patience": ENDLESS})
    with suppress(TimeIsOver):
        fit(training, validation, endless, seed=0, on_epoch=note)


def examples_per_second(options: Options, at_once: int) -> float:
    """Of so many cells together."""
    spawn = multiprocessing.get_context("spawn")
    with spawn.Manager() as manager, spawn.Pool(at_once) as pool:
        begin, rates = manager.Barrier(at_once), manager.list()
        pool.starmap(train, [(options, at_once, begin, rates)] * at_once, chunksize=1)
        return sum(rates)


def main(options: Options) -> None:
    """Measure every number of cells at a time; print one line of JSON."""
    found = [examples_per_second(options, at_once) for at_once in options.at_once]
    device = any_device()
    result = {
        "device": device_name(device),
        "method": options.method,
        "at_once": options.at_once,
        "examples_per_s": [round(each, 1) for each in found],
        f"times_that_of_{options.at_once[0]}": list(np.round(np.divide(found, found[0]), 2)),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    run_command(Options, main)
