"""The dataset of a recording, as the command line of a sweep asks for it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from upath import UPath

from ssense.cli.screen import console, say, step
from ssense.data.recordings.brain_treebank import SegmentSpec, open_recording
from ssense.data.synthetic.recording import write_synthetic
from ssense.data.synthetic.spec import FORMAT_VERSION, SyntheticSpec
from ssense.engine.tasks.precompute import DatasetPlan, fetch_recording, plan_dataset
from ssense.engine.tasks.recording_options import SpectrogramName, SweepOptions
from ssense.errors import UserError, printable
from ssense.files.digest import digest
from ssense.files.storage import (
    is_local,
    locate,
    open_storage,
    scratch_folder,
    upload,
    write_whole,
)
from ssense.model.encoder import build_encoder
from ssense.signal.superlets import SuperletSpec
from ssense.targets.clip import check_file, check_weights
from ssense.targets.text import TextSpec

WHOLE = "complete"
"""Name of a file that says that a recording in an object store is all there."""

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
SPECTROGRAMS: dict[SpectrogramName, SuperletSpec] = {
    "brainbert": SuperletSpec.brainbert(),
    "brainbert-50": SuperletSpec.brainbert_defaults_50(),
    "small": SMALL,
}


def plan_recording(options: SweepOptions) -> DatasetPlan:
    """Open the recording, or make the synthetic one, and choose its sentences.

    Raises:
        UserError: the recording can't be read, the storage can't be written to, or nothing
            is left to train on.
    """
    tower = TextSpec(weights=options.weights("text_weights"))
    if options.text_weights is not None:
        check_weights(tower.model, tower.weights, "text")
        check_file(tower.model, tower.weights, "text")
    encoder = options.specification().encoder
    if Path(encoder.weights).is_file():
        build_encoder(encoder.weights)  # which refuses another model's
    if options.recording is None:
        source = synthetic_recording(options.synthetic, open_storage(options.storage))
    else:
        source = locate(options.recording)
    with step(f"Reading {options.subject} {options.trial}"):
        folder = _fetched(options, source)
        recording = open_recording(folder, options.subject, options.trial)
    preset = SegmentSpec.paper() if options.preset == "paper" else SegmentSpec.literal()
    check_spectrogram(options, preset.sampling_rate_hz(recording))
    plan = plan_dataset(
        recording,
        dataclasses.replace(preset, electrodes=options.electrodes, line_hz=float(options.line_hz)),
        SPECTROGRAMS[options.value("spectrogram")],
        tower,
        open_storage(options.storage),
        options.split,
        None if is_local(source) else source,
    )
    for line in plan.report.lines(console.width):
        say(line)
    return plan


def _fetched(options: SweepOptions, source: UPath) -> Path:
    """The folder of the recording on this machine; what is wrong with it is said of its flag."""
    try:
        return fetch_recording(source, options.subject, options.trial)
    except UserError as error:
        given = str(source)
        if options.recording is not None:
            given = f"--recording {printable(options.recording, 150)}"
        raise UserError(str(error).replace(str(source), given, 1)) from error


def check_spectrogram(options: SweepOptions, rate_hz: float) -> None:
    """Refuse a recipe with frequencies that the rate can't hold, and name those that fit.

    Raises:
        UserError: the highest frequency of the recipe is not below half the rate.
    """
    name: SpectrogramName = options.value("spectrogram")
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
        f"{options.subject} {options.trial}: {rate_hz:g} samples a second hold frequencies below "
        f"{rate_hz / 2:g} Hz, and --spectrogram {name} reaches "
        f"{SPECTROGRAMS[name].maximum_hz:g} Hz. {advice}."
    )


def synthetic_recording(spec: SyntheticSpec, storage: UPath) -> UPath:
    """Where a synthetic recording is, made if missing: in the storage, for all machines to fetch.

    Raises:
        UserError: the storage can't be written to.
    """
    name = f"synthetic-{digest(FORMAT_VERSION, spec)[:8]}"
    folder = storage / "recordings" / name
    say(f"No --recording given: using a synthetic one, in {folder}")
    say("Nothing is downloaded: encoder and CLIP text tower start untrained by default.")
    with step(f"  {spec.sentences} sentences, {spec.electrodes} contacts"):
        if is_local(folder):
            write_synthetic(Path(str(folder)), spec)
        elif not (folder / WHOLE).exists():
            with scratch_folder() as scratch:
                write_synthetic(scratch / name, spec)
                upload(scratch / name, folder)
            write_whole(folder / WHOLE, b"")  # last: without it, it is uploaded again
    return folder
