"""What a report says of a learning curve, of made-up scores whose course is known."""

from __future__ import annotations

import csv
import io
import re

import numpy as np
import pytest

from analysis.measure.learning_curve import fit_curves
from analysis.report.figures import figure_bytes, learning_curve_figure
from analysis.report.learning_curve import SHARED_TEST, CurveReport
from ssense.files.tables import csv_table

SHARES = np.array([0.1, 0.2, 0.35, 0.5, 0.7, 1.0])
MINUTES = np.tile(40 * SHARES, (5, 1))
FAMILIES = {f"{100 * share:.0f} % of training": float(share) for share in SHARES}


def report_of(mean: np.ndarray, noise: float = 0.002, **changes) -> CurveReport:
    """Of five seeds whose scores are those of a mean, and noise."""
    rng = np.random.default_rng(0)
    scores = mean + rng.normal(0, 0.02, (5, 1)) + rng.normal(0, noise, (5, 6))
    values = {
        "curve": fit_curves(MINUTES, scores, overlap=0.0),
        "shares": FAMILIES,
        "seeds": range(5),
        "sentences": np.tile((872 * SHARES).round().astype(int), (5, 1)),
        "metric": "recall@10",
        "chance": 10 / 292,
        "shares_test": False,
        "unfinished": {},
    }
    return CurveReport(**(values | changes))


GROWING = 0.17 - 0.3 * MINUTES[0] ** -0.6
SLIGHT = 0.05 + 0.01 * np.log(MINUTES[0])
STRAIGHT = 0.05 + 0.0025 * MINUTES[0]


def test_what_twice_the_speech_would_give_is_one_sentence():
    report = report_of(GROWING)
    best = report.curve.supported[0]
    gain = best.gain(80)
    assert gain.value == pytest.approx(0.3 * (40**-0.6 - 80**-0.6), abs=0.003)
    assert re.fullmatch(
        r"With twice the speech to train on, 80\.0 minutes instead of 40\.0, Recall@10 would be "
        r"expected to be \d+\.\d % \(95 % CI \d+\.\d to \d+\.\d\) by a power law, a gain of "
        rf"\+{100 * gain.value:.1f} points \(\+{100 * gain.low:.1f} to \+{100 * gain.high:.1f}\), "
        r"the only one of three curves that the scores of 5 seeds at 6 shares support\.",
        report.quote,
    )


def test_scores_that_do_not_tell_curves_apart_are_said_not_to():
    report = report_of(SLIGHT, noise=0.03)
    assert report.quote.startswith("The scores of 5 seeds at 6 shares do not tell a ")
    assert (
        " apart: with twice the speech to train on, 80.0 minutes instead of 40.0, " in report.quote
    )
    for curve in report.curve.supported:
        assert f" by a {curve.name}, a gain of " in report.quote
    assert report.quote.endswith(": it is not shown that more would help.")


def test_scores_that_follow_no_curve_are_not_extrapolated():
    report = report_of(np.array([0.05, 0.05, 0.05, 0.05, 0.06, 0.2]))
    assert re.fullmatch(
        "The scores of 5 seeds at 6 shares of the training data follow none of a straight line, a "
        r"logarithmic line and a power law: a mean of its own for each share is \d+\.\d better in "
        "AICc, and nothing is extrapolated.",
        report.quote,
    )
    axis = report.picture().figure.axes[0]
    assert axis.get_xlim()[1] < 45
    assert "No curve is drawn" in report.picture().caption


def test_a_score_that_falls_with_more_data_is_no_help():
    report = report_of(0.3 - 0.0025 * MINUTES[0])
    assert "by a straight line, a gain of -10." in report.quote
    assert report.quote.endswith("it is not shown that more would help.")


def test_a_report_says_what_its_intervals_leave_out():
    assert report_of(GROWING).notes[-1].endswith("Nothing is said of more than twice the minutes.")
    unfinished = {"10 % of training": 5, "20 % of training": 1}
    notes = report_of(GROWING, shares_test=True, unfinished=unfinished).notes
    assert SHARED_TEST in notes
    assert "(10 % of training 5 of 5 and 20 % of training 1 of 5)" in notes[-1]


def test_the_tables_have_every_share_and_every_curve():
    report = report_of(STRAIGHT, noise=1e-9)
    assert [row["minutes of speech"] for row in report.table_rows()] == [
        *("4.0", "8.0", "14.0", "20.0", "28.0", "40.0")
    ]
    first, *others = report.curve_rows()
    intercept = 100 * (report.curve.scores[:, -1].mean() - 0.1)
    assert first["score in % after m minutes"] == f"{intercept:.1f} + 0.25 m"
    assert (first["curve"], first["AICc behind the best"]) == ("straight line", "0.0")
    assert [row["curve"] for row in others] == ["logarithmic line", "power law"]
    assert first["gain, points"].startswith("+10.0")
    rows = list(csv.DictReader(io.StringIO(csv_table(report.value_rows()))))
    assert len(rows) == 5 * 6
    assert {row["sentences"] for row in rows if row["share"] == "1.0"} == {"872"}
    assert float(rows[7]["recall@10"]) == report.curve.scores[2, 1]


def test_the_figure_has_each_seed_the_supported_curves_and_twice_the_minutes():
    report = report_of(STRAIGHT)
    figure = learning_curve_figure(report.curve, report.chance, "recall@10")
    axis = figure.axes[0]
    assert axis.get_xlabel() == "minutes of speech trained on"
    assert axis.get_ylabel() == "test Recall@10 (%)"
    assert axis.get_xlim() == pytest.approx((0, 80))
    seeds = [line for line in axis.lines if line.get_linewidth() == 0.7]
    for line, scores in zip(seeds, report.curve.scores, strict=True):
        assert list(line.get_xdata()) == list(MINUTES[0])
        assert list(line.get_ydata()) == pytest.approx(100 * scores)
    (curve,) = [line for line in axis.lines if line.get_label() == "straight line"]
    assert curve.get_xdata()[-1] == 80
    best = report.curve.curves[0]
    assert curve.get_ydata()[-1] == pytest.approx(100 * best.at(80).value)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        *("one seed", "straight line", "chance", "mean ± sd over seeds")
    ]
    again = learning_curve_figure(report.curve, report.chance, "recall@10")
    assert figure_bytes(figure, "svg") == figure_bytes(again, "svg")


def test_the_legend_of_all_three_curves_lies_within_the_figure():
    report = report_of(SLIGHT, noise=0.03)
    figure = learning_curve_figure(report.curve, report.chance, "recall@10")
    assert len(report.curve.supported) == 3
    figure.draw_without_rendering()
    assert figure.bbox.x0 <= figure.legends[0].get_window_extent().x0
    assert figure.legends[0].get_window_extent().x1 <= figure.bbox.x1
