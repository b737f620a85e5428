from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssense.data.recordings.readers.brain_treebank import open_brain_treebank
from ssense.data.recordings.segments import SegmentSpec, select_segments
from ssense.data.synthetic.recording import SyntheticSpec, holds_synthetic, write_synthetic
from ssense.data.synthetic.sentence_timings import COLUMNS, SentenceTimings, read_sentence_timings
from ssense.errors import UserError
from ssense.files.digest import file_digest

ANTMAN = Path(__file__).parents[1] / "antman_sentence_timings.csv"
RATE_HZ = 1024
SHORT = [(1.0, 1.5, 2024, 2536, 2), (2.0, 4.0, 3048, 5096, 5), (9.0, 9.3, 15_416, 15_723, 1)]


def write_table(path: Path, rows, columns=COLUMNS) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def antman() -> dict[str, np.ndarray]:
    values = np.genfromtxt(ANTMAN, delimiter=",", names=True)
    return {name: values[name] for name in COLUMNS}


# ---------------------------------------------------------------- both clocks


def test_lead_in_and_pauses_of_the_real_movie_are_found():
    timings = read_sentence_timings(ANTMAN)
    assert timings.lead_in_s == pytest.approx(364, abs=0.1)
    assert timings.digest == file_digest(ANTMAN)
    # As worked out from the words by hand: first and last second each may lie in, and its length.
    known = [(2497.5, 2503.4, 7.8), (3634.1, 3635.9, 76.5), (4251.5, 4255.9, 3.2)]
    known += [(4756.3, 4757.7, 27.8), (5314.1, 5316.0, 1.8), (6217.6, 6221.3, 6.9)]
    for at_s, length_s, (first_s, last_s, expected_s) in zip(
        timings.pause_at_s, timings.pause_s, known, strict=True
    ):
        assert first_s < at_s < last_s
        assert length_s == pytest.approx(expected_s, abs=0.07)


def test_the_movie_runs_as_the_table_says_at_any_rate():
    timings, table = read_sentence_timings(ANTMAN), antman()
    for clock in ("onset", "offset"):
        samples = timings.movie(RATE_HZ, 6456.0).sample_of(table[f"{clock}_s"])
        apart = samples - table[f"{clock}_sample"]
        assert np.abs(apart).max() < 150
        # The published procedure errs evenly over the 0 to 115 samples that lie between triggers.
        assert apart.std() == pytest.approx(115 / np.sqrt(12), rel=0.1)
        doubled = timings.movie(2 * RATE_HZ, 6456.0).sample_of(table[f"{clock}_s"])
        np.testing.assert_allclose(doubled, 2 * samples)


@st.composite
def movies(draw):
    """A rate, a lead-in and pauses; sentences of 1 s every 2 s, noted with some jitter."""
    rate_hz = draw(st.sampled_from([512, 1024, 2048]))
    lead_s = draw(st.floats(1, 500))
    places = draw(st.lists(st.integers(5, 55), max_size=4, unique=True))
    pauses = [(2.0 * place + 0.5, draw(st.floats(1, 100))) for place in sorted(places)]
    return rate_hz, lead_s, pauses, draw(st.integers(0, 2**32 - 1))


@given(movies())
def test_pauses_are_found_wherever_they_are(tmp_path_factory, movie):
    rate_hz, lead_s, pauses, seed = movie
    generator = np.random.default_rng(seed)
    rows = []
    for onset_s in np.arange(1.0, 121, 2):
        ahead_s = lead_s + sum(length_s for at_s, length_s in pauses if at_s < onset_s)
        both_s = np.array([onset_s, onset_s + 1])
        samples = np.rint((both_s + ahead_s + generator.uniform(-0.02, 0.02, 2)) * rate_hz)
        rows.append([*both_s, *samples, 3])
    timings = read_sentence_timings(write_table(tmp_path_factory.mktemp("t") / "table.csv", rows))
    assert timings.lead_in_s == pytest.approx(lead_s, abs=0.06)
    np.testing.assert_allclose(timings.pause_at_s, [at_s for at_s, _ in pauses], atol=0.51)
    np.testing.assert_allclose(timings.pause_s, [length_s for _, length_s in pauses], atol=0.11)


