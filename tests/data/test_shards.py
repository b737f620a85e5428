from __future__ import annotations

import hashlib
import json
import math
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from upath import UPath

from ssense.data import shards
from ssense.data.shards import (
    FIGURE,
    LEAST_SHARDS,
    MANIFEST,
    SHARD_BYTES,
    Manifest,
    Shard,
    find_shard,
    read_manifest,
    read_sentences,
    read_shards,
    rows_per_shard,
    shard_name,
    write_shard,
)
from ssense.errors import UserError
from ssense.files import digest as digest_module
from ssense.files.sealed_json import CHECKSUM, write_sealed
from ssense.signal.superlets import SuperletSpec

N, E, F, T = 70, 2, 3, 4
CUTS = (range(40), range(40, 70))
ORIGIN = "0123"
SPEC = SuperletSpec(minimum_hz=5.0, n_frequencies=F)


def values() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((N, E, F, T)).astype(np.float16)


def table() -> dict[str, list]:
    return {
        "sentence_idx": list(range(100, 100 + N)),
        "text": [f"Sentence {i}, “quoted”." for i in range(N)],
        "onset_s": [i / 3 for i in range(N)],
    }


def manifest(written: list[Shard]) -> Manifest:
    return Manifest(
        digest=ORIGIN,
        origin={
            "recording": "abc",
            "subject": "sub_9",
            "trial": "trial000",
            "title": "Made Up",
        },
        settings={"segments": {"pad_to": None}, "superlets": asdict(SPEC)},
        sources={"signals": "def"},
        sampling_rate_hz=2048.0,
        electrodes=["LT1", "LT2"],
        dropped={"too long": 3},
        shards=tuple(written),
    )


def edit_manifest(folder: UPath, old: str, new: str) -> None:
    """Change a manifest as whoever wrote it would."""
    content = json.loads((folder / MANIFEST).read_text().replace(old, new))
    del content[CHECKSUM]
    write_sealed(folder / MANIFEST, content)


def write_folder(folder: UPath) -> UPath:
    written = [
        write_shard(
            folder / shard_name(number),
            ORIGIN,
            {name: column[rows.start : rows.stop] for name, column in table().items()},
            values()[rows.start : rows.stop],
        )
        for number, rows in enumerate(CUTS)
    ]
    manifest(written).write(folder)
    return folder


def read_by_the_docstring(path: Path) -> np.ndarray:
    """Spectrograms of a shard, by the lines that the module gives to a newcomer."""
    lines = re.findall(r"^ {4}((?:table|values)\b.*)", shards.__doc__, re.MULTILINE)
    assert len(lines) == 3
    *statements, expression = "\n".join(lines).replace("part-00000.parquet", str(path)).split("\n")
    names = {"pyarrow": pa, "numpy": np, "json": json}
    exec("\n".join(statements), names)
    return eval(expression, names)


def contents(folder: UPath) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(tmp_path) -> UPath:
    return write_folder(UPath(tmp_path / "shards"))


# ---------------------------------------------------------------- what is stored


@pytest.mark.parametrize("location", ["{tmp}/shards", "memory://{tmp}"])
def test_a_folder_comes_back_as_it_was(location, tmp_path):
    folder = write_folder(UPath(location.format(tmp=tmp_path)))
    columns, spectrograms = read_shards(folder)
    assert columns == table()
    assert spectrograms.dtype == np.float16
    assert np.array_equal(spectrograms, values())
    assert sorted(contents(folder)) == [MANIFEST, "part-00000.parquet", "part-00001.parquet"]


def test_the_manifest_comes_back_as_it_was(folder):
    written = read_manifest(folder)
    assert written == manifest(list(written.shards))
    assert [(shard.name, shard.rows) for shard in written.shards] == [
        ("part-00000.parquet", 40),
        ("part-00001.parquet", 30),
    ]


def test_two_writings_are_the_same_bytes(folder, tmp_path):
    assert contents(folder) == contents(write_folder(UPath(tmp_path / "again")))


