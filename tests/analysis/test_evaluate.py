from __future__ import annotations

import csv
import dataclasses
import json
import math
import os
import runpy
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import safetensors.torch
import torch
from upath import UPath

from analysis.compare import main as compare_table
from analysis.evaluate import (
    EvaluationOptions,
    gather,
    main,
    noise_floor,
    report,
    searched_records,
    task_report,
    write_report,
)
from analysis.measure.comparison import difference_over_seeds
from analysis.measure.confirmation import confirming_sweep
from analysis.measure.evaluation import (
    Evaluation,
    best_configurations,
    evaluate_chosen,
    require_all,
    take_up,
)
from analysis.measure.seed_results import (
    FRESH_SEEDS,
    SEARCH_SEEDS,
    SeedResult,
    difference_rows,
    mean_rows,
    table_rows,
)
from analysis.options import ResultsOptions
from analysis.report.findings import findings, verdict
from analysis.report.origin import controls_command
from analysis.report.sections import Material
from ssense.cli.command import shell_command
from ssense.data.dataset import Dataset
from ssense.data.shards import Manifest, write_shard
from ssense.data.splits import SplitKind
from ssense.engine.core.cell import Cell, Configuration, signature
from ssense.engine.core.origin import RecordingOrigin
from ssense.engine.core.record import Record
from ssense.engine.core.reproduction import Reproduction
from ssense.engine.core.sweep import Family, Row, Sweep
from ssense.engine.records.description import Description
from ssense.engine.records.ledger import Ledger
from ssense.engine.search.race import Full
from ssense.engine.search.search import Search
from ssense.engine.sweep_data import sweep_dataset
from ssense.engine.tasks.dataset_plan import load_dataset
from ssense.engine.view.tracking import Tracker
from ssense.engine.work.cell import run_cell
from ssense.errors import UserError
from ssense.files.digest import digest
from ssense.files.sealed_json import CHECKSUM, sealed
from ssense.model.encoders.spectrogram_encoder import ResNetSpec, SpectrogramEncoder
from ssense.retrieval import METRICS, chance_metrics
from ssense.targets.text import TextSpec
from ssense.training.sentences import SentenceSpec, TrainingSpec

ROOT = Path(__file__).parents[2]
N, N_TEST = 100, 20
SEEDS = (0, 1, 2)
TEXT = TextSpec(weights="untrained")
TRAINING = SentenceSpec(
    encoder=ResNetSpec(weights="random"), training=TrainingSpec(max_epochs=1, batch_size=16)
)
FAMILIES = (
    Family(name="no masking", levels={}),
    Family(name="electrode", levels={"masking.electrode": (0.25, 0.5)}),
)
SHARDS = digest({"recording_rate_hz": 512})
NONE: Configuration = {}
QUARTER: Configuration = {"masking.electrode": 0.25}
HALF: Configuration = {"masking.electrode": 0.5}
CPU = torch.device("cpu")


def write_dataset(storage: UPath) -> Dataset:
    """Write random spectrograms `[100, 4, 8, 8]` in two shards; some sentences come twice."""
    folder = storage / "shards" / SHARDS
    rng = np.random.default_rng(0)
    sentences = [f"sentence {i % 90}" for i in range(N)]
    starts = list(range(0, 2048 * N, 2048))  # 4 s apart, so that a gap leaves some of each block
    stops = [start + 500 for start in starts]
    columns = {"sentence_idx": list(range(N)), "text": sentences, "start": starts, "stop": stops}
    shards = [
        write_shard(
            folder / f"part-{number:05d}.parquet",
            folder.name,
            {name: column[rows] for name, column in columns.items()},
            rng.standard_normal((len(sentences[rows]), 4, 8, 8)).astype(np.float16),
        )
        for number, rows in enumerate((slice(0, 64), slice(64, N)))
    ]
    Manifest(
        digest=folder.name,
        origin={"recording_rate_hz": 512},  # which the folder is named after
        settings={},
        sources={},
        sampling_rate_hz=512,
        electrodes=("a", "b", "c", "d"),
        dropped={},
        shards=shards,
    ).write(folder)
    return load_dataset(folder.name, TEXT, storage)


def write_sweep(
    storage: UPath,
    dataset_digest: str,
    configurations: int,
    seeds: tuple[int, ...] = SEEDS,
    training: SentenceSpec = TRAINING,
) -> Ledger:
    sweep = Sweep(
        question="masking",
        dataset_digest=dataset_digest,
        specification=training,
        families=FAMILIES,
        configurations=configurations,
        seeds=seeds,
    )
    rows = [Row("no masking", NONE), Row("electrode", HALF), Row("electrode", QUARTER)]
    ledger = Ledger(storage / "sweeps" / sweep.name)
    origin = RecordingOrigin(
        subject="sub_9", title="Tiny", shards=SHARDS, recording="there", text=TEXT
    )
    rows = tuple(rows[: configurations + 1])
    ledger.describe(Description(sweep=sweep, origin=origin, policy="full", rows=rows))
    return ledger


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Iterator[Path]:
    """A storage with a sweep of two families and three seeds, every cell trained."""
    storage = UPath(tmp_path_factory.mktemp("trained"))
    dataset = write_dataset(storage)
    ledger = write_sweep(storage, dataset.digest, configurations=1)
    for configuration in (NONE, HALF):
        for seed in SEEDS:
            cell = Cell(configuration, seed)
            assert run_cell(cell, dataset, dataset.on(CPU), TRAINING, ledger).done
    yield storage
    shutil.rmtree(storage)  # encoders are large


