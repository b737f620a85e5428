"""Recordings at a lower sampling rate: resampled as they are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from ssense.data.recordings.recording import Recording
from ssense.data.recordings.signals.signal_quality import SignalQuality
from ssense.data.recordings.timeline import Run, Timeline
from ssense.errors import UserError
from ssense.signal.resampling import Resampling


@dataclass(frozen=True, eq=False, kw_only=True)
class ResampledRecording(Recording):
    """A recording at a lower rate; everything but samples and their numbers is the original's.

    Attributes:
        original: The recording as it is.
        resampling: The two rates.
    """

    original: Recording
    resampling: Resampling

    @property
    def as_recorded(self) -> Recording:
        """The recording before it was resampled."""
        return self.original

    @cached_property
    def digest(self) -> str:
        """Hash of the original: whoever resamples says so beside it."""
        return self.original.digest

    @cached_property
    def sampling_rate_hz(self) -> float:
        """Samples per second after resampling."""
        return self.resampling.rate_hz

    @cached_property
    def quality(self) -> SignalQuality:
        """What is wrong with the original's signals, with places in samples of this one."""
        found = self.original.quality
        scale = self.resampling.up / self.resampling.down
        dead = np.stack(
            [np.floor(found.dead[:, 0] * scale), np.ceil(found.dead[:, 1] * scale)], axis=1
        )
        return replace(found, dead=dead.astype(np.int64))

    def moved(self, root: Path) -> Self:
        """The same recording with its files in another folder; they are not looked at."""
        return replace(super().moved(root), original=self.original.moved(root))

    def read_channel(
        self, electrode: str, stretches: Sequence[tuple[int, int]]
    ) -> list[np.ndarray]:
        """Read stretches of one electrode, see `Recording.read_channel`.

        A sample is the same in every stretch that holds it.
        """
        spans = [self.resampling.span(*each, self.original.n_samples) for each in stretches]
        read = self.original.read_channel(electrode, spans)
        return [
            self.resampling.apply(signal, begin, start, stop)
            for signal, (begin, _), (start, stop) in zip(read, spans, stretches, strict=True)
        ]

    def read_whole(self, number: int) -> np.ndarray:
        """All samples of a channel, resampled, see `Recording.read_whole`."""
        whole = self.original.read_whole(number)
        return self.resampling.apply(whole, 0, 0, self.n_samples)


def at_rate(recording: Recording, resample_hz: float | None) -> Recording:
    """The recording at a rate: resampled if that is not its own, as it is without one.

    Args:
        recording: A recording; one that was resampled counts as its original.
        resample_hz: Samples per second; None for the recording's own.

    Raises:
        UserError: The recording has fewer.
    """
    original = recording.as_recorded
    if resample_hz is None or resample_hz == original.sampling_rate_hz:
        return original
    try:
        resampling = Resampling(original.sampling_rate_hz, resample_hz)
    except ValueError as error:
        raise UserError(f"{original.where}: {error}") from error
    if resampling.up == resampling.down:
        return original
    scale = resampling.up / resampling.down
    same = {each.name: getattr(original, each.name) for each in fields(Recording)}
    changed = {
        "n_samples": resampling.n_samples(original.n_samples),
        "timeline": _scaled(original.timeline, scale, resampling.rate_hz),
    }
    return ResampledRecording(**same | changed, original=original, resampling=resampling)


def _scaled(timeline: Timeline, scale: float, rate_hz: float) -> Timeline:
    runs = tuple(Run(run.movie_time_s, run.sample * scale) for run in timeline.runs)
    stated_hz = None if timeline.stated_hz is None else rate_hz
    return Timeline(runs, timeline.row_time_s, timeline.row_sample * scale, stated_hz)
