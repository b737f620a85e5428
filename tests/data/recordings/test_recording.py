"""Recordings from what is in memory: arrays, and MNE's objects."""

from __future__ import annotations

import pickle

import mne
import numpy as np
import pandas as pd
import pytest

from ssense import Recording, UserError
from ssense.data.recordings.channels import Channel
from ssense.data.recordings.readers.arrays import keep, open_kept
from ssense.data.recordings.readers.brain_treebank import open_brain_treebank
from ssense.data.recordings.resampled import at_rate
from ssense.data.recordings.segment_signals import read_segments
from ssense.data.recordings.segments import SegmentSpec, select_segments

RATE_HZ = 250.0
NAMES = ["LA1", "LA2", "LA3", "LA4", "ECG", "TRIG1"]
SAID = pd.DataFrame(
    {
        "onset": [1.0, 3.5, 6.2],
        "duration": [0.75, 1.5, 1.0],
        "text": ["Hello there.", "How do you do?", "Fine."],
        "mood": ["glad", "polite", "short"],
    }
)


@pytest.fixture
def signals():
    return 50 * np.random.default_rng(0).standard_normal((len(NAMES), int(12 * RATE_HZ)))


@pytest.fixture
def recording(signals):
    return Recording.from_arrays(signals, RATE_HZ, NAMES, SAID, subject="P01", trial="morning")


def test_arrays_are_a_recording_like_any_other(recording, signals):
    assert recording.electrodes == ("LA1", "LA2", "LA3", "LA4")
    assert (recording.sampling_rate_hz, recording.n_samples) == (RATE_HZ, 3000)
    (found,) = recording.read_channel("LA3", [(100, 200)])
    np.testing.assert_array_equal(found, signals[2, 100:200])
    segments = select_segments(recording, SegmentSpec(context_before_s=0.5, context_after_s=1))
    assert segments.text == tuple(SAID.text)
    np.testing.assert_array_equal(segments.start, [125, 750, 1425])  # (onset - 0.5) * 250
    np.testing.assert_array_equal(segments.stop, [688, 1500, 2050])
    assert recording.transcript.extra["mood"] == dict(enumerate(SAID.mood))


def test_kinds_places_and_bad_channels_are_taken_as_given(signals):
    channels = [
        Channel(name="LA1", place=(1.0, 2.0, 3.0), region="STG"),
        Channel(name="LA2", is_bad=True),
        *(Channel(name=name) for name in ("LA3", "LA4")),
        Channel(name="Cz", kind="eeg"),
        Channel(name="ECG", kind="ecg"),
    ]
    recording = Recording.from_arrays(signals, RATE_HZ, channels, SAID, space="MNI152")
    assert recording.electrodes == ("LA1", "LA2", "LA3", "LA4")  # and not the one on the scalp
    assert recording.corrupted == {"LA2"}
    assert recording.coordinates == {"LA1": (1.0, 2.0, 3.0)}
    assert recording.regions == {"LA1": "STG"}
    assert any("1 on the scalp (Cz)" in text for text in recording.understood)


def test_values_of_numpy_are_as_good_as_python_s(signals):
    channels = [
        Channel(name=f"{name}* ", is_bad=np.bool_(i == 1), place=np.full(3, [np.nan, 2][i == 2]))
        for i, name in enumerate(NAMES)
    ]
    recording = Recording.from_arrays(signals, RATE_HZ, channels, SAID)
    assert recording.electrodes == ("LA1", "LA2", "LA3", "LA4")
    assert recording.corrupted == {"LA2"}
    assert recording.coordinates == {"LA3": (2.0, 2.0, 2.0)}
    plain = [Channel(name=name, is_bad=i == 1) for i, name in enumerate(NAMES)]
    assert recording.digest == Recording.from_arrays(signals, RATE_HZ, plain, SAID).digest


def test_whatever_becomes_of_the_array_the_recording_stays(signals, tmp_path):
    recording = Recording.from_arrays(signals, RATE_HZ, NAMES, SAID)
    before = signals[1, :50].copy()
    signals[:] = 0
    np.testing.assert_array_equal(recording.read_channel("LA2", [(0, 50)])[0], before)
    np.save(tmp_path / "a.npy", signals)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    kept = Recording.from_arrays(mapped, RATE_HZ, NAMES, SAID).signals
    assert np.shares_memory(kept.samples, mapped)  # as large as a disk may be


