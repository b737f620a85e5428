"""Recordings damaged at random: each is refused in one line, or read with every sentence counted.

    FUZZ_CASES=1000 FUZZ_SEED=7 pytest tests/data/recordings/test_fuzz.py -s       # a campaign

A case is a class, a seed and a number, so a failure names all that repeats it.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from ssense.data.recordings.readers.brain_treebank import open_brain_treebank
from ssense.data.recordings.segment_signals import read_segments
from ssense.data.recordings.segments import SegmentSpec, select_segments
from ssense.data.synthetic.recording import SyntheticSpec, write_synthetic
from ssense.errors import UserError

CASES = int(os.environ.get("FUZZ_CASES", "40"))  # of each class
SEED = int(os.environ.get("FUZZ_SEED", "0"))
SIGNALS = "sub_9_trial000.h5"
LABELS = "electrode_labels/sub_9/electrode_labels.json"
CORRUPTED = "corrupted_elec.json"
METADATA = "subject_metadata/sub_9_trial000_metadata.json"
TIMINGS = "subject_timings/sub_9_trial000_timings.csv"
TRANSCRIPT = "transcripts/synthetic/features.csv"
TABLES, JSONS = (TIMINGS, TRANSCRIPT), (LABELS, CORRUPTED, METADATA)

# Contacts as recorded too, so that a case does not hide behind the Laplacian's choice.
SPECS = (
    SegmentSpec(electrodes="all", reference="none", line_hz=None),
    SegmentSpec.literal(),
    SegmentSpec.paper(),
)
SPEC = SyntheticSpec(sentences=12, electrodes=4, sampling_rate=256, lead_in_s=5, pauses=1)

# What a cell may come to hold.
GARBAGE = (
    *("", "nan", "inf", "-inf", "NA", "?", "-1", "0", "1e300", "-1e300", "1e-320", "0.5", "1e9"),
    *("trigger", "pause", "beginning", "end", '"', '""', "a\nb", "a\r\nb", ",", ",,", "\0"),
    *("é", "😀", "９", "1_000", "0x10", "1.2.3", "true", "None", "\x1b[2J", "x" * 5000, "9" * 400),
)  # fmt: skip
# What a JSON value may come to be.
ODD_VALUES = (
    *(None, True, 0, -1, 1e999, float("nan"), 10**40, "", " ", "a\nb", "\0", "*#_", "x" * 5000),
    *("../../x", "..", "/etc", "a/b", "a\\b", [], {}, [[]], {"": 1}, ["DC1"], "\ud800", "dc4"),
)

Damage = Callable[[np.random.Generator, Path], None]


# ---------------------------------------------------------------- what may come of a case


def outcome(root: Path) -> str:
    """Read a recording as a sweep does; say how it ended. What must not happen is an error here."""
    try:
        recording = open_brain_treebank(root)
    except UserError as error:
        return refusal(error)
    ends = {selection(recording, spec) for spec in SPECS}
    return "read" if "read" in ends else ends.pop()


def selection(recording, spec: SegmentSpec) -> str:
    try:
        segments = select_segments(recording, spec)
        signals = read_segments(recording, segments, spec, [0, len(segments) - 1])
    except UserError as error:
        return refusal(error)
    kept, sentences = len(segments), recording.transcript.sentences
    assert kept + sum(segments.dropped.values()) == len(sentences)
    assert {*segments.sentence_idx.tolist(), *segments.left_out} == {*sentences}
    assert len(set(segments.sentence_idx.tolist())) == kept
    assert all(sentences[i] == t for i, t in zip(segments.sentence_idx, segments.text, strict=True))
    assert all(text.strip() for text in segments.text)
    assert np.all(segments.start >= 0)
    assert np.all(segments.stop <= recording.n_samples)
    lengths = segments.stop - segments.start
    assert np.all((lengths > 0) & (lengths <= segments.n_samples))
    assert signals.shape == (2, len(segments.electrodes), segments.n_samples)
    assert np.isfinite(signals).all()
    return "read"


def refusal(error: UserError) -> str:
    """Check that a message is one short printable line that says what to do."""
    message = str(error)
    assert message.isprintable(), repr(message)
    assert len(message) < 1000, message
    advice = (
        r"(Check|Restore|Download|Give|Use|Choose|Add|Save|Unzip|Remove|download|relax|Skip|Write) "
    )
    assert re.search(advice, message), message
    assert message.endswith("."), message
    return "refused"


def run_cases(name: str, root: Path, cases: range) -> Iterator[str]:
    """Ends of the cases of one class, on a recording that is intact before and after."""
    damage = (TEXT_CLASSES | HDF5_CLASSES)[name]
    intact = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    for case in cases:
        try:
            damage(np.random.default_rng([SEED, case, *name.encode()]), root)
            with warnings.catch_warnings():
                warnings.simplefilter("error", RuntimeWarning)  # no overflow on the way
                end = outcome(root)
        except Exception as error:
            error.add_note(f"{name}, FUZZ_SEED={SEED}, case {case}")
            raise
        for path, content in intact.items():
            if path.read_bytes() != content:
                path.write_bytes(content)
        yield end


# ---------------------------------------------------------------- damage to tables


def read_table(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def write_table(path: Path, rows: list[list[str]], **style: str) -> None:
    text = io.StringIO()
    csv.writer(text, **style).writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8", newline="")


def one_of(generator: np.random.Generator, choices):
    return choices[int(generator.integers(len(choices)))]


def rearrange_columns(generator: np.random.Generator, root: Path) -> None:
    """Shuffle the columns, and drop or repeat some."""
    path = root / one_of(generator, TABLES)
    rows = read_table(path)
    order = generator.permutation(len(rows[0]))
    kept = order[generator.random(len(order)) > one_of(generator, (0.0, 0.02, 0.2))]
    repeated = kept[generator.random(len(kept)) < one_of(generator, (0.0, 0.05))]
    style = {"lineterminator": one_of(generator, ("\n", "\r\n", "\r"))}
    write_table(path, [[row[i] for i in (*kept, *repeated)] for row in rows], **style)


def spoil_cells(generator: np.random.Generator, root: Path) -> None:
    """Replace some cells, the header's among them, mostly of the columns that are read."""
    path = root / one_of(generator, TABLES)
    rows = read_table(path)
    read = ("type", "movie_time", "index", "start", "end", "sentence", "sentence_idx")
    columns = [i for i, name in enumerate(rows[0]) if name in read]
    if generator.random() < 0.5:
        columns = [one_of(generator, columns)]
    garbage = [one_of(generator, GARBAGE)] if generator.random() < 0.7 else GARBAGE
    for _ in range(int(generator.integers(1, one_of(generator, (3, 30, 300))))):
        row = int(generator.integers(0 if generator.random() < 0.02 else 1, len(rows)))
        rows[row][one_of(generator, columns)] = one_of(generator, garbage)
    write_table(path, rows)


