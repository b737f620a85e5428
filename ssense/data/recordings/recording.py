"""What every reader gives: channels with their signals, and what was said when.

    recording = Recording.from_arrays(signals, 1000.0, ["LA1", "LA2", "LA3"], sentences)
    volts = recording.read_channel("LA1", [(0, 2000)])

Brain Treebank, BIDS, files that MNE reads and arrays are readers of their own, see `source`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ssense.data.coordinates import Place
from ssense.data.recordings.channels import (
    NEURAL_KINDS,
    Channel,
    Signals,
    checked_channels,
    grids_of,
    neural_alone,
)
from ssense.data.recordings.recording_source import RecordingSource
from ssense.data.recordings.sentence_table import SpokenSentences, spoken_sentences
from ssense.data.recordings.signals.array_signals import ArraySignals
from ssense.data.recordings.signals.mne_signals import (
    RawSignals,
    channels_of,
    doubts_of,
    own_raw,
    space_of,
)
from ssense.data.recordings.signals.signal_quality import (
    LARGEST_UV,
    SignalQuality,
    signal_quality,
)
from ssense.data.recordings.tables.table_spec import TableSpec
from ssense.data.recordings.timeline import PLAUSIBLE_RATES_HZ, Timeline
from ssense.data.recordings.transcript import Transcript
from ssense.errors import UserError, counted, printable
from ssense.files.digest import content_digest, digest
from ssense.files.tables import listing
from ssense.signal.contacts import LONGEST_LABEL

if TYPE_CHECKING:
    import mne
    import pandas as pd

LONGEST_S = 60 * 86400.0  # electrodes are taken out after weeks


@dataclass(frozen=True, eq=False, kw_only=True)
class Recording:
    """One subject who hears or reads sentences. Signals stay where they are until they are read.

    Attributes:
        subject, trial: Whose recording it is, and which of this subject's.
        title: What the subject met, for people: the title of a movie or a task.
        channels: Every channel, in the order of the file.
        signals: Samples of the channels.
        n_samples: Length of every channel.
        timeline: When moments of the stimulus happened in the recording, and the sampling rate.
        transcript: What was said, with the times of its words.
        grids: Names of grids and strips among the shafts: those with more contacts than a depth
            electrode has, or on a sheet by their coordinates.
        space: Space of the coordinates as its source names it, such as "MNI152NLin2009aSym"; empty
            where it says none.
        root: Folder of the files.
        files: Files that were read, by role.
        read_as: What else than the bytes of the files decides what was read from them.
        unknown_bad: What the source advises against and no channel is called.
        unlabelled: Names of samples in the file that no channel is called by.
        stated_rates: Rates that the file states beside the one that is used, by name.
        understood: How the source was understood, for people, a sentence each.
        doubts: What looks wrong about the source, a sentence each.
        source: Where it was opened, so that other machines and later commands find it; None for
            one in memory.
        advice: How to leave out a channel that can't be used; "{name}" stands for its name.
    """

    subject: str
    trial: str
    title: str
    channels: tuple[Channel, ...]
    signals: Signals
    n_samples: int
    timeline: Timeline
    transcript: Transcript
    grids: frozenset[str] = frozenset()
    space: str = ""
    root: Path = Path()
    files: Mapping[str, Path] = field(default_factory=dict)
    read_as: tuple[Any, ...] = ()
    unknown_bad: tuple[str, ...] = ()
    unlabelled: tuple[str, ...] = ()
    stated_rates: Mapping[str, tuple[float | str, ...]] = field(default_factory=dict)
    understood: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    source: RecordingSource | None = None
    advice: str = "Leave {name} out."

    @classmethod
    def of_sentences(
        cls,
        sentences: SpokenSentences,
        *,
        channels: Sequence[Channel],
        n_samples: int,
        sampling_rate_hz: float,
        understood: Sequence[str] = (),
        doubts: Sequence[str] = (),
        **about: Any,
    ) -> Self:
        """A recording whose stimuli are timed in its own seconds.

        Args:
            sentences: What was said, and when.
            channels: Every channel, as its source describes it.
            n_samples: Length of every channel.
            sampling_rate_hz: Samples per second.
            understood: How its source was understood, a sentence each.
            doubts: What looks wrong about its source, a sentence each.
            about: The other attributes of a recording.

        Raises:
            UserError: No channel records the brain, two have the same name, or the recording is
                longer than any can be.
        """
        found, said = neural_alone(channels)
        made = cls(
            channels=found,
            n_samples=n_samples,
            timeline=Timeline.of_recording(n_samples, sampling_rate_hz),
            transcript=Transcript.of_sentences(sentences),
            grids=grids_of(found),
            understood=(*understood, *sentences.understood, *said),
            doubts=(*doubts, *sentences.doubts),
            **about,
        )
        made._check()
        return made

    @classmethod
    def from_arrays(
        cls,
        signals: np.ndarray,
        sampling_rate_hz: float,
        channels: Sequence[str | Channel],
        sentences: pd.DataFrame | Mapping[str, Sequence[object]],
        *,
        subject: str = "subject",
        trial: str = "recording",
        title: str = "recording",
        space: str = "",
        table: TableSpec | Mapping[str, object] | None = None,
    ) -> Self:
        """A recording of signals that are in memory.

        Args:
            signals: Samples in microvolts, `[channels, samples]`. They are copied, unless the array
                can't be written to, as one of numpy.load(..., mmap_mode="r").
            sampling_rate_hz: Samples per second.
            channels: Name of each channel, or a `Channel` with kind, coordinates and status. Names
                such as ECG and TRIG are told from electrodes.
            sentences: Columns onset, duration or offset in seconds from the first sample, and text;
                other columns are kept. Words are put together to sentences, see `TableSpec`.
            subject: Whose recording it is.
            trial: Which of this subject's.
            title: What the subject met, for people.
            space: Space of the coordinates.
            table: How the sentences are read, a specification or its fields by name.

        Raises:
            UserError: The arrays don't fit each other, or the sentences can't be understood.
        """
        named = checked_channels(channels)
        samples = _own_samples(signals, len(named))
        rate_hz, n_samples = checked_rate(sampling_rate_hz), samples.shape[1]
        spoken = spoken_sentences(
            sentences, "sentences", TableSpec.of(table), rate_hz, n_samples / rate_hz
        )
        return cls.of_sentences(
            spoken,
            channels=named,
            n_samples=n_samples,
            sampling_rate_hz=rate_hz,
            signals=ArraySignals(samples, tuple(each.name for each in named)),
            **_texts(subject=subject, trial=trial, title=title),
            space=space,
            read_as=_as_read(spoken, rate_hz, named),
        )

    @classmethod
    def from_mne(
        cls,
        raw: mne.io.BaseRaw,
        sentences: pd.DataFrame | Mapping[str, Sequence[object]],
        *,
        subject: str = "subject",
        trial: str = "recording",
        title: str = "recording",
        table: TableSpec | Mapping[str, object] | None = None,
    ) -> Self:
        """A recording that MNE holds, with its channels' kinds, bad ones and coordinates.

        Args:
            raw: The recording; samples are read from a copy of it when they are asked for.
            sentences: Columns onset, duration or offset in seconds from the first sample of `raw`,
                and text; see `from_arrays`.
            subject: Whose recording it is.
            trial: Which of this subject's.
            title: What the subject met, for people.
            table: How the sentences are read, a specification or its fields by name.

        Raises:
            UserError: The sentences can't be understood, no channel records the brain, or samples
                can't be read from `raw` as they are in its file.
        """
        raw = own_raw(raw)
        rate_hz, n_samples = checked_rate(raw.info["sfreq"]), len(raw.times)
        spoken = spoken_sentences(
            sentences, "sentences", TableSpec.of(table), rate_hz, n_samples / rate_hz
        )
        channels = channels_of(raw)
        return cls.of_sentences(
            spoken,
            channels=channels,
            n_samples=n_samples,
            sampling_rate_hz=rate_hz,
            signals=RawSignals(raw),
            **_texts(subject=subject, trial=trial, title=title),
            space=space_of(raw),
            read_as=_as_read(spoken, rate_hz, channels),
            doubts=doubts_of(raw),
        )

    def _check(self) -> None:
        names = [each.name for each in self.channels if each.kind in NEURAL_KINDS]
        if not names:
            kinds = dict.fromkeys(f"{each.name} ({each.kind})" for each in self.channels)
            raise UserError(
                f"{self.where}: no channel records the brain. Found: {listing([*kinds], most=6)}. "
                f"Channels of the kinds {', '.join(NEURAL_KINDS)} do; say so where the file does "
                "not, in BIDS's channels.tsv for instance."
            )
        repeated = [name for name, count in Counter(names).items() if count > 1]
        if repeated:
            raise UserError(
                f"{self.where} has {printable(repeated[0])} more than once. Give every channel a "
                "name of its own."
            )
        if (longest := max(names, key=len)) and len(longest) > LONGEST_LABEL:
            raise UserError(
                f"{self.where} has a name of {len(longest):,} characters, {printable(longest)}. "
                f"Give names of at most {LONGEST_LABEL}."
            )
        if (length_s := self.n_samples / self.sampling_rate_hz) > LONGEST_S:
            raise UserError(
                f"{self.where}: it lasts {length_s / 86400:,.0f} days at "
                f"{self.sampling_rate_hz:g} samples a second. Give a recording of at most "
                f"{LONGEST_S / 86400:g} days, or check the rate."
            )

    @cached_property
    def digest(self) -> str:
        """Hash of all that the recording depends on: the bytes of its files, wherever they lie."""
        contents = {role: content_digest(path) for role, path in self.files.items()}
        in_memory = [self.signals.content] if self.signals.content else []
        return digest(self.subject, self.trial, contents, *self.read_as, *in_memory)

    @cached_property
    def sampling_rate_hz(self) -> float:
        """Samples per second, as the file states or measured from trigger timings."""
        return self.timeline.sampling_rate_hz()

    @property
    def as_recorded(self) -> Recording:
        """The recording before it was resampled: itself."""
        return self

    def moved(self, root: Path) -> Self:
        """The same recording with its files in another folder; they are not looked at."""
        files = {role: root / path.relative_to(self.root) for role, path in self.files.items()}
        return replace(self, root=root, files=files, signals=self.signals.moved(files))

    @cached_property
    def channel_of(self) -> dict[str, int]:
        """Number of the channel of each electrode, by name, in the order of the file."""
        return {
            channel.name: number
            for number, channel in enumerate(self.channels)
            if channel.kind in NEURAL_KINDS
        }

    @cached_property
    def electrodes(self) -> tuple[str, ...]:
        """Names of the channels that record the brain, in the order of the file."""
        return tuple(self.channel_of)

    @cached_property
    def corrupted(self) -> frozenset[str]:
        """Names of the electrodes that the source advises against."""
        numbers = self.channel_of.items()
        return frozenset(name for name, number in numbers if self.channels[number].is_bad)

    @property
    def clean_electrodes(self) -> tuple[str, ...]:
        """The electrodes that are not corrupted."""
        return tuple(name for name in self.electrodes if name not in self.corrupted)

    @cached_property
    def coordinates(self) -> dict[str, Place]:
        """Coordinates of the electrodes whose place is known, mm, by name.

        The digest leaves them out: no signal depends on them.
        """
        places = {name: self.channels[number].place for name, number in self.channel_of.items()}
        return {name: place for name, place in places.items() if place is not None}

    @cached_property
    def regions(self) -> dict[str, str]:
        """Region of each electrode of which the source says one, by name; not in the digest."""
        named = {name: self.channels[number].region for name, number in self.channel_of.items()}
        return {name: region for name, region in named.items() if region}

    @property
    def where(self) -> str:
        """The recording in a message about its channels: the file of their names, if it has one."""
        for role in ("labels", "channels", "signals"):
            if role in self.files:
                return str(self.files[role])
        return f"{self.subject} {self.trial}"

    @cached_property
    def quality(self) -> SignalQuality:
        """What is wrong with the signals as they are in the file, see `signal_quality`.

        Raises:
            UserError: The file cannot be read.
        """
        first, last = self.timeline.runs[0].sample[0], self.timeline.runs[-1].sample[-1]
        movie = range(int(first), min(int(last), self.n_samples))
        # Of identical channels the first is kept: rather one that is not corrupted.
        electrodes = sorted(self.electrodes, key=self.corrupted.__contains__)
        return signal_quality(self._samples, electrodes, movie, self.sampling_rate_hz)

    def read_channel(
        self, electrode: str, stretches: Sequence[tuple[int, int]]
    ) -> list[np.ndarray]:
        """Read stretches [start, stop) of one electrode: float64 arrays [stop - start], microvolts.

        Only the stretches are read, whatever their type of number in the file.

        Raises:
            UserError: The file cannot be read, it has no such electrode or stretch, or a sample
                is NaN, infinite or over a kilovolt.
        """
        self._check_stretches(electrode, stretches)
        signals = self._samples(electrode, stretches)
        for (start, _), signal in zip(stretches, signals, strict=True):
            # NaN fails every comparison.
            if len(signal) and not -LARGEST_UV <= signal.min() <= signal.max() <= LARGEST_UV:
                first = int(np.argmin(np.abs(signal) <= LARGEST_UV))
                where = self.signals.where(self.channel_of[electrode])
                raise UserError(
                    f"{where} holds {signal[first]:g} at sample {start + first}, which is not a "
                    f"voltage. {self.advice.replace('{name}', electrode)}"
                )
        return signals

    def read_whole(self, number: int) -> np.ndarray:
        """All samples of a channel as they are, whatever they hold, float64, microvolts.

        Args:
            number: Number of the channel among all channels.

        Raises:
            UserError: The file cannot be read.
        """
        (samples,) = self.signals.read(number, [(0, self.n_samples)])
        return samples

    def _check_stretches(self, electrode: str, stretches: Sequence[tuple[int, int]]) -> None:
        if electrode not in self.channel_of:
            raise UserError(
                f"{self.where} has no electrode {printable(str(electrode))}. Found: "
                f"{listing(self.electrodes)}."
            )
        for start, stop in stretches:
            if not 0 <= start <= stop <= self.n_samples:
                raise UserError(
                    f"{self.where} has no samples {start:,} to {stop:,}: it has {self.n_samples:,}."
                    " Give the first sample of a stretch, and the one after its last."
                )

    def _samples(self, electrode: str, stretches: Sequence[tuple[int, int]]) -> list[np.ndarray]:
        """Stretches of one electrode as they are in the file, whatever they hold."""
        return self.signals.read(self.channel_of[electrode], stretches)


def checked_rate(sampling_rate_hz: object, where: object = "") -> float:
    """A sampling rate that a recording may have, in samples per second.

    Args:
        sampling_rate_hz: What is said to be one.
        where: The file that says so, for the message.

    Raises:
        UserError: It is none.
    """
    lowest, highest = PLAUSIBLE_RATES_HZ
    try:
        rate_hz = float(sampling_rate_hz)  # type: ignore[arg-type]  # whatever a file says
    except (TypeError, ValueError):
        rate_hz = float("nan")
    if not lowest <= rate_hz <= highest:
        of_file = f"{where}: " if where else ""
        raise UserError(
            f"{of_file}a sampling rate of {printable(repr(sampling_rate_hz))} Hz is none that a "
            f"recording has. Give {lowest:g} to {highest:g} samples a second."
        )
    return rate_hz


def _own_samples(signals: object, n_channels: int) -> np.ndarray:
    """An array of a user that no later change to it reaches.

    Raises:
        UserError: It is no array of real numbers for that many channels.
    """
    try:
        samples = np.asarray(signals)
        found = f"{samples.dtype} {list(samples.shape)}"
    except ValueError:  # rows of different length
        samples, found = np.empty(0, dtype=object), "rows of different length"
    if samples.ndim != 2 or len(samples) != n_channels or samples.dtype.kind not in "fiu":
        raise UserError(
            f"signals are {found} for {counted(n_channels, 'channel')}. Give real numbers in "
            "microvolts, [channels, samples], and a name for every channel."
        )
    if np.ma.is_masked(signals):
        raise UserError(
            "some of the signals are masked. Fill them, or leave their channels or stretches out: "
            "every sample must be a voltage."
        )
    return samples.copy() if samples.flags.writeable else samples


def _texts(**given: object) -> dict[str, str]:
    """Names of a user, each on one line.

    Raises:
        UserError: One is no text, or blank.
    """
    for name, value in given.items():
        if not isinstance(value, str) or not value.strip():
            raise UserError(f"`{name}` is {printable(repr(value))}. Give a text.")
    return {name: printable(str(value)) for name, value in given.items()}


def _as_read(
    sentences: SpokenSentences, rate_hz: float, channels: Sequence[Channel]
) -> tuple[Any, ...]:
    """What decides what was read, where no file does: sentences, rate and channels."""
    times = sentences.onset_s.tolist(), sentences.offset_s.tolist()
    named = [(each.name, each.kind, each.is_bad) for each in channels]
    return ("in memory", sentences.text, times, rate_hz, named)
