"""What a score is made of: the same retrieval without the brain, by chance, and untrained.

    python analysis/controls.py --storage DIR [--sweep NAME]
    python analysis/controls.py --storage DIR --train noise shifted window blocked grouped

Each control is evaluated on held-out test splits of the sweep's seeds and stands beside the best
configuration of the sweep. Without training: duration and onset, alone and together, and the sound
of the words, all without a brain; an untrained encoder; permuted pairings; and the score among
candidates of similar duration. With training, where asked for: other signals, windows or splits,
see `analysis.control.trained`; those of an earlier run are taken along.
"""

from __future__ import annotations

from analysis.options import ControlOptions, TrainedControlName
from ssense.cli.command import check_flags, next_line, run_command

if __name__ == "__main__":
    check_flags(ControlOptions)  # before the imports that take seconds

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from upath import UPath

from analysis.control.scores import PRIMARY, ControlScores, control_rows
from analysis.control.trained import (
    TRAINED,
    ControlPlan,
    is_trained,
    plan_control,
    run_trained_control,
)
from analysis.control.untrained import (
    ACOUSTIC,
    BINNED,
    BOTH,
    LENGTH,
    MODEL,
    ONSET,
    PERMUTED,
    SIMILAR,
    TEXT,
    UNTRAINED,
    WITHOUT_BRAIN,
    read_sentence_table,
    run_untrained_controls,
)
from analysis.measure import formats
from analysis.measure.chosen_encoders import chosen_encoders
from analysis.measure.comparison import NOT_TESTABLE, Comparison, comparison_values, interval
from analysis.measure.evaluation import (
    Evaluation,
    best_configurations,
    evaluation_of,
    leading_family,
    require_all,
    splits_of,
    take_up,
)
from analysis.measure.inference import TTest
from analysis.measure.looks import record_look, withdrawn_unless_shown
from analysis.report.figures import FIGURE_KINDS, bar_figure, figure_bytes
from analysis.report.findings import capital
from analysis.report.origin import read_controls
from ssense.cli.screen import console, say, step
from ssense.data.dataset import Dataset
from ssense.engine.core.cell import Configuration, describe, label
from ssense.engine.core.origin import RecordingOrigin
from ssense.engine.core.power import ALPHA
from ssense.engine.core.sweep import Sweep
from ssense.engine.records.find import find_ledger
from ssense.engine.records.ledger import Ledger
from ssense.engine.search.search import Search
from ssense.engine.sweep_data import sweep_dataset
from ssense.engine.tasks.engine_options import EngineOptions
from ssense.engine.view.tracking import Tracker
from ssense.errors import UserError, counted
from ssense.files.markdown import markdown_table
from ssense.files.storage import locate, open_storage, write_together
from ssense.files.tables import csv_table
from ssense.retrieval import metric_title
from ssense.specification import configured

TITLE = metric_title(PRIMARY)

WORDS = {
    LENGTH: "Sentence duration alone, through text length,",
    TEXT: "Sentence duration alone, through text embeddings,",
    ONSET: "The place in the movie alone",
    BOTH: "The combination of sentence duration and place in the movie",
    ACOUSTIC: "The sound of the words alone, through rms, pitch and mel,",
    BINNED: "The model with pairs permuted among similar durations",
    UNTRAINED: "The untrained encoder",
    **{control.title: control.subject for control in TRAINED.values()},
}
"""What a sentence about a control begins with."""
BRAINLESS = (*WITHOUT_BRAIN, TRAINED["noise"].title)
"""Controls that nothing of the brain goes into, evaluated on the sweep's own test splits."""
NO_SOUND = (
    "Left out: the control by the sound of the words, because neither the shards nor a "
    "features.csv of the recording have rms, pitch or mel as numbers."
)


@dataclass(frozen=True, kw_only=True)
class Controls:
    """Everything that was controlled.

    Attributes:
        family, configuration: What the controls are compared with.
        seeds: Seeds of the evaluation.
        evaluation: What the configuration, as MODEL, and the controls without a brain retrieve.
        scores: Scores by name of the control.
        left_out: Controls that were not possible and why, a sentence each.
        lost: Those of them that an earlier run had, by name.
        other_tests: Sweeps of trained controls whose test splits are not those of the sweep.
    """

    family: str
    configuration: Configuration
    seeds: Sequence[int]
    evaluation: Evaluation
    scores: Mapping[str, ControlScores]
    left_out: Sequence[str] = ()
    lost: Sequence[str] = ()
    other_tests: Sequence[Sweep] = ()


