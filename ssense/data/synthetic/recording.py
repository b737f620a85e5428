"""A made-up recording in Brain Treebank's layout, from whose signals sentences can be retrieved.

Every word has a sparse latent vector, drawn from the word itself. At the onset of a word each of
its latent dimensions evokes a wave packet at a carrier frequency of its own, with a pattern over
the electrodes of its own, on top of background, mains hum and whatever else a contact picks up.
So a segment's power in a band, at the times of its words, tells which words were said, and nothing
else links signal and text. With `response_s` the words of a sentence evoke together, at one latency
after its onset. With `coupling` 0 nothing is evoked: a null recording.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import signal as system_signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy import fft

from ssense.data.synthetic.localization import LOCALIZATION, coordinates_table, sub_9_places
from ssense.data.synthetic.montage import Channel, contact_names, corrupted_list, lay_out
from ssense.data.synthetic.movie_times import MovieTimes, run_movie, timing_rows
from ssense.data.synthetic.quirks import (
    OTHER_CORRUPTED,
    odd_features,
    odd_screenplay,
    odd_timings,
    unrelated_files,
)
from ssense.data.synthetic.screenplay import (
    Screenplay,
    compose_screenplay,
    feature_rows,
    screenplay_to_times,
)
from ssense.data.synthetic.sentence_timings import SentenceTimings
from ssense.data.synthetic.spec import FORMAT_VERSION, LATER, SyntheticSpec
from ssense.errors import UserError
from ssense.files.storage import write_folder
from ssense.files.tables import read_json_as

Said = list[tuple[tuple[str, ...], float]]
"""Words that evoke together and their onset in movie seconds, of a word or a whole sentence."""

SUBJECT, TRIAL, MOVIE = "sub_9", "trial000", "synthetic"

LATENT_DIMENSIONS = 16
ACTIVE_DIMENSIONS = 3  # dimensions in which a word's latent vector is not zero
LINE_HZ = 60.0
CARRIER_OFF_LINE_HZ = 4.0  # more than the half width of a wave packet's spectrum
EVOKED_OVER_BACKGROUND = 3.3  # in a packet's band, at its peak; over a sentence the powers match

ADC_STEP_UV = 0.265845  # the step found in the published signals
BACKGROUND_UV = 40.0  # root mean square over all frequencies
KNEE_HZ = 1.0  # below it the background's spectrum is flat, above it power falls as 1 / f²

CHUNK_SAMPLES = 65_536
BESIDE_MOVIE_S = 5.0  # recording between the movie's end and the file's


@dataclass(frozen=True, eq=False)
class Packets:
    """The wave packets that latent dimensions evoke.

    Attributes:
        carrier_hz: Frequency of each packet's wave [dimensions].
        waveform: The packets, microvolts [dimensions, samples].
        first: Sample after a word's or a sentence's onset at which the packets begin.
    """

    carrier_hz: np.ndarray
    waveform: np.ndarray
    first: int


def write_synthetic(
    root: Path, spec: SyntheticSpec, timings: SentenceTimings | None = None
) -> None:
    """Write a recording to a new folder `root`: all files or none. The same spec, the same bytes.

    With `timings` the sentences and pauses come when those of a real movie did. A folder that
    already holds the recording of this spec is left as it is.

    Raises:
        UserError: The folder holds something else or cannot be written, or `spec` contradicts
            `timings`.
    """
    spec = settled(spec, timings)
    write_folder(
        root,
        "synthetic recording",
        partial(_write_files, spec=spec, timings=timings),
        partial(holds_synthetic, root, spec, timings),
    )


def holds_synthetic(
    root: Path, spec: SyntheticSpec, timings: SentenceTimings | None = None
) -> bool:
    """Whether `root` already holds the recording of this very specification."""
    path = root / "subject_metadata" / f"{SUBJECT}_{TRIAL}_metadata.json"
    made_by = synthetic_metadata(settled(spec, timings), timings)
    return path.is_file() and read_json_as(path, dict) == made_by


def settled(spec: SyntheticSpec, timings: SentenceTimings | None) -> SyntheticSpec:
    """The specification with what the timings decide in place of the defaults.

    Raises:
        UserError: The specification asks for something else than the timings.
    """
    if timings is None:
        return spec
    decided: dict[str, Any] = {
        "sentences": len(timings.n_words),
        "pauses": len(timings.pause_s),
        "lead_in_s": timings.lead_in_s,
        "equal_durations": False,
    }
    for name, value in decided.items():
        if getattr(spec, name) not in (value, getattr(SyntheticSpec, name)):
            raise UserError(
                f"{name} is {getattr(spec, name)}, but {timings.path} makes it {value}. "
                f"Leave {name} out."
            )
    try:
        return dataclasses.replace(spec, **decided)
    except UserError as error:
        raise UserError(f"{timings.path} does not fit: {error}") from error


def word_latents(word: str) -> np.ndarray:
    """Latent vector of a word, [dimensions]: three entries in 0.5 to 1.5, zeros elsewhere.

    The word alone decides it, whatever its case and whatever the specification.
    """
    seed = hashlib.sha256(word.lower().encode()).digest()
    generator = np.random.default_rng(list(seed))
    latents = np.zeros(LATENT_DIMENSIONS)
    active = generator.choice(LATENT_DIMENSIONS, ACTIVE_DIMENSIONS, replace=False)
    latents[active] = generator.uniform(0.5, 1.5, ACTIVE_DIMENSIONS)
    return latents


def make_packets(spec: SyntheticSpec) -> Packets:
    """The wave packets of a recording, their carriers off the mains line."""
    rate_hz, lowest_hz = spec.sampling_rate, spec.lowest_hz
    highest_hz = min(spec.highest_hz, 0.4 * rate_hz)
    # Between even spacing and even ratios: low carriers too stay a packet's bandwidth apart.
    carrier_hz = np.geomspace(lowest_hz + 20, highest_hz + 20, LATENT_DIMENSIONS) - 20
    off_hz = carrier_hz - LINE_HZ
    side = np.where(off_hz < 0, -1.0, 1.0)
    carrier_hz = np.where(
        np.abs(off_hz) < CARRIER_OFF_LINE_HZ, LINE_HZ + side * CARRIER_OFF_LINE_HZ, carrier_hz
    )
    generator = np.random.default_rng(LATENT_DIMENSIONS)  # the same packets in every recording
    latency_s = generator.uniform(0.25, 0.4, LATENT_DIMENSIONS) + spec.delay_s
    width_s = generator.uniform(0.06, 0.1, LATENT_DIMENSIONS)
    phase = generator.uniform(0, 2 * np.pi, LATENT_DIMENSIONS)[:, None]
    first, length = 0, int(rate_hz * (0.8 + spec.delay_s))
    if spec.response_s:  # from its third standard deviation before its middle to that after it
        first, length = round(rate_hz * spec.latency_s), int(rate_hz * spec.response_s)
        latency_s, width_s = np.full(
            (2, LATENT_DIMENSIONS), [[spec.response_s / 2], [spec.response_s / 6]]
        )
    time_s = np.arange(length) / rate_hz - latency_s[:, None]
    envelope = np.exp(-((time_s / width_s[:, None]) ** 2) / 2)
    # A packet's spectrum has the noise bandwidth 1 / (2 sqrt(pi) width).
    band_power = _background_density(carrier_hz) / (2 * np.sqrt(np.pi) * width_s)
    amplitude = EVOKED_OVER_BACKGROUND * np.sqrt(2 * band_power)[:, None]
    wave = amplitude * envelope * np.cos(2 * np.pi * carrier_hz[:, None] * time_s + phase)
    return Packets(carrier_hz, wave, first)


def _write_files(root: Path, spec: SyntheticSpec, timings: SentenceTimings | None) -> None:
    screenplay, movie = _produce(spec, timings)
    channels = lay_out(spec.electrodes, spec.quirks)
    features, triggers = feature_rows(spec.seed, screenplay), timing_rows(spec.seed, movie)
    corrupted = {SUBJECT: corrupted_list(channels)}
    stem = f"{SUBJECT}_{TRIAL}"
    signals_path, attributes = root / f"{stem}.h5", {}
    if places := sub_9_places(contact_names(spec.electrodes)):
        _new_file(root / LOCALIZATION).write_text(coordinates_table(SUBJECT, places))
    if spec.quirks:
        features, triggers = odd_features(features), odd_timings(triggers)
        corrupted = OTHER_CORRUPTED | corrupted
        for path, content in unrelated_files(SUBJECT, MOVIE, channels, screenplay).items():
            _new_file(root / path).write_bytes(content)
        signals_path = root / "all_subject_data" / f"{stem}.h5"
        attributes = {"sampling_rate": 2 * spec.sampling_rate}  # wrong; readers must measure it
    labels = [channel.label for channel in channels if channel.kind != "unlabelled"]
    _write_json(root / "electrode_labels" / SUBJECT / "electrode_labels.json", labels)
    _write_json(root / "corrupted_elec.json", corrupted)
    _write_json(
        root / "subject_metadata" / f"{stem}_metadata.json", synthetic_metadata(spec, timings)
    )
    _write_csv(root / "subject_timings" / f"{stem}_timings.csv", triggers)
    _write_csv(root / "transcripts" / MOVIE / "features.csv", features)
    said = screenplay.tracked_sentences() if spec.response_s else screenplay.tracked_words()
    signals = _signals(spec, channels, movie, said)
    _write_signals(signals_path, signals, attributes)


def _produce(spec: SyntheticSpec, timings: SentenceTimings | None) -> tuple[Screenplay, MovieTimes]:
    """What is said when, and how the movie ran."""
    if timings is None:
        screenplay = compose_screenplay(spec.seed, spec.sentences, spec.equal_durations)
        end_s = screenplay.end_s
        movie = run_movie(spec.seed, end_s, spec.sampling_rate, spec.lead_in_s, spec.pauses)
    else:
        screenplay = screenplay_to_times(spec.seed, timings)
        movie = timings.movie(spec.sampling_rate, screenplay.end_s)
    return odd_screenplay(spec.seed, screenplay) if spec.quirks else screenplay, movie


def _signals(
    spec: SyntheticSpec, channels: list[Channel], movie: MovieTimes, said: Said
) -> Iterator[np.ndarray]:
    """Signals of one channel after another, float64 [samples] in microvolts."""
    end = movie.sample_of(np.array([movie.end_s]))[0]
    n_samples = int(end + BESIDE_MOVIE_S * spec.sampling_rate)
    common = _background(np.random.default_rng([spec.seed, 4]), n_samples, spec.sampling_rate)
    common *= spec.common_uv / BACKGROUND_UV
    onsets = np.rint(movie.sample_of(np.array([onset_s for _, onset_s in said]))).astype(int)
    evoked = _Evoked(spec, [words for words, _ in said], onsets)
    for channel in channels:
        if channel.kind == "contact":
            yield _contact_signal(spec, channel, common, evoked)
        elif channel.kind == "auxiliary":
            generator = np.random.default_rng([spec.seed, 6, channel.number])
            yield 100.0 * generator.standard_normal(n_samples)
        else:
            yield np.zeros(n_samples)


def _contact_signal(
    spec: SyntheticSpec, channel: Channel, common: np.ndarray, evoked: _Evoked
) -> np.ndarray:
    generator = np.random.default_rng([spec.seed, 5, channel.number])
    signal = _background(generator, len(common), spec.sampling_rate) + common
    gain = np.exp(0.3 * generator.standard_normal())
    hum = _line_noise(generator, len(common), spec.sampling_rate)
    offset = generator.uniform(-20, 20)
    pattern = generator.standard_normal(LATENT_DIMENSIONS)
    if spec.responds(channel.name):
        evoked.add_to(signal, pattern)
    recorded: np.ndarray = gain * signal + hum + offset
    return recorded


class _Evoked:
    """What words, or the words of a sentence together, evoke, for one electrode at a time."""

    def __init__(
        self, spec: SyntheticSpec, said: list[tuple[str, ...]], onsets: np.ndarray
    ) -> None:
        texts = sorted({*said})
        place = {words: number for number, words in enumerate(texts)}
        self._text = [place[words] for words in said]
        self._latents = np.array([_latents(words) for words in texts])
        packets = make_packets(spec)
        self._waveform = spec.coupling * packets.waveform
        self._onsets = onsets + packets.first

    def add_to(self, signal: np.ndarray, pattern: np.ndarray) -> None:
        """Add the responses of an electrode with a pattern [dimensions] to its signal [samples]."""
        # Not a matrix product, whose rounding differs between machines: the files must not.
        response = np.einsum("wd,dt->wt", self._latents * pattern, self._waveform)
        length = response.shape[1]
        for text, onset in zip(self._text, self._onsets.tolist(), strict=True):
            stretch = signal[onset : onset + length]
            stretch += response[text, : len(stretch)]


def _latents(words: Sequence[str]) -> np.ndarray:
    """Latent vector of words that evoke together, [dimensions]: as strong for many as for few."""
    total = np.sum([word_latents(word) for word in words], axis=0)
    latents: np.ndarray = total / np.sqrt(len(words))
    return latents


def _background_density(frequency_hz: np.ndarray) -> np.ndarray:
    """Power density of the background, µV²/Hz: flat below the knee, then 1 / f²."""
    at_zero = BACKGROUND_UV**2 / (KNEE_HZ * np.pi / 2)
    return at_zero / (1 + (frequency_hz / KNEE_HZ) ** 2)


def _background(generator: np.random.Generator, n_samples: int, rate_hz: float) -> np.ndarray:
    """Gaussian noise with the background's spectrum, float64 [samples]."""
    n = fft.next_fast_len(n_samples, real=True)
    frequency_hz = fft.rfftfreq(n, 1 / rate_hz)
    scale = np.sqrt(_background_density(frequency_hz) * rate_hz * n / 4)
    real, imaginary = generator.standard_normal((2, len(frequency_hz)))
    return fft.irfft(scale * (real + 1j * imaginary), n)[:n_samples]


