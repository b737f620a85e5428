"""What signals go through before an encoder: reference, notches, padding, features."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ssense.data.recordings.recording import Recording
from ssense.data.recordings.resampled import at_rate
from ssense.data.recordings.segment_signals import electrode_signals
from ssense.data.recordings.segments import ALL, Segments, SegmentSpec, select_segments
from ssense.errors import UserError, counted, one_line
from ssense.files.tables import listing
from ssense.signal.features import AnyFeatureSpec, half_features
from ssense.signal.filtering import notch_filter, notch_warm_up_seconds
from ssense.signal.frames import clipped_samples
from ssense.signal.referencing import Derivation, referenced
from ssense.training.process import any_device

RATE_TOLERANCE = 0.01
"""Share by which rates may differ: those of one kind of amplifier do by far less."""

_BYTES_AT_ONCE = 2**28


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What the signals of a model's recording went through, to be done to others alike.

    Attributes:
        data: How sentences become segments.
        features: What a segment becomes.
        recorded_hz: Samples per second of the recording, once it is resampled if it is to be.
        sampling_rate_hz: Samples per second that filters and features assume.
        derivations: What each electrode is made of, in the order that the encoder takes them.
        n_samples: Samples of every segment once padded with zeros at its end.
    """

    data: SegmentSpec
    features: AnyFeatureSpec
    recorded_hz: float
    sampling_rate_hz: float
    derivations: tuple[Derivation, ...]
    n_samples: int

    @property
    def electrodes(self) -> tuple[str, ...]:
        """Names of the electrodes that the encoder takes, in order."""
        return tuple(each.name for each in self.derivations)

    @property
    def contacts(self) -> tuple[str, ...]:
        """Names of the contacts that the electrodes are derived from, in natural order."""
        found = {name for each in self.derivations for name in (each.contact, *each.subtracted)}
        return tuple(sorted(found, key=lambda name: (_natural(name), name)))

    @property
    def lead_samples(self) -> int:
        """Samples ahead of a segment after which nothing is left of how the notches started."""
        notch = self.data.notch_at(self.sampling_rate_hz)
        return 0 if notch is None else int(np.ceil(notch_warm_up_seconds(*notch) * notch[0]))

    @property
    def _row_shape(self) -> tuple[int, int, int]:
        frames = self.features.n_frames(self.n_samples)
        return len(self.derivations), self.features.n_frequencies, frames

    def at_rate(self, recording: Recording) -> Recording:
        """The recording at the rate that the data are to have.

        Raises:
            UserError: The recording has fewer samples a second.
        """
        return at_rate(recording, self.data.resample_hz)

    def segments(self, recording: Recording) -> Segments:
        """The sentences of a recording that can be embedded, with the electrodes of the model.

        Sentences are chosen as for the training. One that is longer than every sentence then is
        left out; a window of one length is cut to that length.

        Raises:
            UserError: The recording lacks a contact, has another sampling rate, or no sentence of
                it is left.
        """
        recording = self.at_rate(recording)
        self._check(recording)
        cuts = self.data.window_s is not None or self.data.overflow == "truncate"
        spec = replace(
            self.data,
            subset=ALL,
            pad_to=self.n_samples,
            overflow="truncate" if cuts else "drop",
        )
        chosen = select_segments(recording, spec, clipped_samples(self.features))
        return replace(chosen, derivations=self.derivations)

    def _check(self, recording: Recording) -> None:
        where = f"{recording.subject} {recording.trial}"
        found = recording.sampling_rate_hz
        if abs(found / self.recorded_hz - 1) > RATE_TOLERANCE:
            raise UserError(
                f"{where} has {found:g} samples a second, and the model was trained on "
                f"{self.recorded_hz:g}. Resample the recording."
            )
        missing = [name for name in self.contacts if name not in recording.electrodes]
        if missing:
            raise UserError(
                f"{where} lacks {counted(len(missing), 'contact')} of the model: "
                f"{listing(missing, most=6)}. Give a recording of the same contacts, called the "
                "same."
            )
        self._check_contacts(recording, where)

    def _check_contacts(self, recording: Recording, where: str) -> None:
        """Refuse contacts without a usable signal, and warn of those that are said to be bad.

        The training used none of them, neither as electrodes nor for a reference.
        """
        reasons = recording.quality.left_out
        useless = [f"{name} ({reasons[name]})" for name in self.contacts if name in reasons]
        if useless:
            raise UserError(
                f"{where} has no usable signal of {counted(len(useless), 'contact')} of the model: "
                f"{listing(useless, most=6)}. Give another recording, or train without these."
            )
        corrupted = [name for name in self.contacts if name in recording.corrupted]
        if corrupted and self.data.electrodes == "clean":
            warnings.warn(
                f"{where} calls {counted(len(corrupted), 'contact')} of the model corrupted: "
                f"{listing(corrupted, most=6)}. The embeddings may be worse for it.",
                stacklevel=2,
            )

    def of_recording(
        self, recording: Recording, segments: Segments, rows: Sequence[int]
    ) -> np.ndarray:
        """Features `[rows, electrodes, frequencies, frames]` float16 of segments of a recording.

        Args:
            recording: The recording.
            segments: Its segments, see `segments`.
            rows: Rows of the segments, one or more.

        Raises:
            UserError: The signals can't be read.
        """
        size = max(1, _BYTES_AT_ONCE // (2 * int(np.prod(self._row_shape))))
        recording = self.at_rate(recording)
        rate_hz = self.data.sampling_rate_hz(recording)
        parts = []
        for first in range(0, len(rows), size):
            chosen = np.asarray(rows[first : first + size])
            lengths = segments.stop[chosen] - segments.start[chosen]
            signals = electrode_signals(recording, segments, self.data, chosen.tolist())
            parts.append(self._features(signals, rate_hz, lengths))
        return np.concatenate(parts)

    def of_arrays(
        self, segments: Sequence[np.ndarray], lead_samples: int, *, prepared: bool
    ) -> np.ndarray:
        """Features `[N, electrodes, frequencies, frames]` float16 of segments as arrays.

        Args:
            segments: N arrays `[contacts, samples]` in microvolts, see `checked`.
            lead_samples: Samples at the beginning of each that are ahead of the segment.
            prepared: Whether they are of electrodes, referenced and filtered already.
        """
        referenced_ones = self._electrodes_of(segments) if prepared else self._referenced(segments)

        def signals() -> Iterator[np.ndarray]:
            for stretches in referenced_ones:
                padded = np.zeros((len(segments), self.n_samples), np.float32)
                for row, stretch in zip(padded, stretches, strict=True):
                    row[: len(stretch) - lead_samples] = stretch[lead_samples:]
                yield padded

        lengths = np.array([segment.shape[1] - lead_samples for segment in segments])
        return self._features(signals(), self.sampling_rate_hz, lengths)

    def _electrodes_of(self, segments: Sequence[np.ndarray]) -> Iterator[list[np.ndarray]]:
        for place in range(len(self.derivations)):
            yield [segment[place] for segment in segments]

    def _referenced(self, segments: Sequence[np.ndarray]) -> Iterator[list[np.ndarray]]:
        """Segments of each electrode, referenced and filtered, of those of contacts."""
        places = {name: place for place, name in enumerate(self.contacts)}
        notch = self.data.notch_at(self.sampling_rate_hz)

        def read(contact: str) -> list[np.ndarray]:
            return [segment[places[contact]].astype(np.float64) for segment in segments]

        for signals in referenced(self.derivations, read):
            yield signals if notch is None else [notch_filter(each, *notch) for each in signals]

    def _features(
        self, signals: Iterable[np.ndarray], rate_hz: float, lengths: np.ndarray
    ) -> np.ndarray:
        device = any_device()
        made = np.empty((len(lengths), *self._row_shape), np.float16)
        for place, signal in enumerate(signals):
            on_device = torch.from_numpy(signal).to(device)
            try:
                made[:, place] = half_features(on_device, rate_hz, self.features, lengths)
            except ValueError as error:
                raise UserError(f"segments: {error}") from error
        return made

    def checked(self, segments: object, lead_samples: int, *, prepared: bool) -> list[np.ndarray]:
        """Refuse segments as arrays that the model can't take.

        Args:
            segments: Segments `[N, contacts, samples]`, or N arrays `[contacts, samples]`.
            lead_samples: Samples at the beginning of each that are ahead of the segment.
            prepared: Whether they are of electrodes, referenced and filtered already.

        Raises:
            UserError: The contacts are of another number, a segment is too short or too long, a
                sample is no finite number, or zeros pad a segment and features leave out padding.
        """
        if isinstance(lead_samples, bool) or not isinstance(lead_samples, int) or lead_samples < 0:
            raise UserError(f"lead_samples must be a whole number from 0, got {lead_samples!r}.")
        found = [_real(number, each) for number, each in enumerate(_listed(segments))]
        if not found:
            raise UserError("there is no segment. Give [N, contacts, samples], N at least 1.")
        for number, segment in enumerate(found):
            if problem := self._problem(segment, lead_samples, prepared):
                raise UserError(f"segment {number} {problem}")
        return found

    def _problem(self, segment: np.ndarray, lead_samples: int, prepared: bool) -> str:
        kind, names = ("electrode", self.electrodes) if prepared else ("contact", self.contacts)
        if segment.ndim != 2:
            return f"has the shape {list(segment.shape)}, not [{kind}s, samples]."
        if len(segment) != len(names):
            return (
                f"has {counted(len(segment), kind)}, and the model takes {len(names)}: "
                f"{listing(names, most=6)}. Give these, in this order."
            )
        samples = segment.shape[1] - lead_samples
        if samples < 1 or self.features.n_frames(samples) < 1:
            return (
                f"is too short: {counted(max(samples, 0), 'sample')} behind {lead_samples} of lead "
                "give no frame of features. Give longer ones."
            )
        if samples > self.n_samples:
            return (
                f"is too long: {counted(samples, 'sample')} behind {lead_samples} of lead, and the "
                f"model takes up to {self.n_samples}. Cut it."
            )
        if not np.isfinite(segment).all():
            return "holds NaN or infinity. Leave it out, or put in what was recorded."
        if self.features.pad_domain != "raw" and not segment[:, -1].any():
            (signal,) = np.nonzero(segment.any(axis=0))
            padding = segment.shape[1] - 1 - int(signal.max(initial=-1))
            return (
                f"ends in {counted(padding, 'sample')} of zeros, and features of the model leave "
                "out what pads a segment. Give a list of arrays without padding."
            )
        return ""


def _listed(segments: object) -> Sequence[object]:
    """Segments one by one, of an array or a list of them."""
    if isinstance(segments, torch.Tensor):
        segments = as_array(segments)
    if isinstance(segments, np.ndarray) and segments.ndim != 3:
        raise UserError(
            f"segments have the shape {list(segments.shape)}, not [N, contacts, samples]."
        )
    if not isinstance(segments, np.ndarray | list | tuple):
        raise UserError(
            f"{type(segments).__name__} is neither a recording nor segments. Give a "
            "ssense.Recording, or segments [N, contacts, samples] in microvolts."
        )
    return segments  # type: ignore[return-value]  # an array is one of its rows


def _real(number: int, segment: object) -> np.ndarray:
    try:
        array = as_array(segment)
    except (TypeError, ValueError, RuntimeError) as error:  # as NumPy and torch raise them
        raise UserError(
            f"segment {number} is no array ({one_line(error)}). Give [contacts, samples] in "
            "microvolts."
        ) from error
    if array.dtype.kind not in "fiu":
        raise UserError(f"segment {number} holds {array.dtype}, not numbers in microvolts.")
    return array


def as_array(values: object) -> np.ndarray:
    """Values as an array; of a tensor on any device, in bfloat16 as float32."""
    if isinstance(values, torch.Tensor):
        known = values.float() if values.dtype == torch.bfloat16 else values
        return known.numpy(force=True)
    return np.asarray(values)


def _natural(name: str) -> list[tuple[int, int | str]]:
    """A key by which LA2 comes before LA10."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts]
