"""The data report of one recording: what will be trained on, and what to beware of.

    report = data_report(recording, segments, spec)
    for line in report.lines():
        print(line)

What it says of the signals is what `Recording.quality` found.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ssense.data.recordings.channels import NEURAL_KINDS
from ssense.data.recordings.electrodes import CANCELLED, REASONS, montage
from ssense.data.recordings.overlap import SPLIT_SEEDS, inside_shares, split_overlap
from ssense.data.recordings.recording import Recording
from ssense.data.recordings.segments import Segments, SegmentSpec
from ssense.data.recordings.signals.signal_quality import (
    CELL_S,
    CLIPPED_SHARE,
    FLAT_SHARE,
    FLAT_STEPS,
    IMPULSE,
    LINES_HZ,
    OFF_LINE_HZ,
    OUT_OF_SCALE_FACTOR,
    PROBE_S,
    PROBES,
    REFERENCES,
    SignalQuality,
)
from ssense.data.recordings.timeline import (
    KNOWN_RATES_HZ,
    OFFICIAL_RATE_HZ,
    USUAL_RATES_HZ,
    Run,
    rate_chunks,
    rate_tolerance_hz,
)
from ssense.data.recordings.transcript import Transcript
from ssense.data.repeats import TowerTexts, normalised, repeat_groups
from ssense.data.splits import FRACTIONS
from ssense.errors import counted, printable
from ssense.files.markdown import markdown_table
from ssense.files.tables import listing
from ssense.signal.contacts import MOST_ON_A_SHAFT, read_names

AUXILIARY = "not neural"
UNLABELLED = "unlabelled"

LINE_WIDTH = 110
_MARGIN = " " * 13
_LEAST_WIDTH = 20  # columns of a line's text, however narrow the screen

_BIN_EDGES_S = np.arange(0, 5.5, 0.5)  # the same for every recording, so that reports compare
_BAR_WIDTH = 40
_MOST_FREQUENT = 5
_TEXT_WIDTH = 40
LONGER_THAN_TIMINGS = 2  # times: what was recorded besides the movie is mostly minutes
# Standard deviations of an electrode, tens of microvolts in a brain: from, to, and unit.
_UNITS = (
    (1e-7, 1e-3, "volts"),
    (1e-3, 0.5, "millivolts"),
    (5e3, 5e6, "nanovolts or steps of the converter"),
    (5e6, 5e9, "picovolts"),
)
_BRAIN_UV = (0.5, 5e3)

Attributes = Mapping[str, tuple[float | str, ...]]
"""Different values of attributes by name; as text where they are no numbers."""


@dataclass(frozen=True, kw_only=True)
class Channels:
    """What the file's channels are used for.

    Attributes:
        kept: The electrodes of every segment.
        left_out: Names of the other channels by reason; an unlabelled one by its dataset's name.
        doubts: Signs that channels are used for what they are not, a sentence each.
    """

    kept: tuple[str, ...]
    left_out: dict[str, tuple[str, ...]]
    doubts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Rate:
    """The sampling rate and its evidence.

    Attributes:
        rate_hz: The recording's rate: `measured_hz`, or the usual rate within `tolerance_hz`.
        tolerance_hz: Largest error that the measurement may have.
        measured_hz: Median over chunks of the triggers' sample numbers against movie time.
        lowest_hz, highest_hz: The extremes among the chunks.
        chunks, minutes: Number of chunks, none with a pause in it, and their total length.
        assumed_hz: The rate that context, filters and superlets assume.
        attributes: Attributes of the HDF5 file that are named like a rate; they are shown, but not
            used.
        contradictions: Contradictions between the sources of the rate, a sentence each.
        resampled_hz: The rate that signals are resampled to, if they are.
        is_stated: Whether the file states the rate, by which its times are; nothing was measured.
    """

    rate_hz: float
    measured_hz: float
    tolerance_hz: float
    lowest_hz: float
    highest_hz: float
    chunks: int
    minutes: float
    assumed_hz: float
    attributes: Attributes
    contradictions: tuple[str, ...]
    is_stated: bool = False
    resampled_hz: float | None = None


@dataclass(frozen=True, kw_only=True)
class Signals:
    """What was found in the samples.

    Attributes:
        spread_uv: Standard deviation of an electrode, median over the electrodes of use, in
            microvolts if the file is; None where no electrode is.
        dead_s: Total time that the recording is without signal.
        flat_share: Share of the other time that a kept electrode is without signal, where notable.
        impulses: Impulses a minute of a kept electrode that has any.
        doubts: Signs that the samples are not brain signals in microvolts, a sentence each.
    """

    spread_uv: float | None
    dead_s: float
    flat_share: dict[str, float]
    impulses: dict[str, float]
    doubts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Pause:
    """Movie times of the triggers around a pause, and for how long the movie stood still, seconds.

    A negative length says that the movie jumped ahead.
    """

    from_s: float
    to_s: float
    length_s: float


@dataclass(frozen=True, kw_only=True)
class Movie:
    """How the times of movie and recording relate, in seconds.

    Attributes:
        recording_s: Length of the recording.
        lead_in_s: Time recorded before the first trigger.
        first_trigger_s, last_trigger_s: Movie times between which words can be aligned.
        transcript_end_s: Movie time at which the last word ends.
        sentences_beyond: Number of sentences that begin after the last trigger.
        pauses: The pauses of the movie, in order.
        doubts: Signs that movie and recording do not belong together, a sentence each.
    """

    recording_s: float
    lead_in_s: float
    first_trigger_s: float
    last_trigger_s: float
    transcript_end_s: float
    sentences_beyond: int
    pauses: tuple[Pause, ...]
    doubts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Sentences:
    """What became of the transcript's sentences.

    Attributes:
        in_transcript, kept, dropped: Numbers of sentences; the dropped ones by reason.
        repeated: Number of kept sentences that are the same as another one, see `repeat_groups`.
        most_frequent: The most frequent texts, shortened, with their counts.
        cut: Number of kept sentences whose text is longer than the target reads.
        doubts: Signs that the transcript is not consistent, a sentence each.
    """

    in_transcript: int
    kept: int
    dropped: dict[str, int]
    repeated: int
    most_frequent: tuple[tuple[str, int], ...]
    cut: int
    doubts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Durations:
    """How long the kept sentences are, and what padding makes of their segments.

    Attributes:
        histogram: Number of sentences by bin; a bin's lower edge belongs to it.
        lower_quartile_s, median_s, upper_quartile_s, longest_s: Durations of the sentences, movie
            seconds.
        median_samples, longest_samples: Lengths of the segments, context included.
        padded_samples: Length of every segment once padded.
        padding: Share of all segments' samples that padding adds.
    """

    histogram: dict[str, int]
    lower_quartile_s: float
    median_s: float
    upper_quartile_s: float
    longest_s: float
    median_samples: float
    longest_samples: int
    padded_samples: int
    padding: float


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Samples that segments, context included, share with each other.

    Attributes:
        segments: Share of the segments that share samples with another one.
        inside: Share of a segment that others cover too, mean over all segments.
        test_segments: Share of the test segments that share samples with a training segment under
            the seeded random split, mean over `seeds` seeds; None if too few for a split.
        test_inside: Share of a test segment that lies inside training segments, mean over segments
            and seeds.
    """

    segments: float
    inside: float
    test_segments: float | None
    test_inside: float | None
    seeds: int


