"""Files of arrays by other people, read without trusting them.

A pickle is a program: loading one the usual way runs whatever its author, or whoever changed it
since, wrote into it. This reader knows the programs that build arrays and plain containers, and
refuses every other. Nothing that a file names is imported or called: what it calls are the few
stand-ins below. Samples are not copied into memory either; an array is a view of the mapped file.
"""

from __future__ import annotations

import mmap
import pickle
import re
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np

from ssense.errors import UserError, one_line, printable
from ssense.files.tables import require_file

_Order: TypeAlias = Literal["C", "F"]
_SMALL = 2**12  # bytes that are copied rather than viewed, so that text and numbers are bytes
_TYPE_CODE = re.compile(r"[<>|=]?(\?|b1|[iu][1248]|f[248]|[US]\d{1,6}|O8?)")
_STORAGES = {
    "BoolStorage": "?",
    "ByteStorage": "u1",
    "CharStorage": "i1",
    "ShortStorage": "i2",
    "IntStorage": "i4",
    "LongStorage": "i8",
    "HalfStorage": "f2",
    "FloatStorage": "f4",
    "DoubleStorage": "f8",
}
"""Element types of torch's storages that NumPy has too, little-endian."""


def load_restricted(path: Path) -> Any:
    """Load a .npy file, a pickle or a torch .pt file that holds arrays and plain containers.

    Returns:
        What the file holds, of arrays, dict, list, tuple, str, int, float, bool and None alone. A
        tensor comes as an array, a NumPy scalar as a number, an array of one object (what
        `numpy.save` makes of a dict) as that object. Arrays are read-only views of the file.

    Raises:
        UserError: The file is missing or damaged, or holds anything else.
    """
    require_file(path)
    try:
        with path.open("rb") as file:
            # Never closed by hand: the arrays that are handed out look into it.
            memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return _load(path, memory)
    except UserError:
        raise
    except Exception as error:  # damaged bytes raise whatever the readers of a format do
        raise UserError(
            f"{path} is not a whole .npy, .pt or pickle file: {one_line(error)}. "
            "Restore the file from the download."
        ) from error


def _load(path: Path, memory: mmap.mmap) -> Any:
    start = memory[:6]
    if start == b"\x93NUMPY":
        return _load_npy(path, memory)
    if start.startswith(b"PK\x03\x04"):
        return _load_torch(path, memory)
    if start.startswith(b"\x80"):
        return _Unpickler(path, _Stretch(memory, 0, len(memory))).load_plain()
    raise ValueError(f"it begins with {start!r}")


def _load_npy(path: Path, memory: mmap.mmap) -> Any:
    version = np.lib.format.read_magic(memory)
    headers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    shape, fortran_order, dtype = headers[version](memory)
    if dtype.hasobject:
        value = _Unpickler(path, _Stretch(memory, memory.tell(), len(memory))).load_plain()
        return value.item() if isinstance(value, np.ndarray) and value.shape == () else value
    if not _TYPE_CODE.fullmatch(dtype.str):
        raise _refused(path, f"numbers of the type {dtype}")
    order: _Order = "F" if fortran_order else "C"
    return np.ndarray(shape, dtype, buffer=memory, offset=memory.tell(), order=order)


def _load_torch(path: Path, memory: mmap.mmap) -> Any:
    """Read what `torch.save` writes: a zip archive of a pickle and of uncompressed storages."""
    stretches = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{printable(member.filename)} in it is compressed")
            # The local header has lengths of its own; torch pads it to align the samples.
            lengths = struct.unpack_from("<HH", memory, member.header_offset + 26)
            begin = member.header_offset + 30 + sum(lengths)
            _, _, name = member.filename.partition("/")
            stretches[name] = _Stretch(memory, begin, begin + member.file_size)
    if "data.pkl" not in stretches:
        raise ValueError("the archive has no data.pkl")
    if "byteorder" in stretches and stretches["byteorder"].read(3) != b"lit":
        raise ValueError("its numbers are not little-endian")
    return _Unpickler(path, stretches["data.pkl"], stretches).load_plain()


