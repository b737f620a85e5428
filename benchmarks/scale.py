"""What grows with a cluster: the real search, race and ledger under simulated workers.

    python benchmarks/scale.py                       # 1,000 workers, 100,000 cells
    python benchmarks/scale.py --workers 100 --cells 10000

Cells take simulated time: machines differ in speed, one cell in a hundred takes five times as long,
and machines on spot are taken away, which costs the epoch in progress. The clock is simulated; what
the driver does with every cell is not, and is what is measured. The storage is an object store in
memory, which counts what S3 would be asked.
"""

from __future__ import annotations

import heapq
import itertools
import os
import random
import resource
import time
import warnings
from collections import Counter, deque
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any, ClassVar

import fsspec
import optuna
import torch
from fsspec import AbstractFileSystem
from ray.exceptions import RayActorError
from sweep_overhead import Driver, given, invented, proposed
from upath import UPath

from ssense.command import run_command
from ssense.storage import read_whole, remove
from sweeps.engine.cell import Cell
from sweeps.engine.ledger import Ledger, Record
from sweeps.engine.race import POLICIES, PolicyName
from sweeps.engine.search import Search
from sweeps.engine.sweep import Sweep
from sweeps.engine.workers import LEAST_WAITING, Budget, CellSearcher

EPOCHS = (10, 60)  # of a cell, fewest and most
EPOCH_S = 5.0  # on a machine of middling speed
SPEED_SD = 0.3  # of the logarithm of a machine's speed
STRAGGLERS, STRAGGLER_FACTOR = 0.01, 5.0
MACHINE_H = 4.0  # for which a machine on spot is left, on average
NEW_MACHINE_S = 240.0


@dataclass(frozen=True)
class Options:
    """What to simulate."""

    workers: int = 1000
    """Machines that train one cell at a time."""
    cells: int = 100_000
    """Configurations x seeds."""


@dataclass
class Cluster:
    """Machines under a simulated clock, and what became of their time.

    Attributes:
        busy_s: spent on epochs that count.
        lost_s: spent on epochs that were lost with a machine.
        preempted: how often that happened.
    """

    workers: int
    random: random.Random = field(default_factory=lambda: random.Random(0))
    busy_s: float = 0.0
    lost_s: float = 0.0
    preempted: int = 0
    _left_of: dict[tuple[str, int], int] = field(default_factory=dict)  # epochs, by cell

    def __post_init__(self) -> None:
        self.speeds = [self.random.lognormvariate(0, SPEED_SD) for _ in range(self.workers)]

    def train(self, worker: int, cell: Cell) -> tuple[float, bool]:
        """Seconds until a cell ends or its machine is taken away, and whether it ended."""
        key = str(cell.configuration), cell.seed
        if key not in self._left_of:
            slow = STRAGGLER_FACTOR if self.random.random() < STRAGGLERS else 1
            self._left_of[key] = round(slow * self.random.randint(*EPOCHS))
        epoch_s = EPOCH_S / self.speeds[worker]
        whole = self._left_of[key] * epoch_s
        machine_s = self.random.expovariate(1 / (3600 * MACHINE_H))
        if machine_s > whole:
            self.busy_s += whole
            del self._left_of[key]
            return whole, True
        done = int(machine_s / epoch_s)
        self._left_of[key] -= done
        self.busy_s += done * epoch_s
        self.lost_s += machine_s - done * epoch_s
        self.preempted += 1
        return machine_s, False


class CountedStore(AbstractFileSystem):
    """An object store in memory: a request for each call, as on S3, and they are counted."""

    protocol = "counted"
    objects: ClassVar[dict[str, bytes]] = {}
    requests: ClassVar[Counter[str]] = Counter()

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        """PUT."""
        self.requests["PUT"] += 1
        if mode == "create" and path in self.objects:
            raise FileExistsError(path)
        self.objects[path] = value

    def cat_file(self, path: str, **_: Any) -> bytes:
        """GET."""
        self.requests["GET"] += 1
        if path not in self.objects:
            raise FileNotFoundError(path)
        return self.objects[path]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """HEAD."""
        self.requests["HEAD"] += 1
        if path not in self.objects:
            raise FileNotFoundError(path)
        return {"name": path, "size": len(self.objects[path]), "type": "file"}

    def rm_file(self, path: str) -> None:
        """DELETE, which on S3 succeeds where nothing is."""
        self.requests["DELETE"] += 1
        self.objects.pop(path, None)


