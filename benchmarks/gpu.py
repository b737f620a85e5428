"""All that a GPU is to be measured on, in ten minutes: superlets, steps, cells that share it.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --parts superlets captured --minutes 2

Each part is a process of its own with a share of the time. One that fails or takes too long is
named with its reason, and the others go on. One line of JSON has them all. Superlets stand against
a transform as people write it on a GPU: Morlet wavelets as spectra of the whole length, as many of
them, one inverse FFT each. A captured step is one CUDA graph in place of some hundred launches.
It runs on a CPU too, at sizes for one, where nothing can be captured.
"""

# ruff: noqa: E402 - flags are checked before the imports that take seconds

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from bounds import at_least

from ssense.cli.command import check_flags, run_command

Part = Literal[
    "superlets", "captured", "step", "few electrodes", "cells", "image cells", "memory", "images"
]


@dataclass(frozen=True)
class Options:
    """What to measure."""

    parts: tuple[Part, ...] = (
        *("superlets", "captured", "step", "few electrodes"),
        *("cells", "image cells", "memory", "images"),
    )
    """Parts to measure, in this order."""
    minutes: float = 10.0
    """Minutes for all parts together."""
    channels: int | None = None
    """Channels that superlets are made of [512; 8 on a CPU]."""
    least_s: float = 1.0
    """Seconds that each timing of superlets and steps lasts at least."""

    def __post_init__(self) -> None:
        at_least(self, minutes=0, channels=1, least_s=0)


if __name__ == "__main__":
    check_flags(Options)  # before the imports that take seconds

import json
import multiprocessing
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from superlets import RATE_HZ, SAMPLES, wavelet
from training_step import MASKING, Clock, random_pairs

from ssense.engine.records.provenance import device_name
from ssense.errors import one_line
from ssense.model.encoders.spectrogram_encoder import ResNetSpec
from ssense.signal.superlets import SuperletSpec, superlet_transform
from ssense.training.process import any_device
from ssense.training.sentences import SentenceSpec, TrainingSpec

COMMANDS: Mapping[str, str] = {
    "step": "training_step.py --rounds 1",
    "few electrodes": "training_step.py --electrodes 8 --rounds 1",
    "cells": "packing.py --electrodes 8 --at-once 1 2 4 8 --seconds 8",
    "image cells": "packing.py --method infonce --at-once 1 2 4 8 --seconds 8",
    "memory": "batch_memory.py",
    "images": "image_cell.py --rounds 1",
}
"""Parts that other benchmarks measure."""
_CHANNELS_AT_ONCE = 8  # of the plain transform, whose products are 80 MB a channel
_LENGTH = 2 * SAMPLES


def superlets(options: Options) -> dict[str, Any]:
    """Microseconds per channel of 8,200 samples, ours and the plain transform's."""
    device = any_device()
    channels = options.channels or (512 if device.type == "cuda" else 8)
    spec, clock = SuperletSpec.brainbert(), Clock(device, options.least_s)
    signals = torch.randn(channels, SAMPLES, device=device)
    banks = plain_banks(spec, device)
    few = signals[:_CHANNELS_AT_ONCE]
    ours, plain = superlet_transform(few, RATE_HZ, spec), plain_transform(few, banks, spec)
    ours_s = clock.seconds(lambda: superlet_transform(signals, RATE_HZ, spec)) / channels
    plain_s = clock.seconds(lambda: plain_transform(few, banks, spec)) / len(few)
    return {
        "us_per_channel": round(1e6 * ours_s, 1),
        "plain_us_per_channel": round(1e6 * plain_s, 1),
        "times_as_fast": round(plain_s / ours_s, 1),
        "apart": float((ours - plain).norm() / plain.norm()),
    }


def plain_banks(spec: SuperletSpec, device: torch.device) -> list[tuple[torch.Tensor, np.ndarray]]:
    """For each frequency the spectra `[wavelets, length]` of its wavelets, and their weights."""
    banks = []
    for row, hz in enumerate(spec.frequencies_hz):
        cycles, weights = spec.wavelets(row)
        shapes = np.zeros((len(cycles), _LENGTH), np.complex64)
        for place, each in enumerate(cycles):
            found = wavelet(hz, each)
            middle = len(found) // 2
            reach = np.arange(-middle, len(found) - middle)
            shapes[place, reach] = found  # around 0, so that nothing is shifted
        banks.append((torch.fft.fft(torch.from_numpy(shapes)).to(device), weights))
    return banks


