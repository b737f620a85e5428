from __future__ import annotations

import dataclasses
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import h5py
import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
import torch
from upath import UPath

from ssense.data.recordings.readers.brain_treebank import open_brain_treebank
from ssense.data.recordings.segment_signals import read_segments
from ssense.data.recordings.segments import SegmentSpec
from ssense.data.recordings.transcript import ACOUSTIC_SUMMARIES
from ssense.data.shards import (
    FIGURE,
    LEAST_SHARDS,
    feature_spec,
    read_manifest,
    read_shards,
    shard_name,
    summary_lines,
)
from ssense.data.synthetic.recording import SyntheticSpec, write_synthetic
from ssense.engine.tasks import feature_making, recording_data
from ssense.engine.tasks.dataset_plan import DatasetPlan, load_dataset, plan_dataset
from ssense.engine.tasks.feature_making import OnShard, ShardTask, make_shards
from ssense.engine.tasks.recording_data import RecordingData
from ssense.engine.tasks.recording_plan import SMALL
from ssense.errors import UserError
from ssense.model.encoders.spectrogram_encoder import ResNetSpec
from ssense.signal.band_power import BandPowerSpec
from ssense.signal.features import AnyFeatureSpec, features
from ssense.signal.fourier import FourierSpec
from ssense.signal.superlets import SuperletSpec
from ssense.targets.text import TextSpec
from ssense.training.sentences import SentenceSpec

pytestmark = pytest.mark.usefixtures("local_ray")

SENTENCES = 150
FOR_PEOPLE = {FIGURE, "data_report.json", "data_report.md"}
SLOW = SuperletSpec(decimation=2, edge_clip=1)  # about a second for a shard

DRIVER = """
import os, pickle, sys
from pathlib import Path
import ray
from ssense.engine.tasks.feature_making import make_shards
from ssense.engine.work.workers import quiet_ray

os.environ["RAY_AUTH_MODE"] = "disabled"
quiet_ray()
ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
plan = pickle.loads(Path(sys.argv[1]).read_bytes())
make_shards(plan.features, plan.report, lambda done, _: print(done, flush=True))
print("finished", flush=True)
"""


@pytest.fixture(scope="module")
def recording_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("recordings") / "synthetic"
    write_synthetic(folder, SyntheticSpec(sentences=SENTENCES, electrodes=5))
    return folder


def plan_of(folder: Path, storage: Path, superlets: AnyFeatureSpec = SMALL) -> DatasetPlan:
    text = TextSpec(weights="untrained")
    recording = open_brain_treebank(folder)
    return plan_dataset(recording, SegmentSpec.literal(), superlets, text, UPath(storage))


def make(plan: DatasetPlan, on_shard: OnShard = lambda *_: None) -> None:
    make_shards(plan.features, plan.report, on_shard)


def test_shards_hold_the_spectrograms_of_the_segments(recording_folder, tmp_path):
    plan = plan_of(recording_folder, tmp_path)
    calls = []
    make(plan, lambda done, total: calls.append((done, total)))
    columns, spectrograms = read_shards(plan.features.folder)
    assert calls == [(done, LEAST_SHARDS) for done in range(1, LEAST_SHARDS + 1)]
    assert spectrograms.shape == plan.shape
    assert tuple(columns["text"]) == plan.features.segments.text
    assert columns["onset_s"] == plan.features.segments.onset_s.tolist()
    sound = plan.features.recording.transcript.acoustics(plan.features.segments.sentence_idx)
    assert set(sound) == set(ACOUSTIC_SUMMARIES)
    for name, values in sound.items():
        np.testing.assert_array_equal(np.array(columns[name], np.float64), values)
    rows = [0, 70, len(plan.features.segments) - 1]
    signals = read_segments(
        plan.features.recording, plan.features.segments, plan.features.data, rows
    )
    wanted = features(signals, plan.features.recording.sampling_rate_hz, SMALL).numpy()
    np.testing.assert_allclose(spectrograms[rows], wanted, atol=2e-3)


