"""A short training of random data: what a cell will take, before any has been trained."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ssense.retrieval import NonFiniteError
from ssense.specification import configured
from ssense.training.loop import Examples, Specification, fit
from ssense.training.process import assigned_device, usable_cores

ENOUGH_S = 1.0  # long enough to make the overhead of the start small


def probe_seconds(
    specification: Specification[Any, Any],
    sizes: tuple[int, int],
    examples: Callable[[int, torch.device], Examples],
    threads: int,
    gpus: float,
) -> float | None:
    """Estimate the seconds that a cell takes at most, with all of its epochs.

    It trains one epoch of a few made-up examples, then of twice as many, until that takes a second
    or they are all that a cell trains on, and multiplies by the number of epochs. This process is
    not set up as a worker's is, see `reset_process`: deterministic kernels, float32 without TF32
    and kept memory make a cell a little slower or faster.

    Args:
        specification: Specification of the cell; its initial weights are not needed.
        sizes: Sizes of the training and the validation split.
        examples: Function that makes up a number of examples on a device.
        threads: Threads of a worker.
        gpus: GPUs of a worker.

    Returns:
        None if it can't be tried: the GPU has no memory left, or the training diverges.
    """
    n_train, n_validation = sizes
    spec = configured(specification.untrained(), {"training.max_epochs": 2, "training.patience": 2})
    n = 2
    try:
        device = assigned_device(gpus)
        with _threads(min(threads, usable_cores())):  # more would only wait
            while (seconds := _epoch(spec, examples(n, device))) < ENOUGH_S:
                if n >= n_train:
                    break
                n *= 2
    # On a GPU that is full already, its context fails by another name than a tensor.
    except (torch.OutOfMemoryError, torch.AcceleratorError, NonFiniteError):
        return None
    finally:
        torch.cuda.empty_cache()  # for the workers; nothing to do where no GPU was used
    # Per epoch the validation split goes forward once, a third of the work of its training.
    epoch = n_train + n_validation / 3
    return specification.training.max_epochs * seconds * epoch / (n + n / 3)


def _epoch(spec: Specification[Any, Any], examples: Examples) -> float:
    """Seconds of an epoch on examples, and of its validation on the same.

    Only the second epoch is timed: in the first, libraries and the model are still loaded.
    """
    ends: list[float] = []
    fit(examples, examples, spec, seed=0, on_epoch=lambda _: ends.append(time.perf_counter()))
    return ends[1] - ends[0]


@contextmanager
def _threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
