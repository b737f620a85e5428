"""Lines on screen: wrapped at words, with steps of the work and how long they took."""

from __future__ import annotations

import os
import re
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.text import Text

from ssense.cli.command import holds_command
from ssense.cli.terminal import shown

PLAIN_WIDTH = 100
"""Columns of a log file, which has no width of its own, unless COLUMNS says it."""
_START = re.compile(r"(?P<indent>\s*)(?P<label>\S+\s{2,})?")  # "  Channels   4 of 10 kept"


def _has_size() -> bool:
    """Whether the terminal has a size; that of `ray submit ... | tee log` has none."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns > 0
    except (OSError, ValueError):  # no terminal, or not even a file
        return False


class _Terminal(Console):
    """A console that lays out what its encoding can show."""

    def render_str(self, text: str, **kwargs: Any) -> Text:
        return super().render_str(shown(text, self.encoding), **kwargs)


def _plain_width() -> int:
    columns = os.environ.get("COLUMNS", "")
    return int(columns) if columns.isdecimal() and int(columns) else PLAIN_WIDTH


console = _Terminal(
    highlight=False,
    width=None if _has_size() else _plain_width(),
    force_terminal=None if _has_size() else False,
)


def say(text: str) -> None:
    """Print a line, wrapped at words: under itself, or behind its label.

    A line with a command to be typed is never broken, so that it can be copied.
    """
    if not holds_command(text):
        text = _wrapped(text, console.width)
    print_whole(text)


def print_whole(text: str) -> None:
    """Print a line as it is, however long."""
    console.print(text, markup=False, soft_wrap=True)


def _wrapped(text: str, width: int) -> str:
    start = _START.match(text)
    assert start is not None  # both of its parts may be empty
    indent = start.end() if start["label"] else len(start["indent"]) + 2 * bool(start["indent"])
    return textwrap.fill(
        text,
        width,
        subsequent_indent=" " * min(indent, width // 4),
        break_long_words=False,
        break_on_hyphens=False,
    )


@contextmanager
def step(what: str) -> Iterator[None]:
    """Announce a step of the work and, when it ends, how long it took."""
    start = time.monotonic()
    say(f"{what} ...")
    yield
    say(f"  done in {duration(time.monotonic() - start)}")


def count(what: str) -> Callable[[int, int], None]:
    """Return a function of (done, total) that says how far a step is, ten times at most."""
    start = time.monotonic()

    def show(done: int, total: int) -> None:
        if done * 10 // total > (done - 1) * 10 // total:
            left_s = (time.monotonic() - start) * (total - done) / done
            left = f", about {duration(left_s)} left" if done < total else ""
            say(f"  {done} of {total} {what}{left}")

    return show


def gigabytes(n: float) -> str:
    """Show bytes to two significant digits, in GB or MB: "7 MB", "0.25 GB", "1,500 GB"."""
    if n < 1e8:
        return f"{n / 1e6:.0f} MB"
    return f"{n / 1e9:.2g} GB" if n < 1e11 else f"{n / 1e9:,.0f} GB"


def duration(seconds: float) -> str:
    """Show a time span to two significant units: "8 s", "4 min", "3 h 20 min"."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"