def strongest_control(scores: Mapping[str, ControlScores]) -> tuple[str, ControlScores] | None:
    """The control without a brain that reaches the highest mean Recall@10.

    The strongest control is chosen by the very scores that it is then compared by, which flatters
    it. So a claim that the model is better than the control is conservative; a claim that the
    control is better would not be, and none is made.

    Args:
        scores: Scores by name of the control, others among them.

    Returns:
        Its name and what it reaches; None where no such control was run.
    """
    found = [(name, scores[name]) for name in BRAINLESS if name in scores]
    return max(found, key=lambda each: each[1].scores[PRIMARY].mean(), default=None)


def compared(evaluation: Evaluation, *names: str) -> list[Comparison]:
    """Test Recall@10 as a test evaluation does: each with chance, and then in pairs.

    Args:
        evaluation: Evaluation of the model and of controls on the same test splits.
        names: MODEL and controls, that alone are compared.
    """
    retrievals = {name: evaluation.retrievals[name] for name in names}
    return replace(evaluation, retrievals=retrievals).comparisons(PRIMARY)


def in_words(controls: Controls) -> list[str]:
    """Say what the controls reach: the strongest without a brain first, then all from the highest.

    Shares are of the model's score, in total and above the control's own chance.
    """
    scores = controls.scores
    lines = [_standing(controls), *_strongest_in_words(controls)]
    of_words = [name for name in scores if name in WORDS]
    for name in sorted(of_words, key=lambda name: -scores[name].scores[PRIMARY].mean()):
        found = scores[name]
        overlap = _overlap_in_words(found.overlapping, scores[MODEL].overlapping)
        lines.append(f"{WORDS[name]} reaches {_shares(found, scores[MODEL])}.{overlap}")
    return [
        *lines,
        *_permutations_in_words(scores),
        _similar_in_words(scores[SIMILAR]),
        *controls.left_out,
    ]


def _strongest_in_words(controls: Controls) -> list[str]:
    """Whether the model is better than the strongest control without a brain."""
    strongest = strongest_control(controls.scores)
    if strongest is None:
        return []
    name, found = strongest
    *_, comparison = compared(controls.evaluation, MODEL, name)
    test = comparison.corrected
    better = test.pvalue < ALPHA and test.mean > 0
    standing = "is better than" if better else "is not shown to be better than"
    control = _in_a_sentence(name).rstrip(",")
    return [
        f"The model {standing} {control}, the strongest control without a brain at "
        f"{_points(found.scores[PRIMARY].mean())} % (difference {_points(test.mean)} points, "
        f"95 % CI {interval(test, _points)}, {_evidence(controls, test)})."
    ]


def _similar_in_words(similar: ControlScores) -> str:
    """Candidates of similar duration may be so few that ten are nearly all: Recall@1 tells more."""
    metrics = (PRIMARY, "recall@1")
    reached = (f"{metric_title(m)} {_points(similar.scores[m].mean())} %" for m in metrics)
    chance = (f"{_points(similar.chance[m].mean())} %" for m in metrics)
    return (
        f"Among candidates of similar duration the model reaches {' and '.join(reached)}, where "
        f"chance is {' and '.join(chance)}."
    )


def explanation(controls: Controls) -> str:
    """Say as a clause of a verdict whether a control without a brain explains the score.

    The strongest explains it where it reaches as much, and may where the model is not shown to be
    better. What is not shown to be above chance leaves nothing to explain. A control without a
    brain that an earlier run had and this one lacks is named: it may have been the strongest.
    """
    lost = [name for name in controls.lost if name in BRAINLESS]
    clause = _explanation(controls)
    return f"{clause}, {' and '.join(lost)} left out" if clause and lost else clause


def _explanation(controls: Controls) -> str:
    strongest = strongest_control(controls.scores)
    if strongest is None:
        return ""
    if not _is_above_chance(controls):
        return "it is not shown to be above chance, so that there is nothing to explain"
    name, _ = strongest
    *_, comparison = compared(controls.evaluation, MODEL, name)
    test, control = comparison.corrected, _in_a_sentence(name)
    if test.mean <= 0:
        return f"{control} explains the score without a brain"
    if test.pvalue >= ALPHA:
        return f"{control} may explain the score: the model is not shown to be better"
    return f"the model is better than {control.rstrip(',')}, the strongest control without a brain"


def _in_a_sentence(name: str) -> str:
    """The words about a control, with the comma that closes some of them, before a verb."""
    return WORDS[name][0].lower() + WORDS[name][1:]


def _standing(controls: Controls) -> str:
    """Whether there is anything above chance to explain."""
    (comparison,) = compared(controls.evaluation, MODEL)
    test = comparison.corrected
    where = "below" if test.mean < 0 else "above"
    words = f"The model is {_points(abs(test.mean))} points {where} chance in {TITLE} "
    words += f"({_evidence(controls, test)})"
    if _is_above_chance(controls):
        return f"{words}."
    return f"{words}: it is not shown to be above chance, and shares of its score mean little."


def _is_above_chance(controls: Controls) -> bool:
    (comparison,) = compared(controls.evaluation, MODEL)
    return comparison.corrected.pvalue < ALPHA and comparison.corrected.mean > 0


