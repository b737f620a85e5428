"""A sweep on a cluster that grows and shrinks: what waits, and what is taken back."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_records import made_record
from ray.autoscaler.v2.sdk import get_cluster_status
from ray.cluster_utils import Cluster
from ray.tune.search import Searcher
from upath import UPath

from ssense.engine.core.budget import Budget
from ssense.engine.core.cell import Cell
from ssense.engine.core.record import Record
from ssense.engine.core.sweep import Family, Sweep
from ssense.engine.records.ledger import Ledger
from ssense.engine.search.race import Full, Race
from ssense.engine.search.search import LOST_MACHINES, RETRIES, Change, Search
from ssense.engine.work.shared_data import shared
from ssense.engine.work.workers import LEAST_WAITING, CellSearcher, Resources, train_cells
from ssense.errors import UserError
from ssense.model.encoders.spectrogram_encoder import ResNetSpec
from ssense.training.sentences import SentenceSpec, TrainingSpec

N_LEVELS, N_SEEDS = 5, 2
N_CELLS = N_LEVELS * N_SEEDS

FOLDERS = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "helpers")]
DRIVER = """
import sys
sys.path[:0] = {folders!r}
from test_growth import wide
from conftest import make_dataset
from upath import UPath
from ssense.engine.core.budget import Budget
from ssense.engine.records.ledger import Ledger
from ssense.engine.search.race import Full
from ssense.engine.search.search import Search
from ssense.engine.work.shared_data import shared
from ssense.engine.work.workers import Resources, running_ray, train_cells
with running_ray():
    train_cells(Search(wide(), Full()), shared(make_dataset()), Ledger(UPath(sys.argv[1])),
                Resources(cpus=1, gpus=0), Budget(), lambda *_: None)
"""


LOSSES = """
import os, signal, sys, time
import ray
from ray.cluster_utils import Cluster
from ssense.engine.work.shared_data import shared
from ssense.engine.work.workers import lost_machine

