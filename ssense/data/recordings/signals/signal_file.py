"""The HDF5 file of a recording's signals: opened, checked, and what is wrong with it explained."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from ssense.errors import UserError, counted, one_line, printable
from ssense.files.tables import listing

# The release holds datasets that no label names: one for sub_1, 10 beside 154 labels for sub_2.
# A larger surplus means that the labels belong to another recording or are cut short.
UNLABELLED_ALWAYS_TOLERATED = 1
UNLABELLED_TOLERATED_FRACTION = 0.07

_CHANNEL = re.compile(r"electrode_(0|[1-9][0-9]{0,8})")
_RATE_NAME = re.compile(r"(fs|sr|s?_?rate|s?_?freq)(_?hz)?|.*sampl.*(rate|freq|hz|per).*", re.I)
_TEXT_WIDTH = 40
# Registered filters that people write recordings with (The HDF Group's list of filter plugins).
_FILTERS = {
    305: "LZO", 307: "bzip2", 32000: "lzf", 32001: "Blosc", 32004: "LZ4", 32008: "bitshuffle",
    32013: "ZFP", 32015: "Zstandard", 32026: "Blosc2",
}  # fmt: skip
# What HDF5 says, and what it means.
_CAUSES = (
    (
        r"already open for|consistency flags",
        "the program that wrote it did not close it. If none has it open any more, run h5clear -s "
        "{path} there, or write it again.",
    ),
    (
        r"unable to lock|Resource temporarily unavailable",
        "another program has it open for writing: close it there. On a file system without locks, "
        "set HDF5_USE_FILE_LOCKING=FALSE.",
    ),
    (
        r"too many links|maximum recursion depth",
        "a link or virtual dataset leads back to itself. Write the samples in its place.",
    ),
    (r"Permission denied", "permission denied. Check its permissions."),
    (
        r"file signature not found",
        "it is another kind of file. Download and unzip it again, or write it as HDF5.",
    ),
)
_CUT_SHORT = "The file may be cut short: download and unzip it again, or write it again."


@contextmanager
def open_signals(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file.

    Raises:
        UserError: The file can't be opened or read.
    """
    try:
        with h5py.File(path, "r") as file:
            yield file
    except UserError:
        raise
    except Exception as error:  # h5py raises half of the built-in ones on a damaged file
        found = (way_out for cause, way_out in _CAUSES if re.search(cause, str(error)))
        advice = next(found, f"{one_line(error)}. {_CUT_SHORT}").format(path=path.name)
        raise UserError(f"cannot read {path} as HDF5: {advice}") from error


def channel_length(path: Path, n_labels: int, labels_path: Path) -> int:
    """Samples of every channel, once the channels are found to fit their labels.

    Raises:
        UserError: The file can't be read, channels are missing, too many, of unequal or impossible
            shape, in other files, or compressed by a filter that is not at hand.
    """
    with open_signals(path) as file:
        channels = _channels(file, path)
        missing = [number for number in range(n_labels) if number not in channels]
        for name in ("data", *(f"data/electrode_{number}" for number in missing)):
            _refuse_other_items(file, name, path)
        if missing:
            advice = "Restore both files from the download."
            if others := _other_names(file):
                advice = f"{others}. Write them as data/electrode_0, 1, ... by the labels."
            raise UserError(
                f"{path} lacks data/electrode_{missing[0]}: {labels_path} names "
                f"{counted(n_labels, 'channel')}, of which {n_labels - len(missing)} can be found. "
                f"{advice}"
            )
        surplus = len(channels) - n_labels
        if surplus > max(UNLABELLED_ALWAYS_TOLERATED, UNLABELLED_TOLERATED_FRACTION * n_labels):
            raise UserError(
                f"{path} holds {counted(len(channels), 'channel')} but {labels_path} names only "
                f"{n_labels}. Restore both files from the download."
            )
        labelled = [channels[number] for number in range(n_labels)]
        length = _common_length(path, [channel.shape for channel in labelled])
        for channel in labelled:
            _check_filters(channel, path)
        return length


def unlabelled(path: Path, n_labels: int) -> tuple[str, ...]:
    """Names in the group `data` that no label stands for.

    Raises:
        UserError: The file can't be read.
    """
    labelled = {f"electrode_{number}" for number in range(n_labels)}
    with open_signals(path) as file:
        return tuple(name for name in file["data"] if name not in labelled)


def stated_rates(path: Path) -> dict[str, tuple[float | str, ...]]:
    """The attributes anywhere in the file that are named like a sampling rate, as they are.

    Different values by name; as text where they are no numbers.

    Raises:
        UserError: The file can't be read.
    """
    found: dict[str, list[float | str]] = {}

    def look(_: str, item: h5py.HLObject) -> None:
        for name in filter(_RATE_NAME.fullmatch, item.attrs):
            found.setdefault(name, []).append(_plain(item.attrs[name]))

    with open_signals(path) as file:
        look("/", file)
        file.visititems(look)
    return {name: tuple(dict.fromkeys(values)) for name, values in found.items()}


