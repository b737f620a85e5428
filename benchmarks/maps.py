"""Maps of the paper's size: their time, and how far the fast way is from the slow one, in one run.

    python benchmarks/maps.py

A ResNet-18 is trained for a few steps on made-up pairs of which some electrodes carry the targets.
Its maps are then made in two ways on the same test sentences: as it was trained, in float32, with
2048 spectrograms at a time; and folded, in bf16, with as many as caches hold. Rounds alternate. The
time of a whole set of maps is that of its passes, as many as `analysis/maps.py` takes.
"""

# ruff: noqa: E402 - flags are checked before the imports that take seconds

from __future__ import annotations

from dataclasses import dataclass

from bounds import at_least

from ssense.cli.command import check_flags, run_command


@dataclass(frozen=True)
class Options:
    """What to measure."""

    sentences: int = 292
    """Test sentences."""
    electrodes: int = 99
    """Electrodes of the recording whose maps are counted."""
    measured: int = 4
    """Electrodes that pass in the measurement; each passes by itself."""
    seeds: int = 10
    """Seeds of the sweep."""
    epochs: int = 3
    """Epochs of the training."""
    rounds: int = 3
    """Rounds, in each of which both ways are timed."""
    threads: int = 2
    """Threads."""

    def __post_init__(self) -> None:
        at_least(
            self, sentences=12, electrodes=2, measured=2, seeds=2, epochs=1, rounds=1, threads=1
        )


if __name__ == "__main__":
    check_flags(Options)  # before the imports that take seconds

import json
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import numpy as np
import torch

from analysis.mapping.family_maps import FEWER_SENTENCES
from analysis.mapping.occlusion import Occluder, filling_of
from analysis.mapping.parts import Axes, all_parts
from analysis.mapping.prepared import agreement, prepared
from analysis.mapping.seed_map import SeedMap, map_of
from analysis.options import MapOptions
from ssense.data.dataset import Dataset, Pairs
from ssense.model.encoders.encoder import Encoder
from ssense.model.encoders.spectrogram_encoder import ResNetSpec
from ssense.precision import full_precision
from ssense.training.loop import fit
from ssense.training.process import any_device, reset_process
from ssense.training.sentences import SentenceSpec, TrainingSpec

ROWS, FRAMES, DIMENSIONS = 40, 154, 512
METRIC = SentenceSpec.primary


