from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
from sqlalchemy import make_url
from upath import UPath

from ssense.engine.view.mlflow_database import _schema, _wanted_schema, browse_command
from ssense.engine.view.mlflow_ui import view_uri
from ssense.errors import UserError

REPOSITORY = Path(__file__).parents[3]


def test_a_misspelt_storage_is_refused_and_not_made(tmp_path):
    with pytest.raises(UserError, match=r"no storage at .*/typo\. Check `storage`"):
        view_uri(str(tmp_path / "typo"))
    assert not (tmp_path / "typo").exists()


def test_a_folder_without_a_view_is_refused_and_nothing_is_made_in_it(tmp_path):
    folder = tmp_path / "my results #1"
    folder.mkdir()
    with pytest.raises(UserError) as error:
        view_uri(str(folder))
    assert str(error.value).startswith(f"{folder} has no MLflow database. Check --storage, or make")
    assert str(error.value).endswith(f"-m ssense.engine.view.tracking --storage '{folder}'")
    assert list(folder.iterdir()) == []


def test_where_a_server_has_the_pages_its_address_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"MLFLOW_TRACKING_URI is http://127\.0\.0\.1:9: that serv"):
        view_uri(str(tmp_path))


def test_a_password_is_not_said(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:se/cr@et@h:5000/x")
    with pytest.raises(
        UserError, match=r"is https://me:\*\*\*@h:5000/x: that server has the pages"
    ):
        view_uri(str(tmp_path))
    assert browse_command(UPath(tmp_path)) == "https://me:***@h:5000/x"


def test_any_database_is_shown_by_mlflow_itself(tmp_path, monkeypatch):
    uri = "postgresql://u:secret@h/db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert view_uri(str(tmp_path)) == uri
    assert browse_command(UPath(tmp_path)).endswith('--backend-store-uri "$MLFLOW_TRACKING_URI"')


def test_a_database_of_another_mlflow_is_brought_up_to_date_or_its_owner_is_told(
    tmp_path, monkeypatch, older_database
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{older_database}")
    with pytest.raises(UserError, match=r"was made by another MLflow .* mlflow db upgrade"):
        view_uri(str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    shutil.copy(older_database, tmp_path / "mlflow.db")
    view_uri(str(tmp_path))
    assert _schema(tmp_path / "mlflow.db") == _wanted_schema() != _schema(older_database)


def test_the_pages_are_served_on_loopback_from_the_view_of_the_storage(tmp_path):
    """MLflow itself, which takes half a minute to start, is stood for by what says its command."""
    folder = tmp_path / "my results #1"
    folder.mkdir()
    with closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        database.execute("create table alembic_version (version_num text)")
        database.execute("insert into alembic_version values (?)", (_wanted_schema(),))
    (tmp_path / "mlflow").mkdir()
    own = Path(mlflow.__file__)
    (tmp_path / "mlflow" / "__init__.py").write_text(
        f"__path__.append({str(own.parent)!r})\n{own.read_text()}"
    )
    (tmp_path / "mlflow" / "__main__.py").write_text("import sys; print(*sys.argv[1:], sep='|')")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{REPOSITORY}"}
    command = ["-m", "ssense.engine.view.mlflow_ui", "--storage", str(folder), "--port", "5001"]
    done = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, timeout=100
    )
    assert (done.returncode, done.stderr) == (0, "")
    served = done.stdout.strip().split("|")
    assert served[:6] == ["ui", "--host", "127.0.0.1", "--port", "5001", "--backend-store-uri"]
    assert make_url(served[6]).database == str(folder / "mlflow.db")
