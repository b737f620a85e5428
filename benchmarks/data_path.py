"""From shards to tensors: speed, memory, and copies on a node with two workers, in one run.

    python benchmarks/data_path.py

Shards of white noise, which compresses least, of the paper's size. They are read in processes of
their own, whose memory at its highest stands against the size of the tensor. Such a process first
writes once to memory of that size and gives it back: a virtual machine may have to get it from its
host, at a speed that stands beside and is none of the reader's. The files were just written and are
in the system's cache: a disk may be slower. Then two workers take the dataset
out of Ray's object store and read every value of it: what is theirs alone, and the share of it that
each process is charged with, summed over all of them.
"""

# ruff: noqa: E402 - flags are checked before the imports that take seconds

from __future__ import annotations

from dataclasses import dataclass

from bounds import at_least

from ssense.cli.command import check_flags, run_command


@dataclass(frozen=True)
class Options:
    """What to measure."""

    sentences: int = 1454
    """Sentences of the dataset."""
    electrodes: int = 99
    """Electrodes of a sentence."""
    rounds: int = 5
    """How often the shards are read."""

    def __post_init__(self) -> None:
        at_least(self, sentences=1, electrodes=1, rounds=1)


if __name__ == "__main__":
    check_flags(Options)  # before the imports that take seconds

import json
import math
import multiprocessing
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import ray
import torch
from upath import UPath

from ssense.data.dataset import Dataset
from ssense.data.shards import Manifest, read_shards, rows_per_shard, shard_name, write_shard
from ssense.engine.work.workers import running_ray

ORIGIN = "noise"


def write_noise(folder: UPath, n: int, row_shape: tuple[int, int, int]) -> None:
    """A folder of shards of unit normal noise."""
    rng = np.random.default_rng(0)
    rows = rows_per_shard(n, row_shape)
    shards = []
    for number, start in enumerate(range(0, n, rows)):
        count = min(rows, n - start)
        noise = rng.standard_normal((count, *row_shape), dtype=np.float32)
        sentences = {"text": [f"sentence {start + row}" for row in range(count)]}
        shards.append(write_shard(folder / shard_name(number), ORIGIN, sentences, noise))
    Manifest(
        digest=ORIGIN,
        origin={},
        settings={},
        sources={},
        sampling_rate_hz=1024.0,
        electrodes=[],
        dropped={},
        shards=shards,
    ).write(folder)


def read_alone(folder: str, size: int) -> dict[str, float]:
    """GB/s of touching memory and of reading into it, and the peak of this process in sizes.

    Args:
        folder: Folder of shards.
        size: Size of the shards' tensor, bytes.
    """
    before = psutil.Process().memory_info().rss
    start = time.perf_counter()
    np.ones(size, np.uint8)
    touched = time.perf_counter()
    cpu_start = time.process_time()
    _, spectrograms = read_shards(UPath(folder))
    read, cpu_s = time.perf_counter() - touched, time.process_time() - cpu_start
    assert spectrograms.nbytes == size
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {
        "first_touch_gb_per_s": round(size / (touched - start) / 1e9, 2),
        "gb_per_s": round(size / read / 1e9, 2),
        "gb_per_core_second": round(size / cpu_s / 1e9, 2),
        "peak_over_size": round(peak / size, 2),
        "load": round(os.getloadavg()[0], 1),
    }


@ray.remote
class Worker:
    """Takes the dataset as a cell's worker does."""

    def private_bytes(self, dataset: Dataset | None) -> int:
        """Memory of this process alone, once every value of the dataset was read."""
        if dataset is not None:
            self._pairs = dataset.on(torch.device("cpu"))
            self._sums = [float(row.float().sum()) for row in self._pairs.spectrograms]
        return psutil.Process().memory_full_info().uss


def charged_bytes() -> int:
    """Memory of all processes here and below, what several share counted once."""
    here = psutil.Process()
    processes = (here, *here.children(recursive=True))
    return sum(process.memory_full_info().pss for process in processes)


def copies(folder: UPath) -> dict[str, float]:
    """Memory that two workers need beyond what they start with, in sizes of the dataset."""
    columns, spectrograms = read_shards(folder)
    n, size = len(spectrograms), spectrograms.nbytes
    dataset = Dataset(
        digest=ORIGIN,
        spectrograms=spectrograms,
        targets=np.zeros((n, 512), np.float32),
        stimuli=tuple(columns["text"]),
        spans_s=np.zeros((n, 2)),
    )
    with running_ray():
        workers = [Worker.options(num_cpus=1).remote() for _ in range(2)]
        before = sum(ray.get([worker.private_bytes.remote(None) for worker in workers]))
        shared = ray.put(dataset)
        del dataset, spectrograms
        charged = charged_bytes()
        after = sum(ray.get([worker.private_bytes.remote(shared) for worker in workers]))
        return {
            "private_to_two_workers": round((after - before) / size, 3),
            "added_by_two_workers": round((charged_bytes() - charged) / size, 3),
        }


def main(options: Options) -> None:
    """Write noise, read it, share it; print one line of JSON."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = UPath(Path(scratch) / "shards")
        row_shape = (options.electrodes, 40, 154)
        write_noise(folder, options.sentences, row_shape)
        size = 2 * options.sentences * math.prod(row_shape)
        spawn = multiprocessing.get_context("spawn")
        with spawn.Pool(1, maxtasksperchild=1) as pool:
            rounds = [pool.apply(read_alone, (str(folder), size)) for _ in range(options.rounds)]
        result = {
            "dataset_gb": round(size / 1e9, 2),
            **{name: [found[name] for found in rounds] for name in rounds[0]},
            **copies(folder),
        }
    print(json.dumps(result))


if __name__ == "__main__":
    run_command(Options, main)
