"""Windows from the plan to the report, on a recording in which some moments carry the words."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator

import numpy as np
import pytest
from upath import UPath

from analysis import evaluate, generalise, maps
from analysis.measure.evaluation import best_configurations, take_up
from analysis.measure.looks import looks_by_sweep
from analysis.measure.windows import stretches, windows_of
from analysis.options import EvaluationOptions, GeneralisationOptions
from ssense.data.synthetic.spec import SyntheticSpec
from ssense.engine.core.sweep import Family, Sweep
from ssense.engine.records.find import find_ledger
from ssense.engine.records.ledger import Ledger
from ssense.errors import UserError
from ssense.training.sentences import SentenceSpec
from sweeps.windows import WindowOptions, main

SEEDS = (0, 1, 2, 3, 4)
STARTS_S = [-0.3, 0.2, 0.7, 1.2]
SPEAKING, SILENT = [2, 3], [0]

# What a sentence evokes is a single pattern that rises from its onset and falls until 2 s. In the
# power of one band it is the same at all times; in spectrograms neighbouring carriers beat.
RECORDING = SyntheticSpec(
    sentences=400, electrodes=16, equal_durations=True, pauses=0, coupling=6, response_s=2.0
)


def options(storage: UPath, **changes) -> WindowOptions:
    values = {
        "storage": str(storage),
        "synthetic": RECORDING,
        "encoder": "linear",
        "spectrogram": "high-gamma",
        "reference": "none",
        "seeds": SEEDS,
        "max_epochs": 1,
        "precision": "float32",
        "yes": True,
        "window": 0.25,
        "step": 0.5,
        "first": -0.3,
        "last": 1.5,
    }
    return WindowOptions(**(values | changes))


@pytest.fixture(scope="module")
def storage(tmp_path_factory, local_ray) -> Iterator[UPath]:  # noqa: ARG001 - it runs there
    """A storage with a sweep over windows, evaluated, and its encoders tested at each other's."""
    folder = UPath(tmp_path_factory.mktemp("windows"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ssense.data.shards.save_figure", lambda *_: None)
        main(options(folder))
    with pytest.raises(UserError, match=r"has not been evaluated: .* Run .*evaluate\.py --stor"):
        generalise.main(GeneralisationOptions(storage=str(folder)))
    evaluate.main(EvaluationOptions(storage=str(folder)))
    generalise.main(GeneralisationOptions(storage=str(folder)))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def ledger(storage) -> Ledger:
    return find_ledger(storage)


def rows_of(ledger: Ledger, name: str) -> list[dict[str, str]]:
    with (ledger.folder / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_window_meets_every_seed_on_the_same_sentences(ledger):
    records = ledger.records().values()
    assert len(records) == len(STARTS_S) * len(SEEDS)
    assert not ledger.description().decisions  # the race drops none
    by_seed = {seed: {r.split_digest for r in records if r.seed == seed} for seed in SEEDS}
    assert all(len(splits) == 1 for splits in by_seed.values())
    windows = windows_of(ledger.description().sweep)
    assert [*windows.values()] == [(start_s, start_s + 0.25) for start_s in STARTS_S]


def test_the_course_is_above_chance_where_sentences_evoke_something_alone(ledger):
    rows = rows_of(ledger, "evaluation/time_course.csv")
    assert [float(row["start_s"]) for row in rows] == STARTS_S
    shown = [float(row["p_holm"]) < 0.05 for row in rows]
    assert all(shown[at] for at in SPEAKING)
    assert not any(shown[at] for at in SILENT)
    for row in rows:
        assert float(row["low"]) < float(row["mean"]) < float(row["high"])
        assert float(row["p"]) <= float(row["p_fdr"]) <= float(row["p_holm"])
    page = (ledger.folder / "evaluation" / "report.html").read_text()
    assert "When sentences are told apart" in page
    assert 'id="time_course"' in page
    assert "may see up to 0.49 s of signal before and behind it" in page
    text = (ledger.folder / "evaluation" / "table.md").read_text()
    (quote,) = [line for line in text.splitlines() if " windows, from " in line]
    assert quote.startswith("Recall@10 is above chance in ")
    assert " to 1.45 s after the sentence's onset" in quote


def test_what_lasts_generalises_while_it_lasts_and_nowhere_else(ledger):
    rows = rows_of(ledger, "generalisation/tests.csv")
    n = len(STARTS_S)
    shown = np.array([row["shown"] == "True" for row in rows]).reshape(n, n)
    assert [float(row["tested_start_s"]) for row in rows[:n]] == STARTS_S
    above, p = (
        np.array([float(row[name]) for row in rows]).reshape(n, n) for name in ("above_chance", "p")
    )
    assert shown.diagonal()[SPEAKING].all()
    assert above[np.ix_(SPEAKING, SPEAKING)].min() > 0.1
    assert p[np.ix_(SPEAKING, SPEAKING)].max() < 0.05
    assert above[SILENT].max() < 0.05
    assert above[:, SILENT].max() < 0.05
    assert not shown[SILENT].any()
    assert not shown[:, SILENT].any()


def test_trained_and_tested_at_the_same_window_is_what_the_evaluation_has(ledger):
    evaluated = rows_of(ledger, "evaluation/scores.csv")
    rows = rows_of(ledger, "generalisation/generalisation.csv")
    diagonal = [row for row in rows if row["trained_start_s"] == row["tested_start_s"]]
    for metric in ("recall@10", "mrr"):
        ours = {(float(r["trained_start_s"]), r["seed"]): float(r[metric]) for r in diagonal}
        theirs = {
            (float(r["family"].split(" ")[0]), r["seed"]): float(r[metric]) for r in evaluated
        }
        assert ours == theirs
    tests = {r["start_s"]: r["p_holm"] for r in rows_of(ledger, "evaluation/time_course.csv")}
    for row in rows_of(ledger, "generalisation/tests.csv"):
        if row["trained_start_s"] == row["tested_start_s"]:
            assert row["p_holm"] == tests[row["trained_start_s"]]


def test_a_generalisation_is_a_look_and_can_be_made_again(storage, ledger):
    looked = looks_by_sweep(storage)[ledger.folder.name]
    folder = ledger.folder / "generalisation"
    before = (folder / "generalisation.csv").read_bytes()
    generalise.main(GeneralisationOptions(storage=str(storage)))
    assert looks_by_sweep(storage)[ledger.folder.name] == looked + 1
    assert (folder / "generalisation.csv").read_bytes() == before
    assert (ledger.folder / "reports" / "generalisation.zip").exists()
    page = (folder / "generalisation.html").read_text()
    assert 'id="generalisation"' in page
    assert {path.name for path in folder.iterdir()} == {
        *("generalisation.html", "generalisation.md", "generalisation.csv", "tests.csv"),
        *(f"generalisation.{kind}" for kind in ("png", "svg", "pdf")),
    }


def test_maps_of_a_window_have_its_times(storage, ledger):
    search = take_up(ledger)
    family = "0.7 to 0.95 s"
    chosen = {family: best_configurations(search)[family]}
    axes = maps.Inputs(maps.MapOptions(storage=str(storage)), ledger, chosen).axes
    frame_s = 50 / 512
    np.testing.assert_allclose(axes.times_s, 0.7 + frame_s * np.arange(3), atol=1 / 512)


def test_a_plan_says_how_far_windows_see(storage, capsys):
    main(options(storage, dry_run=True, spectrogram="small"))
    said = capsys.readouterr().out
    assert "a frame sees beyond its window by up to 8 Hz 0.16 s, 120 Hz 0.02 s; signals" in said
    assert "log: 16 electrodes" in said
    # Sentences of 2 s are 0.05 s apart at least, and windows with their ends 0.65 s long.
    assert "MB in memory; 0% of the test segments share samples with training" in said
    main(options(storage, dry_run=True))
    said = capsys.readouterr().out
    assert "a frame sees beyond its window by up to high-gamma 0.07 s; signals" in said
    assert "signals are cut 0.49 s before and behind the window" in said


def test_another_sweep_has_no_windows_to_test(unseen_sweep):
    with pytest.raises(UserError, match="no families that differ in where their window begins"):
        generalise.windows_to_test(take_up(find_ledger(unseen_sweep)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"window": 0.0}, "--window must be above 0 s, got 0"),
        ({"step": -1.0}, "--step must be above 0 s, got -1"),
        ({"first": 0.0, "last": 0.7}, "--first 0 --last 0.7 hold fewer than 2 windows of 0.25 s"),
        ({"step": 0.001}, "or more than 100"),
        ({"last": float("nan")}, "--last nan hold"),
    ],
)
def test_windows_are_checked_before_anything_is_read(tmp_path, given, message):
    with pytest.raises(UserError, match=message):
        options(tmp_path, **given)


def test_windows_are_where_flags_say(tmp_path):
    assert options(tmp_path).starts_s == STARTS_S
    published = WindowOptions(storage=str(tmp_path))
    assert published.starts_s == [-0.5, -0.25, 0, 0.25, 0.5, 0.75, 1.0, 1.25]
    assert options(tmp_path, first=0.1, last=0.6, step=0.1).starts_s == [0.1, 0.2, 0.3]


def test_windows_that_meet_are_one_stretch():
    windows = [(0.0, 0.5), (0.4, 0.75), (1.0, 1.5), (1.5, 1.75)]
    assert stretches(windows, [True] * 4) == [(0, 0.75), (1, 1.75)]


def test_a_window_that_is_not_shown_parts_those_beside_it():
    windows = [(0.0, 0.5), (0.25, 0.75), (0.5, 1.0)]
    assert stretches(windows, [True, False, True]) == [(0, 0.5), (0.5, 1)]
    assert stretches(windows, [False] * 3) == []


def test_families_that_search_another_choice_of_the_data_are_no_windows():
    levels = {"data.window_start_s": (0.0,), "data.window_s": (0.25, 0.5)}
    later = levels | {"data.window_start_s": (0.5,)}
    sweep = Sweep(
        question="windows",
        dataset_digest="d",
        specification=SentenceSpec(),
        families=(Family(name="a", levels=levels), Family(name="b", levels=later)),
        configurations=2,
        seeds=(0, 1),
    )
    assert windows_of(sweep) == {}
