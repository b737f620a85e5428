"""What grows with a cluster: the real search, race and ledger under simulated workers.

    python benchmarks/scale.py                       # 1,000 workers, 100,000 cells
    python benchmarks/scale.py --workers 100 --cells 10000

Cells take simulated time: machines differ in speed, one cell in a hundred takes five times as long,
and machines on spot are taken away, which costs the epoch in progress. The clock is simulated; what
the driver does with every cell is not, and is what is measured. The seconds that it takes pass on
the simulated clock too, and cells that end meanwhile wait.

The storage is an object store in memory, which counts what S3 would be asked. A request takes
20 ms, which the driver waits for; where the code asks for many, 64 are under way at once. The
requests of workers are counted and take none of their time.

Records have histories of 30 epochs. What MLflow takes is measured beside, at the pace of 1,000
workers that train a cell in a minute: by the driver's own thread, which makes what is shown, and by
the one that writes it. What Ray Tune takes is not in it: see `sweep_overhead.py --simulate-tune`.
"""

# ruff: noqa: E402 - flags are checked before the imports that take seconds

from __future__ import annotations

from dataclasses import dataclass

from bounds import at_least

from ssense.cli.command import check_flags, run_command


@dataclass(frozen=True)
class Options:
    """What to simulate."""

    workers: int = 1000
    """Machines that train one cell at a time."""
    cells: int = 100_000
    """Configurations x seeds."""

    def __post_init__(self) -> None:
        at_least(self, workers=1, cells=40)


if __name__ == "__main__":
    check_flags(Options)  # before the imports that take seconds

import heapq
import itertools
import os
import random
import resource
import time
import warnings
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import field, replace
from statistics import fmean
from typing import Any, ClassVar

import fsspec
import optuna
import torch
from fsspec import AbstractFileSystem
from ray.exceptions import RayActorError
from sweep_overhead import ORIGIN, Driver, given, invented, proposed
from upath import UPath

from ssense.choices import PolicyName
from ssense.engine.core.budget import Budget
from ssense.engine.core.cell import Cell
from ssense.engine.core.record import Record
from ssense.engine.core.sweep import Sweep
from ssense.engine.records.description import Description
from ssense.engine.records.ledger import Ledger
from ssense.engine.search.race import POLICIES
from ssense.engine.search.search import Search
from ssense.engine.view.tracking import Tracker
from ssense.engine.work.workers import LEAST_WAITING, CellSearcher
from ssense.files.storage import read_whole, remove, scratch_folder
from ssense.training.loop import SELECTION_METRIC

EPOCHS = (10, 60)  # of a cell, fewest and most
HISTORY = 30  # epochs in a record
CELLS_PER_S = 1000 / 60  # where MLflow is measured
SHOWN = 1000  # cells, at most
EPOCH_S = 5.0  # on a machine of middling speed
SPEED_SD = 0.3  # of the logarithm of a machine's speed
STRAGGLERS, STRAGGLER_FACTOR = 0.01, 5.0
MACHINE_H = 4.0  # for which a machine on spot is left, on average
NEW_MACHINE_S = 240.0
REQUEST_S = 0.02
REQUESTS_AT_ONCE = 64  # connections, as in ssense.files.storage
NAMES_AT_ONCE = 1000  # of a listing, as S3 has it


