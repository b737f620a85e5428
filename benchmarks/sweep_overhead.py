"""What the engine costs besides training, against stock Ray Tune and a loop of processes.

    python benchmarks/sweep_overhead.py                     # 48 cells of about 2 s, 2 workers
    python benchmarks/sweep_overhead.py --simulate 20000    # the driver alone: cells take no time

Overhead per cell is wall x workers less the time inside `fit`, clocked in each cell's own process,
over cells. The engine's wall begins when both workers train. The others start a process for every
cell, and these starts are what they cost; what a first fit takes longer counts as training there.
Bare processes, which train and nothing else, show before and after what training takes alone.

The simulation drives the same code with cells that take no time: the search, the race, the ledger
and the progress lines alone, and all of it through Ray Tune. It compares the driver's CPU time per
cell in the first and the last tenth, of cells that nothing followed from. What follows from some,
a round of decisions of the race or a batch of proposals, is shown for the first and the last half
of these; it takes time in proportion to the configurations, and a batch of TPE's to those before.
"""

# ruff: noqa: E402 - flags are checked before the imports that take seconds

from __future__ import annotations

from dataclasses import dataclass

from bounds import at_least

from ssense.cli.command import check_flags, run_command


@dataclass(frozen=True)
class Options:
    """What to measure."""

    simulate: int | None = None
    """So many cells that take no time, instead of the comparison."""
    simulate_tune: int = 2000
    """How many of them through Ray Tune as well."""
    seeds: int = 8
    """Seeds of the comparison's engine, each with six configurations."""
    others: int = 6
    """Cells of stock Ray Tune, and of the loop of processes."""
    bare: int = 4
    """Cells of each bare process, before and after; 0 leaves these processes out."""
    sentences: int = 120
    """Sentences that a cell trains on; of 120, for about 2 s on one thread."""

    def __post_init__(self) -> None:
        at_least(self, simulate=100, simulate_tune=100, seeds=1, others=1, bare=0, sentences=20)


if __name__ == "__main__":
    check_flags(Options)  # before the imports that take seconds

import itertools
import json
import os
import random
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any
from unittest.mock import patch

import numpy as np
import optuna
from ray import tune
from rich.console import Console
from upath import UPath

from ssense.choices import PolicyName
from ssense.cli import screen
from ssense.cli.screen import say, step
from ssense.data.dataset import Dataset
from ssense.data.splits import seeded_split
from ssense.engine.core.budget import Budget
from ssense.engine.core.cell import Cell, signature
from ssense.engine.core.origin import RecordingOrigin
from ssense.engine.core.record import Record
from ssense.engine.core.sweep import Family, Sweep
from ssense.engine.records.description import Description
from ssense.engine.records.ledger import Ledger
from ssense.engine.records.provenance import code_digest
from ssense.engine.search.race import POLICIES
from ssense.engine.search.search import Change, Search
from ssense.engine.view import progress
from ssense.engine.view.progress import CellProgress
from ssense.engine.view.tracking import Tracker
from ssense.engine.work import cell, workers
from ssense.engine.work.cell import CellTrainable
from ssense.engine.work.own_ray import own_home, own_ray
from ssense.engine.work.shared_data import shared
from ssense.engine.work.workers import CellSearcher, OnRecord, Resources, quiet_ray, train_cells
from ssense.files.storage import scratch_folder
from ssense.model.encoders.spectrogram_encoder import ResNetSpec
from ssense.specification import configured
from ssense.training.loop import SELECTION_METRIC, fit
from ssense.training.process import assigned_device, reset_process
from ssense.training.sentences import SentenceSpec, TrainingSpec

WORKERS = 2
ELECTRODES, FRAMES = 3, 32
TRAINING = SentenceSpec(encoder=ResNetSpec(weights="random"), training=TrainingSpec(max_epochs=3))
RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
NICENESS = 15  # of Ray's workers, and so of all others here

