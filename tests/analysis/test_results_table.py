from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from analysis.results_table import ResultsOptions, main, paired, read_scores
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


def test_scores_come_back_in_the_order_of_the_seeds(tmp_path):
    path = write(tmp_path / "r.csv", "seed,recall,configuration\n2,.3,a\n1,.1,a\n1,.2,b\n2,.4,b\n")
    results = read_scores(path)
    assert results.metric == "recall"
    known = paired("", results.tables[""][""])
    assert {name: s.tolist() for name, s in known.items()} == {
        "a": [0.1, 0.3],
        "b": [0.2, 0.4],
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must have the columns configuration, seed and one score, each once, got nothing"),
        ("configuration,seed,seed,x\na,0,1,1\n", "each once, got configuration, seed, seed, x"),
        ("configuration,seed,x\na,0,0,1\n", "line 2: more values than columns"),
        ("configuration,seed\na,1\n", "got configuration, seed"),
        ("configuration,seed,x,y\na,1,2,3\n", "got configuration, seed, x, y"),
        ("configuration,seed,x\na,1,nan\n", "line 2: x is nan. Leave out what has no result"),
        ("configuration,seed,x\na,1,inf\n", "line 2: x is inf"),
        ("configuration,seed,x\na,one,2\n", "line 2: expected a whole seed and a number"),
        ("configuration,seed,x\na,1\n", "line 2: expected a whole seed and a number"),
        ("configuration,seed,x\na,1,2\na,1,3\n", "line 3: a has seed 1 twice"),
        ("configuration,seed,x\n", "has 0 configurations"),
        ("configuration,seed,x\na,1,2\na,2,3\n", "has 1 configurations"),
        ("configuration,seed,x\na,1,2\na,2,3\nb,1,2\n", "b lacks seed 2, which others have"),
        ("configuration,seed,x\n,1,2\n", "line 2: configuration is empty"),
        ("recording,configuration,seed,x\nr1,a,1,2\n,a,1,3\n", "line 3: recording is empty"),
        ("subject,configuration,seed,x\n ,a,1,2\n", "line 2: subject is empty. Name it, or leave"),
    ],
)
def test_a_table_that_makes_no_sense_is_one_line(tmp_path, text, message):
    path = write(tmp_path / "results.csv", text)
    with pytest.raises(UserError, match=message) as error:
        paired(str(path), read_scores(path).tables.get("", {}).get("", {}))
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_recordings_are_told_apart_and_may_share_seeds(tmp_path):
    text = "recording,configuration,seed,x\nr1,a,0,1\nr2,a,0,2\nr2,b,0,3\n"
    results = read_scores(write(tmp_path / "r.csv", text))
    assert results.metric == "x"
    assert not results.has_subjects
    r2 = {"a": {0: 2.0}, "b": {0: 3.0}}
    assert results.tables == {"r1": {"r1": {"a": {0: 1.0}}}, "r2": {"r2": r2}}


def test_recordings_belong_to_subjects(tmp_path):
    text = "subject,recording,configuration,seed,x\ns,r1,a,0,1\ns,r2,a,0,2\nt,r1,a,0,3\n"
    results = read_scores(write(tmp_path / "r.csv", text))
    assert results.has_subjects
    assert results.tables == {
        "s": {"r1": {"a": {0: 1.0}}, "r2": {"a": {0: 2.0}}},
        "t": {"r1": {"a": {0: 3.0}}},
    }


def test_binary_files_and_missing_ones_are_one_line(tmp_path):
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    for name in ("binary.csv", "missing.csv"):
        with pytest.raises(UserError, match=f"{name} can't be read as CSV"):
            read_scores(tmp_path / name)


def statistics(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "analysis.statistics", *map(str, arguments)]
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
    assert "10 seeds show differences from 2.0" in done.stdout
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


def between_rows(printed: list[str]) -> list[str]:
    """The rows of "a vs b": of the tests, and of what other tests say."""
    return [line for line in printed if line.strip().startswith("a vs b")]


def table(scores: dict[str, list[float]]) -> list[str]:
    rows = [f"{name},{seed},{x}" for name, xs in scores.items() for seed, x in enumerate(xs)]
    return ["configuration,seed,x", *rows]


PAIR = {"a": [0.31, 0.33, 0.30, 0.36], "b": [0.30, 0.31, 0.31, 0.32]}


def test_equivalence_changes_what_is_shown(compare):
    d = np.subtract(PAIR["a"], PAIR["b"])
    posterior = stats.t(3, d.mean(), np.sqrt((1 / 4 + 5 / 10) * d.var(ddof=1)))
    for equivalence in (0.005, 0.03):
        printed = compare(*table(PAIR), n_train=10, n_test=5, equivalence=equivalence)
        _, further = between_rows(printed)
        below, above = posterior.cdf(-equivalence), posterior.sf(equivalence)
        expected = [f"{p:.3f}" for p in (below, 1 - below - above, above)]
        assert further.split()[-3:] == expected
        assert any(f"within or above ±{equivalence}" in line for line in printed)
        assert f"{stats.wilcoxon(d).pvalue:.3f} (0.125)" in further


BAD_FLAGS = [
    ({"n_train": 0}, "--n-train must be at least 1, got 0."),
    ({"n_test": -1}, "--n-test must be at least 0, got -1."),
    ({"equivalence": -3.0}, "--equivalence must be at least 0, got -3.0."),
    ({"equivalence": math.nan}, "--equivalence must be at least 0, got nan."),
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
    with pytest.raises(UserError, match="has a single seed: nothing can be tested"):
        compare(*table({"a": [0.1], "b": [0.2]}), n_train=10, n_test=5)


def test_equal_scores_are_a_stated_answer(compare):
    printed = compare(*table({"a": [0.5] * 3, "b": [0.5] * 3}), n_train=10, n_test=5)
    tests, _ = between_rows(printed)
    assert tests.split()[3:7] == ["0", "–", "not", "testable"]
    assert any("spread: a vs b." in line for line in printed)


def test_scores_without_spread_have_an_sd_of_0(compare):
    scores = {"a": [0.1] * 3, "b": [0.3] * 3}
    assert np.std(scores["a"], ddof=1) > 0  # but for rounding it is 0
    printed = compare(*table(scores), n_train=10, n_test=5)
    assert any("0.1 ± 0 " in line for line in printed)
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


def test_a_recording_that_is_not_paired_is_named(compare, tmp_path):
    head, *rows = table(PAIR)
    lines = [f"s,r1,{row}" for row in rows] + [f"t,r2,{row}" for row in rows[:-1]]
    with pytest.raises(UserError) as error:
        compare(f"subject,recording,{head}", *lines)
    assert str(error.value).startswith(f"{tmp_path / 'results.csv'}, t, r2: b lacks seed 3")
