from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import resnet18

from ssense.model.resnet import Convolution, ResNet18


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


def trained_on(network: nn.Module, x: torch.Tensor, dtype: torch.dtype) -> list[torch.Tensor]:
    """Scores, gradients and statistics of normalisation."""
    with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
        scores = network(x.contiguous(memory_format=torch.channels_last))
    scores.float().square().mean().backward()
    return [scores, *(parameter.grad for parameter in network.parameters()), *network.buffers()]


@pytest.mark.parametrize("size", [(40, 154), (224, 224)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("is_training", [True, False])
def test_images_scores_gradients_and_statistics_are_torchvision_s_to_the_bit(
    size, dtype, is_training
):
    x = torch.randn(3, 3, *size, generator=torch.Generator().manual_seed(0))
    networks = [seeded(build)[0].train(is_training) for build in (ResNet18, resnet18)]
    assert all(map(torch.equal, *(trained_on(network, x, dtype) for network in networks)))


@pytest.mark.parametrize("size", [(8, 17), (16, 26), (33, 33)])
@pytest.mark.parametrize("is_training", [True, False])
def test_of_small_images_they_are_torchvision_s_but_for_rounding(size, is_training):
    x = torch.randn(3, 3, *size, generator=torch.Generator().manual_seed(0)).double()
    networks = [seeded(build)[0].double().train(is_training) for build in (ResNet18, resnet18)]
    found = [trained_on(network, x, torch.double) for network in networks]
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("height", [1, 2, 3, 4, 5, 6, 7])
@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 6, 7])
def test_a_convolution_leaves_out_just_the_taps_that_meet_padding_alone(stride, height, width):
    torch.manual_seed(0)
    ours = Convolution(2, 3, stride).double()
    theirs = ours.weight.detach().clone().requires_grad_()
    images = [torch.randn(4, 2, height, width).double().requires_grad_()]
    images.append(images[0].detach().clone().requires_grad_())
    maps = [ours(images[0]), conv2d(images[1], theirs, None, stride, padding=1)]
    for each in maps:
        each.square().sum().backward()
    torch.testing.assert_close(*maps)
    torch.testing.assert_close(images[0].grad, images[1].grad)
    torch.testing.assert_close(ours.weight.grad, theirs.grad)
    met = int(theirs.grad[0, 0].count_nonzero())
    with FlopCounterMode(display=False) as counted:
        ours(images[0])
    assert counted.get_total_flops() == 2 * maps[0].numel() * 2 * met
