"""One cell on one worker: the Ray Tune trainable, whose process is reused from cell to cell."""

from __future__ import annotations

import os
import platform
import random
import time
import traceback
from typing import Any

import numpy as np
import torch
from ray import tune

from ssense.checkpoint import CheckpointFile
from ssense.data.dataset import Dataset, Pairs
from ssense.data.splits import seeded_split
from ssense.training import TrainingSpec, fit
from sweeps.engine.cell import Cell, configured, signature
from sweeps.engine.ledger import Ledger, Record
from sweeps.engine.provenance import provenance


class CellTrainable(tune.Trainable):
    """Trains the cell named by its configuration, writes it to the ledger, and is done.

    Ray keeps the process and hands it the next cell, so the dataset stays on the device.
    """

    def setup(
        self,
        config: dict[str, Any],
        dataset: Dataset,
        training: TrainingSpec,
        ledger: Ledger,
        threads: int,
    ) -> None:
        """Prepare the process; `dataset` comes out of the node's object store."""
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._pairs = dataset.on(self._device)
        self._dataset_digest = dataset.digest
        self._training = training
        self._ledger = ledger
        self._threads = threads
        self._cell = Cell(**config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next cell."""
        self._cell = Cell(**new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train the cell. What happened is in the record, whether it is done or failed."""
        reset_process(self._cell.seed, self._threads)
        record = run_cell(
            self._cell, self._pairs, self._training, self._dataset_digest, self._ledger
        )
        return {"done": True, "record": record}


def run_cell(
    cell: Cell, pairs: Pairs, training: TrainingSpec, dataset_digest: str, ledger: Ledger
) -> Record:
    """Train one cell on the device of `pairs` and keep it in the ledger.

    A cell that a worker left unfinished goes on from its last checkpoint. Training sees the
    training and validation splits alone. An error of the training itself makes a failed record with
    its reason.
    """
    start = time.perf_counter()
    split = seeded_split(len(pairs), cell.seed)
    common = {
        "signature": signature(cell, training, dataset_digest),
        "configuration": dict(cell.configuration),
        "seed": cell.seed,
        "dataset_digest": dataset_digest,
        "sizes": {part: len(rows) for part, rows in vars(split).items()},
        **provenance(pairs.text.device, split),
        "worker": f"{platform.node()}:{os.getpid()}",
    }
    # The bits of a result depend on all of this; a checkpoint of other circumstances is not used.
    circumstances = ("signature", "device", "versions", "threads", "instructions", "code_digest")
    checkpoint = CheckpointFile(
        ledger.checkpoint_path(common["signature"]), {name: common[name] for name in circumstances}
    )
    left_off = checkpoint.load()
    common["resumed_after"] = len(left_off.history) if left_off else 0
    encoder = None
    try:
        spec = configured(training, cell.configuration)
        trained = fit(
            pairs.select(split.train),
            pairs.select(split.validation),
            spec,
            cell.seed,
            on_epoch=checkpoint.save_if_worthwhile,
            resume=left_off,
        )
    except Exception as error:  # whatever it is, the other cells go on
        traceback.print_exc()
        outcome: dict[str, Any] = {"status": "failed", "reason": f"{type(error).__name__}: {error}"}
    else:
        encoder = trained.encoder
        outcome = {
            "status": "done",
            "history": trained.history,
            "best_epoch": trained.best_epoch,
        }
    timings = {"training": time.perf_counter() - start}
    record = Record(**common, **outcome, timings=timings)
    ledger.write(record, encoder)
    checkpoint.delete()  # of a failed cell too, lest it fail the same way for ever
    return record


def reset_process(seed: int, threads: int) -> None:
    """Undo whatever an earlier cell left in the process: its result must not depend on it."""
    # cuBLAS is deterministic only with a workspace of fixed size, set before its first use.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    torch.set_default_dtype(torch.float32)
    # Ray leaves OMP_NUM_THREADS=1 behind; and the order of a sum depends on the thread count.
    torch.set_num_threads(threads)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries draw from the legacy generator
    torch.manual_seed(seed)