@dataclass(frozen=True, kw_only=True)
class Source:
    """How the source was understood, where people write it in many ways.

    Attributes:
        understood: What was read, and as what, a sentence each.
        doubts: What looks wrong about it, a sentence each.
    """

    understood: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DataReport:
    """A report of plain values only, so that JSON can hold its `dataclasses.asdict`."""

    subject: str
    trial: str
    title: str
    channels: Channels
    signals: Signals
    rate: Rate
    movie: Movie
    sentences: Sentences
    durations: Durations
    overlap: Overlap
    source: Source = field(default_factory=Source)

    def lines(self, width: int = LINE_WIDTH) -> list[str]:
        """About a dozen lines for the screen, wrapped at words to `width` or `LINE_WIDTH`."""
        width = max(min(width, LINE_WIDTH) - len(_MARGIN), _LEAST_WIDTH)
        lines = [f"Data of {self._name()}"]
        for label, text in self._summary():
            first, *rest = textwrap.wrap(
                text, width, break_long_words=False, break_on_hyphens=False
            )
            lines += [f"  {label:<9}  {first}", *(_MARGIN + line for line in rest)]
        return lines

    def markdown(self) -> str:
        """The whole report: the same lines, with the names and tables behind them."""
        blocks, details = [f"# Data of {self._name()}"], self._details()
        for label, text in self._summary():
            blocks += [f"**{label}:** {text}.", *details.get(label, [])]
        return "\n\n".join(blocks) + "\n"

    def _name(self) -> str:
        minutes = self.movie.recording_s / 60
        return f"{self.subject} {self.trial}, {self.title}: {minutes:.1f} min recorded"

    def _summary(self) -> Iterator[tuple[str, str]]:
        """Label and sentence, without a full stop, of each line."""
        if self.source.understood:
            yield "Source", ". ".join(text.rstrip(".") for text in self.source.understood)
        yield from (("Attention", text.rstrip(".")) for text in self.source.doubts)
        yield "Channels", _channels_text(self.channels)
        yield from (("Attention", text) for text in self.channels.doubts)
        yield "Signals", _signals_text(self.signals)
        yield from (("Attention", text) for text in self.signals.doubts)
        yield "Rate", _rate_text(self.rate)
        yield from (("Attention", text) for text in self.rate.contradictions)
        if self.rate.is_stated:
            yield "Times", _times_text(self.movie)
        else:
            yield "Movie", _movie_text(self.movie)
            yield "Triggers", _triggers_text(self.movie)
        yield from (("Attention", text) for text in self.movie.doubts)
        yield "Sentences", _sentences_text(self.sentences)
        yield from (("Attention", text) for text in self.sentences.doubts)
        yield "Repeats", _repeats_text(self.sentences)
        yield "Durations", _durations_text(self.durations)
        yield "Padding", _padding_text(self.durations)
        yield "Overlap", _overlap_text(self.overlap)
        yield "Leakage", _leakage_text(self.overlap)

    def _details(self) -> dict[str, list[str]]:
        """Blocks of Markdown that belong below a line of the summary."""
        movie = {} if self.rate.is_stated else {"Movie": _movie_details(self.movie)}
        return movie | {
            "Channels": _channels_details(self.channels),
            "Signals": _signals_details(self.signals),
            "Rate": _rate_details(self.rate),
            "Repeats": _repeats_details(self.sentences),
            "Durations": _durations_details(self.durations),
            "Leakage": _leakage_details(self.overlap),
        }


