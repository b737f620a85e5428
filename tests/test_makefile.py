"""The Makefile with an installed environment of its own, whose Python says how it was called."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
NAMES = [
    "my data",
    "results #1",
    "50%",
    "pilot?",
    "it's",
    '"quoted"',
    "$HOME",
    "a;b&c",
    "-dash",
    "é",
]
PYTHON = '#!/bin/sh\nprintf "%s|" "$SSENSE_STORAGE" "$@" >> calls\necho >> calls\n'


@pytest.fixture
def checkout(tmp_path) -> Path:
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copyfile(REPOSITORY / name, tmp_path / name)
    binaries = tmp_path / ".venv" / "bin"
    binaries.mkdir(parents=True)
    for name in ("uv", "python"):
        (binaries / name).write_text(PYTHON)
        (binaries / name).chmod(0o755)
    (tmp_path / ".venv" / "installed").touch()
    return tmp_path


def make(checkout: Path, *arguments: str, **environment: str) -> list[list[str]]:
    subprocess.run(
        ["make", *arguments],
        cwd=checkout,
        env=os.environ | environment,
        capture_output=True,
        check=True,
    )
    return [line.split("|")[:-1] for line in (checkout / "calls").read_text().splitlines()]


@pytest.mark.parametrize("name", NAMES)
def test_the_storage_may_have_any_name(checkout, name):
    assert make(checkout, "sweep", f"STORAGE={name}") == [
        [name, "sweeps/masking.py", "--yes", "--evaluate"]
    ]
    assert make(checkout, "ui", f"STORAGE={name}")[1:] == [
        [name, "-m", "ssense.engine.view.mlflow_ui"]
    ]


def test_the_documentation_is_built_strictly(checkout):
    (checkout / "docs").mkdir()  # the target is built though a folder has its name
    assert make(checkout, "docs")[-1][1:] == ["-m", "mkdocs", "build", "--strict"]


def test_the_storage_is_storage_or_that_of_the_environment(checkout):
    assert make(checkout, "ui")[-1][0] == "storage"
    assert make(checkout, "ui", STORAGE="my data")[-1][0] == "my data"


@pytest.mark.parametrize("target", ["sweep", "ui"])
def test_an_empty_storage_is_refused(checkout, target):
    done = subprocess.run(
        ["make", target, "STORAGE="], cwd=checkout, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith(
        f"error: STORAGE is empty. Example: make {target} STORAGE=storage\n"
    )
    assert not (checkout / "calls").exists()
