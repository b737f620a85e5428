"""Irregularities of the published files, made up too, so that readers are tested on them.

Quirks only add or disguise. The sentences that can be aligned keep their times and spoken words
(except for one, which is made to repeat its neighbour), and the signals stay as they are.
"""

from __future__ import annotations

import dataclasses
import struct
import zlib
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import numpy as np

from ssense.data.synthetic.grammar import Sentence, Token, compose_sentence
from ssense.data.synthetic.localization import (
    HEADER,
    LOCALIZATION,
    SUB_9_UNLOCATED,
    coordinates_table,
    sub_9_places,
)
from ssense.data.synthetic.montage import Channel
from ssense.data.synthetic.screenplay import Screenplay

# SSENSE counts 1,558 sentences in Ant-Man, of which 1,527 have an aligned word. About 15 of the
# others come after the last trigger.
SENTENCES_PER_UNTIMED, SENTENCES_PER_UNTRACKED = 95, 100
UNTRACKED_AFTER_S, UNTRACKED_EVERY_S = 60.0, 3.0

DISGUISED_EVERY = 2  # every second of the sentences of two and more words
ROWS_PER_INFINITE = 40

TIMING_ORDER = ("trig_type", "index", "type", "diff", "movie_time", "end_time", "start_time")

# Another subject's names: some are good contacts of this one.
OTHER_CORRUPTED = {"sub_1": ["RT3aHa1*", "F1a2#", "F3a5"], "sub_10": ["T1cIe4*", "DC10"]}


