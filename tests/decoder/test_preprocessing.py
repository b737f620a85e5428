from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
import torch

from ssense.data.recordings.channels import Channel
from ssense.data.recordings.recording import Recording
from ssense.data.recordings.segment_signals import read_segments
from ssense.data.recordings.segments import SegmentSpec
from ssense.decoder.preprocessing import Preprocessing
from ssense.errors import UserError
from ssense.signal.band_power import BandPowerSpec
from ssense.signal.filtering import notch_filter
from ssense.signal.referencing import Derivation


def with_lead(recording, segments, contacts, lead, rows) -> list[np.ndarray]:
    """Raw signal of contacts for some segments, with samples ahead of each."""
    stretches = [(int(segments.start[row]) - lead, int(segments.stop[row])) for row in rows]
    by_contact = [recording.read_channel(name, stretches) for name in contacts]
    return [np.stack([signals[row] for signals in by_contact]) for row in range(len(rows))]


def test_features_of_the_recording_are_those_of_the_dataset(model, recording, result):
    made = model.preprocessing
    segments = made.segments(recording)
    stimuli = result.dataset.stimuli
    assert segments.sentence_idx.tolist() == stimuli["sentence_idx"].tolist()
    assert made.n_samples == segments.n_samples
    rows = [0, 7, len(segments) - 1]
    np.testing.assert_array_equal(
        made.of_recording(recording, segments, rows), result.dataset.features[rows]
    )


def test_recordings_are_read_in_parts_that_fit_into_memory(model, recording, monkeypatch):
    made = model.preprocessing
    segments = made.segments(recording)
    whole = made.of_recording(recording, segments, range(20))
    monkeypatch.setattr("ssense.decoder.preprocessing._BYTES_AT_ONCE", 3 * whole[0].nbytes)
    in_parts = made.of_recording(recording, segments, range(20))
    np.testing.assert_allclose(in_parts, whole, atol=2e-3)  # half precision


def test_raw_segments_with_enough_lead_become_the_same_features(model, recording):
    made = model.preprocessing
    segments = made.segments(recording)
    rows = [0, 5, 9]
    raw = with_lead(recording, segments, made.contacts, made.lead_samples, rows)
    checked = made.checked(raw, made.lead_samples, prepared=False)
    found = made.of_arrays(checked, made.lead_samples, prepared=False)
    wanted = made.of_recording(recording, segments, rows)
    np.testing.assert_allclose(found, wanted, atol=2e-3)  # half precision, at an edge of rounding
    assert (found == wanted).mean() > 0.999
    short = [segment[:, made.lead_samples :] for segment in raw]
    ringing = made.of_arrays(short, 0, prepared=False)
    assert np.abs(ringing - wanted).max() > 0.01  # without a lead the notches ring


def test_prepared_segments_are_what_read_segments_gives(model, recording):
    made = model.preprocessing
    segments = made.segments(recording)
    signals = read_segments(recording, segments, made.data, [0, 5])
    checked = made.checked(signals, 0, prepared=True)
    np.testing.assert_array_equal(
        made.of_arrays(checked, 0, prepared=True), made.of_recording(recording, segments, [0, 5])
    )


@pytest.mark.parametrize("pad_domain", ["raw_masked", "spec"])
def test_where_features_leave_out_padding_it_is_refused_in_segments(model, recording, pad_domain):
    features = dataclasses.replace(model.preprocessing.features, pad_domain=pad_domain)
    made = dataclasses.replace(model.preprocessing, features=features)
    segments = made.segments(recording)
    signals = read_segments(recording, segments, made.data, [0, 5])
    lengths = (segments.stop - segments.start)[[0, 5]]
    padding = signals.shape[2] - lengths[0]
    assert padding > 0
    for padded in (signals, [*signals], torch.from_numpy(signals)):
        with pytest.raises(UserError, match=f"segment 0 ends in {padding} samples of zeros, and"):
            made.checked(padded, 0, prepared=True)
    cut = [each[:, :length] for each, length in zip(signals, lengths, strict=True)]
    np.testing.assert_array_equal(
        made.of_arrays(made.checked(cut, 0, prepared=True), 0, prepared=True),
        made.of_recording(recording, segments, [0, 5]),
    )


BANDS = BandPowerSpec(bands="alpha", decimation=50, edge_clip=1, normalisation="none")
MADE = Preprocessing(
    data=SegmentSpec(),
    features=BANDS,
    recorded_hz=512.0,
    sampling_rate_hz=512.0,
    derivations=(Derivation("A2", "A2", ("A1", "A10")), Derivation("A10", "A10", ("A2",))),
    n_samples=600,
)


def test_segments_may_be_tensors_of_any_type():
    signals = torch.randn(2, 3, 500)
    for given in (signals.bfloat16(), [*signals.bfloat16()], signals.requires_grad_(True)):
        checked = MADE.checked(given, 0, prepared=False)
        np.testing.assert_allclose(np.stack(checked), signals.detach(), rtol=0.01)