def data_report(
    recording: Recording,
    segments: Segments,
    spec: SegmentSpec,
    tower: TowerTexts | None = None,
) -> DataReport:
    """Report on a recording and the segments that `select_segments` chose by this very spec.

    Args:
        recording: What was read.
        segments: Its sentences that are kept.
        spec: The specification by which the segments were chosen.
        tower: The kept sentences as the text tower reads them, where one is known.

    Raises:
        UserError: The signals can't be read.
    """
    return DataReport(
        subject=recording.subject,
        trial=recording.trial,
        title=printable(recording.title, _TEXT_WIDTH),
        channels=_channels(recording, segments, spec),
        signals=_signals(recording, segments),
        rate=_rate(recording, spec),
        movie=_movie(recording),
        sentences=_sentences(recording, segments, tower),
        durations=_durations(segments),
        overlap=_overlap(segments),
        source=Source(understood=recording.understood, doubts=recording.doubts),
    )


def _channels(recording: Recording, segments: Segments, spec: SegmentSpec) -> Channels:
    reasons = montage(recording, spec.electrodes, spec.reference).left_out
    unused: dict[str, list[str]] = {reason: [] for reason in (AUXILIARY, *REASONS, UNLABELLED)}
    for channel in recording.channels:
        if channel.kind not in NEURAL_KINDS:
            unused[AUXILIARY].append(channel.name)
        elif channel.name in reasons:
            unused[reasons[channel.name]].append(channel.name)
    unused[UNLABELLED] = [*recording.unlabelled]
    return Channels(
        kept=segments.electrodes,
        left_out={why: tuple(names) for why, names in unused.items() if names},
        doubts=tuple(_channel_doubts(recording, _contacts(segments), unused[CANCELLED])),
    )


