from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from mlflow import MlflowClient

from analysis.control.scores import PRIMARY, ControlScores, control_rows
from analysis.control.trained import TRAINED
from analysis.control.untrained import (
    ACOUSTIC,
    BINNED,
    BOTH,
    CHANCE,
    LENGTH,
    MODEL,
    ONSET,
    ORDER,
    PERMUTED,
    SIMILAR,
    TEXT,
)
from analysis.controls import (
    BRAINLESS,
    NO_SOUND,
    ControlOptions,
    Controls,
    compared,
    compared_rows,
    explanation,
    in_words,
    strongest_control,
    value_rows,
)
from analysis.evaluate import EvaluationOptions
from analysis.measure.evaluation import Evaluation, Retrieval
from ssense.choices import SplitKind
from ssense.data.splits import Split
from ssense.errors import UserError
from ssense.retrieval import METRICS
from ssense.training.sentences import SentenceSpec

BLOCKED = TRAINED["blocked"].title


def scored(value: float, chance: float = 0.1, overlapping: float | None = None) -> ControlScores:
    return ControlScores(
        scores={metric: value + np.array([-0.01, 0.0, 0.01]) for metric in METRICS},
        chance={metric: np.full(3, chance) for metric in METRICS},
        overlapping=overlapping,
    )


N_TEST = 100  # of which chance finds a tenth among the first ten


def retrieval(recall: float) -> Retrieval:
    """Some queries that find their sentence first, and all others last."""
    ranks = np.full(N_TEST, float(N_TEST))
    ranks[: round(recall * N_TEST)] = 1
    return Retrieval(stimuli=np.arange(N_TEST), ranks=ranks, first=np.empty(0))


def evaluated(scores: dict[str, ControlScores], kind: SplitKind = "random") -> Evaluation:
    return Evaluation(
        specification=SentenceSpec(split=kind),
        chosen={},
        splits=dict.fromkeys((0, 1, 2), Split(np.arange(872), np.arange(0), np.arange(N_TEST))),
        retrievals={
            name: [retrieval(recall) for recall in scores[name].scores[PRIMARY]]
            for name in (MODEL, *BRAINLESS)
            if name in scores
        },
    )


def controls(**changes: ControlScores) -> Controls:
    scores = {
        MODEL: scored(0.5, overlapping=0.67),
        LENGTH: scored(0.48),
        TEXT: scored(0.3),
        ONSET: scored(0.1),
        PERMUTED: replace(scored(0.1), pvalue=1 / 1001),
        BINNED: replace(scored(0.2), pvalue=0.125),
        CHANCE: scored(0.1),
        SIMILAR: scored(0.7, chance=0.6),
        BLOCKED: scored(0.3, chance=0.2, overlapping=0.0),
    } | changes
    return Controls(
        family="electrode",
        configuration={"masking.electrode": 0.5},
        seeds=(0, 1, 2),
        evaluation=evaluated(scores),
        scores=scores,
    )


def test_shares_are_said_in_words():
    standing, strongest, first, second, blocked, _, onset, permuted, binned, similar = in_words(
        controls()
    )
    assert re.fullmatch(
        r"The model is 40\.0 points above chance in Recall@10 \(corrected p 0\.0\d\d\)\.", standing
    )
    assert strongest.startswith(
        "The model is not shown to be better than sentence duration alone, through text length, "
        "the strongest control without a brain at 48.0 % (difference 2.0 points, 95 % CI -"
    )
    assert first == (
        "Sentence duration alone, through text length, reaches 96 % of the model's Recall@10, "
        "95 % of what is above chance."
    )
    assert second.endswith("60 % of the model's Recall@10, 50 % of what is above chance.")
    # Its own chance is another: fewer candidates.
    assert "60 % of the model's Recall@10, 25 % of what is above chance." in blocked
    assert blocked.endswith(
        " 0 % of its test segments share samples with a training segment; of the sweep's own, 67 %."
    )
    assert onset == (
        "The place in the movie alone reaches 20 % of the model's Recall@10, nothing of what is "
        "above chance."
    )
    *_, below, _, _, _ = in_words(controls(**{ONSET: scored(0.08)}))
    assert below.endswith("16 % of the model's Recall@10, nothing of what is above chance.")
    assert permuted == (
        "With pairs permuted, the share of permutations that reach the model's Recall@10 is "
        "< 0.001 (mean over the seeds of each one's permutation p)."
    )
    assert binned == (
        "With pairs permuted among similar durations, the share of permutations that reach the "
        "model's Recall@10 is 0.125 (mean over the seeds of each one's permutation p)."
    )
    assert similar == (
        "Among candidates of similar duration the model reaches Recall@10 70.0 % and Recall@1 "
        "70.0 %, where chance is 60.0 % and 60.0 %."
    )


