"""Onsets and ends of a table's rows in seconds of the recording, and what speaks against them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ssense.data.recordings.tables.column_names import TIMED, Columns
from ssense.data.recordings.tables.table import Table, Unit
from ssense.data.recordings.tables.table_spec import TimeUnit
from ssense.data.recordings.tables.time_unit import RawTimes, seconds_per, time_unit
from ssense.data.recordings.tables.times import Times, looks_like_times, read_times
from ssense.errors import UserError, counted, printable
from ssense.files.tables import listing

_RATE_TOLERANCE = 0.005  # by which a column of samples may differ from the sampling rate
_SAMPLE_TOLERANCE_S = 0.05
_END_TOLERANCE_S = 0.05  # between an end, and onset and duration
_ENOUGH_ROWS = 5  # to compare how long they last with how far they lie apart
_SPEAKING_AT_ONCE = 20.0  # rows at any moment; with milliseconds for seconds it is hundreds


@dataclass(frozen=True, eq=False)
class RowTimes:
    """When each row begins and ends.

    Attributes:
        onset_s, offset_s: Seconds of the recording, float64 [rows]; NaN where a row has no time.
        understood: How the times were read, a sentence each.
        doubts: What looks wrong, a sentence each.
    """

    onset_s: np.ndarray
    offset_s: np.ndarray
    understood: tuple[str, ...]
    doubts: tuple[str, ...]


def row_times(
    table: Table,
    columns: Columns,
    text: Sequence[str],
    wanted: TimeUnit,
    sampling_rate_hz: float | None,
    length_s: float | None,
) -> RowTimes:
    """Read the times of rows and find their unit.

    Args:
        table: The table.
        columns: Names of its columns.
        text: What each row says [rows], whose length is evidence of the unit.
        wanted: The unit that the user set.
        sampling_rate_hz: Sampling rate of the recording in Hz, if known.
        length_s: Length of the recording in seconds, if known.

    Raises:
        UserError: A cell is no time, a row ends before it starts, no row has times, or the unit
            can't be told.
    """
    roles = {role: name for role in TIMED if (name := getattr(columns, role))}
    times = read_times(table, list(roles.values()))
    units = {name: _own_unit(times[name], columns.units.get(name, ""), wanted) for name in times}
    # A column whose unit is not said has that of the others.
    said: set[Unit] = {unit for unit in units.values() if unit}
    raw = {role: times[name].values for role, name in roles.items()}
    if len(said) > 1:
        raw = {
            role: raw[role] * _scale(table, units[name], sampling_rate_hz, name)
            for role, name in roles.items()
        }
    onset, offset = raw["onset"], _ends(raw)
    _refuse_unusable(table, onset, offset, list(roles.values()))
    _refuse_two_units(table, onset, offset, list(roles.values()))
    numbers = RawTimes(onset, offset, np.array(list(map(len, text))), sampling_rate_hz, length_s)
    settled = len(said) > 1 or any(each.clock for each in times.values())
    prescribed = "seconds" if settled else next(iter(said), table.unit)
    found, *notes = time_unit(numbers, "auto" if settled else wanted, prescribed, table.where)
    onset_s, offset_s = onset * numbers.scale(found), offset * numbers.scale(found)
    understood, doubt = notes
    commas = any(each.commas for each in times.values())
    sample, contradiction = _sample_column(table, columns, onset_s, sampling_rate_hz)
    return RowTimes(
        onset_s,
        offset_s,
        _sentences(understood, "Decimals are written with commas." if commas else "", sample),
        _sentences(doubt, _two_ends(table, raw, numbers.scale(found)), contradiction),
    )


def _own_unit(times: Times, by_name: Unit | Literal[""], wanted: TimeUnit) -> Unit | Literal[""]:
    if times.clock:
        return "seconds"
    return by_name if wanted == "auto" else wanted


def _scale(
    table: Table, unit: Unit | Literal[""], sampling_rate_hz: float | None, name: str
) -> float:
    """Seconds per unit of one of several columns of different units."""
    if not unit or (unit == "samples" and not sampling_rate_hz):
        raise UserError(
            f"{table.where}: columns of times are in different units, and that of "
            f"{printable(name)} is not known. Name every unit in the header, as in onset_s, and "
            "give the sampling rate where it is samples."
        )
    return seconds_per(unit, sampling_rate_hz)


def _ends(raw: Mapping[str, np.ndarray]) -> np.ndarray:
    """Ends of rows [rows]: by their own column, and by the duration where it has none."""
    if "duration" not in raw:
        return raw["offset"]
    by_duration: np.ndarray = raw["onset"] + raw["duration"]
    if "offset" not in raw:
        return by_duration
    return np.where(np.isfinite(raw["offset"]), raw["offset"], by_duration)


def _refuse_unusable(table: Table, onset: np.ndarray, offset: np.ndarray, names: list[str]) -> None:
    """Refuse tables without a row that has both times, and rows that end before they start."""
    known = np.isfinite(onset) & np.isfinite(offset)
    if not known.any():
        raise UserError(
            f"{table.where}: no {table.place} with a text has both an onset and an end. Check the "
            f"columns {listing(names)}."
        )
    if np.all(offset[known] == onset[known]):
        raise UserError(
            f"{table.where}: every {table.place} ends when it starts. Set `offset` or `duration` "
            f"to a column that says how long they last; found {listing(list(table.columns))}."
        )
    backward = np.flatnonzero(known & (offset < onset))
    if not len(backward):
        return
    row = int(backward[0])
    message = f"{table.at(row)} ends at {offset[row]:.9g} before it starts at {onset[row]:.9g}"
    if len(backward) > known.sum() / 2:
        raise UserError(
            f"{message}, and so do {len(backward):,} of {known.sum():,}, as if onset and end were "
            "swapped, or the end a duration. Set `onset`, and `offset` or `duration`, to the right "
            "columns."
        )
    raise UserError(f"{message} (negative duration). Correct the times, or remove it.")


def _refuse_two_units(
    table: Table, onset: np.ndarray, offset: np.ndarray, names: list[str]
) -> None:
    """Refuse rows that all reach far beyond the next: onsets and ends are in different units.

    In whatever unit, rows last about as long as their onsets lie apart, and less where few speak.
    """
    known = np.isfinite(onset) & np.isfinite(offset)
    begins, length = np.sort(onset[known]), (offset - onset)[known]
    if len(begins) < _ENOUGH_ROWS:
        return
    apart, typical = np.ptp(begins) / (len(begins) - 1), float(np.median(length))
    if not 0 < _SPEAKING_AT_ONCE * apart < typical:
        return
    raise UserError(
        f"{table.where}: its {table.place}s begin {apart:.4g} apart and last {typical:.4g} (mean, "
        f"median), by the columns {listing(names)}, as if one of these were in seconds and another "
        "in milliseconds. Give all the same unit, or name each in the header, as in onset_s and "
        "duration_ms."
    )


def _two_ends(table: Table, raw: Mapping[str, np.ndarray], scale: float) -> str:
    """What is wrong if a table has ends and durations which contradict each other."""
    if not {"offset", "duration"} <= raw.keys():
        return ""
    off = np.abs(raw["onset"] + raw["duration"] - raw["offset"]) * scale > _END_TOLERANCE_S
    if not off.any():
        return ""
    return (
        f"{counted(int(off.sum()), f'{table.place} has', f'{table.place}s have')} another end than "
        f"by the duration (first {table.place} {table.numbers[int(np.argmax(off))]}). The end "
        "counts."
    )


def _sample_column(
    table: Table, columns: Columns, onset_s: np.ndarray, sampling_rate_hz: float | None
) -> tuple[str, str]:
    """Whether a column of samples besides the onsets, as BIDS has, agrees with the sampling rate.

    Returns:
        What was understood, and what is in doubt; empty if there is no such column.
    """
    cells = table.columns.get(columns.sample, [])
    if not sampling_rate_hz or not looks_like_times(cells):
        return "", ""
    sample = read_times(table, [columns.sample])[columns.sample].values
    known = np.isfinite(sample) & np.isfinite(onset_s)
    if not known.any():
        return "", ""
    sample, onset_s, name = sample[known], onset_s[known], printable(columns.sample)
    span_s = np.ptp(onset_s)
    if span_s > 1:
        rate = (sample[np.argmax(onset_s)] - sample[np.argmin(onset_s)]) / span_s
        if abs(rate / sampling_rate_hz - 1) > _RATE_TOLERANCE:
            return "", (
                f"By the column {name} the sampling rate is {rate:.4g} Hz, by the recording "
                f"{sampling_rate_hz:.6g} Hz."
            )
    distance_s = float(np.median(np.abs(sample / sampling_rate_hz - onset_s)))
    if distance_s > _SAMPLE_TOLERANCE_S:
        return "", f"The column {name} lies {distance_s:.3g} s from the onsets (median)."
    return f"The column {name} agrees with the onsets.", ""


def _sentences(*sentences: str) -> tuple[str, ...]:
    return tuple(filter(None, sentences))
