"""What is wrong with the signals of a recording, found without reading all of them.

Every channel is looked at in `PROBES` stretches spread over the movie, and up to `REFERENCES`
channels throughout, to find where the recording as a whole has no signal. A stretch that hardly
changes counts as without signal, and so does one in which the last bit of the converter toggles:
noise alone makes the samples of a living channel differ. It makes those of two channels differ too:
a channel that is another one times a factor, plus an offset, is a copy. And it can't be predicted:
what a drift and a sine describe to the last bit is no brain. Single samples far off both their
neighbours are set aside first, so that nothing hides behind them.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ssense.signal.referencing import Derivation

CONSTANT = "constant"
IDENTICAL = "identical to another"
COPIED = "a copy of another but for offset and factor"
MAINS = "nothing but the mains"
TONE = "nothing but a tone"
DRIFT = "nothing but a drift or hum"
IMPULSES = "mostly impulses"
CLIPPED = "clipped"
SILENT = "mostly without signal"
NO_VOLTAGE = "NaN or beyond a kilovolt"
OUT_OF_SCALE = "out of scale with the others"
BY_SIGNAL = (
    CONSTANT,
    SILENT,
    IMPULSES,
    IDENTICAL,
    COPIED,
    MAINS,
    TONE,
    DRIFT,
    CLIPPED,
    NO_VOLTAGE,
    OUT_OF_SCALE,
)

PROBES = 32
PROBE_S = 1.0
REFERENCES = 16
CELL_S = 0.25  # a signal that hardly changes for so long does not count
FLAT_STEPS = 2.0  # steps of the converter, peak to peak, that are hardly a change
FLAT_SHARE = 0.02  # share of a channel's usual change in a cell, peak to peak, that hardly is one
ROUNDING = 1e-6  # share of a range; a converter's step is at least a hundred-thousandth of it
SKETCH = 4096  # samples of a channel that are compared with those of others
COPY_ERROR = 1e-3  # standard deviations, by rounding; the noise of amplifiers is far larger
# Amplifiers' noise is microvolts, and mains or a contact's own signal tenths of a millivolt: less
# than this share of it is rounding, which z-scoring would blow up.
NOTHING_LEFT = 1e-3
LINES_HZ = (50.0, 60.0)
OFF_LINE_HZ = 1.0  # generators and clocks stray so far; grids stray 0.2 Hz at most
HARMONICS_HZ = 1000.0  # rectifiers reach so far
LOWEST_TONE_HZ = 4.0  # slower ones are drifts, in stretches of a second
TONE_SHARE = 0.9  # share of a channel's stretches
NEARLY = 0.05  # share left over where a first estimate of the frequency is a good one
REFINEMENTS = 4  # of a frequency; each squares the error
ROUNDED = 1.2 / 12**0.5  # steps of the converter: what rounding leaves, and a fifth more
IMPULSE = 20.0  # standard deviations within a cell; spikes of epilepsy last many samples
# Where most samples are equal there is no such deviation, but one that the impulses make: n in a
# hundred make one of sqrt(n) tenths of their height.
LONE_IMPULSE = 2.0
GAP_S = 0.05  # so long a run of equal samples is a gap, also within a cell
LEAST_GAP = 16  # samples
LEAST_CELL = 32  # samples: at low rates a few equal ones are chance
DEAD_SHARE = 0.5  # share of the channels looked at, or of a channel's cells
CLIPPED_SHARE = (
    0.01  # share of the samples at a channel's own extremes; hardly any in Gaussian signals
)
LARGEST_UV = 1e9  # a kilovolt: no amplifier gives more, and single precision can still square it
NOTABLE_SHARE = 0.05  # share of a channel's time without signal
# Contacts of one brain differ about ten times either way (5 µV in white matter, 500 where there are
# spikes); units differ a thousand times. This lies ten times off either.
OUT_OF_SCALE_FACTOR = 100.0
USUAL_SPREAD_UV = 50.0  # decides between two halves of a recording that differ

_BLOCK_SAMPLES = 2**22  # samples of one channel in memory at a time

Read = Callable[[str, Sequence[tuple[int, int]]], list[np.ndarray]]
"""Reader of stretches [start, stop) of an electrode: arrays [stop - start], microvolts."""


@dataclass(frozen=True, eq=False)
class SignalQuality:
    """Results of the look at the signals.

    Attributes:
        left_out: Reason why an electrode is of no use, by name.
        dead: Stretches [start, stop) in which the recording has no signal, int64 [stretches, 2],
            within the movie and in order.
        flat_share: Share of the other time that an electrode is without signal, where notable.
        impulses: Impulses a minute of an electrode that has any, in what was read of it.
        spread_uv: Standard deviation of an electrode, median over those that are of use,
            microvolts if the file is in microvolts; NaN where none is.
        sketches: Samples spread over the signal of each electrode, less the mean of each cell,
            float32 [samples].
    """

    left_out: dict[str, str]
    dead: np.ndarray
    flat_share: dict[str, float]
    impulses: dict[str, float]
    spread_uv: float
    sketches: dict[str, np.ndarray]

    def cancelled(self, derived: Sequence[Derivation]) -> frozenset[str]:
        """The contacts of which a reference leaves nothing but rounding.

        So it is where a contact was interpolated from those that are subtracted.

        Args:
            derived: Electrodes, each a contact minus the mean of others.
        """
        means: dict[tuple[str, ...], np.ndarray] = {}
        cancelled = set()
        for each in derived:
            if not (others := each.subtracted):
                continue
            if others not in means:
                means[others] = np.mean([self.sketches[name] for name in others], axis=0)
            sketch = self.sketches[each.contact]
            if _is_nothing(sketch - means[others], sketch):
                cancelled.add(each.contact)
        return frozenset(cancelled)


@dataclass(frozen=True, eq=False)
class _Probe:
    """One channel as its probes show it.

    Attributes:
        flat: Whether it hardly changes in a cell, bool [cells].
        missing: Share of each cell that is without signal, float64 [cells].
        flat_uv: The change that is hardly one, peak to peak.
        impulse_uv: The height that makes a single sample an impulse.
        impulses: Number of impulses in each cell, int64 [cells].
        hidden: Whether it has a signal by its impulses only.
        same: Hash of all samples.
        sketch: Samples spread over each cell, less their mean, float64 [cells, samples].
        predictable: Reason why its samples follow from each other, "" if they do not.
    """

    flat: np.ndarray
    missing: np.ndarray
    flat_uv: float
    impulse_uv: float
    impulses: np.ndarray
    hidden: bool
    same: bytes
    sketch: np.ndarray
    voltage: bool
    constant: bool
    predictable: str
    clipped: bool
    spread_uv: float


def signal_quality(
    read: Read, electrodes: Sequence[str], movie: range, rate_hz: float
) -> SignalQuality:
    """Look at the signals of a recording.

    Args:
        read: Reads stretches of a channel.
        electrodes: Electrodes to look at; of identical ones the first is of use.
        movie: The samples to look at.
        rate_hz: Samples per second.

    Raises:
        UserError: A channel can't be read.
    """
    cell = max(LEAST_CELL, round(CELL_S * rate_hz))
    n_cells = len(movie) // cell
    if not n_cells:
        return SignalQuality({}, np.empty((0, 2), np.int64), {}, {}, np.nan, {})
    cells = _probed_cells(n_cells, max(1, round(PROBE_S * rate_hz / cell)))
    probes = {name: _probe(read, name, movie.start, cell, cells, rate_hz) for name in electrodes}
    references = {name: probes[name] for name in _references(probes)}
    dead, invalid, throughout = _dead_cells(read, references, movie.start, cell, n_cells)
    alive = ~dead[cells]
    copies = _copies(probes, alive)
    left_out: dict[str, str] = {}
    flat_share: dict[str, float] = {}
    seen: set[bytes] = set()
    for name, probe in probes.items():
        share = float(probe.missing[alive].mean()) if alive.any() else 1.0
        if reason := _reason(probe, share, probe.same in seen, name in copies, name in invalid):
            left_out[name] = reason
        elif share > NOTABLE_SHARE:
            flat_share[name] = share
        seen.add(probe.same)
    per_minute = 60 * rate_hz / cell
    impulses = {
        name: float(throughout.get(name, probe.impulses).mean()) * per_minute
        for name, probe in probes.items()
    }
    spread_uv = {name: p.spread_uv for name, p in probes.items() if name not in left_out}
    for name in _out_of_scale(spread_uv):
        left_out[name] = OUT_OF_SCALE
        flat_share.pop(name, None)
        del spread_uv[name]
    spreads = list(spread_uv.values())
    stretches = movie.start + cell * _runs(dead)
    return SignalQuality(
        left_out,
        stretches,
        flat_share,
        {name: n for name, n in impulses.items() if n and name not in left_out},
        float(np.median(spreads)) if spreads else np.nan,
        {
            name: probe.sketch[alive].ravel().astype(np.float32)
            for name, probe in probes.items()
            if name not in left_out
        },
    )


def _reason(probe: _Probe, flat_share: float, seen: bool, copy: bool, invalid: bool) -> str:
    if invalid or not probe.voltage:
        return NO_VOLTAGE
    if probe.constant:
        return CONSTANT
    if flat_share > DEAD_SHARE:
        return IMPULSES if probe.hidden else SILENT
    if (probe.impulses > 0).mean() > DEAD_SHARE:
        return IMPULSES
    if seen:
        return IDENTICAL
    if copy:
        return COPIED
    return probe.predictable or (CLIPPED if probe.clipped else "")


def _out_of_scale(spread_uv: dict[str, float]) -> list[str]:
    """The channels whose standard deviation is absurdly far from the median channel's."""
    if not spread_uv:
        return []
    least = np.finfo(float).tiny
    logs = {name: float(np.log(max(spread, least))) for name, spread in spread_uv.items()}
    ordered = sorted(logs.values())
    # Of the two in the middle the likelier: half of the channels may be in another unit.
    middle = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    usual = min(middle, key=lambda log: abs(log - np.log(USUAL_SPREAD_UV)))
    return [name for name, log in logs.items() if abs(log - usual) > np.log(OUT_OF_SCALE_FACTOR)]


