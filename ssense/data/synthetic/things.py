"""Made-up THINGS data: responses from which the images can be retrieved, in every published form.

    python -m ssense.data.synthetic.things OUT --subjects 3 --concepts 300 --coupling 1 --seed 0
    python -m ssense.data.synthetic.things OUT --variant official       # THINGS-EEG2's own files
    python -m ssense.data.synthetic.things OUT --modality meg --variant neurobridge

An image is four squares of colour on a grain. Its twelve values, red, green and blue of each
square, lie near those of its concept, and each evokes a wave of its own: a form in time that all
brains share, on a pattern over the channels that is partly the subject's own. So the colours of
concepts never seen can be read from a response, across subjects less well than within one. With
`coupling` 0 nothing is evoked.
"""

from __future__ import annotations

from ssense.cli.command import check_flags, inherited, run_command
from ssense.data.synthetic.things_spec import (
    FORMAT_VERSION,
    SyntheticThingsCommand,
    SyntheticThingsSpec,
    Variant,
)

if __name__ == "__main__":
    check_flags(SyntheticThingsCommand)  # before the imports that take seconds

import dataclasses
import json
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from PIL import Image

from ssense.choices import Part
from ssense.data.things.images import METADATA
from ssense.data.things.responses import INFO, POSTERIOR
from ssense.errors import counted
from ssense.files.storage import write_folder
from ssense.files.tables import read_json_as

RECORD = "synthetic.json"

LATENTS = 12  # red, green and blue of the four squares
WITHIN_CONCEPT = 0.1  # standard deviation of an image's values about its concept's, of 0 to 1
DARKEST, BRIGHTEST, GRAIN = 32.0, 224.0, 8.0
EVOKED = 0.5  # peak of a wave that a whole unit of a value evokes, over the noise of a response
OWN_PATTERN = 1.0  # a subject's own part, relative to what all subjects share
ELSEWHERE = 0.2  # amplitude away from the posterior channels

OFFICIAL_CHANNELS = (
    *("Pz", "P3", "P7", "O1", "Oz", "O2", "P4", "P8", "P1", "P5"),
    *("PO7", "PO3", "POz", "PO4", "PO8", "P6", "P2"),
)
EEG_CHANNELS = (
    *("Fp1", "Fp2", "AF7", "AF3", "AFz", "AF4", "AF8", "F7", "F5", "F3", "F1", "F2", "F4", "F6"),
    *("F8", "FT9", "FT7", "FC5", "FC3", "FC1", "FCz", "FC2", "FC4", "FC6", "FT8", "FT10", "T7"),
    *("C5", "C3", "C1", "Cz", "C2", "C4", "C6", "T8", "TP9", "TP7", "CP5", "CP3", "CP1", "CPz"),
    *("CP2", "CP4", "CP6", "TP8", "TP10", *POSTERIOR),
)
MEG_CHANNELS = tuple(f"MEG{number:03d}" for number in range(1, 272))


def write_synthetic_things(root: Path, spec: SyntheticThingsSpec) -> None:
    """Write images and responses to a new folder `root`: all files or none.

    A folder that already holds the data of this spec is left as it is.

    Raises:
        UserError: The folder holds something else or cannot be written.
    """
    write_folder(
        root,
        "synthetic data",
        partial(_write_files, spec=spec),
        partial(holds_synthetic_things, root, spec),
    )


def holds_synthetic_things(root: Path, spec: SyntheticThingsSpec) -> bool:
    """Whether `root` already holds the data of this very specification."""
    return (root / RECORD).is_file() and read_json_as(root / RECORD, dict) == _record(spec)


def image_latents(spec: SyntheticThingsSpec, part: Part) -> np.ndarray:
    """Values of the images' squares, 0 to 1, `[concepts, images of each, 12]`."""
    n_concepts, n_each, _ = spec.n_images(part)
    generator = np.random.default_rng([spec.seed, 0, part == "test"])
    concepts = generator.uniform(0, 1, (n_concepts, 1, LATENTS))
    images = WITHIN_CONCEPT * generator.standard_normal((n_concepts, n_each, LATENTS))
    return np.clip(concepts + images, 0, 1)


def times_and_channels(spec: SyntheticThingsSpec) -> tuple[np.ndarray, tuple[str, ...]]:
    """Times of the samples, seconds from the image's onset, and names of the channels."""
    if spec.modality == "meg":
        return np.arange(201 if spec.variant == "ubp" else 200) / 200, MEG_CHANNELS
    if spec.variant == "official":
        return np.arange(-20, 80) / 100, OFFICIAL_CHANNELS
    return np.arange(250) / 250, EEG_CHANNELS


