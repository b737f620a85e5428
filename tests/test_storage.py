from __future__ import annotations

import math
import os
import time
from contextlib import suppress
from pathlib import Path

import pytest
from upath import UPath

from ssense.errors import UserError
from ssense.storage import (
    is_local,
    open_storage,
    partial_file,
    read_json,
    remove_partial_files,
    write_json,
    write_whole,
)


@pytest.fixture(params=["local", "memory"])
def storage(request, tmp_path) -> UPath:
    local = request.param == "local"
    return open_storage(str(tmp_path / "store") if local else f"memory://{tmp_path.name}")


def names(folder: UPath) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---------------------------------------------------------------- opening


def test_opening_makes_the_folder_and_leaves_it_empty(tmp_path):
    root = open_storage(str(tmp_path / "a" / "b"))
    assert root == UPath(tmp_path / "a" / "b")
    assert names(root) == []


def test_opening_again_changes_nothing(storage):
    write_whole(storage / "kept", "text")
    assert names(open_storage(str(storage))) == ["kept"]


@pytest.mark.parametrize("location", ["store", "./store", "~/store", "file://{home}/store"])
def test_local_locations_become_absolute(location, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    root = open_storage(location.format(home=tmp_path))
    assert root.is_absolute()
    assert root.samefile(tmp_path / "store")


def test_urls_stay_urls(tmp_path):
    assert is_local(open_storage(str(tmp_path)))
    assert not is_local(open_storage("memory://bucket/folder"))


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("{file}", "File exists"),
        ("{file}/below", "Not a directory"),
        ("nowhere://bucket", "Unsupported filesystem: 'nowhere'"),
        ("http://127.0.0.1:9/folder", "NotImplementedError"),
        ("a\0b", "embedded null byte"),
    ],
)
def test_storage_that_cannot_be_written_to_is_one_line(location, reason, tmp_path):
    (tmp_path / "file").write_text("in the way")
    location = location.format(file=tmp_path / "file")
    with pytest.raises(UserError) as error:
        open_storage(location)
    assert str(error.value) == (
        f"storage {location} can't be written to ({reason}). Check --storage."
    )


# ---------------------------------------------------------------- writing


@pytest.mark.parametrize(("content", "stored"), [("é\n", b"\xc3\xa9\n"), (b"\0\xff", b"\0\xff")])
def test_a_file_holds_what_was_written_and_nothing_lies_beside_it(storage, content, stored):
    path = storage / "new" / "folder" / "file"
    write_whole(path, "an older and longer text")
    write_whole(path, content)
    assert path.read_bytes() == stored
    assert names(path.parent) == ["file"]


def test_a_failing_writer_leaves_the_old_file_and_no_part(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with suppress(ZeroDivisionError), partial_file(path) as partial:
        partial.write_text("half of the n")
        assert path.read_text() == "old"
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_a_writer_that_fails_before_its_first_byte_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), partial_file(tmp_path / "file"):
        raise ZeroDivisionError
    assert names(tmp_path) == []


def test_a_move_that_fails_leaves_no_part(tmp_path):
    (tmp_path / "place").mkdir()
    with pytest.raises(UserError, match=r"place can't be written \(.*Is a directory.*Free space"):
        write_whole(UPath(tmp_path / "place"), "text")
    assert names(tmp_path) == ["place"]


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    path = tmp_path / "file"
    with partial_file(path) as one, partial_file(path) as other:
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one"  # the outer one ends last
    assert names(tmp_path) == ["file"]


# ---------------------------------------------------------------- JSON


def test_json_comes_back_as_it_was(storage):
    value = {"b": [1, 2.5, None], "a": {"é": "ü"}, "tiny": math.ulp(0.0), "third": 1 / 3}
    write_json(storage / "record.json", value)
    assert read_json(storage / "record.json") == value
    assert list(read_json(storage / "record.json")) == list(value)


def test_a_value_that_is_no_json_leaves_the_old_file(storage):
    path = storage / "record.json"
    write_json(path, {"old": 1})
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(path, {"fine": 1, "wrong": Path()})
    assert read_json(path) == {"old": 1}


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe", b"nonsense"])
def test_damaged_json_is_one_line(storage, content):
    path = storage / "record.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"record\.json is damaged") as error:
        read_json(path)
    assert len(str(error.value).splitlines()) == 1
    assert str(error.value).endswith("Delete it and run again.")


def test_a_storage_that_must_exist_is_not_made(tmp_path):
    with pytest.raises(
        UserError, match=r"no storage at .*typo\. Check --storage, or run a sweep first"
    ):
        open_storage(str(tmp_path / "typo"), must_exist=True)
    assert not (tmp_path / "typo").exists()


def test_only_abandoned_partial_files_are_removed(tmp_path):
    """As left by processes that were killed while they wrote."""
    for name in ("shard", ".hidden", ".a.0123"):
        (tmp_path / name).write_text("kept")
    partial = [f".shard.{letter * 32}" for letter in "ab"]
    for name, age_s in zip(partial, (0, 120), strict=True):
        (tmp_path / name).write_text("half")
        os.utime(tmp_path / name, (time.time() - age_s,) * 2)
    remove_partial_files(UPath(tmp_path))
    assert names(UPath(tmp_path)) == sorted(["shard", ".hidden", ".a.0123", partial[0]])
    remove_partial_files(UPath(tmp_path / "nowhere"))
    remove_partial_files(UPath("memory://nowhere"))
