from __future__ import annotations

import dataclasses
import math
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from upath import UPath

from ssense.data.splits import Split
from ssense.data.synthetic.things import SyntheticThingsSpec, write_synthetic_things
from ssense.data.things.averages import read_things
from ssense.data.things.dataset import ImageDataset, ImageResponses
from ssense.data.things.pixels import read_pixels
from ssense.data.things.responses import ResponseSpec
from ssense.model.objectives.infonce import InfoNCESpec
from ssense.model.objectives.neuroclip import NeuroCLIPSpec
from ssense.model.objectives.ssr import SSRSpec
from ssense.retrieval import chance_metrics
from ssense.specification import configured
from ssense.targets.image_features import ImageTowerSpec, cached_features
from ssense.training.checkpoint import CheckpointFile
from ssense.training.images import ImageSpec, ImageTrainingSpec
from ssense.training.loop import Checkpoint, Fit, evaluate, fit

OBJECTIVES = {
    "infonce": InfoNCESpec(embedding=32),
    "ssr": SSRSpec(embedding=32, tokens=8),
    "neuroclip": NeuroCLIPSpec(),
}
N_VALIDATION = 20


@dataclasses.dataclass(frozen=True)
class Data:
    responses: ImageResponses
    split: Split
    spec: ImageSpec

    def of(self, objective: str, **training) -> ImageSpec:
        changes = {f"training.{name}": value for name, value in training.items()}
        return configured(self.spec, {"objective": OBJECTIVES[objective]} | changes)

    def fit(self, spec: ImageSpec, **settings) -> Fit:
        parts = (self.responses.select(rows) for rows in (self.split.train, self.split.validation))
        return fit(*parts, spec, seed=1, **settings)


@pytest.fixture(scope="module")
def data(tmp_path_factory, tiny_towers) -> Data:
    root = tmp_path_factory.mktemp("things") / "data"
    made = SyntheticThingsSpec(
        subjects=1, concepts=80, test_concepts=20, image_px=32, coupling=2.0, image_format="png"
    )
    write_synthetic_things(root, made)
    things = read_things(root, root, ResponseSpec())
    tower = ImageTowerSpec(model=tiny_towers[0], weights="untrained")
    parts = (things.training_images, things.test_images)
    kinds = ("original", "augmented-mean")
    features = [cached_features(part, kinds, tower, UPath(root / "features")) for part in parts]
    dataset = ImageDataset(
        digest="tiny",
        things=things,
        subject="sub-01",
        n_validation=N_VALIDATION,
        features={kind: torch.cat([part[kind] for part in features]).numpy() for kind in kinds},
        pixels=torch.cat([read_pixels(part, 32) for part in parts]).numpy(),
    )
    spec = ImageSpec(
        target=tower,
        training=ImageTrainingSpec(batch_size=50, learning_rate=1e-3, max_epochs=3),
    )
    split = dataset.split("intra-subject", 0)
    return Data(dataset.on(torch.device("cpu")), split, spec)


class Interruption(Exception):  # noqa: N818
    """The end of the process, as far as the training is concerned."""


def interrupted_after(epoch: int, folder: Path):
    file = CheckpointFile(UPath(folder) / "checkpoint", {}, clock=count(0, 1000).__next__)

    def on_epoch(checkpoint: Checkpoint) -> None:
        if len(checkpoint.history) == epoch:
            assert file.save_if_worthwhile(checkpoint)
            raise Interruption

    return file, on_epoch


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_goes_on_to_the_bit_after_an_interruption(data, objective, tmp_path):
    spec = data.of(objective)
    straight = data.fit(spec)
    torch.rand(5)  # the global generator stands elsewhere
    file, on_epoch = interrupted_after(1, tmp_path)
    with pytest.raises(Interruption):
        data.fit(spec, on_epoch=on_epoch)
    resumed = data.fit(spec, resume=file.load())
    assert not file.refused
    assert resumed.history == straight.history
    assert resumed.encoder.keys() == straight.encoder.keys()
    assert all(
        torch.equal(resumed.encoder[name], straight.encoder[name]) for name in resumed.encoder
    )


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_no_value_is_read_within_an_epoch(data, objective, host_reads):
    counts = []
    for batch_size in (50, 10):
        spec = data.of(objective, batch_size=batch_size, max_epochs=1)
        with host_reads() as reads:
            data.fit(spec)
        counts.append(reads.count)
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_learns_concepts_it_has_never_seen(data, objective):
    found = data.fit(data.of(objective, max_epochs=12))
    assert found.best["mrr"] > 2 * chance_metrics(N_VALIDATION)["mrr"]
    assert found.history[-1]["loss"] < found.history[0]["loss"]


def test_metrics_are_those_of_a_sorting_by_hand(data):
    spec = data.spec
    test = data.responses.select(data.split.test)
    torch.manual_seed(0)
    model = spec.initial(test)
    metrics = evaluate(spec, model, test)
    with torch.no_grad():
        brain = model.brain(test.signals[test.rows]).numpy()
        images = model.gallery(test.responses.features["original"][test.images]).numpy()
    cosine = (brain @ images.T) / np.outer(
        np.linalg.norm(brain, axis=1), np.linalg.norm(images, axis=1)
    )
    ranks = np.array([1 + (row > row[i]).sum() for i, row in enumerate(cosine)])
    expected = {f"recall@{k}": (ranks <= k).mean() for k in ImageSpec.recall_at} | {
        "mrr": (1 / ranks).mean()
    }
    assert metrics == pytest.approx(expected, rel=1e-6)


def test_the_frozen_tower_is_no_part_of_what_is_kept(data):
    found = data.fit(data.of("neuroclip", max_epochs=1))
    assert not [name for name in found.encoder if name.startswith("tower")]
    assert [name for name in found.encoder if name.startswith("encoder")]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("batch_size", 0),
        ("learning_rate", -1.0),
        ("learning_rate", math.nan),
        ("weight_decay", -0.1),
        ("weight_decay", math.inf),
    ],
)
def test_values_that_mean_nothing_are_refused(field, value):
    with pytest.raises(ValueError, match=rf"{field} must .*{value}"):
        ImageTrainingSpec(**{field: value})
