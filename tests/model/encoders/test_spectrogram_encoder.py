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
from ssense.model.encoders.spectrogram_encoder import (
    SpectrogramEncoder,
    _pretrained_state,
    build_encoder,
    trained_encoder,
)

State = dict[str, Tensor]
TINY = {(1, 16, 26), (1, 32, 32)}  # end as a single value per channel


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
    return build_encoder("random", dimensions=512).eval()


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
    encoder = build_encoder("random", dimensions=512)
    encoder(torch.rand(2, 2, 1, 64, 64)).square().sum().backward()
    assert [name for name, p in encoder.named_parameters() if not p.grad.any()] == []


# ---------------------------------------------------------------- precision


def types_and_layouts(encoder: SpectrogramEncoder, x: Tensor) -> dict[str, tuple]:
    """Output type of every layer, and whether it is channels last."""
    found = {}

    def note(layer: nn.Module, _: object, y: Tensor) -> None:
        last = y.ndim == 4 and y.is_contiguous(memory_format=torch.channels_last)
        found[names[layer]] = (y.dtype, last)

    names = {layer: name for name, layer in encoder.named_modules()}
    hooks = [layer.register_forward_hook(note) for layer in names if not list(layer.children())]
    encoder(x)
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize(
    ("precision", "dtype"), [("bf16", torch.bfloat16), ("float32", torch.float32)]
)
@pytest.mark.parametrize("stored", [torch.float16, torch.float32])
def test_layers_work_in_the_precision_and_channels_last(precision, dtype, stored):
    encoder = build_encoder("random", precision=precision, dimensions=512)
    found = types_and_layouts(encoder, torch.rand(2, 3, 1, 40, 33).to(stored))
    assert {kind for kind, _ in found.values()} == {dtype}
    if stored == torch.float16:  # what a dataset holds; other input keeps the layout it has
        spatial = {name: last for name, (_, last) in found.items() if "fc" not in name}
        assert all(spatial.values())


def test_embeddings_weights_and_statistics_stay_float32_in_bf16():
    encoder = build_encoder("random", precision="bf16", dimensions=512)
    embeddings = encoder(torch.rand(2, 3, 1, 40, 33))
    embeddings.sum().backward()
    tensors = [embeddings, *encoder.parameters(), *(p.grad for p in encoder.parameters())]
    tensors += [t for name, t in encoder.named_buffers() if "num_batches" not in name]
    assert {tensor.dtype for tensor in tensors} == {torch.float32}


