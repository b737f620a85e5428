"""Errors for users: the one exception whose message is meant to be read, and its wording."""

from __future__ import annotations

import unicodedata

_NAME_CHARACTERS = 60  # longest name in a message; damaged files hold names of megabytes
_MESSAGE_CHARACTERS = 300  # longest message of a library, which may quote a whole row


class UserError(Exception):
    """Something the user can put right: one line with what, where, the value found and what to do.

    The command lines print the message without a traceback and exit with code 2.
    """


def one_line(error: BaseException) -> str:
    """The message of an exception, or its name, printable and without a final full stop."""
    return printable(str(error) or type(error).__name__, _MESSAGE_CHARACTERS).rstrip(".")


def printable(text: str, most: int = _NAME_CHARACTERS) -> str:
    """A text without line breaks and control characters, and cut if it has over `most`."""
    text = " ".join(text.split())
    text = text if len(text) <= most else f"{text[: most - 1]}…"
    return "".join(character if character.isprintable() else "?" for character in text)


def counted(n: int, one: str, many: str = "") -> str:
    """A number of things in words: "1 sentence is", "1,454 sentences are".

    Args:
        n: Number of things.
        one: What one is called, and what it does.
        many: What several are; by default as one, with an s.
    """
    return f"{n:,} {one if n == 1 else many or f'{one}s'}"


def visible(cell: object) -> str:
    """A value as text on one line: line breaks and control characters as Python writes them."""
    return "".join(
        repr(character)[1:-1]
        if unicodedata.category(character) in ("Cc", "Zl", "Zp")
        else character
        for character in str(cell)
    )
