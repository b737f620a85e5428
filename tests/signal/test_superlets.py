from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssense.signal import folding, superlets
from ssense.signal.features import features
from ssense.signal.frames import Normalisation
from ssense.signal.superlets import SuperletSpec, superlet_transform

BRAINBERT = SuperletSpec.brainbert()
RATE = 2048


# --- The definition, evaluated sum by sum ---------------------------------------------------------


def members(spec: SuperletSpec, hz: float) -> list[tuple[float, float]]:
    """(cycles, weight) of each wavelet at one frequency; weights sum to 1."""
    span = spec.maximum_hz - spec.minimum_hz
    rise = (hz - spec.minimum_hz) / span if span else 0.0
    order = spec.order_min + (spec.order_max - spec.order_min) * rise
    whole = math.floor(order + 1e-9)
    first = math.floor(spec.order_min) if spec.order_set == "brainbert" else 1
    raw = [(k, 1.0) for k in range(first, whole + 1)] + [(whole + 1, max(0.0, order - whole))]
    root = sum(weight for _, weight in raw)
    c1, additive = spec.base_cycles, spec.cycle_rule == "additive"
    return [(c1 + k - 1 if additive else c1 * k, weight / root) for k, weight in raw]


def defined_row(signal: np.ndarray, rate: float, spec: SuperletSpec, hz: float) -> np.ndarray:
    # A wavelet's value depends on the lag alone: each is computed once, and the sum is direct.
    seconds = np.arange(1 - len(signal), len(signal)) / rate
    carrier = np.exp(2j * np.pi * hz * seconds)
    logarithm = np.zeros(math.ceil(len(signal) / spec.decimation))
    for cycles, weight in members(spec, hz):
        sd = cycles / (5 * hz)
        gaussian = np.exp(-(seconds**2) / (2 * sd**2)) / (sd * np.sqrt(2 * np.pi))
        at_lags = np.lib.stride_tricks.sliding_window_view(gaussian * carrier, len(signal))
        products = at_lags[:: spec.decimation] * signal[::-1]
        logarithm += weight * np.log(np.abs(np.sum(products, axis=1)) / rate)
    return np.exp(logarithm)


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
        assert np.linalg.norm(single[row] - expected) < 1e-5 * size, f"row {row}, {hz:g} Hz"
        assert np.linalg.norm(double[row] - expected) < 1e-12 * size, f"row {row}, {hz:g} Hz"


def exact(signal: np.ndarray) -> np.ndarray:
    """Exactly representable in single precision, so that both precisions see one signal."""
    return signal.astype(np.float32).astype(np.float64)


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return exact(np.random.default_rng(seed).standard_normal(samples))