def _write_files(root: Path, spec: SyntheticThingsSpec) -> None:
    files = {part: _write_images(root, spec, part) for part in get_args(Part)}
    if spec.modality == "eeg":
        _write_metadata(root, files)
    for subject in range(1, spec.subjects + 1):
        folder = root / f"sub-{subject:02d}"
        folder.mkdir()
        for part in ("training", "test"):
            _WRITERS[spec.variant](folder, spec, part, _responses(spec, subject, part), files[part])
    (root / RECORD).write_text(json.dumps(_record(spec), indent=1) + "\n")


def _write_images(root: Path, spec: SyntheticThingsSpec, part: Part) -> list[str]:
    """Write the images of a part, and return their paths below the folder, in order."""
    paths = []
    for concept, latents in enumerate(image_latents(spec, part)):
        # Numbers in a name begin where training ends: no test concept is one of training.
        name = f"synthetic{concept + (spec.concepts if part == 'test' else 0):05d}"
        folder = root / _folder(spec, part) / f"{concept + 1:05d}_{name}"
        folder.mkdir(parents=True)
        for number, values in enumerate(latents):
            path = folder / f"{name}_{number + 1:02d}{'s' if number else 'b'}.{spec.image_format}"
            generator = np.random.default_rng([spec.seed, 1, part == "test", concept, number])
            _picture(values, spec.image_px, generator).save(path)
            paths.append(path.relative_to(root).as_posix())
    return paths


def _folder(spec: SyntheticThingsSpec, part: Part) -> str:
    if part == "test":
        return "test_images"
    return "training_images" if spec.variant in ("official", "nice") else "train_images"


def _picture(values: np.ndarray, side: int, generator: np.random.Generator) -> Image.Image:
    squares = DARKEST + (BRIGHTEST - DARKEST) * values.reshape(2, 2, 3)
    place = np.arange(side) * 2 // side
    pixels = squares[place[:, None], place] + generator.normal(0, GRAIN, (side, side, 1))
    return Image.fromarray(np.rint(pixels).clip(0, 255).astype(np.uint8))


def _responses(spec: SyntheticThingsSpec, subject: int, part: Part) -> np.ndarray:
    """Responses of a subject, float32 `[images, repetitions, channels, samples]`."""
    evoked = evoked_waves(spec, subject)
    latents = image_latents(spec, part).reshape(-1, LATENTS) - 0.5
    generator = np.random.default_rng([spec.seed, 2, subject, part == "test"])
    shape = (len(latents), spec.n_images(part)[2], *evoked.shape[1:])
    signals = generator.standard_normal(shape, dtype=np.float32)
    for signal, values in zip(signals, latents, strict=True):
        # Not a matrix product, whose rounding differs between machines: the files must not.
        signal += np.einsum("d,dct->ct", values, evoked).astype(np.float32)
    return signals


def evoked_waves(spec: SyntheticThingsSpec, subject: int) -> np.ndarray:
    """What a unit of each image value evokes in a subject, `[12, channels, samples]`."""
    times_s, channels = times_and_channels(spec)
    shared = np.random.default_rng([spec.seed, 3])
    latency_s, rate_hz = shared.uniform(0.1, 0.5, LATENTS), shared.uniform(3, 9, LATENTS)
    pattern = shared.standard_normal((LATENTS, len(channels)))
    own = np.random.default_rng([spec.seed, 4, subject]).standard_normal(pattern.shape)
    if spec.modality == "eeg":
        pattern[:, [name not in POSTERIOR for name in channels]] *= ELSEWHERE
    since_s = times_s - latency_s[:, None]
    wave = np.exp(-((since_s / 0.06) ** 2) / 2) * np.cos(2 * np.pi * rate_hz[:, None] * since_s)
    pattern = spec.coupling * EVOKED * (pattern + OWN_PATTERN * own)
    evoked: np.ndarray = pattern[:, :, None] * wave[:, None, :]
    return evoked


def _write_metadata(root: Path, files: dict[Part, list[str]]) -> None:
    metadata: dict[str, list[str]] = {}
    keys: dict[Part, str] = {"training": "train", "test": "test"}
    for part, key in keys.items():
        pairs = [path.split("/")[1:] for path in files[part]]
        metadata[f"{key}_img_concepts"] = [concept for concept, _ in pairs]
        metadata[f"{key}_img_concepts_THINGS"] = metadata[f"{key}_img_concepts"]
        metadata[f"{key}_img_files"] = [name for _, name in pairs]
    np.save(root / METADATA, np.array(metadata))


