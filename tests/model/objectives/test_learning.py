"""Every objective on a small synthetic THINGS set, from files to retrieval."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import pytest
import safetensors.torch
import scipy.stats
import torch
from torch import Tensor
from upath import UPath

from ssense.data.splits import Split
from ssense.data.synthetic.things import SyntheticThingsSpec, write_synthetic_things
from ssense.data.things.averages import read_things
from ssense.data.things.dataset import Batch
from ssense.data.things.folds import make_fold
from ssense.data.things.pixels import read_pixels
from ssense.data.things.responses import ResponseSpec
from ssense.model.brain_encoders import EEGProject, TSConv
from ssense.model.objectives.infonce import InfoNCESpec
from ssense.model.objectives.neuroclip import NeuroCLIPSpec
from ssense.model.objectives.objective import Objective, ObjectiveSpec
from ssense.model.objectives.ssr import SSRSpec
from ssense.retrieval import retrieval_metrics
from ssense.targets.image_features import ImageTower, ImageTowerSpec, cached_features, image_tower

ENCODERS = {"eeg-project": EEGProject, "ts-conv": TSConv}

N_VALIDATION = 30
SPECS = {
    "infonce": InfoNCESpec(embedding=64),
    "neurobridge": InfoNCESpec.neurobridge(),
    "ssr": SSRSpec(embedding=64),
    "ssr, cheap": SSRSpec(embedding=64, reconstructor="mlp", distance="smooth-l1"),
    "neuroclip": NeuroCLIPSpec(prompts=4),
}


@dataclass(frozen=True, kw_only=True)
class Data:
    signals: Tensor
    features: dict[str, Tensor]
    pixels: Tensor
    fold: Split  # of the one subject: a row is an image
    tower: ImageTower

    def batch(self, spec: ObjectiveSpec, index: Tensor) -> Batch:
        rows = torch.from_numpy(self.fold.train)[index]
        return Batch(
            signals=self.signals[rows],
            features={kind: self.features[kind][rows] for kind in spec.features},
            pixels=self.pixels[rows] if spec.pixels else None,
        )


def read(root: Path, coupling: float, model: str) -> Data:
    spec = SyntheticThingsSpec(
        subjects=1, concepts=150, test_concepts=1, coupling=coupling, image_px=16
    )
    write_synthetic_things(root, spec)
    things = read_things(root, root, ResponseSpec())
    tower = ImageTowerSpec(model=model, weights="untrained", image_px=16)
    return Data(
        signals=torch.from_numpy(things.rows("training")),
        features=cached_features(
            things.training_images, ["original", "augmented-mean"], tower, UPath(root / "features")
        ),
        pixels=read_pixels(things.training_images, 16),
        fold=make_fold("intra-subject", things, "sub-01", 0, N_VALIDATION),
        tower=image_tower(tower),
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory, tiny_towers) -> Data:
    return read(tmp_path_factory.mktemp("things") / "coupled", 2.0, tiny_towers[0])


def build(spec: ObjectiveSpec, data: Data, encoder: str = "eeg-project") -> Objective:
    return spec.build(
        ENCODERS[encoder](*data.signals.shape[1:], 128),
        n_brain=128,
        n_features=data.features["original"].shape[1],
        tower=lambda: data.tower,
    )


def train(
    spec: ObjectiveSpec,
    data: Data,
    encoder: str = "eeg-project",
    epochs: int = 12,
    seed: int = 0,
) -> Objective:
    torch.manual_seed(seed)
    objective = build(spec, data, encoder).train()
    optimiser = torch.optim.AdamW(objective.trained().values(), lr=2e-3, weight_decay=1e-4)
    for _ in range(epochs):
        for index in torch.randperm(len(data.fold.train)).split(60):
            optimiser.zero_grad()
            objective.loss(data.batch(spec, index)).backward()
            optimiser.step()
    return objective


@torch.inference_mode()
def n_retrieved(objective: Objective, data: Data) -> float:
    """How many of the held-out responses have their image among the first ten."""
    objective.eval()
    candidates = data.pixels if objective.spec.pixels else data.features["original"]
    rows = torch.from_numpy(data.fold.validation)
    metrics = retrieval_metrics(
        objective.brain(data.signals[rows]),
        objective.gallery(candidates[rows]),
        torch.arange(len(rows)),
    )
    return metrics["recall@10"] * N_VALIDATION


BY_CHANCE = scipy.stats.binom.isf(1e-4, N_VALIDATION, 10 / N_VALIDATION)


@pytest.mark.parametrize("name", SPECS)
def test_it_learns_above_chance(data, name):
    assert n_retrieved(train(SPECS[name], data), data) > BY_CHANCE


def test_it_learns_above_chance_with_convolutions(data):
    assert n_retrieved(train(SPECS["ssr"], data, "ts-conv", epochs=6), data) > BY_CHANCE


def test_where_nothing_is_evoked_nothing_is_learnt(tmp_path, tiny_towers):
    uncoupled = read(tmp_path / "uncoupled", 0.0, tiny_towers[0])
    assert n_retrieved(train(SPECS["infonce"], uncoupled), uncoupled) < BY_CHANCE


@pytest.mark.parametrize("name", SPECS)
def test_a_seed_decides_everything(data, name):
    states = [train(SPECS[name], data, epochs=1, seed=s).state_dict() for s in (0, 0, 1)]
    first, again, other = states
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not any(torch.equal(first[key], other[key]) for key in first if key.endswith("weight"))


@pytest.mark.parametrize("name", SPECS)
def test_all_that_is_trained_has_a_gradient_and_a_place_in_the_state(data, name):
    torch.manual_seed(0)
    objective = build(SPECS[name], data).train()
    objective.loss(data.batch(SPECS[name], torch.arange(40))).backward()
    assert all(parameter.grad is not None for parameter in objective.trained().values())
    # Checkpoints are written as safetensors, which refuse tensors that share memory.
    state = safetensors.torch.load(safetensors.torch.save(objective.state_dict()))
    assert set(objective.trained()) <= set(state)
    other = build(SPECS[name], data)
    other.load_state_dict(state)
    assert n_retrieved(other, data) == n_retrieved(objective, data)


@pytest.mark.parametrize("name", SPECS)
def test_the_loss_ignores_the_order_of_the_batch(data, name):
    torch.manual_seed(0)
    spec = SPECS[name]
    if name.startswith("ssr"):  # which draws other masks for the same pairs
        spec = SSRSpec(embedding=64, reconstruct="none")
    objective = build(spec, data).eval()
    index = torch.arange(20)
    one = objective.loss(data.batch(spec, index))
    other = objective.loss(data.batch(spec, index.flip(0)))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SPECS)
def test_nothing_is_made_on_another_device_than_the_model_s(data, name):
    spec = SPECS[name]
    objective = copy.deepcopy(build(spec, data)).to("meta")
    batch = data.batch(spec, torch.arange(8))
    elsewhere = Batch(
        signals=batch.signals.to("meta"),
        features={kind: rows.to("meta") for kind, rows in batch.features.items()},
        pixels=None if batch.pixels is None else batch.pixels.to("meta"),
    )
    assert objective.loss(elsewhere).device.type == "meta"
