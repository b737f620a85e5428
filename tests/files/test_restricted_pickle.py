from __future__ import annotations

import builtins
import codecs
import collections
import io
import mmap
import os
import pickle
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssense.errors import UserError
from ssense.files import restricted_pickle
from ssense.files.restricted_pickle import load_restricted

PROTOCOLS = (2, 3, 4, 5)
CONTENT = {
    "eeg": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "half": np.arange(6, dtype=np.float16).reshape(2, 3).T,
    "strided": np.arange(20.0)[::2].reshape(5, 2)[:, ::-1],
    "big endian": np.arange(5, dtype=">i4"),
    "names": np.array([["a/b.jpg", "é"], ["", "x"]]),
    "objects": np.array([[None, "x"], [1, [2.5, {"k": (True,)}]]], dtype=object),
    "empty": np.zeros((0, 3)),
    "zero dimensions": np.array(3.5),
    "large": np.arange(30_000.0),
    "list": ["Oz", 1, 2.5, None, True, -(10**30), ("t", ()), {"d": {}}],
}


def same(a: Any, b: Any) -> bool:
    if isinstance(b, np.ndarray) and b.dtype != object:
        return isinstance(a, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(b, np.ndarray):
        return a.shape == b.shape and same(a.tolist(), b.tolist())
    if isinstance(b, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(b, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in b)
    return type(a) is type(b) and a == b


def pickled(path: Path, value: Any, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(value, protocol))
    return path


def message(path: Path) -> str:
    with pytest.raises(UserError) as error:
        load_restricted(path)
    text = str(error.value)
    assert text.isprintable()
    assert str(path) in text
    return text


# ---------------------------------------------------------------- what is admitted


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_bare_pickle(protocol, tmp_path):
    assert same(load_restricted(pickled(tmp_path / "a.npy", CONTENT, protocol)), CONTENT)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_torch_file(protocol, tmp_path):
    grid = torch.arange(24.0).reshape(2, 3, 4)
    tensors = {
        "plain": grid,
        "transposed": grid.permute(2, 0, 1),
        "part": grid[1, 1:],
        "same storage": grid,
        "half": grid.half(),
        "labels": torch.arange(5),
        "flags": torch.tensor([True, False]),
        "empty": torch.zeros(0, 4),
    }
    torch.save(CONTENT | tensors, tmp_path / "a.pt", pickle_protocol=protocol)
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    assert same(load_restricted(tmp_path / "a.pt"), CONTENT | arrays)


def test_a_dict_and_an_object_array_and_numbers_saved_by_numpy(tmp_path):
    np.save(tmp_path / "a.npy", CONTENT)
    assert same(load_restricted(tmp_path / "a.npy"), CONTENT)
    np.save(tmp_path / "b.npy", CONTENT["objects"])
    assert same(load_restricted(tmp_path / "b.npy"), CONTENT["objects"])
    for name in ("eeg", "half", "big endian", "names", "empty", "zero dimensions"):
        np.save(tmp_path / "c.npy", CONTENT[name])
        assert same(load_restricted(tmp_path / "c.npy"), CONTENT[name])


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_file_by_a_numpy_before_2(protocol, tmp_path):
    content = pickle.dumps(CONTENT, protocol).replace(b"numpy._core", b"numpy.core")
    assert b"numpy.core.multiarray" in content
    (tmp_path / "a.npy").write_bytes(content)
    assert same(load_restricted(tmp_path / "a.npy"), CONTENT)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_numbers_of_numpy_become_plain_and_ordered_dicts_too(protocol, tmp_path):
    value = [np.float64(2.5), np.int64(3), np.str_("Oz"), np.bool_(True)]
    value.append(collections.OrderedDict(a=1))
    assert same(
        load_restricted(pickled(tmp_path / "a", value, protocol)), [2.5, 3, "Oz", True, {"a": 1}]
    )


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text(), inner)
        | st.lists(st.floats(width=32, allow_nan=False)).map(lambda v: np.array(v, np.float32))
    ),
)


