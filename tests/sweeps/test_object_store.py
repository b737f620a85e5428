"""A whole sweep on a storage that is reached by S3's protocol alone."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from analysis import evaluate
from ssense.engine.records.find import find_ledger
from ssense.engine.records.ledger import COPIES, Ledger
from ssense.engine.reproduce import reproduce_cell
from ssense.files.storage import locate

REPOSITORY = Path(__file__).parents[2]
STORAGE = "s3://lab/whole"
ARGUMENTS = (
    "--synthetic.sentences 60 --synthetic.electrodes 5 --max-epochs 2 --configurations 1 "
    f"--seeds 0 1 --ratios 0.5 --yes --storage {STORAGE}"
).split()
N_CELLS = 8

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def requests(s3, tmp_path_factory) -> list[str]:
    """The requests of one run of the sweep's command line, in a folder of its own."""
    folder = tmp_path_factory.mktemp("elsewhere")
    script = str(REPOSITORY / "sweeps" / "masking.py")
    done = subprocess.run(
        [sys.executable, script, *ARGUMENTS],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert f"analysis/evaluate.py --storage {STORAGE}" in done.stdout
    assert list(folder.iterdir()) == []
    return s3.requests()


@pytest.fixture
def ledger(requests) -> Ledger:  # noqa: ARG001 - which made it
    return find_ledger(locate(STORAGE))


def test_it_leaves_results_and_nothing_else(ledger):
    records = ledger.records()
    assert len(records) == N_CELLS
    assert all(record.done for record in records.values())
    names = [path.partition("/cells/")[2] for path in ledger.folder.fs.find(ledger.folder.path)]
    files = Counter(name.partition("/")[2] for name in names if name)
    assert files == {"weights.safetensors": N_CELLS, "record.json": N_CELLS}
    assert not (ledger.folder / "driver.json").exists()


def test_a_cell_takes_few_requests(requests):
    # Where training takes seconds, a checkpoint of it may be worth its writing.
    requests = [request for request in requests if not re.match(r"PUT .*/checkpoint", request)]
    of_cells = [request for request in requests if re.search(r"/whole/.*/cells/\w{16}/", request)]
    kinds = Counter(request.split()[0] for request in of_cells)
    # Record and checkpoint are looked for, encoder and record written, the checkpoint removed; in
    # the end the record is read into the copy. The driver sees the first record of each worker.
    heads = kinds.pop("HEAD")
    assert 1 <= heads <= (os.cpu_count() or 1)
    assert kinds == {"GET": 3 * N_CELLS, "PUT": 2 * N_CELLS, "DELETE": N_CELLS}


def test_a_cell_is_reproduced_from_what_is_stored(ledger):
    (name, *_) = ledger.records()
    assert reproduce_cell(locate(STORAGE), name, threads=1).exact


def test_the_test_evaluation_reads_and_writes_it(ledger, capsys):
    evaluate.main(evaluate.EvaluationOptions(storage=STORAGE))
    assert "random retrieval" in capsys.readouterr().out
    assert "random retrieval" in (ledger.folder / "evaluation" / "table.md").read_text()
    assert len(list((ledger.storage / "looks").glob("*/look-*.json"))) == 1


def test_an_interrupted_sweep_has_copied_all_its_records(ledger, s3, tmp_path):
    before = ledger.signatures()
    script = str(REPOSITORY / "sweeps" / "masking.py")
    place = ARGUMENTS.index("--seeds") + 1
    arguments = [*ARGUMENTS[:place], "0-19", *ARGUMENTS[place + 2 :]]
    with (tmp_path / "log").open("w") as log:
        sweep = subprocess.Popen(
            [sys.executable, script, *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        while len(ledger.signatures()) < len(before) + 2:
            assert sweep.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.2)
        sweep.send_signal(signal.SIGINT)
        assert sweep.wait(timeout=300) != 0
    n_requests = len(s3.requests())
    found = ledger.records()
    assert len(before) + 2 <= len(found) < 4 * 20
    asked = [request.split("?")[0] for request in s3.requests()[n_requests:]]
    assert asked == ["GET /lab", f"GET /{ledger.folder.path}/{COPIES}"]
