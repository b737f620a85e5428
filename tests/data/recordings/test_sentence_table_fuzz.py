"""Tables damaged at random: each is refused in one line, or read into sound sentences.

    FUZZ_CASES=2000 FUZZ_SEED=7 pytest tests/data/recordings/test_sentence_table_fuzz.py

A case is a format, a seed and a number, so a failure names all that repeats it.
"""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from spoken_tables import FORMATS, LENGTH_S, RATE_HZ, SENTENCES

from ssense.data.recordings.sentence_table import read_sentence_table
from ssense.data.recordings.tables.table_spec import TableSpec
from ssense.errors import UserError

CASES = int(os.environ.get("FUZZ_CASES", "60"))  # of each format
SEED = int(os.environ.get("FUZZ_SEED", "0"))

GARBAGE = (
    *("", "nan", "inf", "-inf", "n/a", "?", "-1", "0", "1e300", "-1e300", "1e-320", "1e9", "7"),
    *("1,5", "1,234", "1.234,5", "00:01:02.5", "99:99:99", "1_000", "0x10", "９", "true", "null"),
    *('"', '""', '"a', "a\nb", "\t", ",", ";", "\0", "é", "😀", "\ud800", "\x1b[2J", "x" * 5000),
    *("9" * 400, "[]", "{}", "<exists>", "words", "onset", "text", "end", "\u2028", "\x85"),
)
ADVICE = r"(Check|Correct|Count|Give|Make|Name|Number|Rename|Remove|Save|Separate|Set|Sort|Split"
ADVICE = rf"{ADVICE}|Unzip|Use|Write|write|export) "
ENCODINGS = ("latin-1", "cp1252", "utf-16", "utf-16-le", "utf-32", "cp037", "utf-8-sig", "utf-7")

Damage = Callable[[np.random.Generator, bytes], bytes]


def one_of(generator: np.random.Generator, choices):
    return choices[int(generator.integers(len(choices)))]


def outcome(path: Path, spec: TableSpec, generator: np.random.Generator) -> str:
    """Read a table; say how it ended. What must not happen is an error here."""
    rate = one_of(generator, (RATE_HZ, RATE_HZ, None, 1000.0, 1.0))
    length = one_of(generator, (LENGTH_S, LENGTH_S, None, 30.0, 1.0))
    try:
        found = read_sentence_table(path, spec, rate, length)
    except UserError as error:
        message = str(error)
        assert message.isprintable(), repr(message)
        assert len(message) < 1500, message
        assert message.endswith("."), message
        assert re.search(ADVICE, message), message
        assert str(path) in message, message
        return "refused"
    n = len(found)
    assert n > 0
    assert len(found.onset_s) == len(found.offset_s) == len(found.speaker) == n
    assert all(len(values) == n for values in found.extra.values())
    assert np.isfinite(found.offset_s).all()
    assert np.all(found.offset_s > found.onset_s)
    assert np.all(np.diff(found.onset_s) >= 0)
    assert all(text == " ".join(text.split()) and text.encode() for text in found.text)
    assert all(said.isprintable() for said in (*found.understood, *found.doubts))
    return "read"


# ---------------------------------------------------------------- damage


def flip_bytes(generator: np.random.Generator, content: bytes) -> bytes:
    damaged = bytearray(content)
    for _ in range(int(generator.integers(1, 6))):
        place = int(generator.integers(len(damaged)))
        kind = generator.integers(4)
        if kind == 0:
            damaged[place] ^= 1 << int(generator.integers(8))
        elif kind == 1:
            del damaged[place : place + int(generator.integers(1, 40))]
        elif kind == 2:
            damaged[place:place] = one_of(generator, (b'"', b",", b"\n", b"\r", b"\0", b"{", b"9"))
        elif generator.random() < 0.3:
            del damaged[place:]
        damaged = damaged or bytearray(b"x")
    return bytes(damaged)


def of_text(damage: Callable[[np.random.Generator, str], str]) -> Damage:
    def damaged(generator: np.random.Generator, content: bytes) -> bytes:
        encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            encoding, text = "latin-1", content.decode("latin-1")
        return damage(generator, text).encode(encoding, "replace")

    return damaged


