"""Controls that need training: the best configuration on other signals, windows or splits.

Their cells are trained by the sweep's own engine and kept in its ledger, at its seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from analysis.control_scores import (
    ControlScores,
    by_metric,
    mean_metrics,
    overlapping_share,
)
from analysis.evaluation import held_out_retrieval, on_fastest_device
from analysis.further_cells import single_configurations, train_further
from ssense.data import shards
from ssense.data.brain_treebank import SegmentSpec, open_recording
from ssense.data.dataset import Dataset
from ssense.data.splits import SplitKind
from ssense.data.surrogate import SURROGATES, Surrogate
from ssense.errors import UserError
from ssense.model.text import TextSpec
from ssense.retrieval import chance_metrics, metrics_of
from ssense.signal.superlets import SuperletSpec
from sweeps.engine.cell import Configuration
from sweeps.engine.ledger import Ledger
from sweeps.engine.precompute import load_dataset, make_shards, plan_dataset
from sweeps.engine.progress import count, step
from sweeps.engine.search import Search

TrainedControlName = Literal["noise", "shifted", "window", "blocked", "grouped"]

WINDOW_S = 3.0
"""Seconds of signal from before each sentence on, in Defossez et al. (2023) likewise."""


@dataclass(frozen=True, kw_only=True)
class TrainedControl:
    """How a control differs from the sweep.

    Attributes:
        title: as shown to people.
        subject: of a sentence about what it reaches.
        surrogate: that stands in for the signals.
        window_s: signal of every segment.
        split: in place of the sweep's.
    """

    title: str
    subject: str
    surrogate: Surrogate | None = None
    window_s: float | None = None
    split: SplitKind | None = None


TRAINED: dict[TrainedControlName, TrainedControl] = {
    "noise": TrainedControl(
        title="Gaussian noise of the same lengths",
        subject="The same training on Gaussian noise of the same lengths",
        surrogate="noise",
    ),
    "shifted": TrainedControl(
        title="signals shifted by half the recording",
        subject="The same training on signals from half a recording away",
        surrogate="shifted",
    ),
    "window": TrainedControl(
        title=f"windows of {WINDOW_S:g} s without padding",
        subject=f"The same training on windows of {WINDOW_S:g} s, which show no duration,",
        window_s=WINDOW_S,
    ),
    "blocked": TrainedControl(
        title="blocked splits with a gap",
        subject="The same training with whole stretches of the recording held out",
        split="blocked",
    ),
    "grouped": TrainedControl(
        title="repeated sentences kept together",
        subject="The same training with repeated sentences in one part of the split",
        split="grouped",
    ),
}


def run_trained_control(
    control: TrainedControl,
    ledger: Ledger,
    search: Search,
    chosen: Mapping[str, Configuration],
    dataset: Dataset,
    recording: str | None,
    cpus: int,
    gpus: float | None,
) -> ControlScores:
    """Train what the ledger lacks of a control, and evaluate it on its own test splits.

    Args:
        control: which.
        ledger: of the sweep.
        search: of the sweep, done.
        chosen: the one configuration, by family.
        dataset: of the sweep.
        recording: folder that it was made from, if it is no longer where the ledger says.
        cpus: of one cell.
        gpus: share of a GPU of one cell; None for one where there are GPUs.

    Raises:
        UserError: the recording is missing or another, its sentences are too few for the split, or
            a cell fails.
    """
    if control.surrogate or control.window_s:
        dataset = _other_dataset(control, ledger, recording)
    training = search.sweep.training
    _check_splits(control, dataset, search.sweep.seeds)
    sweep = replace(
        search.sweep,
        dataset_digest=dataset.digest,
        training=replace(training, split=control.split or training.split),
        families=single_configurations(chosen),
        configurations=1,
    )
    trained = train_further(
        f"for {control.title}", sweep, search.records, ledger, dataset, cpus, gpus
    )
    (configuration,) = chosen.values()
    return _evaluate(trained, configuration, ledger, dataset)


def _check_splits(control: TrainedControl, dataset: Dataset, seeds: Sequence[int]) -> None:
    try:
        for seed in seeds if control.split else ():
            dataset.split(control.split, seed)
    except ValueError as error:
        raise UserError(f"{control.title}: {error}. Leave this control out.") from error


def _evaluate(
    search: Search, configuration: Configuration, ledger: Ledger, dataset: Dataset
) -> ControlScores:
    training = search.sweep.training
    pairs = on_fastest_device(dataset)
    metrics, chances, splits = [], [], []
    for record in search.done(configuration):
        split = dataset.split(training.split, record.seed)
        found = held_out_retrieval(ledger, record, pairs, split.test, training.precision)
        splits.append(split)
        metrics.append(metrics_of(torch.from_numpy(found.ranks)))
        chances.append(chance_metrics(len(split.test)))
    return ControlScores(
        scores=by_metric(metrics),
        chance=mean_metrics(chances),
        overlapping=overlapping_share(dataset, splits),
    )


def _other_dataset(control: TrainedControl, ledger: Ledger, recording: str | None) -> Dataset:
    """The dataset of a sweep made again, with other signals or other windows."""
    from sweeps.engine.workers import running_ray

    kept, storage = ledger.description()["dataset"], ledger.storage
    origin = shards.read_manifest(storage / "shards" / kept["shards"]).origin
    root = Path(recording or kept["recording"]).expanduser().resolve()
    if not root.is_dir():
        raise UserError(
            f"the recording of {ledger.folder.name} is not in {root}, and {control.title} need its "
            "signals. Say where it is with --recording."
        )
    found = open_recording(root, origin["subject"], origin["trial"])
    if found.digest != origin["recording"]:
        raise UserError(
            f"{root} is not the recording that {ledger.folder.name} was made from: its files have "
            "changed. Give that one with --recording."
        )
    segments = SegmentSpec(**origin["segments"])
    if control.window_s:
        segments = replace(segments, window_s=control.window_s, pad_to=None)
    surrogate = SURROGATES[control.surrogate].of(found) if control.surrogate else found
    plan = plan_dataset(
        surrogate,
        segments,
        SuperletSpec(**origin["superlets"]),
        TextSpec(**kept["text_spec"]),
        storage,
    )
    if not plan.has_shards():
        with step(f"Spectrograms: {control.title}"), running_ray():
            make_shards(plan, on_shard=count("shards"))
    return load_dataset(plan.shard_folder.name, plan.text_spec, storage)
