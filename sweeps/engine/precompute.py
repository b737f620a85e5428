"""From a recording to a dataset: spectrograms by Ray Data into shards, sentences into embeddings.

Each step is kept under a name that hashes its whole origin, so a second run finds it there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from upath import UPath

from ssense.data import shards
from ssense.data.brain_treebank import (
    Recording,
    Segments,
    SegmentSpec,
    read_segments,
    select_segments,
)
from ssense.data.dataset import Dataset
from ssense.data.shards import Manifest, Shard
from ssense.data.splits import seeded_split
from ssense.digest import digest
from ssense.errors import UserError
from ssense.model.text import TextSpec, cached_embeddings, embedding_origin
from ssense.signal.superlets import SuperletSpec, check_below_nyquist, spectrogram
from ssense.storage import is_local

# Signals and transforms of this many sentences are in a worker's memory at a time.
_SENTENCES_AT_ONCE = 16

# Recall at this rank chooses epochs and configurations; among no more candidates it is always 1.
SELECTION_RANK = 10

OnShard = Callable[[int, int], None]
"""Called with the number of shards finished and wanted."""


@dataclass(frozen=True, kw_only=True)
class DatasetPlan:
    """What a dataset will be, known before anything of it is computed."""

    recording: Recording
    segments: Segments
    segment_spec: SegmentSpec
    superlet_spec: SuperletSpec
    text_spec: TextSpec
    storage: UPath

    @cached_property
    def shard_origin(self) -> dict[str, Any]:
        """Everything the shards depend on, as plain values."""
        return {
            "format": shards.FORMAT_VERSION,
            "recording": self.recording.digest,
            "subject": self.recording.subject,
            "trial": self.recording.trial,
            "title": self.recording.title,
            "segments": asdict(self.segment_spec),
            "superlets": asdict(self.superlet_spec),
        }

    @property
    def shard_folder(self) -> UPath:
        """Where the shards are, or will be."""
        return self.storage / "shards" / digest(self.shard_origin)

    @cached_property
    def digest(self) -> str:
        """The dataset's digest."""
        return dataset_digest(self.shard_folder.name, self.segments.text, self.text_spec)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Sentences, electrodes, frequencies and frames."""
        frames = self.superlet_spec.n_frames(self.segments.n_samples)
        electrodes = len(self.segments.electrodes)
        return len(self.segments), electrodes, self.superlet_spec.n_frequencies, frames

    def lines(self) -> list[str]:
        """Say in words which sentences and electrodes were chosen, and at what rate."""
        kept, dropped, title = len(self.segments), self.segments.dropped, self.recording.title
        reasons = ", ".join(f"{why}: {count}" for why, count in dropped.items())
        left_out = f" ({reasons})" if reasons else ""
        rate_hz = self.segment_spec.sampling_rate_hz(self.recording)
        measured_hz = self.recording.sampling_rate_hz
        measured = "" if rate_hz == measured_hz else f", although measured as {measured_hz:g} Hz"
        return [
            f"  {title}: {kept} of {kept + sum(dropped.values())} sentences{left_out}",
            f"  {len(self.segments.electrodes)} of {len(self.recording.electrodes)} electrodes, "
            f"{rate_hz:g} Hz{measured}",
        ]

    def has_shards(self) -> bool:
        """Whether the spectrograms are there already."""
        return (self.shard_folder / shards.MANIFEST).exists()


def plan_dataset(
    recording: Recording,
    segment_spec: SegmentSpec,
    superlet_spec: SuperletSpec,
    text_spec: TextSpec,
    storage: UPath,
) -> DatasetPlan:
    """Choose the sentences of a recording; compute nothing yet.

    Raises:
        UserError: too few sentences are left for a split, or a specification does not fit.
    """
    plan = DatasetPlan(
        recording=recording,
        segments=select_segments(recording, segment_spec),
        segment_spec=segment_spec,
        superlet_spec=superlet_spec,
        text_spec=text_spec,
        storage=storage,
    )
    where, n = f"{recording.subject} {recording.trial}", len(plan.segments)
    try:
        n_candidates = len(seeded_split(n, seed=0).validation)
    except ValueError:
        n_candidates = 0
    if n_candidates <= SELECTION_RANK:
        dropped = sum(plan.segments.dropped.values())
        raise UserError(
            f"{where}: {n} sentences are too few for a split ({dropped} were left out): Recall@10 "
            f"among {n_candidates} validation sentences tells nothing. Give a longer recording."
        )
    try:
        check_below_nyquist(superlet_spec, segment_spec.sampling_rate_hz(recording))
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error
    return plan


@dataclass(frozen=True)
class ShardTask:
    """All that a worker needs to make one shard; sent to each worker once."""

    plan: DatasetPlan
    folder: UPath

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Make the shard of rows first to last (exclusive); return its manifest entry.

        An error of the user's is returned too: raised, it would reach the driver as text.
        """
        try:
            shard = self._make(row["shard"], range(row["first"], row["last"]))
        except UserError as error:
            return {"shard": row["shard"], "error": str(error)}
        return {"shard": row["shard"], "error": "", **asdict(shard)}

    def _make(self, number: int, rows: range) -> Shard:
        torch.set_num_threads(1)
        parts = [
            self._spectrograms(rows[start : start + _SENTENCES_AT_ONCE])
            for start in range(0, len(rows), _SENTENCES_AT_ONCE)
        ]
        path = self.folder / shards.shard_name(number)
        return shards.write_shard(path, self._sentences(rows), np.concatenate(parts))

    def _spectrograms(self, rows: range) -> np.ndarray:
        plan = self.plan
        signals = read_segments(plan.recording, plan.segments, plan.segment_spec, rows)
        rate_hz = plan.segment_spec.sampling_rate_hz(plan.recording)
        return spectrogram(signals, rate_hz, plan.superlet_spec).numpy().astype(np.float16)

    def _sentences(self, rows: range) -> dict[str, list[Any]]:
        columns = ("sentence_idx", "text", "onset_s", "offset_s", "start", "stop")
        segments = self.plan.segments
        return {name: [getattr(segments, name)[row] for row in rows] for name in columns}


