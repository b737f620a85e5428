from __future__ import annotations

import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from analysis.comparison import against_chance, between, paired, read_scores
from analysis.statistics import corrected_resampled_ttest, effect_size, holm, win_probability
from ssense.errors import UserError

SIZES = (872, 292)
RNG = np.random.default_rng(0)
SPLIT = RNG.normal(0, 0.01, 10)
SCORES = {
    name: 0.1 + effect + SPLIT + RNG.normal(0, 0.005, 10)
    for name, effect in (("none", 0.0), ("a", 0.02), ("b", 0.021))
}


def test_every_pair_is_compared_by_seed_and_adjusted_for_all():
    comparisons = between(SCORES, *SIZES)
    pairs = list(combinations(SCORES, 2))
    assert [c.name for c in comparisons] == [f"{a} – {b}" for a, b in pairs]
    tests = [corrected_resampled_ttest(SCORES[a] - SCORES[b], *SIZES) for a, b in pairs]
    assert [c.corrected for c in comparisons] == tests
    assert [c.p_holm for c in comparisons] == holm([t.pvalue for t in tests]).tolist()
    first = comparisons[0]
    assert first.effect_size == effect_size(SCORES["none"] - SCORES["a"])
    assert first.wins == win_probability(SCORES["none"], SCORES["a"])
    assert first.naive.pvalue < first.corrected.pvalue
    assert first.posterior.below > 0.5


def test_a_baseline_leaves_fewer_comparisons_to_adjust_for():
    comparisons = between(SCORES, *SIZES, baseline="none")
    assert [c.name for c in comparisons] == ["a – none", "b – none"]
    smallest = min(c.corrected.pvalue for c in comparisons)
    assert min(c.p_holm for c in comparisons) == 2 * smallest


def test_chance_is_the_same_at_every_seed():
    (none, *_) = against_chance(SCORES, 0.034, *SIZES)
    assert none.name == "none – chance"
    assert none.corrected.mean == pytest.approx(SCORES["none"].mean() - 0.034)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_scores_come_back_in_the_order_of_the_seeds(tmp_path):
    path = write(tmp_path / "r.csv", "seed,recall,configuration\n2,.3,a\n1,.1,a\n1,.2,b\n2,.4,b\n")
    metric, by_recording = read_scores(path)
    (known,) = by_recording.values()
    assert metric == "recall"
    assert {name: s.tolist() for name, s in paired(path, known).items()} == {
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
        ("configuration,seed,x\na,1,2\nb,1,3\n", "has the single seed 1: nothing can be tested"),
    ],
)
def test_a_table_that_makes_no_sense_is_one_line(tmp_path, text, message):
    path = write(tmp_path / "results.csv", text)
    with pytest.raises(UserError, match=message) as error:
        paired(path, read_scores(path)[1].get("", {}))
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_recordings_are_told_apart_and_may_share_seeds(tmp_path):
    text = "recording,configuration,seed,x\nr1,a,0,1\nr2,a,0,2\nr2,b,0,3\n"
    metric, found = read_scores(write(tmp_path / "r.csv", text))
    assert metric == "x"
    assert found == {"r1": {"a": {0: 1.0}}, "r2": {"a": {0: 2.0}, "b": {0: 3.0}}}


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
    refused = statistics(path, "--n-train", 872, "--n-test", 292, "--baseline", "c")
    assert refused.returncode == 2
    assert refused.stderr == f"error: --baseline c is not in {path}. Found: none, a, b.\n"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "Give --n-train and --n-test, the items of the training and test splits"),
        (("--n-train", 0, "--n-test", 1), "must be at least 1 and --n-test at least 0, got 0, 1"),
        (("--n-train", 1, "--n-test", 1, "--equivalence", -1), "at least 0, got -1.0"),
    ],
)
def test_flags_that_make_no_sense_are_one_line(tmp_path, flags, message):
    rows = "".join(f"{name},{seed},{seed}\n" for name in "ab" for seed in range(3))
    path = write(tmp_path / "results.csv", f"configuration,seed,x\n{rows}")
    done = statistics(path, *flags)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_equal_scores_are_a_stated_answer(tmp_path):
    rows = "".join(f"{name},{seed},0.5\n" for name in "ab" for seed in range(3))
    path = write(tmp_path / "results.csv", f"configuration,seed,x\n{rows}")
    done = statistics(path, "--n-train", 10, "--n-test", 5)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if "a – b" in line]
    assert line.split()[3:5] == ["0", "0"]
    assert "1.000" in line