def _contacts(segments: Segments) -> list[str]:
    """Names of the contacts that the electrodes are made of, whatever is subtracted from them."""
    return [each.contact for each in segments.derivations]


def _channel_doubts(
    recording: Recording, kept: Sequence[str], cancelled: Sequence[str]
) -> Iterator[str]:
    if unknown := recording.unknown_bad:
        n, are = len(unknown), "is" if len(unknown) == 1 else "are"
        yield (
            f"{counted(n, 'name')} in the list of corrupted channels {are} no channel's: "
            f"{listing([printable(name) for name in unknown], most=6)}; nothing is left out for it"
        )
    if cancelled:
        shown = listing([printable(name) for name in cancelled], most=6)
        yield (
            f"the reference leaves nothing but rounding of {shown}: interpolated from what is "
            "subtracted? Not used"
        )
    unsplit = read_names(kept).unsplit
    if odd := [name for name in kept if name in unsplit]:
        yield (
            "used as electrodes, though not named by shaft and number: "
            f"{listing([printable(name) for name in odd], most=6)}"
        )


def _signals(recording: Recording, segments: Segments) -> Signals:
    quality = recording.quality
    known = math.isfinite(quality.spread_uv)
    dead = np.diff(quality.dead, axis=1).sum() / recording.sampling_rate_hz
    used = _contacts(segments)
    flat = {name: quality.flat_share[name] for name in used if name in quality.flat_share}
    impulses = {name: quality.impulses[name] for name in used if name in quality.impulses}
    return Signals(
        spread_uv=quality.spread_uv if known else None,
        dead_s=float(dead),
        flat_share=flat,
        impulses=impulses,
        doubts=tuple(_signal_doubts(quality, flat, impulses)),
    )


def _signal_doubts(
    quality: SignalQuality, flat_share: dict[str, float], impulses: dict[str, float]
) -> Iterator[str]:
    spread_uv, (least_uv, most_uv) = quality.spread_uv, _BRAIN_UV
    if spread_uv < least_uv or spread_uv >= most_uv:
        units = (unit for least, most, unit in _UNITS if least <= spread_uv < most)
        unit = next((f"the file seems to be in {unit}" for unit in units), "no unit explains it")
        yield (
            f"a standard deviation of {spread_uv:.3g} µV is unusual for a brain: {unit}. "
            "Spectrograms are z-scored, so that results are the same"
        )
    if quality.left_out:
        shown = [f"{printable(name)} ({why})" for name, why in quality.left_out.items()]
        yield f"not used because of the signal: {listing(shown, most=6)}"
    if flat_share:
        shown = [f"{printable(name)} {_percent(share)}" for name, share in flat_share.items()]
        yield f"kept, but without signal for part of the time: {listing(shown, most=6)}"
    if impulses:
        shown = [f"{printable(name)} {n:.2g} a minute" for name, n in impulses.items()]
        yield f"kept, but with impulses of a single sample: {listing(shown, most=6)}"


def _rate(resampled: Recording, spec: SegmentSpec) -> Rate:
    recording = resampled.as_recorded
    seconds, samples = rate_chunks(recording.timeline.runs)
    rates_hz = samples / seconds
    return Rate(
        rate_hz=float(recording.sampling_rate_hz),
        measured_hz=float(np.median(rates_hz)),
        tolerance_hz=rate_tolerance_hz(recording.timeline.runs),
        lowest_hz=float(rates_hz.min()),
        highest_hz=float(rates_hz.max()),
        chunks=len(rates_hz),
        minutes=float(seconds.sum() / 60),
        assumed_hz=float(spec.sampling_rate_hz(resampled)),
        resampled_hz=spec.resample_hz,
        attributes=recording.stated_rates,
        contradictions=tuple(_contradictions(recording, spec)),
        is_stated=recording.timeline.stated_hz is not None,
    )


