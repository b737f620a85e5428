"""Controls that need no training: what duration, onset, sound and chance reach, and permuted pairs.

Each is evaluated on the test splits of a sweep's seeds, for comparison with its best configuration.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from upath import UPath

from analysis.control.baselines import (
    best_bandwidth,
    best_weight,
    chance_among,
    length_scores,
    mixed_scores,
    of_similar_duration,
    own_recall,
    permuted_metrics,
    quantile_bins,
    smoothed_targets,
    standardised,
)
from analysis.control.scores import PRIMARY, ControlScores, permutation_pvalue
from analysis.measure.evaluation import (
    Retrieval,
    by_metric,
    held_out_scores,
    mean_metrics,
    retrieval_of,
    splits_of,
)
from ssense.data import shards
from ssense.data.dataset import Dataset, Pairs
from ssense.data.recordings.transcript import ACOUSTIC_SUMMARIES, read_transcript
from ssense.data.splits import Split, leakage
from ssense.engine.core.cell import Configuration
from ssense.engine.records.ledger import Ledger
from ssense.engine.search.search import Search
from ssense.files.digest import file_digest
from ssense.files.storage import is_local
from ssense.retrieval import (
    RECALL_AT,
    chance_metrics,
    cosine_scores,
    metrics_of,
    ranks_of,
)
from ssense.specification import configured
from ssense.training.loop import evaluate, initial_model
from ssense.training.process import any_device
from ssense.training.sentences import SentenceSpec

Metrics = Mapping[str, float]

DURATION_BINS = 10
MODEL = "best configuration"
LENGTH = "duration, as text length"
TEXT = "duration, as text embedding"
ONSET = "onset in the movie"
BOTH = "duration and onset together"
ACOUSTIC = "rms, pitch and mel of the words"
UNTRAINED = "untrained encoder"
PERMUTED = "pairs permuted"
BINNED = "pairs permuted among similar durations"
SIMILAR = "best configuration, candidates of similar duration"
SIMILAR_CHANCE = "random retrieval among these"
CHANCE = "random retrieval"
WITHOUT_BRAIN = (LENGTH, TEXT, ONSET, BOTH, ACOUSTIC)
ORDER = (
    *(MODEL, *WITHOUT_BRAIN, BINNED, UNTRAINED, PERMUTED),
    *(CHANCE, SIMILAR, SIMILAR_CHANCE),
)
"""Order of the controls in a table; ACOUSTIC is there where the words' sound is known."""


@dataclass(frozen=True, kw_only=True)
class SentenceTable:
    """What is known of the sentences besides their signals, in the order of the pairs.

    Attributes:
        duration: Duration of the spoken sentence, `[N]` seconds, from its first word's onset to its
            last one's offset; the signal's context does not count.
        onset: Onset of each sentence, `[N]` seconds in the movie.
        length: Length of each sentence, `[N]` characters.
        targets: Targets of the sentences `[N, D]`, which they are retrieved by.
        acoustics: Means and standard deviations of the words' rms, pitch and mel, `[N, F]`, NaN
            where unknown; None where nothing is known of how the words sound.
    """

    duration: Tensor
    onset: Tensor
    length: Tensor
    targets: Tensor
    acoustics: Tensor | None = None

    def of(self, rows: np.ndarray) -> SentenceTable:
        """Restrict to some rows."""
        index = torch.from_numpy(rows)
        known = {name: values for name, values in vars(self).items() if values is not None}
        return SentenceTable(**{name: values[index] for name, values in known.items()})


def read_sentence_table(folder: UPath, dataset: Dataset, recording: UPath) -> SentenceTable:
    """Gather what is known of the sentences of a dataset.

    Args:
        folder: Folder of the dataset's shards.
        dataset: The dataset, whose sentences are described.
        recording: Folder that the shards were made from; it need not be there any more.

    Raises:
        UserError: A shard is missing or damaged.
    """
    table = _rows_of(shards.read_sentences(folder), dataset)
    onset, offset = (torch.tensor(table[name]).double() for name in ("onset_s", "offset_s"))
    summaries = _summaries(folder, table, recording)
    return SentenceTable(
        duration=offset - onset,
        onset=onset,
        length=torch.tensor([float(len(words)) for words in dataset.stimuli]).double(),
        targets=torch.tensor(dataset.targets).double(),
        acoustics=torch.tensor(np.array(summaries, np.float64)).T if summaries else None,
    )