@pytest.mark.parametrize(
    "recipe", [FourierSpec(n_frequencies=8), BandPowerSpec(bands="beta+gamma")]
)
def test_shards_hold_the_features_of_any_recipe(recipe, recording_folder, tmp_path):
    plan = plan_of(recording_folder, tmp_path, recipe)
    assert plan.features.folder != plan_of(recording_folder, tmp_path).features.folder
    make(plan)
    _, stored = read_shards(plan.features.folder)
    assert stored.shape == plan.shape
    chosen = plan.features.segments
    signals = read_segments(plan.features.recording, chosen, plan.features.data, [3])
    lengths = chosen.stop[[3]] - chosen.start[[3]]
    wanted = features(signals, plan.features.recording.sampling_rate_hz, recipe, lengths[:, None])
    np.testing.assert_allclose(stored[[3]], wanted, atol=5e-3)
    assert feature_spec(read_manifest(plan.features.folder).settings["superlets"]) == recipe
    assert any(recipe.kind in line for line in summary_lines(plan.features.folder))
    assert (Path(str(plan.features.folder)) / FIGURE).stat().st_size > 10_000


def test_recipes_of_one_field_less_are_other_shards(recording_folder, tmp_path):
    recipes = SuperletSpec(), FourierSpec(), BandPowerSpec(), BandPowerSpec(log=False)
    plans = [plan_of(recording_folder, tmp_path, recipe) for recipe in recipes]
    assert len({plan.features.folder for plan in plans}) == len({p.digest for p in plans}) == 4


def test_features_that_half_precision_can_t_hold_are_refused(
    recording_folder, tmp_path, monkeypatch
):
    def large(signal: torch.Tensor, *_: object) -> torch.Tensor:
        return torch.full((len(signal), 16, 22), 1e5)

    monkeypatch.setattr("ssense.signal.features.features", large)
    task = ShardTask(plan_of(recording_folder, tmp_path).features)
    error = task({"shard": 0, "first": 0, "last": 2})["error"]
    assert "features of up to 1e+05 are more than half precision holds, 65504. Set their" in error


def test_padding_is_left_out_where_the_specification_says_so(recording_folder, tmp_path):
    padded_after = dataclasses.replace(SMALL, pad_domain="spec")
    plan = plan_of(recording_folder, tmp_path, padded_after)
    make(plan)
    _, spectrograms = read_shards(plan.features.folder)
    lengths = plan.features.segments.stop - plan.features.segments.start
    for row in (int(np.argmin(lengths)), int(np.argmax(lengths))):
        (alone,) = read_segments(
            plan.features.recording, plan.features.segments, plan.features.data, [row]
        )
        wanted = features(alone[:, : lengths[row]], plan.features.recording.sampling_rate_hz, SMALL)
        frames = wanted.shape[-1]
        np.testing.assert_allclose(spectrograms[row, ..., :frames], wanted, atol=2e-3)
        assert not spectrograms[row, ..., frames:].any()


def test_the_manifest_says_where_the_shards_come_from(recording_folder, tmp_path):
    plan = plan_of(recording_folder, tmp_path)
    make(plan)
    manifest = read_manifest(plan.features.folder)
    assert manifest.digest == plan.features.folder.name
    assert manifest.origin["recording"] == plan.features.recording.digest
    assert manifest.settings["superlets"]["n_frequencies"] == SMALL.n_frequencies
    assert manifest.dropped == plan.features.segments.dropped
    assert tuple(manifest.electrodes) == plan.features.segments.electrodes
    assert manifest.sampling_rate_hz == 512
    assert manifest.sources.keys() == plan.features.recording.files.keys()
    stored = sorted(path.name for path in plan.features.folder.iterdir())
    assert stored == sorted(FOR_PEOPLE | {"manifest.json", *(s.name for s in manifest.shards)})
    report = json.loads((plan.features.folder / "data_report.json").read_text())
    assert report["sentences"]["kept"] == len(plan.features.segments)
    about = pq.read_schema(Path(str(plan.features.folder)) / "part-00000.parquet").metadata
    assert tuple(json.loads(about[b"shape"])) == plan.shape[1:]


def test_a_second_run_reuses_them_and_another_storage_gets_the_same_bytes(
    recording_folder, tmp_path
):
    plan = plan_of(recording_folder, tmp_path / "a")
    make(plan)
    before = {path.name: path.stat().st_mtime_ns for path in plan.features.folder.iterdir()}
    make(plan, lambda *_: pytest.fail("computed again"))
    assert before == {path.name: path.stat().st_mtime_ns for path in plan.features.folder.iterdir()}
    twin = plan_of(recording_folder, tmp_path / "b")
    make(twin)
    for path in plan.features.folder.iterdir():
        assert path.read_bytes() == (twin.features.folder / path.name).read_bytes()


