"""Lines on screen: wrapped at words, and steps of the work."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from rich.console import Console

from ssense.cli import screen
from ssense.cli.command import python
from ssense.cli.screen import count, duration, say

PROSE = "Each family's best configuration by mean validation Recall@10; chosen before this look."


def said(text: str, width: int, monkeypatch, capsys) -> list[str]:
    monkeypatch.setattr(screen, "console", Console(width=width))
    say(text)
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("width", [40, 80, 100, 300])
def test_prose_wraps_at_words(width, monkeypatch, capsys):
    lines = said(PROSE * 3, width, monkeypatch, capsys)
    assert " ".join(lines) == PROSE * 3
    assert all(len(line) <= width for line in lines)
    assert (len(lines) == 1) == (width == 300)


@pytest.mark.parametrize(
    ("text", "indent"),
    [(PROSE, 0), (f"      time: {PROSE}", 8), (f"  Channels   {PROSE}", 13)],
)
def test_what_is_wrapped_stays_behind_its_label(text, indent, monkeypatch, capsys):
    first, *others = said(text, 60, monkeypatch, capsys)
    assert text.startswith(first)
    assert others
    assert {len(line) - len(line.lstrip()) for line in others} == {indent}


def test_a_command_to_be_typed_stays_on_one_line(monkeypatch, capsys):
    text = f"Next: {python()} analysis/evaluate.py --storage '{'very long ' * 20}'"
    assert said(text, 40, monkeypatch, capsys) == [text]


def test_a_path_is_never_broken(monkeypatch, capsys):
    path = "/somewhere/" + "x-y/" * 30
    assert path in said(f"Report, tables and figures: {path}", 60, monkeypatch, capsys)


@pytest.mark.parametrize(("columns", "width"), [("", 100), ("80", 80), ("0", 100), ("x", 100)])
def test_piped_output_is_as_wide_as_columns_says_or_100(columns, width):
    script = "from ssense.cli.screen import console; print(console.width)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"COLUMNS": columns},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) == width


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.4, "0 s"),
        (89, "89 s"),
        (95, "2 min"),
        (3599, "1 h"),
        (3600, "1 h"),
        (12000, "3 h 20 min"),
    ],
)
def test_durations_are_short(seconds, shown):
    assert duration(seconds) == shown


@pytest.mark.parametrize(("total", "lines"), [(3, 3), (10, 10), (1000, 10)])
def test_steps_are_counted_ten_times_at_most(total, lines, capsys):
    show = count("shards")
    for done in range(1, total + 1):
        show(done, total)
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == lines
    assert shown[-1] == f"  {total} of {total} shards"
    assert all(line.endswith("shards, about 0 s left") for line in shown[:-1])
