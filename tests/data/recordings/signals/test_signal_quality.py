"""Signals that are none: what is said of them, and what is left of the recording."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from ssense.data.recordings.data_report import data_report
from ssense.data.recordings.readers.brain_treebank import open_brain_treebank
from ssense.data.recordings.recording import LONGEST_S, Recording
from ssense.data.recordings.segments import SegmentSpec, select_segments
from ssense.data.recordings.signals.signal_quality import (
    DRIFT,
    IMPULSES,
    MAINS,
    NO_VOLTAGE,
    OUT_OF_SCALE,
    TONE,
    SignalQuality,
    signal_quality,
)
from ssense.data.recordings.surrogate import SURROGATES
from ssense.data.synthetic.recording import ADC_STEP_UV, SyntheticSpec, write_synthetic
from ssense.errors import UserError

RATE_HZ = 256
CLEAN = SegmentSpec(reference="none")
LAPLACIAN = SegmentSpec()
SIGNALS = "sub_9_trial000.h5"


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sound") / "recording"
    write_synthetic(folder, SyntheticSpec(sentences=40, electrodes=5, sampling_rate=RATE_HZ))
    return folder


@pytest.fixture
def root(sound, tmp_path) -> Path:
    return shutil.copytree(sound, tmp_path / "recording")


def spoil(root: Path, change: Callable[[int, np.ndarray], np.ndarray]) -> Recording:
    """Replace the signals of the five contacts by what `change` makes of number and signal."""
    with h5py.File(root / SIGNALS, "r+") as file:
        for number in range(5):
            channel = file[f"data/electrode_{number}"]
            channel[:] = change(number, channel[:])
    return open_brain_treebank(root)


def lines(recording: Recording, spec: SegmentSpec) -> str:
    report = data_report(recording, select_segments(recording, spec), spec)
    return " ".join(" ".join(report.lines()).split())


def refused(recording: Recording, spec: SegmentSpec) -> str:
    with pytest.raises(UserError) as caught:
        select_segments(recording, spec)
    return str(caught.value)


# ---------------------------------------------------------------- whole recordings


def toggling(n: int) -> np.ndarray:
    """Samples of a converter whose input is not connected: its last bit."""
    return 5 * ADC_STEP_UV + ADC_STEP_UV * np.random.default_rng(1).integers(0, 2, n)


def test_of_a_sound_recording_nothing_is_left_out(sound):
    recording = open_brain_treebank(sound)
    quality = recording.quality
    assert (quality.left_out, quality.flat_share, len(quality.dead)) == ({}, {}, 0)
    assert 20 < quality.spread_uv < 100
    assert "without signal at no time" in lines(recording, CLEAN)
    report = data_report(recording, select_segments(recording, CLEAN), CLEAN)
    assert (report.signals.doubts, report.movie.doubts, report.sentences.doubts) == ((), (), ())


@pytest.mark.parametrize(
    "spec", [CLEAN, LAPLACIAN, SegmentSpec(electrodes="all", reference="none")]
)
def test_a_recording_without_any_signal_is_refused(root, spec):
    message = refused(spoil(root, lambda _, x: np.full_like(x, 3.0)), spec)
    assert "constant: 5" in message
    assert f"Check the signals in {SIGNALS}" in message


def test_identical_channels_are_one(root):
    with h5py.File(root / SIGNALS, "r+") as file:
        first = file["data/electrode_0"][:]
    recording = spoil(root, lambda _, __: first)
    assert "identical to another: 4, lacks a clean neighbour: 1" in refused(recording, LAPLACIAN)
    assert "1 of 7 kept; not neural: 2, identical to another: 4" in lines(recording, CLEAN)


COPIED = "a copy of another but for offset and factor"


def test_channels_that_are_one_signal_times_factors_are_one(root):
    with h5py.File(root / SIGNALS, "r+") as file:
        first = file["data/electrode_0"][:]
    recording = spoil(root, lambda number, _: first * (1, -1, 0.37, -2.5, 1.001)[number] + number)
    assert recording.quality.left_out == dict.fromkeys(recording.electrodes[1:], COPIED)
    assert f"{COPIED}: 4, lacks a clean neighbour: 1" in refused(recording, LAPLACIAN)
    assert f"1 of 7 kept; not neural: 2, {COPIED}: 4" in lines(recording, CLEAN)


def test_channels_that_share_nearly_all_are_still_several(root):
    """A reference far larger than the brain: what is their own is a hundredth of the whole."""
    with h5py.File(root / SIGNALS, "r+") as file:
        shared = 100 * file["data/electrode_0"][:]
    recording = spoil(root, lambda number, x: x + shared if number else x + 1.1 * shared)
    assert recording.quality.left_out == {}


def test_sentences_without_signal_are_dropped_and_counted(root):
    usual = select_segments(open_brain_treebank(root), LAPLACIAN)
    recording = spoil(root, lambda _, x: np.where(np.arange(len(x)) < len(x) // 2, x, 0.0))
    middle = recording.n_samples // 2
    segments = select_segments(recording, LAPLACIAN)
    assert segments.electrodes == usual.electrodes
    # Whoever ends within a cell of the middle is kept or not; all others are as they lie.
    expected = [
        idx for idx, stop in zip(usual.sentence_idx, usual.stop, strict=True) if stop < middle
    ]
    assert segments.sentence_idx.tolist() == expected
    assert segments.dropped["no signal"] == len(usual) - len(expected) > 5
    ((start, stop),) = recording.quality.dead
    assert middle <= start < middle + RATE_HZ / 4
    assert stop <= recording.n_samples
    assert "no signal" in lines(recording, LAPLACIAN)


@pytest.mark.parametrize("level", [toggling, lambda n: np.random.default_rng(2).normal(3, 0.1, n)])
def test_so_are_those_in_which_only_the_last_bit_toggles_or_next_to_nothing_is_left(root, level):
    usual = select_segments(open_brain_treebank(root), CLEAN)
    recording = spoil(
        root, lambda _, x: np.where(np.arange(len(x)) < len(x) // 2, x, level(len(x)))
    )
    segments = select_segments(recording, CLEAN)
    assert segments.electrodes == usual.electrodes
    assert segments.dropped["no signal"] == len(usual) - len(segments) > 5
    ((start, stop),) = recording.quality.dead
    assert recording.n_samples // 2 <= start < recording.n_samples // 2 + RATE_HZ / 4
    assert stop <= recording.n_samples


def test_a_coarse_converter_and_drifts_are_signals(root):
    """Steps of a seventh of the spread; and a drift of forty times the spread."""

    def change(number: int, x: np.ndarray) -> np.ndarray:
        if number < 3:
            return np.rint(x / 6) * 6
        return x + 2e3 * np.sin(np.arange(len(x)) * 2 * np.pi / len(x) + number)

    recording = spoil(root, change)
    assert (recording.quality.left_out, recording.quality.flat_share) == ({}, {})
    assert len(recording.quality.dead) == 0


def test_a_gap_in_most_channels_costs_the_sentences_in_it(root):
    usual = select_segments(open_brain_treebank(root), CLEAN)
    start, stop = int(usual.start[10]), int(usual.stop[10])

    def gap(number: int, x: np.ndarray) -> np.ndarray:
        x[start + 100 : start + 300] = 7.0 if number < 4 else x[start + 100 : start + 300]
        return x

    segments = select_segments(spoil(root, gap), CLEAN)
    assert segments.electrodes == usual.electrodes
    assert usual.sentence_idx[10] not in segments.sentence_idx
    overlapping = (usual.start < start + 300) & (usual.stop > start + 100)
    assert len(usual) - len(segments) <= overlapping.sum()
    assert stop > start + 300


@pytest.mark.parametrize(
    ("scale", "unit"),
    [(1e-6, "volts"), (1e-3, "millivolts"), (1e3, "nanovolts"), (1e6, "picovolts")],
)
def test_another_unit_is_said_and_changes_nothing(root, scale, unit):
    usual = select_segments(open_brain_treebank(root), LAPLACIAN)
    recording = spoil(root, lambda _, x: x * scale)
    segments = select_segments(recording, LAPLACIAN)
    assert (segments.electrodes, segments.text) == (usual.electrodes, usual.text)
    assert f"the file seems to be in {unit}" in lines(recording, LAPLACIAN)


def test_a_scale_of_no_unit_is_said_to_be_of_none(root):
    said = lines(spoil(root, lambda _, x: x * 1e-12), LAPLACIAN)
    assert "unusual for a brain: no unit explains it" in said


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_recording_of_no_numbers_is_refused_before_it_is_trained_on(root, value):
    message = refused(spoil(root, lambda _, x: np.full_like(x, value)), LAPLACIAN)
    assert "NaN or beyond a kilovolt: 5. Check the signals" in message


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_of_two_halves_in_two_units_the_one_in_microvolts_is_kept(root, scale):
    recording = spoil(root, lambda number, x: x * scale if number in (0, 1) else x)
    # Four channels: the fifth is constant.
    recording = spoil(root, lambda number, x: x * 0 if number == 4 else x)
    out_of_scale = dict.fromkeys(recording.electrodes[:2], "out of scale with the others")
    assert recording.quality.left_out == out_of_scale | {recording.electrodes[4]: "constant"}


# ---------------------------------------------------------------- single channels


def with_value(value: float, first: float, last: float) -> Callable[[np.ndarray], np.ndarray]:
    """Put a value between two shares of the length; one sample if they are the same."""

    def change(x: np.ndarray) -> np.ndarray:
        x[int(first * len(x)) : max(int(last * len(x)), int(first * len(x)) + 1)] = value
        return x

    return change


def silence(share: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(x: np.ndarray) -> np.ndarray:
        # Ten times over the recording, so that no stretch of it is dead.
        place = np.arange(len(x)) % (len(x) // 10) / (len(x) // 10)
        return np.where(place < share, 5.0, x)

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda x: np.zeros_like(x), "constant"),
        (lambda x: toggling(len(x)), "mostly without signal"),
        (lambda x: np.where(silence(0.8)(x) == 5.0, toggling(len(x)), x), "mostly without signal"),
        (lambda x: np.where(silence(0.8)(x) == 5.0, x / 1000, x), OUT_OF_SCALE),
        (silence(0.8), "mostly without signal"),
        (lambda x: np.clip(x, *np.quantile(x, [0.02, 0.98])), "clipped"),
        (lambda x: np.minimum(x, np.quantile(x, 0.95)), "clipped"),
        *((with_value(np.nan, *part), NO_VOLTAGE) for part in ((0, 1), (0.3, 0.8), (0.5, 0.5))),
        (with_value(-np.inf, 0.4, 0.4), NO_VOLTAGE),
        (with_value(1e12, 0.4, 0.6), NO_VOLTAGE),
        *((lambda x, scale=scale: x * scale, OUT_OF_SCALE) for scale in (1e-6, 1e-3, 1e3, 1e6)),
    ],
)
def test_a_channel_of_no_use_is_named_and_no_neighbour(root, change, reason):
    recording = spoil(root, lambda number, x: change(x) if number == 1 else x)
    name = recording.electrodes[1]
    assert recording.quality.left_out == {name: reason}
    report = data_report(recording, select_segments(recording, CLEAN), CLEAN)
    assert report.channels.left_out[reason] == (name,)
    assert len(report.channels.kept) == 4
    assert name in report.markdown()
    assert f"not used because of the signal: {name} ({reason})" in " ".join(report.signals.doubts)
    # Contact 2 of 5 is gone, and with it the Laplacians of 1 to 3.
    assert select_segments(recording, LAPLACIAN).electrodes == (recording.electrodes[3],)


def test_a_channel_that_is_silent_for_a_while_is_kept_and_said(root):
    recording = spoil(root, lambda number, x: silence(0.3)(x) if number == 1 else x)
    name = recording.electrodes[1]
    assert recording.quality.left_out == {}
    assert recording.quality.flat_share[name] == pytest.approx(0.3, abs=0.15)
    assert f"without signal for part of the time: {name}" in lines(recording, CLEAN)


def test_of_identical_channels_the_one_that_is_not_corrupted_is_kept(root):
    with h5py.File(root / SIGNALS) as file:
        second = file["data/electrode_1"][:]
    names = open_brain_treebank(root).electrodes
    (root / "corrupted_elec.json").write_text(json.dumps({"sub_9": [names[0]]}))
    recording = spoil(root, lambda number, x: second if number < 2 else x)
    assert recording.quality.left_out == {names[0]: "identical to another"}
    assert select_segments(recording, CLEAN).electrodes == names[1:]


def test_a_surrogate_has_the_sentences_of_its_original(root):
    recording = spoil(root, lambda _, x: np.where(np.arange(len(x)) < len(x) // 2, x, 0.0))
    expected = select_segments(recording, CLEAN)
    for surrogate in SURROGATES.values():
        found = select_segments(surrogate.of(recording), CLEAN)
        assert (found.text, found.electrodes) == (expected.text, expected.electrodes)


# ---------------------------------------------------------------- lengths


def test_a_file_much_longer_than_its_triggers_is_said(root):
    recording = spoil(root, lambda _, x: x)
    with h5py.File(root / SIGNALS, "r+") as file:
        for name in list(file["data"]):
            signal = file["data"][name][:]
            del file["data"][name]
            file["data"][name] = np.tile(signal, 3)
    assert "do they belong together?" not in lines(recording, CLEAN)
    assert "do they belong together?" in lines(open_brain_treebank(root), CLEAN)


def test_triggers_beyond_the_end_of_the_file_are_said(root):
    with h5py.File(root / SIGNALS, "r+") as file:
        for name in list(file["data"]):
            signal = file["data"][name][:]
            del file["data"][name]
            file["data"][name] = signal[: len(signal) // 2]
    said = lines(open_brain_treebank(root), CLEAN)
    assert "min beyond the end of the file" in said
    assert "leaves the file" in said


def test_an_impossible_length_is_refused(root):
    with h5py.File(root / SIGNALS, "r+") as file:
        for name in list(file["data"]):
            del file["data"][name]
            length = int(2 * LONGEST_S * RATE_HZ)  # never written, so that it takes no disk
            file["data"].create_dataset(name, (length,), "f4", chunks=(2**20,))
    with pytest.raises(UserError, match=r"channels last 120 days by the triggers\. Give"):
        open_brain_treebank(root)


# ---------------------------------------------------------------- how it is looked at


def test_what_is_read_is_bounded_whatever_the_length():
    rng = np.random.default_rng(0)
    read: dict[str, int] = {}

    def stretch(name: str, stretches) -> list[np.ndarray]:
        read[name] = read.get(name, 0) + sum(stop - start for start, stop in stretches)
        return [rng.normal(0, 50, stop - start) for start, stop in stretches]

    names = [f"A{number}" for number in range(40)]
    quality = signal_quality(stretch, names, range(1000, 4_000_000), 1000.0)
    assert quality.left_out == {}
    throughout = [name for name, samples in read.items() if samples > 1_000_000]
    assert len(throughout) == 16
    assert max(samples for name, samples in read.items() if name not in throughout) == 32_000


def test_nothing_to_look_at_is_nothing_wrong():
    found = signal_quality(lambda *_: [], ["A1"], range(0), 1000.0)
    assert isinstance(found, SignalQuality)
    assert found.left_out == {}


def sines(n: int, *parts: tuple[float, float]) -> np.ndarray:
    return sum(uv * np.sin(2 * np.pi * hz * np.arange(n) / RATE_HZ) for hz, uv in parts)


@pytest.mark.parametrize(
    "parts", [[(60, 100)], [(60, 100), (120, 40)], [(50, 100), (100, 30)]], ids=str
)
def test_channels_of_the_mains_alone_are_named_and_not_used(root, parts):
    recording = spoil(root, lambda n, x: sines(len(x), *parts) if n == 1 else x)
    assert recording.quality.left_out == {recording.electrodes[1]: "nothing but the mains"}
    assert f"{recording.electrodes[1]} (nothing but the mains)" in lines(recording, CLEAN)


def test_a_brain_below_strong_mains_is_one(root):
    recording = spoil(root, lambda _, x: x + sines(len(x), (60, 1000), (120, 300)))
    assert recording.quality.left_out == {}


def test_a_contact_that_its_neighbours_cancel_is_named_and_not_used(root):
    with h5py.File(root / SIGNALS) as file:
        mean = (file["data/electrode_1"][:] + file["data/electrode_3"][:]) / 2
    recording = spoil(root, lambda n, x: mean if n == 2 else x)
    electrodes = recording.electrodes
    assert select_segments(recording, LAPLACIAN).electrodes == (electrodes[1], electrodes[3])
    assert select_segments(recording, CLEAN).electrodes == electrodes
    report = " ".join(lines(recording, LAPLACIAN).split())
    assert f"the reference leaves nothing but rounding of {electrodes[2]}" in report


def test_gaps_shorter_than_a_cell_are_counted(root):
    gap = np.arange(RATE_HZ // 2) < 0.4 * RATE_HZ / 2

    def with_gaps(n: int, x: np.ndarray) -> np.ndarray:
        return np.where(np.resize(gap, len(x)), 0, x) if n == 1 else x

    recording = spoil(root, with_gaps)
    share = recording.quality.flat_share[recording.electrodes[1]]
    assert share == pytest.approx(0.4, abs=0.05)


def wave(time_s: np.ndarray, hz: float, uv: float = 100.0) -> np.ndarray:
    return uv * np.sin(2 * np.pi * hz * time_s + 0.3)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        *(
            (lambda t, hz=hz: wave(t, hz) + 0.4 * wave(t, 2 * hz), MAINS)
            for hz in (49.8, 50.9, 60.15, 59.2)
        ),
        (lambda t: 100 * np.sin(2 * np.pi * (60 * t + 0.9 * np.sin(t / 6))), MAINS),
        (lambda t: wave(t, 59.9) * (1 + 0.3 * np.sin(t)), MAINS),
        (lambda t: np.rint(wave(t, 49.8, 20) / ADC_STEP_UV) * ADC_STEP_UV, MAINS),
        (lambda t: wave(t, 11.3), TONE),
        (lambda t: 20 * t, DRIFT),
        (lambda t: 20 * t + wave(t, 60), DRIFT),
        (lambda t: 20 * t + wave(t, 10), DRIFT),
        (lambda t: np.minimum(80 * t, 4000) + wave(t, 60.1, 20), DRIFT),
        (lambda t: 5000 * (1 - np.exp(-t / 20)) + wave(t, 50), DRIFT),
    ],
)
def test_what_a_drift_and_a_sine_describe_is_named_and_not_used(root, make, reason):
    def change(number: int, x: np.ndarray) -> np.ndarray:
        return make(np.arange(len(x)) / RATE_HZ) if number == 1 else x

    recording = spoil(root, change)
    name = recording.electrodes[1]
    assert recording.quality.left_out == {name: reason}
    assert f"not used because of the signal: {name} ({reason})" in lines(recording, CLEAN)


def spikes(n: int, every_s: float, uv: float = 2e4) -> np.ndarray:
    """Single samples at random places, so many seconds apart on average, of either sign."""
    rng = np.random.default_rng(3)
    found = np.zeros(n)
    places = 1 + rng.choice(n // 2 - 2, int(n / RATE_HZ / every_s), replace=False) * 2
    found[places] = uv * rng.uniform(0.5, 1.5, len(places)) * rng.choice([-1, 1], len(places))
    return found


@pytest.mark.parametrize(
    ("below", "every_s", "reason"),
    [
        (lambda x: np.random.default_rng(2).normal(0, 1, len(x)), 0.3, IMPULSES),
        (lambda x: toggling(len(x)), 0.3, IMPULSES),
        (lambda x: 0 * x, 0.04, IMPULSES),
        (lambda x: x, 0.1, IMPULSES),
        (lambda x: 0 * x, 5.0, "mostly without signal"),
        (lambda x: wave(np.arange(len(x)) / RATE_HZ, 60), 5.0, MAINS),
    ],
)
def test_a_channel_with_a_signal_by_its_impulses_only_is_not_used(root, below, every_s, reason):
    def change(number: int, x: np.ndarray) -> np.ndarray:
        return below(x) + spikes(len(x), every_s) if number == 1 else x

    recording = spoil(root, change)
    assert recording.quality.left_out == {recording.electrodes[1]: reason}


def test_a_channel_with_a_few_impulses_is_kept_and_said(root):
    changed = []

    def change(number: int, x: np.ndarray) -> np.ndarray:
        changed.append(spikes(len(x), 10) if number == 1 else 0 * x)
        return x + changed[-1]

    recording = spoil(root, change)
    name = recording.electrodes[1]
    assert recording.quality.left_out == {}
    first, last = (recording.timeline.runs[place].sample[place] for place in (0, -1))
    within = changed[1][int(first) : int(last)]
    a_minute = np.count_nonzero(within) / len(within) * 60 * RATE_HZ
    # Those at the end of a cell have no second neighbour to be compared with.
    assert recording.quality.impulses == {name: pytest.approx(a_minute, rel=0.1)}
    said = f"kept, but with impulses of a single sample: {name} {a_minute:.1f}"[:-2]
    assert said in lines(recording, CLEAN)
    report = data_report(recording, select_segments(recording, CLEAN), CLEAN)
    assert "| electrode | without signal | impulses a minute |" in report.markdown()


@pytest.mark.parametrize(
    "spec",
    [
        SyntheticSpec(sentences=20),
        SyntheticSpec(sentences=30, quirks=True),
        SyntheticSpec(sentences=10, electrodes=40, seed=1, coupling=3, sampling_rate=200),
        SyntheticSpec(sentences=10, electrodes=3, seed=2, coupling=0, sampling_rate=2048),
    ],
    ids=["default", "quirks", "many", "fast"],
)
def test_no_synthetic_contact_is_suspected(tmp_path, spec):
    write_synthetic(tmp_path / "recording", spec)
    recording = open_brain_treebank(tmp_path / "recording")
    quality = recording.quality
    assert quality.left_out == ({"F1b3": "constant"} if spec.quirks else {})
    assert set(quality.left_out) <= set(recording.corrupted)
    assert (quality.impulses, quality.flat_share) == ({}, {})


@pytest.mark.parametrize("hum_uv", [0, 20, 200, 1000])
def test_pink_noise_with_the_hum_of_the_field_is_a_signal(root, hum_uv):
    def change(number: int, x: np.ndarray) -> np.ndarray:
        rng, rate_hz = np.random.default_rng(number), np.fft.rfftfreq(len(x), 1 / RATE_HZ)
        spectrum = rng.standard_normal((2, len(rate_hz))).T @ [1, 1j]
        pink = np.fft.irfft(spectrum / np.sqrt(np.maximum(rate_hz, 0.5)), len(x))
        times_s = np.arange(len(x)) / RATE_HZ
        hum = wave(times_s, 60, hum_uv) + wave(times_s, 120, hum_uv / 4)
        return (5, 20, 40, 80, 200)[number] * pink / pink.std() + hum

    recording = spoil(root, change)
    assert (recording.quality.left_out, recording.quality.impulses) == ({}, {})