class _Stretch:
    """A stretch of the mapped file, read like a file: short pieces as bytes, long ones as views."""

    def __init__(self, memory: mmap.mmap, begin: int, end: int) -> None:
        if not 0 <= begin <= end <= len(memory):
            raise EOFError("it ends too early")
        self._memory, self._at, self._end = memory, begin, end

    def read(self, n: int) -> bytes | memoryview:
        if not 0 <= n <= self._end - self._at:
            raise EOFError("it ends too early")
        piece = memoryview(self._memory)[self._at : self._at + n]
        self._at += n
        return bytes(piece) if n <= _SMALL else piece

    def readline(self) -> bytes:
        end = self._memory.find(b"\n", self._at, self._end) + 1
        line = self._memory[self._at : max(end, self._at)]
        self._at += len(line)
        return line

    def rest(self) -> memoryview:
        return memoryview(self._memory)[self._at : self._end]


@dataclass(eq=False)
class _Type:
    """A NumPy type while it is unpickled."""

    code: str
    byte_order: Literal["=", "<", ">", "|"] = "="

    def set_state(self, state: tuple[Any, ...]) -> None:
        _, self.byte_order, *_ = state

    def resolve(self) -> np.dtype:
        if not _TYPE_CODE.fullmatch(self.code):
            raise ValueError(f"it holds numbers of the type {printable(self.code)}")
        return np.dtype(self.code).newbyteorder(self.byte_order)


@dataclass(eq=False)
class _Array:
    """An array while it is unpickled."""

    shape: tuple[int, ...] = ()
    type: _Type | None = None
    order: _Order = "C"
    content: Any = None
    axes: tuple[int, ...] | None = None

    def set_state(self, state: tuple[Any, ...]) -> None:
        _, self.shape, self.type, fortran_order, self.content = state
        self.order = "F" if fortran_order else "C"

    def resolve(self, plain: Callable[[Any], Any]) -> np.ndarray:
        if self.type is None:
            raise ValueError("an array in it has no type")
        dtype = self.type.resolve()
        if dtype.hasobject:
            array = np.empty(len(self.content), object)
            for i, item in enumerate(self.content):
                array[i] = plain(item)
            return array.reshape(self.shape, order=self.order)
        array = np.ndarray(self.shape, dtype, buffer=self.content, order=self.order)
        if array.nbytes != len(self.content):
            raise ValueError(f"{len(self.content)} bytes are no {dtype} array of {array.shape}")
        return array if self.axes is None else array.transpose(self.axes)


@dataclass(eq=False)
class _Scalar:
    """A NumPy number while it is unpickled."""

    type: _Type
    content: bytes

    def resolve(self) -> bool | int | float | str:
        value = _Array((), self.type, content=self.content).resolve(_no_objects).item()
        if not isinstance(value, bool | int | float | str):
            raise ValueError(f"it holds a {type(value).__name__}")
        return value


@dataclass(eq=False)
class _Storage:
    """The numbers behind a tensor."""

    type: str
    content: memoryview


@dataclass(frozen=True)
class _Name:
    """A class that a pickle mentions but that is not needed here."""

    name: str


def _from_buffer(
    content: Any, kind: _Type, shape: tuple[int, ...], order: _Order, axes: Any = None
) -> _Array:
    return _Array(shape, kind, "C" if axes else order, content, axes)


def _tensor(storage: _Storage, offset: int, shape: Any, strides: Any, *_: Any) -> np.ndarray:
    dtype = np.dtype(storage.type)
    steps = [stride * dtype.itemsize for stride in strides]
    offset *= dtype.itemsize
    array = np.ndarray(shape, dtype, buffer=storage.content, offset=offset, strides=steps)
    if array.nbytes > len(storage.content):
        raise ValueError(f"a tensor of {array.shape} repeats its {len(storage.content)} bytes")
    return array


