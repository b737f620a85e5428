"""Workers: Ray Tune trains the cells that the search hands out."""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
import ray.data
import torch
from ray import cloudpickle, tune
from ray.exceptions import RayActorError
from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from ssense.cli.screen import say
from ssense.engine.core.budget import Budget
from ssense.engine.core.cell import Cell, label
from ssense.engine.core.record import Record
from ssense.engine.records.ledger import COPY_AFTER, Ledger
from ssense.engine.search.search import LOST_MACHINES, RETRIES, Change, Search
from ssense.engine.work.cell import CellTrainable
from ssense.engine.work.own_ray import own_home, own_ray
from ssense.engine.work.ray_death import cluster_death, ending_with_ray
from ssense.errors import UserError, one_line
from ssense.files.source_code import code_digest
from ssense.files.storage import is_local, scratch_folder
from ssense.training.process import cells_that_fit

_NFS_REMEMBERS_S = 65.0
"""Time for which an NFS client may still believe that a file is not there."""
LEAST_WAITING = 16
"""Number of cells that wait on a cluster that has no machine yet."""
_COUNT_MACHINES_S = 5.0  # asking Ray takes a while
_SAY_AGAIN_S = 60.0


@dataclass(kw_only=True)
class Resources:
    """What one cell is given, and how many such cells the machines hold.

    Attributes:
        cpus: CPU cores, and threads of its process.
        gpus: Share of a GPU.
    """

    cpus: int
    gpus: float
    _slots: int = field(default=0, init=False)
    _counted: float = field(default=-math.inf, init=False)  # time.monotonic, as the next
    _said: float = field(default=-math.inf, init=False)

    @classmethod
    def of_cell(cls, cpus: int, gpus: float | None) -> Resources:
        """Resources of one cell as asked for; by default one GPU if the running Ray has any."""
        if gpus is None:
            gpus = 1.0 if ray.cluster_resources().get("GPU") else 0.0
        return cls(cpus=cpus, gpus=gpus)

    def slots(self) -> int:
        """How many cells the running Ray can train at a time, counted every few seconds.

        Where no machine of a cluster can hold a cell, it says so once a minute: one that can may
        join.

        Raises:
            UserError: This machine, which no other will join, can't hold a single one.
        """
        if time.monotonic() - self._counted > _COUNT_MACHINES_S:
            machines = _machines()
            self._slots = sum(cells_that_fit(self.cpus, self.gpus, *each) for each in machines)
            self._counted = time.monotonic()
            if not self._slots:
                self._say_what_is_missing(machines)
        return self._slots

    def at_once(self) -> int:
        """How many cells to hand out at a time: on a cluster more than fit, so that it grows.

        An autoscaler starts machines for what waits. As much waits as runs, and enough for a first
        few machines: the cluster doubles until it has its maximum, or the sweep no further cells.
        """
        slots = self.slots()
        return slots + max(LEAST_WAITING, slots) if os.environ.get("RAY_ADDRESS") else slots

    def _say_what_is_missing(self, machines: Sequence[tuple[float, float]]) -> None:
        asked = _amount(self.cpus, self.gpus)
        if machines and not os.environ.get("RAY_ADDRESS"):
            raise UserError(
                f"a cell of {asked} does not fit this machine, which has {_amount(*machines[0])} "
                "for this process. Lower `cpus_per_cell` or `gpus_per_cell`."
            )
        if time.monotonic() - self._said > _SAY_AGAIN_S:
            self._said = time.monotonic()
            kinds = Counter(_amount(*each) for each in machines).items()
            have = ", ".join(f"{n} of {amount}" for amount, n in kinds) or "none yet"
            say(
                f"  waiting for a machine: a cell asks for {asked}; machines there are: {have}. "
                "If no other will join, ask for fewer CPUs or GPUs per cell."
            )


