"""Targets in one word, as command lines take them."""

from __future__ import annotations

import pytest

from ssense.engine.core.checks import check_target
from ssense.errors import UserError
from ssense.specification import configured
from ssense.targets.target_source import target_changes
from ssense.training.sentences import SentenceSpec

SPELLED = {
    "ViT-L-14": {"target": "open-clip", "target.model": "ViT-L-14"},
    "ViT-L-14:a/b:c.safetensors,layer=9": {
        "target": "open-clip",
        "target.model": "ViT-L-14",
        "target.weights": "a/b:c.safetensors",
        "target.layer": 9,
    },
    "sentence-transformers:lab/words": {
        "target": "sentence-transformers",
        "target.model": "lab/words",
    },
    "transformers:a/folder:with, odd=name": {
        "target": "transformers",
        "target.model": "a/folder:with, odd=name",
    },
    "transformers:gpt2,pooling=last,layer=8,revision=607a30d": {
        "target": "transformers",
        "target.model": "gpt2",
        "target.pooling": "last",
        "target.layer": 8,
        "target.revision": "607a30d",
    },
    "a/words.npy": {"target": "vectors", "target.file": "a/words.npy"},
    "./a:b.parquet": {"target": "vectors", "target.file": "./a:b.parquet"},
    "words.safetensors": {"target": "vectors", "target.file": "words.safetensors"},
    "a:b/mine.py:Mine": {"target": "own", "target.source": "a:b/mine.py:Mine"},
}


@pytest.mark.parametrize("text", SPELLED)
def test_a_target_is_read_as_the_fields_that_it_sets(text):
    changes = target_changes(text)
    assert changes == SPELLED[text]
    spec = configured(SentenceSpec(), changes).target
    assert {name: getattr(spec, name.partition(".")[2] or "kind") for name in changes} == changes


REFUSED = {
    "": "it is no target",
    "a folder/": "it is no target",
    "/models/bert": "it is no target",
    "mine.py": "it is no target",
    "transformers:": "it is no target",
    "sentence-transformer:bert": (
        "no kind of target is called sentence-transformer; sentence-transformers is"
    ),
    "transformers:gpt2,layer=last": "layer=last is no whole number",
    "mine.py:Mine,layer=2": "layer is no field of own",
    "ViT-L-14,pooling=mean": "pooling is no field of open-clip",
    "words.npy,revision=main": "revision is no field of vectors",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_target_is_refused_with_what_may_be_given(text):
    with pytest.raises(UserError) as error:
        check_target("--target", text or " ", "--text-weights", None)
    assert str(error.value).startswith(f"--target {text}: {REFUSED[text]}. Give MODEL or MODEL:WEI")


@pytest.mark.parametrize(
    ("target", "weights", "message"),
    [
        ("words.npy", None, "--target words.npy: no such file"),
        ("mine.py:Mine", None, "--target mine.py:Mine: no such file"),
        (
            "ViT-B-16-quickgelu:opennai",
            None,
            "--target ViT-B-16-quickgelu:opennai: opennai: open_clip has no such w",
        ),
        ("ViT-B-16-quickgelu", "opennai", "--text-weights opennai: open_clip has no such weights"),
        (
            None,
            "opennai",
            "--text-weights opennai: open_clip has no such weights",
        ),
        (
            "ViT-B-16-quickgelu:openai",
            "openai",
            "--text-weights openai: --target ViT-B-16-quickgelu:openai names its own. Leave --text",
        ),
        (
            "transformers:gpt2",
            "openai",
            "--text-weights openai: --target transformers:gpt2 is of transformers, without any. ",
        ),
    ],
)
def test_files_and_weights_are_looked_for_before_anything_is_loaded(target, weights, message):
    with pytest.raises(UserError) as error:
        check_target("--target", target, "--text-weights", weights)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("target", [None, "ViT-B-16-quickgelu", "ViT-L-14:laion2b_s32b_b82k"])
def test_a_target_that_may_be_one_passes(target):
    check_target("--target", target, "--text-weights", None)
