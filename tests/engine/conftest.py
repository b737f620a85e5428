from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ssense.data.dataset import Dataset
from ssense.engine.core.sweep import Family, Sweep
from ssense.model.encoders.spectrogram_encoder import ResNetSpec
from ssense.training.sentences import SentenceSpec, TrainingSpec

N_PAIRS, N_ELECTRODES = 30, 2


def make_dataset() -> Dataset:
    """Make the same small dataset in every process."""
    rng = np.random.default_rng(0)
    text = rng.standard_normal((N_PAIRS, 512)).astype(np.float32)
    return Dataset(
        digest="tiny",
        # As many frames as bf16 needs.
        spectrograms=rng.standard_normal((N_PAIRS, N_ELECTRODES, 16, 17)).astype(np.float16),
        targets=text / np.linalg.norm(text, axis=1, keepdims=True),
        stimuli=tuple(map(str, range(N_PAIRS))),
        spans_s=np.arange(2.0 * N_PAIRS).reshape(N_PAIRS, 2),
    )


@pytest.fixture
def dataset() -> Dataset:
    return make_dataset()


@pytest.fixture
def sweep() -> Sweep:
    return Sweep(
        question="masking",
        dataset_digest="tiny",
        specification=SentenceSpec(
            encoder=ResNetSpec(weights="random"), training=TrainingSpec(max_epochs=2, batch_size=8)
        ),
        families=(
            Family(name="no masking", levels={}),
            Family(name="electrode", levels={"masking.electrode": (0.5,)}),
        ),
        configurations=2,
        seeds=(0, 1),
    )


@pytest.fixture(scope="session")
def older_database(tmp_path_factory) -> Path:
    """A database of the MLflow before the last change of its tables."""
    from alembic import command
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import InitialBase, _get_alembic_config
    from sqlalchemy import create_engine

    path = tmp_path_factory.mktemp("older") / "mlflow.db"
    engine = create_engine(f"sqlite:///{path}")
    InitialBase.metadata.create_all(engine)
    config = _get_alembic_config(f"sqlite:///{path}")
    scripts = ScriptDirectory.from_config(config)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, scripts.get_revision(scripts.get_current_head()).down_revision)
    engine.dispose()
    return path
