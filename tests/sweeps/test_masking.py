from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from analysis import controls
from analysis.measure.inference import corrected_resampled_ttest
from ssense.cli.flags import parse
from ssense.data.splits import seeded_split
from ssense.data.synthetic.recording import SyntheticSpec
from ssense.engine.records.find import find_ledger
from ssense.engine.records.ledger import Ledger
from ssense.engine.search.race import Race
from ssense.engine.search.search import Search
from ssense.engine.tasks.feature_making import make_shards
from ssense.engine.tasks.recording_options import SYNTHETIC, RecordingOptions
from ssense.engine.view.cell_table import cells_csv
from ssense.engine.work.probe import probe_seconds
from ssense.errors import UserError
from ssense.files.storage import open_storage
from ssense.model.encoders.spectrogram_encoder import trained_encoder
from ssense.retrieval import chance_metrics
from ssense.training.loop import evaluate, fit
from sweeps.masking import MaskingOptions, distinct_ratios, main, masking_sweep

REPOSITORY = Path(__file__).parents[2]
SMALL = SyntheticSpec(sentences=60, electrodes=5)


def options(storage: Path, **changes) -> MaskingOptions:
    values = {"configurations": 1, "seeds": (0, 1), "max_epochs": 2, "ratios": (0.25, 0.5)}
    return MaskingOptions(storage=str(storage), yes=True, synthetic=SMALL, **(values | changes))


def ledger_of(storage: Path) -> Ledger:
    return find_ledger(open_storage(str(storage)))


def test_ratios_that_mask_the_same_number_count_once_and_none_is_left_out():
    assert distinct_ratios((0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75), 4) == (0.3, 0.5, 0.75)
    assert distinct_ratios((0.5, 0.1, 0.1), 40) == (0.1, 0.5)
    with pytest.raises(UserError, match=r"--ratios 0\.1: all are too small to mask one of 3"):
        distinct_ratios((0.1,), 3)


def test_a_single_band_is_masked_in_time_alone(tmp_path):
    given = options(tmp_path, spectrogram="high-gamma")
    families = {each.name: each.levels for each in masking_sweep(given.plan_data(), given).families}
    assert families["frequency-time"].keys() == {"masking.time"}
    both = {"masking.electrode", "masking.time"}
    assert families["electrode + frequency-time"].keys() == both


def test_a_single_electrode_is_refused_with_a_way_out(tmp_path, monkeypatch):
    given = options(tmp_path)
    data = given.plan_data()
    shape = data.shape
    monkeypatch.setattr(type(data), "shape", property(lambda _: (shape[0], 1, *shape[2:])))
    with pytest.raises(UserError, match=r"a single electrode is left.* --electrodes all") as error:
        masking_sweep(data, given)
    assert "--ratios" not in str(error.value)


@pytest.mark.parametrize("ratio", [-0.1, 1.0, 1.5])
def test_a_ratio_outside_the_unit_interval_is_refused(ratio):
    with pytest.raises(UserError, match=rf"--ratios: {ratio} is outside \[0, 1\)"):
        MaskingOptions(ratios=(0.1, ratio))


def test_the_frequency_of_the_mains_reaches_the_shards(tmp_path):
    given = ["--storage", str(tmp_path), "--synthetic.sentences", "60"]
    plans = [
        parse(MaskingOptions, [*given, *more], {}, "masking.py").options.plan_data()
        for more in ([], ["--line-hz", "50"])
    ]
    assert [plan.own.features.data.line_hz for plan in plans] == [60, 50]
    assert plans[0].own.features.folder != plans[1].own.features.folder


@pytest.mark.usefixtures("local_ray")
def test_the_main_job_from_recording_to_ledger_and_again(tmp_path, capsys):
    main(options(tmp_path, budget_cells=3))
    shown = capsys.readouterr().out
    assert "using a synthetic one" in shown
    assert "8 to train" in shown
    assert "cells are missing (" in shown
    assert "Run the same command again to continue." in shown
    ledger = ledger_of(tmp_path)
    assert len(ledger.records()) == 3

    main(options(tmp_path))
    first = capsys.readouterr().out
    assert "3 done, 5 to train" in first
    assert "analysis/evaluate.py" in first
    records = ledger.records()
    assert len(records) == 8
    assert all(record.done for record in records.values())
    names = [family.name for family in ledger.description().sweep.families]
    assert names == ["no masking", "electrode", "frequency-time", "electrode + frequency-time"]
    paired = [
        {r.seed for r in records.values() if r.configuration == row.configuration}
        for row in ledger.description().rows
    ]
    assert paired == 4 * [{0, 1}]

    (table,) = tmp_path.glob("sweeps/*/cells.csv")
    description = ledger.description()
    assert table.read_bytes() == cells_csv(
        Search(description.sweep, Race(), description.rows, records)
    )

    controls.main(controls.ControlOptions(storage=str(tmp_path), permutations=20))
    shown = capsys.readouterr().out
    assert "Sentence duration alone, through text length, reaches" in shown
    assert "The combination of sentence duration and place in the movie reaches" in shown
    assert "The sound of the words alone, through rms, pitch and mel, reaches" in shown
    assert "the strongest control without a brain at" in shown
    assert "Left out" not in shown
    assert "random retrieval among these" in shown
    (folder,) = tmp_path.glob("sweeps/*/controls")
    assert {path.name for path in folder.iterdir()} == {"tests.csv", "verdict.txt"} | {
        f"controls.{kind}" for kind in ("md", "txt", "csv", "png", "svg", "pdf")
    }

    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("sweeps/*/cells/**/*.*")}
    main(options(tmp_path))
    second = capsys.readouterr().out
    assert "Nothing to train: every cell is in the ledger." in second
    assert before == {path: path.stat().st_mtime_ns for path in before}

    main(options(tmp_path, seeds=(0, 1, 5)))
    third = capsys.readouterr().out
    assert "8 done, 4 to train" in third
    assert "time: at most" in third
    assert {r.seed for r in ledger.records().values()} == {0, 1, 5}

    (shards,) = tmp_path.glob("shards/*")
    shutil.rmtree(shards)
    main(options(tmp_path))
    assert "Nothing to train" in capsys.readouterr().out
    assert (shards / "manifest.json").exists()


