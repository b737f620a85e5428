"""One cell on one worker: the Ray Tune trainable, whose process is reused from cell to cell."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from typing import Any

import ray
import torch
from ray import tune

from ssense.data.splits import Split
from ssense.engine.core.cell import Cell, signature
from ssense.engine.core.record import Record
from ssense.engine.core.sweep import Sweep
from ssense.engine.records.ledger import Ledger
from ssense.engine.records.provenance import provenance
from ssense.errors import UserError, one_line
from ssense.files.source_code import code_digest
from ssense.files.storage import remove_partial_files
from ssense.retrieval import NonFiniteError
from ssense.specification import configured
from ssense.training.checkpoint import CheckpointFile
from ssense.training.loop import Data, OnDevice, Specification, fit
from ssense.training.process import assigned_device, reset_process
from ssense.training.tasks import TaskSpec

_CIRCUMSTANCES = ("signature", "device", "versions", "threads", "instructions", "code_digest")
"""What the bits of a result depend on; a checkpoint of other circumstances is not used."""


_DATA_SHARE = 0.5
"""Share of a cell's part of a GPU's memory that datasets may take, of which one is in use."""


class CellTrainable(tune.Trainable):
    """Trains the cell named by its configuration, writes it to the ledger, and is done.

    Ray keeps the process and hands it the next cell, so datasets stay on the device.
    """

    def setup(  # type: ignore[override]  # Ray hands over the others by name
        self,
        config: dict[str, Any],
        datasets: Mapping[str, ray.ObjectRef[Any]],
        sweep: Sweep,
        ledger: Ledger,
        threads: int,
        gpus: float,
        code: str,
    ) -> None:
        """Keep what is given; `datasets` are in the machine's object store, by their digests.

        Ray reports an error here only as the death of a worker, so everything else is in `step`.
        """
        self._code = code
        self._datasets = datasets
        self._gpus = gpus
        self._sweep = sweep
        self._ledger = ledger
        self._threads = threads
        self._cell = Cell(**config)
        self._held: dict[str, tuple[Data, OnDevice]] = {}  # the one used last comes last

    def _data(self) -> tuple[Data, OnDevice]:
        """The dataset of the cell, and all of its examples on the device."""
        wanted = self._sweep.dataset_of(self._cell.configuration)
        held = self._held.pop(wanted, None)
        if held is None:
            dataset, device = ray.get(self._datasets[wanted]), assigned_device(self._gpus)
            self._make_room(dataset.nbytes, device)
            held = dataset, dataset.on(device)
        self._held[wanted] = held
        return held

    def _make_room(self, needed: int, device: torch.device) -> None:
        """Drop datasets that were not used for longest, if another does not fit beside them.

        On a CPU they are the object store's, which this process takes no copy of.
        """
        if device.type == "cpu":
            return
        whole = torch.cuda.get_device_properties(device).total_memory
        room = _DATA_SHARE * min(self._gpus, 1.0) * whole - needed
        while self._held and sum(data.nbytes for data, _ in self._held.values()) > room:
            del self._held[next(iter(self._held))]

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next cell."""
        self._cell = Cell(**new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train the cell. An exception ends the process, which may be in no state to continue.

        Raises:
            UserError: The code here is not the driver's, there is no GPU to use, or the storage
                can't be written to.
        """
        if code_digest() != self._code:
            raise UserError(
                f"a worker on {platform.node()} runs another version of the code than the driver. "
                "Install the same one there; if you have edited it, run the same command again."
            )
        reset_process(self._cell.seed, self._threads)
        dataset, pairs = self._data()
        record = run_cell(self._cell, dataset, pairs, self._sweep.specification, self._ledger)
        return {"done": True, "record": record}


def run_cell(
    cell: Cell,
    dataset: Data,
    pairs: OnDevice,
    specification: TaskSpec,
    ledger: Ledger,
) -> Record:
    """Train one cell on the device of `pairs`, the dataset's, and keep it in the ledger.

    A cell that a worker left unfinished resumes from its last checkpoint. Training sees the
    training and validation splits alone.

    Returns:
        Its record. It failed where the training diverged, which it would do again.

    Raises:
        UserError: The storage can't be written to.
    """
    start = time.perf_counter()
    spec: Specification[Any, Any] = configured(specification, cell.configuration)
    split = spec.cell_split(dataset.split(spec.split, cell.seed), cell.seed)
    facts = _facts(cell, dataset, specification, split, pairs.device)
    checkpoint = _checkpoint_file(ledger, facts)
    left_off, earlier = checkpoint.load(), ledger.record(facts["signature"])
    facts |= {
        "attempts": _attempts(earlier, facts),
        "resumed_after": len(left_off.history) if left_off else 0,
        "checkpoint_refused": checkpoint.refused,
    }
    weights = None
    try:
        trained = fit(
            pairs.select(split.train),
            pairs.select(split.validation),
            spec,
            cell.seed,
            on_epoch=checkpoint.save_if_worthwhile,
            resume=left_off,
        )
    except NonFiniteError as error:
        outcome: dict[str, Any] = {"status": "failed", "reason": one_line(error)}
    else:
        weights = trained.weights
        outcome = {"status": "done", "history": trained.history, "best_epoch": trained.best_epoch}
    timings = {"training": time.perf_counter() - start}
    if earlier and not earlier.weights_kept and earlier.code_digest == facts["code_digest"]:
        record = ledger.restore_weights(earlier, weights)  # the cell has its result already
    else:
        record = ledger.write(Record(**facts, **outcome, timings=timings), weights)
    checkpoint.delete()
    return record


def _facts(
    cell: Cell, dataset: Data, specification: TaskSpec, split: Split, device: torch.device
) -> dict[str, Any]:
    """What is known of a cell before it is trained, as fields of its record."""
    return {
        "signature": signature(cell, specification, dataset.digest),
        "configuration": dict(cell.configuration),
        "seed": cell.seed,
        "dataset_digest": dataset.digest,
        "sizes": {part: len(rows) for part, rows in vars(split).items()},
        **provenance(device, split),
        "worker": f"{platform.node()}:{os.getpid()}",
    }


def _checkpoint_file(ledger: Ledger, facts: Mapping[str, Any]) -> CheckpointFile:
    """The checkpoint of a cell, of these circumstances; its folder is left without partial files.

    What a worker was writing when it was killed can go: by now the cell has no worker but this one.
    """
    path = ledger.checkpoint_path(facts["signature"])
    remove_partial_files(path.parent, abandoned_s=0)
    return CheckpointFile(path, {name: facts[name] for name in _CIRCUMSTANCES})


def _attempts(earlier: Record | None, facts: Mapping[str, Any]) -> int:
    """In how many calls of the sweep the same code has tried the cell, this one included."""
    if earlier and not earlier.done and earlier.code_digest == facts["code_digest"]:
        return earlier.attempts + 1
    return 1
