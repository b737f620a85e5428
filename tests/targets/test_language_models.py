"""Targets from Hugging Face's models, small ones of random weights that transformers has written.

Expected vectors are computed the other way round: all sentences in one padded batch, pooled by the
attention mask.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from language_models import MOST_TOKENS, WIDTH, save_model
from torch import Tensor, nn
from upath import UPath

from ssense.errors import UserError
from ssense.targets.language_model import TransformersSpec
from ssense.targets.sentence_embeddings import cached_embeddings, embedding_origin, tower_texts
from ssense.targets.sentence_transformer import SentenceTransformerSpec
from ssense.targets.target import TargetSpec

SENTENCES = [
    "Who are you?",
    "No.",
    "Who are you, and what do you want? No, no, no!",  # longer than the models read
    "Who are you?",
    "who are YOU ?",  # the same to a tokeniser that writes all in lower case
    "Who are you, and what do you want? No, no... no",  # the same as far as it is read
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {kind: save_model(root / kind, kind) for kind in ("bert", "gpt2", "t5")}


@pytest.fixture(scope="module")
def whole(folders, tmp_path_factory) -> Path:
    """A model of sentence-transformers: BERT, the mean of its tokens, a dense layer."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    torch.manual_seed(1)
    modules = [Transformer(str(folders["bert"])), Pooling(WIDTH, "mean"), Dense(WIDTH, 6)]
    folder = tmp_path_factory.mktemp("models") / "whole"
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(folder))
    return folder


def padded(folder: Path) -> tuple[Tensor, list[Tensor], Tensor]:
    """The output of a model, that of each block, and the mask of a batch of all sentences."""
    from transformers import AutoModel, AutoTokenizer

    tokeniser = AutoTokenizer.from_pretrained(folder)
    batch = tokeniser(SENTENCES, padding=True, truncation=True, return_tensors="pt")
    model = AutoModel.from_pretrained(folder).eval()
    reader = model.get_encoder() if model.config.is_encoder_decoder else model
    with torch.no_grad():
        output = reader(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            output_hidden_states=True,
        )
    return output.last_hidden_state, list(output.hidden_states), batch["attention_mask"]


def pooled(states: Tensor, mask: Tensor, pooling: str) -> Tensor:
    n_tokens = mask.sum(dim=1)
    rows = torch.arange(len(states))
    found = {
        "mean": (states * mask[..., None]).sum(dim=1) / n_tokens[:, None],
        "cls": states[:, 0],
        "last": states[rows, n_tokens - 1],
    }[pooling]
    return found / found.norm(dim=1, keepdim=True)


def refused(spec: TargetSpec) -> str:
    def use() -> None:
        spec.check()
        spec.embed(SENTENCES)

    with pytest.raises(UserError) as error:
        use()
    assert "\n" not in str(error.value)
    return str(error.value)


# ---------------------------------------------------------------- embeddings


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("kind", ["bert", "gpt2", "t5"])
def test_embeddings_are_those_of_a_padded_batch_pooled_by_its_mask(kind, pooling, folders):
    output, blocks, mask = padded(folders[kind])
    for layer in (None, 1, 2):
        spec = TransformersSpec(model=str(folders[kind]), pooling=pooling, layer=layer)
        spec.check()
        found = spec.embed(SENTENCES)
        expected = pooled(output if layer is None else blocks[layer], mask, pooling)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
        assert found.dtype == torch.float32
        assert spec.dimensions() == found.shape[1] == WIDTH
        assert found[0].equal(found[3])