@pytest.fixture
def storage(trained, tmp_path) -> UPath:
    """A copy of it; the files are links, for everything is replaced and nothing written into."""
    return UPath(shutil.copytree(trained, tmp_path / "storage", copy_function=os.link))


@pytest.fixture
def ledger(storage) -> Ledger:
    (folder,) = (storage / "sweeps").iterdir()
    return Ledger(folder)


def cell_of(ledger: Ledger, configuration: Configuration, seed: int) -> UPath:
    sweep = ledger.description().sweep
    name = signature(Cell(configuration, seed), sweep.specification, sweep.dataset_digest)
    return ledger.folder / "cells" / name


def evaluated(ledger: Ledger) -> Evaluation:
    search = take_up(ledger)
    dataset = sweep_dataset(ledger)
    return evaluate_chosen(search, best_configurations(search), ledger, lambda _: dataset)


# ---------------------------------------------------------------- which configuration


def write_score(
    ledger: Ledger,
    configuration: Configuration,
    seed: int,
    score: float,
    status: str = "done",
    attempts: int = 1,
) -> None:
    digest = ledger.description().sweep.dataset_digest
    name = cell_of(ledger, configuration, seed).name
    ledger.write(scored_record(name, digest, configuration, seed, score, status, attempts))


def scored_record(
    name: str,
    dataset_digest: str,
    configuration: Configuration,
    seed: int,
    score: float,
    status: str = "done",
    attempts: int = 1,
) -> Record:
    epochs = [{"epoch": 1, "recall@10": 0.0}, {"epoch": 2, "recall@10": score}]
    return Record(
        signature=name,
        configuration=configuration,
        seed=seed,
        status=status,
        reason="" if status == "done" else "NaN",
        attempts=attempts,
        dataset_digest=dataset_digest,
        history=epochs if status == "done" else (),
        best_epoch=2 if status == "done" else 0,
        timings={"training": 1.0},
    )


def search_of(ledger: Ledger) -> Search:
    return Search(ledger.description().sweep, Full(), ledger.description().rows, ledger.records())


@pytest.fixture
def scored(tmp_path) -> Ledger:
    """A sweep of three configurations; "no masking" has its records."""
    ledger = write_sweep(UPath(tmp_path), "dataset", configurations=2)
    for seed in SEEDS:
        write_score(ledger, NONE, seed, 0.1)
    return ledger


@pytest.mark.parametrize(
    ("quarter", "half", "best"),
    [
        ((0.3, 0.3, 0.3), (0.2, 0.2, 0.2), QUARTER),
        ((0.3, 0.3, 0.3), (0.0, 0.1, 0.9), HALF),  # by the mean, not by the number of wins
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.1), HALF),
        ((0.2, 0.2, 0.2), (0.2, 0.2, 0.2), HALF),  # of equals the one proposed first
    ],
)
def test_the_best_configuration_has_the_best_mean_validation_recall(scored, quarter, half, best):
    for seed in SEEDS:
        write_score(scored, QUARTER, seed, quarter[seed])
        write_score(scored, HALF, seed, half[seed])
    chosen = best_configurations(search_of(scored))
    assert chosen == {"no masking": NONE, "electrode": best}


def test_missing_cells_are_listed(scored):
    write_score(scored, HALF, 0, 0.2)
    write_score(scored, HALF, 1, 0.0, status="failed")
    write_score(scored, QUARTER, 1, 0.3)
    with pytest.raises(UserError) as error:
        require_all(search_of(scored))
    assert str(error.value) == (
        f"{scored.folder.name} lacks 4 of its 9 cells: electrode 0.5 seed 1 (failed); "
        "electrode 0.5 seed 2; electrode 0.25 seed 0; electrode 0.25 seed 2. "
        "Run the sweep again to train them, or evaluate without them with `allow_missing`."
    )
    with pytest.raises(UserError, match=r"no configuration of electrode has every seed\. Run"):
        best_configurations(search_of(scored))


def test_a_family_without_a_complete_configuration_is_refused(scored):
    for configuration in (HALF, QUARTER):
        write_score(scored, configuration, 0, 0.2)
        write_score(scored, configuration, 2, 0.2)
        write_score(scored, configuration, 1, 0.0, status="failed", attempts=3)
    with pytest.raises(UserError, match=r"has every seed; one failed: NaN\."):
        best_configurations(search_of(scored))


def test_configurations_not_yet_proposed_are_missing_too(tmp_path):
    ledger = write_sweep(UPath(tmp_path), "dataset", configurations=2)
    ledger.describe(dataclasses.replace(ledger.description(), rows=(Row("electrode", HALF),)))
    for seed in SEEDS:
        write_score(ledger, HALF, seed, 0.2)
    with pytest.raises(UserError, match="lacks 6 of its 9 cells: no masking seed 0; no"):
        require_all(search_of(ledger))


def test_a_long_list_of_missing_cells_is_cut(tmp_path):
    ledger = write_sweep(UPath(tmp_path), "dataset", configurations=2)
    with pytest.raises(UserError) as error:
        require_all(search_of(ledger))
    assert "lacks 9 of its 9 cells: no masking seed 0; no masking seed 1;" in str(error.value)
    assert "electrode 0.5 seed 1; ... Run the sweep again" not in str(error.value)
    assert str(error.value).count(" seed ") == 5


def test_a_single_seed_is_refused(tmp_path):
    ledger = write_sweep(UPath(tmp_path), "dataset", configurations=1, seeds=(4,))
    with pytest.raises(UserError, match=r"has the single seed 4: .* Run the sweep again with more"):
        take_up(ledger)


