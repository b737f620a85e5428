from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from language_models import save_model
from upath import UPath

import ssense
from ssense.data.dataset import Pairs
from ssense.decoder.folder import (
    CARD,
    CONFIGURATION,
    MANIFEST,
    TARGET,
    WEIGHTS,
    checked_files,
    files_of,
    is_export_of,
    load,
    write_files,
)
from ssense.errors import UserError
from ssense.files.sealed_json import sealed
from ssense.model.encoders.own import OwnSpec
from ssense.targets.language_model import TransformersSpec
from ssense.targets.own_target import OwnTargetSpec
from ssense.targets.vectors import VectorSpec


@pytest.fixture(scope="module")
def files(model) -> dict[str, bytes]:
    return {**files_of(model), "ranks.parquet": b"PAR1", CARD: b"# a card\n"}


@pytest.fixture
def folder(files, tmp_path) -> Path:
    made = tmp_path / "model"
    made.mkdir()
    write_files(made, files)
    return made


def test_a_loaded_model_is_the_same_and_needs_no_storage(folder, model, recording):
    loaded = load(folder)
    np.testing.assert_array_equal(loaded.embed(recording), model.embed(recording))
    assert loaded.specification == model.specification
    assert loaded.target_content == model.specification.target.by_content()
    assert loaded.preprocessing == model.preprocessing
    for name in ("signature", "configuration", "seed", "held_out", "recording_digest"):
        assert getattr(loaded, name) == getattr(model, name), name
    state, kept = model.encoder.state_dict(), loaded.encoder.state_dict()
    assert all(torch.equal(state[name], kept[name]) for name in state)


def test_the_weights_are_the_ledger_s_to_the_bit(files, result, model):
    cell = result.ledger.cell_folder(model.signature)
    assert files[WEIGHTS] == (cell / "weights.safetensors").read_bytes()


