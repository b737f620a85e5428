from __future__ import annotations

import pytest
import torch
from torchvision.models import resnet18

from ssense.model.resnet import ResNet18


def seeded(build):
    torch.manual_seed(3)
    network = build()
    return network, torch.rand(1)


def test_a_seed_draws_the_network_that_it_draws_in_torchvision():
    (ours, next_of_ours), (theirs, next_of_theirs) = seeded(ResNet18), seeded(resnet18)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for name, weights in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], weights), name
    assert next_of_ours == next_of_theirs


@pytest.mark.parametrize("size", [(16, 26), (40, 154), (224, 224)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("is_training", [True, False])
def test_images_scores_gradients_and_statistics_are_torchvision_s_to_the_bit(
    size, dtype, is_training
):
    x = torch.randn(3, 3, *size, generator=torch.Generator().manual_seed(0))
    found = []
    for network, _ in (seeded(ResNet18), seeded(resnet18)):
        network.train(is_training)
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            scores = network(x.contiguous(memory_format=torch.channels_last))
        scores.float().square().mean().backward()
        gradients = [parameter.grad for parameter in network.parameters()]
        found.append([scores, *gradients, *network.buffers()])
    assert all(map(torch.equal, *found))
