from __future__ import annotations

import dataclasses
import json
import warnings
from dataclasses import dataclass

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from upath import UPath

from ssense.files.storage import partial_file, write_whole
from ssense.training import checkpoint as module
from ssense.training.checkpoint import FIRST_BYTES_PER_SECOND, WRITING_SHARE, CheckpointFile
from ssense.training.loop import Checkpoint

IDENTITY = {"cell": "0123456789abcdef", "device": "CPU", "threads": 1}


def some_checkpoint(*, best_epoch: int = 1, side: int = 2) -> Checkpoint:
    generator = torch.Generator().manual_seed(best_epoch)
    encoder, best, mean = (
        {"weight": torch.randn(side, side, generator=generator), "seen": torch.tensor(7 + n)}
        for n in range(3)
    )
    return Checkpoint(
        history=({"epoch": 1, "loss": 0.1 + 0.2}, {"epoch": 2, "loss": 1e-300}),
        best_epoch=best_epoch,
        best_weights=best if best_epoch == 1 else encoder,
        weights=encoder,
        moments={"exp_avg/weight": mean["weight"], "step/weight": torch.tensor(24.0)},
        order=torch.arange(5, dtype=torch.uint8),
        masks=torch.arange(5, 8, dtype=torch.uint8),
    )


def n_bytes(checkpoint: Checkpoint) -> int:
    """Of a checkpoint whose best epoch is not its last."""
    groups = checkpoint.weights, checkpoint.best_weights, checkpoint.moments
    tensors = [t for group in groups for t in group.values()]
    return sum(t.nbytes for t in [*tensors, checkpoint.order, checkpoint.masks])


