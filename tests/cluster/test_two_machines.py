"""What docs/clusters.md says of two machines without a shared disk."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from upath import UPath

from ssense.engine.core.cell import Cell
from ssense.engine.core.origin import RecordingOrigin
from ssense.engine.core.record import Record
from ssense.engine.core.sweep import Family, Sweep
from ssense.engine.records.description import Description
from ssense.engine.records.ledger import SWEEPS, Ledger
from ssense.engine.search.race import POLICIES
from ssense.engine.search.search import Search
from ssense.model.encoders.spectrogram_encoder import ResNetSpec
from ssense.specification import configured
from ssense.training.sentences import SentenceSpec

LEVELS = (0.1, 0.3, 0.5)
ORIGIN = RecordingOrigin(subject="sub_9", title="Ant-Man", shards="0123", recording="there")


def sweep_of(seeds: Sequence[int]) -> Sweep:
    families = (
        Family(name="no masking", levels={}),
        Family(name="two", levels={"masking.time": LEVELS, "masking.frequency": LEVELS}),
    )
    training = SentenceSpec(encoder=ResNetSpec(weights="random"))
    return Sweep(
        question="masking",
        dataset_digest="noise",
        specification=training,
        families=families,
        configurations=9,
        seeds=tuple(seeds),
    )


def record(search: Search, cell: Cell) -> Record:
    score = 0.1 + 0.01 * cell.seed + sum(cell.configuration.values()) / 10
    return Record(
        signature=search.signature(cell),
        configuration=dict(cell.configuration),
        seed=cell.seed,
        status="done",
        dataset_digest="noise",
        history=[{"epoch": 1, "recall@10": score}],
        best_epoch=1,
        timings={"training": 1.0},
    )


def machine(storage: Path, seeds: Sequence[int]) -> Ledger:
    """Run the seeds' part of a sweep in a storage of its own."""
    sweep = sweep_of(seeds)
    ledger = Ledger(UPath(storage) / SWEEPS / sweep.name)
    search = Search(sweep, POLICIES["full"])
    while (cell := search.next_cell()) is not None:
        made = record(search, cell)
        ledger.write(made, {"weight": torch.zeros(1)})
        search.finish(made)
    rows = tuple(search.rows)
    ledger.describe(Description(sweep=sweep, origin=ORIGIN, policy="full", rows=rows))
    return ledger


def test_the_cells_of_other_seeds_that_rsync_brings_complete_a_sweep_that_is_tried_whole(tmp_path):
    here, there = machine(tmp_path / "1", range(5)), machine(tmp_path / "2", range(5, 10))
    assert here.folder.name == there.folder.name
    shutil.copytree(there.folder / "cells", here.folder / "cells", dirs_exist_ok=True)
    together = sweep_of(range(10))
    search = Search(together, POLICIES["full"], here.description().rows, here.records())
    assert (search.left(), len(search.records)) == (0, 10 * (1 + 9))
    without = Search(together, POLICIES["full"], here.description().rows, {})
    assert without.left() == 100


def test_seeds_that_were_run_apart_name_one_sweep_and_another_training_another():
    one, other = sweep_of((0, 1)), sweep_of((2, 3))
    assert one.name == other.name
    training = configured(one.specification, {"training.max_epochs": 7})
    assert dataclasses.replace(one, specification=training).name != one.name
