"""What a score is made of: the same retrieval without the brain, by chance, and untrained.

    python analysis/controls.py --storage DIR [--sweep NAME]
    python analysis/controls.py --storage DIR --train noise shifted window blocked grouped

Each control is evaluated on held-out test splits of the sweep's seeds and stands beside the best
configuration of the sweep. Without training: duration or onset alone, an untrained encoder,
permuted pairings, and the score among candidates of similar duration. With training, where asked
for: other signals, windows or splits, see `trained_controls`.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and not __package__:
    # Run as a file, its folder comes first, and analysis/statistics.py hides the standard library's
    sys.path.pop(0)

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from upath import UPath

from analysis import report
from analysis.control_scores import ControlScores
from analysis.evaluation import PRIMARY, best_configurations, require_all, take_up
from analysis.figures import bar_figure, figure_bytes
from analysis.looks import record_look
from analysis.trained_controls import TRAINED, TrainedControlName, run_trained_control
from analysis.untrained_controls import (
    BINNED,
    LENGTH,
    MODEL,
    ONSET,
    SIMILAR,
    TEXT,
    UNTRAINED,
    read_sentences,
    run_untrained_controls,
)
from ssense.command import run_command
from ssense.data.dataset import Dataset
from ssense.retrieval import metric_title
from ssense.storage import open_storage, write_whole
from sweeps.engine.cell import Configuration, label
from sweeps.engine.ledger import Ledger, find_ledger
from sweeps.engine.progress import console, say, step
from sweeps.engine.reproduce import sweep_dataset
from sweeps.engine.search import Search
from sweeps.engine.tracking import Tracker

WORDS = {
    LENGTH: "Sentence duration alone, through text length,",
    TEXT: "Sentence duration alone, through text embeddings,",
    ONSET: "The place in the movie alone",
    BINNED: "The model with pairs permuted among similar durations",
    UNTRAINED: "The untrained encoder",
    **{control.title: control.subject for control in TRAINED.values()},
}
"""What a sentence about a control begins with."""


@dataclass(frozen=True, kw_only=True)
class ControlOptions:
    """Flags; each is also an environment variable, --storage as SSENSE_STORAGE."""

    storage: str = "storage"
    """Where the sweep was kept."""
    sweep: str | None = None
    """Name of the sweep [the one worked on last]."""
    permutations: int = 1000
    """Permutations of the pairing at each seed."""
    train: tuple[TrainedControlName, ...] = ()
    """Controls that need training too, a cell per seed each: noise, shifted, window, blocked,
    grouped."""
    recording: str | None = None
    """Folder of the recording, where it has moved since the sweep."""
    cpus_per_cell: int = 1
    """CPU cores of one cell; as in the sweep, for comparable results."""
    gpus_per_cell: float | None = None
    """GPU share of one cell [1 where there are GPUs]."""


def run_trained_controls(
    options: ControlOptions,
    ledger: Ledger,
    search: Search,
    chosen: Mapping[str, Configuration],
    dataset: Dataset,
) -> dict[str, ControlScores]:
    """Train and evaluate the controls that were asked for; what each reaches, by title."""
    return {
        TRAINED[name].title: run_trained_control(
            TRAINED[name],
            ledger,
            search,
            chosen,
            dataset,
            options.recording,
            options.cpus_per_cell,
            options.gpus_per_cell,
        )
        for name in dict.fromkeys(options.train)
    }


def in_words(scores: Mapping[str, ControlScores]) -> list[str]:
    """Say how much of the score each control reaches, altogether and above its own chance."""
    model, model_above = _mean_and_above(scores[MODEL])
    title = metric_title(PRIMARY)
    lines = []
    for name, found in scores.items():
        if name not in WORDS:
            continue
        score, above_chance = _mean_and_above(found)
        share = f"{100 * score / model:.0f} %" if model else "–"
        above = (
            f", {100 * above_chance / model_above:.0f} % of what is above chance"
            if model_above > 0
            else ""
        )
        overlap = _overlap_in_words(found.overlapping, scores[MODEL].overlapping)
        lines.append(f"{WORDS[name]} reaches {share} of the model's {title}{above}.{overlap}")
    similar = scores[SIMILAR]
    reached, chance = similar.scores[PRIMARY].mean(), similar.chance[PRIMARY]
    return [
        *lines,
        f"Among candidates of similar duration the model reaches {title} {100 * reached:.1f} %, "
        f"where chance is {100 * chance:.1f} %.",
    ]


def table_rows(scores: Mapping[str, ControlScores]) -> list[dict[str, str]]:
    """Lay the controls out for people, mean and sd over seeds."""
    return [
        {"control": name}
        | report.mean_scores(found.scores)
        | {f"chance {metric_title(PRIMARY)}": report.score(PRIMARY, found.chance[PRIMARY])}
        for name, found in scores.items()
    ]


def write_controls(
    ledger: Ledger, words: Sequence[str], scores: Mapping[str, ControlScores], caption: str
) -> list[UPath]:
    """Write the controls as Markdown, CSV and figure beside the ledger; return their paths."""
    table = report.markdown_table(table_rows(scores))
    parts = [f"# Controls of {ledger.folder.name}", caption, table, *words]
    values = [
        {"control": name, "seed": seed, **{m: v[i] for m, v in found.scores.items()}}
        for name, found in scores.items()
        for i, seed in enumerate(ledger.sweep().seeds)
    ]
    figure = bar_figure({name: found.scores[PRIMARY] for name, found in scores.items()}, PRIMARY)
    contents = {
        "controls.md": "\n\n".join(parts) + "\n",
        "controls.txt": "\n".join(words) + "\n",
        "controls.csv": report.csv_table(values),
        **{f"controls.{kind}": figure_bytes(figure, kind) for kind in ("png", "svg")},
    }
    folder = ledger.folder / "controls"
    for name, content in contents.items():
        write_whole(folder / name, content)
    return [folder / name for name in contents]


def log_controls(
    storage: UPath, ledger: Ledger, scores: Mapping[str, ControlScores], files: Sequence[UPath]
) -> None:
    """Write the controls to MLflow, as a run of its own below the sweep's."""
    metrics = {
        f"{name.replace(',', '')}/{metric}": float(values.mean())
        for name, found in scores.items()
        for metric, values in found.scores.items()
    }
    sweep = ledger.sweep()
    tracker = Tracker(storage, sweep.claim, sweep.name)
    tracker.report("controls", {"ssense.level": "controls"}, metrics, files)


