from __future__ import annotations

import numpy as np
import pytest

from ssense.api.dataset import SweepDataset
from ssense.data.paired import PairedStimuli
from ssense.engine.core.origin import DatasetOrigin
from ssense.engine.sweep_data import sweep_dataset
from ssense.errors import UserError


def test_the_dataset_is_that_of_the_training(result):
    mine, own = result.dataset, sweep_dataset(result.ledger)
    assert mine.digest == own.digest
    np.testing.assert_array_equal(mine.features, own.spectrograms)
    np.testing.assert_array_equal(mine.targets, own.targets)
    assert mine.stimuli["text"].tolist() == list(own.stimuli)
    spans = mine.stimuli[["start", "stop"]].to_numpy() / 256
    np.testing.assert_allclose(spans, own.spans_s)
    assert len(mine.electrodes) == own.spectrograms.shape[1]
    for seed in (0, 1, 7):
        split, wanted = mine.split(seed), own.split("random", seed)
        for part in ("train", "validation", "test"):
            np.testing.assert_array_equal(getattr(split, part), getattr(wanted, part))
    shown = f"{len(own.stimuli)} sentences, 3 electrodes, dataset {own.digest}"
    assert repr(mine) == f"sub_9, Synthetic: {shown}"


def test_stimuli_and_targets_come_without_the_features(result):
    mine = result.dataset_of(result.cells["signature"][0])
    _ = mine.stimuli, mine.targets, mine.split(0)
    assert "features" not in vars(mine)


def test_sentences_that_all_datasets_share_are_told_from_the_shards(result, tiny_sweep):
    """Of a sweep that compares data, whose datasets have some of the sentences and electrodes."""
    mine = result.dataset
    stimuli = mine.stimuli.iloc[10:150]
    paired = PairedStimuli(
        stimuli["sentence_idx"].to_numpy(),
        np.arange(len(stimuli)),
        np.ascontiguousarray(stimuli[["start", "stop"]]) / 256,
    )
    paired.write(tiny_sweep)
    origin = result.description.origin
    made = DatasetOrigin(
        digest="of these",
        changes={},
        shards=origin.shards,
        text=origin.text,
        paired=paired.digest,
        electrodes=mine.electrodes[1:],
    )
    some = SweepDataset(result.ledger, origin, made)
    assert some.electrodes == mine.electrodes[1:]
    assert some.stimuli["text"].tolist() == stimuli["text"].tolist()
    assert some.stimuli.index.tolist() == list(range(140))
    with pytest.raises(UserError, match="the dataset was of these, now it is"):
        _ = some.targets


@pytest.mark.parametrize("seed", [-1, 1.0, "0", True])
def test_what_is_no_seed_is_refused(result, seed):
    with pytest.raises(UserError, match="seed must be a whole number from 0"):
        result.dataset.split(seed)
