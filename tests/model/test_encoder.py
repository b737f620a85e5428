from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights, resnet18, resnet34

from ssense.errors import UserError
from ssense.model.encoder import SpectrogramEncoder, _pretrained_state, build_encoder

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def pretrained() -> State:
    """Stands in for the ImageNet weights: the same names and shapes, other values."""
    torch.manual_seed(5)
    return resnet18(weights=None).state_dict()


@pytest.fixture(scope="module")
def weights(tmp_path_factory, pretrained) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("weights")
    torch.save(pretrained, folder / "resnet18.pth")
    save_file(pretrained, folder / "resnet18.safetensors")
    return {suffix: str(folder / f"resnet18.{suffix}") for suffix in ("pth", "safetensors")}


@pytest.fixture(scope="module")
def encoder() -> SpectrogramEncoder:
    torch.manual_seed(0)
    return build_encoder("random").eval()


def seeded(build: Callable[[], SpectrogramEncoder], seed: int = 0) -> State:
    torch.manual_seed(seed)
    return build().resnet.state_dict()


# ---------------------------------------------------------------- the network


def test_the_number_of_parameters_follows_from_resnet_18_s(encoder):
    resnet18, rgb_filters, imagenet_head = 11_689_512, 2 * 64 * 7 * 7, 512 * 1000 + 1000
    head = 512 * 512 + 512
    expected = resnet18 - rgb_filters - imagenet_head + head
    assert sum(p.numel() for p in encoder.parameters()) == expected == 11_432_896


@pytest.mark.parametrize("shape", [(1, 1, 1, 16, 16), (2, 3, 1, 40, 33), (3, 2, 1, 50, 9)])
def test_a_sample_becomes_512_numbers(encoder, shape):
    with torch.inference_mode():
        assert encoder(torch.rand(shape)).shape == (shape[0], 512)


def test_a_sample_is_the_mean_of_its_electrodes_embedded_alone(encoder):
    x = torch.rand(2, 5, 1, 20, 24)
    with torch.inference_mode():
        alone = torch.stack([encoder(x[:, e : e + 1]) for e in range(5)])
        torch.testing.assert_close(encoder(x), alone.mean(dim=0), rtol=1e-5, atol=1e-5)


