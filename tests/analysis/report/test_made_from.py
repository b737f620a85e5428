from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from upath import UPath

from analysis.evaluate import main
from analysis.options import EvaluationOptions
from analysis.report import made_from
from analysis.report.made_from import FILE, REPORT, stands
from analysis.report.origin import CONTROLS
from ssense.engine.records.ledger import SWEEPS, Ledger
from ssense.engine.tasks.recording_options import RecordingOptions
from ssense.files.storage import names_in
from sweeps import run


@pytest.fixture(scope="module")
def evaluated(unseen_sweep, tmp_path_factory) -> Ledger:
    """A sweep that has just been evaluated."""
    storage = tmp_path_factory.mktemp("evaluated") / "storage"
    shutil.copytree(unseen_sweep, storage)
    (folder,) = (storage / SWEEPS).iterdir()
    ledger = Ledger(UPath(storage) / SWEEPS / folder.name)
    assert not stands(ledger)
    main(EvaluationOptions(storage=str(storage), allow_missing=True))
    return ledger


def looks(ledger: Ledger) -> int:
    return len(names_in(ledger.folder / "looks"))


def test_an_evaluation_that_would_find_the_same_is_no_further_look(evaluated, capsys):
    before = looks(evaluated)
    run.evaluate([evaluated.folder.name], RecordingOptions(storage=str(evaluated.storage)))
    shown = " ".join(capsys.readouterr().out.split())
    assert "Evaluated already, and nothing has changed since." in shown
    assert looks(evaluated) == before == 1


def test_it_stands_until_something_changes_that_it_was_made_from(evaluated, tmp_path, monkeypatch):
    assert stands(evaluated)
    # What a rerun of a full sweep writes.
    evaluated.describe(replace(evaluated.description(), updated_at="2001-01-01T00:00:00+00:00"))
    assert stands(evaluated)

    controls = Path(str(evaluated.folder / CONTROLS))
    controls.parent.mkdir()
    controls.write_text("control,seed\n")
    assert not stands(evaluated)
    controls.unlink()
    controls.parent.rmdir()
    assert stands(evaluated)

    kept = Path(str(evaluated.folder / "evaluation" / FILE))
    before = kept.read_bytes()
    kept.write_bytes(b"\xff")
    assert not stands(evaluated)
    kept.unlink()
    assert not stands(evaluated)
    kept.write_bytes(before)
    page = Path(str(evaluated.folder / REPORT))
    aside = page.rename(page.with_suffix(".aside"))
    assert not stands(evaluated)
    aside.rename(page)
    assert page.stat().st_mtime_ns <= kept.stat().st_mtime_ns  # what vouches for it comes last

    code = tmp_path / "analysis"
    shutil.copytree(made_from._CODE[0], code, ignore=shutil.ignore_patterns("*.pyc"))
    monkeypatch.setattr(made_from, "_CODE", [code, *made_from._CODE[1:]])
    assert stands(evaluated)
    with (code / "evaluate.py").open("a") as file:
        file.write("# a comment changes nothing\n")
    assert stands(evaluated)
    with (code / "evaluate.py").open("a") as file:
        file.write("CHANGED = True\n")
    assert not stands(evaluated)


def test_a_cell_that_was_trained_again_asks_for_another_evaluation(evaluated):
    record = next(iter(evaluated.records().values()))
    path = Path(str(evaluated.folder / "cells" / record.signature / "record.json"))
    assert path.is_file()
    aside = path.rename(path.with_suffix(".aside"))
    packed = [p for p in path.parents[1].iterdir() if p.is_file()]
    kept = {p: p.read_bytes() for p in packed}
    for each in packed:
        each.unlink()
    assert not stands(Ledger(evaluated.folder))
    aside.rename(path)
    for each, content in kept.items():
        each.write_bytes(content)
    assert stands(Ledger(evaluated.folder))
