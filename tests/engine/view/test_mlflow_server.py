from __future__ import annotations

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from upath import UPath

from ssense.engine.view.mlflow_server import Store, main
from ssense.engine.view.view_options import ServerOptions
from ssense.errors import UserError
from ssense.files.digest import digest
from ssense.files.storage import locate


def write(home: Path, value: int) -> None:
    with closing(sqlite3.connect(home / "mlflow.db")) as database, database:
        database.execute("create table if not exists runs (value integer)")
        database.execute("insert into runs values (?)", (value,))


def values(home: Path) -> list[int]:
    with closing(sqlite3.connect(home / "mlflow.db")) as database:
        return [value for (value,) in database.execute("select value from runs")]


@pytest.fixture(params=["s3", "local"])
def copies(request, tmp_path) -> UPath:
    if request.param == "local":
        return UPath(tmp_path / "storage" / "mlflow")
    request.getfixturevalue("s3")
    return locate(f"s3://lab/{tmp_path.name}/mlflow")


def store(tmp_path: Path, name: str, copies: UPath) -> Store:
    (tmp_path / name).mkdir()
    return Store(tmp_path / name, copies)


def test_a_store_comes_back_on_another_disk(tmp_path, copies):
    first = store(tmp_path, "first", copies)
    assert not first.restore()
    write(first.home, 1)
    (first.artifacts / "1" / "run").mkdir(parents=True)
    (first.artifacts / "1" / "run" / "table.md").write_text("| a |")
    assert first.back_up() == 2

    second = store(tmp_path, "second", copies)
    assert second.restore()
    assert values(second.home) == [1]
    assert (second.artifacts / "1" / "run" / "table.md").read_text() == "| a |"
    write(second.home, 2)
    assert not second.restore()  # what is here is newer
    assert values(second.home) == [1, 2]


def test_a_machine_that_served_before_another_takes_up_what_that_one_left(tmp_path, copies, capsys):
    first = store(tmp_path, "first", copies)
    write(first.home, 1)
    first.back_up()
    write(first.home, 10)  # lost with the machine's power, before it was copied

    second = store(tmp_path, "second", copies)
    second.restore()
    write(second.home, 2)
    second.back_up()

    again = Store(first.home, copies)
    assert again.restore()
    assert values(first.home) == [1, 2]
    assert str(first.home / "mlflow.1.db") in capsys.readouterr().out
    (first.home / "mlflow.1.db").replace(tmp_path / "mlflow.db")
    assert values(tmp_path) == [1, 10]
    assert not Store(first.home, copies).restore()
    write(first.home, 3)
    Store(first.home, copies).back_up()
    third = store(tmp_path, "third", copies)
    assert third.restore()
    assert values(third.home) == [1, 2, 3]


def test_an_older_store_that_is_damaged_is_one_line_that_says_so(tmp_path):
    copies = UPath(tmp_path / "storage" / "mlflow")
    first = store(tmp_path, "first", copies)
    write(first.home, 1)
    first.back_up()
    second = store(tmp_path, "second", copies)
    (second.home / "mlflow.db").write_bytes(b"no database" * 100)
    with pytest.raises(UserError, match=r"second/mlflow\.db is damaged \(.*\)\. Delete it"):
        second.restore()
    assert [path.name for path in second.home.iterdir()] == ["mlflow.db"]


def test_only_what_changed_is_copied(tmp_path, copies):
    first = store(tmp_path, "first", copies)
    first.artifacts.mkdir()
    write(first.home, 1)
    (first.artifacts / "a").write_text("1")
    assert [first.back_up(), first.back_up()] == [2, 0]
    (first.artifacts / "b").write_text("2")
    assert first.back_up() == 1
    write(first.home, 2)
    assert first.back_up() == 1
    second = store(tmp_path, "second", copies)
    second.restore()
    assert values(second.home) == [1, 2]


def test_a_copy_is_whole_though_the_database_is_being_written(tmp_path, copies):
    first = store(tmp_path, "first", copies)
    write(first.home, 1)
    with closing(sqlite3.connect(first.home / "mlflow.db")) as writer:
        writer.execute("insert into runs values (2)")  # and not committed
        first.back_up()
        writer.rollback()
    second = store(tmp_path, "second", copies)
    second.restore()
    assert values(second.home) == [1]


def test_a_damaged_store_is_one_line_that_names_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    location = str(tmp_path / "storage")
    home = tmp_path / "cache" / "ssense" / "mlflow-server" / digest(location)
    home.mkdir(parents=True)
    (home / "mlflow.db").write_bytes(b"no database" * 100)
    with pytest.raises(UserError, match=r"mlflow\.db is damaged \(.*\)\. Delete it:") as refused:
        main(ServerOptions(storage=location))
    assert str(refused.value).startswith(str(home / "mlflow.db"))
    assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_the_server_listens_on_loopback_and_leaves_a_copy(tmp_path, s3):  # noqa: ARG001
    from mlflow import MlflowClient

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    storage = f"s3://lab/{tmp_path.name}"
    command = [sys.executable, "-m", "ssense.engine.view.mlflow_server"]
    server = subprocess.Popen(
        [*command, "--storage", storage, "--port", str(port)],
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")},
    )
    try:
        deadline = time.monotonic() + 180
        while not answers(f"http://127.0.0.1:{port}/health"):
            assert time.monotonic() < deadline
            assert server.poll() is None
            time.sleep(0.2)
        run = MlflowClient(f"http://127.0.0.1:{port}").create_run("0")
        MlflowClient(f"http://127.0.0.1:{port}").log_text(run.info.run_id, "hello", "a.txt")
        commands = [p.cmdline() for p in psutil.Process(server.pid).children(recursive=True)]
        assert commands
        assert not [c for c in commands if re.search("job|huey|periodic", " ".join(c))]
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
    finally:
        server.kill()
        server.wait()
    assert not answers(f"http://127.0.0.1:{port}/health")
    again = store(tmp_path, "again", locate(storage) / "mlflow")
    assert again.restore()
    with closing(sqlite3.connect(again.home / "mlflow.db")) as database:
        assert database.execute("select run_uuid from runs").fetchall() == [(run.info.run_id,)]
    assert [path.read_text() for path in again.artifacts.rglob("a.txt")] == ["hello"]


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False
