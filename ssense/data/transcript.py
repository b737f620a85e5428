"""The words of a movie and the sentences they form."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from ssense.data.tables import WHOLE_NUMBERS, csv_columns, read_csv, require_columns
from ssense.errors import UserError


@dataclass(frozen=True, eq=False)
class Transcript:
    """One entry per token; a sentence is the tokens that share a `sentence_idx`, never a text.

    Attributes:
        sentence_idx: int64 [tokens].
        start_s, end_s: movie seconds [tokens], NaN for particles and words without a known time.
        sentences: text of every sentence, by `sentence_idx`; blank where no token has one.
        several_texts: first and second text of the sentences whose tokens have different ones.
    """

    sentence_idx: np.ndarray
    start_s: np.ndarray
    end_s: np.ndarray
    sentences: dict[int, str]
    several_texts: dict[int, tuple[str, str]]


def read_transcript(path: Path) -> Transcript:
    """Read `features.csv`: start, end, sentence and sentence_idx (else is_onset) of each token.

    Tokens without a sentence number (0, 1, 2, ...), of which the release has none, belong to no
    sentence. Without the column sentence_idx a token whose is_onset is 1 begins the next sentence.

    Raises:
        UserError: a column is missing or malformed, or no token belongs to a sentence.
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
            f"{path} has no token that belongs to a sentence among its {len(number)} rows "
            f"(by column {grouping}). Restore the file from the download."
        )
    sentence_idx = number[numbered].astype(np.int64)
    texts = np.array(table["sentence"].to_pylist(), dtype=object)[numbered]
    sentences = _first_text(sentence_idx, texts)
    return Transcript(
        sentence_idx=sentence_idx,
        start_s=table["start"].to_numpy()[numbered],
        end_s=table["end"].to_numpy()[numbered],
        sentences=sentences,
        several_texts=_several_texts(sentence_idx, texts, sentences),
    )


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
    """The text taken and the first other one, but for blanks, of each sentence that has another."""
    several: dict[int, tuple[str, str]] = {}
    for number, text in zip(sentence_idx.tolist(), texts.tolist(), strict=True):
        if text.split() and text.split() != sentences[number].split():
            several.setdefault(number, (sentences[number], text))
    return several
