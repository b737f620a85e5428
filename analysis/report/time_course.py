"""What a report says of windows that slide along the sentence's onset: the course of the score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from analysis.measure import formats
from analysis.measure.comparison import Comparison
from analysis.measure.evaluation import Evaluation
from analysis.measure.inference import TTest, benjamini_hochberg
from analysis.measure.windows import Windows, stretches
from analysis.report.figures import scale_and_title
from analysis.report.findings import in_list, is_above
from analysis.report.page import Block, Grid, Picture, Points, Words
from analysis.report.question import QuestionReport
from analysis.report.time_figures import time_course_figure
from ssense.retrieval import metric_title

NOTES = (
    "Each window has an encoder of its own, trained and tested at that window, on the same "
    "sentences and splits as all others. What it says is that sentences can be told apart there, "
    "not that the brain uses it, and not when what is told apart arose.",
    "That one window is above chance and the next is not shown to be is no difference between "
    "them: the tests of pairs say which differ.",
    "Behind the end of a sentence a window hears what comes next, and before its onset what came "
    "before; the share of sentences that are still being spoken is below the course.",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class CourseReport(QuestionReport):
    """The course of a score over windows.

    Attributes:
        windows: Where each window begins and ends, seconds after the onset, by family.
        evaluation: The evaluation, which has these families.
        ends_s: Spoken duration of each sentence, `[N]` seconds; None where it is not known.
        beyond_s: Signal outside of a window, at each side, that its features may see, seconds.
    """

    name: ClassVar = "time_course"
    title: ClassVar = "When sentences are told apart"

    windows: Windows
    evaluation: Evaluation
    ends_s: np.ndarray | None
    beyond_s: float

    @property
    def _metric(self) -> str:
        return self.evaluation.primary

    @cached_property
    def _tests(self) -> dict[str, Comparison]:
        """The comparison of each window with chance, Holm over all of them, by family."""
        families = [*self.evaluation.retrievals]
        tests = self.evaluation.comparisons(self._metric)[: len(families)]
        found = dict(zip(families, tests, strict=True))
        return {family: found[family] for family in self.windows}

    @cached_property
    def _means(self) -> dict[str, TTest]:
        return {each: self.evaluation.means([self._metric], each)[0] for each in self.windows}

    @cached_property
    def _p_fdr(self) -> dict[str, float]:
        p = benjamini_hochberg([test.corrected.pvalue for test in self._tests.values()])
        return dict(zip(self.windows, p.tolist(), strict=True))

    @property
    def _above(self) -> list[str]:
        """Families whose window is shown to be above chance."""
        return [family for family, test in self._tests.items() if is_above(test)]

    @property
    def quote(self) -> str:
        """When the score is above chance, and when it is highest."""
        n, title = len(self.windows), metric_title(self._metric)
        if not self._above:
            return f"{title} is shown to be above chance in none of {n} windows, after Holm."
        shown = [family in self._above for family in self.windows]
        spans = [_span(each) for each in stretches([*self.windows.values()], shown)]
        best = max(self._means, key=lambda family: self._means[family].mean)
        test, difference = self._means[best], self._tests[best].corrected.mean
        return (
            f"{title} is above chance in {len(self._above)} of {n} windows, from {in_list(spans)} "
            f"after the sentence's onset (after Holm over {n}); it is highest from "
            f"{_span(self.windows[best])}, {self._score(test.mean)}{self._interval(test)}, "
            f"{self._score(difference, ' points')} above chance."
        )

    def _score(self, value: float, unit: str = " %") -> str:
        return f"{value:.4f}" if self._metric == "mrr" else f"{100 * value:.1f}{unit}"

    def _interval(self, test: TTest) -> str:
        if not math.isfinite(test.high - test.low):
            return ""
        scale = scale_and_title(self._metric)[0]
        return f" (95 % CI {scale * test.low:.1f} to {scale * test.high:.1f})"

    def table_rows(self) -> Sequence[dict[str, str]]:
        """Lay out the windows in order."""
        scores, title = self.evaluation.scores, metric_title(self._metric)
        return [
            {
                "window": _span(window),
                f"test {title}": formats.score(
                    self._metric,
                    scores[family][self._metric].mean(),
                    scores[family][self._metric].std(ddof=1),
                ),
                "95 % interval": self._interval(self._means[family]).strip(" ()")[8:] or "–",
                "p from chance": formats.p_value(self._tests[family].corrected.pvalue),
                "Holm": formats.p_value(self._tests[family].p_holm),
                "FDR": formats.p_value(self._p_fdr[family]),
            }
            for family, window in self.windows.items()
        ]

    def value_rows(self) -> list[dict[str, object]]:
        """List the windows as numbers, with the mean over the seeds and its test."""
        return [
            {
                "family": family,
                "start_s": start_s,
                "end_s": end_s,
                "metric": self._metric,
                "mean": self._means[family].mean,
                "low": self._means[family].low,
                "high": self._means[family].high,
                "chance": self.evaluation.chance[self._metric],
                "p": self._tests[family].corrected.pvalue,
                "p_holm": self._tests[family].p_holm,
                "p_fdr": self._p_fdr[family],
            }
            for family, (start_s, end_s) in self.windows.items()
        ]

    def picture(self) -> Picture:
        """The figure of the course."""
        title = f"Test {metric_title(self._metric)} by window, after the sentence's onset"
        caption = (
            f"{title}: mean over {len(self.evaluation.seeds)} seeds (dots: one seed), with its "
            "95 % interval. Filled: shown to be above chance, after Holm over the windows. Dashed: "
            "chance. Below: the share of sentences that are still being spoken."
        )
        by_window = [self.evaluation.scores[family][self._metric] for family in self.windows]
        figure = time_course_figure(
            [*self.windows.values()],
            [*self._means.values()],
            np.stack(by_window, axis=1),
            [family in self._above for family in self.windows],
            self.evaluation.chance[self._metric],
            self.ends_s,
            self._metric,
        )
        return Picture(self.name, title, caption, figure)

    def blocks(self, picture: Picture) -> list[Block]:
        """The section of the report, see `QuestionReport`."""
        caption = "Scores by window, over the seeds. Holm and FDR: adjusted for all windows."
        seen = (
            f"Features of a window may see up to {self.beyond_s:.2f} s of signal before and behind "
            "it, low frequencies more than high ones; signals are cut there."
        )
        return [
            Words([self.quote]),
            picture,
            Grid(caption, self.table_rows()),
            Points([*NOTES[:1], seen, *NOTES[1:]]),
        ]


def _span(window: tuple[float, float]) -> str:
    return "{:g} to {:g} s".format(*(round(end, 6) for end in window))
