"""State dictionaries of other people's models: read without running what a file says.

It reads .safetensors files, whatever `torch.save` writes of plain tensors (.pt, .pth, .bin), and
TorchScript archives such as OpenAI published CLIP in, of which it takes the tensors and not the
program.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ssense.errors import UserError, one_line, printable

# Keys that training programs put a state dictionary under, and prefixes of its names.
_UNDER = ("state_dict", "model_state_dict", "model")
_IN_FRONT = ("module.", "_orig_mod.")

_STORAGES = {
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
}
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_INTS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_SIZE = 2**10  # a file of text in place of weights is told by its beginning
_REASON_CHARACTERS = 100
_OTHER_KINDS = {  # by what their files begin with
    b"\x89HDF\r\n": "HDF5",
    b"\x1f\x8b": "compressed by gzip: unpack it",
    b"\x93NUMPY": "an array of NumPy",
    b"BZh": "compressed by bzip2: unpack it",
    b"\xfd7zXZ": "compressed by xz: unpack it",
}
_NAMED = 3  # names in a message
_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dictionary; wrappers of training programs are taken off.

    Returns:
        Tensors by name, on the CPU.

    Raises:
        UserError: The file is missing or damaged, or holds anything but tensors by name.
    """
    if path.is_dir():
        files = sorted(file.name for file in path.iterdir() if file.suffix in _SUFFIXES)
        raise UserError(f"{path} is a folder. Give a file of weights in it{_listed(files)}.")
    try:
        found = _read(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. Check its name.") from None
    except Exception as error:  # safetensors, zip and pickle raise a dozen kinds
        raise UserError(
            f"{path}: unreadable weights ({_reason(path, error)}). Give a state dictionary, as "
            ".safetensors or saved by torch.save."
        ) from error
    return _plain(path, found)


def fault(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """Say what keeps the values of a state dictionary from being trained weights, if anything.

    A network takes whatever numbers it is given, and gives NaN or nonsense for some.

    Args:
        state: The state dictionary; what is not wanted, or missing, is passed over.
        wanted: The model's own tensors by name, of whatever values.

    Returns:
        The first fault, "layer1.0.bn1.running_var holds NaN or infinity"; empty if there is none.
    """
    for name, own in wanted.items():
        tensor = state.get(name)
        if tensor is None:
            continue
        is_float = own.is_floating_point()
        if tensor.dtype not in (_FLOATS if is_float else _INTS):
            dtype = str(tensor.dtype).removeprefix("torch.")
            kind = "floating point" if is_float else "whole numbers"
            return f"{printable(name)} is {dtype}, not {kind}"
        if not is_float or not tensor.numel():
            continue
        # A fifth of the time that `isfinite` takes for all of them, and NaN comes through.
        lowest, highest = (end.to(own.dtype) for end in torch.aminmax(tensor))
        if not (lowest.isfinite() and highest.isfinite()):  # nor is 1e300 in single precision
            return f"{printable(name)} holds NaN or infinity"
        if name.endswith("running_var") and lowest < 0:
            return f"{printable(name)} holds negative variances"
    return ""


def some(names: Sequence[str]) -> str:
    """The first few of many names, for a message."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(map(printable, names[:_NAMED])) + more


def _listed(names: list[str]) -> str:
    return f": {', '.join(names[:3])}" if names else ", such as model.safetensors"


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    if _is_torchscript(path):
        return _read_torchscript(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _plain(path: Path, found: Any) -> dict[str, Tensor]:
    """The state dictionary in what a file holds, under its plain names."""
    for name in _UNDER:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
    if (
        not isinstance(found, Mapping)
        or not found
        or not all(isinstance(key, str) for key in found)
        or not all(isinstance(value, Tensor) for value in found.values())
    ):
        raise UserError(f"{path}: holds more than tensors by name. Save a state dictionary.")
    for name, tensor in found.items():
        if tensor.is_meta:
            raise UserError(
                f"{path}: {printable(name)} has a shape and no values. Save the state dictionary "
                "of a model that is loaded, not of one on the meta device."
            )
        if tensor.layout is not torch.strided or tensor.dtype not in (*_FLOATS, *_INTS):
            kind = f"{str(tensor.dtype).removeprefix('torch.')} {str(tensor.layout)[6:]}"
            kind = kind.removesuffix(" strided")
            raise UserError(
                f"{path}: {printable(name)} is {kind}, which no layer here computes with. Save the "
                "state dictionary in float32."
            )
    state = dict(found)
    while any(all(name.startswith(prefix) for name in state) for prefix in _IN_FRONT):
        state = {name.partition(".")[2]: tensor for name, tensor in state.items()}
    return state


def _reason(path: Path, error: Exception) -> str:
    """Describe what is wrong with a file, in a few words."""
    with path.open("rb") as file:
        start = file.read(_SIZE)
    if not start:
        return "it is empty"
    if start.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS, not the file itself: git lfs pull"
    for beginning, kind in _OTHER_KINDS.items():
        if start.startswith(beginning):
            return f"it is {kind}"
    if _is_text(start) and path.suffix != ".safetensors":
        return f"it is text: {printable(start.decode(errors='ignore'), 40)}"
    # torch's own message is a page of advice to load the file without restriction.
    said = str(error).rpartition("WeightsUnpickler error: ")[2].partition("\n\nCheck the doc")[0]
    if refused := re.search(r"Unsupported (?:global|class).* GLOBAL (\S+)", said):
        return f"it holds {printable(refused[1])}, which is not loaded: only tensors are"
    reason = printable(said or one_line(error), _REASON_CHARACTERS)
    return reason if isinstance(error, OSError) else f"{type(error).__name__}: {reason}"


def _is_text(start: bytes) -> bool:
    """Whether the beginning of a file is nothing but letters, line breaks and blanks."""
    try:
        text = start.decode()
    except UnicodeDecodeError as error:
        if len(start) < _SIZE or error.start < len(start) - 3:  # a cut character has three bytes
            return False
        text = start[: error.start].decode()
    return all(character.isprintable() or character.isspace() for character in text)


# ---------------------------------------------------------------- TorchScript


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _read_torchscript(path: Path) -> dict[str, Tensor]:
    """Parameters and buffers of a TorchScript archive by name, as `state_dict` has them."""
    with zipfile.ZipFile(path) as archive:
        (pickled,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        folder = pickled.removesuffix("data.pkl")
        with archive.open(pickled) as file:
            module = _ModuleReader(file, archive, folder).load()
    state: dict[str, Tensor] = {}
    _collect(module, "", state)
    return state


def _collect(module: _Module, prefix: str, state: dict[str, Tensor]) -> None:
    for name, value in module.attributes.items():
        if isinstance(value, Tensor):
            state[prefix + name] = value
        elif isinstance(value, _Module):
            _collect(value, f"{prefix}{name}.", state)


class _Module:
    """A module of an archive: its attributes, and nothing of what its class would do."""

    def __init__(self) -> None:
        self.attributes: dict[str, Any] = {}

    def __setstate__(self, attributes: dict[str, Any]) -> None:
        self.attributes = attributes


class _ModuleReader(pickle.Unpickler):
    """Builds modules and tensors; every other name that a file mentions is refused."""

    def __init__(self, file: Any, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(file)
        self._archive, self._folder = archive, folder

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "__torch__":
            return _Module
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        known = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
        }
        # Lists of numbers, which modules have as settings, come through functions of torch's own.
        if module == "torch.jit._pickle":
            return _setting
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"Unsupported global: GLOBAL {module}.{name}")
        return known[module, name]

    def persistent_load(self, pid: Any) -> Tensor:
        """The numbers behind tensors, flat; on whatever device they were."""
        _, dtype, key, *_ = pid
        content = bytearray(self._archive.read(f"{self._folder}data/{key}"))
        return torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)


def _setting(value: Any, *_: Any) -> Any:
    return value


def _tensor(
    storage: Tensor, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any
) -> Tensor:
    return storage.as_strided(shape, strides, offset)


def load_weights(model: nn.Module, state: Mapping[str, Tensor], *, assign: bool = False) -> None:
    """Give a model trained weights, which must be its own in names, shapes and types.

    Args:
        model: Model that the weights are for; where they are assigned, it may hold none of its own.
        state: The state dictionary.
        assign: Whether the model takes the tensors themselves, and not a copy.

    Raises:
        ValueError: The weights are another model's, with the first that is not as it should be.
    """
    wanted = model.state_dict()
    for name in sorted(wanted.keys() | state.keys()):
        if name not in state or name not in wanted:
            raise ValueError(f"{name} is {'missing' if name not in state else 'unknown'}")
        for what, found, own in (
            ("shape", list(state[name].shape), list(wanted[name].shape)),
            ("type", state[name].dtype, wanted[name].dtype),
        ):
            if found != own:
                raise ValueError(f"{name} has the {what} {found}, not {own}")
    model.load_state_dict(state, assign=assign)
