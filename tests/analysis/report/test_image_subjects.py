"""Tables of image decoding over subjects, beside what was published."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import pytest
from upath import UPath

from analysis.measure.evaluation import Evaluation, Retrieval
from analysis.measure.inference import crossed_ttest, two_way_bootstrap
from analysis.report.image_subjects import (
    INTERVAL,
    LEGEND,
    NOT_PUBLISHED,
    OVER,
    SHARED_TRAINING,
    SubjectResult,
    compare_objectives,
    standard_errors,
    table_rows,
    words,
)
from analysis.report.images import ImageReport
from analysis.report.over_subjects import OverSubjects
from analysis.report.published import (
    BY_SUBJECT,
    BY_TEST,
    EEG_ACROSS,
    EEG_WITHIN,
    MEANS,
    MEG_WITHIN,
    METHODS,
    SUBJECTS,
    Task,
    published_rows,
    sources,
)
from ssense.data.splits import Split
from ssense.data.synthetic.things import RECORD
from ssense.data.things.responses import POSTERIOR, ResponseSpec
from ssense.engine.core.origin import ImageOrigin, ImageSource
from ssense.engine.records.ledger import Ledger
from ssense.targets.image_features import ImageTowerSpec
from ssense.training.images import ImageSpec


def evaluation_of(hits: Mapping[str, np.ndarray]) -> Evaluation:
    """An evaluation whose seeds hit the first place at some images, `[seeds, n]`, by objective."""
    n = next(iter(hits.values())).shape[1]
    return Evaluation(
        specification=ImageSpec(),
        chosen={name: {} for name in hits},
        splits=dict.fromkeys((0, 1), Split(np.arange(1000), np.arange(0), np.arange(n))),
        retrievals={
            name: [
                Retrieval(
                    stimuli=np.arange(n),
                    ranks=np.where(row, 1.0, n),
                    first=np.zeros((n, 5), int),
                    all_ranks=np.full((n, n), n, np.float32),
                )
                for row in rows
            ]
            for name, rows in hits.items()
        },
    )


def paper_subjects(task: Task) -> list[str]:
    return [f"sub-{number:02d}" for number in range(1, SUBJECTS[task[0]] + 1)]


def papers(task: Task) -> list[SubjectResult]:
    """An evaluation of the papers' subjects, of made-up scores."""
    return [
        SubjectResult(
            sweep="images",
            subject=subject,
            specification=ImageSpec(split=task[1]),
            evaluation=evaluation_of({"ssr": np.eye(2).repeat(100, 1)}),
            look="chosen before",
            task=task,
        )
        for subject in paper_subjects(task)
    ]


@pytest.mark.parametrize("task", MEANS, ids=" ".join)
def test_published_rows_stand_in_the_columns_of_ours(task):
    found = papers(task)
    for place, metric in enumerate(("recall@1", "recall@5")):
        rows = table_rows(found, metric)
        assert {tuple(row) for row in rows} == {
            ("objective", *paper_subjects(task), OVER, INTERVAL),
        }
        (ssr,) = (row for row in rows if row["objective"].startswith("SSR (published"))
        own = BY_SUBJECT[task]["SSR"][place]
        assert [float(ssr[name]) for name in paper_subjects(task)] == [*own]
        for row in rows[1:]:
            mean = MEANS[task][row["objective"].partition(" (")[0]][place]
            assert row[OVER] == ("–" if mean is None else f"{mean:.1f}")
    assert len(rows) == 1 + len(MEANS[task])


def test_every_published_row_has_its_source_and_protocol():
    found = papers(EEG_WITHIN)
    names = [row["objective"] for row in table_rows(found, "recall@1")[1:]]
    assert f"ATM (published; gallery original; {BY_TEST})" in names
    assert "EEGiT (published; gallery not stated; choice not stated)" in names
    said = words(found)[0]
    for name in MEANS[EEG_WITHIN]:
        assert f"{name}: {METHODS[name].citation}" in said
    assert {name for means in MEANS.values() for name in means} == METHODS.keys()