def test_workers_make_what_this_process_makes(recording_folder, tmp_path, monkeypatch):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    here, there = (plan_of(recording_folder, tmp_path / name) for name in ("here", "there"))
    make(here)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)
    monkeypatch.setattr(feature_making, "_SMALL_BYTES", 0)
    monkeypatch.setattr(feature_making, "_here", None)
    make(there)
    assert contents(here.features.folder) == contents(there.features.folder)


def test_only_what_is_missing_damaged_or_foreign_is_made_again(recording_folder, tmp_path):
    plan = plan_of(recording_folder, tmp_path)
    make(plan)
    folder = Path(str(plan.features.folder))
    whole = contents(folder)
    (folder / "manifest.json").unlink()
    (folder / shard_name(0)).unlink()
    (folder / shard_name(1)).write_bytes(whole[shard_name(1)][:-100])
    shutil.copy(folder / shard_name(4), folder / shard_name(2))
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert not plan.features.is_made()
    make(plan)
    assert contents(folder) == whole
    after = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    made = {name for name in whole if after[name] != before.get(name)}
    # The copy of another shard has the rows of another stretch, but the right origin and size.
    assert made == FOR_PEOPLE | {"manifest.json", *map(shard_name, (0, 1, 2))}


def test_shards_of_another_version_of_the_code_are_said_to_be_so(
    recording_folder, tmp_path, monkeypatch, capsys
):
    plan = plan_of(recording_folder, tmp_path)
    data = RecordingData(own=plan)
    data.make([plan.digest])
    capsys.readouterr()
    data.make([plan.digest])
    assert "version of the code" not in capsys.readouterr().out
    monkeypatch.setattr(recording_data, "feature_code", lambda: "0" * 32)
    data.make([plan.digest])
    said = capsys.readouterr().out
    assert "there already\n  computed by another version of the code. If it computes" in said
    assert f"delete {plan.features.folder}." in said


def test_other_sentences_or_samples_under_the_same_specification_are_other_shards(
    recording_folder, tmp_path
):
    plan = plan_of(recording_folder, tmp_path)
    fewer = dataclasses.replace(plan.features.segments, stop=plan.features.segments.stop - 1)
    assert (
        dataclasses.replace(
            plan, features=dataclasses.replace(plan.features, segments=fewer)
        ).digest
        != plan.digest
    )
    same = dataclasses.replace(plan.features, segments=dataclasses.replace(plan.features.segments))
    assert dataclasses.replace(plan, features=same).digest == plan.digest


