"""Files of brain responses to the THINGS images, one subject and part each, as published.

Four kinds of file, told apart by what they hold, all of one array over images, repetitions,
channels and samples:

    preprocessed_eeg_{training,test}.npy   a dict with `preprocessed_eeg_data`: THINGS-EEG2's own
        (17 channels, 100 Hz) and those of NICE and ATM (63 channels, 250 Hz)
    {train,test}.pt                        a dict with `eeg`: UBP, EEG and MEG
    {train,test}.npy                       a dict with `data`, or the array alone beside an
        `info.json`: NeuroBridge, EEG and MEG, with images split into concepts and theirs

THINGS-EEG2's own files were whitened with the noise of training and test responses together, the
others with that of training alone; their results do not belong in one table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ssense.choices import Part
from ssense.data.things.images import ImageSet
from ssense.errors import UserError, counted, printable
from ssense.files.restricted_pickle import load_restricted
from ssense.files.tables import listing, read_json_as

POSTERIOR = (
    *("P7", "P5", "P3", "P1", "Pz", "P2", "P4", "P6", "P8"),
    *("PO7", "PO3", "POz", "PO4", "PO8", "O1", "Oz", "O2"),
)
"""The 17 channels over occipital and parietal cortex that THINGS-EEG2's own files have."""

FILES: dict[Part, tuple[str, ...]] = {
    "training": ("preprocessed_eeg_training.npy", "train.pt", "train.npy"),
    "test": ("preprocessed_eeg_test.npy", "test.pt", "test.npy"),
}
INFO = "info.json"
SIGNAL_KEYS = ("preprocessed_eeg_data", "eeg", "data")

_MEG_CHANNELS, _MEG_RATE_HZ = 271, 200
_CHUNK_BYTES = 2**26  # read at once


@dataclass(frozen=True, kw_only=True)
class ResponseSpec:
    """Channels and time window to take of the responses.

    Attributes:
        channels: Channels over occipital and parietal cortex, or all.
        start_s: Start of the window, seconds from the image's onset.
        stop_s: End of the window; the sample at this time is not in it, so that 0 to 1 s at 250 Hz
            are 250 samples. THINGS-EEG2's own files end at 0.8 s.
    """

    channels: Literal["posterior", "all"] = "posterior"
    start_s: float = 0.0
    stop_s: float = 1.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Responses:
    """One file, opened; its samples are read when they are averaged.

    Attributes:
        path: Path of the file.
        signals: Samples `[images, repetitions, channels, samples]`, floating point, a view of the
            file.
        channels: Names of the channels, "channel 1" and so on where the file has none
            (NeuroBridge's MEG).
        times_s: Times of the samples, seconds from the image's onset.
        images: File name of each row's image, "00001_aardvark/aardvark_01b.jpg"; none where the
            rows are in the order of the image folders.
    """

    path: Path
    signals: np.ndarray
    channels: tuple[str, ...]
    times_s: np.ndarray
    images: tuple[str, ...] | None


def open_responses(folder: Path, part: Part) -> Responses:
    """Open the responses of one subject and part.

    Args:
        folder: Folder of the subject, ".../sub-01".
        part: Part to open, training or test.

    Raises:
        UserError: The file is missing, damaged or there in several variants, or its channels, times
            and images don't fit its samples.
    """
    path = _file(folder, part)
    content = load_restricted(path)
    if isinstance(content, np.ndarray):
        content = {"data": content} | _info(path)
    if not isinstance(content, dict):
        raise _unexpected(path, f"a {type(content).__name__}, not a dict or an array")
    signals = _signals(content, path)
    *_, n_channels, n_samples = signals.shape
    return Responses(
        path=path,
        signals=signals,
        channels=_channels(content.get("ch_names"), n_channels, path),
        times_s=_times(content.get("times"), n_channels, n_samples, path),
        images=_images(content.get("img"), len(signals), path),
    )


