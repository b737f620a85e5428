"""JSON files that show whether they were changed: each holds a checksum of all else in it.

An edit, a merge of two copies or a flipped bit leaves valid JSON that says something else. The
checksum finds accidents and passing edits; it is no protection against a forger, who can compute it
too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ssense.errors import UserError, printable
from ssense.files.digest import digest
from ssense.files.storage import write_json

if TYPE_CHECKING:
    from upath import UPath

CHECKSUM = "checksum"


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Add the checksum of plain values to them."""
    return {**content, CHECKSUM: digest(content)}


def write_sealed(path: UPath, content: Mapping[str, Any]) -> None:
    """Write plain values as JSON, whole, with their checksum.

    Raises:
        UserError: The file can't be written.
    """
    write_json(path, sealed(content))


def unsealed(content: Any, without: str = "") -> dict[str, Any]:
    """Check the checksum of what was read from such a file, and take it off.

    Args:
        content: What the JSON file holds.
        without: A name under the checksum that is to be taken off too.

    Raises:
        ValueError: The content is not an object, has no checksum, or is not what that was made of.
    """
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, not an object")
    plain = {name: value for name, value in content.items() if name != CHECKSUM}
    if CHECKSUM not in content:
        raise ValueError("its checksum is missing: it was changed")
    if content[CHECKSUM] != digest(plain):
        raise ValueError("its content does not match its checksum: it was changed")
    plain.pop(without, None)
    return plain


def check_format(path: UPath, content: Any, wanted: int) -> None:
    """Refuse a file that ssense did not write, or one of another format.

    Args:
        path: Where the file is, for the message.
        content: What the JSON file holds.
        wanted: Format of the files of its kind.

    Raises:
        UserError: The format is another; the message has the one that was found.
    """
    version = content.get("format") if isinstance(content, dict) else None
    if version != wanted:
        raise UserError(
            f"{path} has format {printable(str(version))}, not {wanted}. Move it away, or use the "
            "version of the code that wrote it."
        )
