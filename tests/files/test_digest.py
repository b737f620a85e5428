from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssense.errors import UserError
from ssense.files.digest import (
    DIGEST_CHARACTERS,
    digest,
    file_digest,
    folder_digest,
    weights_identity,
)

plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@dataclass(frozen=True)
class Inner:
    hz: float = 1.0


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    names: tuple[str, ...] = ("a", "b")


@dataclass(frozen=True)
class Other:
    hz: float = 1.0


@given(plain_values)
def test_a_digest_is_short_hexadecimal_and_repeatable(value):
    assert digest(value) == digest(value)
    assert len(digest(value)) == DIGEST_CHARACTERS
    int(digest(value), 16)


@given(st.dictionaries(st.text(), plain_values, min_size=2))
def test_key_order_does_not_matter(mapping):
    assert digest(mapping) == digest(dict(reversed(mapping.items())))


@given(plain_values, plain_values)
def test_distinct_values_have_distinct_digests(one, other):
    assert (digest(one) == digest(other)) == (repr(canonical(one)) == repr(canonical(other)))


def canonical(value):
    if isinstance(value, dict):
        return {key: canonical(value[key]) for key in sorted(value)}
    return [canonical(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        (("é", 1, 0.5, None, {"b": [True], "a": 2}), r'["\u00e9",1,0.5,null,{"a":2,"b":[true]}]'),
        ((Outer(),), '[{"":"Outer"}]'),
        (
            (Outer(inner=Inner(2), names=("c",)),),
            '[{"":"Outer","inner":{"hz":2.0},"names":["c"]}]',
        ),
        ((Outer(inner=Other()),), '[{"":"Outer","inner":{"kind":"Other"}}]'),
    ],
)
def test_the_digest_is_of_canonical_json(parts, text):
    # Stored results are named by it: another canonical form would orphan every one of them.
    assert digest(*parts) == hashlib.sha256(text.encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((Inner(1.0),), (Inner(2.0),)),
        ((Inner(),), (Other(),)),
        ((Outer(),), (Outer(inner=Inner(3.0)),)),
        (("ab",), ("a", "b")),
        ((["a"], "b"), ("a", ["b"])),
        ((1,), ("1",)),
        ((None,), ("None",)),
        (("é",), ("e",)),
    ],
)
def test_what_differs_in_value_or_type_differs_in_digest(one, other):
    assert digest(*one) != digest(*other)


def test_lists_and_tuples_are_the_same_sequence():
    assert digest((1, 2)) == digest([1, 2])


@pytest.mark.parametrize("value", [np.zeros(2), {1, 2}, object(), Inner])
def test_what_has_no_value_of_its_own_is_refused(value):
    with pytest.raises(TypeError, match=f"cannot hash a {type(value).__name__} by value"):
        digest({"deep": [value]})


def test_files_are_named_by_their_bytes(tmp_path):
    one, copy, other = (tmp_path / name for name in ("one", "copy", "other"))
    one.write_bytes(b"weights")
    copy.write_bytes(b"weights")
    other.write_bytes(b"Weights")
    assert file_digest(one) == file_digest(copy) != file_digest(other)
    assert weights_identity(str(one)) == weights_identity(str(copy)) == f"file {file_digest(one)}"


def test_weights_that_change_on_disk_change_their_name(tmp_path):
    path = tmp_path / "weights"
    names = [weights_identity(str(path))]
    for content in (b"one", b"other", b"one"):
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        names.append(weights_identity(str(path)))
    missing, one, other, again = names
    assert missing == str(path)
    assert one == again != other


def test_weights_that_are_no_file_are_named_by_their_tag():
    assert weights_identity("openai") == "openai"


def test_weights_whose_name_no_file_can_have_are_one_line():
    with pytest.raises(UserError, match=r"weights x*… can't be read \(File name too long\)"):
        weights_identity("x" * 300)


@pytest.fixture
def large(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "large"
    path.write_bytes(bytes(2**21))
    time.sleep(2.1)  # what changed a moment ago is not believed to be settled
    return path


def bytes_read() -> int:
    counters = Path("/proc/self/io").read_text()
    return int(counters.split()[1])  # rchar: bytes asked for, from the page cache too


def test_a_large_file_is_read_once_until_it_changes(large):
    first = file_digest(large)
    before = bytes_read()
    assert file_digest(large) == first
    assert bytes_read() - before < 2**16
    state = large.stat()
    with large.open("r+b") as file:
        file.write(b"1")
    os.utime(large, ns=(state.st_atime_ns, state.st_mtime_ns))  # as an archive tool would
    changed = file_digest(large)
    assert changed == hashlib.sha256(large.read_bytes()).hexdigest()[:16] != first


@pytest.mark.parametrize("note", ["", "half"])
def test_a_damaged_note_is_not_believed(large, tmp_path, note):
    known = file_digest(large)
    (path,) = (tmp_path / "cache").rglob("digests/*")
    path.write_text(note)
    assert file_digest(large) == known == path.read_text()


def test_where_nothing_can_be_kept_files_are_read_again(large, tmp_path):
    (tmp_path / "cache").write_text("a file in the way")
    assert file_digest(large) == hashlib.sha256(bytes(2**21)).hexdigest()[:16]


def test_without_a_home_nothing_is_kept(large, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert file_digest(large) == hashlib.sha256(bytes(2**21)).hexdigest()[:16]


def test_a_file_that_has_just_changed_is_read_again(large, tmp_path):
    with large.open("r+b") as file:
        file.write(b"1")
    file_digest(large)
    assert not list((tmp_path / "cache").rglob("digests/*"))


def test_a_new_field_with_a_default_changes_no_digest():
    @dataclass(frozen=True)
    class Made:
        size: int = 3

    before = digest(Made()), digest(Made(size=4))

    @dataclass(frozen=True)
    class Made:
        size: int = 3
        colour: str = "blue"

    assert (digest(Made()), digest(Made(size=4))) == before
    assert digest(Made(colour="red")) not in before


@pytest.mark.parametrize("age_s", [0, 60])
def test_a_folder_is_the_names_and_contents_of_its_files(age_s, tmp_path, monkeypatch):
    """Whether they were written just now or have settled, which is asked of the clock."""
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + age_s)

    def found() -> str:
        assert folder_digest(tmp_path, (".md",)) == folder_digest(tmp_path, (".md",))
        return folder_digest(tmp_path, (".md",))

    (tmp_path / "below").mkdir()
    for name in ("one", "below/two"):
        (tmp_path / name).write_bytes(b"a" * 99)
    first = found()
    for name in (".hidden", "README.md"):
        (tmp_path / name).write_bytes(b"b")
    assert found() == first
    others = [first]
    time.sleep(0.02)  # a tick of the file system
    (tmp_path / "one").write_bytes(b"b" * 99)
    others.append(found())
    (tmp_path / "one").rename(tmp_path / "three")
    others.append(found())
    (tmp_path / "below/two").unlink()
    others.append(found())
    assert len({*others}) == 4
