"""What maps find in recordings whose truth is known: what is there, and nothing else.

    python benchmarks/map_worlds.py
    python benchmarks/map_worlds.py --told 100 --null 400 --padded 100

Each recording is written, read, cut and transformed as that of a sweep is; ridge regressions are
fitted at each seed, and mapped on the held-out splits. Told: two of six contacts respond, from 40
to 100 Hz, half a second after a sentence's onset, for half a second. Null: nothing is evoked. Both
have sentences of one length, and targets that say which words each has. Padded: nothing is evoked,
sentences are of many lengths, and the targets say nothing but how long each is.

Of told recordings, the power is the share in which a part that carries the words is shown, and a
false part one that does not and is shown; windows and bands that border on the truth count as
neither. Of null ones, the error is the share of maps that show anything. Of padded ones, it is how
many maps are labelled as of durations.
"""

# ruff: noqa: E402 - flags are checked before the imports that take seconds

from __future__ import annotations

from dataclasses import dataclass

from bounds import at_least

from ssense.cli.command import check_flags, run_command


@dataclass(frozen=True, kw_only=True)
class Options:
    """How many recordings, and how large."""

    told: int = 20
    """Recordings in which chosen contacts, a band and a latency carry the words."""
    null: int = 60
    """Recordings without anything in them."""
    padded: int = 20
    """Recordings in which nothing but the padding tells sentences apart."""
    coupling: float = 3.0
    """Amplitude of what words evoke in the told ones."""
    sentences: int = 500
    """Sentences of a recording."""
    seeds: int = 5
    """Seeds per recording."""
    queries: int = 0
    """Test sentences that windows and bands are hidden from; 0 for all."""
    processes: int = 2
    """Recordings at a time."""

    def __post_init__(self) -> None:
        at_least(self, told=0, null=0, padded=0, sentences=60, seeds=2, queries=0, processes=1)


if __name__ == "__main__":
    check_flags(Options)  # before the imports that take seconds

import json
import multiprocessing
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from scipy import stats
from torch import Tensor
from upath import UPath

from analysis.mapping.checks import check_similar
from analysis.mapping.effects import EffectMap, Resampling, effect_maps
from analysis.mapping.occlusion import Occluder, filling_of
from analysis.mapping.parts import Axes, Part, all_parts, window_ends_s
from analysis.mapping.seed_map import (
    Pairings,
    SeedMap,
    map_of,
    of_similar_duration,
    pairings_of,
)
from ssense.data.dataset import Dataset
from ssense.data.recordings.readers.brain_treebank import open_brain_treebank
from ssense.data.recordings.segments import SegmentSpec
from ssense.data.synthetic.recording import SyntheticSpec, word_latents, write_synthetic
from ssense.engine.tasks.dataset_plan import DatasetPlan, plan_dataset
from ssense.engine.tasks.feature_making import ShardTask
from ssense.engine.tasks.recording_plan import SMALL
from ssense.model.encoders.linear import LinearSpec
from ssense.targets.text import TextSpec
from ssense.training.loop import initial_model
from ssense.training.sentences import SentenceSpec

Kind = Literal["told", "null", "padded"]

RESPONDING = ("F1a2", "F1a5")
LOWEST_HZ, HIGHEST_HZ = 40.0, 100.0
LATENCY_S, RESPONSE_S = 0.5, 0.5
BORDER_HZ, BORDER_S = 5.0, 0.15
"""How far a response may spread in spectrograms, whose rows and frames are not sharp."""
RECIPE = replace(SMALL, decimation=32, normalisation="none")  # z-scores of one burst are alike
PERMUTATIONS = 200
WINDOWS, BANDS = 9, 4
LENGTH_WAVES = 16
_MARKS = ".,?!;"


@dataclass(frozen=True, kw_only=True)
class World:
    """A recording after the pipeline.

    Attributes:
        dataset: Its dataset.
        axes: Axes of its spectrograms.
        spoken_s: Duration of each sentence `[N]`, seconds.
    """

    dataset: Dataset
    axes: Axes
    spoken_s: np.ndarray