@pytest.mark.parametrize("training", [True, False])
def test_bf16_embeddings_are_those_of_float32_but_for_rounding(training):
    x = torch.rand(4, 3, 1, 40, 154, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    exact = build_encoder("random", dimensions=512).train(training)
    torch.manual_seed(0)
    rounded = build_encoder("random", precision="bf16", dimensions=512).train(training)
    with torch.no_grad():
        one, other = rounded(x), exact(x)
    distance = (one - other).norm() / other.norm()
    assert 1e-5 < distance < 2**-6  # bf16 has 8 bits


def dirty_memory():
    """Leave blocks of many sizes full of huge numbers to be taken again."""
    for exponent in range(8, 24):
        torch.full((4, 2**exponent), 1e30)


@pytest.mark.parametrize(
    "shape",
    [(40, 154), (40, 103), (10, 27), (17, 17), (64, 18), (5, 33), (40, 16), (100, 1), (130, 9)],
)
def test_bf16_gradients_are_those_of_float32_but_for_rounding(shape):
    """Every parameter's: oneDNN has been seen to get a single one wrong, of memory not written."""
    x = torch.rand(6, 1, 1, *shape, generator=torch.Generator().manual_seed(0))
    found = []
    for precision in ("float32", "bf16"):
        torch.manual_seed(0)
        # Frozen, since rounding moves the statistics of so few images, and all gradients with them.
        encoder = build_encoder(
            "random", precision=precision, batch_norm="frozen", dimensions=512
        ).train()
        dirty_memory()
        (encoder(x) * torch.linspace(-1, 1, 512)).sum().backward()
        found.append({name: p.grad for name, p in encoder.named_parameters()})
    for name, exact in found[0].items():
        assert (found[1][name] - exact).norm() < 0.15 * exact.norm(), name


def test_the_mean_over_electrodes_does_not_round_to_bf16(encoder):
    rounded = trained_encoder(encoder.state_dict(), "bf16").eval()
    x = torch.rand(1, 2, 1, 24, 24)
    with torch.inference_mode():
        one, two = (rounded(x[:, [i]]) for i in range(2))
        assert one.bfloat16().float().equal(one)
        torch.testing.assert_close(rounded(x), (one + two) / 2, rtol=0, atol=2**-7)
        assert not rounded(x).bfloat16().float().equal(rounded(x))


# ---------------------------------------------------------------- batch normalisation


def buffers(encoder: SpectrogramEncoder) -> State:
    return {name: tensor.clone() for name, tensor in encoder.named_buffers()}


def changed(before: State, after: State) -> bool:
    return any(not before[name].equal(after[name]) for name in before)


def test_frozen_statistics_normalise_training_as_evaluation():
    x = torch.rand(3, 2, 1, 24, 24)
    encoder = build_encoder("random", batch_norm="frozen", dimensions=512)
    before = buffers(encoder)
    with torch.no_grad():
        assert encoder.train()(x).equal(encoder.eval()(x))
    assert encoder.train().training
    assert not changed(before, buffers(encoder))


def test_kept_statistics_change_no_embedding_and_count_again_afterwards():
    x = torch.rand(3, 2, 1, 24, 24)
    torch.manual_seed(0)
    encoder = build_encoder("random", dimensions=512).train()
    before = buffers(encoder)
    with torch.no_grad():
        with encoder.statistics_kept():
            kept = encoder(x)
        assert not changed(before, buffers(encoder))
        assert encoder(x).equal(kept)
    assert changed(before, buffers(encoder))


# ---------------------------------------------------------------- weights


@pytest.mark.parametrize("batch_norm", ["chunk", "frozen"])
@pytest.mark.parametrize(
    ("electrodes", "frequencies", "frames"),
    [(1, 16, 26), (1, 32, 32), (1, 33, 32), (1, 32, 33), (2, 16, 26), (1, 40, 154)],
)
def test_it_is_known_beforehand_whether_a_single_sample_can_be_normalised(
    electrodes, frequencies, frames, batch_norm
):
    encoder = SpectrogramEncoder(batch_norm=batch_norm, dimensions=512).train()
    x = torch.rand(1, electrodes, 1, frequencies, frames)
    passes = batch_norm == "frozen" or (electrodes, frequencies, frames) not in TINY
    assert encoder.trains_on_one(x) == passes
    if passes:
        assert encoder(x).isfinite().all()
    else:
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            encoder(x)


def test_random_weights_come_from_the_global_seed():
    first, again, other = (
        seeded(lambda: build_encoder("random", dimensions=512), seed) for seed in (1, 1, 2)
    )
    assert all(first[name].equal(again[name]) for name in first)
    assert not first["conv1.weight"].equal(other["conv1.weight"])


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_local_weights_fill_all_but_the_head(weights, pretrained, suffix):
    state = seeded(lambda: build_encoder(weights[suffix], dimensions=512))
    replaced = {"conv1.weight", "fc.weight", "fc.bias"}
    assert all(state[name].equal(pretrained[name]) for name in state if name not in replaced)
    random = seeded(lambda: build_encoder("random", dimensions=512))
    assert state["fc.weight"].equal(random["fc.weight"])  # drawn from the seed


@pytest.mark.parametrize("under", ["state_dict", "model", None])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
def test_what_training_programs_wrap_weights_in_is_taken_off(under, prefix, pretrained, tmp_path):
    state = {prefix + name: tensor for name, tensor in pretrained.items()}
    torch.save({under: state, "epoch": 3} if under else state, tmp_path / "wrapped.pth")
    found = build_encoder(str(tmp_path / "wrapped.pth"), dimensions=512).resnet
    assert found.layer1[0].conv1.weight.equal(pretrained["layer1.0.conv1.weight"])


@pytest.mark.parametrize(
    ("conv1", "scale"), [pytest.param("sum", 1.0, id="sum"), pytest.param("mean", 3.0, id="mean")]
)
def test_a_grey_picture_meets_the_pretrained_filters(weights, pretrained, conv1, scale):
    """Summed filters answer one channel as the originals answer three equal ones."""
    rgb = nn.Conv2d(3, 64, kernel_size=7, stride=2, padding=3, bias=False)
    rgb.load_state_dict({"weight": pretrained["conv1.weight"]})
    one = build_encoder(weights["pth"], conv1, dimensions=512).resnet.conv1
    grey = torch.rand(2, 1, 30, 30)
    torch.testing.assert_close(one(grey) * scale, rgb(grey.expand(-1, 3, -1, -1)))


def test_a_random_first_convolution_is_the_seed_s(weights):
    state = seeded(lambda: build_encoder(weights["pth"], "random", dimensions=512))
    random = seeded(lambda: build_encoder("random", dimensions=512))
    assert state["conv1.weight"].equal(random["conv1.weight"])


def test_training_one_encoder_leaves_the_next_one_s_weights(weights):
    first = build_encoder(weights["pth"], dimensions=512)
    before = first.resnet.layer1[0].conv1.weight.detach().clone()
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(1)
    assert build_encoder(weights["pth"], dimensions=512).resnet.layer1[0].conv1.weight.equal(before)


# ---------------------------------------------------------------- weights that can't be had


class Foreign:
    """Writes a file when it is unpickled without restriction."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable, tuple[Path, str]]:
        return Path.write_text, (self.path, "executed")


def refused(weights: str) -> str:
    with pytest.raises(UserError) as error:
        build_encoder(weights, dimensions=512)
    message = str(error.value)
    assert len(message.splitlines()) == 1
    return message


def pickle_plainly(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize("save", [torch.save, pickle_plainly])
def test_foreign_pickles_are_refused_unexecuted(save, tmp_path):
    path, trace = tmp_path / "resnet18.pth", tmp_path / "trace"
    save({"conv1.weight": Foreign(trace)}, path)
    message = refused(str(path))
    assert message.startswith(f"{path}: unreadable weights (it holds getattr, which is not loaded")
    assert not trace.exists()
    with suppress(RuntimeError):
        torch.load(path, weights_only=False)
    assert trace.exists()  # the trap does work


@pytest.mark.parametrize("name", ["none.pth", "none.safetensors", "none"])
def test_a_missing_file_is_named(tmp_path, name):
    path = tmp_path / name
    assert refused(str(path)) == (
        f"{path}: no such file. Set `encoder.weights` to imagenet, random, or the path of a "
        "ResNet-18 state dictionary."
    )


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
        (lambda state: without(state, "conv1.weight"), "conv1.weight"),
        (lambda state: without(state, "layer3.0.conv1.weight"), "layer3.0.conv1.weight"),
        (lambda state: state | {"layer9.weight": torch.zeros(1)}, "layer9.weight"),
        (lambda state: state | {"bn1.weight": torch.zeros(65)}, "bn1.weight"),
        (lambda state: state | {"conv1.weight": torch.zeros(64, 3, 5, 5)}, "conv1.weight"),
        (lambda state: state | {"conv1.weight": torch.zeros(64)}, "conv1.weight"),
    ],
)
def test_weights_of_another_network_are_refused(tmp_path, pretrained, change, named):
    path = tmp_path / "other.safetensors"
    save_file(change(pretrained), path)
    message = refused(str(path))
    assert f"{path}: not the weights of a ResNet-18" in message
    assert named in message


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("conv1.weight", lambda t: t.to(torch.float8_e4m3fn), "is float8_e4m3fn, which no layer"),
        ("conv1.weight", lambda t: t.to(torch.complex64), "is complex64, which no layer here"),
        ("fc.weight", lambda t: t.to_sparse(), "is float32 sparse_coo, which no layer here"),
        ("conv1.weight", lambda t: t.to(torch.int64), "is int64, not floating point"),
        ("layer1.0.bn1.num_batches_tracked", lambda t: t + 0.5, "is float32, not whole numbers"),
        ("layer4.1.conv2.weight", lambda t: t * torch.nan, "holds NaN or infinity"),
        ("conv1.weight", lambda t: t[:, :0], "has the shape [64, 0, 7, 7], not [64, 3, 7, 7]"),
        ("conv1.weight", lambda t: torch.cat([t, t[:, :1]], 1), "has the shape [64, 4, 7, 7]"),
        ("conv1.weight", lambda t: t * 0 + 2e38, "summed over its input channels is infinite"),
        ("bn1.bias", lambda t: t - torch.inf, "holds NaN or infinity"),
        ("bn1.bias", lambda t: t.double() + 1e300, "holds NaN or infinity"),
        ("bn1.running_var", lambda t: -t - 1, "holds negative variances"),
    ],
)
def test_values_that_no_training_leaves_are_refused(tmp_path, pretrained, name, change, said):
    path = tmp_path / "other.pth"
    torch.save(pretrained | {name: change(pretrained[name])}, path)
    message = refused(str(path))
    assert message.startswith(f"{path}: ")
    assert f"{name} {said}" in message


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_will_do(tmp_path, pretrained, dtype):
    state = {
        name: tensor.to(dtype) if tensor.is_floating_point() else tensor
        for name, tensor in pretrained.items()
    }
    save_file(state, tmp_path / "other.safetensors")
    encoder = build_encoder(str(tmp_path / "other.safetensors"), dimensions=512)
    found = encoder.resnet.layer1[0].conv1.weight
    torch.testing.assert_close(found, state["layer1.0.conv1.weight"].float(), rtol=0, atol=0)


def test_a_deeper_resnet_is_refused(tmp_path):
    path = tmp_path / "resnet34.pth"
    torch.save(resnet34(weights=None).state_dict(), path)
    assert f"{path}: not the weights of a ResNet-18, layer1.2" in refused(str(path))


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
    assert message.startswith(
        "could not download the ImageNet weights of ResNet-18 (<urlopen error "
    )
    for way_out in ("Go online once", "set `encoder.weights` to a local file", "or to random"):
        assert way_out in message


def test_imagenet_weights_come_from_the_cache(torch_home, pretrained):
    cached = torch_home / "hub" / "checkpoints" / Path(ResNet18_Weights.IMAGENET1K_V1.url).name
    cached.parent.mkdir(parents=True)
    torch.save(pretrained, cached)
    assert build_encoder("imagenet", dimensions=512).resnet.bn1.weight.equal(
        pretrained["bn1.weight"]
    )