@given(value=PLAIN, protocol=st.sampled_from(PROTOCOLS))
def test_any_plain_value_comes_back(value, protocol, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "plain.pkl"
    assert same(load_restricted(pickled(path, value, protocol)), value)


def test_what_occurs_a_thousand_times_is_made_once(tmp_path):
    tower: list[Any] = [np.arange(3)]
    for _ in range(60):
        tower = [tower, tower]  # 2**60 arrays to who does not look
    value = load_restricted(pickled(tmp_path / "a", tower))
    assert value[0] is value[1]


@pytest.mark.parametrize("kind", ["npy", "object npy", "pickle", "numpy in pt", "tensor in pt"])
def test_samples_are_viewed_in_the_file_not_copied(kind, tmp_path):
    samples, path = np.arange(50_000, dtype=np.float32), tmp_path / "a.npy"
    if kind == "npy":
        np.save(path, samples)
    elif kind == "object npy":
        np.save(path, {"eeg": samples})
    elif kind == "pickle":
        pickled(path, {"eeg": samples})
    else:
        value = samples if kind == "numpy in pt" else torch.from_numpy(samples)
        torch.save({"eeg": value}, path, pickle_protocol=5)
    loaded = load_restricted(path)
    array = loaded if kind == "npy" else loaded["eeg"]
    assert np.array_equal(array, samples)
    assert not array.flags.writeable
    base: Any = array
    while isinstance(base, np.ndarray | memoryview):
        base = base.base if isinstance(base, np.ndarray) else base.obj
    assert isinstance(base, mmap.mmap)


# ---------------------------------------------------------------- what is refused


class Calls:
    """Something whose pickle calls a function when it is loaded the usual way."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.how = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.how


def evil(trace: Path) -> list[Any]:
    command = f"touch {trace}"
    return [
        Calls(os.system, command),
        Calls(subprocess.check_output, ["touch", str(trace)]),
        Calls(builtins.eval, f"open({str(trace)!r}, 'w')"),
        Calls(builtins.getattr, np.ndarray, "dump"),
        Calls(np.save, trace, 1),
        Calls(io.FileIO, str(trace), "w"),
        collections.Counter(a=1),
        {1, 2},
        frozenset({1}),
        b"raw bytes",
        bytearray(b"raw bytes"),
        1j,
        np.dtype("f8"),
        np.ndarray,
        np.float32,
        range(3),
        slice(3),
        np.zeros(2, dtype=[("a", "f8")]),
        np.zeros(2, dtype="M8[s]"),
        np.zeros(2, dtype="c16"),
        Path("x"),
        ValueError("x"),
    ]


@pytest.mark.parametrize("number", range(len(evil(Path()))))
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_everything_else_is_refused_and_nothing_runs(number, protocol, tmp_path):
    trace = tmp_path / "trace"
    value = {"eeg": np.zeros(3), "x": [evil(trace)[number]]}
    message(pickled(tmp_path / "a.npy", value, protocol))
    torch.save(value, tmp_path / "a.pt", pickle_protocol=protocol)
    message(tmp_path / "a.pt")
    np.save(tmp_path / "b.npy", value)
    message(tmp_path / "b.npy")
    assert not trace.exists()


def test_the_message_names_file_and_global(tmp_path):
    path = pickled(tmp_path / "a.npy", {"x": Calls(os.system, "true")})
    assert message(path) == (
        f"{path} holds posix.system, which is neither an array nor a plain container, so it is not "
        "loaded. Save its arrays alone, or restore the file from the download."
    )


# Programs that no pickler writes; each would change or reach something in this process.
HAND_MADE = {
    "state for a function": b"\x80\x02cnumpy\ndtype\n}X\x01\x00\x00\x00aK\x01sb.",
    "state for an ndarray": b"\x80\x02cnumpy\nndarray\n}b.",
    "state for a dict": b"\x80\x02}N}X\x04\x00\x00\x00keysK\x01s\x86b.",
    "instance": b"\x80\x02(ios\nsystem\n.",
    "object": b"\x80\x02(cnumpy\ndtype\no.",
    "new object": b"\x80\x02ccollections\nOrderedDict\n)\x81.",
    "extension registry": b"\x80\x02\x82\x01.",
    "persistent id in text": b"\x80\x02P0\n.",
    "persistent id without storages": b"\x80\x02K\x01Q.",
    "dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0cdtype.__init__\x93.",
    "buffer out of band": b"\x80\x05\x97.",
    "stack underflow": b"\x80\x02R.",
    "itself": b"\x80\x02]q\x00h\x00a.",
    "eight exabytes": b"\x80\x05\x96" + b"\xff" * 7 + b"\x7f.",
    "eight exabytes of text": b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7f.",
    "endless frame": b"\x80\x04\x95" + b"\xff" * 8 + b".",
    "a long number": b"\x80\x02I" + b"9" * 10_000 + b"\n.",
    "a class for itself": b"\x80\x02ccollections\nOrderedDict\n.",
    "no stop": b"\x80\x02K\x01",
}


@pytest.mark.parametrize("name", HAND_MADE)
def test_hand_made_programs_are_refused_and_change_nothing(name, tmp_path):
    path = tmp_path / "a.npy"
    path.write_bytes(HAND_MADE[name])
    before = repr([vars(stand_in) for stand_in in stand_ins()])
    message(path)
    assert repr([vars(stand_in) for stand_in in stand_ins()]) == before


def stand_ins() -> list[Any]:
    return [value for value in restricted_pickle._GLOBALS.values() if not isinstance(value, type)]


def test_a_member_is_not_read_beyond_its_end(tmp_path):
    (tmp_path / "a").write_bytes(b"0123456789")
    with (tmp_path / "a").open("rb") as file:
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    stretch = restricted_pickle._Stretch(memory, 2, 6)
    assert stretch.read(3) == b"234"
    for n in (2, -1):
        with pytest.raises(EOFError):
            stretch.read(n)
    assert stretch.read(1) == b"5"


def test_a_state_for_something_else_than_an_array_is_named(tmp_path):
    (tmp_path / "a.npy").write_bytes(HAND_MADE["state for a dict"])
    assert "holds the state of a dict, which is neither" in message(tmp_path / "a.npy")


def test_other_codecs_than_that_of_bytes_are_refused(tmp_path):
    path = pickled(tmp_path / "a.npy", [Calls(codecs.encode, "x", "rot13")])
    assert "it holds text for the codec rot13" in message(path)


@pytest.mark.parametrize("kind", ["c16", "M8[s]", "V3", [("a", "f8")]])
def test_arrays_of_other_types_than_numbers_and_text_are_refused(kind, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(2, dtype=kind))
    assert "holds numbers of the type" in message(tmp_path / "a.npy")


def test_big_endian_tensors_are_refused(tmp_path):
    torch.save(torch.zeros(2), tmp_path / "a.pt")
    with (
        zipfile.ZipFile(tmp_path / "a.pt") as archive,
        zipfile.ZipFile(tmp_path / "b.pt", "w") as other,
    ):
        for name in archive.namelist():
            content = archive.read(name)
            other.writestr(name, b"big" if name.endswith("/byteorder") else content)
    assert load_restricted(tmp_path / "a.pt").tolist() == [0, 0]
    assert "its numbers are not little-endian" in message(tmp_path / "b.pt")


def test_shapes_that_do_not_fit_the_bytes_are_refused(tmp_path):
    good = pickle.dumps(np.arange(6, dtype=np.float32), 2)
    (tmp_path / "more").write_bytes(good.replace(b"K\x06\x85", b"K\x07\x85"))
    (tmp_path / "less").write_bytes(good.replace(b"K\x06\x85", b"K\x05\x85"))
    assert "buffer is too small" in message(tmp_path / "more")
    assert "24 bytes are no float32 array of (5,)" in message(tmp_path / "less")


def test_a_tensor_that_repeats_its_samples_is_refused(tmp_path):
    torch.save(torch.zeros(1).expand(10**12), tmp_path / "a.pt")
    assert "(1000000000000,) repeats its 4 bytes" in message(tmp_path / "a.pt")


def test_tensors_without_a_numpy_type_are_refused(tmp_path):
    torch.save(torch.zeros(2, dtype=torch.bfloat16), tmp_path / "a.pt")
    assert "holds torch.BFloat16Storage" in message(tmp_path / "a.pt")


def test_other_archives_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    assert "no data.pkl" in message(tmp_path / "a.npz")
    torch.save({"x": 1}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert "more data follows its end" in message(tmp_path / "old.pt")
    with zipfile.ZipFile(tmp_path / "z.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", pickle.dumps([1] * 100))
    assert "a/data.pkl in it is compressed" in message(tmp_path / "z.pt")


@pytest.mark.parametrize(
    "content", [b"", b"\x93NUMPY", b"PK\x03\x04", b"\x80", b"hello", b"(lp0\n."]
)
def test_other_files_are_refused(content, tmp_path):
    (tmp_path / "a.npy").write_bytes(content)
    assert "is not a whole .npy, .pt or pickle file" in message(tmp_path / "a.npy")


def test_a_missing_file_is_refused(tmp_path):
    assert "is missing" in message(tmp_path / "a.npy")
