"""Which sentences of a recording become segments, and which samples each of them spans."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

import numpy as np

from ssense.choices import Electrodes, Reference
from ssense.data.recordings.electrodes import kept_electrodes
from ssense.data.recordings.recording import LONGEST_S, Recording
from ssense.data.recordings.sentence_table import SpokenSentences
from ssense.data.recordings.timeline import OFFICIAL_RATE_HZ, Alignment
from ssense.errors import UserError
from ssense.files.plain_values import from_plain
from ssense.files.tables import listing
from ssense.signal.checks import check_at_least, check_choice, check_positive, check_whole
from ssense.signal.filtering import notch_warm_up_seconds
from ssense.signal.referencing import Derivation

LengthRule = Literal["duration", "sample_span"]
Overflow = Literal["drop", "error", "truncate"]
SamplingRate = Literal["measured", "nominal_2048"]

_CHOICES = {
    "sampling_rate": SamplingRate,
    "align": Alignment,
    "length_rule": LengthRule,
    "overflow": Overflow,
    "electrodes": Electrodes,
    "reference": Reference,
}

ALL = "all"
CALLED = ": "
"""Stands between what a subset is called and its electrodes."""

NO_WORD = "no aligned word"
NO_TEXT = "no text"
NO_LENGTH = "no duration"
TOO_LONG = "too long"
STRADDLES = "straddles a pause"
LEAVES = "leaves the file"
NO_SIGNAL = "no signal"
OVERFLOWS = "overflow"
WHY_NO_SEGMENT = (
    NO_WORD,
    NO_TEXT,
    NO_LENGTH,
    TOO_LONG,
    STRADDLES,
    LEAVES,
    NO_SIGNAL,
    OVERFLOWS,
)
"""Reasons why a sentence is no segment; of several that apply it is the first."""


@dataclass(frozen=True, kw_only=True)
class SegmentSpec:
    """How sentences become segments.

    Attributes:
        sampling_rate: Samples per second that context, filters and features assume. "measured"
            (default): the recording's own rate, by its triggers. "nominal_2048": 2048 Hz for every
            recording, as the published loaders assume; Ant-Man has 1024.
        resample_hz: Rate in Hz that signals are resampled to before anything else, with a filter
            that lets nothing alias; above 0 and at most the recording's own. None (default) leaves
            them as they are. Not together with "nominal_2048".
        align: How times of the movie become samples, see `Timeline.sample_of`. "interpolate"
            (default): by a straight line between two triggers, none across a pause.
            "official_nearest_2048": from the nearest row at 2048 samples per second, which is the
            data set's own procedure.
        length_rule: Which sentences are short enough. "duration" (default): those shorter than
            `max_duration_s`, as SSENSE is worded. "sample_span": those whose segment, context
            included, has fewer than `max_samples` samples, which explains SSENSE's 1,454 sentences
            and 8,200 points.
        max_duration_s: Duration of a sentence in seconds of movie that is too long, above 0;
            default 4. Used by `length_rule` "duration" alone.
        max_samples: Samples of a sentence with its context that are too many, a whole number from
            1; default 8192. Used by `length_rule` "sample_span" alone.
        context_before_s: Signal before a sentence's onset in seconds, from 0; default 0.5.
        context_after_s: Signal after a sentence's end in seconds, from 0; default 1. Where
            `window_s` is set, a window that begins with the context before the sentence decides
            instead.
        window_s: Signal of every segment in seconds, from its context before the sentence on,
            however long the sentence is, so that no segment shows its sentence's duration. Above 0,
            rounded up to a multiple of `pad_multiple` samples. None (default) takes the sentence
            with its context.
        window_start_s: Where the window of `window_s` begins, in seconds after the sentence's
            onset, below 0 for before it. Features then show this window alone: the segment has
            besides, at both ends, the signal of the frames that features clip. None (default)
            begins with the context before the sentence, and clips frames of the window itself.
        pad_to: Samples of every segment after padding with zeros at its end, a whole number from 1.
            None (default) takes the longest segment, rounded up to a multiple of `pad_multiple`.
        pad_multiple: Samples of which lengths are a multiple, a whole number from 1; default 50,
            the samples between two frames of features.
        overflow: What happens to a segment longer than `pad_to`. "error" (default): it is refused,
            with the sentence. "drop": the sentence is left out. "truncate": its end is cut off.
        electrodes: Contacts that may be used. "clean" (default): those that the list of corrupted
            contacts does not name. "all": those too. Contacts whose signal is of no use never are.
        reference: What is subtracted from each contact. "laplacian" (default): the mean of its two
            neighbours on the shaft. "bipolar": the next contact on the shaft. "shaft-average": the
            mean of the contacts of its shaft or grid. "average": the mean of all contacts. "none":
            nothing. Contacts for which there is no such other are left out.
        subset: Electrodes that an encoder is given, of those that have the reference. "all"
            (default), or names separated by commas; "*" stands for any letters, so that "LA*" is a
            shaft, "?" for one, and "[AB]" for one of these. What it is called may stand before
            them, "STG: LA1,LA2". Features are made of each electrode by itself: all subsets share
            them.
        line_hz: Frequency of the mains in Hz, above 0, removed with its multiples up to
            `notch_highest_hz`; default 60. None leaves it in.
        notch_highest_hz: Highest multiple of `line_hz` that is removed, in Hz, at least `line_hz`;
            default 360. Multiples that the sampling rate can't hold are left out.
        notch_quality: Centre frequency over bandwidth of each notch, above 0; default 30. A lower
            one removes more around the mains.

    Raises:
        ValueError: A value is none of a field's choices or out of its range; the message names the
            field.
    """

    sampling_rate: SamplingRate = "measured"
    resample_hz: float | None = None
    align: Alignment = "interpolate"
    length_rule: LengthRule = "duration"
    max_duration_s: float = 4.0
    max_samples: int = 8192
    context_before_s: float = 0.5
    context_after_s: float = 1.0
    window_s: float | None = None
    window_start_s: float | None = None
    pad_to: int | None = None
    pad_multiple: int = 50
    overflow: Overflow = "error"
    electrodes: Electrodes = "clean"
    reference: Reference = "laplacian"
    subset: str = ALL
    line_hz: float | None = 60.0
    notch_highest_hz: float = 360.0
    notch_quality: float = 30.0

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            check_choice(name, getattr(self, name), choices)
        for name in ("max_duration_s", "notch_highest_hz", "notch_quality"):
            check_positive(name, getattr(self, name))
        for name in ("window_s", "line_hz", "resample_hz"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))
        for name in ("max_samples", "pad_multiple"):
            check_whole(name, getattr(self, name), 1)
        if self.pad_to is not None:
            check_whole("pad_to", self.pad_to, 1)
        for name in ("context_before_s", "context_after_s"):
            check_at_least(name, getattr(self, name), 0)
        for name in ("context_before_s", "context_after_s", "window_s", "window_start_s"):
            if not abs(getattr(self, name) or 0) <= LONGEST_S:
                raise ValueError(
                    f"{name} must be at most {LONGEST_S:g} s, the longest recording, got "
                    f"{getattr(self, name)!r}."
                )
        if self.window_start_s is not None and self.window_s is None:
            raise ValueError(
                f"window_start_s is {self.window_start_s:g} without window_s. Give the length of "
                "the window too."
            )
        if self.window_start_s is not None and self.pad_to is not None:
            raise ValueError(
                f"pad_to must be None with window_start_s, got {self.pad_to}: padding is no part "
                "of a window."
            )
        if self.resample_hz is not None and self.sampling_rate != "measured":
            raise ValueError(
                f"resample_hz must be None with sampling_rate {self.sampling_rate}, got "
                f"{self.resample_hz:g}. Resample by the measured rate."
            )
        if not all(map(str.strip, self.subset.split(","))):
            raise ValueError(
                f"subset must be {ALL} or names with a comma between them, got {self.subset!r}."
            )
        if self.line_hz is not None and self.line_hz > self.notch_highest_hz:
            raise ValueError(
                f"notch_highest_hz must be at least line_hz, {self.line_hz:g}, got "
                f"{self.notch_highest_hz:g}. Raise it, or set line_hz to None to leave mains in."
            )

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

    def begins_s(self, clipped_s: float) -> float:
        """Where segments begin, in seconds after the sentence's onset.

        Args:
            clipped_s: Signal at each end whose frames features clip, in seconds.
        """
        if self.window_start_s is None:
            return -self.context_before_s
        return self.window_start_s - clipped_s

    def window_samples(self, recording: Recording) -> int | None:
        """Samples of every segment, if they all have the same."""
        if self.window_s is None:
            return None
        samples = self.window_s * recording.sampling_rate_hz  # seconds as they passed
        return math.ceil(samples / self.pad_multiple) * self.pad_multiple

    def notch(self, recording: Recording) -> tuple[float, float, float, float] | None:
        """Rate, frequency, highest multiple and quality of the notches, if there are any."""
        return self.notch_at(self.sampling_rate_hz(recording))

    def notch_at(self, rate_hz: float) -> tuple[float, float, float, float] | None:
        """The same for signals of some samples per second, see `notch`."""
        if self.line_hz is None:
            return None
        return rate_hz, self.line_hz, self.notch_highest_hz, self.notch_quality

    def padded_samples(self, longest: int) -> int:
        """Samples of every segment once padded, where the longest has so many before."""
        return self.pad_to or -(-longest // self.pad_multiple) * self.pad_multiple

    def lead_samples(self, recording: Recording) -> int:
        """Samples that the notches need ahead of a segment.

        Raises:
            UserError: The recording's rate can't hold the frequency of the mains.
        """
        if (notch := self.notch(recording)) is None:
            return 0
        try:
            return math.ceil(notch_warm_up_seconds(*notch) * notch[0])
        except ValueError as error:
            raise UserError(
                f"{recording.where}, {notch[0]:g} samples per second: {error}"
            ) from error

    def context_samples(self, recording: Recording) -> tuple[int, int]:
        """Samples of context before and after a sentence."""
        rate_hz = self.sampling_rate_hz(recording)
        return round(self.context_before_s * rate_hz), round(self.context_after_s * rate_hz)


def electrodes_of(subset: str, names: Sequence[str]) -> tuple[str, ...]:
    """The electrodes that a subset names, in their order.

    Args:
        subset: See `SegmentSpec.subset`.
        names: Names of the electrodes that there are.

    Raises:
        ValueError: A name of the subset is that of none.
    """
    if subset == ALL:
        return tuple(names)
    listed = (subset.partition(CALLED)[2] or subset).split(",")
    meant = [{name for name in names if fnmatchcase(name, each)} for each in map(str.strip, listed)]
    if unmet := [each for each, found in zip(listed, meant, strict=True) if not found]:
        raise ValueError(
            f"subset names {unmet[0].strip()}, and no electrode is called so. There are: "
            f"{listing(names)}"
        )
    return tuple(name for name in names if name in set().union(*meant))


def subset_naming(electrodes: Sequence[str], called: str = "") -> str:
    """The subset that names some electrodes and no others, see `SegmentSpec.subset`.

    Args:
        electrodes: Names of the electrodes, one at least.
        called: What the subset is called; empty where its electrodes say so.

    Raises:
        ValueError: A name has a comma, ": " or blanks around it, and no subset can name it.
    """
    escaped = [re.sub(r"([*?\[])", r"[\1]", name) for name in electrodes]
    if escaped == [ALL]:
        escaped = ["[a]ll"]  # which means this one
    found = ",".join(escaped)
    if called:
        found = f"{called.replace(CALLED, ' ')}{CALLED}{found}"
    if any("," in name or CALLED in name or name != name.strip() for name in electrodes):
        raise ValueError(f"no subset can name {listing(electrodes)}")
    return found


_FORMERLY = {"clean-laplacian": "laplacian", "clean": "none", "all": "none"}
"""The reference of each value of `electrodes`, before there was the field `reference`."""


def segment_spec(settings: Mapping[str, Any]) -> SegmentSpec:
    """Read the specification that is written with shards, also by earlier versions of the code.

    Args:
        settings: Its fields as plain values.

    Raises:
        UserError: They are those of no specification.
    """
    found = dict(settings)
    electrodes = found.get("electrodes")
    if "reference" not in found and electrodes in _FORMERLY:
        found["reference"] = _FORMERLY[electrodes]
        found["electrodes"] = "all" if electrodes == "all" else "clean"
    try:
        return from_plain(SegmentSpec, found)
    except ValueError as error:
        raise UserError(
            f"the settings of segments can't be read: {error}. Use the code that made the shards."
        ) from error


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
        derivations: What each electrode of a segment is made of, in order.
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
    derivations: tuple[Derivation, ...]
    left_out: Mapping[int, str]

    def __len__(self) -> int:
        return len(self.text)

    @property
    def electrodes(self) -> tuple[str, ...]:
        """Names of a segment's electrodes, in order."""
        return tuple(each.name for each in self.derivations)

    @property
    def dropped(self) -> dict[str, int]:
        """Number of sentences left out, by reason, in the order of `WHY_NO_SEGMENT`."""
        return _counts(self.left_out)


