from __future__ import annotations

import numpy as np
import pytest

from analysis.measure.evaluation import Evaluation, Retrieval
from ssense.data.splits import Split
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
