from __future__ import annotations

import pytest
import safetensors.torch
import torch
from upath import UPath

from ssense.errors import UserError
from ssense.files.tensor_file import check_tensor_file, read_tensor, tensor_code, write_tensor


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.uint8])
def test_a_tensor_comes_back_as_it_was_with_its_origin_beside_it(tmp_path, dtype):
    path, tensor = UPath(tmp_path / "deep" / "file"), torch.arange(24).view(2, 3, 4).to(dtype)
    write_tensor(path, "name", tensor, {"made": "here"})
    found = read_tensor(path, "name")
    assert found.dtype == dtype
    assert torch.equal(found, tensor)
    with safetensors.safe_open(str(path), "pt") as file:
        kept = file.metadata()
    assert kept["made"] == "here"
    assert kept.keys() == {"made", "sha256"}


def test_what_is_damaged_or_something_else_is_one_line(tmp_path):
    path = UPath(tmp_path / "file")
    write_tensor(path, "name", torch.ones(8))
    with pytest.raises(
        UserError, match=r"file is damaged \(it has no other\)\. Delete it and run again\."
    ):
        read_tensor(path, "other")
    whole = path.read_bytes()
    path.write_bytes(safetensors.torch.save({"name": torch.ones(8)}))  # without its checksum
    for read in (lambda: read_tensor(path, "name"), lambda: check_tensor_file(path)):
        with pytest.raises(UserError, match=r"file is damaged \(its checksum does not match\)"):
            read()
    path.write_bytes(whole[:-1])
    with pytest.raises(UserError, match=r"file is damaged \(.*\)\. Delete it and run again\."):
        read_tensor(path, "name")


def test_the_version_of_the_code_is_a_note_that_nothing_is_compared_with(tmp_path):
    path, origin = UPath(tmp_path / "file"), {"made": "here"}
    write_tensor(path, "name", torch.ones(8), origin)
    assert tensor_code(path) == ""
    write_tensor(path, "name", torch.ones(8), origin, code="abc")
    assert tensor_code(path) == "abc"
    assert check_tensor_file(path) == origin
    assert torch.equal(read_tensor(path, "name", origin), torch.ones(8))
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match=r"file is damaged \(.*\)\. Delete it and run again\."):
        tensor_code(path)