def _evidence(controls: Controls, test: TTest) -> str:
    p_of = controls.evaluation.p_of
    return f"{p_of} {formats.p_value(test.pvalue)}" if test.testable else NOT_TESTABLE


def _points(share: float) -> str:
    return f"{100 * share:.1f}"


def _shares(found: ControlScores, model: ControlScores) -> str:
    (score, above), (of, of_above) = _mean_and_above(found), _mean_and_above(model)
    share = f"{100 * score / of:.0f} %" if of else "–"
    words = f"{share} of the model's {TITLE}"
    if of_above <= 0:
        return words
    share = f"{100 * above / of_above:.0f} %" if above > 0 else "nothing"
    return f"{words}, {share} of what is above chance"


def _permutations_in_words(scores: Mapping[str, ControlScores]) -> list[str]:
    return [
        f"With {name}, the share of permutations that reach the model's {TITLE} is "
        f"{formats.p_value(pvalue)} (mean over the seeds of each one's permutation p)."
        for name in (PERMUTED, BINNED)
        if (pvalue := scores[name].pvalue) is not None
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


def compared_rows(controls: Controls) -> list[dict[str, object]]:
    """List the tests as numbers: the model with chance, and with the strongest control."""
    tests = compared(controls.evaluation, MODEL)
    if strongest := strongest_control(controls.scores):
        tests.append(compared(controls.evaluation, MODEL, strongest[0])[-1])
    return comparison_values(tests, PRIMARY)


def write_controls(
    ledger: Ledger,
    controls: Controls,
    caption: str,
    before_any: Callable[[], object] = lambda: None,
) -> list[UPath]:
    """Write the controls as Markdown, CSV and figure beside the ledger; return their paths.

    Args:
        ledger: The sweep's ledger.
        controls: All that was controlled.
        caption: What the controls are compared with, and what its choice may know of the test.
        before_any: Called right before the first file can be seen.
    """
    words, table = in_words(controls), markdown_table(control_rows(controls.scores))
    parts = [f"# Controls of {ledger.folder.name}", caption, *words, table]
    parts.append(f"As for tests, {controls.evaluation.legend}")
    bars = {name: found.scores[PRIMARY] for name, found in controls.scores.items()}
    chance = {name: found.chance[PRIMARY] for name, found in controls.scores.items()}
    figure = bar_figure(bars, PRIMARY, chance)
    contents: dict[str, str | bytes] = {
        "controls.md": "\n\n".join(parts) + "\n",
        "controls.txt": "\n".join(words) + "\n",
        "verdict.txt": explanation(controls) + "\n",
        "controls.csv": csv_table(value_rows(controls)),
        "tests.csv": csv_table(compared_rows(controls)),
        **{f"controls.{kind}": figure_bytes(figure, kind) for kind in FIGURE_KINDS},
    }
    folder = ledger.folder / "controls"
    write_together(folder, contents, before_any)
    return [folder / name for name in contents]


def log_controls(ledger: Ledger, controls: Controls, files: Sequence[UPath]) -> None:
    """Write the controls to MLflow, as a run of its own below the sweep's."""
    metrics = {
        f"{name}/{metric}": float(values.mean())
        for name, found in controls.scores.items()
        for metric, values in found.scores.items()
    }
    sweep = ledger.description().sweep
    tracker = Tracker(ledger.storage, sweep.question, sweep.name)
    tables = {"controls": value_rows(controls)}
    tracker.report("controls", {"ssense.level": "controls"}, metrics, files, tables)


def run_controls(
    options: ControlOptions, ledger: Ledger, search: Search, best: Mapping[str, Configuration]
) -> Controls:
    """Run the controls of the family that leads on the validation splits.

    Raises:
        UserError: A control is not possible, or an encoder can't be read, or a cell fails.
    """
    sweep = search.sweep
    family = leading_family(search, best)
    chosen = {family: best[family]}
    dataset, kept = sweep_dataset(ledger, best[family]), ledger.description().origin
    assert isinstance(dataset, Dataset)  # of sentences, as `main` asks for
    assert isinstance(kept, RecordingOrigin)
    plans = [
        plan_control(TRAINED[name], ledger, dataset, options.recording)
        for name in dict.fromkeys(options.train)
    ]
    earlier, lost = trained_before(options, ledger, search, chosen, dataset)
    if earlier:
        say(f"Taken along from an earlier run: {', '.join(e.control.title for e in earlier)}")
    plans += earlier
    recording = locate(options.recording or kept.recording)
    folder = ledger.storage / "shards" / kept.dataset(dataset.digest).shards
    sentences = read_sentence_table(folder, dataset, recording)
    resources = options.cpus_per_cell, options.gpus_per_cell
    n_seeds, n_each = len(sweep.seeds), options.permutations
    title = f"{counted(n_seeds, 'seed')}, {counted(n_each, 'permutation')} each"
    with chosen_encoders(search, chosen, ledger, lambda _: dataset, *resources), step(title):
        scores = run_untrained_controls(
            ledger, search, best[family], dataset, sentences, options.permutations
        )
    other_tests = []
    for plan in plans:
        trained, found = run_trained_control(plan, ledger, search, chosen, dataset, *resources)
        scores[plan.control.title] = found
        if (trained.dataset_digest, trained.specification) != (
            dataset.digest,
            sweep.specification,
        ):
            other_tests.append(trained)
    retrievals = {name: scores[name].retrievals for name in (MODEL, *BRAINLESS) if name in scores}
    own = replace(sweep, specification=configured(sweep.specification, best[family]))
    return Controls(
        family=family,
        configuration=best[family],
        seeds=sweep.seeds,
        evaluation=evaluation_of(own, chosen, splits_of(dataset, own), retrievals),
        scores=scores,
        left_out=[
            *([] if ACOUSTIC in scores else [NO_SOUND]),
            *(f"Left out, though an earlier run had it: {name}. {lost[name]}" for name in lost),
        ],
        lost=list(lost),
        other_tests=other_tests,
    )


def trained_before(
    options: ControlOptions,
    ledger: Ledger,
    search: Search,
    chosen: Mapping[str, Configuration],
    dataset: Dataset,
) -> tuple[list[ControlPlan], dict[str, str]]:
    """The trained controls of the table that this run replaces, besides those asked for.

    Without them a verdict would lose a control, the strongest maybe, and nobody would be told.

    Returns:
        Plans of those that need no training, and why others are lost, by name.

    Raises:
        UserError: The storage can't be read.
    """
    plans: list[ControlPlan] = []
    lost: dict[str, str] = {}
    for name in _in_the_last_table(ledger, chosen):
        if name in options.train:
            continue
        title, advice = TRAINED[name].title, f"Train it again with --train {name}."
        try:
            plan = plan_control(TRAINED[name], ledger, dataset, options.recording)
            if is_trained(plan, search, chosen, dataset):
                plans.append(plan)
            else:
                lost[title] = f"The ledger no longer has its data and cells. {advice}"
        except UserError as error:
            lost[title] = capital(str(error))
    return plans, lost


def _in_the_last_table(
    ledger: Ledger, chosen: Mapping[str, Configuration]
) -> list[TrainedControlName]:
    """Trained controls that were run last, if for this configuration at these seeds."""
    try:
        kept = read_controls(ledger)
    except UserError as error:  # damaged, and replaced by this run
        say(str(error))
        return []
    seeds = ledger.description().sweep.seeds
    ((family, configuration),) = chosen.items()
    if kept is None or not kept.belong_to(family, describe(configuration), seeds):
        return []
    return [name for name, control in TRAINED.items() if control.title in kept.scores]


def main(options: ControlOptions) -> None:
    """Show what the score of a sweep is made of."""
    ledger = find_ledger(open_storage(options.storage, must_exist=True), options.sweep, "sentences")
    say(f"Controls of {ledger.folder.name}")
    search = take_up(ledger)
    if not options.allow_missing:
        require_all(search)
    best = best_configurations(search)
    controls = run_controls(options, ledger, search, best)
    own = label(controls.family, controls.configuration)
    # Looks are recorded when all is trained: a run that is refused shows nothing.
    with withdrawn_unless_shown() as looks:
        for sweep in (search.sweep, *controls.other_tests):
            looks.append(record_look(ledger, sweep.seeds, best, sweep))
        caption = f"Best configuration: {own}; {looks[0].standing(search.sweep.seeds)}."
        files = write_controls(ledger, controls, caption, before_any=looks.clear)
    for line in (caption, *in_words(controls)):
        say(line)
    console.print(formats.screen_table(control_rows(controls.scores)))
    with step("MLflow"):
        log_controls(ledger, controls, files)
    say(f"Table and figure: {files[0].parent}")
    # A report that was written before has none of them.
    say(next_line("analysis/evaluate.py", storage=ledger.storage, sweep=ledger.folder.name))


def _mean_and_above(found: ControlScores) -> tuple[float, float]:
    score, chance = found.scores[PRIMARY].mean(), found.chance[PRIMARY].mean()
    return score, round(score - chance, 12)  # equal within rounding counts as equal


def _overlap_in_words(overlapping: float | None, own: float | None) -> str:
    if overlapping is None or own is None or round(100 * overlapping) == round(100 * own):
        return ""
    return (
        f" {100 * overlapping:.0f} % of its test segments share samples with a training segment; "
        f"of the sweep's own, {100 * own:.0f} %."
    )


if __name__ == "__main__":
    run_command(ControlOptions, main, other=EngineOptions)
