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

from analysis.options import ControlOptions
from ssense.command import check_flags, run_command

if __name__ == "__main__":
    check_flags(ControlOptions)  # before the imports that take seconds

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from upath import UPath

from analysis import report
from analysis.comparison import against_chance
from analysis.control_scores import ControlScores
from analysis.evaluation import (
    PRIMARY,
    best_configurations,
    leading_family,
    mean_sizes,
    require_all,
    splits_of,
    take_up,
)
from analysis.figures import bar_figure, figure_bytes
from analysis.looks import record_look
from analysis.trained_controls import (
    TRAINED,
    plan_control,
    run_trained_control,
)
from analysis.untrained_controls import (
    BINNED,
    LENGTH,
    MODEL,
    ONSET,
    PERMUTED,
    SIMILAR,
    TEXT,
    UNTRAINED,
    read_sentences,
    run_untrained_controls,
)
from ssense.retrieval import metric_title
from ssense.storage import open_storage, write_whole
from sweeps.engine.cell import Configuration, describe, label
from sweeps.engine.ledger import Ledger, find_ledger
from sweeps.engine.power import ALPHA
from sweeps.engine.progress import console, say, step
from sweeps.engine.reproduce import sweep_dataset
from sweeps.engine.search import Search
from sweeps.engine.tracking import Tracker

TITLE = metric_title(PRIMARY)

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
class Controls:
    """Everything that was controlled.

    Attributes:
        family, configuration: what the controls are compared with.
        seeds: at which.
        sizes: what tests over the seeds are to allow for.
        scores: by name of the control.
    """

    family: str
    configuration: Configuration
    seeds: Sequence[int]
    sizes: tuple[int, int]
    scores: Mapping[str, ControlScores]


def in_words(controls: Controls) -> list[str]:
    """Say how much of the score each control reaches, altogether and above its own chance."""
    scores = controls.scores
    lines = [_standing(controls)]
    for name, found in scores.items():
        if name in WORDS:
            overlap = _overlap_in_words(found.overlapping, scores[MODEL].overlapping)
            lines.append(f"{WORDS[name]} reaches {_shares(found, scores[MODEL])}.{overlap}")
    similar = scores[SIMILAR]
    reached, chance = similar.scores[PRIMARY].mean(), similar.chance[PRIMARY].mean()
    return [
        *lines,
        *_permutations_in_words(scores),
        f"Among candidates of similar duration the model reaches {TITLE} {100 * reached:.1f} %, "
        f"where chance is {100 * chance:.1f} %.",
    ]


def _standing(controls: Controls) -> str:
    """Whether there is anything above chance to explain."""
    model = controls.scores[MODEL]
    scores, chance = {MODEL: model.scores[PRIMARY]}, model.chance[PRIMARY]
    (comparison,) = against_chance(scores, chance, *controls.sizes)
    test = comparison.corrected
    words = (
        f"The model is {100 * test.mean:.1f} points above chance in {TITLE} "
        f"(corrected p {report.p_value(test.pvalue)})"
    )
    if test.pvalue < ALPHA and test.mean > 0:
        return f"{words}."
    return f"{words}: it is not shown to be above chance, and shares of its score mean little."


def _shares(found: ControlScores, model: ControlScores) -> str:
    (score, above), (of, of_above) = _mean_and_above(found), _mean_and_above(model)
    share = f"{100 * score / of:.0f} %" if of else "–"
    words = f"{share} of the model's {TITLE}"
    if of_above <= 0:
        return words
    return f"{words}, {100 * above / of_above:.0f} % of what is above chance"


def _permutations_in_words(scores: Mapping[str, ControlScores]) -> list[str]:
    return [
        f"With {name}, {100 * scores[name].reaching:.1f} % of the permutations reach the model's "
        f"{TITLE}."
        for name in (PERMUTED, BINNED)
    ]


def table_rows(scores: Mapping[str, ControlScores]) -> list[dict[str, str]]:
    """Lay the controls out for people, mean and sd over seeds."""
    return [
        {"control": name}
        | report.mean_scores(found.scores)
        | {f"chance {TITLE}": report.score(PRIMARY, found.chance[PRIMARY].mean())}
        for name, found in scores.items()
    ]


def value_rows(controls: Controls) -> list[dict[str, object]]:
    """List every score and its chance, one row per control and seed, as fractions."""
    return [
        {
            "control": name,
            "family": controls.family,
            "configuration": describe(controls.configuration),
            "seed": seed,
            **{metric: values[i] for metric, values in found.scores.items()},
            **{f"{metric}_chance": values[i] for metric, values in found.chance.items()},
        }
        for name, found in controls.scores.items()
        for i, seed in enumerate(controls.seeds)
    ]


