"""Terminals that can't show every character: what one lacks is replaced by a look-alike.

Locales such as de_DE (ISO 8859-1), C or a Windows code page are still met, in Slurm jobs, CI
runners and old terminals: there a table with "-" for a dash is worth more than an error.
"""

from __future__ import annotations

import codecs
import sys
import unicodedata

_ERRORS = "ssense.lookalike"

_LOOKALIKES = {
    "±": "+-",
    "×": "x",
    "÷": "/",
    "−": "-",
    "⌊": "[",
    "⌋": "]",
    "≤": "<=",
    "≥": ">=",
    "≈": "~",
    "≠": "!=",
    "→": "->",
    "←": "<-",
    "↑": "^",
    "↓": "v",
    "·": ".",
    "•": "*",
    "µ": "u",
    "μ": "u",
    "°": "deg",
    "√": "sqrt",
    "∞": "inf",
    "…": "~",  # of the same width: lines are cut by it after they were laid out
    "‘": "'",
    "’": "'",
    "′": "'",
    "“": '"',
    "”": '"',
    "″": '"',
    "ß": "ss",
    "æ": "ae",
    "ø": "o",
}


def show_lookalikes() -> None:
    """Let the standard streams replace what their encoding lacks, from now on."""
    codecs.register_error(_ERRORS, _replacement)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a notebook's or a test's own may not
            stream.reconfigure(errors=_ERRORS)


def shown(text: str, encoding: str | None = None) -> str:
    """A text as a stream can show it, to be called before columns are laid out by its width.

    >>> shown("50 ± 3 – “best” …", "ascii")
    '50 +- 3 - "best" ...'

    Args:
        text: Any text.
        encoding: The stream's; that of the standard output where none is given.
    """
    encoding = encoding or getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        codecs.register_error(_ERRORS, _replacement)
        return text.replace("…", "...").encode(encoding, _ERRORS).decode(encoding)
    return text


def _replacement(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(map(_lookalike, missing)), error.end


def _lookalike(character: str) -> str:
    """What an ASCII terminal shows for a character, "?" where nothing resembles it."""
    if character in _LOOKALIKES:
        return _LOOKALIKES[character]
    name, kind = unicodedata.name(character, ""), unicodedata.category(character)
    if kind == "Pd":  # dashes
        return "-"
    if kind in ("Zs", "Mn"):  # blanks, and accents by themselves
        return " " if kind == "Zs" else ""
    if name.startswith("BOX DRAWINGS"):
        across, upright = "HORIZONTAL" in name, "VERTICAL" in name
        return "+" if across == upright else "-" if across else "|"
    if name.startswith(("FULL BLOCK", "BLACK SQUARE")):
        return "#"
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return plain or "?"