def make_shards(plan: DatasetPlan, on_shard: OnShard) -> None:
    """Compute the spectrograms of a dataset on the running Ray, unless they are there.

    Raises:
        UserError: the recording can't be read.
    """
    folder = plan.shard_folder
    if plan.has_shards():
        return
    # A local folder appears under its name when it is complete. Object stores can't move folders;
    # there, as everywhere, a folder counts once it has a manifest, which is written last.
    partial = folder.with_name(f".{folder.name}.partial") if is_local(folder) else folder
    partial.mkdir(parents=True, exist_ok=True)
    try:
        made = _stream_shards(ShardTask(plan, partial), on_shard)
    except UserError:
        if partial != folder:
            shutil.rmtree(partial, ignore_errors=True)
        raise
    Manifest(
        digest=folder.name,
        origin=plan.shard_origin,
        sampling_rate_hz=plan.segment_spec.sampling_rate_hz(plan.recording),
        electrodes=plan.segments.electrodes,
        dropped=plan.segments.dropped,
        shards=made,
    ).write(partial)
    if partial != folder:
        _publish(partial, folder)


def load_dataset(shard_digest: str, text_spec: TextSpec, storage: UPath) -> Dataset:
    """Join the shards of a recording and the embeddings of its sentences.

    Raises:
        UserError: a shard is missing or damaged, or the text weights can't be had.
    """
    columns, spectrograms = shards.read_shards(storage / "shards" / shard_digest)
    sentences = tuple(columns["text"])
    return Dataset(
        digest=dataset_digest(shard_digest, sentences, text_spec),
        spectrograms=spectrograms,
        text=cached_embeddings(sentences, text_spec, storage / "text").numpy(),
        sentences=sentences,
    )


def dataset_digest(shard_digest: str, sentences: Sequence[str], text_spec: TextSpec) -> str:
    """Name a dataset by its shards and by all that its embeddings depend on."""
    return digest(shard_digest, embedding_origin(sentences, text_spec))


def _stream_shards(task: ShardTask, on_shard: OnShard) -> list[Shard]:
    import ray.data

    n_sentences, *row_shape = task.plan.shape
    size = shards.rows_per_shard(row_shape)
    wanted = [
        {"shard": number, "first": first, "last": min(first + size, n_sentences)}
        for number, first in enumerate(range(0, n_sentences, size))
    ]
    made: list[dict[str, Any]] = []
    stream = ray.data.from_items(wanted, override_num_blocks=len(wanted)).map(task, num_cpus=1)
    for row in stream.iter_rows():
        if row["error"]:
            raise UserError(row["error"])
        made.append(row)
        on_shard(len(made), len(wanted))
    made.sort(key=lambda row: row["shard"])
    return [Shard(name=row["name"], rows=row["rows"], sha256=row["sha256"]) for row in made]


def _publish(partial: UPath, folder: UPath) -> None:
    try:
        os.rename(partial, folder)
    except OSError:
        # Another driver was first; its folder has the same origin, so the same content.
        if not (folder / shards.MANIFEST).exists():
            raise
        shutil.rmtree(partial, ignore_errors=True)