def main(options: ControlOptions) -> None:
    """Show what the score of a sweep is made of."""
    storage = open_storage(options.storage, must_exist=True)
    ledger = find_ledger(storage, options.sweep)
    say(f"Controls of {ledger.folder.name}")
    search = take_up(ledger)
    require_all(search)
    best = best_configurations(search)
    family = max(best, key=lambda name: search.score(best[name]))
    chosen = {family: best[family]}
    dataset = sweep_dataset(ledger, storage)
    folder = storage / "shards" / ledger.description()["dataset"]["shards"]
    sentences = read_sentences(folder, dataset.text)
    with step(f"{len(search.sweep.seeds)} seeds, {options.permutations} permutations each"):
        scores = run_untrained_controls(
            ledger, search, chosen[family], dataset, sentences, options.permutations
        )
    scores |= run_trained_controls(options, ledger, search, chosen, dataset)
    look = record_look(ledger, search.sweep.seeds, chosen)
    caption = f"Best configuration: {label(family, chosen[family])}; {look}."
    words = in_words(scores)
    files = write_controls(ledger, words, scores, caption)
    console.print(report.screen_table(table_rows(scores)))
    for line in (caption, *words):
        say(line)
    with step("MLflow"):
        log_controls(storage, ledger, scores, files)
    say(f"Table and figure: {files[0].parent}")


def _mean_and_above(found: ControlScores) -> tuple[float, float]:
    score = found.scores[PRIMARY].mean()
    return score, round(score - found.chance[PRIMARY], 12)  # equal but for rounding is equal


def _overlap_in_words(overlapping: float | None, own: float | None) -> str:
    if overlapping is None or own is None or round(100 * overlapping) == round(100 * own):
        return ""
    return (
        f" {100 * overlapping:.0f} % of its test segments share samples with a training segment; "
        f"of the sweep's own, {100 * own:.0f} %."
    )


if __name__ == "__main__":
    run_command(ControlOptions, main)