@pytest.mark.parametrize(
    ("electrode", "stretch", "message"),
    [
        ("LB1", (0, 10), r"has no electrode LB1. Found: LA1, LA2, LA3, LA4"),
        ("ECG", (0, 10), r"has no electrode ECG"),
        ("LA1", (-5, 10), r"has no samples -5 to 10: it has 3,000"),
        ("LA1", (2990, 3010), r"has no samples 2,990 to 3,010"),
        ("LA1", (20, 10), r"has no samples 20 to 10"),
    ],
)
def test_what_is_not_there_is_not_read(recording, electrode, stretch, message):
    with pytest.raises(UserError, match=message):
        recording.read_channel(electrode, [stretch])


def test_whoever_has_the_same_content_has_the_same_digest(signals):
    def digest(samples=signals, rate_hz=RATE_HZ, names=NAMES, said=SAID, **about):
        return Recording.from_arrays(samples, rate_hz, names, said, **about).digest

    louder = signals.copy()
    louder[3, 77] += 1e-6
    others = [
        digest(louder),
        digest(rate_hz=251.0),
        digest(names=["LB1", *NAMES[1:]]),
        digest(said=SAID.assign(text=[*SAID.text[:2], "Good."])),
        digest(said=SAID.assign(onset=[1.0, 3.5, 6.3])),
        digest(subject="P02"),
    ]
    assert digest() == digest()
    assert len({digest(), *others}) == 1 + len(others)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"signals": np.zeros((3, 100))}, r"float64 \[3, 100\] for 6 channels"),
        ({"signals": np.zeros(100)}, r"float64 \[100\] for 6 channels"),
        ({"signals": np.full((6, 9), "x")}, r"\[6, 9\] for 6 channels.*real numbers"),
        ({"sampling_rate_hz": "fast"}, "a sampling rate of 'fast'"),
        ({"signals": [[1.0, 2.0], [1.0]]}, "rows of different length for 6 channels"),
        ({"signals": np.ma.masked_less(np.ones((6, 3000)), 2)}, "are masked"),
        ({"channels": [1, 2, 3, 4, 5, 6]}, "the name of channel 0 is 1. Give a text"),
        ({"channels": [None] * 6}, "the name of channel 0 is None"),
        ({"channels": ["", *NAMES[1:]]}, "the name of channel 0 is ''"),
        ({"channels": "ABCDEF"}, "`channels` is 'ABCDEF'. Give a list"),
        ({"channels": [Channel(name="LA1", kind=None), *NAMES[1:]]}, "the kind of channel 0 is N"),
        (
            {"channels": [Channel(name="LA1", kind="foo"), *NAMES[1:]]},
            "kind of LA1 is foo, which MN",
        ),
        ({"channels": [Channel(name="LA1", kind="SEEG"), *NAMES[1:]]}, "SEEG, .*Give seeg, ecog, "),
        ({"channels": [Channel(name="LA1", place=(1, 2)), *NAMES[1:]]}, "place of LA1 is .1, 2."),
        ({"subject": None}, "`subject` is None. Give a text"),
        ({"title": None}, "`title` is None"),
        ({"sampling_rate_hz": 0}, "a sampling rate of 0 Hz is none"),
        ({"sampling_rate_hz": np.nan}, "a sampling rate of .*nan"),
        ({"channels": ["LA1", "LA1", *NAMES[2:]]}, "LA1 more than once"),
        ({"channels": ["ECG", "EKG", "EMG1", "EOG", "TRIG1", "DC1"]}, "no channel records the br"),
        ({"channels": ["L" * 200, *NAMES[1:]]}, "a name of 200 characters"),
        ({"sentences": SAID.drop(columns="text")}, "text"),
        ({"sentences": SAID.assign(onset=SAID.onset + 60)}, "make no sense in any unit"),
    ],
)
def test_what_does_not_fit_is_one_line(signals, change, message):
    given = {
        "signals": signals,
        "sampling_rate_hz": RATE_HZ,
        "channels": NAMES,
        "sentences": SAID,
    }
    with pytest.raises(UserError, match=message) as error:
        Recording.from_arrays(**given | change)
    assert "\n" not in str(error.value)


