from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssense.signal import superlets
from ssense.signal.superlets import SuperletSpec, spectrogram, superlet_transform

BRAINBERT = SuperletSpec.brainbert()
RATE = 2048


# --- The definition, evaluated sum by sum ---------------------------------------------------------


def members(spec: SuperletSpec, hz: float) -> list[tuple[float, float]]:
    """(cycles, weight) of each wavelet at one frequency; weights sum to 1."""
    span = spec.maximum_hz - spec.minimum_hz
    rise = (hz - spec.minimum_hz) / span if span else 0.0
    order = spec.order_min + (spec.order_max - spec.order_min) * rise
    whole = math.floor(order + 1e-9)
    first = spec.order_min if spec.order_set == "brainbert" else 1
    raw = [(spec.base_cycles * k, 1.0) for k in range(first, whole + 1)]
    raw.append((spec.base_cycles * (whole + 1), max(0.0, order - whole)))
    root = sum(weight for _, weight in raw)
    return [(cycles, weight / root) for cycles, weight in raw]


def defined_row(signal: np.ndarray, rate: float, spec: SuperletSpec, hz: float) -> np.ndarray:
    kept = np.arange(0, len(signal), spec.decimation)
    seconds = (kept[:, None] - np.arange(len(signal))) / rate
    logarithm = np.zeros(len(kept))
    for cycles, weight in members(spec, hz):
        sd = cycles / (5 * hz)
        gaussian = np.exp(-(seconds**2) / (2 * sd**2)) / (sd * np.sqrt(2 * np.pi))
        carrier = 2 * np.pi * hz * seconds
        real = (gaussian * np.cos(carrier)) @ signal / rate
        imaginary = (gaussian * np.sin(carrier)) @ signal / rate
        logarithm += weight * np.log(np.hypot(real, imaginary))
    return np.exp(logarithm)


def longest_wavelet(spec: SuperletSpec, rate: float, hz: float) -> float:
    """Samples within six standard deviations, both sides."""
    return 12 * members(spec, hz)[-1][0] / (5 * hz) * rate


def assert_rows_match(
    signal: np.ndarray, rate: float, spec: SuperletSpec, rows: range | list[int]
) -> None:
    single = superlet_transform(signal.astype(np.float32), rate, spec).double().numpy()
    double = superlet_transform(signal, rate, spec).numpy()
    frames = math.ceil(len(signal) / spec.decimation)
    assert single.shape == double.shape == (spec.n_frequencies, frames)
    for row in rows:
        hz = float(spec.frequencies_hz[row])
        expected = defined_row(signal, rate, spec, hz)
        size = np.linalg.norm(expected)
        tolerance = 1e-3 if longest_wavelet(spec, rate, hz) > len(signal) else 1e-5
        assert np.linalg.norm(single[row] - expected) < tolerance * size, f"row {row}, {hz:g} Hz"
        assert np.linalg.norm(double[row] - expected) < 1e-10 * size, f"row {row}, {hz:g} Hz"


