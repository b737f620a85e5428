"""The features of a recording before they are computed: what they will be, and where."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from upath import UPath

from ssense.data import shards
from ssense.data.coordinates import Coordinates, electrode_coordinates
from ssense.data.recordings.recording import Recording
from ssense.data.recordings.segments import Segments, SegmentSpec
from ssense.errors import UserError, counted
from ssense.files.digest import digest
from ssense.files.storage import exists
from ssense.signal.features import AnyFeatureSpec, feature_identity
from ssense.signal.filtering import notches_hz
from ssense.specification import identity

_OF_SENTENCES = (
    *("align", "length_rule", "max_duration_s", "max_samples", "context_before_s"),
    *("context_after_s", "window_s", "window_start_s", "pad_to", "pad_multiple", "overflow"),
    *("electrodes", "subset"),
)
"""Fields that choose sentences, samples and electrodes: what they chose says what they did."""
_OF_SIGNALS = (
    *("sampling_rate", "resample_hz", "reference"),
    *("line_hz", "notch_highest_hz", "notch_quality"),
)
"""Fields that choose rates, derivations and filters, likewise."""


@dataclass(frozen=True, kw_only=True)
class FeaturePlan:
    """What the features of a recording's sentences will be, known before any is computed.

    Attributes:
        recording: The recording.
        segments: Its sentences, and the samples of each.
        data: How sentences became segments.
        recipe: What a segment becomes.
        storage: Storage of the shards.
    """

    recording: Recording
    segments: Segments
    data: SegmentSpec
    recipe: AnyFeatureSpec
    storage: UPath

    @cached_property
    def origin(self) -> dict[str, Any]:
        """Everything the shards depend on, as plain values; specifications by their identity."""
        return {
            "format": shards.FORMAT_VERSION,
            "recording": self.recording.digest,
            "subject": self.recording.subject,
            "trial": self.recording.trial,
            "title": self.recording.title,
            "segments": segments_identity(self.data),
            # Readers may come to choose or place sentences otherwise under the same specification.
            "sentences": self._sentences_digest(),
            "superlets": feature_identity(self.recipe),
            "recording_rate_hz": self.recording.sampling_rate_hz,
        }

    def _sentences_digest(self) -> str:
        chosen = self.segments
        spans = chosen.start.tolist(), chosen.stop.tolist(), chosen.n_samples
        return digest(chosen.sentence_idx.tolist(), chosen.text, *spans, chosen.electrodes)

    def content(self, rows: np.ndarray) -> str:
        """A digest that tells features apart by what they hold, not by what was asked for.

        Args:
            rows: The rows of the features that are asked about, int64 [N].
        """
        chosen = self.segments
        start, stop = chosen.start[rows], chosen.stop[rows]
        notch = self.data.notch(self.recording)
        notches = (notches_hz(*notch[:3]).tolist(), notch[3]) if notch else ()
        recipe = self.recipe.effect(self.sampling_rate_hz)
        if (stop - start == chosen.n_samples).all():  # nothing is padded
            del recipe["pad_domain"]
        elif (
            self.recipe.normalisation != "per_frequency" and self.recipe.pad_domain == "raw_masked"
        ):
            recipe["pad_domain"] = "raw"  # they differ in the frames of the z-score
        return digest(
            self.recording.digest,
            self.recording.sampling_rate_hz,
            self.sampling_rate_hz,
            identity(self.data, leave_out=(*_OF_SENTENCES, *_OF_SIGNALS)),
            notches,
            [(each.contact, each.subtracted) for each in chosen.derivations],
            (chosen.sentence_idx[rows].tolist(), start.tolist(), stop.tolist(), chosen.n_samples),
            (self.recipe.kind, recipe),
        )

    @property
    def folder(self) -> UPath:
        """Where the shards are, or will be."""
        return self.storage / "shards" / digest(self.origin)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Sentences, electrodes, frequencies and frames."""
        frames = self.recipe.n_frames(self.segments.n_samples)
        electrodes = len(self.segments.electrodes)
        return len(self.segments), electrodes, self.recipe.n_frequencies, frames

    @property
    def nbytes(self) -> int:
        """Bytes of the features in memory, and about as many on a disk."""
        return 2 * int(np.prod(self.shape, dtype=np.int64))

    @property
    def where(self) -> str:
        """The recording in a message."""
        return f"{self.recording.subject} {self.recording.trial}"

    @property
    def spans_s(self) -> np.ndarray:
        """Start and end of each segment `[N, 2]`, seconds as they passed, context included."""
        chosen = self.segments
        return spans_s(chosen.start, chosen.stop, self.recording.sampling_rate_hz)

    @cached_property
    def acoustics(self) -> dict[str, np.ndarray]:
        """How the sentences sound, see `Transcript.acoustics`; kept with the shards for a control.

        They are not part of the origin: training does not depend on them.
        """
        return self.recording.transcript.acoustics(self.segments.sentence_idx)

    @cached_property
    def coordinates(self) -> Coordinates | None:
        """Where the electrodes lie, kept with the shards; None where that is not known of any.

        They are not part of the origin: only some encoders ask for them, whose cells name them, see
        `SentenceSpec.contacts`.
        """
        return electrode_coordinates(self.segments.derivations, self.recording.coordinates)

    @property
    def regions(self) -> tuple[str, ...]:
        """Region of each electrode, by its contact, kept with the shards likewise."""
        known = self.recording.regions
        named = tuple(known.get(each.contact, "") for each in self.segments.derivations)
        return named if any(named) else ()

    @property
    def sampling_rate_hz(self) -> float:
        """Samples per second that the segments assume."""
        return self.data.sampling_rate_hz(self.recording)

    def check(self) -> None:
        """Refuse a recipe that the segments can't hold.

        Raises:
            UserError: The highest frequency is not below half the sampling rate, or the segments
                are too short for more than one frame.
        """
        try:
            self.recipe.check_fits(self.sampling_rate_hz, self.segments.n_samples)
        except ValueError as error:
            raise UserError(f"{self.where}: {error}") from error
        frames = self.shape[-1]
        if frames < 2 and self.recipe.normalisation == "per_frequency":
            raise UserError(
                f"{self.where}: segments of {counted(self.segments.n_samples, 'sample')} have "
                f"{counted(frames, 'frame')}, and a z-score over it is 0. Give longer segments, or "
                "a lower `decimation`."
            )

    def is_made(self) -> bool:
        """Whether all shards are there."""
        return exists(self.folder / shards.MANIFEST)


def segments_identity(data: SegmentSpec) -> dict[str, Any]:
    """The identity of how sentences become segments, as far as features depend on it.

    Before the reference was a field of its own, `electrodes` other than the default's had none:
    their shards keep the name that they have.
    """
    named = identity(data, leave_out=("subset",))
    if data.reference == "none":
        del named["reference"]
        named["electrodes"] = data.electrodes
    elif data.electrodes != SegmentSpec.electrodes:
        named["reference"] = data.reference
    return named


def spans_s(start: np.ndarray, stop: np.ndarray, recorded_hz: float) -> np.ndarray:
    """Start and end of segments `[N, 2]` in seconds as they passed.

    Args:
        start: First samples `[N]`.
        stop: Samples `[N]` after the last.
        recorded_hz: Rate of the recording.
    """
    return np.stack([start, stop], axis=1) / recorded_hz