@dataclass(frozen=True, eq=False)
class SentenceSpans:
    """Where the sentences with an aligned word lie, in the order of their onsets.

    Attributes:
        sentence_idx: Number of each sentence in the transcript, int64 [sentences].
        onset_s, offset_s: Start of its first and end of its last aligned word, seconds of the
            stimulus.
        onset_sample, offset_sample: The same as samples of the recording, int64 [sentences].
    """

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


def select_segments(recording: Recording, spec: SegmentSpec, clipped: int = 0) -> Segments:
    """Choose the sentences to keep and the samples that each spans.

    Args:
        recording: The recording.
        spec: How its sentences become segments.
        clipped: Samples at each end whose frames features clip; of use where `window_start_s` says
            where a window begins.

    Signals are read as far as `Recording.quality` needs, once per recording.

    A sentence spans its aligned words: those whose start and end have a place in the recording and
    come in that order. Every other sentence has the first reason that applies, see
    `WHY_NO_SEGMENT`.

    Raises:
        UserError: No sentence or electrode is left, a segment is longer than `pad_to` and
            `overflow` is "error", or the recording's rate can't hold the frequency of the mains.
    """
    spec.lead_samples(recording)  # refuses a rate that can't hold the mains
    derivations = kept_electrodes(recording, spec.electrodes, spec.reference)
    spans = sentence_spans(recording, spec.align)
    before, after = spec.context_samples(recording)
    start, stop = spans.onset_sample - before, spans.offset_sample + after
    reason = np.full(len(start), "", dtype=object)

    def drop(where: np.ndarray, why: str) -> None:
        reason[where & (reason == "")] = why

    text = [recording.transcript.sentences[number] for number in spans.sentence_idx.tolist()]
    drop(np.array([not sentence.strip() for sentence in text], dtype=bool), NO_TEXT)
    times = (spans.onset_s, spans.offset_s, spans.onset_sample, spans.offset_sample)
    window = spec.window_samples(recording)
    if spec.window_start_s is not None:  # seconds as they passed, like the window's length
        begins = round(spec.window_start_s * recording.sampling_rate_hz)
        start = spans.onset_sample + begins - clipped
    if window is not None:
        stop = start + window + (2 * clipped if spec.window_start_s is not None else 0)
    drop(start == stop, NO_LENGTH)
    drop(~kept_by_length(*times, spec=spec, context_samples=before + after), TOO_LONG)
    drop(crosses(start, stop, recording.timeline.pauses()), STRADDLES)
    drop((start < 0) | (stop > recording.n_samples), LEAVES)
    drop(_meets(start, stop, recording.quality.dead), NO_SIGNAL)
    if spec.pad_to is not None:
        overflows = (stop - start > spec.pad_to) & (reason == "")
        stop = _settle_overflow(spec, overflows, start, stop, spans.sentence_idx)
        drop(stop - start > spec.pad_to, OVERFLOWS)
    left_out = _left_out(recording, spans.sentence_idx, reason)
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
        n_samples=spec.padded_samples(longest),
        derivations=derivations,
        left_out=left_out,
    )


