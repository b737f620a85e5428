"""Real processes and real kills: whatever dies, a sweep ends as if nothing had happened."""

from __future__ import annotations

import hashlib
import io
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from ray._private.node import Node
from ray.cluster_utils import Cluster
from upath import UPath

from analysis import evaluate
from ssense.data.dataset import Dataset
from ssense.data.synthetic.recording import SyntheticSpec
from ssense.engine.core.budget import Budget
from ssense.engine.core.record import Record
from ssense.engine.core.sweep import Family, Sweep
from ssense.engine.records.driver import CLAIM
from ssense.engine.records.find import find_ledger
from ssense.engine.records.ledger import Ledger
from ssense.engine.search.race import Full
from ssense.engine.search.search import Change, Search
from ssense.engine.work.own_ray import PREFIX
from ssense.engine.work.shared_data import shared
from ssense.engine.work.workers import OnRecord, Resources, describe_loss, train_cells
from ssense.errors import UserError
from ssense.files.storage import open_storage, write_whole
from ssense.model.encoders.spectrogram_encoder import ResNetSpec
from ssense.training.process import assigned_device
from ssense.training.sentences import SentenceSpec, TrainingSpec
from sweeps.masking import MaskingOptions, main

REPOSITORY = Path(__file__).parents[2]
SEEDS = (0, 1)
N_CELLS = 4 * len(SEEDS)
RATIOS = (0.25, 0.5)
EPOCHS = 3
ARGUMENTS = (
    f"--synthetic.sentences 60 --synthetic.electrodes 5 --max-epochs {EPOCHS} --configurations 1 "
    f"--seeds {' '.join(map(str, SEEDS))} --ratios {' '.join(map(str, RATIOS))} --yes "
    "--precision float32"  # in a cluster as on one machine
).split()
# Of a record: when, where and how fast the cell was trained, and by code from which folder.
INCIDENTAL = ("finished_at", "worker", "timings", "resumed_after")
HOME = re.compile(rf"/\S*?/{PREFIX}\w+")  # of a driver's own Ray
FOLDER = ("code_digest", "commit", "dirty", "requirements_digest")


# ---------------------------------------------------------------- a sweep and what it leaves


def options(storage: Path, **changes: object) -> MaskingOptions:
    """The options that `ARGUMENTS` are parsed to."""
    synthetic = SyntheticSpec(sentences=60, electrodes=5)
    values = {
        "storage": str(storage),
        "synthetic": synthetic,
        "configurations": 1,
        "seeds": SEEDS,
        "max_epochs": EPOCHS,
        "ratios": RATIOS,
        "precision": "float32",
        "yes": True,
    }
    return MaskingOptions(**values | changes)


def swept(storage: Path, **changes: object) -> str:
    """Run the sweep in this process, on its Ray; return what it printed."""
    shown = io.StringIO()
    with redirect_stdout(shown):
        main(options(storage, **changes))
    return shown.getvalue()


def ledger_of(storage: Path) -> Ledger:
    return find_ledger(open_storage(str(storage)))


def results(storage: Path) -> dict[str, object]:
    """All that a sweep's result is: its cells, each with its encoder, its rows and decisions."""
    ledger = ledger_of(storage)
    description = ledger.description()
    cells = {}
    for name, record in ledger.records().items():
        with (ledger.folder / "cells" / name / "weights.safetensors").open("rb") as encoder:
            found = hashlib.file_digest(encoder, "sha256").hexdigest()
        cells[name] = asdict(record) | {"weights_digest": found}
        for field in (*INCIDENTAL, *FOLDER):
            del cells[name][field]
    return {"cells": cells, "rows": description.rows, "decisions": description.decisions}


def states(storage: Path) -> dict[str, tuple[int, int]]:
    """Which file every record is, by signature: one that is written again is another."""
    found = {}
    for record in (storage / "sweeps").glob("*/cells/*/record.json"):
        status = record.stat()
        found[record.parent.name] = status.st_ino, status.st_mtime_ns
    return found


