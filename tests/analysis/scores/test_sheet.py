from __future__ import annotations

from pathlib import Path

import pytest

from analysis.scores.sheet import Sheet, read_sheet, without_index
from ssense.errors import UserError

COLUMNS = ["configuration", "seed", "acc"]
TABLE = "configuration,seed,acc\na,0,.1\nb,0,.2\n"


def read(folder: Path, content: str | bytes) -> Sheet:
    path = folder / "r.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_sheet(path)


def test_below_the_header_no_line_is_a_comment(tmp_path):
    sheet = read(tmp_path, "configuration,seed,acc\n#3,0,.1\n#,0,.3\n#3,1,.2\n")
    assert sheet.column("configuration") == ["#3", "#", "#3"]
    assert sheet.notes == []


@pytest.mark.parametrize(
    ("above", "note", "line"),
    [
        ("# of 3 May\n", "Comments above the header: 1 line skipped.", 3),
        ('#\n\n# seed, "and so on\n', "Comments above the header: 2 lines skipped.", 5),
        ("# seed,whose,score\n", "Comments above the header: 1 line skipped.", 3),
        ("# of 3 May\r\nsep=,\r\n# and more\r\n", "Comments above the header: 2 lines skipped.", 5),
    ],
)
def test_comments_above_the_header_are_skipped_and_counted(above, note, line, tmp_path):
    sheet = read(tmp_path, above + TABLE)
    assert sheet.columns == COLUMNS
    assert sheet.rows == [(line, ["a", "0", ".1"]), (line + 1, ["b", "0", ".2"])]
    assert sheet.notes == [note]


@pytest.mark.parametrize(
    ("above", "notes"),
    [
        ("# ", ["Line 1 is a comment, and taken for the header."]),
        (
            "# of 3 May\n#",
            [
                "Line 2 is a comment, and taken for the header.",
                "Comments above the header: 1 line skipped.",
            ],
        ),
    ],
)
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_header_that_is_a_comment_is_found(above, notes, separator, tmp_path):
    sheet = read(tmp_path, above + TABLE.replace(",", separator))
    assert sheet.columns == COLUMNS
    assert [cells for _, cells in sheet.rows] == [["a", "0", ".1"], ["b", "0", ".2"]]
    assert sheet.notes[: len(notes)] == notes


def test_numbers_of_rows_may_be_called_by_a_hash(tmp_path):
    notes = []
    sheet = read(tmp_path, "#,configuration,seed,acc\n1,a,0,.1\n2,b,0,.2\n")
    assert without_index(sheet, notes).columns == COLUMNS
    assert notes == ["Column 1 numbers the rows."]


@pytest.mark.parametrize("inside", ["\n", "\r\n", "\r", "\n\n# no comment\n"])
def test_line_breaks_within_quotes_are_kept(inside, tmp_path):
    sheet = read(tmp_path, f'configuration,seed,acc\n"a{inside}b",0,.1\nab,0,.2\n')
    assert sheet.column("configuration") == [f"a{inside}b", "ab"]
    assert [line for line, _ in sheet.rows] == [2, 3 + len(inside.splitlines())]


@pytest.mark.parametrize("inside", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e"])
def test_what_ends_lines_for_python_alone_ends_none(inside, tmp_path):
    sheet = read(tmp_path, f"configuration,seed,acc\na{inside}b,0,.1\nab,0,.2\n")
    assert sheet.rows == [(2, [f"a{inside}b", "0", ".1"]), (3, ["ab", "0", ".2"])]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_on_any_system(end, tmp_path):
    sheet = read(tmp_path, TABLE.replace("\n", end) + end)
    assert sheet.rows == [(2, ["a", "0", ".1"]), (3, ["b", "0", ".2"])]


def test_empty_columns_without_a_name_are_left_out(tmp_path):
    notes = []
    sheet = read(tmp_path, "configuration,seed,acc,Unnamed: 3\na,0,.1,\nb,0,.2,\n")
    assert without_index(sheet, notes).columns == COLUMNS
    assert notes == ["Column 4 (unnamed: 3) is empty."]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "family,configuration,seed,acc\na,a 1,0,.1\n",
            "has the columns family, configuration, of which one alone can be the configuration. "
            "Keep one",
        ),
        ("configuration,seed,seeds\na,0,3\n", "has the columns seed, seeds, of which one alone"),
        (b"PK\x03\x04\x14\0\6\0", "is a workbook, as of Excel, or an archive. Save the table as"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is a workbook, as of Excel"),
        ("# of 3 May\n", "got nothing"),
        ('configuration,seed,acc\n"a,0,.1\n', r"can't be read as CSV \(unexpected end of data\)"),
    ],
)
def test_what_is_no_table_of_scores_is_one_line(content, message, tmp_path):
    with pytest.raises(UserError, match=message) as error:
        read(tmp_path, content)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)