def test_plain_pyarrow_reads_a_shard(folder):
    path = Path(folder / "part-00001.parquet")
    assert np.array_equal(read_by_the_docstring(path), values()[40:])
    about = pq.read_schema(path).metadata
    assert (about[b"dtype"], about[b"shape"]) == (b"float16", b"[2, 3, 4]")


def test_the_memory_of_a_shard_is_that_of_a_row_group(folder):
    metadata = pq.read_metadata(folder / "part-00001.parquet")
    rows = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    assert rows == [8, 8, 8, 6]


def test_values_that_repeat_take_no_room(tmp_path):
    padded = np.zeros((8, 2, 40, 150), np.float16)
    padded[:, :, :, :75] = np.random.default_rng(0).standard_normal((8, 2, 40, 75))
    path = UPath(tmp_path / "part")
    write_shard(path, ORIGIN, {"row": range(8)}, padded)
    assert path.stat().st_size < 0.6 * padded.nbytes
    assert np.array_equal(read_by_the_docstring(path), padded)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_wider_and_transposed_spectrograms_are_stored_as_float16(dtype, tmp_path):
    wide = values().astype(dtype).transpose(0, 1, 3, 2)
    shard = write_shard(UPath(tmp_path / "part"), ORIGIN, {"row": range(N)}, wide)
    read = read_by_the_docstring(tmp_path / shard.name)
    assert np.array_equal(read, values().transpose(0, 1, 3, 2))


# ---------------------------------------------------------------- shard sizes


@given(st.integers(1, 5000), st.tuples(*[st.integers(1, 300)] * 3))
def test_a_shard_is_as_large_as_both_bounds_allow(n_rows, shape):
    rows, row_bytes = rows_per_shard(n_rows, shape), 2 * shape[0] * shape[1] * shape[2]
    assert rows >= 1
    assert rows == 1 or rows * row_bytes <= SHARD_BYTES
    n_shards = math.ceil(n_rows / rows)
    # One shard less would be too few, or too large.
    larger = math.ceil(n_rows / max(n_shards - 1, 1))
    assert n_shards <= LEAST_SHARDS or larger * row_bytes > SHARD_BYTES or rows == 1


@pytest.mark.parametrize("electrodes", [72, 99, 106])
@pytest.mark.parametrize("frames", [103, 154])
def test_shards_of_a_whole_recording_stay_above_64_megabytes_compressed_to_half(electrodes, frames):
    shape = (electrodes, 40, frames)
    shard_bytes = rows_per_shard(1454, shape) * 2 * electrodes * 40 * frames
    assert 125e6 <= shard_bytes <= 160e6  # a quiet recording compresses to half


def test_shards_sort_by_name_in_order():
    names = [shard_name(number) for number in (0, 2, 10, 99999)]
    assert names == sorted(names)


# ---------------------------------------------------------------- damage


def refused(folder: UPath) -> str:
    with pytest.raises(UserError) as error:
        read_shards(folder)
    message = str(error.value)
    assert len(message.splitlines()) == 1
    assert str(folder) in message
    return message


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_flipped_bit_anywhere_in_a_shard_is_found(folder, data):
    path = folder / data.draw(st.sampled_from([shard_name(0), shard_name(1)]))
    content = path.read_bytes()
    at = data.draw(st.integers(0, len(content) - 1))
    flipped = content[at] ^ 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content[:at] + bytes([flipped]) + content[at + 1 :])
    try:
        assert f"shard {path} is damaged: its checksum" in refused(folder)
    finally:
        path.write_bytes(content)


def test_a_truncated_shard_is_found(folder):
    path = folder / shard_name(1)
    path.write_bytes(path.read_bytes()[:-1])
    assert f"shard {path} is damaged" in refused(folder)


def test_exchanged_shards_are_found(folder):
    one, other = folder / shard_name(0), folder / shard_name(1)
    swap = one.read_bytes(), other.read_bytes()
    other.write_bytes(swap[0])
    one.write_bytes(swap[1])
    assert f"shard {one} is damaged" in refused(folder)


