"""Shards: Parquet files of spectrograms, one row per sentence, in a folder named by its origin.

    python -m ssense.data.shards DIR         # what a folder contains, where it came from, a figure

A shard folder holds `part-00000.parquet`, ... and, once all of them are there, `manifest.json`,
which says where they came from and what they hash to. Every shard carries its origin and checksums
of its pages, so that a folder without manifest can be completed. A spectrogram is stored as the
bytes of its values, whose type and shape the file states; plain pyarrow reads it:

    table = pyarrow.parquet.read_table("part-00000.parquet")
    values = numpy.frombuffer(b"".join(table["spectrogram"].to_pylist()), numpy.float16)
    values.reshape(-1, *json.loads(table.schema.metadata[b"shape"]))

Storing values one by one would make reading ten times slower; compression would save hardly any
room.
"""

from __future__ import annotations

from ssense.cli.command import check_flags, run_command
from ssense.data.shards_options import ShardsOptions

if __name__ == "__main__":
    check_flags(ShardsOptions)  # before the imports that take seconds

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from ssense.data.coordinates import Coordinates
from ssense.errors import UserError, counted, one_line, printable
from ssense.files.digest import digest, file_digest
from ssense.files.plain_values import from_plain
from ssense.files.sealed_json import unsealed, write_sealed
from ssense.files.storage import (
    file_size,
    is_local,
    locate,
    read_json,
    read_whole,
    reading,
    write_whole,
)
from ssense.signal.referencing import Derivation
from ssense.specification import KIND

if TYPE_CHECKING:
    from ssense.signal.features import AnyFeatureSpec

FORMAT_VERSION = 4
MANIFEST = "manifest.json"
SHARD_BYTES = 160 * 10**6
# A shard is the unit of work of the precompute: a small recording too is spread over workers.
LEAST_SHARDS = 6
_ROW_GROUP_ROWS = 8  # read at a time; at the paper's size they stay in a processor's cache
_READERS = 3  # shards read at a time; from an object store each takes the memory of a file
FIGURE = "spectrograms.png"
_ORIGIN = b"ssense.origin"  # in a shard's schema: the folder's digest and its own name


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One file of a shard folder.

    Attributes:
        name: Name of the file.
        rows: Number of sentences in the file.
        sha256: Checksum of the file's bytes.
    """

    name: str
    rows: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a shard folder contains and where it came from.

    Attributes:
        digest: Hash of the origin; the folder's name.
        origin: What the shards depend on, as plain values; of specifications, what differs from
            their defaults.
        settings: The specifications whole, by "segments" and "superlets".
        sources: Digest of every file of the recording, by role.
        sampling_rate_hz: Rate that filters and superlets assumed.
        electrodes: Names of the electrodes, in the order of the tensor's first axis.
        dropped: Number of sentences left out, by reason.
        code: Version of the code that computed them; empty where it was not noted.
        coordinates: Where the electrodes lie; None where the recording does not say, or did not
            when a sweep last asked.
        derivations: What each electrode is made of, in the same order; none where it was not
            noted.
        space: Space of the coordinates as the recording names it; empty where it names none.
        regions: Region of each electrode that the recording names, empty where it names none, in
            the same order; none where it names no region.
    """

    digest: str
    origin: Mapping[str, Any]
    settings: Mapping[str, Mapping[str, Any]]
    sources: Mapping[str, str]
    sampling_rate_hz: float
    electrodes: Sequence[str]
    dropped: Mapping[str, int]
    shards: tuple[Shard, ...] = ()
    code: str = ""
    coordinates: Coordinates | None = None
    derivations: tuple[Derivation, ...] = ()
    space: str = ""
    regions: tuple[str, ...] = ()

    def write(self, folder: UPath) -> None:
        """Write the manifest, whole; do this last."""
        write_sealed(folder / MANIFEST, {"format": FORMAT_VERSION, **asdict(self)})


def read_manifest(folder: UPath) -> Manifest:
    """Read a folder's manifest.

    Raises:
        UserError: The manifest is missing, damaged, of another format version, or can't be read.
    """
    manifest = find_manifest(folder)
    if manifest is None:
        raise UserError(
            f"{folder} is not a shard folder: no {MANIFEST}. Delete it and run the sweep again."
        )
    return manifest


