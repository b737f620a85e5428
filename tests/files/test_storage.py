from __future__ import annotations

import errno
import http.client
import json
import math
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from upath import UPath

from ssense.errors import UserError, printable
from ssense.files.storage import (
    create,
    exists,
    file_size,
    is_local,
    local_copy,
    locate,
    names_in,
    open_storage,
    partial_file,
    read_json,
    read_many,
    read_whole,
    reading,
    relative_files,
    remove,
    remove_partial_files,
    scratch_folder,
    subfolders_with,
    upload,
    write_folder,
    write_json,
    write_next,
    write_together,
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
        ("{file}", "a file is in its place"),
        ("{file}/below", "Not a directory"),
        ("http://127.0.0.1:9/folder", "Connect call failed ('127.0.0.1', 9)"),
    ],
)
def test_storage_that_cannot_be_written_to_is_one_line(location, reason, tmp_path):
    (tmp_path / "file").write_text("in the way")
    location = location.format(file=tmp_path / "file")
    with pytest.raises(UserError) as error:
        open_storage(location)
    assert str(error.value) == (
        f"storage {location} can't be written to ({reason}). Check `storage`."
    )


@pytest.mark.parametrize("find", [locate, open_storage])
@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("nowhere://bucket", "Unsupported filesystem: 'nowhere'"),
        ("~no-such-user/folder", "Could not determine home directory"),
        ("a\0b", "embedded null byte"),
    ],
)
def test_what_names_no_place_is_one_line(find, location, reason):
    with pytest.raises(UserError) as error:
        find(location)
    assert str(error.value) == (
        f"{printable(location)} can't be reached ({reason}). "
        "Give a folder or a URL such as s3://BUCKET/FOLDER."
    )


@pytest.mark.parametrize("find", [locate, open_storage])
@pytest.mark.parametrize("location", ["s3://", "s3:///", "s3:///folder", "s3:// /folder", "gs://"])
def test_a_url_without_a_bucket_is_said_to_have_none(find, location):
    with pytest.raises(UserError) as error:
        find(location)
    protocol = location.partition(":")[0]
    expected = f"{location} names no bucket. Give it as {protocol}://BUCKET/FOLDER."
    assert str(error.value) == expected


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


def test_a_file_that_is_created_is_never_seen_in_part(tmp_path):
    """As it would be left by a writer that is killed."""
    path, size = UPath(tmp_path) / "claim", 200 * 2**20
    with ThreadPoolExecutor(1) as thread:
        writing = thread.submit(create, path, bytes(size))
        while not path.exists():
            assert not writing.done() or path.exists()
        assert path.stat().st_size == size
    assert writing.result() is None
    assert names(tmp_path) == ["claim"]


def test_on_a_file_system_without_links_one_creates_too(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")  # as FAT does

    monkeypatch.setattr("os.link", refuse)
    create(UPath(tmp_path) / "claim", b"first")
    with pytest.raises(FileExistsError):
        create(UPath(tmp_path) / "claim", b"second")
    assert (tmp_path / "claim").read_bytes() == b"first"
    assert names(tmp_path) == ["claim"]


def test_in_a_folder_that_is_not_there_nothing_is_created(tmp_path):
    with pytest.raises(FileNotFoundError):
        create(UPath(tmp_path) / "nowhere" / "claim", b"text")


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


# ---------------------------------------------------------------- left behind by a kill

WRITES_FOR_EVER = """
import sys, time
from pathlib import Path
from ssense.files.storage import write_folder

def write(folder):
    (folder / "half").write_text("half")
    print("writes", flush=True)
    time.sleep(600)

write_folder(Path(sys.argv[1]), "recording", write, lambda: False)
"""


def test_the_scratch_folder_of_a_killed_writer_is_removed_and_that_of_another_is_not(
    tmp_path, monkeypatch
):
    root = tmp_path / "my [data]"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITES_FOR_EVER, root], stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    for writer in writers:
        assert writer.stdout.readline() == b"writes\n"
    assert len(names(tmp_path)) == 2
    killed, alive = writers
    killed.kill()
    killed.wait()
    monkeypatch.setattr("ssense.files.storage._UNLOCKED_S", 0)

    def write(folder: Path) -> None:
        (folder / "file").touch()

    write_folder(root, "recording", write, lambda: (root / "file").exists())
    assert alive.poll() is None
    alive.kill()
    alive.wait()
    left = set(names(tmp_path)) - {"my [data]"}
    assert len(left) == 1
    assert names(root) == ["file"]
    write_folder(tmp_path / "other", "recording", write, lambda: False)
    shutil.rmtree(root)
    write_folder(root, "recording", write, lambda: (root / "file").exists())
    assert names(tmp_path) == ["my [data]", "other"]
    for writer in writers:
        writer.stdout.close()


