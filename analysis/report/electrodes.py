"""What a report says of electrodes that encoders were trained on by themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from analysis.measure import formats
from analysis.measure.electrodes import TriedElectrodes, first_by_seed
from analysis.measure.evaluation import Evaluation
from analysis.report.electrode_figure import electrode_figure, group_figure
from analysis.report.findings import in_list
from analysis.report.page import Block, Grid, Picture, Points, Words
from analysis.report.question import QuestionReport
from ssense.retrieval import metric_title
from ssense.training.loop import SELECTION_METRIC

MOST_ROWS = 15
"""Electrodes or groups of them that a table of the page has; all are in electrodes.csv."""
NOTES = (
    "The best of many is chosen on the validation splits, where chance alone makes some of many "
    "look good: its validation score is higher than it would be again. Its test score did not "
    "choose it, and is the one to quote; but the sentences that one seed tests are among those "
    "that others validate on, which fresh seeds lessen and held-out splits avoid.",
    "It says that one of them reaches this. That it is the best, or better than the next, is not "
    "tested: the others have no test score, and those that the race stopped have validation "
    "scores at fewer seeds, which can't be compared with others'.",
    "Electrodes by themselves don't add up: several may say the same. What one adds to all others "
    "is a map's question, analysis/maps.py, of encoders that were trained on all.",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class ElectrodeReport(QuestionReport):
    """What electrodes reach by themselves.

    Attributes:
        tried: What was tried, of all families over electrodes.
        evaluation: The evaluation of the best of each family.
        chance: What a random ranking of the validation split reaches, as a fraction.
    """

    name: ClassVar = "electrodes"
    title: ClassVar = "What electrodes reach by themselves"

    tried: Sequence[TriedElectrodes]
    evaluation: Evaluation
    chance: float

    @property
    def _families(self) -> Mapping[str, Sequence[TriedElectrodes]]:
        """What was tried by family, the best first, those that met the most seeds before others."""
        found: dict[str, list[TriedElectrodes]] = {}
        for each in self.tried:
            found.setdefault(each.family, []).append(each)
        return {
            family: sorted(of, key=lambda each: (-len(each.scores), -each.mean))
            for family, of in found.items()
        }

    @property
    def _n_seeds(self) -> int:
        return max(len(each.scores) for each in self.tried)

    @property
    def quote(self) -> str:
        """The best of each family, how often it is so, and what it reaches on the test splits."""
        found = [self._sentence(family, tried) for family, tried in self._families.items()]
        return " ".join(found)

    def _sentence(self, family: str, tried: Sequence[TriedElectrodes]) -> str:
        best = next((each for each in tried if each.is_best), tried[0])
        metric = self.evaluation.primary
        tested = formats.score(metric, self.evaluation.scores[family][metric].mean())
        whole = sum(len(each.scores) == self._n_seeds for each in tried)
        share = first_by_seed(tried, self._n_seeds)[list(tried).index(best)]
        how = (
            f"the only one that met all {self._n_seeds} seeds, as the race stopped the others"
            if whole == 1
            else f"the first at {100 * share:.0f} % of single seeds among {whole} that met all "
            f"{self._n_seeds}"
        )
        return (
            f"The best of {len(tried)} by validation, {family}: {best.name}, {how}; its test "
            f"{metric_title(metric)} is {tested}{'' if metric == 'mrr' else ' %'}."
        )

    def table_rows(self) -> list[dict[str, str]]:
        """Lay out the first of each family, the best first."""
        return [
            row for family, tried in self._families.items() for row in self._rows(family, tried)
        ]

    def _rows(self, family: str, tried: Sequence[TriedElectrodes]) -> list[dict[str, str]]:
        title = metric_title(SELECTION_METRIC)
        return [
            {
                "electrodes": each.name,
                "of": family,
                "number": f"{len(each.electrodes)}",
                f"validation {title}": formats.score(
                    SELECTION_METRIC,
                    each.mean,
                    float(np.std(each.scores, ddof=1)) if len(each.scores) > 1 else None,
                ),
                "seeds": f"{len(each.scores)} of {self._n_seeds}",
                "tested": "yes" if each.is_best else "no",
            }
            for each in tried[:MOST_ROWS]
        ]

    def value_rows(self) -> list[dict[str, object]]:
        """List all that was tried: means of validation scores as fractions."""
        return [
            {
                "family": each.family,
                "electrodes": ",".join(each.electrodes),
                "name": each.name,
                "seeds": len(each.scores),
                f"validation_{SELECTION_METRIC}": each.mean,
                "sd": float(np.std(each.scores, ddof=1)) if len(each.scores) > 1 else "",
                "tested": each.is_best,
            }
            for tried in self._families.values()
            for each in tried
        ]

    def picture(self) -> Picture:
        """The figure: single electrodes by shaft and depth, or groups where none were tried."""
        of_one = [
            family
            for family, tried in self._families.items()
            if all(len(each.electrodes) == 1 for each in tried)
        ]
        title = f"Validation {metric_title(SELECTION_METRIC)} of electrodes by themselves"
        said = (
            "Bold outline: met all seeds. Others were stopped by the race, and their means are of "
            "fewer seeds. Cross: the best of its family, which is tested. No test split is behind "
            "this figure."
        )
        if single := [each for each in self.tried if each.family in of_one]:
            by = "by shaft and number, mean over the seeds that each met; grey is chance"
            figure = electrode_figure(
                [each.electrodes[0] for each in single],
                np.array([each.mean for each in single]),
                [len(each.scores) == self._n_seeds for each in single],
                [each.is_best for each in single],
                self.chance,
                SELECTION_METRIC,
            )
        else:
            by = "by name, mean and SD over the seeds that each met; grey line: chance"
            groups = {
                family: [(each.name, each.scores, each.is_best) for each in tried]
                for family, tried in self._families.items()
            }
            figure = group_figure(groups, self._n_seeds, self.chance, SELECTION_METRIC)
        caption = f"{title}, {by}. {said}"
        return Picture(self.name, title, caption, figure)

    def blocks(self, picture: Picture) -> list[Block]:
        """The section of the report, see `QuestionReport`."""
        families = in_list([*self._families])
        caption = (
            f"The first {MOST_ROWS} of each family ({families}), validation scores over the seeds "
            "that each met; those that met all seeds come first."
        )
        return [Words([self.quote]), picture, Grid(caption, self.table_rows()), Points(NOTES)]
