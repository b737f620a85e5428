"""Targets from a file of one's own."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from upath import UPath

from ssense.errors import UserError
from ssense.targets.own_target import OwnTargetSpec
from ssense.targets.sentence_embeddings import cached_embeddings, embedding_origin, tower_texts

SENTENCES = ["Who are you?", "No.", "Who are you?", "on."]
OWN = """
import numpy as np
import torch

CALLS = []


def letters(sentences):
    CALLS.append(len(sentences))
    counts = [[sentence.lower().count(letter) for letter in "onwy."] for sentence in sentences]
    return np.array(counts, float) + 0.5


class Letters:
    def __call__(self, sentences):
        return torch.from_numpy(letters(sentences)).bfloat16()
"""
COUNTS = torch.tensor([[2, 0, 1, 1, 0], [1, 1, 0, 0, 1]]) + 0.5


@pytest.fixture
def own(tmp_path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(OWN)
    return path


@pytest.mark.parametrize("name", ["letters", "Letters"])
def test_a_function_or_class_embeds_all_distinct_sentences_in_one_call(name, own):
    spec = OwnTargetSpec.of(f"{own}:{name}")
    spec.check()
    expected = COUNTS / COUNTS.norm(dim=1, keepdim=True)
    found = spec.embed(SENTENCES)
    torch.testing.assert_close(found, expected[[0, 1, 0, 1]], rtol=0, atol=1e-6)
    assert found.dtype == torch.float32
    assert spec.dimensions() == 5
    assert spec.name == f"mine.py:{name}"


def test_sentences_are_one_where_their_vectors_are(own, tmp_path):
    spec = OwnTargetSpec.of(f"{own}:letters")
    for _ in range(2):  # computed, and read
        found = tower_texts(SENTENCES, spec, UPath(tmp_path / "text"))
        assert found.same_as.tolist() == [0, 1, 0, 1]
        assert not found.cut.any()
        cached_embeddings(SENTENCES, spec, UPath(tmp_path / "text"))


def test_a_plan_and_its_sweep_call_it_once(own, tmp_path):
    spec = OwnTargetSpec.of(f"{own}:letters")
    own.write_text(OWN + "\n# of this test alone")
    spec.check()
    spec.check()
    tower_texts(SENTENCES, spec, UPath(tmp_path), keep=False)
    cached_embeddings(SENTENCES, spec, UPath(tmp_path))
    (calls,) = (
        module.CALLS
        for name, module in sys.modules.items()
        if name.startswith("ssense_own_") and getattr(module, "__file__", "") == str(own)
    )
    assert calls == [3, 3, 1, 3]  # made-up sentences twice, one of them, and the distinct ones


def test_it_counts_by_the_content_of_its_file_and_its_name(own, tmp_path):
    spec = OwnTargetSpec.of(f"{own}:letters")
    (tmp_path / "else").mkdir()
    moved = tmp_path / "else" / "moved.py"
    moved.write_text(OWN)
    elsewhere = OwnTargetSpec.of(f"{moved}:letters")
    assert elsewhere.by_content() == spec.by_content() != spec
    first = embedding_origin(SENTENCES, spec)
    assert embedding_origin(SENTENCES, elsewhere) == first
    assert embedding_origin(SENTENCES, OwnTargetSpec.of(f"{own}:Letters")) != first
    before = spec.embed(SENTENCES)
    own.write_text(OWN.replace("0.5", "1.5"))
    assert embedding_origin(SENTENCES, spec) != first
    assert not spec.embed(SENTENCES).allclose(before)
    own.unlink()
    assert spec.is_away
    assert spec.by_content() == spec
    with pytest.raises(UserError, match=r"target .*: no such file\. Put it back, or run"):
        spec.check()


def test_a_class_or_function_is_known_by_where_it_is_written(own, monkeypatch):
    own = own.rename(own.with_name("given_as_object.py"))
    monkeypatch.syspath_prepend(str(own.parent))
    mine = importlib.import_module("given_as_object")

    for made in (mine.letters, mine.Letters):
        spec = OwnTargetSpec.of(made)
        assert spec == OwnTargetSpec.of(f"{own}:{made.__name__}")

    def inner(sentences):
        return np.ones((len(sentences), 2))

    for made, message in (
        (inner, r"is not at the top of a \.py file"),
        (lambda s: s, r"is not at the top of a \.py file"),
        (dict, r"dict is not at the top of a \.py file"),
        (mine.Letters(), "Letters is neither a class nor a function. Give its class"),
        (len, "len is neither a class nor a function"),
    ):
        with pytest.raises(UserError, match=message):
            OwnTargetSpec.of(made)


BAD = {
    "nothing": ("x = 1", "mine.py:f: f is nothing, not a function, nor a class with __call__"),
    "no function": ("f = 3", "f is int, not a function"),
    "not called": ("class f: pass", "f is f, not a function, nor a class with __call__"),
    "with arguments": (
        "class f:\n  def __init__(self, n): pass",
        "missing 1 required positional argument: 'n'. It is made without arguments.",
    ),
    "syntax": ("def f(", "SyntaxError: "),
    "raises": ("def f(s): return s.nothing", "AttributeError: 'list' object has no attribute"),
    "exits": ("def f(s): raise SystemExit(3)", "SystemExit: 3. It is called with a list of N"),
    "a list": ("def f(s): return [[1.0]] * len(s)", "makes list of 3 sentences, not [3, D]"),
    "one for all": (
        "def f(s): return torch.ones(5)",
        "makes [5] of 3 sentences, not [3, D]",
    ),
    "tokens": ("def f(s): return torch.ones(len(s), 7, 5)", "makes [3, 7, 5] of 3 sentences"),
    "transposed": ("def f(s): return torch.ones(5, len(s))", "makes [5, 3] of 3 sentences"),
    "empty": ("def f(s): return torch.ones(len(s), 0)", "makes [3, 0] of 3 sentences"),
    "whole": (
        "def f(s): return torch.ones(len(s), 2).long()",
        "makes [3, 2] of torch.int64 of 3 sentences, not [3, D] finite floats",
    ),
    "texts": ("def f(s): return np.array([[t] for t in s])", "makes [3, 1] of <U55 of 3"),
    "not finite": (
        "def f(s): return np.full((len(s), 2), np.nan)",
        "values that are not finite",
    ),
    "random": ("def f(s): return torch.rand(len(s), 2)", "gives the same sentences other vectors"),
    "squeezed": (
        "def f(s): return torch.ones(len(s), 2).squeeze(0)",
        "makes [2] of 1 sentence, not [1, D] finite floats",
    ),
    "by number": (
        "def f(s): return torch.ones(len(s), len(s))",
        "makes [1, 1] of 1 sentence, and [3, 3] of 3. Give all of them the same length",
    ),
    "centred": (
        "def f(s):\n  v = np.array([[len(t), t.count('o')] for t in s], float)\n"
        "  return v - v.mean(0) + 1e-3",
        "gives a sentence another vector alone than together with others. Let each vector depend",
    ),
    "centred to zero": (
        "def f(s):\n  v = np.array([[len(t)] for t in s], float)\n  return v - v.mean(0)",
        "gives a sentence another vector alone than together with others",
    ),
    "padded": (
        "def f(s):\n  most = max(map(len, s))\n"
        "  v = np.array([[[ord(c) - 60, 30.0] for c in t.ljust(most)] for t in s])\n"
        "  return v.mean(1)",
        "gives a sentence another vector alone than together with others",
    ),
}


@pytest.mark.parametrize("fault", BAD)
def test_one_that_does_not_embed_is_one_line_with_the_shapes(fault, tmp_path):
    code, message = BAD[fault]
    (tmp_path / "mine.py").write_text(f"import numpy as np\nimport torch\n{code}\n")
    with pytest.raises(UserError) as error:
        OwnTargetSpec.of(f"{tmp_path / 'mine.py'}:f").check()
    assert message in str(error.value)
    assert "mine.py:f" in str(error.value)
    assert "\n" not in str(error.value)


ROUNDED = """
import torch
DRAWN = torch.rand(512, generator=torch.Generator().manual_seed(0)) - 0.5


