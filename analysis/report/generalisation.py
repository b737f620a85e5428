"""What a report says of temporal generalisation: a matrix of windows trained at and tested at."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from analysis.measure import formats
from analysis.measure.comparison import Comparison
from analysis.measure.generalisation import Generalisation
from analysis.report.figures import scale_and_title
from analysis.report.page import Grid, Picture, Points, Section, Words
from analysis.report.time_figures import generalisation_figure
from ssense.errors import counted
from ssense.retrieval import metric_title

MOST_ROWS = 20
"""Pairs of windows that the page's table has; all are in tests.csv."""
FEATURES = (
    "Features are those of the window that is tested, made as its own encoders are given them, "
    "each frame by itself. What an encoder has learned of its window stays as it was learned, "
    "means and spreads included."
)
READING = (
    FEATURES,
    "A square above chance, off the diagonal too: one pattern that lasts, which is told apart in "
    "the same way all the time. The diagonal alone: patterns that follow each other. A pattern "
    "that returns shows as an island off the diagonal (King and Dehaene 2014).",
    "Windows that overlap, or lie nearer than features see beyond them, share signal: next to the "
    "diagonal generalisation is partly this.",
    "A matrix that is above chance everywhere, before the onset too, is of something that is there "
    "at all times, and not of the sentence.",
    "Below chance is possible: where the pattern of one window is that of another reversed.",
)
LEGEND = (
    "Holm and FDR (Benjamini and Hochberg): p of the corrected test against chance, adjusted for "
    "all pairs of two windows, and of the same window for all windows, as in the evaluation."
)


class _Pair(NamedTuple):
    trained: tuple[float, float]
    tested: tuple[float, float]
    test: Comparison
    p_fdr: float
    mean: float
    found: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class GeneralisationReport:
    """All that the page of a temporal generalisation is made from.

    Attributes:
        title: Title of the page.
        caption: What was tested, and what the choice may know of the test.
        found: The scores and their tests.
    """

    title: str
    caption: str
    found: Generalisation

    @property
    def quote(self) -> str:
        """What was found, in a sentence to quote."""
        shown, n = self.found.found, len(self.found.windows)
        beside = shown & ~np.eye(n, dtype=bool)
        metric = metric_title(self.found.metric)
        by_itself = f"{metric} is shown to be above chance in {shown.diagonal().sum()} of {n}"
        if not beside.any():
            others = "is shown to generalise to no other window"
        else:
            pairs = counted(int(beside.sum()), "pair of two windows", "pairs of two windows")
            others = f"generalises in {pairs} of {n * n - n}"
        return (
            f"Trained and tested at the same window, {by_itself} windows; what was learned at one "
            f"{others} (after Holm, over {n} windows and over {n * n - n} pairs of two)."
        )

    def picture(self) -> Picture:
        """The figure of the matrix."""
        found = self.found
        starts, ends = zip(*found.windows.values(), strict=True)
        title = f"Test {metric_title(found.metric)} by window trained at and window tested at"
        caption = (
            f"{title}, mean over {len(found.evaluation.seeds)} seeds. Grey: chance or below. "
            "Outlined: shown to be above chance, after Holm. Dashed: trained and tested "
            f"at the same window. Windows of {ends[0] - starts[0]:g} s."
        )
        figure = generalisation_figure(
            starts,
            ends[0] - starts[0],
            found.by_seed(found.metric).mean(axis=0),
            found.found,
            found.chance,
            found.metric,
        )
        return Picture("generalisation", title, caption, figure)

    def sections(self, picture: Picture) -> list[Section]:
        """Arrange the page."""
        rows = self.table_rows()
        shown = f" The {MOST_ROWS} highest of {len(rows)}." if len(rows) > MOST_ROWS else ""
        return [
            Section("What it shows", [Words([self.caption, self.quote]), picture]),
            Section("Tests", [Grid(f"{LEGEND}{shown}", rows[:MOST_ROWS])]),
            Section("How to read it", [Points(READING)]),
        ]

    def table_rows(self) -> list[dict[str, str]]:
        """Lay out pairs of windows for people, the highest score first."""
        scale, title = scale_and_title(self.found.metric)
        pairs = sorted(self._pairs(), key=lambda pair: -pair.mean)
        return [
            {
                "trained at": "{:g} to {:g} s".format(*pair.trained),
                "tested at": "{:g} to {:g} s".format(*pair.tested),
                f"test {title}": formats.score(self.found.metric, pair.mean),
                "above chance": formats.score(self.found.metric, pair.test.corrected.mean),
                "95 % interval": _interval(pair.test, scale),
                "p": formats.p_value(pair.test.corrected.pvalue),
                "Holm": formats.p_value(pair.test.p_holm),
                "FDR": formats.p_value(pair.p_fdr),
                "shown": "yes" if pair.found else "no",
            }
            for pair in pairs
        ]

    def test_rows(self) -> list[dict[str, object]]:
        """List every test as numbers; differences from chance as fractions."""
        return [
            {
                "trained_start_s": pair.trained[0],
                "trained_end_s": pair.trained[1],
                "tested_start_s": pair.tested[0],
                "tested_end_s": pair.tested[1],
                "metric": self.found.metric,
                "mean": pair.mean,
                "above_chance": pair.test.corrected.mean,
                "low": pair.test.corrected.low,
                "high": pair.test.corrected.high,
                "p": pair.test.corrected.pvalue,
                "p_holm": pair.test.p_holm,
                "p_fdr": pair.p_fdr,
                "shown": pair.found,
            }
            for pair in self._pairs()
        ]

    def value_rows(self) -> list[dict[str, object]]:
        """List every score as a fraction, a row for each seed and pair of windows."""
        found = self.found
        scores = {metric: found.by_seed(metric) for metric in found.evaluation.chance}
        return [
            {
                "seed": seed,
                "trained_start_s": trained[0],
                "tested_start_s": tested[0],
                **{metric: float(values[j, i, k]) for metric, values in scores.items()},
            }
            for j, seed in enumerate(found.evaluation.seeds)
            for i, trained in enumerate(found.windows.values())
            for k, tested in enumerate(found.windows.values())
        ]

    def _pairs(self) -> Iterator[_Pair]:
        found = self.found
        windows, n = [*found.windows.values()], len(found.windows)
        means = found.by_seed(found.metric).mean(axis=0)
        for place, test in enumerate(found.tests):
            i, k = divmod(place, n)
            p_fdr, mean = float(found.p_fdr[place]), float(means[i, k])
            yield _Pair(windows[i], windows[k], test, p_fdr, mean, bool(found.found[i, k]))


def _interval(test: Comparison, scale: int) -> str:
    low, high = test.corrected.low, test.corrected.high
    return f"{scale * low:z.1f} to {scale * high:z.1f}" if math.isfinite(high - low) else "–"