# ---------------------------------------------------------------- the evaluation itself


def by_hand(
    ledger: Ledger, dataset: Dataset, configuration: Configuration, seed: int, test: np.ndarray
) -> dict:
    """Rank the test sentences one by one, from the encoder's file and the definition."""
    encoder = SpectrogramEncoder(dimensions=512).eval()
    file = cell_of(ledger, configuration, seed) / "weights.safetensors"
    encoder.load_state_dict(safetensors.torch.load_file(file))
    with torch.inference_mode():
        x = torch.from_numpy(dataset.spectrograms[test]).float().unsqueeze(2)
        brain = encoder(x).double().numpy()
    text = dataset.targets[test].astype(float)
    ranks = []
    for i, row in enumerate(test):
        score = [brain[i] @ t / np.linalg.norm(brain[i]) / np.linalg.norm(t) for t in text]
        same = [dataset.stimuli[j] == dataset.stimuli[row] for j in test]
        better = sum(s > score[i] and not twin for s, twin in zip(score, same, strict=True))
        ranks.append(better + (1 + sum(same)) / 2)
    recalls = {f"recall@{k}": np.mean([rank <= k for rank in ranks]) for k in (1, 10, 50)}
    return {**recalls, "mrr": np.mean([1 / rank for rank in ranks])}


def test_scores_are_those_of_an_evaluation_by_hand(ledger):
    dataset = sweep_dataset(ledger)
    evaluation = evaluated(ledger)
    assert evaluation.chosen == {"no masking": NONE, "electrode": HALF}
    assert (evaluation.n_train, evaluation.n_test) == (60, N_TEST)
    assert evaluation.chance == pytest.approx(chance_metrics(N_TEST))
    for family, configuration in evaluation.chosen.items():
        for i, seed in enumerate(SEEDS):
            test = np.random.default_rng(seed).permutation(N)[-N_TEST:]
            expected = by_hand(ledger, dataset, configuration, seed, test)
            scores = {metric: evaluation.scores[family][metric][i] for metric in METRICS}
            assert scores == pytest.approx(expected, abs=1e-6)


def is_test_split(kind: SplitKind, rows: set[int], dataset: Dataset) -> bool:
    """Whether rows may be a seed's test split, by what is promised of each kind."""
    if kind == "held-out":
        return rows == set(range(N - N_TEST, N))
    if kind == "blocked":
        blocks = {row // 5 for row in rows}
        return rows == {5 * block + i for block in blocks for i in range(5)} and len(blocks) == 4
    texts = {dataset.stimuli[row] for row in rows}
    return rows == {row for row, text in enumerate(dataset.stimuli) if text in texts}


@pytest.mark.parametrize(
    ("kind", "n_train", "words"),
    [
        ("grouped", range(60, 64), " sentences, repeated ones kept together"),
        ("blocked", range(40, 60), "of 20 sentences in whole stretches of the recording, at least"),
        ("held-out", range(59, 61), "of 20 sentences at the end of the recording, at least 7 s"),
    ],
)
def test_other_kinds_of_split_are_evaluated_on_their_own_test_sentences(
    tmp_path, kind, n_train, words
):
    storage, chosen = UPath(tmp_path), {"no masking": NONE}
    dataset = write_dataset(storage)
    training = dataclasses.replace(TRAINING, split=kind)
    ledger = write_sweep(storage, dataset.digest, 1, seeds=(0, 1), training=training)
    for seed in (0, 1):
        torch.manual_seed(seed)
        name = cell_of(ledger, NONE, seed).name
        record = scored_record(name, dataset.digest, NONE, seed, 0.1)
        ledger.write(record, SpectrogramEncoder(dimensions=512).state_dict())
    evaluation = evaluate_chosen(search_of(ledger), chosen, ledger, lambda _: dataset)
    splits = [retrieval.stimuli for retrieval in evaluation.retrievals["no masking"]]
    assert (set(splits[0]) == set(splits[1])) == (kind == "held-out")
    for seed, test in enumerate(splits):
        assert len(test) == len(set(test)) <= N_TEST
        assert is_test_split(kind, set(test.tolist()), dataset)
        scores = {metric: evaluation.scores["no masking"][metric][seed] for metric in METRICS}
        assert scores == pytest.approx(by_hand(ledger, dataset, NONE, seed, test), abs=1e-6)
    assert evaluation.n_train in n_train
    (test,) = evaluation.comparisons("recall@10")
    # Two seeds, or the twenty sentences that they share, in blocks of one.
    assert test.corrected.df == (19 if kind == "held-out" else 1)
    assert words in task_report(ledger, dataset).tested(evaluation)


def test_a_confirming_sweep_shares_cells_but_no_seed(ledger):
    sweep = ledger.description().sweep
    chosen = {"no masking": NONE, "electrode": HALF}
    confirming = confirming_sweep(sweep, chosen, (100, 101), (), sweep_dataset(ledger))
    search = Search(confirming, Full())
    assert [row.configuration for row in search.rows] == [NONE, HALF]
    assert confirming.n_cells == 4
    mine, theirs = search_of(ledger), Cell(HALF, 100)
    assert search.signature(theirs) == mine.signature(theirs)


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ((100, 2), "`confirm_seeds`: the search has seen seed 2. Give fresh ones"),
        ((100,), "`confirm_seeds` 100: one seed can't be tested"),
        ((100, 100), "`seeds` 100 100: 100 appears twice"),
        ((-1, 100), "-1 is negative"),
    ],
)
def test_seeds_that_confirm_nothing_are_refused(ledger, seeds, message):
    with pytest.raises(UserError, match=message):
        confirming_sweep(
            ledger.description().sweep, {"no masking": NONE}, seeds, (), sweep_dataset(ledger)
        )


