from __future__ import annotations

import dataclasses
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
import torch
from made_records import made_record
from upath import UPath

from ssense.engine.core.cell import Cell
from ssense.engine.core.record import Record
from ssense.engine.core.sweep import Family, Sweep
from ssense.engine.encoders import delete_unwanted
from ssense.engine.records import readers
from ssense.engine.records.driver import this_process
from ssense.engine.records.ledger import Ledger, WeightsNotKeptError
from ssense.engine.search.race import Full, Policy, Race
from ssense.engine.search.search import Search
from ssense.files.source_code import code_digest
from ssense.files.storage import write_json

RATIOS = (0.25, 0.5, 0.75)


@pytest.fixture
def sweep(sweep) -> Sweep:
    """Two families that share a configuration, three seeds."""
    electrode = Family(name="electrode", levels={"masking.electrode": RATIOS})
    twin = Family(name="twin", levels={"masking.electrode": (0.25,)})
    return dataclasses.replace(
        sweep, families=(electrode, twin), configurations=3, seeds=(0, 1, 2, 3)
    )


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    return Ledger(UPath(tmp_path) / "sweeps" / "masking")


def record(search: Search, cell: Cell, score: float | None, code: str = "") -> Record:
    return made_record(search, cell, score, code_digest=code or code_digest())


def run(search: Search, ledger: Ledger, scores: dict[float, float], most: int = 100) -> None:
    """Run cells whose score is that of their ratio."""
    while most and (cell := search.next_cell()):
        ratio = cell.configuration["masking.electrode"]
        score = scores[ratio] + 0.001 * ((7 * cell.seed + 12 * ratio) % 5)  # some noise
        search.finish(ledger.write(record(search, cell, score), {"w": torch.ones(3)}))
        most -= 1


def ratios_kept(ledger: Ledger) -> dict[float, list[int]]:
    """Seeds of the cells with weights by ratio; what the records say is the same."""
    found: dict[float, list[int]] = {}
    kept = ledger.cells_with_weights()
    for each in ledger.records().values():
        assert each.weights_kept == (each.signature in kept) or not each.done
        if each.signature in kept:
            found.setdefault(each.configuration["masking.electrode"], []).append(each.seed)
    return {ratio: sorted(seeds) for ratio, seeds in sorted(found.items())}


def test_a_full_sweep_keeps_the_encoders_of_the_best_of_each_family(sweep, ledger, capsys):
    search = Search(sweep, Full())
    run(search, ledger, {0.25: 0.1, 0.5: 0.3, 0.75: 0.2})
    before = ledger.records()
    delete_unwanted(search, ledger)
    assert ratios_kept(ledger) == {0.25: [0, 1, 2, 3], 0.5: [0, 1, 2, 3]}  # twin's is 0.25
    shown = capsys.readouterr().out
    assert "Deleting 4 encoders of configurations that are not the best ..." in shown
    for name, after in ledger.records().items():
        assert dataclasses.replace(after, weights_kept=True) == before[name]
    lost = search.record(Cell({"masking.electrode": 0.75}, 2))
    with pytest.raises(WeightsNotKeptError, match=rf"was deleted.* `cell` {lost.signature} makes"):
        ledger.weights(lost)
    delete_unwanted(search, ledger)
    assert not capsys.readouterr().out


def test_as_long_as_cells_are_left_all_that_are_not_out_are_kept(sweep, ledger):
    full = Search(sweep, Full())
    run(full, ledger, {0.25: 0.1, 0.5: 0.3, 0.75: 0.2}, most=11)
    delete_unwanted(full, ledger)
    assert sum(map(len, ratios_kept(ledger).values())) == 11


def test_what_the_race_takes_out_goes_before_the_end(sweep, ledger):
    alone = dataclasses.replace(sweep, families=sweep.families[:1])
    search = Search(alone, Race())
    run(search, ledger, {0.25: 0.1, 0.5: 0.3, 0.75: 0.3}, most=6)
    assert [row.configuration for row in search.dropped()] == [{"masking.electrode": 0.25}]
    assert search.left()
    delete_unwanted(search, ledger)
    assert ratios_kept(ledger) == {0.5: [0, 1], 0.75: [0, 1]}