def test_a_scratch_folder_of_another_machine_is_removed_after_a_day_alone(tmp_path):
    """Whether a lock is held there may not be seen here."""
    root = tmp_path / "data"
    others = [tmp_path / f".data.unfinished-elsewhere-{name}" for name in ("young", "old")]
    ages_s = (3600, 2 * 86_400)
    for other, age_s in zip(others, ages_s, strict=True):
        (other / "data").mkdir(parents=True)
        os.utime(other, (time.time() - age_s,) * 2)
    write_folder(root, "recording", lambda folder: (folder / "file").touch(), lambda: False)
    assert names(tmp_path) == [others[0].name, "data"]


WORKS_FOR_EVER = """
import time
from ssense.files.storage import scratch_folder

with scratch_folder() as folder:
    (folder / "half").write_text("half")
    print("works", flush=True)
    time.sleep(600)
"""


def test_a_temporary_folder_goes_in_the_end_by_sigterm_and_after_a_kill(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("ssense.files.storage._UNLOCKED_S", 0)
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKS_FOR_EVER], stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    for worker in workers:
        assert worker.stdout.readline() == b"works\n"
    ended, killed, alive = workers
    assert len(names(tmp_path)) == 3
    ended.terminate()
    ended.wait()
    assert len(names(tmp_path)) == 2
    killed.kill()
    killed.wait()
    (tmp_path / "ssense-scratch-link").symlink_to(tmp_path)  # what another user may put there
    with scratch_folder(tmp_path) as folder:
        assert names(folder) == []
        assert len(names(tmp_path)) == 3  # this one, the link, and that of who is alive
        (folder / "file").touch()
    assert len(names(tmp_path)) == 2
    assert alive.poll() is None
    alive.kill()
    alive.wait()
    for worker in workers:
        worker.stdout.close()


def test_partial_files_of_killed_writers_go_with_the_next_write_and_the_next_opening(tmp_path):
    store = open_storage(str(tmp_path))
    old, new = (tmp_path / f".mlflow.db.{digit * 32}" for digit in "ab")
    for path in (old, new, tmp_path / "kept"):
        path.write_text("part")
    os.utime(old, (0, 0))
    open_storage(str(tmp_path))
    assert names(tmp_path) == [new.name, "kept"]
    os.utime(new, (0, 0))
    write_whole(store / "file", "text")
    assert names(tmp_path) == ["file", "kept"]


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
    with pytest.raises(UserError, match=r"record can't be read|cells/b can't be read"):
        list(read_many([*paths, storage / "cells" / "c" / "record"]))


def test_names_in_a_folder(storage):
    for name in ("b", "a", "c/d/e"):
        write_whole(storage / "folder" / name, name)
    assert names_in(storage / "folder") == ["a", "b", "c"]
    assert names_in(storage / "nowhere") == []
    assert exists(storage / "folder")
    assert exists(storage / "folder" / "c" / "d" / "e")
    assert not exists(storage / "folder" / "e")
    with reading(storage / "folder" / "c" / "d" / "e") as file:
        file.seek(2)
        assert file.read() == b"d/e"
    with pytest.raises(FileNotFoundError), reading(storage / "folder" / "e"):
        pass


def test_the_mark_of_a_file_follows_its_content(s3):  # noqa: ARG001
    folder = locate("s3://lab/marks")
    marks = []
    for content in ("one", "two", "one"):
        write_whole(folder / "cell" / "record", content)
        marks.append(subfolders_with(folder, "record")["cell"])
    assert marks[0] == marks[2] != marks[1]


