"""Workers: Ray Tune trains the cells that the search hands out."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
import ray.data
from ray import tune
from ray.tune.search import Searcher

from ssense.data.dataset import Dataset
from ssense.errors import UserError
from sweeps.engine.cell import Cell
from sweeps.engine.ledger import Ledger, Record
from sweeps.engine.search import Search
from sweeps.engine.trial import CellTrainable


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What one cell is given.

    Attributes:
        cpus: CPU cores, and threads of its process.
        gpus: share of a GPU.
    """

    cpus: int
    gpus: float

    @classmethod
    def of_cell(cls, cpus: int, gpus: float | None) -> Resources:
        """As asked for; where nothing is said of GPUs, one if the running Ray has any."""
        if gpus is None:
            gpus = 1.0 if ray.cluster_resources().get("GPU") else 0.0
        return cls(cpus=cpus, gpus=gpus)

    def slots(self) -> int:
        """How many cells the running Ray can train at a time.

        Raises:
            UserError: this machine, which no other will join, can't hold a single one.
        """
        have = ray.cluster_resources()
        slots = int(have.get("CPU", 0) // self.cpus)
        if self.gpus:
            slots = min(slots, int(have.get("GPU", 0) / self.gpus))
        if slots < 1 and not os.environ.get("RAY_ADDRESS"):
            raise UserError(
                f"a cell of {self.cpus} CPUs and {self.gpus:g} GPUs does not fit this machine, "
                f"which has {have.get('CPU', 0):g} and {have.get('GPU', 0):g}. "
                "Lower --cpus-per-cell or --gpus-per-cell."
            )
        return max(1, slots)


class CellSearcher(Searcher):
    """Ray Tune's view of the search: a trial is a cell."""

    def __init__(self, search: Search, on_record: Callable[[Record], None]) -> None:
        super().__init__()  # no metric of Tune's: a failed cell has none
        self._search = search
        self._on_record = on_record
        self._cells: dict[str, Cell] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Hand out the next cell; None to be asked again; FINISHED once nothing is left."""
        cell = self._search.next_cell()
        if cell is None:
            return None if self._search.running else Searcher.FINISHED
        self._cells[trial_id] = cell
        return vars(cell).copy()

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Take in the record; a worker that died before writing one makes a failed cell."""
        cell = self._cells.pop(trial_id)
        record = self._search.lost(cell) if error or not result else result["record"]
        self._search.finish(record)
        self._on_record(record)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the ledger is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore: a sweep is resumed from the ledger."""


def train_cells(
    search: Search,
    dataset: Dataset,
    ledger: Ledger,
    resources: Resources,
    on_record: Callable[[Record], None],
) -> None:
    """Train every cell that the search hands out, on the running Ray.

    Args:
        search: of the sweep; it is left with all results.
        dataset: put into the object store once; the workers of a node share it.
        ledger: where workers keep finished cells.
        resources: of one cell.
        on_record: called in this process with each finished cell.
    """
    trainable = tune.with_parameters(
        CellTrainable,
        dataset=dataset,
        training=search.sweep.training,
        ledger=ledger,
        threads=resources.cpus,
    )
    with tempfile.TemporaryDirectory(prefix="ssense-tune-") as scratch:
        tune.run(
            tune.with_resources(trainable, {"cpu": resources.cpus, "gpu": resources.gpus}),
            name=search.sweep.name,
            search_alg=CellSearcher(search, on_record),
            num_samples=-1,  # until the search says that it is finished
            max_concurrent_trials=resources.slots(),
            reuse_actors=True,
            storage_path=scratch,
            raise_on_failed_trial=False,
            verbose=0,
        )


@contextmanager
def running_ray() -> Iterator[None]:
    """Connect to the cluster named by RAY_ADDRESS, or start Ray on this machine alone.

    A process that is connected already stays so.
    """
    quiet_ray()
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS")
    if address is None:
        # A local Ray is reached by nobody else; and without this it would leave a token file
        # behind that changes how later clusters authenticate.
        os.environ["RAY_AUTH_MODE"] = "disabled"
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(
        address=address,
        include_dashboard=None if address else False,
        logging_level=logging.ERROR,
        log_to_driver=False,
    )
    try:
        yield
    finally:
        ray.shutdown()


def quiet_ray() -> None:
    """Turn off what Ray prints and writes beside our own progress."""
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    for name in ("ray", "ray.data", "ray.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    ray.data.DataContext.get_current().enable_progress_bars = False
