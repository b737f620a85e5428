from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize, softplus

from ssense.model.brain_encoders import EEGProject
from ssense.model.objectives.infonce import InfoNCE, InfoNCESpec


def build(spec: InfoNCESpec, seed: int = 0) -> InfoNCE:
    torch.manual_seed(seed)
    return spec.build(EEGProject(3, 8, 16), n_brain=16, n_features=24, tower=pytest.fail).eval()


@pytest.mark.parametrize("image", ["original", "augmented-mean", "blurred"])
def test_neurobridge_s_loss(batch, image):
    """Its ContrastiveLoss with alpha 1, beta 1, the brain's side as it is, and softplus."""
    spec = InfoNCESpec(norm="image", scale="softplus", learnable=False, image=image)
    objective = build(spec)
    brain = objective.project_brain(objective.encoder(batch.signals))
    features = normalize(objective.project_image(batch.features[image]), dim=1)
    similarity = brain @ features.T * softplus(torch.log(torch.tensor(1 / 0.07)))
    own = torch.arange(len(brain))
    expected = (cross_entropy(similarity, own) + cross_entropy(similarity.T, own)) / 2
    torch.testing.assert_close(objective.loss(batch), expected)


def test_neurobridge_s_fields():
    spec = InfoNCESpec.neurobridge()
    assert (spec.norm, spec.scale, spec.learnable) == ("image", "softplus", False)
    assert spec.features == ("augmented-mean",)
    objective = build(spec)
    assert objective.project_brain.out_features == objective.project_image.out_features == 512
    assert "similarity.parameter" not in objective.trained()
    assert "similarity.parameter" in build(InfoNCESpec()).trained()


def test_a_batch_needs_the_kind_that_is_trained_on(batch):
    assert InfoNCESpec(image="blurred").features == ("blurred",)
    assert not InfoNCESpec().pixels
    losses = [build(InfoNCESpec(image=kind)).loss(batch).item() for kind in batch.features]
    assert len(set(losses)) == 3


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="image must be original or augmented-mean or blurred"):
        InfoNCESpec(image="class-centre")
