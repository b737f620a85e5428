from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from analysis.results_table import paired, read_scores
from analysis.statistics import win_probability
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
        ("", "must have the columns configuration, seed and one score, got nothing"),
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
    assert "none – a" in done.stdout
    assert f"{SCORES['a'].mean():.4g}" in done.stdout
    assert "10 seeds show differences from 2.0" in done.stdout
    d = SCORES["none"] - SCORES["a"]
    wins = win_probability(SCORES["none"], SCORES["a"])
    assert f"{wins.value:.2f} ({wins.low:.2f} to {wins.high:.2f})" in done.stdout
    assert f"{stats.wilcoxon(d).pvalue:.3f} (0.00195)" in done.stdout
    refused = statistics(path, "--n-train", 872, "--n-test", 292, "--baseline", "c")
    assert refused.returncode == 2
    assert refused.stderr == f"error: --baseline c is not in {path}. Found: none, a, b.\n"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "Give --n-train and --n-test, the items of the training and test splits"),
        (("--n-train", 0, "--n-test", 1), "--n-train must be at least 1, got 0."),
        (("--n-train", 1, "--n-test", -1), "--n-test must be at least 0, got -1."),
        (("--n-train", 1, "--n-test", 1, "--equivalence", -1), "at least 0, got -1.0"),
        (("--equivalence", "nan"), "--equivalence must be at least 0, got nan."),
    ],
)
@pytest.mark.parametrize("recordings", [1, 2])
def test_flags_that_make_no_sense_are_one_line(tmp_path, capsys, recordings, flags, message):
    if not flags and recordings > 1:
        return  # sizes of splits are needed for a single recording alone
    lines = [f"r{r},{name},{seed},{seed}" for r in range(recordings) for name in "ab" for seed in (0, 1)]
    path = write(tmp_path / "results.csv", "\n".join(["recording,configuration,seed,x", *lines]))
    assert message in refused(capsys, path, *flags)


def test_equal_scores_are_a_stated_answer(tmp_path):
    rows = "".join(f"{name},{seed},0.5\n" for name in "ab" for seed in range(3))
    path = write(tmp_path / "results.csv", f"configuration,seed,x\n{rows}")
    done = statistics(path, "--n-train", 10, "--n-test", 5)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if "a – b" in line]
    assert line.split()[3:5] == ["0", "0"]
    assert "1.000" in line
    assert "standard deviation 0: a – b." in done.stdout


def test_scores_without_spread_have_an_sd_of_0(tmp_path):
    values = {"a": [0.1, 0.1, 0.1], "b": [0.3, 0.3, 0.3]}
    assert np.std(values["a"], ddof=1) > 0  # but for rounding it is 0
    rows = "".join(f"{name},{i},{x}\n" for name, xs in values.items() for i, x in enumerate(xs))
    done = statistics(
        write(tmp_path / "r.csv", f"configuration,seed,x\n{rows}"), "--n-train", 10, "--n-test", 5
    )
    assert done.returncode == 0, done.stderr
    assert "0.1 ± 0 " in done.stdout
    assert "sd 0" in done.stdout
    assert "inf" not in done.stdout
    assert "e-1" not in done.stdout
