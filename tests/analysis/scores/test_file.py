from __future__ import annotations

from pathlib import Path

import pytest

from analysis.scores.file import Results, read_scores, unit_of
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
        (LONG.replace(",", ";"), "Separated by semicolons."),
        (LONG.replace(",", "\t"), "Separated by tabs."),
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


EVALUATED = "protocol,family,seed,recall@10,mrr,split,n_train,n_test,missing_cells\n"


@pytest.mark.parametrize(
    ("kind", "sizes", "note"),
    [
        ("random", (872, 292), "Splits: random, 872 to train on and 292 to test."),
        ("grouped", (872, 292), "Splits: grouped, 872 to train on and 292 to test."),
        ("blocked", (872, 292), "Splits: blocked, 872 to train on and 292 to test."),
        ("held-out", (872, 0), "Splits: held-out. All seeds share their test items, so that"),
        ("intra-subject, best test epoch", (872, 0), "Splits: intra-subject, best test epoch. All"),
    ],
)
@pytest.mark.parametrize("end", ["", ".0"])  # as pandas writes them again
def test_an_evaluation_says_which_splits_its_seeds_had(kind, sizes, note, end, tmp_path):
    rows = [
        f'{protocol},{name},0,.1,.2,"{kind}",{n_train}{end},292{end},0'
        for protocol, n_train in (("search seeds", 870), ("fresh seeds", 872))
        for name in ("a", "b")
    ]
    found = read(tmp_path, EVALUATED + "\n".join(rows))
    assert found.metric == "recall@10"
    assert found.splits.sizes == sizes
    assert found.splits.note.startswith(note)
    assert "Score: recall@10. Not used: mrr." in found.notes


@pytest.mark.parametrize(
    ("kind", "metric"), [("intra-subject", "recall@1"), ("held-out", "recall@10")]
)
def test_the_score_of_an_evaluation_is_its_own_primary_metric(kind, metric, tmp_path):
    head = "protocol,family,seed,recall@1,recall@5,recall@10,split\n"
    rows = [f"search seeds,{family},0,.1,.2,.3,{kind}" for family in "ab"]
    assert read(tmp_path, head + "\n".join(rows)).metric == metric


def test_sizes_that_differ_between_recordings_are_those_of_none(tmp_path):
    head = "recording,configuration,seed,x,split,n_train,n_test\n"
    found = read(tmp_path, head + "r,a,0,1,random,60,20\ns,a,0,1,random,70,20\n")
    assert found.splits.sizes == (None, 20)
    assert found.splits.note == "Splits: random."


def test_a_column_called_split_may_mean_another_thing(tmp_path):
    head = "configuration,seed,split,n_test\n"
    assert read(tmp_path, head + "a,0,.1,.2\na,1,.3,.2\n", "split").splits is None
    assert read(tmp_path, LONG).splits is None


IMAGES = "subject,objective,configuration,seed,recall@1,recall@5\n"


def test_the_objectives_of_an_image_evaluation_are_compared(tmp_path):
    rows = [
        f'{subject},{name},"{name}, temperature {t}",0,{score},.9'
        for subject, t, scores in (("s", 0.2, (0.1, 0.2)), ("t", 0.5, (0.3, 0.4)))
        for name, score in zip(("infonce", "ssr"), scores, strict=True)
    ]
    for head in (IMAGES, IMAGES.upper()):
        found = read(tmp_path, head + "\n".join(rows), "recall@1")
        assert found.tables == {
            "s": {"": {"infonce": {0: 0.1}, "ssr": {0: 0.2}}},
            "t": {"": {"infonce": {0: 0.3}, "ssr": {0: 0.4}}},
        }
        assert found.notes[0].startswith("Objectives are compared, each at the configuration")
    assert read(tmp_path, IMAGES + "\n".join(rows)).metric == "recall@1"
    assert read(tmp_path, IMAGES + "\n".join(rows), "recall@5").metric == "recall@5"


def test_several_configurations_of_an_objective_are_compared_themselves(tmp_path):
    rows = [f"{subject},ssr,ssr {t},0,.{t},.9" for subject in "st" for t in (1, 2)]
    found = read(tmp_path, IMAGES + "\n".join(rows))
    assert found.tables["t"] == {"": {"ssr 1": {0: 0.1}, "ssr 2": {0: 0.2}}}
    assert found.notes[0] == "Configurations are compared, for an objective has several."


