"""A record: what is known of one finished cell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

from ssense.engine.core.cell import Configuration
from ssense.training.loop import SELECTION_METRIC, validation_metrics

Status = Literal["done", "failed"]

MOST_ATTEMPTS = 3
"""Calls of a sweep in which a cell may fail before it is left alone."""


def utc_now() -> str:
    """The time as ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class _BestAlone(Sequence[Mapping[str, float]]):
    """A history of which the best epoch alone is in memory; its length is still that of all."""

    __slots__ = ("_best", "_length", "_place")

    def __init__(self, history: Sequence[Mapping[str, float]], place: int) -> None:
        self._best, self._length, self._place = dict(history[place]), len(history), place

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, place: Any) -> Any:
        if place != self._place:
            raise LookupError("only the best epoch of this record is in memory: read the ledger")
        return self._best


@dataclass(frozen=True, kw_only=True)
class Record:
    """What is known of one finished cell.

    Attributes:
        history: Loss and validation metrics of each epoch; empty where the cell failed.
        best_epoch: The epoch whose weights are kept; 0 where the cell failed.
        reason: Why the cell failed, in one line; empty where it is done.
        attempts: Calls of the sweep in which the cell was tried, this one included; in the others
            it failed.
        sizes: Stimuli in each part of the split.
        timings: Seconds by stage.
        versions: Versions of Python, this package and the libraries that compute.
        worker: Host and process that trained the cell.
        threads: Threads of that process.
        instructions: Instruction set that PyTorch used on the worker's CPU.
        code_digest: Digest of the code that computes results, see `provenance`.
        commit: Commit of the repository that the code ran from; empty where there was none.
        dirty: Whether tracked files differed from that commit.
        requirements_digest: Digest of the lock file; empty where there was none.
        split_digest: Digest of the rows in each part of the split.
        resumed_after: Epochs that an interrupted worker had trained before; `timings` leave them
            out.
        checkpoint_refused: Why the checkpoint of an interrupted worker was not used; empty where it
            was, or where there was none.
        weights_digest: SHA-256 of the weights' file; empty where the cell failed.
        weights_kept: Whether the ledger keeps the weights. Those that no evaluation asks for are
            deleted; the cell trained again has the same.
    """

    signature: str
    configuration: Configuration
    seed: int
    status: Status
    dataset_digest: str
    reason: str = ""
    attempts: int = 1
    history: Sequence[Mapping[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    sizes: Mapping[str, int] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    device: str = ""
    worker: str = ""
    threads: int = 0
    instructions: str = ""
    code_digest: str = ""
    commit: str = ""
    dirty: bool = False
    requirements_digest: str = ""
    split_digest: str = ""
    resumed_after: int = 0
    checkpoint_refused: str = ""
    weights_digest: str = ""
    weights_kept: bool = True
    finished_at: str = field(default_factory=utc_now)

    @property
    def done(self) -> bool:
        """Whether the cell has a result."""
        return self.status == "done"

    @property
    def given_up(self) -> bool:
        """Whether the cell has failed so often that it is not tried again."""
        return not self.done and self.attempts >= MOST_ATTEMPTS

    @property
    def best(self) -> Mapping[str, float]:
        """Validation metrics of the best epoch."""
        return self.history[self.best_epoch - 1]

    def without_history(self) -> Record:
        """The same record, of whose history the best epoch alone is in memory.

        It is what a search needs of a cell; hundreds of values of other epochs are in the ledger.
        """
        if not self.done or isinstance(self.history, _BestAlone):
            return self
        return replace(self, history=_BestAlone(self.history, self.best_epoch - 1))

    def check(self) -> None:
        """Refuse a record that contradicts itself.

        Raises:
            ValueError: A result without epochs or without the metric that chooses them, a metric
                outside 0 to 1, a loss that is not finite, or a best epoch that another one is
                better than.
        """
        if self.seed < 0:
            raise ValueError(f"its seed is {self.seed}")
        if not self.done:
            return
        if not 1 <= self.best_epoch <= len(self.history):
            raise ValueError(f"its best epoch is {self.best_epoch} of {len(self.history)}")
        for place, epoch in enumerate(self.history):
            if not math.isfinite(epoch.get("loss", 0.0)):
                raise ValueError(f"history[{place}]: loss is {epoch['loss']}")
            for name, value in validation_metrics(epoch).items():
                if not 0 <= value <= 1:
                    raise ValueError(f"history[{place}]: {name} is {value}, not in 0 to 1")
            if SELECTION_METRIC not in epoch:
                raise ValueError(f"history[{place}] has no {SELECTION_METRIC}")
        scores = [epoch[SELECTION_METRIC] for epoch in self.history]
        if self.best[SELECTION_METRIC] < max(scores):
            better = 1 + scores.index(max(scores))
            raise ValueError(f"its best epoch is {self.best_epoch}, and epoch {better} is better")
