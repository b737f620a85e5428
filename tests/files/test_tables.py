"""Tables in CSV, as other programs read them."""

from __future__ import annotations

import csv
import io

from ssense.files.tables import csv_table

ROWS = [
    {"family": "no masking", "Recall@10": "10.68 ± 1.40", "p": "0.160"},
    {"family": "electrode + frequency-time", "Recall@10": "3.42", "p": "< 0.001"},
    {"family": 'comma, "quote"', "Recall@10": "", "p": "1.000"},
]


def test_csv_comes_back():
    assert list(csv.DictReader(io.StringIO(csv_table(ROWS)))) == ROWS


def test_csv_keeps_every_digit():
    text = csv_table([{"seed": 3, "mrr": 1 / 3}])
    assert text == "seed,mrr\n3,0.3333333333333333\n"


def test_a_cell_that_a_row_lacks_is_empty():
    assert csv_table([{"seed": 3}, {"seed": 4, "reason": "late"}]) == "seed,reason\n3,\n4,late\n"
