"""Memory that a training step on a large batch needs beside its dataset, on the device it runs on.

    python benchmarks/batch_memory.py

The step of a cell, with gathering, masks, loss and Adam, on a random dataset of the paper's size
that lies on the device. On a CPU it is the memory of the process above what it had with libraries
loaded, when it gives back what is freed, as it does by default; a cell keeps it, which is faster
(`keep_freed_memory`). On a GPU it is what PyTorch took of the device, without the driver's context.
"""

# ruff: noqa: E402 - flags are checked before the imports that take seconds

from __future__ import annotations

from dataclasses import dataclass

from bounds import at_least

from ssense.choices import Precision
from ssense.cli.command import check_flags, run_command


@dataclass(frozen=True)
class Options:
    """What to measure."""

    batch_size: int = 256
    """Pairs of the step."""
    electrodes: int = 99
    """Electrodes of a sentence."""
    sentences: int = 1454
    """Sentences of the dataset."""
    precision: Precision = "bf16"
    """Precision of the training."""

    def __post_init__(self) -> None:
        at_least(self, batch_size=2, electrodes=1, sentences=self.batch_size)


if __name__ == "__main__":
    check_flags(Options)  # before the imports that take seconds

import json
import resource
import time

import torch
from training_step import MASKING, random_pairs

from ssense.engine.records.provenance import device_name
from ssense.model.encoders.spectrogram_encoder import ResNetSpec, build_encoder
from ssense.training.loop import initial_model
from ssense.training.process import any_device, reset_process
from ssense.training.sentences import SentenceSpec, TrainingSpec


def memory_bytes(device: torch.device) -> int:
    """The most that was taken so far, on a CPU by the process, on a GPU by PyTorch."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main(options: Options) -> None:
    """Take one step; print one line of JSON."""
    device = any_device()
    if device.type == "cuda":
        reset_process(0, threads=1)
    torch.set_num_threads(1)
    build_encoder("random", dimensions=512)  # loads libraries
    before = memory_bytes(device)
    pairs = random_pairs(options.sentences, (options.electrodes, 40, 154), device)
    spec = SentenceSpec(
        masking=MASKING,
        encoder=ResNetSpec(weights="random"),
        training=TrainingSpec(batch_size=options.batch_size, precision=options.precision),
    )
    encoder = initial_model(spec, pairs, seed=0).train()
    masks = torch.Generator(device).manual_seed(0)
    index = torch.arange(options.batch_size, device=device)
    start = time.perf_counter()
    loss = spec.step(encoder, spec.optimiser(encoder), pairs, index, masks)
    result = {
        "device": device_name(device),
        "batch": [*pairs.batch(index)[0].shape],
        "chunk": spec.training.chunk,
        "precision": spec.training.precision,
        "dataset_gib": round(pairs.spectrograms.nbytes / 2**30, 2),
        "peak_gib": round((memory_bytes(device) - before) / 2**30, 2),
        "loss": round(loss.item(), 3),
        "seconds": round(time.perf_counter() - start, 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    run_command(Options, main)