def test_the_order_of_electrodes_does_not_matter_and_that_of_samples_is_kept(encoder):
    x = torch.rand(3, 4, 1, 16, 16)
    with torch.inference_mode():
        expected = encoder(x)
        torch.testing.assert_close(encoder(x[:, [2, 0, 3, 1]]), expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(encoder(x[[1, 2, 0]]), expected[[1, 2, 0]], rtol=0, atol=1e-5)


def test_every_parameter_is_trained():
    encoder = build_encoder("random")
    encoder(torch.rand(2, 2, 1, 64, 64)).square().sum().backward()
    assert [name for name, p in encoder.named_parameters() if not p.grad.any()] == []


# ---------------------------------------------------------------- weights


def test_random_weights_come_from_the_global_seed():
    first, again, other = (seeded(lambda: build_encoder("random"), seed) for seed in (1, 1, 2))
    assert all(first[name].equal(again[name]) for name in first)
    assert not first["conv1.weight"].equal(other["conv1.weight"])


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_local_weights_fill_all_but_the_head(weights, pretrained, suffix):
    state = seeded(lambda: build_encoder(weights[suffix]))
    replaced = {"conv1.weight", "fc.weight", "fc.bias"}
    assert all(state[name].equal(pretrained[name]) for name in state if name not in replaced)
    random = seeded(lambda: build_encoder("random"))
    assert state["fc.weight"].equal(random["fc.weight"])  # drawn from the seed


@pytest.mark.parametrize(
    ("conv1", "scale"), [pytest.param("sum", 1.0, id="sum"), pytest.param("mean", 3.0, id="mean")]
)
def test_a_grey_picture_meets_the_pretrained_filters(weights, pretrained, conv1, scale):
    """Summed filters answer one channel as the originals answer three equal ones."""
    rgb = nn.Conv2d(3, 64, kernel_size=7, stride=2, padding=3, bias=False)
    rgb.load_state_dict({"weight": pretrained["conv1.weight"]})
    one = build_encoder(weights["pth"], conv1).resnet.conv1
    grey = torch.rand(2, 1, 30, 30)
    torch.testing.assert_close(one(grey) * scale, rgb(grey.expand(-1, 3, -1, -1)))


def test_a_random_first_convolution_is_the_seed_s(weights):
    state = seeded(lambda: build_encoder(weights["pth"], "random"))
    random = seeded(lambda: build_encoder("random"))
    assert state["conv1.weight"].equal(random["conv1.weight"])


def test_training_one_encoder_leaves_the_next_one_s_weights(weights):
    first = build_encoder(weights["pth"])
    before = first.resnet.layer1[0].conv1.weight.detach().clone()
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(1)
    assert build_encoder(weights["pth"]).resnet.layer1[0].conv1.weight.equal(before)


# ---------------------------------------------------------------- weights that can't be had


class Foreign:
    """Writes a file when it is unpickled without restriction."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable, tuple[Path, str]]:
        return Path.write_text, (self.path, "executed")


def refused(weights: str) -> str:
    with pytest.raises(UserError) as error:
        build_encoder(weights)
    message = str(error.value)
    assert len(message.splitlines()) == 1
    return message


def pickle_plainly(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize("save", [torch.save, pickle_plainly])
def test_foreign_pickles_are_refused_unexecuted(save, tmp_path):
    path, trace = tmp_path / "resnet18.pth", tmp_path / "trace"
    save({"conv1.weight": Foreign(trace)}, path)
    assert refused(str(path)) == f"{path}: unreadable weights (UnpicklingError)."
    assert not trace.exists()
    with suppress(RuntimeError):
        torch.load(path, weights_only=False)
    assert trace.exists()  # the trap does work


@pytest.mark.parametrize("name", ["none.pth", "none.safetensors", "none"])
def test_a_missing_file_is_named(tmp_path, name):
    path = tmp_path / name
    assert refused(str(path)) == f"{path}: no such file. Check --encoder-weights."


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("keep", [0, 7, 1000])
def test_a_truncated_file_is_refused(weights, tmp_path, suffix, keep):
    path = tmp_path / f"part.{suffix}"
    path.write_bytes(Path(weights[suffix]).read_bytes()[:keep])
    assert f"{path}: unreadable weights" in refused(str(path))


@pytest.mark.parametrize(
    "content", [torch.zeros(3), [torch.zeros(3)], {"epoch": 3}, {"state_dict": {}}, 5]
)
def test_a_file_that_is_no_state_dictionary_is_refused(tmp_path, content):
    path = tmp_path / "other.pth"
    torch.save(content, path)
    assert f"{path}: holds more than tensors by name" in refused(str(path))


def without(state: State, name: str) -> State:
    return {key: tensor for key, tensor in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda _: {}, "conv1.weight"),
        (lambda state: without(state, "conv1.weight"), "conv1.weight"),
        (lambda state: without(state, "layer3.0.conv1.weight"), "layer3.0.conv1.weight"),
        (lambda state: state | {"layer9.weight": torch.zeros(1)}, "layer9.weight"),
        (lambda state: state | {"bn1.weight": torch.zeros(65)}, "bn1.weight"),
        (lambda state: state | {"conv1.weight": torch.zeros(64, 3, 5, 5)}, "conv1.weight"),
        (lambda state: state | {"conv1.weight": torch.zeros(64)}, "conv1.weight"),
        (lambda state: {f"module.{key}": state[key] for key in state}, "module.conv1.weight"),
    ],
)
def test_weights_of_another_network_are_refused(tmp_path, pretrained, change, named):
    path = tmp_path / "other.safetensors"
    save_file(change(pretrained), path)
    message = refused(str(path))
    assert f"{path}: not the weights of a ResNet-18" in message
    assert named in message


def test_a_deeper_resnet_is_refused(tmp_path):
    path = tmp_path / "resnet34.pth"
    torch.save(resnet34(weights=None).state_dict(), path)
    assert f"{path}: not the weights of a ResNet-18, ['layer1.2" in refused(str(path))


@pytest.fixture
def torch_home(tmp_path, monkeypatch) -> Iterator[Path]:
    """An empty download cache on a machine without network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    _pretrained_state.cache_clear()
    yield tmp_path
    _pretrained_state.cache_clear()


@pytest.mark.usefixtures("torch_home")
def test_imagenet_weights_offline_name_three_ways_out():
    message = refused("imagenet")
    assert message.startswith("the ImageNet weights of ResNet-18 can't be downloaded (URLError)")
    for way_out in ("Go online once", "--encoder-weights FILE", "--encoder-weights random"):
        assert way_out in message


def test_imagenet_weights_come_from_the_cache(torch_home, pretrained):
    cached = torch_home / "hub" / "checkpoints" / Path(ResNet18_Weights.IMAGENET1K_V1.url).name
    cached.parent.mkdir(parents=True)
    torch.save(pretrained, cached)
    assert build_encoder("imagenet").resnet.bn1.weight.equal(pretrained["bn1.weight"])
