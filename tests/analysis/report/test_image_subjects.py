"""Tables of image decoding over subjects, beside what was published."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import pytest

from analysis.measure.evaluation import Evaluation, Retrieval
from analysis.measure.inference import crossed_ttest
from analysis.report.image_subjects import (
    NOT_PUBLISHED,
    OVER,
    SubjectResult,
    compare_objectives,
    paper_subjects,
    standard_errors,
    table_rows,
    words,
)
from analysis.report.over_subjects import OverSubjects
from analysis.report.published import EEG_WITHIN, MEANS, SSR, Task
from ssense.data.splits import Split
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


def test_a_dash_in_a_published_row_is_explained_where_there_are_such_rows():
    found = papers(EEG_WITHIN)
    assert any("–" in row.values() for row in table_rows(found, "recall@1"))
    assert NOT_PUBLISHED in words(found)[0]
    assert NOT_PUBLISHED not in words(found[:9])[0]


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


def test_nothing_published_stands_beside_other_subjects():
    found = papers(EEG_WITHIN)
    assert len(table_rows(found[:9], "recall@1")) == 1


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
    for task, (top1, top5) in SSR.items():
        mean1, mean5 = MEANS[task]["SSR"]
        # The papers average before they round.
        assert np.mean(top1) == pytest.approx(mean1, abs=0.06)
        assert np.mean(top5) == pytest.approx(mean5, abs=0.06)
    assert len(SSR[EEG_WITHIN][0]) == 10
