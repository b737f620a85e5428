"""Controls that need no training: what duration, onset and chance reach, and what permuting leaves.

Each is evaluated on the test splits of a sweep's seeds, beside its best configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from upath import UPath

from analysis.baselines import (
    best_bandwidth,
    chance_among,
    length_scores,
    of_similar_duration,
    permuted_metrics,
    quantile_bins,
    smoothed_text,
)
from analysis.control_scores import ControlScores, overlapping_share
from analysis.evaluation import (
    PRIMARY,
    by_metric,
    held_out_scores,
    mean_metrics,
    splits_of,
)
from ssense.data import shards
from ssense.data.dataset import Dataset, Pairs
from ssense.data.splits import Split
from ssense.fitting import initial_model
from ssense.retrieval import (
    RECALL_AT,
    chance_metrics,
    cosine_scores,
    metrics_of,
    ranks_of,
    retrieval_metrics,
)
from ssense.training import TrainingSpec, embed
from sweeps.engine.cell import Configuration
from sweeps.engine.ledger import Ledger
from sweeps.engine.process import any_device
from sweeps.engine.search import Search

Metrics = Mapping[str, float]

DURATION_BINS = 10
MODEL = "best configuration"
LENGTH = "duration, as text length"
TEXT = "duration, as text embedding"
ONSET = "onset in the movie"
UNTRAINED = "untrained encoder"
PERMUTED = "pairs permuted"
BINNED = "pairs permuted among similar durations"
SIMILAR = "best configuration, candidates of similar duration"
SIMILAR_CHANCE = "random retrieval among these"
CHANCE = "random retrieval"
ORDER = (MODEL, LENGTH, TEXT, ONSET, BINNED, UNTRAINED, PERMUTED, CHANCE, SIMILAR, SIMILAR_CHANCE)


@dataclass(frozen=True, kw_only=True)
class Sentences:
    """What is known of the sentences beside their signals, in the order of the pairs.

    Attributes:
        duration: `[N]` seconds of signal.
        onset: `[N]` seconds in the movie.
        length: `[N]` characters.
        text: `[N, D]` embeddings.
    """

    duration: Tensor
    onset: Tensor
    length: Tensor
    text: Tensor

    def of(self, rows: np.ndarray) -> Sentences:
        """Restrict to some rows."""
        index = torch.from_numpy(rows)
        return Sentences(**{name: values[index] for name, values in vars(self).items()})


def read_sentences(folder: UPath, dataset: Dataset) -> Sentences:
    """Gather what is known of the sentences of a dataset, and of its shard folder.

    Raises:
        UserError: a shard is missing or damaged.
    """
    return Sentences(
        duration=torch.from_numpy(dataset.spans_s[:, 1] - dataset.spans_s[:, 0]),
        onset=torch.tensor(shards.read_sentences(folder)["onset_s"]).double(),
        length=torch.tensor([float(len(words)) for words in dataset.sentences]).double(),
        text=torch.tensor(dataset.text).double(),
    )


def without_brain(sentences: Sentences, split: Split) -> dict[str, Metrics]:
    """Metrics of the controls that see no signal, on one test split."""
    train, validation, test = (
        sentences.of(rows) for rows in (split.train, split.validation, split.test)
    )
    own = torch.arange(len(split.test))
    by_length = length_scores(train.duration, train.length, test.duration, test.length)
    found = {LENGTH: metrics_of(ranks_of(by_length, own))}
    for name, field in ((TEXT, "duration"), (ONSET, "onset")):
        known, asked, at = (getattr(part, field) for part in (train, validation, test))
        bandwidth = best_bandwidth(known, train.text, asked, validation.text)
        queries = smoothed_text(known, train.text, at, bandwidth)
        found[name] = metrics_of(ranks_of(cosine_scores(queries, test.text), own))
    return found


def of_scores(
    scores: Tensor, duration: Tensor, permutations: int, seed: int
) -> tuple[dict[str, Metrics], dict[str, float]]:
    """What a trained encoder reaches on one test split, and what is left of it under control.

    Args:
        scores: `[N, N]`, the i-th candidate the i-th query's own.
        duration: `[N]` seconds.
        permutations: of the pairing.
        seed: of the permutations.

    Returns:
        Metrics by control, and by kind of permutation the share that reaches the model's Recall@10.
    """
    own = torch.arange(len(scores))
    generator = torch.Generator().manual_seed(seed)
    similar = of_similar_duration(scores, duration)
    model = metrics_of(ranks_of(scores, own))
    found = {
        MODEL: model,
        SIMILAR: metrics_of(ranks_of(similar, own)),
        SIMILAR_CHANCE: chance_among(similar, RECALL_AT),
    }
    reaching = {}
    bins = {PERMUTED: torch.zeros_like(own), BINNED: quantile_bins(duration, DURATION_BINS)}
    for name, within in bins.items():
        permuted = permuted_metrics(scores, within, permutations, generator)
        found[name] = mean_metrics(permuted)
        reaching[name] = float(np.mean([each[PRIMARY] >= model[PRIMARY] for each in permuted]))
    return found, reaching


def untrained(training: TrainingSpec, test: Pairs, seed: int) -> Metrics:
    """Metrics of an encoder that starts as the cell did and learns nothing."""
    brain, text = embed(initial_model(training, test, seed), test)
    return retrieval_metrics(brain, text, torch.arange(len(test), device=text.device))


def run_untrained_controls(
    ledger: Ledger,
    search: Search,
    configuration: Configuration,
    dataset: Dataset,
    sentences: Sentences,
    permutations: int,
) -> dict[str, ControlScores]:
    """Evaluate every control that needs no training, at every seed.

    Returns:
        What each reaches, by name.

    Raises:
        UserError: an encoder can't be read.
    """
    training, pairs = search.sweep.training, dataset.on(any_device())
    found: list[dict[str, Metrics]] = []
    reaching, splits = [], splits_of(dataset, search.sweep)
    for record in search.done(configuration):
        split = splits[record.seed]
        scores = held_out_scores(ledger, record, pairs, split.test, training.precision)
        duration = sentences.duration[torch.from_numpy(split.test)]
        of_model, reached = of_scores(scores, duration, permutations, record.seed)
        reaching.append(reached)
        found.append(
            {
                **of_model,
                **without_brain(sentences, split),
                UNTRAINED: untrained(training, pairs.select(split.test), record.seed),
                CHANCE: chance_metrics(len(split.test)),
            }
        )
    shared = overlapping_share(dataset, splits.values())
    gathered = {}
    for name in ORDER:
        chance = SIMILAR_CHANCE if name in (SIMILAR, SIMILAR_CHANCE) else CHANCE
        gathered[name] = ControlScores(
            scores=by_metric([each[name] for each in found]),
            chance=by_metric([each[chance] for each in found]),
            overlapping=shared if name == MODEL else None,
            reaching=(
                float(np.mean([each[name] for each in reaching])) if name in reaching[0] else None
            ),
        )
    return gathered