def _encode(text: str, codec: str) -> bytes:
    """Encode text as pickle protocols without bytes objects have Python do it."""
    if codec != "latin1":
        raise ValueError(f"it holds text for the codec {printable(codec)}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    return b""


def _no_objects(_: Any) -> Any:
    raise ValueError("it holds an object in place of a number")


def _globals() -> dict[tuple[str, str], Any]:
    """Stand-ins for the names that pickles of arrays and tensors mention."""
    known: dict[tuple[str, str], Any] = {
        ("_codecs", "encode"): _encode,
        ("__builtin__", "bytes"): _no_bytes,
        ("builtins", "bytes"): _no_bytes,
        ("collections", "OrderedDict"): dict,
        ("numpy", "dtype"): lambda code, *_: _Type(code),
        ("numpy", "ndarray"): _Name("numpy.ndarray"),
        ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    }
    for package in ("numpy.core", "numpy._core"):  # before NumPy 2, and since
        known[f"{package}.multiarray", "_reconstruct"] = lambda *_: _Array()
        known[f"{package}.multiarray", "scalar"] = _Scalar
        known[f"{package}.numeric", "_frombuffer"] = _from_buffer
    return known | {("torch", name): _Name(name) for name in _STORAGES}


_GLOBALS = _globals()


class _Unpickler(pickle._Unpickler):
    """Python's own unpickler, less what calls, imports or changes anything."""

    # The one in Python, not the one in C: only there can single instructions be replaced.
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)
    # What Python's own keeps while it loads.
    stack: list[Any]
    append: Callable[[Any], None]
    read: Callable[[int], bytes | memoryview]

    def __init__(
        self, path: Path, stretch: _Stretch, storages: dict[str, _Stretch] | None = None
    ) -> None:
        super().__init__(stretch)  # type: ignore[arg-type]  # reads long pieces as views
        self._path, self._stretch, self._storages = path, stretch, storages or {}

    def load_plain(self) -> Any:
        """Run the pickle and make of its result arrays and plain containers."""
        value = self.load()
        if len(self._stretch.rest()):
            raise ValueError("more data follows its end")
        return self._plain(value, {})

    def _plain(self, value: Any, done: dict[int, Any]) -> Any:
        """Make arrays of what stands for them, and refuse what is not plain."""
        if value is None or type(value) in (bool, int, float, str, np.ndarray):
            return value
        if id(value) not in done:  # an object that is referred to a thousand times is made once
            done[id(value)] = self._resolved(value, lambda inner: self._plain(inner, done))
        return done[id(value)]

    def _resolved(self, value: Any, plain: Callable[[Any], Any]) -> Any:
        if isinstance(value, _Array):
            return value.resolve(plain)
        if isinstance(value, _Scalar):
            return value.resolve()
        if type(value) in (list, tuple):
            return type(value)(map(plain, value))
        if type(value) is dict:
            return {plain(key): plain(inner) for key, inner in value.items()}
        name = value.name if isinstance(value, _Name) else type(value).__name__.lstrip("_")
        raise _refused(self._path, name)

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _GLOBALS[module, name]
        except KeyError:
            raise _refused(self._path, f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> _Storage:
        _, kind, key, *_ = pid
        return _Storage(_STORAGES[kind.name], self._storages[f"data/{key}"].rest())

    def _build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], _Array | _Type):
            raise _refused(self._path, f"the state of a {type(self.stack[-1]).__name__}")
        self.stack[-1].set_state(state)

    def _long_bytes(self) -> None:
        (n,) = struct.unpack("<Q", self.read(8))
        self.append(self.read(n))

    def _bytes(self) -> None:
        (n,) = struct.unpack("<I", self.read(4))
        self.append(self.read(n))

    def _refuse(self) -> None:
        raise _refused(self._path, "objects of classes")

    dispatch[pickle.BUILD[0]] = _build
    dispatch[pickle.BINBYTES[0]] = _bytes
    dispatch[pickle.BINBYTES8[0]] = dispatch[pickle.BYTEARRAY8[0]] = _long_bytes
    for _instruction in (
        *(pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2),
        *(pickle.EXT4, pickle.PERSID, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
    ):
        dispatch[_instruction[0]] = _refuse


def _refused(path: Path, what: str) -> UserError:
    return UserError(
        f"{path} holds {printable(what)}, which is neither an array nor a plain container, so it "
        "is not loaded. Save its arrays alone, or restore the file from the download."
    )
