from __future__ import annotations

import csv
import json
import resource
import signal
import subprocess
import sys
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from random import Random

import h5py
import numpy as np
import pytest

from ssense.data.recordings.readers.brain_treebank import open_brain_treebank
from ssense.data.recordings.segment_signals import read_segments
from ssense.data.recordings.segments import SegmentSpec, select_segments
from ssense.data.synthetic import recording as module
from ssense.data.synthetic.grammar import compose_sentence
from ssense.data.synthetic.movie_times import run_movie
from ssense.data.synthetic.recording import (
    ADC_STEP_UV,
    LATENT_DIMENSIONS,
    LINE_HZ,
    SyntheticSpec,
    make_packets,
    word_latents,
    write_synthetic,
)
from ssense.data.synthetic.screenplay import FEATURE_COLUMNS, compose_screenplay
from ssense.data.synthetic.spec import MOST
from ssense.errors import UserError
from ssense.files.digest import digest

DOOR_DIMENSIONS = [1, 7, 8]  # of the seed that SHA-256 gives: the same on every machine
METADATA = Path("subject_metadata/sub_9_trial000_metadata.json")
SMALL = {"sentences": 25, "electrodes": 6, "sampling_rate": 256, "lead_in_s": 3.0}


def written(root: Path, **settings) -> Path:
    write_synthetic(root, SyntheticSpec(**(SMALL | settings)))
    return root


def contents(root: Path) -> dict[str, bytes]:
    files = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def channel(root: Path, number: int) -> np.ndarray:
    with h5py.File(root / "sub_9_trial000.h5") as file:
        return file[f"data/electrode_{number}"][:]


def tokens(root: Path) -> list[dict[str, str]]:
    with (root / "transcripts/synthetic/features.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def default(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("synthetic") / "default"
    write_synthetic(root, SyntheticSpec(electrodes=10))
    return root


# ---------------------------------------------------------------- the files


def test_the_layout_is_the_dataset_s(default):
    assert sorted(contents(default)) == [
        "corrupted_elec.json",
        "electrode_labels/sub_9/electrode_labels.json",
        "sub_9_trial000.h5",
        "subject_metadata/sub_9_trial000_metadata.json",
        "subject_timings/sub_9_trial000_timings.csv",
        "transcripts/synthetic/features.csv",
    ]
    with h5py.File(default / "sub_9_trial000.h5") as file:
        channels = [file[f"data/electrode_{number}"] for number in range(12)]
        assert len(file["data"]) == 12
        assert {(c.dtype.name, c.compression, c.ndim) for c in channels} == {("float64", "gzip", 1)}
        assert len({c.shape for c in channels}) == 1


def test_labels_carry_marks_and_the_auxiliary_channels_come_last(default):
    path = default / "electrode_labels/sub_9/electrode_labels.json"
    labels = json.loads(path.read_text())
    assert labels[-2:] == ["DC4", "DC10"]
    assert any("*" in label for label in labels)
    assert any("#" in label for label in labels)
    recording = open_brain_treebank(default)
    assert len(recording.electrodes) == 10
    electrodes = select_segments(recording, SegmentSpec()).electrodes
    assert electrodes == ("F1a2", "F1a3", "F1a4", "F1b2", "F1b3", "F1b4")


def test_the_title_says_that_it_is_synthetic(default):
    recording = open_brain_treebank(default)
    assert recording.title == "Synthetic"


def test_signals_are_multiples_of_the_converter_s_step(default):
    steps = channel(default, 3) / ADC_STEP_UV
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-6)
    assert 20 < channel(default, 3).std() < 200


def test_the_transcript_has_every_column_and_untimed_particles(default):
    rows = tokens(default)
    assert len(FEATURE_COLUMNS) == 42
    assert list(rows[0]) == ["", *FEATURE_COLUMNS]
    untimed = [row for row in rows if row["start"] == ""]
    assert 0.04 < len(untimed) / len(rows) < 0.10
    assert {row["text"] for row in untimed} <= {"na", "n't", "'m", "'re", "'s"}
    assert any("gon na" in row["sentence"] for row in rows)
    assert any("inf" in row["pitch"] for row in rows) or any("inf" in row["mel"] for row in rows)
    assert all(row["sentence"][-1] in ".?!" and "," not in row["sentence"] for row in rows)
    timed = [(float(row["start"]), float(row["end"])) for row in rows if row["start"]]
    assert all(start_s < end_s for start_s, end_s in timed)
    assert timed == sorted(timed)
    assert [row[""] for row in rows] == [str(number) for number in range(len(rows))]


