"""What every encoder keeps, whichever it is."""

from __future__ import annotations

import importlib
from itertools import count

import numpy as np
import pytest
import torch

from analysis.control.untrained import untrained
from ssense.data.dataset import Pairs
from ssense.engine.core.cell import Cell, signature
from ssense.errors import UserError
from ssense.files.plain_values import from_plain
from ssense.model.encoders.attention import AttentionSpec
from ssense.model.encoders.convolution import ConvolutionSpec
from ssense.model.encoders.linear import LinearSpec
from ssense.model.encoders.own import OwnSpec
from ssense.model.encoders.spectrogram_encoder import ResNetSpec
from ssense.specification import plain
from ssense.training.loop import evaluate, fit
from ssense.training.sentences import SentenceSpec, TrainingSpec

TRAIN, VALIDATION = np.arange(60), np.arange(60, 96)
OWN = """
import torch


class Mine(torch.nn.Module):
    def __init__(self, electrodes, frequencies, frames, dimensions):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(electrodes * frequencies * frames)
        self.map = torch.nn.Linear(electrodes * frequencies * frames, dimensions)

    def forward(self, x):
        return self.map(self.norm(x.flatten(1)))
"""


BY_PLACE = """
import torch


class Mine(torch.nn.Module):
    def __init__(self, electrodes, frequencies, frames, dimensions, *, coordinates):
        super().__init__()
        assert coordinates.dtype == torch.float32 and coordinates.shape == (electrodes, 3)
        near = torch.exp(-coordinates.norm(dim=1) / 10).nan_to_num(0.5)
        self.register_buffer("near", near, persistent=False)
        self.map = torch.nn.Linear(electrodes * frequencies * frames, dimensions)

    def forward(self, x):
        return self.map((x * self.near[:, None, None]).flatten(1))
"""


def with_more(*lines: str) -> str:
    """The class with more lines at the beginning of what makes it."""
    return OWN.replace("self.norm =", "\n        ".join([*lines, "self.norm ="]))


ENCODERS = "resnet-18", "attention", "attention by place", "convolution", "linear", "own"


@pytest.fixture(scope="module", params=[*ENCODERS, "own by place"])
def encoder(request, tmp_path_factory):
    if request.param.startswith("own"):
        file = tmp_path_factory.mktemp("own") / "mine.py"
        file.write_text(BY_PLACE if "place" in request.param else OWN)
        return OwnSpec.of(f"{file}:Mine")
    return {
        "resnet-18": ResNetSpec(weights="random"),
        "attention": AttentionSpec(weights="random"),
        "attention by place": AttentionSpec(weights="random", coordinates=True),
        "convolution": ConvolutionSpec(channels=8),
        "linear": LinearSpec(start="random"),
    }[request.param]


def specification(encoder, **training):
    return SentenceSpec(
        encoder=encoder,
        contacts="0123",  # as the pairs have
        training=TrainingSpec(
            **{"batch_size": 16, "max_epochs": 8, "learning_rate": 1e-3} | training
        ),
    )


@pytest.fixture(scope="module")
def trained(encoder, pairs):
    return fit(pairs.select(TRAIN), pairs.select(VALIDATION), specification(encoder), seed=1)


def test_it_learns(trained):
    assert trained.history[-1]["loss"] < 0.7 * trained.history[0]["loss"]
    assert trained.best["recall@10"] > 0.5  # chance is 10 of 36


def test_it_embeds_as_its_state_does(encoder, trained, pairs):
    rebuilt = specification(encoder).rebuild(trained.weights, pairs)
    found = evaluate(specification(encoder), rebuilt, pairs.select(VALIDATION))
    assert found == {name: trained.best[name] for name in found}
    broken = dict(trained.weights)
    broken.pop(next(iter(broken)))
    with pytest.raises(ValueError, match=r"missing|unknown|shape"):
        specification(encoder).rebuild(broken, pairs)


def test_an_interrupted_training_ends_as_an_undisturbed_one(encoder, trained, pairs):
    kept, epochs = [], count(1)

    def stop(checkpoint):
        if next(epochs) == 3:
            kept.append(
                checkpoint.__class__(
                    **{
                        name: {key: each.clone() for key, each in value.items()}
                        if name in ("weights", "best_weights", "moments")
                        else value
                        for name, value in vars(checkpoint).items()
                    }
                )
            )
            raise KeyboardInterrupt

    parts = pairs.select(TRAIN), pairs.select(VALIDATION)
    with pytest.raises(KeyboardInterrupt):
        fit(*parts, specification(encoder), seed=1, on_epoch=stop)
    again = fit(*parts, specification(encoder), seed=1, resume=kept[0])
    assert again.history == trained.history
    assert all(map(torch.equal, again.weights.values(), trained.weights.values()))