SIMULATED_SEEDS = tuple(range(10))
PROPOSED = 40  # configurations that TPE proposes in each of the families
CONFIGURATION_SD, NOISE_SD = 0.007, 0.009  # of scores, as in benchmarks/race.py

ORIGIN = RecordingOrigin(subject="noise", title="noise", shards="noise", recording="noise")

PROCESS = """
import json, sys, time
import numpy as np, safetensors.torch, torch
from ssense.data.dataset import Pairs
from ssense.data.splits import seeded_split
from ssense.model.masking import Masking
from ssense.training.loop import fit
from ssense.model.encoders.spectrogram_encoder import ResNetSpec
from ssense.training.sentences import SentenceSpec, TrainingSpec
from ssense.training.process import reset_process
folder, data = sys.argv[1], np.load(f"{sys.argv[1]}/data.npz")
pairs = Pairs(torch.from_numpy(data["spectrograms"]), torch.from_numpy(data["text"]))
for ratio, seed in json.loads(sys.argv[2]):
    reset_process(seed, threads=1)
    split = seeded_split(len(pairs), seed)
    spec = SentenceSpec(
        encoder=ResNetSpec(weights="random"),
        masking=Masking(time=ratio),
        training=TrainingSpec(max_epochs=3),
    )
    start = time.perf_counter()
    trained = fit(pairs.select(split.train), pairs.select(split.validation), spec, seed)
    print(time.perf_counter() - start)
    safetensors.torch.save_file(trained.weights, f"{folder}/{ratio}-{seed}.safetensors")
"""


@dataclass(frozen=True)
class Taken:
    """Seconds per cell: of the worker, and of them inside `fit`."""

    worker_s: float
    fit_s: float

    @property
    def overhead_s(self) -> float:
        """What the worker's time was spent on besides training."""
        return self.worker_s - self.fit_s

    def ratio(self, ours: Taken) -> str:
        """Compare with the engine."""
        return f"{self.overhead_s / ours.overhead_s:.0f} x the engine's"

    def __str__(self) -> str:
        return f"training {self.fit_s:.2f} s per cell, overhead {self.overhead_s:.2f} s"


class TimedCell(CellTrainable):
    """The engine's cell; its record also says when the fit began and ended, in Unix time."""

    def step(self) -> dict[str, Any]:
        """Train the cell."""
        times: dict[str, float] = {}

        def timed_fit(*args: Any, **options: Any) -> Any:
            times["began"] = time.time()
            trained = fit(*args, **options)
            times["ended"] = time.time()
            return trained

        with patch.object(cell, "fit", timed_fit):
            result = super().step()
        record = result["record"]
        return result | {"record": replace(record, timings={**record.timings, **times})}


class NoCell(CellTrainable):
    """Takes no time and writes nothing."""

    def step(self) -> dict[str, Any]:
        """Invent the result."""
        name = signature(self._cell, TRAINING, "noise")
        return {"done": True, "record": invented(self._cell, name)}


class NoLedger(Ledger):
    """Takes every cell as written."""

    def has(self, signature: str) -> bool:  # noqa: ARG002 - as in the ledger
        """Whether a cell has a record."""
        return True


class Driver:
    """What the engine's driver does with every record, and the clocks after it."""

    def __init__(
        self, search: Search, ledger: Ledger, policy: str, tracker: Tracker | None = None
    ) -> None:
        self.records: list[Record] = []
        self.cpu_s = [time.process_time()]
        self.changed: list[bool] = []
        self.ended = 0.0  # Unix time
        self._search, self._ledger, self._policy = search, ledger, policy
        self._tracker = tracker
        sweep = search.sweep
        self._progress = CellProgress(
            sweep.n_cells, lambda: WORKERS, SELECTION_METRIC, search.matrix
        )

    def keep(self, record: Record, change: Change) -> None:
        """Take in a record, as `ssense.engine.run` does."""
        row = self._search.rows_of(record.signature)[0]
        self._progress.cell(row.family, record)
        if any(change):
            for out, decision in change.decisions:
                family = self._search.sweep.family(out.family)
                known = self._search.configurations(family)
                self._progress.decision(family.name, known, decision)
            if change.decisions:
                self._progress.left(self._search.left())
            self.save()
        if self._tracker is not None:
            self._tracker.cell(self._search, record)
        self.records.append(record)
        self.changed.append(any(change))
        self.cpu_s.append(time.process_time())
        self.ended = time.time()

    def save(self) -> None:
        """Write sweep.json."""
        self._ledger.describe(
            Description(
                sweep=self._search.sweep,
                origin=ORIGIN,
                policy=self._policy,
                rows=tuple(self._search.rows),
                decisions=tuple(self._search.decisions()),
                code_digest=code_digest(),
            )
        )