def test_some_sentences_repeat_even_at_once(default):
    texts = {row["sentence_idx"]: row["sentence"] for row in tokens(default)}
    in_order = list(texts.values())
    assert len(in_order) == 300
    assert len(set(in_order)) < 290
    assert any(a == b for a, b in pairwise(in_order))


def test_triggers_pause_in_pairs_and_tell_the_rate(default):
    path = default / "subject_timings/sub_9_trial000_timings.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert (rows[0]["type"], rows[-1]["type"]) == ("beginning", "end")
    at = [number for number, row in enumerate(rows) if row["type"] == "pause"]
    assert len(at) == 2
    for number in at:
        before, pause, unpause = rows[number - 1 : number + 2]
        assert unpause["type"] == "unpause"
        assert pause["movie_time"] == unpause["movie_time"]
        step_back_s = float(before["movie_time"]) - float(pause["movie_time"])
        assert 0 < step_back_s <= 0.057
        assert int(unpause["index"]) - int(pause["index"]) >= 2 * 512
    timeline = open_brain_treebank(default).timeline
    assert len(timeline.runs) == 3
    assert timeline.sampling_rate_hz() == 512


@pytest.mark.parametrize("rate_hz", [1024, 2048, 400])
def test_every_rate_is_recoverable(tmp_path, rate_hz):
    root = written(tmp_path / "made", sampling_rate=rate_hz, electrodes=3)
    assert open_brain_treebank(root).sampling_rate_hz == pytest.approx(rate_hz, rel=1e-3)


def test_words_are_aligned_to_where_their_responses_are(default):
    recording = open_brain_treebank(default)
    screenplay = compose_screenplay(0, 300, equal_durations=False)
    movie = run_movie(0, screenplay.end_s, 512.0, 20.0, 2)
    onsets_s = np.array([onset_s for _, onset_s in screenplay.tracked_words()])
    found = recording.timeline.sample_of(onsets_s, "interpolate")
    known = np.isfinite(found)
    assert known.mean() > 0.99
    assert np.abs(found - movie.sample_of(onsets_s))[known].max() <= 1


def test_the_last_dialogue_comes_after_the_last_trigger(default):
    segments = select_segments(open_brain_treebank(default), SegmentSpec())
    assert segments.dropped["no aligned word"] == 2
    assert len(segments) > 280


# ---------------------------------------------------------------- writing


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    first = contents(written(tmp_path / "first"))
    time.sleep(1.1)  # time stamps, were there any, count in seconds
    assert contents(written(tmp_path / "second")) == first
    other = contents(written(tmp_path / "other", seed=1))
    assert all(other[name] != first[name] for name in first if name.endswith(("csv", "h5")))


def test_another_process_gives_the_same_bytes(tmp_path):
    here = written(tmp_path / "here", pauses=1)
    command = [sys.executable, "-m", "ssense.data.synthetic", str(tmp_path / "there")]
    command += ["--sentences=25", "--electrodes=6", "--sampling-rate=256", "--pauses=1"]
    command += ["--lead-in-s=3", "--coupling=1", "--seed=0"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "there: written, 25 sentences, 6 contacts, coupling 1" in done.stdout
    assert contents(tmp_path / "there") == contents(here)
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "was already there" in again.stdout
    other = [each.replace("--coupling=1", "--coupling=-1") for each in command]
    refused = subprocess.run(other, capture_output=True, text=True)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("error: --coupling must be at least 0, got -1.0.")


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    written(tmp_path / "made")
    before = contents(tmp_path / "made")
    with pytest.raises(UserError, match="already exists and is not this synthetic recording"):
        written(tmp_path / "made", seed=7)
    assert contents(tmp_path / "made") == before
    (tmp_path / "empty").mkdir()
    assert contents(written(tmp_path / "empty")) == before


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_write_signals", full)
    with pytest.raises(UserError, match=r"cannot write .* No space left on device") as caught:
        written(tmp_path / "made")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("setting", "value"),
    [("sentences", 0), ("electrodes", 2), ("coupling", float("nan")), ("sampling_rate", 100)],
)
def test_impossible_settings_are_refused(setting, value):
    with pytest.raises(UserError, match=f"{setting} must be at least .*, got {value}"):
        SyntheticSpec(**{setting: value})