def specification(kind: Kind, seed: int, options: Options) -> SyntheticSpec:
    """The recording of a world."""
    found = SyntheticSpec(
        seed=seed,
        sentences=options.sentences,
        electrodes=6,
        sampling_rate=256.0,
        coupling=0.0,
        equal_durations=kind != "padded",
        pauses=0,
        common_uv=5.0,
    )
    if kind != "told":
        return found
    return replace(
        found,
        coupling=options.coupling,
        responding=",".join(RESPONDING),
        lowest_hz=LOWEST_HZ,
        highest_hz=HIGHEST_HZ,
        latency_s=LATENCY_S,
        response_s=RESPONSE_S,
    )


def world(kind: Kind, seed: int, options: Options) -> World:
    """Write a recording and take it through the pipeline, without Ray."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_synthetic(root / "recording", specification(kind, seed, options))
        plan = plan_dataset(
            open_brain_treebank(root / "recording"),
            SegmentSpec(reference="none"),
            RECIPE,
            TextSpec(weights="untrained"),
            UPath(folder),
        )
        return _made(plan, kind)


def _made(plan: DatasetPlan, kind: Kind) -> World:
    features, recipe = plan.features, plan.features.recipe
    spectrograms, _ = ShardTask(features).spectrograms(range(plan.shape[0]))
    spoken_s = np.subtract(features.segments.offset_s, features.segments.onset_s)
    text = features.segments.text
    samples = (np.arange(spectrograms.shape[-1]) + recipe.edge_clip) * recipe.decimation
    dataset = Dataset(
        digest=plan.digest,
        spectrograms=spectrograms,
        targets=of_length(spoken_s) if kind == "padded" else of_words(text),
        stimuli=text,
        spans_s=features.spans_s,
    )
    axes = Axes(
        electrodes=features.segments.electrodes,
        rows=[*recipe.row_labels],
        times_s=samples / features.sampling_rate_hz - features.data.context_before_s,
    )
    return World(dataset=dataset, axes=axes, spoken_s=spoken_s)


def of_words(texts: Sequence[str]) -> np.ndarray:
    """Targets `[N, D]` float32 that say which words sentences have: the mean of their latents."""
    words = [[word.strip(_MARKS) for word in text.split()] for text in texts]
    latents = np.array([np.mean([word_latents(each) for each in some], axis=0) for some in words])
    latents -= latents.mean(axis=0)
    return (latents / np.linalg.norm(latents, axis=1, keepdims=True)).astype(np.float32)


def of_length(spoken_s: np.ndarray) -> np.ndarray:
    """Targets `[N, D]` float32 that say how long sentences are: waves over their durations."""
    phases = np.outer(spoken_s, np.arange(1, LENGTH_WAVES + 1) * np.pi / spoken_s.max())
    waves = np.concatenate([np.cos(phases), np.sin(phases)], axis=1)
    return (waves / np.linalg.norm(waves, axis=1, keepdims=True)).astype(np.float32)


def maps_of(found: World, options: Options) -> list[EffectMap]:
    """Maps of ridge regressions over the seeds."""
    pairs = found.dataset.on(torch.device("cpu"))
    spec = SentenceSpec(encoder=LinearSpec(windows=WINDOWS))
    parts = all_parts(("electrodes", "times", "bands"), found.axes, {}, WINDOWS, BANDS)
    groups = [[p for p in parts if (p.kept is None) == hidden] for hidden in (False, True)]
    maps: list[list[SeedMap]] = [[], []]
    sizes: list[Resampling] = []
    for seed in range(options.seeds):
        split = found.dataset.split("random", seed)
        train, test = pairs.select(split.train), pairs.select(split.test)
        encoder, filling = initial_model(spec, train, seed), filling_of(train, "mean")
        _, candidates = test.batch(torch.arange(len(test)))
        n = len(test)
        pairings = Pairings(
            anywhere=pairings_of(n, PERMUTATIONS, seed),
            similar=of_similar_duration(found.spoken_s[split.test]),
        )
        some = np.sort(np.random.default_rng([7, seed]).permutation(n)[: options.queries or n])
        for of_group, group, queries in zip(maps, groups, (np.arange(n), some), strict=True):
            occluder = Occluder(encoder, test.select(queries), filling)
            about: tuple[int, Occluder, Sequence[Part], Tensor, str] = (
                *(seed, occluder, group),
                *(candidates, spec.primary),
            )
            of_group.append(map_of(*about, pairings, queries))
        sizes = [Resampling(n_train=len(train), n_test=q) for q in (n, len(some))]
    return [
        each
        for of_group, size in zip(maps, sizes, strict=True)
        for each in effect_maps(of_group, spec.primary, size)
    ]


def carries(part: Part, axes: Axes) -> bool | None:
    """Whether a part of a told recording carries the words; None where it borders on what does."""
    if part.what.startswith("electrode"):
        return part.name in RESPONDING
    if part.what.startswith("shaft"):
        return part.name == "F1a"
    if part.what == "time window" and part.frames:
        return _overlap(
            window_ends_s(axes, part.frames), (LATENCY_S, LATENCY_S + RESPONSE_S), BORDER_S
        )
    assert part.rows is not None
    low, high = (float(axes.rows[row]) for row in part.rows)
    return _overlap((low, high), (LOWEST_HZ, HIGHEST_HZ), BORDER_HZ)


def _overlap(part: tuple[float, float], truth: tuple[float, float], border: float) -> bool | None:
    """Whether most of a range lies within the truth, or it lies apart from it by a border."""
    shared = min(part[1], truth[1]) - max(part[0], truth[0])
    if shared >= 0.75 * min(part[1] - part[0], truth[1] - truth[0]):
        return True
    return None if shared > -border else False


def report(kind: Kind, seed: int, options: Options) -> dict[str, Mapping[str, float]]:
    """What each map of a recording shows, counted."""
    torch.set_num_threads(1)
    found = world(kind, seed, options)
    counts = {}
    for each in maps_of(found, options):
        truth = [carries(part, found.axes) for part in each.parts]
        is_true, is_false = (np.array([t is wanted for t in truth]) for wanted in (True, False))
        counts[each.what] = {
            "true": int(is_true.sum()),
            "found": int((each.found & is_true).sum()),
            "false": int((each.found & is_false).sum()),
            "any": float(each.found.any()),
            "of durations": float(each.similar is not None and check_similar(each).contradicts),
        }
    return counts


def share(found: Sequence[float]) -> str:
    """So many of so many, with Wilson's interval."""
    n = round(sum(found))
    low, high = stats.binomtest(n, len(found)).proportion_ci(method="wilson")
    return f"{n} of {len(found)} ({100 * low:.0f} to {100 * high:.0f} %)"


