from __future__ import annotations

from dataclasses import replace

import pytest
from upath import UPath

from analysis.measure.looks import (
    Recorded,
    count_looks,
    read_looks,
    record_look,
    withdrawn_unless_shown,
)
from ssense.engine.core.origin import RecordingOrigin
from ssense.engine.core.sweep import Family, Sweep
from ssense.engine.records.description import Description
from ssense.engine.records.ledger import Ledger
from ssense.errors import UserError
from ssense.model.encoders.spectrogram_encoder import ResNetSpec
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


def look(ledger: Ledger, seeds: tuple[int, ...], choice: dict, sweep: Sweep | None = None) -> str:
    """Record a look; what the choice may know of its seeds' test splits."""
    return record_look(ledger, seeds, choice, sweep).standing(seeds)


def test_a_look_counts_for_its_seeds(ledger):
    assert look(ledger, (0, 1), NONE).startswith("chosen before this first look")
    again = look(ledger, (1, 2), NONE)
    assert again.endswith("the first look at these test splits, which were seen once before")
    assert "up to 2 times" in look(ledger, (1, 2), NONE)
    assert look(ledger, (7,), NONE).startswith("chosen before this first look")
    assert count_looks(ledger) == 4


def test_a_look_that_could_not_be_noted_is_none(ledger):
    (ledger.folder / "looks").symlink_to("nowhere")
    with pytest.raises(UserError, match=r"looks(/\w+\.json)? can't be written"):
        look(ledger, (0, 1), NONE)
    (ledger.folder / "looks").unlink()
    assert count_looks(ledger) == 0
    assert look(ledger, (0, 1), NONE).startswith("chosen before this first look")


def test_another_sweep_of_the_same_data_and_splits_has_looked_too(ledger, sweep):
    longer = other(ledger, sweep, **{"training.max_epochs": 7})
    assert longer.folder != ledger.folder
    look(ledger, (0, 1), NONE)
    assert "seen once before" in look(longer, (0, 1), NONE)
    assert count_looks(ledger) == count_looks(longer) == 2


def test_other_kinds_of_split_have_looks_of_their_own(ledger, sweep):
    blocked = other(ledger, sweep, split="blocked")
    look(ledger, (0, 1), NONE)
    assert "this first look" in look(blocked, (0, 1), NONE)
    assert "seen once before" in look(ledger, (0, 1), NONE, blocked.description().sweep)


def test_where_all_seeds_share_a_test_split_any_look_is_one_at_it(ledger, sweep):
    held_out = other(ledger, sweep, split="held-out")
    look(held_out, (0, 1), NONE)
    assert "seen once before" in look(held_out, (100, 101), NONE)


@pytest.mark.parametrize(
    ("first", "second"),
    [(NONE, BOTH), ({"none": {}, "electrode": {"masking.electrode": 0.25}}, BOTH)],
    ids=["a family that no look knew", "another configuration"],
)
def test_a_choice_that_no_earlier_look_was_made_with_may_know_it(ledger, first, second):
    look(ledger, (0, 1), first)
    assert look(ledger, (0, 1), second) == (
        "these test splits were seen once before it was made: the choice may know them"
    )


def test_a_look_with_more_families_knows_each_of_them(ledger):
    look(ledger, (0, 1), BOTH)
    assert look(ledger, (0, 1), NONE).startswith("chosen before the first look")


def look_and_end(ledger: Ledger, interruption: BaseException, *, shown: bool = False) -> None:
    """Look twice and end early, before or after something of it can be seen."""
    with withdrawn_unless_shown() as looks:
        looks.append(record_look(ledger, (0, 1), NONE))
        looks.append(record_look(ledger, (2,), NONE))
        if shown:
            looks.clear()
        raise interruption


def test_a_look_that_showed_nothing_is_none(ledger):
    look(ledger, (0, 1), NONE)
    for interruption in (UserError("no room"), KeyboardInterrupt()):
        with pytest.raises(type(interruption)):
            look_and_end(ledger, interruption)
        assert count_looks(ledger) == 1
    with withdrawn_unless_shown() as looks:
        looks.append(record_look(ledger, (0, 1), NONE))
        assert "seen once before" in looks[0].standing((0, 1))
    assert count_looks(ledger) == 2


def test_a_look_counts_from_when_it_can_be_seen(ledger):
    with pytest.raises(KeyboardInterrupt):
        look_and_end(ledger, KeyboardInterrupt(), shown=True)
    assert count_looks(ledger) == 2


def test_a_withdrawn_look_is_no_gap_to_those_that_saw_it(ledger):
    first = record_look(ledger, (0, 1), NONE)
    assert "seen once before" in look(ledger, (0, 1), NONE)  # by another run meanwhile
    first.withdraw()
    assert count_looks(ledger) == 1
    assert look(ledger, (0, 1), NONE).endswith(", which were seen once before")
    found = read_looks(first.path.parent)
    assert found.broken == {}
    assert len(found.digests) == 3


def test_a_withdrawn_look_that_is_changed_shows_and_counts(ledger):
    first = record_look(ledger, (0, 1), NONE)
    replace(first, content={**first.content, "seeds": [7]}).withdraw()
    assert count_looks(ledger) == 1
    assert "missing or changed" in look(ledger, (0, 1), NONE)


def test_a_storage_that_goes_away_keeps_the_first_error_and_the_other_looks(ledger, monkeypatch):
    mark = Recorded.withdraw

    def away(recorded: Recorded) -> None:
        if recorded.path.name == "look-0001.json":
            recorded.path.unlink()
            recorded.path.mkdir()  # nothing can take its place
        mark(recorded)

    monkeypatch.setattr(Recorded, "withdraw", away)
    with pytest.raises(UserError, match=r"^tests\.csv can't be written$"):
        look_and_end(ledger, UserError("tests.csv can't be written"))
    (folder,) = (ledger.storage / "looks").iterdir()
    (folder / "look-0001.json").rmdir()
    assert count_looks(ledger) == 1  # the first, whose mark is missing; the second is withdrawn


def test_seeds_of_one_look_are_no_looks_at_each_other(ledger, sweep):
    held_out = other(ledger, sweep, split="held-out")
    both = record_look(held_out, (0, 1, 100, 101), NONE)
    for seeds in ((0, 1), (100, 101)):
        assert both.standing(seeds) == "chosen before this first look at these test splits"
    assert count_looks(held_out) == 1
    look(ledger, (1, 2), NONE)
    both = record_look(ledger, (0, 1, 100, 101), NONE)
    assert "seen once before" in both.standing((0, 1))
    assert "this first look" in both.standing((100, 101))