@pytest.mark.parametrize("setting", MOST)
def test_settings_beyond_any_recording_are_refused(setting):
    most = MOST[setting]
    with_it = {"response_s": 0.5} if setting == "latency_s" else {}
    SyntheticSpec(**{"sampling_rate": 512.0, setting: most}, **with_it)
    with pytest.raises(UserError, match=f"{setting} must be at most {most:.15g}, got {most + 1}"):
        SyntheticSpec(**{setting: most + 1})


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"lead_in_s": 80_000, "sampling_rate": 40_000},
            "300 sentences, 80000 s before them and 2 pauses at 40000 Hz are about 3.2e+09 samples "
            "of each contact; 2.7e+08 are the most.",
        ),
        (
            {"sentences": 20_000, "electrodes": 5_000},
            "20,000 sentences, 20 s before them and 2 pauses at 512 Hz are about 1.3e+11 samples "
            "of 5,000 contacts; 1.7e+10 are the most.",
        ),
    ],
)
def test_more_samples_than_a_machine_holds_are_refused(settings, text):
    with pytest.raises(UserError) as error:
        SyntheticSpec(**settings)
    assert str(error.value) == f"{text} Ask for a smaller recording."


def test_the_largest_published_recordings_could_be_made():
    """Three hours at 2048 Hz and 250 contacts, and of spikes: 2 hours at 30 kHz, 64 contacts."""
    SyntheticSpec(sentences=4_300, electrodes=250, sampling_rate=2_048)
    SyntheticSpec(sentences=2_900, electrodes=64, sampling_rate=30_000)


def test_as_many_pauses_as_there_may_be_fit_into_one_sentence(tmp_path):
    spec = SyntheticSpec(sentences=1, electrodes=3, pauses=int(MOST["pauses"]), sampling_rate=128)
    write_synthetic(tmp_path / "made", spec)
    with (tmp_path / "made/subject_timings/sub_9_trial000_timings.csv").open() as file:
        kinds = [row["type"] for row in csv.DictReader(file)]
    assert kinds.count("pause") == kinds.count("unpause") == MOST["pauses"]