@dataclass
class Cluster:
    """Machines under a simulated clock, and what became of their time.

    Attributes:
        busy_s: Time spent on epochs that count.
        lost_s: Time spent on epochs that were lost with a machine.
        preempted: Number of preemptions.
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
    waited_s: ClassVar[float] = 0.0

    def _ask(self, method: str, n: int = 1, at_once: int = 1) -> None:
        self.requests[method] += n
        CountedStore.waited_s += REQUEST_S * -(-n // at_once)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        """PUT."""
        self._ask("PUT")
        if mode == "create" and path in self.objects:
            raise FileExistsError(path)
        self.objects[path] = value

    def cat_file(self, path: str, **_: Any) -> bytes:
        """GET."""
        self._ask("GET")
        if path not in self.objects:
            raise FileNotFoundError(path)
        return self.objects[path]

    def cat(self, path: Sequence[str], **_: Any) -> dict[str, bytes]:
        """GET, many at once."""
        self._ask("GET", len(path), REQUESTS_AT_ONCE)
        return {name: self.objects[name] for name in path}

    def find(self, path: str, **_: Any) -> dict[str, dict[str, Any]]:
        """GET of listings, one after the other."""
        names = [name for name in self.objects if name.startswith(f"{path}/")]
        self._ask("LIST", max(1, -(-len(names) // NAMES_AT_ONCE)))
        return {name: {"ETag": str(hash(self.objects[name]))} for name in names}

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """HEAD."""
        self._ask("HEAD")
        if path not in self.objects:
            raise FileNotFoundError(path)
        return {"name": path, "size": len(self.objects[path]), "type": "file"}

    def rm_file(self, path: str) -> None:
        """DELETE, which on S3 succeeds where nothing is."""
        self._ask("DELETE")
        self.objects.pop(path, None)


@dataclass
class Meter:
    """What a process does: seconds of each piece of work, CPU's and the store's, and requests."""

    seconds: list[float] = field(default_factory=list)
    requests: int = 0

    @contextmanager
    def work(self) -> Iterator[None]:
        """Measure a piece of work."""
        start, requests = time.process_time() + CountedStore.waited_s, CountedStore.requests.total()
        yield
        self.seconds.append(time.process_time() + CountedStore.waited_s - start)
        self.requests += CountedStore.requests.total() - requests


def with_history(record: Record) -> Record:
    """A record whose best epoch came after many others, as long as they are in practice."""
    score = record.best[SELECTION_METRIC]
    history = [
        {"epoch": n, "loss": 3.0 / n, "recall@1": 0.02, "recall@50": 0.5, "mrr": 0.1}
        | {SELECTION_METRIC: score * n / HISTORY}
        for n in range(1, HISTORY + 1)
    ]
    return replace(record, history=history, best_epoch=HISTORY)


def show_in_mlflow(sweep: Sweep, n_cells: int) -> str:
    """Show cells in MLflow as fast as a large cluster ends them; return a line of figures."""
    search = Search(sweep, POLICIES["full"])
    description = Description(sweep=sweep, origin=ORIGIN, policy="full")
    with scratch_folder() as folder:
        first = Tracker(
            UPath(folder), sweep.question, sweep.name
        )  # imports, and makes the database
        first.start(search, description)
        first.end(search)
        tracker = Tracker(UPath(folder), sweep.question, sweep.name)
        tracker.start(search, description)
        seconds, start = 0.0, time.perf_counter()
        others = time.process_time() - time.thread_time()  # of other threads, which only write
        for number in range(n_cells):
            time.sleep(max(0.0, start + number / CELLS_PER_S - time.perf_counter()))
            cell = search.next_cell()
            assert cell is not None
            record = with_history(invented(cell, search.signature(cell)))
            search.finish(record)
            began = time.thread_time()
            tracker.cell(search, record)
            seconds += time.thread_time() - began
        tracker.end(search)
        written = time.process_time() - time.thread_time() - others
        assert not tracker.failure
    return (
        f"MLflow, ms per cell: {1e3 * seconds / n_cells:.2f} of the driver's thread, "
        f"{1e3 * written / n_cells:.2f} of the one that writes; {n_cells} cells"
    )


def train(ledger: Ledger, record: Record) -> None:
    """Read and write what a worker does for a cell; the encoder is a token one."""
    ledger.record(record.signature)
    with suppress(FileNotFoundError):
        read_whole(ledger.checkpoint_path(record.signature))
    ledger.write(record, {"weight": torch.zeros(1)})
    remove(ledger.checkpoint_path(record.signature))


def simulate(sweep: Sweep, policy: PolicyName, workers: int) -> str:
    """Run a sweep to its end, and take it up again; return a line of figures."""
    CountedStore.objects.clear()
    CountedStore.requests.clear()
    ledger, search = Ledger(UPath("counted://sweep")), Search(sweep, POLICIES[policy])
    driver, cluster = Driver(search, ledger, policy), Cluster(workers)
    meter, ending, again = Meter(), Meter(), Meter()
    at_once = workers + max(LEAST_WAITING, workers)
    searcher = CellSearcher(search, ledger, Budget(), driver.keep, lambda: at_once)
    end = _run(search, searcher, ledger, cluster, meter)
    assert not search.left()
    with ending.work():
        ledger.copy_records()
    requests = CountedStore.requests.total()
    with again.work():
        assert ledger.records().keys() == search.records.keys()
    n = len(driver.records)
    tenth = max(1, len(meter.seconds) // 10)
    first, last = fmean(meter.seconds[:tenth]), fmean(meter.seconds[-tenth:])
    memory_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return (
        f"{n:7} {1e3 * sum(meter.seconds) / n:6.2f} {1e3 * first:6.2f} {1e3 * last:6.2f} "
        f"{max(meter.seconds):8.2f} {sum(meter.seconds) / end:6.1%} {memory_gb:6.1f} "
        f"{requests / n:6.2f} {(meter.requests + ending.requests) / n:6.2f} "
        f"{cluster.busy_s / (workers * end):6.1%} {cluster.preempted:6} "
        f"{cluster.lost_s / cluster.busy_s:6.2%} {end / 3600:6.1f} "
        f"{ending.seconds[0]:6.1f} {again.requests:5} {again.seconds[0]:6.1f}"
    )


def _run(
    search: Search, searcher: CellSearcher, ledger: Ledger, cluster: Cluster, meter: Meter
) -> float:
    """Hand out and take in cells until nothing is left; return the simulated seconds."""
    numbers = map(str, itertools.count())
    free = deque(range(cluster.workers))
    waiting: deque[tuple[str, Cell]] = deque()
    events: list[tuple[float, int, int, tuple[str, Cell] | None, bool]] = []
    order = itertools.count()
    now = 0.0
    _hand_out(searcher, numbers, waiting)
    while True:
        while free and waiting:
            worker, (trial, cell) = free.popleft(), waiting.popleft()
            seconds, ended = cluster.train(worker, cell)
            heapq.heappush(events, (now + seconds, next(order), worker, (trial, cell), ended))
        if not events:
            return now
        then, _, worker, job, ended = heapq.heappop(events)
        now = max(now, then)  # later, where the driver was busy
        if job is None:  # a new machine
            free.append(worker)
            continue
        trial, cell = job
        record = invented(cell, search.signature(cell))
        record = with_history(replace(record, code_digest="simulated", worker=f"machine {worker}"))
        if ended:
            train(ledger, record)
        with meter.work():
            if ended:
                searcher.on_trial_complete(trial, {"record": record})
            else:
                searcher.lost(trial, RayActorError(error_msg="The node was terminated."))
            _hand_out(searcher, numbers, waiting)
        now += meter.seconds[-1]
        if ended:
            free.append(worker)
        else:
            heapq.heappush(events, (now + NEW_MACHINE_S, next(order), worker, None, True))
        if searcher.obstacle:
            raise searcher.obstacle


def _hand_out(
    searcher: CellSearcher, numbers: Iterator[str], waiting: deque[tuple[str, Cell]]
) -> None:
    """Take all that the searcher gives."""
    while isinstance(suggested := searcher.suggest(trial := next(numbers)), dict):
        waiting.append((trial, Cell(**suggested)))


def main(options: Options) -> None:
    """Simulate sweeps on many machines."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", "UPath 'counted'")
    fsspec.register_implementation("counted", CountedStore)
    print(f"{options.workers} workers. Cells; driver's ms per cell: mean, of the first and last")
    print(
        "tenth; its longest pause, s; share of the time that it is busy; memory, GB; requests per"
    )
    print("cell: all, and the driver's; share of the workers' time in epochs that count; machines")
    print("lost, and the share of time lost with them; simulated hours. To copy the records at the")
    print("end: s. To take the sweep up again: requests, s")
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
    n_shown = min(SHOWN, options.cells)
    print(show_in_mlflow(given(1, n_shown), n_shown))


if __name__ == "__main__":
    run_command(Options, main)
