from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from upath import UPath

from analysis import controls, evaluate, maps
from analysis.mapping.effects import Resampling, effect_maps
from analysis.mapping.occlusion import Occluder, filling_of
from analysis.mapping.parts import electrode_parts
from analysis.mapping.seed_map import Pairings, map_of, pairings_of
from analysis.measure.looks import looks_by_sweep
from analysis.options import ControlOptions, EvaluationOptions, MapOptions
from analysis.report import map_section
from analysis.report.page import Words
from ssense.data.dataset import Dataset
from ssense.data.splits import seeded_split
from ssense.data.synthetic.spec import SyntheticSpec
from ssense.engine.core.budget import Budget
from ssense.engine.records.find import find_ledger
from ssense.engine.records.ledger import Ledger
from ssense.engine.run import run_sweep
from ssense.engine.tasks.recording_options import RecordingOptions
from ssense.errors import UserError
from ssense.model.encoders.linear import LinearSpec
from ssense.training.loop import initial_model
from ssense.training.sentences import SentenceSpec

SPEAKING = ["F1a2", "F1a5"]
BAND = "37.9 to 60.3 Hz", "67.7 to 90.1 Hz", "97.6 to 120 Hz"
PERMUTATIONS = 200


@pytest.fixture(scope="module")
def storage(tmp_path_factory, local_ray):  # noqa: ARG001 - it runs there
    """A storage with an evaluated sweep: two of six contacts carry the words, from 40 to 100 Hz.

    All sentences last as long, so that no padding tells them apart.
    """
    folder = tmp_path_factory.mktemp("maps")
    options = RecordingOptions(
        storage=str(folder),
        seeds=(0, 1, 2, 3, 4),
        max_epochs=1,
        yes=True,
        encoder="linear",
        reference="none",
        precision="float32",
        synthetic=SyntheticSpec(
            sentences=600,
            electrodes=6,
            sampling_rate=256,
            equal_durations=True,
            pauses=0,
            responding=",".join(SPEAKING),
            coupling=3.0,
            common_uv=5.0,
            lowest_hz=40.0,
            highest_hz=100.0,
        ),
    )
    data = options.plan_data()
    sweep = options.sweep("maps", data, {"linear": {}})
    assert run_sweep(sweep, data, options, Budget()) == "full"
    with pytest.raises(UserError, match=r"has not been evaluated: .* Run .*evaluate\.py --stor"):
        maps.main(MapOptions(storage=str(folder)))
    assert not (find_ledger(UPath(folder), None).folder / "maps").exists()
    evaluate.main(EvaluationOptions(storage=str(folder)))
    yield UPath(folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def mapped(storage) -> Ledger:
    """The ledger of the sweep, whose maps are made."""
    regions = storage / "regions.csv"
    regions.write_text(
        "Electrode,Region,Subject\nF1*a1,STG,sub_9\nF1a2,STG,sub_9\nF1a3,insula,sub_9\n"
        "F1a5,insula,sub_1\nF1a4,,sub_9\n"
    )
    options = MapOptions(
        storage=str(storage),
        families=("linear",),
        maps=("electrodes", "times", "bands", "times-bands"),
        windows=3,
        bands=4,
        permutations=PERMUTATIONS,
        regions=str(regions),
    )
    looked = looks_by_sweep(storage)
    maps.main(options)
    ledger = find_ledger(storage, None)
    assert looks_by_sweep(storage)[ledger.folder.name] == looked[ledger.folder.name] + 1
    return ledger


def rows_of(ledger: Ledger, name: str) -> list[dict[str, str]]:
    with (Path(str(ledger.folder)) / "maps" / name).open(newline="") as file:
        return list(csv.DictReader(file))


def shown(ledger: Ledger, what: str) -> list[str]:
    rows = rows_of(ledger, "tests.csv")
    return [
        row["name"]
        for row in rows
        if (row["what"], row["metric"], row["shown"]) == (what, "recall@10", "True")
    ]


@pytest.mark.slow
def test_maps_find_the_contacts_that_carry_the_words_and_no_others(mapped):
    assert shown(mapped, "electrode left out") == SPEAKING
    assert shown(mapped, "electrode alone") == SPEAKING
    assert shown(mapped, "shaft left out") == shown(mapped, "shaft alone") == ["F1a"]
    assert shown(mapped, "region left out") == shown(mapped, "region alone") == ["STG"]
    labels = {row["label"] for row in rows_of(mapped, "tests.csv")}
    assert not any(label.startswith("contradicted") for label in labels)


def test_maps_find_the_band_of_the_words_and_no_other(mapped):
    found = shown(mapped, "frequency band")
    assert found
    assert set(found) <= set(BAND)
    effects = {
        row["name"]: float(row["mean"])
        for row in rows_of(mapped, "tests.csv")
        if (row["what"], row["metric"]) == ("frequency band", "recall@10")
    }
    assert len(effects) == 4
    outside = next(name for name in effects if name not in BAND)
    assert effects[outside] == min(effects.values())


def test_scores_of_maps_are_those_of_the_evaluation(mapped):
    evaluated = {}
    with (Path(str(mapped.folder)) / "evaluation" / "scores.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["family"] == "linear":
                evaluated[row["seed"]] = float(row["recall@10"])
    assert len(evaluated) == 5
    rows = [r for r in rows_of(mapped, "maps.csv") if r["encoder"] == "trained"]
    hidden = [r for r in rows if (r["what"], r["metric"]) == ("time window", "recall@10")]
    assert len(hidden) == 5 * 3
    for row in hidden:
        found = float(row["effect"]) + float(row["score"])
        assert found == pytest.approx(evaluated[row["seed"]], abs=1e-9)


def test_the_table_has_every_seed_part_metric_and_check(mapped):
    rows = rows_of(mapped, "maps.csv")
    keys = {(r["encoder"], r["seed"], r["what"], r["name"], r["metric"]) for r in rows}
    parts = 2 * (6 + 2 + 2) + 3 + 4 + 12
    # Two metrics, and one of the untrained encoders, at the first three seeds.
    assert len(keys) == len(rows) == parts * (5 * 2 + 3)
    untrained = [r for r in rows if r["encoder"] == "untrained" and r["what"].endswith("alone")]
    assert abs(np.mean([float(r["effect"]) for r in untrained])) < 0.05  # at chance


def test_files_and_mlflow_have_the_maps(mapped, storage):
    files = {path.name for path in (mapped.folder / "maps").iterdir()}
    pictures = {
        *("electrode_left_out", "electrode_alone", "shaft_left_out", "shaft_alone"),
        *("region_left_out", "region_alone", "time_window", "frequency_band", "time_x_frequency"),
    }
    assert files == {
        *("maps.html", "maps.md", "maps.csv", "tests.csv", "section.json"),
        *(f"{name}.{kind}" for name in pictures for kind in ("png", "svg", "pdf")),
    }
    page = (mapped.folder / "maps" / "maps.html").read_text()
    for name in pictures:
        assert f'<figure id="{name}" class="marked">' in page
    assert "Electrode alone: 2 of 6 parts are shown to carry the score when alone" in page
    assert "Without a region: F1a4, F1a5, F1b1." in page
    client = MlflowClient(f"sqlite:///{storage / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("maps")
    (run,) = client.search_runs([experiment.experiment_id], "tags.`ssense.level` = 'maps'")
    assert run.data.metrics["linear/electrode alone/shown"] == 2
    artifacts = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    assert {"maps.html", "report.html", "electrode_alone.png", "electrode_alone.svg"} <= artifacts


def section_of(page: str) -> str:
    """The section on maps of a report, which is well-formed and has every id once."""
    root = ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>"))
    ids = [each.get("id") for each in root.iter() if each.get("id")]
    assert len(ids) == len(set(ids))
    (section,) = [each for each in root.iter("section") if each.get("id") == "section-maps"]
    return ElementTree.tostring(section, encoding="unicode")


def test_the_report_has_the_maps_whichever_of_the_two_is_made_last(mapped, storage):
    path = mapped.folder / "evaluation" / "report.html"
    assert 'href="#section-maps"' in path.read_text()
    by_maps = section_of(path.read_text())
    assert "Electrode alone: 2 of 6 parts are shown to carry the score when alone" in by_maps
    assert 'id="time_x_frequency"' in by_maps
    assert "../maps/maps.html" in by_maps
    evaluate.main(EvaluationOptions(storage=str(storage)))
    assert section_of(path.read_text()) == by_maps


def test_maps_of_an_earlier_evaluation_are_not_lost_and_say_what_they_are(mapped):
    made = section_of((mapped.folder / "evaluation" / "report.html").read_text())
    assert "Of an earlier evaluation" not in made
    here = map_section.subjects_of({"linear": {}}, (0, 1, 2, 3, 4))
    now = map_section.maps_section(mapped, [*here, "another family's"])
    assert not any(isinstance(block, Words) for block in now.blocks)
    for other in (
        map_section.subjects_of({"linear": {}}, (0, 1, 2, 3, 4, 5)),  # further seeds
        map_section.subjects_of({"linear": {"masking.electrode": 0.5}}, (0, 1, 2, 3, 4)),
    ):
        said, kept = map_section.maps_section(mapped, other).blocks
        assert said.paragraphs[0].startswith("Of an earlier evaluation: these maps, made at 20")
        assert "maps.py --storage" in said.paragraphs[0]
        assert kept == now.blocks[0]


def test_a_report_of_an_earlier_version_has_no_place_for_maps_and_stays(mapped):
    path = mapped.folder / "evaluation" / "report.html"
    report = path.read_text()
    path.write_text(report.replace("<!-- slot maps:", "<!-- "))
    earlier = path.read_text()
    assert map_section.put_into_report(mapped) is None
    assert path.read_text() == earlier
    path.write_text(report)
    assert map_section.put_into_report(mapped) == path
    assert path.read_text() == report


def test_a_damaged_section_is_refused_in_a_line(mapped):
    path = mapped.folder / "maps" / "section.json"
    kept = path.read_text()
    path.write_text(kept.replace("electrode", "electrodo"))
    with pytest.raises(
        UserError, match=r"section\.json is not the section that was kept .* Delete"
    ):
        map_section.read_maps(mapped)
    path.write_text(kept)


@pytest.mark.slow
def test_the_command_says_what_it_costs_and_draws_by_shaft_without_coordinates(mapped, storage):
    command = ["analysis/maps.py", "--storage", str(storage), "--maps", "electrodes"]
    command += ["--families", "linear", "--permutations", "20", "--space", "mni152"]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    before, _, after = done.stdout.partition("16 parts")  # electrodes and shafts
    assert "linear, electrodes: about " in before.replace("\n", " ")
    assert "No electrode's coordinates are known: all are drawn by shaft." in after
    # What these maps have not is not left from the earlier ones.
    assert not (mapped.folder / "maps" / "time_window.png").exists()


@pytest.mark.slow
def test_the_noise_control_checks_the_maps_once_it_was_trained(mapped, storage):
    assert (
        "The check by Gaussian noise was left out, as no such control of linear was"
        in (mapped.folder / "maps" / "maps.md").read_text()
    )
    controls.main(ControlOptions(storage=str(storage), train=("noise",), permutations=10))
    options = MapOptions(storage=str(storage), maps=("times",), windows=3, permutations=20)
    maps.main(options)
    noise = [row for row in rows_of(mapped, "maps.csv") if row["encoder"] == "noise"]
    assert {row["seed"] for row in noise} == {"0", "1", "2"}
    assert len(noise) == 3 * 3
    # Of equal lengths, noise says nothing, and its map is no one's.
    assert abs(np.mean([float(row["effect"]) for row in noise])) < 0.03
    text = (mapped.folder / "maps" / "maps.md").read_text()
    assert "| Gaussian noise | time window |" in text
    assert "was left out" not in text
    assert "contradicted" not in text


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (
            "electrode,region\nLA1,STG\n",
            "names none of the 6 electrodes of the sweep, F1a1 to F1b1",
        ),
        ("electrode,where\nF1a1,STG\n", "has no column region or area or roi; its columns are"),
        ("name,area\nF1a1,STG\nF1*a1,insula\n", "has two regions of F1a1: STG and insula"),
        ("name,area\nF1a1,n/a\n", "has no region of any contact of sub_9"),
    ],
)
def test_odd_tables_of_regions_are_refused_in_a_line(table, said, storage, tmp_path):
    path = tmp_path / "regions.csv"
    path.write_text(table)
    looked = looks_by_sweep(storage)
    with pytest.raises(UserError) as refused:
        maps.main(MapOptions(storage=str(storage), regions=str(path)))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert looks_by_sweep(storage) == looked


def test_a_table_of_regions_that_is_not_there_is_refused(storage):
    with pytest.raises(UserError, match=r"--regions nowhere\.csv is no file"):
        maps.main(MapOptions(storage=str(storage), regions="nowhere.csv"))


def test_a_family_that_is_not_there_is_refused(storage):
    with pytest.raises(UserError, match=r"--families deep: maps-.* has no such family, but linear"):
        maps.main(MapOptions(storage=str(storage), families=("deep",)))


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("windows", 0, "--windows must be at least 1, got 0"),
        ("permutations", 0, "--permutations must be at least 19, got 0"),
        ("maps", (), "--maps is empty"),
        ("check_seeds", 1, "--check-seeds must be at least 2, got 1"),
        ("sentences", 1, "--sentences must be at least 2, or 0 for all, got 1"),
        ("atlas_labels", "names.csv", "--atlas-labels is of --atlas, which is missing"),
    ],
)
def test_impossible_flags_are_refused(flag, value, said):
    with pytest.raises(UserError, match=said):
        MapOptions(**{flag: value})


