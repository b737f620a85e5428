"""The words of a movie and the sentences they form."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from ssense.data.recordings.sentence_table import SpokenSentences
from ssense.errors import UserError, counted
from ssense.files.tables import WHOLE_NUMBERS, csv_columns, read_csv, require_columns

ACOUSTIC_COLUMNS = ("rms", "pitch", "mel")
"""Columns of `features.csv` for how loud and how high a word is, and for its spectrum."""
ACOUSTIC_SUMMARIES = tuple(f"{name}_{of}" for name in ACOUSTIC_COLUMNS for of in ("mean", "sd"))
"""Summaries of these columns over a sentence."""
_LONGEST_WORD_S = 30.0  # median of a transcript; in milliseconds a word takes some hundreds
_LOUDEST = 1e30  # beyond it a value says nothing of a sound, and its square may overflow


@dataclass(frozen=True, eq=False)
class Transcript:
    """One entry per token; a sentence is the tokens that share a `sentence_idx`, never a text.

    Attributes:
        sentence_idx: Number of each token's sentence, int64 [tokens].
        start_s, end_s: Movie seconds [tokens], NaN for particles and words without a known time.
        sentences: Text of every sentence, by `sentence_idx`; blank where no token has one.
        sound: Acoustic features, float64 [tokens] by name: those of `ACOUSTIC_COLUMNS` that the
            table has as numbers; NaN or infinite where a token has none.
        several_texts: First and second text of the sentences whose tokens have different ones.
        speaker: Who says each sentence, by `sentence_idx`, as far as that is known.
        extra: What else the source says of the sentences: values by `sentence_idx`, by column.
    """

    sentence_idx: np.ndarray
    start_s: np.ndarray
    end_s: np.ndarray
    sentences: dict[int, str]
    sound: Mapping[str, np.ndarray] = field(default_factory=dict)
    several_texts: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    speaker: Mapping[int, str] = field(default_factory=dict)
    extra: Mapping[str, Mapping[int, object]] = field(default_factory=dict)

    @classmethod
    def of_sentences(cls, spoken: SpokenSentences) -> Transcript:
        """The transcript of sentences that have times as a whole, numbered in their order."""
        return cls(
            sentence_idx=np.arange(len(spoken.text)),
            start_s=spoken.onset_s,
            end_s=spoken.offset_s,
            sentences=dict(enumerate(spoken.text)),
            speaker={number: who for number, who in enumerate(spoken.speaker) if who},
            extra={name: dict(enumerate(values)) for name, values in spoken.extra.items()},
        )

    @property
    def odd_times(self) -> str:
        """What the times of the words look like instead of seconds; empty if they are sound."""
        length_s = (self.end_s - self.start_s)[np.isfinite(self.end_s - self.start_s)]
        if not len(length_s):
            return ""
        backward, median_s = int(np.sum(length_s < 0)), float(np.median(length_s))
        if backward > len(length_s) / 2:
            return (
                f"{backward} of {len(length_s)} words end before they start, as if the columns "
                "start and end were swapped"
            )
        if median_s > _LONGEST_WORD_S:
            return (
                f"words last {median_s:g} s (median), as if the columns start and end were in "
                "milliseconds: seconds are wanted"
            )
        return ""

    def acoustics(self, sentence_idx: np.ndarray) -> dict[str, np.ndarray]:
        """Summarise how sentences sound: mean and standard deviation over the tokens of each.

        Args:
            sentence_idx: Numbers of the sentences, int64 [rows].

        Returns:
            Float64 [rows] by name, as "rms_mean" and "rms_sd", for every column there is; NaN
            where no token of a sentence has a sensible value. The sd of a single token is 0.
        """
        numbers, row = np.unique(sentence_idx, return_inverse=True)
        place = np.searchsorted(numbers, self.sentence_idx).clip(max=len(numbers) - 1)
        wanted = numbers[place] == self.sentence_idx
        found: dict[str, np.ndarray] = {}
        for name, values in self.sound.items():
            known = wanted & (np.abs(values) < _LOUDEST)
            of = place[known]
            mean = _mean_by(of, values[known], len(numbers))
            variance = _mean_by(of, (values[known] - mean[of]) ** 2, len(numbers))
            found |= {f"{name}_mean": mean[row], f"{name}_sd": np.sqrt(variance)[row]}
        return found


def read_transcript(path: Path) -> Transcript:
    """Read `features.csv`: start, end, sentence and sentence_idx (else is_onset) of each token.

    Tokens without a sentence number (0, 1, 2, ...), of which the release has none, belong to no
    sentence. Without the column sentence_idx a token whose is_onset is 1 begins the next sentence.

    Raises:
        UserError: A column is missing or malformed, or no token belongs to a sentence.
    """
    columns = {"start": pa.float64(), "end": pa.float64(), "sentence": pa.string()}
    require_columns(path, list(columns))
    grouping = _grouping_column(path)
    table = read_csv(path, {**columns, grouping: pa.float64()})
    number = table[grouping].to_numpy()
    if grouping == "is_onset":
        number = np.cumsum(number == 1.0) - 1.0
    numbered = (number >= 0) & (number < WHOLE_NUMBERS) & (number == np.floor(number))
    if not numbered.any():
        raise UserError(
            f"{path} has no token that belongs to a sentence among its "
            f"{counted(len(number), 'row')} (by column {grouping}). Restore the file from the "
            "download."
        )
    sentence_idx = number[numbered].astype(np.int64)
    texts = np.array(table["sentence"].to_pylist(), dtype=object)[numbered]
    sentences = _first_text(sentence_idx, texts)
    return Transcript(
        sentence_idx=sentence_idx,
        start_s=table["start"].to_numpy()[numbered],
        end_s=table["end"].to_numpy()[numbered],
        sentences=sentences,
        sound={name: values[numbered] for name, values in _sound(path).items()},
        several_texts=_several_texts(sentence_idx, texts, sentences),
    )


def _sound(path: Path) -> dict[str, np.ndarray]:
    """The acoustic columns that hold numbers. Only a control wants them: no other is refused."""
    found: dict[str, np.ndarray] = {}
    for name in ACOUSTIC_COLUMNS:
        with contextlib.suppress(UserError):
            found[name] = read_csv(path, {name: pa.float64()})[name].to_numpy()
    return found


def _mean_by(group: np.ndarray, values: np.ndarray, n: int) -> np.ndarray:
    """Mean of the values of each of n groups, NaN for one without values."""
    count = np.bincount(group, minlength=n)
    total = np.bincount(group, weights=values, minlength=n)
    mean: np.ndarray = np.divide(total, count, out=np.full(n, np.nan), where=count > 0)
    return mean


def _grouping_column(path: Path) -> str:
    found = csv_columns(path)
    for name in ("sentence_idx", "is_onset"):
        if name in found:
            return name
    raise UserError(
        f"{path} has neither a column sentence_idx nor is_onset to tell sentences apart. "
        "Restore the file from the download."
    )


def _first_text(sentence_idx: np.ndarray, texts: np.ndarray) -> dict[int, str]:
    """Text of each sentence: that of its first token, or of the first that has one."""
    sentences: dict[int, str] = {}
    for number, text in zip(sentence_idx.tolist(), texts.tolist(), strict=True):
        if not sentences.get(number, "").strip():
            sentences[number] = text
    return sentences


def _several_texts(
    sentence_idx: np.ndarray, texts: np.ndarray, sentences: dict[int, str]
) -> dict[int, tuple[str, str]]:
    """The text taken and the first other one, besides blanks, of each sentence that has another."""
    several: dict[int, tuple[str, str]] = {}
    for number, text in zip(sentence_idx.tolist(), texts.tolist(), strict=True):
        if text.split() and text.split() != sentences[number].split():
            several.setdefault(number, (sentences[number], text))
    return several