def _contradictions(recording: Recording, spec: SegmentSpec) -> Iterator[str]:
    rate_hz = recording.sampling_rate_hz
    is_measured = recording.timeline.stated_hz is None
    if is_measured and rate_hz not in KNOWN_RATES_HZ:
        usual = ", ".join(f"{usual:g}" for usual in USUAL_RATES_HZ)
        yield (
            f"{rate_hz:g} Hz is near none of the usual rates ({usual}, and those of Tucker-Davis); "
            "check the timings"
        )
    official_hz, stretch = OFFICIAL_RATE_HZ, OFFICIAL_RATE_HZ / rate_hz
    if spec.sampling_rate == "nominal_2048" and rate_hz != official_hz:
        yield (
            f"{official_hz:g} Hz is assumed, {rate_hz:g} Hz measured: 1 s of context is really "
            f"{stretch:.3g} s, 60 Hz is {60 / stretch:.3g} Hz"
        )
    if is_measured and spec.align == "official_nearest_2048" and rate_hz != official_hz:
        yield f"words between triggers are placed as if there were {official_hz:g} samples a second"
    tolerance_hz = rate_tolerance_hz(recording.timeline.runs)
    differing = [
        f"{name} = {_value(value)}"
        for name, values in recording.stated_rates.items()
        for value in values
        if not isinstance(value, str) and abs(value - rate_hz) > tolerance_hz
    ]
    if differing:
        says = "the HDF5 file says" if is_measured else "another file says"
        yield f"{says} {listing(differing, most=3)}; that is not used"


def _movie(recording: Recording) -> Movie:
    runs, transcript = recording.timeline.runs, recording.transcript
    rate_hz = recording.sampling_rate_hz
    last_trigger_s = max(float(run.movie_time_s[-1]) for run in runs)
    return Movie(
        recording_s=float(recording.n_samples / rate_hz),
        lead_in_s=float(runs[0].sample[0] / rate_hz),
        first_trigger_s=float(runs[0].movie_time_s[0]),
        last_trigger_s=last_trigger_s,
        transcript_end_s=float(np.max(transcript.end_s[np.isfinite(transcript.end_s)])),
        sentences_beyond=_sentences_after(transcript, last_trigger_s),
        pauses=tuple(_pause(before, after, rate_hz) for before, after in itertools.pairwise(runs)),
        doubts=tuple(_length_doubts(recording)),
    )


def _length_doubts(recording: Recording) -> Iterator[str]:
    if recording.timeline.stated_hz is not None:
        return
    runs, rate_hz = recording.timeline.runs, recording.sampling_rate_hz
    first_s, last_s = runs[0].sample[0] / rate_hz, runs[-1].sample[-1] / rate_hz
    length_s = recording.n_samples / rate_hz
    if last_s > length_s + 1:
        yield (
            f"the triggers continue {(last_s - length_s) / 60:.1f} min beyond the end of the "
            "file: is it cut short, or from another recording?"
        )
    elif length_s > LONGER_THAN_TIMINGS * (last_s - first_s):
        yield (
            f"the file lasts {length_s / 60:.1f} min, its triggers {(last_s - first_s) / 60:.1f} "
            "min: do they belong together?"
        )


def _sentences_after(transcript: Transcript, movie_time_s: float) -> int:
    begun = transcript.sentence_idx[transcript.start_s <= movie_time_s]
    after = np.isfinite(transcript.start_s) & (transcript.start_s > movie_time_s)
    return len(np.setdiff1d(transcript.sentence_idx[after], begun))


def _pause(before: Run, after: Run, rate_hz: float) -> Pause:
    from_s, to_s = float(before.movie_time_s[-1]), float(after.movie_time_s[0])
    recorded_s = float(after.sample[0] - before.sample[-1]) / rate_hz
    # The movie still runs from the last trigger to the pause, and from the pause to the next.
    return Pause(from_s=from_s, to_s=to_s, length_s=recorded_s - (to_s - from_s))