def _full_times(spec: SyntheticThingsSpec) -> np.ndarray:
    """Times as the EEG files of three groups list them: with those of the dropped baseline."""
    times_s, _ = times_and_channels(spec)
    return times_s if spec.modality == "meg" else np.arange(-50, 250) / 250


def _write_official(
    folder: Path, spec: SyntheticThingsSpec, part: Part, signals: np.ndarray, _: list[str]
) -> None:
    times_s, channels = times_and_channels(spec)
    content: dict[str, Any] = {"preprocessed_eeg_data": signals.astype(np.float64)}
    content |= {"ch_names": list(channels), "times": times_s}
    np.save(folder / f"preprocessed_eeg_{part}.npy", np.array(content))


def _write_nice(
    folder: Path, spec: SyntheticThingsSpec, part: Part, signals: np.ndarray, _: list[str]
) -> None:
    content: dict[str, Any] = {"preprocessed_eeg_data": signals.astype(np.float64)}
    content |= {"ch_names": list(EEG_CHANNELS), "times": _full_times(spec)}
    _dump(folder / f"preprocessed_eeg_{part}.npy", content)


def _write_ubp(
    folder: Path, spec: SyntheticThingsSpec, part: Part, signals: np.ndarray, files: list[str]
) -> None:
    _, channels = times_and_channels(spec)
    n_concepts, n_each, repetitions = spec.n_images(part)
    by_row = {
        "label": np.repeat(np.arange(n_concepts), n_each),
        "img": np.array(files),
        "text": np.array([path.split("/")[-1].rsplit("_", 1)[0] for path in files]),
        "session": np.zeros(len(files)),
    }
    if spec.modality == "eeg":
        by_row = {key: np.tile(value[:, None], repetitions) for key, value in by_row.items()}
    content = {"eeg": signals.astype(np.float16)} | by_row
    content |= {"ch_names": list(channels), "times": _full_times(spec)}
    torch.save(content, folder / f"{_short(part)}.pt", pickle_protocol=5)


def _write_neurobridge(
    folder: Path, spec: SyntheticThingsSpec, part: Part, signals: np.ndarray, _: list[str]
) -> None:
    names = [] if spec.modality == "meg" else list(EEG_CHANNELS)
    content = {"data": _by_concept(spec, part, signals), "ch_names": names}
    _dump(folder / f"{_short(part)}.npy", content | {"times": _full_times(spec)})


def _write_array(
    folder: Path, spec: SyntheticThingsSpec, part: Part, signals: np.ndarray, _: list[str]
) -> None:
    np.save(folder / f"{_short(part)}.npy", _by_concept(spec, part, signals))
    times_s, channels = times_and_channels(spec)
    info = {"ch_names": channels, "times": times_s.tolist()}
    (folder.parent / INFO).write_text(json.dumps(info) + "\n")


_WRITERS: dict[Variant, Callable[..., None]] = {
    "official": _write_official,
    "nice": _write_nice,
    "ubp": _write_ubp,
    "neurobridge": _write_neurobridge,
    "array": _write_array,
}


def _by_concept(spec: SyntheticThingsSpec, part: Part, signals: np.ndarray) -> np.ndarray:
    n_concepts, n_each, _ = spec.n_images(part)
    return signals.reshape(n_concepts, n_each, *signals.shape[1:])


def _short(part: Part) -> str:
    return "train" if part == "training" else "test"


def _dump(path: Path, content: dict[str, Any]) -> None:
    with path.open("wb") as file:
        pickle.dump(content, file, protocol=4)


def _record(spec: SyntheticThingsSpec) -> dict[str, Any]:
    return {"synthetic": dataclasses.asdict(spec) | {"format_version": FORMAT_VERSION}}


def main(command: SyntheticThingsCommand) -> None:
    """Write made-up THINGS-EEG2 or THINGS-MEG data to the folder OUT."""
    spec = inherited(command, SyntheticThingsSpec)
    there = holds_synthetic_things(command.out, spec)
    write_synthetic_things(command.out, spec)
    print(
        f"{command.out}: {'was already there' if there else 'written'}, {spec.modality} "
        f"{spec.variant}, {counted(spec.subjects, 'subject')}, {spec.concepts} x "
        f"{spec.images_per_concept} + {counted(spec.test_concepts, 'image')}, coupling "
        f"{spec.coupling:g}, seed {spec.seed}"
    )


if __name__ == "__main__":
    run_command(SyntheticThingsCommand, main)