def test_memory_that_does_not_suffice_is_one_line(recording_folder, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2.00 GiB.")

    monkeypatch.setattr("ssense.signal.features.features", full)
    task = ShardTask(plan_of(recording_folder, tmp_path).features)
    error = task({"shard": 0, "first": 0, "last": 2})["error"]
    assert "can't compute spectrograms (CUDA out of memory. Tried to allocate 2.00 GiB). " in error
    assert "\n" not in error


def test_shards_under_a_false_name_are_not_loaded(recording_folder, tmp_path):
    plan = plan_of(recording_folder, tmp_path)
    make(plan)
    false = plan.features.folder.with_name("0123456789abcdef")
    shutil.copytree(plan.features.folder, false)
    with pytest.raises(UserError, match="was made from") as error:
        load_dataset(false.name, plan.target, plan.storage)
    assert str(false) in str(error.value)


# ---------------------------------------------------------------- kills, and two drivers at once


@contextmanager
def driver(plan: DatasetPlan) -> Iterator[subprocess.Popen[str]]:
    """Run a driver as a process; whatever it leaves behind is ended."""
    plan.storage.mkdir(parents=True, exist_ok=True)
    sent = plan.storage / "plan.pickle"
    sent.write_bytes(pickle.dumps(plan))
    # The Ray of this process must not be taken for theirs.
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [sys.executable, "-c", DRIVER, str(sent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            yield process
        finally:
            left = below(process.pid)
            process.kill()
            for child in left:
                child.kill()


def below(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def working(pid: int) -> list[psutil.Process]:
    """Workers of a driver that are at a shard: Ray names processes by their task."""
    found = []
    for process in below(pid):
        with suppress(psutil.NoSuchProcess):
            if "Map" in process.name():
                found.append(process)
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(str(folder)).iterdir()}


@pytest.fixture(scope="module")
def undisturbed(recording_folder, tmp_path_factory, local_ray) -> dict[str, bytes]:
    assert local_ray is None  # it only has to run
    plan = plan_of(recording_folder, tmp_path_factory.mktemp("undisturbed"), SLOW)
    make(plan)
    return contents(plan.features.folder)


def test_a_killed_driver_is_taken_up_and_a_killed_worker_does_not_matter(
    recording_folder, tmp_path, undisturbed
):
    plan = plan_of(recording_folder, tmp_path, SLOW)
    folder = Path(str(plan.features.folder))
    with driver(plan) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "1\n"
        workers = below(first.pid)
        first.send_signal(signal.SIGKILL)
    psutil.wait_procs(workers, timeout=30)
    left = {path.name: path.stat().st_mtime_ns for path in folder.glob("part-*.parquet")}
    assert 1 <= len(left) < LEAST_SHARDS
    assert not (folder / "manifest.json").exists()

    with driver(plan) as second:
        assert second.stdout is not None
        while not (busy := working(second.pid)):
            assert second.poll() is None, "it was over before a worker could be killed"
        busy[0].kill()
        shown = [line for line in second.stdout.read().splitlines() if "raylet" not in line]
    assert shown[0] == "1"  # shards that are there do not count
    assert shown[-1] == "finished"
    kept = {path.name: path.stat().st_mtime_ns for path in folder.glob("part-*.parquet")}
    assert kept == kept | left
    # What a process killed in the middle of a write leaves behind goes once it is a minute old.
    assert {n: c for n, c in contents(folder).items() if not n.startswith(".")} == undisturbed


def test_two_drivers_at_once_leave_one_whole_result(recording_folder, tmp_path, undisturbed):
    plan = plan_of(recording_folder, tmp_path, SLOW)
    with driver(plan) as one, driver(plan) as other:
        outputs = [process.communicate(timeout=300)[0] for process in (one, other)]
    assert all(output.endswith("finished\n") for output in outputs)
    assert contents(plan.features.folder) == undisturbed


def test_an_unreadable_signal_is_one_line_out_of_the_workers(recording_folder, tmp_path):
    folder = tmp_path / "broken"
    shutil.copytree(recording_folder, folder)
    (signals,) = folder.rglob("*.h5")
    plan = plan_of(folder, tmp_path / "storage", SLOW)  # leaves out what it sees in time
    with h5py.File(signals, "r+") as file:
        middle = len(file["data/electrode_1"]) // 2
        file["data/electrode_1"][middle : middle + 5000] = np.nan
    with pytest.raises(UserError, match="electrode_1") as error:
        make(plan)
    assert "\n" not in str(error.value)
    assert not plan.features.is_made()


def test_the_digest_follows_recording_and_specifications(recording_folder, tmp_path):
    plan = plan_of(recording_folder, tmp_path)
    moved = tmp_path / "moved"
    shutil.copytree(recording_folder, moved)
    assert plan_of(moved, tmp_path).digest == plan.digest
    with h5py.File(next(moved.rglob("*.h5")), "r+") as file:
        file["data/electrode_0"][0] += 1
    assert plan_of(moved, tmp_path).digest != plan.digest


def test_too_few_sentences_for_a_split(tmp_path):
    write_synthetic(tmp_path / "few", SyntheticSpec(sentences=3, electrodes=5))
    with pytest.raises(UserError, match="1 sentence is too few for a random split"):
        plan_of(tmp_path / "few", tmp_path)


# ---------------------------------------------------------------- embeddings by another version


def test_text_embeddings_of_another_version_of_the_code_are_said_to_be_so(
    recording_folder, tmp_path, monkeypatch, capsys
):
    data = RecordingData(own=plan_of(recording_folder, tmp_path))
    spec = SentenceSpec(encoder=ResNetSpec(weights="random"))
    data.warm(spec)
    data.warm(spec)
    assert "version of the code" not in capsys.readouterr().out
    monkeypatch.setattr(recording_data, "embedding_code", lambda: "0" * 32)
    data.warm(spec)
    (kept,) = (path for path in (tmp_path / "text").iterdir() if "tokens" not in path.name)
    said = "".join(capsys.readouterr().out.split())
    line = f"computed by another version of the code. If it computes otherwise now, delete {kept}."
    assert line.replace(" ", "") in said