@dataclass
class Clock:
    """Tells the time that a test has set."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def save(path: UPath, checkpoint: Checkpoint, **identity) -> None:
    """Write a checkpoint after a training long enough to make that worthwhile."""
    clock = Clock()
    file = CheckpointFile(path, IDENTITY | identity, clock)
    clock.now = 1e6
    assert file.save_if_worthwhile(checkpoint)


def load(path: UPath) -> Checkpoint | None:
    return CheckpointFile(path, IDENTITY).load()


@pytest.fixture(params=["local", "memory"])
def path(request, tmp_path) -> UPath:
    root = UPath(tmp_path) if request.param == "local" else UPath(f"memory://{tmp_path.name}")
    return root / "cell" / "checkpoint.safetensors"


# ---------------------------------------------------------------- writing and reading


def assert_equal(one: object, other: object) -> None:
    assert type(one) is type(other)
    if isinstance(one, Tensor):
        assert one.dtype == other.dtype
        assert one.equal(other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            assert_equal(one[name], other[name])
    else:
        assert one == other


@pytest.mark.parametrize("best_epoch", [1, 2])
def test_what_was_written_is_read(path, best_epoch):
    written = some_checkpoint(best_epoch=best_epoch)
    save(path, written)
    read = load(path)
    for field in dataclasses.fields(Checkpoint):
        assert_equal(getattr(read, field.name), getattr(written, field.name))


def test_the_last_one_written_is_read(path):
    save(path, some_checkpoint(best_epoch=1))
    save(path, some_checkpoint(best_epoch=2))
    assert load(path).best_epoch == 2
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_file_holds_tensors_and_json(path):
    save(path, some_checkpoint())
    content = path.read_bytes()
    tensors = safetensors.torch.load(content)
    assert tensors["moments/exp_avg/weight"].shape == (2, 2)
    assert tensors["generator/order"].tolist() == [0, 1, 2, 3, 4]
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    about = json.loads(header["__metadata__"]["checkpoint"])
    assert about["identity"] == IDENTITY
    assert about["history"][0] == {"epoch": 1, "loss": 0.1 + 0.2}


def test_an_encoder_that_is_the_best_is_written_once(path):
    sizes = []
    for best_epoch in (1, 2):
        save(path, some_checkpoint(best_epoch=best_epoch, side=100))
        sizes.append(path.stat().st_size)
    assert sizes[0] - sizes[1] == pytest.approx(4 * 100**2, abs=200)


def test_tensors_of_any_layout_are_written(path):
    written = some_checkpoint()
    transposed = dict(written.weights) | {"weight": torch.arange(6.0).view(2, 3).T}
    save(path, dataclasses.replace(written, weights=transposed))
    assert load(path).weights["weight"].tolist() == [[0, 3], [1, 4], [2, 5]]


def test_where_there_is_none_none_is_read_and_nothing_said(path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(path) is None


def test_deleting_leaves_nothing_behind(path):
    save(path, some_checkpoint())
    if path.protocol == "":  # what a process leaves that was killed while it wrote
        partial_file(path).__enter__().write_bytes(b"par")
        assert len(list(path.parent.iterdir())) == 2
    for _ in range(2):
        CheckpointFile(path, IDENTITY).delete()
        assert not path.parent.exists() or list(path.parent.iterdir()) == []


# ---------------------------------------------------------------- what is not trusted


def assert_refused(path: UPath, reason: str) -> None:
    file = CheckpointFile(path, IDENTITY)
    assert file.load() is None
    assert reason in file.refused
    assert "\n" not in file.refused


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"cell": "fedcba9876543210"}, "its cell is fedcba9876543210, not 0123456789abcdef"),
        ({"device": "NVIDIA H200"}, "its device is NVIDIA H200, not CPU"),
        ({"threads": 2}, "its threads is 2, not 1"),
        ({"torch": "2.15.0"}, "its torch is 2.15.0, not None"),
    ],
)
def test_a_checkpoint_of_another_identity_is_refused(path, other, reason):
    save(path, some_checkpoint(), **other)
    assert_refused(path, reason)


def test_a_checkpoint_of_another_format_is_refused(path, monkeypatch):
    monkeypatch.setattr(module, "FORMAT_VERSION", 7)
    save(path, some_checkpoint())
    monkeypatch.undo()
    assert_refused(path, "it has format 7, not 1")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (safetensors.torch.save({"weight": torch.ones(2)}), "it is not a checkpoint"),
        (safetensors.torch.save({}, {"checkpoint": "{}"}), "it is not a checkpoint"),
        (b"", "it can't be read: "),
        (b"\x80\x04\x95 a pickle", "it can't be read: "),
    ],
)
def test_other_files_are_refused(path, content, reason):
    write_whole(path, content)
    assert_refused(path, reason)


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    assert_refused(UPath(tmp_path), "can't be read ([Errno 21] Is a directory")


@pytest.fixture(scope="module")
def whole() -> tuple[UPath, bytes]:
    path = UPath("memory://whole/checkpoint.safetensors")
    save(path, some_checkpoint())
    return path, path.read_bytes()


def refused(path: UPath, content: bytes) -> bool:
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load(path) is None


def test_a_truncated_file_is_refused_wherever_it_ends(whole):
    path, content = whole
    kept = [n for n in range(len(content)) if not refused(path, content[:n])]
    assert kept == []
    assert not refused(path, content)


def test_a_file_with_bytes_after_its_end_is_refused(whole):
    path, content = whole
    assert refused(path, content + b"\0")


def test_a_flipped_bit_is_refused_wherever_it_is(whole):
    path, content = whole
    kept = []
    for position in range(len(content)):
        for bit in range(8):
            damaged = bytearray(content)
            damaged[position] ^= 1 << bit
            if not refused(path, bytes(damaged)):
                kept.append((position, bit))
    assert kept == []


# ---------------------------------------------------------------- when writing is worthwhile


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def slow_disk(clock, monkeypatch) -> dict[str, float]:
    """Lets the clock go on while a file is written; by how much is for the test to set."""
    seconds = {"per write": 0.0}

    def slow_write(path: UPath, content: bytes) -> None:
        clock.now += seconds["per write"]
        write_whole(path, content)

    monkeypatch.setattr(module, "write_whole", slow_write)
    return seconds


def test_the_first_write_is_judged_by_its_size(path, clock):
    checkpoint = some_checkpoint(side=100)
    worthwhile_after = n_bytes(checkpoint) / FIRST_BYTES_PER_SECOND / WRITING_SHARE
    file = CheckpointFile(path, IDENTITY, clock)
    clock.now = 0.99 * worthwhile_after
    assert not file.save_if_worthwhile(checkpoint)
    assert not path.exists()
    clock.now = 1.01 * worthwhile_after
    assert file.save_if_worthwhile(checkpoint)
    assert load(path) is not None


def test_later_writes_are_judged_by_the_last_one(path, clock, slow_disk):
    checkpoint = some_checkpoint()
    file = CheckpointFile(path, IDENTITY, clock)
    slow_disk["per write"] = 3.0
    clock.now = 1.0
    assert file.save_if_worthwhile(checkpoint)
    assert clock.now == 4.0
    slow_disk["per write"] = 1.0
    clock.now += 59.9  # 3 s of 59.9 s are more than 5 %
    assert not file.save_if_worthwhile(checkpoint)
    clock.now += 0.2
    assert file.save_if_worthwhile(checkpoint)
    clock.now += 20.1
    assert file.save_if_worthwhile(checkpoint)


def test_reading_is_no_training(path, clock):
    checkpoint = some_checkpoint()
    file = CheckpointFile(path, IDENTITY, clock)
    clock.now = 1e6
    file.load()
    assert not file.save_if_worthwhile(checkpoint)


@given(
    epochs=st.lists(st.floats(0.1, 100), min_size=1, max_size=200),
    write_seconds=st.floats(0.01, 20),
)
def test_writing_takes_a_small_share_and_little_is_lost(epochs, write_seconds):
    clock = Clock()
    checkpoint = some_checkpoint()
    path = UPath("memory://worthwhile/checkpoint")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "write_whole", lambda *_: setattr(clock, "now", end))
        file = CheckpointFile(path, IDENTITY, clock)
        writes, unsaved = 0, 0.0
        for seconds in epochs:
            clock.now += seconds
            unsaved += seconds
            end = clock.now + write_seconds
            if file.save_if_worthwhile(checkpoint):
                writes, unsaved = writes + 1, 0.0
            assert unsaved <= write_seconds / WRITING_SHARE * (1 + 1e-9)
    # The first write could only be guessed, and these tensors are tiny.
    assert (writes - 1) * write_seconds <= WRITING_SHARE * sum(epochs) * (1 + 1e-9)


def test_a_write_that_fails_is_a_warning_and_counts_as_a_write(tmp_path, clock, slow_disk):
    slow_disk["per write"] = 3.0
    in_the_way = tmp_path / "folder"
    in_the_way.write_text("")
    file = CheckpointFile(UPath(in_the_way / "checkpoint"), IDENTITY, clock)
    clock.now = 1.0
    with pytest.warns(UserWarning, match=r"folder/checkpoint can't be written \(.*File exists"):
        assert not file.save_if_worthwhile(some_checkpoint())
    in_the_way.unlink()
    clock.now += 59.9
    assert not file.save_if_worthwhile(some_checkpoint())
    clock.now += 0.2
    assert file.save_if_worthwhile(some_checkpoint())