def _left_out(recording: Recording, sentence_idx: np.ndarray, reason: np.ndarray) -> dict[int, str]:
    """Why sentences are no segments, by number; `reason` is empty for those that are segments."""
    reasons = dict(zip(sentence_idx.tolist(), reason.tolist(), strict=True))
    numbers = sorted(recording.transcript.sentences)
    return {number: why for number in numbers if (why := reasons.get(number, NO_WORD))}


def _counts(left_out: Mapping[int, str]) -> dict[str, int]:
    """How often each reason applies, in the order of `WHY_NO_SEGMENT`."""
    counts = Counter(left_out.values())
    return {why: counts[why] for why in WHY_NO_SEGMENT if counts[why]}


def sentence_spans(recording: Recording, align: Alignment = "interpolate") -> SentenceSpans:
    """Span of every sentence with an aligned word, in the order of the movie.

    Args:
        recording: The recording.
        align: How times become samples, see `Timeline.sample_of`.
    """
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
    return SentenceSpans(
        sentence_idx=sentence_idx[order],
        onset_s=onset_s[order],
        offset_s=extreme(np.maximum, transcript.end_s, -np.inf)[order],
        onset_sample=onset_sample[order],
        # The official alignment can step back where the nearest row changes.
        offset_sample=np.maximum(onset_sample, offset_sample)[order],
    )


