from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import resnet18

from ssense.model.resnet import FEW, Convolution, ResNet18, folded
from ssense.training.optimiser import Adam


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


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("height", [1, 2, 3, 4, 5, 6, 7])
@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 6, 7])
def test_a_convolution_leaves_out_just_the_taps_that_meet_padding_alone(
    size, stride, height, width
):
    torch.manual_seed(0)
    ours = Convolution(2, 3, size, stride).double()
    theirs = ours.weight.detach().clone().requires_grad_()
    images = [torch.randn(4, 2, height, width).double().requires_grad_()]
    images.append(images[0].detach().clone().requires_grad_())
    maps = [ours(images[0]), conv2d(images[1], theirs, None, stride, size // 2)]
    for each in maps:
        each.square().sum().backward()
    torch.testing.assert_close(*maps)
    torch.testing.assert_close(images[0].grad, images[1].grad)
    torch.testing.assert_close(ours.weight.grad, theirs.grad)
    sees = conv2d(
        torch.ones(1, 1, height, width), torch.ones(1, 1, size, size), None, stride, size // 2
    )
    met = int(theirs.grad[0, 0].count_nonzero())
    few = max(maps[0].shape[2:]) <= FEW
    # Where outputs are few, each has a product of what it sees; else all meet the same taps.
    pairs = int(sees.sum()) if few else met * sees.numel()
    with FlopCounterMode(display=False) as counted:
        ours(images[0])
    assert counted.get_total_flops() == 2 * len(images[0]) * 2 * 3 * pairs


def trained(network: ResNet18, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """State after three steps of Adam, and the moments of the gradients."""
    optimiser = Adam(network.parameters(), 1e-3)
    for _ in range(3):
        optimiser.zero_grad()
        network(x).square().mean().backward()
        optimiser.step()
    return network.state_dict()


@pytest.mark.parametrize("size", [(1, 1), (16, 26), (33, 70)])
def test_a_cropped_network_trains_as_the_whole_one_and_leaves_alone_what_no_image_meets(size):
    x = torch.randn(3, 3, *size, generator=torch.Generator().manual_seed(0)).double()
    whole, cropped = (seeded(ResNet18)[0].double() for _ in range(2))
    before = {name: tensor.clone() for name, tensor in whole.state_dict().items()}
    cropped.crop(size)
    assert all(map(torch.equal, cropped.state_dict().values(), before.values()))
    states = [trained(network, x) for network in (whole, cropped)]
    assert [*states[0]] == [*states[1]]
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, rtol=1e-9, atol=1e-12)
    unmet = states[0]["layer4.1.conv2.weight"] == before["layer4.1.conv2.weight"]
    assert torch.equal(unmet, states[1]["layer4.1.conv2.weight"] == before["layer4.1.conv2.weight"])
    assert unmet.all(dim=(0, 1)).sum() == {(1, 1): 8, (16, 26): 8, (33, 70): 0}[size]


def test_a_cropped_network_resumes_from_a_whole_state():
    x = torch.randn(3, 3, 16, 26, generator=torch.Generator().manual_seed(0))
    networks = [seeded(ResNet18)[0] for _ in range(2)]
    for network in networks:
        network.crop((16, 26))
    state = {name: tensor.clone() for name, tensor in trained(networks[0], x).items()}
    networks[1].load_state_dict(state)
    assert all(map(torch.equal, networks[1].state_dict().values(), state.values()))
    assert torch.equal(*(network.eval()(x) for network in networks))


def test_only_what_images_meet_is_trained():
    def n_trained(size):
        network = ResNet18()
        network.crop(size)
        return sum(parameter.numel() for parameter in network.parameters())

    whole = sum(parameter.numel() for parameter in ResNet18().parameters())
    assert n_trained((40, 154)) == whole
    stages = [4 * 64 * 64 * 9]
    stages += [64 * 128 * 9 + 3 * 128 * 128 * 9]  # 2 x 4 pixels
    stages += [128 * 256 * 6 + 3 * 256 * 256 * 3]  # 1 x 2
    stages += [256 * 512 * 2 + 3 * 512 * 512]  # 1 x 1
    unmet = sum(w * w * 9 * 4 - (w * w // 2 * 9 if w > 64 else 0) for w in (64, 128, 256, 512))
    assert n_trained((16, 26)) == whole - unmet + sum(stages)


@pytest.mark.parametrize("size", [(16, 26), (40, 70)])
@pytest.mark.parametrize("is_cropped", [False, True])
def test_a_folded_network_scores_as_the_one_that_normalises(size, is_cropped):
    x = torch.randn(3, 3, *size, generator=torch.Generator().manual_seed(0)).double()
    network = seeded(ResNet18)[0].double()
    if is_cropped:
        network.crop(size)
    trained(network, x)  # statistics, scales and shifts are no longer those of the start
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    found = folded(network)
    torch.testing.assert_close(found(x), network.eval()(x), rtol=1e-9, atol=1e-12)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in found.modules())
    assert all(map(torch.equal, network.state_dict().values(), before.values()))