MAKE = """
import sys, resource
from ssense.data.synthetic.__main__ import main
from ssense.cli.command import run_command
from ssense.data.synthetic.spec import SyntheticCommand
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, resource.RLIM_INFINITY))
run_command(SyntheticCommand, main)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere memory can't be limited so")
def test_too_little_memory_is_one_line(tmp_path):
    words = [str(tmp_path / "made"), "--lead-in-s", "80000", "--sampling-rate", "3000"]
    done = subprocess.run([sys.executable, "-c", MAKE, *words], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: this machine has too little memory for the synthetic recording "
        f"{tmp_path / 'made'}. Ask for a smaller one.\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_sigterm_while_it_is_written_leaves_nothing(tmp_path):
    command = [sys.executable, "-m", "ssense.data.synthetic", str(tmp_path / "made")]
    command += ["--sentences", "200", "--electrodes", "500"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while not list(tmp_path.rglob("*.h5")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        said, blamed = process.communicate()
    assert (process.returncode, said) == (130, b"")
    assert blamed == b"interrupted: run the same command again to continue\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("setting", "value"), [("sentences", 29), ("electrodes", 3), ("pauses", 1)]
)
def test_quirks_need_room(setting, value):
    SyntheticSpec(**{setting: value})
    with pytest.raises(UserError, match=f"{setting} must be at least {value + 1} with quirks, got"):
        SyntheticSpec(**{setting: value, "quirks": True})


# ---------------------------------------------------------------- statistics


def test_durations_and_gaps_are_distributed_as_in_the_movie():
    screenplay = compose_screenplay(3, 3000, equal_durations=False)
    onsets_s = np.array([edges_s[0] for edges_s in screenplay.edges_s])
    offsets_s = np.array([edges_s[-1] for edges_s in screenplay.edges_s])
    durations_s = offsets_s - onsets_s
    lower, median, upper = np.percentile(durations_s, [25, 50, 75])
    assert lower == pytest.approx(0.63, rel=0.1)
    assert median == pytest.approx(1.0, rel=0.1)
    assert upper == pytest.approx(1.7, rel=0.1)
    assert 7 < durations_s.max() <= 13.001
    assert np.median(onsets_s[1:] - offsets_s[:-1]) == pytest.approx(0.7, rel=0.1)
    words = [sentence.n_words for sentence in screenplay.sentences]
    assert np.corrcoef(durations_s, words)[0, 1] > 0.9


def test_equal_durations_make_all_lengths_equal(tmp_path):
    root = written(tmp_path / "made", equal_durations=True)
    segments = select_segments(open_brain_treebank(root), SegmentSpec())
    np.testing.assert_allclose(segments.offset_s - segments.onset_s, 2.0, atol=1e-9)
    assert np.ptp(segments.stop - segments.start) <= 2  # both ends are rounded to samples
    timed = defaultdict(list)
    for row in tokens(root):
        if row["start"]:
            timed[row["sentence_idx"]].append(float(row["start"]))
    starts_s = np.array(list(timed.values()))  # would not be an array with unequal counts
    assert starts_s.shape == (25, 6)
    assert np.ptp(starts_s - starts_s[:, :1], axis=0).max() < 1e-9


@pytest.mark.parametrize("n_words", [1, 2, 3, 8, 9, 10, 25])
def test_sentences_have_the_words_asked_for(n_words):
    sentences = [compose_sentence(Random(seed), n_words) for seed in range(20)]
    assert {sentence.n_words for sentence in sentences} == {n_words}
    assert all(s.text[0].isupper() and s.text[-1] in ".?!" for s in sentences)


# ---------------------------------------------------------------- what words evoke


def test_the_word_alone_decides_its_latents():
    door, river = word_latents("door"), word_latents("river")
    np.testing.assert_array_equal(door, word_latents("Door"))
    assert np.flatnonzero(door).tolist() == DOOR_DIMENSIONS
    assert (door >= 0).all()
    assert not np.array_equal(door, river)


def test_packets_lie_below_half_the_rate_and_off_the_mains():
    for rate_hz in (128.0, 512.0, 2048.0):
        packets = make_packets(SyntheticSpec(sampling_rate=rate_hz))
        assert packets.carrier_hz.shape == (LATENT_DIMENSIONS,)
        assert (np.diff(packets.carrier_hz) > 1).all()
        assert packets.carrier_hz.min() >= 8
        assert packets.carrier_hz.max() <= min(120, 0.4 * rate_hz + 1e-9)
        assert (np.abs(packets.carrier_hz - LINE_HZ) >= 4).all()
        spectrum = np.abs(np.fft.rfft(packets.waveform, 4096))
        peak_hz = spectrum.argmax(axis=1) * rate_hz / 4096
        np.testing.assert_allclose(peak_hz, packets.carrier_hz, atol=1.0)


def test_coupling_adds_responses_after_words_and_nothing_else(tmp_path):
    null = written(tmp_path / "null", coupling=0.0)
    full = written(tmp_path / "full", coupling=1.0)
    assert all(
        text == (full / name).read_bytes()
        for name, text in contents(null).items()
        if name.endswith(".csv")
    )
    screenplay = compose_screenplay(0, SMALL["sentences"], equal_durations=False)
    movie = run_movie(0, screenplay.end_s, 256.0, SMALL["lead_in_s"], 2)
    onsets_s = np.array([onset_s for _, onset_s in screenplay.tracked_words()])
    onsets = np.rint(movie.sample_of(onsets_s)).astype(int)
    answered = np.zeros(len(channel(null, 0)), dtype=bool)
    for onset in onsets:
        answered[onset : onset + round(0.8 * 256)] = True
    for number in range(6):
        evoked = channel(full, number) - channel(null, number)
        assert not evoked[~answered].any()
        assert 1 < evoked[answered].std() < 100
    for number in (6, 7):
        np.testing.assert_array_equal(channel(full, number), channel(null, number))


def test_what_sentences_evoke_at_a_latency_lies_there_and_nowhere_else(tmp_path):
    null = written(tmp_path / "null", coupling=0.0, equal_durations=True)
    root = written(tmp_path / "locked", latency_s=1.5, response_s=0.5, equal_durations=True)
    screenplay = compose_screenplay(0, SMALL["sentences"], equal_durations=True)
    movie = run_movie(0, screenplay.end_s, 256.0, SMALL["lead_in_s"], 2)
    onsets_s = np.array([onset_s for _, onset_s in screenplay.tracked_sentences()])
    begins = np.rint(movie.sample_of(onsets_s)).astype(int) + round(1.5 * 256)
    evoked = channel(root, 0) - channel(null, 0)
    answered = np.zeros(len(evoked), dtype=bool)
    middle = np.zeros(len(evoked), dtype=bool)
    for begin in begins:
        answered[begin : begin + 128] = True
        middle[begin + 43 : begin + 85] = True
    assert not evoked[~answered].any()
    # A Gaussian has .84 of its energy in the middle third of six of its standard deviations.
    assert np.sum(evoked[middle] ** 2) > 0.8 * np.sum(evoked**2)
    assert 1 < evoked[answered].std() < 100


def test_sentences_of_the_same_words_evoke_the_same_and_others_something_else(tmp_path):
    null = written(tmp_path / "null", coupling=0.0, common_uv=0.0)
    root = written(tmp_path / "locked", response_s=0.2, common_uv=0.0, coupling=10.0)
    screenplay = compose_screenplay(0, SMALL["sentences"], equal_durations=False)
    movie = run_movie(0, screenplay.end_s, 256.0, SMALL["lead_in_s"], 2)
    evoked = channel(root, 0) - channel(null, 0)
    said = screenplay.tracked_sentences()
    onsets = np.rint(movie.sample_of(np.array([onset_s for _, onset_s in said]))).astype(int)
    responses = defaultdict(list)
    for (words, _), onset in zip(said, onsets.tolist(), strict=True):
        responses[words].append(evoked[onset : onset + 51])
    assert len({each[0].tobytes() for each in responses.values()}) == len(responses) > 10
    again = [each for each in responses.values() if len(each) > 1]
    for first, *others in again:
        for other in others:
            np.testing.assert_allclose(other, first, atol=0.6)  # rounded to steps of .27


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"response_s": 0.05}, "response_s must be 0 or at least 0.1, got 0.05"),
        ({"response_s": 0.5, "delay_s": 1.0}, "delay_s is 1 and response_s 0.5: words evoke"),
        ({"latency_s": 0.5}, "latency_s is 0.5 without response_s"),
        ({"latency_s": -1.0}, "latency_s must be at least 0, got -1.0"),
        ({"response_s": 3.0}, "response_s must be at most 2, got 3.0"),
    ],
)
def test_times_of_a_response_that_contradict_each_other_are_refused(given, message):
    with pytest.raises(UserError, match=message):
        SyntheticSpec(**given)


def test_words_evoke_something_in_the_contacts_that_are_named_alone(tmp_path):
    full, null = written(tmp_path / "full"), written(tmp_path / "null", coupling=0.0)
    some = written(tmp_path / "some", responding="F1a2, F1b*")  # of F1a1 to F1a5 and F1b1
    for number, responds in enumerate([False, True, False, False, False, True]):
        other = full if responds else null
        np.testing.assert_array_equal(channel(some, number), channel(other, number))
    assert not np.array_equal(channel(full, 0), channel(null, 0))


def test_recordings_of_before_a_field_do_not_name_it(tmp_path):
    assert "responding" not in (written(tmp_path / "all") / METADATA).read_text()
    one = written(tmp_path / "one", responding="F1a2")
    assert '"responding": "F1a2"' in (one / METADATA).read_text()
    assert digest(SyntheticSpec()) == digest(SyntheticSpec(responding="all"))


def test_a_contact_that_is_not_there_can_evoke_nothing():
    with pytest.raises(UserError, match="responding names 'Fz9', which none of the 6 contacts is"):
        SyntheticSpec(electrodes=6, responding="F1a1,Fz9")


def test_the_evoked_part_grows_in_proportion_to_the_coupling(tmp_path):
    null, half, full = (
        channel(written(tmp_path / str(c), coupling=c, electrodes=3), 1) for c in (0.0, 0.5, 1.0)
    )
    np.testing.assert_allclose(full - null, 2 * (half - null), atol=4 * ADC_STEP_UV)


def band_power(root: Path) -> tuple[np.ndarray, np.ndarray]:
    """Log power of 5 Hz bands in each segment, and the sum of its words' latents."""
    recording = open_brain_treebank(root)
    spec = SegmentSpec()
    segments = select_segments(recording, spec)
    signals = read_segments(recording, segments, spec, range(len(segments)))
    spoken = signals[..., 256 : 256 + 1024]  # the sentence's 2 s at 512 Hz, after the context
    frames = np.lib.stride_tricks.sliding_window_view(spoken, 102, axis=-1)[..., ::25, :]
    spectra = np.abs(np.fft.rfft(frames * np.hanning(102)))[..., 1:26]
    features = np.log(spectra + 1e-3).mean(axis=2).reshape(len(segments), -1)
    latents = defaultdict(lambda: np.zeros(LATENT_DIMENSIONS))
    for row in tokens(root):
        if row["start"]:
            latents[int(row["sentence_idx"])] += word_latents(row["text"])
    return features, np.array([latents[number] for number in segments.sentence_idx.tolist()])