def _rows_of(table: Mapping[str, list[Any]], dataset: Dataset) -> Mapping[str, list[Any]]:
    """The rows of a table that a dataset has."""
    if dataset.paired is None:
        return table
    rows = dataset.paired.rows_in(np.array(table["sentence_idx"])).tolist()
    return {name: [values[row] for row in rows] for name, values in table.items()}


def _summaries(folder: UPath, table: Mapping[str, list[Any]], recording: UPath) -> list[Any]:
    """How the sentences sound, a column per summary; none where it is unknown."""
    if kept := [table[name] for name in ACOUSTIC_SUMMARIES if name in table]:
        return kept
    # Shards that were made before they had such columns: their transcript may still be there.
    transcript = shards.read_manifest(folder).sources.get("transcript")
    root = Path(str(recording)) if is_local(recording) else None
    with contextlib.suppress(OSError):  # an unreadable recording counts as gone
        for path in root.glob("transcripts/*/features.csv") if root else ():
            if file_digest(path) == transcript:
                found = read_transcript(path).acoustics(np.array(table["sentence_idx"]))
                return list(found.values())
    return []


class Scored(NamedTuple):
    """Scores of a part's sentences by its own queries, `[n, n]`, the i-th the i-th query's own.

    Attributes:
        validation: Scores of the validation part, to choose by.
        test: Scores of the test part, to report.
    """

    validation: Tensor
    test: Tensor


class _Parts(NamedTuple):
    train: SentenceTable
    validation: SentenceTable
    test: SentenceTable


def brainless_scores(sentences: SentenceTable, split: Split) -> dict[str, Tensor]:
    """Scores of the controls that see no signal, on one test split.

    Bandwidths and weights are those that are best on the validation split.

    Returns:
        Scores by name of the control, `[n_test, n_test]`, the i-th candidate the i-th query's own.
    """
    parts = _Parts(*map(sentences.of, (split.train, split.validation, split.test)))
    scored = {
        LENGTH: _by_length(parts),
        TEXT: _by_neighbours(parts, [part.duration for part in parts]),
        ONSET: _by_neighbours(parts, [part.onset for part in parts]),
    }
    scored[BOTH] = together([scored[LENGTH], scored[TEXT]], scored[ONSET])
    known = [part.acoustics for part in parts if part.acoustics is not None]
    if known:  # of all parts or of none
        at = [standardised(known[0], each) for each in known]
        scored[ACOUSTIC] = _by_neighbours(parts, at)
    return {name: each.test for name, each in scored.items()}


def together(durations: Sequence[Scored], onset: Scored) -> Scored:
    """Mix what duration and what onset say, as it is best on the validation split.

    Duration has several ways to a sentence; the one is taken that goes best with the onset. A
    weight of 0 or 1 leaves one score alone, so on the validation split nothing is lost by mixing.

    Args:
        durations: Scores by duration, one for each way.
        onset: Scores by onset.
    """

    def mixed(duration: Scored) -> Scored:
        weight = best_weight(duration.validation, onset.validation)
        pairs = zip(duration, onset, strict=True)
        return Scored(*(mixed_scores(*pair, weight) for pair in pairs))

    return max(map(mixed, durations), key=lambda scored: own_recall(scored.validation))


def _by_length(parts: _Parts) -> Scored:
    train = parts.train
    return Scored(
        *(
            length_scores(train.duration, train.length, part.duration, part.length)
            for part in parts[1:]
        )
    )


def _by_neighbours(parts: _Parts, at: Sequence[Tensor]) -> Scored:
    """Score sentences by the targets that training sentences near in some features have.

    Args:
        parts: Features and targets of the split's parts.
        at: The features of each part, `[n]` or `[n, F]`.
    """
    known, *asked = at
    targets = parts.train.targets
    bandwidth = best_bandwidth(known, targets, asked[0], parts.validation.targets)
    return Scored(
        *(
            cosine_scores(smoothed_targets(known, targets, each, bandwidth), part.targets)
            for each, part in zip(asked, parts[1:], strict=True)
        )
    )