def test_a_shard_of_another_folder_is_foreign_though_the_manifest_lists_it(folder):
    first, _ = read_manifest(folder).shards
    other = write_shard(folder / shard_name(1), "4567", {"row": range(30)}, values()[40:])
    manifest([first, other]).write(folder)
    assert f"shard {folder / shard_name(1)} is of another origin: made as 4567/" in refused(folder)


def test_a_parquet_file_of_something_else_is_foreign(folder):
    path = folder / shard_name(1)
    pq.write_table(pa.table({"row": range(30)}), path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    first, _ = read_manifest(folder).shards
    manifest([first, Shard(name=path.name, rows=30, sha256=sha256)]).write(folder)
    assert f"shard {path} is of another origin: made as nothing" in refused(folder)


# ---------------------------------------------------------------- finding shards of an earlier run


def rows_of(cut: range) -> dict[str, list]:
    return {name: column[cut.start : cut.stop] for name, column in table().items()}


def found(path: UPath, cut: range = CUTS[1], origin: str = ORIGIN, shape=(E, F, T)) -> Shard | None:
    return find_shard(path, origin, rows_of(cut), shape)


def test_a_finished_shard_is_found_as_the_manifest_would_name_it(folder):
    for shard, cut in zip(read_manifest(folder).shards, CUTS, strict=True):
        assert found(folder / shard.name, cut) == shard


def test_a_missing_foreign_exchanged_or_other_shard_is_not_found(folder):
    path = folder / shard_name(1)
    (folder / shard_name(2)).write_bytes(path.read_bytes())
    assert found(folder / shard_name(2)) is None
    assert found(path, range(39, 69)) is None
    assert found(path, range(40, 69)) is None
    assert found(path, origin="4567") is None
    assert found(path, shape=(E, T, F)) is None
    assert found(folder / "part-00009.parquet") is None


@settings(
    deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_damaged_shard_is_not_found(folder, data):
    path = folder / shard_name(1)
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    damage = data.draw(st.sampled_from(["flip", "cut"]))
    flipped = bytes([whole[at] ^ 1 << data.draw(st.integers(0, 7))])
    path.write_bytes(whole[:at] + (flipped + whole[at + 1 :] if damage == "flip" else b""))
    try:
        assert found(path) is None
    finally:
        path.write_bytes(whole)


def test_a_full_storage_is_one_line(tmp_path):
    (tmp_path / "shards").write_text("a file in the way")
    with pytest.raises(UserError, match=r"part-00000\.parquet can't be written") as error:
        write_shard(
            UPath(tmp_path / "shards" / shard_name(0)), ORIGIN, rows_of(CUTS[0]), values()[:40]
        )
    assert "\n" not in str(error.value)


# ---------------------------------------------------------------- what a person sees


def shown(folder) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ssense.data.shards", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_line_says_what_a_folder_contains_and_draws_it(folder):
    run = shown(folder)
    assert run.returncode == 0, run.stderr
    for part in (
        "70 sentences x 2 electrodes, 3 frequencies x 4 frames",
        "2 shards",
        "sub_9 trial000, Made Up, 2048 Hz",
        "too long: 3",
        "LT1 LT2",
        "order_max 30",
        "signals def",
    ):
        assert part in run.stdout
    assert (folder / FIGURE).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "damage", [('"subject"', '"object"'), ('"order_max"', '"ordermax"'), ('"superlets"', '"super"')]
)
def test_a_manifest_with_other_fields_is_one_line(folder, damage):
    (folder / MANIFEST).write_text((folder / MANIFEST).read_text().replace(*damage))
    run = shown(folder)
    assert (run.returncode, len(run.stderr.splitlines())) == (2, 1)
    assert f"{folder / MANIFEST} is damaged" in run.stderr


def test_a_manifest_that_names_a_file_elsewhere_is_refused(folder):
    edit_manifest(folder, shard_name(0), "../../etc/passwd")
    with pytest.raises(UserError, match=r"json is damaged \(\.\./\.\./etc/passwd is listed where"):
        read_manifest(folder)


def test_the_command_line_refuses_a_place_that_is_none():
    with pytest.raises(UserError, match=r"nowhere://x can't be reached \(Unsupported filesystem"):
        shards.main(shards.ShardsOptions("nowhere://x"))


def test_the_command_line_refuses_damage_in_one_line(folder, tmp_path):
    (folder / shard_name(1)).unlink()
    for where in (folder, tmp_path / "nowhere"):
        run = shown(where)
        assert run.returncode == 2
        assert len(run.stderr.splitlines()) == 1
        assert run.stderr.startswith("error: ")


# ---------------------------------------------------------------- damage of other kinds


def test_a_missing_shard_is_named(folder):
    (folder / shard_name(1)).unlink()
    assert refused(folder) == (
        f"shard {folder / shard_name(1)} is missing. Delete {folder} and run the sweep again."
    )


def test_a_folder_without_manifest_is_no_shard_folder(folder):
    (folder / MANIFEST).unlink()
    assert f"{folder} is not a shard folder: no {MANIFEST}" in refused(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is damaged"),
        ('{"format": 4, "sha', "is damaged"),
        ("[]", "has format None, not 4"),
        ("3", "has format None, not 4"),
        ("{}", "has format None, not 4"),
        ('{"format": 2, "shards": []}', "has format 2, not 4. Delete the folder."),
        ('{"format": 99, "shards": []}', "has format 99, not 4"),
        ('{"format": 4}', "is damaged"),
        ('{"format": 4, "shards": 5}', "is damaged"),
        ('{"format": 4, "shards": []}', "is damaged"),
        ('{"format": 4, "shards": [{"name": "part"}]}', "is damaged"),
    ],
)
def test_a_manifest_that_is_not_ours_is_refused(folder, content, message):
    (folder / MANIFEST).write_text(content)
    assert f"{folder / MANIFEST} {message}" in refused(folder)


