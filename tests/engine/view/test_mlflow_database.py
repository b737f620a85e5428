from __future__ import annotations

import errno
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ssense.engine.view.mlflow_database import (
    _schema,
    _wanted_schema,
    database_uri,
    prepare_database,
    shown_address,
)
from ssense.errors import UserError


def prepare(path: Path) -> None:
    prepare_database(database_uri(path), own=True)


@pytest.mark.parametrize("share", [0.5, 1])  # while it is copied; while its tables are changed
def test_a_full_disk_leaves_the_database_as_it_is(tmp_path, older_database, share, small_disk):
    path = tmp_path / "mlflow.db"
    shutil.copy(older_database, path)
    before = path.read_bytes()
    with (
        small_disk(int(share * len(before))),
        pytest.raises(UserError, match=r"can't be used \(.*\)\. Free space") as refused,
    ):
        prepare(path)
    assert "\n" not in str(refused.value)
    assert [*tmp_path.iterdir()] == [path]
    assert path.read_bytes() == before


def test_of_a_database_that_cannot_be_made_nothing_stays(tmp_path, small_disk):
    with small_disk(100_000), pytest.raises(UserError, match=r"mlflow\.db can't be used \("):
        prepare(tmp_path / "mlflow.db")
    assert [*tmp_path.iterdir()] == []


def test_one_of_a_later_mlflow_is_kept_under_a_free_name_also_without_hard_links(
    tmp_path, monkeypatch
):
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")  # as FAT does

    monkeypatch.setattr("os.link", refuse)
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("create table alembic_version (version_num text)")
        database.execute("insert into alembic_version values ('later')")
    (tmp_path / "mlflow-later.db").write_text("kept earlier")
    prepare(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        *("mlflow-later-2.db", "mlflow-later.db", "mlflow.db")
    ]
    assert (tmp_path / "mlflow-later.db").read_text() == "kept earlier"
    assert _schema(tmp_path / "mlflow-later-2.db") == "later"
    assert _schema(path) == _wanted_schema()


def test_a_locked_database_is_left_as_it_is(tmp_path, older_database):
    path = tmp_path / "mlflow.db"
    shutil.copy(older_database, path)
    with closing(sqlite3.connect(path)) as other:
        other.execute("begin immediate")
        with pytest.raises(UserError, match=r"can't be used \(database is locked\)\. Free space"):
            prepare(path)
    assert path.read_bytes() == older_database.read_bytes()
    assert [*tmp_path.iterdir()] == [path]


def test_a_database_that_is_open_elsewhere_is_brought_up_to_date_whole(tmp_path, older_database):
    path = tmp_path / "mlflow.db"
    shutil.copy(older_database, path)
    add = "insert into experiments (experiment_id, name, workspace) values (9, 'new', 'default')"
    with closing(sqlite3.connect(path)) as writer:
        writer.execute("pragma journal_mode = wal")
        with writer:
            writer.execute(add)  # which is not in the file itself yet
        prepare(path)
    assert _schema(path) == _wanted_schema()
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("select name from experiments where experiment_id = 9").fetchall()


@pytest.mark.parametrize("content", [b"no database" * 100, b"SQLite format 3\0" + b"\xff" * 900])
def test_a_damaged_database_is_named_and_stays(tmp_path, content):
    path = tmp_path / "mlflow.db"
    path.write_bytes(content)
    with pytest.raises(UserError) as refused:
        prepare(path)
    assert str(refused.value).startswith(f"{path} is damaged (")
    assert str(refused.value).endswith("). Delete it: it is made again.")
    assert path.read_bytes() == content
    with pytest.raises(UserError, match=r"is damaged \(.*\)\. Restore a copy of it\.$"):
        prepare_database(database_uri(path), own=False)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://u:secret@h/db", "postgresql://u:***@h/db"),
        ("http://u:a@b:c/d@h:5000", "http://u:***@h:5000"),
        (
            "postgresql://h/db?user=u&password=secret&x=1",
            "postgresql://h/db?user=u&password=***&x=1",
        ),
        ("http://h:5000/x", "http://h:5000/x"),
        ("sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db"),
        ("mlruns", "mlruns"),
    ],
)
def test_an_address_is_shown_without_its_password(uri, shown):
    assert shown_address(uri) == shown


@pytest.mark.parametrize("put", [lambda p: p.symlink_to(p.parent / "no" / "x.db"), Path.mkdir])
def test_what_is_no_file_in_the_place_of_a_database_is_refused_at_once(tmp_path, put):
    put(tmp_path / "mlflow.db")
    with pytest.raises(
        UserError,
        match=r"mlflow\.db is not a file, or is a broken link\. Delete "
        "it",
    ):
        prepare(tmp_path / "mlflow.db")
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]
