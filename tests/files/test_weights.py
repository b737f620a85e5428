"""State dictionaries of others: every layout of a file, and what is none."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ssense.errors import UserError
from ssense.files.weights import read_weights


class Archived(nn.Module):
    """Has what OpenAI's archive has: half precision, buffers, settings, a shared tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 2).half()
        self.blocks = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        self.blocks[0].weight = nn.Parameter(torch.randn(4, 8)[:, ::2])  # not contiguous
        self.scale = nn.Parameter(torch.tensor(2.5))
        self.register_buffer("input_resolution", torch.tensor(224))
        self.sizes = [1, 2, 3]
        self.name = "archived"

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x) * self.scale


@pytest.fixture
def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {"a.weight": torch.randn(3, 2), "a.bias": torch.arange(3), "b": torch.tensor(1.5).half()}


def refused(path: Path) -> str:
    with pytest.raises(UserError) as error:
        read_weights(path)
    message = str(error.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert len(message) < 300 + len(str(path))
    return message


@pytest.mark.parametrize("name", ["model.safetensors", "w.pt", "pytorch_model.bin", "old.pth"])
def test_tensors_come_back_under_their_names(name, state, tmp_path):
    path = tmp_path / name
    if name == "model.safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=name != "old.pth")
    found = read_weights(path)
    assert found.keys() == state.keys()
    assert all(found[each].equal(state[each]) for each in state)
    assert all(found[each].dtype == state[each].dtype for each in state)


@pytest.mark.parametrize("make", [torch.jit.script, "trace"])
def test_a_torchscript_archive_gives_its_state_dictionary(make, tmp_path):
    torch.manual_seed(0)
    model = Archived().eval()
    compiled = torch.jit.trace(model, torch.ones(2, 4)) if make == "trace" else make(model)
    compiled.save(tmp_path / "ViT-B-32.pt")
    found, expected = read_weights(tmp_path / "ViT-B-32.pt"), model.state_dict()
    assert found.keys() == expected.keys()
    for name in expected:
        assert found[name].equal(expected[name])
        assert found[name].dtype == expected[name].dtype


def test_a_program_in_an_archive_is_not_run(tmp_path):
    """One whose pickle calls what it should not, as anybody can write with a text editor."""
    torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "good.pt")
    trace = tmp_path / "trace"

    class Trap:
        def __reduce__(self):
            return Path.write_text, (trace, "executed")

    with (
        zipfile.ZipFile(tmp_path / "good.pt") as good,
        zipfile.ZipFile(tmp_path / "bad.pt", "w") as bad,
    ):
        for name in good.namelist():
            content = pickle.dumps(Trap(), 2) if name.endswith("data.pkl") else good.read(name)
            bad.writestr(name, content)
    assert "it holds __builtin__.getattr, which is not loaded" in refused(tmp_path / "bad.pt")
    assert not trace.exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "a pointer of Git LFS"),
        (b"<!DOCTYPE html><html>Sign in</html>", "it is text: <!DOCTYPE html>"),
        (b'{"error": "gated"}', 'it is text: {"error": "gated"}'),
        ("hello weights é\n".encode() * 500, "it is text: hello weights é hello"),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "it is HDF5"),
        (b"\x1f\x8b\x08" + bytes(99), "it is compressed by gzip: unpack it"),
        (b"PK\x03\x04 and no more", "Error"),
        (b"\x80\x02 no pickle", "Unsupported operand 32"),
    ],
)
@pytest.mark.parametrize("name", ["w.bin", "w.pt"])
def test_what_is_no_file_of_weights_is_said_to_be_what_it_is(content, reason, name, tmp_path):
    (tmp_path / name).write_bytes(content)
    assert reason in refused(tmp_path / name)


def test_what_is_no_safetensors_file_is_refused_with_its_reason(state, tmp_path):
    path = tmp_path / "model.safetensors"
    torch.save(state, path)
    assert "SafetensorError" in refused(path)


def test_a_folder_names_the_weights_in_it(state, tmp_path):
    assert "Give a file of weights in it, such as model.safetensors" in refused(tmp_path)
    save_file(state, tmp_path / "model.safetensors")
    assert refused(tmp_path).endswith("Give a file of weights in it: model.safetensors.")


@pytest.mark.parametrize("content", [{}, {"a": 1}, {1: torch.ones(1)}, [torch.ones(1)]])
def test_other_contents_are_refused(content, tmp_path):
    torch.save(content, tmp_path / "w.pt")
    assert "holds more than tensors by name" in refused(tmp_path / "w.pt")


def test_tensors_without_values_are_refused(tmp_path):
    torch.save({"a.weight": torch.empty(3, 4, device="meta")}, tmp_path / "w.pt")
    assert "a.weight has a shape and no values" in refused(tmp_path / "w.pt")
