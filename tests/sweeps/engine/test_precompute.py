from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
from upath import UPath

from ssense.data.brain_treebank import SegmentSpec, open_recording, read_segments
from ssense.data.shards import read_manifest, read_shards
from ssense.data.synthetic import SyntheticSpec, write_synthetic
from ssense.errors import UserError
from ssense.model.text import TextSpec
from ssense.signal.superlets import spectrogram
from sweeps.engine.options import SMALL
from sweeps.engine.precompute import DatasetPlan, make_shards, plan_dataset

pytestmark = pytest.mark.usefixtures("local_ray")

SENTENCES = 150  # three shards


@pytest.fixture(scope="module")
def recording_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("recordings") / "synthetic"
    write_synthetic(folder, SyntheticSpec(sentences=SENTENCES, electrodes=5))
    return folder


def plan_of(folder: Path, storage: Path) -> DatasetPlan:
    text = TextSpec(weights="untrained")
    recording = open_recording(folder)
    return plan_dataset(recording, SegmentSpec.literal(), SMALL, text, UPath(storage))


def test_shards_hold_the_spectrograms_of_the_segments(recording_folder, tmp_path):
    plan = plan_of(recording_folder, tmp_path)
    calls = []
    make_shards(plan, on_shard=lambda done, total: calls.append((done, total)))
    columns, spectrograms = read_shards(plan.shard_folder)
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert spectrograms.shape == plan.shape
    assert tuple(columns["text"]) == plan.segments.text
    assert columns["onset_s"] == plan.segments.onset_s.tolist()
    rows = [0, 70, len(plan.segments) - 1]
    signals = read_segments(plan.recording, plan.segments, plan.segment_spec, rows)
    wanted = spectrogram(signals, plan.recording.sampling_rate_hz, SMALL).numpy()
    np.testing.assert_allclose(spectrograms[rows], wanted, atol=2e-3)


def test_the_manifest_says_where_the_shards_come_from(recording_folder, tmp_path):
    plan = plan_of(recording_folder, tmp_path)
    make_shards(plan, on_shard=lambda *_: None)
    manifest = read_manifest(plan.shard_folder)
    assert manifest.digest == plan.shard_folder.name
    assert manifest.origin["recording"] == plan.recording.digest
    assert manifest.origin["superlets"]["n_frequencies"] == SMALL.n_frequencies
    assert manifest.dropped == plan.segments.dropped
    assert tuple(manifest.electrodes) == plan.segments.electrodes
    assert manifest.sampling_rate_hz == 512
    stored = sorted(path.name for path in plan.shard_folder.iterdir())
    assert stored == ["manifest.json", *(shard.name for shard in manifest.shards)]
    schema = pq.read_schema(Path(str(plan.shard_folder)) / "part-00000.parquet")
    assert "fixed_shape_tensor" in str(schema.field("spectrogram").type)


def test_a_second_run_reuses_them_and_another_storage_gets_the_same_bytes(
    recording_folder, tmp_path
):
    plan = plan_of(recording_folder, tmp_path / "a")
    make_shards(plan, on_shard=lambda *_: None)
    before = {path.name: path.stat().st_mtime_ns for path in plan.shard_folder.iterdir()}
    make_shards(plan, on_shard=lambda *_: pytest.fail("computed again"))
    assert before == {path.name: path.stat().st_mtime_ns for path in plan.shard_folder.iterdir()}
    twin = plan_of(recording_folder, tmp_path / "b")
    make_shards(twin, on_shard=lambda *_: None)
    for path in plan.shard_folder.iterdir():
        assert path.read_bytes() == (twin.shard_folder / path.name).read_bytes()


def test_an_interrupted_folder_is_not_taken_for_a_finished_one(recording_folder, tmp_path):
    plan = plan_of(recording_folder, tmp_path)
    partial = plan.shard_folder.with_name(f".{plan.shard_folder.name}.partial")
    partial.mkdir(parents=True)
    (partial / "part-00000.parquet").write_bytes(b"half a shard")
    assert not plan.has_shards()
    make_shards(plan, on_shard=lambda *_: None)
    assert len(read_shards(plan.shard_folder)[0]["text"]) == plan.shape[0]
    assert not partial.exists()


def test_an_unreadable_signal_is_one_line_out_of_the_workers(recording_folder, tmp_path):
    folder = tmp_path / "broken"
    shutil.copytree(recording_folder, folder)
    (signals,) = folder.rglob("*.h5")
    with h5py.File(signals, "r+") as file:
        middle = len(file["data/electrode_1"]) // 2
        file["data/electrode_1"][middle : middle + 5000] = np.nan
    plan = plan_of(folder, tmp_path / "storage")
    with pytest.raises(UserError, match="electrode_1") as error:
        make_shards(plan, on_shard=lambda *_: None)
    assert "\n" not in str(error.value)
    assert not plan.has_shards()


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
    with pytest.raises(UserError, match="sentences are too few for a split"):
        plan_of(tmp_path / "few", tmp_path)