def test_fresh_seeds_that_leave_too_little_to_choose_by_are_refused(ledger):
    sweep, dataset = ledger.description().sweep, sweep_dataset(ledger)
    blocked = dataclasses.replace(
        sweep, specification=dataclasses.replace(sweep.specification, split="blocked")
    )
    crowded = dataclasses.replace(dataset, spans_s=dataset.spans_s / 1000)
    message = "`confirm_seeds`: at seed 100 a blocked split leaves 0 validation sentences, too few"
    with pytest.raises(UserError, match=message):
        confirming_sweep(blocked, {"no masking": NONE}, (100, 101), (), crowded)


@pytest.mark.usefixtures("local_ray")
def test_a_deleted_encoder_that_an_evaluation_asks_for_is_made_again(ledger, storage, capsys):
    before = evaluated(ledger).scores
    (lost, other) = [cell_of(ledger, HALF, seed).name for seed in (1, 2)]
    record, own = ledger.record(lost), cell_of(ledger, HALF, 1) / "weights.safetensors"
    ledger.delete_weights(lost)
    with pytest.raises(UserError, match=f"encoder of cell {lost} was deleted"):
        evaluated(ledger)
    search, options = take_up(ledger), EvaluationOptions(storage=str(storage))
    found = gather(ledger, search, best_configurations(search), options)
    assert "Training 1 cell again, as their encoders were deleted" in capsys.readouterr().out
    scores = found.evaluations["search seeds"].scores
    for family, by_metric in before.items():
        for metric, values in by_metric.items():
            np.testing.assert_array_equal(scores[family][metric], values)
    assert ledger.record(lost) == record
    assert own.exists()
    assert not list((ledger.folder / "readers").iterdir())
    another = dataclasses.replace(
        ledger.record(other), code_digest="0badc0de00", weights_kept=False
    )
    ledger.write(another)
    (cell_of(ledger, HALF, 2) / "weights.safetensors").unlink()
    advice = f"with `cell` {other} to make it again; or here with `retrain_version` 0badc0de to"
    with pytest.raises(UserError, match=rf"code made it, 0badc0de .* {advice} train"):
        gather(ledger, search, best_configurations(search), options)


@pytest.mark.usefixtures("local_ray")
def test_fresh_seeds_are_trained_once_and_stand_beside_the_search(ledger, storage, capsys):
    options = EvaluationOptions(storage=str(storage), confirm_seeds=(100, 101))
    main(options)
    shown = capsys.readouterr().out
    assert "Training 4 cells at fresh seeds" in shown
    assert shown.count("random retrieval") == 2
    assert "over 2 seeds (100 101)" in shown
    fresh = {r.seed for r in ledger.records().values()} - set(SEEDS)
    assert fresh == {100, 101}
    folder = evaluation_folder(storage)
    text = (folder / "table.md").read_text()
    search, fresh_seeds = text.split("## Fresh seeds")
    limit = "A sweep with held-out splits has a test split that none of its seeds touches."
    assert limit in fresh_seeds
    assert limit not in search
    assert limit in (folder / "fresh_seeds.tex").read_text()
    for name in ("search_seeds_tests.tex", "fresh_seeds_tests.tex"):
        tests = (folder / name).read_text()
        assert tests.count("no masking vs ") >= 1
        assert "p, Holm" in tests
    with (folder / "scores.csv").open() as file:
        protocols = Counter(row["protocol"] for row in csv.DictReader(file))
    assert protocols == {"search seeds": 6, "fresh seeds": 4}
    main(options)
    assert "Training" not in capsys.readouterr().out
    assert evaluated(ledger).seeds == SEEDS  # the search is as it was
    (folder / "notes.txt").touch()
    write_report(gathered(ledger))
    assert not list(folder.glob("fresh_seeds*"))
    assert (folder / "search_seeds.tex").exists()
    assert (folder / "notes.txt").exists()
    looks = set(storage.rglob("look-*.json"))
    (cell_of(ledger, HALF, 101) / "weights.safetensors").unlink()
    with pytest.raises(UserError, match=r"weights\.safetensors is missing"):
        main(options)
    assert set(storage.rglob("look-*.json")) == looks  # not even at the splits of the search


def test_missing_cells_are_named_where_one_goes_without(ledger, storage, capsys):
    description = ledger.description()
    more = dataclasses.replace(description.sweep, configurations=2)
    rows = (*description.rows, Row("electrode", QUARTER))
    ledger.describe(dataclasses.replace(description, sweep=more, rows=rows))
    main(EvaluationOptions(storage=str(storage), allow_missing=True))
    note = "Without 3 missing cells: electrode 0.25 seed 0; electrode 0.25 seed 1"
    shown = capsys.readouterr().out
    assert note in shown
    controls = shell_command("analysis/controls.py", storage=storage, sweep=ledger.folder.name)
    assert shown.endswith(f"\nNext: {controls}\n")
    folder = evaluation_folder(storage)
    for name in ("table.md", "report.html", "search_seeds.tex"):
        assert note in (folder / name).read_text(), name
    for name in ("table.csv", "tests.csv", "scores.csv"):
        with (folder / name).open() as file:
            assert {row["missing_cells"] for row in csv.DictReader(file)} == {"3"}, name
    with sqlite3.connect(storage / "mlflow.db") as database:
        ((tag,),) = database.execute("select value from tags where key = 'missing cells'")
    assert tag == "; ".join(f"electrode 0.25 seed {seed}" for seed in SEEDS)


