"""The same sentences in every format that sentences are read from."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

RATE_HZ, LENGTH_S = 1024.0, 120.0  # of the recording


@dataclass(frozen=True)
class Word:
    onset_ms: int
    offset_ms: int
    text: str


@dataclass(frozen=True)
class Sentence:
    words: tuple[Word, ...]
    speaker: str = "ann"

    @property
    def onset_ms(self) -> int:
        return self.words[0].onset_ms

    @property
    def offset_ms(self) -> int:
        return self.words[-1].offset_ms

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)


SENTENCES = (
    Sentence((Word(1250, 1600, "Grüß"), Word(1600, 2125, "Gott!"))),
    Sentence((Word(4000, 4300, "How"), Word(4310, 4500, "are,"), Word(4500, 4900, "you?")), "bob"),
    Sentence((Word(8075, 8500, '"Fine,"'), Word(8500, 9000, "thanks.")), "ann"),
    Sentence((Word(61001, 61400, "Good;"), Word(61400, 61903, "bye.")), "bob"),
)


@dataclass(frozen=True)
class Format:
    """A way to write sentences, the fields to read them with, and whether speakers are in it."""

    content: Callable[[Sequence[Sentence]], bytes]
    name: str = "table"
    fields: dict[str, Any] = field(default_factory=dict)
    speakers: bool = False


def s(ms: int) -> str:
    """Milliseconds as seconds, exactly."""
    return f"{'-' * (ms < 0)}{abs(ms) // 1000}.{abs(ms) % 1000:03}"


def clock(ms: int) -> str:
    return f"{ms // 3600000:02}:{ms // 60000 % 60:02}:{s(ms % 60000).rjust(6, '0')}"


def comma(ms: int) -> str:
    return s(ms).replace(".", ",")


def table(
    rows: Sequence[Sequence[object]], delimiter: str, encoding: str = "utf-8", **style: Any
) -> bytes:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, **style).writerows(rows)
    return text.getvalue().encode(encoding)


def tab_text(rows: Sequence[Sequence[str]]) -> bytes:
    """Rows as ELAN and the aligners write them: without any quoting."""
    return "".join("\t".join(row) + "\n" for row in rows).encode()


def spoken_words(sentences: Sequence[Sentence]) -> list[tuple[int, Sentence, Word]]:
    return [(number, each, word) for number, each in enumerate(sentences) for word in each.words]


def sentence_csv(sentences: Sequence[Sentence]) -> bytes:
    rows = [(s(x.onset_ms), s(x.offset_ms), x.text, x.speaker) for x in sentences]
    return table([("start", "end", "text", "speaker"), *rows], ",")


def word_csv(sentences: Sequence[Sentence]) -> bytes:
    rows = [
        (w.text, s(w.onset_ms), s(w.offset_ms), x.speaker) for _, x, w in spoken_words(sentences)
    ]
    return table([("word", "start_time", "end_time", "Speaker"), *rows], ",", "utf-8-sig")


def numbered_words(sentences: Sequence[Sentence]) -> bytes:
    rows = [
        (w.text, s(w.onset_ms), s(w.offset_ms - w.onset_ms), f"s{n}")
        for n, _, w in spoken_words(sentences)
    ]
    return table([("token", "t_start", "dur", "sentence_id"), *rows], "\t", quoting=csv.QUOTE_ALL)


def bids_events(sentences: Sequence[Sentence]) -> bytes:
    rows = [
        (s(x.onset_ms), s(x.offset_ms - x.onset_ms), x.text, round(x.onset_ms * RATE_HZ / 1000))
        for x in sentences
    ]
    rows = [*rows, ("70.5", "n/a", "n/a", "n/a")]
    return table([("onset", "duration", "trial_type", "sample"), *rows], "\t", lineterminator="\n")


def german_excel(sentences: Sequence[Sentence]) -> bytes:
    rows = [(comma(x.onset_ms), comma(x.offset_ms - x.onset_ms), x.text) for x in sentences]
    return table([("Anfang", "Dauer", "Satz"), *rows], ";", "latin-1")


def excel_with_its_separator(sentences: Sequence[Sentence]) -> bytes:
    rows = [(s(x.onset_ms), s(x.offset_ms), x.text) for x in sentences]
    return b"sep=;\r\n" + table([("start", "end", "text"), *rows], ";")


def utf16_tabs(sentences: Sequence[Sentence]) -> bytes:
    rows = [(clock(x.onset_ms), clock(x.offset_ms), x.text) for x in sentences]
    return table([("Begin", "End", "Utterance"), *rows], "\t", "utf-16")


def milliseconds(sentences: Sequence[Sentence]) -> bytes:
    rows = [(x.onset_ms, x.offset_ms, x.text) for x in sentences]
    return table([("onset_ms", "offset_ms", "sentence"), *rows], ",")


def whisper_tsv(sentences: Sequence[Sentence]) -> bytes:
    return tab_text(
        [
            ("start", "end", "text"),
            *((str(x.onset_ms), str(x.offset_ms), x.text) for x in sentences),
        ]
    )


def whisper(sentences: Sequence[Sentence]) -> bytes:
    segments = [
        {
            "id": number,
            "start": x.onset_ms / 1000,
            "end": x.offset_ms / 1000,
            "text": f" {x.text}",
            "tokens": [1, 2],
            "words": [
                {
                    "word": f" {w.text}",
                    "start": w.onset_ms / 1000,
                    "end": w.offset_ms / 1000,
                    "probability": 0.9,
                }
                for w in x.words
            ],
        }
        for number, x in enumerate(sentences)
    ]
    return json.dumps({"text": "", "segments": segments, "language": "de"}).encode()


def json_lines(sentences: Sequence[Sentence]) -> bytes:
    rows = [
        {
            "start": x.onset_ms / 1000,
            "end": x.offset_ms / 1000,
            "text": x.text,
            "speaker": x.speaker,
        }
        for x in sentences
    ]
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()


def whisperx_words(sentences: Sequence[Sentence]) -> bytes:
    words = [
        {
            "word": w.text,
            "start": w.onset_ms / 1000,
            "end": w.offset_ms / 1000,
            "speaker": x.speaker,
        }
        for _, x, w in spoken_words(sentences)
    ]
    return json.dumps({"word_segments": words}, ensure_ascii=False).encode()


Interval = tuple[int, int, str]


def with_silence(intervals: Sequence[Interval], label: str = "") -> list[Interval]:
    """Intervals of a whole tier: silence before, between and behind what is said."""
    filled, last = [], 0
    for onset, offset, text in intervals:
        filled += [(last, onset, label)] * (onset > last)
        filled.append((onset, offset, text))
        last = offset
    return [*filled, (last, round(LENGTH_S * 1000), label)]


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def long_text_grid(tiers: dict[str, list[Interval]]) -> str:
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0 "]
    lines += [f"xmax = {LENGTH_S} ", "tiers? <exists> ", f"size = {len(tiers)} ", "item []: "]
    for number, (name, intervals) in enumerate(tiers.items(), 1):
        lines += [f"    item [{number}]:", '        class = "IntervalTier" ']
        lines += [
            f"        name = {quoted(name)} ",
            "        xmin = 0 ",
            f"        xmax = {LENGTH_S} ",
        ]
        lines += [f"        intervals: size = {len(intervals)} "]
        for place, (onset, offset, text) in enumerate(intervals, 1):
            lines += [f"        intervals [{place}]:", f"            xmin = {s(onset)} "]
            lines += [f"            xmax = {s(offset)} ", f"            text = {quoted(text)} "]
    return "\n".join(lines) + "\n"


def short_text_grid(tiers: dict[str, list[Interval]]) -> str:
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "0", str(LENGTH_S)]
    lines += ["<exists>", str(len(tiers))]
    for name, intervals in tiers.items():
        lines += ['"IntervalTier"', quoted(name), "0", str(LENGTH_S), str(len(intervals))]
        for onset, offset, text in intervals:
            lines += [s(onset), s(offset), quoted(text)]
    return "\n".join(lines) + "\n"


def praat(sentences: Sequence[Sentence]) -> bytes:
    tier = with_silence([(x.onset_ms, x.offset_ms, x.text) for x in sentences])
    return long_text_grid({"what was said": tier}).encode("utf-16")


def aligner(sentences: Sequence[Sentence]) -> bytes:
    words = [(w.onset_ms, w.offset_ms, w.text) for _, _, w in spoken_words(sentences)]
    phones = [(a, b, "AH0") for a, b, _ in words]
    tiers = {"words": with_silence(words), "phones": with_silence(phones, "sil")}
    return short_text_grid(tiers).encode()


def aligned_speakers(sentences: Sequence[Sentence]) -> bytes:
    tiers = {}
    for name in dict.fromkeys(x.speaker for x in sentences):
        own = [x for x in sentences if x.speaker == name]
        words = [(w.onset_ms, w.offset_ms, w.text) for _, _, w in spoken_words(own)]
        tiers[f"{name} - words"] = with_silence(words, "sp")
        tiers[f"{name} - phones"] = with_silence([(a, b, "AH0") for a, b, _ in words])
    return long_text_grid(tiers).encode()


def aligner_csv(sentences: Sequence[Sentence]) -> bytes:
    rows = []
    for _, x, w in spoken_words(sentences):
        rows.append((s(w.onset_ms), s(w.offset_ms), w.text, "words", x.speaker))
        rows.append((s(w.onset_ms), s(w.offset_ms), "AH0", "phones", x.speaker))
    return table([("Begin", "End", "Label", "Type", "Speaker"), *rows], ",")


def elan(sentences: Sequence[Sentence]) -> bytes:
    times = ("Begin Time", "End Time", "Duration")
    forms = ("hh:mm:ss.ms", "ss.msec", "msec")
    header = [
        "Tier",
        "Participant",
        *(f"{name} - {form}" for name in times for form in forms),
        "Annotation",
    ]
    rows = [
        [
            "utterance",
            x.speaker,
            *(
                f(t)
                for t in (x.onset_ms, x.offset_ms, x.offset_ms - x.onset_ms)
                for f in (clock, s, str)
            ),
            x.text,
        ]
        for x in sentences
    ]
    return tab_text([['"#file:///data/ann.eaf -- offset: 0'], header, *rows])


def elan_without_header(sentences: Sequence[Sentence]) -> bytes:
    times = [(x.onset_ms, x.offset_ms, x.offset_ms - x.onset_ms) for x in sentences]
    rows = [
        ["utterance", "", *(f(t) for t in own for f in (clock, s)), x.text]
        for own, x in zip(times, sentences, strict=True)
    ]
    return tab_text(rows)


def elan_by_speaker(sentences: Sequence[Sentence]) -> bytes:
    by_tier = sorted(sentences, key=lambda x: x.speaker)  # ELAN writes tier after tier
    return tab_text([[x.speaker, clock(x.onset_ms), clock(x.offset_ms), x.text] for x in by_tier])


def audacity(sentences: Sequence[Sentence]) -> bytes:
    return tab_text([[s(x.onset_ms) + "000", s(x.offset_ms) + "000", x.text] for x in sentences])


GERMAN = {"onset": "Anfang", "duration": "Dauer", "text": "Satz"}
FORMATS = {
    "CSV of sentences": Format(sentence_csv, speakers=True),
    "CSV of words": Format(word_csv, speakers=True),
    "TSV of numbered words": Format(numbered_words),
    "BIDS events": Format(bids_events, "sub-01_task-listen_events.tsv"),
    "German spreadsheet": Format(german_excel, fields=GERMAN),
    "Excel's with its separator": Format(excel_with_its_separator),
    "UTF-16 with clock times": Format(utf16_tabs),
    "milliseconds by the header": Format(milliseconds),
    "milliseconds as set": Format(whisper_tsv, fields={"time_unit": "milliseconds"}),
    "Whisper": Format(whisper),
    "Whisper's words": Format(whisper, fields={"grouping": "punctuation"}),
    "Whisper's words by segment": Format(whisper, fields={"group": "segment"}),
    "WhisperX": Format(whisperx_words, speakers=True),
    "JSON Lines": Format(json_lines, speakers=True),
    "Praat": Format(praat),
    "Montreal Forced Aligner": Format(aligner),
    "aligner with speakers": Format(aligned_speakers, speakers=True),
    "aligner's CSV": Format(aligner_csv, speakers=True),
    "ELAN": Format(elan, speakers=True),
    "ELAN without a header": Format(elan_without_header),
    "ELAN with a tier per speaker": Format(elan_by_speaker, fields={"tier": "all"}, speakers=True),
    "Audacity": Format(audacity),
}
