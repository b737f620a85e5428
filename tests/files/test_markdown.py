from __future__ import annotations

import re

from ssense.files.markdown import markdown_table

ROWS = [
    {"family": "no masking", "Recall@10": "10.68 ± 1.40", "p": "0.160"},
    {"family": "random", "Recall@10": "3.42", "p": ""},
]


def cells(table: str) -> list[list[str]]:
    """Rows of a table, read as Markdown is: a bar after a backslash ends no cell."""
    lines = (re.split(r"(?<!\\)\|", line.strip()) for line in table.splitlines())
    return [[cell.strip() for cell in line[1:-1]] for line in lines]


def test_a_table_comes_back():
    head, rule, *body = cells(markdown_table(ROWS))
    assert rule == ["---"] * 3
    assert [dict(zip(head, row, strict=True)) for row in body] == ROWS


def test_a_table_line_by_line():
    assert markdown_table(ROWS[:1]) == (
        "| family | Recall@10 | p |\n| --- | --- | --- |\n| no masking | 10.68 ± 1.40 | 0.160 |\n"
    )


def test_bars_and_line_breaks_of_a_name_stay_in_its_cell():
    table = markdown_table([{"a|b": "x|y", "c": "1\n2"}])
    assert cells(table) == [[r"a\|b", "c"], ["---"] * 2, [r"x\|y", r"1\n2"]]


def test_rows_are_laid_out_by_column_whatever_they_have():
    *_, second, third = cells(markdown_table([*ROWS[:1], {"p": "1", "family": "b"}, {}]))
    assert second == ["b", "", "1"]
    assert third == ["", "", ""]
