"""The material of a report: what was evaluated, and what each task has to say of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from analysis.measure.electrodes import TriedElectrodes
from analysis.measure.evaluation import Evaluation, leading_family
from analysis.measure.learning_curve import shares_of
from analysis.measure.seed_results import FRESH_SEEDS, SeedResult
from analysis.measure.windows import windows_of
from analysis.report.electrodes import ElectrodeReport
from analysis.report.findings import verdict
from analysis.report.learning_curve import CurveReport, curve_report
from analysis.report.origin import Facts
from analysis.report.page import Block, Picture
from analysis.report.question import QuestionReport
from analysis.report.time_course import CourseReport
from ssense.engine.core.record import Record
from ssense.engine.records.ledger import Ledger
from ssense.engine.search.search import Search
from ssense.retrieval import chance_metrics, metric_title
from ssense.training.loop import SELECTION_METRIC, SELECTION_RANK

QUESTIONS: tuple[type[QuestionReport], ...] = (CurveReport, CourseReport, ElectrodeReport)
"""The questions whose answers a report has."""


class TaskReport(ABC):
    """What a report says of one task alone; what it has nothing to say of is empty."""

    @abstractmethod
    def tested(self, evaluation: Evaluation) -> str:
        """What was tested, and among what: the beginning of a table's caption."""

    @abstractmethod
    def caption_end(self, protocol: str) -> str:
        """What else a reader of a table must know, as sentences."""

    @abstractmethod
    def data_facts(self, evaluation: Evaluation) -> Facts:
        """What the sweep ran on, and what to beware of.

        Raises:
            UserError: A file that says it is damaged.
        """

    @abstractmethod
    def verdict(self, evaluation: Evaluation, metric: str, leader: str, *, fresh: bool) -> str:
        """What all of it shows, in a paragraph to quote."""

    def choice_knows(self, standing: str) -> str:
        """Say in words what the choice of the configurations may know of the test.

        Args:
            standing: What the looks at the test say of it.
        """
        return standing

    def spoken_s(self) -> np.ndarray | None:
        """Spoken duration of each stimulus, `[N]` seconds, where stimuli are spoken.

        Raises:
            UserError: The folder of the shards is damaged.
        """
        return None

    def clipped_s(self) -> float:
        """Signal at each end of a segment whose features are clipped, seconds.

        Raises:
            UserError: The folder of the shards is damaged.
        """
        return 0.0

    def tried_electrodes(self, search: Search) -> Sequence[TriedElectrodes]:  # noqa: ARG002
        """What was tried of families whose configurations differ in their electrodes alone."""
        return []

    def published(self) -> Sequence[Mapping[str, str]]:
        """Results as published, where they are of the same data."""
        return []

    def pictures(self, evaluation: Evaluation, leader: str) -> Sequence[Picture]:  # noqa: ARG002
        """Figures beside those of every task."""
        return []

    def score_blocks(
        self,
        evaluation: Evaluation,  # noqa: ARG002
        leader: str,  # noqa: ARG002
        pictures: Mapping[str, Picture],  # noqa: ARG002
    ) -> Sequence[Block]:
        """What the score is made of, beside the ranks and examples of every task."""
        return []


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """All that the report is made from.

    Attributes:
        ledger: The ledger of the sweep.
        search: The search of the sweep, as far as it has come.
        task: What is said of the sweep's task alone.
        stimuli: The stimuli of the dataset by name, as examples show them.
        results: What was found at the seeds of the search and at fresh ones, the strictest last.
        records: Records of all cells that were evaluated or that the evaluated ones were chosen
            among; one at least.
        missing: Names of the cells that the choice went without.
        notes: How exact the scores are, in words.
        written_at: When the report is written.
    """

    ledger: Ledger
    search: Search
    task: TaskReport
    stimuli: Sequence[str]
    results: Sequence[SeedResult]
    records: Sequence[Record]
    missing: Sequence[str]
    notes: Sequence[str]
    written_at: str

    @property
    def last(self) -> SeedResult:
        """The result at the strictest seeds."""
        return self.results[-1]

    @property
    def leader(self) -> str:
        """The family whose configuration leads on the validation splits."""
        return leading_family(self.search, self.last.evaluation.chosen)

    @property
    def verdict(self) -> str:
        """What all of it shows, in a paragraph to quote: at the strictest seeds."""
        evaluation, fresh = self.last.evaluation, self.last.name == FRESH_SEEDS
        title = metric_title(evaluation.primary)
        metric = f"{title} at {FRESH_SEEDS}" if fresh else title
        return self.task.verdict(evaluation, metric, self.leader, fresh=fresh)

    @cached_property
    def question(self) -> QuestionReport | None:
        """The answer to the sweep's own question, where its families are of a kind that is known.

        Raises:
            UserError: The folder of the shards is damaged.
        """
        return self._curve() or self._course() or self._electrodes()

    def _curve(self) -> CurveReport | None:
        """The learning curve, where the families differ in their share of the training data."""
        shares = shares_of(self.search.sweep)
        if not shares or (spoken_s := self.task.spoken_s()) is None:
            return None
        return curve_report(shares, self.last.evaluation, spoken_s, self.records)

    def _course(self) -> CourseReport | None:
        """The course of the score, where the families differ in the window that they are of."""
        windows = windows_of(self.search.sweep)
        if not windows:
            return None
        return CourseReport(
            windows=windows,
            evaluation=self.last.evaluation,
            ends_s=self.task.spoken_s(),
            beyond_s=self.task.clipped_s(),
        )

    def _electrodes(self) -> ElectrodeReport | None:
        """What electrodes reach by themselves, where families differ in them."""
        if not (tried := self.task.tried_electrodes(self.search)):
            return None
        evaluation = self.last.evaluation
        sizes = [len(split.validation) for split in evaluation.splits.values()]
        by_size = [chance_metrics(n, (SELECTION_RANK,))[SELECTION_METRIC] for n in sizes]
        chance = float(np.mean(by_size))
        return ElectrodeReport(tried=tried, evaluation=evaluation, chance=chance)

    @property
    def missing_note(self) -> list[str]:
        """Name the cells that the choice went without, if there were any."""
        n = len(self.missing)
        cells = "one missing cell" if n == 1 else f"{n} missing cells"
        return [f"Without {cells}: {'; '.join(self.missing)}."] if n else []


def plain_verdict(evaluation: Evaluation, metric: str, explained: str = "") -> str:
    """Say what is above chance, what is better, and what explains it.

    Args:
        evaluation: The strictest evaluation.
        metric: Title of the metric that its tests are about.
        explained: What the controls say, as a clause; empty where they say nothing.
    """
    names = list(evaluation.retrievals)
    return verdict(names, evaluation.comparisons(evaluation.primary), metric, explained)
