"""The evaluation of sweeps over images, whose cells were trained here, in this process."""

from __future__ import annotations

import csv
import gc
import html
import io
import os
import re
import shutil
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from upath import UPath

import analysis.options
from analysis import evaluate, maps
from analysis.compare import main as compare_table
from analysis.evaluate import gather, main, task_report
from analysis.measure.comparison import CUT, IMAGES_LEGEND
from analysis.measure.evaluation import best_configurations, evaluate_chosen, take_up
from analysis.measure.inference import pairing_test, stimulus_test
from analysis.measure.looks import count_looks
from analysis.measure.subject_sweeps import check_alike, subject_ledgers
from analysis.options import EvaluationOptions, MapOptions, ResultsOptions
from analysis.report.images import AGAIN, BY_TEST, HELD_OUT
from ssense.data.synthetic.things import SyntheticThingsSpec
from ssense.engine.records.description import Description
from ssense.engine.records.find import find_ledger
from ssense.engine.records.ledger import SWEEPS, Ledger
from ssense.engine.records.reports import kept_reports
from ssense.engine.search.race import Full
from ssense.engine.search.search import Search
from ssense.engine.sweep_data import SweepData, sweep_data, sweep_dataset
from ssense.engine.tasks.image_options import ImageOptions
from ssense.engine.work.cell import run_cell
from ssense.errors import UserError
from ssense.files.storage import write_together
from ssense.specification import configured
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
        sweep, dataset = image_sweep(plan, options), plan.load(plan.digest)
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
    """Where the tables over subjects are."""
    main(EvaluationOptions(storage=str(storage)))
    (folder,) = (storage / "image_evaluation").iterdir()
    return folder


def test_one_subject_is_tested_over_its_images(storage):
    (ledger, _) = subject_ledgers(UPath(storage), ())
    search, dataset = take_up(ledger), sweep_dataset(ledger)
    found = evaluate_chosen(search, best_configurations(search), ledger, lambda _: dataset)
    assert found.n_test == 12
    for family, retrievals in found.retrievals.items():
        if_own = np.mean([each.all_ranks == 1 for each in retrievals], axis=0)
        hits = np.mean([each.ranks == 1 for each in retrievals], axis=0)
        assert if_own.diagonal() == pytest.approx(hits)
        assert if_own.sum(axis=1) == pytest.approx(np.ones(12))  # some image is the first
        (above,) = (c for c in found.comparisons("recall@1") if c.name == f"{family} vs chance")
        by_image = stimulus_test(hits - 1 / 12, 12)
        assert above.corrected.pvalue == max(by_image.pvalue, pairing_test(if_own, 12))
        assert above.corrected[2:] == pytest.approx(by_image[2:])
        stimuli = [dataset.stimuli[place] for place in retrievals[0].stimuli]
        assert stimuli == list(dataset.things.test_images.files)
        assert (retrievals[0].first[:, 0] == retrievals[0].stimuli).mean() == pytest.approx(
            (retrievals[0].ranks == 1).mean()
        )
    assert found.legend == IMAGES_LEGEND


def test_the_scores_go_into_the_statistics_as_they_are(evaluated, tmp_path, capsys):
    """Over subjects alone, which the evaluation calls naive: there the two coincide."""
    out = tmp_path / "tests.csv"
    compare_table(ResultsOptions(results=str(evaluated / "subjects_scores.csv"), out=str(out)))
    shown = " ".join(capsys.readouterr().out.split())
    assert "Objectives are compared" in shown
    assert "Score: recall@1. Not used: recall@5." in shown
    assert "Splits: intra-subject. All seeds share their test items" in shown
    (mine,) = csv.DictReader(io.StringIO(out.read_text()))
    *_, own = csv.DictReader(io.StringIO((evaluated / "subjects_tests.csv").read_text()))
    assert mine["comparison"] == own["comparison"] == "infonce vs ssr"
    for name in ("mean", "win_share", "p_naive", "p_wilcoxon", "effect_size"):
        assert float(mine[name] or "nan") == pytest.approx(float(own[name] or "nan"), nan_ok=True)
    assert float(mine["p"] or 1) == pytest.approx(float(own["p_naive"] or 1))


