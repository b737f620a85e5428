from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ssense.data.splits import seeded_split
from ssense.engine.core.record import Record
from ssense.engine.records.provenance import CodeVersion, check_versions, code_versions, provenance
from ssense.errors import UserError
from ssense.files.source_code import code_digest

REPOSITORY = Path(__file__).parents[3]
CPU = torch.device("cpu")
NOW, OLD, OLDER = "7d5e001122334455", "3f2a1c9e00000000", "0badc0de00000000"

ASK = """
import json, torch
from ssense.data.splits import seeded_split
from ssense.engine.records.provenance import provenance
print(json.dumps(provenance(torch.device("cpu"), seeded_split(50, 0))))
"""


def asked_of(folder: Path) -> dict[str, object]:
    """The provenance of a cell that a process trains with the code in `folder`."""
    environment = os.environ | {"PYTHONPATH": str(folder)}
    answer = subprocess.run(
        [sys.executable, "-c", ASK], cwd=folder, env=environment, check=True, capture_output=True
    )
    return json.loads(answer.stdout)


def installed(folder: Path) -> Path:
    """Copy the packages as a wheel would: no git, no lock file, nothing but the modules."""
    for package in ("ssense", "sweeps"):
        shutil.copytree(
            REPOSITORY / package, folder / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    return folder


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "core.autocrlf=false")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_same_code_has_the_same_digest_wherever_it_lies(tmp_path):
    # Installed below a repository of something else, which knows nothing of it.
    git(tmp_path, "init", "--quiet")
    (tmp_path / "notes").write_text("mine")
    git(tmp_path, "add", "notes")
    git(tmp_path, "commit", "--quiet", "--message", "mine")
    site = installed(tmp_path / "site-packages")
    (site / "ssense" / ".#training.py").symlink_to("nowhere")  # an editor's, of a file in work
    found = asked_of(site)
    assert found["code_digest"] == code_digest()
    assert not found.keys() & {"commit", "dirty", "requirements_digest"}


def test_a_clone_names_its_commit_and_its_lock_and_whether_tracked_files_changed(tmp_path):
    clone = installed(tmp_path)
    (clone / "requirements.lock").write_text("torch==2.15.0\n")
    git(clone, "init", "--quiet")
    git(clone, "add", ".")
    git(clone, "commit", "--quiet", "--message", "first")
    git(clone, "tag", "--annotate", "v1", "--message", "a tag is no commit")
    (clone / "untracked").write_text("anything")
    found = asked_of(clone)
    assert (found["commit"], found["dirty"]) == (git(clone, "rev-parse", "HEAD"), False)

    (clone / "requirements.lock").write_bytes(b"torch==2.15.0\r\n")
    (clone / "ssense" / "model" / "masking.py").write_bytes(
        b"# a comment\r\n" + (clone / "ssense" / "model" / "masking.py").read_bytes()
    )
    again = asked_of(clone)
    assert again == found | {"dirty": True}
    (clone / "ssense" / "model" / "new.py").write_text("RATIO = 0.5\n")
    assert asked_of(clone)["code_digest"] != found["code_digest"]


def test_without_git_nothing_is_said_of_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    found = asked_of(REPOSITORY)
    assert found["code_digest"] == code_digest()
    assert not found.keys() & {"commit", "dirty"}


# ---------------------------------------------------------------- what made a cell


