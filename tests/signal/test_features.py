"""Fourier amplitudes and band power against their definitions, and what all recipes share."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssense.data.shards import feature_spec
from ssense.engine.core.sweep import checked_levels
from ssense.errors import UserError
from ssense.signal.band_power import BANDS_HZ, BandPowerSpec
from ssense.signal.features import AnyFeatureSpec, feature_identity, features, reach_s
from ssense.signal.fourier import FourierSpec
from ssense.signal.superlets import SuperletSpec
from ssense.specification import configured, identity, plain
from ssense.training.sentences import SentenceSpec

RATE = 1000.0
FOURIER = FourierSpec(normalisation="none", edge_clip=0)
POWER = BandPowerSpec(normalisation="none", edge_clip=0, log=False)
RECIPES: tuple[AnyFeatureSpec, ...] = (SuperletSpec(order_max=8), FourierSpec(), BandPowerSpec())


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(samples)


def cosine(hz: float, amplitude: float = 1.0, samples: int = 8000) -> np.ndarray:
    return amplitude * np.cos(2 * np.pi * hz * np.arange(samples) / RATE + 0.7)


def middle(found: torch.Tensor) -> np.ndarray:
    return found[:, found.shape[-1] // 2].numpy()


# --- Short-time Fourier amplitudes ----------------------------------------------------------------


@settings(max_examples=25, derandomize=True)
@given(
    samples=st.integers(60, 300),
    window_s=st.floats(0.005, 0.06),
    decimation=st.sampled_from([1, 7, 50]),
    highest=st.floats(40, 480),
)
def test_fourier_is_the_windowed_sum_at_each_frame(samples, window_s, decimation, highest):
    spec = dataclasses.replace(
        FOURIER, window_s=window_s, decimation=decimation, maximum_hz=highest, n_frequencies=3
    )
    x = 3 + noise(samples)
    half = max(1, round(window_s * RATE / 2))
    places = np.arange(-half, half)
    window = np.cos(np.pi * places / (2 * half)) ** 2
    expected = np.zeros((3, math.ceil(samples / decimation)))
    for row, hz in enumerate((5, (5 + highest) / 2, highest)):
        for frame, centre in enumerate(range(0, samples, decimation)):
            inside = [
                (m, w) for m, w in zip(places, window, strict=True) if 0 <= centre + m < samples
            ]
            total = sum(x[centre + m] * w * np.exp(-2j * np.pi * hz * m / RATE) for m, w in inside)
            expected[row, frame] = 2 * abs(total) / window.sum()
    np.testing.assert_allclose(features(x, RATE, spec), expected, rtol=1e-5, atol=1e-6)


def test_at_multiples_of_the_resolution_fourier_is_the_usual_transform():
    x = torch.from_numpy(noise(4000))
    window = torch.hann_window(200, dtype=torch.float64)
    usual = torch.stft(x, 200, 50, window=window, pad_mode="constant", return_complex=True)
    expected = 2 * usual.abs()[1:41, :80] / window.sum()  # 5, 10 ... 200 Hz
    torch.testing.assert_close(features(x, RATE, FOURIER), expected.float())


@pytest.mark.parametrize("hz", [20, 75, 200])
def test_a_sine_gives_its_amplitude_and_leaks_as_hann_s_window_does(hz):
    found = middle(features(cosine(hz, 3.0), RATE, FOURIER))
    away = np.arange(5, 201, 5) - hz  # in 5 Hz, of which the window of 0.2 s has one cycle more
    expected = 3.0 * np.select([away == 0, abs(away) == 5], [1.0, 0.5], 0.0)
    np.testing.assert_allclose(found, expected, atol=3e-3)
    between = middle(features(cosine(hz + 1.5, 3.0), RATE, FOURIER))[hz // 5 - 1]
    part = 1.5 * 0.2
    assert between == pytest.approx(3.0 * np.sinc(part) / (1 - part**2), rel=2e-3)


def test_an_offset_is_none_of_the_frequencies_that_the_window_resolves():
    resolved = dataclasses.replace(FOURIER, minimum_hz=10.0, n_frequencies=39)
    found = features(np.full(4000, 1e4), RATE, resolved)
    assert found[:, 3:-3].abs().max() < 1e-2


# --- Band power -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BANDS_HZ)
def test_a_sine_gives_its_squared_amplitude_at_the_centre_of_a_band_and_a_quarter_at_its_edges(
    name,
):
    spec = dataclasses.replace(POWER, bands=name)
    lowest, highest = BANDS_HZ[name]
    for hz, share in ((math.sqrt(lowest * highest), 1.0), (lowest, 0.25), (highest, 0.25)):
        found = middle(features(cosine(hz, 3.0, 16_000), RATE, spec))
        assert found == pytest.approx(9.0 * share, rel=5e-3)
    detuning = ((3 * highest) ** 2 - lowest * highest) / (3 * highest * (highest - lowest))
    if 3 * highest < RATE / 2:
        found = middle(features(cosine(3 * highest, 3.0, 16_000), RATE, spec))
        assert found == pytest.approx(9.0 / (1 + detuning**8) ** 2, rel=0.05)


def test_power_follows_an_envelope():
    times_s = np.arange(8000) / RATE
    envelope = 2 + np.cos(2 * np.pi * 1.5 * times_s)
    spec = dataclasses.replace(POWER, bands="60-180", decimation=20)
    found = features(envelope * np.cos(2 * np.pi * 104 * times_s), RATE, spec)[0].numpy()
    np.testing.assert_allclose(found[20:-20], (envelope**2)[::20][20:-20], rtol=0.01)


def test_power_is_the_mean_of_the_filtered_signal_s_squared_envelope():
    """The definition by sums over an FFT of many times the length, one frame after another."""
    x, step = 50 + noise(903), 40
    length = 2**17
    hz = np.fft.fftfreq(length, 1 / RATE)
    spectrum = np.fft.fft(np.pad(x, (3000, 0)), length)
    spec = dataclasses.replace(POWER, bands="alpha+high-gamma", decimation=step)
    found = features(x, RATE, spec).numpy()
    for row, (lowest, highest) in enumerate(((8, 13), (70, 150))):
        kept = hz > 0
        detuning = (hz[kept] ** 2 - lowest * highest) / (hz[kept] * (highest - lowest))
        analytic = np.zeros(length, complex)
        analytic[kept] = 2 * spectrum[kept] / (1 + detuning**8)
        power = np.abs(np.fft.ifft(analytic)) ** 2
        expected = [
            power[3000 + at - step // 2 : 3000 + at + step // 2].mean()
            for at in range(0, 903, step)
        ]
        np.testing.assert_allclose(found[row], expected, rtol=2e-3)


def test_rows_are_the_bands_in_the_order_of_their_names():
    spec = dataclasses.replace(POWER, bands="high-gamma+theta+14-25.5")
    assert (spec.n_frequencies, spec.maximum_hz) == (3, 150.0)
    assert spec.row_labels == ["high-gamma", "theta", "14-25.5"]
    x = noise(8000)
    found = features(x, RATE, spec)
    for row, bands in enumerate(spec.row_labels):
        alone = features(x, RATE, dataclasses.replace(spec, bands=bands))[0]
        torch.testing.assert_close(found[row], alone, rtol=1e-3, atol=0)


def test_the_logarithm_is_that_of_the_power_and_a_unit_only_shifts_it():
    logs = dataclasses.replace(POWER, log=True)
    x = noise(3000)
    torch.testing.assert_close(features(x, RATE, logs), features(x, RATE, POWER).log())
    shifted = features(1e-6 * x, RATE, logs) - features(x, RATE, logs)
    np.testing.assert_allclose(shifted, 2 * math.log(1e-6), rtol=1e-4)


def test_silence_counts_as_a_millionth_of_the_largest_power():
    x = np.concatenate([noise(2000), np.zeros(2000)])
    found = features(x, RATE, dataclasses.replace(POWER, log=True))[0]
    assert float(found.min() - found.max()) == pytest.approx(math.log(1e-6))
    assert torch.equal(features(np.zeros((2, 3000)), RATE, BandPowerSpec()), torch.zeros(2, 1, 50))


# --- What recipes share ---------------------------------------------------------------------------


def kinds_of(specs: Sequence[AnyFeatureSpec]) -> list[str]:
    return [spec.kind for spec in specs]


@pytest.mark.parametrize("spec", RECIPES, ids=kinds_of(RECIPES))
def test_a_burst_is_in_the_same_frame_of_every_recipe(spec):
    times_s = (np.arange(6000) - 60 * 50) / RATE
    burst = np.exp(-((times_s / 0.02) ** 2) / 2) * np.cos(2 * np.pi * 105 * times_s)
    plain_values = dataclasses.replace(spec, normalisation="none")
    found = features(burst, RATE, plain_values)
    assert found.shape == (spec.n_frequencies, 120 - 2 * spec.edge_clip)
    row = int(found.amax(-1).argmax())
    assert int(found[row].argmax()) == 60 - spec.edge_clip


@pytest.mark.parametrize("spec", RECIPES, ids=kinds_of(RECIPES))
def test_each_row_is_z_scored_over_its_frames(spec):
    signal = noise(3 * 2 * 4000).reshape(3, 2, 4000)
    found = features(signal, RATE, spec)
    assert found.dtype == torch.float32
    assert found.shape == (3, 2, spec.n_frequencies, spec.n_frames(4000))
    raw = features(signal, RATE, dataclasses.replace(spec, normalisation="none")).double()
    mean, sd = raw.mean(-1, keepdim=True), raw.std(-1, keepdim=True, correction=0)
    expected = ((raw - mean) / sd).float()
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)  # a 0.1 Hz row hardly varies


@pytest.mark.parametrize("spec", RECIPES[1:], ids=kinds_of(RECIPES[1:]))
@pytest.mark.parametrize("normalisation", ["per_frequency", "none"])
def test_padded_features_are_those_of_each_signal_alone(spec, normalisation):
    spec = dataclasses.replace(spec, pad_domain="spec", normalisation=normalisation)
    lengths = [2500, 1730, 300, 0]
    signal = np.zeros((4, 2700))
    for row, length in zip(signal, lengths, strict=True):
        row[:length] = noise(length, length)
    found = features(signal, RATE, spec, lengths)
    for row, length in enumerate(lengths):
        own = spec.n_frames(length)
        assert not found[row, :, own:].any()
        if own > 1:
            alone = features(signal[row, :length], RATE, spec)
            torch.testing.assert_close(found[row, :, :own], alone, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("spec", RECIPES[1:], ids=kinds_of(RECIPES[1:]))
def test_masked_statistics_are_those_of_the_frames_before_the_padding(spec):
    spec = dataclasses.replace(spec, pad_domain="raw_masked")
    signal = np.concatenate([noise(2000), np.zeros(700)])
    raw = features(signal, RATE, dataclasses.replace(spec, normalisation="none"))
    own = raw[:, : 40 - spec.edge_clip]
    expected = (raw - own.mean(-1, keepdim=True)) / own.std(-1, keepdim=True, correction=0)
    found = features(signal, RATE, spec, 2000)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("spec", RECIPES, ids=kinds_of(RECIPES))
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_channel_that_is_no_number_becomes_nan_and_no_other(spec, bad):
    signal = noise(2 * 3000).reshape(2, 3000)
    signal[0, 1500] = bad
    found = features(signal, RATE, spec)
    assert found[0].isnan().all()
    torch.testing.assert_close(found[1], features(signal[1], RATE, spec), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("spec", RECIPES, ids=kinds_of(RECIPES))
def test_blocks_of_channels_do_not_matter(spec, monkeypatch):
    signal = torch.from_numpy(noise(7 * 3000).reshape(7, 3000)).float().requires_grad_()
    expected = features(signal, RATE, spec)
    assert not expected.requires_grad
    for name in (
        "features._VALUES_AT_ONCE",
        "fourier._VALUES_AT_ONCE",
        "band_power._BYTES_AT_ONCE",
    ):
        monkeypatch.setattr(f"ssense.signal.{name}", 1)
    torch.testing.assert_close(features(signal, RATE, spec), expected, atol=1e-5, rtol=1e-5)
    assert features(signal[:0], RATE, spec).shape == (0, *expected.shape[1:])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("spec", RECIPES, ids=kinds_of(RECIPES))
def test_cuda_agrees_with_the_processor(spec):
    signal = torch.from_numpy(noise(3 * 8200).reshape(3, 8200)).float()
    found = features(signal.cuda(), 1024.0, spec)
    assert found.device.type == "cuda"
    torch.testing.assert_close(found.cpu(), features(signal, 1024.0, spec), rtol=1e-4, atol=2e-4)


# --- Specifications -------------------------------------------------------------------------------


def test_recipes_are_told_apart_and_superlets_keep_their_identity():
    assert feature_identity(SuperletSpec()) == {}
    assert feature_identity(SuperletSpec(edge_clip=3)) == {"edge_clip": 3}
    assert feature_identity(FourierSpec()) == {"kind": "fourier"}
    assert feature_identity(BandPowerSpec(bands="beta")) == {"kind": "band-power", "bands": "beta"}
    assert identity(SentenceSpec(features=FourierSpec())) == {"features": {"kind": "fourier"}}


@pytest.mark.parametrize("spec", RECIPES, ids=kinds_of(RECIPES))
def test_settings_of_shards_are_read_back(spec):
    assert feature_spec(plain(spec)) == spec


def test_settings_that_name_no_recipe_are_superlets():
    settings_of = plain(SuperletSpec.brainbert_defaults_50())
    del settings_of["kind"]
    assert feature_spec(settings_of) == SuperletSpec.brainbert_defaults_50()


@pytest.mark.parametrize(
    "levels",
    [
        {"features": "fourier", "features.window_s": 0.5},
        {"features": "band-power", "features.bands": "theta+70-150", "features.log": False},
        {"features.minimum_hz": 70.0},
        {"features.maximum_hz": 70.0},
        {"features.normalisation": "none", "features.pad_domain": "spec"},
    ],
)
def test_fields_can_be_levels_of_a_sweep(levels):
    made = configured(SentenceSpec(), levels).features
    for name, value in levels.items():
        assert getattr(made, name.partition(".")[2] or "kind") == value


@pytest.mark.parametrize(
    ("kind", "field", "value", "message"),
    [
        ("fourier", "window_s", 0, "window_s must be a finite number above 0, got 0"),
        ("fourier", "minimum_hz", 300.0, "maximum_hz must be above minimum_hz, got 300 to 200 Hz"),
        ("fourier", "n_frequencies", 1, "Raise n_frequencies, or make maximum_hz equal to min"),
        ("fourier", "n_frequencies", 2.5, "n_frequencies must be a whole number of at least 1"),
        ("fourier", "decimation", 0, "decimation must be a whole number of at least 1, got 0"),
        ("band-power", "edge_clip", -1, "edge_clip must be a whole number of at least 0, got -1"),
        ("band-power", "normalisation", "z", "normalisation must be one of per_frequency, none"),
        ("band-power", "pad_domain", "", "pad_domain must be one of raw, raw_masked, spec"),
        ("band-power", "log", "yes", "log must be true or false, got 'yes'"),
        ("band-power", "bands", "mu", "bands must be delta, .* such as 70-150, .* got 'mu'"),
        ("band-power", "bands", "150-70", "lower first, .* got '150-70'"),
        ("band-power", "bands", "0-4", "bands must be .* got '0-4'"),
        ("band-power", "bands", "", "bands must be .* got ''"),
        ("band-power", "bands", 70, "bands must be .* got 70"),
        ("band-power", "bands", "beta+beta", "bands names beta twice"),
        ("superlets", "minimum_hz", 300.0, "maximum_hz must be above minimum_hz, got 300 to 200"),
        ("superlets", "minimum_hz", "low", "minimum_hz must be a finite number above 0, got 'low'"),
    ],
)
def test_a_wrong_value_is_one_line_with_the_field(kind, field, value, message):
    with pytest.raises(ValueError, match=f"^[^\n]*{message}[^\n]*$"):
        configured(SentenceSpec(), {"features": kind, f"features.{field}": value})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("features.bands", "mu", r"features.bands can't be mu \(bands must be delta, "),
        (
            "features.minimum_hz",
            1e9,
            r"features.minimum_hz can't be 1000000000.0 \(maximum_hz must",
        ),
        ("data.window_s", -1.0, r"data.window_s can't be -1.0 \(window_s must be a finite number"),
        ("data.reference", "ear", r"data.reference can't be ear \(it is 'ear', not one of lap"),
        ("data.pad_to", 8200.5, r"data.pad_to can't be 8200.5 \(it is a number, not a whole"),
    ],
)
def test_a_wrong_level_is_one_line_with_family_and_field(field, value, message):
    kind = {"features": ("band-power",)} if field == "features.bands" else {}
    with pytest.raises(UserError, match=f"^family x: {message}[^\n]*$"):
        checked_levels(SentenceSpec(), {"x": {**kind, field: (value,)}})


@pytest.mark.parametrize(
    ("spec", "rate_hz", "samples", "message"),
    [
        (
            FourierSpec(),
            400.0,
            5000,
            r"maximum_hz .* got 200 Hz at 400 samples .* Lower maximum_hz",
        ),
        (BandPowerSpec(), 300.0, 5000, r"highest edge of bands .* got 150 Hz at 300 samples"),
        (FourierSpec(), RATE, 500, "edge_clip 5 leaves no frame of a signal of 500 samples"),
        (BandPowerSpec(), RATE, 500, "edge_clip 5 leaves no frame of a signal of 500 samples"),
        (
            FourierSpec(window_s=5.0),
            RATE,
            4000,
            "window_s must be at most the length .* 4 s, got 5",
        ),
        (BandPowerSpec(bands="1-1.1"), RATE, 4000, r"bands: 1-1.1 is 0.1 Hz wide, .* 0.25 Hz"),
    ],
)
def test_a_recipe_that_does_not_fit_the_signal_is_refused_by_field(spec, rate_hz, samples, message):
    with pytest.raises(ValueError, match=message):
        spec.check_fits(rate_hz, samples)
    with pytest.raises(ValueError, match=message):
        features(np.zeros(samples), rate_hz, spec)


def test_logarithms_of_amplitudes_let_no_frame_know_another():
    spec = SuperletSpec(minimum_hz=10, maximum_hz=80, n_frequencies=4, normalisation="log")
    raw = dataclasses.replace(spec, normalisation="none")
    signal = torch.randn(3, 2000, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(features(signal, 512, spec), features(signal, 512, raw).log())
    assert not features(torch.zeros(1, 2000), 512, spec).any()
    padded = torch.cat([signal, torch.zeros(3, 6000)], dim=1)
    found = features(padded, 512, spec)
    largest = features(padded, 512, raw).amax(-1, keepdim=True)
    assert (found >= (largest / 1000).log() - 1e-5).all()


def test_band_power_has_its_logarithm_once():
    with pytest.raises(ValueError, match="normalisation can't be log, which is of amplitudes"):
        BandPowerSpec(normalisation="log")


def test_superlets_see_as_far_as_their_envelope_says():
    spec = SuperletSpec(minimum_hz=5, maximum_hz=100, n_frequencies=8, base_cycles=3.0)
    seen = reach_s(spec, 1024.0, 10.0)
    for row, hz in enumerate(spec.frequencies_hz):
        cycles, weights = spec.wavelets(row)
        # A geometric mean of Gaussians is one, which falls to a tenth at this distance.
        sd_s = np.sum(weights / (cycles / (5 * hz)) ** 2) ** -0.5
        assert seen[row] == pytest.approx(sd_s * np.sqrt(2 * np.log(10)), abs=2 / 1024)
    assert reach_s(spec, 1024.0, 0.1).max() == 0.1
    assert reach_s(BandPowerSpec(), 1024.0, 1.0)[0] < 0.1