def _sentences(recording: Recording, segments: Segments, tower: TowerTexts | None) -> Sentences:
    groups = repeat_groups(segments.text, tower)
    counts = Counter(groups.tolist())
    repeated = [(group, count) for group, count in counts.most_common() if count > 1]
    first = dict(zip(groups[::-1].tolist(), segments.text[::-1], strict=True))
    return Sentences(
        in_transcript=len(recording.transcript.sentences),
        kept=len(segments),
        dropped=dict(segments.dropped),
        repeated=sum(count for _, count in repeated),
        most_frequent=tuple(
            (printable(normalised(first[group]), _TEXT_WIDTH), count)
            for group, count in repeated[:_MOST_FREQUENT]
        ),
        cut=0 if tower is None else int(tower.cut.sum()),
        doubts=tuple(_sentence_doubts(recording.transcript, tower)),
    )


def _sentence_doubts(transcript: Transcript, tower: TowerTexts | None) -> Iterator[str]:
    if several := transcript.several_texts:
        number, (one, other) = next(iter(several.items()))
        yield (
            f"{counted(len(several), 'sentence number')} with several texts, of which the first is "
            f"taken: {number} has “{printable(one, 20)}” and “{printable(other, 20)}”"
        )
    if odd := transcript.odd_times:
        yield f"{odd}; check the transcript"
    if tower is not None and tower.cut.any():
        yield (
            f"{counted(int(tower.cut.sum()), 'text')} longer than the {tower.most_tokens} tokens "
            "that the target reads: the rest is cut off"
        )


def _durations(segments: Segments) -> Durations:
    durations_s = segments.offset_s - segments.onset_s
    samples = segments.stop - segments.start
    lower, median, upper, longest = np.quantile(durations_s, [0.25, 0.5, 0.75, 1.0]).tolist()
    return Durations(
        histogram=_histogram(durations_s),
        lower_quartile_s=lower,
        median_s=median,
        upper_quartile_s=upper,
        longest_s=longest,
        median_samples=float(np.median(samples)),
        longest_samples=int(samples.max()),
        padded_samples=segments.n_samples,
        padding=1 - float(samples.mean()) / segments.n_samples,
    )


def _histogram(durations_s: np.ndarray) -> dict[str, int]:
    edges = [f"{edge:g}" for edge in _BIN_EDGES_S]
    names = [f"{low} to {high} s" for low, high in itertools.pairwise(edges)]
    names.append(f"{edges[-1]} s or more")
    bins = np.searchsorted(_BIN_EDGES_S, durations_s, side="right") - 1
    return dict(zip(names, np.bincount(bins, minlength=len(names)).tolist(), strict=True))


def _overlap(segments: Segments) -> Overlap:
    start, stop = segments.start, segments.stop
    shares = inside_shares(start, stop, start, stop, least=2)
    test_segments: float | None = None
    test_inside: float | None = None
    with contextlib.suppress(ValueError):
        test_segments, test_inside = split_overlap(start, stop)
    return Overlap(
        segments=float(np.mean(shares > 0)),
        inside=float(np.mean(shares)),
        test_segments=test_segments,
        test_inside=test_inside,
        seeds=len(SPLIT_SEEDS),
    )


def _channels_text(channels: Channels) -> str:
    n_kept = len(channels.kept)
    counts = {why: len(names) for why, names in channels.left_out.items()}
    return _with_reasons(f"{n_kept} of {n_kept + sum(counts.values())} kept", counts)


def _channels_details(channels: Channels) -> list[str]:
    groups = {"kept": channels.kept, **channels.left_out}
    rows = [(why, len(names), ", ".join(map(printable, names))) for why, names in groups.items()]
    return [
        _table(("", "channels", "names"), rows),
        "Not neural are channels with a word for heart, muscle, eye, breath, markers, events, "
        "triggers, other inputs or references in their names. The Laplacian needs a clean contact "
        "on either side of a shaft, and a bipolar pair the next one: a name must be a shaft and a "
        f"number, and a shaft with more than {MOST_ON_A_SHAFT} contacts, called grid, strip or "
        "ECoG, or flat by its coordinates, counts as a grid. Unlabelled datasets have no label.",
    ]


