"""The specification of a made-up recording, and the options of the command that makes one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from ssense.errors import UserError

FORMAT_VERSION = 1  # raise it when the same specification gives other files

LEAST: dict[str, float] = {
    "sentences": 1,
    "electrodes": 3,
    "coupling": 0,
    "seed": 0,
    "pauses": 0,
    "sampling_rate": 128.0,  # mains hum and half of the carriers fit below half of it
    "lead_in_s": 0,
}
LEAST_WITH_QUIRKS = {"sentences": 30, "electrodes": 4, "pauses": 2}  # so that each quirk occurs


@dataclass(frozen=True, kw_only=True)
class SyntheticSpec:
    """Specification of a made-up recording.

    Attributes:
        sentences: Sentences in the transcript; about one in 150 comes after the last trigger.
        electrodes: Contacts, on shafts of five; the outer two of a shaft have no Laplacian. 106
            contacts are those of the published sub_9, of which it calls 7 corrupted.
        coupling: Amplitude of what words evoke; 0 evokes nothing.
        seed: Draws sentences, times, electrode patterns and background (words' latents aside).
        sampling_rate: Samples per second.
        equal_durations: Whether every sentence has six words and lasts two seconds, so that no
            length, in words or in time, tells sentences apart.
        pauses: How often the movie was paused.
        lead_in_s: Recording before the movie starts.
        quirks: Whether the files are as untidy as the published ones, see the module `quirks`;
            about two sentences in 100 come on top, which cannot be aligned.
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

    def __post_init__(self) -> None:
        """Refuse values that no recording can have."""
        for name in ("coupling", "sampling_rate", "lead_in_s"):
            object.__setattr__(self, name, float(getattr(self, name)))  # so that 1 is 1.0
        least = LEAST | (LEAST_WITH_QUIRKS if self.quirks else {})
        for name, lowest in least.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= lowest):
                why = " with quirks" if self.quirks and name in LEAST_WITH_QUIRKS else ""
                raise UserError(f"{name} must be at least {lowest:g}{why}, got {value}.")


@dataclass(frozen=True, kw_only=True)
class SyntheticCommand(SyntheticSpec):
    """A recording to make, and where."""

    out: Path
    """Folder to write, new."""
    timings: Path | None = None
    """A table of sentence timings (CSV: onset_s, offset_s, onset_sample, offset_sample, n_words)
    whose sentences and pauses to take over, instead of --sentences, --pauses and --lead-in-s [made
    up]."""