def find_manifest(folder: UPath) -> Manifest | None:
    """Read a folder's manifest, if it is there.

    Raises:
        UserError: The manifest is damaged, of another format version, or can't be read.
    """
    path = folder / MANIFEST
    try:
        content = read_json(path)
    except FileNotFoundError:
        return None
    version = content.get("format") if isinstance(content, dict) else None
    if version != FORMAT_VERSION:
        shown = printable(str(version))
        raise UserError(f"{path} has format {shown}, not {FORMAT_VERSION}. Delete the folder.")
    try:
        manifest = from_plain(Manifest, unsealed(content, without="format"))
        _check_list(manifest.shards)
    except ValueError as error:
        raise damaged_manifest(folder, one_line(error)) from error
    return manifest


def manifest_of_origin(folder: UPath) -> Manifest:
    """Read the manifest of a folder that is named by the hash of its origin.

    Raises:
        UserError: See `read_manifest`; also if the manifest lists no shard, belongs to another
            folder, or its origin was edited.
    """
    manifest = read_manifest(folder)
    if manifest.digest != folder.name:
        raise damaged_manifest(folder, f"it was made from {printable(manifest.digest)}")
    if not manifest.shards:
        raise damaged_manifest(folder, "it lists no shard")
    if digest(manifest.origin) != folder.name:
        raise damaged_manifest(folder, "its origin is not what the folder is named after")
    return manifest


def damaged_manifest(folder: UPath, problem: str) -> UserError:
    """The refusal of a manifest that contradicts itself, its folder or what was planned."""
    return UserError(
        f"{folder / MANIFEST} is damaged ({problem}). Delete this file and run the sweep again: "
        "intact shards are kept."
    )


def _check_list(shards: Sequence[Shard]) -> None:
    """Refuse a list of shards that lost one, or has them in another order.

    Raises:
        ValueError: The first shard that is not in its place, named.
    """
    for number, shard in enumerate(shards):
        if shard.name != shard_name(number):
            name = printable(shard.name)
            raise ValueError(f"{name} is listed where {shard_name(number)} belongs")
        if shard.rows < 1:
            raise ValueError(f"{shard.name} is listed with {counted(shard.rows, 'row')}")


