"""The specification of a made-up recording, and the options of the command that makes one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from ssense.data.synthetic.montage import contact_names
from ssense.errors import UserError, counted, printable

ALL = "all"

FORMAT_VERSION = 1  # raise it when the same specification gives other files

LEAST: dict[str, float] = {
    "sentences": 1,
    "electrodes": 3,
    "coupling": 0,
    "seed": 0,
    "pauses": 0,
    "sampling_rate": 128.0,  # mains hum and half of the carriers fit below half of it
    "lead_in_s": 0,
    "common_uv": 0,
    "lowest_hz": 1.0,
    "highest_hz": 10.0,
    "delay_s": 0,
    "latency_s": 0,
    "response_s": 0,
}
LEAST_WITH_QUIRKS = {"sentences": 30, "electrodes": 4, "pauses": 2}  # so that each quirk occurs
MOST: dict[str, float] = {
    "sentences": 20_000,  # a feature film has up to 3000
    "electrodes": 5_000,  # an implantation has up to 350 contacts
    "coupling": 1_000,
    "seed": 2**32 - 1,  # as of every seed
    "pauses": 200,
    "sampling_rate": 50_000.0,  # amplifiers for spikes take 30,000 to 40,000
    "lead_in_s": 86_400.0,
    "common_uv": 1e4,
    "lowest_hz": 100.0,
    "highest_hz": 20_000.0,
    "delay_s": 10.0,
    "latency_s": 10.0,
    "response_s": 2.0,
}
SHORTEST_RESPONSE_S = 0.1  # a shorter one is as wide as the carriers are apart
_LATER_NUMBERS = ("common_uv", "lowest_hz", "highest_hz", "delay_s", "latency_s", "response_s")
LATER = (*_LATER_NUMBERS, "responding")
"""Fields that recordings don't name where they are at their defaults: earlier ones lack them."""
MOST_SAMPLES = 2**28
"""Samples of a contact, made in memory; 3 hours at 2048 Hz are 2.2e7, at 20,000 Hz 2.2e8."""
MOST_VALUES = 2**34
"""Values of all contacts, written to disk; 250 contacts and 3 hours at 2048 Hz are 5.5e9."""
_SENTENCE_S, _PAUSE_S = 2.5, 5.0  # on average, with the gap to the next sentence


