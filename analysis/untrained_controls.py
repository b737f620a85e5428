"""Controls that need no training: what duration, onset and chance reach, and what permuting leaves.

Each is evaluated on the test splits of a sweep's seeds, beside its best configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

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
from analysis.control_scores import (
    ControlScores,
    by_metric,
    mean_metrics,
    overlapping_share,
)
from analysis.evaluation import cell_encoder, on_fastest_device
from ssense.data import shards
from ssense.data.dataset import Dataset, Pairs
from ssense.data.splits import Split
from ssense.model.encoder import SpectrogramEncoder, build_encoder
from ssense.retrieval import (
    RECALL_AT,
    chance_metrics,
    cosine_scores,
    metrics_of,
    ranks_of,
)
from ssense.training import TrainingSpec, embed
from sweeps.engine.cell import Configuration
from sweeps.engine.ledger import Ledger
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


def read_sentences(folder: UPath, text: np.ndarray) -> Sentences:
    """Read the sentence table of a shard folder.

    Raises:
        UserError: a shard is missing or damaged.
    """
    table = shards.read_sentences(folder)
    samples = torch.tensor(table["stop"]) - torch.tensor(table["start"])
    rate_hz = shards.read_manifest(folder).sampling_rate_hz
    return Sentences(
        duration=samples.double() / rate_hz,
        onset=torch.tensor(table["onset_s"]).double(),
        length=torch.tensor([float(len(words)) for words in table["text"]]).double(),
        text=torch.tensor(text).double(),
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


def of_encoder(
    encoder: SpectrogramEncoder, test: Pairs, duration: Tensor, permutations: int, seed: int
) -> dict[str, Metrics]:
    """Metrics of a trained encoder on one test split, and of what is left of it under control."""
    brain, text = embed(encoder, test)
    scores, own = cosine_scores(brain.cpu(), text.cpu()), torch.arange(len(test))
    generator = torch.Generator().manual_seed(seed)
    similar = of_similar_duration(scores, duration)
    everything = torch.zeros_like(own)
    bins = quantile_bins(duration, DURATION_BINS)
    return {
        MODEL: metrics_of(ranks_of(scores, own)),
        PERMUTED: mean_metrics(permuted_metrics(scores, everything, permutations, generator)),
        BINNED: mean_metrics(permuted_metrics(scores, bins, permutations, generator)),
        SIMILAR: metrics_of(ranks_of(similar, own)),
        SIMILAR_CHANCE: chance_among(similar, RECALL_AT),
    }


def untrained(training: TrainingSpec, test: Pairs, seed: int) -> Metrics:
    """Metrics of an encoder that starts as the cell did and learns nothing."""
    torch.manual_seed(seed)
    encoder = build_encoder(training.encoder_weights, training.conv1, training.precision)
    brain, text = embed(encoder.to(test.text.device), test)
    return metrics_of(ranks_of(cosine_scores(brain.cpu(), text.cpu()), torch.arange(len(test))))


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
    """
    training, pairs = search.sweep.training, on_fastest_device(dataset)
    found: list[dict[str, Metrics]] = []
    splits = []
    for record in search.done(configuration):
        split = dataset.split(training.split, record.seed)
        splits.append(split)
        test = pairs.select(split.test)
        duration = sentences.duration[torch.from_numpy(split.test)]
        encoder = cell_encoder(ledger, record, training.precision).to(pairs.text.device)
        found.append(
            {
                **of_encoder(encoder, test, duration, permutations, record.seed),
                **without_brain(sentences, split),
                UNTRAINED: untrained(training, test, record.seed),
                CHANCE: chance_metrics(len(test)),
            }
        )
    scores = {}
    for name in ORDER:
        chance = SIMILAR_CHANCE if name in (SIMILAR, SIMILAR_CHANCE) else CHANCE
        scores[name] = ControlScores(
            scores=by_metric([each[name] for each in found]),
            chance=mean_metrics([each[chance] for each in found]),
        )
    shared = overlapping_share(dataset, splits)
    return scores | {MODEL: replace(scores[MODEL], overlapping=shared)}