def rows_per_shard(n_rows: int, row_shape: Sequence[int]) -> int:
    """How many of the `[electrodes, frequencies, frames]` float16 rows make one shard."""
    most = max(1, SHARD_BYTES // (2 * int(np.prod(row_shape))))
    n_shards = max(LEAST_SHARDS, -(-n_rows // most))
    return -(-n_rows // n_shards)  # alike, so that no worker is left with a small one


def shard_name(number: int) -> str:
    """File name of a folder's n-th shard."""
    return f"part-{number:05d}.parquet"


def write_shard(
    path: UPath, origin: str, sentences: Mapping[str, Sequence[Any]], spectrograms: np.ndarray
) -> Shard:
    """Write one shard, whole.

    Args:
        path: Path of the shard.
        origin: Digest of the folder that the shard belongs to.
        sentences: Columns of the sentence table, one value per row.
        spectrograms: Spectrograms `[rows, electrodes, frequencies, frames]`, stored as float16.

    Raises:
        UserError: The storage can't be written to.
    """
    content = _content(path, origin, sentences, spectrograms)
    write_whole(path, memoryview(content))
    return _shard(path, len(spectrograms), content)


def _content(
    path: UPath, origin: str, sentences: Mapping[str, Sequence[Any]], spectrograms: np.ndarray
) -> pa.Buffer:
    """Bytes of a shard; the same arguments give the same bytes."""
    values = np.ascontiguousarray(spectrograms, dtype=np.float16)
    table = pa.table(dict(sentences))
    schema = _schema(path, origin, table.schema, values.shape[1:])
    column = pa.FixedSizeBinaryArray.from_buffers(
        schema.field("spectrogram").type, len(values), [None, pa.py_buffer(values)]
    )
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.table([*table.columns, column], schema=schema),
        sink,
        use_dictionary=list(sentences),
        write_statistics=list(sentences),
        row_group_size=_ROW_GROUP_ROWS,
        write_page_checksum=True,
    )
    return sink.getvalue()


def _shard(path: UPath, rows: int, content: pa.Buffer) -> Shard:
    return Shard(name=path.name, rows=rows, sha256=hashlib.sha256(content).hexdigest())


def _schema(path: UPath, origin: str, sentences: pa.Schema, row_shape: Sequence[int]) -> pa.Schema:
    """Schema of a shard: the sentence table's columns, then a spectrogram's values as bytes."""
    values = pa.field("spectrogram", pa.binary(2 * int(np.prod(row_shape))), nullable=False)
    about = {
        _ORIGIN: f"{origin}/{path.name}",
        "dtype": "float16",
        "shape": json.dumps(list(row_shape)),
    }
    return sentences.append(values).with_metadata(about)


def find_shard(
    path: UPath, origin: str, sentences: Mapping[str, Sequence[Any]], row_shape: Sequence[int]
) -> Shard | None:
    """The shard of an earlier or another run, if it is there, whole, and of these sentences.

    Args:
        path: Path of the shard.
        origin: Digest of the folder that the shard belongs to.
        sentences: Columns of the sentence table that the shard must hold.
        row_shape: Numbers of electrodes, frequencies and frames.
    """
    try:
        content = pa.py_buffer(read_whole(path))
    except FileNotFoundError:
        return None
    wanted = pa.table(dict(sentences))
    schema = _schema(path, origin, wanted.schema, row_shape)
    try:
        with _damage_of(path):
            table = _open(path, pa.BufferReader(content), origin).read(use_threads=False)
    except UserError:
        return None
    is_ours = table.schema.equals(schema, check_metadata=True)
    if not is_ours or not table.drop_columns("spectrogram").equals(wanted):
        return None
    # Not all of a file has a checksum: what was read, written again, must give the same bytes.
    (batch,) = table.combine_chunks().to_batches()
    again = _content(path, origin, sentences, _spectrograms(batch))
    return _shard(path, len(table), content) if again.equals(content) else None


def read_shards(folder: UPath) -> tuple[dict[str, list[Any]], np.ndarray]:
    """Read every shard of a folder, verified against its manifest.

    A shard on a disk of this machine is verified once, and again when the file has changed: to hash
    it takes longer than to read it.

    Returns:
        The sentence table by column, and spectrograms `[N, electrodes, frequencies, frames]`
        float16, both in the order of the recording.

    Raises:
        UserError: A shard is missing, damaged, of another origin or not the manifest's.
    """
    manifest = read_manifest(folder)
    stops = np.cumsum([shard.rows for shard in manifest.shards])
    made: list[np.ndarray] = []
    making = threading.Lock()

    def spectrograms(row_shape: Sequence[int]) -> np.ndarray:
        with making:
            if not made:
                made.append(np.empty((stops[-1], *row_shape), np.float16))
        return made[0]

    def read(shard: Shard, stop: int) -> pa.Table:
        """Its sentences; the spectrograms go to their place, few at a time, to need no second."""
        path, start, sentences = folder / shard.name, stop - shard.rows, []
        with _damage_of(path):
            file = _open_shard(folder, manifest, shard, hash_of=_known_hash)
            for batch in _batches(file):
                part = _spectrograms(batch)
                spectrograms(part.shape[1:])[start : start + len(part)] = part
                start += len(part)
                sentences.append(batch.drop_columns("spectrogram"))
        return pa.Table.from_batches(sentences)

    with ThreadPoolExecutor(_READERS) as pool:
        columns = pa.concat_tables(pool.map(read, manifest.shards, stops)).to_pydict()
    return columns, made[0]


def _batches(file: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
    """Rows of a shard, few at a time; pyarrow's own iteration takes the whole file into memory."""
    for group in range(file.num_row_groups):
        # Arrow's threads, still starting when a short command ends, abort the process.
        yield from file.read_row_group(group, use_threads=False).to_batches()


def _spectrograms(batch: pa.RecordBatch) -> np.ndarray:
    """`[rows, electrodes, frequencies, frames]` float16, in the memory of a shard's rows."""
    shape = json.loads(batch.schema.metadata[b"shape"])
    start, values = batch.column("spectrogram").offset, batch.column("spectrogram").buffers()[1]
    return np.frombuffer(values, np.float16).reshape(-1, *shape)[start : start + len(batch)]


def read_sentences(folder: UPath) -> dict[str, list[Any]]:
    """Read the sentence table alone, by column; nothing is verified.

    Raises:
        UserError: A shard is missing or damaged, or the storage can't be read.
    """
    columns: dict[str, list[Any]] = {}
    for shard in read_manifest(folder).shards:
        path = folder / shard.name
        try:
            with reading(path) as file, _damage_of(path):
                parquet = pq.ParquetFile(file)
                names = [name for name in parquet.schema_arrow.names if name != "spectrogram"]
                table = parquet.read(columns=names)
        except FileNotFoundError:
            raise UserError(f"shard {path} is missing. {_advice(folder)}") from None
        for name in table.column_names:
            columns.setdefault(name, []).extend(table.column(name).to_pylist())
    return columns


def row_shape(folder: UPath) -> tuple[int, int, int]:
    """Electrodes, frequencies and frames of each row, as the first shard says.

    Raises:
        UserError: The shard is missing or damaged, or the storage can't be read.
    """
    path = folder / read_manifest(folder).shards[0].name
    try:
        with reading(path) as file, _damage_of(path):
            electrodes, frequencies, frames = json.loads(
                pq.ParquetFile(file).schema_arrow.metadata[b"shape"]
            )
    except FileNotFoundError:
        raise UserError(f"shard {path} is missing. {_advice(folder)}") from None
    return electrodes, frequencies, frames


def read_shard(folder: UPath, manifest: Manifest, shard: Shard) -> pa.Table:
    """Read one shard of a folder, verified against its manifest.

    Raises:
        UserError: See `read_shards`.
    """
    with _damage_of(folder / shard.name):
        # Arrow's threads, still starting when a short command ends, abort the process.
        return _open_shard(folder, manifest, shard).read(use_threads=False)


def check_shard(folder: UPath, manifest: Manifest, shard: Shard) -> None:
    """Compare every byte of a shard with the manifest; of a local file few are read at a time.

    Raises:
        UserError: See `read_shards`.
    """
    with _damage_of(folder / shard.name):
        _open_shard(folder, manifest, shard)


def _open_shard(
    folder: UPath,
    manifest: Manifest,
    shard: Shard,
    hash_of: Callable[[UPath, pa.NativeFile], str] = lambda _, source: _sha256(source),
) -> pq.ParquetFile:
    path = folder / shard.name
    try:
        source = _source(path)
    except FileNotFoundError:
        raise UserError(f"shard {path} is missing. {_advice(folder)}") from None
    found = hash_of(path, source)
    if not found or not shard.sha256.startswith(found):
        raise UserError(
            f"shard {path} is damaged: its checksum is not the manifest's. {_advice(folder)}"
        )
    file = _open(path, source, manifest.digest)
    if file.metadata.num_rows != shard.rows:
        raise UserError(
            f"shard {path} holds {counted(file.metadata.num_rows, 'row')}, not the manifest's "
            f"{shard.rows}. {_advice(folder)}"
        )
    return file


def _source(path: UPath) -> pa.NativeFile:
    """The bytes of a shard; a local file stays where it is, to be read in parts."""
    if not is_local(path):
        return pa.BufferReader(read_whole(path))
    try:
        return pa.OSFile(str(path))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"{path} can't be read ({one_line(error)}). Check the storage.") from error


def _sha256(source: pa.NativeFile) -> str:
    """Checksum of the rest of a file, which is wound back."""
    checksum = hashlib.file_digest(source, "sha256").hexdigest()
    source.seek(0)
    return checksum


def _known_hash(path: UPath, source: pa.NativeFile) -> str:
    """What a local file is known to hash to, cut short; the checksum of any other."""
    return file_digest(path) if is_local(path) else _sha256(source)


def _open(path: UPath, source: pa.NativeFile, origin: str) -> pq.ParquetFile:
    file = pq.ParquetFile(source)
    found = (file.schema_arrow.metadata or {}).get(_ORIGIN, b"nothing").decode(errors="replace")
    wanted = f"{origin}/{path.name}"
    if found != wanted:
        raise UserError(
            f"shard {path} is of another origin: made as {found}, not {wanted}. "
            f"{_advice(path.parent)}"
        )
    return file


@contextmanager
def _damage_of(path: UPath) -> Iterator[None]:
    """Name the shard that can't be parsed."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(
            f"shard {path} is damaged: {one_line(error)}. {_advice(path.parent)}"
        ) from error


def _advice(folder: UPath) -> str:
    return f"Delete {folder} and run the sweep again."


def feature_spec(settings: Mapping[str, Any]) -> AnyFeatureSpec:
    """Read the recipe that is written in a manifest, also by earlier versions of the code.

    Args:
        settings: Its fields as plain values; before there were other kinds they named none.

    Raises:
        UserError: They are those of no recipe.
    """
    from ssense.signal.features import AnyFeatureSpec
    from ssense.signal.superlets import SuperletSpec

    recipes: Any = AnyFeatureSpec  # a union
    try:
        found: AnyFeatureSpec = from_plain(recipes, {KIND: SuperletSpec.kind, **settings})
    except ValueError as error:
        raise UserError(
            f"the settings of features can't be read: {error}. Use the code that made the shards."
        ) from error
    return found


def save_figure(folder: UPath, manifest: Manifest) -> UPath:
    """Draw the first spectrograms of a folder into it, so that a person can look.

    Raises:
        UserError: The first shard can't be used, see `read_shards`.
    """
    from ssense.data.spectrogram_figure import spectrogram_figure

    table = read_shard(folder, manifest, manifest.shards[0]).combine_chunks()
    spectrograms = _spectrograms(table.to_batches()[0])
    spec = feature_spec(manifest.settings["superlets"])
    frame_s = spec.decimation / manifest.sampling_rate_hz
    times_s = (spec.edge_clip + np.arange(spectrograms.shape[-1])) * frame_s
    png = spectrogram_figure(
        spectrograms,
        table.column("text").to_pylist(),
        manifest.electrodes,
        times_s,
        spec.row_labels,
        spec.unit if spec.normalisation == "none" else f"{spec.unit}, as sd of its row",
    )
    write_whole(folder / FIGURE, png)
    return folder / FIGURE


def summary_lines(folder: UPath) -> list[str]:
    """Say what a folder contains and where it came from, every shard verified.

    Raises:
        UserError: See `read_shards`.
    """
    manifest = read_manifest(folder)
    origin = manifest.origin
    shape: Sequence[int] = ()
    for shard in manifest.shards:
        shape = json.loads(read_shard(folder, manifest, shard).schema.metadata[b"shape"])
    electrodes, frequencies, frames = shape
    rows = sum(shard.rows for shard in manifest.shards)
    size = sum(file_size(folder / shard.name) for shard in manifest.shards)
    dropped = ", ".join(f"{why}: {count}" for why, count in manifest.dropped.items())
    return [
        f"{folder}: {counted(rows, 'sentence')} x {counted(electrodes, 'electrode')}, "
        f"{counted(frequencies, 'frequency', 'frequencies')} x {counted(frames, 'frame')}",
        f"  {counted(len(manifest.shards), 'shard')}, {size / 1e6:.0f} MB, all as the manifest "
        "says",
        f"  recording   {origin['subject']} {origin['trial']}, {origin['title']}, "
        f"{manifest.sampling_rate_hz:g} Hz",
        f"  left out    {dropped or 'no sentence'}",
        f"  electrodes  {' '.join(manifest.electrodes)}",
        f"  coordinates {_located(manifest)}",
        f"  segments    {_settings(manifest.settings['segments'])}",
        f"  superlets   {_settings(manifest.settings['superlets'])}",
        f"  sources     {_settings(manifest.sources)}",
    ]


def _located(manifest: Manifest) -> str:
    places = manifest.coordinates.places if manifest.coordinates else ()
    return f"of {counted(sum(place is not None for place in places), 'electrode')}"


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def main(command: ShardsOptions) -> None:
    """Show what a folder of shards contains and where it came from; draw a few spectrograms."""
    folder = locate(command.folder)
    try:
        for line in summary_lines(folder):
            print(line)
        print(f"  figure      {save_figure(folder, read_manifest(folder))}")
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise UserError(
            f"{folder / MANIFEST} is damaged: {one_line(error)}. {_advice(folder)}"
        ) from error
    except OSError as error:
        raise UserError(f"{folder} can't be read or written: {one_line(error)}.") from error


if __name__ == "__main__":
    run_command(ShardsOptions, main)