# ---------------------------------------------------------------- S3 itself

WITHOUT_CONDITIONS = """
import sys
import moto.server as server

REFUSED = "<Error><Code>NotImplemented</Code><Message>A header is not implemented</Message></Error>"

def without_conditions(app, kind):
    def answer(environ, start_response):
        if environ.pop("HTTP_IF_NONE_MATCH", None) and kind == "refused":
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response("501 Not Implemented", [("Content-Type", "application/xml")])
            return [REFUSED.encode()]
        return app(environ, start_response)
    return answer

run = server.run_simple
server.run_simple = lambda host, port, app, **more: run(
    host, port, without_conditions(app, sys.argv[1]), **more
)
server.main(["-H", "127.0.0.1", "-p", "0"])
"""


@pytest.mark.parametrize(
    ("kind", "does"),
    [
        ("ignored", "ignores conditional writes. Without them"),
        ("refused", "refuses conditional writes (A header is not implemented). Without them"),
    ],
)
def test_a_store_without_conditional_writes_is_named(
    kind, does, object_store, tmp_path, monkeypatch
):
    import boto3

    with object_store(tmp_path / "log", WITHOUT_CONDITIONS, kind) as store:
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        UPath("s3://lab").fs.clear_instance_cache()
        boto3.client("s3").create_bucket(Bucket="lab")
        with pytest.raises(UserError) as error:
            open_storage("s3://lab/ssense")
        listed = boto3.client("s3").list_objects_v2(Bucket="lab")
    UPath("s3://lab").fs.clear_instance_cache()
    message = str(error.value)
    assert message.startswith(f"the object store of s3://lab/ssense {does}")
    assert "If-None-Match" in message
    assert len(message) < 300
    assert listed["KeyCount"] == 0


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
        "Check `storage`."
    )
    assert not [request for request in s3.requests() if request in ("PUT /lba", "PUT /lba/")]


def test_a_store_that_is_away_is_one_line(s3, monkeypatch):  # noqa: ARG001
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    UPath("s3://lab").fs.clear_instance_cache()
    with pytest.raises(UserError, match=r"can't be written to \(.*127\.0\.0\.1:9.*Check `storage`"):
        open_storage("s3://lab/away")
    UPath("s3://lab").fs.clear_instance_cache()


STEPS: dict[str, Callable[[UPath], object]] = {
    "exists": exists,
    "names_in": names_in,
    "subfolders_with": lambda path: subfolders_with(path, "record.json"),
    "read_whole": read_whole,
    "read_many": lambda path: list(read_many([path, path])),
    "reading": lambda path: reading(path).__enter__(),
    "local_copy": local_copy,
}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_a_store_that_is_away_or_nobody_may_read_is_one_line(s3, step, monkeypatch):  # noqa: ARG001
    path = locate("s3://lab/away/file")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    path.fs.clear_instance_cache()
    with pytest.raises(UserError, match=r"can't be read \(.*127\.0\.0\.1:9.*Check the storage"):
        step(locate("s3://lab/away/file"))
    without_credentials(monkeypatch)
    with pytest.raises(UserError, match=r"can't be read \(.*credentials\)\. Check the storage"):
        step(locate("s3://lab/away/file"))
    path.fs.clear_instance_cache()


def without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    UPath("s3://lab").fs.clear_instance_cache()


# ---------------------------------------------------------------- other stores, lost answers