def test_a_manifest_that_miscounts_rows_is_refused(folder):
    edit_manifest(folder, '"rows": 30', '"rows": 31')
    assert f"{folder / shard_name(1)} holds 30 rows, not the manifest's 31" in refused(folder)


def test_the_sentence_table_is_read_without_the_spectrograms(folder):
    columns, _ = read_shards(folder)
    assert read_sentences(folder) == columns
    (folder / read_manifest(folder).shards[0].name).unlink()
    with pytest.raises(UserError, match=r"part-00000\.parquet is missing"):
        read_sentences(folder)


def test_a_shard_with_values_that_nobody_knows_is_found_again(tmp_path):
    path, rows = UPath(tmp_path) / shard_name(0), CUTS[1]
    part = {name: column[rows.start : rows.stop] for name, column in table().items()}
    sound = np.where(np.arange(len(rows)) % 3, 0.5, np.nan)
    part["rms_mean"] = pa.array(sound, pa.float64(), from_pandas=True)
    written = write_shard(path, ORIGIN, part, values()[rows.start : rows.stop])
    assert find_shard(path, ORIGIN, part, (E, F, T)) == written
    without = {name: column for name, column in part.items() if name != "rms_mean"}
    assert find_shard(path, ORIGIN, without, (E, F, T)) is None


def test_a_large_shard_is_hashed_once_and_again_when_it_has_changed(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(digest_module, "_SETTLED_S", -1.0)
    hashed = []
    hash_bytes = digest_module._digest_of_bytes
    monkeypatch.setattr(
        digest_module, "_digest_of_bytes", lambda path: hashed.append(path) or hash_bytes(path)
    )
    values = np.random.default_rng(0).standard_normal((8, 4, 128, 512)).astype(np.float16)
    folder = UPath(tmp_path / "large")
    shard = write_shard(folder / shard_name(0), ORIGIN, {"text": list("abcdefgh")}, values)
    manifest([shard]).write(folder)
    for _ in range(3):
        assert read_shards(folder)[1].tobytes() == values.tobytes()
    assert len(hashed) == 1

    path = Path(str(folder / shard_name(0)))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="its checksum is not the manifest's"):
        read_shards(folder)
