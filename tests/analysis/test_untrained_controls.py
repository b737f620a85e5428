from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from upath import UPath

from analysis.untrained_controls import LENGTH, ONSET, Sentences, without_brain
from analysis.untrained_controls import TEXT as TEXT_CONTROL
from ssense.data.brain_treebank import SegmentSpec, open_recording
from ssense.data.segments import select_segments
from ssense.data.splits import seeded_split
from ssense.data.synthetic import SyntheticSpec, write_synthetic
from ssense.model.text import TextSpec, cached_embeddings
from ssense.retrieval import chance_metrics


def sentences_of(folder: Path, **spec: object) -> Sentences:
    write_synthetic(folder / "recording", SyntheticSpec(coupling=0, **spec))
    recording = open_recording(folder / "recording", "sub_9", "trial000")
    segments = select_segments(recording, SegmentSpec.literal())
    text = cached_embeddings(segments.text, TextSpec(weights="untrained"), UPath(folder / "text"))
    return Sentences(
        duration=torch.from_numpy(np.asarray(segments.stop - segments.start)).double(),
        onset=torch.from_numpy(np.asarray(segments.onset_s)).double(),
        length=torch.tensor([float(len(words)) for words in segments.text]).double(),
        text=text.double(),
    )


def recalls(sentences: Sentences, control: str) -> tuple[float, float]:
    """Mean Recall@10 of a control over seeds, and chance."""
    n = len(sentences.duration)
    splits = [seeded_split(n, seed) for seed in range(10)]
    found = [without_brain(sentences, split)[control]["recall@10"] for split in splits]
    return float(np.mean(found)), chance_metrics(len(splits[0].test))["recall@10"]


def test_durations_that_vary_give_sentences_away_and_equal_ones_do_not(tmp_path):
    varying = sentences_of(tmp_path / "varying")
    for control in (LENGTH, TEXT_CONTROL):
        recall, chance = recalls(varying, control)
        assert recall > 1.5 * chance
    equal = sentences_of(tmp_path / "equal", equal_durations=True)
    assert equal.duration.max() - equal.duration.min() <= 2  # samples, by rounding
    for control in (LENGTH, TEXT_CONTROL):
        recall, chance = recalls(equal, control)
        assert recall == pytest.approx(chance, abs=0.25 * chance)


def test_sentences_that_follow_each_other_are_told_by_their_onset():
    n = 200
    onset = torch.arange(n).double()
    scene = torch.randn(20, 16, generator=torch.Generator().manual_seed(0)).double()
    text = scene[torch.arange(n) // 10] + 0.1 * torch.randn(
        n, 16, generator=torch.Generator().manual_seed(1)
    )
    alone = Sentences(duration=torch.rand(n).double(), onset=onset, length=onset, text=text)
    found = without_brain(alone, seeded_split(n, 0))
    chance = chance_metrics(40)["recall@10"]
    assert found[ONSET]["recall@10"] > 2 * chance
    assert found[TEXT_CONTROL]["recall@10"] < 2 * chance


def test_durations_that_are_all_the_same_give_nothing_away():
    n = 200
    text = torch.randn(n, 16, generator=torch.Generator().manual_seed(0)).double()
    same = Sentences(
        duration=torch.full((n,), 3.5).double(),
        onset=torch.arange(n).double(),
        length=torch.arange(n).double() % 40,
        text=text,
    )
    found = [without_brain(same, seeded_split(n, seed)) for seed in range(10)]
    chance = chance_metrics(40)["recall@10"]
    for control in (LENGTH, TEXT_CONTROL):
        mean = np.mean([each[control]["recall@10"] for each in found])
        assert mean == pytest.approx(chance, abs=0.3 * chance)
