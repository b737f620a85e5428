from __future__ import annotations

import pytest
from upath import UPath

import ssense
from ssense.engine.core.origin import RecordingOrigin
from ssense.engine.core.sweep import Family, Sweep
from ssense.engine.records.description import Description
from ssense.engine.records.ledger import SWEEPS, Ledger
from ssense.errors import UserError
from ssense.training.sentences import SentenceSpec

ORIGIN = RecordingOrigin(subject="sub_3", title="Up", shards="0123", recording="there")


def write(storage: UPath, question: str, at: str, rate: float = 1e-3) -> str:
    sweep = Sweep(
        question=question,
        dataset_digest="d",
        specification=SentenceSpec(),
        families=(Family(name="rate", levels={"training.learning_rate": (rate,)}),),
        configurations=1,
        seeds=(0, 1),
    )
    ledger = Ledger(storage / SWEEPS / sweep.name)
    ledger.describe(Description(sweep=sweep, origin=ORIGIN, updated_at=at))
    return sweep.name


@pytest.fixture
def names(tmp_path) -> list[str]:
    """Three sweeps, the latest last."""
    storage = UPath(tmp_path)
    third = write(storage, "alpha", "2026-01-04T00:00:00+00:00")
    first = write(storage, "omega", "2026-01-02T00:00:00+00:00")
    second = write(storage, "omega", "2026-01-03T00:00:00+00:00", rate=1e-4)
    return [first, second, third]


def test_sweeps_go_by_place_and_name_the_latest_last(tmp_path, names):
    storage = ssense.open(tmp_path)
    assert isinstance(storage, ssense.Storage)
    sweeps = storage.sweeps
    assert [each.name for each in sweeps] == names
    assert len(sweeps) == 3
    assert sweeps[-1].name == names[2]
    assert [each.name for each in sweeps[:2]] == names[:2]
    assert sweeps["alpha"].name == names[2]  # by its question
    assert sweeps[names[0]].name == names[0]
    assert sweeps["sub_3 up 2026-01-03"].name == names[1]  # by words
    assert (sweeps[0].question, sweeps[0].task) == ("omega", "sentences")


def test_what_is_shown_says_which_is_which(tmp_path, names):
    shown = repr(ssense.open(str(tmp_path)))
    assert shown.startswith(f"Storage({str(tmp_path)!r}): 3 sweeps\n")
    assert shown.splitlines()[-1] == (
        f"  2  {names[2]}: sub_3, Up (sentences); rate; 0 of 2 cells done, 2026-01-04 00:00"
    )


def test_a_sweep_that_is_not_there_is_refused(tmp_path, names):
    sweeps = ssense.open(tmp_path).sweeps
    with pytest.raises(UserError, match="omega matches 2 sweeps: "):
        _ = sweeps["omega"]
    with pytest.raises(UserError, match=f"no sweep beta in .*. Found: .*{names[0]}"):
        _ = sweeps["beta"]
    with pytest.raises(UserError, match=r"no sweep 3: .* has 3 sweeps"):
        _ = sweeps[3]
    with pytest.raises(UserError, match=r"sweeps go by place or name, not 1\.5"):
        _ = sweeps[1.5]


def test_what_is_no_storage_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no storage at .*nowhere"):
        ssense.open(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file, not a folder"):
        ssense.open(tmp_path / "file")
    with pytest.raises(UserError, match="no sweep in"):
        ssense.open(tmp_path)


def test_opening_writes_nothing(tmp_path, names):
    before = sorted(tmp_path.rglob("*"))
    stamps = [path.stat().st_mtime_ns for path in before]
    assert len(ssense.open(tmp_path).sweeps) == len(names)
    assert sorted(tmp_path.rglob("*")) == before
    assert [path.stat().st_mtime_ns for path in before] == stamps
