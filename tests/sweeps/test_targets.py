"""Sweeps over targets of several kinds, as a command line names them."""

from __future__ import annotations

import numpy as np
import pytest

from ssense.data.synthetic.spec import SyntheticSpec
from ssense.engine.core.sweep import checked_levels
from ssense.engine.tasks.recording_options import RecordingOptions
from ssense.engine.tasks.target_option import target_levels
from ssense.errors import UserError
from ssense.targets.language_model import TransformersSpec
from ssense.targets.own_target import OwnTargetSpec
from ssense.targets.text import TextSpec
from ssense.targets.vectors import VectorSpec
from ssense.training.sentences import SentenceSpec
from sweeps.targets import TargetOptions, target_sweep

OWN = """
import torch


class Letters:
    def __call__(self, sentences):
        return torch.tensor([[s.lower().count(c) + 0.5 for c in "aeinorst"] for s in sentences])
"""


def test_a_sweep_compares_targets_by_their_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(OWN)
    small = SyntheticSpec(sentences=60, electrodes=5, sampling_rate=256)
    given = {"storage": "storage", "synthetic": small, "target": "mine.py:Letters"}
    data = RecordingOptions(**given).plan_data()
    numbers = data.own.numbers
    np.save("words.npy", np.random.default_rng(0).standard_normal((len(numbers), 12)))
    (tmp_path / "words.txt").write_text("\n".join(map(str, numbers)))
    options = TargetOptions(**given, towers=("words.npy",))
    sweep = target_sweep(data, options)
    assert isinstance(sweep.specification, SentenceSpec)
    assert sweep.specification.target == OwnTargetSpec.of(str(tmp_path / "mine.py:Letters"))
    words = {"target": ("vectors",), "target.file": (str(tmp_path / "words.npy"),)}
    # One's own target has no layers to compare.
    assert {family.name: family.levels for family in sweep.families} == {
        "output": {},
        "words.npy": words,
    }
    covering = data.covering(sweep.specification, sweep.families)
    assert [each.tower for each in covering.origin().datasets] == [
        "mine.py:Letters",
        "vectors words.npy",
    ]
    assert len(sweep.all_datasets()) == 2
    np.save("words.npy", np.ones((len(numbers), 0)))
    with pytest.raises(UserError, match=r"^--towers words\.npy: vectors .* not \[N, D\] floats"):
        target_sweep(data, options)


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        ({}, TextSpec(weights="untrained")),
        ({"text_weights": "openai"}, TextSpec()),
        ({"target": "ViT-L-14"}, TextSpec(model="ViT-L-14", weights="untrained")),
        ({"target": "RN50:yfcc15m,layer=3"}, TextSpec(model="RN50", weights="yfcc15m", layer=3)),
        (
            {"target": "transformers:gpt2,pooling=last"},
            TransformersSpec(model="gpt2", pooling="last"),
        ),
    ],
)
def test_the_flag_sets_the_target_of_the_specification(flags, wanted, tmp_path):
    options = RecordingOptions(storage=str(tmp_path), **flags)
    assert options.specification().target == wanted


def test_a_value_that_a_target_refuses_is_one_line(tmp_path):
    for target, message in (
        ("transformers:gpt2,pooling=max", "pooling must be one of mean, cls, last, got max"),
        ("ViT-L-14,layer=0", "layer must be at least 1, got 0"),
    ):
        options = RecordingOptions(storage=str(tmp_path), target=target)
        with pytest.raises(UserError, match=message):
            options.specification()


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ({"target": ("open-clip", "word2vec")}, "target is word2vec, not open-clip, sentence-"),
        ({"target.pooling": ("mean",)}, "target.pooling can't be mean .*not a field of open-clip"),
        (
            {"target": ("vectors", "own"), "target.layer": (1, 2)},
            "target.layer can't be 1 .*not a field of vectors",
        ),
        (
            {"target": ("transformers",), "target.pooling": ("mean", "max")},
            "target.pooling can't be max .*not one of mean, cls, last",
        ),
        ({"target": ("transformers",), "target.layer": (0, 1)}, "layer must be at least 1, got 0"),
        ({"target": ("vectors",), "target.file": (3,)}, "target.file can't be 3 .*not a text"),
    ],
)
def test_levels_that_no_target_has_are_refused(levels, message):
    with pytest.raises(UserError, match=message) as error:
        checked_levels(SentenceSpec(), {"f": levels})
    assert "\n" not in str(error.value)


def test_a_family_of_a_target_sets_what_the_specification_has_otherwise(tmp_path, monkeypatch):
    np.save(tmp_path / "words.npy", np.ones((2, 3)))
    (tmp_path / "words.txt").write_text("Who are you?\nNo.\n")
    monkeypatch.chdir(tmp_path)
    words = str(tmp_path / "words.npy")
    of_tower = SentenceSpec(target=TextSpec(weights="untrained", layer=9))
    of_vectors = SentenceSpec(target=VectorSpec(file="other.npy"))
    tower = {"target.model": ("RN50-quickgelu",), "target.weights": ("openai",)}
    assert target_levels("RN50-quickgelu:openai", "untrained", SentenceSpec()) == tower
    assert target_levels("RN50-quickgelu:openai", "untrained", of_tower) == {
        **tower,
        "target.layer": (None,),
    }
    assert target_levels("RN50-quickgelu:openai", "untrained", of_vectors) == {
        "target": ("open-clip",),
        **tower,
    }
    assert target_levels("words.npy", "untrained", of_vectors) == {"target.file": (words,)}
    assert target_levels("words.npy", "untrained", of_tower) == {
        "target": ("vectors",),
        "target.file": (words,),
    }