def of_scores(
    scores: Tensor, duration: Tensor, permutations: int, seed: int
) -> tuple[dict[str, Metrics], dict[str, float]]:
    """What a trained encoder reaches on one test split, and what is left of it under control.

    Args:
        scores: Scores `[N, N]`, the i-th candidate the i-th query's own.
        duration: Time that each sentence was spoken, `[N]` seconds.
        permutations: Number of permutations of the pairing.
        seed: Seed of the permutations.

    Returns:
        Metrics by control, and p of the model's Recall@10 by kind of permutation.
    """
    own = torch.arange(len(scores))
    generator = torch.Generator().manual_seed(seed)
    similar = of_similar_duration(scores, duration)
    model = metrics_of(ranks_of(scores, own))
    found: dict[str, Metrics] = {
        MODEL: model,
        SIMILAR: metrics_of(ranks_of(similar, own)),
        SIMILAR_CHANCE: chance_among(similar, RECALL_AT),
    }
    pvalues = {}
    bins = {PERMUTED: torch.zeros_like(own), BINNED: quantile_bins(duration, DURATION_BINS)}
    for name, within in bins.items():
        permuted = permuted_metrics(scores, within, permutations, generator)
        found[name] = mean_metrics(permuted)
        pvalues[name] = permutation_pvalue(model[PRIMARY], [each[PRIMARY] for each in permuted])
    return found, pvalues


def untrained(specification: SentenceSpec, train: Pairs, test: Pairs, seed: int) -> Metrics:
    """Metrics of an encoder that starts as the cell did and learns nothing.

    One that would start from a regression starts from random weights here.
    """
    if specification.encoder.fits_at_start:
        specification = specification.untrained()
    return evaluate(specification, initial_model(specification, train, seed), test)


def run_untrained_controls(
    ledger: Ledger,
    search: Search,
    configuration: Configuration,
    dataset: Dataset,
    sentences: SentenceTable,
    permutations: int,
) -> dict[str, ControlScores]:
    """Evaluate every control that needs no training, at every seed.

    Returns:
        What each reaches, by name.

    Raises:
        UserError: An encoder can't be read.
    """
    specification = configured(search.sweep.specification, configuration)
    assert isinstance(specification, SentenceSpec)  # controls are of sentences alone
    pairs = dataset.on(any_device())
    found: list[dict[str, Metrics]] = []
    retrievals: list[dict[str, Retrieval]] = []
    pvalues, splits = [], splits_of(dataset, search.sweep, configuration)
    for record in search.done(configuration):
        split = splits[record.seed]
        scores, _ = held_out_scores(ledger, record, specification, pairs.select(split.test))
        duration = sentences.duration[torch.from_numpy(split.test)]
        of_model, by_permuting = of_scores(scores, duration, permutations, record.seed)
        pvalues.append(by_permuting)
        brainless = brainless_scores(sentences, split)
        retrieved = {
            name: retrieval_of(each, split.test, specification.shares_test)
            for name, each in {MODEL: scores, **brainless}.items()
        }
        retrievals.append(retrieved)
        found.append(
            {
                **of_model,
                **{name: metrics_of(torch.from_numpy(r.ranks)) for name, r in retrieved.items()},
                UNTRAINED: untrained(
                    specification,
                    pairs.select(split.train),
                    pairs.select(split.test),
                    record.seed,
                ),
                CHANCE: chance_metrics(len(split.test)),
            }
        )
    shared = leakage(splits.values(), dataset.spans_s)
    return _by_control(found, retrievals, pvalues, shared)


def _by_control(
    found: Sequence[Mapping[str, Metrics]],
    retrievals: Sequence[Mapping[str, Retrieval]],
    pvalues: Sequence[Mapping[str, float]],
    shared: float,
) -> dict[str, ControlScores]:
    """Turn what was found at each seed into the scores of each control over the seeds.

    Args:
        found: Metrics of each control, by seed.
        retrievals: What each control retrieved, as far as it retrieves, by seed.
        pvalues: The p-value of each kind of permutation, by seed.
        shared: The share of test segments that overlap with training.
    """
    gathered = {}
    for name in (name for name in ORDER if name in found[0]):
        chance = SIMILAR_CHANCE if name in (SIMILAR, SIMILAR_CHANCE) else CHANCE
        permuted = [each[name] for each in pvalues if name in each]
        gathered[name] = ControlScores(
            scores=by_metric([each[name] for each in found]),
            chance=by_metric([each[chance] for each in found]),
            overlapping=shared if name == MODEL else None,
            pvalue=float(np.mean(permuted)) if permuted else None,
            retrievals=[each[name] for each in retrievals if name in each],
        )
    return gathered