def test_provenance_is_plain_and_fills_a_record():
    made = provenance(CPU, seeded_split(50, 0))
    assert json.loads(json.dumps(made)) == made
    assert made["device"] == "CPU"
    assert made["threads"] == torch.get_num_threads()
    assert made["instructions"] == torch.backends.cpu.get_cpu_capability()
    assert made["versions"]["python"] == sys.version.split()[0]
    assert made["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert made.keys() <= {field.name for field in dataclasses.fields(Record)}


def test_a_split_is_named_by_its_rows():
    split = seeded_split(50, 0)
    names = {
        provenance(CPU, one)["split_digest"]
        for one in (
            split,
            seeded_split(50, 1),
            seeded_split(51, 0),
            dataclasses.replace(split, train=split.train[::-1]),
            dataclasses.replace(split, train=split.test, test=split.train),
        )
    }
    assert len(names) == 5
    assert provenance(CPU, split) == provenance(CPU, seeded_split(50, 0))


def test_asking_again_costs_a_cell_nothing():
    split = seeded_split(1454, 0)
    provenance(CPU, split)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        provenance(CPU, split)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.02


# ---------------------------------------------------------------- versions in a ledger


def cells(
    code: str, n: int, day: int, status: str = "done", **changes: object
) -> dict[str, Record]:
    records = [
        Record(
            signature=f"{code}-{day}-{number}",
            configuration={},
            seed=number,
            status=status,
            dataset_digest="d",
            code_digest=code,
            finished_at=f"2026-11-{day:02}T10:00:{number:02}+00:00",
            **changes,
        )
        for number in range(n)
    ]
    return {record.signature: record for record in records}


def test_cells_are_grouped_by_the_code_that_made_them_the_latest_first():
    records = {
        **cells(OLD, 12, day=20, commit="abcdef0123456789", dirty=False),
        **cells(OLDER, 2, day=1, commit="1111111222", dirty=True),
        **cells(OLDER, 1, day=3, commit="2222222333", dirty=True),
        **cells(NOW, 5, day=21, status="failed"),
        **cells("", 1, day=2),
    }
    found = code_versions(records.values())
    assert found == [
        CodeVersion(
            digest=OLD,
            commit="abcdef0123456789",
            dirty=False,
            cells=12,
            last="2026-11-20T10:00:11+00:00",
        ),
        CodeVersion(
            digest=OLDER,
            commit="2222222333",
            dirty=True,
            cells=3,
            last="2026-11-03T10:00:00+00:00",
        ),
        CodeVersion(digest="", commit="", dirty=False, cells=1, last="2026-11-02T10:00:00+00:00"),
    ]
    assert list(map(str, found)) == [
        "12 cells were made by another version of the code "
        "(3f2a1c9e, commit abcdef0, last 2026-11-20)",
        "3 cells were made by another version of the code "
        "(0badc0de, commit 2222222 with changes, last 2026-11-03)",
        "1 cell was made by another version of the code (unknown, last 2026-11-02)",
    ]


MIXED = {**cells(OLD, 3, day=20), **cells(OLDER, 2, day=10), **cells(NOW, 4, day=21)}
FAILED = {**MIXED, **cells("failed0123456789", 2, day=22, status="failed")}


def test_versions_are_never_mixed_silently():
    with pytest.raises(UserError) as error:
        check_versions(MIXED, NOW, [], [])
    assert str(error.value) == (
        "3 cells were made by another version of the code (3f2a1c9e, last 2026-11-20); "
        "2 cells were made by another version of the code (0badc0de, last 2026-11-10) "
        "than 7d5e0011, which runs now. Run the sweep with `keep_version` NAME to count its cells, "
        "or with `retrain_version` NAME to train them again."
    )
    with pytest.raises(UserError) as error:
        check_versions(MIXED, NOW, ["3f2a1c9e", "mistyped"], [])
    assert str(error.value).startswith("2 cells were made by another version of the code (0badc0de")


def test_one_version_asks_nothing():
    records = cells(NOW, 4, day=21)
    assert check_versions(records, NOW, [], []) == records
    assert check_versions({}, NOW, [], []) == {}


def test_cells_of_versions_that_are_kept_count_and_of_others_do_not():
    assert check_versions(MIXED, NOW, ["3f2a1c9e", "0badc0de"]) == MIXED
    some = check_versions(MIXED, NOW, keep=["3f2a1c9e"], retrain=["0badc0de"])
    assert some == {**cells(OLD, 3, day=20), **cells(NOW, 4, day=21)}
    assert check_versions(MIXED, NOW, retrain=["3f2a1c9e", "0badc0de"]) == cells(NOW, 4, day=21)


def test_cells_that_do_not_say_what_made_them_are_a_version_too():
    records = {**cells("", 2, day=1), **cells(NOW, 1, day=2)}
    with pytest.raises(UserError, match=r"2 cells were made by .* \(unknown, last 2026-11-01\)"):
        check_versions(records, NOW)
    assert check_versions(records, NOW, keep=["unknown"]) == records
    assert check_versions(records, NOW, retrain=["unknown"]) == cells(NOW, 1, day=2)


def test_failed_cells_of_another_version_ask_nothing_and_are_tried_again():
    assert check_versions(FAILED, NOW, ["3f2a1c9e", "0badc0de"], []) == MIXED
    mine = cells(NOW, 2, day=22, status="failed")
    assert check_versions({**mine}, NOW) == mine


def test_the_same_command_can_be_run_again_once_nothing_is_left_to_retrain():
    records = cells(NOW, 4, day=21)
    assert check_versions(records, NOW, ["3f2a1c9e"], ["0badc0de"]) == records


@pytest.mark.parametrize(
    ("keep", "retrain", "message"),
    [
        (["3f2a1c9e"], ["3f2a1c9e"], "3f2a1c9e is in `keep_version` and `retrain_version`."),
        ([], ["7d5e0011"], "`retrain_version` 7d5e0011 is the code that runs now. Leave it out."),
    ],
)
def test_a_contradiction_is_refused(keep, retrain, message):
    with pytest.raises(UserError) as error:
        check_versions(MIXED, NOW, keep, retrain)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