# ---------------------------------------------------------------- tables that cannot be


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({1: (2.0, 2.04, 3048, 3089, 5)}, "row 1 .*offset_s must be 0.01 s per word after onset_s"),
        ({1: (2.0, 4.0, 3048, 3048, 5)}, "row 1 .*offset_sample must be after the onset, got 3048"),
        ({1: (2.0, 4.0, 3048, 5096, 0)}, "row 1 .*n_words must be a whole number .*, got 0"),
        ({1: (2.0, 4.0, 3048, 5096, 2.5)}, "n_words must be a whole number from 1 to 500, got 2.5"),
        ({2: (1.9, 4.0, 3048, 5096, 1)}, "row 2 .*onset_s must be no earlier .*, got 1.9"),
        ({0: ("nan", 1.5, 2024, 2536, 2)}, "row 0 .*onset_s must be a number from 0 on, got nan"),
        ({0: (1, "inf", 2024, 2536, 2)}, "row 0 .*offset_s must be a number from 0 on, got inf"),
        ({0: (1, 1.5, -2024, 2536, 2)}, "onset_sample must be a number from 0 on, got -2024"),
        ({0: (1, 1.5, "", 2536, 2)}, "onset_sample must be a number from 0 on, got nan"),
        ({0: ("one", 1.5, 2024, 2536, 2)}, "is not the table expected: .*one"),
        (
            {2: (9.0, 9.3, 5416, 5723, 1)},
            "between movie seconds 4 and 9 the samples fall .* behind",
        ),
        ({0: (1.0, 1.5, 24, 536, 2), 1: (2, 4, 1048, 3096, 5)}, "begins 0.977 s before the record"),
    ],
)
def test_malformed_rows_are_refused_in_one_line(tmp_path, change, message):
    rows = [change.get(number, row) for number, row in enumerate(SHORT)]
    path = write_table(tmp_path / "table.csv", rows)
    with pytest.raises(UserError, match=message) as caught:
        read_sentence_timings(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_other_malformed_tables_are_refused(tmp_path):
    def refused(path: Path, message: str) -> None:
        with pytest.raises(UserError, match=message) as caught:
            read_sentence_timings(path)
        assert "\n" not in str(caught.value)

    path = tmp_path / "table.csv"
    refused(path, "table.csv is missing")
    refused(write_table(path, []), "holds no sentence")
    refused(write_table(path, [row[:4] for row in SHORT], COLUMNS[:4]), "no column n_words")
    milliseconds = [(1e3 * a, 1e3 * b, *rest) for a, b, *rest in SHORT]
    refused(write_table(path, milliseconds), r"runs at 1.02 samples per movie second. Give onset_s")


def test_the_short_table_is_fine_as_it_stands(tmp_path):
    timings = read_sentence_timings(write_table(tmp_path / "table.csv", SHORT))
    assert timings.lead_in_s == pytest.approx(1000 / RATE_HZ, abs=0.001)
    assert timings.n_words.tolist() == [2, 5, 1]
    assert timings.pause_at_s.tolist() == [6.5]
    assert timings.pause_s == pytest.approx(5200 / RATE_HZ, abs=0.001)


# ---------------------------------------------------------------- recordings


@pytest.fixture
def short(tmp_path) -> SentenceTimings:
    return read_sentence_timings(write_table(tmp_path / "table.csv", SHORT))


def test_the_recording_follows_the_table(tmp_path, short):
    spec = SyntheticSpec(electrodes=3, sampling_rate=512)
    write_synthetic(tmp_path / "made", spec, short)
    recording = open_brain_treebank(tmp_path / "made")
    segments = select_segments(recording, SegmentSpec(context_before_s=0.1, context_after_s=0.1))
    np.testing.assert_allclose(segments.onset_s, [row[0] for row in SHORT])
    np.testing.assert_allclose(segments.offset_s, [row[1] for row in SHORT])
    start, stop = (np.array([row[i] for row in SHORT]) / 2 for i in (2, 3))
    np.testing.assert_allclose(segments.start, start - 51, atol=1)
    np.testing.assert_allclose(segments.stop, stop + 51, atol=1)
    timed = np.isfinite(recording.transcript.start_s)
    assert Counter(recording.transcript.sentence_idx[timed].tolist()) == {0: 2, 1: 5, 2: 1}


def test_the_table_is_named_by_its_content(tmp_path, short):
    spec = SyntheticSpec(electrodes=3, sampling_rate=256)
    write_synthetic(tmp_path / "made", spec, short)
    metadata = tmp_path / "made/subject_metadata/sub_9_trial000_metadata.json"
    named = json.loads(metadata.read_text())["synthetic"]
    assert named["timings"] == file_digest(short.path)
    assert (named["sentences"], named["pauses"], named["lead_in_s"]) == (3, 1, short.lead_in_s)
    moved = read_sentence_timings(shutil.copy(short.path, tmp_path / "elsewhere.csv"))
    assert holds_synthetic(tmp_path / "made", spec, moved)
    assert not holds_synthetic(tmp_path / "made", spec)
    rows = [*SHORT[:2], (9.0, 9.4, 15_416, 15_826, 1)]
    other = read_sentence_timings(write_table(tmp_path / "other.csv", rows))
    assert not holds_synthetic(tmp_path / "made", spec, other)
    with pytest.raises(UserError, match="is not this synthetic recording"):
        write_synthetic(tmp_path / "made", spec, other)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sentences": 4}, r"sentences is 4, but .*table.csv makes it 3. Leave sentences out."),
        ({"pauses": 3}, r"pauses is 3, but .*table.csv makes it 1. Leave pauses out."),
        ({"lead_in_s": 9}, r"lead_in_s is 9.0, but .* makes it 0.977. Leave lead_in_s out."),
        ({"equal_durations": True}, "equal_durations is True, .* Leave equal_durations out."),
        ({"quirks": True}, r"table.csv does not fit: sentences must be at least 30 with quirks"),
    ],
)
def test_settings_may_not_contradict_the_table(tmp_path, short, settings, message):
    with pytest.raises(UserError, match=message):
        write_synthetic(tmp_path / "made", SyntheticSpec(**settings), short)
    assert not (tmp_path / "made").exists()


