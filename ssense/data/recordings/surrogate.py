"""Surrogate recordings: the same sentences at the same times, with unrelated signals.

Whatever a model still retrieves from them does not come from the brain (Theiler et al., 1992).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Literal, Self

import numpy as np

from ssense.data.recordings.recording import Recording
from ssense.files.digest import digest

Surrogate = Literal["noise", "shifted"]

_NOISE_UV = 100.0  # about that of a recording; z-scored spectrograms don't depend on it
_BLOCK = 2**16  # samples drawn at a time, so that a stretch costs no more than itself


@dataclass(frozen=True, eq=False)
class SurrogateRecording(Recording):
    """A recording whose signals are replaced; everything else is the original's."""

    @classmethod
    def of(cls, recording: Recording) -> Self:
        """The surrogate of a recording."""
        return cls(**{each.name: getattr(recording, each.name) for each in fields(Recording)})

    @cached_property
    def digest(self) -> str:
        """Hash of the original and of the kind of surrogate."""
        return digest(type(self).__name__, super().digest)


@dataclass(frozen=True, eq=False)
class NoiseRecording(SurrogateRecording):
    """White Gaussian noise, independent between electrodes."""

    def read_channel(
        self, electrode: str, stretches: Sequence[tuple[int, int]]
    ) -> list[np.ndarray]:
        """Draw stretches of one electrode; a sample is the same in every stretch that holds it."""
        return [self._stretch(self.channel_of[electrode], *stretch) for stretch in stretches]

    def _stretch(self, channel: int, start: int, stop: int) -> np.ndarray:
        first = start // _BLOCK
        blocks = [
            np.random.default_rng([channel, block]).standard_normal(_BLOCK)
            for block in range(first, -(-stop // _BLOCK))
        ]
        begin = first * _BLOCK
        return _NOISE_UV * np.concatenate([*blocks, []])[start - begin : stop - begin]


@dataclass(frozen=True, eq=False)
class ShiftedRecording(SurrogateRecording):
    """The signals shifted in time by half of the recording; its end continues at its start."""

    def read_channel(
        self, electrode: str, stretches: Sequence[tuple[int, int]]
    ) -> list[np.ndarray]:
        """Read stretches of one electrode half a recording away, see `Recording.read_channel`."""
        n, shift = self.n_samples, self.n_samples // 2
        shifted = [(start + shift, stop + shift) for start, stop in stretches]
        ahead = [(min(start, n), min(stop, n)) for start, stop in shifted]
        around = [(max(start - n, 0), max(stop - n, 0)) for start, stop in shifted]
        parts = super().read_channel(electrode, ahead + around)
        halves = zip(parts[: len(ahead)], parts[len(ahead) :], strict=True)
        return [np.concatenate(half) for half in halves]


SURROGATES: dict[Surrogate, type[SurrogateRecording]] = {
    "noise": NoiseRecording,
    "shifted": ShiftedRecording,
}