def test_a_verdict_says_whether_a_control_explains_the_score():
    length = "sentence duration alone, through text length"
    assert explanation(controls()) == (
        f"{length}, may explain the score: the model is not shown to be better"
    )
    assert explanation(controls(**{LENGTH: scored(0.5)})) == (
        f"{length}, explains the score without a brain"
    )
    weak = {LENGTH: scored(0.12), TEXT: scored(0.11)}
    assert explanation(controls(**weak)) == (
        f"the model is better than {length}, the strongest control without a brain"
    )
    # Nothing above chance leaves nothing to explain, however much a control reaches.
    assert explanation(controls(**{MODEL: scored(0.1)})) == (
        "it is not shown to be above chance, so that there is nothing to explain"
    )


def test_the_strongest_control_comes_first_and_the_others_in_order():
    noise = TRAINED["noise"].title
    _, verdict, *words = in_words(
        controls(**{BOTH: scored(0.62), ACOUSTIC: scored(0.15), noise: scored(0.55)})
    )
    assert "than the combination of sentence duration and place in the movie, the str" in verdict
    beginnings = [line.partition(" reaches ")[0] for line in words if " reaches " in line]
    assert beginnings[:4] == [
        "The combination of sentence duration and place in the movie",
        "The same training on Gaussian noise of the same lengths",
        "Sentence duration alone, through text length,",
        "Sentence duration alone, through text embeddings,",
    ]
    shares = [float(re.search(r"reaches (\d+) %", line)[1]) for line in words if "s model" in line]
    assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize(("control", "better"), [(0.2, True), (0.49, False), (0.8, False)])
@pytest.mark.parametrize("kind", ["random", "held-out"])
def test_the_model_is_compared_with_the_strongest_control_as_families_are(control, better, kind):
    found = controls(**{LENGTH: scored(control), TEXT: scored(0.1)})
    evaluation, shared = evaluated(found.scores, kind), kind == "held-out"
    if shared:  # by all seeds: their pairs can be permuted
        ranks = {
            name: [replace(each, all_ranks=np.tile(each.ranks, (N_TEST, 1))) for each in of_seeds]
            for name, of_seeds in evaluation.retrievals.items()
        }
        evaluation = replace(evaluation, retrievals=ranks)
    found = replace(found, evaluation=evaluation)
    words = " ".join(in_words(found))
    said = "corrected p " in words, "p over sentences " in words
    assert said == (not shared, shared)
    alone = replace(
        evaluation, retrievals={name: evaluation.retrievals[name] for name in (MODEL, LENGTH)}
    )
    *_, expected = alone.comparisons(PRIMARY)
    *_, test = compared(evaluation, MODEL, LENGTH)
    assert (test.name, test.corrected) == (expected.name, expected.corrected)
    assert test.n_comparisons == 1
    _, verdict, *_ = in_words(found)
    assert ("is better than" in verdict) == better
    assert ("is not shown to be better than" in verdict) == (not better)
    assert f"(difference {100 * (0.5 - control):.1f} points, 95 % CI " in verdict
    assert "worse" not in verdict  # the control was chosen for being high


def test_the_tests_are_written_as_numbers():
    found = controls(**{BOTH: scored(0.6)})
    chance, pair = compared_rows(found)
    assert (chance["comparison"], pair["comparison"]) == (
        f"{MODEL} vs chance",
        f"{MODEL} vs {BOTH}",
    )
    assert chance["mean"] == pytest.approx(0.4)
    assert pair["mean"] == pytest.approx(-0.1)
    assert pair["low"] < -0.1 < pair["high"]


def test_the_strongest_control_is_one_without_a_brain_on_the_sweep_s_own_splits():
    scores = controls(**{BLOCKED: scored(0.9), SIMILAR: scored(0.95)}).scores
    assert strongest_control(scores) == (LENGTH, scores[LENGTH])
    assert TRAINED["noise"].title in BRAINLESS
    noise = {TRAINED["noise"].title: scored(0.97)}
    assert strongest_control({**scores, **noise}) == (*noise, *noise.values())
    assert strongest_control({BLOCKED: scored(0.9), "of a later version": scored(1.0)}) is None


def test_a_control_that_was_left_out_is_said_to_be():
    *_, last = in_words(replace(controls(), left_out=(NO_SOUND,)))
    assert last == (
        "Left out: the control by the sound of the words, because neither the shards nor a "
        "features.csv of the recording have rms, pitch or mel as numbers."
    )


