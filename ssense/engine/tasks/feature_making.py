"""From a recording to shards of features, by Ray Data on all machines or in this process.

Shards are kept under a name that hashes their whole origin, so a second run finds them.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from ssense.data import shards
from ssense.data.recordings.data_report import DataReport
from ssense.data.recordings.recording import Recording
from ssense.data.recordings.segment_signals import electrode_signals
from ssense.data.recordings.segments import ALL
from ssense.data.shards import Manifest, Shard
from ssense.engine.tasks.feature_plan import FeaturePlan
from ssense.errors import UserError, one_line
from ssense.files.digest import content_digest
from ssense.files.source_code import package_digest
from ssense.files.storage import (
    names_in,
    remove_partial_files,
    write_json,
    write_whole,
)
from ssense.signal.features import half_features
from ssense.specification import plain
from ssense.training.process import any_device, keep_freed_memory

DATA_REPORT = "data_report.md"
"""File beside the shards that says what they hold, for people."""

_SMALL_BYTES = 32 * 10**6
"""Size of spectrograms up to which this process makes them sooner than workers have started."""
_WORKERS_PER_GPU = 8  # each has a CUDA context of half a gigabyte

OnShard = Callable[[int, int], None]
"""Function that is called with the number of shards computed, of those that were missing."""


@dataclass(frozen=True)
class ShardTask:
    """Everything that a worker needs to make one shard."""

    plan: FeaturePlan

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Make the shard of rows first to last (exclusive), unless it is there.

        Returns:
            Its manifest entry, and the seconds spent in the transform and altogether. An error of
            the user's is returned too: raised, it would reach the driver as text.
        """
        start = time.perf_counter()
        number, rows = row["shard"], range(row["first"], row["last"])
        entry = {"shard": number, "error": "", "transform_s": 0.0}
        try:
            shard = self._find(number, rows)
            if shard is None:
                spectrograms, entry["transform_s"] = self.spectrograms(rows)
                # Another driver, on another kind of processor, may have made it meanwhile, and
                # have put the checksum of its own bytes into a manifest.
                shard = self._find(number, rows) or self._write(number, rows, spectrograms)
        except UserError as error:
            return {**entry, "error": str(error)}
        except (MemoryError, torch.OutOfMemoryError, torch.AcceleratorError) as error:
            problem = (
                f"a worker on {platform.node()} can't compute spectrograms ({one_line(error)}). If "
                "something else takes the memory there, end it, and run the same command again: "
                "what is done is kept."
            )
            return {**entry, "error": problem}
        return {**entry, **asdict(shard), "worker_s": time.perf_counter() - start}

    def spectrograms(self, rows: range) -> tuple[np.ndarray, float]:
        """Spectrograms `[rows, electrodes, frequencies, frames]` float16, and transform seconds.

        One electrode at a time: besides the result, a worker holds about ten channels of rows.
        """
        torch.set_num_threads(1)
        keep_freed_memory()
        device = any_device()
        plan = self.plan
        lengths = plan.segments.stop[rows] - plan.segments.start[rows]
        made = np.empty((len(rows), *plan.shape[1:]), np.float16)
        seconds = 0.0
        signals = electrode_signals(self._recording(), plan.segments, plan.data, rows)
        for place, signal in enumerate(signals):
            start = time.perf_counter()
            on_device = torch.from_numpy(signal).to(device)
            try:
                made[:, place] = half_features(
                    on_device, plan.sampling_rate_hz, plan.recipe, lengths
                )
            except ValueError as error:
                raise UserError(f"{plan.where}: {error}") from error
            seconds += time.perf_counter() - start
        return made, seconds

    def _recording(self) -> Recording:
        """The recording as this machine has it: fetched, where machines don't share its files."""
        recording, source = self.plan.recording, self.plan.recording.source
        if source is None or source.is_shared:
            return recording
        fetched = recording.moved(source.folder())
        if fetched.digest != recording.digest:
            raise UserError(
                f"the recording in {source.place} is no longer the one that the sweep began with. "
                "Run the same command again."
            )
        return fetched

    def _find(self, number: int, rows: range) -> Shard | None:
        folder, row_shape = self.plan.folder, self.plan.shape[1:]
        path = folder / shards.shard_name(number)
        return shards.find_shard(path, folder.name, self._sentences(rows), row_shape)

    def _write(self, number: int, rows: range, spectrograms: np.ndarray) -> Shard:
        folder = self.plan.folder
        path = folder / shards.shard_name(number)
        return shards.write_shard(path, folder.name, self._sentences(rows), spectrograms)

    def _sentences(self, rows: range) -> dict[str, list[Any]]:
        columns = ("sentence_idx", "text", "onset_s", "offset_s", "start", "stop")
        segments = self.plan.segments
        values = {name: list(getattr(segments, name)) for name in columns}
        return {name: [values[name][row] for row in rows] for name in columns} | {
            # Null, not NaN, which is not even equal to itself.
            name: pa.array(summary[rows], pa.float64(), from_pandas=True)
            for name, summary in self.plan.acoustics.items()
        }


