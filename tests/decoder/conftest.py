from __future__ import annotations

from pathlib import Path

import pytest

import ssense
from ssense.data.recordings.readers.brain_treebank import open_brain_treebank
from ssense.data.recordings.recording import Recording
from ssense.decoder.trained_model import TrainedModel


@pytest.fixture(scope="session")
def result(tiny_sweep) -> ssense.SweepResult:
    return ssense.open(tiny_sweep).sweeps["tiny"]


@pytest.fixture(scope="session")
def model(result) -> TrainedModel:
    """The model of the tiny sweep's first seed: three electrodes derived from five contacts."""
    return result.model()


@pytest.fixture(scope="session")
def recording(result) -> Recording:
    """The recording that it was trained on."""
    return open_brain_treebank(Path(result.description.origin.recording))
