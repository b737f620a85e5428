from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssense.engine.core.matrix import MARKS, Matrix, MatrixRow, mean_and_sd

FAMILIES = ("no masking", "electrode", "time")


def row(*scores: float | str, family: str = "electrode", **known) -> MatrixRow:
    """A row of scores, with the state in place of a score where there is none."""
    return MatrixRow(
        family=family,
        name=known.pop("name", "electrode 0.5"),
        states=tuple("done" if isinstance(score, float) else score for score in scores),
        scores=tuple(score if isinstance(score, float) else None for score in scores),
        **known,
    )


def matrix(*rows: MatrixRow) -> Matrix:
    seeds = tuple(range(len(rows[0].states)))
    return Matrix(metric="recall@10", seeds=seeds, rows=rows)


@st.composite
def matrices(draw, most_rows: int = 8) -> Matrix:
    n_seeds = draw(st.integers(1, 6))
    missing = st.sampled_from([state for state in MARKS if state != "done"])
    cells = st.lists(st.floats(0, 1) | missing, min_size=n_seeds, max_size=n_seeds)
    rows = []
    for number in range(draw(st.integers(1, most_rows))):
        family = draw(st.sampled_from(FAMILIES))
        leads = draw(st.booleans()) and not any(r.leads and r.family == family for r in rows)
        dropped = draw(st.booleans())
        name = f"configuration {number}"
        rows.append(row(*draw(cells), family=family, name=name, leads=leads, dropped=dropped))
    return matrix(*rows)


def as_array(row: MatrixRow) -> np.ndarray:
    return np.array([np.nan if score is None else score for score in row.scores])


@given(matrices())
def test_means_and_sds_are_over_the_seeds_that_are_done(matrix):
    for row in matrix.rows:
        values = as_array(row)[np.array(row.states) == "done"]
        assert row.n_done == len(values)
        assert row.mean == (pytest.approx(np.mean(values)) if len(values) else None)
        assert row.sd == (pytest.approx(np.std(values, ddof=1)) if len(values) > 1 else None)


@given(matrices())
def test_rows_are_compared_with_their_leader_on_the_seeds_both_have(matrix):
    for row in matrix.rows:
        leaders = [r for r in matrix.rows if r.leads and r.family == row.family]
        differences = [as_array(leader) - as_array(row) for leader in leaders]
        if not differences or row.leads or np.isnan(differences).all():
            assert matrix.behind(row) is None
        else:
            assert matrix.behind(row) == pytest.approx(np.nanmean(differences))


def test_a_lucky_first_seed_does_not_put_a_row_ahead():
    """Means over different seeds would: 0.8 against 0.6."""
    leader, late = row(0.9, 0.3, leads=True), row(0.8, "waiting")
    assert late.mean > leader.mean
    assert matrix(leader, late).behind(late) == pytest.approx(0.1)


@given(matrices())
def test_every_cell_is_counted_once(matrix):
    counts = matrix.counts()
    assert sum(counts.values()) == len(matrix.rows) * len(matrix.seeds)
    states = np.array([row.states for row in matrix.rows])
    assert all(counts[state] == (states == state).sum() for state in MARKS)


@given(matrices())
def test_families_come_in_the_order_of_their_first_proposal(matrix):
    first = [[row.family for row in matrix.rows].index(family) for family in matrix.families]
    assert first == sorted(first)
    assert set(matrix.families) == {row.family for row in matrix.rows}


def test_marks_are_told_apart_without_colour():
    assert len(set(MARKS.values())) == len(MARKS)
    assert all(len(mark) == 1 for mark in MARKS.values())


@pytest.mark.parametrize(
    ("scores", "shown"),
    [((0.5, 0.6, "failed"), "55.0 ± 7.1"), ((0.082, "running"), " 8.2"), (("waiting",), "")],
)
def test_means_are_shown_in_percent(scores, shown):
    assert mean_and_sd(row(*scores)) == shown


@pytest.mark.parametrize(
    ("states", "scores"),
    [
        (("done", "done"), (0.5, None)),
        (("done", "failed"), (0.5, 0.5)),
        (("done",), (0.5, None)),
    ],
)
def test_a_score_belongs_to_a_cell_that_is_done(states, scores):
    with pytest.raises(ValueError, match="electrode 1: scores"):
        MatrixRow(family="electrode", name="electrode 1", states=states, scores=scores)


def test_a_row_has_one_cell_per_seed():
    with pytest.raises(ValueError, match=r"electrode 0\.5 has 1 cells for 2 seeds"):
        matrix(row(0.1, 0.2), row(0.3))


def test_a_family_has_one_leader_at_most():
    with pytest.raises(ValueError, match="more than one leader"):
        matrix(row(0.1, leads=True), row(0.2, leads=True))
    matrix(row(0.1, leads=True), row(0.2, leads=True, family="time"))
