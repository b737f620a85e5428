"""THINGS-EEG2 and THINGS-MEG: averaged responses of all subjects, and the images they saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from upath import UPath

from ssense.choices import Part
from ssense.data.things.images import ImageSet, read_image_set, require_zero_shot
from ssense.data.things.responses import (
    Responses,
    ResponseSpec,
    average,
    open_responses,
    pick_channels,
    pick_window,
)
from ssense.errors import UserError, counted, printable
from ssense.files.digest import digest, file_digest
from ssense.files.storage import exists
from ssense.files.tables import listing
from ssense.files.tensor_file import read_tensor, write_tensor

FORMAT_VERSION = 1  # raise it when the same files give other responses


@dataclass(frozen=True, eq=False, kw_only=True)
class Things:
    """Responses of S subjects, repetitions averaged, in one copy that every fold shares.

    Attributes:
        digest: Digest of the responses' origin: files, channels, window, names of images. What the
            images show is named by the key of their features.
        subjects: Names of the S subjects, "sub-01".
        channels: Names of the C channels.
        training: Training responses `[S, N, C, T]` float32.
        test: Test responses `[S, M, C, T]` float32.
        training_images: The N images that all subjects saw.
        test_images: The M images of the test, of other concepts.
    """

    digest: str
    subjects: tuple[str, ...]
    channels: tuple[str, ...]
    training: np.ndarray
    test: np.ndarray
    training_images: ImageSet
    test_images: ImageSet

    @property
    def nbytes(self) -> int:
        """Bytes of the responses."""
        return self.training.nbytes + self.test.nbytes

    def rows(self, part: Part) -> np.ndarray:
        """Responses of all subjects one after another, `[S·N, C, T]`, the same memory."""
        signals = self.training if part == "training" else self.test
        return signals.reshape(-1, *signals.shape[2:])


def read_things(
    responses: Path,
    images: Path,
    spec: ResponseSpec,
    subjects: Sequence[str] = (),
    cache: UPath | None = None,
) -> Things:
    """Read the responses of several subjects, and list the images that evoked them.

    With a cache, the averages of a file are kept there: the repetitions of THINGS-EEG2 are a
    hundred times as large.

    Args:
        responses: Folder with a folder of each subject, "sub-01" and so on.
        images: Folder with the image folders, see `read_image_set`.
        spec: Channels and window.
        subjects: Names of the subjects; all that are there when none is given.
        cache: Folder of cached averages.

    Raises:
        UserError: Something is missing or damaged, or subjects, parts and images don't fit
            together.
    """
    try:
        return _read(responses, images, spec, subjects, cache)
    except OSError as error:
        raise UserError(
            f"cannot read {error.filename or responses}: {error.strerror}. Check its permissions."
        ) from error


def _read(
    responses: Path, images: Path, spec: ResponseSpec, wanted: Sequence[str], cache: UPath | None
) -> Things:
    subjects = subject_names(responses, wanted)
    training_images, test_images = (read_image_set(images, part) for part in ("training", "test"))
    require_zero_shot(training_images, test_images)
    training = [open_responses(responses / subject, "training") for subject in subjects]
    test = [open_responses(responses / subject, "test") for subject in subjects]
    channels, times_s = _shared_axes([*training, *test], spec)
    return Things(
        digest=_digest([*training, *test], spec, channels, times_s, training_images, test_images),
        subjects=subjects,
        channels=channels,
        training=_stacked(training, training_images, spec, cache),
        test=_stacked(test, test_images, spec, cache),
        training_images=training_images,
        test_images=test_images,
    )


def subject_names(root: Path, wanted: Sequence[str] = ()) -> tuple[str, ...]:
    """The subjects whose responses are in a folder, or those wanted of them.

    Raises:
        UserError: The folder has no subject, or a wanted one is missing or named twice.
    """
    found = sorted(path.name for path in root.glob("sub-*") if path.is_dir())
    if not found:
        raise UserError(
            f"{root} has no folder of a subject, sub-01 and so on. Give the folder that has them."
        )
    missing = [name for name in wanted if name not in found]
    if missing:
        raise UserError(
            f"no subject {printable(missing[0])} in {root}. Found: {listing(found)}. Check "
            "`subjects`."
        )
    repeated = [name for name in wanted if list(wanted).count(name) > 1]
    if repeated:
        raise UserError(f"subject {repeated[0]} is given more than once. Check `subjects`.")
    return tuple(wanted or found)


def _shared_axes(files: list[Responses], spec: ResponseSpec) -> tuple[tuple[str, ...], np.ndarray]:
    """Channels and times that all files share once selected."""
    axes = []
    for file in files:
        names = tuple(file.channels[channel] for channel in pick_channels(file, spec))
        axes.append((names, file.times_s[pick_window(file, spec)]))
    channels, times_s = axes[0]
    for file, (names, times) in zip(files, axes, strict=True):
        same = len(times) == len(times_s) and np.allclose(times, times_s, rtol=0, atol=1e-3)
        if names != channels or not same:
            raise UserError(
                f"{file.path} gives {counted(len(names), 'channel')} ({listing(names, 4)}) x "
                f"{counted(len(times), 'sample')}, {files[0].path} {len(channels)} "
                f"({listing(channels, 4)}) x {len(times_s)}. Use files of one variant."
            )
    return channels, times_s


def _stacked(
    files: list[Responses], images: ImageSet, spec: ResponseSpec, cache: UPath | None
) -> np.ndarray:
    first = _averages(files[0], images, spec, cache)
    stacked = np.empty((len(files), *first.shape), np.float32)
    stacked[0] = first
    for file, out in zip(files[1:], stacked[1:], strict=True):
        out[:] = _averages(file, images, spec, cache)
    return stacked


def _averages(
    file: Responses, images: ImageSet, spec: ResponseSpec, cache: UPath | None
) -> np.ndarray:
    if cache is None:
        return average(file, images, spec)
    axes = file.channels, file.times_s.round(6).tolist()  # of a bare array, another file has them
    name = digest("averages", FORMAT_VERSION, file_digest(file.path), axes, spec, images.files)
    path, origin = cache / f"{name}.safetensors", {"origin": name}
    if exists(path):
        picked = len(pick_channels(file, spec)), len(file.times_s[pick_window(file, spec)])
        shape = (len(images), *picked)
        return read_tensor(path, "averages", origin, shape=shape, dtype=torch.float32).numpy()
    made = average(file, images, spec)
    write_tensor(path, "averages", torch.from_numpy(made), origin)
    return made


def _digest(
    files: list[Responses],
    spec: ResponseSpec,
    channels: tuple[str, ...],
    times_s: np.ndarray,
    *images: ImageSet,
) -> str:
    return digest(
        *("things", FORMAT_VERSION, spec, channels, times_s.round(6).tolist()),
        [(file_digest(file.path), file.channels) for file in files],
        [image_set.files for image_set in images],
    )