def held_out_correlation(features: np.ndarray, latents: np.ndarray) -> float:
    """Mean over dimensions of the correlation of ridge predictions, five folds."""
    features = (features - features.mean(0)) / features.std(0)
    fold = np.random.default_rng(0).permutation(len(features)) % 5
    predicted = np.empty_like(latents)
    for number in range(5):
        train, test = features[fold != number], features[fold == number]
        mean = latents[fold != number].mean(0)
        gram = train @ train.T + 100 * np.eye(len(train))
        weights = np.linalg.solve(gram, latents[fold != number] - mean)
        predicted[fold == number] = test @ train.T @ weights + mean
    pairs = zip(predicted.T, latents.T, strict=True)
    return float(np.mean([np.corrcoef(p, truth)[0, 1] for p, truth in pairs]))


def test_words_can_be_told_from_band_power_and_only_when_coupled(tmp_path):
    found = {}
    for coupling in (0.0, 1.0):
        root = tmp_path / str(coupling)
        write_synthetic(root, SyntheticSpec(coupling=coupling, equal_durations=True))
        found[coupling] = held_out_correlation(*band_power(root))
    assert found[1.0] > 0.55
    assert abs(found[0.0]) < 0.08


@pytest.mark.parametrize("size", [1_000, 100_000, 700_000, 1_300_000])
def test_a_disk_that_is_full_at_any_moment_is_one_line_and_leaves_nothing(size, tmp_path):
    """The largest file that the process may write ends as a full disk does, in HDF5 too."""
    command = (
        "-m",
        "ssense.data.synthetic",
        str(tmp_path / "recording"),
        "--sentences",
        "30",
    )
    done = subprocess.run(
        [sys.executable, *command],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: cannot write the synthetic recording {tmp_path / 'recording'}: [Errno 27] File "
        "too large. Free space, or choose a folder that can be written.\n"
    )
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- where contacts lie