def test_the_scores_of_one_subject_go_into_the_statistics_too(storage, evaluated, tmp_path, capsys):  # noqa: ARG001
    (ledger, _) = subject_ledgers(UPath(storage), ())
    folder, out = Path(str(ledger.folder)) / "evaluation", tmp_path / "tests.csv"
    compare_table(ResultsOptions(results=str(folder / "scores.csv"), out=str(out)))
    assert "Score: recall@1. Not used: recall@5" in " ".join(capsys.readouterr().out.split())
    (mine,) = csv.DictReader(io.StringIO(out.read_text()))
    own = csv.DictReader(io.StringIO((folder / "tests.csv").read_text()))
    (pair,) = (r for r in own if (r["metric"], r["comparison"]) == ("recall@1", "infonce vs ssr"))
    assert float(mine["mean"]) == pytest.approx(float(pair["mean"]))


def looks_at(storage: Path) -> int:
    return len(list(storage.glob("looks/*/look-*.json")))


def test_scores_are_those_of_a_sorting_by_hand(storage, evaluated):
    rows = list(csv.DictReader(io.StringIO((evaluated / "subjects_scores.csv").read_text())))
    assert len(rows) == 2 * len(OBJECTIVES) * 2  # subjects, objectives, seeds
    for ledger in subject_ledgers(UPath(storage), ()):
        dataset = sweep_dataset(ledger)
        place = dataset.things.subjects.index(dataset.subject)
        signals = torch.from_numpy(dataset.things.test[place])
        features = torch.from_numpy(dataset.features["original"][-len(signals) :])
        for record in ledger.records().values():
            spec = configured(ledger.description().sweep.specification, record.configuration)
            model = spec.initial(dataset.on(torch.device("cpu")).select(np.array([0])))
            model.load_state_dict(ledger.weights(record))
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
    shown = (evaluated / "subjects.md").read_text()
    title = "# Image decoding on the test images"
    assert shown.startswith(f"{title}\n\nIn Recall@1 over 2 subjects at search seeds, ")
    assert "## Recall@1 at search seeds\n" in shown
    assert "## Recall@5 at search seeds\n" in shown
    assert "fresh seeds" not in shown
    assert "| objective | sub-01 | sub-02 | over subjects |" in shown
    assert "12-way retrieval of test images by intra-subject training" in shown
    assert "Chance: 8.3 and 41.7 %." in shown
    assert "chosen before this first look" in shown
    assert "published" not in shown  # synthetic responses compare with nothing
    assert "reimplemented from the papers' descriptions" in shown


def test_each_subject_has_the_page_figures_and_tables_that_sentences_have(storage, evaluated):  # noqa: ARG001
    for ledger in subject_ledgers(UPath(storage), ()):
        folder = Path(str(ledger.folder)) / "evaluation"
        names = {path.name for path in folder.iterdir()}
        assert {"report.html", "table.md", "table.csv", "tests.csv", "scores.csv"} <= names
        for figure in ("matrix", "curves", "response", "search_seeds", "search_seeds_ranks"):
            assert {f"{figure}.png", f"{figure}.svg", f"{figure}.pdf"} <= names
        page = (folder / "report.html").read_text()
        subject = ledger.description().origin.subject
        for words in (
            f"In Recall@1 of {subject} alone, ",
            "12-way retrieval of the test images by intra-subject training, gallery original",
            "chosen before this first look at these test splits",
            "about one subject's responses, and about no other",
            "Images retrieved from the signal, best match first",
            "Rank of the true image among 12 candidates",
            "12 to test",
        ):
            assert words in html.unescape(page), words
        assert "sentence" not in page.lower().replace("sentences to quote", "")
        rows = list(csv.DictReader(io.StringIO((folder / "scores.csv").read_text())))
        assert len(rows) == len(OBJECTIVES) * 2


def test_a_subject_alone_is_another_look_and_leaves_the_others(storage, evaluated, capsys):
    (ledger, _) = subject_ledgers(UPath(storage), ())
    before = {path.name: path.read_bytes() for path in evaluated.iterdir()}
    assert set(before) == {
        *("subjects.html", "subjects.md", "subjects.tex"),
        *("subjects_scores.csv", "subjects_tests.csv"),
    }
    looks = looks_at(storage)
    main(EvaluationOptions(storage=str(storage), sweep=ledger.folder.name))
    assert looks_at(storage) == looks + 1
    assert {path.name: path.read_bytes() for path in evaluated.iterdir()} == before
    assert [*evaluated.parent.iterdir()] == [evaluated]
    shown = " ".join(capsys.readouterr().out.split())
    assert re.search(r"In Recall@1 of sub-01 alone, .* than another\.", shown)
    assert "which were seen once before" in shown