def field_potential(
    samples: int,
    rate: float,
    seed: int,
    *,
    offset: float = 0.0,
    line: float = 0.0,
    line_hz: float = 60.0,
) -> np.ndarray:
    """Noise whose power falls as 1 / f, of sd 1, with an offset and power-line hum added."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft(rng.standard_normal(2 * samples))
    pink = np.fft.irfft(spectrum / np.sqrt(np.arange(len(spectrum)) + 1.0))[:samples]
    hum = np.sin(2 * np.pi * line_hz * np.arange(samples) / rate + 1)
    return exact(pink / np.sqrt(np.mean(pink**2)) + offset + line * hum)


@pytest.mark.parametrize("order_set", ["brainbert", "authors"])
def test_matches_the_definition(order_set: superlets.OrderSet) -> None:
    spec = dataclasses.replace(BRAINBERT, order_set=order_set)
    assert_rows_match(noise(8200), RATE, spec, [0, 1, 2, 12, 39])


def test_matches_the_definition_for_drifting_microvolts() -> None:
    rng = np.random.default_rng(1)
    drift = exact(500 + np.cumsum(rng.standard_normal(8200)))  # power falls as 1 / f²
    assert_rows_match(drift, RATE, BRAINBERT, [0, 1, 20])


def test_matches_the_definition_beside_a_strong_line() -> None:
    """At 200 Hz the hum is a thousand times above the signal that a wavelet passes."""
    hum = field_potential(8200, RATE, seed=3, offset=30, line=120)
    band = field_potential(8200, RATE, seed=3)
    narrow = SuperletSpec(
        minimum_hz=200, maximum_hz=200, n_frequencies=1, base_cycles=30, order_min=1, order_max=1
    )
    passed = superlet_transform(band, RATE, narrow)[0, 20:-20].square().mean().sqrt()
    assert 1000 * passed < 120 / 2
    assert_rows_match(hum, RATE, BRAINBERT, [0, 1, 10, 11, 12, 13, 23, 39])


def test_matches_the_definition_for_the_other_preset() -> None:
    assert_rows_match(noise(6144), RATE, SuperletSpec.brainbert_defaults_50(), [0, 1, 25, 49])


@pytest.mark.parametrize("order_set", ["brainbert", "authors"])
def test_matches_the_definition_for_fractional_orders(order_set: superlets.OrderSet) -> None:
    spec = dataclasses.replace(
        BRAINBERT, n_frequencies=10, order_min=1.5, order_max=10.5, order_set=order_set
    )
    assert_rows_match(noise(4000), RATE, spec, range(10))


@pytest.mark.slow
@pytest.mark.parametrize("rate", [1024, 2048])
def test_matches_the_definition_in_every_row(rate: float) -> None:
    assert_rows_match(noise(8200, seed=2), rate, BRAINBERT, range(40))
    hum = field_potential(8200, rate, seed=4, offset=-100, line=300)
    assert_rows_match(hum, rate, BRAINBERT, range(40))


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
def cases(draw: st.DrawFn) -> tuple[float, SuperletSpec]:
    rate = draw(st.sampled_from([100.0, 256.0, 999.5, 1024.0, 2048.0]))
    low = draw(st.floats(0.005, 0.2)) * rate
    high = draw(st.floats(low / rate + 0.01, 0.49)) * rate
    six_decimals = st.floats(1, 6).map(lambda order: round(order, 6))
    orders = st.one_of(st.integers(1, 6), six_decimals, st.sampled_from([1.1, 2.5, 10 / 3]))
    order_min, order_max = sorted([draw(orders), draw(orders)])
    spec = SuperletSpec(
        minimum_hz=low,
        maximum_hz=high,
        n_frequencies=draw(st.integers(2, 8)),
        base_cycles=draw(st.sampled_from([1.0, 1.5, 3.0])),
        cycle_rule=draw(st.sampled_from(["multiplicative", "additive"])),
        order_min=order_min,
        order_max=order_max,
        order_set=draw(st.sampled_from(["brainbert", "authors"])),
        decimation=draw(st.integers(1, 60)),
    )
    return rate, spec


@st.composite
def signals(draw: st.DrawFn, rate: float) -> np.ndarray:
    samples = draw(st.one_of(st.integers(1, 12), st.integers(1, 700), st.integers(700, 3000)))
    seed = draw(st.integers(0, 2**32 - 1))
    if draw(st.booleans()):
        return noise(samples, seed)
    offset, line = draw(st.floats(-100, 100)), draw(st.floats(0, 100))
    line_hz = draw(st.floats(0.01, 0.49)) * rate
    return field_potential(samples, rate, seed, offset=offset, line=line, line_hz=line_hz)


@settings(max_examples=150, derandomize=True)
@given(data=st.data(), case=cases())
def test_matches_the_definition_whatever_the_sizes(
    data: st.DataObject, case: tuple[float, SuperletSpec]
) -> None:
    rate, spec = case
    assert_rows_match(data.draw(signals(rate)), rate, spec, range(spec.n_frequencies))


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
    frames = features(signal, RATE, BRAINBERT)
    assert frames.dtype == torch.float32
    torch.testing.assert_close(
        features(factor * signal, RATE, BRAINBERT), frames, rtol=0, atol=1e-3
    )


def test_zeros_stay_zeros() -> None:
    signal = np.zeros((3, 8200), dtype=np.float32)
    signal[1] = noise(8200)
    amplitude = superlet_transform(signal, RATE, BRAINBERT)
    frames = features(signal, RATE, BRAINBERT)
    for silent in (0, 2):
        assert (amplitude[silent] == 0).all()
        assert (frames[silent] == 0).all()
    assert amplitude[1].min() > 0
    assert torch.isfinite(frames).all()


def test_nan_marks_its_channel_and_no_other() -> None:
    signal = np.stack([noise(4100), noise(4100, seed=1)])
    clean = features(signal[1], RATE, BRAINBERT)
    signal[0, 17] = np.nan
    frames = features(signal, RATE, BRAINBERT)
    assert frames[0].isnan().all()
    torch.testing.assert_close(frames[1], clean, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("samples", "frames"), [(8200, 154), (10_240, 195), (6144, 113)])
def test_shapes_of_brainbert(samples: int, frames: int) -> None:
    signal = noise(samples)
    assert BRAINBERT.n_frames(samples) == frames
    assert features(signal, RATE, BRAINBERT).shape == (40, frames)
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
        monkeypatch.setattr(folding, "MAX_CHANNELS", size)
        torch.testing.assert_close(superlet_transform(signal, RATE, BRAINBERT), at_once)
    monkeypatch.setattr(folding, "MAX_VALUES", 1)  # as for a very long signal
    torch.testing.assert_close(superlet_transform(signal, RATE, BRAINBERT), at_once)


MEMORY_OF_MANY_CHANNELS = """
import resource
import sys
import torch
from ssense.signal import superlets
from ssense.signal.features import features