def test_a_dash_in_a_published_row_is_explained_where_there_are_such_rows():
    found = papers(EEG_WITHIN)
    assert any("–" in row.values() for row in table_rows(found, "recall@1"))
    assert NOT_PUBLISHED in words(found)[0]
    unknown = [dataclasses.replace(each, task=None) for each in found]
    assert NOT_PUBLISHED not in words(unknown)[0]


@pytest.mark.parametrize("names", [("sub-08", "sub-01"), ("P3",)])
def test_some_of_the_papers_subjects_meet_their_own_scores(names):
    """Where a method published means alone, its row says whose mean it is."""
    task = MEG_WITHIN if names == ("P3",) else EEG_ACROSS
    rows = {row.name.partition(" (")[0]: row for row in published_rows(task, names, 0)}
    assert rows.keys() == MEANS[task].keys()
    places = [{"sub-08": 7, "sub-01": 0, "P3": 2}[name] for name in names]
    for name, (top1, _) in BY_SUBJECT[task].items():
        assert rows[name].of_subjects == tuple(top1[place] for place in places)
        assert rows[name].over == pytest.approx(np.mean([top1[place] for place in places]))
        assert "mean of" not in rows[name].name
    alone = rows["Shallow Alignment"]
    assert f"published mean of {SUBJECTS[task[0]]} subjects" in alone.name
    assert (alone.of_subjects, alone.over) == (
        (None,) * len(names),
        MEANS[task][alone.name[:17]][0],
    )


def report_on(folder, subject: str, **changes: object) -> ImageReport:
    source = ImageSource(
        responses=str(folder),
        images=str(folder),
        subject=subject,
        subjects=(subject,),
        responses_taken=ResponseSpec(),
        image_tower=ImageTowerSpec(),
        kinds=("original",),
        pixels=False,
    )
    values = {"specification": ImageSpec(), "channels": POSTERIOR, "n_images": (16540, 200)}
    origin = ImageOrigin(title="things", source=source, test="images")
    return ImageReport(ledger=Ledger(UPath(folder)), origin=origin, **values | changes)


def test_one_subject_alone_has_published_rows_too(tmp_path):
    report = report_on(tmp_path, "sub-08")
    rows = report.published()
    assert len(rows) == len(MEANS[EEG_WITHIN])
    (ubp,) = (row for row in rows if row["family"].startswith("UBP"))
    assert (ubp["Recall@1"], ubp["Recall@5"]) == ("58.6", "85.8")
    assert ubp["family"].endswith("gallery blurred; last epoch, stopped by the training loss)")
    assert METHODS["UBP"].citation in report.caption_end("search seeds")
    best = ImageSpec(split="intra-subject, best test epoch")
    assert len(report_on(tmp_path, "sub-08", specification=best).published()) == 5
    (shallow,) = (
        row
        for row in report_on(tmp_path, "P3", channels=("MLC11",)).published()
        if row["family"].startswith("Shallow")
    )
    assert (shallow["Recall@1"], shallow["Recall@5"]) == ("48.0", "–")
    assert not report_on(tmp_path, "sub-08", n_images=(16540, 100)).published()
    (tmp_path / RECORD).write_text("")
    assert not report.published()
    assert "quoted" not in report.caption_end("search seeds")


def test_where_the_test_chose_only_rows_that_it_chose_stand_beside():
    rows = published_rows(EEG_WITHIN, ["sub-01"], 0, by_test=True)
    assert {row.name.partition(" (")[0] for row in rows} == {
        *("ATM", "CogCapturer", "Neural-MCRL", "SUP-MCRL", "SAMGA")
    }
    assert sources([]) == ""


def test_two_subjects_are_said_to_show_nothing_and_ten_what_they_would():
    generator = np.random.default_rng(4)
    found = [
        dataclasses.replace(
            each,
            evaluation=evaluation_of({n: hits_of(generator, 1)[[i, i]] for n in ("a", "b")}),
        )
        for i, each in enumerate(papers(EEG_WITHIN))
    ]
    two, ten = (OverSubjects(protocol="search seeds", found=found[:n]) for n in (2, 10))
    assert two.verdict.startswith("In Recall@1 over 2 subjects at search seeds, ")
    assert two.verdict.endswith("; 2 subjects can hardly show any difference.")
    assert two.notes()[-1].startswith("2 subjects show hardly any difference; at least 3 are ")
    assert "hardly" not in ten.verdict
    assert ten.notes()[-1].startswith("With 10 subjects and 200 images the test finds a difference")


