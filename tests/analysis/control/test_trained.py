from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from upath import UPath

from analysis.control.scores import ControlScores
from analysis.control.trained import (
    TRAINED,
    plan_control,
    run_trained_control,
)
from analysis.controls import Controls, explanation, in_words, run_controls, write_controls
from analysis.measure.evaluation import best_configurations, take_up
from analysis.measure.looks import count_looks
from analysis.options import ControlOptions, TrainedControlName
from ssense.data.splits import leakage
from ssense.engine.core.sweep import Sweep
from ssense.engine.records.find import find_ledger
from ssense.engine.records.ledger import Ledger
from ssense.engine.sweep_data import sweep_dataset
from ssense.errors import UserError
from ssense.retrieval import METRICS, chance_metrics

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("local_ray")]

CHOSEN = {"no masking": {}}


@pytest.fixture(scope="module")
def storage(tiny_sweep, linked, tmp_path_factory) -> UPath:
    """A copy of a finished sweep: controls leave cells and shards in it."""
    return linked(tiny_sweep, tmp_path_factory.mktemp("controls") / "storage")


def control(
    name: TrainedControlName, storage: UPath, recording: str | None = None
) -> tuple[Sweep, ControlScores]:
    ledger = find_ledger(storage)
    dataset = sweep_dataset(ledger)
    plan = plan_control(TRAINED[name], ledger, dataset, recording)
    return run_trained_control(plan, ledger, take_up(ledger), CHOSEN, dataset, cpus=1, gpus=0)


def cells(storage: UPath) -> set[str]:
    return {path.name for path in (find_ledger(storage).folder / "cells").iterdir()}


@pytest.mark.parametrize("name", ["noise", "window", "blocked"])
def test_a_control_is_trained_once_at_the_sweep_s_seeds_and_evaluated(storage, name, capsys):
    before = cells(storage)
    sweep, found = control(name, storage)
    assert "Training 2 cells" in capsys.readouterr().out
    new = cells(storage) - before
    records = [find_ledger(storage).record(signature) for signature in new]
    assert sorted(record.seed for record in records) == [0, 1]
    datasets = {record.dataset_digest for record in records}
    own = find_ledger(storage).description().sweep.dataset_digest
    assert (own in datasets) == (TRAINED[name].split is not None)
    assert set(found.scores) == set(METRICS)
    assert all(len(values) == 2 for values in found.scores.values())
    sizes = {record.sizes["test"] for record in records}
    for metric in METRICS:
        assert set(found.chance[metric]) == {chance_metrics(n)[metric] for n in sizes}
    assert {sweep.dataset_digest} == datasets
    _, again = control(name, storage)
    assert "Training" not in capsys.readouterr().out
    assert again.scores["recall@10"].tolist() == found.scores["recall@10"].tolist()
    if name == "blocked":
        assert found.overlapping == 0


def test_a_run_without_training_takes_the_trained_controls_along(storage, capsys):
    ledger, title = find_ledger(storage), TRAINED["noise"].title
    options = ControlOptions(storage=str(storage), permutations=5, gpus_per_cell=0)

    def run(options: ControlOptions) -> Controls:
        search = take_up(ledger)
        before = count_looks(ledger)
        controls = run_controls(options, ledger, search, best_configurations(search))
        assert count_looks(ledger) == before  # they are recorded when all is trained
        assert bool(controls.other_tests) == (title in controls.scores)
        write_controls(ledger, controls, "")
        return controls

    first = run(dataclasses.replace(options, train=("noise",)))
    capsys.readouterr()
    again = run(options)
    shown = capsys.readouterr().out
    assert f"Taken along from an earlier run: {title}" in shown
    assert "Training" not in shown
    assert again.scores.keys() == first.scores.keys()
    assert title in again.evaluation.retrievals  # it may be the strongest
    assert (explanation(again), again.lost) == (explanation(first), [])

    own = ledger.description().sweep.dataset_digest
    for signature, record in ledger.records().items():
        if record.dataset_digest != own:
            shutil.rmtree(ledger.cell_folder(signature))
    without = run(options)
    assert "Training" not in capsys.readouterr().out
    assert title not in without.scores
    assert in_words(without)[-1] == (
        f"Left out, though an earlier run had it: {title}. The ledger no longer has its data and "
        "cells. Train it again with --train noise."
    )
    assert explanation(without).endswith(f", {title} left out")


def test_controls_leave_the_sweep_itself_as_it_was(storage):
    control("grouped", storage)
    search = take_up(find_ledger(storage))
    assert len(search.done({})) == 2
    assert not search.missing()


def test_a_recording_that_has_moved_is_asked_for(storage, tmp_path):
    kept = Path(find_ledger(storage).description().origin.recording)
    moved = kept.rename(kept.with_name("moved"))
    try:
        with pytest.raises(UserError, match="Say where it is with `recording`"):
            control("window", storage)
        _, found = control("window", storage, str(moved))
        assert isinstance(found, ControlScores)
        other = shutil.copytree(moved, tmp_path / "other")
        with (other / "corrupted_elec.json").open("a") as file:
            file.write("\n")
        with pytest.raises(UserError, match=r"is not the recording that tiny-[0-9a-f]+ was made"):
            control("window", storage, str(other))
    finally:
        moved.rename(kept)


def test_too_few_sentences_for_a_split_are_refused_before_anything_is_trained(storage):
    ledger: Ledger = find_ledger(storage)
    dataset = sweep_dataset(ledger)
    crowded = dataclasses.replace(dataset, spans_s=dataset.spans_s / 1000)
    before = cells(storage)
    message = "blocked splits with a gap: at seed 0 0 validation sentences are left, too few"
    with pytest.raises(UserError, match=message):
        plan_control(TRAINED["blocked"], ledger, crowded, None)
    assert cells(storage) == before


def test_overlap_is_the_share_of_test_segments_that_meet_training(storage):
    dataset = sweep_dataset(find_ledger(storage))
    split = dataset.split("random", 0)
    brute = [
        any(
            start < dataset.spans_s[other, 1] and dataset.spans_s[other, 0] < stop
            for other in split.train
        )
        for start, stop in dataset.spans_s[split.test]
    ]
    assert leakage([split], dataset.spans_s) == pytest.approx(np.mean(brute))