def _machines() -> list[tuple[float, float]]:
    """CPUs and GPUs of every machine of the running Ray that trains at all; a head may not."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [(each["CPU"], each.get("GPU", 0.0)) for each in alive if each.get("CPU")]


def _amount(cpus: float, gpus: float) -> str:
    parts = [f"{cpus:g} CPU" + "s" * (cpus != 1)]
    if gpus:
        parts.append(f"{gpus:g} GPU" + "s" * (gpus > 1))
    return " and ".join(parts)


OnRecord = Callable[[Record, Change], None]


class CellSearcher(Searcher):
    """Ray Tune's view of the search: a trial is a cell.

    Attributes:
        obstacle: What keeps all cells from running; None as long as nothing does.
    """

    def __init__(
        self,
        search: Search,
        ledger: Ledger,
        budget: Budget,
        on_record: OnRecord,
        at_once: Callable[[], int],
        slots_ahead: Callable[[], int] | None = None,
        datasets: Collection[str] | None = None,
    ) -> None:
        """Hand out the cells of a search, `at_once` at a time, which is asked again and again.

        Only cells of `datasets`, by digest, are handed out; None stands for all.

        A cell runs ahead where fewer than `slots_ahead` are handed out: as many as run at a time,
        so that none of them waits before one that is granted later. None runs ahead without it.
        """
        super().__init__()  # no metric of Tune's: a failed cell has none
        self.obstacle: Exception | None = None
        self._search = search
        self._ledger = ledger
        self._budget = budget
        self._on_record = on_record
        self._cells: dict[str, Cell] = {}
        self._at_once = at_once
        self._slots_ahead = slots_ahead
        self._datasets = datasets
        self._freed: list[str] = []  # datasets of workers whose cells have ended
        self._reaching: set[str] = set()  # workers whose records arrive
        self._uncopied = 0

    @property
    def is_over(self) -> bool:
        """Whether cells that wait for a machine must not start any more."""
        return self.obstacle is not None or self._budget.out_of_time()

    def suggest(  # type: ignore[override]  # Ray's own FINISHED is a text
        self, trial_id: str
    ) -> dict[str, Any] | str | None:
        """Hand out the next cell; None to be asked again; FINISHED once nothing is left."""
        if len(self._cells) >= self._at_once():
            return None
        may_start = self.obstacle is None and self._budget.allows_another()
        cell = self._next_cell() if may_start else None
        if cell is None:
            return None if self._search.running else Searcher.FINISHED
        self._budget.started += 1
        self._cells[trial_id] = cell
        return vars(cell).copy()

    def _next_cell(self) -> Cell | None:
        # Tune gives the next cell to the worker that was freed first, which has a dataset at hand.
        at_hand = self._freed[0] if self._freed else ""
        granted = self._search.next_cell(self._datasets, at_hand)
        if granted is not None:
            del self._freed[:1]
            return granted
        if self._slots_ahead is None or self._search.asked_datasets():
            return None  # what waits for a dataset comes before what may never be asked for
        slots = self._slots_ahead()
        return self._search.next_ahead(self._datasets) if len(self._cells) < slots else None

    def take_back(self, trial_id: str) -> None:
        """Take back a cell that waits for a machine and must not start any more."""
        cell = self._cells.pop(trial_id, None)
        if cell is not None:
            self._search.take_back(cell)
            self._budget.started -= 1

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Take in the record; of a worker that died or broke, `lost` is told next."""
        if not error and result and trial_id in self._cells:
            cell = self._cells.pop(trial_id)
            self._freed.append(self._search.sweep.dataset_of(cell.configuration))
            self._take(result["record"])

    def lost(self, trial_id: str, error: Exception | None) -> None:
        """Try the cell of a worker that died or broke again, or record that it failed."""
        cell = self._cells.pop(trial_id, None)
        if cell is None:  # the cell ended well; its trial failed over an obstacle here
            return
        name = self._search.signature(cell)
        cause = getattr(error, "cause", None) or error
        most = LOST_MACHINES if lost_machine(cause) else RETRIES
        try:
            if isinstance(cause, UserError):  # the storage's or the machine's, not the cell's
                raise cause
            record = self._ledger.record(name)
            if record is not None and record.done and record.code_digest == code_digest():
                self._take(record)  # the worker died after writing this
            elif self._search.retry(cell, most):
                self._budget.started -= 1
                self._say_lost(cell, cause)
            else:
                self._take(self._ledger.write(self._failed(cell, cause, most)))
        except UserError as obstacle:
            self._search.running.pop(name)
            self._stop(obstacle)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the ledger is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore: a sweep is resumed from the ledger."""

    def _take(self, record: Record) -> None:
        try:
            change = self._search.finish(record)
            if not self._has_arrived(record):
                raise UserError(
                    f"{record.worker} wrote a cell to {self._ledger.folder}, but it is not there. "
                    "Give a `storage` that all machines share."
                )
            self._on_record(record, change)
            self._uncopied += 1
            if 2 * self._uncopied > COPY_AFTER + len(self._search.records):
                self._ledger.copy_records()
                self._uncopied = 0
        except Exception as error:  # Tune would make a failed trial of it, and continue
            self._stop(error)

    def _has_arrived(self, record: Record) -> bool:
        """Whether a record is where the driver looks: the worker's storage may be another.

        On a disk, where looking is cheap and a mount may go away, every record is looked for; in an
        object store, where it takes a request, the first of each worker.
        """
        if record.worker in self._reaching and not is_local(self._ledger.folder):
            return True
        self._reaching.add(record.worker)
        deadline = time.monotonic() + (_NFS_REMEMBERS_S if is_local(self._ledger.folder) else 0)
        while not self._ledger.has(record.signature):
            if time.monotonic() > deadline:
                return False
            time.sleep(1)
        return True

    def _stop(self, obstacle: Exception) -> None:
        """Start no further cell."""
        self.obstacle = self.obstacle or obstacle

    def _say_lost(self, cell: Cell, cause: Exception | None) -> None:
        row = self._search.rows_of(self._search.signature(cell))[0]
        name = label(row.family, row.configuration)
        say(f"  lost  {name}  seed {cell.seed}: {describe_loss(cause)}; it is tried again")

    def _failed(self, cell: Cell, cause: Exception | None, retries: int) -> Record:
        name = self._search.signature(cell)
        earlier = self._search.records.get(name)  # whether it has been granted or not
        return Record(
            signature=name,
            attempts=1 + (earlier.attempts if earlier and not earlier.done else 0),
            configuration=dict(cell.configuration),
            seed=cell.seed,
            status="failed",
            dataset_digest=self._search.sweep.dataset_of(cell.configuration),
            code_digest=code_digest(),
            reason=f"{retries + 1} times in a row, {describe_loss(cause)}",
        )


class LostWorkers(TrialProgressCallback):
    """Tells the searcher of workers that died or broke, which Tune does without the reason.

    It replaces the callback by which Tune prints what our own progress shows.
    """

    def __init__(self, searcher: CellSearcher) -> None:
        super().__init__()
        self._searcher = searcher

    def on_trial_result(self, *_: Any, **__: Any) -> None:
        """Print nothing."""

    def on_trial_complete(self, *_: Any, **__: Any) -> None:
        """Print nothing."""

    def on_trial_error(
        self,
        iteration: int,  # noqa: ARG002 - the names are Tune's
        trials: list[Trial],  # noqa: ARG002
        trial: Trial,
        **_: Any,
    ) -> None:
        """Pass on what ended the worker of a cell."""
        # Tune's own way to it looks into the storage, where it comes only later.
        written = trial.pickled_error_file
        error = cloudpickle.loads(Path(written).read_bytes()) if written else None
        self._searcher.lost(trial.trial_id, error)


class InOrder(FIFOScheduler):
    """Starts trials in the order of Tune's queue, and none once no cell is to start any more.

    Its superclass searches all trials, finished ones too, at every event.
    """

    def __init__(self, searcher: CellSearcher) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Ray leaves it untyped
        self._searcher = searcher

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """Prefer none; at the end, stop those that wait."""
        if not self._searcher.is_over:
            return
        for trial in list(tune_controller.get_live_trials()):
            if trial.status == Trial.PENDING:
                self._searcher.take_back(trial.trial_id)
                tune_controller.stop_trial(trial)


def lost_machine(cause: Exception | None) -> bool:
    """Whether a worker was lost with its machine, and not because of the cell that it trained.

    Ray says so only in the text of its error: for a process that died, the machine is still there
    to report it; for one that could not be set up, the text names the creation task.
    """
    words = str(cause)
    of_the_process = "worker process has died" in words or "creation task" in words
    return isinstance(cause, RayActorError) and not of_the_process


def describe_loss(cause: Exception | None) -> str:
    """Say what ended a worker, with advice where memory did not suffice."""
    if lost_machine(cause):
        return "its machine was lost"
    if cause is None or isinstance(cause, RayActorError):
        return "its worker died: killed, out of memory, or with its machine"
    reason = f"{type(cause).__name__}: {one_line(cause)}"
    if isinstance(cause, torch.OutOfMemoryError):
        return f"{reason}. Give cells a larger share of a GPU, or smaller batches"
    return reason


def train_cells(
    search: Search,
    datasets: Mapping[str, ray.ObjectRef[Any]],
    ledger: Ledger,
    resources: Resources,
    budget: Budget,
    on_record: OnRecord,
    *,
    ahead: bool = False,
) -> None:
    """Train every cell that the search hands out of some datasets, on the running Ray.

    Args:
        search: Search of the sweep; it is left with all results.
        datasets: Datasets in the object store, by digest; the workers of a machine share them.
        ledger: Ledger in which workers keep finished cells.
        resources: Resources of one cell.
        budget: Budget at which no further cell is started.
        on_record: Function that is called in this process with each finished cell and what followed
            from it.
        ahead: Whether a worker that would be idle trains a cell that may be granted later.

    Raises:
        UserError: The storage can't be written to, or a worker can't use its GPU.
        KeyboardInterrupt: The user stopped it; cells in progress have left their checkpoints.
    """
    trainable = tune.with_parameters(
        CellTrainable,
        datasets=dict(datasets),
        sweep=search.sweep,
        ledger=ledger,
        threads=resources.cpus,
        gpus=resources.gpus,
        code=code_digest(),
    )
    slots_ahead = resources.slots if ahead else None
    searcher = CellSearcher(
        search, ledger, budget, on_record, resources.at_once, slots_ahead, datasets.keys()
    )
    with scratch_folder(own_home()) as scratch:
        tune.run(
            tune.with_resources(trainable, {"cpu": resources.cpus, "gpu": resources.gpus}),
            name=search.sweep.name,
            search_alg=searcher,
            scheduler=InOrder(searcher),
            num_samples=-1,  # until the search says that it is finished
            reuse_actors=True,
            storage_path=str(scratch),
            callbacks=[LostWorkers(searcher)],
            raise_on_failed_trial=False,
            verbose=0,
        )
    if searcher.obstacle is not None:
        raise searcher.obstacle


@contextmanager
def running_ray() -> Iterator[None]:
    """Connect to the cluster named by RAY_ADDRESS, or start Ray on this machine alone.

    A process that is connected already stays so.

    Raises:
        UserError: There is no such cluster, or Ray does not start or dies.
    """
    quiet_ray()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = os.environ.get("RAY_ADDRESS")
    if ray.is_initialized():
        yield
    else:
        with _cluster(address) if address else own_ray():
            yield


@contextmanager
def _cluster(address: str) -> Iterator[None]:
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
    except Exception as error:  # Ray raises half a dozen kinds, plain exceptions among them
        raise UserError(
            f"no Ray cluster at RAY_ADDRESS={address} ({one_line(error)}). Check the address, or "
            "unset RAY_ADDRESS to use this machine."
        ) from error
    finally:
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray's own ends this process silently
    with ending_with_ray(cluster_death()):
        yield


def quiet_ray() -> None:
    """Turn off what Ray prints and writes besides our own progress."""
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    # Tune would write down all its trials again and again; ours are in the ledger.
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "inf")
    # How many trials wait is the searcher's business; of its own accord Tune lets one wait.
    os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", str(sys.maxsize))
    # At Ctrl-C Tune would wait for workers to end their cells, for up to fifteen seconds.
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
    # Ray colours what it has to say of lost nodes, also where the output is a file.
    os.environ.setdefault("RAY_COLOR_PREFIX", "0")
    for name in ("ray", "ray.data", "ray.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    ray.data.DataContext.get_current().enable_progress_bars = False