@dataclass(frozen=True, kw_only=True)
class SyntheticSpec:
    """Specification of a made-up recording.

    Attributes:
        sentences: Sentences in the transcript; about one in 150 comes after the last trigger.
        electrodes: Contacts, on shafts of five; the outer two of a shaft have no Laplacian. 106
            contacts are those of the published sub_9, of which it calls 7 corrupted, and lie where
            those do.
        coupling: Amplitude of what words evoke; 0 evokes nothing.
        seed: Draws sentences, times, electrode patterns and background (words' latents aside).
        sampling_rate: Samples per second.
        equal_durations: Whether every sentence has six words and lasts two seconds, so that no
            length, in words or in time, tells sentences apart.
        pauses: How often the movie was paused.
        lead_in_s: Recording before the movie starts.
        quirks: Whether the files are as untidy as the published ones, see the module `quirks`;
            about two sentences in 100 come on top, which cannot be aligned.
        common_uv: Root mean square, in microvolts, of what all contacts share.
        lowest_hz: Lowest carrier frequency of what words evoke.
        highest_hz: Highest carrier frequency; never above 0.4 times the sampling rate.
        delay_s: Seconds by which what words evoke comes later than 0.25 to 0.4 s after their onset.
        latency_s: Seconds from a sentence's onset to what its words evoke together; used where
            `response_s` is above 0 alone.
        response_s: Seconds that what a sentence's words evoke together lasts, at least 0.1: no
            other time tells sentences apart. With 0 every word evokes at its own onset.
        responding: Contacts in which words evoke anything: "all", or names separated by commas; "*"
            stands for any letters, so that "F1a*" is a shaft.
    """

    sentences: int = 300
    electrodes: int = 8
    coupling: float = 1.0
    seed: int = 0
    sampling_rate: float = 512.0
    equal_durations: bool = False
    pauses: int = 2
    lead_in_s: float = 20.0
    quirks: bool = False
    common_uv: float = 15.0
    lowest_hz: float = 9.0
    highest_hz: float = 115.0
    delay_s: float = 0.0
    latency_s: float = 0.0
    response_s: float = 0.0
    responding: str = ALL

    def __post_init__(self) -> None:
        """Refuse values that no recording can have."""
        for name in ("coupling", "sampling_rate", "lead_in_s", *_LATER_NUMBERS):
            object.__setattr__(self, name, float(getattr(self, name)))  # so that 1 is 1.0
        quirks = LEAST_WITH_QUIRKS if self.quirks else {}
        check_bounds(self, LEAST | quirks, MOST, dict.fromkeys(quirks, " with quirks"))
        if min(self.highest_hz, 0.4 * self.sampling_rate) <= self.lowest_hz:
            raise UserError(
                f"lowest_hz is {self.lowest_hz:g}, not below highest_hz {self.highest_hz:g} and "
                f"0.4 times the sampling rate of {self.sampling_rate:g} Hz. Give a lower one."
            )
        self._check_times()
        self._check_size()
        self._check_responding()

    def responds(self, contact: str) -> bool:
        """Whether words evoke anything in a contact, by its name."""
        return self.responding == ALL or any(fnmatchcase(contact, each) for each in self._patterns)

    @property
    def _patterns(self) -> list[str]:
        return [each.strip() for each in self.responding.split(",")]

    def _check_times(self) -> None:
        """Refuse responses of words and of whole sentences at once, or that are too short."""
        if 0 < self.response_s < SHORTEST_RESPONSE_S:
            raise UserError(
                f"response_s must be 0 or at least {SHORTEST_RESPONSE_S:g}, got {self.response_s}."
            )
        if self.response_s and self.delay_s:
            raise UserError(
                f"delay_s is {self.delay_s:g} and response_s {self.response_s:g}: words evoke "
                "either one by one or together. Give latency_s instead of delay_s."
            )
        if self.latency_s and not self.response_s:
            raise UserError(
                f"latency_s is {self.latency_s:g} without response_s. Give response_s, the length "
                "of what a sentence evokes, or delay_s to delay what each word evokes."
            )

    def _check_responding(self) -> None:
        """Refuse names that no contact has."""
        if self.responding == ALL:
            return
        names = contact_names(self.electrodes)
        for pattern in self._patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise UserError(
                    f"responding names {printable(pattern, 30)!r}, which none of the "
                    f"{counted(self.electrodes, 'contact')} is called: {names[0]} to "
                    f"{names[-1]}. Give names of contacts, or {ALL}."
                )

    def _check_size(self) -> None:
        """Refuse more samples than a machine holds, by the average length of a sentence."""
        length_s = self.lead_in_s + _SENTENCE_S * self.sentences + _PAUSE_S * self.pauses
        samples = length_s * self.sampling_rate
        values = samples * self.electrodes
        for asked, most, of_what in (
            (samples, MOST_SAMPLES, "samples of each contact"),
            (values, MOST_VALUES, f"samples of {counted(self.electrodes, 'contact')}"),
        ):
            if asked > most:
                raise UserError(
                    f"{counted(self.sentences, 'sentence')}, {self.lead_in_s:g} s before them and "
                    f"{counted(self.pauses, 'pause')} at {self.sampling_rate:g} Hz are about "
                    f"{asked:.1e} {of_what}; {most:.1e} are the most. Ask for a smaller recording."
                )


def check_bounds(
    spec: Any,
    least: Mapping[str, float],
    most: Mapping[str, float],
    why: Mapping[str, str] | None = None,
) -> None:
    """Refuse values of a specification that are out of bounds.

    Args:
        spec: The specification to check.
        least: Lowest value by the name of the field.
        most: Highest value by the name of the field; the same fields.
        why: What a field's lowest value is owed to, for the message.

    Raises:
        UserError: A value is out of bounds; the message has its name.
    """
    for name, lowest in least.items():
        value = getattr(spec, name)
        if not value >= lowest:
            reason = (why or {}).get(name, "")
            raise UserError(f"{name} must be at least {lowest:g}{reason}, got {value}.")
        if not (math.isfinite(value) and value <= most[name]):
            raise UserError(f"{name} must be at most {most[name]:.15g}, got {value}.")


@dataclass(frozen=True, kw_only=True)
class SyntheticCommand(SyntheticSpec):
    """A recording to make, and where."""

    out: Path
    """Folder to write, new."""
    as_: Literal["brain-treebank", "bids", "edf"] = "brain-treebank"
    """Format: brain-treebank, with the times of a movie, its triggers and pauses; bids, a folder
    with BrainVision's files; or edf, one file and a table of sentences. The last two are timed in
    seconds of the recording, and lack what was said around a pause."""
    timings: Path | None = None
    """A table of sentence timings (CSV: onset_s, offset_s, onset_sample, offset_sample, n_words)
    whose sentences and pauses to take over, instead of --sentences, --pauses and --lead-in-s [made
    up]."""
