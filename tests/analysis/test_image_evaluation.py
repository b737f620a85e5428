"""The evaluation on test images, of sweeps whose cells were trained here, in this process."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from upath import UPath

from analysis.compare import main as compare_table
from analysis.image_evaluation import (
    OVER,
    PRIMARY,
    TOPS,
    Evaluated,
    ImageEvaluationOptions,
    check_alike,
    compare_objectives,
    evaluate_all,
    main,
    paper_subjects,
    standard_errors,
    subject_ledgers,
    table_rows,
)
from analysis.measure.image_comparison import compare_on_images
from analysis.measure.inference import crossed_ttest, pairing_test, stimulus_test
from analysis.options import ResultsOptions
from analysis.report.published import EEG_WITHIN, MEANS, SSR, Task
from ssense.data.synthetic.things import SyntheticThingsSpec
from ssense.engine.records.description import Description
from ssense.engine.records.find import find_ledger
from ssense.engine.records.ledger import SWEEPS, Ledger
from ssense.engine.reproduce import sweep_dataset
from ssense.engine.search.race import Full
from ssense.engine.search.search import Search
from ssense.engine.tasks.image_options import ImageOptions
from ssense.engine.work.trial import run_cell
from ssense.errors import UserError
from ssense.specification import configured
from ssense.training.images import ImageSpec
from sweeps.images import image_sweep

SYNTHETIC = SyntheticThingsSpec(subjects=2, concepts=60, test_concepts=12, image_px=16, coupling=2)
OBJECTIVES = ("infonce", "ssr")


def sweep_all(storage: Path, **changes: object) -> None:
    """Train every cell of every subject's sweep, as workers would."""
    options = ImageOptions(
        storage=str(storage),
        synthetic=SYNTHETIC,
        objectives=OBJECTIVES,
        seeds=(0, 1),
        configurations=1,
        max_epochs=2,
        **changes,
    )
    for plan in options.datasets():
        sweep, dataset = image_sweep(plan, options), plan.load()
        ledger, search = Ledger(plan.storage / SWEEPS / sweep.name), Search(sweep, Full(), (), {})
        responses = dataset.on(torch.device("cpu"))
        while cell := search.next_cell():
            search.finish(run_cell(cell, dataset, responses, sweep.specification, ledger))
        rows = tuple(search.rows)
        ledger.describe(Description(sweep=sweep, origin=plan.origin(), policy="full", rows=rows))


@pytest.fixture(scope="module")
def storage(tmp_path_factory) -> Path:
    storage = tmp_path_factory.mktemp("images")
    sweep_all(storage)
    return storage


@pytest.fixture(scope="module")
def evaluated(storage) -> Path:
    """Where the tables are."""
    main(ImageEvaluationOptions(storage=str(storage)))
    (folder,) = (storage / "image_evaluation").iterdir()
    return folder


def test_one_subject_is_tested_over_its_images(storage):
    (ledger, _) = subject_ledgers(UPath(storage), ())
    (found,) = evaluate_all([ledger], allow_missing=False)
    for name, if_own in found.if_own.items():
        hits = found.by_image[name][PRIMARY]
        assert if_own.diagonal() == pytest.approx(hits.mean(axis=0))
        assert if_own.sum(axis=1) == pytest.approx(np.ones(12))  # some image is the first
        (above, *_) = compare_on_images({name: hits}, {name: if_own}, 1 / 12)
        by_image = stimulus_test(hits.mean(axis=0) - 1 / 12, 12)
        assert above.corrected.pvalue == max(by_image.pvalue, pairing_test(if_own, 12))
        assert above.corrected[2:] == pytest.approx(by_image[2:])
    *_, pair = compare_objectives([found])
    assert [c.name for c in compare_objectives([found])][-1] == "infonce vs ssr"
    infonce, ssr = (found.by_image[name][PRIMARY].mean(axis=0) for name in OBJECTIVES)
    assert pair.corrected == stimulus_test(infonce - ssr, 12)


def test_more_seeds_on_the_same_images_are_no_more_evidence():
    generator = np.random.default_rng(5)
    tables = {name: hits_of(generator, 1)[:3] for name in ("a", "b")}
    own = {name: np.diag(hits.mean(axis=0)) for name, hits in tables.items()}
    found = compare_on_images(tables, own, 1 / 200)
    again = {name: np.tile(hits, (4, 1)) for name, hits in tables.items()}
    for once, twice in zip(found, compare_on_images(again, own, 1 / 200), strict=True):
        assert twice.corrected == pytest.approx(once.corrected)
        assert twice.naive.pvalue < once.naive.pvalue


