"""The comparison of image decoding over subjects, as it is reported: its words, tables and page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from urllib.parse import quote

from analysis.measure import formats
from analysis.measure.comparison import (
    EQUIVALENCE,
    Comparison,
    comparison_rows,
    comparison_values,
    further_legend,
    further_rows,
)
from analysis.measure.evaluation import Evaluation
from analysis.measure.score_splits import SPLIT
from analysis.report.findings import shown_from, verdict
from analysis.report.image_subjects import (
    LEGEND,
    PRIMARY,
    SubjectResult,
    compare_objectives,
    table_rows,
    words,
)
from analysis.report.images import BY_TEST, REPORTED
from analysis.report.page import Grid, Links, Points, Section, Words, html_page
from ssense.engine.core.cell import describe
from ssense.engine.core.power import RARELY_MET, least_over_subjects, subject_words
from ssense.engine.records.ledger import SWEEPS
from ssense.files.markdown import markdown_table
from ssense.files.tables import csv_table
from ssense.retrieval import metric_title

TITLE = "Image decoding on the test images"
PAGES = "The page of each subject, beside the ledger of its sweep:"
PAGE = "evaluation/report.html"
"""Where a sweep has its page, below the folder of its ledger."""

TitledTable = tuple[str, Sequence[Mapping[str, str]]]
"""Rows, under a title."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OverSubjects:
    """The comparison of objectives over two or more subjects, at the seeds of one protocol.

    Attributes:
        protocol: SEARCH_SEEDS or FRESH_SEEDS.
        found: The results of the subjects.
    """

    protocol: str
    found: Sequence[SubjectResult]

    @cached_property
    def comparisons(self) -> list[Comparison]:
        """The objectives, compared with chance and in pairs."""
        return compare_objectives(self.found)

    @property
    def verdict(self) -> str:
        """What is shown, in a paragraph to quote; nothing where the test chose."""
        metric = f"{metric_title(PRIMARY)} over {len(self.found)} subjects at {self.protocol}"
        if any(each.specification.chosen_by_test for each in self.found):
            return f"In {metric}, nothing is claimed: {BY_TEST}."
        few = f"{len(self.found)} subjects can hardly show any difference" if self._is_few else ""
        return verdict(list(self._first.retrievals), self.comparisons, metric, few, "objectives")

    def score_tables(self) -> list[TitledTable]:
        """Means by objective and subject, a table for each metric that papers report."""
        return [(self._title(metric), table_rows(self.found, metric)) for metric in REPORTED]

    def test_tables(self) -> list[TitledTable]:
        """The tests over subjects and images, and what other tests say of the same differences."""
        title = self._title(PRIMARY)
        tests = comparison_rows(self.comparisons, "comparison", partial(formats.score, PRIMARY))
        return [
            (f"{title}, over subjects and images, differences in points", tests),
            (f"{title}, further measures", further_rows(self.comparisons)),
        ]

    def notes(self) -> list[str]:
        """Say what the scores show, what they can't tell, and what the tests would have shown."""
        said, n_subjects, n_images = words(self.found), len(self.found), self._first.n_test
        if self._is_few:
            return [*said, f"{subject_words(n_subjects, n_images, len(self._pairs) or 1)}."]
        if not self._pairs:
            return said
        unit = f"{n_subjects} subjects and {n_images} images"
        return [*said, shown_from(unit, self._pairs, metric_title(PRIMARY), "objectives")]

    def legends(self) -> list[str]:
        """Explain each of the `test_tables`."""
        further = further_legend(self.comparisons, EQUIVALENCE, partial(formats.score, PRIMARY))
        return [LEGEND, further]

    @property
    def _pairs(self) -> list[Comparison]:
        return self.comparisons[len(self._first.retrievals) :]

    @property
    def _is_few(self) -> bool:
        """Whether so few subjects could show nothing, whatever error their test has estimated."""
        few = least_over_subjects(len(self.found), self._first.n_test, len(self._pairs) or 1)
        return few >= RARELY_MET

    @property
    def _first(self) -> Evaluation:
        return self.found[0].evaluation

    def _title(self, metric: str) -> str:
        return f"{metric_title(metric)} at {self.protocol}"


def contents(compared: Sequence[OverSubjects]) -> dict[str, str]:
    """The files of a comparison over subjects: its page, tables, and scores and tests as numbers.

    Their names are unlike those of a sweep's own evaluation, which MLflow keeps beside them.

    Args:
        compared: The comparison at the seeds of each protocol, the strictest last.
    """
    shown = [f"# {TITLE}", compared[-1].verdict]
    latex: list[str] = []
    for each in reversed(compared):
        tables = [*each.score_tables(), *each.test_tables()]
        texts = [*each.notes(), *each.legends()]
        shown += [f"## {title}\n\n{markdown_table(rows)}" for title, rows in tables] + texts
        captions = [*(title for title, _ in tables[:-1]), " ".join([each.verdict, *texts])]
        latex += map(formats.latex_table, (rows for _, rows in tables), captions)
    tests = [
        {"protocol": each.protocol, **row}
        for each in compared
        for row in comparison_values(each.comparisons, PRIMARY)
    ]
    return {
        "subjects.html": page(compared),
        "subjects.md": "\n\n".join(shown) + "\n",
        "subjects.tex": "\n".join(latex),
        "subjects_scores.csv": csv_table([row for each in compared for row in score_rows(each)]),
        "subjects_tests.csv": csv_table(tests),
    }


def page(compared: Sequence[OverSubjects]) -> str:
    """The page over subjects, which leads to the page of each.

    Args:
        compared: The comparison at the seeds of each protocol, the strictest last.
    """
    last = compared[-1]
    pages = [
        (f"{each.subject}: {each.sweep}", f"../../{SWEEPS}/{quote(each.sweep)}/{PAGE}")
        for each in last.found
    ]
    first = Section("What it shows", [Words([last.verdict]), Links(PAGES, pages)])
    title = f"{TITLE}: {', '.join(each.subject for each in last.found)}"
    return html_page(title, [first, *map(_section, reversed(compared))])


def _section(compared: OverSubjects) -> Section:
    tests = zip(compared.test_tables(), compared.legends(), strict=True)
    return Section(
        f"Test at {compared.protocol}",
        [
            *(Grid(f"{title}.", rows) for title, rows in compared.score_tables()),
            Points(compared.notes()),
            *(Grid(f"{title}. {legend}", rows) for (title, rows), legend in tests),
        ],
    )


def score_rows(compared: OverSubjects) -> formats.Rows:
    """List every subject's and seed's scores as numbers; all seeds of a split share the test."""
    return [
        {
            "protocol": compared.protocol,
            "subject": each.subject,
            "objective": name,
            "configuration": describe(each.evaluation.chosen[name]),
            "seed": seed,
            **{metric: scores[metric][place] for metric in REPORTED},
            SPLIT: each.specification.split,
        }
        for each in compared.found
        for name, scores in each.evaluation.scores.items()
        for place, seed in enumerate(each.evaluation.seeds)
    ]