def test_fresh_seeds_confirm_images_as_they_do_sentences(storage, tmp_path, local_ray, capsys):  # noqa: ARG001
    copy = UPath(shutil.copytree(storage, tmp_path / "copy", copy_function=os.link))
    (ledger, _) = subject_ledgers(copy, ())
    options = {"storage": str(copy)}
    with pytest.raises(UserError, match="the search has seen seed 1"):
        main(EvaluationOptions(**options, confirm_seeds=(1, 101)))
    looks = looks_at(copy)
    main(EvaluationOptions(**options, confirm_seeds=(100, 101)))
    assert looks_at(copy) == looks + 2  # one of each subject at both kinds of seeds
    shown = (ledger.folder / "evaluation" / "table.md").read_text()
    by_seeds = [part.split(";", 1)[1] for part in shown.split("## ")[1:]]
    assert len({words.split(".")[0] for words in by_seeds}) == 1
    assert AGAIN.format(" and other held-out concepts") in shown
    said = " ".join(capsys.readouterr().out.split())
    assert "In Recall@1 at fresh seeds of sub-01 alone" in said
    rows = (ledger.folder / "evaluation" / "scores.csv").read_text()
    found = {(r["protocol"], r["seed"]) for r in csv.DictReader(io.StringIO(rows))}
    assert {seed for protocol, seed in found if protocol == "fresh seeds"} == {"100", "101"}
    assert (ledger.folder / "evaluation" / "fresh_seeds_ranks.png").exists()
    both_protocols_are_compared_over_subjects(copy, said)


def both_protocols_are_compared_over_subjects(storage: UPath, said: str) -> None:
    (folder,) = (storage / "image_evaluation").iterdir()
    assert "In Recall@1 over 2 subjects at fresh seeds, none of" in said
    assert "2 subjects can hardly show any difference." in said
    shown, latex = ((folder / f"subjects.{kind}").read_text() for kind in ("md", "tex"))
    for protocol in ("search seeds", "fresh seeds"):
        assert f"Recall@1 at {protocol}" in said
        assert f"## Recall@1 at {protocol}, over subjects and images" in shown
        assert rf"\caption{{Recall@5 at {protocol}}}" in latex
    of = {}
    for name in ("scores", "tests"):
        text = (folder / f"subjects_{name}.csv").read_text()
        of[name] = list(csv.DictReader(io.StringIO(text)))
        protocols = [row["protocol"] for row in of[name]]
        assert protocols == sorted(protocols, reverse=True)  # search, then fresh
        assert protocols.count("fresh seeds") == len(protocols) // 2 > 0
    seeds = {(row["protocol"].split()[0], row["seed"]) for row in of["scores"]}
    assert seeds == {("search", "0"), ("search", "1"), ("fresh", "100"), ("fresh", "101")}
    # Scores of one protocol are what tells them apart, also for the statistics on tables.
    out = Path(str(folder)) / "again.csv"
    compare_table(ResultsOptions(results=str(folder / "subjects_scores.csv"), out=str(out)))
    (mine,) = csv.DictReader(io.StringIO(out.read_text()))
    own = of["tests"][-1]
    assert float(mine["mean"]) == pytest.approx(float(own["mean"]))


@pytest.mark.parametrize(
    ("lost", "problem"),
    [("record.json", "lacks 1 of its 4 cells"), ("weights.safetensors", "is missing")],
)
def test_a_run_that_the_second_subject_spoils_is_no_look(storage, tmp_path, lost, problem):
    copy = UPath(shutil.copytree(storage, tmp_path / "copy", copy_function=os.link))
    (_, second) = subject_ledgers(copy, ())
    next(second.folder.glob(f"cells/*/{lost}")).unlink()
    looks = looks_at(copy)
    with pytest.raises(UserError, match=problem):
        main(EvaluationOptions(storage=str(copy)))
    assert looks_at(copy) == looks