def main(options: Options) -> None:
    """Train, make maps in both ways, and print ratios."""
    reset_process(0, threads=options.threads)
    n = options.sentences
    data = made_up(2 * n + n // 2, options.measured).on(any_device())
    train, validation, test = (
        data.select(np.arange(*ends)) for ends in ((0, n), (n, n + n // 2), (n + n // 2, len(data)))
    )
    training = TrainingSpec(max_epochs=options.epochs, precision="float32")
    spec = SentenceSpec(encoder=ResNetSpec(weights="random"), training=training)
    encoder = spec.rebuild(fit(train, validation, spec, 0).weights, test).eval()
    ways = {
        "slow": encoder,
        "fast": prepared(encoder, "bf16"),
        "folded": prepared(encoder, "float32"),
    }
    passes = {"slow": slow_pass, "fast": fast_pass}
    rates: dict[str, list[float]] = {name: [] for name in passes}
    for _ in range(options.rounds):
        for name, run in passes.items():
            seconds = timed(partial(run, ways[name], test))
            rates[name].append(len(test) * options.measured / seconds)
    rate = {name: median(found) for name, found in rates.items()}
    maps = {name: maps_of(each, train, test) for name, each in ways.items()}
    found = agreement(encoder, validation)
    ratio = median(fast / slow for slow, fast in zip(*rates.values(), strict=True))
    recall = {name: float((each.intact[0] <= 10).mean()) for name, each in maps.items()}
    result = {
        "images_per_s": {name: round(each, 1) for name, each in rate.items()},
        "fast_over_slow": round(ratio, 2),
        "recall@10": {name: round(value, 4) for name, value in recall.items()},
        "bf16": differences(maps["slow"], maps["fast"]),
        "folded_float32": differences(maps["slow"], maps["folded"]),
        "best_ten_exchanged": round(found.exchanged, 4),
        "lowest_cosine": round(found.cosine, 7),
        "minutes": minutes(options, rate),
    }
    print(json.dumps(result))


def made_up(n: int, electrodes: int) -> Dataset:
    """Pairs of noise in which the first two electrodes carry their targets, row by row."""
    rng = np.random.default_rng(0)
    targets = rng.standard_normal((n, DIMENSIONS)).astype(np.float32)
    targets /= np.linalg.norm(targets, axis=1, keepdims=True)
    x = rng.standard_normal((n, electrodes, ROWS, FRAMES), np.float32)
    patterns = rng.standard_normal((DIMENSIONS, ROWS)).astype(np.float32)
    x[:, :2] += 2 * (targets @ patterns)[:, None, :, None]
    return Dataset(
        digest="0",
        spectrograms=x.astype(np.float16),
        targets=targets,
        stimuli=tuple(map(str, range(n))),
        spans_s=np.arange(2.0 * n).reshape(n, 2),
    )


@torch.inference_mode()
def slow_pass(encoder: Encoder, test: Pairs) -> None:
    """Embed every electrode as an evaluation does, 2048 spectrograms at a time."""
    size = max(1, 2048 // test.spectrograms.shape[1])
    with full_precision(test.device.type):
        for part in torch.arange(len(test)).split(size):
            encoder(test.batch(part)[0])


def fast_pass(encoder: Encoder, test: Pairs) -> None:
    """Embed every electrode as maps do."""
    hidden = all_parts(("bands",), axes(test), {}, windows=1, bands=2)[0]
    Occluder(encoder, test, filling_of(test, "zero")).without(hidden)


def axes(test: Pairs) -> Axes:
    """Axes of some pairs, with made-up names."""
    names = tuple(f"A{number + 1}" for number in range(test.spectrograms.shape[1]))
    return Axes(electrodes=names, rows=[*np.linspace(5, 120, ROWS)], times_s=np.arange(FRAMES) / 40)


def maps_of(encoder: Encoder, train: Pairs, test: Pairs) -> SeedMap:
    """Maps of electrodes and bands."""
    parts = all_parts(("electrodes", "bands"), axes(test), {}, windows=1, bands=4)
    occluder = Occluder(encoder, test, filling_of(train, "mean"))
    _, candidates = test.batch(torch.arange(len(test)))
    return map_of(0, occluder, parts, candidates, METRIC)


def differences(slow: SeedMap, fast: SeedMap) -> dict[str, float]:
    """The largest difference of an effect, in points, and how far ranks are from each other."""
    effects = [100 * each.effects(METRIC).mean(axis=1) for each in (slow, fast)]
    moved = np.abs(slow.occluded - fast.occluded)
    return {
        "largest_effect_difference_points": round(float(np.abs(effects[0] - effects[1]).max()), 3),
        "effect_correlation": round(float(np.corrcoef(*effects)[0, 1]), 6),
        "ranks_moved": round(float((moved > 0).mean()), 4),
        "mean_move": round(float(moved.mean()), 4),
    }


def minutes(options: Options, rate: dict[str, float]) -> dict[str, float]:
    """Minutes of a set of maps: as before, at all seeds of both encoders; and as now."""
    shared = MapOptions.__dataclass_fields__
    hidden = shared["windows"].default + shared["bands"].default + 1  # and once with all
    images = options.sentences * options.electrodes
    some = min(FEWER_SENTENCES, options.sentences) * options.electrodes
    checks = min(shared["check_seeds"].default, options.seeds)
    per = {"before": 2 * options.seeds, "now": options.seeds + checks}
    return {
        "electrodes, before": round(per["before"] * images / rate["slow"] / 60, 1),
        "electrodes, now": round(per["now"] * images / rate["fast"] / 60, 1),
        "windows and bands, before": round(per["before"] * hidden * images / rate["slow"] / 60, 1),
        "windows and bands, now": round(per["now"] * hidden * some / rate["fast"] / 60, 1),
    }


def timed(work: Callable[[], object]) -> float:
    """Seconds that some work takes: on a CPU those of its cores, each of which has its own."""
    cores, clock = time.process_time(), time.monotonic()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.monotonic() - clock
    return (time.process_time() - cores) / torch.get_num_threads()


if __name__ == "__main__":
    run_command(Options, main)