def _signals_text(signals: Signals) -> str:
    if signals.spread_uv is None:
        return "none"
    dead = f"{signals.dead_s:.1f} s" if signals.dead_s else "at no time"
    return (
        f"standard deviation {signals.spread_uv:.3g} µV (median electrode); without signal {dead}"
    )


def _signals_details(signals: Signals) -> list[str]:
    rows = [
        (
            printable(name),
            _percent(signals.flat_share.get(name, 0.0)),
            f"{signals.impulses.get(name, 0.0):.2g}",
        )
        for name in dict.fromkeys([*signals.flat_share, *signals.impulses])
    ]
    mains = " or ".join(f"{hz - OFF_LINE_HZ:g} to {hz + OFF_LINE_HZ:g} Hz" for hz in LINES_HZ)
    looked = (
        f"Every channel was checked in {PROBES} stretches of {PROBE_S:g} s over the movie, and up "
        f"to {REFERENCES} channels throughout. A signal that changes by no more than "
        f"{FLAT_STEPS:g} steps of its converter, or {100 * FLAT_SHARE:g} % of its usual change, in "
        f"{CELL_S:g} s counts as missing; the recording counts as without signal where half of its "
        "channels do. An impulse is a single sample over "
        f"{IMPULSE:g} standard deviations off both its neighbours; everything else is judged "
        "without it. Left out are channels that are constant, without signal for most of the "
        "time or but for impulses, with impulses in most of the time, another one but for a factor "
        f"and an offset, nothing but mains ({mains} and their harmonics), another tone, or a drift "
        "with either or alone, at their own extremes in over "
        f"{100 * CLIPPED_SHARE:g} % of the samples, NaN, "
        "infinite or over a kilovolt anywhere among these, or of a standard deviation over "
        f"{OUT_OF_SCALE_FACTOR:g} times above or below the median channel's."
    )
    return [
        looked,
        *([_table(("electrode", "without signal", "impulses a minute"), rows)] if rows else []),
    ]


def _rate_text(rate: Rate) -> str:
    resampled = "" if rate.resampled_hz is None else f"; resampled to {rate.resampled_hz:g} Hz"
    if rate.is_stated:
        return f"{rate.rate_hz:g} Hz, as the file states{resampled}"
    return (
        f"{rate.rate_hz:g} Hz, by the triggers: median {rate.measured_hz:.2f} Hz over "
        f"{counted(rate.chunks, 'chunk')}, {rate.minutes:.1f} min without a pause{resampled}"
    )


def _rate_details(rate: Rate) -> list[str]:
    if rate.is_stated:
        return [f"Context, filters and features assume {rate.assumed_hz:g} Hz."]
    rates = (
        f"The chunks range from {rate.lowest_hz:.2f} to {rate.highest_hz:.2f} Hz; the median may "
        f"be off by {rate.tolerance_hz:.2g} Hz, and a usual rate within that is taken instead. "
        f"Context, filters and superlets assume {rate.assumed_hz:g} Hz."
    )
    if not rate.attributes:
        return [rates, "No attribute of the HDF5 file is named like a sampling rate."]
    rows = [(name, ", ".join(map(_value, values))) for name, values in rate.attributes.items()]
    return [rates, _table(("attribute of the HDF5 file, not used", "value"), rows)]


def _movie_text(movie: Movie) -> str:
    return (
        f"the first trigger comes {movie.lead_in_s:.1f} s into the recording; "
        f"{_pauses_text([pause.length_s for pause in movie.pauses])}"
    )


def _times_text(movie: Movie) -> str:
    ends = f"the last sentence ends at {movie.transcript_end_s:.1f} of {movie.recording_s:.1f} s"
    if not movie.sentences_beyond:
        return ends
    return f"{ends}: no signal for {counted(movie.sentences_beyond, 'sentence')}"


