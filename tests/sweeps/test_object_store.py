"""A whole sweep on a storage that is reached by S3's protocol alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from analysis import test_evaluation
from ssense.storage import locate
from sweeps.engine.ledger import Ledger, find_ledger
from sweeps.engine.reproduce import reproduce_cell

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
    assert f"analysis/test_evaluation.py --storage {STORAGE}" in done.stdout
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
    assert files == {"encoder.safetensors": N_CELLS, "record.json": N_CELLS}
    assert not (ledger.folder / "driver.json").exists()


def test_a_cell_takes_few_requests(requests):
    of_cells = [request for request in requests if re.search(r"/cells/\w{16}/", request)]
    kinds = Counter(request.split()[0] for request in of_cells)
    # Record and checkpoint are looked for, encoder and record written, the driver sees the record.
    assert kinds == dict.fromkeys(("GET", "PUT"), 2 * N_CELLS) | {
        "DELETE": N_CELLS,
        "HEAD": N_CELLS,
    }


def test_a_cell_is_reproduced_from_what_is_stored(ledger):
    (name, *_) = ledger.records()
    assert reproduce_cell(locate(STORAGE), name, threads=1).exact


def test_the_test_evaluation_reads_and_writes_it(ledger, capsys):
    test_evaluation.main(test_evaluation.EvaluationOptions(storage=STORAGE))
    assert "random retrieval" in capsys.readouterr().out
    assert "random retrieval" in (ledger.folder / "evaluation" / "table.md").read_text()
    assert len(list((ledger.storage / "looks").glob("*/look-*.json"))) == 1