def test_each_electrode_is_its_contact_minus_the_mean_of_others_then_filtered():
    assert MADE.electrodes == ("A2", "A10")
    assert MADE.contacts == ("A1", "A2", "A10")
    raw = np.random.default_rng(0).standard_normal((1, 3, 500)) * 30
    (a1, a2, a10) = raw[0]
    electrodes = np.stack([a2 - (a1 + a10) / 2, a10 - a2])
    by_hand = notch_filter(electrodes, 512.0)[None, :, 100:]
    found = MADE.of_arrays(MADE.checked(raw, 100, prepared=False), 100, prepared=False)
    filtered = MADE.of_arrays(MADE.checked(by_hand, 0, prepared=True), 0, prepared=True)
    np.testing.assert_array_equal(found, filtered)


@pytest.mark.parametrize(
    ("segments", "lead", "prepared", "message"),
    [
        (np.zeros((2, 4, 500)), 0, False, "0 has 4 contacts, and the model takes 3: A1, A2, A10."),
        (np.zeros((2, 3, 500)), 0, True, "0 has 3 electrodes, and the model takes 2: A2, A10."),
        (np.zeros((2, 3, 100)), 0, False, "0 is too short: 100 samples behind 0 of lead"),
        (np.zeros((2, 3, 500)), 500, False, "0 is too short: 0 samples behind 500 of lead"),
        (np.zeros((2, 3, 601)), 0, False, "0 is too long: 601 samples behind 0 of lead, and the"),
        (
            np.eye(3, 500)[None],
            0,
            False,
            "0 ends in 497 samples of zeros, and",
        ),
        (np.full((1, 3, 500), np.nan), 0, False, "0 holds NaN or infinity"),
        ([np.ones((3, 500)), np.ones(500)], 0, False, "1 has the shape [500], not [contacts,"),
        (np.zeros((3, 500)), 0, False, "the shape [3, 500], not [N, contacts, samples]"),
        (np.zeros((0, 3, 500)), 0, False, "there is no segment"),
        ([np.full((3, 500), "a")], 0, False, "0 holds <U1, not numbers in microvolts"),
        ([[[1, 2], [3]]], 0, False, "segment 0 is no array (setting an array element"),
        ("my_recording.edf", 0, False, "str is neither a recording nor segments"),
        (np.zeros((1, 3, 500)), -1, False, "lead_samples must be a whole number from 0, got -1"),
        (np.zeros((1, 3, 500)), 0.5, False, "lead_samples must be a whole number from 0, got 0.5"),
    ],
)
def test_segments_that_do_not_fit_are_refused_in_a_line(segments, lead, prepared, message):
    with pytest.raises(UserError) as refused:
        MADE.checked(segments, lead, prepared=prepared)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_recording_of_other_contacts_or_another_rate_is_refused(model, recording):
    made = model.preprocessing
    others = tuple(each for each in recording.channels if each.name != made.contacts[0])
    lacking = dataclasses.replace(recording, channels=others)
    with pytest.raises(UserError, match=f"lacks 1 contact of the model: {made.contacts[0]}. Give"):
        made.segments(lacking)
    with pytest.raises(UserError, match="has 256 samples a second, and the model was trained on 5"):
        dataclasses.replace(made, recorded_hz=512.0).segments(recording)


def test_contacts_that_are_dead_in_a_recording_are_refused_and_bad_ones_named(model):
    made, duration_s = model.preprocessing, 60
    rate_hz = made.recorded_hz
    samples = np.random.default_rng(0).normal(
        0, 30, (len(made.contacts), int(duration_s * rate_hz))
    )
    said = {"onset": [5.0, 20.0], "duration": [1.0, 1.0], "text": ["She left.", "No."]}
    (first, second, *rest) = made.contacts
    bad = [Channel(name=first, is_bad=True), second, *rest]
    marked = Recording.from_arrays(samples, rate_hz, bad, said)
    with pytest.warns(UserWarning, match=f"calls 1 contact of the model corrupted: {first}\\. The"):
        assert len(made.segments(marked)) == 2
    anyhow = dataclasses.replace(made, data=dataclasses.replace(made.data, electrodes="all"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(anyhow.segments(marked)) == 2
    samples[1] = 0
    dead = Recording.from_arrays(samples, rate_hz, made.contacts, said)
    with pytest.raises(UserError, match=rf"no usable signal of 1 .*: {second} \(constant\)\. Give"):
        made.segments(dead)


def test_contacts_have_one_order_whatever_their_names():
    names = ("LA1", "LA01", "LA001", "LA2", "LA10")
    orders = set()
    for first in names:  # hashes of texts differ from process to process
        others = tuple(name for name in names if name != first)
        made = dataclasses.replace(MADE, derivations=(Derivation(first, first, others),))
        orders.add(made.contacts)
    assert orders == {("LA001", "LA01", "LA1", "LA2", "LA10")}


def test_longer_sentences_are_left_out_and_windows_cut(model, recording):
    made = model.preprocessing
    everything = made.segments(recording)
    lengths = everything.stop - everything.start
    less = dataclasses.replace(made, n_samples=int(np.median(lengths)))
    kept = less.segments(recording)
    assert len(kept) == (lengths <= less.n_samples).sum()
    window = dataclasses.replace(made.data, window_s=2.0)
    windows = dataclasses.replace(made, data=window, n_samples=500).segments(recording)
    assert set((windows.stop - windows.start).tolist()) == {500}