def test_a_model_of_sentence_transformers_ends_in_its_dense_layer(folders, whole):
    from safetensors.torch import load_file

    (dense,) = (load_file(path) for path in whole.glob("*Dense/model.safetensors"))
    output, _, mask = padded(folders["bert"])
    mean = (output * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
    expected = torch.tanh(mean @ dense["linear.weight"].T + dense["linear.bias"])
    spec = SentenceTransformerSpec(model=str(whole))
    spec.check()
    found = spec.embed(SENTENCES)
    expected = nn.functional.normalize(expected, dim=1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert spec.dimensions() == found.shape[1] == 6


@pytest.mark.parametrize("kind", ["transformers", "sentence-transformers"])
def test_sentences_are_one_where_their_tokens_are(kind, folders, whole, tmp_path):
    spec: TargetSpec = TransformersSpec(model=str(folders["bert"]))
    if kind == "sentence-transformers":
        spec = SentenceTransformerSpec(model=str(whole))
    expected = [[0, 1, 2, 0, 0, 2], [False, False, True, False, False, True], MOST_TOKENS]
    for keep in (False, True, True):  # computed, computed and kept, read
        found = tower_texts(SENTENCES, spec, UPath(tmp_path), keep=keep)
        assert [found.same_as.tolist(), found.cut.tolist(), found.most_tokens] == expected
    assert len(list(tmp_path.iterdir())) == 1
    one = spec.embed(SENTENCES)
    assert one[2].allclose(one[5], atol=1e-6)  # what is cut off changes nothing


def test_nothing_is_drawn_and_logging_and_bars_stay_as_they_were(folders, capsys):
    import logging

    from transformers.utils import logging as bars

    before = torch.get_rng_state(), logging.root.manager.disable, bars.is_progress_bar_enabled()
    TransformersSpec(model=str(folders["bert"])).embed(SENTENCES)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (logging.root.manager.disable, bars.is_progress_bar_enabled()) == before[1:]
    assert capsys.readouterr() == ("", "")


# ---------------------------------------------------------------- what a model is known by


def test_a_folder_counts_by_the_content_of_its_files(tmp_path):
    here = save_model(tmp_path / "here")
    spec = TransformersSpec(model=str(here))
    first = embedding_origin(SENTENCES, spec)
    shutil.copytree(here, tmp_path / "there")
    moved = TransformersSpec(model=str(tmp_path / "there"), revision="of no folder")
    assert embedding_origin(SENTENCES, moved) == first
    assert moved.by_content() == spec.by_content()
    (here / "README.md").write_text("prose")
    assert embedding_origin(SENTENCES, spec) == first
    assert str(tmp_path) not in json.dumps(first)
    origins = [first]
    save_model(here, seed=1)
    origins.append(embedding_origin(SENTENCES, spec))
    settings = json.loads((here / "tokenizer_config.json").read_text())
    (here / "tokenizer_config.json").write_text(json.dumps(settings | {"do_lower_case": False}))
    origins.append(embedding_origin(SENTENCES, spec))
    others = [TransformersSpec(model=str(here), **c) for c in ({"pooling": "cls"}, {"layer": 1})]
    origins += [embedding_origin(SENTENCES, other) for other in others]
    assert len({json.dumps(each, sort_keys=True) for each in origins}) == 5


def test_a_model_of_the_hub_is_its_name_and_the_commit_in_the_cache(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    kept, commits = tmp_path / "models--lab--words", ("a" * 40, "b" * 40)
    spec = TransformersSpec(model="lab/words")
    assert spec.is_away
    assert "neither a folder nor in the hub's cache on this machine" in refused(spec)
    for commit, kind in zip(commits, ("bert", "gpt2"), strict=True):
        shutil.copytree(folders[kind], kept / "snapshots" / commit)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text(commits[0])
    expected = TransformersSpec(model=str(folders["bert"])).embed(SENTENCES)
    assert spec.embed(SENTENCES).equal(expected)
    assert spec.by_content().model == f"lab/words {commits[0]}"
    named = TransformersSpec(model="lab/words", revision=commits[0])
    other = TransformersSpec(model="lab/words", revision=commits[1])
    origins = [embedding_origin(SENTENCES, each) for each in (spec, named, other)]
    assert origins[0] == origins[1] != origins[2]
    assert not spec.is_away
    assert spec.name == "transformers lab/words, mean"
    (kept / "refs" / "main").write_text(commits[1])
    assert embedding_origin(SENTENCES, spec) == origins[2]


def test_embeddings_are_kept_and_read_without_the_libraries(folders, tmp_path, monkeypatch):
    spec = TransformersSpec(model=str(folders["bert"]))
    first = cached_embeddings(SENTENCES, spec, UPath(tmp_path))
    tokens = tower_texts(SENTENCES, spec, UPath(tmp_path))
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert cached_embeddings(SENTENCES, spec, UPath(tmp_path)).equal(first)
    again = tower_texts(SENTENCES, spec, UPath(tmp_path))
    assert again.same_as.tolist() == tokens.same_as.tolist()


# ---------------------------------------------------------------- what is refused


def test_the_library_s_own_models_go_by_their_last_name(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    kept = tmp_path / "models--sentence-transformers--all-words"
    shutil.copytree(whole, kept / "snapshots" / "c0")
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("c0\n")
    short, long = (
        SentenceTransformerSpec(model=model)
        for model in ("all-words", "sentence-transformers/all-words")
    )
    assert short.by_content() == long.by_content()
    assert short.name == long.name == "sentence-transformers all-words"
    assert short.embed(SENTENCES).equal(SentenceTransformerSpec(model=str(whole)).embed(SENTENCES))


@pytest.mark.parametrize("library", ["transformers.utils", "sentence_transformers"])
def test_without_the_libraries_it_is_said_what_to_install(library, whole, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    message = refused(SentenceTransformerSpec(model=str(whole), revision=library))
    assert message.endswith("which is not installed. Run: pip install 'ssense[text]'.")


@pytest.mark.parametrize("kind", [TransformersSpec, SentenceTransformerSpec])
def test_a_model_that_is_none_is_one_line(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    assert "names no model. Give a folder, or a name on the hub" in refused(kind())
    assert "no/such" in refused(kind(model="no/such"))
    (tmp_path / "empty").mkdir()
    assert "is a folder without *.safetensors" in refused(kind(model=str(tmp_path / "empty")))
    damaged = save_model(tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes(b"x" * 99)
    assert "can't be read as a model of sentences (" in refused(kind(model=str(damaged)))
    (damaged / "config.json").write_text("{}")
    assert "can't be read as a model of sentences (" in refused(kind(model=str(damaged)))
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_weights_that_would_be_random_are_refused(tmp_path):
    folder = save_model(tmp_path / "cut", n_layers=2)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    assert f"the model {folder} lacks weights: encoder.layer.2." in refused(
        TransformersSpec(model=str(folder))
    )


def test_pickled_weights_are_not_loaded(tmp_path):
    folder = save_model(tmp_path / "pickled")
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    torch.save({}, folder / "pytorch_model.bin")
    assert "can't be read as a model of sentences (OSError" in refused(
        TransformersSpec(model=str(folder))
    )


def test_code_that_a_model_brings_along_is_not_run(whole, tmp_path):
    trace = tmp_path / "trace"
    code = f"from pathlib import Path\nPath({str(trace)!r}).write_text('run')\n"
    brought = tmp_path / "whole"
    shutil.copytree(whole, brought)
    modules = json.loads((brought / "modules.json").read_text())
    modules[-1]["type"] = "brought.Dense"
    (brought / "modules.json").write_text(json.dumps(modules))
    (brought / "brought.py").write_text(f"{code}class Dense: pass\n")
    message = refused(SentenceTransformerSpec(model=str(brought)))
    assert "brings code of its own, brought.Dense, which is not run" in message
    folder = save_model(tmp_path / "plain")
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "brought"}
    config["auto_map"] = {"AutoConfig": "brought.Config", "AutoModel": "brought.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "brought.py").write_text(code)
    assert "and no code of its own" in refused(TransformersSpec(model=str(folder)))
    assert not trace.exists()


def test_a_dense_layer_of_another_activation_is_refused(whole, tmp_path):
    folder = tmp_path / "whole"
    shutil.copytree(whole, folder)
    (path,) = folder.glob("*Dense/config.json")
    config = json.loads(path.read_text())
    for activation, message in (
        ("mylab.activations.ReLU", "an activation of its own, mylab.activations.ReLU in 2_Dense"),
        ("ReLU", "an activation of its own, ReLU in 2_Dense/config.json, which is not run"),
    ):
        path.write_text(json.dumps(config | {"activation_function": activation}))
        assert message in refused(SentenceTransformerSpec(model=str(folder)))
    path.write_text(json.dumps(config | {"activation_function": "torch.nn.Identity"}))
    other = json.loads((folder / "config.json").read_text()) | {"activation_function": "gelu_new"}
    (folder / "config.json").write_text(json.dumps(other))
    SentenceTransformerSpec(model=str(folder)).check()


def test_a_layer_or_a_pooling_that_there_is_not_is_refused(folders):
    message = refused(TransformersSpec(model=str(folders["bert"]), layer=3))
    assert message == "layer 3: transformers bert, mean, layer 3 has 2 layers. Give 1 to 2."
    with pytest.raises(ValueError, match="layer must be at least 1, got 0"):
        TransformersSpec(layer=0)
    with pytest.raises(ValueError, match="pooling must be one of mean, cls, last, got max"):
        TransformersSpec(pooling="max")


def test_a_sentence_without_a_token_is_named(folders, tmp_path):
    folder = tmp_path / "bare"
    shutil.copytree(folders["gpt2"], folder)
    for file, changes in (
        ("tokenizer.json", {"post_processor": None}),
        ("tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"}),
    ):
        content = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(content | changes))
    spec = TransformersSpec(model=str(folder))
    with pytest.raises(UserError, match=r"“” has no token. Leave this sentence out"):
        spec.embed(["No.", ""])


# ---------------------------------------------------------------- the hub


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def hub(folder: Path, model: str = "lab/words") -> Iterator[tuple[str, list[str]]]:
    """A hub on this machine with one model; its address, and the files asked of it."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.*")}
    asked: list[str] = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith(f"/api/models/{model}/tree"):
                listed = [
                    {"type": "file", "path": name, "size": path.stat().st_size, "oid": name}
                    for name, path in files.items()
                ]
                content = json.dumps(listed).encode()
            elif self.path.startswith(f"/api/models/{model}/"):
                siblings = [{"rfilename": name} for name in files]
                content = json.dumps({"id": model, "sha": COMMIT, "siblings": siblings}).encode()
            else:
                name = self.path.partition(f"/{model}/resolve/{COMMIT}/")[2]
                if name not in files:
                    self.send_response(404)
                    self.send_header("X-Error-Code", "EntryNotFound" if name else "RepoNotFound")
                    self.send_header("X-Repo-Commit", COMMIT)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                if self.command == "GET":
                    asked.append(name)
                content = files[name].read_bytes()
            self.send_response(200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()


FETCH = """
from ssense.errors import UserError
from ssense.targets.model_folder import model_folder, model_identity
for model in ("lab/words", "lab/words", "lab/other"):
    try:
        model_folder(model, None)
        print(model_identity(model, None))
    except UserError as error:
        print(error)
"""


def run(script: str, address: str, cache: Path) -> list[str]:
    """The lines that a script prints in a process with a hub and a cache of its own."""
    environment = {"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | environment | {"HF_HUB_CACHE": str(cache)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_a_model_is_fetched_from_the_hub_once_without_its_code_and_pickles(folders, tmp_path):
    brought = tmp_path / "brought"
    shutil.copytree(folders["bert"], brought)
    unwanted = {"pytorch_model.bin", "onnx/model.onnx", "modeling_words.py"}
    for name in unwanted:
        (brought / name).parent.mkdir(exist_ok=True)
        (brought / name).write_bytes(b"x")
    with hub(brought) as (address, asked):
        first, again, other = run(FETCH, address, tmp_path / "cache")
    assert first == again == f"lab/words {COMMIT}"
    assert "the model lab/other is neither a folder nor in the hub's cache" in other
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {*asked}
    assert not unwanted & {*asked}
    assert len(asked) == len({*asked})


# ---------------------------------------------------------------- a cache of another library


COMPLETE = """
from ssense.targets.model_folder import model_folder
for _ in range(2):
    print(sorted(path.name for path in model_folder("lab/words", None, "modules.json").glob("m*")))
"""


def cached_in_part(whole: Path, cache: Path) -> None:
    """Keep of a model, lab/words, what transformers fetches of it."""
    kept = cache / "models--lab--words"
    for folder in ("refs", f"snapshots/{COMMIT}"):
        (kept / folder).mkdir(parents=True)
    (kept / "refs" / "main").write_text(COMMIT)
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(whole / name, kept / "snapshots" / COMMIT)


def test_a_model_in_the_cache_in_part_is_completed_or_refused(whole, tmp_path, monkeypatch):
    cached_in_part(whole, tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    spec = SentenceTransformerSpec(model="lab/words")
    assert "in the hub's cache on this machine without modules.json, perhaps" in refused(spec)
    TransformersSpec(model="lab/words").check()  # which needs no more
    with hub(whole) as (address, asked):
        first, again = run(COMPLETE, address, tmp_path)
    assert first == again == "['model.safetensors', 'modules.json']"
    assert {"modules.json", "1_Pooling/config.json", "2_Dense/config.json"} <= {*asked}
    assert "model.safetensors" not in asked
    assert spec.by_content().model == f"lab/words {COMMIT}"
    assert spec.embed(SENTENCES).equal(SentenceTransformerSpec(model=str(whole)).embed(SENTENCES))


def test_a_plain_model_goes_by_a_name_without_owner_and_needs_no_network_again(
    folders, tmp_path, monkeypatch
):
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    spec = SentenceTransformerSpec(model="bert-plain")
    with hub(folders["bert"], "bert-plain") as (address, _), monkeypatch.context() as online:
        online.setattr(constants, "HF_HUB_OFFLINE", False)
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE
        address_of_file = template.replace(constants.ENDPOINT, address)
        online.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address_of_file)
        online.setattr(constants, "ENDPOINT", address)
        spec.check()
        message = refused(SentenceTransformerSpec(model="none-such"))
    assert "the model none-such is neither a folder nor in the hub's cache" in message
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert spec.by_content().model == f"bert-plain {COMMIT}"
    assert not spec.is_away
    output, _, mask = padded(folders["bert"])
    expected = pooled(output, mask, "mean")
    torch.testing.assert_close(spec.embed(SENTENCES), expected, rtol=0, atol=1e-6)