def train(ledger: Ledger, record: Record) -> None:
    """Read and write what a worker does for a cell; the encoder is a token one."""
    ledger.record(record.signature)
    with suppress(FileNotFoundError):
        read_whole(ledger.checkpoint_path(record.signature))
    ledger.write(record, {"weight": torch.zeros(1)})
    remove(ledger.checkpoint_path(record.signature))


def simulate(sweep: Sweep, policy: PolicyName, workers: int) -> str:
    """Run a sweep to its end; return a line of figures."""
    CountedStore.objects.clear()
    CountedStore.requests.clear()
    ledger, search = Ledger(UPath("counted://sweep")), Search(sweep, POLICIES[policy])
    driver, cluster = Driver(search, ledger, policy), Cluster(workers)
    at_once = workers + max(LEAST_WAITING, workers)
    searcher = CellSearcher(search, ledger, Budget(), driver.keep, lambda: at_once)
    driver_s: list[float] = []
    end = _run(search, searcher, ledger, cluster, driver_s)
    assert not search.left()
    n = len(driver.records)
    tenth = max(1, len(driver_s) // 10)
    first, last = fmean(driver_s[:tenth]), fmean(driver_s[-tenth:])
    memory_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return (
        f"{n:7} {1e3 * sum(driver_s) / n:6.2f} {1e3 * first:6.2f} {1e3 * last:6.2f} "
        f"{max(driver_s):8.2f} {memory_gb:7.1f} {CountedStore.requests.total() / n:9.1f} "
        f"{cluster.busy_s / (workers * end):6.1%} {cluster.preempted:6} "
        f"{cluster.lost_s / cluster.busy_s:6.2%} {end / 3600:6.1f}"
    )


def _run(
    search: Search,
    searcher: CellSearcher,
    ledger: Ledger,
    cluster: Cluster,
    driver_s: list[float],
) -> float:
    """Hand out and take in cells until nothing is left; return the simulated seconds."""
    numbers = map(str, itertools.count())
    free = deque(range(cluster.workers))
    waiting: deque[tuple[str, Cell]] = deque()
    events: list[tuple[float, int, int, tuple[str, Cell] | None, bool]] = []
    order = itertools.count()
    now = 0.0
    finished = False
    while True:
        start = time.perf_counter()
        while not finished:
            trial = next(numbers)
            suggested = searcher.suggest(trial)
            if not isinstance(suggested, dict):
                finished = suggested is not None
                break
            waiting.append((trial, Cell(**suggested)))
        spent = time.perf_counter() - start
        while free and waiting:
            worker, (trial, cell) = free.popleft(), waiting.popleft()
            seconds, ended = cluster.train(worker, cell)
            heapq.heappush(events, (now + seconds, next(order), worker, (trial, cell), ended))
        if not events:
            return now
        now, _, worker, job, ended = heapq.heappop(events)
        if job is None:  # a new machine
            free.append(worker)
            continue
        trial, cell = job
        if ended:
            record = replace(invented(cell, search.signature(cell)), code_digest="simulated")
            train(ledger, record)
            start = time.perf_counter()
            searcher.on_trial_complete(trial, {"record": record})
            free.append(worker)
        else:
            start = time.perf_counter()
            searcher.lost(trial, RayActorError(error_msg="The node was terminated."))
            heapq.heappush(events, (now + NEW_MACHINE_S, next(order), worker, None, True))
        driver_s.append(spent + time.perf_counter() - start)
        if searcher.obstacle:
            raise searcher.obstacle


def main(options: Options) -> None:
    """Simulate sweeps on many machines."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", "UPath 'counted'")
    fsspec.register_implementation("counted", CountedStore)
    print(
        f"{options.workers} workers. Driver's ms per cell: mean, of the first and last tenth; its"
    )
    print(
        "longest pause, s; memory, GB; requests per cell; share of the workers' time in epochs that"
    )
    print("count; machines lost, and the share of time lost with them; simulated hours")
    settings: tuple[tuple[str, PolicyName, Sweep], ...] = (
        ("full", "full", given(1, options.cells)),
        ("race", "race", given(4, options.cells)),
        ("race, TPE", "race", proposed(4)),
    )
    for name, policy, sweep in settings:
        start = time.perf_counter()
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            line = simulate(sweep, policy, options.workers)
        print(f"{name:10} {line}   in {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    run_command(Options, main)
