"""HDF5 files of one's own that are sound but for one thing: the cause, and a way out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from ssense.data.recordings.signals.signal_file import channel_length, open_signals
from ssense.errors import UserError

N = 1000
LABELS = Path("electrode_labels.json")


def write(path: Path, signal: np.ndarray | None = None, channels: int = 2) -> Path:
    signal = np.arange(N, dtype=float) if signal is None else signal
    with h5py.File(path, "w") as file:
        for number in range(channels):
            file[f"data/electrode_{number}"] = signal
    return path


def refused(path: Path, channels: int = 2) -> str:
    with pytest.raises(UserError) as caught:
        channel_length(path, channels, LABELS)
    message = str(caught.value)
    assert message.isprintable()
    assert str(path) in message
    return message


def run(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("compression", [None, "gzip", "lzf"])
def test_what_every_hdf5_reads_is_read(tmp_path, compression):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("data/electrode_0", data=np.zeros(N), compression=compression)
    assert channel_length(tmp_path / "a.h5", 1, LABELS) == N


def test_a_writer_that_was_killed(tmp_path):
    path = tmp_path / "a.h5"
    run(
        f"import h5py, numpy, os; f = h5py.File({str(path)!r}, 'w', libver='latest');"
        f"f['data/electrode_0'] = numpy.zeros({N}); f.flush(); os._exit(0)"
    )
    message = refused(path)
    assert "did not close it" in message
    assert "h5clear -s a.h5" in message
    assert "download" not in message


def test_a_file_that_another_program_has_open(tmp_path):
    path = write(tmp_path / "a.h5")
    code = f"import h5py, sys; f = h5py.File({str(path)!r}, 'a'); print(1, flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as writer:
        writer.stdout.readline()
        message = refused(path)
        writer.communicate(b"\n")
    assert "another program has it open" in message
    assert "HDF5_USE_FILE_LOCKING=FALSE" in message
    assert channel_length(path, 2, LABELS) == N


def test_a_file_that_is_none(tmp_path):
    (tmp_path / "a.h5").write_text("not HDF5")
    assert "as HDF5: it is another kind of file" in refused(tmp_path / "a.h5")


def test_a_file_that_was_cut_short(tmp_path):
    path = write(tmp_path / "a.h5")
    path.write_bytes(path.read_bytes()[:-500])
    assert "truncated" in refused(path)


@pytest.mark.parametrize(("number", "name"), [(32001, "Blosc"), (32015, "Zstandard"), (999, "999")])
def test_a_filter_that_is_not_at_hand(tmp_path, number, name):
    """As written elsewhere: HDF5 takes the bytes of a chunk as they are, whatever made them."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_chunk((N,))
        creation.set_filter(number, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple((N,))
        group = file.create_group("data")
        created = h5py.h5d.create(group.id, b"electrode_0", h5py.h5t.NATIVE_DOUBLE, space, creation)
        created.write_direct_chunk((0,), b"compressed", filter_mask=0)
    message = refused(tmp_path / "a.h5", 1)
    assert "data/electrode_0 is compressed by a filter that this HDF5 lacks" in message
    assert name in message
    assert "gzip, lzf or no compression" in message


@pytest.mark.parametrize("shape", [(1, N), (N, 1), (2, N), (), (0,)])
def test_a_channel_is_one_row_of_samples(tmp_path, shape):
    message = refused(write(tmp_path / "a.h5", np.ones(shape)))
    assert f"has the shape {list(shape)}" in message
    assert "one row of samples, [N]" in message


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (np.ones(N, bool), "holds booleans"),
        (np.ones(N, complex), "holds complex numbers"),
        (np.full(N, b"text"), "holds text"),
        (["a", "b"], "holds text"),
        (np.zeros(N, [("a", float)]), "holds values of type [('a', '<f8')]"),
        (h5py.Empty("f8"), "holds an empty dataset without a shape"),
        (np.dtype("f8"), "holds a datatype"),
        (h5py.SoftLink("/nowhere"), "is a link to /nowhere, which leads to no samples"),
        (
            h5py.SoftLink("/data/electrode_1"),
            "a link or virtual dataset leads back",
        ),
    ],
)
def test_what_is_in_a_channel_s_place_is_said(tmp_path, item, said):
    path = write(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        del file["data/electrode_1"]
        file["data/electrode_1"] = item
    message = refused(path)
    assert said in message
    assert "cut short" not in message


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (np.ones((2, N)), "data is a dataset, not a group of channels"),
        (h5py.SoftLink("/nowhere"), "data is a link to /nowhere"),
    ],
)
def test_what_is_in_the_place_of_all_channels_is_said(tmp_path, item, said):
    path = write(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        del file["data"]
        file["data"] = item
    assert said in refused(path)


def external_storage(path: Path, elsewhere: Path) -> None:
    elsewhere.write_bytes(np.arange(N, dtype=float).tobytes())
    with h5py.File(path, "w") as file:
        file.create_dataset("data/electrode_0", (N,), float, external=[(str(elsewhere), 0, 8 * N)])


def virtual(path: Path, elsewhere: Path) -> None:
    write(elsewhere)
    layout = h5py.VirtualLayout((N,), float)
    layout[:] = h5py.VirtualSource(str(elsewhere), "data/electrode_0", (N,))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("data/electrode_0", layout)


def virtual_of_virtual(path: Path, elsewhere: Path) -> None:
    virtual(path, elsewhere)
    layout = h5py.VirtualLayout((N,), float)
    layout[:] = h5py.VirtualSource(".", "stitched", (N,))
    with h5py.File(path, "a") as file:
        file.move("data/electrode_0", "stitched")
        file.create_virtual_dataset("data/electrode_0", layout)


def link(path: Path, elsewhere: Path) -> None:
    write(elsewhere)
    with h5py.File(path, "w") as file:
        file["data/electrode_0"] = h5py.ExternalLink(str(elsewhere), "data/electrode_0")


def linked_folder(path: Path, elsewhere: Path) -> None:
    write(elsewhere)
    with h5py.File(path, "w") as file:
        file["data"] = h5py.ExternalLink(str(elsewhere), "data")


def soft_link_into_a_linked_folder(path: Path, elsewhere: Path) -> None:
    write(elsewhere)
    with h5py.File(path, "w") as file:
        file["other"] = h5py.ExternalLink(str(elsewhere), "data")
        file["data/electrode_0"] = h5py.SoftLink("/other/electrode_0")


@pytest.mark.parametrize("source", ["there", "gone"])
@pytest.mark.parametrize(
    "write_it",
    [external_storage, virtual, virtual_of_virtual, link, linked_folder],
)
def test_samples_in_another_file_would_change_unnoticed(
    tmp_path, write_it: Callable[[Path, Path], None], source
):
    write_it(tmp_path / "a.h5", tmp_path / "elsewhere")
    if source == "gone":
        (tmp_path / "elsewhere").unlink()
    message = refused(tmp_path / "a.h5", 1)
    assert "lie in another file" in message
    assert "elsewhere" in message


def test_a_detour_to_another_file_is_seen(tmp_path):
    soft_link_into_a_linked_folder(tmp_path / "a.h5", tmp_path / "elsewhere")
    assert "lie in another file" in refused(tmp_path / "a.h5", 1)


def test_links_and_virtual_datasets_within_the_file_are_its_own_samples(tmp_path):
    path = write(tmp_path / "a.h5", channels=1)
    layout = h5py.VirtualLayout((N,), float)
    layout[:] = h5py.VirtualSource(".", "data/electrode_0", (N,))
    with h5py.File(path, "a") as file:
        file.create_virtual_dataset("data/electrode_1", layout)
        file["data/electrode_2"] = h5py.SoftLink("/data/electrode_0")
    assert channel_length(path, 3, LABELS) == N


def test_an_error_while_it_is_read_is_one_line(tmp_path):
    path = write(tmp_path / "a.h5")
    with pytest.raises(UserError, match=r"cannot read .*a\.h5"), open_signals(path) as file:
        file["data/electrode_7"]


def test_a_virtual_dataset_of_itself_is_said(tmp_path):
    path = write(tmp_path / "a.h5")
    layout = h5py.VirtualLayout((N,), "f8")
    layout[:] = h5py.VirtualSource(".", "data/electrode_1", (N,))
    with h5py.File(path, "r+") as file:
        del file["data/electrode_1"]
        file.create_virtual_dataset("data/electrode_1", layout)
    message = refused(path)
    assert "a link or virtual dataset leads back to itself" in message
    assert "cut short" not in message
