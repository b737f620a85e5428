from __future__ import annotations

from pathlib import Path

import pytest

from analysis.score_file import Results, read_scores, unit_of
from ssense.errors import UserError

A_AND_B = {"a": {0: 0.1, 1: 0.2}, "b": {0: 0.3, 1: 0.4}}


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(folder: Path, content: str | bytes, metric: str | None = None) -> Results:
    return read_scores(write(folder / "r.csv", content), metric)


def only(results: Results) -> dict[str, dict[int, float]]:
    (recordings,) = results.tables.values()
    (table,) = recordings.values()
    return {name: dict(scores) for name, scores in table.items()}


LONG = "configuration,seed,recall\na,0,.1\na,1,.2\nb,0,.3\nb,1,.4\n"


@pytest.mark.parametrize(
    "content",
    [
        LONG,
        LONG.replace(",", ";"),
        LONG.replace(",", "\t"),
        LONG.replace(",", ";").replace(".", "0,"),  # decimal commas
        LONG.replace(",", "\t").replace(".", "0,"),
        LONG.upper().replace("A,", "a,").replace("B,", "b,"),
        LONG.replace("configuration", " Configuration ").replace("seed", "SEED"),
        LONG.replace("configuration", "family"),
        LONG.replace("configuration", "config").replace("\n", "\r\n"),
        LONG.replace(",0,", ",0.0,").replace(",1,", ",1.0,"),  # seeds as pandas has them
        LONG.replace(",0,", ",seed 0,").replace(",1,", ",seed_1,"),
        LONG.replace("\n", ",\n"),  # a comma at the end of every line
        LONG.replace("\n", "\n\n"),
        "sep=;\n" + LONG.replace(",", ";"),  # Excel's
        b"\xef\xbb\xbf" + LONG.encode(),  # a byte order mark
        LONG.replace(",", "\t").encode("utf-16"),  # Excel's Unicode text
        ",configuration,seed,recall\n0,a,0,.1\n1,a,1,.2\n2,b,0,.3\n3,b,1,.4\n",  # to_csv()
        "Unnamed: 0,configuration,seed,recall\n0,a,0,.1\n1,a,1,.2\n2,b,0,.3\n3,b,1,.4\n",
        '"","configuration","seed","recall"\n"1","a",0,.1\n"2","a",1,.2\n"3","b",0,.3\n"4","b",1,.4\n',
        "index,configuration,seed,recall\n0,a,0,.1\n1,a,1,.2\n2,b,0,.3\n3,b,1,.4\n",
        "configuration,0,1\na,.1,.2\nb,.3,.4\n",  # a column for each seed
        "configuration;seed 0;seed 1\na;0,1;0,2\nb;0,3;0,4\n",
        "configuration,0.0,1.0\na,.1,.2\nb,.3,.4\n",
        ",0,1\na,.1,.2\nb,.3,.4\n",  # pivoted
        "seed,a,b\n0,.1,.3\n1,.2,.4\n",  # a column for each configuration
        "Seed\ta\tb\n1\t.2\t.4\n0\t.1\t.3\n",
        ",seed,a,b\n0,0,.1,.3\n1,1,.2,.4\n",
    ],
)
def test_a_table_is_read_as_it_was_saved(content, tmp_path):
    assert only(read(tmp_path, content)) == A_AND_B


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (LONG.replace(",", ";"), "Separated by semicolons; a decimal comma is read as a point."),
        (LONG.replace(",", "\t"), "Separated by tabs; a decimal comma is read as a point."),
        ("configuration,0,1\na,.1,.2\nb,.3,.4\n", "Read as wide: a column for each seed, 0, 1."),
        ("seed,a,b\n0,.1,.3\n", "Read as wide: a column for each configuration, a, b."),
        (",configuration,seed,x\n0,a,0,.1\n", "Column 1 numbers the rows."),
        ("Unnamed: 0,family,seed,x\n7,a,0,.1\n", "Column 1 (unnamed: 0) numbers the rows."),
        ("configuration,seed,recall@10,mrr\na,0,.1,.2\n", "Score: recall@10. Not used: mrr."),
        ("family,seed,x,missing_cells\na,0,.1,3\n", "The sweep lacked cells: the choice was "),
    ],
)
def test_what_was_understood_is_said(content, note, tmp_path):
    assert any(line.startswith(note) for line in read(tmp_path, content).notes)