def test_a_score_may_be_called_objective(tmp_path):
    found = read(tmp_path, "subject,configuration,seed,Objective\ns,a,0,.1\ns,b,0,\n")
    assert found.metric == "Objective"
    assert found.tables == {"s": {"": {"a": {0: 0.1}, "b": {}}}}


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
        ("configuration,seed,x,y\na,1,2,3\n", "several columns .*: x, y. Name the score, as `me"),
        (
            "participant,configuration,seed,x\nA,a,1,2\n",
            "as `metric` x. If participant says whose scores they are, call it subject",
        ),
        ("configuration,seed,0,1\na,1,2,3\n", "several columns .*: 0, 1. Name .* `metric` 0.$"),
        ("configuration|seed|x\na|1|2\n", "Separate columns by commas, semicolons or tabs.$"),
        ("model,seed,x\na,1,2\n", "got model, seed, x. model holds no numbers: call it conf"),
        ("seed,a,b,whose\n0,1,2,A\n", "whose holds no numbers: .* or leave it out."),
        ("configuration,0,1,mean\na,1,2,1.5\n", "got .* Leave out what is no seed: mean."),
        ("configuration,seed,x\na,1,1_0\n", "line 2: expected a number as x, got 1_0"),
        ("configuration,seed,x\na,1_0,1\n", "line 2: expected a whole seed, such as 0, got 1_0"),
        ("configuration,seed,x\na,1,0x1\n", "line 2: expected a number as x, got 0x1"),
        ("configuration,seed,x\na,1,1e308\n", "as x, got 1e308, which is beyond 1e-100 to 1e"),
        ("configuration,seed,x\na,1,-1e999\n", "as x, got -1e999, which is beyond"),
        ("configuration,seed,x\na,1,2e-200\n", "as x, got 2e-200, .* Give scores in another unit"),
        ("configuration,seed,x\na,1,1e9999999999\n", "expected a number as x, got 1e9999999999"),
        ("configuration,seed,x\na,1,2\n# end\n", "line 3: .* got nothing. Comments go above"),
        ("configuration,seed,x\nmean,,2\n", "line 2: .* leave out lines that are no scores of"),
        ("configuration,seed,x\na,1,2\na,1,3\n", "Keep one; or say in a column subject or rec"),
        ("subject,configuration,seed,x\nA,a,1,2\nA,a,1,3\n", "a has seed 1 twice. Keep one.$"),
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
        (
            "family,seed,x,split\na,0,1,random\na,1,1,\n",
            "line 3: expected a kind of split, .* nothing. Name it in ev",
        ),
        ("family,seed,x,split\na,0,1,random\na,1,1,held-out\n", "mixed: random; held-out. Keep"),
        ("family,seed,x,split,n_train\na,0,1,random,0\n", "line 2: .* above 0 as n_train, got 0"),
        (
            "family,seed,x,split,n_test\na,0,1,random,\n",
            "above 0 as n_test, got nothing. Complete the line",
        ),
    ],
)
def test_a_table_that_makes_no_sense_is_one_line(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as error:
        read(tmp_path, text)
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_a_metric_that_is_no_column_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"`metric` mrr is not a column of .* Found: recall"):
        read(tmp_path, LONG, "mrr")


@pytest.mark.parametrize("content", ["configuration,0,1\na,.1,.2\n", "seed,a,b\n0,.1,.2\n"])
def test_a_wide_table_has_no_metric_to_name(tmp_path, content):
    with pytest.raises(UserError, match=r"`metric` mrr: .* is wide, .* Leave it out") as error:
        read(tmp_path, content, "mrr")
    assert len(str(error.value)) - len(str(tmp_path)) < 200


def test_binary_files_and_missing_ones_are_one_line(tmp_path):
    (tmp_path / "binary.csv").write_bytes(b"\x80\xff\x00")
    for name in ("binary.csv", "missing.csv"):
        with pytest.raises(UserError, match=rf"{name} can't be read (as CSV )?\("):
            read_scores(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "configuration\tseed\tx\na\t0\t1,234\nb\t0\t2,250\n",
            "1,234 may be a decimal or thousands",
        ),
        (
            "configuration,seed,x\na,0,50.8\na,1,47.2\nb,0,0.42\nb,1,0.38\n",
            "fractions beside percentages, as it seems: 0.42 of b, 47.2 of a",
        ),
        (
            "configuration,seed,x\na,0,10.0\na,1,.12\na,2,.11\nb,0,.9\nb,1,5\nb,2,4\n",
            "fractions beside percentages, as it seems: 0.12 of a, 10 of a. Make all alike, or",
        ),
        (
            "configuration,seed,x\na,0,10\na,1,10\nb,0,.1\nb,1,0\nb,2,.1\n",
            "fractions beside percentages, as it seems: 0.1 of b, 10 of a",
        ),
        (
            "subject,configuration,seed,x\nA,a,0,.1\nA,b,0,.6\nB,a,0,9\nB,b,0,60\nC,a,0,8\n",
            "fractions beside percentages, as it seems: 0.1 of a, 8 of a",
        ),
        ("configuration,fold,x\na,0,1\n", "Rename them, as: configuration,seed,recall@10"),
    ],
)
def test_what_may_be_read_in_two_ways_is_refused(content, message, tmp_path):
    with pytest.raises(UserError, match=message):
        read(tmp_path, content)


