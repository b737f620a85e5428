from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import huggingface_hub.constants
import open_clip
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from upath import UPath

from ssense.choices import SMALL_VIT
from ssense.errors import UserError
from ssense.targets import text
from ssense.targets.clip import frozen_clip, model_config, the_open_clip
from ssense.targets.sentence_embeddings import cached_embeddings, embedding_origin, tower_texts
from ssense.targets.text import TextSpec

UNTRAINED = TextSpec(weights="untrained")
SENTENCES = [
    "Who are you?",
    "Who are you, and what do you want from me at this hour of the night, Scott?",
    "Mr. Lang!--",  # its "!" is token 0, the number of the padding too
    "No.",
    "Who are you?",
    "word " * 100,  # longer than the context
    "who are you?!",
]
REPEATED = (0, 4)


@pytest.fixture(scope="module")
def embeddings() -> Tensor:
    return UNTRAINED.embed(SENTENCES)


@pytest.fixture(scope="module")
def clip() -> nn.Module:
    """The tower made by open_clip itself, at the seeded initialisation."""
    torch.manual_seed(0)
    return open_clip.create_model("ViT-B-32-quickgelu", pretrained=None).eval()


def at_full_length(tower: nn.Module, model: str, sentences: list[str]) -> Tensor:
    tokens = open_clip.get_tokenizer(model)(sentences)
    assert tokens.shape[1] == 77
    with torch.inference_mode():
        return normalize(tower.encode_text(tokens), dim=1)


# A tower with CLIP's tokeniser and context that is built and saved within milliseconds.
TINY_CONFIG = {
    "embed_dim": 16,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 32},
    "text_cfg": {
        "context_length": 77,
        "vocab_size": 49408,
        "width": 16,
        "heads": 2,
        "layers": 2,
    },
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("models") / "tiny.json"
    path.write_text(json.dumps(TINY_CONFIG))
    open_clip.add_model_config(path)
    return path.stem


@pytest.fixture
def save_tower(tiny, tmp_path) -> Callable[[int], nn.Module]:
    """Save a tower of another seed to tower.pt and return it."""

    def save(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        tower = open_clip.create_model(tiny, pretrained=None).eval()
        torch.save(tower.state_dict(), tmp_path / "tower.pt")
        return tower

    return save


def refused(spec: TextSpec) -> str:
    with pytest.raises(UserError) as error:
        spec.embed(["A sentence."])
    message = str(error.value)
    assert len(message.splitlines()) == 1
    return message


# ---------------------------------------------------------------- embeddings


def test_embeddings_are_unit_rows_of_512(embeddings):
    assert embeddings.shape == (len(SENTENCES), 512)
    assert embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(len(SENTENCES)))