@dataclass(frozen=True)
class Work:
    """What making shards took, in seconds.

    Attributes:
        transform_s: Time inside the superlet transform, over all workers.
        worker_s: Time of all workers: reading, filtering, transform, writing.
    """

    transform_s: float
    worker_s: float


def make_shards(
    plan: FeaturePlan, report: DataReport, on_shard: OnShard, *, use_gpus: bool | None = None
) -> Work:
    """Compute the features of a recording on the running Ray, as far as they are not there.

    Shards are written whole under their final names and the manifest last, so that this may be
    interrupted at any moment, and may run several times at once on the same storage.

    Args:
        plan: Plan of the features.
        report: What they will be of, for people.
        on_shard: Function that is told of progress.
        use_gpus: Whether to ask for shares of GPUs, also of those that are still to join; None to
            do so where Ray has any by now.

    Raises:
        UserError: The recording can't be read.
    """
    folder = plan.folder
    remove_partial_files(folder)
    if plan.is_made():
        return Work(0.0, 0.0)
    made = _stream_shards(ShardTask(plan), on_shard, use_gpus)
    manifest = Manifest(
        digest=folder.name,
        origin=plan.origin,
        settings={
            "segments": plain(replace(plan.data, subset=ALL)),  # which all subsets share
            "superlets": plain(plan.recipe),
        },
        sources={role: content_digest(path) for role, path in plan.recording.files.items()},
        sampling_rate_hz=plan.sampling_rate_hz,
        electrodes=plan.segments.electrodes,
        dropped=plan.segments.dropped,
        shards=tuple(
            Shard(name=row["name"], rows=row["rows"], sha256=row["sha256"]) for row in made
        ),
        code=feature_code(),
        coordinates=plan.coordinates,
        derivations=plan.segments.derivations,
        space=plan.recording.space,
        regions=plan.regions,
    )
    _save_for_people(plan, report, manifest)
    manifest.write(folder)
    return Work(sum(row["transform_s"] for row in made), sum(row["worker_s"] for row in made))


def feature_code() -> str:
    """Version of the code between a recording's samples and its spectrograms."""
    return package_digest("signal", "data/recordings", "engine/tasks/feature_making.py")


def _save_for_people(plan: FeaturePlan, report: DataReport, manifest: Manifest) -> None:
    folder = plan.folder
    write_json(folder / "data_report.json", asdict(report))
    write_whole(folder / DATA_REPORT, report.markdown())
    shards.save_figure(folder, manifest)


def _stream_shards(
    task: ShardTask, on_shard: OnShard, use_gpus: bool | None
) -> list[dict[str, Any]]:
    """Make all shards; their entries in order."""
    n_sentences, *row_shape = task.plan.shape
    size = shards.rows_per_shard(n_sentences, row_shape)
    wanted = [
        {"shard": number, "first": first, "last": min(first + size, n_sentences)}
        for number, first in enumerate(range(0, n_sentences, size))
    ]
    names = {shards.shard_name(row["shard"]) for row in wanted}
    missing = len(names.difference(names_in(task.plan.folder)))
    is_small = 2 * int(np.prod(task.plan.shape)) <= _SMALL_BYTES
    rows = _here(task, wanted) if is_small and not use_gpus else _on_ray(task, wanted, use_gpus)
    made: list[dict[str, Any]] = []
    for row in rows:
        if row["error"]:
            raise UserError(row["error"])
        made.append(row)
        computed = sum(row["transform_s"] > 0 for row in made)
        if row["transform_s"]:
            on_shard(computed, max(computed, missing))
    return sorted(made, key=lambda row: row["shard"])


def _here(task: ShardTask, wanted: Sequence[Mapping[str, int]]) -> Iterator[dict[str, Any]]:
    """Make shards in this process, before workers would have started."""
    threads = torch.get_num_threads()
    try:
        yield from map(task, wanted)
    finally:
        torch.set_num_threads(threads)


def _on_ray(
    task: ShardTask, wanted: Sequence[Mapping[str, int]], use_gpus: bool | None
) -> Iterable[dict[str, Any]]:
    """Make shards on the running Ray, one on each free core."""
    import ray
    import ray.data

    # Reading and filtering need a core each; where there is a GPU, several cores share it.
    if use_gpus is None:
        use_gpus = "GPU" in ray.cluster_resources()
    gpus = 1 / _WORKERS_PER_GPU if use_gpus else 0
    stream = ray.data.from_items([*wanted], override_num_blocks=len(wanted))
    made: Iterable[dict[str, Any]] = stream.map(task, num_cpus=1, num_gpus=gpus).iter_rows()
    return made
