"""The text of a file in whatever encoding people save: UTF-8, UTF-16, Western European."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from ssense.errors import UserError, one_line
from ssense.files.tables import require_file

_HEAD = 2**16  # bytes that are looked at before a whole recording is read by mistake
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16's, with which it begins
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_OTHER_KINDS = (
    (b"PK\x03\x04", "a spreadsheet or an archive", "Save the sheet as CSV (UTF-8)"),
    (b"\xd0\xcf\x11\xe0", "an old spreadsheet", "Save the sheet as CSV (UTF-8)"),
    (b"\x1f\x8b", "compressed by gzip", "Unzip it"),
    (b"\x89HDF", "an HDF5 file", "Give the table as CSV, TSV, JSON or TextGrid"),
    (b"PAR1", "a Parquet file", "Save the table as CSV, or give it as a DataFrame"),
)
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_UNKNOWN = "Give a table as CSV, TSV, JSON or TextGrid."


def read_text(path: Path) -> tuple[str, str]:
    """Read a text file.

    Returns:
        The text; and a sentence on its encoding if that is in doubt, else nothing.

    Raises:
        UserError: The file is missing, empty, binary, or of no known encoding.
    """
    require_file(path, "Check the name.")
    try:
        with path.open("rb") as file:
            _refuse_binary(path, file.read(_HEAD))
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {one_line(error)}. Check its permissions.") from error
    text, doubt = _decoded(path, content)
    if not text.strip():
        raise UserError(f"{path} is empty. {_UNKNOWN}")
    if control := _CONTROL.search(text):
        raise UserError(
            f"{path} is not a text file: it has the control character {control[0]!r}. {_UNKNOWN}"
        )
    return text, doubt


def _refuse_binary(path: Path, head: bytes) -> None:
    for magic, kind, advice in _OTHER_KINDS:
        if head.startswith(magic):
            raise UserError(f"{path} is {kind}, not a text file. {advice}.")
    if b"\0" in head and not _by_mark(head) and not _utf16_without_mark(head):
        raise UserError(f"{path} is a binary file, not a table as text. {_UNKNOWN}")


def _by_mark(content: bytes) -> str:
    return next((name for mark, name in _MARKS if content.startswith(mark)), "")


def _utf16_without_mark(content: bytes) -> str:
    """Which UTF-16 a text is in by its zeros: every other byte of Latin letters is one."""
    even, odd = content[0:_HEAD:2].count(0), content[1:_HEAD:2].count(0)
    half = min(len(content), _HEAD) / 2
    if odd > 0.4 * half and even < 0.1 * half:
        return "utf-16-le"
    return "utf-16-be" if even > 0.4 * half and odd < 0.1 * half else ""


def _decoded(path: Path, content: bytes) -> tuple[str, str]:
    known = _by_mark(content) or _utf16_without_mark(content)
    try:
        text = content.decode(known or "utf-8")
        return text, ""
    except UnicodeDecodeError as error:
        if known:
            raise UserError(
                f"{path} begins as {known.upper()} text and is not (byte {error.start}). "
                "Save it again as UTF-8."
            ) from error
    try:
        text, name = content.decode("cp1252"), "Windows-1252"
    except UnicodeDecodeError:
        text, name = content.decode("latin-1"), "Latin-1"
    return text, f"The text is not UTF-8 and was read as {name}: check its letters with accents."