def test_a_shortened_context_changes_nothing(embeddings, clip):
    expected = at_full_length(clip, "ViT-B-32-quickgelu", SENTENCES)
    torch.testing.assert_close(embeddings, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("sentence", ["Mr. Lang!--", "", "!-!-!-!-!"])
def test_a_sentence_alone_is_embedded_as_in_company(tiny, sentence):
    spec = TextSpec(model=tiny, weights="untrained")
    torch.manual_seed(0)
    expected = at_full_length(open_clip.create_model(tiny).eval(), tiny, [sentence])
    torch.testing.assert_close(spec.embed([sentence]), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("layer", [1, 2])
def test_a_layer_is_what_its_block_makes_of_the_end_of_the_text(tiny, layer):
    torch.manual_seed(0)
    tower = open_clip.create_model(tiny).eval()
    made: list[Tensor] = []
    block = tower.transformer.resblocks[layer - 1]
    block.register_forward_hook(lambda _, __, output: made.append(output))
    tokens = open_clip.get_tokenizer(tiny)(SENTENCES)
    with torch.inference_mode():
        tower.encode_text(tokens)
        ends = made[0][torch.arange(len(tokens)), tokens.argmax(dim=1)]
        expected = normalize(tower.ln_final(ends), dim=1)
    spec = TextSpec(model=tiny, weights="untrained", layer=layer)
    torch.testing.assert_close(spec.embed(SENTENCES), expected, rtol=0, atol=1e-6)
    assert spec.dimensions() == expected.shape[1] == TINY_CONFIG["text_cfg"]["width"]
    other = TextSpec(model=tiny, weights="untrained", layer=3 - layer)
    origins = [embedding_origin(SENTENCES, each) for each in (spec, other)]
    assert origins[0] != origins[1]


def test_a_layer_that_the_tower_lacks_is_refused(tiny):
    assert "has 2 layers. Give 1 to 2." in refused(
        TextSpec(model=tiny, weights="untrained", layer=3)
    )
    with pytest.raises(ValueError, match="layer must be at least 1, got 0"):
        TextSpec(layer=0)


@pytest.mark.parametrize(
    "reading",
    [
        {"pool_type": "eos", "eos_id": 0},  # the first token of the padding, after the highest
        {"pool_type": "last"},
        {"pool_type": "last", "no_causal_mask": True},
        {"no_causal_mask": True},
    ],
)
def test_a_tower_that_reads_its_padding_is_given_all_of_it(reading, tmp_path):
    config = TINY_CONFIG | {"text_cfg": TINY_CONFIG["text_cfg"] | reading}
    name = "tiny-" + "-".join(map(str, reading.values()))
    (tmp_path / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path)
    torch.manual_seed(0)
    tower = open_clip.create_model(name).eval()
    assert type(tower) is open_clip.CLIP
    for sentences in (SENTENCES, SENTENCES[:1]):
        found = TextSpec(model=name, weights="untrained").embed(sentences)
        expected = at_full_length(tower, name, sentences)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["CustomTextCLIP", "CoCa"])
def test_a_tower_of_another_class_embeds_too(kind, tmp_path):
    config = TINY_CONFIG | {"custom_text": True}
    if kind == "CoCa":
        text = TINY_CONFIG["text_cfg"] | {"embed_cls": True, "output_tokens": True}
        vision = TINY_CONFIG["vision_cfg"] | {"attentional_pool": True, "output_tokens": True}
        decoder = {"context_length": 76, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1}
        config |= {"text_cfg": text, "vision_cfg": vision, "multimodal_cfg": decoder}
    (tmp_path / f"tiny-{kind}.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path)
    found = TextSpec(model=f"tiny-{kind}", weights="untrained").embed(SENTENCES)
    torch.manual_seed(0)
    tower = open_clip.create_model(f"tiny-{kind}").eval()
    assert type(tower).__name__ == kind
    with torch.no_grad():
        expected = tower.encode_text(open_clip.get_tokenizer(f"tiny-{kind}")(SENTENCES))
    torch.testing.assert_close(found, normalize(expected, dim=1), rtol=0, atol=1e-6)


def test_the_default_tower_is_the_one_that_openai_s_weights_were_trained_in(clip):
    assert TextSpec() == TextSpec(model="ViT-B-32-quickgelu", weights="openai")
    activations = {type(block.mlp.gelu).__name__ for block in clip.transformer.resblocks}
    assert activations == {"QuickGELU"}


def test_repeated_sentences_are_bitwise_equal_and_others_are_not(embeddings):
    equal = {
        (i, j)
        for i, one in enumerate(embeddings)
        for j, other in enumerate(embeddings)
        if i < j and one.equal(other)
    }
    assert equal == {REPEATED}


def test_each_distinct_sentence_is_embedded_once(tiny, monkeypatch):
    seen = []
    encode_text = open_clip.CLIP.encode_text
    monkeypatch.setattr(
        open_clip.CLIP,
        "encode_text",
        lambda self, tokens: seen.append(len(tokens)) or encode_text(self, tokens),
    )
    sentences = [f"Sentence {i % 150}." for i in range(1000)]
    found = TextSpec(model=tiny, weights="untrained").embed(sentences)
    assert sum(seen) == 150
    assert found[:150].repeat(7, 1)[:1000].equal(found)


def test_the_untrained_tower_is_the_same_whatever_the_random_state(tiny):
    spec = TextSpec(model=tiny, weights="untrained")
    torch.manual_seed(1)
    first = spec.embed(SENTENCES)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert spec.embed(SENTENCES).equal(first)
    assert torch.get_rng_state().equal(before)


# ---------------------------------------------------------------- weights


def test_a_local_file_is_loaded(tiny, save_tower, tmp_path):
    expected = at_full_length(save_tower(3), tiny, SENTENCES)
    found = TextSpec(model=tiny, weights=str(tmp_path / "tower.pt")).embed(SENTENCES)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    untrained = TextSpec(model=tiny, weights="untrained").embed(SENTENCES)
    assert not torch.allclose(found, untrained, atol=0.1)


class Foreign:
    """Writes a file when it is unpickled without restriction."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable, tuple[Path, str]]:
        return Path.write_text, (self.path, "executed")


def test_a_foreign_pickle_is_refused_unexecuted(tiny, tmp_path):
    path, trace = tmp_path / "tower.pt", tmp_path / "trace"
    torch.save({"state_dict": {"positional_embedding": Foreign(trace)}}, path)
    message = refused(TextSpec(model=tiny, weights=str(path)))
    assert message.startswith(f"{path}: unreadable weights (it holds getattr, which is not loaded")
    assert not trace.exists()


@pytest.mark.parametrize(
    "spec", [TextSpec(), TextSpec(weights="no-such-tag"), TextSpec(weights="no/such/file.pt")]
)
def test_weights_that_cannot_be_had_name_three_ways_out(spec, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    message = refused(spec)
    known = spec.weights == "openai"
    weights = f"text weights {spec.weights}"
    why = (
        f"could not load the {weights} of {spec.model} ("
        if known
        else f"{weights}: neither a file nor weights that open_clip has"
    )
    assert message.startswith(why)
    for way_out in (
        "go online" if not known else "Go online once",
        "set `text.weights` to a local file",
        "or to untrained",
    ):
        assert way_out in message


@pytest.mark.parametrize("weights", ["openai", "untrained"])
def test_a_model_that_there_is_not_is_said_to_be_none(weights):
    message = refused(TextSpec(model="no-such-model", weights=weights))
    assert message == "open_clip knows no model no-such-model. See open_clip.list_models()."


def test_logging_stays_as_quiet_as_it_was(tiny):
    logging.disable(logging.INFO)
    try:
        frozen_clip(tiny, "untrained", "text")
        assert logging.root.manager.disable == logging.INFO
    finally:
        logging.disable(logging.NOTSET)


# ---------------------------------------------------------------- the cache


@pytest.fixture
def count(monkeypatch) -> list[TextSpec]:
    """Towers built so far."""
    built: list[TextSpec] = []
    tower = text._text_tower
    monkeypatch.setattr(text, "_text_tower", lambda spec: built.append(spec) or tower(spec))
    return built


def test_a_second_call_reads_the_file_of_the_first(tiny, tmp_path, count):
    spec = TextSpec(model=tiny, weights="untrained")
    first = cached_embeddings(SENTENCES, spec, UPath(tmp_path / "text"))
    again = cached_embeddings(SENTENCES, spec, UPath(tmp_path / "text"))
    assert first.equal(again)
    assert first.equal(spec.embed(SENTENCES))
    assert len(count) == 2  # one for the first call, one for the line above
    assert len(list((tmp_path / "text").iterdir())) == 1


def test_other_sentences_orders_and_weights_have_other_files(tiny, save_tower, tmp_path):
    local = TextSpec(model=tiny, weights=str(tmp_path / "tower.pt"))
    folder = UPath(tmp_path / "text")
    found = []
    for seed in (3, 4):  # the same path holds other weights
        save_tower(seed)
        found.append(cached_embeddings(["One.", "Two."], local, folder))
    untrained = TextSpec(model=tiny, weights="untrained")
    found += [cached_embeddings(s, untrained, folder) for s in (["One.", "Two."], ["Two.", "One."])]
    assert len(list(folder.iterdir())) == 4
    assert [found[2].equal(other) for other in found] == [False, False, True, False]
    assert found[3].flip(0).allclose(found[2], atol=1e-6)


def test_the_origin_names_a_file_by_its_content(tiny, save_tower, tmp_path):
    local = TextSpec(model=tiny, weights=str(tmp_path / "tower.pt"))
    save_tower(3)
    first = embedding_origin(SENTENCES, local)
    copy = (tmp_path / "tower.pt").rename(tmp_path / "elsewhere.pt")
    assert embedding_origin(SENTENCES, TextSpec(model=tiny, weights=str(copy))) == first
    save_tower(4)
    assert embedding_origin(SENTENCES, local) != first
    assert str(tmp_path) not in json.dumps(first)


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-1], lambda _: b"", lambda _: b"x" * 99]
)
def test_a_damaged_cache_is_one_line(tiny, tmp_path, damage):
    spec = TextSpec(model=tiny, weights="untrained")
    cached_embeddings(SENTENCES, spec, UPath(tmp_path))
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError) as error:
        cached_embeddings(SENTENCES, spec, UPath(tmp_path))
    assert len(str(error.value).splitlines()) == 1
    assert str(error.value).startswith(f"{path} is damaged (")
    assert str(error.value).endswith("Delete it and run again.")


TOKENISED = [
    "It's  FINE.",
    "it’s fine.",  # the tokeniser straightens apostrophes, and writes all in lower case
    "it is fine.",
    "word " * 75,  # with start and end just what the tower reads
    "word " * 76,
    "word " * 75 + "and more",
]


def test_the_tower_s_view_of_sentences(tmp_path, monkeypatch):
    def read() -> list[list]:
        found = tower_texts(TOKENISED, UNTRAINED, UPath(tmp_path))
        assert found.most_tokens == 77
        return [found.same_as.tolist(), found.cut.tolist()]

    expected = [[0, 0, 2, 3, 3, 3], [False, False, False, False, True, True]]
    assert read() == expected
    monkeypatch.setattr(open_clip, "get_tokenizer", None)  # kept: nobody is asked again
    assert read() == expected
    next(Path(tmp_path).iterdir()).write_bytes(b"")
    with pytest.raises(UserError, match="is damaged"):
        read()


def test_a_tokeniser_of_no_model_is_refused(tmp_path):
    with pytest.raises(UserError, match="open_clip knows no model no-such"):
        tower_texts(["a"], TextSpec(model="no-such"), UPath(tmp_path))


def test_failing_to_embed_leaves_no_cache(tmp_path):
    with pytest.raises(UserError):
        cached_embeddings(SENTENCES, TextSpec(model="no-such-model"), UPath(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_configuration_on_disk_is_the_one_that_open_clip_has():
    ours = the_open_clip()
    for model in ("ViT-B-32-quickgelu", "RN50-quickgelu", "ViT-L-14", SMALL_VIT):
        assert model_config(model) == ours.get_model_config(model)


def test_dimensions_are_known_without_importing_open_clip():
    script = (
        "import sys; from ssense.targets.text import TextSpec;"
        "print(TextSpec().dimensions(), TextSpec(layer=3).dimensions());"
        "print('open_clip' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["512", "512", "False"]