def _probed_cells(n_cells: int, per_probe: int) -> np.ndarray:
    """Numbers of the cells that every channel is looked at in, ascending."""
    starts = np.linspace(0, max(n_cells - per_probe, 0), PROBES).astype(np.int64)
    return np.unique(np.minimum(starts[:, None] + np.arange(per_probe), n_cells - 1))


def _probe(
    read: Read, name: str, start: int, cell: int, cells: np.ndarray, rate_hz: float
) -> _Probe:
    stretches = [(start + a * cell, start + b * cell) for a, b in _runs_of(cells)]
    read_samples = np.concatenate(read(name, stretches)).reshape(-1, cell)
    impulse_uv = _impulse_uv(read_samples)
    impulses = _impulses(read_samples, impulse_uv)
    samples = _without(impulses, read_samples)
    flat_uv = _flat_uv(samples)
    flat = _is_flat(samples, flat_uv)
    varying = samples[~flat].ravel()
    varying = varying[np.abs(varying) <= LARGEST_UV]
    extremes = (varying == varying.max()) | (varying == varying.min()) if len(varying) else varying
    starts = np.flatnonzero(np.diff(cells, prepend=-2) > 1)
    spoilt = flat | impulses.any(axis=1)
    whole = [run for run in np.split(np.arange(len(cells)), starts[1:]) if not spoilt[run].any()]
    return _Probe(
        flat=flat,
        missing=np.where(flat, 1.0, _in_gaps(samples, max(LEAST_GAP, round(GAP_S * rate_hz)))),
        flat_uv=flat_uv,
        impulse_uv=impulse_uv,
        impulses=impulses.sum(axis=1),
        hidden=bool(
            impulses.any() and _is_flat(read_samples, _flat_uv(read_samples)).mean() <= DEAD_SHARE
        ),
        same=hashlib.sha256(read_samples.tobytes()).digest(),
        sketch=_sketch(read_samples),
        voltage=_is_voltage(read_samples),
        constant=bool(read_samples.min() == read_samples.max()),
        predictable=_predictable([samples[run].ravel() for run in whole], rate_hz),
        clipped=bool(len(varying) and extremes.mean() > CLIPPED_SHARE),
        spread_uv=_spread(varying),
    )


