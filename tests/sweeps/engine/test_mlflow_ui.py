from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import make_url

from ssense.errors import UserError
from sweeps.engine.mlflow_ui import view_uri

REPOSITORY = Path(__file__).parents[3]


def test_a_misspelt_storage_is_refused_and_not_made(tmp_path):
    with pytest.raises(UserError, match=r"no storage at .*/typo\. Check --storage"):
        view_uri(str(tmp_path / "typo"))
    assert not (tmp_path / "typo").exists()


def test_a_folder_without_a_view_is_refused_and_nothing_is_made_in_it(tmp_path):
    folder = tmp_path / "my results #1"
    folder.mkdir()
    with pytest.raises(UserError) as error:
        view_uri(str(folder))
    assert str(error.value).startswith(f"{folder} has no MLflow database. Check --storage, or make")
    assert str(error.value).endswith(f"-m sweeps.engine.tracking --storage '{folder}'")
    assert list(folder.iterdir()) == []


def test_where_a_server_has_the_pages_its_address_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"MLFLOW_TRACKING_URI is http://127\.0\.0\.1:9: that serv"):
        view_uri(str(tmp_path))


def test_the_pages_are_served_on_loopback_from_the_view_of_the_storage(tmp_path):
    """MLflow itself, which takes half a minute to start, is stood for by what says its command."""
    folder = tmp_path / "my results #1"
    folder.mkdir()
    (folder / "mlflow.db").touch()
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow" / "__init__.py").touch()
    (tmp_path / "mlflow" / "__main__.py").write_text("import sys; print(*sys.argv[1:], sep='|')")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{REPOSITORY}"}
    command = ["-m", "sweeps.engine.mlflow_ui", "--storage", str(folder), "--port", "5001"]
    done = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, timeout=100
    )
    assert (done.returncode, done.stderr) == (0, "")
    served = done.stdout.strip().split("|")
    assert served[:6] == ["ui", "--host", "127.0.0.1", "--port", "5001", "--backend-store-uri"]
    assert make_url(served[6]).database == str(folder / "mlflow.db")