def test_it_is_used_without_ray_optuna_and_mlflow(folder):
    script = (
        "import sys\n"
        "for name in ('ray', 'optuna', 'mlflow', 'ssense.engine', 'ssense.api'):\n"
        "    sys.modules[name] = None\n"
        f"import ssense; print(ssense.load({str(folder)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.startswith("TrainedModel("), done.stderr


def test_a_folder_is_known_again_by_all_but_its_card(folder, files):
    root = UPath(folder)
    assert is_export_of(root, files)
    (folder / CARD).write_text("edited")
    (folder / ".gitattributes").touch()  # which a hub adds
    assert is_export_of(root, files)
    load(folder)
    assert not is_export_of(root, {**files, "ranks.parquet": b"other"})
    (folder / "ranks.parquet").write_bytes(b"other")
    assert not is_export_of(root, files)
    assert not is_export_of(root / "nowhere", files)


@pytest.mark.parametrize("name", [WEIGHTS, "preprocessing.json", "ranks.parquet", MANIFEST])
def test_a_file_that_is_missing_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"lacks {name}. Export it again"):
        load(folder)


@pytest.mark.parametrize("name", [WEIGHTS, "configuration.json", TARGET, "ranks.parquet"])
def test_a_file_that_was_changed_is_named(folder, name):
    content = bytearray((folder / name).read_bytes())
    content[-2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name} was changed: its checksum is not the manifest's"):
        load(folder)


def manifest(folder: Path, **changes: object) -> None:
    known = json.loads((folder / MANIFEST).read_text())
    del known["checksum"]
    (folder / MANIFEST).write_text(json.dumps(sealed(known | changes)))


def test_a_manifest_that_was_changed_or_lists_too_little_is_refused(folder):
    listed = json.loads((folder / MANIFEST).read_text())["files"]
    manifest(folder, files={name: listed[name] for name in listed if name != TARGET})
    with pytest.raises(UserError, match=f"{MANIFEST} is damaged .it does not list {TARGET}"):
        load(folder)
    manifest(folder, format=99)
    with pytest.raises(UserError, match="has format 99, not 1"):
        load(folder)
    (folder / MANIFEST).write_text('{"format": 1, "files": {}, "checksum": "0"}')
    with pytest.raises(UserError, match="content does not match its checksum"):
        load(folder)
    (folder / MANIFEST).write_text("no json")
    with pytest.raises(UserError, match=r"is damaged .*Export it again, or restore the folder"):
        checked_files(UPath(folder))


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/b", "..", ""])
def test_a_manifest_leads_nowhere_else(folder, name):
    listed = json.loads((folder / MANIFEST).read_text())["files"]
    manifest(folder, files={**listed, name: "0"})
    with pytest.raises(UserError, match=f"{MANIFEST} is damaged"):
        load(folder)


def test_what_is_no_folder_or_holds_no_model_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no folder .*nowhere. Give one"):
        load(tmp_path / "nowhere")
    with pytest.raises(UserError, match=f"is no exported model: it lacks {MANIFEST}"):
        load(tmp_path)


def test_contents_that_contradict_each_other_are_refused(files, tmp_path):
    for name, old, new in (
        ("configuration.json", b'"resnet-18"', b'"linear"'),
        ("configuration.json", b'"split": "random"', b'"split": "odd"'),
        ("preprocessing.json", b'"n_samples": ', b'"n_samples": "many", "x": '),
    ):
        made = tmp_path / new.hex()[:40]
        made.mkdir()
        assert old in files[name]
        write_files(made, {**files, name: files[name].replace(old, new)})
        with pytest.raises(UserError, match=r"is damaged|belongs to another model"):
            load(made)
        shutil.rmtree(made)


def test_another_version_of_the_code_is_a_warning(model, tmp_path):
    older = dataclasses.replace(model, code_digest="0badc0de00")
    write_files(tmp_path, files_of(older))
    with pytest.warns(UserWarning, match="trained by another version of the code .0badc0de, this"):
        load(tmp_path)


def test_a_target_from_a_file_is_given_again(model, tmp_path):
    words, other = tmp_path / "words.parquet", tmp_path / "other.parquet"
    for path, value in ((words, 1.0), (other, 2.0)):
        table = pa.table({"id": ["She left.", "No."], "vector": [[value, 0.0], [0.0, 1.0]]})
        pq.write_table(table, path)
    target = VectorSpec(file=str(words))
    specification = dataclasses.replace(model.specification, target=target)
    (made := tmp_path / "model").mkdir()
    write_files(made, files_of(dataclasses.replace(model, specification=specification)))
    assert str(tmp_path) not in (made / TARGET).read_text()  # no place of a machine
    assert load(made, target=str(words)).specification.target == target
    with pytest.raises(UserError, match=r"target words\.txt\.gz/: it is no target\. Give MODEL or"):
        load(made, target="words.txt.gz/")
    with pytest.raises(UserError, match="nowhere"):
        load(made, target="nowhere.npy")
    loaded = load(made, target=target)
    found = loaded.retrieve(np.eye(2), ["No.", "She left."], k=1)
    assert found["candidate"].tolist() == ["She left.", "No."]
    with pytest.raises(UserError, match=r"other\.parquet is not that of the model"):
        load(made, target=VectorSpec(file=str(other)))
    with pytest.raises(UserError, match=r"was read from a file\. Load it with target="):
        load(made).retrieve(np.eye(2), ["She left."])
    assert load(made).retrieve(np.eye(2), np.eye(2), k=1)["candidate"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("own", {"source": "model/evil.py:T"}),
        ("vectors", {"file": "words.npy"}),
        ("transformers", {"model": "model"}),
        ("sentence-transformers", {"model": "./elsewhere"}),
        ("open-clip", {"model": "local-dir:model"}),
        ("open-clip", {"weights": "model/model.safetensors"}),
    ],
)
def test_nothing_on_this_machine_is_read_for_a_target_that_a_folder_names(
    files, tmp_path, monkeypatch, kind, named
):
    monkeypatch.chdir(tmp_path)
    code = b"open('it ran', 'w')\ndef T(texts): return [[1.0, 0.0] for _ in texts]\n"
    content = dict(named)
    if kind == "own":
        content["source"] = f"file {hashlib.sha256(code).hexdigest()[:16]}:T"
    target = {"content": {"kind": kind, **content}, "named": {"kind": kind, **named}}
    (tmp_path / "model").mkdir()
    crafted = {**files, TARGET: json.dumps(target).encode(), "evil.py": code}
    write_files(tmp_path / "model", crafted)
    loaded = load("model")
    with pytest.raises(UserError, match=r"was read from a file\. Load it with target="):
        loaded.retrieve(np.eye(2), ["She left."])
    assert not (tmp_path / "it ran").exists()


