from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from ssense.cli.screen_table import ScreenTable

SCORES = [
    {"family": "no masking", "Recall@1": "6.44 ± 3.26", "MRR": "0.1929 ± 0.0377"},
    {"family": "electrode + frequency-time", "Recall@1": "5.08 ± 1.69", "MRR": "0.1755 ± 0.0147"},
]
# As wide as the tests of an evaluation are.
TESTS = [
    {
        "Recall@10": name,
        "difference": "-28.47",
        "95 % interval": "-13.89 to 43.06",
        "p": "< 0.001",
        "p, Holm": "< 0.001",
        "d": "-3.99",
        "P(A > B)": "1.00",
        "naive p": "< 0.001",
    }
    for name in ("no masking vs chance", "frequency-time vs electrode + frequency-time")
]


def printed(rows: list[dict[str, str]], width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO())
    console.print(ScreenTable(rows))
    return console.file.getvalue().splitlines()


def test_columns_stand_side_by_side_where_they_fit():
    assert printed(SCORES, 80) == [
        "",
        "  family                       Recall@1      MRR",
        " " + "─" * 59,
        "  no masking                   6.44 ± 3.26   0.1929 ± 0.0377",
        "  electrode + frequency-time   5.08 ± 1.69   0.1755 ± 0.0147",
        "",
    ]


def test_names_stand_above_their_row_where_columns_do_not_fit():
    assert printed(SCORES, 40) == [
        "",
        "  family",
        "    Recall@1      MRR",
        " " + "─" * 32,
        "  no masking",
        "    6.44 ± 3.26   0.1929 ± 0.0377",
        "  electrode + frequency-time",
        "    5.08 ± 1.69   0.1755 ± 0.0147",
        "",
    ]


def test_cells_stand_one_below_another_where_nothing_else_fits():
    assert printed(SCORES[:1], 30) == [
        "",
        "  family",
        " " + "─" * 7,
        "  no masking",
        "    Recall@1  6.44 ± 3.26",
        "    MRR       0.1929 ± 0.0377",
        "",
    ]


def test_a_cell_that_is_too_wide_even_there_goes_on_below_itself():
    rows = [{"sweep": "a", "question": "no masking | electrode | frequency-time", "cells": "1"}]
    assert printed(rows, 30)[3:] == [
        "  a",
        "    question  no masking |",
        "              electrode |",
        "              frequency-time",
        "    cells     1",
        "",
    ]


@pytest.mark.parametrize("width", [50, 80, 100, 132])
def test_the_tests_of_an_evaluation_are_shown_whole(width):
    lines = printed(TESTS, width)
    assert all(len(line) <= width for line in lines)
    for row in TESTS:
        for title, cell in row.items():
            assert any(title in line for line in lines)
            assert any(cell in line for line in lines)


CELLS = st.text(st.characters(exclude_categories=("C", "Z", "M")), min_size=1, max_size=12)


@given(st.lists(CELLS, min_size=1, max_size=5, unique=True), st.data())
def test_no_cell_is_cut_whatever_the_width(titles, data):
    rows = data.draw(st.lists(st.tuples(*[CELLS] * len(titles)), min_size=1, max_size=4))
    width = data.draw(st.integers(24, 120))
    table = ScreenTable([dict(zip(titles, row, strict=True)) for row in rows])
    lines = table.lines(width)
    widest = max(cell_len(cell) for row in (titles, *rows) for cell in row)
    assert max(map(cell_len, lines)) <= max(width, 6 + 2 * widest)
    text = "\n".join(lines)
    assert all(cell in text for row in (titles, *rows) for cell in row)
