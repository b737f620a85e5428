"""One tensor kept in a file of its own: whole or not there, and refused where it is damaged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import safetensors.torch
from torch import Tensor

from ssense.errors import UserError
from ssense.storage import read_whole, write_whole

if TYPE_CHECKING:
    from upath import UPath


def write_tensor(
    path: UPath, name: str, tensor: Tensor, origin: Mapping[str, str] | None = None
) -> None:
    """Keep a tensor under a name, with what it depends on: the whole file or none.

    Raises:
        UserError: it can't be written.
    """
    metadata = None if origin is None else dict(origin)
    write_whole(path, safetensors.torch.save({name: tensor}, metadata=metadata))


def read_tensor(path: UPath, name: str) -> Tensor:
    """Read a tensor that was kept under a name.

    Raises:
        UserError: the file can't be read, is damaged, or holds something else.
    """
    try:
        return safetensors.torch.load(read_whole(path))[name]
    except (safetensors.SafetensorError, KeyError) as error:
        raise UserError(f"{path} is damaged ({error}). Delete it and run again.") from error
