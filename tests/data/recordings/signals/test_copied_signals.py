"""The copy of a file's samples: whole or not there, whatever becomes of disk, file or process."""

from __future__ import annotations

import errno
import os
import time

import numpy as np
import pytest

from ssense.data.recordings.recording_source import RecordingSource
from ssense.data.recordings.signals.array_signals import new_samples
from ssense.data.recordings.signals.copied_signals import CopiedSignals
from ssense.errors import UserError
from ssense.files.digest import content_digest

SAMPLES = np.arange(3000.0).reshape(3, 1000)


def blocks(_path, _part):
    return SAMPLES.shape, ((start, SAMPLES[:, start : start + 400]) for start in (0, 400, 800))


@pytest.fixture
def copies(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/ssense/signals"


@pytest.fixture
def signals(tmp_path, copies):  # noqa: ARG001  (sets where they go)
    (tmp_path / "night.xyz").write_text("content")
    return CopiedSignals({"signals": tmp_path / "night.xyz"}, ("LA1", "LA2", "LA3"), blocks)


def check_samples(signals):
    (found,) = signals.read(1, [(390, 410)])
    np.testing.assert_array_equal(found, SAMPLES[1, 390:410])


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="macOS has none")
def test_room_is_taken_before_samples_are_written(tmp_path):
    """A full disk would otherwise end the process when a page of the map is written."""
    samples = new_samples(tmp_path / "a.npy", (4, 100_000))
    status = (tmp_path / "a.npy").stat()
    assert status.st_blocks * 512 >= status.st_size > samples.nbytes


def test_a_full_disk_is_one_line(signals, copies, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(UserError, match=r"cannot write a copy .*No space left.*Make room") as error:
        signals.read(0, [(0, 10)])
    assert "\n" not in str(error.value)
    assert not list(copies.iterdir())


@pytest.mark.parametrize("damaged", [b"", b"\x93NUMPY", "half"])
def test_a_damaged_copy_is_written_again(signals, copies, tmp_path, damaged):
    check_samples(signals)
    (copy,) = copies.iterdir()
    whole = copy.read_bytes()
    copy.write_bytes(whole[: len(whole) // 2] if damaged == "half" else damaged)
    check_samples(CopiedSignals({"signals": tmp_path / "night.xyz"}, signals.names, blocks))
    assert copy.read_bytes() == whole


def test_what_a_killed_process_left_is_removed(signals, copies):
    copies.mkdir(parents=True)
    old, new = (copies / f".x.npy.{letter * 32}" for letter in "ab")
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    check_samples(signals)
    assert not old.exists()
    assert new.exists()  # another process may be writing it


def test_a_file_that_went_is_one_line(signals, tmp_path):
    (tmp_path / "night.xyz").unlink()
    with pytest.raises(UserError, match=r"cannot read .*night.xyz \(No such file"):
        signals.read(0, [(0, 10)])


@pytest.mark.parametrize("suffix", [".ds", ".mff", ".mefd"])
def test_a_folder_may_be_one_recording(tmp_path, copies, suffix):  # noqa: ARG001
    folder = tmp_path / f"night{suffix}"
    folder.mkdir()
    (folder / "night.meg4").write_text("content")
    first = content_digest(folder)
    check_samples(CopiedSignals({"signals": folder}, ("LA1", "LA2", "LA3"), blocks))
    assert RecordingSource(place=str(folder)).folder() == tmp_path  # where its table lies
    (folder / "night.meg4").write_text("other content")
    assert content_digest(folder) != first
