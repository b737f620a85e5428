"""What a device trains per second with one cell on it, and with several at a time, in one run.

    python benchmarks/packing.py
    python benchmarks/packing.py --method infonce --at-once 1 2 4 8 16

Cells are processes, as in a sweep, that train the same random data by the loop of every cell. On a
GPU each has its share of the memory, as by `--gpus-per-cell`; on a CPU they divide its cores, as by
`--cpus-per-cell`. All begin together, and what each has done when the time is over counts.
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from typing import Literal

import image_cell
import numpy as np
import torch
from training_step import MASKING, random_pairs

from ssense.command import run_command
from ssense.fitting import Checkpoint, Examples, Method, fit
from ssense.image_training import ImageTrainingSpec
from ssense.model.encoder import Precision
from ssense.training import TrainingSpec
from sweeps.engine.process import assigned_device, reset_process
from sweeps.engine.provenance import device_name

ENDLESS = 10**6  # epochs
PATIENCE_S = 900.0  # for the others: one that failed never comes


@dataclass(frozen=True)
class Options:
    """What to measure."""

    method: Literal["ssense", "infonce", "ssr"] = "ssense"
    """That the cells train."""
    at_once: tuple[int, ...] = (1, 2, 4)
    """Cells at a time, one measurement each."""
    electrodes: int | None = None
    """Of a sentence [99; 8 on a CPU]."""
    sentences: int | None = None
    """Of an epoch of ssense, a quarter more for validation [872; 32 on a CPU]."""
    precision: Precision = "bf16"
    """Of ssense."""
    seconds: float = 30.0
    """Of each measurement."""


Data = Callable[[torch.device], tuple[Examples, Examples]]


def cell(options: Options) -> tuple[Method, Data, int]:
    """What a cell trains, its data on a device, and how many examples an epoch trains on."""
    if options.method != "ssense":
        dataset = image_cell.noise(image_cell.Options(), subjects=1)
        images = ImageTrainingSpec(objective=options.method)
        split = dataset.split(images.split, seed=0)

        def responses(device: torch.device) -> tuple[Examples, Examples]:
            on = dataset.on(device)
            return on.select(split.train), on.select(split.validation)

        return images, responses, len(split.train)

    on_gpu = torch.cuda.is_available()
    electrodes = options.electrodes or (99 if on_gpu else 8)
    n = options.sentences or (872 if on_gpu else 32)

    def spectrograms(device: torch.device) -> tuple[Examples, Examples]:
        return random_pairs(n, electrodes, device), random_pairs(n // 4, electrodes, device)

    spec = TrainingSpec(masking=MASKING, precision=options.precision, encoder_weights="random")
    return spec, spectrograms, n


class TimeIsOver(Exception):  # noqa: N818 - not an error
    """The end of a measurement."""


def rate(options: Options, at_once: int, begin: Barrier) -> float:
    """Examples that this process trains on per second, beside others that do the same."""
    method, data, n = cell(options)
    gpus = 1 / at_once if torch.cuda.is_available() else 0
    reset_process(0, threads=max(1, (os.cpu_count() or 1) // at_once))
    train, validation = data(assigned_device(gpus))
    ends: list[float] = []

    def note(_: Checkpoint) -> None:
        if not ends:
            begin.wait(PATIENCE_S)  # the first epoch loads libraries and chooses kernels
        ends.append(time.perf_counter())
        if ends[-1] - ends[0] > options.seconds:
            raise TimeIsOver

    endless = dataclasses.replace(method, max_epochs=ENDLESS, patience=ENDLESS)
    try:
        fit(train, validation, endless, seed=0, on_epoch=note)
    except TimeIsOver:
        return n * (len(ends) - 1) / (ends[-1] - ends[0])
    raise AssertionError("the training ended by itself")


def rates(options: Options, at_once: int) -> list[float]:
    """Of every one of so many cells."""
    spawn = multiprocessing.get_context("spawn")
    with spawn.Manager() as manager, spawn.Pool(at_once) as pool:
        begin = manager.Barrier(at_once)
        return pool.starmap(rate, [(options, at_once, begin)] * at_once, chunksize=1)


def main(options: Options) -> None:
    """Measure every number of cells at a time; print one line of JSON."""
    found = [sum(rates(options, at_once)) for at_once in options.at_once]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
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