def _impulse_uv(samples: np.ndarray) -> float:
    """The height above its neighbours that makes a sample of cells [cells, samples] an impulse."""
    with np.errstate(invalid="ignore", over="ignore"):  # infinity less infinity; damaged files
        around = samples - np.median(samples, axis=1, keepdims=True).astype(np.float64)
        usual_uv = 1.4826 * float(np.median(np.abs(around)))
        return IMPULSE * usual_uv if usual_uv else LONE_IMPULSE * float(np.std(around))


def _impulses(samples: np.ndarray, impulse_uv: float) -> np.ndarray:
    """Which samples [cells, samples] stand alone, bool: far off both neighbours, which are alike.

    The first and the last of a cell have one neighbour only, and are none.
    """
    alone = np.zeros(samples.shape, bool)
    before, after = samples[:, :-2], samples[:, 2:]
    with np.errstate(invalid="ignore", over="ignore"):
        height_uv = np.abs(samples[:, 1:-1] - (before + after) / 2)
        alone[:, 1:-1] = (height_uv > impulse_uv) & (np.abs(after - before) < height_uv)
    return alone


def _without(impulses: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """The samples [cells, samples] with the one before in place of each impulse."""
    if not impulses.any():
        return samples
    kept = np.where(impulses, 0, np.arange(samples.shape[1]))
    return np.take_along_axis(samples, np.maximum.accumulate(kept, axis=1), axis=1)


def _in_gaps(samples: np.ndarray, least: int) -> np.ndarray:
    """Share of each cell [cells, samples] in runs of at least so many equal samples, [cells]."""
    shares = np.zeros(len(samples))
    for row, same in enumerate(samples[:, 1:] == samples[:, :-1]):
        lengths = np.diff(_runs(same), axis=1) + 1 if same.any() else np.empty(0)
        shares[row] = lengths[lengths >= least].sum() / samples.shape[1]
    return shares


def _predictable(stretches: Sequence[np.ndarray], rate_hz: float) -> str:
    """Why the samples of stretches [samples] follow from each other, "" if they do not.

    Args:
        stretches: Neighbouring samples, none of them missing.
        rate_hz: Samples per second.
    """
    most_others = (1 - TONE_SHARE) * len(stretches)
    found: Counter[str] = Counter()
    step_uv = _step_uv(np.concatenate(stretches)) if stretches else 0.0
    for stretch in stretches:
        found[_predictable_stretch(stretch, rate_hz, step_uv)] += 1
        if found[""] > most_others:
            return ""
    if found[DRIFT] > most_others:  # towards saturation, say, where the hum alone is left
        return DRIFT
    return found.most_common(1)[0][0] if found else ""


def _predictable_stretch(samples: np.ndarray, rate_hz: float, step_uv: float) -> str:
    """As `_predictable`, of one stretch: a parabola and a sine, or a line of the mains, are all.

    Args:
        samples: The stretch, [samples].
        rate_hz: Samples per second.
        step_uv: Step of the converter.
    """
    if not _is_voltage(samples):
        return ""
    around = samples.astype(np.float64)
    around -= around.mean()
    rounding_uv = ROUNDED * step_uv * math.sqrt(len(around))
    most_uv = max(NOTHING_LEFT * float(np.linalg.norm(around)), rounding_uv)
    times = np.linspace(-1, 1, len(around))
    trend = np.stack([np.ones_like(times), times, times**2], axis=1)
    drift = trend @ np.linalg.lstsq(trend, around, rcond=None)[0]
    if np.linalg.norm(around - drift) <= most_uv:
        return DRIFT
    spectrum = np.abs(np.fft.rfft((around - drift) * np.hanning(len(around)), 8 * len(around)))
    spectrum_hz = np.fft.rfftfreq(8 * len(around), 1 / rate_hz)
    bands = [(hz - OFF_LINE_HZ, hz + OFF_LINE_HZ, HARMONICS_HZ) for hz in LINES_HZ]
    for low_hz, high_hz, up_to_hz in (*bands, (LOWEST_TONE_HZ, 0.49 * rate_hz, 0.0)):
        inside = (spectrum_hz >= low_hz) & (spectrum_hz <= min(high_hz, 0.49 * rate_hz))
        if not inside.any():
            continue
        peak_hz = spectrum_hz[inside][spectrum[inside].argmax()]
        tone = _tone(around, trend, peak_hz, up_to_hz, rate_hz, most_uv)
        if tone is not None:
            if np.std(around - tone) * math.sqrt(len(around)) > most_uv:
                return DRIFT
            return MAINS if up_to_hz else TONE
    return ""


def _tone(
    around: np.ndarray,
    trend: np.ndarray,
    tone_hz: float,
    up_to_hz: float,
    rate_hz: float,
    most_uv: float,
) -> np.ndarray | None:
    """The sine and its harmonics [samples] that leave nothing of a stretch but a trend, if any do.

    Each harmonic's amplitude and phase may change as a parabola does: by the rate of the phase the
    frequency is refined.

    Args:
        around: The stretch less its mean, [samples].
        trend: Its possible trends, [samples, trends].
        tone_hz: First estimate of the frequency.
        up_to_hz: The highest frequency of a harmonic; the fundamental is always there.
        rate_hz: Samples per second.
        most_uv: Norm of what counts as nothing.
    """
    times_s = (np.arange(len(around)) - (len(around) - 1) / 2) / rate_hz
    n_columns = trend.shape[1]
    for _ in range(REFINEMENTS):
        highest_hz = max(tone_hz, min(up_to_hz, 0.49 * rate_hz))
        orders = np.arange(1, int(highest_hz / tone_hz) + 1)
        if not 0 < tone_hz < rate_hz / 2 or n_columns + 6 * len(orders) > len(around) // 2:
            return None
        angles = 2 * np.pi * tone_hz * times_s[:, None] * orders
        waves = np.hstack([np.cos(angles), np.sin(angles)])
        changing = [waves * times_s[:, None] ** power for power in range(3)]
        basis = np.hstack([trend, *changing])
        # Normal equations are ten times as fast; their rounding is far below a converter's.
        weights = np.linalg.lstsq(basis.T @ basis, basis.T @ around, rcond=None)[0]
        left_uv = float(np.linalg.norm(around - basis @ weights))
        if left_uv <= most_uv:
            tone: np.ndarray = basis[:, n_columns:] @ weights[n_columns:]
            return tone
        if left_uv > NEARLY * np.linalg.norm(around):
            return None
        cosine, sine, cosine_rate, sine_rate = weights[n_columns:].reshape(6, -1)[:4]
        power = np.sum(orders**2 * (cosine**2 + sine**2))
        turning = np.sum(orders * (sine * cosine_rate - cosine * sine_rate))
        tone_hz += float(turning / power) / (2 * np.pi)
    return None


def _is_nothing(rest: np.ndarray, whole: np.ndarray) -> bool:
    """Whether what is left of a signal is rounding."""
    return bool(np.linalg.norm(rest) <= NOTHING_LEFT * np.linalg.norm(whole))


def _spread(samples: np.ndarray) -> float:
    """Standard deviation by the median deviation: a few artefacts do not change the unit."""
    if not len(samples):
        return 0.0
    robust = 1.4826 * float(np.median(np.abs(samples - np.median(samples))))
    return robust or float(np.std(samples))  # most samples of a coarse converter may be equal


def _is_voltage(samples: np.ndarray) -> bool:
    """Whether `Recording.read_channel` takes the samples; NaN fails every comparison."""
    return bool(-LARGEST_UV <= samples.min() <= samples.max() <= LARGEST_UV)


def _references(probes: dict[str, _Probe]) -> list[str]:
    """The channels that tell where the recording is dead: those that are seldom dead themselves."""
    shares = {name: p.flat.mean() for name, p in probes.items() if p.voltage and not p.constant}
    if not shares:
        return []
    usual = np.median(list(shares.values()))
    names = [name for name, share in shares.items() if share <= usual]
    places = np.linspace(0, len(names) - 1, min(len(names), REFERENCES))
    return [names[place] for place in places.astype(int)]


def _dead_cells(
    read: Read, references: dict[str, _Probe], start: int, cell: int, n_cells: int
) -> tuple[np.ndarray, set[str], dict[str, np.ndarray]]:
    """Which cells are without signal in at least half of the references, bool [cells].

    Also the references with a sample that is not a voltage, and each one's number of impulses in
    each cell, int64 [cells].

    Args:
        read: Reads stretches of a channel.
        references: The channels to read, as their probes show them.
        start: First sample of the movie.
        cell: Samples of a cell.
        n_cells: Cells of the movie.
    """
    flat = np.zeros(n_cells, np.int64)
    invalid, impulses = set(), {name: np.zeros(n_cells, np.int64) for name in references}
    for name, probe in references.items():
        at_once = max(1, _BLOCK_SAMPLES // cell)
        for first in range(0, n_cells, at_once):
            last = min(first + at_once, n_cells)
            (block,) = read(name, [(start + first * cell, start + last * cell)])
            block = block.reshape(-1, cell)
            alone = _impulses(block, probe.impulse_uv)
            impulses[name][first:last] = alone.sum(axis=1)
            flat[first:last] += _is_flat(_without(alone, block), probe.flat_uv)
            if not _is_voltage(block):
                invalid.add(name)
    dead = flat >= DEAD_SHARE * len(references) if references else np.ones(n_cells, bool)
    return dead, invalid, impulses


def _flat_uv(samples: np.ndarray) -> float:
    """The largest change of a channel within a cell that is none, peak to peak.

    Two steps of its converter, or a small share of what is usual: of the upper quartile of cells,
    as few spikes make the extremes large, and a channel may be dead for most of the time.

    Args:
        samples: Cells of a channel [cells, samples].
    """
    step_uv = _step_uv(samples)
    if not step_uv:
        return 0.0
    with np.errstate(invalid="ignore"):  # infinity less infinity
        range_uv = samples.max(axis=1) - samples.min(axis=1)
    moving = range_uv[np.isfinite(range_uv)]
    usual_uv = float(np.quantile(moving, 0.75)) if len(moving) else 0.0
    # Filtered signals have no steps: their smallest gap is next to nothing.
    return max(FLAT_STEPS * step_uv * (1 + ROUNDING), FLAT_SHARE * usual_uv)


def _step_uv(samples: np.ndarray) -> float:
    """The smallest difference between two values of a channel; 0 where all are equal."""
    levels = np.unique(samples[np.abs(samples) <= LARGEST_UV])
    gaps_uv = np.diff(levels)
    gaps_uv = gaps_uv[gaps_uv > ROUNDING * np.ptp(levels)] if len(levels) else gaps_uv
    return float(gaps_uv.min()) if len(gaps_uv) else 0.0


def _is_flat(samples: np.ndarray, flat_uv: float) -> np.ndarray:
    """Which rows hardly change, bool [rows]; NaN is a change."""
    with np.errstate(invalid="ignore"):  # infinity less infinity
        flat: np.ndarray = samples.max(axis=1) - samples.min(axis=1) <= flat_uv
    return flat


def _sketch(samples: np.ndarray) -> np.ndarray:
    """Some samples of each cell [cells, samples], less their mean: drifts would tell of no copy."""
    n_cells, n = samples.shape
    places = np.linspace(0, n - 1, min(n, max(2, SKETCH // n_cells))).astype(np.int64)
    taken: np.ndarray = samples[:, places].astype(np.float64)
    with np.errstate(invalid="ignore"):
        taken -= taken.mean(axis=1, keepdims=True)
    return taken


def _copies(probes: dict[str, _Probe], alive: np.ndarray) -> frozenset[str]:
    """The channels that are an earlier one times a factor, of any sign, and plus an offset.

    The factor is that of least squares; what it leaves over of a copy is rounding.

    Args:
        probes: The channels.
        alive: Which cells have a signal at all, bool [cells].
    """
    names = [name for name, p in probes.items() if p.voltage and p.sketch[alive].any()]
    if not names:
        return frozenset()
    sketches = np.stack([probes[name].sketch[alive].ravel() for name in names])
    sketches /= np.linalg.norm(sketches, axis=1, keepdims=True)
    copies = set()
    for number, name in enumerate(names[1:], start=1):
        closest = np.abs(sketches[:number] @ sketches[number]).max()
        if 1 - closest**2 <= COPY_ERROR**2:
            copies.add(name)
    return frozenset(copies)


def _runs(flags: np.ndarray) -> np.ndarray:
    """First and past-the-last index of each run of set flags, int64 [runs, 2]."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return edges.astype(np.int64).reshape(-1, 2)


def _runs_of(cells: np.ndarray) -> list[tuple[int, int]]:
    """Runs [first, past the last) of neighbours among ascending numbers."""
    breaks = np.flatnonzero(np.diff(cells) > 1) + 1
    return [(int(run[0]), int(run[-1]) + 1) for run in np.split(cells, breaks)]
