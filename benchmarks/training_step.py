"""A training step and epoch against the bare encoder and against two scripts, in one run.

    python benchmarks/training_step.py
    python benchmarks/training_step.py --precision float32 --electrodes 8
    python benchmarks/training_step.py --electrodes 4 --batch-size 16 --frequencies 16 --frames 26

The bound is forward and backward of the same encoder, on images that lie where it wants them; of an
evaluation, forward alone. The plain script is the same recipe the way it is usually written:
float32, a DataLoader, masks sample by sample, in a process of its own with PyTorch as it comes. The
competent script is that with our precision by autocast, channels last, and the fused Adam. The last
command is of the synthetic recording. Every round times all of them, so that a busy moment of the
machine meets all. On a CPU seconds are those of the process, on one thread, as a cell has.
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

    precision: Precision = "bf16"
    """Precision of our training."""
    electrodes: int | None = None
    """Electrodes of a sentence [99; 8 on a CPU]."""
    frequencies: int = 40
    """Frequencies of a spectrogram, 40 as in the paper."""
    frames: int = 154
    """Frames of a spectrogram, 154 as in the paper."""
    sentences: int | None = None
    """Sentences of an epoch, a quarter more for validation [872; 64 on a CPU]."""
    batch_size: int = 32
    """Pairs per batch."""
    rounds: int = 3
    """How often everything is timed."""
    least_s: float = 1.0
    """Seconds that each timing lasts at least: a GPU has to wake up."""

    def __post_init__(self) -> None:
        at_least(self, batch_size=2, electrodes=1, frequencies=1, frames=1, rounds=1, least_s=0)
        at_least(self, sentences=max(4, self.batch_size))  # a quarter is validated on


if __name__ == "__main__":
    check_flags(Options)  # before the imports that take seconds

import json
import math
import multiprocessing
import random
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import resnet18

from ssense.data.dataset import Pairs
from ssense.engine.records.provenance import device_name
from ssense.model.encoders.spectrogram_encoder import ResNetSpec, SpectrogramEncoder, build_encoder
from ssense.model.masking import Masking
from ssense.specification import configured
from ssense.training.loop import Checkpoint, Examples, Specification, fit
from ssense.training.process import any_device, reset_process
from ssense.training.sentences import SentenceSpec, TrainingSpec

MASKING = Masking(electrode=0.25, frequency=0.1, time=0.1)
MATRIX = 4096  # rows of a square product, whose rate stands beside the step's


@dataclass(frozen=True)
class Plain:
    """The recipe as a script: its encoder, optimiser and data.

    Attributes:
        precision: Precision of a competent script, by autocast and channels last; None in the
            plain one.
    """

    encoder: nn.Module
    optimiser: torch.optim.Optimizer
    train: DataLoader[tuple[Tensor, ...]]
    validation: DataLoader[tuple[Tensor, ...]]
    device: torch.device
    precision: Precision | None

    @classmethod
    def of(
        cls, train: Pairs, validation: Pairs, spec: SentenceSpec, *, is_competent: bool
    ) -> Plain:
        """Fresh, on the device of the pairs."""
        device = train.targets.device
        encoder = resnet18(weights=None)
        encoder.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
        encoder.fc = nn.Linear(512, 512)
        encoder.to(device)
        if is_competent:
            encoder.to(memory_format=torch.channels_last)
        loaders = (
            DataLoader(
                TensorDataset(part.spectrograms.float().unsqueeze(2).cpu(), part.targets.cpu()),
                spec.training.batch_size,
                shuffle=part is train,
                num_workers=4 if device.type == "cuda" else 0,
                pin_memory=device.type == "cuda",
            )
            for part in (train, validation)
        )
        optimiser = torch.optim.Adam(
            encoder.parameters(), lr=spec.training.learning_rate, fused=is_competent
        )
        precision = spec.training.precision if is_competent else None
        return cls(encoder, optimiser, *loaders, device, precision)

    def epoch(self) -> None:
        """Train on all batches, then rank the validation split."""
        self.encoder.train()
        losses = []
        for x, text in self.train:
            brain = self._embed(masked(x).to(self.device))
            similarity = normalize(brain, dim=1) @ text.to(self.device).T / 0.07
            loss = cross_entropy(similarity, torch.arange(len(x), device=self.device))
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            losses.append(loss.item())
        self.encoder.eval()
        with torch.no_grad():
            brain = torch.cat([self._embed(x.to(self.device)) for x, _ in self.validation])
            text = torch.cat([text for _, text in self.validation]).to(self.device)
            scores = normalize(brain, dim=1) @ text.T
            ((scores > scores.diagonal()[:, None]).sum(dim=1) < 10).float().mean().item()

    def _embed(self, x: Tensor) -> Tensor:
        images = x.flatten(0, 1)
        if self.precision:
            images = images.to(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            embeddings = self.encoder(images)
        return embeddings.float().view(*x.shape[:2], -1).mean(dim=1)


def masked(x: Tensor) -> Tensor:
    """Algorithms 1 and 2 of SSENSE, sample by sample."""
    x = x.clone()
    _, n_electrodes, _, n_frequencies, n_frames = x.shape
    for sample in x:
        for f in random.sample(range(n_frequencies), math.floor(MASKING.frequency * n_frequencies)):
            sample[:, :, f, :] = 0
        for t in random.sample(range(n_frames), math.floor(MASKING.time * n_frames)):
            sample[:, :, :, t] = 0
        for e in random.sample(range(n_electrodes), math.floor(MASKING.electrode * n_electrodes)):
            sample[e] = 0
    return x


@dataclass(frozen=True)
class Clock:
    """Seconds of work on a device.

    Attributes:
        device: The device whose work is timed.
        least_s: Seconds that a timing lasts at least.
    """

    device: torch.device
    least_s: float = 1.0

    def now(self) -> float:
        """The time by which everything asked for is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()

    def seconds(self, work: Callable[[], object]) -> float:
        """Seconds of a call; twice as many calls until they last long enough."""
        calls, taken = 1, 0.0
        while taken < self.least_s:
            start = self.now()
            for _ in range(calls):
                work()
            taken, calls = self.now() - start, 2 * calls
        return taken / (calls // 2)


def random_pairs(n: int, shape: tuple[int, ...], device: torch.device) -> Pairs:
    spectrograms = torch.randn(n, *shape, dtype=torch.float16, device=device)
    return Pairs(spectrograms, normalize(torch.randn(n, 512, device=device)))


def bare(encoder: SpectrogramEncoder, images: Tensor) -> None:
    """Forward and backward, and nothing else; of an encoder in evaluation, forward."""
    with torch.autocast(images.device.type, images.dtype, enabled=images.dtype != torch.float32):
        if encoder.training:
            encoder.resnet(images).sum().backward()
            encoder.zero_grad()
        else:
            with torch.inference_mode():
                encoder.resnet(images)


def epoch_seconds(
    train: Examples, validation: Examples, spec: Specification, clock: Clock
) -> float:
    """The second epoch of a training, from one report to the next."""
    ends: list[float] = []

    def note(_: Checkpoint) -> None:
        ends.append(clock.now())

    fit(train, validation, configured(spec, {"training.max_epochs": 2}), seed=0, on_epoch=note)
    return ends[1] - ends[0]


def flops_per_image(shape: tuple[int, ...]) -> int:
    """Of forward and backward: additions and multiplications of convolutions and products."""
    with FlopCounterMode(display=False) as counter:
        encoder = build_encoder("random", dimensions=512).eval()
        encoder(torch.zeros(1, 1, 1, *shape)).sum().backward()
    return counter.get_total_flops()


def data(options: Options) -> tuple[Pairs, Pairs, SentenceSpec]:
    """Training and validation pairs on the device, and how they are trained on."""
    device = any_device()
    on_gpu = device.type == "cuda"
    electrodes = options.electrodes or (99 if on_gpu else 8)
    sentences = options.sentences or (872 if on_gpu else 64)
    spec = SentenceSpec(
        masking=MASKING,
        encoder=ResNetSpec(weights="random"),
        training=TrainingSpec(batch_size=options.batch_size, precision=options.precision),
    )
    shape = electrodes, options.frequencies, options.frames
    train = random_pairs(sentences, shape, device)
    return train, random_pairs(sentences // 4, shape, device), spec


def serve(options: Options, orders: Connection, *, is_competent: bool) -> None:
    """Run an epoch of a script at every order, and answer with its seconds."""
    train, validation, spec = data(options)
    if train.device.type == "cpu":
        torch.set_num_threads(1)
    script = Plain.of(train, validation, spec, is_competent=is_competent)
    clock = Clock(train.device, options.least_s)
    while orders.recv():
        orders.send(clock.seconds(script.epoch))


@contextmanager
def script(options: Options, *, is_competent: bool) -> Iterator[Callable[[], float]]:
    """The process of a script; each call returns the seconds of an epoch."""
    spawn = multiprocessing.get_context("spawn")
    orders, there = spawn.Pipe()
    process = spawn.Process(
        target=partial(serve, is_competent=is_competent), args=(options, there), daemon=True
    )
    process.start()
    there.close()  # so that its end is an error here, and no silence

    def epoch() -> float:
        orders.send(True)
        return orders.recv()

    yield epoch
    orders.send(False)
    process.join()


def workloads(
    train: Pairs, validation: Pairs, spec: SentenceSpec, clock: Clock
) -> dict[str, Callable[[], float]]:
    """What is timed, by name; each returns its seconds."""
    device = clock.device
    encoder = spec.initial(train).to(device)
    assert isinstance(encoder, SpectrogramEncoder)
    optimiser = spec.optimiser(encoder)
    masks = torch.Generator(device).manual_seed(0)
    index = torch.arange(spec.training.batch_size, device=device)
    dtype = torch.bfloat16 if spec.training.precision == "bf16" else torch.float32
    images = train.batch(index)[0].flatten(0, 1).to(dtype, memory_format=torch.channels_last)
    matrix = torch.randn(MATRIX, MATRIX, device=device, dtype=dtype)

    def step() -> None:
        spec.step(encoder, optimiser, train, index, masks)

    def bound() -> float:
        encoder.train()
        return clock.seconds(lambda: bare(encoder, images))

    def forward() -> float:
        encoder.eval()
        return clock.seconds(lambda: bare(encoder, images))

    def whole_step() -> float:
        encoder.train()
        return clock.seconds(step)

    return {
        "bound": bound,
        "forward": forward,
        "step": whole_step,
        "epoch": lambda: epoch_seconds(train, validation, spec, clock),
        "product": lambda: clock.seconds(lambda: matrix @ matrix),
    }


def figures(
    seconds: dict[str, float],
    images: int,
    train_images: int,
    validation_images: int,
    shape: tuple[int, ...],
) -> dict[str, float]:
    """Rates and ratios, of `images` of a shape in a batch and as many in each part of an epoch."""
    s = seconds
    epoch_bound = (s["bound"] * train_images + s["forward"] * validation_images) / images
    flops = flops_per_image(shape)
    return {
        "bound_images_per_s": round(images / s["bound"], 1),
        "forward_images_per_s": round(images / s["forward"], 1),
        "step_images_per_s": round(images / s["step"], 1),
        "epoch_s": round(s["epoch"], 2),
        "plain_s": round(s["plain"], 2),
        "competent_s": round(s["competent"], 2),
        "step_over_bound": round(s["step"] / s["bound"], 3),
        "epoch_over_bound": round(s["epoch"] / epoch_bound, 3),
        "plain_over_epoch": round(s["plain"] / s["epoch"], 2),
        "competent_over_epoch": round(s["competent"] / s["epoch"], 2),
        "gflops_per_image": round(flops / 1e9, 3),
        "step_gflops": round(flops * images / s["step"] / 1e9, 1),
        "product_gflops": round(2 * MATRIX**3 / s["product"] / 1e9, 1),
    }


def peak_bytes(device: torch.device) -> int:
    """Largest memory so far: on a GPU what tensors took, on a CPU that of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main(options: Options) -> None:
    """Time the bound, a step, an epoch and both scripts; print one line of JSON."""
    reset_process(0, threads=1)
    train, validation, spec = data(options)
    device, (electrodes, *shape) = train.device, train.spectrograms.shape[1:]
    with (
        script(options, is_competent=False) as plain,
        script(options, is_competent=True) as competent,
    ):
        clock = Clock(device, options.least_s)
        work = workloads(train, validation, spec, clock)
        work |= {"plain": plain, "competent": competent}
        for name in work.keys() - {"epoch"}:  # which is a second one
            work[name]()  # loads libraries and chooses kernels
        rounds = [{name: timed() for name, timed in work.items()} for _ in range(options.rounds)]
    seconds = {name: statistics.median(r[name] for r in rounds) for name in work}
    images = [electrodes * n for n in (spec.training.batch_size, len(train), len(validation))]
    result = {
        "device": device_name(device),
        "precision": spec.training.precision,
        "batch": [spec.training.batch_size, electrodes, *shape],
        "epoch": [len(train), len(validation)],
        **figures(seconds, *images, tuple(shape)),
        "peak_memory_gb": round(peak_bytes(device) / 1e9, 2),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    run_command(Options, main)