def noise(sentences: int) -> Dataset:
    rng = np.random.default_rng(0)
    text = rng.standard_normal((sentences, 512)).astype(np.float32)
    shape = sentences, ELECTRODES, FRAMES, FRAMES
    return Dataset(
        digest="noise",
        spectrograms=rng.standard_normal(shape).astype(np.float16),
        targets=text / np.linalg.norm(text, axis=1, keepdims=True),
        stimuli=tuple(map(str, range(sentences))),
        spans_s=np.arange(2.0 * sentences).reshape(sentences, 2),
    )


def sweep_of(families: Sequence[Family], configurations: int, seeds: Sequence[int]) -> Sweep:
    return Sweep(
        question="overhead",
        dataset_digest="noise",
        specification=TRAINING,
        families=tuple(families),
        configurations=configurations,
        seeds=tuple(seeds),
    )


def cells(n: int) -> list[tuple[float, int]]:
    """Ratio and seed of the first so many cells."""
    return [(RATIOS[i % len(RATIOS)], i // len(RATIOS)) for i in range(n)]


@contextmanager
def local_ray() -> Iterator[None]:
    quiet_ray()
    with own_ray(cores=WORKERS):
        yield


def log_files(folder: Path) -> int:
    """How many result files of Tune's loggers lie below a folder, or below that of our Ray."""
    patterns = ("result.json", "progress.csv", "events.out.tfevents*")
    places = filter(None, (folder, own_home()))
    return sum(1 for place in places for pattern in patterns for _ in place.rglob(pattern))


def by_processes(folder: Path, cells: Sequence[tuple[float, int]]) -> list[float]:
    """Train some cells in one new process; return the seconds of each fit."""
    command = [sys.executable, "-c", PROCESS, str(folder), json.dumps(cells)]
    done = subprocess.run(
        ["nice", f"-n{NICENESS}", *command], capture_output=True, text=True, check=True
    )
    return [float(line) for line in done.stdout.split()]


def bare(folder: Path, n_cells: int) -> list[float]:
    """Seconds of fits in as many processes at once as there are workers, each one warmed up."""
    some = cells(n_cells + 1)
    with ThreadPoolExecutor(WORKERS) as threads:
        fits = threads.map(lambda _: by_processes(folder, some)[1:], range(WORKERS))
        return [seconds for process in fits for seconds in process]


def loop(folder: Path, n_cells: int) -> Taken:
    """One process per cell."""
    start = time.perf_counter()
    with ThreadPoolExecutor(WORKERS) as threads:
        fits = list(threads.map(lambda cell: by_processes(folder, [cell]), cells(n_cells)))
    wall = time.perf_counter() - start
    return Taken(WORKERS * wall / n_cells, fmean(seconds for (seconds,) in fits))


def stock_cell(config: dict[str, Any], dataset: Dataset) -> None:
    ratio, seed = config["cell"]
    reset_process(seed, threads=1)
    pairs, split = dataset.on(assigned_device(0)), seeded_split(len(dataset), seed)
    start = time.perf_counter()
    parts = pairs.select(split.train), pairs.select(split.validation)
    trained = fit(*parts, configured(TRAINING, {"masking.time": ratio}), seed)
    tune.report({"fit": time.perf_counter() - start, **trained.best})


def stock(folder: Path, dataset: Dataset, n_cells: int) -> Taken:
    """Ray Tune as it comes."""
    start = time.perf_counter()
    with patch.dict(os.environ):
        for name in ("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "TUNE_GLOBAL_CHECKPOINT_S"):
            del os.environ[name]
        analysis = tune.run(
            tune.with_resources(tune.with_parameters(stock_cell, dataset=dataset), {"cpu": 1}),
            config={"cell": tune.grid_search(cells(n_cells))},
            storage_path=str(folder / "stock"),
            verbose=0,
        )
    wall = time.perf_counter() - start
    fits = [result["fit"] for result in analysis.results.values()]
    return Taken(WORKERS * wall / n_cells, fmean(fits))


def engine(folder: Path, dataset: Dataset, n_seeds: int) -> Taken:
    """The sweep engine, from when both workers train."""
    sweep = sweep_of([whole_family(RATIOS)], len(RATIOS), range(n_seeds))
    running = Search(sweep, POLICIES["full"])
    storage, ledger = UPath(folder), Ledger(UPath(folder) / "sweep")
    Tracker(storage, "overhead", "first").report("makes the database", {}, {}, [])
    tracker = Tracker(storage, "overhead", running.sweep.name)
    driver = Driver(running, ledger, "full", tracker)
    driver.save()
    tracker.start(running, ledger.description())
    with patch.object(workers, "CellTrainable", TimedCell):
        train_cells(
            running, shared(dataset), ledger, Resources(cpus=1, gpus=0), Budget(), driver.keep
        )
    tracker.end(running)
    first = {record.worker: record.timings["began"] for record in reversed(driver.records)}
    start = max(first.values())
    spans = [(record.timings["began"], record.timings["ended"]) for record in driver.records]
    after = [(ended - max(start, began), ended - began) for began, ended in spans if ended > start]
    n_cells = sum(inside / whole for inside, whole in after)
    wall = driver.ended - start
    return Taken(WORKERS * wall / n_cells, sum(inside for inside, _ in after) / n_cells)


def compare(options: Options) -> None:
    """Print a line for each way to train the cells, as soon as it is done."""
    with scratch_folder() as folder:
        dataset = noise(options.sentences)
        np.savez(folder / "data.npz", spectrograms=dataset.spectrograms, text=dataset.targets)
        alone: list[float] = []
        if options.bare:
            with step(f"Bare: {WORKERS} processes that train and nothing else"):
                alone += bare(folder, options.bare)
        with local_ray():
            with step(f"Engine: {len(RATIOS) * options.seeds} cells"):
                ours = engine(folder, dataset, options.seeds)
            say(f"{ours}; {log_files(folder)} files of Tune's loggers")
            with step(f"Stock Ray Tune: {options.others} cells"):
                taken = stock(folder, dataset, options.others)
            say(f"{taken}, {taken.ratio(ours)}; {log_files(folder)} files of Tune's loggers")
        with step(f"Loop of processes: {options.others} cells"):
            taken = loop(folder, options.others)
        say(f"{taken}, {taken.ratio(ours)}")
        if options.bare:
            with step("Bare again"):
                alone += bare(folder, options.bare)
    if alone:
        say(f"bare training: {fmean(alone):.2f} s per cell, {min(alone):.2f} to {max(alone):.2f}")


def whole_family(levels: Sequence[float], name: str = "time") -> Family:
    return Family(name=name, levels={"masking.time": tuple(levels)})


def invented(cell: Cell, name: str) -> Record:
    """A result: an effect of the configuration, and one of the cell."""
    effect = random.Random(str(cell.configuration)).gauss(0.3, CONFIGURATION_SD)
    score = random.Random(name).gauss(effect, NOISE_SD)
    return Record(
        signature=name,
        configuration=dict(cell.configuration),
        seed=cell.seed,
        status="done",
        dataset_digest="noise",
        history=[{"epoch": 1, "recall@10": min(max(score, 0.0), 1.0)}],
        best_epoch=1,
        timings={"training": 1.0},
    )


def alone(search: Search, ledger: Ledger, keep: OnRecord) -> None:
    """Hand out and take in cells as Ray Tune would."""
    searcher = CellSearcher(search, ledger, Budget(), keep, lambda: WORKERS)
    running: deque[tuple[str, Cell]] = deque()
    for number in map(str, itertools.count()):
        suggested = searcher.suggest(number)
        if isinstance(suggested, dict):
            running.append((number, Cell(**suggested)))
            if len(running) < WORKERS:
                continue
        if not running:
            break
        ended, cell = running.popleft()
        searcher.on_trial_complete(ended, {"record": invented(cell, search.signature(cell))})
    if searcher.obstacle:
        raise searcher.obstacle


def through_tune(search: Search, ledger: Ledger, keep: OnRecord) -> None:
    with patch.object(workers, "CellTrainable", NoCell):
        train_cells(search, shared(noise(10)), ledger, Resources(cpus=1, gpus=0), Budget(), keep)


def given(n_families: int, n_cells: int) -> Sweep:
    """Families whose configurations are all there from the start."""
    n_levels = n_cells // n_families // len(SIMULATED_SEEDS)
    levels = [(i + 1) / (n_families * n_levels + 1) for i in range(n_families * n_levels)]
    families = [whole_family(levels[i::n_families], f"family {i}") for i in range(n_families)]
    return sweep_of(families, n_levels, SIMULATED_SEEDS)


def proposed(n_families: int) -> Sweep:
    """Families that TPE searches."""
    ratios = tuple(i / 20 for i in range(1, 19))
    levels = {f"masking.{name}": ratios for name in ("time", "frequency", "electrode")}
    families = [Family(name=f"family {i}", levels=levels) for i in range(n_families)]
    return sweep_of(families, PROPOSED, SIMULATED_SEEDS)


def simulate(n_cells: int, n_tune: int) -> None:
    settings: tuple[tuple[str, PolicyName, Sweep, Callable[..., None]], ...] = (
        ("full, given", "full", given(1, n_cells), alone),
        ("race, given", "race", given(4, n_cells), alone),
        ("race, TPE", "race", proposed(4), alone),
        ("full, given, Ray Tune", "full", given(1, n_tune), through_tune),
    )
    print("driver's CPU ms per cell  cells first tenth  last tenth  ratio  decisions or proposals")
    with scratch_folder() as scratch, local_ray():
        for name, policy, sweep, run in settings:
            search = Search(sweep, POLICIES[policy])
            ledger = NoLedger(UPath(scratch) / name)
            driver = Driver(search, ledger, policy)
            with (
                open(os.devnull, "w") as nowhere,
                patch.object(progress, "console", Console(file=nowhere, width=120)),
                patch.object(screen, "console", Console(file=nowhere, width=120)),
            ):
                run(search, ledger, driver.keep)
            ms = 1e3 * np.diff(driver.cpu_s)[WORKERS:]  # without the start of workers
            changed = np.array(driver.changed[WORKERS:])
            plain, changes = np.array_split(ms[~changed], 10), np.array_split(ms[changed], 2)
            first, last = plain[0].mean(), plain[-1].mean()
            text = (
                f"{name:21} {len(driver.records):6} {first:11.2f} {last:11.2f} {last / first:6.2f}"
            )
            if changed.any():
                text += (
                    f" {changed.sum():8} x {changes[0].mean():.0f} -> {changes[1].mean():.0f} ms"
                )
            print(text, flush=True)


def main(options: Options) -> None:
    """Measure what the engine adds to training, or the driver alone with cells of no length."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if options.simulate is None:
        compare(options)
    else:
        simulate(options.simulate, options.simulate_tune)


if __name__ == "__main__":
    run_command(Options, main)