def spoken_in(recording: Recording) -> SpokenSentences:
    """What was said while a recording ran, in its own seconds.

    Where times are those of a stimulus, only sentences with an aligned word have a place, and those
    during which the stimulus was paused have none.

    Args:
        recording: Any recording.
    """
    transcript, spans = recording.transcript, sentence_spans(recording)
    kept = ~crosses(spans.onset_sample, spans.offset_sample, recording.timeline.pauses())
    numbers = spans.sentence_idx[kept].tolist()
    rate_hz = recording.sampling_rate_hz
    return SpokenSentences(
        text=tuple(transcript.sentences[number] for number in numbers),
        onset_s=spans.onset_sample[kept] / rate_hz,
        offset_s=spans.offset_sample[kept] / rate_hz,
        speaker=tuple(transcript.speaker.get(number, "") for number in numbers),
        extra={
            name: tuple(values.get(number) for number in numbers)
            for name, values in transcript.extra.items()
        },
        understood=recording.understood,
        doubts=recording.doubts,
    )


def crosses(start: np.ndarray, stop: np.ndarray, pauses: np.ndarray) -> np.ndarray:
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


def remedy(dropped: Mapping[str, int]) -> str:
    """What keeps more sentences, by the reason that most were left out for; one at least."""
    most = max(dropped, key=dropped.__getitem__)
    if most in (STRADDLES, LEAVES):
        return "give less context or a shorter window"
    if most == OVERFLOWS:
        return "raise pad_to or truncate what overflows"
    return "relax the length rule"


def _nothing_left(recording: Recording, dropped: dict[str, int]) -> UserError:
    counts = [f"{why}: {count}" for why, count in dropped.items()]
    cause = recording.transcript.odd_times
    advice = f"Check the timings and the signals, or {remedy(dropped)}."
    if cause:
        advice = f"In its transcript {cause}. Put that right there."
    return UserError(
        f"none of the {sum(dropped.values())} sentences of {recording.subject} "
        f"{recording.trial} ({recording.title}) is left; {listing(counts)}. {advice}"
    )
