"""The header of an EDF or BDF file, for what MNE does not say of it: gaps, and units.

Kemp & Olivan, "European data format 'plus' (EDF+)", Clinical Neurophysiology 2003. A file of the
kind EDF+D has gaps: each of its records says when it starts, in a channel of annotations.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssense.errors import UserError

EDF_SUFFIXES = {".edf": 2, ".bdf": 3}
"""Endings of the names of such files, and bytes of a sample."""
_FIXED, _OF_A_CHANNEL = 256, 256
_KIND, _DURATION, _CHANNELS = 192, 244, 252
_DISCONTINUOUS = (b"EDF+D", b"BDF+D")
_ANNOTATIONS = ("EDF Annotations", "BDF Annotations")
_START = re.compile(rb"\s*([+-]\d+(?:\.\d*)?)[\x14\x15]")


@dataclass(frozen=True, kw_only=True)
class EdfHeader:
    """What the header of a file says.

    Attributes:
        has_gaps: Whether the file may have gaps between its records.
        duration_s: Seconds of a record.
        labels: Names of the channels.
        units: Unit of each channel, as it is written.
        samples: Samples of each channel in a record.
    """

    has_gaps: bool
    duration_s: float
    labels: tuple[str, ...]
    units: tuple[str, ...]
    samples: tuple[int, ...]


def read_edf_header(path: Path) -> EdfHeader | None:
    """The header of a file; None of one that is no such file, or damaged."""
    if path.suffix.lower() not in EDF_SUFFIXES:
        return None
    try:
        with path.open("rb") as file:
            fixed = file.read(_FIXED)
            n = int(fixed[_CHANNELS:])
            fields = file.read(_OF_A_CHANNEL * n)
        return EdfHeader(
            has_gaps=fixed[_KIND : _KIND + 5] in _DISCONTINUOUS,
            duration_s=float(fixed[_DURATION:_CHANNELS]),
            labels=_column(fields, n, 0, 16),
            units=_column(fields, n, 96, 8),
            samples=tuple(int(number) for number in _column(fields, n, 216, 8)),
        )
    except (OSError, ValueError):  # MNE says what is wrong with it
        return None


def refuse_gaps(path: Path) -> None:
    """Refuse a file with gaps between its records: MNE reads them as if they were none.

    Raises:
        UserError: A record does not start where the one before it ends, or does not say where.
    """
    header = read_edf_header(path)
    if header is None or not header.has_gaps:
        return
    starts_s = _starts(path, header)
    expected_s = starts_s[0] + header.duration_s * np.arange(len(starts_s))
    half_a_sample = header.duration_s / max(header.samples) / 2
    late = ~(np.abs(starts_s - expected_s) <= half_a_sample)  # also NaN
    if late.any():
        first = int(np.argmax(late))
        raise UserError(
            f"{path} has gaps (EDF+D): record {first + 1} starts at {starts_s[first]:g} s, and the "
            f"one before it ends at {expected_s[first]:g} s, so that all later samples would be "
            "shifted against the times of the stimuli. Export it without gaps, as EDF+C, or a file "
            "for each stretch."
        )


def _starts(path: Path, header: EdfHeader) -> np.ndarray:
    """When each record starts, seconds; NaN where it does not say."""
    width = EDF_SUFFIXES[path.suffix.lower()]
    ends = width * np.cumsum(header.samples)
    channel = next((i for i, name in enumerate(header.labels) if name in _ANNOTATIONS), None)
    first_byte = _FIXED + _OF_A_CHANNEL * len(header.labels)
    n_records = (path.stat().st_size - first_byte) // int(ends[-1])
    if channel is None or n_records == 0:
        return np.array([np.nan])
    stop, size = int(ends[channel]), width * header.samples[channel]
    records = np.memmap(path, np.uint8, "r", first_byte, (n_records, int(ends[-1])))
    found = (_START.match(record.tobytes()) for record in records[:, stop - size : stop])
    return np.array([float(match[1]) if match else np.nan for match in found])


def _column(fields: bytes, n: int, offset: int, width: int) -> tuple[str, ...]:
    """One field of every channel: all names stand together, then all of the next field."""
    text = fields[n * offset : n * (offset + width)].decode("latin-1")
    if len(text) != n * width:
        raise ValueError("the header is cut short")
    return tuple(text[i * width : (i + 1) * width].strip() for i in range(n))