def test_a_failed_cell_that_is_tried_again_leaves_everything_open(sweep, ledger):
    search = Search(sweep, Full())
    search.finish(ledger.write(record(search, search.next_cell(), None)))
    run(search, ledger, {0.25: 0.1, 0.5: 0.3, 0.75: 0.2})
    delete_unwanted(search, ledger)
    assert sum(map(len, ratios_kept(ledger).values())) == 11


@pytest.mark.parametrize("policy", [Full(), Race()])
def test_a_family_without_a_winner_keeps_what_it_has(policy: Policy, sweep, ledger):
    alone = dataclasses.replace(sweep, families=sweep.families[:1])
    search = Search(alone, policy)
    while cell := search.next_cell():
        if cell.seed == 1:
            lost = dataclasses.replace(record(search, cell, None), attempts=3)
            search.finish(ledger.write(lost))
        else:
            search.finish(ledger.write(record(search, cell, 0.1), {"w": torch.ones(3)}))
    delete_unwanted(search, ledger)
    assert len(ratios_kept(ledger)) == 3


def test_cells_of_other_sweeps_versions_and_readers_are_left_alone(sweep, ledger):
    search = Search(sweep, Full())
    run(search, ledger, {0.25: 0.1, 0.5: 0.3, 0.75: 0.2})
    fresh = record(search, Cell({"masking.electrode": 0.75}, 100), 0.1)  # a control's, say
    ledger.write(fresh, {"w": torch.ones(3)})
    of = {each.seed: each for each in search.done({"masking.electrode": 0.75})}
    older = ledger.write(dataclasses.replace(of[0], code_digest="older"), {"w": torch.ones(3)})
    search.records[older.signature] = older
    with readers.reading_encoders(ledger, [of[1].signature]):
        delete_unwanted(search, ledger)
        assert ratios_kept(ledger)[0.75] == [0, 1, 100]
    delete_unwanted(search, ledger)
    assert ratios_kept(ledger)[0.75] == [0, 100]


def test_marks_left_behind_count_no_more(ledger):
    folder = ledger.folder / readers.FOLDER
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    us = dataclasses.asdict(this_process())
    ago = (datetime.now(UTC) - timedelta(days=2)).isoformat()
    away = {"machine": "another", "pid": 1}
    marks: dict[str, dict[str, object]] = {
        "us": us,
        "dead": us | {"pid": ended.pid},
        "away": us | away,
        "gone": us | away | {"started": ago},
    }
    for name, holder in marks.items():
        write_json(folder / f"{name}.json", {"holder": holder, "signatures": [name]})
    (folder / "broken.json").write_text("{")
    assert readers.being_read(ledger) == {"us", "away"}
    assert {path.stem for path in folder.iterdir()} == {"us", "away", "broken"}


def stop(_: UPath) -> None:
    raise KeyboardInterrupt


def test_a_driver_that_is_killed_between_record_and_file_leaves_no_lie(sweep, ledger, monkeypatch):
    search = Search(sweep, Full())
    run(search, ledger, {0.25: 0.1, 0.5: 0.3, 0.75: 0.2})
    with monkeypatch.context() as patch:
        patch.setattr("ssense.engine.records.ledger.remove", stop)
        with pytest.raises(KeyboardInterrupt):
            delete_unwanted(search, ledger)
    said = [each for each in ledger.records().values() if not each.weights_kept]
    assert said  # and what it says is not kept may still be there, whole
    assert torch.equal(ledger.weights(said[0])["w"], torch.ones(3))
    delete_unwanted(search, ledger)
    assert ratios_kept(ledger) == {0.25: [0, 1, 2, 3], 0.5: [0, 1, 2, 3]}


def test_weights_come_back_only_to_the_bit(sweep, ledger):
    search = Search(sweep, Full())
    run(search, ledger, {0.25: 0.1, 0.5: 0.3, 0.75: 0.2})
    delete_unwanted(search, ledger)
    lost = ledger.record(search.signature(Cell({"masking.electrode": 0.75}, 2)))
    for weights in ({"w": torch.ones(3).nextafter(torch.zeros(3))}, None):
        with pytest.raises(Exception, match="did not make the same to the bit"):
            ledger.restore_weights(lost, weights)
        assert ledger.record(lost.signature) == lost
    restored = ledger.restore_weights(lost, {"w": torch.ones(3)})
    assert restored == dataclasses.replace(lost, weights_kept=True)
    assert ledger.record(lost.signature) == restored
    assert torch.equal(ledger.weights(lost)["w"], torch.ones(3))