class Relay(BaseHTTPRequestHandler):
    """Passes requests on to a store, and lets conditional ones meet what stands in `faults`."""

    protocol_version = "HTTP/1.1"
    store = 0  # its port
    faults: deque[str]
    conditional = 0

    def relay(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = ""
        if "If-None-Match" in self.headers:
            type(self).conditional += 1
            fault = self.faults.popleft() if self.faults else ""
        if fault.startswith("<"):
            return self.answer(409, fault.encode())
        status, content = self.passed_on(body)
        if fault == "lost":
            self.close_connection = True
            return self.connection.close()
        if fault == "terse":  # names no condition, as stores other than Amazon's do
            content = content.replace(b"<Condition>If-None-Match</Condition>", b"")
        return self.answer(status, content)

    def passed_on(self, body: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.store)
        headers = {k: v for k, v in self.headers.items() if k != "Expect"}
        connection.request(self.command, self.path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()

    def answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = relay  # noqa: N815 - names of the library's

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def relay(s3, monkeypatch) -> Iterator[type[Relay]]:
    """A store that is reached through a relay; conditional puts meet its `faults`, in order."""
    handler = type("Handler", (Relay,), {"store": s3.port, "faults": deque(), "conditional": 0})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    UPath("s3://lab").fs.clear_instance_cache()
    yield handler
    UPath("s3://lab").fs.clear_instance_cache()
    server.shutdown()
    thread.join()
    server.server_close()


CONFLICT = "<Error><Code>ConditionalRequestConflict</Code><Message>Busy.</Message></Error>"
REFUSAL = "<Error><Code>InvalidRequest</Code><Message>Not here.</Message></Error>"


@pytest.mark.parametrize("fault", ["", "terse", CONFLICT], ids=["412", "terse 412", "409"])
def test_a_file_that_another_writer_made_is_there_in_any_stores_words(relay, fault, tmp_path):
    path = locate(f"s3://lab/{tmp_path.name}/claim")
    write_whole(path, "theirs")
    relay.faults.append(fault)
    with pytest.raises(FileExistsError):
        create(path, b"ours")
    assert not relay.faults
    assert read_whole(path) == b"theirs"


def test_a_conflict_with_a_writer_that_fails_leaves_the_next_to_try_again(relay, tmp_path):
    path = locate(f"s3://lab/{tmp_path.name}/claim")
    relay.faults.append(CONFLICT)
    with pytest.raises(FileExistsError):
        create(path, b"ours")
    create(path, b"ours")
    assert read_whole(path) == b"ours"


def test_a_put_that_is_repeated_since_its_answer_was_lost_knows_its_own_file(relay, tmp_path):
    path = locate(f"s3://lab/{tmp_path.name}/claim")
    relay.faults.append("lost")
    create(path, b"ours")
    assert relay.conditional == 2
    assert read_whole(path) == b"ours"


def test_numbered_files_take_one_number_though_an_answer_was_lost(relay, tmp_path):
    folder = locate(f"s3://lab/{tmp_path.name}")
    relay.faults.append("lost")
    write_next(folder, "look-{:04d}.json", 1, "a look")
    assert names_in(folder) == ["look-0001.json"]


def test_other_refusals_are_not_taken_for_another_writer(relay, tmp_path):
    relay.faults.append(REFUSAL)
    with pytest.raises(OSError, match="Not here") as error:
        create(locate(f"s3://lab/{tmp_path.name}/claim"), b"ours")
    assert not isinstance(error.value, FileExistsError)


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


def test_what_changed_within_a_second_to_the_same_size_is_fetched_again(remote):
    local_copy(remote)
    for content in (b"abcd", b"efgh", b"ijkl"):
        write_whole(remote / "signals.h5", content)
        assert (local_copy(remote) / "signals.h5").read_bytes() == content


def test_what_was_damaged_here_is_fetched_again(remote):
    (local_copy(remote) / "signals.h5").write_bytes(b"1")
    assert (local_copy(remote) / "signals.h5").read_bytes() == b"1234"


def test_a_folder_whose_name_is_too_long_for_a_disk_is_fetched(remote):
    folder = remote / "/".join(["long" * 50] * 3)
    write_whole(folder / "file", "text")
    assert (local_copy(folder) / "file").read_text() == "text"
    write_whole(folder.parent / "other" / "file", "other")
    assert (local_copy(folder.parent / "other") / "file").read_text() == "other"


def test_a_cache_that_cannot_be_written_is_one_line(remote, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError) as error:
        local_copy(remote)
    assert str(error.value).startswith(f"{tmp_path}/file/ssense/copies/")
    assert "can't be written ([Errno 20] Not a directory" in str(error.value)
    assert str(error.value).endswith("set XDG_CACHE_HOME to a folder that can be written.")


def test_a_cache_without_a_home_is_one_line(remote, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    with pytest.raises(UserError, match=r"no home folder for a cache .* Set XDG_CACHE_HOME to a"):
        local_copy(remote)


@pytest.mark.parametrize("full_at", [1, 20, 300])
def test_of_files_that_belong_together_a_full_disk_takes_all_or_none(tmp_path, full_at, small_disk):
    folder = UPath(tmp_path) / "tables"
    sizes = {"report.html": 5, "scores.csv": 10, "table.csv": 100, "figure.png": 1000}
    write_together(folder, {name: size * b"1" for name, size in sizes.items() if size < 1000})
    before = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    too_large = next(name for name, size in sizes.items() if size > full_at)
    with small_disk(full_at), pytest.raises(UserError) as error:
        write_together(folder, {name: size * b"2" for name, size in sizes.items()})
    assert str(error.value).startswith(f"{folder / too_large} can't be written ([Errno 27]")
    assert {path.name: path.read_bytes() for path in Path(folder).iterdir()} == before
    write_together(folder, {name: size * b"2" for name, size in sizes.items()})
    assert {path.name: len(path.read_bytes()) for path in Path(folder).iterdir()} == sizes


def test_nothing_can_be_seen_of_files_before_it_is_announced(storage):
    seen = []
    folder, contents = storage / "tables", {"report.html": "1", "scores.csv": "2"}
    write_together(folder, contents, before_any=lambda: seen.append(names_in(folder)))
    shown = [name for name in seen[0] if not name.startswith(".")]
    assert (len(seen), shown) == (1, [])
    assert names(folder) == sorted(contents)


def test_files_that_no_disk_has_room_for_are_not_announced(tmp_path, small_disk):
    announced = []
    with small_disk(3), pytest.raises(UserError):
        write_together(UPath(tmp_path), {"a": "12345"}, before_any=lambda: announced.append(1))
    assert not announced


def test_a_file_that_cannot_be_removed_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    remove(UPath(tmp_path) / "missing")
    with pytest.raises(UserError, match=r"file/inside can't be removed \(.*Check the storage\.$"):
        remove(UPath(tmp_path) / "file" / "inside")


def test_the_size_of_a_file_is_that_of_its_content(storage):
    write_whole(storage / "file", b"12345")
    assert file_size(storage / "file") == 5
    with pytest.raises(UserError, match=r"missing can't be read"):
        file_size(storage / "missing")


def test_a_disk_without_room_for_a_copy_is_one_line(remote, small_disk):
    with small_disk(3), pytest.raises(UserError) as error:  # the signals have four bytes
        local_copy(remote)
    assert "can't be written ([Errno 27] File too large). Free space, or" in str(error.value)
    assert (local_copy(remote) / "signals.h5").read_bytes() == b"1234"


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
        UserError, match=r"no storage at .*typo\. Check `storage`, or run a sweep first"
    ):
        open_storage(str(tmp_path / "typo"), must_exist=True)
    assert not (tmp_path / "typo").exists()


def test_only_abandoned_partial_files_are_removed(tmp_path):
    """As left by processes that were killed while they wrote."""
    for name in ("shard", ".hidden", ".a.0123"):
        (tmp_path / name).write_text("kept")
    partial = [f".shard.{letter * 32}" for letter in "ab"]
    partial += [f"{partial[1]}-{own}" for own in ("journal", "wal", "shm")]  # SQLite's own
    for name, age_s in zip(partial, (0, 120, 120, 120, 120), strict=True):
        (tmp_path / name).write_text("half")
        os.utime(tmp_path / name, (time.time() - age_s,) * 2)
    remove_partial_files(UPath(tmp_path))
    assert names(UPath(tmp_path)) == sorted(["shard", ".hidden", ".a.0123", partial[0]])
    remove_partial_files(UPath(tmp_path / "nowhere"))
    remove_partial_files(UPath("memory://nowhere"))


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "record.json")
    with pytest.raises(UserError, match=r"record\.json is no regular file\. Remove it"):
        read_whole(UPath(tmp_path / "record.json"))