def test_a_target_of_the_hub_is_read_at_its_commit_wherever_its_branch_is(
    model, tmp_path, monkeypatch
):
    """Also where nothing is in the cache yet: then the commit is fetched, not the branch."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    commit, later = "a" * 40, "b" * 40
    kept = tmp_path / "hub" / "models--lab--tiny"
    save_model(kept / "snapshots" / commit)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text(commit)
    target = TransformersSpec(model="lab/tiny")
    wanted = target.embed(["She left."])
    specification = dataclasses.replace(model.specification, target=target)
    (made := tmp_path / "model").mkdir()
    write_files(made, files_of(dataclasses.replace(model, specification=specification)))
    save_model(kept / "snapshots" / later)
    (kept / "refs" / "main").write_text(later)
    for given in (None, "transformers:lab/tiny", target):
        assert torch.equal(load(made, target=given).embed_texts(["She left."]), wanted)
    fetched = shutil.move(kept, tmp_path / "fetched")
    loaded = load(made)

    def fetch(name: str, revision: str, **_: object) -> str:
        assert (name, revision) == ("lab/tiny", commit)
        return shutil.copytree(fetched, kept) / "snapshots" / commit

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    assert torch.equal(loaded.embed_texts(["She left."]), wanted)


def test_a_configuration_names_no_place_of_a_machine(model, tmp_path):
    (tmp_path / "bert").mkdir()
    levels = {
        "target": "vectors",
        "target.file": str(tmp_path / "words.npy"),
        "target.source": f"{tmp_path / 'mine.py'}:Mine",
        "target.model": str(tmp_path / "bert"),
        "encoder": "resnet-18",
        "masking.electrode": 0.4,
    }
    kept = json.loads(files_of(dataclasses.replace(model, configuration=levels))[CONFIGURATION])
    assert kept["configuration"] == levels | {
        "target.file": "words.npy",
        "target.source": "mine.py:Mine",
        "target.model": "bert",
    }
    assert str(tmp_path) not in json.dumps(kept)


def test_a_target_that_changed_since_is_refused(model):
    kept = dataclasses.replace(model.specification.target, weights="openai")
    changed = dataclasses.replace(model, target_content=kept)
    with pytest.raises(UserError, match="no longer the one that it was trained for: it was ViT-B-"):
        changed.embed_texts(["She left."])


OWN = """
import torch

class Mine(torch.nn.Module):
    def __init__(self, electrodes, frequencies, frames, dimensions):
        super().__init__()
        self.head = torch.nn.Linear(electrodes * frequencies, dimensions)

    def forward(self, x):
        return self.head(x.mean(dim=-1).flatten(1))
"""


def test_an_encoder_of_one_s_own_travels_along_and_is_run_only_if_asked(model, recording, tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    spec = OwnSpec.of(f"{tmp_path / 'mine.py'}:Mine")
    shape = model.preprocessing.features.n_frames(model.preprocessing.n_samples)
    pairs = Pairs(torch.rand(2, 3, 16, shape).half(), torch.rand(2, 8))
    own = dataclasses.replace(
        model,
        specification=dataclasses.replace(model.specification, encoder=spec),
        encoder=spec.build(pairs, model.specification.training.precision),
    )
    (made := tmp_path / "model").mkdir()
    write_files(made, files_of(own))
    wanted = own.embed(recording)
    (tmp_path / "mine.py").unlink()
    with pytest.raises(UserError, match=r"a Python file of its author's own, encoder\.py. Read"):
        load(made)
    np.testing.assert_array_equal(load(made, own_code=True).embed(recording), wanted)


OWN_TARGET = """
import torch

def letters(sentences):
    return torch.tensor([[text.count(letter) + 0.5 for letter in "abcdefgh"] for text in sentences])
"""


def test_a_target_of_one_s_own_travels_along_and_is_run_only_if_asked(model, tmp_path):
    (tmp_path / "mine.py").write_text(OWN_TARGET)
    target = OwnTargetSpec.of(f"{tmp_path / 'mine.py'}:letters")
    own = dataclasses.replace(
        model,
        specification=dataclasses.replace(model.specification, target=target),
        target_content=target.by_content(),
    )
    (made := tmp_path / "model").mkdir()
    write_files(made, files_of(own))
    (tmp_path / "mine.py").unlink()
    with pytest.raises(UserError, match=r"own_code=True where target\.py is in its folder"):
        load(made).embed_texts(["abba"])
    counts = np.array([[2, 2, 0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0, 0, 0]]) + 0.5
    wanted = counts / np.linalg.norm(counts, axis=1, keepdims=True)
    found = load(made, own_code=True).embed_texts(["abba", "d"])
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_load_is_the_public_name():
    assert ssense.load is load