@pytest.mark.parametrize(
    "content",
    [
        "configuration,seed,x\na,0,.508\nb,0,.424\n",
        "configuration;seed;x\na;0;0,508\nb;0;0,424\n",
        'configuration,seed,x\na,0,"0,508"\nb,0,"0,424"\n',
        "# of 3 May\nconfiguration,seed,x\na,0,.508\nb,0,.424\n",
    ],
)
def test_decimals_are_read_as_people_write_them(content, tmp_path):
    results = read(tmp_path, content)
    assert only(results) == {"a": {0: 0.508}, "b": {0: 0.424}}
    assert results.decimals == 3


def test_a_file_of_windows_is_read_and_said(tmp_path):
    (tmp_path / "r.csv").write_bytes("configuration,seed,x\né,0,.5\nb,0,.4\n".encode("cp1252"))
    results = read_scores(tmp_path / "r.csv")
    assert only(results).keys() == {"é", "b"}
    assert any("Windows-1252" in note for note in results.notes)


def test_a_loss_is_no_percentage(tmp_path):
    content = "configuration,seed,validation loss\na,0,4.2\nb,0,5.3\n"
    assert unit_of(read(tmp_path, content)) == "own"


@pytest.mark.parametrize(
    ("scores", "metric", "unit"),
    [
        ((".0034", ".0068", ".30", ".32"), "recall@1", "fraction"),  # one is at chance
        ((".34", ".68", "9.6", "10.2"), "recall@1", "percent"),
        (("0", "0", "30", "32"), "recall@1", "percent"),
        ((".34%", ".34%", "30%", "32%"), "recall@1", "percent"),
        ((".5", ".6", "30", "40"), "seconds", "own"),
        ((".5", ".6", "30", "-40"), "logit", "own"),
        ((".5", ".6", "30", "400"), "hits", "own"),
    ],
)
def test_scores_of_one_scale_may_differ_much(scores, metric, unit, tmp_path):
    cells = zip(("a,0", "a,1", "b,0", "b,1"), scores, strict=True)
    rows = [f"{cell},{score}" for cell, score in cells]
    assert unit_of(read(tmp_path, "\n".join([f"configuration,seed,{metric}", *rows]))) == unit


@pytest.mark.parametrize(
    ("texts", "decimals"),
    [
        (("0e99999", "0.50e1"), 1),
        (("0e99999", "0"), 0),
        (("1e-1", "1.25"), 2),
        (("1.0e2", "0.5e1"), 0),
        ((".5", "5."), 1),
        (("+.5", "-0,25"), 2),
    ],
)
def test_powers_of_ten_are_read_as_programs_write_them(texts, decimals, tmp_path):
    results = read(tmp_path, f"configuration;seed;x\na;0;{texts[0]}\nb;0;{texts[1]}\n")
    assert results.decimals == decimals
    values = [float(text.replace(",", ".")) for text in texts]
    assert only(results) == {"a": {0: values[0]}, "b": {0: values[1]}}


def test_seeds_of_numpy_are_whole(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("configuration,seed,x\na,0.000e+00,.1\na,1.0e+01,.2\nb,0e+00,.1\nb,10,.3\n")
    assert list(read_scores(path).tables[""][""]["a"]) == [0, 10]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (",seed,acc\na,0,0.5\nb,0,0.6\n", "got column 1, without a name, seed, acc. Call it con"),
        (
            "family,m,seed,status,standing,recall@10,signature\na,1,0,done,,1,x\na,2,0,done,,1,y\n",
            "is a sweep's table of all its cells, .* Give the evaluation's scores.csv",
        ),
    ],
)
def test_tables_of_another_kind_are_named(text, message, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_scores(path)
