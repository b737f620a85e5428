from __future__ import annotations

from dataclasses import replace

import pytest
from upath import UPath

from analysis.measure.looks import count_looks, record_look, withdrawn_unless_written
from ssense.engine.core.origin import RecordingOrigin
from ssense.engine.core.sweep import Family, Sweep
from ssense.engine.records.description import Description
from ssense.engine.records.ledger import Ledger
from ssense.errors import UserError
from ssense.model.encoder import ResNetSpec
from ssense.specification import configured
from ssense.training.sentences import SentenceSpec

ORIGIN = RecordingOrigin(subject="sub_9", title="Ant-Man", shards="0123", recording="there")
NONE = {"none": {}}
BOTH = {"none": {}, "electrode": {"masking.electrode": 0.5}}


def written(storage: UPath, sweep: Sweep) -> Ledger:
    ledger = Ledger(storage / "sweeps" / sweep.name)
    ledger.describe(Description(sweep=sweep, origin=ORIGIN))
    return ledger


@pytest.fixture
def sweep() -> Sweep:
    return Sweep(
        question="masking",
        dataset_digest="dataset",
        specification=SentenceSpec(encoder=ResNetSpec(weights="random")),
        families=(Family(name="none", levels={}),),
        configurations=1,
        seeds=(0, 1),
    )


@pytest.fixture
def ledger(sweep, tmp_path) -> Ledger:
    return written(UPath(tmp_path), sweep)


def other(ledger: Ledger, sweep: Sweep, **changes: object) -> Ledger:
    changed = replace(sweep, specification=configured(sweep.specification, changes))
    return written(ledger.storage, changed)


def test_a_look_counts_for_its_seeds(ledger):
    assert record_look(ledger, (0, 1), NONE).startswith("chosen before this first look")
    again = record_look(ledger, (1, 2), NONE)
    assert again.endswith("the first look at these test splits, which were seen once before")
    assert "up to 2 times" in record_look(ledger, (1, 2), NONE)
    assert record_look(ledger, (7,), NONE).startswith("chosen before this first look")
    assert count_looks(ledger) == 4


def test_a_look_that_could_not_be_noted_is_none(ledger):
    (ledger.folder / "looks").symlink_to("nowhere")
    with pytest.raises(UserError, match=r"looks(/\w+\.json)? can't be written"):
        record_look(ledger, (0, 1), NONE)
    (ledger.folder / "looks").unlink()
    assert count_looks(ledger) == 0
    assert record_look(ledger, (0, 1), NONE).startswith("chosen before this first look")


def test_another_sweep_of_the_same_data_and_splits_has_looked_too(ledger, sweep):
    longer = other(ledger, sweep, **{"training.max_epochs": 7})
    assert longer.folder != ledger.folder
    record_look(ledger, (0, 1), NONE)
    assert "seen once before" in record_look(longer, (0, 1), NONE)
    assert count_looks(ledger) == count_looks(longer) == 2


def test_other_kinds_of_split_have_looks_of_their_own(ledger, sweep):
    blocked = other(ledger, sweep, split="blocked")
    record_look(ledger, (0, 1), NONE)
    assert "this first look" in record_look(blocked, (0, 1), NONE)
    assert "seen once before" in record_look(ledger, (0, 1), NONE, blocked.description().sweep)


def test_where_all_seeds_share_a_test_split_any_look_is_one_at_it(ledger, sweep):
    held_out = other(ledger, sweep, split="held-out")
    record_look(held_out, (0, 1), NONE)
    assert "seen once before" in record_look(held_out, (100, 101), NONE)


@pytest.mark.parametrize(
    ("first", "second"),
    [(NONE, BOTH), ({"none": {}, "electrode": {"masking.electrode": 0.25}}, BOTH)],
    ids=["a family that no look knew", "another configuration"],
)
def test_a_choice_that_no_earlier_look_was_made_with_may_know_it(ledger, first, second):
    record_look(ledger, (0, 1), first)
    assert record_look(ledger, (0, 1), second) == (
        "these test splits were seen once before it was made: the choice may know them"
    )


def test_a_look_with_more_families_knows_each_of_them(ledger):
    record_look(ledger, (0, 1), BOTH)
    assert record_look(ledger, (0, 1), NONE).startswith("chosen before the first look")


def test_a_look_whose_result_is_never_written_is_none(ledger):
    record_look(ledger, (0, 1), NONE)
    for interruption in (UserError("no room"), KeyboardInterrupt()):
        with pytest.raises(type(interruption)):
            look_and_raise(ledger, interruption)
        assert count_looks(ledger) == 1
    with withdrawn_unless_written():
        again = record_look(ledger, (0, 1), NONE)
    assert "seen once before" in again
    assert count_looks(ledger) == 2
    assert len(list((ledger.folder / "looks").iterdir())) == 2


def look_and_raise(ledger: Ledger, interruption: BaseException) -> None:
    with withdrawn_unless_written():
        record_look(ledger, (0, 1), NONE)
        record_look(ledger, (2,), NONE)
        assert count_looks(ledger) == 3
        raise interruption
