"""A paper-size cell of image decoding, and what it costs to hand all its subjects' data to cells.

    python benchmarks/image_cell.py

The size of THINGS-EEG2 within a subject: 16,540 averaged responses of 17 channels and 250 samples,
batches of 1,024, features of 1,024 values. Prints the time of an epoch of SSR beside one of
InfoNCE, on a CPU in seconds of the process on one thread, and what handing the folds of all ten
subjects to their cells takes when they share one copy, beside reading the averages again for every
fold; folds are on the CPU.
"""

# ruff: noqa: E402 - flags are checked before the imports that take seconds

from __future__ import annotations

from dataclasses import dataclass

from bounds import at_least

from ssense.cli.command import check_flags, run_command


@dataclass(frozen=True)
class Options:
    """What to measure."""

    concepts: int = 1654
    """Training concepts, ten images each."""
    subjects: int = 10
    """Subjects whose responses are shared."""
    rounds: int = 3
    """Trainings of each objective; the fastest counts."""

    def __post_init__(self) -> None:
        at_least(self, concepts=202, subjects=2, rounds=1)


if __name__ == "__main__":
    check_flags(Options)  # before the imports that take seconds

import dataclasses
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors.numpy
import torch
from training_step import Clock, epoch_seconds

from ssense.data.things.averages import Things
from ssense.data.things.dataset import ImageDataset
from ssense.data.things.images import ImageSet
from ssense.specification import configured
from ssense.training.images import ImageSpec
from ssense.training.process import any_device, reset_process

N_CHANNELS, N_SAMPLES, N_FEATURES, N_VALIDATION = 17, 250, 1024, 200
BATCH = 1024  # pairs
KINDS = ("original", "augmented-mean")


def images(concepts: int, each: int) -> ImageSet:
    """A list of images that nobody opens."""
    return ImageSet(
        folder=Path("none"),
        files=tuple(f"{c:05d}_c/{i}.jpg" for c in range(concepts) for i in range(each)),
        concepts=tuple(f"{c:05d}_c" for c in range(concepts)),
        concept=np.repeat(np.arange(concepts), each),
    )


def noise(options: Options, subjects: int) -> ImageDataset:
    """Responses of noise, the first subject's fold."""
    drawn = np.random.default_rng(0)
    training, test = images(options.concepts, 10), images(200, 1)
    shape = (N_CHANNELS, N_SAMPLES)
    n_images = len(training) + len(test)
    things = Things(
        digest="noise",
        subjects=tuple(f"sub-{number:02d}" for number in range(1, subjects + 1)),
        channels=tuple(map(str, range(N_CHANNELS))),
        training=drawn.standard_normal((subjects, len(training), *shape), np.float32),
        test=drawn.standard_normal((subjects, len(test), *shape), np.float32),
        training_images=training,
        test_images=test,
    )
    return ImageDataset(
        digest="noise",
        things=things,
        subject="sub-01",
        n_validation=N_VALIDATION,
        features={k: drawn.standard_normal((n_images, N_FEATURES), np.float32) for k in KINDS},
    )


def seconds(work: Callable[[], object], rounds: int) -> float:
    """The fastest of several rounds."""
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)


def objective_seconds(dataset: ImageDataset, objective: str, rounds: int) -> float:
    """An epoch with its validation; the fastest of several trainings."""
    spec = configured(ImageSpec(), {"objective": objective})
    device = any_device()
    responses, split = dataset.on(device), dataset.split(spec.split, 0)
    parts = responses.select(split.train), responses.select(split.validation)
    return min(epoch_seconds(*parts, spec, Clock(device)) for _ in range(rounds))


def folds_seconds(dataset: ImageDataset, folder: Path) -> tuple[float, float]:
    """Every subject's fold from one copy, and from averages that are read again for each."""
    things = dataset.things
    for name, signals in zip(things.subjects, things.training, strict=True):
        (folder / name).write_bytes(safetensors.numpy.save({"averages": signals}))

    def fold(of: ImageDataset, subject: str) -> None:
        one = dataclasses.replace(of, subject=subject)
        split = one.split("leave-one-subject-out", 0)
        training = one.on(torch.device("cpu")).select(split.train)
        training.batch(torch.arange(min(BATCH, len(training))), KINDS, pixels=False)

    def shared() -> None:
        for subject in things.subjects:
            fold(dataset, subject)

    def read_again() -> None:
        for subject in things.subjects:
            loaded = [safetensors.numpy.load_file(folder / name) for name in things.subjects]
            training = np.stack([each["averages"] for each in loaded])
            again = dataclasses.replace(things, training=training)
            fold(dataclasses.replace(dataset, things=again), subject)

    return seconds(shared, 3), seconds(read_again, 1)


def main(options: Options) -> None:
    """Time epochs and folds, and print them with their ratios."""
    reset_process(0, threads=1)
    alone = noise(options, subjects=1)
    found = {name: objective_seconds(alone, name, options.rounds) for name in ("infonce", "ssr")}
    with tempfile.TemporaryDirectory() as folder:
        shared, again = folds_seconds(noise(options, options.subjects), Path(folder))
    n_train = 10 * (options.concepts - N_VALIDATION)
    result = {
        "responses": n_train,
        **{f"{name}_epoch_s": round(value, 2) for name, value in found.items()},
        "ssr_to_infonce": round(found["ssr"] / found["infonce"], 2),
        "infonce_50_epochs_min": round(50 * found["infonce"] / 60, 1),
        "ssr_50_epochs_min": round(50 * found["ssr"] / 60, 1),
        "folds_shared_s": round(shared, 3),
        "folds_read_again_s": round(again, 2),
        "read_again_to_shared": round(again / shared, 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    run_command(Options, main)
