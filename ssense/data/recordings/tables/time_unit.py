"""The unit of a table's times, by all that speaks for and against: seconds, ms or samples.

Three things exclude a unit: by it, speech would be far too fast or slow; hardly a row would lie
within the recording; or samples would have fractions. What is left must be one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ssense.data.recordings.tables.table import Unit
from ssense.data.recordings.tables.table_spec import TimeUnit
from ssense.errors import UserError

UNITS: tuple[Unit, ...] = ("seconds", "milliseconds", "samples")

# Speech has about 15 characters per second, Chinese 5; shown sentences may stay for long.
_CHARACTERS_PER_S = (0.2, 100.0)
_FITTING = 0.1  # of the rows, at least, lie in the recording; a table may be of a whole movie


def seconds_per(unit: Unit, sampling_rate_hz: float | None) -> float:
    """Seconds per unit of time; NaN for samples of no known rate."""
    if unit == "samples":
        return 1.0 / sampling_rate_hz if sampling_rate_hz else np.nan
    return 1.0 if unit == "seconds" else 1e-3


@dataclass(frozen=True, eq=False)
class RawTimes:
    """Times in a unit that is to be found, and what they are compared with.

    Attributes:
        onset, offset: Onsets and ends in the table's unit, float64 [rows]; NaN where not known.
        characters: Length of each row's text [rows].
        sampling_rate_hz: Sampling rate of the recording in Hz, None where it is not known.
        length_s: Length of the recording in seconds, None where it is not known.
    """

    onset: np.ndarray
    offset: np.ndarray
    characters: np.ndarray
    sampling_rate_hz: float | None
    length_s: float | None

    def scale(self, unit: Unit) -> float:
        """Seconds per unit."""
        return seconds_per(unit, self.sampling_rate_hz)

    def against(self, unit: Unit) -> str:
        """What excludes a unit, a phrase; empty if nothing does."""
        scale = self.scale(unit)
        if np.isnan(scale):
            return "the sampling rate is not known"
        if unit == "samples" and np.any(self.onset % 1 > 0):
            return "there are no fractions"
        slowest, fastest = _CHARACTERS_PER_S
        speed = self._characters_per_unit() / scale
        if speed < slowest or speed > fastest:  # not so if it is NaN, without evidence
            return f"speech would have {speed:.3g} characters per second"
        if self.length_s is not None:
            end_s = self.offset * scale
            if np.mean(end_s[np.isfinite(end_s)] <= self.length_s) < _FITTING:
                return (
                    f"the last would end at {np.nanmax(end_s):.6g} s of a recording of "
                    f"{self.length_s:.6g} s"
                )
        return ""

    def _characters_per_unit(self) -> float:
        """Characters per unit of time, the median over rows; NaN where no row has a duration."""
        length = self.offset - self.onset
        known = np.isfinite(length) & (length > 0) & (self.characters > 0)
        return float(np.median(self.characters[known] / length[known])) if known.any() else np.nan


def time_unit(
    raw: RawTimes, wanted: TimeUnit, prescribed: Unit | Literal[""], where: str
) -> tuple[Unit, str, str]:
    """Find the unit of times.

    Args:
        raw: The times, of which one at least is known.
        wanted: The unit that the user set.
        prescribed: The unit that the format or the header says; empty where neither does.
        where: What messages begin with.

    Returns:
        The unit; what was understood; and what is in doubt, empty if nothing.

    Raises:
        UserError: Several units are possible or none, the unit prescribed is excluded and another
            is not, or samples are wanted and the sampling rate is not known.
    """
    if wanted != "auto":
        return _as_set(raw, wanted, where)
    against = {unit: raw.against(unit) for unit in UNITS}
    possible = [unit for unit in UNITS if not against[unit]]
    if prescribed:
        if not against[prescribed]:
            return prescribed, f"Times are in {prescribed}, as the format or the header says.", ""
        others = [unit for unit in possible if unit != prescribed]
        if others or prescribed == "samples":
            raise _excluded(prescribed, against[prescribed], others, where)
        doubt = f"Times are read as {prescribed}, but {against[prescribed]}."
        return prescribed, f"Times are in {prescribed}, as the format or the header says.", doubt
    if len({raw.scale(unit) for unit in possible}) == 1:
        unit = possible[0]
        excluded = "; ".join(f"in {other} {against[other]}" for other in UNITS if against[other])
        return unit, f"Times are in {unit}: {excluded}.", ""
    if possible:
        raise UserError(
            f"{where}: its times may be in {' or in '.join(possible)}; nothing excludes either. "
            "Set `time_unit` to one of them, or name it in the header, as in onset_ms."
        )
    reasons = "; ".join(f"in {unit} {against[unit]}" for unit in UNITS)
    raise UserError(
        f"{where}: its times make no sense in any unit: {reasons}. Check the columns, or set "
        "`time_unit`."
    )


def _as_set(raw: RawTimes, unit: Unit, where: str) -> tuple[Unit, str, str]:
    if np.isnan(raw.scale(unit)):
        raise UserError(
            f"{where}: samples are no times without a sampling rate. Give the sampling rate, or "
            "set `time_unit` to another unit."
        )
    against = raw.against(unit)
    doubt = f"Times are read as {unit}, as set, but {against}." if against else ""
    return unit, f"Times are in {unit}, as set.", doubt


def _excluded(unit: Unit, why: str, others: Sequence[Unit], where: str) -> UserError:
    if not others:
        return UserError(f"{where}: its times should be in {unit}, but {why}. Set `time_unit`.")
    return UserError(
        f"{where}: its times should be in {unit} by the format or the header, but {why}; they look "
        f"like {' or '.join(others)}. Correct the table, or set `time_unit` to what they are."
    )