def odd_screenplay(seed: int, screenplay: Screenplay) -> Screenplay:
    """The screenplay with odd texts, and with sentences that nothing in the recording answers to.

    In between come sentences whose words have no times, at the end some after the last trigger.
    """
    random = Random(seed)
    sentences, edges_s = _disguise(screenplay.sentences), list(screenplay.edges_s)
    n_sentences = len(sentences)
    n_untimed = max(1, n_sentences // SENTENCES_PER_UNTIMED)
    for turn in range(n_untimed, 0, -1):  # from the end, so that the others keep their places
        number = turn * n_sentences // (n_untimed + 1)
        sentences.insert(number, _untimed(compose_sentence(random, 5)))
        edges_s.insert(number, edges_s[number][:1])
    _say_again(sentences, edges_s)
    onset_s = max(screenplay.end_s, float(edges_s[-1][-1])) + UNTRACKED_AFTER_S
    for _ in range(max(1, n_sentences // SENTENCES_PER_UNTRACKED)):
        sentences.append(compose_sentence(random, 4))
        edges_s.append(np.round(onset_s + 0.3 * np.arange(5), 3))
        onset_s += UNTRACKED_EVERY_S
    return Screenplay(tuple(sentences), tuple(edges_s), screenplay.end_s)


def odd_features(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows as pandas writes them, sentence numbers as floats, with +inf and more NaN."""
    odd = []
    for number, row in enumerate(rows):
        row = row | {"sentence_idx": float(row["sentence_idx"])}
        if row["is_onset"]:
            row["onset_diff"] = row["word_diff"] = np.nan
        if number % ROWS_PER_INFINITE == 0:
            row["delta_mel"] = np.inf
        odd.append({name: _as_pandas(value) for name, value in row.items()})
    return odd


def odd_timings(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """The rows with other column order, float indices, gaps, and pauses noted as end, beginning.

    Every second pause is such a pair.
    """
    odd = []
    pauses = 0
    for number, row in enumerate(rows):
        row = row | {"index": row["index"] + ".0"}
        pauses += row["type"] == "pause"
        if pauses % 2 == 0:
            row["type"] = {"pause": "end", "unpause": "beginning"}.get(row["type"], row["type"])
        if row["type"] != "trigger":
            row |= {"trig_type": "", "end_time": "", "diff": "" if number == 0 else row["diff"]}
        odd.append({name: row[name] for name in TIMING_ORDER})
    return odd


def unrelated_files(
    subject: str, movie: str, channels: list[Channel], screenplay: Screenplay
) -> dict[str, bytes]:
    """What else a download holds: contents by path. Nothing of it is needed."""
    texts = {
        LOCALIZATION: _coordinates(subject, channels),
        f"localization/{subject}/depth-wm.csv": _voxels(channels),
        f"trees/{movie}/tree.conllu": _trees(screenplay.sentences),
        f"speaker_annotations/{movie}.csv": "start,end,speaker\n2.0,3.1,Speaker 0\n",
        f"scene_annotations/{movie}.csv": "start,end,scene\n0.0,60.0,a kitchen\n",
        "electrode_labels/sub_2/electrode_labels.json": '["LF1a1", "LF1a2*"]\n',
        "subject_metadata/sub_2_trial004_metadata.json": '{"title": "V", "filename": "venom"}\n',
    }
    contents = {path: text.encode() for path, text in texts.items()}
    return contents | {f"movie_frames/{movie}/frame_1000.png": _black_pixel()}


def _disguise(sentences: Sequence[Sentence]) -> list[Sentence]:
    """Sentences written oddly: every second, and in turn those with two and more words."""
    disguised = list(sentences)
    disguised[1::2] = [_with_curly_apostrophes(sentence) for sentence in sentences[1::2]]
    long = [number for number, sentence in enumerate(sentences) if sentence.n_words > 1]
    for turn, number in enumerate(long[::DISGUISED_EVERY]):
        disguised[number] = _DISGUISES[turn % len(_DISGUISES)](disguised[number])
    return disguised


def _with_curly_apostrophes(sentence: Sentence) -> Sentence:
    tokens = tuple(
        dataclasses.replace(token, text=token.text.replace("'", "’")) for token in sentence.tokens
    )
    return Sentence(tokens, sentence.text.replace("'", "’"))


def _with_unaligned_word(sentence: Sentence) -> Sentence:
    """The words with another one between them that has no time."""
    first, rest = sentence.text.split(" ", 1)
    place = next(i for i, token in enumerate(sentence.tokens) if i and not token.attached)
    word = Token("ma’am", "NOUN", spoken=False)
    tokens = (*sentence.tokens[:place], word, *sentence.tokens[place:])
    return Sentence(tokens, f"{first} {word.text} {rest}")


def _with_quotation_marks(sentence: Sentence) -> Sentence:
    text, mark = sentence.text[:-1], sentence.text[-1]
    first, last = text.rsplit(" ", 1)
    return dataclasses.replace(sentence, text=f'{first} "{last}"{mark}')


def _with_line_break(sentence: Sentence) -> Sentence:
    return dataclasses.replace(sentence, text=sentence.text.replace(" ", "\n", 1))


_DISGUISES: tuple[Callable[[Sentence], Sentence], ...] = (
    _with_unaligned_word,
    _with_quotation_marks,
    _with_line_break,
)


def _untimed(sentence: Sentence) -> Sentence:
    tokens = (dataclasses.replace(token, spoken=False) for token in sentence.tokens)
    return Sentence(tuple(tokens), sentence.text)


def _say_again(sentences: list[Sentence], edges_s: list[np.ndarray]) -> None:
    """Let the first sentence with as many words as the one before it, or nearly, repeat it.

    Where the number of words changes, so do their bounds, within the same time.
    """
    counts = np.array([sentence.n_words for sentence in sentences])
    apart = np.abs(np.diff(counts)).astype(float)
    apart[(counts[1:] == 0) | (counts[:-1] == 0)] = np.inf
    again = int(np.argmin(apart)) + 1
    sentences[again] = sentences[again - 1]
    old = np.linspace(0, 1, len(edges_s[again]))
    new = np.linspace(0, 1, sentences[again].n_words + 1)
    edges_s[again] = np.round(np.interp(new, old, edges_s[again]), 3)


def _as_pandas(value: object) -> object:
    if isinstance(value, float):
        return "" if np.isnan(value) else repr(float(value))
    return value


def _coordinates(subject: str, channels: list[Channel]) -> str:
    """The table of coordinates, of contacts of another subject too.

    Three contacts of the published sub_9, and of others the last one, have no coordinates.
    """
    names = [channel.name for channel in channels if channel.kind in ("contact", "flat")]
    other = f"{len(names)},12.0,33.0,-8.0,0,sub_2,LF1a1,H\n"
    if places := sub_9_places(names):
        known = {name: at for name, at in places.items() if name not in SUB_9_UNLOCATED}
        return coordinates_table(subject, known) + other
    lines = [
        f"{i},{30 + 3.5 * i:.1f},{-40 + i:.1f},{5 + i / 2:.1f},1,{subject},{name},G\n"
        for i, name in enumerate(names[:-1])
    ]
    return "".join([HEADER, *lines, other])


def _voxels(channels: list[Channel]) -> str:
    lines = ["Electrode,L,I,P,DesikanKilliany,Destrieux,DKT"]
    lines += [
        f"{channel.name},{90 + i},{110 + i},{80 + i},ctx-lh,ctx_lh,ctx-lh"
        for i, channel in enumerate(channels)
        if channel.kind in ("contact", "flat")
    ]
    return "\n".join(lines) + "\n"


def _trees(sentences: Sequence[Sentence]) -> str:
    blocks = []
    for sentence in sentences:
        rows = [
            f"{i}\t{token.text}\t{token.text}\t{token.pos}\t_\t_\t{i - 1}\tdep\t_\t_"
            for i, token in enumerate(sentence.tokens, start=1)
        ]
        text = " ".join(sentence.text.split())
        blocks.append("\n".join([f"# text = {text}", *rows]) + "\n")
    return "\n".join(blocks) + "\n"


def _black_pixel() -> bytes:
    """A PNG image of one pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        length, checksum = struct.pack(">I", len(data)), struct.pack(">I", zlib.crc32(kind + data))
        return length + kind + data + checksum

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0\0"))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")