def test_the_noise_floor_is_the_largest_change_of_a_cell_trained_once_more(ledger):
    assert noise_floor(ledger) == []
    same = Reproduction(
        exact=True,
        best_epochs=(1, 1),
        epochs=(1, 1),
        at_best={"recall@10": 0.0},
        by_epoch=[0.0],
        loss=0.0,
        weights=0.0,
    )
    ledger.keep_reproduction("a", same)
    assert noise_floor(ledger) == [
        "Noise floor: one cell, trained once more, came out the same to the bit."
    ]
    other = dataclasses.replace(same, exact=False, at_best={"recall@10": 0.7})
    ledger.keep_reproduction("b", other)
    (note,) = noise_floor(ledger)
    assert "2 cells, trained once more, changed by up to 0.70 points of Recall@10" in note


def gathered(ledger: Ledger, written_at: str = "today") -> Material:
    """What the command would write a report of, without a look being counted."""
    evaluation, dataset = evaluated(ledger), sweep_dataset(ledger)
    return Material(
        ledger=ledger,
        search=take_up(ledger),
        task=task_report(ledger, dataset),
        stimuli=dataset.stimuli,
        results=[SeedResult(name=SEARCH_SEEDS, evaluation=evaluation, look="", caption="caption")],
        records=searched_records([take_up(ledger)]),
        missing=[],
        notes=[],
        written_at=written_at,
    )


def page_of(material: Material) -> ElementTree.Element:
    write_report(material)
    text = (material.ledger.folder / "evaluation" / "report.html").read_text()
    return ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>"))


def tables_of(page: ElementTree.Element) -> list[list[list[str]]]:
    """The cells of every table, row by row, its head too."""
    return [
        [["".join(cell.itertext()) for cell in row] for row in table.iter("tr")]
        for table in page.iter("table")
    ]


def leading(ledger: Ledger) -> tuple[str, str]:
    """The family and configuration with the best validation mean, in words."""
    by_family = {"no masking": NONE, "electrode": HALF}
    means = {
        family: np.mean(
            [ledger.record(cell_of(ledger, c, s).name).best["recall@10"] for s in SEEDS]
        )
        for family, c in by_family.items()
    }
    family = max(means, key=means.get)
    return family, {"no masking": "–", "electrode": "electrode 0.5"}[family]


def write_controls(ledger: Ledger, origin: tuple[str, str], seeds: tuple[int, ...] = SEEDS) -> None:
    folder = ledger.folder / "controls"
    folder.mkdir(exist_ok=True)
    columns = ["control", "family", "configuration", "seed", *METRICS]
    rows = [",".join([*columns, *(f"{metric}_chance" for metric in METRICS)])]
    for seed in seeds:
        scores = f"0.0{seed},0.25,1,0.1,0.05,0.{40 + seed},1,0.2"
        rows.append(f"duration alone,{','.join(origin)},{seed},{scores}")
    (folder / "controls.csv").write_text("\n".join(rows))
    (folder / "controls.txt").write_text("Duration alone reaches it all.\n")


def test_the_page_has_the_table_the_tests_and_every_figure(ledger):
    material = gathered(ledger)
    page, evaluation = page_of(material), material.last.evaluation
    tables, text = tables_of(page), "".join(page.itertext())
    expected = table_rows(evaluation)
    assert tables[0] == [list(expected[0]), *(list(row.values()) for row in expected)]
    tests = difference_rows(evaluation, "recall@10")
    assert tables[1] == [list(tests[0]), *(list(row.values()) for row in tests)]
    for sentence in findings(evaluation):
        assert sentence in text
    names = {figure.get("id") for figure in page.iter("figure")}
    assert names == {
        "search_seeds",
        "search_seeds_recall",
        "search_seeds_ranks",
        "matrix",
        "curves",
    }  # of no field there are several levels, to which there were a response
    for name in names:
        for kind in ("png", "svg", "pdf"):
            assert (ledger.folder / "evaluation" / f"{name}.{kind}").stat().st_size > 5000


def test_the_page_says_what_was_run_and_shows_what_was_retrieved(ledger, storage):
    text = "".join(page_of(gathered(ledger)).itertext())
    dataset = sweep_dataset(ledger)
    test = np.random.default_rng(0).permutation(N)[-N_TEST:]
    assert sum(dataset.stimuli[row] in text for row in test) >= 9
    for words in (
        "4: a, b, c, d",
        "random, by seed: 60 train, 20 test (means over seeds)",
        "no masking: 1 of 1 possible; electrode: 1 of 2 possible",
        "No controls were run",
        f" analysis/controls.py --storage {storage} --sweep {ledger.folder.name}",
        "A query counts as answered by its own sentence alone.",
        next(iter(ledger.records().values())).code_digest,
    ):
        assert words in text


def test_controls_that_were_run_are_shown(ledger):
    write_controls(ledger, leading(ledger))
    page = page_of(gathered(ledger))
    assert "controls" in {figure.get("id") for figure in page.iter("figure")}
    text = "".join(page.itertext())
    assert "No controls were run" not in text
    assert "are left out" not in text
    assert "Duration alone reaches it all." in text
    row = ["duration alone", "1.00 ± 1.00", "25.00 ± 0.00", "100.00 ± 0.00", "0.1000 ± 0.0000"]
    tables = [table for table in tables_of(page) if table[-1] == [*row, "41.00"]]
    assert [table[0][-1] for table in tables] == ["chance Recall@10"]