def test_one_subject_at_chance_is_not_called_above_it():
    """Top-1 of 60 images by nothing, where seeds agree as those on one response do."""
    generator, claims = np.random.default_rng(6), Counter()
    for _ in range(60):
        tables, own = {}, {}
        for name in ("a", "b"):
            common = generator.standard_normal((60, 60))
            first = (common + 0.5 * generator.standard_normal((3, 60, 60))).argmax(axis=2)
            tops = np.eye(60)[first]
            tables[name], own[name] = tops.diagonal(axis1=1, axis2=2), tops.mean(axis=0)
        *chance, pair = compare_on_images(tables, own, 1 / 60)
        claims["chance"] += any(c.p_holm < 0.05 for c in chance)
        claims["pair"] += pair.p_holm < 0.05
    assert max(claims.values(), default=0) <= 7  # of 60 at 5 %, with probability .98 or more


def test_the_scores_go_into_the_statistics_as_they_are(evaluated, tmp_path, capsys):
    """Over subjects alone, which the evaluation calls naive: there the two coincide."""
    out = tmp_path / "tests.csv"
    compare_table(ResultsOptions(results=str(evaluated / "scores.csv"), out=str(out)))
    shown = " ".join(capsys.readouterr().out.split())
    assert "Objectives are compared" in shown
    assert "Score: recall@1. Not used: recall@5." in shown
    assert "Splits: intra-subject. All seeds share their test items" in shown
    (mine,) = csv.DictReader(io.StringIO(out.read_text()))
    *_, own = csv.DictReader(io.StringIO((evaluated / "tests.csv").read_text()))
    assert mine["comparison"] == own["comparison"] == "infonce vs ssr"
    for name in ("mean", "win_share", "p_naive", "p_wilcoxon", "effect_size"):
        assert float(mine[name] or "nan") == pytest.approx(float(own[name] or "nan"), nan_ok=True)
    assert float(mine["p"] or 1) == pytest.approx(float(own["p_naive"] or 1))


def looks_at(storage: Path) -> int:
    return len(list(storage.glob("looks/*/look-*.json")))


def test_scores_are_those_of_a_sorting_by_hand(storage, evaluated):
    rows = list(csv.DictReader(io.StringIO((evaluated / "scores.csv").read_text())))
    assert len(rows) == 2 * len(OBJECTIVES) * 2  # subjects, objectives, seeds
    for ledger in subject_ledgers(UPath(storage), ()):
        dataset = sweep_dataset(ledger)
        place = dataset.things.subjects.index(dataset.subject)
        signals = torch.from_numpy(dataset.things.test[place])
        features = torch.from_numpy(dataset.features["original"][-len(signals) :])
        for record in ledger.records().values():
            spec = configured(ledger.description().sweep.specification, record.configuration)
            model = spec.initial(dataset.on(torch.device("cpu")).select(np.array([0])))
            model.load_state_dict(ledger.encoder(record))
            model.eval()
            with torch.no_grad():
                brain, images = model.brain(signals), model.gallery(features)
            scores = torch.nn.functional.cosine_similarity(brain[:, None], images[None], dim=2)
            ranks = (scores > scores.diag()[:, None]).sum(dim=1) + 1
            (row,) = (
                row
                for row in rows
                if (row["subject"], row["objective"], int(row["seed"]))
                == (dataset.subject, spec.objective.kind, record.seed)
            )
            assert float(row["recall@1"]) == pytest.approx((ranks <= 1).float().mean().item())
            assert float(row["recall@5"]) == pytest.approx((ranks <= 5).float().mean().item())


def test_the_tables_stand_side_by_side_in_the_papers_layout(evaluated):
    shown = (evaluated / "tables.md").read_text()
    assert shown.startswith("# Image decoding on the test images\n\nIn Top-1, ")
    assert "## Top-1\n" in shown
    assert "## Top-5\n" in shown
    assert "| objective | sub-01 | sub-02 | over subjects |" in shown
    assert "12-way retrieval of test images by intra-subject training" in shown
    assert "Chance: 8.3 and 41.7 %." in shown
    assert "chosen before this first look" in shown
    assert "published" not in shown  # synthetic responses compare with nothing
    assert "reimplemented from the papers' descriptions" in shown


