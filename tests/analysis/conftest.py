from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from upath import UPath

from analysis.measure.evaluation import Evaluation, Retrieval
from ssense.data.splits import Split
from ssense.data.synthetic.recording import SyntheticSpec
from ssense.engine.core.budget import Budget
from ssense.engine.run import run_sweep
from ssense.engine.tasks.recording_options import RecordingOptions
from ssense.training.sentences import SentenceSpec

N_TEST, N_SEEDS = 292, 10


def retrieval(found: int, seed: int) -> Retrieval:
    """292 queries: 3 true sentences first, `found` - 3 at rank 10, 60 at rank 50, the rest last."""
    ranks = np.repeat([1.0, 10.0, 50.0, 292.0], [3, found - 3, 60, N_TEST - found - 60])
    rows = np.random.default_rng(seed).permutation(1454)[:N_TEST]
    return Retrieval(stimuli=rows, ranks=ranks, first=np.stack([rows] * 5, axis=1))


@pytest.fixture
def evaluation() -> Evaluation:
    """Ten seeds of SSENSE's size; without masking j queries fewer are found at seed j."""
    split = Split(np.arange(872), np.arange(0), np.arange(N_TEST))
    return Evaluation(
        specification=SentenceSpec(),
        chosen={"no masking": {}, "electrode": {"masking.electrode": 0.5}},
        splits=dict.fromkeys(range(N_SEEDS), split),
        retrievals={
            "no masking": [retrieval(20 + 2 * j, j) for j in range(N_SEEDS)],
            "electrode": [retrieval(20 + 3 * j, j) for j in range(N_SEEDS)],
        },
    )


@pytest.fixture(scope="session")
def tiny_sweep(tmp_path_factory, local_ray) -> Iterator[UPath]:  # noqa: ARG001 - it runs there
    """A storage with a sweep of one configuration and two seeds, on two hundred sentences."""
    folder = tmp_path_factory.mktemp("tiny_sweep")
    options = RecordingOptions(
        storage=str(folder),
        seeds=(0, 1),
        max_epochs=1,
        yes=True,
        synthetic=SyntheticSpec(sentences=200, electrodes=5, sampling_rate=256),
    )
    data = options.plan_data()
    sweep = options.sweep("tiny", data, {"no masking": {}})
    assert run_sweep(sweep, data, options, Budget()) == "full"
    yield UPath(folder)
    shutil.rmtree(folder)  # encoders are large


@pytest.fixture(scope="session")
def linked() -> Callable[[UPath, Path], UPath]:
    """Copies a storage by links, without MLflow and recordings: replace its files, never edit."""
    ignored = shutil.ignore_patterns("mlflow*", "mlruns", "recordings")
    return lambda source, target: UPath(
        shutil.copytree(str(source), target, copy_function=os.link, ignore=ignored)
    )