def test_nan_is_told_when_it_is_read(signals):
    signals[1, 40] = np.nan
    recording = Recording.from_arrays(signals, RATE_HZ, NAMES, SAID)
    with pytest.raises(UserError, match=r"channel LA2 holds nan at sample 40.*Leave LA2 out"):
        recording.read_channel("LA2", [(0, 100)])


def test_mne_s_recordings_keep_kinds_bad_channels_and_places(signals):
    info = mne.create_info(NAMES, RATE_HZ, ["seeg"] * 4 + ["ecg", "stim"])
    info["bads"] = ["LA4"]
    raw = mne.io.RawArray(1e-6 * signals, info, verbose="error")
    places = {name: np.array([0.01 * i, 0.02, 0.03]) for i, name in enumerate(NAMES[:4])}
    raw.set_montage(mne.channels.make_dig_montage(places, coord_frame="mni_tal"))
    recording = Recording.from_mne(raw, SAID)
    assert recording.electrodes == tuple(NAMES[:4])
    assert recording.corrupted == {"LA4"}
    assert recording.coordinates["LA2"] == pytest.approx((10.0, 20.0, 30.0))
    assert recording.space == "mni_tal"
    (found,) = recording.read_channel("LA2", [(10, 20)])
    np.testing.assert_allclose(found, signals[1, 10:20])
    assert recording.digest == Recording.from_mne(raw.copy(), SAID).digest


def test_what_is_kept_in_a_folder_is_what_it_was(recording, signals, tmp_path):
    kept = keep(recording, tmp_path / "kept")
    again = open_kept(tmp_path / "kept")
    assert kept.digest == again.digest
    assert (again.subject, again.trial, again.channels) == ("P01", "morning", recording.channels)
    assert again.transcript.sentences == recording.transcript.sentences
    np.testing.assert_array_equal(again.transcript.start_s, recording.transcript.start_s)
    assert again.transcript.extra["mood"][1] == "polite"
    (found,) = pickle.loads(pickle.dumps(again)).read_channel("LA3", [(5, 50)])
    np.testing.assert_array_equal(found, signals[2, 5:50].astype(np.float32))
    before = (tmp_path / "kept/signals.npy").stat()
    keep(recording, tmp_path / "kept")
    assert (tmp_path / "kept/signals.npy").stat() == before
    with pytest.raises(UserError, match="already exists and is not this recording"):
        keep(Recording.from_arrays(signals, 125.0, NAMES, SAID), tmp_path / "kept")


def test_a_damaged_folder_is_one_line(recording, tmp_path):
    keep(recording, tmp_path / "kept")
    description = tmp_path / "kept/recording.json"
    whole = description.read_text()
    for damaged in (
        "{}",
        "[]",
        whole.replace('"LA1"', "7", 1),
        whole.replace('"sampling_rate_hz": 250.0', '"sampling_rate_hz": "x"'),
        whole.replace('"channels"', '"kanaele"'),
        whole[:-20],
    ):
        assert damaged != whole
        description.write_text(damaged)
        with pytest.raises(UserError) as error:
            open_kept(tmp_path / "kept").digest  # noqa: B018  (reads)
        assert "\n" not in str(error.value)
    description.write_text(whole)
    np.save(tmp_path / "kept/signals.npy", np.zeros(5))
    with pytest.raises(UserError, match=r"holds float64 of the shape \[5\]"):
        open_kept(tmp_path / "kept")
    (tmp_path / "kept/signals.npy").write_text("0.1 0.2 0.3 0.4\n")
    with pytest.raises(UserError, match=r"cannot read .* as samples: the magic string is not"):
        open_kept(tmp_path / "kept")


def test_whatever_is_kept_gives_the_same_segments(written, tmp_path):
    """A resampled recording, and one whose times were those of a movie."""
    treebank = open_brain_treebank(written.treebank)
    spec = SegmentSpec()
    for number, recording in enumerate((treebank, at_rate(treebank, 200.0))):
        kept = keep(recording, tmp_path / f"kept {number}")
        expected, found = select_segments(recording, spec), select_segments(kept, spec)
        assert kept.sampling_rate_hz == recording.sampling_rate_hz
        assert found.text == expected.text
        np.testing.assert_array_equal(found.start, expected.start)
        rows = range(3)
        np.testing.assert_allclose(
            read_segments(kept, found, spec, rows),
            read_segments(recording, expected, spec, rows),
            atol=1e-3,
        )
