from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from analysis.recordings import compare_recordings, mean_rows, means_by_configuration
from analysis.report import plain
from ssense.errors import UserError

RNG = np.random.default_rng(0)
RECORDINGS = [f"sub_{number}" for number in range(1, 7)]
SCORES = {
    name: {"a": 0.2 + level + RNG.normal(0, 0.01, 5), "b": 0.17 + level + RNG.normal(0, 0.01, 5)}
    for name, level in zip(RECORDINGS, RNG.normal(0, 0.05, 6), strict=True)
}
CHANCE = dict(zip(RECORDINGS, [0.03, 0.04, 0.05] * 2, strict=True))


def test_seeds_are_averaged_and_the_test_is_over_recordings():
    means = means_by_configuration(SCORES)
    (found,) = compare_recordings(SCORES, None)
    expected = stats.ttest_rel(means["a"], means["b"])
    assert found.name == "a – b"
    assert found.corrected.pvalue == pytest.approx(expected.pvalue)
    assert found.corrected.df == len(RECORDINGS) - 1
    interval = expected.confidence_interval(0.95)
    assert (found.corrected.low, found.corrected.high) == pytest.approx(tuple(interval))
    wilcoxon = stats.wilcoxon(means["a"] - means["b"])
    assert found.ranks.pvalue == pytest.approx(wilcoxon.pvalue)
    assert found.ranks.smallest == 2 / 2**6


def test_more_seeds_of_the_same_recordings_make_nothing_more_certain():
    repeated = {r: {name: np.tile(s, 10) for name, s in f.items()} for r, f in SCORES.items()}
    (few,), (many,) = compare_recordings(SCORES, None), compare_recordings(repeated, None)
    assert many.corrected.pvalue == pytest.approx(few.corrected.pvalue)


def test_each_recording_is_compared_with_its_own_chance():
    first, _, pair = compare_recordings(SCORES, CHANCE)
    above = [SCORES[name]["a"].mean() - CHANCE[name] for name in RECORDINGS]
    assert first.name == "a – chance"
    assert first.corrected.pvalue == pytest.approx(stats.ttest_1samp(above, 0).pvalue)
    assert first.corrected.mean == pytest.approx(np.mean(above))
    assert pair.name == "a – b"


def test_recordings_of_no_difference_seldom_show_one():
    # Subjects differ from each other in what a configuration gains; on average it gains nothing.
    rng = np.random.default_rng(1)
    found = 0
    for _ in range(400):
        gains = rng.normal(0, 0.03, 8)
        scores = {
            str(r): {"a": gain + rng.normal(0, 0.01, 10), "b": rng.normal(0, 0.01, 10)}
            for r, gain in enumerate(gains)
        }
        (comparison,) = compare_recordings(scores, None)
        found += comparison.corrected.pvalue < 0.05
    assert stats.binomtest(found, 400, 0.05).pvalue > 0.001


def test_the_middle_half_ignores_a_recording_that_fails():
    scores = {str(r): {"a": np.full(4, 0.2)} for r in range(7)} | {"odd": {"a": np.full(4, 9.0)}}
    (row,) = mean_rows(scores, plain)
    assert row["interquartile mean"].startswith("0.2 (")
    assert row["odd"] == plain(9.0, 0.0)
    assert row["over recordings"].startswith("1.3")


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"sub_1": SCORES["sub_1"]}, "only sub_1: claims about others take more recordings"),
        (
            {"sub_1": SCORES["sub_1"], "sub_2": {"a": np.ones(3)}},
            "sub_2 and sub_1 don't have the same configurations: b is in one of them only",
        ),
    ],
)
def test_recordings_that_cannot_be_compared_are_refused(scores, message):
    with pytest.raises(UserError, match=message):
        compare_recordings(scores, None)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_table_with_recordings_is_compared_over_them(tmp_path):
    lines = [
        f"{recording},{name},{seed},{score}"
        for recording, found in SCORES.items()
        for name, values in found.items()
        for seed, score in enumerate(values)
    ]
    path = tmp_path / "results.csv"
    path.write_text("\n".join(["recording,configuration,seed,recall", *lines]))
    done = run("-m", "analysis.statistics", path)
    assert done.returncode == 0, done.stderr
    assert "The unit is the recording" in done.stdout
    assert "(0.0312)" in done.stdout  # the smallest p of Wilcoxon's test over six


def write_evaluated(storage: Path, name: str, subject: str, level: float) -> None:
    """What a test evaluation of a sweep leaves behind, as far as it is read here."""
    folder = storage / "sweeps" / name
    (folder / "evaluation").mkdir(parents=True)
    description = {"format": 2, "updated_at": "2026", "dataset": {"subject": subject, "title": "T"}}
    (folder / "sweep.json").write_text(json.dumps(description))
    scores = [
        f"{protocol},{family},{seed},{level + gain + seed / 1000}"
        for protocol, shift in (("search seeds", 0.5), ("fresh seeds", 0.0))
        for family, gain in (("no masking", shift), ("electrode", shift + level / 10))
        for seed in range(3)
    ]
    (folder / "evaluation" / "scores.csv").write_text(
        "\n".join(["protocol,family,seed,recall@10", *scores])
    )
    (folder / "evaluation" / "table.csv").write_text("protocol,recall@10_chance\nx,0.05\n")


def test_evaluated_sweeps_are_compared_at_fresh_seeds(tmp_path):
    for number, level in enumerate((0.2, 0.3, 0.5), start=1):
        write_evaluated(tmp_path, f"masking-{number}", f"sub_{number}", level)
    names = [f"masking-{number}" for number in (1, 2, 3)]
    done = run("analysis/recordings.py", "--storage", tmp_path, "--sweeps", *names)
    assert done.returncode == 0, done.stderr
    table = (tmp_path / "recordings_compared" / "recordings.csv").read_text().splitlines()
    rows = {line.split(",")[1]: float(line.split(",")[2]) for line in table[1:]}
    assert rows["no masking – chance"] == pytest.approx(np.mean([0.2, 0.3, 0.5]) + 0.001 - 0.05)
    assert rows["no masking – electrode"] == pytest.approx(-np.mean([0.02, 0.03, 0.05]))


def test_sweeps_of_one_recording_are_no_two(tmp_path):
    for number in (1, 2):
        write_evaluated(tmp_path, f"masking-{number}", "sub_9", 0.2)
    done = run(
        "analysis/recordings.py", "--storage", tmp_path, "--sweeps", "masking-1", "masking-2"
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: --sweeps names 2 sweeps of 1 recordings.")


def test_a_sweep_that_was_not_evaluated_says_how(tmp_path):
    write_evaluated(tmp_path, "masking-1", "sub_9", 0.2)
    (tmp_path / "sweeps" / "masking-1" / "evaluation" / "scores.csv").unlink()
    done = run("analysis/recordings.py", "--storage", tmp_path, "--sweeps", "masking-1")
    assert done.returncode == 2
    assert "masking-1 was not evaluated. Run python analysis/test_evaluation.py" in done.stderr
    assert len(done.stderr.splitlines()) == 1
