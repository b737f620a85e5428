"""What a score is made of: the same retrieval without the brain, by chance, and untrained.

    python analysis/controls.py --storage DIR [--sweep NAME]

Nothing is trained. Each control is evaluated on the held-out test splits of the sweep's seeds and
stands beside the best configuration of the sweep: duration or onset alone, an untrained encoder,
permuted pairings, and the score among candidates of similar duration.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and not __package__:
    # Run as a file, its folder comes first, and analysis/statistics.py hides the standard library's
    sys.path.pop(0)

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from upath import UPath

from analysis import report
from analysis.baselines import (
    best_bandwidth,
    chance_among,
    length_scores,
    of_similar_duration,
    permuted_metrics,
    quantile_bins,
    smoothed_text,
)
from analysis.evaluation import (
    PRIMARY,
    best_configurations,
    cell_encoder,
    require_all,
    take_up,
)
from analysis.figures import bar_figure, figure_bytes
from analysis.looks import record_look
from ssense.command import run_command
from ssense.data import shards
from ssense.data.dataset import Pairs
from ssense.data.splits import Split, seeded_split
from ssense.model.encoder import SpectrogramEncoder, build_encoder
from ssense.retrieval import (
    METRICS,
    RECALL_AT,
    chance_metrics,
    cosine_scores,
    metric_title,
    metrics_of,
    ranks_of,
)
from ssense.storage import open_storage, write_whole
from ssense.training import embed
from sweeps.engine.cell import Configuration, label
from sweeps.engine.ledger import Ledger, find_ledger
from sweeps.engine.progress import console, say, step
from sweeps.engine.reproduce import sweep_dataset
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


@dataclass(frozen=True, kw_only=True)
class ControlOptions:
    """Flags; each is also an environment variable, --storage as SSENSE_STORAGE."""

    storage: str = "storage"
    """Where the sweep was kept."""
    sweep: str | None = None
    """Name of the sweep [the one worked on last]."""
    permutations: int = 1000
    """Permutations of the pairing, shared by the seeds."""


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


def read_sentences(folder: UPath, text: Tensor) -> Sentences:
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
        text=text.cpu().double(),
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
    brain, text = embed(encoder, test, batch_size=32)
    scores, own = cosine_scores(brain.cpu(), text.cpu()), torch.arange(len(test))
    generator = torch.Generator().manual_seed(seed)
    similar = of_similar_duration(scores, duration)
    everything = torch.zeros_like(own)
    bins = quantile_bins(duration, DURATION_BINS)
    return {
        MODEL: metrics_of(ranks_of(scores, own)),
        PERMUTED: _mean(permuted_metrics(scores, everything, permutations, generator)),
        BINNED: _mean(permuted_metrics(scores, bins, permutations, generator)),
        SIMILAR: metrics_of(ranks_of(similar, own)),
        SIMILAR_CHANCE: chance_among(similar, RECALL_AT),
    }


def untrained(weights: str, conv1: str, test: Pairs, seed: int) -> Metrics:
    """Metrics of an encoder that starts as the cell did and learns nothing."""
    torch.manual_seed(seed)
    encoder = build_encoder(weights, conv1).to(test.text.device)
    brain, text = embed(encoder, test, batch_size=32)
    return metrics_of(ranks_of(cosine_scores(brain.cpu(), text.cpu()), torch.arange(len(test))))


def run_controls(
    ledger: Ledger,
    search: Search,
    configuration: Configuration,
    pairs: Pairs,
    sentences: Sentences,
    permutations: int,
) -> dict[str, dict[str, np.ndarray]]:
    """Evaluate every control at every seed.

    Returns:
        By control and metric, `[seeds]`, as fractions.
    """
    training = search.sweep.training
    found: list[dict[str, Metrics]] = []
    for record in search.done(configuration):
        split = seeded_split(len(pairs), record.seed)
        test = pairs.select(split.test)
        duration = sentences.duration[torch.from_numpy(split.test)]
        encoder = cell_encoder(ledger, record, pairs.text.device)
        found.append(
            {
                **of_encoder(encoder, test, duration, permutations, record.seed),
                **without_brain(sentences, split),
                UNTRAINED: untrained(training.encoder_weights, training.conv1, test, record.seed),
                CHANCE: chance_metrics(len(test)),
            }
        )
    return {
        name: {m: np.array([by_control[name][m] for by_control in found]) for m in METRICS}
        for name in (
            MODEL,
            LENGTH,
            TEXT,
            ONSET,
            BINNED,
            UNTRAINED,
            PERMUTED,
            CHANCE,
            SIMILAR,
            SIMILAR_CHANCE,
        )
    }


def in_words(scores: Mapping[str, Mapping[str, np.ndarray]]) -> list[str]:
    """Say how much of the score each control reaches, above chance and altogether."""
    model, chance = (scores[name][PRIMARY].mean() for name in (MODEL, CHANCE))
    lines = []
    for name, what in (
        (LENGTH, "Sentence duration alone, through text length,"),
        (TEXT, "Sentence duration alone, through text embeddings,"),
        (ONSET, "The place in the movie alone"),
        (BINNED, "The model with pairs permuted among similar durations"),
        (UNTRAINED, "The untrained encoder"),
    ):
        score = scores[name][PRIMARY].mean()
        share = f"{100 * score / model:.0f} %" if model else "–"
        above = (
            f", {100 * (score - chance) / (model - chance):.0f} % of what is above chance"
            if model > chance
            else ""
        )
        lines.append(f"{what} reaches {share} of the model's {metric_title(PRIMARY)}{above}.")
    return lines


def table_rows(scores: Mapping[str, Mapping[str, np.ndarray]]) -> list[dict[str, str]]:
    """Lay the controls out for people, mean and sd over seeds."""
    return [{"control": name} | report.mean_scores(values) for name, values in scores.items()]


def write_controls(
    ledger: Ledger,
    rows: report.Rows,
    words: Sequence[str],
    scores: Mapping[str, Mapping[str, np.ndarray]],
    caption: str,
) -> UPath:
    """Write the controls as Markdown, CSV and figure beside the ledger; return their folder."""
    folder = ledger.folder / "controls"
    parts = [f"# Controls of {ledger.folder.name}", caption, report.markdown_table(rows), *words]
    write_whole(folder / "controls.md", "\n\n".join(parts) + "\n")
    values = [
        {"control": name, "seed": seed, **{m: v[i] for m, v in by_metric.items()}}
        for name, by_metric in scores.items()
        for i, seed in enumerate(ledger.sweep().seeds)
    ]
    write_whole(folder / "controls.csv", report.csv_table(values))
    figure = bar_figure({name: by_metric[PRIMARY] for name, by_metric in scores.items()}, PRIMARY)
    for kind in ("png", "svg"):
        write_whole(folder / f"controls.{kind}", figure_bytes(figure, kind))
    return folder


def main(options: ControlOptions) -> None:
    """Show what the score of a sweep is made of."""
    storage = open_storage(options.storage, must_exist=True)
    ledger = find_ledger(storage, options.sweep)
    say(f"Controls of {ledger.folder.name}")
    search = take_up(ledger)
    require_all(search)
    chosen = best_configurations(search)
    family = max(chosen, key=lambda name: search.score(chosen[name]))
    dataset = sweep_dataset(ledger, storage)
    pairs = dataset.on(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    folder = storage / "shards" / ledger.description()["dataset"]["shards"]
    sentences = read_sentences(folder, pairs.text)
    with step(f"{len(search.sweep.seeds)} seeds, {options.permutations} permutations each"):
        scores = run_controls(
            ledger, search, chosen[family], pairs, sentences, options.permutations
        )
    look = record_look(ledger, search.sweep.seeds, {family: chosen[family]})
    caption = f"Best configuration: {label(family, chosen[family])}; {look}."
    rows, words = table_rows(scores), in_words(scores)
    written = write_controls(ledger, rows, words, scores, caption)
    console.print(report.screen_table(rows))
    for line in (caption, *words):
        say(line)
    say(f"Table and figure: {written}")


def _mean(metrics: Sequence[Metrics]) -> Metrics:
    return {name: float(np.mean([m[name] for m in metrics])) for name in METRICS}


if __name__ == "__main__":
    run_command(ControlOptions, main)
