"""A short training of random data: what a cell will take, before any has been trained."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch.nn.functional import normalize

from ssense.data.dataset import Pairs
from ssense.data.splits import seeded_split
from ssense.model.encoder import EMBEDDING_DIMENSIONS
from ssense.training import TrainingSpec, fit
from sweeps.engine.process import assigned_device

ENOUGH_S = 1.0  # a probe of this length has left the overhead of its start behind


def probe_seconds(
    training: TrainingSpec, shape: tuple[int, int, int, int], threads: int, gpus: float
) -> float | None:
    """Estimate the seconds that a cell takes at most, with all of its epochs.

    Trains one epoch of a few random sentences, twice as many until that takes a second or they are
    all that a cell trains on, and goes by the sentences of an epoch.

    Args:
        training: of the cell; its initial weights are not needed.
        shape: sentences, electrodes, frequencies and frames of the dataset.
        threads: of a worker.
        gpus: of a worker.

    Returns:
        None if the GPU has no memory left to try it.
    """
    n_sentences, *spectrogram = shape
    split = seeded_split(n_sentences, seed=0)
    spec = dataclasses.replace(training, encoder_weights="random", max_epochs=1)
    device = assigned_device(gpus)
    n = 2
    try:
        with _threads(min(threads, os.cpu_count() or 1)):  # more would only stand in line
            _epoch(spec, n, spectrogram, device)  # the first one also loads libraries
            while (seconds := _epoch(spec, n, spectrogram, device)) < ENOUGH_S:
                if n >= len(split.train):
                    break
                n *= 2
    except torch.OutOfMemoryError:
        return None
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()  # for the workers
    # Per epoch the validation split goes forward once, a third of the work of its training.
    epoch = len(split.train) + len(split.validation) / 3
    return training.max_epochs * seconds * epoch / (n + n / 3)


def _epoch(spec: TrainingSpec, n: int, spectrogram: Sequence[int], device: torch.device) -> float:
    """Seconds of one epoch on n random pairs, and of its validation on the same."""
    pairs = Pairs(
        torch.rand(n, *spectrogram, dtype=torch.float16, device=device),
        normalize(torch.randn(n, EMBEDDING_DIMENSIONS, device=device)),
    )
    start = time.perf_counter()
    fit(pairs, pairs, spec, seed=0)
    return time.perf_counter() - start


@contextmanager
def _threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
