"""The checkpoint file of one cell: one safetensors file, trusted only where it is whole and fits.

Tensors are named GROUP/NAME after the fields of `Checkpoint`; a JSON text in the header holds the
history, the best epoch and what the checkpoint belongs to.
"""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import safetensors.torch
from torch import Tensor
from upath import UPath

from ssense.errors import UserError, one_line
from ssense.files.storage import is_local, read_whole, remove, write_whole
from ssense.training.loop import Checkpoint

FORMAT_VERSION = 1

WRITING_SHARE = 0.05
"""Time that writing may take, of the training since the last checkpoint."""

FIRST_BYTES_PER_SECOND = 1e8
"""Writing speed assumed until one was measured: a slow disk, so that short cells never pay."""


class CheckpointFile:
    """The last checkpoint of a cell, written when that costs little of the training it saves.

    Args:
        path: Path of the file, on a local disk or in an object store.
        identity: Names and values of all that the bits of a result depend on: the cell, and the
            device, threads and library versions. A checkpoint of another identity is not used.
        clock: Function that tells the time, seconds.

    Attributes:
        refused: Why `load` did not use the file that it found; empty where it did, or found none.
    """

    def __init__(
        self,
        path: UPath,
        identity: Mapping[str, Any],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.refused = ""
        self._path = path
        self._identity = dict(identity)
        self._clock = clock
        self._training_since = clock()
        self._seconds_to_write: float | None = None

    def save_if_worthwhile(self, checkpoint: Checkpoint) -> bool:
        """Write a checkpoint where that takes under 5 % of the training since the last one.

        So a cell loses at most the epoch in progress and twenty times the seconds that writing
        takes. A file that can't be written causes a warning, and the training continues without it.

        Returns:
            Whether it was written.
        """
        start = self._clock()
        expected = self._seconds_to_write
        if expected is None:
            expected = sum(t.nbytes for t in _tensors(checkpoint).values()) / FIRST_BYTES_PER_SECOND
        if expected >= WRITING_SHARE * (start - self._training_since):
            return False
        content = _serialised(checkpoint, self._identity)
        written = True
        try:
            write_whole(self._path, content)
        except UserError as error:
            written = False
            warnings.warn(f"checkpoint {error}", stacklevel=2)
        self._training_since = self._clock()
        self._seconds_to_write = self._training_since - start
        return written

    def load(self) -> Checkpoint | None:
        """Read the checkpoint; None where there is none to trust, and `refused` says why."""
        try:
            return _deserialised(read_whole(self._path), self._identity)
        except FileNotFoundError:
            return None
        except Exception as error:  # a damaged file fails in a dozen ways
            known = isinstance(error, (_UnusableError, UserError))
            self.refused = one_line(error) if known else f"it can't be read: {one_line(error)}"
            return None
        finally:
            self._training_since = self._clock()

    def delete(self) -> None:
        """Remove the checkpoint, and what a process killed while writing it left behind.

        A file that can't be removed causes a warning.
        """
        try:
            remove(self._path)
            if is_local(self._path):
                for partial in self._path.parent.glob(f".{self._path.name}.*"):
                    partial.unlink(missing_ok=True)
        except Exception as error:  # an object store raises whatever its client library does
            warnings.warn(f"a checkpoint stays: {one_line(error)}", stacklevel=2)


class _UnusableError(ValueError):
    """The file is whole, and yet not the checkpoint that was asked for."""


def _tensors(checkpoint: Checkpoint) -> dict[str, Tensor]:
    groups = {
        "best_weights": checkpoint.best_weights,
        "weights": checkpoint.weights,
        "moments": checkpoint.moments,
        "generator": {"order": checkpoint.order, "masks": checkpoint.masks},
    }
    if checkpoint.best_epoch == len(checkpoint.history):
        del groups["weights"]  # is the best one
    return {
        f"{group}/{name}": tensor
        for group, tensors in groups.items()
        for name, tensor in tensors.items()
    }


def _serialised(checkpoint: Checkpoint, identity: Mapping[str, Any]) -> bytes:
    tensors = {name: t.detach().cpu().contiguous() for name, t in _tensors(checkpoint).items()}
    about = json.dumps(
        {
            "format": FORMAT_VERSION,
            "identity": identity,
            "history": checkpoint.history,
            "best_epoch": checkpoint.best_epoch,
        }
    )
    metadata = {"checkpoint": about, "digest": _digest(about, tensors)}
    return safetensors.torch.save(tensors, metadata)


def _deserialised(content: bytes, identity: Mapping[str, Any]) -> Checkpoint:
    tensors = safetensors.torch.load(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    metadata = header.get("__metadata__", {})
    if metadata.keys() != {"checkpoint", "digest"}:
        raise _UnusableError("it is not a checkpoint")
    if metadata["digest"] != _digest(metadata["checkpoint"], tensors):
        raise _UnusableError("it is damaged: its digest does not match")
    about = json.loads(metadata["checkpoint"])
    if about["format"] != FORMAT_VERSION:
        raise _UnusableError(f"it has format {about['format']}, not {FORMAT_VERSION}")
    for name in sorted({*identity, *about["identity"]}):
        found, wanted = about["identity"].get(name), identity.get(name)
        if found != wanted:
            raise _UnusableError(f"its {name} is {found}, not {wanted}")
    groups: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for label, tensor in tensors.items():
        group, _, name = label.partition("/")
        groups[group][name] = tensor
    return Checkpoint(
        history=tuple(about["history"]),
        best_epoch=about["best_epoch"],
        best_weights=groups["best_weights"],
        weights=groups.get("weights", groups["best_weights"]),
        moments=groups["moments"],
        **groups["generator"],
    )


def _digest(about: str, tensors: Mapping[str, Tensor]) -> str:
    """Hash everything in the file: safetensors itself does not notice a flipped bit of data."""
    total = hashlib.sha256(about.encode())
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        total.update(tensor.reshape(-1).numpy().data)
    return total.hexdigest()