def test_controls_of_another_configuration_or_other_seeds_are_left_out(ledger):
    write_controls(ledger, leading(ledger), (0, 1))
    material = gathered(ledger)
    page = page_of(material)
    text = "".join(page.itertext())
    assert f"are left out. Run again: {controls_command(ledger)}" in text
    assert "controls" not in {figure.get("id") for figure in page.iter("figure")}
    assert "uration alone" not in text
    assert not (ledger.folder / "evaluation" / "controls.png").exists()
    for origin, seeds, is_own in (
        (leading(ledger), SEEDS, True),
        (leading(ledger), SEEDS[::-1], True),
        (leading(ledger), (0, 1, 3), False),
        (leading(ledger), (0, 1, 2, 3), False),
        (("electrode", "electrode 0.25"), SEEDS, False),
        (("frequency-time", "–"), SEEDS, False),
    ):
        write_controls(ledger, origin, seeds)
        data = sweep_dataset(ledger)
        kept = task_report(ledger, data).pictures(material.last.evaluation, material.leader)
        assert bool(kept) == is_own, (origin, seeds)


def test_cells_of_controls_and_earlier_fresh_seeds_are_not_in_the_report(ledger, storage):
    own = {record.signature: record for record in ledger.records().values()}
    further = dataclasses.replace(next(iter(own.values())), device="elsewhere", seed=77)
    ledger.write(dataclasses.replace(further, signature="f" * 16))
    search, options = take_up(ledger), EvaluationOptions(storage=str(storage))
    material, _ = report(gather(ledger, search, best_configurations(search), options))
    assert {record.signature for record in material.records} == own.keys()
    text = "".join(page_of(material).itertext())
    assert f"{further.code_digest}, " in text
    assert "6 cells" in text
    assert "elsewhere" not in text


def test_the_verdict_takes_the_controls_into_account_and_says_their_seeds(ledger):
    material = gathered(ledger)
    no_controls = "; no controls were run."
    assert material.verdict.startswith("In Recall@10, none of the 2 families is shown to be above")
    assert material.verdict.endswith(no_controls)
    family, configuration = leading(ledger)
    clause = "sentence duration alone explains the score without a brain"
    write_controls(ledger, (family, configuration))
    (ledger.folder / "controls" / "verdict.txt").write_text(f"{clause}\n")
    material = dataclasses.replace(material, task=task_report(ledger, sweep_dataset(ledger)))
    assert material.verdict.endswith(f"; by the controls of {family}, {clause}.")
    tests = verdict(
        ["no masking", "electrode"], material.last.evaluation.comparisons("recall@10"), ""
    )
    assert tests.removeprefix("In , ").removesuffix(".") in material.verdict
    fresh = SeedResult(name=FRESH_SEEDS, evaluation=material.last.evaluation, look="", caption="")
    of_fresh = dataclasses.replace(material, results=[*material.results, fresh]).verdict
    assert of_fresh.startswith("In Recall@10 at fresh seeds, ")
    assert of_fresh.endswith(
        f"; by the controls of {family}, which were run at the seeds of the search and not at "
        f"these, {clause}."
    )
    write_controls(ledger, (family, configuration), seeds=(0, 1))  # of other seeds
    others = dataclasses.replace(material, task=task_report(ledger, sweep_dataset(ledger)))
    assert others.verdict.endswith(no_controls)


def test_the_scores_go_into_the_statistics_as_they_are(ledger, tmp_path, capsys):
    material = gathered(ledger)
    write_report(material)
    scores, out = ledger.folder / "evaluation" / "scores.csv", tmp_path / "tests.csv"
    compare_table(ResultsOptions(results=str(scores), out=str(out)))
    shown = " ".join(capsys.readouterr().out.split())
    assert "Splits: random, 60 to train on and 20 to test." in shown
    with out.open(newline="") as file:
        (row,) = csv.DictReader(file)
    *_, pair = material.last.evaluation.comparisons("recall@10")
    assert row["comparison"] == pair.name
    a, b = (material.last.evaluation.scores[name]["recall@10"] for name in pair.name.split(" vs "))
    expected = difference_over_seeds(pair.name, a, b, 60, 20)  # without the sentences' own variance
    assert float(row["mean"]) == pytest.approx(pair.corrected.mean)
    assert float(row["p"] or 1) == pytest.approx(expected.test.pvalue)


def test_words_of_the_recording_are_escaped(ledger):
    material = gathered(ledger)
    sentences = [f"<b>{sentence}</b> & \x00more" for sentence in material.stimuli]
    page = page_of(dataclasses.replace(material, stimuli=sentences))
    assert not list(page.iter("b"))
    assert "<b>sentence" in "".join(page.itertext())


def test_the_same_evaluation_gives_the_same_files_but_for_the_date(ledger):
    folder = ledger.folder / "evaluation"

    def written(when: str) -> dict[str, bytes]:
        write_report(gathered(ledger, when))
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    first, second = written("yesterday"), written("today")
    page = first.pop("report.html"), second.pop("report.html")
    assert first == second
    assert page[0] != page[1]
    assert page[0].replace(b"yesterday", b"today") == page[1]


# ---------------------------------------------------------------- what can be wrong


def refusal(storage: UPath, sweep: str | None = None) -> str:
    """The message of an evaluation that is refused, after which no look is counted."""
    with pytest.raises(UserError) as error:
        main(EvaluationOptions(storage=str(storage), sweep=sweep))
    assert len(str(error.value).splitlines()) == 1
    assert not list(storage.rglob("looks"))
    assert not list(storage.rglob("evaluation"))
    assert not (storage / "mlflow.db").exists()
    return str(error.value)