def average(responses: Responses, images: ImageSet, spec: ResponseSpec) -> np.ndarray:
    """Average the repetitions of each image, in single precision.

    Args:
        responses: The opened responses.
        images: Images that were shown; row i of the result is the response to image i.
        spec: Channels and window.

    Returns:
        Float32 `[images, channels, samples]`.

    Raises:
        UserError: The images are others, a channel is missing, the window is not within the
            recorded time, or a value is not finite.
    """
    order = _order(responses, images)
    channels, window = pick_channels(responses, spec), pick_window(responses, spec)
    signals = responses.signals[:, :, _as_slice(channels), window]
    averaged = np.empty((len(signals), *signals.shape[2:]), np.float32)
    at_once = max(1, _CHUNK_BYTES // signals[0].nbytes)
    for first in range(0, len(signals), at_once):
        rows = _as_slice(order[first : first + at_once])
        with np.errstate(all="ignore"):  # values too large for single precision are found below
            np.mean(signals[rows], axis=1, dtype=np.float32, out=averaged[first : first + at_once])
    names = [responses.channels[channel] for channel in channels]
    _require_finite(averaged, responses, images, names)
    return averaged


def pick_channels(responses: Responses, spec: ResponseSpec) -> np.ndarray:
    """Indices of the channels asked for, int64.

    Raises:
        UserError: A channel is missing.
    """
    names = responses.channels if spec.channels == "all" else POSTERIOR
    missing = [name for name in names if name not in responses.channels]
    if missing:
        raise UserError(
            f"{responses.path} has no channel {listing(missing)}. "
            f"Found: {listing(responses.channels)}. Set `channels` to all."
        )
    return np.array([responses.channels.index(name) for name in names])


def pick_window(responses: Responses, spec: ResponseSpec) -> slice:
    """Samples of the window asked for.

    Raises:
        UserError: The window is empty or not within the recorded time.
    """
    times_s, step_s = responses.times_s, responses.times_s[1] - responses.times_s[0]
    # Times come rounded; half a sample is more than any rounding.
    begin, end = np.searchsorted(times_s, [spec.start_s - step_s / 2, spec.stop_s - step_s / 2])
    before = times_s[0] > spec.start_s + step_s / 2
    after = times_s[-1] < spec.stop_s - 1.5 * step_s
    if before or after or not begin < end:
        raise UserError(
            f"{responses.path} covers {times_s[0]:g} to {times_s[-1] + step_s:g} s, not "
            f"{spec.start_s:g} to {spec.stop_s:g} s. Choose `start_s` and `stop_s` within it."
        )
    return slice(int(begin), int(end))


def _file(folder: Path, part: Part) -> Path:
    found = [folder / name for name in FILES[part] if (folder / name).exists()]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(
            f"{folder} has several files of {part} responses: "
            f"{listing([path.name for path in found])}. Keep one."
        )
    there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    raise UserError(
        f"{folder} has no {part} responses, {' or '.join(FILES[part])}. Found: {listing(there)}. "
        "Download them there."
    )


def _info(path: Path) -> dict[str, Any]:
    """Channels and times of a bare array, from the file beside it or one folder up."""
    for folder in (path.parent, path.parent.parent):
        if (folder / INFO).exists():
            info: dict[str, Any] = read_json_as(folder / INFO, dict)
            return info
    raise UserError(
        f"{path} is a bare array, with no {INFO} (ch_names and times) beside it or one folder up. "
        "Download that file there."
    )


def _signals(content: dict[str, Any], path: Path) -> np.ndarray:
    keys = [key for key in SIGNAL_KEYS if key in content]
    if not keys:
        raise _unexpected(path, f"{listing([str(key) for key in content])}, not the responses")
    signals = content[keys[0]]
    if not isinstance(signals, np.ndarray) or signals.dtype.kind != "f":
        kind = signals.dtype if isinstance(signals, np.ndarray) else type(signals).__name__
        raise _unexpected(path, f"{keys[0]} of the type {kind}, not floating point")
    if signals.ndim not in (4, 5) or signals.size == 0 or signals.shape[-1] < 2:
        raise _unexpected(
            path,
            f"{keys[0]} of shape {signals.shape}, not images x repetitions x channels x samples",
        )
    return signals.reshape(-1, *signals.shape[-3:])


def _channels(names: Any, n: int, path: Path) -> tuple[str, ...]:
    names = names.tolist() if isinstance(names, np.ndarray) else names
    if names is None or names == []:
        return tuple(f"channel {number}" for number in range(1, n + 1))
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise _unexpected(path, "ch_names that are not a list of names")
    if len(names) != n:
        raise _unexpected(
            path, f"{counted(len(names), 'channel name')} for {counted(n, 'channel')}"
        )
    if len(set(names)) != n:
        repeated = next(name for name in names if names.count(name) > 1)
        raise _unexpected(path, f"the channel name {printable(repeated)} twice")
    return tuple(names)


def _times(times: Any, n_channels: int, n: int, path: Path) -> np.ndarray:
    """Times of the samples; the files of three groups still list those of a dropped baseline."""
    if times is None and n_channels == _MEG_CHANNELS and n in (_MEG_RATE_HZ, _MEG_RATE_HZ + 1):
        return np.arange(n) / _MEG_RATE_HZ
    try:
        times_s = np.asarray(times, np.float64)
    except (TypeError, ValueError, OverflowError):
        times_s = np.array(np.nan)
    if times_s.ndim != 1 or not np.isfinite(times_s).all():
        raise _unexpected(path, "times that are not a list of seconds")
    if len(times_s) < n:
        raise _unexpected(path, f"{len(times_s)} times for {n} samples")
    times_s = times_s[len(times_s) - n :]
    with np.errstate(all="ignore"):
        steps = np.diff(times_s)
    if not (steps.min() > 0 and np.ptp(steps) < 0.1 * steps.min()):
        raise _unexpected(path, "times that are not evenly spaced")
    return times_s


def _images(names: Any, n: int, path: Path) -> tuple[str, ...] | None:
    if names is None:
        return None
    names = np.array(names) if isinstance(names, list | tuple) else names
    if not isinstance(names, np.ndarray) or names.dtype.kind != "U" or names.ndim not in (1, 2):
        raise _unexpected(path, "img that is not an array of file names")
    by_row = names.reshape(len(names), -1)
    if len(names) != n or by_row.shape[1] == 0:
        raise _unexpected(
            path, f"file names of {counted(len(names), 'image')} for responses to {n}"
        )
    if (by_row != by_row[:, :1]).any():
        raise _unexpected(path, "rows of img with several images")
    return tuple(
        "/".join(name.replace("\\", "/").split("/")[-2:]) for name in by_row[:, 0].tolist()
    )


def _order(responses: Responses, images: ImageSet) -> np.ndarray:
    """Row of the responses for each image, int64 `[images]`."""
    if len(responses.signals) != len(images):
        raise UserError(
            f"{responses.path} has responses to {counted(len(responses.signals), 'image')}, "
            f"{images.folder} holds {len(images)}. Give the images that were shown, or download "
            "all of them."
        )
    if responses.images is None:
        return np.arange(len(images))
    row_of = {name: row for row, name in enumerate(responses.images)}
    missing = [name for name in images.files if name not in row_of]
    if missing:
        raise UserError(
            f"{responses.path} has no response to {printable(missing[0])} of {images.folder} "
            f"({counted(len(missing), 'such image')}). Give the images that were shown."
        )
    return np.array([row_of[name] for name in images.files])


def _as_slice(index: np.ndarray) -> np.ndarray | slice:
    """A run of indices as a slice, with which nothing is copied."""
    first = int(index[0])
    consecutive = np.array_equal(index, np.arange(first, first + len(index)))
    return slice(first, first + len(index)) if consecutive else index


def _require_finite(
    signals: np.ndarray, responses: Responses, images: ImageSet, channels: Sequence[str]
) -> None:
    # One image at a time would be slow, all at once takes a quarter of the data's memory.
    for first in range(0, len(signals), 1024):
        bad = np.argwhere(~np.isfinite(signals[first : first + 1024]))
        if len(bad):
            image, channel, _ = bad[0]
            raise UserError(
                f"{responses.path}: the response to {printable(images.files[first + image])} at "
                f"{printable(channels[channel])} is not finite. Restore the file from the download."
            )


def _unexpected(path: Path, what: str) -> UserError:
    return UserError(f"{path} holds {what}. Restore the file from the download.")