def test_a_subject_alone_is_another_look_with_tables_of_its_own(storage, evaluated, capsys):
    (ledger, _) = subject_ledgers(UPath(storage), ())
    before = {path.name: path.read_bytes() for path in evaluated.iterdir()}
    assert set(before) == {"tables.md", "tables.tex", "scores.csv", "tests.csv"}
    looks = looks_at(storage)
    main(ImageEvaluationOptions(storage=str(storage), sweeps=(ledger.folder.name,)))
    assert looks_at(storage) == looks + 1
    assert {path.name: path.read_bytes() for path in evaluated.iterdir()} == before
    (alone,) = (path for path in evaluated.parent.iterdir() if path != evaluated)
    assert {path.name for path in alone.iterdir()} == set(before)
    tables = (alone / "tables.md").read_text()
    shown = capsys.readouterr().out
    for text in (tables, shown):
        assert re.search(r"In Top-1 of sub-01 alone, .* than\sanother\.", text)
        assert "Top-1, over images" in text
        assert "about one subject's responses, and about no other" in " ".join(text.split())
    assert f"sub-01, chosen in {ledger.folder.name}: " in tables
    assert "which were seen once before" in tables
    assert f"Tables: {alone}" in shown
    latex = (alone / "tables.tex").read_text()
    assert latex.count(r"\begin{tabular}") == 4
    assert r"\caption{In Top-1 of sub-01 alone, " in latex


@pytest.mark.parametrize(
    ("lost", "problem"),
    [("record.json", "lacks 1 of its 4 cells"), ("encoder.safetensors", "is missing")],
)
def test_a_run_that_the_second_subject_spoils_is_no_look(storage, tmp_path, lost, problem):
    copy = UPath(shutil.copytree(storage, tmp_path / "copy", copy_function=os.link))
    (_, second) = subject_ledgers(copy, ())
    next(second.folder.glob(f"cells/*/{lost}")).unlink()
    looks = looks_at(copy)
    with pytest.raises(UserError, match=problem):
        main(ImageEvaluationOptions(storage=str(copy)))
    assert looks_at(copy) == looks


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"gallery": "blurred"}, "differ in their gallery: original and blurred"),
        ({"encoder": "ts-conv"}, "differ in their encoder: eeg-project and ts-conv"),
        ({"start_s": 0.2}, "differ in their res"),
        ({"seeds": (0, 2)}, r"differ in their seeds: \(0, 1\) and \(0, 2\)"),
        ({"objectives": ("ssr",)}, "differ in their objectives: infonce, ssr and ssr"),
        ({"ablation": True}, "differ in their objectives: infonce, ssr and ssr, "),
    ],
)
def test_what_is_made_differently_is_not_put_into_one_table(storage, tmp_path, changes, problem):
    (first, _) = subject_ledgers(UPath(storage), ())
    options = ImageOptions(
        **{"storage": str(tmp_path), "synthetic": SYNTHETIC, "objectives": OBJECTIVES}
        | {"seeds": (0, 1), "configurations": 1, "max_epochs": 2, "subjects": ("sub-02",)}
        | changes
    )
    (plan,) = options.datasets()
    other = Ledger(plan.storage / SWEEPS / "other")
    other.describe(Description(sweep=image_sweep(plan, options), origin=plan.origin()))
    check_alike([first])
    with pytest.raises(UserError, match=problem):
        check_alike([first, other])


def test_the_last_sweep_of_a_subject_is_taken_and_two_of_one_are_refused(storage, evaluated):  # noqa: ARG001
    storage = UPath(storage)
    found = subject_ledgers(storage, ())
    names = [ledger.folder.name for ledger in found]
    assert [name.partition("-sub-")[2][:2] for name in names] == ["01", "02"]
    assert subject_ledgers(storage, names[:1])[0].folder.name == names[0]
    later = Ledger(storage / SWEEPS / "later")
    at = "2999-01-01T00:00:00+00:00"
    later.describe(replace(found[0].description(), updated_at=at))
    try:
        assert [led.folder.name for led in subject_ledgers(storage, ())] == ["later", names[1]]
        with pytest.raises(UserError, match=r"are both of sub-01\. Give one sweep of each subject"):
            subject_ledgers(storage, (names[0], "later"))
    finally:
        (later.folder / "sweep.json").unlink()


def test_a_storage_without_images_is_refused(tmp_path):
    with pytest.raises(UserError, match="has no sweep of images"):
        subject_ledgers(UPath(tmp_path), ())