def show(kind: Kind, reports: Sequence[Mapping[str, Mapping[str, float]]]) -> None:
    """Print what the maps of recordings of one kind show."""
    for what in reports[0] if reports else ():
        rows = [each[what] for each in reports]
        if kind == "told":
            found, true = (sum(row[name] for row in rows) for name in ("found", "true"))
            false = share([float(row["false"] > 0) for row in rows])
            print(f"told, {what}: {found:.0f} of {true:.0f} true parts; with a false one {false}")
        else:
            labelled = f"; of durations {share([row['of durations'] for row in rows])}"
            shown = share([row["any"] for row in rows])
            print(f"{kind}, {what}: shows anything {shown}{labelled * (kind == 'padded')}")


def main(options: Options) -> None:
    """Map all recordings, and print what their maps show."""
    context, result = multiprocessing.get_context("spawn"), {}
    numbers: dict[Kind, range] = {
        "told": range(options.told),
        "null": range(10_000, 10_000 + options.null),
        "padded": range(20_000, 20_000 + options.padded),
    }
    with ProcessPoolExecutor(options.processes, mp_context=context) as pool:
        for kind, seeds in numbers.items():
            reports = list(pool.map(partial(report, kind, options=options), seeds))
            show(kind, reports)
            result[kind] = (
                len(reports),
                {
                    what: {
                        name: sum(each[what][name] for each in reports) for name in reports[0][what]
                    }
                    for what in (reports[0] if reports else ())
                },
            )
    print(json.dumps(result))


if __name__ == "__main__":
    run_command(Options, main)