def test_regions_come_from_one_of_two_sources():
    with pytest.raises(UserError, match="--atlas and --regions are both given"):
        MapOptions(atlas="dosenbach", regions="regions.csv")


# ---------------------------------------------------------------- null recordings


def null_map(number: int, seeds: int = 3):
    """Maps of noise, by ridge regressions and random weights: four electrodes that say nothing."""
    n, electrodes, names = 150, 4, ("A1", "A2", "B1", "B2")
    rng = np.random.default_rng(number)
    targets = rng.standard_normal((n, 12)).astype(np.float32)
    pairs = Dataset(
        digest="0",
        spectrograms=rng.standard_normal((n, electrodes, 3, 4)).astype(np.float16),
        targets=targets,
        stimuli=tuple(map(str, range(n))),
        spans_s=np.arange(2.0 * n).reshape(n, 2),
    ).on(torch.device("cpu"))
    start = "ridge" if number % 2 else "random"
    spec, found = SentenceSpec(encoder=LinearSpec(windows=2, start=start)), []
    for seed in range(seeds):
        split = seeded_split(n, seed)
        train, test = pairs.select(split.train), pairs.select(split.test)
        occluder = Occluder(initial_model(spec, train, seed), test, filling_of(train, "mean"))
        _, candidates = test.batch(torch.arange(len(test)))
        pairings = Pairings(anywhere=pairings_of(len(test), 100, seed))
        parts = electrode_parts(names, {})
        found.append(map_of(seed, occluder, parts, candidates, "recall@10", pairings))
    sizes = Resampling(n_train=len(split.train), n_test=len(split.test))
    return effect_maps(found, "recall@10", sizes)


def test_null_recordings_give_empty_maps_at_nominal_error():
    found = [[bool(each.found.any()) for each in null_map(number)] for number in range(40)]
    wrong = np.array(found).sum(axis=0)
    assert (wrong <= 5).all()  # of 40 at 5 %: 2, and 5 at most by the binomial distribution


def test_the_threshold_of_electrodes_alone_keeps_its_level():
    reached = 0
    for number in range(40):
        (alone,) = [e for e in null_map(number) if e.what == "electrode alone"]
        reached += bool((alone.p_max <= 0.05).any())
    assert reached <= 6


def test_a_single_electrode_alone_is_the_whole(storage):
    options = MapOptions(storage=str(storage), maps=("electrodes",), permutations=19)
    ledger = find_ledger(storage, None)
    inputs = maps.Inputs(options, ledger, {"linear": {}})
    inputs.axes = replace(inputs.axes, electrodes=("F1a1",))
    assert "F1a1 is the only electrode: it alone is the whole." in inputs._notes()
    (part,) = electrode_parts(inputs.axes.electrodes, {})
    assert (part.what, part.kept) == ("electrode alone", (0,))