def write_controls(ledger: Ledger, controls: Controls, caption: str) -> list[UPath]:
    """Write the controls as Markdown, CSV and figure beside the ledger; return their paths."""
    words, table = in_words(controls), report.markdown_table(table_rows(controls.scores))
    parts = [f"# Controls of {ledger.folder.name}", caption, table, *words]
    bars = {name: found.scores[PRIMARY] for name, found in controls.scores.items()}
    chance = {name: found.chance[PRIMARY] for name, found in controls.scores.items()}
    figure = bar_figure(bars, PRIMARY, chance)
    contents = {
        "controls.md": "\n\n".join(parts) + "\n",
        "controls.txt": "\n".join(words) + "\n",
        "controls.csv": report.csv_table(value_rows(controls)),
        **{f"controls.{kind}": figure_bytes(figure, kind) for kind in ("png", "svg")},
    }
    folder = ledger.folder / "controls"
    for name, content in contents.items():
        write_whole(folder / name, content)
    return [folder / name for name in contents]


def log_controls(ledger: Ledger, controls: Controls, files: Sequence[UPath]) -> None:
    """Write the controls to MLflow, as a run of its own below the sweep's."""
    metrics = {
        f"{name.replace(',', '')}/{metric}": float(values.mean())
        for name, found in controls.scores.items()
        for metric, values in found.scores.items()
    }
    sweep = ledger.sweep()
    tracker = Tracker(ledger.storage, sweep.claim, sweep.name)
    tables = {"controls": value_rows(controls)}
    tracker.report("controls", {"ssense.level": "controls"}, metrics, files, tables)


def run_controls(
    options: ControlOptions, ledger: Ledger, search: Search, best: Mapping[str, Configuration]
) -> tuple[Controls, str]:
    """Run the controls of the family that leads on the validation splits.

    Returns:
        What they reach, and in words what the choice may know of the test splits.

    Raises:
        UserError: a control is not possible, or an encoder can't be read, or a cell fails.
    """
    sweep = search.sweep
    family = leading_family(search, best)
    chosen = {family: best[family]}
    dataset = sweep_dataset(ledger)
    plans = [
        plan_control(TRAINED[name], ledger, dataset, options.recording)
        for name in dict.fromkeys(options.train)
    ]
    folder = ledger.storage / "shards" / ledger.description()["dataset"]["shards"]
    sentences = read_sentences(folder, dataset)
    with step(f"{len(sweep.seeds)} seeds, {options.permutations} permutations each"):
        scores = run_untrained_controls(
            ledger, search, best[family], dataset, sentences, options.permutations
        )
    for plan in plans:
        resources = options.cpus_per_cell, options.gpus_per_cell
        trained, found = run_trained_control(plan, ledger, search, chosen, dataset, *resources)
        scores[plan.control.title] = found
        if (trained.dataset_digest, trained.training) != (sweep.dataset_digest, sweep.training):
            record_look(ledger, sweep.seeds, best, trained)
    controls = Controls(
        family=family,
        configuration=best[family],
        seeds=sweep.seeds,
        sizes=mean_sizes(sweep, splits_of(dataset, sweep)),
        scores=scores,
    )
    return controls, record_look(ledger, sweep.seeds, best)


def main(options: ControlOptions) -> None:
    """Show what the score of a sweep is made of."""
    ledger = find_ledger(open_storage(options.storage, must_exist=True), options.sweep, "sentences")
    say(f"Controls of {ledger.folder.name}")
    search = take_up(ledger)
    if not options.allow_missing:
        require_all(search)
    controls, look = run_controls(options, ledger, search, best_configurations(search))
    caption = f"Best configuration: {label(controls.family, controls.configuration)}; {look}."
    files = write_controls(ledger, controls, caption)
    console.print(report.screen_table(table_rows(controls.scores)))
    for line in (caption, *in_words(controls)):
        say(line)
    with step("MLflow"):
        log_controls(ledger, controls, files)
    say(f"Table and figure: {files[0].parent}")


def _mean_and_above(found: ControlScores) -> tuple[float, float]:
    score, chance = found.scores[PRIMARY].mean(), found.chance[PRIMARY].mean()
    return score, round(score - chance, 12)  # equal but for rounding is equal


def _overlap_in_words(overlapping: float | None, own: float | None) -> str:
    if overlapping is None or own is None or round(100 * overlapping) == round(100 * own):
        return ""
    return (
        f" {100 * overlapping:.0f} % of its test segments share samples with a training segment; "
        f"of the sweep's own, {100 * own:.0f} %."
    )


if __name__ == "__main__":
    run_command(ControlOptions, main)
