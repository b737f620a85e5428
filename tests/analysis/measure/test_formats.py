from __future__ import annotations

import io

import pytest
from rich.console import Console

from analysis.measure.formats import (
    latex_table,
    p_value,
    plain,
    score,
    screen_table,
)

ROWS = [
    {"family": "no masking", "Recall@10": "10.68 ± 1.40", "p": "0.160"},
    {"family": "electrode + frequency-time", "Recall@10": "3.42", "p": "< 0.001"},
    {"family": 'comma, "quote"', "Recall@10": "", "p": "1.000"},
]


@pytest.mark.parametrize(
    ("metric", "mean", "sd", "shown"),
    [
        ("recall@10", 0.1068, 0.0140, "10.68 ± 1.40"),
        ("mrr", 0.0498, 0.0049, "0.0498 ± 0.0049"),
        ("recall@1", 0.0034, 0.0, "0.34 ± 0.00"),
        ("recall@50", 50 / 292, None, "17.12"),
        ("mrr", 0.021423, None, "0.0214"),
        ("recall@10", -0.0154, None, "-1.54"),
        ("recall@50", 1.0, None, "100.00"),
    ],
)
def test_scores_look_as_in_the_paper(metric, mean, sd, shown):
    assert score(metric, mean, sd) == shown


@pytest.mark.parametrize("mean", [0.0, -0.0])
def test_nothing_has_no_sign(mean):
    assert plain(mean) == "0"
    assert plain(mean, 0.014) == "0 ± 0.014"
    assert score("recall@10", mean) == "0.00"


@pytest.mark.parametrize(
    ("p", "shown"),
    [
        (1, "1.000"),
        (0.16, "0.160"),
        (0.0234, "0.023"),
        (0.001, "0.001"),
        (0.00099, "< 0.001"),
        (0, "< 0.001"),
    ],
)
def test_p_values(p, shown):
    assert p_value(p) == shown


def test_latex_escapes_and_aligns():
    rows = [{"family": "a & b_c", "p": "< 0.001"}, {"family": "100 %", "p": "1.20 ± 0.54"}]
    lines = latex_table(rows, "Seeds #1").splitlines()
    assert r"\begin{tabular}{lr}" in lines
    assert r"a \& b\_c & $<$ 0.001 \\" in lines
    assert r"100 \% & 1.20 $\pm$ 0.54 \\" in lines
    assert r"\caption{Seeds \#1}" in lines


@pytest.mark.parametrize("name", ["[1]", "*b", " [x]"])
def test_a_row_of_latex_begins_with_no_argument_of_the_row_above(name):
    lines = latex_table([{"family": name, "p": "*"}], "[1]").splitlines()
    assert f"{{}}{name} & {{}}* " + r"\\" in lines
    assert not any(line.lstrip().startswith(("[", "*")) for line in lines)


def test_a_name_of_several_lines_is_one_row():
    rows = [{"family": "a\nb\u2028\x1b[31m", "p": "1"}, {"family": "ab", "p": "2"}]
    console = Console(width=100, file=io.StringIO())
    console.print(screen_table(rows))
    assert [line.split() for line in console.file.getvalue().splitlines() if line][2:] == [
        [r"a\nb\u2028\x1b[31m", "1"],
        ["ab", "2"],
    ]
    name = r"a\textbackslash{}nb\textbackslash{}u2028\textbackslash{}x1b[31m"
    assert name + r" & 1 \\" in latex_table(rows, "").splitlines()


def test_the_screen_shows_every_cell():
    console = Console(width=100, file=io.StringIO())
    console.print(screen_table(ROWS))
    lines = [line.split("  ") for line in console.file.getvalue().splitlines()]
    shown = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert list(ROWS[0]) in shown
    assert all([cell for cell in row.values() if cell] in shown for row in ROWS)


@pytest.mark.parametrize("name", ["[/x]", "[bold]", "a[red]b[/]", ":smile:", "back\\", "\\[x]"])
def test_the_screen_shows_names_as_they_are(name):
    console = Console(width=100, file=io.StringIO())
    console.print(screen_table([{"configuration": name, f"{name}!": "1"}]))
    shown = console.file.getvalue().split()
    assert name in shown
    assert f"{name}!" in shown
