from __future__ import annotations

import json
import math
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from upath import UPath

from ssense.errors import UserError
from ssense.storage import (
    create,
    is_local,
    local_copy,
    locate,
    open_storage,
    partial_file,
    read_json,
    read_many,
    read_whole,
    relative_files,
    remove,
    remove_partial_files,
    subfolders_with,
    upload,
    write_json,
    write_next,
    write_whole,
)


@pytest.fixture(params=["local", "memory", "s3"])
def storage(request, tmp_path) -> UPath:
    if request.param == "local":
        return open_storage(str(tmp_path / "store"))
    if request.param == "memory":
        return open_storage(f"memory://{tmp_path.name}")
    request.getfixturevalue("s3")
    return open_storage(f"s3://lab/{tmp_path.name}/store")


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
        ("http://127.0.0.1:9/folder", "Connect call failed ('127.0.0.1', 9)"),
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


def test_of_many_who_create_a_file_at_once_one_succeeds(storage):
    together = threading.Barrier(8)

    def writer(number: int) -> bool:
        together.wait()
        try:
            create(storage / "claim", str(number).encode())
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(writer, range(8)))
    assert made.count(True) == 1
    assert read_whole(storage / "claim") == str(made.index(True)).encode()


def test_numbered_files_of_many_writers_are_all_kept(storage):
    write = partial(write_next, storage / "looks", "look-{:02d}", 1)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, "abcdefgh"))
    assert names(storage / "looks") == [f"look-{number:02d}" for number in range(1, 9)]
    assert sorted(read_whole(path) for path in (storage / "looks").iterdir()) == [
        bytes([letter]) for letter in b"abcdefgh"
    ]


def test_readers_see_what_one_of_several_writers_wrote_whole(storage):
    contents = [bytes([letter]) * 200_000 for letter in b"abcd"]
    write_whole(storage / "file", contents[0])
    with ThreadPoolExecutor(4) as threads:
        writing = [threads.submit(write_whole, storage / "file", c) for c in contents * 5]
        while not all(write.done() for write in writing):
            assert read_whole(storage / "file") in contents
    assert all(write.exception() is None for write in writing)


def test_removing_is_done_when_the_file_is_gone(storage):
    write_whole(storage / "file", "text")
    for _ in range(2):
        remove(storage / "file")
        with pytest.raises(FileNotFoundError):
            read_whole(storage / "file")


# ---------------------------------------------------------------- many files


def test_many_files_are_found_and_read_in_order(storage):
    for name in ("b", "a", "c"):
        write_whole(storage / "cells" / name / "encoder", "large")
        if name != "c":
            write_whole(storage / "cells" / name / "record", name)
    found = subfolders_with(storage / "cells", "record")
    assert list(found) == ["a", "b"]
    paths = [storage / "cells" / name / "record" for name in ("b", "a")]
    assert list(read_many(paths)) == [b"b", b"a"]
    assert subfolders_with(storage / "nowhere", "record") == {}
    assert list(read_many([])) == []
    with pytest.raises((UserError, FileNotFoundError)):
        list(read_many([*paths, storage / "cells" / "c" / "record"]))


def test_the_mark_of_a_file_follows_its_content(s3):  # noqa: ARG001
    folder = locate("s3://lab/marks")
    marks = []
    for content in ("one", "two", "one"):
        write_whole(folder / "cell" / "record", content)
        marks.append(subfolders_with(folder, "record")["cell"])
    assert marks[0] == marks[2] != marks[1]


# ---------------------------------------------------------------- S3 itself


def test_every_step_is_one_request(s3):
    path = locate("s3://lab/steps") / "folder" / "file"
    steps = {
        "PUT": lambda: write_whole(path, "text"),
        "GET": lambda: read_whole(path),
        "HEAD": path.exists,
        "DELETE": lambda: remove(path),
    }
    for method, step in steps.items():
        before = len(s3.requests())
        step()
        assert s3.requests()[before:] == [f"{method} /lab/steps/folder/file"]


