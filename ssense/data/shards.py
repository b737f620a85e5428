"""Shards: Parquet files of spectrograms, one row per sentence, in a folder named by its origin.

A shard folder holds `part-00000.parquet`, ... and `manifest.json`, which says where they came
from and what they hash to. The spectrogram column is Arrow's native fixed-shape tensor, so plain
pyarrow reads it as an array.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from ssense.errors import UserError
from ssense.storage import read_json, write_json, write_whole

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
SHARD_BYTES = 128 * 2**20
# A shard is the unit of work of the precompute: at most this many sentences, so that a small
# recording too is spread over all workers.
SHARD_ROWS = 64
_ROW_GROUP_ROWS = 32


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One file of a shard folder."""

    name: str
    rows: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a shard folder contains and where it came from.

    Attributes:
        digest: hash of the origin; the folder's name.
        origin: recording digest and specifications, as plain values.
        sampling_rate_hz: rate that filters and superlets assumed.
        electrodes: names, in the order of the tensor's first axis.
        dropped: sentences left out, by reason.
    """

    digest: str
    origin: Mapping[str, Any]
    sampling_rate_hz: float
    electrodes: Sequence[str]
    dropped: Mapping[str, int]
    shards: Sequence[Shard] = field(default=())

    def write(self, folder: UPath) -> None:
        """Write the manifest, whole; do this last."""
        write_json(folder / MANIFEST, {"format": FORMAT_VERSION, **asdict(self)})


def read_manifest(folder: UPath) -> Manifest:
    """Read a folder's manifest.

    Raises:
        UserError: it is missing, damaged or of another format version.
    """
    path = folder / MANIFEST
    if not path.exists():
        raise UserError(
            f"{folder} is not a shard folder: no {MANIFEST}. Delete it and run the sweep again."
        )
    content = read_json(path)
    version = content.pop("format", None) if isinstance(content, dict) else None
    if version != FORMAT_VERSION:
        raise UserError(f"{path} has format {version}, not {FORMAT_VERSION}. Delete the folder.")
    try:
        shards = tuple(Shard(**shard) for shard in content["shards"])
        return Manifest(**{**content, "shards": shards})
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}). Delete the folder.") from error


def rows_per_shard(row_shape: Sequence[int]) -> int:
    """How many `[electrodes, frequencies, frames]` float16 rows make one shard."""
    row_bytes = 2 * int(np.prod(row_shape))
    return max(1, min(SHARD_ROWS, SHARD_BYTES // row_bytes))


def shard_name(number: int) -> str:
    """File name of a folder's n-th shard."""
    return f"part-{number:05d}.parquet"


def write_shard(
    path: UPath, sentences: Mapping[str, Sequence[Any]], spectrograms: np.ndarray
) -> Shard:
    """Write one shard, whole.

    Args:
        path: its place.
        sentences: columns of the sentence table, one value per row.
        spectrograms: `[rows, electrodes, frequencies, frames]`, stored as float16.
    """
    tensor = pa.FixedShapeTensorArray.from_numpy_ndarray(
        np.ascontiguousarray(spectrograms, dtype=np.float16)
    )
    table = pa.table({**sentences, "spectrogram": tensor})
    sink = pa.BufferOutputStream()
    pq.write_table(
        table, sink, compression="zstd", compression_level=1, row_group_size=_ROW_GROUP_ROWS
    )
    content = sink.getvalue().to_pybytes()
    write_whole(path, content)
    digest = hashlib.sha256(content).hexdigest()
    return Shard(name=path.name, rows=table.num_rows, sha256=digest)


def read_shards(folder: UPath) -> tuple[dict[str, list[Any]], np.ndarray]:
    """Read every shard of a folder, verified against its manifest.

    Returns:
        The sentence table by column, and spectrograms `[N, electrodes, frequencies, frames]`
        float16, both in the order of the recording.

    Raises:
        UserError: a shard is missing, damaged or not the one the manifest names.
    """
    shards = read_manifest(folder).shards
    tables = (_read_shard(folder, shard) for shard in shards)
    columns: dict[str, list[Any]] = {}
    spectrograms = np.empty(0, np.float16)
    start = 0
    for table in tables:
        part = table.column("spectrogram").combine_chunks().to_numpy_ndarray()
        if start == 0:
            spectrograms = np.empty((sum(s.rows for s in shards), *part.shape[1:]), part.dtype)
        spectrograms[start : start + len(part)] = part
        start += len(part)
        for name in table.drop_columns("spectrogram").column_names:
            columns.setdefault(name, []).extend(table.column(name).to_pylist())
    return columns, spectrograms


def _read_shard(folder: UPath, shard: Shard) -> pa.Table:
    path = folder / shard.name
    advice = f"Delete {folder} and run the sweep again to compute it anew."
    if not path.exists():
        raise UserError(f"shard {path} is missing. {advice}")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != shard.sha256:
        raise UserError(f"shard {path} is damaged: its checksum is not the manifest's. {advice}")
    table = pq.read_table(pa.BufferReader(content))
    if table.num_rows != shard.rows:
        raise UserError(
            f"shard {path} holds {table.num_rows} rows, not the manifest's {shard.rows}. {advice}"
        )
    return table