def f(sentences):  # batches of other sizes are rounded otherwise, by a bit of bfloat16
    vectors = (torch.ones(len(sentences), 512) + len(sentences) * 2**-9 * DRAWN).bfloat16()
    return vectors * 1e30
"""


@pytest.mark.parametrize(
    "code",
    [
        ROUNDED,
        "def f(s): return np.array([[float(t == 'No.'), 0] for t in s])",  # the first one is zero
    ],
)
def test_rounding_and_made_up_sentences_without_a_vector_pass(code, tmp_path):
    (tmp_path / "mine.py").write_text(f"import numpy as np\n{code}\n")
    OwnTargetSpec.of(f"{tmp_path / 'mine.py'}:f").check()


def test_what_fails_on_the_sentences_themselves_leaves_no_file(tmp_path):
    code = "def f(s): return np.array([[len(t) - 3] for t in s], float)"
    (tmp_path / "mine.py").write_text(f"import numpy as np\n{code}\n")
    spec = OwnTargetSpec.of(f"{tmp_path / 'mine.py'}:f")
    with pytest.raises(UserError, match=r"mine\.py:f: the vector of “No\?” is zero, and 1 more"):
        cached_embeddings(["No!!", "No?", "on?"], spec, UPath(tmp_path / "text"))
    assert not (tmp_path / "text").exists()


@pytest.mark.parametrize("text", ["", "mine.py", "mine.py:1st"])
def test_a_source_that_names_nothing_is_refused(text):
    with pytest.raises(UserError, match=r"names no class or function\. Give FILE\.py:NAME"):
        OwnTargetSpec.of(text)
    with pytest.raises(UserError, match=r"names no class or function\. Give FILE\.py:NAME"):
        OwnTargetSpec(source=text).check()


def test_generators_are_as_they_were(own):
    own.write_text(OWN + "\ntorch.rand(3); np.random.rand(3)\n")
    torch.manual_seed(5)
    OwnTargetSpec.of(f"{own}:Letters").embed(SENTENCES)
    after = torch.rand(1)
    torch.manual_seed(5)
    assert after == torch.rand(1)
