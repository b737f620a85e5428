"""What share of the workers' time the precompute spends in the superlet transform, in one run.

    python benchmarks/precompute.py                          # on a recording made for it
    python benchmarks/precompute.py --recording DIR          # on one that is there

Efficiency is the time of the bare transform, measured in this run on as many processes at once,
over workers x wall. What is missing to 1 is reading, filtering, writing and waiting. Peak memory
is that of the workers, the driver and Ray's object store together, at its highest.
"""

# ruff: noqa: E402 - flags are checked before the imports that take seconds

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bounds import at_least

from ssense.cli.command import check_flags, run_command


@dataclass(frozen=True)
class Options:
    """What to measure on."""

    recording: str | None = None
    """Folder of a recording [a synthetic one at 1024 Hz]."""
    sentences: int = 400
    """Sentences of the synthetic one."""
    electrodes: int = 30
    """Contacts of the synthetic one."""
    preset: Literal["literal", "paper"] = "literal"
    """How sentences become segments."""

    def __post_init__(self) -> None:
        at_least(self, sentences=2, electrodes=3)


if __name__ == "__main__":
    check_flags(Options)  # before the imports that take seconds

import json
import multiprocessing
import os
import tempfile
import threading
import time
from pathlib import Path

import psutil
import torch
from upath import UPath

from ssense.cli.screen import count, step
from ssense.data.recordings.readers.brain_treebank import open_brain_treebank
from ssense.data.recordings.segments import SegmentSpec
from ssense.data.synthetic.recording import SyntheticSpec, write_synthetic
from ssense.engine.tasks.dataset_plan import DatasetPlan, plan_dataset
from ssense.engine.tasks.feature_making import make_shards
from ssense.engine.work.workers import running_ray
from ssense.signal.features import features
from ssense.signal.superlets import SuperletSpec
from ssense.targets.text import TextSpec
from ssense.training.process import usable_cores

BARE_BLOCKS = 8  # of one electrode of a shard each, in every process
SAMPLE_EVERY_S = 0.2
RARELY_S = 2.0


class MemoryWatch:
    """What this process and all below it take: the highest sum of memory, and processor seconds.

    Attributes:
        peak: Highest memory, bytes; what several processes share is counted once.
    """

    def __init__(self) -> None:
        self.peak = 0
        self._cpu_s: dict[int, float] = {}
        self._before_s = time.process_time()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def cpu_s(self) -> float:
        """Processor seconds since the beginning, of processes that began after it or are this."""
        here = os.getpid()
        others = sum(seconds for pid, seconds in list(self._cpu_s.items()) if pid != here)
        return others + time.process_time() - self._before_s

    def _watch(self) -> None:
        here = psutil.Process()
        pause_s = SAMPLE_EVERY_S
        while not self._stop.wait(pause_s):
            start, total = time.perf_counter(), 0
            for process in (here, *here.children(recursive=True)):
                try:
                    total += process.memory_full_info().pss
                    times = process.cpu_times()
                    self._cpu_s[process.pid] = times.user + times.system
                except psutil.Error:
                    continue  # it ended meanwhile
            self.peak = max(self.peak, total)
            # Counting the pages of many gigabytes holds up whoever asks for more of them.
            pause_s = min(max(SAMPLE_EVERY_S, 20 * (time.perf_counter() - start)), RARELY_S)


def bare_seconds(channels: int, samples: int, rate_hz: float, spec: SuperletSpec) -> float:
    """Seconds per channel-segment of the transform alone, in this process, on one thread."""
    torch.set_num_threads(1)
    signal = torch.randn(channels, samples)
    features(signal, rate_hz, spec)  # makes the plan
    start = time.perf_counter()
    for _ in range(BARE_BLOCKS):
        features(signal, rate_hz, spec).half()
    return (time.perf_counter() - start) / (BARE_BLOCKS * channels)


def bare_seconds_together(plan: DatasetPlan, workers: int) -> float:
    """The mean of `bare_seconds` over as many processes at once as there are workers."""
    features = plan.features
    n_rows, n_samples = min(len(features.segments), 200), features.segments.n_samples
    arguments = (n_rows, n_samples, features.sampling_rate_hz, features.recipe)
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        return sum(pool.starmap(bare_seconds, [arguments] * workers)) / workers


def main(options: Options) -> None:
    """Measure the precompute's efficiency, wall time, memory and shard size."""
    with tempfile.TemporaryDirectory() as scratch:
        if options.recording is None:
            root = Path(scratch) / "recording"
            with step("Making a recording"):
                spec = SyntheticSpec(
                    sentences=options.sentences, electrodes=options.electrodes, sampling_rate=1024
                )
                write_synthetic(root, spec)
        else:
            root = Path(options.recording)
        segment_spec = SegmentSpec.paper() if options.preset == "paper" else SegmentSpec.literal()
        plan = plan_dataset(
            open_brain_treebank(root),
            segment_spec,
            SuperletSpec.brainbert(),
            TextSpec(weights="untrained"),
            UPath(scratch) / "storage",
        )
        plan.features.origin  # noqa: B018 - hashes the recording, outside the time measured
        workers = usable_cores()
        bare = bare_seconds_together(plan, workers)
        with running_ray(), MemoryWatch() as memory:
            start = time.perf_counter()
            work = make_shards(plan.features, plan.report, count("shards"))
            wall = time.perf_counter() - start
        files = [p for p in plan.features.folder.iterdir() if p.suffix == ".parquet"]
        sizes = [path.stat().st_size for path in files]
    n_sentences, n_electrodes, *_ = plan.shape
    transform = bare * n_sentences * n_electrodes
    result = {
        "shape": plan.shape,
        "samples": plan.features.segments.n_samples,
        "workers": workers,
        "wall_s": round(wall, 1),
        "bare_ms_per_channel": round(1e3 * bare, 3),
        "efficiency": round(transform / (workers * wall), 3),
        "transform_share_of_worker_time": round(work.transform_s / work.worker_s, 3),
        "shards": len(sizes),
        "shard_mb": [round(min(sizes) / 1e6, 1), round(max(sizes) / 1e6, 1)],
        "peak_memory_gb": round(memory.peak / 1e9, 2),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    run_command(Options, main)
