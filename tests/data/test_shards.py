from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from upath import UPath

from ssense.data.shards import (
    MANIFEST,
    SHARD_BYTES,
    SHARD_ROWS,
    Manifest,
    Shard,
    read_manifest,
    read_shards,
    rows_per_shard,
    shard_name,
    write_shard,
)
from ssense.errors import UserError

N, E, F, T = 70, 2, 3, 4
CUTS = (range(40), range(40, 70))


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
        digest="0123",
        origin={"recording": "abc", "superlets": {"order_max": 5}},
        sampling_rate_hz=2048.0,
        electrodes=["LT1", "LT2"],
        dropped={"too long": 3},
        shards=tuple(written),
    )


def write_folder(folder: UPath) -> UPath:
    written = [
        write_shard(
            folder / shard_name(number),
            {name: column[rows.start : rows.stop] for name, column in table().items()},
            values()[rows.start : rows.stop],
        )
        for number, rows in enumerate(CUTS)
    ]
    manifest(written).write(folder)
    return folder


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
    column = pq.read_table(folder / "part-00001.parquet").column("spectrogram")
    assert column.type == pa.fixed_shape_tensor(pa.float16(), [E, F, T])
    assert np.array_equal(column.combine_chunks().to_numpy_ndarray(), values()[40:])


def test_shards_are_zstd_in_row_groups_of_32(folder):
    metadata = pq.read_metadata(folder / "part-00000.parquet")
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    assert [group.num_rows for group in groups] == [32, 8]
    codecs = {group.column(i).compression for group in groups for i in range(metadata.num_columns)}
    assert codecs == {"ZSTD"}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_wider_and_transposed_spectrograms_are_stored_as_float16(dtype, tmp_path):
    wide = values().astype(dtype).transpose(0, 1, 3, 2)
    shard = write_shard(UPath(tmp_path / "part"), {"row": range(N)}, wide)
    column = pq.read_table(tmp_path / shard.name).column("spectrogram")
    assert np.array_equal(
        column.combine_chunks().to_numpy_ndarray(), values().transpose(0, 1, 3, 2)
    )


# ---------------------------------------------------------------- shard sizes


@given(st.tuples(*[st.integers(1, 3000)] * 3))
def test_a_shard_is_as_large_as_both_bounds_allow(shape):
    rows, row_bytes = rows_per_shard(shape), 2 * shape[0] * shape[1] * shape[2]
    assert 1 <= rows <= SHARD_ROWS
    assert rows == 1 or rows * row_bytes <= SHARD_BYTES
    assert rows == SHARD_ROWS or (rows + 1) * row_bytes > SHARD_BYTES


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


def test_a_missing_shard_is_named(folder):
    (folder / shard_name(1)).unlink()
    assert refused(folder) == (
        f"shard {folder / shard_name(1)} is missing. "
        f"Delete {folder} and run the sweep again to compute it anew."
    )


def test_a_folder_without_manifest_is_no_shard_folder(folder):
    (folder / MANIFEST).unlink()
    assert f"{folder} is not a shard folder: no {MANIFEST}" in refused(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is damaged"),
        ('{"format": 1, "sha', "is damaged"),
        ("[]", "has format None, not 1"),
        ("3", "has format None, not 1"),
        ("{}", "has format None, not 1"),
        ('{"format": 99, "shards": []}', "has format 99, not 1"),
        ('{"format": 1}', "is damaged"),
        ('{"format": 1, "shards": 5}', "is damaged"),
        ('{"format": 1, "shards": []}', "is damaged"),
        ('{"format": 1, "shards": [{"name": "part"}]}', "is damaged"),
    ],
)
def test_a_manifest_that_is_not_ours_is_refused(folder, content, message):
    (folder / MANIFEST).write_text(content)
    assert f"{folder / MANIFEST} {message}" in refused(folder)


def test_a_manifest_that_miscounts_rows_is_refused(folder):
    path = folder / MANIFEST
    path.write_text(path.read_text().replace('"rows": 30', '"rows": 31'))
    assert f"{folder / shard_name(1)} holds 30 rows, not the manifest's 31" in refused(folder)