def test_the_report_and_the_controls_test_the_same_difference_from_chance(evaluation):
    # Of unequal test splits, as grouped ones are, the smaller have the higher chance.
    rng, sizes = np.random.default_rng(5), range(250, 50, -20)
    unequal = [
        Retrieval(
            stimuli=np.arange(n), ranks=rng.integers(1, n, n).astype(float), first=np.empty(0)
        )
        for n in sizes
    ]
    report = replace(evaluation, retrievals={"electrode": unequal})
    (above,) = report.comparisons("recall@10")
    model = ControlScores(scores=report.scores["electrode"], chance=report.chance_by_seed)
    alone = {name: each for name, each in controls().scores.items() if name not in BRAINLESS}
    found = Controls(
        family="electrode",
        configuration={},
        seeds=report.seeds,
        evaluation=replace(report, retrievals={MODEL: unequal}),
        scores=alone | {MODEL: model},
    )
    control, *_ = in_words(found)
    assert f"{100 * above.corrected.mean:.1f} points above" in control
    assert f"(corrected p {above.corrected.pvalue:.3f})" in control


@pytest.mark.parametrize(
    ("score", "where"),
    [(0.1, "0.0 points above"), (0.05, "5.0 points below"), (0.101, "0.0 points above")],
)
def test_a_model_that_may_be_at_chance_is_said_to_be(score, where):
    standing, _, first, *_ = in_words(controls(**{MODEL: scored(score)}))
    assert standing.endswith(
        ": it is not shown to be above chance, and shares of its score mean little."
    )
    assert ("above chance" in first) == (score > 0.1)
    assert standing.startswith(f"The model is {where} chance in Recall@10 (")


def test_the_tables_have_the_chance_of_each_control():
    rows = {row["control"]: row for row in control_rows(controls().scores)}
    assert rows[BLOCKED]["chance Recall@10"] == "20.00"
    assert rows[MODEL]["Recall@10"] == "50.00 ± 1.00"
    values = {(row["control"], row["seed"]): row for row in value_rows(controls())}
    assert values[BLOCKED, 1]["recall@10_chance"] == 0.2
    assert values[MODEL, 2]["recall@10"] == pytest.approx(0.51)
    assert {row["configuration"] for row in values.values()} == {"electrode 0.5"}


def test_no_permutations_are_refused():
    with pytest.raises(UserError, match="--permutations must be at least 1, got 0"):
        ControlOptions(permutations=0)


@pytest.mark.parametrize("options", [ControlOptions, EvaluationOptions])
def test_a_cell_without_a_core_or_with_an_odd_share_is_refused(options):
    with pytest.raises(UserError, match="`cpus_per_cell` must be at least 1, got 0"):
        options(cpus_per_cell=0)
    with pytest.raises(UserError, match="`gpus_per_cell` must be 0 or more, got -1"):
        options(gpus_per_cell=-1)


@pytest.mark.slow
def test_the_command_writes_table_figure_and_mlflow(tiny_sweep):
    command = ["-m", "ssense", "controls", "--storage", str(tiny_sweep), "--permutations", "20"]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (folder,) = (tiny_sweep / "sweeps").glob("*/controls")
    evaluation = f"evaluate --storage {tiny_sweep} --sweep {folder.parent.name}"
    assert re.search(rf"^Next: \S+ -m ssense {evaluation}\n\Z", done.stdout, re.MULTILINE)
    assert {path.suffix for path in folder.iterdir()} == {
        *(".md", ".txt", ".csv"),
        *(".png", ".svg", ".pdf"),
    }
    tests = list(csv.DictReader(io.StringIO((folder / "tests.csv").read_text())))
    assert [row["comparison"].partition(" vs ")[0] for row in tests] == [MODEL, MODEL]
    rows = list(csv.DictReader(io.StringIO((folder / "controls.csv").read_text())))
    assert [row["control"] for row in rows[::2]] == list(ORDER)
    assert [row["seed"] for row in rows[:2]] == ["0", "1"]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("  best conf")][:1]
    mean, sd = (float(each) for each in re.findall(r"(\S+) ± (\S+)", line)[0])
    at_one = [100 * float(row["recall@1"]) for row in rows[:2]]
    assert (mean, sd) == pytest.approx((np.mean(at_one), np.std(at_one, ddof=1)), abs=0.005)
    client = MlflowClient(f"sqlite:///{tiny_sweep / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tiny")
    (run,) = client.search_runs([experiment.experiment_id], "tags.`ssense.level` = 'controls'")
    at_ten = np.mean([float(row["recall@10"]) for row in rows[:2]])
    assert run.data.metrics["best configuration/recall_at_10"] == pytest.approx(at_ten)
    assert "controls.md" in {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