def test_subjects_and_recordings_stand_in_wide_tables_too(tmp_path):
    found = read(tmp_path, "Subject,recording,seed,a,b\ns,r1,0,.1,.2\ns,r2,0,.3,.4\n")
    assert found.has_subjects
    assert found.tables == {
        "s": {"r1": {"a": {0: 0.1}, "b": {0: 0.2}}, "r2": {"a": {0: 0.3}, "b": {0: 0.4}}}
    }


def test_recordings_are_told_apart_and_may_share_seeds(tmp_path):
    results = read(tmp_path, "recording,configuration,seed,x\nr1,a,0,1\nr2,a,0,2\nr2,b,0,3\n")
    assert results.metric == "x"
    assert not results.has_subjects
    r2 = {"a": {0: 2.0}, "b": {0: 3.0}}
    assert results.tables == {"r1": {"r1": {"a": {0: 1.0}}}, "r2": {"r2": r2}}


def test_scores_without_a_value_are_listed(tmp_path):
    content = "configuration,seed,x\na,0,NA\na,1,.2\nb,0,\nb,1,nan\n"
    results = read(tmp_path, content)
    assert results.absent == {("", ""): [("a", 0), ("b", 0), ("b", 1)]}
    assert only(results) == {"a": {1: 0.2}, "b": {}}


@pytest.mark.parametrize(
    ("scores", "unit"),
    [
        ((".1", "1"), "fraction"),
        (("0", "0"), "fraction"),
        (("10.68", "0.3"), "percent"),
        (("0.5%", "0.3 %"), "percent"),
        (("-1", "0"), "own"),
        (("3", "400"), "own"),
    ],
)
def test_the_unit_is_told_by_the_range(scores, unit, tmp_path):
    first, second = scores
    content = f"configuration,seed,x\na,0,{first}\nb,0,{second}\n"
    assert unit_of(read(tmp_path, content)) == unit


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must have the columns configuration, seed and a score, or .* got nothing"),
        ("configuration,seed,seed,x\na,0,1,1\n", "must have each column once, got seed twice"),
        ("configuration,seed,x\na,0,0,1\n", "line 2: more values than columns. Write decimals"),
        ("configuration,seed\na,1\n", "got configuration, seed"),
        ("configuration,seed,x,y\na,1,2,3\n", "several columns .*: x, y. Name the score, as --me"),
        ("configuration,seed,x\na,1,inf\n", "line 2: expected a number as x, got inf"),
        ("configuration,seed,x\na,1,high\n", "line 2: expected a number as x, got high"),
        ("configuration;seed;x\na;1;1.234,5\n", "line 2: expected a number as x, got 1.234,5"),
        ("configuration,seed,x\na,one,2\n", "line 2: expected a whole seed, such as 0, got one"),
        ("configuration,seed,x\na,0.5,2\n", "line 2: expected a whole seed, such as 0, got 0.5"),
        ("configuration,seed,x\na,,2\n", "expected a whole seed, such as 0, got nothing"),
        ("configuration,seed,x\na,1,2\na,1.0,3\n", "line 3: a has seed 1 twice"),
        ("configuration,seed,x\na,1,2\na,1,\n", "line 3: a has seed 1 twice"),
        ("configuration,seed,x\na,1,2%\nb,1,3\n", "line 3: only some scores have a percent sign"),
        ("configuration,seed,x\n,1,2\n", "line 2: configuration is empty"),
        ("recording,configuration,seed,x\nr1,a,1,2\n,a,1,3\n", "line 3: recording is empty"),
        ("subject,configuration,seed,x\n ,a,1,2\n", "line 2: subject is empty. Name it, or leave"),
        ("a,b\n.1,.2\n.3,.4\n", "got a, b"),  # whose seeds are the rows?
        (",a,b\n0,.1,.2\n1,.3,.4\n", "got a, b"),
        ("protocol,family,seed,x\np,a,0,1\nq,a,0,1\n", "rows of several protocols: p, q"),
    ],
)
def test_a_table_that_makes_no_sense_is_one_line(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as error:
        read(tmp_path, text)
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_a_metric_that_is_no_column_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"--metric mrr is no column of .* Found: recall"):
        read(tmp_path, LONG, "mrr")


def test_binary_files_and_missing_ones_are_one_line(tmp_path):
    (tmp_path / "binary.csv").write_bytes(b"\x80\xff\x00")
    for name in ("binary.csv", "missing.csv"):
        with pytest.raises(UserError, match=f"{name} can't be read as CSV"):
            read_scores(tmp_path / name)