def test_a_dry_run_shows_the_plan_and_trains_nothing(tmp_path, capsys):
    main(options(tmp_path, dry_run=True))
    shown = capsys.readouterr().out
    assert "4 configurations x 2 seeds" in shown
    assert "0 done, 8 to train" in shown
    assert not list(tmp_path.glob("sweeps/*"))
    assert not list(tmp_path.glob("shards/*"))


def test_flags_also_come_from_the_environment_and_modules_run_like_files(tmp_path):
    variables = {
        "SSENSE_STORAGE": str(tmp_path / "with blank"),
        "SSENSE_SEEDS": "0 1 2",
        "SSENSE_DRY_RUN": "1",
        "SSENSE_SYNTHETIC_SENTENCES": "60",
    }
    shown = [
        subprocess.run(
            [sys.executable, *how],
            cwd=REPOSITORY,
            env=os.environ | variables,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for how in (["sweeps/masking.py"], ["-m", "sweeps.masking"])
    ]
    assert "10 configurations x 3 seeds" in shown[0]
    timed = ("  time:", "  a cell:", "done in")  # all but these is the same
    first, second = (
        [line for line in text.splitlines() if not any(part in line for part in timed)]
        for text in shown
    )
    start = first.index("Timing a few training steps ...")
    assert first[start:] == second[second.index("Timing a few training steps ...") :]
    assert len(first[start:]) > 3


def held_out_recall(storage: Path, synthetic: SyntheticSpec) -> tuple[list[float], int, int]:
    """Test Recall@10 of the default job without masks, by seed; sizes of training and test."""
    chosen = MaskingOptions(storage=str(storage), synthetic=synthetic)
    data = chosen.plan_data()
    spec = masking_sweep(data, chosen).specification
    make_shards(data.own.features, data.own.report, on_shard=lambda *_: None)
    dataset = data.load(data.digest)
    pairs = dataset.on(torch.device("cpu"))
    recalls = []
    for seed in SYNTHETIC.seeds:
        split = seeded_split(len(pairs), seed)
        trained = fit(pairs.select(split.train), pairs.select(split.validation), spec, seed)
        encoder = trained_encoder(trained.weights, spec.training.precision)
        recalls.append(evaluate(spec, encoder, pairs.select(split.test))["recall@10"])
    return recalls, len(split.train), len(split.test)


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize(
    ("synthetic", "above_chance"),
    [
        (SyntheticSpec(), True),
        (SyntheticSpec(coupling=0, equal_durations=True), False),
    ],
    ids=["default", "null"],
)
def test_only_what_is_in_the_signal_is_retrieved(tmp_path, synthetic, above_chance):
    recalls, n_train, n_test = held_out_recall(tmp_path, synthetic)
    chance = chance_metrics(n_test)["recall@10"]
    test = corrected_resampled_ttest([r - chance for r in recalls], n_train, n_test)
    print(f"test Recall@10 {recalls}, chance {chance:.3f}, p = {test.pvalue:.4f}")
    assert (test.pvalue < 0.05 and test.mean > 0) == above_chance


def test_one_electrode_and_a_batch_size_that_leaves_one_pair_over_are_trained(tmp_path):
    chosen = RecordingOptions(
        storage=str(tmp_path),
        synthetic=SyntheticSpec(sentences=80, electrodes=3, sampling_rate=256),
        max_epochs=1,
    )
    plan = chosen.plan_data()
    split = plan.split("random", 0)
    assert plan.shape[1] == 1
    spec = dataclasses.replace(chosen, batch_size=len(split.train) - 1).specification()
    cpu = torch.device("cpu")
    train, validation = (plan.examples(len(part), cpu) for part in (split.train, split.validation))
    assert fit(train, validation, spec, seed=0).best_epoch == 1
    odd = dataclasses.replace(
        chosen, batch_size=3
    ).specification()  # a probe's 4 examples leave one
    sizes = len(split.train), len(split.validation)
    assert probe_seconds(odd, sizes, plan.examples, threads=1, gpus=0) > 0


def test_a_batch_without_negatives_is_refused(tmp_path):
    with pytest.raises(UserError, match="batch_size must be at least 2, got 1: negatives"):
        RecordingOptions(storage=str(tmp_path), batch_size=1).specification()
    assert not list(tmp_path.iterdir())


def test_a_tag_that_open_clip_lacks_is_refused_before_data_are_made(tmp_path):
    with pytest.raises(UserError, match=r"--text-weights abc: open_clip has no such weights for"):
        MaskingOptions(storage=str(tmp_path / "storage"), text_weights="abc")
    assert not (tmp_path / "storage").exists()