def _pauses_text(lengths_s: list[float]) -> str:
    if len(lengths_s) < 2:
        return f"paused once, for {lengths_s[0]:.1f} s" if lengths_s else "never paused"
    return f"paused {len(lengths_s)} times, for {min(lengths_s):.1f} to {max(lengths_s):.1f} s"


def _movie_details(movie: Movie) -> list[str]:
    length = (
        f"The recording lasts {movie.recording_s:.1f} s. Its first trigger belongs to "
        f"{movie.first_trigger_s:.1f} s of the movie."
    )
    rows = [
        (f"{pause.from_s:.1f} to {pause.to_s:.1f} s", f"{pause.length_s:.1f} s")
        for pause in movie.pauses
    ]
    return [length, *([_table(("pause, in movie time", "lasted"), rows)] if rows else [])]


def _triggers_text(movie: Movie) -> str:
    ends = (
        f"end at {movie.last_trigger_s:.1f} s of the movie, the transcript at "
        f"{movie.transcript_end_s:.1f} s"
    )
    if not movie.sentences_beyond:
        return ends
    return f"{ends}: no signal for {counted(movie.sentences_beyond, 'sentence')}"


def _sentences_text(sentences: Sentences) -> str:
    kept = f"{sentences.kept:,} of {sentences.in_transcript:,} kept"
    return _with_reasons(kept, sentences.dropped)


def _repeats_text(sentences: Sentences) -> str:
    if not sentences.repeated:
        return "no two kept sentences are the same"
    shown = [(printable(text, 12), count) for text, count in sentences.most_frequent[:3]]
    frequent = ", ".join(f"“{text}” {count}×" for text, count in shown)
    return f"{sentences.repeated:,} sentences share their text: {frequent}"


def _repeats_details(sentences: Sentences) -> list[str]:
    if not sentences.repeated:
        return []
    return [
        "Random splits put the same text on both sides, and retrieval can't tell candidates of the "
        "same text apart. Sentences of the same words, or of the same tokens of the target, "
        "share their text.",
        _table(("most frequent", "times"), sentences.most_frequent),
    ]


def _durations_text(durations: Durations) -> str:
    return (
        f"median {durations.median_s:.2f} s, middle half {durations.lower_quartile_s:.2f} to "
        f"{durations.upper_quartile_s:.2f} s, longest {durations.longest_s:.2f} s"
    )


def _durations_details(durations: Durations) -> list[str]:
    scale = _BAR_WIDTH / max(durations.histogram.values())
    rows = [(name, n, "█" * math.ceil(scale * n)) for name, n in durations.histogram.items()]
    return [_table(("duration", "sentences", ""), rows)]


def _padding_text(durations: Durations) -> str:
    return (
        f"segments have {durations.median_samples:,.0f} samples (median), at most "
        f"{durations.longest_samples:,}; padded to {durations.padded_samples:,}, "
        f"{_percent(durations.padding)} are zeros"
    )


def _overlap_text(overlap: Overlap) -> str:
    return (
        f"{_percent(overlap.segments)} of the segments share samples with another; on average "
        f"{_percent(overlap.inside)} of each"
    )


def _leakage_text(overlap: Overlap) -> str:
    if overlap.test_segments is None or overlap.test_inside is None:
        return "too few segments for a random split"
    return (
        f"random splits: {_percent(overlap.test_segments)} of the test segments share samples "
        f"with training; on average {_percent(overlap.test_inside)} of each"
    )


def _leakage_details(overlap: Overlap) -> list[str]:
    shares = "/".join(f"{100 * fraction:g}" for fraction in FRACTIONS)
    return [
        f"Mean over {overlap.seeds} seeded random {shares} splits. A model that memorises such "
        "stretches scores better in the test than it would on new signal."
    ]


def _with_reasons(kept: str, counts: dict[str, int]) -> str:
    reasons = ", ".join(f"{why}: {count:,}" for why, count in counts.items())
    return f"{kept}; {reasons}" if reasons else kept


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    return markdown_table([dict(zip(header, row, strict=True)) for row in rows]).rstrip()


def _value(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
