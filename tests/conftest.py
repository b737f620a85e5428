from __future__ import annotations

import os
from collections.abc import Iterator

import hypothesis
import optuna
import pytest
import torch

os.environ.update(HF_HUB_OFFLINE="1", RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0")
for name in [name for name in os.environ if name.startswith("SSENSE_")]:
    del os.environ[name]
torch.set_num_threads(1)
optuna.logging.set_verbosity(optuna.logging.ERROR)
hypothesis.settings.register_profile("shared machine", deadline=None)
hypothesis.settings.load_profile("shared machine")


@pytest.fixture(scope="session", autouse=True)
def cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the tests' digests out of the user's cache; processes that tests start inherit it."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    import ray

    from sweeps.engine.workers import quiet_ray

    quiet_ray()
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()
