"""One tensor kept in a file of its own: whole or not there, and refused where it is damaged.

The file's header says what the tensor was made from and what its bytes hash to: neither safetensors
nor a file system notices a value that changed, or two files that were swapped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING

import torch
from torch import Tensor

from ssense.errors import UserError, one_line, printable
from ssense.files.storage import read_whole, reading, write_whole

if TYPE_CHECKING:
    from upath import UPath

CHECKSUM = "sha256"
CODE = "code"
"""Names in a file's header beside what the tensor depends on."""
_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "U8": torch.uint8}
_DTYPES |= {"I32": torch.int32, "I64": torch.int64}
_LARGEST_HEADER = 2**20


def write_tensor(
    path: UPath,
    name: str,
    tensor: Tensor,
    origin: Mapping[str, str] | None = None,
    code: str = "",
) -> None:
    """Keep a tensor under a name, with what it depends on: the whole file or none.

    Args:
        path: The file to write.
        name: The name to keep the tensor under.
        tensor: The tensor, on the CPU.
        origin: What the tensor was made from; it is compared when the tensor is read.
        code: Version of the code that made it, a note that is not compared; empty for none.

    Raises:
        UserError: The file can't be written.
    """
    from safetensors.torch import save  # a machine that only trains need not have it

    metadata = {**(origin or {}), CHECKSUM: _checksum(tensor)}
    if code:
        metadata[CODE] = code
    write_whole(path, save({name: tensor}, metadata=metadata))


def read_tensor(
    path: UPath,
    name: str,
    origin: Mapping[str, str] | None = None,
    *,
    shape: Sequence[int | None] | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Read a tensor that was kept under a name.

    Args:
        path: The file to read.
        name: The name that the tensor was kept under.
        origin: What it must have been made from, as far as the file says it.
        shape: The shape that it must have, None for sides of any length; None for any shape.
        dtype: The type that it must have; None for any.

    Raises:
        UserError: The file can't be read, is damaged, holds something else or values that are not
            finite, or was made from something else.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        content = read_whole(path)
        tensor = load(content)[name]
        kept = tensor_origin(content)
        if kept.pop(CHECKSUM, None) != _checksum(tensor):
            raise ValueError("its checksum does not match")
        for what, wanted in (origin or {}).items():
            if kept.get(what, wanted) != wanted:
                raise ValueError(f"its {what} is {printable(kept[what])}, not {printable(wanted)}")
        _check_kind(tensor, shape, dtype)
    except KeyError:
        raise UserError(f"{path} is damaged (it has no {name}). Delete it and run again.") from None
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{path} is damaged ({one_line(error)}). Delete it and run again."
        ) from error
    return tensor


def tensor_code(path: UPath) -> str:
    """The version of the code that made a tensor; empty where its file does not say.

    Raises:
        FileNotFoundError: The file does not exist.
        UserError: The file can't be read, or is damaged.
    """
    with reading(path) as file:
        size = file.read(8)
        content = size + file.read(min(int.from_bytes(size, "little"), _LARGEST_HEADER))
    try:
        return tensor_origin(content).get(CODE, "")
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is damaged ({one_line(error)}). Delete it and run again."
        ) from error


def check_tensor_file(path: UPath) -> dict[str, str]:
    """Compare a file's checksum with its bytes, few at a time, whatever it holds.

    Returns:
        What it was made from, as the file says it.

    Raises:
        UserError: The file can't be read, or is damaged.
    """
    try:
        with reading(path) as file:
            kept, found = _hashed(path, file)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing. Run again.") from error
    if kept.pop(CHECKSUM, None) != found:
        raise UserError(
            f"{path} is damaged (its checksum does not match). Delete it and run again."
        )
    kept.pop(CODE, None)
    return kept


def _hashed(path: UPath, file: IO[bytes]) -> tuple[dict[str, str], str]:
    """What an open file says of its tensor, and what the tensor's bytes hash to."""
    try:
        size = int.from_bytes(file.read(8), "little")
        if size > _LARGEST_HEADER:
            raise ValueError("it is not a safetensors file")
        header = json.loads(file.read(size))
        kept = dict(header.pop("__metadata__", {}))
        ((_, about),) = header.items()
        total = _of_kind(_DTYPES[about["dtype"]], about["shape"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is damaged ({one_line(error)}). Delete it and run again."
        ) from error
    while block := file.read(2**20):
        total.update(block)
    return kept, total.hexdigest()


def _check_kind(
    tensor: Tensor, shape: Sequence[int | None] | None, dtype: torch.dtype | None
) -> None:
    """Refuse another shape or type, and what is not finite.

    Raises:
        ValueError: The shape, type or a value is wrong; the message says what was found.
    """
    found = list(tensor.shape)
    if shape is not None and not (
        len(shape) == len(found)
        and all(side in (None, own) for side, own in zip(shape, found, strict=True))
    ):
        wanted = " x ".join("any" if side is None else str(side) for side in shape)
        raise ValueError(f"it holds {' x '.join(map(str, found))} values, not {wanted}")
    if dtype not in (None, tensor.dtype):
        raise ValueError(f"its values are {tensor.dtype}, not {dtype}")
    if not tensor.isfinite().all():
        raise ValueError("it has NaN or infinity")


def tensor_origin(content: bytes) -> dict[str, str]:
    """What the header of a safetensors file says beside its tensors."""
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return dict(header.get("__metadata__", {}))


def _checksum(tensor: Tensor) -> str:
    """Hash values, type and shape."""
    total = _of_kind(tensor.dtype, tensor.shape)
    total.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def _of_kind(dtype: torch.dtype, shape: Sequence[int]) -> hashlib._Hash:
    """Begin the hash of values of a type and shape, which are told apart where bytes are not."""
    return hashlib.sha256(f"{dtype} {list(shape)}".encode())
