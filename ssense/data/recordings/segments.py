"""Which sentences of a recording become segments, and which samples each of them spans."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from ssense.choices import Electrodes
from ssense.data.recordings.recording import Recording
from ssense.data.recordings.signal_quality import BY_SIGNAL
from ssense.data.recordings.timeline import OFFICIAL_RATE_HZ, Alignment
from ssense.errors import UserError
from ssense.files.tables import listing
from ssense.signal.contacts import laplacian_neighbours, read_names

LengthRule = Literal["duration", "sample_span"]
Overflow = Literal["drop", "error", "truncate"]
SamplingRate = Literal["measured", "nominal_2048"]

_CHOICES = {
    "sampling_rate": SamplingRate,
    "align": Alignment,
    "length_rule": LengthRule,
    "overflow": Overflow,
    "electrodes": Electrodes,
}
_POSITIVE = ("max_duration_s", "max_samples", "window_s", "pad_to", "pad_multiple", "line_hz")

NO_WORD = "no aligned word"
NO_TEXT = "no text"
TOO_LONG = "too long"
STRADDLES = "straddles a pause"
LEAVES = "leaves the file"
NO_SIGNAL = "no signal"
OVERFLOWS = "overflow"
WHY_NO_SEGMENT = (NO_WORD, NO_TEXT, TOO_LONG, STRADDLES, LEAVES, NO_SIGNAL, OVERFLOWS)
"""Reasons why a sentence is no segment; of several that apply it is the first."""

# Why a channel is not an electrode of a segment.
CORRUPTED = "corrupted"
PAIR = "pair of contacts"
UNSPLIT = "not named by shaft and number"
ON_GRID = "on a grid or strip"
NO_NEIGHBOUR = "lacks a clean neighbour"
CANCELLED = "nothing left by the Laplacian"
BY_LAPLACIAN = (PAIR, UNSPLIT, ON_GRID, NO_NEIGHBOUR, CANCELLED)
REASONS = (CORRUPTED, *BY_SIGNAL, *BY_LAPLACIAN)


@dataclass(frozen=True, kw_only=True)
class SegmentSpec:
    """How sentences become segments.

    Attributes:
        sampling_rate: The rate that context, filters and superlets assume: the recording's own, or
            2048 Hz for every recording, as the published loaders do (Ant-Man has 1024).
        align: How movie times become samples, see `Timeline.sample_of`.
        length_rule: "duration" keeps sentences shorter than `max_duration_s` of movie (as SSENSE
            is worded); "sample_span" keeps segments of fewer than `max_samples`, context included
            (which explains SSENSE's 1,454 sentences and 8,200 points).
        context_before_s, context_after_s: Signal added before and after a sentence.
        window_s: Signal of every segment, from its context before the sentence on, however long the
            sentence is, so that no segment shows its sentence's duration; rounded up to a multiple
            of `pad_multiple`. None takes the sentence with its context.
        pad_to: Samples of every segment after padding with zeros at its end; None takes the longest
            segment, rounded up to a multiple of `pad_multiple` (the superlets' decimation).
        overflow: What happens to a segment longer than `pad_to`.
        electrodes: "clean-laplacian" keeps clean contacts between two clean neighbours, minus
            their mean; "clean" and "all" keep the contacts as recorded.
        line_hz: Mains frequency, removed with its multiples up to `notch_highest_hz`; None leaves
            it in.
        notch_quality: Centre frequency over bandwidth of each notch.
    """

    sampling_rate: SamplingRate = "measured"
    align: Alignment = "interpolate"
    length_rule: LengthRule = "duration"
    max_duration_s: float = 4.0
    max_samples: int = 8192
    context_before_s: float = 0.5
    context_after_s: float = 1.0
    window_s: float | None = None
    pad_to: int | None = None
    pad_multiple: int = 50
    overflow: Overflow = "error"
    electrodes: Electrodes = "clean-laplacian"
    line_hz: float | None = 60.0
    notch_highest_hz: float = 360.0
    notch_quality: float = 30.0

    def __post_init__(self) -> None:
        """Refuse values outside the choices, and numbers without a meaning."""
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in get_args(choices):
                raise UserError(
                    f"{name} must be one of {', '.join(get_args(choices))}, "
                    f"got {getattr(self, name)!r}. Choose one of them."
                )
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value > 0):
                raise UserError(f"{name} must be above 0, got {value!r}. Give a positive number.")
        for name in ("context_before_s", "context_after_s"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                raise UserError(f"{name} must be at least 0, got {value!r}. Give a length in s.")

    @classmethod
    def paper(cls) -> SegmentSpec:
        """SSENSE as it was most likely run: 2048 Hz assumed throughout, 8,200 points."""
        return cls(
            sampling_rate="nominal_2048",
            align="official_nearest_2048",
            length_rule="sample_span",
            pad_to=8200,
            overflow="drop",
        )

    @classmethod
    def literal(cls) -> SegmentSpec:
        """SSENSE as it is worded: less than 4 s of movie, true time, padded to the longest."""
        return cls()

    def sampling_rate_hz(self, recording: Recording) -> float:
        """Samples per second that filters, context and superlets assume."""
        if self.sampling_rate == "nominal_2048":
            return OFFICIAL_RATE_HZ
        return recording.sampling_rate_hz

    def window_samples(self, recording: Recording) -> int | None:
        """Samples of every segment, if they all have the same."""
        if self.window_s is None:
            return None
        samples = self.window_s * recording.sampling_rate_hz  # seconds as they passed
        return math.ceil(samples / self.pad_multiple) * self.pad_multiple

    def context_samples(self, recording: Recording) -> tuple[int, int]:
        """Samples of context before and after a sentence."""
        rate_hz = self.sampling_rate_hz(recording)
        return round(self.context_before_s * rate_hz), round(self.context_after_s * rate_hz)


@dataclass(frozen=True, eq=False)
class Segments:
    """The sentences kept, in the order of the movie; row i is the same in every array.

    Attributes:
        sentence_idx: Number of the sentence in the transcript, int64 [rows].
        text: The sentence as written in the transcript.
        onset_s, offset_s: Start of the sentence's first and end of its last aligned word, movie
            seconds.
        start, stop: Samples of the sentence with context, [start, stop), int64 [rows].
        n_samples: Samples of every segment once padded.
        electrodes: Names of a segment's electrodes, in order.
        left_out: Why each other sentence of the transcript is no segment, a reason of
            `WHY_NO_SEGMENT` by its number in the transcript, in the order of the numbers.
    """

    sentence_idx: np.ndarray
    text: tuple[str, ...]
    onset_s: np.ndarray
    offset_s: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    n_samples: int
    electrodes: tuple[str, ...]
    left_out: Mapping[int, str]

    def __len__(self) -> int:
        return len(self.text)

    @property
    def dropped(self) -> dict[str, int]:
        """Number of sentences left out, by reason, in the order of `WHY_NO_SEGMENT`."""
        return _counts(self.left_out)


@dataclass(frozen=True, eq=False)
class _Spans:
    """Where the sentences with an aligned word lie; arrays [sentences]."""

    sentence_idx: np.ndarray
    onset_s: np.ndarray
    offset_s: np.ndarray
    onset_sample: np.ndarray
    offset_sample: np.ndarray


def kept_by_length(
    onset_s: np.ndarray,
    offset_s: np.ndarray,
    onset_sample: np.ndarray,
    offset_sample: np.ndarray,
    *,
    spec: SegmentSpec,
    context_samples: int,
) -> np.ndarray:
    """Which sentences are short enough, bool [sentences]; context is what comes before and after.

    With Ant-Man's timings "duration" keeps 1,415 sentences and "sample_span" 1,458 of 1,527; SSENSE
    reports 1,454, and 8,200 points where the longest of the 1,458 has 8,186.
    """
    short: np.ndarray
    if spec.length_rule == "duration":
        short = offset_s - onset_s < spec.max_duration_s
    else:
        short = offset_sample - onset_sample + context_samples < spec.max_samples
    return short


def select_segments(recording: Recording, spec: SegmentSpec) -> Segments:
    """Choose the sentences to keep and the samples that each spans.

    Signals are read as far as `Recording.quality` needs, once per recording.

    A sentence spans its aligned words: those whose start and end have a place in the recording and
    come in that order. Every other sentence has the first reason that applies, see
    `WHY_NO_SEGMENT`.

    Raises:
        UserError: No sentence or electrode is left, or a segment is longer than `pad_to` and
            `overflow` is "error".
    """
    electrodes = _kept_electrodes(recording, spec)
    spans = _sentence_spans(recording, spec.align)
    before, after = spec.context_samples(recording)
    start, stop = spans.onset_sample - before, spans.offset_sample + after
    reason = np.full(len(start), "", dtype=object)

    def drop(where: np.ndarray, why: str) -> None:
        reason[where & (reason == "")] = why

    text = [recording.transcript.sentences[number] for number in spans.sentence_idx.tolist()]
    drop(np.array([not sentence.strip() for sentence in text], dtype=bool), NO_TEXT)
    times = (spans.onset_s, spans.offset_s, spans.onset_sample, spans.offset_sample)
    drop(~kept_by_length(*times, spec=spec, context_samples=before + after), TOO_LONG)
    window = spec.window_samples(recording)
    if window is not None:
        stop = start + window
    drop(_crosses(start, stop, recording.timeline.pauses()), STRADDLES)
    drop((start < 0) | (stop > recording.n_samples), LEAVES)
    drop(_meets(start, stop, recording.quality.dead), NO_SIGNAL)
    if spec.pad_to is not None:
        overflows = (stop - start > spec.pad_to) & (reason == "")
        stop = _settle_overflow(spec, overflows, start, stop, spans.sentence_idx)
        drop(stop - start > spec.pad_to, OVERFLOWS)
    reasons = dict(zip(spans.sentence_idx.tolist(), reason.tolist(), strict=True))
    left_out = {
        number: why
        for number in sorted(recording.transcript.sentences)
        if (why := reasons.get(number, NO_WORD))
    }
    keep = reason == ""
    if not keep.any():
        raise _nothing_left(recording, _counts(left_out))
    longest = int(np.max(stop[keep] - start[keep]))
    return Segments(
        sentence_idx=spans.sentence_idx[keep],
        text=tuple(sentence for sentence, kept in zip(text, keep, strict=True) if kept),
        onset_s=spans.onset_s[keep],
        offset_s=spans.offset_s[keep],
        start=start[keep],
        stop=stop[keep],
        n_samples=spec.pad_to or -(-longest // spec.pad_multiple) * spec.pad_multiple,
        electrodes=electrodes,
        left_out=left_out,
    )


def _counts(left_out: Mapping[int, str]) -> dict[str, int]:
    """How often each reason applies, in the order of `WHY_NO_SEGMENT`."""
    counts = Counter(left_out.values())
    return {why: counts[why] for why in WHY_NO_SEGMENT if counts[why]}


def neighbours_of(recording: Recording) -> list[tuple[str, str, str]]:
    """The contacts that have a Laplacian by name, each with its two neighbours, in labels' order.

    Raises:
        UserError: Two labels stand for one contact.
    """
    try:
        return laplacian_neighbours(
            recording.electrodes, recording.clean_electrodes, recording.grids
        )
    except ValueError as error:
        raise UserError(f"{recording.files['labels']}: {error}") from error


def left_out(recording: Recording, electrodes: Electrodes) -> dict[str, str]:
    """Why electrodes of a recording are not used, by name; those that are used are not in it.

    Raises:
        UserError: Two labels stand for one contact, or the signals can't be read.
    """
    reasons = dict(recording.quality.left_out)
    if electrodes == "all":
        return reasons
    reasons |= dict.fromkeys(recording.corrupted, CORRUPTED)
    if electrodes == "clean":
        return reasons
    names = read_names(recording.electrodes)
    triples = [t for t in neighbours_of(recording) if reasons.keys().isdisjoint(t)]
    kept = {contact for contact, _, _ in triples}
    cancelled = recording.quality.cancelled(triples)
    for name in recording.electrodes:
        if name in names.pairs:
            reasons.setdefault(name, PAIR)
        elif name in names.unsplit:
            reasons.setdefault(name, UNSPLIT)
        elif names.contacts[name].shaft in recording.grids:
            reasons.setdefault(name, ON_GRID)
        elif name not in kept:
            reasons.setdefault(name, NO_NEIGHBOUR)
        elif name in cancelled:
            reasons[name] = CANCELLED
    return reasons


def _kept_electrodes(recording: Recording, spec: SegmentSpec) -> tuple[str, ...]:
    reasons = left_out(recording, spec.electrodes)
    kept = tuple(name for name in recording.electrodes if name not in reasons)
    if not kept:
        count = Counter(reasons.values())
        counts = [f"{why}: {count[why]}" for why in REASONS if why in count]
        advice = "Choose another value of electrodes"
        if any(count[why] for why in BY_SIGNAL):
            advice = f"Check the signals in {recording.files['signals'].name}"
        elif any(count[why] for why in BY_LAPLACIAN):
            advice = "Choose electrodes = clean, which needs no neighbours on a shaft"
        raise UserError(
            f"no electrode left of the {len(recording.electrodes)} in {recording.files['labels']} "
            f"by electrodes = {spec.electrodes}; {listing(counts)}. {advice}."
        )
    return kept


def _sentence_spans(recording: Recording, align: Alignment) -> _Spans:
    """Span of every sentence with an aligned word, in the order of the movie."""
    transcript, timeline = recording.transcript, recording.timeline
    start_sample = timeline.sample_of(transcript.start_s, align)
    end_sample = timeline.sample_of(transcript.end_s, align)
    aligned = np.isfinite(start_sample) & np.isfinite(end_sample)
    aligned &= transcript.start_s <= transcript.end_s
    sentence_idx, group = np.unique(transcript.sentence_idx[aligned], return_inverse=True)

    def extreme(of: np.ufunc, values: np.ndarray, beyond: float) -> np.ndarray:
        found = np.full(len(sentence_idx), beyond)
        of.at(found, group, values[aligned])
        return found

    onset_s = extreme(np.minimum, transcript.start_s, np.inf)
    onset_sample = np.rint(extreme(np.minimum, start_sample, np.inf)).astype(np.int64)
    offset_sample = np.rint(extreme(np.maximum, end_sample, -np.inf)).astype(np.int64)
    order = np.argsort(onset_s, kind="stable")
    return _Spans(
        sentence_idx=sentence_idx[order],
        onset_s=onset_s[order],
        offset_s=extreme(np.maximum, transcript.end_s, -np.inf)[order],
        onset_sample=onset_sample[order],
        # The official alignment can step back where the nearest row changes.
        offset_sample=np.maximum(onset_sample, offset_sample)[order],
    )


def _crosses(start: np.ndarray, stop: np.ndarray, pauses: np.ndarray) -> np.ndarray:
    """Which windows [start, stop) reach into a pause (rows of `pauses`: last and first sample)."""
    into = (start[:, None] < pauses[None, :, 1]) & (stop[:, None] > pauses[None, :, 0] + 1)
    crosses: np.ndarray = np.any(into, axis=1)
    return crosses


def _meets(start: np.ndarray, stop: np.ndarray, stretches: np.ndarray) -> np.ndarray:
    """Which windows [start, stop) share a sample with any of the stretches (rows, likewise)."""
    ended = np.searchsorted(stretches[:, 1], start, side="right")
    begun = np.searchsorted(stretches[:, 0], stop, side="left")
    return begun > ended


def _settle_overflow(
    spec: SegmentSpec, overflows: np.ndarray, start: np.ndarray, stop: np.ndarray, idx: np.ndarray
) -> np.ndarray:
    """Ends of the windows once those longer than `pad_to` are cut, or refused."""
    if spec.overflow == "truncate":
        return np.where(overflows, start + spec.pad_to, stop)
    if spec.overflow == "error" and overflows.any():
        first = int(np.argmax(overflows))
        raise UserError(
            f"sentence {idx[first]} spans {stop[first] - start[first]} samples, more than pad_to = "
            f"{spec.pad_to}. Raise pad_to, or set overflow to drop or truncate."
        )
    return stop


def _nothing_left(recording: Recording, dropped: dict[str, int]) -> UserError:
    counts = [f"{count} {why}" for why, count in dropped.items()]
    cause = recording.transcript.odd_times
    advice = "Check the timings and the signals, or relax the length rule."
    if cause:
        advice = f"In its transcript {cause}. Put that right there."
    return UserError(
        f"none of the {sum(dropped.values())} sentences of {recording.subject} "
        f"{recording.trial} ({recording.movie}) is left: {listing(counts)}. {advice}"
    )
