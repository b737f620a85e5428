"""What a report says of a learning curve: score against minutes, and what more data would give."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from analysis.measure import formats
from analysis.measure.evaluation import Evaluation
from analysis.measure.inference import Estimate
from analysis.measure.learning_curve import CURVES, FittedCurve, LearningCurve, fit_curves
from analysis.report.figures import learning_curve_figure
from analysis.report.findings import in_list
from analysis.report.page import Block, Grid, Picture, Points, Words
from analysis.report.question import QuestionReport
from ssense.engine.core.record import Record
from ssense.retrieval import metric_title

_ROUNDING = 1e-9  # an interval that is no wider has no width

MINUTES = (
    "Minutes are of speech: the spoken durations of the sentences trained on, without pauses and "
    "context. The sentences of a smaller share are among those of a larger one; validation and "
    "test are the same at every share."
)
INTERVALS = (
    "Intervals (95 %) are a bootstrap over seeds, each with all of its shares, widened for the few "
    "seeds and for the overlap of their splits as the corrected test is. They take the curve for "
    "right, and are about more sentences like these, of this subject. Nothing is said of more than "
    "twice the minutes."
)
SHARED_TEST = (
    "All seeds share one test split: intervals are about its sentences, and say nothing of others."
)


@dataclass(frozen=True, kw_only=True, eq=False)
class CurveReport(QuestionReport):
    """A learning curve as it is reported.

    Attributes:
        curve: The scores, and the curves through them.
        shares: Share of the training data by family, the smallest first.
        seeds: Seeds of the scores.
        sentences: Sentences trained on, `[seeds, shares]`.
        metric: The metric of the scores.
        chance: What a random ranking reaches, as a share.
        shares_test: Whether all seeds share one test split.
        unfinished: How many cells of each family ended with their last epoch, not by patience.
    """

    name: ClassVar = "learning_curve"
    title: ClassVar = "What more data would give"

    curve: LearningCurve
    shares: Mapping[str, float]
    seeds: Sequence[int]
    sentences: np.ndarray
    metric: str
    chance: float
    shares_test: bool
    unfinished: Mapping[str, int]

    @property
    def quote(self) -> str:
        """What twice the data would be expected to give, in a sentence to quote."""
        supported, more = self.curve.supported, self.curve.furthest_minutes
        seen = f"scores of {len(self.seeds)} seeds at {len(self.shares)} shares"
        if not self.curve.has_spread:
            return (
                f"The {seen} of the training data grow alike at all seeds, to less than a hit: "
                "nothing tells how sure a curve through them would be, and nothing is extrapolated."
            )
        if not supported:
            behind = self.curve.curves[0].aicc - self.curve.free_aicc
            return (
                f"The {seen} of the training data follow none of {_listed(CURVES)}: a mean of its "
                f"own for each share is {behind:.1f} better in AICc, and nothing is extrapolated."
            )
        twice = (
            f"ith twice the speech to train on, {_minutes(more)} minutes instead of "
            f"{_minutes(self.curve.most_minutes)}, {metric_title(self.metric)} would be expected "
            f"to be "
        )
        gains = [curve.gain(more) for curve in supported]
        helps = all(gain.low > 0 for gain in gains)  # whichever curve is right
        end = "." if helps else ": it is not shown that more would help."
        found = in_list([_expected(curve, more) for curve in supported])
        if len(supported) == 1:
            return f"W{twice}{found}, the only one of three curves that the {seen} support{end}"
        names = _listed([curve.name for curve in supported])
        return f"The {seen} do not tell {names} apart: w{twice}{found}{end}"

    @property
    def notes(self) -> list[str]:
        """What minutes and intervals are, and what to beware of, as sentences."""
        notes = [MINUTES, INTERVALS]
        if self.shares_test:
            notes.append(SHARED_TEST)
        if self.unfinished:
            n = len(self.seeds)
            cells = in_list([f"{name} {k} of {n}" for name, k in self.unfinished.items()])
            notes.append(
                f"Beware: not all trainings were stopped by patience before their last epoch "
                f"({cells}). An epoch of a smaller share has fewer steps: with more epochs its "
                "score may be higher, and the curve flatter."
            )
        return notes

    def table_rows(self) -> list[dict[str, str]]:
        """Lay out the scores at each share, mean and sd over the seeds."""
        columns = zip(
            self.shares.items(), self.sentences.T, self.curve.minutes.T, self.curve.scores.T,
            strict=True,
        )  # fmt: skip
        return [
            {
                "family": family,
                "share": f"{share:g}",
                "sentences": f"{sentences.mean():.0f}",
                "minutes of speech": _minutes(minutes.mean()),
                f"test {metric_title(self.metric)}": formats.score(
                    self.metric, scores.mean(), scores.std(ddof=1)
                ),
            }
            for (family, share), sentences, minutes, scores in columns
        ]

    def curve_rows(self) -> list[dict[str, str]]:
        """Lay out the curves, the best one first."""
        more, best = self.curve.furthest_minutes, self.curve.curves[0].aicc
        return [
            {
                "curve": curve.name,
                "score in % after m minutes": _formula(curve),
                "AICc behind the best": f"{curve.aicc - best:.1f}",
                f"at {_minutes(more)} minutes, %": _estimate(curve.at(more)),
                "gain, points": _estimate(curve.gain(more), "+"),
            }
            for curve in self.curve.curves
        ]

    def value_rows(self) -> list[dict[str, object]]:
        """List every score as a fraction, with the minutes it took, one row per seed and share."""
        return [
            {
                "family": family,
                "share": share,
                "seed": seed,
                "sentences": int(self.sentences[i, j]),
                "minutes": float(self.curve.minutes[i, j]),
                self.metric: float(self.curve.scores[i, j]),
            }
            for j, (family, share) in enumerate(self.shares.items())
            for i, seed in enumerate(self.seeds)
        ]

    def picture(self) -> Picture:
        """The figure of the curve."""
        supported = [f"the {curve.name}" for curve in self.curve.supported]
        lines = (
            "No curve is drawn, as the scores support none of the three."
            if not supported
            else f"Coloured: {in_list(supported)}, the curves that the scores support, the best "
            "one with its 95 % interval; beyond the last share they are extrapolated (shaded)."
        )
        return Picture(
            self.name,
            f"Test {metric_title(self.metric)} against minutes of speech trained on",
            f"Test {metric_title(self.metric)} against minutes of speech trained on. A grey line "
            f"joins the scores of one of {len(self.seeds)} seeds. {lines} Dashed grey: chance.",
            learning_curve_figure(self.curve, self.chance, self.metric),
        )

    def blocks(self, picture: Picture) -> list[Block]:
        """The section of the report.

        Args:
            picture: The figure of the curve.
        """
        return [
            Words([self.quote]),
            picture,
            Grid("Scores by share of the training sentences, over the seeds.", self.table_rows()),
            Grid(
                "Curves through them. AICc weighs how well a curve fits against how many "
                "parameters it has; one 4 or more behind has considerably less support.",
                self.curve_rows(),
            ),
            Points(self.notes),
        ]


def curve_report(
    shares: Mapping[str, float],
    evaluation: Evaluation,
    spoken_s: np.ndarray,
    records: Iterable[Record],
) -> CurveReport | None:
    """Fit the learning curve of an evaluation.

    Args:
        shares: Share of the training data by family, the smallest first.
        evaluation: The evaluation, which has these families.
        spoken_s: Spoken duration of each sentence of the dataset, `[N]` seconds.
        records: Records of the cells that were evaluated, others among them.

    Returns:
        None where sentences are so few that two shares are the same of them.
    """
    rows = [[s.train for s in evaluation.cell_splits(name).values()] for name in shares]
    sentences = np.array([[len(each) for each in by_seed] for by_seed in rows]).T
    if (np.diff(sentences, axis=1) == 0).any():
        return None
    minutes = [[spoken_s[each].sum() / 60 for each in by_seed] for by_seed in rows]
    metric = evaluation.primary
    n_train, n_test = evaluation.specification.resampled_sizes(
        next(iter(evaluation.splits.values()))
    )
    return CurveReport(
        curve=fit_curves(
            np.array(minutes).T,
            np.stack([evaluation.scores[name][metric] for name in shares], axis=1),
            overlap=n_test / n_train,
            n_test=evaluation.n_test,
        ),
        shares=shares,
        seeds=evaluation.seeds,
        sentences=sentences,
        metric=metric,
        chance=evaluation.chance[metric],
        shares_test=evaluation.specification.shares_test,
        unfinished=_unfinished(shares, evaluation, records),
    )


def _unfinished(
    shares: Iterable[str], evaluation: Evaluation, records: Iterable[Record]
) -> dict[str, int]:
    """How many cells of each family trained their last epoch before patience stopped them."""
    patience = evaluation.specification.training.patience
    cut = [
        record.configuration
        for record in records
        if record.seed in evaluation.seeds and len(record.history) < record.best_epoch + patience
    ]
    counts = {name: cut.count(evaluation.chosen[name]) for name in shares}
    return {name: n for name, n in counts.items() if n}


def _expected(curve: FittedCurve, minutes: float) -> str:
    expected, gain = curve.at(minutes), curve.gain(minutes)
    return (
        f"{_percent(expected.value)} %{_interval(expected, of='95 % CI ')} by a {curve.name}, "
        "a gain of "
        f"{_percent(gain.value, '+')} points{_interval(gain, '+')}"
    )


def _formula(curve: FittedCurve) -> str:
    a, b = (100 * each for each in curve.coefficients)
    if curve.name == "straight line":
        return f"{a:.1f} {_signed(b)} m"
    if curve.name == "logarithmic line":
        return f"{a:.1f} {_signed(b)} ln m"
    return f"{a:.1f} {_signed(-b)} m^-{curve.exponent:.2f}"


def _signed(value: float) -> str:
    return f"{'-' if value < 0 else '+'} {abs(value):.3g}"


def _estimate(estimate: Estimate, sign: str = "") -> str:
    return f"{_percent(estimate.value, sign)}{_interval(estimate, sign)}"


def _interval(estimate: Estimate, sign: str = "", of: str = "") -> str:
    """An interval in brackets; nothing where all seeds agree, so that none can be said."""
    if estimate.high - estimate.low < _ROUNDING:
        return ""
    return f" ({of}{_percent(estimate.low, sign)} to {_percent(estimate.high, sign)})"


def _percent(share: float, sign: str = "") -> str:
    return f"{100 * share:{sign}z.1f}"


def _minutes(minutes: float) -> str:
    return f"{minutes:.1f}" if minutes < 100 else f"{minutes:.0f}"


def _listed(names: Sequence[str]) -> str:
    return in_list([f"a {name}" for name in names])
