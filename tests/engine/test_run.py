from __future__ import annotations

import dataclasses
import json

import pytest
from upath import UPath

from ssense.engine.core.origin import RecordingOrigin
from ssense.engine.core.record import MOST_ATTEMPTS, Record
from ssense.engine.core.sweep import Family
from ssense.engine.records.description import Description
from ssense.engine.records.driver import sole_driver
from ssense.engine.records.ledger import Ledger
from ssense.engine.run import _leave_view, _say_what_is_left, _take_up, versions_of_nothing
from ssense.engine.search.race import Full
from ssense.engine.search.search import Search
from ssense.engine.tasks.engine_options import EngineOptions
from ssense.files.sealed_json import write_sealed


def failed(search: Search, attempts: int) -> Record:
    cell = search.next_cell()
    return Record(
        signature=search.signature(cell),
        configuration=cell.configuration,
        seed=cell.seed,
        status="failed",
        dataset_digest="tiny",
        reason="NaN",
        attempts=attempts,
    )


def test_a_cell_that_families_share_is_listed_and_counted_once(sweep, tmp_path, capsys):
    half = sweep.family("electrode")
    twins = (half, dataclasses.replace(half, name="twin"))
    search = Search(dataclasses.replace(sweep, families=twins), Full())
    search.finish(failed(search, MOST_ATTEMPTS))
    _say_what_is_left(search, Ledger(UPath(tmp_path)), EngineOptions())
    shown = capsys.readouterr().out
    assert shown.count("Failed 3 times, not tried again: electrode 0.5 seed 0: NaN") == 1
    assert "1 cell is missing (twin 1)" in shown


@pytest.mark.parametrize(
    ("attempts", "budget", "outcome"),
    [
        ((MOST_ATTEMPTS, MOST_ATTEMPTS), None, "full"),  # nothing is left to try
        ((1, MOST_ATTEMPTS), 2, "incomplete"),
        ((MOST_ATTEMPTS,), 1, "stopped"),
        ((MOST_ATTEMPTS,), None, "incomplete"),
    ],
)
def test_how_a_sweep_is_left(attempts, budget, outcome, sweep, tmp_path):
    alone = dataclasses.replace(sweep, families=(sweep.family("electrode"),))
    search = Search(alone, Full())
    for number in attempts:
        search.finish(failed(search, number))
    options = EngineOptions(budget_cells=budget)
    assert _say_what_is_left(search, Ledger(UPath(tmp_path)), options) == outcome


def test_a_sweep_whose_next_configuration_was_never_proposed_is_not_full(
    sweep, tmp_path, monkeypatch
):
    rates = (1e-4, 2e-4, 3e-4, 4e-4, 5e-4, 6e-4)
    family = Family(name="rate", levels={"training.learning_rate": rates})
    search = Search(
        dataclasses.replace(sweep, families=(family,), configurations=5, seeds=(0,)), Full()
    )
    first = [failed(search, MOST_ATTEMPTS) for _ in range(4)]
    for record in first[:-1]:
        search.finish(record)
    monkeypatch.setattr("ssense.engine.search.search.propose", interrupted)
    with pytest.raises(KeyboardInterrupt):
        search.finish(first[-1])
    assert not search.missing()
    assert search.left() == 1
    options = EngineOptions()
    assert _say_what_is_left(search, Ledger(UPath(tmp_path)), options) == "incomplete"


def test_a_sweep_that_is_taken_up_again_proposes_as_many_at_once_as_it_began_with(sweep, tmp_path):
    """Also one whose description is older than the fields: it proposed three at a time."""
    rates = (1e-4, 2e-4, 3e-4, 4e-4, 5e-4, 6e-4, 7e-4, 8e-4, 9e-4)
    family = Family(name="rate", levels={"training.learning_rate": rates})
    alone = dataclasses.replace(sweep, families=(family,), configurations=8)
    began = dataclasses.replace(alone, proposals_at_once=2, spread_proposals=True)
    ledger = Ledger(UPath(tmp_path))
    origin = RecordingOrigin(subject="sub_9", title="Ant-Man", shards="0123", recording="there")
    rows = tuple(Search(began, Full()).rows)
    ledger.describe(Description(sweep=began, origin=origin, policy="full", rows=rows))
    now = dataclasses.replace(alone, proposals_at_once=6)
    assert now.name == began.name
    found = _take_up(now, ledger, EngineOptions(policy="full"), ())
    assert (found.sweep, found.rows) == (began, list(rows))

    path = ledger.folder / "sweep.json"
    older = json.loads(path.read_bytes())
    del older["checksum"], older["sweep"]["proposals_at_once"], older["sweep"]["spread_proposals"]
    write_sealed(path, older)
    now = dataclasses.replace(now, spread_proposals=True)
    found = _take_up(now, ledger, EngineOptions(policy="full"), ())
    assert found.sweep == dataclasses.replace(alone, proposals_at_once=3)


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


class View:
    """Stands in for a view that can't be written."""

    asked = 0

    def end(self, _: Search, most_s: float) -> None:
        assert most_s < 60
        self.asked += 1
        raise OSError("MLflow is away")


def test_the_view_of_an_interrupted_sweep_is_ended_unless_another_driver_took_it_over(
    sweep, tmp_path
):
    search, view = Search(sweep, Full()), View()
    with sole_driver(UPath(tmp_path)) as claim:
        _leave_view(view, search, claim)  # its failure hides nothing
        assert view.asked == 1
        claim.lost_to = claim._us
        _leave_view(view, search, claim)
        claim.lost_to = None
    assert view.asked == 1


def test_versions_that_no_cell_is_by_are_said():
    record = Record(
        signature="s",
        configuration={},
        seed=0,
        status="done",
        dataset_digest="d",
        code_digest="3f2a1c9e00112233",
    )
    options = EngineOptions(keep_version=("3f2a1c9e", "3f2a1c9f"), retrain_version=("gone",))
    why = "no cell was trained by this version. Versions of the cells: 3f2a1c9e."
    assert versions_of_nothing([record], options) == [
        f"--keep-version 3f2a1c9f: {why}",
        f"--retrain-version gone: {why}",
    ]
    (line,) = versions_of_nothing([], EngineOptions(keep_version=("x",)))
    assert line.endswith("Versions of the cells: none yet.")