def noise(samples: int, seed: int = 0) -> np.ndarray:
    """Exactly representable in single precision, so that both precisions see one signal."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal(samples).astype(np.float32).astype(np.float64)


@pytest.mark.parametrize("order_set", ["brainbert", "authors"])
def test_matches_the_definition(order_set: superlets.OrderSet) -> None:
    spec = dataclasses.replace(BRAINBERT, order_set=order_set)
    assert_rows_match(noise(8200), RATE, spec, [0, 1, 2, 12, 39])


def test_matches_the_definition_for_drifting_microvolts() -> None:
    rng = np.random.default_rng(1)
    drift = 500 + np.cumsum(rng.standard_normal(8200))  # power falls as 1 / f²
    assert_rows_match(drift.astype(np.float32).astype(np.float64), RATE, BRAINBERT, [0, 1, 20])


def test_matches_the_definition_for_the_other_preset() -> None:
    assert_rows_match(noise(6144), RATE, SuperletSpec.brainbert_defaults_50(), [0, 1, 25, 49])


@pytest.mark.slow
@pytest.mark.parametrize("rate", [1024, 2048])
def test_matches_the_definition_in_every_row(rate: float) -> None:
    assert_rows_match(noise(8200, seed=2), rate, BRAINBERT, range(40))


@pytest.mark.parametrize("order_set", ["brainbert", "authors"])
@pytest.mark.parametrize("maximum_hz", [30.0, 120.0, 127.9])
def test_wide_wavelets_near_half_the_rate_alias_as_their_samples_do(
    order_set: superlets.OrderSet, maximum_hz: float
) -> None:
    # One cycle at 127.9 Hz spans negative frequencies and several times the sampling rate.
    spec = SuperletSpec(
        minimum_hz=2.0,
        maximum_hz=maximum_hz,
        n_frequencies=6,
        order_min=1,
        order_max=3,
        order_set=order_set,
        decimation=7,
    )
    assert_rows_match(noise(1000), 256, spec, range(6))


@st.composite
def cases(draw: st.DrawFn) -> tuple[int, float, SuperletSpec]:
    rate = draw(st.sampled_from([100.0, 256.0, 999.5, 1024.0, 2048.0]))
    low = draw(st.floats(0.005, 0.2)) * rate
    high = draw(st.floats(low / rate + 0.01, 0.49)) * rate
    order_min = draw(st.integers(1, 4))
    spec = SuperletSpec(
        minimum_hz=low,
        maximum_hz=high,
        n_frequencies=draw(st.integers(2, 5)),
        base_cycles=draw(st.sampled_from([1.0, 1.5, 3.0])),
        order_min=order_min,
        order_max=order_min + draw(st.integers(0, 5)),
        order_set=draw(st.sampled_from(["brainbert", "authors"])),
        decimation=draw(st.integers(1, 60)),
    )
    return draw(st.integers(1, 700)), rate, spec


@settings(max_examples=150, deadline=None, derandomize=True)
@given(case=cases(), seed=st.integers(0, 2**32 - 1))
def test_matches_the_definition_whatever_the_sizes(
    case: tuple[int, float, SuperletSpec], seed: int
) -> None:
    samples, rate, spec = case
    assert_rows_match(noise(samples, seed), rate, spec, range(spec.n_frequencies))


# --- Closed forms --------------------------------------------------------------------------------


def middle_of_a_cosine(hz: float, rate: float, spec: SuperletSpec) -> np.ndarray:
    """Amplitudes [frequencies] in the middle of sixteen seconds of a cosine of amplitude 1."""
    samples = int(16 * rate) // spec.decimation * spec.decimation
    cosine = np.cos(2 * np.pi * hz * np.arange(samples) / rate + 0.3)
    rows = superlet_transform(cosine.astype(np.float32), rate, spec)
    return rows[:, rows.shape[-1] // 2].double().numpy()


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (4, [0.500000, 0.492730, 0.450541]),  # 20.6026 Hz
        (19, [0.500000, 0.462903, 0.288996]),  # 97.4872 Hz
        (30, [0.500000, 0.428016, 0.165538]),  # 153.8692 Hz
    ],
)
def test_cosine_at_and_beside_a_frequency(row: int, expected: list[float]) -> None:
    hz = BRAINBERT.frequencies_hz[row]
    for detuning, amplitude in zip([1.0, 1.03, 1.08], expected, strict=True):
        found = middle_of_a_cosine(detuning * hz, RATE, BRAINBERT)[row]
        assert found == pytest.approx(amplitude, abs=1e-6)


@pytest.mark.parametrize("spec", [BRAINBERT, SuperletSpec.brainbert_defaults_50()])
def test_cosine_follows_its_formula_at_all_frequencies(spec: SuperletSpec) -> None:
    hz = 63.0
    found = middle_of_a_cosine(hz, 1024, spec)
    for row, centre in enumerate(spec.frequencies_hz):
        spread = sum(weight * cycles**2 for cycles, weight in members(spec, centre))
        expected = 0.5 * np.exp(-2 * np.pi**2 * (hz / centre - 1) ** 2 / 25 * spread)
        if expected > 1e-3:  # below, leakage from negative frequencies and round-off take over
            assert found[row] == pytest.approx(expected, rel=1e-3)


def test_one_cycle_feels_the_negative_frequency() -> None:
    spec = SuperletSpec(
        minimum_hz=20.0, maximum_hz=20.0, n_frequencies=1, order_min=1, order_max=1, decimation=8
    )
    seconds = np.arange(4096) / 512
    found = superlet_transform(np.cos(2 * np.pi * 20 * seconds), 512, spec)[0, 200:300].numpy()
    # The two halves of the cosine meet the wavelet's spectrum at its peak and 40 Hz below it.
    leak = np.exp(-2 * np.pi**2 * (1 / (5 * 20)) ** 2 * 40**2)
    positive = np.exp(2j * np.pi * 20 * seconds[1600:2400:8])
    np.testing.assert_allclose(found, np.abs(positive + leak * positive.conj()) / 2, rtol=1e-12)
    assert np.ptp(found) > 1e-3


@pytest.mark.parametrize(("cycles", "response"), [(1, 0.4540), (2, 0.0425), (3, 8.2e-4)])
def test_offset_leaks_into_short_wavelets(cycles: int, response: float) -> None:
    spec = SuperletSpec(
        minimum_hz=10.0,
        maximum_hz=20.0,
        n_frequencies=2,
        order_min=cycles,
        order_max=cycles,
        decimation=64,
    )
    rows = superlet_transform(np.full(4096, -7.0), 1024, spec)
    assert rows[:, 32].numpy() / 7 == pytest.approx(response, rel=2e-3)
    assert rows[:, 32].numpy() / 7 == pytest.approx(np.exp(-2 * np.pi**2 * cycles**2 / 25))


def test_unit_impulse() -> None:
    spec = dataclasses.replace(BRAINBERT, decimation=10)
    impulse = np.zeros(8200, dtype=np.float32)
    impulse[4100] = 1.0
    row = superlet_transform(impulse, RATE, spec)[19]
    found = row[[410, 411, 412, 414]].numpy()
    assert found == pytest.approx([0.0110729, 0.0103552, 0.0084693, 0.0037897], abs=1e-7)
    assert row[[409, 408, 406]].numpy() == pytest.approx(found[1:], rel=1e-5)


# --- What has to hold for any signal --------------------------------------------------------------


@pytest.mark.parametrize("factor", [-1.0, 2e-5, 1e-12, 3e7])
def test_amplitude_scales_with_the_signal_and_the_spectrogram_does_not(factor: float) -> None:
    signal = torch.from_numpy(noise(4100))
    amplitude = superlet_transform(signal, RATE, BRAINBERT)
    scaled = superlet_transform((factor * signal).float(), RATE, BRAINBERT).double()
    torch.testing.assert_close(scaled / abs(factor), amplitude, rtol=2e-5, atol=1e-7)
    frames = spectrogram(signal, RATE, BRAINBERT)
    assert frames.dtype == torch.float32
    torch.testing.assert_close(
        spectrogram(factor * signal, RATE, BRAINBERT), frames, rtol=0, atol=1e-3
    )


def test_zeros_stay_zeros() -> None:
    signal = np.zeros((3, 8200), dtype=np.float32)
    signal[1] = noise(8200)
    amplitude = superlet_transform(signal, RATE, BRAINBERT)
    frames = spectrogram(signal, RATE, BRAINBERT)
    for silent in (0, 2):
        assert (amplitude[silent] == 0).all()
        assert (frames[silent] == 0).all()
    assert amplitude[1].min() > 0
    assert torch.isfinite(frames).all()


def test_nan_marks_its_channel_and_no_other() -> None:
    signal = np.stack([noise(4100), noise(4100, seed=1)])
    clean = spectrogram(signal[1], RATE, BRAINBERT)
    signal[0, 17] = np.nan
    frames = spectrogram(signal, RATE, BRAINBERT)
    assert frames[0].isnan().all()
    torch.testing.assert_close(frames[1], clean, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("samples", "frames"), [(8200, 154), (10_240, 195), (6144, 113)])
def test_shapes_of_brainbert(samples: int, frames: int) -> None:
    signal = noise(samples)
    assert BRAINBERT.n_frames(samples) == frames
    assert spectrogram(signal, RATE, BRAINBERT).shape == (40, frames)
    assert superlet_transform(signal, RATE, BRAINBERT).shape == (40, frames + 10)


def test_leading_axes_are_kept() -> None:
    signal = noise(2 * 3 * 1500).reshape(2, 3, 1500)
    together = superlet_transform(signal, RATE, BRAINBERT)
    assert together.shape == (2, 3, 40, 30)
    alone = superlet_transform(signal[1, 2], RATE, BRAINBERT)
    torch.testing.assert_close(together[1, 2], alone)
    assert superlet_transform(signal[:, :0], RATE, BRAINBERT).shape == (2, 0, 40, 30)


def test_blocks_of_channels_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    signal = torch.from_numpy(noise(10 * 2000).reshape(10, 2000)).float()
    at_once = superlet_transform(signal, RATE, BRAINBERT)
    for size in (1, 4, 7):
        monkeypatch.setattr(superlets, "MAX_CHANNELS", size)
        torch.testing.assert_close(superlet_transform(signal, RATE, BRAINBERT), at_once)
    monkeypatch.setattr(superlets, "MAX_VALUES", 1)  # as for a very long signal
    torch.testing.assert_close(superlet_transform(signal, RATE, BRAINBERT), at_once)


@pytest.mark.parametrize(
    "convert",
    [
        lambda array: array[:, ::-1][:, ::-1],
        lambda array: np.broadcast_to(array[0], (3, 2000)),
        lambda array: torch.from_numpy(array).t().contiguous().t(),
        lambda array: (100 * array).astype(np.int16),
        lambda array: torch.from_numpy(array).requires_grad_(),
    ],
    ids=["reversed view", "read-only", "strided", "integers", "with gradient"],
)
def test_any_real_array_will_do(
    convert: Callable[[np.ndarray], np.ndarray | torch.Tensor],
) -> None:
    signal = convert(noise(2 * 2000).reshape(2, 2000))
    expected = superlet_transform(np.array(signal.tolist(), dtype=np.float64), RATE, BRAINBERT)
    found = superlet_transform(signal, RATE, BRAINBERT)
    integers = "int16" in str(signal.dtype)
    assert found.dtype == (torch.float32 if integers else torch.float64)
    assert not found.requires_grad
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-6)


def test_reduced_precision_of_products_is_not_inherited() -> None:
    signal = torch.from_numpy(noise(8200)).float()
    expected = superlet_transform(signal, RATE, BRAINBERT)
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = superlet_transform(signal, RATE, BRAINBERT)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    torch.testing.assert_close(found, expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees_with_cpu() -> None:
    signal = torch.from_numpy(noise(3 * 8200).reshape(3, 8200)).float()
    found = superlet_transform(signal.cuda(), RATE, BRAINBERT)
    assert found.device.type == "cuda"
    torch.testing.assert_close(
        found.cpu(), superlet_transform(signal, RATE, BRAINBERT), rtol=2e-5, atol=1e-7
    )


# --- The spectrogram's layout ---------------------------------------------------------------------


def test_spectrogram_is_the_clipped_z_scored_transform() -> None:
    signal = noise(2 * 8200).reshape(2, 8200)
    amplitude = superlet_transform(signal, RATE, BRAINBERT).numpy()[..., 5:-5]
    expected = amplitude - amplitude.mean(-1, keepdims=True)
    expected /= amplitude.std(-1, ddof=0, keepdims=True)
    found = spectrogram(signal, RATE, BRAINBERT)
    np.testing.assert_allclose(found, expected, atol=2e-3)  # the 0.1 Hz row hardly varies
    np.testing.assert_allclose(found[:, 1:], expected[:, 1:], atol=1e-4)


def test_spectrogram_without_normalisation_or_clipping_is_the_transform() -> None:
    spec = dataclasses.replace(BRAINBERT, edge_clip=0, normalisation="none")
    signal = noise(3000).astype(np.float32)
    found = spectrogram(signal, RATE, spec)
    assert torch.equal(found, superlet_transform(signal, RATE, spec))
    assert found.is_contiguous()


def test_a_single_frame_does_not_vary() -> None:
    assert (spectrogram(noise(550), RATE, BRAINBERT) == 0).all()


def test_wavelets_of_brainbert() -> None:
    by_set = {
        order_set: [
            dataclasses.replace(BRAINBERT, order_set=order_set).wavelets(row) for row in range(40)
        ]
        for order_set in ("brainbert", "authors")
    }
    assert sum(len(cycles) for cycles, _ in by_set["brainbert"]) == 598
    assert sum(len(cycles) for cycles, _ in by_set["authors"]) == 678
    cycles, weights = by_set["brainbert"][1]  # order 3 + 27 / 39
    np.testing.assert_array_equal(cycles, [3, 4])
    np.testing.assert_allclose(weights, [39 / 66, 27 / 66])
    np.testing.assert_array_equal(by_set["authors"][0][0], [1, 2, 3])
    np.testing.assert_array_equal(by_set["brainbert"][39][0], np.arange(3, 31))
    assert all(weights.sum() == pytest.approx(1) for _, weights in by_set["authors"])


def test_frequencies_are_linear() -> None:
    found = BRAINBERT.frequencies_hz
    assert found.dtype == np.float64
    assert found[[0, 1, 4, 19, -1]] == pytest.approx([0.1, 5.2256, 20.6026, 97.4872, 200], abs=1e-4)


# --- Errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("minimum_hz", 0.0, "minimum_hz must be a finite number above 0, got 0.0"),
        ("maximum_hz", math.inf, "maximum_hz must be a finite number above 0, got inf"),
        ("base_cycles", -1.0, "base_cycles must be a finite number above 0, got -1.0"),
        ("n_frequencies", 0, "n_frequencies must be a whole number of at least 1, got 0"),
        ("order_min", 2.5, "order_min must be a whole number of at least 1, got 2.5"),
        ("order_max", 2, "order_max must be a whole number of at least 3, got 2"),
        ("decimation", 0, "decimation must be a whole number of at least 1, got 0"),
        ("edge_clip", -1, "edge_clip must be a whole number of at least 0, got -1"),
        ("order_set", "tinkered", "order_set must be one of brainbert, authors, got 'tinkered'"),
        ("normalisation", "z", "normalisation must be one of per_frequency, none, got 'z'"),
        ("maximum_hz", 0.05, "maximum_hz must be above minimum_hz, got 0.1 to 0.05 Hz"),
        ("n_frequencies", 1, "one frequency cannot span 0.1 to 200 Hz"),
    ],
)
def test_spec_refuses(field: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(BRAINBERT, **{field: value})


def test_frequencies_must_stay_below_half_the_rate() -> None:
    with pytest.raises(ValueError, match=r"got 200 Hz at 400 samples per second .*200 Hz"):
        superlet_transform(noise(1000), 400, BRAINBERT)
    with pytest.raises(ValueError, match="sampling_rate_hz must be a finite number above 0"):
        superlet_transform(noise(1000), 0, BRAINBERT)


def test_clipping_must_leave_a_frame() -> None:
    message = (
        r"edge_clip 5 leaves no frame of a signal of 500 samples \(10 frames at decimation 50\)"
    )
    with pytest.raises(ValueError, match=message):
        spectrogram(noise(500), RATE, BRAINBERT)
    assert BRAINBERT.n_frames(500) == 0
    assert BRAINBERT.n_frames(100) == 0


@pytest.mark.parametrize(
    "signal", [np.zeros((2, 0)), np.array(1.0), np.zeros(10, dtype=np.complex64)]
)
def test_signal_must_be_real_samples(signal: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"signal must be real, \[\.\.\., samples\]"):
        superlet_transform(signal, RATE, BRAINBERT)
