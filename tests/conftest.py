from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import optuna
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ssense.cli import screen

if TYPE_CHECKING:
    from upath import UPath

os.environ.update(HF_HUB_OFFLINE="1", RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0")
# What is said is searched for words, which line breaks would part.
os.environ["COLUMNS"] = "300"  # of processes that tests start
screen.console.width = 10_000
for name in [name for name in os.environ if name.startswith("SSENSE_")]:
    del os.environ[name]
torch.set_num_threads(1)
optuna.logging.set_verbosity(optuna.logging.ERROR)
# The same examples in every run: whoever changes nothing sees no test fail.
hypothesis.settings.register_profile("shared machine", deadline=None, derandomize=True)
hypothesis.settings.load_profile("shared machine")


LONGEST = (
    *("test_survival.py", "test_smallest_sizes.py", "test_ray_submit.py", "test_evaluate.py"),
    *("test_feature_making.py", "test_masking.py", "test_own_ray.py", "test_growth.py"),
    *("test_trained.py", "test_data_choices.py", "test_object_store.py", "test_evaluate_images.py"),
    *("test_learning_curve.py", "test_images.py", "test_compare.py", "test_tracking.py"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files: as the last, one would keep a single process at work."""
    places = {name: place for place, name in enumerate(LONGEST)}

    def place(item: pytest.Item) -> tuple[int, bool]:
        return places.get(item.path.name, len(places)), "sweeps" not in item.path.parts

    items.sort(key=place)


@pytest.fixture(scope="session", autouse=True)
def cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the tests' digests out of the user's cache; processes that tests start inherit it."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


READS = {"_local_scalar_dense", "equal", "nonzero", "masked_select", "unique_dim", "_unique2"}


class HostReads(TorchDispatchMode):
    """Counts how often values are read: on a GPU, whoever reads one waits for all work before."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.overloadpacket.__name__ in READS
        return func(*args, **(kwargs or {}))


@pytest.fixture
def host_reads() -> type[HostReads]:
    return HostReads


@dataclass(frozen=True)
class ObjectStore:
    """A server that speaks S3's protocol, on loopback, with one bucket.

    Attributes:
        port: Port that the store listens at.
        log: A line for every request.
    """

    port: int
    log: Path

    @property
    def environment(self) -> dict[str, str]:
        """How a process finds it: AWS's own variables."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def requests(self) -> list[str]:
        """Every request so far: "PUT /lab/KEY"."""
        return re.findall(r'"(?:\x1b\[\d+m)*([A-Z]+ \S+) HTTP/1\.1', self.log.read_text())


SERVER = """
import sys
from moto.server import main
main(["-H", "127.0.0.1", "-p", "0"])
"""


@contextmanager
def running_object_store(
    log: Path, program: str = SERVER, *arguments: str
) -> Iterator[ObjectStore]:
    """Run a server of moto's in a process of its own."""
    with log.open("w") as file:
        server = subprocess.Popen(
            [sys.executable, "-c", program, *arguments], stdout=file, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + 120
        while not (port := re.search(r"Running on http://127\.0\.0\.1:(\d+)", log.read_text())):
            assert time.monotonic() < deadline, log.read_text()
            assert server.poll() is None, log.read_text()
            time.sleep(0.1)
        yield ObjectStore(int(port[1]), log)
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="session")
def object_store() -> Callable[..., AbstractContextManager[ObjectStore]]:
    """Run a server of one's own: give the file of its log."""
    return running_object_store


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """An object store with a bucket "lab", for the whole session; the environment leads to it."""
    import boto3

    with running_object_store(tmp_path_factory.mktemp("s3") / "log") as store:
        before = dict(os.environ)
        os.environ.update(store.environment)
        boto3.client("s3").create_bucket(Bucket="lab")
        yield store
        for name in store.environment:
            os.environ.pop(name)
            if name in before:
                os.environ[name] = before[name]


@contextmanager
def no_larger_file(size: int) -> Iterator[None]:
    """Let this process write no file beyond a size in bytes, as on a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.fixture(scope="session")
def small_disk() -> Callable[[int], AbstractContextManager[None]]:
    """A disk with room for so many bytes in each file, see `no_larger_file`."""
    return no_larger_file


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """A Ray of one core: each worker that a sweep starts takes longer than its cells do here."""
    import ray

    from ssense.engine.work.own_ray import on_loopback
    from ssense.engine.work.workers import quiet_ray

    quiet_ray()
    with on_loopback():
        ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ssense.engine.work.probe.ENOUGH_S", 0.0)  # a plan's time may be rough
        yield
    ray.shutdown()


@pytest.fixture(scope="session")
def tiny_sweep(tmp_path_factory, local_ray) -> Iterator[UPath]:  # noqa: ARG001 - it runs there
    """A storage with a sweep of one configuration and two seeds, on two hundred sentences."""
    from upath import UPath

    from ssense.data.synthetic.spec import SyntheticSpec
    from ssense.engine.core.budget import Budget
    from ssense.engine.run import run_sweep
    from ssense.engine.tasks.recording_options import RecordingOptions

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
    shutil.copytree(folder, untouched(folder), copy_function=os.link)
    yield UPath(folder)
    shutil.rmtree(folder)  # encoders are large
    shutil.rmtree(untouched(folder))


def untouched(storage: Path) -> Path:
    """The tiny sweep as it was before any test evaluated it or ran controls."""
    return storage.with_name(f"{storage.name}-untouched")


@pytest.fixture(scope="session")
def unseen_sweep(tiny_sweep: UPath) -> UPath:
    """The tiny sweep, at whose test splits nobody looked. Copy it before you do."""
    from upath import UPath

    return UPath(untouched(Path(str(tiny_sweep))))


@pytest.fixture(scope="session")
def linked() -> Callable[[UPath, Path], UPath]:
    """Copies a storage by links, without MLflow and recordings: replace its files, never edit."""
    from upath import UPath

    ignored = shutil.ignore_patterns("mlflow*", "mlruns", "recordings")
    return lambda source, target: UPath(
        shutil.copytree(str(source), target, copy_function=os.link, ignore=ignored)
    )


NO_TEXT = {"context_length": 8, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1}
TINY_TOWERS = {
    "tiny-vit": {"image_size": 32, "layers": 3, "width": 48, "head_width": 16, "patch_size": 8},
    "tiny-resnet": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8},
}


@pytest.fixture(scope="session")
def tiny_towers(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Names of small models that open_clip builds within milliseconds: a ViT and a ResNet."""
    import open_clip  # takes seconds

    folder = tmp_path_factory.mktemp("models")
    for name, vision in TINY_TOWERS.items():
        config = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": NO_TEXT}
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)
    return tuple(TINY_TOWERS)