def _line_noise(generator: np.random.Generator, n_samples: int, rate_hz: float) -> np.ndarray:
    """Mains hum and its harmonics below half the sampling rate, float64 [samples]."""
    time_s = np.arange(n_samples) / rate_hz
    hum = np.zeros(n_samples)
    for harmonic in range(1, int(np.ceil(rate_hz / 2 / LINE_HZ))):
        amplitude = generator.uniform(5, 30) / harmonic**2
        phase = generator.uniform(0, 2 * np.pi)
        hum += amplitude * np.sin(2 * np.pi * harmonic * LINE_HZ * time_s + phase)
    return hum


class _Disk(io.RawIOBase):
    """A new file for HDF5, which does not survive a write that fails: it crashes as it closes.

    Writes never fail for HDF5; the first error is kept, to be raised when HDF5 has closed the file.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("x+b", buffering=0)
        self._failure: OSError | None = None

    def check(self) -> None:
        """Raise what a write failed with, if one did."""
        if self._failure is not None:
            raise self._failure

    def write(self, content: Any) -> int:
        left = memoryview(content).cast("B")
        size = len(left)
        try:
            while len(left) and self._failure is None:
                left = left[self._file.write(left) :]
        except OSError as error:
            self._failure = error
        return size

    def readinto(self, buffer: Any) -> int:
        return self._file.readinto(buffer)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def truncate(self, size: int | None = None) -> int:
        try:
            return self._file.truncate(size)
        except OSError as error:
            self._failure = self._failure or error
            return self._file.tell() if size is None else size

    def close(self) -> None:
        super().close()
        self._file.close()


def _write_signals(path: Path, signals: Iterator[np.ndarray], attributes: dict[str, float]) -> None:
    with closing(_Disk(_new_file(path))) as disk:
        _write_hdf5(disk, signals, attributes)
        disk.check()


def _write_hdf5(disk: _Disk, signals: Iterator[np.ndarray], attributes: dict[str, float]) -> None:
    with _interrupts_held() as interrupts, h5py.File(disk, "w") as file:
        group = file.create_group("data")
        for name, value in attributes.items():
            file.attrs[name] = group.attrs[name] = value
        for number, signal in enumerate(signals):
            group.create_dataset(
                f"electrode_{number}",
                data=np.rint(signal / ADC_STEP_UV) * ADC_STEP_UV,
                chunks=(min(CHUNK_SAMPLES, len(signal)),),
                compression="gzip",
                compression_opts=1,
                track_times=False,  # the same spec gives the same bytes
            )
            disk.check()
            if interrupts:
                break


@contextmanager
def _interrupts_held() -> Iterator[list[int]]:
    """Put interrupts off to the end: they would make one of HDF5's writes fail, see `_Disk`.

    Yields:
        The interrupts so far, by the number of their signal.
    """
    held: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # others are never interrupted
        yield held
        return
    numbers = system_signal.SIGINT, system_signal.SIGTERM
    earlier = [system_signal.signal(n, lambda number, _: held.append(number)) for n in numbers]
    try:
        yield held
    finally:
        for number, handler in zip(numbers, earlier, strict=True):
            system_signal.signal(number, handler)
        for first in held[:1]:
            system_signal.raise_signal(first)


def _write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    with _new_file(path).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(rows[0])
        writer.writerows([_cell(value) for value in row.values()] for row in rows)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.9g}"
    return str(value)


def _write_json(path: Path, value: object) -> None:
    _new_file(path).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def _new_file(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def synthetic_metadata(
    spec: SyntheticSpec, timings: SentenceTimings | None = None
) -> dict[str, object]:
    """What a recording says of itself: its whole specification.

    Args:
        spec: The specification, see `settled`.
        timings: When its sentences come, if a real movie says.
    """
    settings: dict[str, object] = {
        name: value
        for name, value in dataclasses.asdict(spec).items()
        if name not in LATER or value != getattr(SyntheticSpec, name)
    }
    settings["format_version"] = FORMAT_VERSION
    if timings is not None:
        settings["timings"] = timings.digest
    return {"title": "Synthetic", "filename": MOVIE, "synthetic": settings}