def test_the_command_takes_a_table(tmp_path):
    path = write_table(tmp_path / "table.csv", SHORT)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ssense.data.synthetic", str(tmp_path / "made")]
        command += ["--timings", str(path), "--electrodes=3", "--sampling-rate=256", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    contradiction = run("--sentences=2")
    assert (contradiction.returncode, contradiction.stdout) == (2, "")
    expected = f"error: sentences is 2, but {path} makes it 3. Leave sentences out.\n"
    assert contradiction.stderr == expected
    done = run("--sentences=3")
    assert (done.returncode, done.stderr) == (0, "")
    assert "made: written, 3 sentences, 3 contacts" in done.stdout
    assert "was already there" in run().stdout
    path.write_text("onset_s\n1\n")
    broken = run()
    assert broken.returncode == 2
    assert "table.csv has no column offset_s, onset_sample" in broken.stderr
    assert broken.stderr.count("\n") == 1


# ---------------------------------------------------------------- the real movie


def straddling(table, before_s: float, after_s: float) -> np.ndarray:
    """Which sentences reach into a pause with their context, by the table and its jumps alone."""
    times_s = np.concatenate([table["onset_s"], table["offset_s"]])
    ahead_s = np.concatenate([table["onset_sample"], table["offset_sample"]]) / RATE_HZ - times_s
    order = np.argsort(times_s, kind="stable")
    jumps = np.flatnonzero(np.diff(ahead_s[order]) > 1)
    middle_s = (times_s[order][jumps] + times_s[order][jumps + 1]) / 2
    reaches = table["onset_s"][:, None] - before_s < middle_s
    return np.any(reaches & (table["offset_s"][:, None] + after_s > middle_s), axis=1)


@pytest.mark.slow
@pytest.mark.parametrize("quirks", [False, True])
def test_the_real_movie_s_sentences_are_kept_as_in_the_real_recording(tmp_path, quirks):
    table = antman()
    spec = SyntheticSpec(electrodes=4, sampling_rate=RATE_HZ, quirks=quirks)
    write_synthetic(tmp_path / "made", spec, read_sentence_timings(ANTMAN))
    recording = open_brain_treebank(tmp_path / "made")
    assert recording.sampling_rate_hz == RATE_HZ
    # With quirks 16 sentences have no aligned word and 15 come after the last trigger.
    unaligned = 31 if quirks else 0
    assert len(recording.transcript.sentences) == 1527 + unaligned

    literal = select_segments(recording, SegmentSpec.literal())
    short = table["offset_s"] - table["onset_s"] < 4
    in_pause = straddling(table, 0.5, 1.0)
    assert (short.sum(), (short & in_pause).sum()) == (1415, 3)
    assert len(literal) == 1412
    np.testing.assert_array_equal(literal.onset_s, table["onset_s"][short & ~in_pause])
    # Of the three, the two words of one lie so close to the pause that they cannot be aligned.
    reasons = {"too long": 112, "straddles a pause": 2, "no aligned word": 1 + unaligned}
    assert literal.dropped == reasons

    # Rule B on the table's own samples keeps 1,458. Six of them reach into a pause with the
    # nominal context, 1 s before and 2 s after, and near the limit of 8,192 samples jitter decides:
    # table and recording are aligned through other triggers, each with an error of up to 115.
    paper = select_segments(recording, SegmentSpec.paper())
    lengths = table["offset_sample"] - table["onset_sample"] + 3072
    in_pause = straddling(table, 1.0, 2.0)
    assert ((lengths < 8192).sum(), ((lengths < 8192) & in_pause).sum()) == (1458, 6)
    assert len(paper) == 1454
    kept = np.isin(table["onset_s"], paper.onset_s)
    differs = kept != ((lengths < 8192) & ~in_pause)
    assert np.abs(lengths[differs] - 8192).max() < 115
    assert (differs.sum(), (differs & kept).sum()) == (4, 3)  # 1458 - 6 - 1 + 3 = 1454
    assert paper.n_samples == 8200
