"""Streams of encodings that lack characters: in this process, and as commands meet them."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.measure import formats
from ssense.cli.screen import console, say
from ssense.cli.terminal import show_lookalikes, shown
from ssense.engine.core.matrix import Matrix, MatrixRow
from ssense.engine.view.progress import MatrixView

REPOSITORY = Path(__file__).parents[2]
NAME = "“Müller” – ζ"
NARROW = ("ascii", "latin-1", "cp1252", "cp437", "iso8859-15", "koi8-r")


@pytest.mark.parametrize("encoding", [*NARROW, "utf-8"])
def test_a_table_keeps_its_columns_in_every_encoding(encoding, monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding, errors="strict"))
    show_lookalikes()
    rows = [{"name": name, "MRR": score} for name, score in (("A", "0.51 ± 0.1"), (NAME, "0.4"))]
    console.print(formats.screen_table(rows))
    say(f"{NAME}: 50 %")
    sys.stdout.flush()
    lines = written.getvalue().decode(encoding).splitlines()
    title, first, second, prose = (
        next(line for line in lines if mark in line) for mark in ("MRR", "0.51", "0.4", "50 %")
    )
    assert title.index("MRR") == first.index("0.51") == second.index("0.4")
    if encoding == "ascii":
        assert "0.51 +- 0.1" in first
        assert '"Muller" - ?' in second
        assert prose == '"Muller" - ?: 50 %'
    if encoding == "utf-8":
        assert NAME in second
        assert prose == f"{NAME}: 50 %"


def test_the_live_view_stays_within_a_narrow_ascii_terminal(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "ascii", errors="strict"))
    show_lookalikes()
    row = MatrixRow(
        family="electrode",
        name="electrode 0.75, frequency 0.75, time 0.75",
        states=("done", "done", "failed", "waiting"),
        scores=(0.5, 0.52, None, None),
    )
    view = MatrixView(Matrix(metric="recall@10", seeds=(0, 1, 2, 3), rows=(row,)))
    console.print(*view.lines(20), width=50)
    sys.stdout.flush()
    lines = written.getvalue().decode().splitlines()
    assert max(map(len, lines)) <= 50
    (line,) = [line for line in lines if "electrode 0.75" in line]
    assert "~" in line
    assert "51.0 +- 1.4" in line


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)} | environment,
        capture_output=True,
        check=False,
    )


def test_a_command_prints_its_table_in_latin_1(tmp_path):
    scores = tmp_path / "scores.csv"
    lines = [
        f"{name},{i},0.{digit}{i}\n" for name, digit in (("A", 5), (NAME, 4)) for i in range(3)
    ]
    scores.write_text("configuration,seed,recall\n" + "".join(lines), encoding="utf-8")
    table = ("-m", "analysis.compare", str(scores), "--n-train", "872", "--n-test", "292")
    done = run({"PYTHONIOENCODING": "latin-1"}, *table)
    assert (done.returncode, done.stderr) == (0, b"")
    assert '"Müller" - ?' in done.stdout.decode("latin-1")


@pytest.mark.parametrize(
    "environment",
    [{"PYTHONIOENCODING": "cp437"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}],
    ids=["code page", "C locale"],
)
def test_errors_and_help_come_through_too(environment, tmp_path):
    done = run(
        environment,
        "-m",
        "ssense.data.synthetic",
        str(tmp_path / NAME),
        "--electrodes",
        "1",
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"error: --electrodes must be at least 3")
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "file").touch()
    done = run(environment, "-m", "ssense.data.synthetic", str(tmp_path / NAME))
    assert done.returncode == 2
    assert b"ller" in done.stderr
    assert b"already exists and is not this synthetic recording" in done.stderr
    assert done.stderr.count(b"\n") == 1
    done = run(environment, "-m", "ssense.data.synthetic", "--help")
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_file_name_that_is_no_text_is_shown_too():
    done = run({"PYTHONIOENCODING": "utf-8"}, "-m", "ssense.data.shards", "a\udcff")
    assert done.returncode == 2
    assert b"a?" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "looks"),
    [
        ("plain", "plain"),
        ("50 ± 3 – 4 — 5 − 6", "50 +- 3 - 4 - 5 - 6"),
        ("µV², 16 × 26 …", "uV2, 16 x 26 ..."),
        ("“a” ‘b’\u00a0c\u202fd", "\"a\" 'b' c d"),
        ("│─┼╭━┃", "|-++-|"),
        ("Müller, Łódź, e\u0301", "Muller, ?odz, e"),
        ("脑 \udcff", "? ?"),
    ],
)
def test_what_an_encoding_lacks_becomes_what_resembles_it(text, looks):
    assert shown(text, "ascii") == looks
    if "\udcff" not in text:
        assert shown(text, "utf-8") == text


def test_what_is_shown_can_be_encoded_whatever_it_was():
    everything = "".join(map(chr, range(0x30000)))
    for encoding in NARROW:
        assert shown(everything, encoding).encode(encoding)
