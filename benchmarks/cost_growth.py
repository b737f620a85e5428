"""How time and memory of a cell grow with electrodes, sentences and batch, in one run.

    python benchmarks/cost_growth.py docs/figures/cost_growth.png

Each is varied alone, in a fresh process per point. Seconds are those of a second epoch with its
validation, on a CPU those of the process on one thread. Memory is the most that was taken above a
tiny training before it, with which libraries, weights and Adam's moments are there. Sentences are
counted on small spectrograms of one electrode, since 50,000 of the paper's size are 61 GB: to its
memory comes that of a dataset, 2 bytes a value. A batch above a chunk passes in chunks. An exponent
is fitted to the last three points of a curve, where what does not grow weighs least.
"""

# ruff: noqa: E402 - flags are checked before the imports that take seconds

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from bounds import at_least

from ssense.choices import Precision
from ssense.cli.command import check_flags, run_command

Axis = Literal["electrodes", "sentences", "batch", "batch, in chunks of 32"]


@dataclass(frozen=True)
class Options:
    """What to measure."""

    figure: str
    """File of the figure to write."""
    axes: tuple[Axis, ...] = get_args(Axis)
    """What to vary."""
    points: int = 6
    """Points of each axis at most, from the smallest."""
    precision: Precision = "bf16"
    """Precision of the training."""

    def __post_init__(self) -> None:
        at_least(self, points=1)


if __name__ == "__main__":
    check_flags(Options)  # before the imports that take seconds

import json
import multiprocessing
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch.nn.functional import normalize
from training_step import Clock, epoch_seconds, peak_bytes

from ssense.data.dataset import Pairs
from ssense.data.splits import seeded_split
from ssense.model.encoders.spectrogram_encoder import ResNetSpec
from ssense.training.process import any_device, reset_process
from ssense.training.sentences import SentenceSpec, TrainingSpec

CHUNK = 32


class Size(NamedTuple):
    """Of a training: sentences of the dataset, frequencies and frames of its spectrograms."""

    electrodes: int
    sentences: int
    batch: int
    image: tuple[int, int] = (40, 154)  # as in the paper


TINY = Size(1, 20, 4, (8, 17))
AXES: dict[Axis, list[Size]] = {
    "electrodes": [Size(n, 20, 4) for n in (8, 16, 32, 64, 128, 256)],
    "sentences": [Size(1, n, CHUNK, TINY.image) for n in (500, 1581, 5000, 15811, 50000)],
    "batch": [Size(4, 220, n) for n in (4, 8, 16, 32)],
    "batch, in chunks of 32": [Size(4, 220, n) for n in (32, 64, 128)],
}


def varied(axis: Axis, points: int) -> list[int]:
    """What the points of an axis stand for."""
    return [getattr(size, axis.split(",")[0]) for size in AXES[axis][:points]]


def train(size: Size, precision: Precision, clock: Clock) -> float:
    """Seconds of an epoch on random data."""
    shape = size.sentences, size.electrodes, *size.image
    pairs = Pairs(
        torch.randn(shape, dtype=torch.float16, device=clock.device),
        normalize(torch.randn(size.sentences, 512, device=clock.device)),
    )
    split = seeded_split(size.sentences, seed=0)
    spec = SentenceSpec(
        encoder=ResNetSpec(weights="random"),
        training=TrainingSpec(batch_size=size.batch, chunk=CHUNK, precision=precision),
    )
    return epoch_seconds(pairs.select(split.train), pairs.select(split.validation), spec, clock)


def cost(size: Size, precision: Precision) -> tuple[float, int]:
    """Seconds of an epoch, and bytes above those of a tiny training."""
    device = any_device()
    reset_process(0, threads=1)
    train(TINY, precision, Clock(device))
    before = peak_bytes(device)
    return train(size, precision, Clock(device)), peak_bytes(device) - before


def exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """Of the power law through the last three points."""
    return float(np.polyfit(np.log(x[-3:]), np.log(y[-3:]), 1)[0])


def draw(costs: Mapping[Axis, list[tuple[float, int]]]) -> Figure:
    """Seconds above, memory below, an axis per column."""
    figure = Figure(figsize=(11, 5), layout="constrained")
    panels = figure.subplots(2, len(costs), squeeze=False)
    units = ("seconds per epoch", "memory, GB")
    for column, (axis, found) in enumerate(costs.items()):
        for row, values in enumerate(np.array(found).T / [[1], [1e9]]):
            panel = panels[row, column]
            at = varied(axis, len(found))
            panel.loglog(at, values, "o-")
            panel.set_xticks(at, map(str, at), fontsize=7)
            panel.minorticks_off()
            panel.set_ylim(min(values) / 3, max(values) * 3)
            panel.set_title(f"exponent {exponent(at, values):.2f}", fontsize=9)
            panel.set_xlabel(axis)
            panel.set_ylabel(units[row])
    return figure


def main(options: Options) -> None:
    """Measure along the axes; draw them, and print a line of JSON for each."""
    costs = {}
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for axis in options.axes:
            sizes = AXES[axis][: options.points]
            costs[axis] = [pool.apply(cost, (size, options.precision)) for size in sizes]
            at, (seconds, memory) = varied(axis, len(sizes)), zip(*costs[axis], strict=True)
            result = {
                axis: at,
                "seconds": [round(value, 2) for value in seconds],
                "gb": [round(value / 1e9, 3) for value in memory],
                "exponents": [round(exponent(at, values), 2) for values in (seconds, memory)],
            }
            print(json.dumps(result), flush=True)
    draw(costs).savefig(options.figure, dpi=150)


if __name__ == "__main__":
    run_command(Options, main)
