"""A made-up recording in Brain Treebank's layout, from whose signals sentences can be retrieved.

    python -m ssense.data.synthetic OUT --sentences 300 --electrodes 8 --coupling 1 --seed 0

Every word has a sparse latent vector, drawn from the word itself. At the onset of a word each of
its latent dimensions evokes a wave packet at a carrier frequency of its own, with a pattern over
the electrodes of its own, on top of background, mains hum and whatever else a contact picks up.
So a segment's power in a band, at the times of its words, tells which words were said, and nothing
else links signal and text. With `coupling` 0 nothing is evoked: a null recording.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from scipy import fft

from ssense.data.screenplay import (
    MovieTimes,
    compose_screenplay,
    run_movie,
    write_features,
    write_timings,
)
from ssense.data.tables import one_line, read_json
from ssense.errors import UserError

SUBJECT, TRIAL, MOVIE = "sub_9", "trial000", "synthetic"
FORMAT_VERSION = 1  # raise it when the same specification comes to give other files

LATENT_DIMENSIONS = 16
ACTIVE_DIMENSIONS = 3  # of a word
LOWEST_CARRIER_HZ, HIGHEST_CARRIER_HZ = 9.0, 115.0
LINE_HZ = 60.0
CARRIER_OFF_LINE_HZ = 4.0  # more than the half width of a wave packet's spectrum
EVOKED_OVER_BACKGROUND = 3.3  # in a packet's band, at its peak; over a sentence the powers match

ADC_STEP_UV = 0.265845  # the step found in the published signals
BACKGROUND_UV = 40.0  # root mean square over all frequencies
COMMON_UV = 15.0  # root mean square of what all contacts share
KNEE_HZ = 1.0  # below it the background's spectrum is flat, above it power falls as 1 / f²

CONTACTS_PER_SHAFT = 5
LEAST_RATE_HZ = 128.0  # mains hum and half of the carriers fit below half of it
CHUNK_SAMPLES = 65_536
BESIDE_MOVIE_S = 5.0  # recording between the movie's end and the file's


@dataclass(frozen=True, kw_only=True)
class SyntheticSpec:
    """What to make up.

    Attributes:
        sentences: sentences in the transcript; about one in 150 comes after the last trigger.
        electrodes: contacts, on shafts of five; the outer two of a shaft have no Laplacian.
        coupling: amplitude of what words evoke; 0 evokes nothing.
        seed: draws sentences, times, electrode patterns and background (words' latents aside).
        sampling_rate: samples per second.
        equal_durations: every sentence has six words and lasts two seconds, so that no length,
            in words or in time, tells sentences apart.
        pauses: how often the movie was paused.
        lead_in_s: recording before the movie starts.
    """

    sentences: int = 300
    electrodes: int = 8
    coupling: float = 1.0
    seed: int = 0
    sampling_rate: float = 512.0
    equal_durations: bool = False
    pauses: int = 2
    lead_in_s: float = 20.0

    def __post_init__(self) -> None:
        """Refuse values that no recording can have."""
        for name in ("coupling", "sampling_rate", "lead_in_s"):
            object.__setattr__(self, name, float(getattr(self, name)))  # so that 1 is 1.0
        least: dict[str, float] = {
            "sentences": 1,
            "electrodes": 3,
            "coupling": 0,
            "seed": 0,
            "pauses": 0,
        }
        least |= {"sampling_rate": LEAST_RATE_HZ, "lead_in_s": 0}
        for name, lowest in least.items():
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= lowest):
                flag = name.replace("_", "-")
                raise UserError(f"{name} must be at least {lowest:g}, got {value}. Check --{flag}.")


@dataclass(frozen=True, eq=False)
class Packets:
    """The wave packets that latent dimensions evoke.

    Attributes:
        carrier_hz: frequency of each packet's wave [dimensions].
        waveform: the packets from a word's onset on, microvolts [dimensions, samples].
    """

    carrier_hz: np.ndarray
    waveform: np.ndarray


def write_synthetic(root: Path, spec: SyntheticSpec) -> None:
    """Write a recording to a new folder `root`: all files or none. The same spec, the same bytes.

    A folder that already holds the recording of this spec is left as it is.

    Raises:
        UserError: the folder holds something else, or cannot be written.
    """
    if holds_synthetic(root, spec):
        return
    try:
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise UserError(
                f"{root} already exists and is not this synthetic recording. "
                "Choose another folder, or remove it first."
            )
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root.parent, prefix=f".{root.name}.") as temporary:
            unfinished = Path(temporary) / root.name
            _write_files(unfinished, spec)
            unfinished.replace(root)
    except OSError as error:
        if holds_synthetic(root, spec):
            return  # another process was faster
        raise UserError(
            f"cannot write the synthetic recording {root}: {one_line(error)}. "
            "Choose a folder that can be written."
        ) from error


def holds_synthetic(root: Path, spec: SyntheticSpec) -> bool:
    """Whether `root` already holds the recording of this very specification."""
    path = root / "subject_metadata" / f"{SUBJECT}_{TRIAL}_metadata.json"
    return path.is_file() and read_json(path, dict) == _metadata(spec)


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


def contact_labels(electrodes: int) -> list[str]:
    """Labels of contacts on shafts of five, some with the marks that the real files have."""
    labels = []
    for number in range(electrodes):
        shaft, contact = divmod(number, CONTACTS_PER_SHAFT)
        letters = "abcdefghij"
        lobe = "FTPO"[shaft // len(letters) % 4]
        row = shaft // (4 * len(letters)) + 1
        mark = {2: "*", 5: "#"}.get(number % 7, "")
        labels.append(f"{lobe}{row}{letters[shaft % len(letters)]}{contact + 1}{mark}")
    return labels


def make_packets(rate_hz: float) -> Packets:
    """The wave packets at a sampling rate, their carriers off the mains line."""
    highest_hz = min(HIGHEST_CARRIER_HZ, 0.4 * rate_hz)
    # Between even spacing and even ratios: low carriers too stay a packet's bandwidth apart.
    carrier_hz = np.geomspace(LOWEST_CARRIER_HZ + 20, highest_hz + 20, LATENT_DIMENSIONS) - 20
    off_hz = carrier_hz - LINE_HZ
    side = np.where(off_hz < 0, -1.0, 1.0)
    carrier_hz = np.where(
        np.abs(off_hz) < CARRIER_OFF_LINE_HZ, LINE_HZ + side * CARRIER_OFF_LINE_HZ, carrier_hz
    )
    generator = np.random.default_rng(LATENT_DIMENSIONS)  # the same packets in every recording
    latency_s = generator.uniform(0.25, 0.4, LATENT_DIMENSIONS)
    width_s = generator.uniform(0.06, 0.1, LATENT_DIMENSIONS)
    phase = generator.uniform(0, 2 * np.pi, LATENT_DIMENSIONS)[:, None]
    time_s = np.arange(int(rate_hz * 0.8)) / rate_hz - latency_s[:, None]
    envelope = np.exp(-((time_s / width_s[:, None]) ** 2) / 2)
    # A packet's spectrum has the noise bandwidth 1 / (2 sqrt(pi) width).
    band_power = _background_density(carrier_hz) / (2 * np.sqrt(np.pi) * width_s)
    amplitude = EVOKED_OVER_BACKGROUND * np.sqrt(2 * band_power)[:, None]
    wave = amplitude * envelope * np.cos(2 * np.pi * carrier_hz[:, None] * time_s + phase)
    return Packets(carrier_hz, wave)


def _write_files(root: Path, spec: SyntheticSpec) -> None:
    screenplay = compose_screenplay(spec.seed, spec.sentences, spec.equal_durations)
    movie = run_movie(spec.seed, screenplay, spec.sampling_rate, spec.lead_in_s, spec.pauses)
    stem = f"{SUBJECT}_{TRIAL}"
    labels = [*contact_labels(spec.electrodes), "DC4", "DC10"]
    _write_json(root / "electrode_labels" / SUBJECT / "electrode_labels.json", labels)
    _write_json(root / "corrupted_elec.json", {SUBJECT: ["DC4*", "DC10#"]})
    _write_json(root / "subject_metadata" / f"{stem}_metadata.json", _metadata(spec))
    write_timings(root / "subject_timings" / f"{stem}_timings.csv", spec.seed, movie)
    write_features(root / "transcripts" / MOVIE / "features.csv", spec.seed, screenplay)
    signals = _channels(spec, movie, screenplay.tracked_words())
    _write_signals(root / f"{stem}.h5", signals)


def _channels(
    spec: SyntheticSpec, movie: MovieTimes, words: list[tuple[str, float]]
) -> Iterator[np.ndarray]:
    """Signals of one channel after another, float64 [samples] in microvolts, then DC4 and DC10."""
    end = movie.sample_of(np.array([movie.end_s]))[0]
    n_samples = int(end + BESIDE_MOVIE_S * spec.sampling_rate)
    common = _background(np.random.default_rng([spec.seed, 4]), n_samples, spec.sampling_rate)
    common *= COMMON_UV / BACKGROUND_UV
    onsets = np.rint(movie.sample_of(np.array([onset_s for _, onset_s in words]))).astype(int)
    evoked = _Evoked(spec, [word for word, _ in words], onsets)
    for electrode in range(spec.electrodes):
        generator = np.random.default_rng([spec.seed, 5, electrode])
        signal = _background(generator, n_samples, spec.sampling_rate) + common
        gain = np.exp(0.3 * generator.standard_normal())
        hum = _line_noise(generator, n_samples, spec.sampling_rate)
        offset = generator.uniform(-20, 20)
        evoked.add_to(signal, generator.standard_normal(LATENT_DIMENSIONS))
        yield gain * signal + hum + offset
    for channel in range(2):
        generator = np.random.default_rng([spec.seed, 6, channel])
        yield 100.0 * generator.standard_normal(n_samples)


class _Evoked:
    """What the words evoke, for one electrode at a time."""

    def __init__(self, spec: SyntheticSpec, words: list[str], onsets: np.ndarray) -> None:
        vocabulary, self._word = np.unique(np.array(words, dtype=str), return_inverse=True)
        self._latents = np.array([word_latents(word) for word in vocabulary])
        self._waveform = spec.coupling * make_packets(spec.sampling_rate).waveform
        self._onsets = onsets

    def add_to(self, signal: np.ndarray, pattern: np.ndarray) -> None:
        """Add the responses of an electrode with a pattern [dimensions] to its signal [samples]."""
        # Not a matrix product: how that rounds differs between machines, the files must not.
        response = np.einsum("wd,dt->wt", self._latents * pattern, self._waveform)
        length = response.shape[1]
        for word, onset in zip(self._word.tolist(), self._onsets.tolist(), strict=True):
            stretch = signal[onset : onset + length]
            stretch += response[word, : len(stretch)]


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


def _write_signals(path: Path, signals: Iterator[np.ndarray]) -> None:
    with h5py.File(path, "w") as file:
        group = file.create_group("data")
        for number, signal in enumerate(signals):
            group.create_dataset(
                f"electrode_{number}",
                data=np.rint(signal / ADC_STEP_UV) * ADC_STEP_UV,
                chunks=(min(CHUNK_SAMPLES, len(signal)),),
                compression="gzip",
                compression_opts=1,
                track_times=False,  # the same spec gives the same bytes
            )


def _write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def _metadata(spec: SyntheticSpec) -> dict[str, object]:
    settings = dataclasses.asdict(spec) | {"format_version": FORMAT_VERSION}
    return {"title": "Synthetic", "filename": MOVIE, "synthetic": settings}


@dataclass(frozen=True)
class _Command:
    """Write a synthetic recording in Brain Treebank's layout to the folder OUT."""

    out: Path
    spec: SyntheticSpec = SyntheticSpec()


def main() -> None:
    """Write a synthetic recording from the command line."""
    import tyro

    shape = (tyro.conf.PositionalRequiredArgs, tyro.conf.OmitArgPrefixes)
    try:
        command = tyro.cli(_Command, config=shape)
        there = holds_synthetic(command.out, command.spec)
        write_synthetic(command.out, command.spec)
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    spec = command.spec
    print(
        f"{command.out}: {'was already there' if there else 'written'}, {spec.sentences} sentences,"
        f" {spec.electrodes} contacts, coupling {spec.coupling:g}, {spec.sampling_rate:g} Hz, "
        f"seed {spec.seed}"
    )


if __name__ == "__main__":
    main()