def final_table(shown: str) -> str:
    """The table that a sweep prints at its end, and what is said below it."""
    found = re.search(r"^ *family +configuration .*?candidates: [^\n]*$", shown, re.S | re.M)
    assert found, shown
    return found[0]


def assert_nothing_is_left_but_results(storage: Path) -> None:
    """No claim, no checkpoint, nothing half-written; a record and an encoder in every cell."""
    folder = ledger_of(storage).folder
    assert sorted(path.name for path in folder.iterdir()) == ["cells", "cells.csv", "sweep.json"]
    for cell in (folder / "cells").iterdir():
        found = sorted(path.name for path in cell.iterdir())
        assert found == ["record.json", "weights.safetensors"], cell


@pytest.fixture(scope="module")
def undisturbed(local_ray, tmp_path_factory) -> tuple[Path, str]:  # noqa: ARG001
    """A storage where the sweep ran through, and what it printed."""
    storage = tmp_path_factory.mktemp("undisturbed")
    return storage, swept(storage)


@pytest.fixture
def storage(undisturbed, tmp_path) -> Path:
    """A storage that has everything but the sweep."""
    return copy_of(undisturbed[0], tmp_path / "storage")


def copy_of(storage: Path, to: Path) -> Path:
    """Copy a storage without its sweeps; MLflow's database too, which takes seconds to make."""
    aside = shutil.ignore_patterns("sweeps", "mlartifacts")
    return Path(shutil.copytree(storage, to, ignore=aside))