def test_nothing_published_stands_beside_other_subjects_or_other_tests():
    found = papers(EEG_WITHIN)
    other = [dataclasses.replace(found[0], subject="sub-11"), *found[1:]]
    assert len(table_rows(other, "recall@1")) == 1
    assert not published_rows(EEG_WITHIN, ["sub-00"], 0)
    assert not published_rows(EEG_WITHIN, ["patient"], 0)
    few = [dataclasses.replace(e, evaluation=evaluation_of({"ssr": np.eye(2)})) for e in found]
    assert len(table_rows(few, "recall@1")) == 1


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
    assert alone == pytest.approx(means.std(axis=0, ddof=1).max(), rel=0.06)
    assert 1.7 < 100 * over < 2.1  # where sqrt(p (1 - p) / 2000) is 1.1
    assert 100 * alone == pytest.approx(3.5, abs=0.2)


def test_up_to_is_said_of_the_subject_whose_score_is_nearest_to_a_half():
    hits = np.zeros((3, 200))
    for row, n in zip(hits, (2, 100, 190), strict=True):
        row[:n] = 1
    alone, _ = standard_errors(hits)
    assert alone == pytest.approx(np.sqrt(0.5 * 0.5 / 199))


def test_intervals_are_of_other_subjects_and_images_and_said_to_be():
    generator = np.random.default_rng(3)
    tables = {name: hits_of(generator, 1) for name in ("infonce", "ssr")}
    found = [
        dataclasses.replace(
            each, evaluation=evaluation_of({n: t[[i, i]] for n, t in tables.items()})
        )
        for i, each in enumerate(papers(EEG_ACROSS))
    ]
    (row,) = (r for r in table_rows(found, "recall@1") if r["objective"] == "ssr")
    test = crossed_ttest(tables["ssr"])
    assert row[INTERVAL] == f"{100 * test.low:.2f} to {100 * test.high:.2f}"
    said = " ".join(words(found))
    low, high = two_way_bootstrap(tables["infonce"] - tables["ssr"])[1:]
    assert f"infonce minus ssr {100 * low:.1f} to {100 * high:.1f}." in said
    assert "Intervals are about the mean of other subjects who meet other images" in LEGEND
    assert SHARED_TRAINING in said
    assert SHARED_TRAINING not in " ".join(words(papers(EEG_WITHIN)))
    four = " ".join(words(papers(MEG_WITHIN)))
    assert "bootstrap" not in four  # too few to draw again


def test_objectives_are_compared_over_subjects_and_images():
    generator = np.random.default_rng(3)
    tables = {name: hits_of(generator, 1) for name in ("infonce", "ssr")}
    found = [
        dataclasses.replace(
            each, evaluation=evaluation_of({n: t[[i, i]] for n, t in tables.items()})
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


def test_two_subjects_bound_no_difference_beyond_all_or_nothing():
    hits = [np.arange(200) < n for n in (100, 20)]
    found = [
        dataclasses.replace(each, evaluation=evaluation_of({"a": row[None], "b": 0 * row[None]}))
        for each, row in zip(papers(EEG_WITHIN)[:2], hits, strict=True)
    ]
    chance, _, pair = (c.corrected for c in compare_objectives(found))
    assert (chance.low, chance.high) == pytest.approx((-1 / 200, 1 - 1 / 200))
    assert (pair.low, pair.high) == (-1, 1)


def test_published_means_are_those_of_their_subjects():
    for task, methods in BY_SUBJECT.items():
        for name, of_subjects in methods.items():
            for own, mean in zip(of_subjects, MEANS[task][name], strict=True):
                assert len(own) == SUBJECTS[task[0]]
                # The papers average before they round.
                assert np.mean(own) == pytest.approx(mean, abs=0.06), (task, name)