@pytest.mark.parametrize("quirks", [False, True])
def test_106_contacts_lie_where_those_of_sub_9_do(tmp_path, quirks):
    root = written(tmp_path / "r", electrodes=106, sentences=30, sampling_rate=128, quirks=quirks)
    recording = open_brain_treebank(root)
    places = recording.coordinates
    # As published, to 0.01 mm: the deepest and the outermost contact of two shafts.
    assert places["T1aI1"] == (-36.29, 0.38, -1.80)
    assert places["P2d14"] == (-51.78, -52.57, 40.55)
    missing = set(recording.electrodes) - set(places)
    assert missing == ({"P2a6", "P2a7", "P2a8"} if quirks else set())
    assert all(x < 0 for x, _, _ in places.values())  # all in the left hemisphere
    assert not recording.grids  # depth electrodes, whose references are those of shafts
    apart = [
        np.linalg.norm(np.subtract(places[f"P1C{n}"], places[f"P1C{n + 1}"])) for n in range(1, 14)
    ]
    assert 2 < min(apart) < max(apart) < 6  # mm, along a shaft


def test_other_contacts_lie_nowhere_that_is_known(tmp_path):
    root = written(tmp_path / "r", electrodes=6)
    assert not (root / "localization").exists()
    assert not open_brain_treebank(root).coordinates


def test_contacts_that_lie_somewhere_leave_the_other_files_as_they_were(tmp_path, monkeypatch):
    size = {"electrodes": 106, "sentences": 10, "sampling_rate": 128}
    made = contents(written(tmp_path / "made", **size))
    monkeypatch.setattr(module, "sub_9_places", lambda _: {})
    before = contents(written(tmp_path / "before", **size))
    assert {name: made[name] for name in before} == before
    assert made.keys() - before.keys() == {"localization/elec_coords_full.csv"}
