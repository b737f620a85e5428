from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from analysis.measure.score_splits import Splits, read_splits
from ssense.choices import ImageSplitKind, SplitKind


@pytest.mark.parametrize("kind", [*get_args(SplitKind), *get_args(ImageSplitKind)])
def test_scores_of_a_best_test_epoch_are_said_to_be_no_estimate(kind):
    splits = read_splits(Path("r.csv"), ["split"], [(2, [kind]), (3, [kind.upper()])])
    assert splits == Splits(kind, None, None)
    by_test = kind in (
        "intra-subject, best test epoch",
        "leave-one-subject-out, best test epoch",
    )
    assert splits.caveat.startswith("Best test epoch: the test split itself chose") == by_test
    assert bool(splits.caveat) == by_test
