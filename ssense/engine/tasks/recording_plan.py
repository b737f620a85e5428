"""The data of a recording, as the command line of a sweep asks for them."""

from __future__ import annotations

from pathlib import Path

from upath import UPath

from ssense.choices import SpectrogramName
from ssense.cli.screen import console, say, step
from ssense.data.recordings.readers.arrays import keep
from ssense.data.recordings.readers.opening import open_source
from ssense.data.recordings.recording import Recording
from ssense.data.recordings.recording_source import RecordingSource
from ssense.data.recordings.resampled import at_rate
from ssense.data.synthetic.recording import write_synthetic
from ssense.data.synthetic.spec import FORMAT_VERSION, SyntheticSpec
from ssense.engine.tasks.dataset_plan import plan_dataset
from ssense.engine.tasks.recording_data import RecordingData
from ssense.errors import UserError, counted
from ssense.files.digest import digest
from ssense.files.storage import is_local, open_storage, scratch_folder, upload, write_whole
from ssense.signal.band_power import BandPowerSpec
from ssense.signal.features import AnyFeatureSpec
from ssense.signal.fourier import FourierSpec
from ssense.signal.superlets import SuperletSpec
from ssense.training.sentences import SentenceSpec

WHOLE = "complete"
"""Name of the file that marks a recording in an object store as complete."""

# Coarse enough for a ResNet-18 to learn on a laptop within seconds; for trials, not for papers.
SMALL = SuperletSpec(
    minimum_hz=8.0,
    maximum_hz=120.0,
    n_frequencies=16,
    base_cycles=3.0,
    order_min=1,
    order_max=5,
    decimation=100,
    edge_clip=1,
)
SPECTROGRAMS: dict[SpectrogramName, AnyFeatureSpec] = {
    "brainbert": SuperletSpec.brainbert(),
    "brainbert-50": SuperletSpec.brainbert_defaults_50(),
    "small": SMALL,
    "fourier": FourierSpec(),
    "high-gamma": BandPowerSpec(),
}


def plan_recording(
    source: RecordingSource,
    specification: SentenceSpec,
    spectrogram: SpectrogramName,
    storage: str,
) -> RecordingData:
    """Open a recording, choose its sentences, and say what was found.

    Args:
        source: Where the recording is, here or in an object store, and which.
        specification: What every cell shares, the data among it.
        spectrogram: Name of the recipe of its features.
        storage: Path or URL of the storage.

    Raises:
        UserError: The recording can't be read, the storage can't be written to, or nothing is left
            to train on.
    """
    with step(f"Reading {source.name}"):
        recording = open_source(source)
    return plan_opened(recording, specification, spectrogram, storage)


def plan_opened(
    recording: Recording,
    specification: SentenceSpec,
    spectrogram: SpectrogramName,
    storage: str,
) -> RecordingData:
    """Choose the sentences of a recording that is open, and say what was found.

    One that no machine could open again, because it is in memory or of unknown place, is kept in
    the storage first.

    Args:
        recording: The recording.
        specification: What every cell shares, the data among it.
        spectrogram: Name of the recipe of its features.
        storage: Path or URL of the storage.

    Raises:
        UserError: See `plan_recording`.
    """
    if recording.source is None and recording.timeline.stated_hz is not None:
        recording = kept_recording(recording, open_storage(storage))
    rate_hz = specification.data.sampling_rate_hz(
        at_rate(recording, specification.data.resample_hz)
    )
    check_spectrogram(spectrogram, f"{recording.subject} {recording.trial}", rate_hz)
    plan = plan_dataset(
        recording,
        specification.data,
        specification.features,
        specification.target,
        open_storage(storage),
        specification.split,
    )
    for line in plan.report.lines(console.width):
        say(line)
    return RecordingData(own=plan)


def check_spectrogram(name: SpectrogramName, recording: str, rate_hz: float) -> None:
    """Refuse a recipe with frequencies that the rate can't hold, and name those that fit.

    Args:
        name: Name of the recipe.
        recording: What the message calls the recording.
        rate_hz: Sampling rate of the segments.

    Raises:
        UserError: The highest frequency of the recipe is not below half the rate.
    """
    if SPECTROGRAMS[name].maximum_hz < rate_hz / 2:
        return
    fitting = [
        f"--spectrogram {other}, up to {recipe.maximum_hz:g} Hz"
        for other, recipe in SPECTROGRAMS.items()
        if recipe.maximum_hz < rate_hz / 2
    ]
    least = min(recipe.maximum_hz for recipe in SPECTROGRAMS.values())
    advice = f"Use {' or '.join(fitting)}"
    if not fitting:
        advice = f"No recipe fits: give a recording of more than {2 * least:g} samples a second"
    raise UserError(
        f"{recording}: {rate_hz:g} samples a second hold frequencies below {rate_hz / 2:g} Hz, and "
        f"--spectrogram {name} reaches {SPECTROGRAMS[name].maximum_hz:g} Hz. {advice}."
    )


def kept_recording(recording: Recording, storage: UPath) -> Recording:
    """A recording as it is read from the storage, written there if missing.

    Raises:
        UserError: The storage can't be written to.
    """
    folder = storage / "recordings" / recording.digest
    with step(f"Keeping the recording in {folder}"):
        if is_local(folder):
            keep(recording, Path(str(folder)))
        elif not (folder / WHOLE).exists():
            with scratch_folder() as scratch:
                keep(recording, scratch / recording.digest)
                upload(scratch / recording.digest, folder)
            write_whole(folder / WHOLE, b"")  # last: without it, it is uploaded again
    return open_source(RecordingSource(place=str(folder)))


def synthetic_recording(spec: SyntheticSpec, storage: UPath) -> UPath:
    """Where a synthetic recording is, made if missing: in the storage, for all machines to fetch.

    Raises:
        UserError: The storage can't be written to.
    """
    name = f"synthetic-{digest(FORMAT_VERSION, spec)[:8]}"
    folder = storage / "recordings" / name
    say(f"No --recording given: using a synthetic one, in {folder}")
    say("Nothing is downloaded: encoder and CLIP text tower start untrained by default.")
    with step(f"  {counted(spec.sentences, 'sentence')}, {counted(spec.electrodes, 'contact')}"):
        if is_local(folder):
            write_synthetic(Path(str(folder)), spec)
        elif not (folder / WHOLE).exists():
            with scratch_folder() as scratch:
                write_synthetic(scratch / name, spec)
                upload(scratch / name, folder)
            write_whole(folder / WHOLE, b"")  # last: without it, it is uploaded again
    return folder