def _plain(value: object) -> float | str:
    """An attribute's value: a finite number, or else its text, shortened."""
    array = np.asarray(value)
    single = array.item() if array.size == 1 else array.tolist()
    try:
        number = float(single)
    except (TypeError, ValueError):
        number = math.nan
    if math.isfinite(number):
        return number
    text = single.decode(errors="replace") if isinstance(single, bytes) else str(single)
    return printable(text, _TEXT_WIDTH)


def _channels(file: h5py.File, path: Path) -> dict[int, h5py.Dataset]:
    """The channels by number; datasets of anything but real numbers do not count."""
    group = file.get("data")
    names = list(group) if isinstance(group, h5py.Group) else []
    numbered = {int(match[1]): match[0] for match in map(_CHANNEL.fullmatch, names) if match}
    for name in ("data", *(f"data/{name}" for name in numbered.values())):
        if elsewhere := other_file(file, name):
            other = printable(Path(elsewhere).name)
            raise UserError(
                f"{path}: the samples of {name} lie in another file, {other}, whose "
                "changes would go unnoticed. Write the samples themselves into the file."
            )
    channels = {number: group.get(name) for number, name in numbered.items()}
    return {
        number: channel
        for number, channel in channels.items()
        if isinstance(channel, h5py.Dataset)
        and channel.dtype.kind in "fiu"
        and channel.shape is not None
    }


def _other_names(file: h5py.File) -> str:
    """What is where channels are wanted, by names that are none of theirs; empty if nothing is."""
    group = file.get("data")
    if not isinstance(group, h5py.Group):
        return f"Without a group data, it holds {listing(list(file), most=5)}" if len(file) else ""
    others = [name for name in group if not _CHANNEL.fullmatch(name)]
    return f"The group data holds {listing(others, most=5)}" if others else ""


def _refuse_other_items(file: h5py.File, name: str, path: Path) -> None:
    """Report what stands in the place of a channel, or of their group, if anything does."""
    link, found = file.get(name, getlink=True), file.get(name)
    advice = "Write the samples there as whole or floating-point numbers."
    if found is None and isinstance(link, h5py.SoftLink):
        target = printable(link.path)
        raise UserError(
            f"{path}: {name} is a link to {target}, which leads to no samples in the file. {advice}"
        )
    if found is None or (name == "data" and isinstance(found, h5py.Group)):
        return
    if name == "data":
        raise UserError(
            f"{path}: data is a {type(found).__name__.lower()}, not a group of channels. Write one "
            "dataset for each channel, data/electrode_0 and so on."
        )
    raise UserError(f"{path}: {name} holds {_described(found)}, not samples. {advice}")


def _described(item: h5py.HLObject) -> str:
    if not isinstance(item, h5py.Dataset):
        return f"a {type(item).__name__.lower()}"
    if item.shape is None:
        return "an empty dataset without a shape"
    kinds = {"b": "booleans", "c": "complex numbers", "S": "text", "O": "text or objects"}
    return kinds.get(item.dtype.kind, f"values of type {printable(str(item.dtype))}")


def other_file(file: h5py.File, name: str) -> str:
    """A file that samples of a dataset lie in, if it is not the one that was opened."""
    link = file.get(name, getlink=True)
    if isinstance(link, h5py.ExternalLink):
        return str(link.filename)
    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        return ""
    if found.file.filename != file.filename:  # a folder on the way is a link
        return str(found.file.filename)
    if found.external:
        return str(found.external[0][0])
    sources = found.virtual_sources() if found.is_virtual else []
    others = (
        source.file_name if source.file_name != "." else other_file(file, source.dset_name)
        for source in sources
    )
    return next(filter(None, others), "")


def _common_length(path: Path, shapes: list[tuple[int, ...]]) -> int:
    usual = Counter(shapes).most_common(1)[0][0]
    for number, shape in enumerate(shapes):
        if len(shape) != 1 or shape[0] == 0:
            raise UserError(
                f"{path}: data/electrode_{number} has the shape {list(shape)}; a channel must be "
                "one row of samples, [N]. Write it again as a single row."
            )
        if shape != usual:
            raise UserError(
                f"{path}: data/electrode_{number} has {shape[0]:,} samples, electrode_"
                f"{shapes.index(usual)} has {usual[0]:,}; all must have the same number. "
                "Restore the file from the download."
            )
    return int(usual[0])


def _check_filters(channel: h5py.Dataset, path: Path) -> None:
    creation = channel.id.get_create_plist()
    for place in range(creation.get_nfilters()):
        number, _, _, stored = creation.get_filter(place)
        if not h5py.h5z.filter_avail(number):
            name = _FILTERS.get(number) or printable(stored.decode(errors="replace")) or "unknown"
            raise UserError(
                f"{path}: {channel.name.lstrip('/')} is compressed by a filter that this HDF5 "
                f"lacks, {name} (number {number}). Write the file again with gzip, lzf or no "
                "compression."
            )