def test_an_interrupt_leaves_the_looks_of_reports_that_are_there(storage, tmp_path, monkeypatch):
    copy = UPath(shutil.copytree(storage, tmp_path / "copy", copy_function=os.link))
    for left in (copy / "looks", *copy.glob("sweeps/*/looks"), *copy.glob("sweeps/*/evaluation")):
        if left.exists():
            shutil.rmtree(left)
    first, second = subject_ledgers(copy, ())
    folders: list[UPath] = []

    def write(folder: UPath, *rest: object) -> None:
        folders.append(folder)
        if folder == second.folder / "evaluation":
            raise KeyboardInterrupt
        write_together(folder, *rest)

    monkeypatch.setattr("analysis.evaluate.write_together", write)
    with pytest.raises(KeyboardInterrupt):
        main(EvaluationOptions(storage=str(copy)))
    assert folders == [ledger.folder / "evaluation" for ledger in (first, second)]
    assert (folders[0] / "report.html").exists()
    assert not folders[1].exists()
    assert (count_looks(first), count_looks(second)) == (1, 0)


def test_an_evaluation_that_waits_for_the_others_keeps_no_dataset(storage, monkeypatch):
    datasets = []

    def read(ledger: Ledger) -> SweepData:
        found = sweep_data(ledger)
        datasets.append(weakref.ref(found.of({})))
        return found

    monkeypatch.setattr("analysis.evaluate.sweep_data", read)
    (ledger, _) = subject_ledgers(UPath(storage), ())
    search, options = take_up(ledger), EvaluationOptions(storage=str(storage))
    found = gather(ledger, search, best_configurations(search), options)
    gc.collect()
    assert len(found.stimuli) > 12
    assert [each() for each in datasets] == [None]


def test_what_the_test_chose_is_said_everywhere_and_counts_as_a_look(tmp_path):
    by_test = "intra-subject, best test epoch"
    sweep_all(tmp_path, split=by_test, subjects=("sub-01",))
    (ledger,) = subject_ledgers(UPath(tmp_path), ())
    main(EvaluationOptions(storage=str(tmp_path)))
    assert count_looks(ledger) == 1
    folder = Path(str(ledger.folder)) / "evaluation"
    page = html.unescape((folder / "report.html").read_text())
    for text in (
        page,
        (folder / "table.md").read_text(),
        (folder / "search_seeds.tex").read_text(),
    ):
        assert BY_TEST in " ".join(text.split())
        assert "No test split" not in text
        assert "concepts that training holds out" not in text
    assert "Validation is on the test split itself." in page
    assert "Looks at test splits</th><td>1<" in page
    sweep_all(tmp_path, subjects=("sub-01",))  # by other splits, on the same test images
    main(EvaluationOptions(storage=str(tmp_path), sweep=find_ledger(UPath(tmp_path)).folder.name))
    later = (find_ledger(UPath(tmp_path)).folder / "evaluation" / "table.md").read_text()
    assert "seen once before it was made: the choice may know them" in " ".join(later.split())
    assert f"{HELD_OUT} " in later


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"gallery": "blurred"}, "differ in their gallery: original and blurred"),
        ({"encoder": "ts-conv"}, "differ in their encoder: eeg-project and ts-conv"),
        ({"start_s": 0.2}, "differ in their res"),
        ({"seeds": (0, 2)}, r"differ in their seeds: \(0, 1\) and \(0, 2\)"),
        ({"objectives": ("ssr",)}, "differ in their objectives: infonce, ssr and ssr"),
        (
            {"ablation": True},
            "differ in their objectives: infonce, ssr and InfoNCE on augmented images, ",
        ),
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


def test_the_page_over_subjects_leads_to_the_page_of_each(storage, evaluated):
    page = (evaluated / "subjects.html").read_text()
    addresses = re.findall(r'<li><a href="([^"#]+)">([^<]+)</a></li>', page)
    ledgers = subject_ledgers(UPath(storage), ())
    assert [name for _, name in addresses] == [
        f"{ledger.description().origin.subject}: {ledger.folder.name}" for ledger in ledgers
    ]
    for (address, _), ledger in zip(addresses, ledgers, strict=True):
        target = (evaluated / address).resolve()
        assert target == (Path(str(ledger.folder)) / "evaluation" / "report.html").resolve()
        assert target.exists()
    text = html.unescape(page)
    for words in ("Test at search seeds", "over subjects and images, differences in points", CUT):
        assert words in text
    assert "2 subjects show hardly any difference; at least 4 are needed, which show" in text
    assert "Wilcoxon's p over 2 pairs can't be below 0.5; at least 6 are needed" in text


