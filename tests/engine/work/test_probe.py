from __future__ import annotations

import os

import pytest
import torch

from ssense.data.dataset import Pairs
from ssense.engine.work.probe import probe_seconds
from ssense.errors import UserError
from ssense.model.encoders.spectrogram_encoder import ResNetSpec
from ssense.specification import configured
from ssense.training.sentences import SentenceSpec, TrainingSpec

TRAINING = SentenceSpec(
    encoder=ResNetSpec(weights="imagenet"), training=TrainingSpec(batch_size=8, max_epochs=3)
)


def examples(n: int, device: torch.device) -> Pairs:
    return Pairs(torch.rand(n, 1, 16, 16, device=device), torch.randn(n, 512, device=device))


def test_a_probe_counts_examples_and_epochs(monkeypatch):
    monkeypatch.setattr("ssense.engine.work.probe.ENOUGH_S", 0.3)
    before = torch.get_num_threads()
    one = probe_seconds(TRAINING, (300, 100), examples, threads=1, gpus=0)
    more_examples = probe_seconds(TRAINING, (3000, 1000), examples, threads=1, gpus=0)
    longer = configured(TRAINING, {"training.max_epochs": 300})
    more_epochs = probe_seconds(longer, (300, 100), examples, threads=1, gpus=0)
    assert torch.get_num_threads() == before
    # Loose: other work may share the processor. Exactly it would be 10 and 100 times.
    assert 2 < more_examples / one < 50
    assert 20 < more_epochs / one < 2000


def test_more_threads_than_cores_are_not_started():
    before = len(os.listdir("/proc/self/task"))
    probe_seconds(TRAINING, (12, 4), examples, threads=10_000, gpus=0)
    assert len(os.listdir("/proc/self/task")) < before + 100


def test_a_gpu_without_room_for_its_context_is_not_tried(monkeypatch):
    def full(_: float) -> torch.device:
        raise torch.AcceleratorError("CUDA error: out of memory")

    monkeypatch.setattr("ssense.engine.work.probe.assigned_device", full)
    assert probe_seconds(TRAINING, (300, 100), examples, threads=1, gpus=0.5) is None


def test_a_training_that_diverges_is_not_timed():
    diverging = configured(TRAINING, {"training.learning_rate": 1e38})
    assert probe_seconds(diverging, (12, 4), examples, threads=1, gpus=0) is None


def test_a_gpu_that_is_not_there_is_one_line():
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(UserError, match=r"was given 0\.5 GPUs, but PyTorch .* finds none to use"):
        probe_seconds(TRAINING, (300, 100), examples, threads=1, gpus=0.5)