def shift_lines(generator: np.random.Generator, text: str) -> str:
    """Delete, repeat and reorder lines, down to none at all."""
    lines = text.split("\n")
    share = one_of(generator, (0.05, 0.3, 0.9))
    lines = [line for line in lines if generator.random() > share]
    lines += [line for line in lines if generator.random() < one_of(generator, (0.0, 0.2))]
    if generator.random() < 0.5:
        lines = [lines[i] for i in generator.permutation(len(lines))]
    return "\n".join(lines)


def spoil_values(generator: np.random.Generator, text: str) -> str:
    """Replace numbers, texts and names, wherever they stand."""
    values = list(re.finditer(r"[^\s,;\t\"{}\[\]:=]+", text))
    garbage = [one_of(generator, GARBAGE)] if generator.random() < 0.6 else GARBAGE
    for match in sorted(
        (one_of(generator, values) for _ in range(int(generator.integers(1, 5)))),
        key=lambda match: -match.start(),
    ):
        text = text[: match.start()] + one_of(generator, garbage) + text[match.end() :]
    return text


def scale_numbers(generator: np.random.Generator, text: str) -> str:
    """Numbers as before, but others: another unit, a sign, digits lost."""
    scale = one_of(generator, (-1.0, 1e-3, 1e3, 1e6, 0.0, 1 / 60, RATE_HZ, 1e12))
    share = one_of(generator, (0.1, 1.0))
    form = one_of(generator, ("{:.3f}", "{:.0f}", "{!r}"))

    def scaled(match: re.Match[str]) -> str:
        return form.format(float(match[0]) * scale) if generator.random() < share else match[0]

    return re.sub(r"\d+\.\d+", scaled, text)


def rearrange_columns(generator: np.random.Generator, text: str) -> str:
    """Shuffle, drop and repeat columns, and exchange the delimiter."""
    delimiter = max("\t;,", key=text.count)
    other = one_of(generator, (delimiter, delimiter, "\t", ";", ",", "|", " "))
    rows = [line.split(delimiter) for line in text.split("\n")]
    order = generator.permutation(len(rows[0]))
    kept = order[generator.random(len(order)) > one_of(generator, (0.0, 0.2))]
    repeated = kept[generator.random(len(kept)) < one_of(generator, (0.0, 0.3))]
    return "\n".join(other.join(row[i] for i in (*kept, *repeated) if i < len(row)) for row in rows)


def recode(generator: np.random.Generator, text: str) -> bytes:
    return text.encode(one_of(generator, ENCODINGS), "replace")


DAMAGES: tuple[Damage, ...] = (
    flip_bytes,
    *map(of_text, (shift_lines, spoil_values, spoil_values, scale_numbers, rearrange_columns)),
    lambda generator, content: recode(generator, content.decode("utf-8", "replace")),
)


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_tables_are_refused_in_one_line_or_read(name, tmp_path):
    form, ends = FORMATS[name], Counter()
    content = form.content(SENTENCES)
    path = tmp_path / form.name
    groupings = ("auto", "auto", "none", "punctuation", "gaps", "column")
    for case in range(CASES):
        generator = np.random.default_rng([SEED, case, *name.encode()])
        path.write_bytes(one_of(generator, DAMAGES)(generator, content))
        spec = TableSpec(**{"grouping": one_of(generator, groupings), **form.fields})
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", RuntimeWarning)  # no overflow on the way
                ends[outcome(path, spec, generator)] += 1
        except Exception as error:
            error.add_note(f"{name}, FUZZ_SEED={SEED}, case {case}: {path.read_bytes()[:2000]!r}")
            raise
    print(f"{name}: {ends.total()} cases, {dict(ends)}")
    assert ends.total() == CASES
    assert ends["refused"] > 0
    assert ends["read"] > 0


def test_there_are_a_thousand_cases_at_least():
    assert CASES * len(FORMATS) >= 1000