def test_bf16_is_float32_but_for_rounding(encoder, pairs):
    x, _ = pairs.batch(torch.arange(20))
    found = []
    for precision in ("float32", "bf16"):
        torch.manual_seed(0)
        found.append(encoder.build(pairs, precision).eval()(x))
    assert {each.dtype for each in found} == {torch.float32}
    assert 0 < (found[0] - found[1]).norm() < 0.05 * found[0].norm()


def test_its_signature_is_its_own_and_returns_from_its_plain_form(encoder):
    spec = specification(encoder)
    assert from_plain(SentenceSpec, plain(spec)) == spec
    names = {
        signature(Cell({}, 0), specification(each), "d")
        for each in (encoder, ResNetSpec(), LinearSpec(), ConvolutionSpec(), AttentionSpec())
    }
    assert len(names) == 5  # a field in use tells this one from the defaults of its kind
    assert spec.untrained().encoder.kind == encoder.kind


def test_a_batch_in_chunks_has_the_gradient_of_the_whole_one_but_for_its_normalisation(pairs):
    parts = pairs.select(TRAIN), pairs.select(VALIDATION)
    whole, chunked = (
        fit(*parts, specification(LinearSpec(start="random"), max_epochs=2, chunk=chunk), seed=0)
        for chunk in (16, 5)
    )
    for ours, theirs in zip(whole.weights.values(), chunked.weights.values(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)


BAD = {
    "no class": ("x = 1", "Mine", "Mine is nothing, not a class"),
    "no module": ("class Mine: pass", "Mine", "Mine is type, not a class that extends"),
    "syntax": ("class Mine(", "Mine", r"SyntaxError: .*\. Check the file\.$"),
    "other arguments": (
        "import torch\nclass Mine(torch.nn.Module):\n  def __init__(self, n): pass",
        "Mine",
        "unexpected keyword argument 'electrodes'. It is made with electrodes=, frequencies=",
    ),
    "shape": (
        OWN.replace("frames, dimensions)\n\n", "frames, 7)\n\n"),
        "Mine",
        r"makes \[2, 7\] of \[2, 3, 8, 18\]",
    ),
    "fails": (OWN.replace("x.flatten(1)", "x.flatten(9)"), "Mine", "IndexError: Dimension out"),
    "tuple": (OWN.replace("return self", "return x, self"), "Mine", "makes tuple of"),
    "not finite": (OWN.replace("return self", "return self.map.bias[0] / 0 + self"), "Mine", "fin"),
    "no weights": (
        "import torch\nclass Mine(torch.nn.Module):\n"
        "  def __init__(self, dimensions, **_):\n    super().__init__(); self.d = dimensions\n"
        "  def forward(self, x): return x.flatten(1)[:, : self.d]",
        "Mine",
        "has no weight to train",
    ),
    "infinite state": (
        with_more("self.register_buffer('mask', torch.tensor(-torch.inf))"),
        "Mine",
        "keeps values that are not finite: register mask with persistent=False",
    ),
    "tied": (
        with_more(
            "self.one, self.two = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)",
            "self.two.weight = self.one.weight",
        ),
        "Mine",
        r"shares memory between one\.weight and two\.weight",
    ),
    "other in evaluation": (
        OWN.replace("return self", "return x[:, 0, 0, :5] if not self.training else self"),
        "Mine",
        r"makes \[2, 5\] of",
    ),
    "no backward": (
        OWN.replace("return", "y = self.map.weight.exp(); z = y.sqrt(); y += 1; return z.sum() *"),
        "Mine",
        "modified by an inplace operation",
    ),
    "lazy": (
        with_more("self.lazy = torch.nn.LazyLinear(dimensions)"),
        "Mine",
        "uninitialized parameter",
    ),
    "random in evaluation": (
        OWN.replace("x.flatten(1)", "torch.nn.functional.dropout(x.flatten(1))"),
        "Mine",
        "gives the same spectrograms other embeddings in evaluation when called again",
    ),
    "of its batch": (
        OWN.replace("x.flatten(1)", "(x - x.mean(0)).flatten(1)"),
        "Mine",
        "another embedding in evaluation alone than beside others",
    ),
    "exits": ("raise SystemExit(3)", "Mine", "SystemExit: 3"),
}


@pytest.mark.parametrize("fault", BAD)
def test_an_encoder_of_ones_own_that_does_not_fit_is_one_line(fault, pairs, tmp_path):
    code, name, message = BAD[fault]
    (tmp_path / "mine.py").write_text(code.replace("self.map.bias[0] / 0", "x.sum() * torch.inf"))
    spec = OwnSpec.of(f"{tmp_path / 'mine.py'}:{name}")
    with pytest.raises(UserError, match=message) as error:
        spec.build(pairs, "float32")
    assert "\n" not in str(error.value)


def test_an_encoder_whose_channels_are_last_is_kept(pairs, tmp_path):
    convolution = "torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)"
    (tmp_path / "mine.py").write_text(with_more(f"self.conv = {convolution}"))
    spec = OwnSpec.of(f"{tmp_path / 'mine.py'}:Mine")
    trained = fit(
        pairs.select(TRAIN), pairs.select(VALIDATION), specification(spec, max_epochs=1), seed=0
    )
    assert all(tensor.is_contiguous() for tensor in trained.weights.values())


def test_a_batch_passes_one_of_ones_own_whole(pairs, tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    spec = specification(OwnSpec.of(f"{tmp_path / 'mine.py'}:Mine"), max_epochs=1, chunk=4)
    trained = fit(pairs.select(TRAIN), pairs.select(VALIDATION), spec, seed=0)
    assert trained.weights["module.norm.num_batches_tracked"] == 4  # of 60 pairs, 16 at a time


def test_what_a_file_draws_when_it_is_run_changes_no_cell(pairs, tmp_path):
    (tmp_path / "mine.py").write_text(f"{OWN}\n\nOFFSET = torch.rand(1)\n")
    spec = OwnSpec.of(f"{tmp_path / 'mine.py'}:Mine")
    built = []
    for _ in range(2):  # the file runs in the first
        torch.manual_seed(3)
        built.append(spec.build(pairs, "float32").state_dict())
    assert all(map(torch.equal, *(state.values() for state in built)))


def test_the_control_of_an_untrained_encoder_learns_nothing_where_ridge_would(pairs):
    noise = Pairs(torch.randn_like(pairs.spectrograms), pairs.targets)
    train, test = noise.select(TRAIN), noise.select(VALIDATION)
    found = [untrained(specification(LinearSpec()), train, test, seed) for seed in range(20)]
    assert np.mean([each["recall@10"] for each in found]) == pytest.approx(10 / 36, abs=0.07)


def test_an_encoder_that_was_edited_is_refused_and_named_by_its_content(pairs, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(OWN)
    spec = OwnSpec.of(f"{file}:Mine")
    (tmp_path / "elsewhere").mkdir()
    moved = tmp_path / "elsewhere" / "mine.py"
    moved.write_text(OWN)
    elsewhere = OwnSpec.of(f"{moved}:Mine")
    assert elsewhere != spec
    assert elsewhere.by_content() == spec.by_content()
    file.write_text(OWN + "\n# edited")
    with pytest.raises(UserError, match=r"mine\.py:Mine is not as it was"):
        spec.build(pairs, "float32")
    file.unlink()
    with pytest.raises(UserError, match="no such file"):
        spec.build(pairs, "float32")


def test_an_encoder_of_ones_own_may_be_given_as_its_class(tmp_path, monkeypatch):
    (tmp_path / "given_as_class.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    made = importlib.import_module("given_as_class").Mine
    assert OwnSpec.of(made) == OwnSpec.of(f"{tmp_path / 'given_as_class.py'}:Mine")
    with pytest.raises(UserError, match="Mine is neither a class nor a function"):
        OwnSpec.of(made(3, 8, 18, 5))


def test_a_made_up_batch_leaves_no_trace(pairs, tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    spec = OwnSpec.of(f"{tmp_path / 'mine.py'}:Mine")
    torch.manual_seed(0)
    built = spec.build(pairs, "float32")
    after = torch.rand(1)
    torch.manual_seed(0)
    torch.nn.Linear(3 * 8 * 18, 32)
    assert torch.equal(after, torch.rand(1))
    assert not built.module.norm.running_mean.any()
