from __future__ import annotations

import dataclasses
import tracemalloc

import pytest
from made_records import made_record

from ssense.engine.core.record import Record
from ssense.engine.search.race import Race
from ssense.engine.search.search import Search


def record(search: Search, score: float, epochs: int = 3) -> Record:
    cell = search.next_cell()
    history = [
        {"epoch": n, "loss": 1.0 / n, "recall@10": score if n == 2 else 0.0}
        for n in range(1, epochs + 1)
    ]
    return made_record(search, cell, score, history=history, best_epoch=2)


def test_a_search_needs_the_best_epoch_of_a_record_alone(sweep):
    search = Search(sweep, Race())
    for number in range(4):
        search.finish(record(search, number / 10))
    bare = {name: each.without_history() for name, each in search.records.items()}
    again = Search(sweep, Race(), search.rows, bare)
    assert again.matrix() == search.matrix()
    assert again.decisions() == search.decisions()
    assert again.best() == search.best()


def test_a_record_without_its_history_says_so_where_another_epoch_is_asked_for(sweep):
    whole = record(Search(sweep, Race()), 0.3)
    bare = whole.without_history()
    assert bare.best == whole.best
    assert len(bare.history) == 3
    for asked in (lambda: bare.history[0], lambda: list(bare.history), lambda: bare.history[-1]):
        with pytest.raises(LookupError, match="read the ledger"):
            asked()
    assert bare.without_history() is bare
    assert dataclasses.replace(bare, history=whole.history) == whole


def test_a_record_without_its_history_does_not_grow_with_it(sweep):
    def size(epochs: int) -> int:
        whole = record(Search(sweep, Race()), 0.3, epochs)
        tracemalloc.start()
        kept = [whole.without_history() for _ in range(100)]
        taken, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert kept
        return taken // 100

    assert size(1000) == pytest.approx(size(3), rel=0.2)