def test_sweeps_of_images_and_of_sentences_are_told_apart(storage):
    (ledger, _) = subject_ledgers(UPath(storage), ())
    name = ledger.folder.name
    with pytest.raises(UserError, match=f"{name} is a sweep of images, not of sentences"):
        find_ledger(UPath(storage), name, "sentences")
    with pytest.raises(UserError, match="no sweep of sentences in"):
        find_ledger(UPath(storage), task="sentences")


def papers(task: Task) -> list[Evaluated]:
    """An evaluation of the papers' subjects, of made-up scores."""
    return [
        Evaluated(
            ledger=Ledger(UPath("none")),
            subject=subject,
            specification=ImageSpec(split=task[1]),
            chosen={"ssr": {}},
            seeds=(0, 1),
            by_image={"ssr": {name: np.eye(2).repeat(100, 1) for name in TOPS}},
            if_own={},
            task=task,
        )
        for subject in paper_subjects(task)
    ]


@pytest.mark.parametrize("task", SSR, ids=" ".join)
def test_published_rows_stand_in_the_columns_of_ours(task):
    found = papers(task)
    for place, metric in enumerate(("recall@1", "recall@5")):
        rows = table_rows(found, metric)
        assert {tuple(row) for row in rows} == {("objective", *paper_subjects(task), OVER)}
        (ssr,) = (row for row in rows if row["objective"].startswith("SSR (published"))
        assert [float(ssr[name]) for name in paper_subjects(task)] == [*SSR[task][place]]
        for row in rows[1:]:
            mean = MEANS[task][row["objective"].partition(" (")[0]][place]
            assert row[OVER] == ("–" if mean is None else f"{mean:.1f}")
    assert len(rows) == 1 + len(MEANS[task])


def test_nothing_published_stands_beside_other_subjects():
    found = papers(EEG_WITHIN)
    assert len(table_rows(found[:9], "recall@1")) == 1
    assert len(table_rows(found[:1], "recall@1")) == 1


def hits_of(generator: np.random.Generator, sd_of_images: float) -> np.ndarray:
    """Hits `[10 subjects, 200 images]`, where images are as easy for one subject as for another."""
    easy = generator.normal(0.3, 0.35, (10, 1)) + generator.normal(0, sd_of_images, 200)
    return (generator.random((10, 200)) < 1 / (1 + np.exp(-easy))).astype(float)


def test_the_standard_errors_are_those_of_images_drawn_anew():
    able = np.random.default_rng(1).normal(0.3, 0.35, (10, 1))
    generator = np.random.default_rng(2)
    drawn = []
    for _ in range(1500):
        easy = able + generator.normal(0, 1, 200)
        drawn.append((generator.random((10, 200)) < 1 / (1 + np.exp(-easy))).astype(float))
    means = np.array([hits.mean(axis=1) for hits in drawn])
    alone, over = np.mean([standard_errors(hits) for hits in drawn], axis=0)
    assert over == pytest.approx(means.mean(axis=1).std(ddof=1), rel=0.06)
    assert alone == pytest.approx(means.std(axis=0, ddof=1).mean(), rel=0.06)
    assert 1.7 < 100 * over < 2.1  # where sqrt(p (1 - p) / 2000) is 1.1
    assert 100 * alone == pytest.approx(3.5, abs=0.2)


def test_objectives_are_compared_over_subjects_and_images():
    generator = np.random.default_rng(3)
    tables = {name: hits_of(generator, 1) for name in ("infonce", "ssr")}
    found = [
        dataclasses.replace(
            each, by_image={n: {m: t[[i, i]] for m in TOPS} for n, t in tables.items()}
        )
        for i, each in enumerate(papers(EEG_WITHIN))
    ]
    *above, pair = compare_objectives(found)
    assert [c.name for c in (*above, pair)] == [
        *("infonce vs chance", "ssr vs chance", "infonce vs ssr"),
    ]
    assert pair.corrected == crossed_ttest(tables["infonce"] - tables["ssr"])
    assert above[0].corrected == crossed_ttest(tables["infonce"] - 1 / 200)
    assert pair.naive.pvalue < pair.corrected.pvalue


def test_published_means_are_those_of_their_subjects():
    for task, (top1, top5) in SSR.items():
        mean1, mean5 = MEANS[task]["SSR"]
        # The papers average before they round.
        assert np.mean(top1) == pytest.approx(mean1, abs=0.06)
        assert np.mean(top5) == pytest.approx(mean5, abs=0.06)
    assert len(SSR[EEG_WITHIN][0]) == 10