def spoil_numbers(generator: np.random.Generator, root: Path) -> None:
    """Cells that are numbers as before, but others: digits lost, swapped, signs, far values."""
    path = root / one_of(generator, TABLES)
    rows = read_table(path)
    numeric = ("movie_time", "index", "start", "end", "sentence_idx")
    columns = [i for i, name in enumerate(rows[0]) if name in numeric]
    for _ in range(int(generator.integers(1, one_of(generator, (3, 30, len(rows)))))):
        cells, column = one_of(generator, rows[1:]), one_of(generator, columns)
        if not cells[column]:
            continue
        value = float(cells[column])
        scale = 10.0 ** generator.integers(-3, 12)
        changed = (value + scale, value - scale, value * scale, -value, value + 0.5, round(value))
        cells[column] = repr(float(one_of(generator, changed)))
    write_table(path, rows)


def shift_rows(generator: np.random.Generator, root: Path) -> None:
    """Delete, repeat and reorder rows, down to none at all."""
    path = root / one_of(generator, TABLES)
    header, *rows = read_table(path)
    share = one_of(generator, (0.01, 0.1, 0.5, 0.99, 1.0))
    rows = [row for row in rows if generator.random() > share]
    rows += [row for row in rows if generator.random() < one_of(generator, (0.0, 0.1))]
    if generator.random() < 0.5:
        rows = [rows[i] for i in generator.permutation(len(rows))]
    write_table(path, [header, *rows])


def empty_transcript(generator: np.random.Generator, root: Path) -> None:
    """No byte, a header, blank rows, blank cells."""
    rows = read_table(root / TRANSCRIPT)
    blank = [[""] * len(rows[0]) for _ in range(int(generator.integers(1, 5)))]
    columns = [i for i in range(len(rows[0])) if generator.random() < 0.3]
    emptied = [["" if i in columns else cell for i, cell in enumerate(row)] for row in rows[1:]]
    kept = one_of(generator, ([], rows[:1], rows[:1] + blank, rows[:1] + emptied, [[]] * 3))
    write_table(root / TRANSCRIPT, kept)