place = {"node_ip_address": "127.0.0.4", "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **place})
ray.init(cluster.address, log_to_driver=False)

@ray.remote(num_cpus=1)
class Worker:
    def pid(self):
        return os.getpid()
    def train(self):
        time.sleep(600)

for kind in ("process", "machine"):
    node = cluster.add_node(num_cpus=1, **place)
    worker = Worker.remote()
    pid = ray.get(worker.pid.remote())
    training = worker.train.remote()
    time.sleep(1)
    if kind == "machine":
        cluster.remove_node(node, allow_graceful=False)
    else:
        os.kill(pid, signal.SIGKILL)
    try:
        ray.get(training)
    except ray.exceptions.RayActorError as error:
        print(kind, lost_machine(error), flush=True)
    if kind == "process":
        cluster.remove_node(node)
ray.shutdown()
cluster.shutdown()
"""


def wide(n_levels: int = N_LEVELS) -> Sweep:
    """A sweep of which all cells may run at once."""
    levels = tuple((place + 1) / (n_levels + 1) for place in range(n_levels))
    return Sweep(
        question="masking",
        dataset_digest="tiny",
        specification=SentenceSpec(
            encoder=ResNetSpec(weights="random"), training=TrainingSpec(max_epochs=1, batch_size=8)
        ),
        families=(Family(name="time", levels={"masking.time": levels}),),
        configurations=n_levels,
        seeds=tuple(range(N_SEEDS)),
    )


@pytest.fixture
def empty_cluster() -> Iterator[Cluster]:
    """A head that trains nothing, and no other machine yet."""
    place = {"node_ip_address": "127.0.0.3", "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **place})
    yield cluster
    cluster.shutdown()


def waiting(cluster: Cluster) -> int:
    """Cells that the autoscaler is asked machines for."""
    demands = get_cluster_status(cluster.address).resource_demands
    by_shape = [*demands.placement_group_demand, *demands.ray_task_actor_demand]
    return sum(bundle.count for demand in by_shape for bundle in demand.bundles_by_count)


@pytest.mark.slow
def test_from_no_machine_at_all_every_cell_asks_for_one(empty_cluster, tmp_path):
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER.format(folders=FOLDERS), str(tmp_path)],
        env=os.environ | {"RAY_ADDRESS": empty_cluster.address},
    )
    try:
        deadline = time.monotonic() + 120
        while (found := waiting(empty_cluster)) < N_CELLS:
            assert time.monotonic() < deadline, found
            assert driver.poll() is None
            time.sleep(0.2)
        assert found == N_CELLS
        for _ in range(2):
            empty_cluster.add_node(num_cpus=1, node_ip_address="127.0.0.3", include_dashboard=False)
        assert driver.wait(300) == 0
    finally:
        driver.kill()
        driver.wait()
    assert len(Ledger(UPath(tmp_path)).records()) == N_CELLS


@pytest.mark.slow
def test_a_lost_machine_is_told_from_a_process_that_died():
    done = subprocess.run([sys.executable, "-c", LOSSES], capture_output=True, text=True)
    # Ray may write of the loss between our lines.
    told = re.findall(r"^(?:process|machine) \w+$", done.stdout, re.MULTILINE)
    assert told == ["process False", "machine True"], done.stdout + done.stderr


def test_a_cell_whose_machines_are_taken_away_has_patience_but_not_for_ever():
    search = Search(wide(1), Full())
    cell = search.next_cell()
    for _ in range(RETRIES):
        assert search.retry(cell)
    for _ in range(LOST_MACHINES):
        assert search.retry(cell, LOST_MACHINES)
    assert not search.retry(cell, LOST_MACHINES)
    assert not search.retry(cell)


@pytest.mark.usefixtures("local_ray")
def test_on_a_machine_of_its_own_no_more_are_handed_out_than_fit(monkeypatch):
    resources = Resources(cpus=1, gpus=0)
    assert resources.at_once() == resources.slots() == 1
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert resources.at_once() == 1 + LEAST_WAITING


@pytest.mark.usefixtures("local_ray")
def test_a_cell_that_no_machine_holds_is_said_once_a_minute(monkeypatch, capsys):
    monkeypatch.setattr("ssense.engine.work.workers._COUNT_MACHINES_S", -1.0)
    too_large = Resources(cpus=1, gpus=2)
    with pytest.raises(UserError, match="1 CPU and 2 GPUs does not fit this machine, which has 1 "):
        too_large.slots()
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert [too_large.slots() for _ in range(3)] == [0, 0, 0]
    assert too_large.at_once() == LEAST_WAITING  # for machines to come
    line = (
        "  waiting for a machine: a cell asks for 1 CPU and 2 GPUs; machines there are: "
        "1 of 1 CPU. If no other will join, ask for fewer CPUs or GPUs per cell.\n"
    )
    assert capsys.readouterr().out == line
    monkeypatch.setattr("ssense.engine.work.workers._SAY_AGAIN_S", -1.0)  # the minute is over
    too_large.slots()
    assert capsys.readouterr().out == line


def test_never_are_more_handed_out_than_the_policy_grants(tmp_path):
    ledger = Ledger(UPath(tmp_path))
    search = Search(wide(2), Full())
    searcher = CellSearcher(search, ledger, Budget(), lambda *_: None, lambda: 1000)
    suggested = [searcher.suggest(str(number)) for number in range(2 * N_SEEDS + 1)]
    assert all(isinstance(cell, dict) for cell in suggested[:-1])
    assert suggested[-1] is None
    assert len(search.running) == 2 * N_SEEDS


def test_the_number_handed_out_follows_the_machines(tmp_path):
    machines = 1
    search = Search(wide(), Full())
    searcher = CellSearcher(
        search, Ledger(UPath(tmp_path)), Budget(), lambda *_: None, lambda: machines
    )
    assert isinstance(searcher.suggest("a"), dict)
    assert searcher.suggest("b") is None
    machines = 2
    assert isinstance(searcher.suggest("b"), dict)
    machines = 1
    assert searcher.suggest("c") is None


def test_a_slot_that_would_be_idle_runs_ahead_and_none_that_would_wait(tmp_path):
    search, budget = Search(dataclasses.replace(wide(), seeds=tuple(range(6))), Race()), Budget()
    n_granted, slots = 2 * N_LEVELS, 2 * N_LEVELS + 3
    searcher = CellSearcher(
        search, Ledger(UPath(tmp_path)), budget, lambda *_: None, lambda: 1000, lambda: slots
    )
    for number in range(slots):
        cell = searcher.suggest(str(number))
        assert isinstance(cell, dict)
        assert (cell["seed"] < 2) == (number < n_granted)
    assert searcher.suggest("one more") is None
    assert budget.started == slots
    searcher.take_back(str(slots - 1))  # as where the time is up
    assert budget.started == slots - 1
    assert isinstance(searcher.suggest("again"), dict)
    slots -= 4  # machines were taken away
    assert searcher.suggest("one more") is None


def test_a_sweep_ends_when_nothing_is_granted_whatever_could_have_run_ahead(tmp_path):
    ledger = Ledger(UPath(tmp_path))
    search = Search(dataclasses.replace(wide(3), seeds=tuple(range(6))), Race())
    searcher = CellSearcher(search, ledger, Budget(), lambda *_: None, lambda: 4, lambda: 4)
    trials: dict[str, Cell] = {}
    number = 0
    while (found := searcher.suggest(str(number))) != Searcher.FINISHED:
        if isinstance(found, dict):
            trials[str(number)] = Cell(**found)
            number += 1
            continue
        trial, cell = trials.popitem()
        record = ledger.write(scored(search, cell))
        searcher.on_trial_complete(trial, {"record": record})
    assert not trials
    assert search.left() == 0
    alone = Search(search.sweep, Race())
    while (cell := alone.next_cell()) is not None:
        alone.finish(scored(alone, cell))
    assert search.decisions() == alone.decisions()
    assert search.records.keys() >= alone.records.keys()


def scored(search: Search, cell: Cell) -> Record:
    (level,) = cell.configuration.values()
    assert isinstance(level, float)
    return made_record(search, cell, 0.5 * level + 0.01 * math.sin(100 * level * cell.seed))


@pytest.mark.usefixtures("local_ray")
def test_what_waits_when_the_time_is_up_does_not_start(dataset, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RAY_ADDRESS", "auto")  # as on a cluster, more are handed out than fit
    ledger, budget, records = Ledger(UPath(tmp_path)), Budget(hours=1.0), []
    search = Search(wide(), Full())

    def keep(record: Record, _: Change) -> None:
        records.append(record)
        budget.hours = 1e-9  # it is up now

    train_cells(search, shared(dataset), ledger, Resources(cpus=1, gpus=0), budget, keep)
    assert "Trial" not in capsys.readouterr().out
    assert 1 <= len(records) <= 4  # the first, and those that were running
    assert search.running == {}
    assert search.left() == N_CELLS - len(records)
    assert budget.started == len(records)
    found = ledger.records()
    again = Search(wide(), Full(), search.rows, found)
    train_cells(
        again, shared(dataset), ledger, Resources(cpus=1, gpus=0), Budget(), lambda *_: None
    )
    assert len(ledger.records()) == N_CELLS
    assert found.items() <= ledger.records().items()