def plain_transform(
    signals: torch.Tensor, banks: list[tuple[torch.Tensor, np.ndarray]], spec: SuperletSpec
) -> torch.Tensor:
    """Superlets `[channels, frequencies, frames]` by one inverse FFT for each wavelet."""
    spectrum = torch.fft.fft(signals, _LENGTH)[:, None]
    rows = []
    for bank, weights in banks:
        amplitudes = torch.fft.ifft(spectrum * bank)[..., : SAMPLES : spec.decimation].abs()
        shares = torch.as_tensor(weights, dtype=torch.float32, device=signals.device)
        rows.append((amplitudes.clamp_min(1e-30).log() * shares[:, None]).sum(dim=1).exp())
    return torch.stack(rows, dim=1)


def captured(options: Options) -> dict[str, Any]:
    """Milliseconds of a small step, launched operation by operation and as one graph."""
    device = any_device()
    spec = SentenceSpec(
        masking=MASKING,
        encoder=ResNetSpec(weights="random"),
        training=TrainingSpec(precision="bf16", batch_size=32),
    )
    pairs = random_pairs(64, (4, 40, 154), device)
    encoder = spec.initial(pairs).to(device)
    encoder.train()
    optimiser = spec.optimiser(encoder)
    masks = torch.Generator(device).manual_seed(0)
    index = torch.arange(spec.training.batch_size, device=device)
    clock = Clock(device, options.least_s)

    def step() -> None:
        spec.step(encoder, optimiser, pairs, index, masks)

    step()  # loads libraries and makes the optimiser's state
    eager_s = clock.seconds(step)
    if device.type != "cuda":
        return {"eager_ms": round(1e3 * eager_s, 2), "graph_ms": None}
    graph_s = clock.seconds(as_graph(step, masks).replay)
    return {
        "eager_ms": round(1e3 * eager_s, 2),
        "graph_ms": round(1e3 * graph_s, 2),
        "times_as_fast": round(eager_s / graph_s, 2),
    }


def as_graph(step: Callable[[], None], masks: torch.Generator) -> torch.cuda.CUDAGraph:
    """A step as one graph, after some on a stream of their own, as PyTorch asks for."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(masks)
    with torch.cuda.graph(graph):
        step()
    return graph


def measured(part: Part, options: Options, seconds: float) -> dict[str, Any]:
    """What a part finds in a process of its own; or why it found nothing."""
    try:
        if command := COMMANDS.get(part):
            return by_command(command, seconds)
        function = {"superlets": superlets, "captured": captured}[part]
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply_async(function, (options,)).get(seconds)
    except (multiprocessing.TimeoutError, subprocess.TimeoutExpired):
        return {"failed": f"it takes more than {seconds:.0f} s"}
    except Exception as error:  # whatever a driver or a kernel raises
        return {"failed": f"{type(error).__name__}: {one_line(error)}"[:300]}


def by_command(command: str, seconds: float) -> dict[str, Any]:
    """The JSON that another benchmark prints.

    Raises:
        RuntimeError: It fails.
    """
    name, *arguments = shlex.split(command)
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name(name)), *arguments],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    if done.returncode:
        raise RuntimeError((done.stderr or done.stdout).strip().rpartition("\n")[2])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(options: Options) -> None:
    """Measure every part; print one line of JSON."""
    end = time.monotonic() + 60 * options.minutes
    result: dict[str, Any] = {"device": device_name(any_device())}
    for number, part in enumerate(options.parts):
        left = max(1.0, end - time.monotonic()) / (len(options.parts) - number)
        start = time.monotonic()
        result[part] = {
            **measured(part, options, max(left, 1.0)),
            "took_s": round(time.monotonic() - start, 1),
        }
    print(json.dumps(result))


if __name__ == "__main__":
    run_command(Options, main)