def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

torch.set_num_threads(1)
transform = getattr(superlets, sys.argv[1], features)
signal = torch.randn(1024, 8200)
transform(signal[:64], 2048, superlets.SuperletSpec.brainbert())
before = peak()
result = transform(signal, 2048, superlets.SuperletSpec.brainbert())
print(peak() - before - result.nbytes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory as Linux tells it")
@pytest.mark.parametrize("transform", ["superlet_transform", "features"])
def test_memory_does_not_grow_with_channels(transform: str) -> None:
    """All 1024 channels at once would take 300 MB."""
    command = [sys.executable, "-c", MEMORY_OF_MANY_CHANNELS, transform]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert int(output) < 60 * 2**20


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
    found = features(signal, RATE, BRAINBERT)
    np.testing.assert_allclose(found, expected, atol=2e-3)  # the 0.1 Hz row hardly varies
    np.testing.assert_allclose(found[:, 1:], expected[:, 1:], atol=1e-4)


def test_spectrogram_without_normalisation_or_clipping_is_the_transform() -> None:
    spec = dataclasses.replace(BRAINBERT, edge_clip=0, normalisation="none")
    signal = noise(3000).astype(np.float32)
    found = features(signal, RATE, spec)
    assert torch.equal(found, superlet_transform(signal, RATE, spec))
    assert found.is_contiguous()


def test_a_single_frame_does_not_vary() -> None:
    assert (features(noise(550), RATE, BRAINBERT) == 0).all()


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


def test_whole_orders_take_the_integer_way() -> None:
    """divmod of whole numbers, as orders were computed before they could be fractional."""
    for order_min, order_max, n in ((3, 30, 40), (2, 12, 50), (1, 7, 7), (4, 4, 3)):
        spec = dataclasses.replace(
            BRAINBERT, order_min=order_min, order_max=order_max, n_frequencies=n
        )
        for row in range(n):
            rise, remainder = divmod((order_max - order_min) * row, n - 1)
            numbers = np.arange(order_min, order_min + rise + 1 + (remainder > 0))
            weights = np.ones(len(numbers))
            weights[-1] = remainder / (n - 1) if remainder else 1
            cycles, found = spec.wavelets(row)
            np.testing.assert_array_equal(cycles, numbers)
            np.testing.assert_array_equal(found, weights / weights.sum())
            assert spec.wavelets(row)[0].tolist() == (
                dataclasses.replace(spec, order_max=float(order_max)).wavelets(row)[0].tolist()
            )


@pytest.mark.parametrize(
    ("order_min", "order_max", "n", "row", "cycles", "weights"),
    [
        (1.5, 10.5, 10, 0, [1, 2], [1 / 1.5, 0.5 / 1.5]),
        (1.5, 10.5, 10, 9, range(1, 12), [1 / 10.5] * 10 + [0.5 / 10.5]),
        (1.1, 4.1, 31, 9, [1, 2], [0.5, 0.5]),  # order 2; in floats 1.1 + 0.9 is 2.0000000000000004
        (10 / 3, 13 / 3, 4, 2, [3, 4], [0.5, 0.5]),
        (2.5, 2.5, 3, 1, [2, 3], [1 / 1.5, 0.5 / 1.5]),
    ],
)
def test_wavelets_of_fractional_orders(
    order_min: float, order_max: float, n: int, row: int, cycles: list[int], weights: list[float]
) -> None:
    spec = dataclasses.replace(BRAINBERT, order_min=order_min, order_max=order_max, n_frequencies=n)
    found, shares = spec.wavelets(row)
    np.testing.assert_array_equal(found, cycles)
    np.testing.assert_allclose(shares, weights, rtol=1e-12)


def test_additive_cycles_grow_by_one() -> None:
    spec = dataclasses.replace(BRAINBERT, base_cycles=2.5, cycle_rule="additive", order_max=6)
    cycles, weights = spec.wavelets(39)
    np.testing.assert_array_equal(cycles, [4.5, 5.5, 6.5, 7.5])  # k = 3 ... 6
    np.testing.assert_allclose(weights, 1 / 4)


# --- Padding --------------------------------------------------------------------------------------

PADDABLE = SuperletSpec(minimum_hz=8, n_frequencies=6, order_max=8, edge_clip=3)
MASKED = dataclasses.replace(PADDABLE, pad_domain="raw_masked")
PADDED_LATER = dataclasses.replace(PADDABLE, pad_domain="spec")


def padded(lengths: list[int], samples: int, seed: int = 0) -> np.ndarray:
    signal = np.zeros((len(lengths), samples))
    for row, length in zip(signal, lengths, strict=True):
        row[:length] = 3 + noise(length, seed)
    return signal


@settings(max_examples=30, derandomize=True)
@given(
    lengths=st.lists(st.integers(0, 3000), min_size=1, max_size=3),
    extra=st.integers(0, 400),
    normalisation=st.sampled_from(["per_frequency", "none"]),
    decimation=st.sampled_from([1, 7, 50]),
)
def test_padding_the_spectrogram_is_transforming_each_signal_alone(
    lengths: list[int], extra: int, normalisation: Normalisation, decimation: int
) -> None:
    spec = dataclasses.replace(PADDED_LATER, normalisation=normalisation, decimation=decimation)
    signal = padded(lengths, max(400, *lengths) + extra)
    found = features(signal, RATE, spec, lengths).numpy()
    assert found.shape == (len(lengths), 6, spec.n_frames(signal.shape[-1]))
    for row, length in enumerate(lengths):
        own = spec.n_frames(length)
        assert (found[row, :, own:] == 0).all()
        if own:
            alone = features(signal[row, :length], RATE, spec)
            np.testing.assert_allclose(found[row, :, :own], alone, atol=3e-4)


@settings(max_examples=30, derandomize=True)
@given(lengths=st.lists(st.integers(0, 3000), min_size=1, max_size=3), extra=st.integers(0, 400))
def test_masked_statistics_are_those_of_the_frames_before_the_padding(
    lengths: list[int], extra: int
) -> None:
    signal = padded(lengths, max(400, *lengths) + extra)
    amplitude = superlet_transform(signal, RATE, MASKED).numpy()
    found = features(signal, RATE, MASKED, lengths).numpy()
    for row, length in enumerate(lengths):
        own = amplitude[row, :, : math.ceil(length / 50)]  # frames 0, 50, ... below length
        own = own[:, 3 : amplitude.shape[-1] - 3]
        if own.shape[-1] < 2:  # no frame has no mean, one has no sd
            assert (found[row] == 0).all()
            continue
        mean, sd = own.mean(-1, keepdims=True), own.std(-1, keepdims=True)
        np.testing.assert_allclose(
            found[row], (amplitude[row, :, 3:-3] - mean) / sd, rtol=1e-3, atol=1e-3 * np.max(1 / sd)
        )


def test_padding_is_signal_unless_told_otherwise() -> None:
    signal = padded([900, 2000], 2500)
    expected = features(signal, RATE, PADDABLE)
    assert torch.equal(features(signal, RATE, PADDABLE, [900, 2000]), expected)
    for spec in (MASKED, PADDED_LATER):
        assert torch.equal(features(signal, RATE, spec), expected)  # None: nothing is padding
        assert torch.equal(features(signal, RATE, spec, [2500, 2500]), expected)
        assert not torch.equal(features(signal, RATE, spec, [900, 2000]), expected)


def test_masking_needs_a_z_score() -> None:
    signal = padded([900, 2000], 2500)
    raw, masked = (dataclasses.replace(spec, normalisation="none") for spec in (PADDABLE, MASKED))
    assert torch.equal(features(signal, RATE, masked, [900, 2000]), features(signal, RATE, raw))


def test_one_signal_has_one_length() -> None:
    signal = padded([900], 2500)
    found = features(signal[0], RATE, PADDED_LATER, 900)
    torch.testing.assert_close(found, features(signal, RATE, PADDED_LATER, [900])[0])


@pytest.mark.parametrize("convert", [list, np.array, torch.tensor, np.uint16])
def test_lengths_of_sentences_hold_for_all_their_electrodes(convert: Callable) -> None:
    signal = np.stack([padded([n] * 4, 2500, seed=n) for n in (900, 2000)])  # [2, 4, 2500]
    found = features(signal, RATE, PADDED_LATER, convert([[900], [2000]]))
    for sentence, length in enumerate((900, 2000)):
        alone = features(signal[sentence], RATE, PADDED_LATER, [length] * 4)
        torch.testing.assert_close(found[sentence], alone, rtol=0, atol=1e-4)


# --- Errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("minimum_hz", 0.0, "minimum_hz must be a finite number above 0, got 0.0"),
        ("maximum_hz", math.inf, "maximum_hz must be a finite number above 0, got inf"),
        ("base_cycles", -1.0, "base_cycles must be a finite number above 0, got -1.0"),
        ("n_frequencies", 0, "n_frequencies must be a whole number of at least 1, got 0"),
        ("order_min", 0.5, "order_min must be a number of at least 1, got 0.5"),
        ("order_min", "3", "order_min must be a number of at least 1, got '3'"),
        ("order_min", True, "order_min must be a number of at least 1, got True"),
        ("order_max", 2.5, "order_max must be a number of at least 3, got 2.5"),
        ("order_max", math.inf, "order_max must be a number of at least 3, got inf"),
        ("decimation", 0, "decimation must be a whole number of at least 1, got 0"),
        ("edge_clip", -1, "edge_clip must be a whole number of at least 0, got -1"),
        ("order_set", "tinkered", "order_set must be one of brainbert, authors, got 'tinkered'"),
        ("cycle_rule", "sum", "cycle_rule must be one of multiplicative, additive, got 'sum'"),
        ("normalisation", "z", "normalisation must be one of per_frequency, none, log, got 'z'"),
        ("pad_domain", "time", "pad_domain must be one of raw, raw_masked, spec, got 'time'"),
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
        features(noise(500), RATE, BRAINBERT)
    assert BRAINBERT.n_frames(500) == 0
    assert BRAINBERT.n_frames(100) == 0


@pytest.mark.parametrize(
    "signal", [np.zeros((2, 0)), np.array(1.0), np.zeros(10, dtype=np.complex64)]
)
def test_signal_must_be_real_samples(signal: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"signal must be real, \[\.\.\., samples\]"):
        superlet_transform(signal, RATE, BRAINBERT)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([1000, 2001], "lengths must be from 0 to the signal's 2000 samples, got 1000 to 2001"),
        ([-1, 2000], "lengths must be from 0 to the signal's 2000 samples, got -1 to 2000"),
        ([1000.0, 2000.0], r"lengths must be whole numbers, got torch.float32"),
        ([1000] * 3, r"broadcasts to \[2\], the signal's without its samples, got \[3\]"),
    ],
)
def test_lengths_must_fit_the_signal(lengths: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        features(np.zeros((2, 2000)), RATE, MASKED, lengths)