def test_what_another_machine_writes_is_seen_at_once(s3):  # noqa: ARG001
    import boto3

    folder = locate("s3://lab/other")
    assert list(folder.glob("*.json")) == []
    assert not (folder / "a.json").exists()
    boto3.client("s3").put_object(Bucket="lab", Key="other/a.json", Body=json.dumps([1]))
    assert [path.name for path in folder.glob("*.json")] == ["a.json"]
    assert read_json(folder / "a.json") == [1]


def test_a_misspelt_bucket_is_refused_and_not_made(s3):
    with pytest.raises(UserError) as error:
        open_storage("s3://lba/ssense")
    assert str(error.value) == (
        "storage s3://lba/ssense can't be written to (The specified bucket does not exist). "
        "Check --storage."
    )
    assert not [request for request in s3.requests() if request in ("PUT /lba", "PUT /lba/")]


def test_a_store_that_is_away_is_one_line(s3, monkeypatch):  # noqa: ARG001
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    UPath("s3://lab").fs.clear_instance_cache()
    with pytest.raises(UserError, match=r"can't be written to \(.*127\.0\.0\.1:9.*Check --storage"):
        open_storage("s3://lab/away")
    UPath("s3://lab").fs.clear_instance_cache()


# ---------------------------------------------------------------- copies on this machine


def test_a_local_folder_is_its_own_copy(tmp_path):
    assert local_copy(locate(str(tmp_path))) == tmp_path


@pytest.fixture
def remote(s3, tmp_path, monkeypatch) -> UPath:  # noqa: ARG001
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = tmp_path / "source"
    (source / "labels").mkdir(parents=True)
    (source / "signals.h5").write_bytes(b"1234")
    (source / "labels" / "a.json").write_text("[]")
    folder = locate(f"s3://lab/{tmp_path.name}/recording")
    upload(source, folder)
    return folder


def test_a_folder_of_an_object_store_is_fetched_once_and_what_changed_again(remote, s3):
    copy = local_copy(remote)
    assert (copy / "signals.h5").read_bytes() == b"1234"
    assert (copy / "labels" / "a.json").read_text() == "[]"
    before = len(s3.requests())
    assert local_copy(remote) == copy
    assert len(s3.requests()) == before + 1  # the listing
    write_whole(remote / "signals.h5", b"12345")
    assert (local_copy(remote) / "signals.h5").read_bytes() == b"12345"


def test_only_what_is_wanted_is_fetched_and_what_has_gone_goes(remote):
    copy = local_copy(remote, lambda name: name.endswith(".json"))
    assert not (copy / "signals.h5").exists()
    assert (copy / "labels" / "a.json").exists()
    remove(remote / "labels" / "a.json")
    local_copy(remote)
    assert (copy / "signals.h5").exists()
    assert not (copy / "labels" / "a.json").exists()


def test_objects_that_stand_for_folders_are_no_files(remote):
    for name in ("", "labels/"):
        remote.fs.pipe_file(f"{remote.path}/{name}", b"")
    assert set(relative_files(remote)) == {"signals.h5", "labels/a.json"}
    assert (local_copy(remote) / "labels" / "a.json").read_text() == "[]"


def test_of_processes_that_want_a_copy_at_once_one_fetches(remote, s3):
    before = len(s3.requests())
    with ThreadPoolExecutor(4) as threads:
        copies = set(threads.map(local_copy, [remote] * 4))
    assert len(copies) == 1
    fetched = [r for r in s3.requests()[before:] if r.startswith("GET") and "signals.h5" in r]
    assert len(fetched) == 1


def test_a_name_that_leads_out_of_the_folder_is_refused(remote, tmp_path):
    import boto3

    key = f"{remote.path.partition('/')[2]}/../../outside"
    boto3.client("s3").put_object(Bucket="lab", Key=key, Body=b"evil")
    with pytest.raises(UserError, match=r"holds a file named \.\./\.\./outside, outside of it"):
        local_copy(remote)
    assert not list(tmp_path.rglob("outside"))


def test_nothing_to_fetch_is_one_line(remote):
    with pytest.raises(UserError, match=r"there is nothing at s3://lab/.*nowhere\. Check its name"):
        local_copy(remote.parent / "nowhere")


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