def replace(path: UPath, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def test_a_report_that_finds_no_room_leaves_the_one_before_whole(ledger, small_disk):
    write_report(gathered(ledger, "yesterday"))
    folder = Path(ledger.folder) / "evaluation"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    room = sorted(map(len, before.values()))[len(before) // 2]  # for half of the files
    refused = pytest.raises(UserError, match=r"evaluation/\S+ can't be written \(.*too large\)")
    with small_disk(room), refused:
        write_report(gathered(ledger, "today"))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_missing_encoder_is_refused(ledger, storage):
    cell = cell_of(ledger, HALF, 1)
    (cell / "weights.safetensors").unlink()
    message = refusal(storage)
    assert f"{cell / 'weights.safetensors'} is missing. Delete {cell} and run" in message


def test_a_damaged_encoder_is_refused(ledger, storage):
    path = cell_of(ledger, NONE, 2) / "weights.safetensors"
    replace(path, path.read_bytes()[:1000])
    assert f"{path} is damaged" in refusal(storage)


def test_another_model_s_encoder_is_refused(ledger, storage):
    cell = cell_of(ledger, HALF, 0)
    ledger.write(ledger.record(cell.name), {"weight": torch.zeros(3)})
    expected = (
        f"the encoder of cell {cell.name} belongs to another model (resnet.bn1.bias is missing)"
    )
    assert expected in refusal(storage)


def test_an_encoder_of_nan_is_refused(ledger, storage):
    cell = cell_of(ledger, HALF, 0)
    record = ledger.record(cell.name)
    state = ledger.weights(record)
    state["resnet.fc.bias"][0] = math.nan
    ledger.write(record, state)
    path = cell / "weights.safetensors"
    assert f"{path} has NaN or infinity in resnet.fc.bias. Delete {cell}" in refusal(storage)


def test_a_missing_cell_is_refused(ledger, storage):
    shutil.rmtree(cell_of(ledger, HALF, 1))
    assert "lacks 1 of its 6 cells: electrode 0.5 seed 1. Run the sweep again" in refusal(storage)


def test_text_weights_that_have_changed_are_refused(ledger, storage):
    path = ledger.folder / "sweep.json"
    content = json.loads(path.read_text())
    content["sweep"]["dataset_digest"] = "fedcba9876543210"
    replace(path, json.dumps(content).encode())
    message = refusal(storage, sweep=ledger.folder.name)
    assert f"{path} is damaged (its content does not match its checksum" in message
    del content[CHECKSUM]
    replace(path, json.dumps(sealed(content)).encode())
    with pytest.raises(UserError, match=f"of {ledger.folder.name} was fedcba9876543210, now it is"):
        sweep_dataset(ledger)


@pytest.mark.parametrize("content", [b"control,seed\nnoise,0\n", b"\xff\xfe", b"control\0\n"])
def test_a_damaged_table_of_controls_is_refused_before_any_look(ledger, storage, content):
    write_controls(ledger, leading(ledger))
    path = ledger.folder / "controls" / "controls.csv"
    replace(path, content)
    assert refusal(storage).startswith(f"{path} is not a table of controls, seeds and metrics (")


def test_an_unknown_sweep_lists_the_known_ones(ledger, storage):
    message = refusal(storage, sweep="masking-00000000")
    assert message.startswith(f"no sweep masking-00000000 in {storage}. Found: ")
    assert ledger.folder.name in message


# ---------------------------------------------------------------- the command


def run_command(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    environment["COLUMNS"] = "1000"  # a paragraph is a line
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_cells_of_another_version_are_refused_with_flags_of_the_sweep(
    ledger, storage, monkeypatch, capsys
):
    record = ledger.record(cell_of(ledger, HALF, 1).name)
    ledger.write(dataclasses.replace(record, code_digest="0badc0de00"))
    script = ROOT / "analysis" / "evaluate.py"
    monkeypatch.setattr(sys, "argv", [str(script), "--storage", str(storage)])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(script), run_name="__main__")
    error = capsys.readouterr().err
    assert "Run the sweep with --keep-version NAME" in error
    assert "or with --retrain-version NAME" in error
    assert "`" not in error


@pytest.fixture(scope="module")
def looked_twice(trained, tmp_path_factory) -> Iterator[tuple[Path, list]]:
    """A storage after two evaluations: the file run first, then the module."""
    folder = tmp_path_factory.mktemp("evaluated")
    storage = Path(shutil.copytree(trained, folder / "storage", copy_function=os.link))
    (sweep,) = (storage / "sweeps").iterdir()
    tracker = Tracker(UPath(storage), "masking", sweep.name)
    ledger = Ledger(UPath(sweep))
    tracker.start(search_of(ledger), ledger.description())
    tracker.end(search_of(ledger))
    script = ROOT / "analysis" / "evaluate.py"
    ways = ([script], ["-m", "analysis.evaluate"])
    yield storage, [run_command(*way, "--storage", storage, cwd=folder) for way in ways]
    shutil.rmtree(storage)


def evaluation_folder(storage: Path) -> Path:
    (sweep,) = (storage / "sweeps").iterdir()
    return sweep / "evaluation"


@pytest.mark.slow
def test_file_and_module_print_the_same_tables(looked_twice):
    _, runs = looked_twice
    assert [(run.returncode, run.stderr) for run in runs] == [(0, "")] * 2
    first, second = (
        [line for line in run.stdout.splitlines() if " done in " not in line] for run in runs
    )
    changed = [pair for pair in zip(first, second, strict=True) if pair[0] != pair[1]]
    assert len(changed) == 1
    assert "chosen before this first look at these test splits" in changed[0][0]
    assert "which were seen once before" in changed[0][1]
    for words in ("random retrieval", "no masking vs chance", "The text tower is untrained"):
        assert any(words in line for line in first)


@pytest.mark.slow
def test_the_files_hold_the_evaluation(looked_twice):
    storage, _ = looked_twice
    folder = evaluation_folder(storage)
    evaluation = evaluated(Ledger(UPath(folder.parent)))
    names = {path.name for path in folder.iterdir()}
    figures = {"matrix", "curves"}
    figures |= {"search_seeds", "search_seeds_recall", "search_seeds_ranks"}
    assert names == {
        *("report.html", "table.md", "table.csv", "tests.csv", "scores.csv", "search_seeds.tex"),
        *("search_seeds_tests.tex", "cells.csv", "made_from.txt"),
        *(f"{figure}.{kind}" for figure in figures for kind in ("png", "svg", "pdf")),
    }
    with (folder / "scores.csv").open() as file:
        scores = list(csv.DictReader(file))
    assert len(scores) == len(SEEDS) * len(FAMILIES)
    for row in scores:
        for metric in METRICS:
            expected = evaluation.scores[row["family"]][metric][SEEDS.index(int(row["seed"]))]
            assert float(row[metric]) == pytest.approx(expected, abs=1e-6)
    with (folder / "cells.csv").open() as file:
        cells = list(csv.DictReader(file))
    searched = search_of(Ledger(UPath(folder.parent)))
    assert [row["signature"] for row in cells] == [
        searched.signature(cell) for _, cell in searched.cells()
    ]
    with (folder / "table.csv").open() as file:
        means = list(csv.DictReader(file))
    result = SeedResult(name=SEARCH_SEEDS, evaluation=evaluation, look="", caption="")
    rows = [row | {"missing_cells": 0} for row in mean_rows(result)]
    assert means == [{k: str(v) for k, v in row.items()} for row in rows]
    with (folder / "tests.csv").open() as file:
        tests = list(csv.DictReader(file))
    expected = [(metric, c) for metric in METRICS for c in evaluation.comparisons(metric)]
    assert len(tests) == len(expected)
    for row, (metric, comparison) in zip(tests, expected, strict=True):
        assert (row["metric"], row["comparison"]) == (metric, comparison.name)
        assert float(row["mean"]) == comparison.corrected.mean
        if comparison.corrected.testable:
            assert float(row["p"]) == comparison.corrected.pvalue <= float(row["p_holm"])
        else:
            assert row["p"] == row["p_holm"] == row["low"] == row["high"] == ""


@pytest.mark.slow
def test_the_report_says_what_it_shows(looked_twice):
    storage, _ = looked_twice
    text = (evaluation_folder(storage) / "table.md").read_text()
    for words in (
        "sub_9, Tiny: held-out test splits of 20 sentences, mean ± sd over 3 seeds (0 1 2).",
        "which were seen once before",
        "| no masking | no field changed |",
        "| electrode | electrode 0.5 |",
        "| random retrieval |",
    ):
        assert words in text


@pytest.mark.slow
def test_mlflow_has_one_run_for_each_look(looked_twice):
    storage, _ = looked_twice
    with sqlite3.connect(storage / "mlflow.db") as database:

        def query(sql: str) -> list:
            return database.execute(sql).fetchall()

        runs = query(
            "select name, status, run_uuid, artifact_uri from runs "
            "where name like 'test evaluation %' order by name"
        )
        assert [run[:2] for run in runs] == [
            ("test evaluation 1", "FINISHED"),
            ("test evaluation 2", "FINISHED"),
        ]
        (sweep_run,) = query("select run_uuid from runs where name like 'masking-%'")
        for _, _, run, artifacts in runs:
            metrics = dict(query(f"select key, value from metrics where run_uuid = '{run}'"))
            tags = dict(query(f"select key, value from tags where run_uuid = '{run}'"))
            assert len(metrics) == len(FAMILIES) * len(METRICS)
            assert 0 < metrics["search seeds/electrode/mrr"] < 1
            assert tags["mlflow.parentRunId"] == sweep_run[0]
            assert tags["ssense.level"] == "test evaluation"
            assert tags["missing cells"] == "none"
            folder = Path(artifacts.removeprefix("file://"))
            logged = {path.name for path in folder.iterdir()}
            assert {"report.html", "search_seeds.png", "search_seeds.pdf", "cells.csv"} <= logged
            kept = json.loads(tags["mlflow.loggedArtifacts"])
            assert kept == [
                {"path": f"{name}.json", "type": "table"} for name in ("table", "tests", "scores")
            ]
            table = json.loads((folder / "scores.json").read_text())
            with (evaluation_folder(storage) / "scores.csv").open() as file:
                written = list(csv.DictReader(file))
            for row, scores in zip(table["data"], written, strict=True):
                shown = dict(zip(table["columns"], row, strict=True))
                assert list(map(str, row[:3])) == list(scores.values())[:3]
                for metric in METRICS:
                    assert shown[metric] == pytest.approx(float(scores[metric]), abs=1e-9)


def test_an_empty_storage_is_one_line_on_stderr(tmp_path):
    script = ROOT / "analysis" / "evaluate.py"
    run = run_command(script, "--storage", tmp_path / "empty", cwd=tmp_path)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == (
        f"error: no storage at {tmp_path / 'empty'}. Check --storage, or run a sweep first.\n"
    )