def test_tables_over_subjects_hide_none_of_a_sweep_s_own_in_mlflow(storage, evaluated):
    for ledger in subject_ledgers(UPath(storage), ()):
        (report, *_), _ = kept_reports(ledger.folder)  # another test evaluates a sweep once more
        kept, own = report.files, ledger.folder / "evaluation"
        assert kept["scores.csv"] == (own / "scores.csv").read_bytes()
        assert kept["tests.csv"] == (own / "tests.csv").read_bytes()
        assert b"<h1>Test evaluation of " in kept["report.html"]
        assert {path.name for path in evaluated.iterdir()} <= kept.keys()


def test_what_fresh_seeds_draw_is_said_alike_by_the_help_and_by_the_tables(storage):
    (ledger, _) = subject_ledgers(UPath(storage), ())
    report = task_report(ledger, sweep_dataset(ledger))
    assert report.caption_end("search seeds").startswith(HELD_OUT)
    said = report.caption_end("fresh seeds")
    assert said.startswith("Fresh seeds draw other initial weights and other held-out concepts; ")
    source = replace(report.origin.source, split_seed=3)  # which draws the concepts of every seed
    kept = replace(report, origin=replace(report.origin, source=source))
    said_of_kept = kept.caption_end("fresh seeds")
    assert said_of_kept.startswith("Fresh seeds draw other initial weights; the test images are ")
    shown = " ".join(evaluate.__doc__.split())
    assert "Fresh seeds deal the same sentences out anew" in shown
    assert "the test images are the same for all seeds" in shown
    options = " ".join(Path(analysis.options.__file__).read_text().split())
    assert "draw other test splits, except of images and of --split held-out" in options


@pytest.mark.usefixtures("evaluated")
def test_each_subject_has_maps_of_channels_and_windows_in_its_report(storage):
    ledgers = subject_ledgers(UPath(storage), ())
    looked = [count_looks(ledger) for ledger in ledgers]
    maps.main(MapOptions(storage=str(storage), families=("infonce",), windows=4, permutations=50))
    assert [count_looks(ledger) for ledger in ledgers] == [n + 1 for n in looked]
    for ledger in ledgers:
        with (Path(str(ledger.folder)) / "maps" / "maps.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["metric"] == "recall@1"]
        trained = [row for row in rows if row["encoder"] == "trained"]
        assert len(trained) == 2 * (17 + 17 + 4)  # seeds, posterior channels, windows
        with (Path(str(ledger.folder)) / "evaluation" / "scores.csv").open(newline="") as file:
            scores = {
                row["seed"]: float(row["recall@1"])
                for row in csv.DictReader(file)
                if row["family"] == "infonce"
            }
        for row in trained:
            if not row["what"].endswith("alone"):
                whole = float(row["effect"]) + float(row["score"])
                assert whole == pytest.approx(scores[row["seed"]], abs=1e-9)
        report = (ledger.folder / "evaluation" / "report.html").read_text()
        assert '<figure id="channel_left_out" class="marked">' in report
        assert "Channels on a head seen from above" in report
        page = (ledger.folder / "maps" / "maps.html").read_text()
        assert f"<h1>Maps of {ledger.folder.name}: {ledger.description().origin.subject}" in page
        assert (ledger.folder / "maps" / "channel_alone.svg").exists()
    client = MlflowClient(f"sqlite:///{storage / 'mlflow.db'}")
    runs = [
        run
        for experiment in client.search_experiments()
        for run in client.search_runs([experiment.experiment_id], "tags.`ssense.level` = 'maps'")
    ]
    assert len(runs) == len(ledgers)


@pytest.mark.usefixtures("evaluated")
def test_maps_of_one_sweep_over_images_are_of_that_subject_alone(storage):
    first, second = subject_ledgers(UPath(storage), ())
    looked = count_looks(second)
    options = {"maps": ("times",), "windows": 2, "permutations": 19}
    maps.main(MapOptions(storage=str(storage), sweep=first.folder.name, **options))
    assert not (first.folder / "maps" / "channel_alone.svg").exists()
    assert count_looks(second) == looked
    with pytest.raises(UserError, match="responses to images have no bands of frequency"):
        maps.main(MapOptions(storage=str(storage), maps=("bands",)))
    for name, value in {"space": "mni152", "sentences": 5, "bands": 3}.items():
        with pytest.raises(UserError, match=f"--{name} {value} is of sentences"):
            maps.main(MapOptions(storage=str(storage), **{name: value}))
    assert count_looks(second) == looked