def flip_text(generator: np.random.Generator, root: Path) -> None:
    """Flip bits, drop or insert bytes, cut the end, in any of the text files."""
    path = root / one_of(generator, (*TABLES, *JSONS))
    content = bytearray(path.read_bytes())
    for _ in range(int(generator.integers(1, 6))):
        place = int(generator.integers(len(content)))
        kind = generator.integers(4)
        if kind == 0:
            content[place] ^= 1 << int(generator.integers(8))
        elif kind == 1:
            del content[place : place + int(generator.integers(1, 40))]
        elif kind == 2:
            content[place:place] = one_of(generator, (b'"', b",", b"\n", b"\r", b"\0", b"{", b"9"))
        elif generator.random() < 0.3:
            del content[place:]
        content = content or bytearray(b"x")
    path.write_bytes(content)


def recode(generator: np.random.Generator, root: Path) -> None:
    """Save a text file in another encoding, with letters outside ASCII or without."""
    path = root / one_of(generator, (*TABLES, *JSONS))
    text = path.read_text(encoding="utf-8")
    letter, other = one_of(generator, (("a", "ä"), ("e", "é"), ("t", "ţ"), ("i", "i"), ("n", "ñ")))
    text = text.replace(letter, other, int(generator.integers(1, 50)))
    codes = (
        "latin-1",
        "cp1252",
        "utf-16",
        "utf-16-le",
        "utf-16-be",
        "utf-32",
        "cp037",
        "utf-8-sig",
    )
    path.write_bytes(text.encode(one_of(generator, codes), errors="replace"))


# ---------------------------------------------------------------- damage to JSON


def truncate_json(generator: np.random.Generator, root: Path) -> None:
    path = root / one_of(generator, JSONS)
    content = path.read_bytes()
    path.write_bytes(content[: int(generator.integers(len(content)))])


def swap_json(generator: np.random.Generator, root: Path) -> None:
    """Replace a value somewhere in a JSON file, or a key, or the whole."""
    path = root / one_of(generator, JSONS)
    value = json.loads(path.read_text())
    odd = one_of(generator, ODD_VALUES)
    if generator.random() < 0.1:
        value = odd
    elif isinstance(value, list):
        value[int(generator.integers(len(value)))] = odd
    else:
        key = one_of(generator, sorted(value))
        inner = value[key]
        if isinstance(inner, list) and generator.random() < 0.5:
            inner[0] = odd
        elif generator.random() < 0.2:
            value[str(odd)] = value.pop(key)
        else:
            value[key] = odd
    path.write_text(json.dumps(value))


# ---------------------------------------------------------------- damage to signals


def spoil_samples(generator: np.random.Generator, root: Path) -> None:
    """Values that are no voltages, channels that never vary, in any type of number."""
    kind = one_of(generator, ("f8", "f4", "f2", "i2", "i4", "u1", ">f8", ">i4"))
    signals = stored_signals(root)
    values = (np.nan, np.inf, -np.inf, 1e300, -1e12, 0.0, 0.0, 7.0)
    for _ in range(int(generator.integers(1, 4))):
        begin, end = np.sort(generator.integers(0, signals.shape[1], 2))
        if generator.random() < 0.5:
            begin, end = 0, signals.shape[1]
        signals[int(generator.integers(len(signals))), begin:end] = one_of(generator, values)
    with np.errstate(all="ignore"):
        store_signals(root, signals.astype(kind), compression="gzip")


def stored_signals(root: Path) -> np.ndarray:
    with h5py.File(root / SIGNALS, "r") as file:
        return np.stack([file[f"data/electrode_{i}"][:] for i in range(len(file["data"]))])


def store_signals(root: Path, signals: np.ndarray, libver: str = "earliest", **storage) -> None:
    with h5py.File(root / SIGNALS, "w", libver=libver) as file:
        for number, signal in enumerate(signals):
            file.create_dataset(f"data/electrode_{number}", data=signal, **storage)


def cut_signals(generator: np.random.Generator, root: Path) -> None:
    content = stored_anew(generator, root)
    (root / SIGNALS).write_bytes(content[: int(generator.integers(len(content)))])


def flip_structure(generator: np.random.Generator, root: Path) -> None:
    """Flip bits where the file describes itself: the parts that hold no samples."""
    content = bytearray(stored_anew(generator, root))
    places = np.flatnonzero(~sample_bytes(root, len(content)))
    flip_bits(generator, content, places)
    (root / SIGNALS).write_bytes(content)