@pytest.fixture(scope="module")
def other_code(tmp_path_factory) -> Path:
    """Another version of the code, of the same results: it writes checkpoints as it can."""
    folder = tmp_path_factory.mktemp("code")
    for package in ("ssense", "sweeps", "analysis"):
        shutil.copytree(
            REPOSITORY / package, folder / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    module = folder / "ssense" / "training" / "checkpoint.py"
    source = module.read_text()
    assert "WRITING_SHARE = 0.05" in source
    module.write_text(source.replace("WRITING_SHARE = 0.05", "WRITING_SHARE = 1e9"))
    return folder


# ---------------------------------------------------------------- a driver in its own process


class Driver:
    """The command line of the sweep in a process group of its own, as in a terminal.

    Attributes:
        process: The driver's process.
        written: Files that every record was seen to be, by signature.
    """

    def __init__(
        self, storage: Path, *arguments: str, code: Path = REPOSITORY, **environment: str
    ) -> None:
        self.written: dict[str, set[tuple[int, int]]] = defaultdict(set)
        self._storage = storage
        self._family: set[psutil.Process] = set()
        self._homes: set[str] = set()
        script = str(code / "sweeps" / "masking.py")
        self.process = subprocess.Popen(
            [sys.executable, script, *ARGUMENTS, "--storage", str(storage), *arguments],
            cwd=code,  # where Ray's workers look first
            env=os.environ | {"PYTHONPATH": str(code)} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def until(self, condition: Callable[[], object]) -> None:
        """Wait, and look meanwhile at what it writes."""
        while not condition():
            self._look()
            assert self.process.poll() is None, self.end()
            time.sleep(0.05)

    def until_records(self, n: int) -> None:
        """Wait until so many cells are finished."""
        self.until(lambda: len(self.written) >= n)

    def pause(self, moments: random.Random, most: float = 1.5) -> None:
        """Wait for a moment of any length, so that nobody knows what is hit then."""
        seconds = moments.uniform(0, most)
        print(f"after {len(self.written)} records and {seconds:.2f} s:", end=" ")
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() > end)
        self._family.update(descendants(self.process.pid))
        self._homes.update(
            home for process in self._family for home in HOME.findall(name_of(process))
        )

    def workers(self) -> list[psutil.Process]:
        """Processes that train, once there are any, where Ray is the driver's own."""
        found: list[psutil.Process] = []
        self.until(lambda: found.extend(filter(is_worker, descendants(self.process.pid))) or found)
        return found

    def end(self) -> tuple[int, str, str]:
        """Wait for its end; return exit code, what it printed, and its errors."""
        shown, errors = self.process.communicate()
        self._look()
        print(f"exit code {self.process.returncode}", errors)
        return self.process.returncode, shown, errors

    def leaves_nothing(self, seconds: float = 10) -> bool:
        """Whether what there was after the last pause is gone: processes, and Ray's folder."""
        assert self._family
        assert len(self._homes) == 1
        deadline = time.monotonic() + seconds
        while left := [
            *(name_of(process) for process in self._family if is_running(process)),
            *(home for home in self._homes if Path(home).exists()),
        ]:
            if time.monotonic() > deadline:
                print("left:", *left)
                return False
            time.sleep(0.1)
        return True

    def _look(self) -> None:
        for name, state in states(self._storage).items():
            self.written[name].add(state)


def descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def name_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def is_worker(process: psutil.Process) -> bool:
    return name_of(process).startswith("ray::ResourceTrainable")


def is_running(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill(processes: Sequence[psutil.Process]) -> None:
    print("kills", [process.pid for process in processes])
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def written_once(drivers: Sequence[Driver]) -> bool:
    """Whether no cell was written twice, by one driver or by several."""
    states: dict[str, set[tuple[int, int]]] = defaultdict(set)
    for driver in drivers:
        for name, seen in driver.written.items():
            states[name] |= seen
    return all(len(seen) == 1 for seen in states.values())


# ---------------------------------------------------------------- kill -9


@dataclass(frozen=True)
class Killed:
    """What is left of a sweep whose processes were killed again and again."""

    storage: Path
    drivers: Sequence[Driver]
    shown: str


@pytest.fixture(scope="module")
def killed(undisturbed, other_code, tmp_path_factory) -> Killed:
    """Kill a worker, all workers, the driver, and workers that have left a checkpoint."""
    storage = copy_of(undisturbed[0], tmp_path_factory.mktemp("killed") / "storage")
    moments = random.Random(0)
    with Driver(storage, code=other_code) as first:
        first.until_records(1)
        first.pause(moments)
        kill([moments.choice(first.workers())])
        first.until_records(2)
        first.pause(moments)
        kill(first.workers())
        first.until_records(4)
        first.pause(moments)
        first.process.kill()
        assert first.end()[0] == -signal.SIGKILL
    with Driver(storage, code=other_code) as second:
        second.until(lambda: list(storage.glob("sweeps/*/cells/*/checkpoint.safetensors")))
        kill(second.workers())
        code, shown, errors = second.end()
    assert (code, errors) == (0, "")
    assert first.leaves_nothing()
    return Killed(storage, (first, second), shown)


def test_whatever_is_killed_the_sweep_ends_as_if_nothing_had_happened(killed, undisturbed):
    assert results(killed.storage) == results(undisturbed[0])
    assert final_table(killed.shown) == final_table(undisturbed[1])
    assert_nothing_is_left_but_results(killed.storage)


def test_no_cell_is_trained_twice_and_some_went_on_from_a_checkpoint(killed):
    assert written_once(killed.drivers)
    assert len(states(killed.storage)) == N_CELLS
    resumed = [record.resumed_after for record in ledger_of(killed.storage).records().values()]
    assert 0 < max(resumed) <= EPOCHS  # all of them: killed before the record was written


# ---------------------------------------------------------------- signals


def test_an_interrupted_driver_leaves_nothing_behind_and_the_next_goes_on(storage, undisturbed):
    moments = random.Random(1)
    with Driver(storage) as first:
        first.until(lambda: list(storage.glob(f"sweeps/*/{CLAIM}")))
        with Driver(storage) as second:
            code, _, refused = second.end()
        assert code == 2
        assert re.fullmatch(
            rf"error: \S+ is being worked on by process {first.process.pid} on \S+ \(started "
            r"\S+ UTC\)\. Wait until it has ended, or stop it, and run the same command again\.\n",
            refused,
        )
        first.until_records(1)
        first.pause(moments, most=0.5)
        os.killpg(first.process.pid, signal.SIGINT)  # a terminal tells the whole group
        assert_ends_in_peace(first, storage)
    with Driver(storage) as third:
        third.until_records(len(states(storage)) + 1)
        third.pause(moments, most=0.5)
        third.process.terminate()  # a cluster manager
        assert_ends_in_peace(third, storage)
    assert final_table(swept(storage)) == final_table(undisturbed[1])
    assert results(storage) == results(undisturbed[0])
    assert written_once((first, third))
    assert_nothing_is_left_but_results(storage)


def test_a_ray_whose_server_dies_ends_the_sweep_in_one_line(storage, undisturbed):
    with Driver(storage) as driver:
        driver.until_records(1)
        driver.pause(random.Random(3), most=0.5)
        children = psutil.Process(driver.process.pid).children()
        start = time.monotonic()
        kill([child for child in children if child.name() == "gcs_server"])
        code, _, errors = driver.end()
    seconds = time.monotonic() - start
    print(f"ended within {seconds:.1f} s")
    assert seconds < 60  # Ray itself waits that long before it says anything
    assert code == 2
    assert re.fullmatch(
        r"error: Ray's gcs_server \(process \d+\) died: killed, or out of memory\. .* run the "
        r"same command again: what is done is kept\.\n",
        errors,
    )
    assert driver.leaves_nothing()
    assert not list(storage.glob(f"sweeps/*/{CLAIM}"))
    assert final_table(swept(storage)) == final_table(undisturbed[1])
    assert results(storage) == results(undisturbed[0])
    assert written_once([driver])


def assert_ends_in_peace(driver: Driver, storage: Path) -> None:
    start = time.monotonic()
    code, _, errors = driver.end()
    seconds = time.monotonic() - start
    print(f"ended within {seconds:.1f} s")
    assert (code, errors) == (130, "interrupted: run the same command again to continue\n")
    assert seconds < 60
    assert driver.leaves_nothing()
    assert not list(storage.glob(f"sweeps/*/{CLAIM}"))
    assert len(states(storage)) < N_CELLS


# ---------------------------------------------------------------- nodes, and a full storage


# Of loopback addresses, Ray takes 127.0.0.1 for the one that others see, where nobody listens.
PLACE = {"node_ip_address": "127.0.0.2", "include_dashboard": False}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head that trains nothing, and two nodes of one core."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **PLACE})
    for _ in range(2):
        cluster.add_node(num_cpus=1, **PLACE)
    yield cluster
    cluster.shutdown()


def processes_of(node: Node) -> list[psutil.Process]:
    """The raylet of a node and all processes that it started."""
    (raylet,) = node.all_processes["raylet"]
    return [psutil.Process(raylet.process.pid), *descendants(raylet.process.pid)]


@contextmanager
def largest_file(processes: Sequence[psutil.Process], size: int) -> Iterator[None]:
    """Let processes, and those that they start, write no larger file."""
    before = [process.rlimit(psutil.RLIMIT_FSIZE) for process in processes]
    for process, (_, hard) in zip(processes, before, strict=True):
        process.rlimit(psutil.RLIMIT_FSIZE, (size, hard))
    yield
    for process, limits in zip(processes, before, strict=True):
        if is_running(process):
            process.rlimit(psutil.RLIMIT_FSIZE, limits)


def test_a_storage_that_is_full_for_a_while_is_one_line(cluster, storage, undisturbed):
    # Records fit in a file of this size, encoders do not.
    with Driver(storage, RAY_ADDRESS=cluster.address) as driver:
        driver.until_records(2)
        nodes = [process for node in cluster.worker_nodes for process in processes_of(node)]
        with largest_file(nodes, 10_000_000):
            code, _, errors = driver.end()
    assert code == 2
    assert re.fullmatch(
        r"error: \S+/weights\.safetensors can't be written \(\[Errno 27\] File too large\)\. Free "
        r"space, or check the storage, and run the same command again: what is done is kept\.\n",
        errors,
    )
    found = sorted(path.name for path in storage.glob("sweeps/*/cells/*/*"))
    done = len(states(storage))
    assert 2 <= done < N_CELLS
    assert found == done * ["record.json"] + done * ["weights.safetensors"]
    assert not list(storage.glob(f"sweeps/*/{CLAIM}"))

    assert final_table(swept(storage)) == final_table(undisturbed[1])
    assert results(storage) == results(undisturbed[0])
    assert written_once([driver])
    assert_nothing_is_left_but_results(storage)


def test_the_cells_of_a_lost_node_run_elsewhere(cluster, storage, undisturbed):
    with Driver(storage, RAY_ADDRESS=cluster.address) as driver:
        driver.until_records(2)
        lost = next(iter(cluster.worker_nodes))
        driver.until(lambda: any(map(is_worker, processes_of(lost))))
        driver.pause(random.Random(2))
        cluster.remove_node(lost, allow_graceful=False)
        at_the_loss = len(states(storage))
        code, shown, errors = driver.end()
    assert (code, errors) == (0, "")
    assert at_the_loss < N_CELLS
    assert final_table(shown) == final_table(undisturbed[1])
    assert results(storage) == results(undisturbed[0])
    assert written_once([driver])
    assert_nothing_is_left_but_results(storage)


# ---------------------------------------------------------------- another version, other data


def test_cells_of_another_version_are_kept_or_trained_again_as_is_asked(killed, tmp_path, capsys):
    storage = Path(shutil.copytree(killed.storage, tmp_path / "storage"))
    with pytest.raises(UserError) as refused:
        swept(storage)
    (name,) = re.findall(
        rf"{N_CELLS} cells were made by another version of the code \((\w{{8}}), ",
        str(refused.value),
    )
    assert "`keep_version` NAME" in str(refused.value)

    for cell in sorted(ledger_of(storage).folder.glob("cells/*"))[:3]:
        shutil.rmtree(cell)
    others = states(storage)
    assert "5 done, 3 to train" in swept(storage, keep_version=(name,))
    assert others.items() <= states(storage).items()
    kept = states(storage)
    assert f"{N_CELLS} done, 0 to train" in swept(storage)  # it is remembered
    evaluate.main(evaluate.EvaluationOptions(storage=str(storage)))
    assert "random retrieval" in capsys.readouterr().out

    assert "3 done, 5 to train" in swept(storage, retrain_version=(name,))
    now = states(storage)
    assert {cell for cell in now if now[cell] != kept[cell]} == others.keys()
    assert f"{N_CELLS} done, 0 to train" in swept(storage)
    assert len({record.code_digest for record in ledger_of(storage).records().values()}) == 1
    assert results(storage) == results(killed.storage)


def test_other_data_or_another_training_is_another_sweep_and_says_what_does_not_count(undisturbed):
    storage = undisturbed[0]
    name = ledger_of(storage).folder.name
    shown = swept(storage, max_epochs=4, dry_run=True)
    assert f"not counted: {N_CELLS} cells of {name} (training.max_epochs {EPOCHS}, now 4)" in shown
    assert f"0 done, {N_CELLS} to train" in shown
    other = SyntheticSpec(sentences=70, electrodes=5)
    shown = swept(storage, synthetic=other, dry_run=True)
    assert f"not counted: {N_CELLS} cells of {name} (another dataset" in shown


# ---------------------------------------------------------------- workers that break


@pytest.mark.usefixtures("local_ray")
def test_a_worker_that_breaks_is_tried_again_and_then_recorded_with_its_reason(tmp_path):
    # Half a batch is a specification that passes, and no tensor can be split by it.
    ledger, records = Ledger(UPath(tmp_path)), []
    search = Search(sweep_of({"training.batch_size": (1.5, 8)}), Full())
    train(search, ledger, lambda record, _: records.append(record))
    failed, done = sorted(records, key=lambda record: record.done)
    assert (failed.configuration, done.configuration) == (
        {"training.batch_size": 1.5},
        {"training.batch_size": 8},
    )
    assert re.fullmatch(r"3 times in a row, TypeError: split\w*\(\): .*", failed.reason)
    assert ledger.records() == {failed.signature: failed, done.signature: done}


@pytest.mark.usefixtures("local_ray")
def test_a_driver_that_cannot_write_stops_with_that_line(tmp_path):
    ledger, records = Ledger(UPath(tmp_path)), []

    def keep(record: Record, _: Change) -> None:
        records.append(record)
        write_whole(UPath(tmp_path) / "cells" / record.signature, "a folder is in the way")

    with pytest.raises(UserError, match=r"can't be written .*Is a directory"):
        train(Search(sweep_of({"training.batch_size": (4, 8, 16)}), Full()), ledger, keep)
    assert 1 <= len(records) <= 2  # the one that was in progress is taken in too
    assert ledger.records().keys() == {record.signature for record in records}


def sweep_of(levels: dict[str, Sequence[float]]) -> Sweep:
    """A sweep of one family with one seed."""
    family = Family(name="all", levels=levels)
    return Sweep(
        question="masking",
        dataset_digest="tiny",
        specification=SentenceSpec(
            encoder=ResNetSpec(weights="random"), training=TrainingSpec(max_epochs=1)
        ),
        families=(family,),
        configurations=family.size,
        seeds=(0,),
    )


def train(search: Search, ledger: Ledger, on_record: OnRecord) -> None:
    rng = np.random.default_rng(0)
    dataset = Dataset(
        digest="tiny",
        spectrograms=rng.standard_normal((30, 2, 16, 16)).astype(np.float16),
        targets=rng.standard_normal((30, 512)).astype(np.float32),
        stimuli=tuple(map(str, range(30))),
        spans_s=np.arange(60.0).reshape(30, 2),
    )
    train_cells(search, shared(dataset), ledger, Resources(cpus=1, gpus=0), Budget(), on_record)


def test_out_of_memory_comes_with_advice():
    error = torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 is full."
    )
    assert describe_loss(error) == (
        "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 is full. "
        "Give cells a larger share of a GPU, or smaller batches"
    )
    assert describe_loss(None) == "its worker died: killed, out of memory, or with its machine"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_worker_that_is_given_a_gpu_and_finds_none_stops_the_sweep_with_that_line(
    cluster, storage
):
    boastful = cluster.add_node(num_cpus=1, num_gpus=1, **PLACE)
    with Driver(storage, "--gpus-per-cell", "1", RAY_ADDRESS=cluster.address) as driver:
        code, _, errors = driver.end()
    cluster.remove_node(boastful)
    assert code == 2
    assert re.fullmatch(
        r"error: a worker on \S+ was given 1 GPUs, but PyTorch \S+ finds none to use\. Check the "
        r"driver there, or set --gpus-per-cell to 0\.\n",
        errors,
    )
    assert not states(storage)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_worker_with_a_share_of_a_gpu_can_use_no_more_of_its_memory():
    total = torch.cuda.get_device_properties(0).total_memory
    device = assigned_device(0.25)
    try:
        with pytest.raises(torch.OutOfMemoryError) as error:
            torch.empty(int(0.24 * total), dtype=torch.uint8, device=device)
        assert "a larger share of a GPU" in describe_loss(error.value)
        torch.empty(int(0.2 * total), dtype=torch.uint8, device=device)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
