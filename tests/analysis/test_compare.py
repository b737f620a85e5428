from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from analysis.compare import main, paired, region
from analysis.measure.comparison import difference_over_seeds
from analysis.measure.resolution import resolution_of
from analysis.options import ResultsOptions
from ssense.errors import UserError

RNG = np.random.default_rng(0)
SPLIT = RNG.normal(0, 0.01, 10)
SCORES = {
    name: 0.1 + effect + SPLIT + RNG.normal(0, 0.005, 10)
    for name, effect in (("none", 0.0), ("a", 0.02), ("b", 0.021))
}


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def statistics(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "analysis.compare", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_line_compares_results_of_any_origin(tmp_path):
    lines = [
        f"{name},{seed},{score}"
        for name, scores in SCORES.items()
        for seed, score in enumerate(scores)
    ]
    path = write(tmp_path / "results.csv", "\n".join(["configuration,seed,recall", *lines]))
    done = statistics(path, "--n-train", 872, "--n-test", 292)
    assert done.returncode == 0, done.stderr
    assert "none vs a" in done.stdout
    assert f"{SCORES['a'].mean():.4g}" in done.stdout
    assert "10 seeds show differences from 2.55 sd on (80 % power, after Holm)" in done.stdout
    refused = statistics(path, "--n-train", 872, "--n-test", 292, "--baseline", "c")
    assert refused.returncode == 2
    assert refused.stderr == f"error: --baseline c is not in {path}. Found: none, a, b.\n"


@pytest.fixture
def compare(tmp_path, capsys) -> Callable[..., list[str]]:
    """Run the command in this process on the lines of a table; return those it prints."""

    def compare(*lines: str, **flags: object) -> list[str]:
        path = write(tmp_path / "results.csv", "\n".join(lines))
        main(ResultsOptions(results=str(path), **flags))
        return capsys.readouterr().out.splitlines()

    return compare


@pytest.mark.parametrize(
    ("scores", "end"),
    [((0.9, 0.1, 0.3, 0.2), 1), ((90, 10, 30, 20), 100), ((900, -1, 30, 20), None)],
)
def test_an_interval_ends_where_differences_of_shares_do(compare, tmp_path, scores, end):
    cells = [f"{name},{seed}" for name in "ab" for seed in (0, 1)]
    lines = [f"{cell},{score}" for cell, score in zip(cells, scores, strict=True)]
    out = tmp_path / "out.csv"
    compare("configuration,seed,x", *lines, n_train=60, n_test=20, out=str(out))
    with out.open(newline="") as file:
        (row,) = csv.DictReader(file)
    low, high = float(row["low"]), float(row["high"])
    assert (low, high) == (-end, end) if end else high > 1000


def between_rows(printed: list[str]) -> list[str]:
    """The rows of "a vs b": of the tests, and of what other tests say."""
    return [line for line in printed if line.strip().startswith("a vs b")]


def table(scores: dict[str, list[float]], metric: str = "x") -> list[str]:
    rows = [f"{name},{seed},{x}" for name, xs in scores.items() for seed, x in enumerate(xs)]
    return [f"configuration,seed,{metric}", *rows]


PAIR = {"a": [0.31, 0.33, 0.30, 0.36], "b": [0.30, 0.31, 0.31, 0.32]}


def test_equivalence_changes_what_is_shown(compare):
    d = np.subtract(PAIR["a"], PAIR["b"])
    posterior = stats.t(3, d.mean(), np.sqrt((1 / 4 + 5 / 10) * d.var(ddof=1)))
    for equivalence in (0.005, 0.03):
        printed = compare(*table(PAIR), n_train=10, n_test=5, equivalence=str(equivalence))
        _, further = between_rows(printed)
        below, above = posterior.cdf(-equivalence), posterior.sf(equivalence)
        expected = [f"{p:.3f}" for p in (below, 1 - below - above, above)]
        assert further.split()[-3:] == expected
        assert any(f"within or above ±{equivalence}" in line for line in printed)
        assert f"{stats.wilcoxon(d).pvalue:.3f} (0.125)" in further


BAD_FLAGS = [
    ({"n_train": 0}, "--n-train must be at least 1, got 0."),
    ({"n_test": -1}, "--n-test must be at least 0, got -1."),
    ({"equivalence": "-3"}, "--equivalence must be at least 0, such as 0.005 or 0.5%, got -3."),
    ({"equivalence": "nan"}, "--equivalence must be at least 0, such as 0.005 or 0.5%, got nan."),
    ({"out": "tests.pdf"}, "--out tests.pdf must be a .csv, a .tex or a folder."),
]


@pytest.mark.parametrize(("flags", "message"), BAD_FLAGS)
@pytest.mark.parametrize("names", [("r1",), ("r1", "r2")])
def test_flags_that_make_no_sense_are_refused_for_any_number_of_recordings(
    compare, names, flags, message
):
    head, *rows = table(PAIR)
    lines = [f"{name},{row}" for name in names for row in rows]
    with pytest.raises(UserError) as error:
        compare(f"recording,{head}", *lines, **({"n_train": 10, "n_test": 5} | flags))
    assert str(error.value) == message


def test_a_single_recording_takes_the_sizes_of_its_splits(compare):
    with pytest.raises(UserError, match="Give --n-train and --n-test, the items of the training"):
        compare(*table(PAIR), n_train=10)


def test_a_single_seed_of_a_single_recording_is_refused(compare):
    message = "has a single seed at which every configuration has a score: nothing can be tested"
    for scores in ({"a": [0.1], "b": [0.2]}, {"a": [0.1, 0.1], "b": [0.2]}):
        with pytest.raises(UserError, match=message):
            compare(*table(scores), n_train=10, n_test=5)


def test_a_single_configuration_is_refused(compare):
    with pytest.raises(UserError, match=r"has a single configuration, a. Comparing takes at le"):
        compare(*table({"a": [0.1, 0.2]}), n_train=10, n_test=5)
    with pytest.raises(UserError, match=r"has no scores. Comparing takes at least two config"):
        compare(*table({}), n_train=10, n_test=5)


def test_seeds_that_share_their_test_items_make_no_claim_about_others(compare):
    printed = " ".join(compare(*table(PAIR), n_train=10, n_test=0))
    assert (
        "It asks whether other seeds would agree on these very items, and says nothing" in printed
    )
    assert "allows for overlapping splits" not in printed
    printed = " ".join(compare(*table(PAIR), n_train=10, n_test=5))
    assert "allows for overlapping splits" in printed


def test_equal_scores_are_a_stated_answer(compare):
    printed = compare(*table({"a": [0.5] * 3, "b": [0.5] * 3}), n_train=10, n_test=5)
    tests, _ = between_rows(printed)
    assert tests.split()[3:7] == ["0", "–", "not", "testable"]
    assert any("spread: a vs b." in line for line in printed)


def test_differences_that_rounding_alone_may_make_are_not_called_the_same(compare):
    scores = {"a": [0.40, 0.41], "b": [0.42, 0.44]}
    lines = [f"{n},{j},{x:.2f}" for n, row in scores.items() for j, x in enumerate(row)]
    printed = " ".join(compare("configuration,seed,recall@10", *lines, n_test=0))
    assert "not testable" in printed
    words = "all differences are the same, or can't be told apart as they are rounded"
    assert words in " ".join(printed.split())


def test_scores_without_spread_have_an_sd_of_0(compare):
    scores = {"a": [0.1] * 3, "b": [0.3] * 3}
    assert np.std(scores["a"], ddof=1) > 0  # but for rounding it is 0
    printed = compare(*table(scores), n_train=10, n_test=5)
    assert any(line.endswith("  0.1 ± 0") for line in printed)
    assert between_rows(printed)[0].split()[3:7] == ["-0.2", "–", "not", "testable"]
    assert not any("inf" in line or "e-1" in line for line in printed)
    assert any("spread: a vs b." in line for line in printed)


def test_names_with_markup_are_shown_as_they_are(compare):
    printed = compare(*table({"[/x]": PAIR["a"], "[red]:bug:": PAIR["b"]}), n_train=10, n_test=5)
    assert any("[/x] vs [red]:bug:" in line for line in printed)


def test_one_seed_of_each_recording_is_enough(compare):
    rows = [f"r{i},{name},7,{x}" for name, xs in PAIR.items() for i, x in enumerate(xs)]
    printed = compare("recording,configuration,seed,x", *rows)
    expected = stats.ttest_rel(PAIR["a"], PAIR["b"])
    tests, _ = between_rows(printed)
    assert f"{expected.pvalue:.3f}" in tests.split()
    assert "There is no column subject: each recording was taken for a subject of its own." in (
        printed
    )


def test_seeds_and_recordings_are_averaged_within_subjects(compare):
    # Subject i has i + 1 recordings, and recording j has j + 1 seeds.
    generator = np.random.default_rng(3)
    lines, means = [], {"a": [], "b": []}
    for i in range(4):
        for name, of_subjects in means.items():
            recordings = [generator.normal(0.3, 0.1, j + 1) for j in range(i + 1)]
            of_subjects.append(np.mean([scores.mean() for scores in recordings]))
            lines += [
                f"s{i},r{j},{name},{seed},{score}"
                for j, scores in enumerate(recordings)
                for seed, score in enumerate(scores)
            ]
    printed = compare("subject,recording,configuration,seed,x", *lines)
    expected = stats.ttest_rel(means["a"], means["b"])
    tests, _ = between_rows(printed)
    assert f"{expected.pvalue:.3f}" in tests.split()
    assert f"{np.mean(means['a']) - np.mean(means['b']):.4g}" in tests.split()
    assert any(line.startswith("The unit is the subject") for line in printed)
    assert not any("no column subject" in line for line in printed)


def test_recordings_of_one_subject_are_no_two_subjects(compare):
    head, *rows = table(PAIR)
    lines = [f"sub_9,{recording},{row}" for recording in ("r1", "r2") for row in rows]
    with pytest.raises(UserError, match="takes recordings of at least two, got sub_9"):
        compare(f"subject,recording,{head}", *lines)


def test_what_has_no_partner_is_left_out_and_named(compare, tmp_path):
    head, *rows = table(PAIR)
    lines = [f"s,r1,{row}" for row in rows] + [f"t,r2,{row}" for row in rows[:-1]]
    printed = compare(f"subject,recording,{head}", *lines)
    assert "Unpaired: seed 3 is left out, without a score of b." in printed
    assert f"{tmp_path / 'results.csv'}, t, r2: 3 of 4 seeds can be paired." in printed


def test_missing_scores_are_named_and_their_pairs_left_out(compare):
    whole = compare(
        *table({name: scores[:3] for name, scores in PAIR.items()}), n_train=9, n_test=3
    )
    for missing in ("", "NA", "nan", "NaN", "n/a"):
        rows = table(PAIR)
        rows[-1] = f"b,3,{missing}"
        printed = compare(*rows, n_train=9, n_test=3)
        assert "Unpaired: seed 3 is left out, without a score of b." in printed
        assert between_rows(printed) == between_rows(whole)


def test_seeds_that_nothing_shares_are_one_line():
    with pytest.raises(UserError, match="no seed has a score for every configuration: seed 0"):
        paired("results.csv", {"a": {0: 0.1, 1: 0.2}, "b": {2: 0.1}})


@pytest.mark.parametrize(
    ("text", "unit", "width"),
    [
        (None, "fraction", 0.005),
        (None, "percent", 0.5),
        ("0.5%", "fraction", 0.005),
        ("2%", "percent", 2.0),
        ("0.01", "fraction", 0.01),
        ("0.01", "percent", 0.01),
        ("3", "own", 3.0),
    ],
)
def test_equivalence_is_in_the_unit_that_is_stated(text, unit, width):
    assert region(text, unit) == pytest.approx(width)


def test_no_equivalence_is_assumed_in_a_unit_of_its_own(compare, tmp_path):
    own = {name: [1000 * x for x in xs] for name, xs in PAIR.items()}
    flags = {"n_train": 10, "n_test": 5, "out": str(tmp_path / "t")}
    printed = compare(*table(own), **flags)
    assert any("say with --equivalence which differences" in line for line in printed)
    assert not any("±0.005" in line or "P(equivalent)" in line for line in printed)
    assert "P(equivalent)" not in (tmp_path / "t" / "tables.tex").read_text()
    with (tmp_path / "t" / "tests.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["posterior_equivalent"] == ""
    assert float(row["p"]) > 0
    stated = compare(*table(own), **flags, equivalence="5")
    assert (
        between_rows(stated)[1].split()[-3:]
        == (between_rows(compare(*table(PAIR), n_train=10, n_test=5))[1].split()[-3:])
    )


def test_percentage_points_of_no_percentage_are_refused(compare):
    with pytest.raises(UserError, match="--equivalence 1%: the scores are not percentages"):
        compare(*table({"a": [-3, 5], "b": [1, 2]}), n_train=2, n_test=0, equivalence="1%")


@pytest.mark.parametrize(("scale", "unit"), [(1, "fractions of 1"), (100, "percentages")])
def test_fractions_and_percentages_say_the_same(compare, scale, unit):
    scaled = {name: [scale * x for x in xs] for name, xs in PAIR.items()}
    printed = compare(*table(scaled), n_train=10, n_test=5)
    width = f"{0.005 * scale:g}"
    assert f"Scores are taken for {unit}; differences up to {width} mean nothing." in printed
    _, further = between_rows(printed)
    assert (
        further.split()[-3:]
        == between_rows(compare(*table(PAIR), n_train=10, n_test=5))[1].split()[-3:]
    )


def test_tables_are_written_as_csv_and_latex(compare, tmp_path):
    flags = {"n_train": 10, "n_test": 5}
    rows = table(PAIR)
    d = np.subtract(PAIR["a"], PAIR["b"])
    printed = compare(*rows, **flags, out=str(tmp_path / "tests.csv"))
    assert f"Written: {tmp_path / 'tests.csv'}" in printed
    compare(*rows, **flags, out=str(tmp_path / "sub" / "tables.TEX"))
    compare(*rows, **flags, out=str(tmp_path / "both"))
    for path in (tmp_path / "tests.csv", tmp_path / "both" / "tests.csv"):
        with path.open(newline="") as file:
            (row,) = csv.DictReader(file)
        assert row["comparison"].startswith("a ")
        assert float(row["mean"]) == pytest.approx(d.mean())
    for path in (tmp_path / "sub" / "tables.TEX", tmp_path / "both" / "tables.tex"):
        text = path.read_text()
        assert text.count(r"\begin{tabular}") == 3
        assert "naive p" in text
        assert "Nadeau and Bengio" in text


@pytest.mark.parametrize(
    ("name", "out"),
    [
        ("results.csv", "results.csv"),
        ("results.csv", "link.csv"),
        ("results.csv", "sub/../results.csv"),
        ("tests.csv", ""),
        ("tables.tex", "."),
    ],
)
def test_scores_are_never_written_over(tmp_path, capsys, name, out):
    path = write(tmp_path / name, "\n".join(table(PAIR)))
    before = path.read_bytes()
    (tmp_path / "link.csv").symlink_to(path)
    (tmp_path / "sub").mkdir()
    written = tmp_path / out
    with pytest.raises(UserError, match=r"--out .* would write over the scores in .*\. Name anot"):
        main(ResultsOptions(results=str(path), n_train=10, n_test=5, out=str(written)))
    assert path.read_bytes() == before
    assert {entry.name for entry in tmp_path.iterdir()} == {name, "link.csv", "sub"}
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("out", "reason"),
    [
        ("file.csv/tests.csv", "file.csv is a file, not a folder"),
        ("file.csv/deeper/still/tests.csv", "file.csv is a file, not a folder"),
        ("file", "file is a file, not a folder"),
        ("folder.csv", "folder.csv is a folder"),
        ("made", "made/tests.csv is a folder"),
    ],
)
def test_what_is_in_the_place_of_a_result_is_said_before_anything_is_compared(
    out, reason, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for name in ("file.csv", "file"):
        Path(name).write_text("in the way")
    for name in ("folder.csv", "made/tests.csv"):
        Path(name).mkdir(parents=True)
    write(tmp_path / "scores.csv", "\n".join(table(PAIR)))
    with pytest.raises(UserError) as error:
        main(ResultsOptions(results="scores.csv", n_train=10, n_test=5, out=out))
    assert str(error.value) == f"--out {out}: {reason}. Name another .csv, .tex or folder."
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("columns", "n_test", "test"),
    [
        ("", 5, "corrected resampled t-test over seeds (Nadeau and Bengio 2003)"),
        ("", 0, "t-test over seeds that share their test items"),
        ("subject", None, "t-test over subjects"),
        ("recording", None, "t-test over recordings"),
    ],
)
def test_numbers_say_which_test_their_p_is_of(compare, tmp_path, columns, n_test, test):
    head, *rows = table(PAIR)
    lines = [head, *rows]
    if columns:
        lines = [f"{columns},{head}", *(f"{who},{row}" for who in "st" for row in rows)]
    compare(*lines, n_train=10, n_test=n_test, out=str(tmp_path / "t.csv"))
    with (tmp_path / "t.csv").open(newline="") as file:
        assert [row["test"] for row in csv.DictReader(file)] == [test]


def test_the_epoch_that_the_test_chose_is_named_on_screen_and_in_the_caption(compare, tmp_path):
    for kind in ("intra-subject", '"intra-subject, best test epoch"'):
        printed = compare(*evaluated(kind), out=str(tmp_path / "t.tex"))
        text = (tmp_path / "t.tex").read_text()
        for found in (" ".join(printed), text):
            assert ("the test split itself chose each epoch" in found) == ("best" in kind)


def test_names_of_several_lines_are_told_apart_from_others(compare):
    rows = [f'"a\nb",{seed},{x}' for seed, x in enumerate(PAIR["a"])]
    rows += [f"ab,{seed},{x}" for seed, x in enumerate(PAIR["b"])]
    printed = compare("configuration,seed,x", *rows, n_train=10, n_test=5)
    assert sum(line.strip().startswith(r"a\nb vs ab") for line in printed) == 2


def test_equal_means_differ_by_0(compare, tmp_path):
    scores = {"a": [0.1, 0.2, 0.0], "b": [0.0, 0.0, 0.3]}
    assert np.subtract(scores["a"], scores["b"]).mean() != 0
    for order in (1, -1):
        pair = dict([*scores.items()][::order])
        printed = compare(*table(pair, "mrr"), n_train=10, n_test=5, out=str(tmp_path / "t.csv"))
        row = next(line.split() for line in printed if " vs " in line)
        assert row[3] == "0"
        with (tmp_path / "t.csv").open(newline="") as file:
            (values,) = csv.DictReader(file)
        assert values["mean"] == values["t"] == values["effect_size"] == "0.0"


def test_powers_of_ten_that_nobody_can_compare_are_one_line(compare):
    with pytest.raises(UserError, match="line 2: expected a number as x, got 1e308, which is"):
        compare(*table({"a": ["1e308", "-1e308"], "b": [1, 2]}), n_train=10, n_test=5)
    printed = compare(*table({"a": ["0e99999"] * 2, "b": ["0e99999"] * 2}), n_train=9, n_test=5)
    assert any("not testable" in line for line in printed)


def evaluated(kind: str) -> list[str]:
    """The scores of PAIR as an evaluation writes them."""
    rows = [
        f"search seeds,{name},{seed},{x},{kind},10,5"
        for name, xs in PAIR.items()
        for seed, x in enumerate(xs)
    ]
    return ["protocol,family,seed,recall@10,split,n_train,n_test", *rows]


@pytest.mark.parametrize(("kind", "n_test"), [("random", 5), ("blocked", 5), ("held-out", 0)])
def test_an_evaluation_s_splits_are_those_of_the_tests(compare, kind, n_test):
    printed = compare(*evaluated(kind))
    assert between_rows(printed) == between_rows(
        compare(*table(PAIR, "recall@10"), n_train=10, n_test=n_test)
    )
    assert any(line.startswith(f"Splits: {kind}") for line in printed)
    assert any("says nothing of others" in line for line in printed) == (kind == "held-out")
    assert compare(*evaluated(kind), n_train=10, n_test=n_test) == printed


@pytest.mark.parametrize(
    ("kind", "flags", "message"),
    [
        ("held-out", {"n_test": 5}, "--n-test 5 contradicts {}, whose held-out splits make it 0."),
        ("random", {"n_test": 0}, "--n-test 0 contradicts {}, whose random splits make it 5."),
        ("random", {"n_train": 9}, "--n-train 9 contradicts {}, whose random splits make it 10."),
    ],
)
def test_a_flag_that_contradicts_the_file_is_one_line(compare, tmp_path, kind, flags, message):
    with pytest.raises(UserError) as error:
        compare(*evaluated(kind), **flags)
    assert str(error.value) == message.format(tmp_path / "results.csv") + " Leave it out."


def test_a_file_that_names_a_shared_test_alone_needs_no_sizes(compare):
    lines = [",".join(line.split(",")[:-2]) for line in evaluated("held-out")]
    pair = table(PAIR, "recall@10")
    expected = between_rows(compare(*pair, n_train=1, n_test=0))
    assert between_rows(compare(*lines)) == expected
    assert between_rows(compare(*lines, n_train=77)) == expected
    random = [",".join(line.split(",")[:-2]) for line in evaluated("random")]
    with pytest.raises(UserError, match="Give --n-train and --n-test"):
        compare(*random)
    flags = {"n_train": 10, "n_test": 5}
    assert between_rows(compare(*random, **flags)) == between_rows(compare(*pair, **flags))


def test_what_is_unpaired_is_named_in_the_written_tables(compare, tmp_path):
    flags = {"n_train": 9, "n_test": 3, "out": str(tmp_path / "t")}
    for missing in (True, False):
        rows = table(PAIR)
        compare(*(rows[:-1] if missing else rows), **flags)
        text = (tmp_path / "t" / "tables.tex").read_text()
        *_, last = text.split(r"\caption")
        named = "Unpaired: seed 3 is left out, without a score of b."
        assert (named in last) == missing
        assert ("results.csv: 3 of 4 seeds can be paired." in last) == missing
        assert str(tmp_path) not in text
        with (tmp_path / "t" / "tests.csv").open(newline="") as file:
            (row,) = csv.DictReader(file)
        assert row.get("unpaired", "").startswith(named) == missing


def test_an_evaluation_s_scores_go_in_as_they_are(compare):
    head = "protocol,family,seed,recall@1,recall@10,recall@50,mrr,missing_cells"
    rows = [
        f"{protocol},{name},{seed},0.1,{x + shift},0.5,0.1,0"
        for protocol, shift in (("search seeds", 0.5), ("fresh seeds", 0.0))
        for name, xs in PAIR.items()
        for seed, x in enumerate(xs)
    ]
    printed = compare(head, *rows, n_train=10, n_test=5)
    expected = compare(*table(PAIR, "recall@10"), n_train=10, n_test=5)
    assert between_rows(printed) == between_rows(expected)
    assert "Score: recall@10. Not used: recall@1, recall@50, mrr." in printed
    assert "Rows of the protocol fresh seeds." in printed
    other = compare(head, *rows, n_train=10, n_test=5, metric="MRR")
    assert any("standard deviation 0" in line or "not testable" in line for line in other)


SENTENCE = 100 / 59


def shifted(*sentences: int, digits: int | None = None) -> list[str]:
    """Scores of which one is better by so many of 59 sentences at each seed, in percent."""
    hits = [30 - seed for seed in range(len(sentences))]
    scores = {
        "a": [(n + more) * SENTENCE for n, more in zip(hits, sentences, strict=True)],
        "b": [n * SENTENCE for n in hits],
    }
    if digits is not None:
        scores = {name: [round(x, digits) for x in xs] for name, xs in scores.items()}
    return table(scores, "recall@10")


@pytest.mark.parametrize("digits", [None, 2, 1, 0])
@pytest.mark.parametrize("sentences", [(1, 1), (1, 1, 1), (1, 1, 1, 1, 1), (1, 1, 1, 1, 2)])
def test_a_sentence_at_every_seed_is_no_difference_however_it_is_rounded(
    compare, tmp_path, sentences, digits
):
    compare(
        *shifted(*sentences, digits=digits), n_train=172, n_test=59, out=str(tmp_path / "t.csv")
    )
    with (tmp_path / "t.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["mean"]) == pytest.approx(np.mean(sentences) * SENTENCE, abs=0.6)
    assert float(row["p"]) > 0.1


def test_where_nothing_is_known_of_hits_rounding_alone_leaves_nothing_to_test(compare):
    scores = {"a": [0.193, 0.184, 0.177], "b": [0.183, 0.173, 0.167]}  # mrr: .010, .011, .010
    printed = compare(*table(scores, "mrr"), n_train=172, n_test=59)
    assert any("not testable" in line for line in printed)


def first_p(tmp_path: Path) -> str:
    with (tmp_path / "t.csv").open(newline="") as file:
        return next(csv.DictReader(file))["p"]


def test_rounding_makes_no_claim_surer(compare, tmp_path):
    a, b = np.array([0.45, 0.41, 0.48, 0.44, 0.5]), np.array([0.43, 0.41, 0.46, 0.44, 0.48])
    found = []
    for more in (np.zeros(5), np.arange(5) * 2e-6):
        rows = table({"a": (a + more).round(6), "b": b}, "recall@10")
        compare(*rows, n_train=6000, n_test=1999, out=str(tmp_path / "t.csv"))
        found.append(float(first_p(tmp_path)))
    assert found[0] >= found[1] > 0.1


def test_rounded_scores_of_equal_configurations_are_seldom_told_apart():
    # Each sentence is won by one, the other or neither, at every seed: neither is better.
    rng, claims = np.random.default_rng(1), 0
    for _ in range(100):
        won = rng.choice([1, -1, 0], 10_000, p=[0.025, 0.025, 0.95])
        tests = [rng.choice(10_000, 1999, replace=False) for _ in range(3)]
        common = rng.normal(0.4, 0.01, len(tests))
        gain = np.array([won[test].mean() / 2 for test in tests])
        a, b = (common + gain).round(2), (common - gain).round(2)
        known = resolution_of("recall@10", [*a, *b], 2, 1999, 1.0)
        least = known.smallest_variance(a - b, 6000)
        found = difference_over_seeds("a vs b", a, b, 6000, 1999, least, known.rounded)
        claims += found.test.pvalue < 0.05
    assert claims <= 8


@pytest.mark.parametrize(
    ("metric", "digits"), [("recall@10", 6), ("R@10", 6), ("balanced_accuracy", 6), ("score", 17)]
)
def test_shares_of_hits_are_told_by_their_values(compare, tmp_path, metric, digits):
    hits = {"a": (20, 21, 23, 25, 24), "b": (21, 22, 24, 26, 26)}
    rows = table({k: [round(n / 59, digits) for n in found] for k, found in hits.items()}, metric)
    compare(*rows, n_train=172, n_test=59, out=str(tmp_path / "t.csv"))
    assert float(first_p(tmp_path)) == pytest.approx(0.156, abs=0.001)


def of_subjects(*pairs: tuple[float, float]) -> list[str]:
    rows = [
        f"{name},0,s{s},{x}"
        for s, pair in enumerate(pairs)
        for name, x in zip("ab", pair, strict=True)
    ]
    return ["configuration,seed,subject,recall@10", *rows]


def test_over_subjects_rounding_leaves_nothing_to_test(compare, tmp_path):
    compare(*of_subjects((49.2, 50.8), (22.0, 23.7), (25.4, 27.1)), out=str(tmp_path / "t.csv"))
    assert first_p(tmp_path) == ""
    exact = of_subjects((29 / 59, 30 / 59), (13 / 60, 14 / 60), (15 / 61, 16 / 61))
    compare(*exact, out=str(tmp_path / "t.csv"))
    assert float(first_p(tmp_path)) > 0.05


def test_differences_that_cancel_are_none(compare):
    printed = compare(*table({"a": [5.5, -3.0], "b": [5.4, -2.9]}), n_train=9, n_test=4)
    cells = next(line for line in printed if "a vs b" in line).split()
    assert (cells[3], "0.50" in cells) == ("0", True)
    assert "can't be told apart as they are rounded" in " ".join(printed)


def test_a_difference_that_is_there_is_found_in_percent_and_in_fractions(compare, tmp_path):
    found = []
    for scale in (1.0, 0.01):
        scores = {"a": [60.0, 55.0, 50.0, 58.0, 57.0], "b": [30.0, 29.0, 20.0, 24.0, 31.0]}
        rows = table({n: [scale * x for x in xs] for n, xs in scores.items()}, "recall@10")
        compare(*rows, n_train=872, n_test=292, out=str(tmp_path / "t.csv"))
        with (tmp_path / "t.csv").open(newline="") as file:
            (row,) = csv.DictReader(file)
        found.append(float(row["p"]))
    assert found[0] == pytest.approx(found[1])
    assert found[0] < 0.01


def test_a_test_that_is_shared_takes_no_sizes(compare):
    alone = compare(*table(PAIR), n_test=0)
    assert between_rows(alone) == between_rows(compare(*table(PAIR), n_train=9, n_test=0))