def flip_samples(generator: np.random.Generator, root: Path) -> None:
    """Flip bits in the stored samples: of gzip's checksum and others', and where there is none."""
    content = bytearray(stored_anew(generator, root))
    flip_bits(generator, content, np.flatnonzero(sample_bytes(root, len(content))))
    (root / SIGNALS).write_bytes(content)


def stored_anew(generator: np.random.Generator, root: Path) -> bytes:
    """The signals stored in one of the ways that HDF5 has."""
    storages = (
        {"chunks": (4096,), "compression": "gzip"},
        {"chunks": (1000,), "compression": "gzip", "shuffle": True, "fletcher32": True},
        {"chunks": (4096,), "compression": "lzf"},
        {"chunks": (2048,), "maxshape": (None,)},
        {},
    )
    libver = one_of(generator, ("earliest", "latest"))
    store_signals(root, stored_signals(root), libver, **one_of(generator, storages))
    return (root / SIGNALS).read_bytes()


def sample_bytes(root: Path, size: int) -> np.ndarray:
    """Which bytes of the file hold samples, bool [size]."""
    holds = np.zeros(size, dtype=bool)
    with h5py.File(root / SIGNALS, "r") as file:
        for dataset in file["data"].values():
            chunked = dataset.chunks is not None
            for i in range(dataset.id.get_num_chunks() if chunked else 0):
                chunk = dataset.id.get_chunk_info(i)
                holds[chunk.byte_offset : chunk.byte_offset + chunk.size] = True
            if not chunked:
                begin = dataset.id.get_offset()
                holds[begin : begin + dataset.nbytes] = True
    return holds


def flip_bits(generator: np.random.Generator, content: bytearray, places: np.ndarray) -> None:
    for _ in range(one_of(generator, (1, 1, 1, 4, 30))):
        place = int(one_of(generator, places))
        if generator.random() < 0.3:
            content[place] = int(generator.integers(256))
        else:
            content[place] ^= 1 << int(generator.integers(8))


TEXT_CLASSES: dict[str, Damage] = {
    "columns": rearrange_columns,
    "cells": spoil_cells,
    "numbers": spoil_numbers,
    "rows": shift_rows,
    "empty transcript": empty_transcript,
    "bytes of text": flip_text,
    "encodings": recode,
    "truncated JSON": truncate_json,
    "values in JSON": swap_json,
    "samples": spoil_samples,
}
HDF5_CLASSES: dict[str, Damage] = {
    "truncated HDF5": cut_signals,
    "HDF5's structure": flip_structure,
    "HDF5's samples": flip_samples,
}


# ---------------------------------------------------------------- the tests


@pytest.fixture
def root(tmp_path) -> Path:
    folder = tmp_path / "recording"
    write_synthetic(folder, SPEC)
    return folder


def test_intact_it_is_read(root):
    assert outcome(root) == "read"
    (segments,) = {len(select_segments(open_brain_treebank(root), SPECS[1]))}
    assert segments >= 8


@pytest.mark.parametrize("name", TEXT_CLASSES)
def test_damaged_files_are_refused_in_one_line_or_counted(name, root):
    ends = Counter(run_cases(name, root, range(CASES)))
    print(f"{name}: {ends.total()} cases, {dict(ends)}")
    assert ends.total() == CASES


def test_damaged_hdf5_is_refused_in_one_line_and_crashes_nothing():
    run = subprocess.run(
        [sys.executable, __file__, "0", str(CASES)],
        capture_output=True,
        text=True,
        timeout=60 + 3 * CASES,
        check=False,
    )
    ends = Counter(run.stdout.splitlines())
    where = f"FUZZ_SEED={SEED}, after {ends.total()} cases"
    assert run.returncode == 0, f"{where}: ended with {run.returncode}, {run.stderr}"
    for name in HDF5_CLASSES:
        counts = {end: ends[f"{name}: {end}"] for end in ("refused", "read")}
        print(f"{name}: {sum(counts.values())} cases, {counts}")
        assert sum(counts.values()) == CASES


def in_a_process_of_its_own(first: int, cases: int) -> None:
    """Damage HDF5 files, and print the ends of the cases before one that crashes or hangs."""
    resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, 8 * 2**30))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "recording"
        write_synthetic(folder, SPEC)
        for name in HDF5_CLASSES:
            for end in run_cases(name, folder, range(first, first + cases)):
                print(f"{name}: {end}", flush=True)


if __name__ == "__main__":
    in_a_process_of_its_own(int(sys.argv[1]), int(sys.argv[2]))
