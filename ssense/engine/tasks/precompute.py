"""From a recording to a dataset: spectrograms by Ray Data into shards, sentences into embeddings.

The result of each step is kept under a name that hashes its whole origin, so a second run finds it.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch.nn.functional import normalize
from upath import UPath

from ssense.choices import SplitKind
from ssense.cli.screen import count, say, step
from ssense.data import shards
from ssense.data.dataset import Dataset, Pairs
from ssense.data.recordings.brain_treebank import (
    Recording,
    Segments,
    SegmentSpec,
    electrode_signals,
    select_segments,
)
from ssense.data.recordings.data_report import DataReport, data_report
from ssense.data.recordings.recording import of_recording
from ssense.data.repeats import TowerTexts, repeat_groups
from ssense.data.shards import Manifest, Shard
from ssense.data.splits import Split, split_sentences
from ssense.engine.core.origin import RecordingOrigin
from ssense.engine.core.sweep import Family
from ssense.engine.tasks.data_plan import first_poor_split, say_other_code
from ssense.errors import UserError, counted, one_line, printable
from ssense.files.digest import digest, file_digest
from ssense.files.source_code import package_digest
from ssense.files.storage import (
    exists,
    local_copy,
    names_in,
    remove_partial_files,
    write_json,
    write_whole,
)
from ssense.files.tensor_file import tensor_code
from ssense.model.encoders.own import OwnSpec
from ssense.model.encoders.spectrogram_encoder import ResNetSpec, build_encoder
from ssense.signal.features import AnyFeatureSpec, feature_identity, features
from ssense.specification import identity, plain
from ssense.targets.clip import embedding_dimensions
from ssense.targets.text import (
    TextSpec,
    cached_embeddings,
    embedding_code,
    embedding_file,
    embedding_origin,
    tower_texts,
)
from ssense.training.loop import SELECTION_RANK
from ssense.training.process import any_device, keep_freed_memory
from ssense.training.sentences import SentenceSpec

DATA_REPORT = "data_report.md"
"""File beside the shards that says what they hold, for people."""

_SMALL_BYTES = 32 * 10**6
"""Size of spectrograms up to which this process makes them sooner than workers have started."""
_WORKERS_PER_GPU = 8  # each has a CUDA context of half a gigabyte

OnShard = Callable[[int, int], None]
"""Function that is called with the number of shards computed, of those that were missing."""


@dataclass(frozen=True, kw_only=True)
class DatasetPlan:
    """What a dataset will be, known before anything of it is computed.

    Attributes:
        source: Storage that machines fetch the recording from; None where they share its files.
    """

    recording: Recording
    segments: Segments
    segment_spec: SegmentSpec
    superlet_spec: AnyFeatureSpec
    text_spec: TextSpec
    storage: UPath
    source: UPath | None = None

    @cached_property
    def shard_origin(self) -> dict[str, Any]:
        """Everything the shards depend on, as plain values; specifications by their identity."""
        return {
            "format": shards.FORMAT_VERSION,
            "recording": self.recording.digest,
            "subject": self.recording.subject,
            "trial": self.recording.trial,
            "title": self.recording.title,
            "segments": identity(self.segment_spec),
            # Readers may come to choose or place sentences otherwise under the same specification.
            "sentences": self._sentences_digest(),
            "superlets": feature_identity(self.superlet_spec),
            "recording_rate_hz": self.recording.sampling_rate_hz,
        }

    def _sentences_digest(self) -> str:
        chosen = self.segments
        spans = chosen.start.tolist(), chosen.stop.tolist(), chosen.n_samples
        return digest(chosen.sentence_idx.tolist(), chosen.text, *spans, chosen.electrodes)

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

    def covering(self, specification: SentenceSpec, families: Iterable[Family]) -> DatasetPlan:
        """Return the plan: all cells are trained on the same spectrograms and embeddings.

        Raises:
            UserError: An encoder of the user's own does not fit them, or is none of the sweep's.
        """
        for family in families:
            if OwnSpec.kind in family.levels.get("encoder", ()) and (
                not isinstance(specification.encoder, OwnSpec)
            ):
                raise UserError(
                    f"family {printable(family.name)} has an encoder of your own, but `encoder` "
                    "names no file. Give FILE.py:CLASS."
                )
        if isinstance(specification.encoder, OwnSpec):
            specification.encoder.build(self.examples(2, torch.device("cpu")), "float32")
        return self

    def split(self, kind: SplitKind, seed: int) -> Split:
        """Divide the sentences as the dataset will.

        Raises:
            ValueError: The sentences are too few.
        """
        tower = self.tower if kind == "grouped" else None  # others do not need groups
        return split_sentences(kind, seed, repeat_groups(self.segments.text, tower), self.spans_s)

    @property
    def spans_s(self) -> np.ndarray:
        """Start and end of each segment `[N, 2]`, seconds as they passed."""
        chosen = self.segments
        return _spans_s(chosen.start, chosen.stop, self.recording.sampling_rate_hz)

    @cached_property
    def tower(self) -> TowerTexts:
        """The sentences as the text tower reads them."""
        folder = self.storage / "text"  # a plan writes nothing: the sweep may be refused yet
        return tower_texts(self.segments.text, self.text_spec.model, folder, keep=False)

    def check_splits(self, kind: SplitKind, seeds: Iterable[int]) -> None:
        """Refuse seeds with too few validation sentences to choose by.

        Raises:
            UserError: A seed leaves too few; the message has their number.
        """
        where = f"{self.recording.subject} {self.recording.trial}"
        dropped = ", ".join(f"{why}: {n}" for why, n in self.segments.dropped.items()) or "none"
        if poor := first_poor_split(self, kind, seeds):
            seed, n_candidates = poor
            raise UserError(
                f"{where}: {counted(len(self.segments), 'sentence is', 'sentences are')} too few "
                f"for a {kind} split (left out: {dropped}): Recall@{SELECTION_RANK} among "
                f"{counted(n_candidates, 'validation sentence')}, at seed {seed}, is not "
                "informative. Give a longer recording."
            )

    @cached_property
    def acoustics(self) -> dict[str, np.ndarray]:
        """How the sentences sound, see `Transcript.acoustics`; kept with the shards for a control.

        They are not part of the origin: training does not depend on them.
        """
        return self.recording.transcript.acoustics(self.segments.sentence_idx)

    @property
    def sampling_rate_hz(self) -> float:
        """Samples per second that the segments assume."""
        return self.segment_spec.sampling_rate_hz(self.recording)

    @cached_property
    def report(self) -> DataReport:
        """What will be trained on, and what to beware of."""
        return data_report(self.recording, self.segments, self.segment_spec, self.tower)

    def n_candidates(self, split: Split) -> int:
        """Sentences of the validation split, of which each query has to find its own."""
        return len(split.validation)

    def examples(self, n: int, device: torch.device) -> Pairs:
        """Random spectrograms of the dataset's shape and random embeddings, n pairs."""
        spectrograms = torch.rand(n, *self.shape[1:], dtype=torch.float16, device=device)
        dimensions = embedding_dimensions(self.text_spec.model)
        return Pairs(spectrograms, normalize(torch.randn(n, dimensions, device=device)))

    def warm(self, specification: SentenceSpec, families: Iterable[Family] = ()) -> None:
        """Get the initial weights of all encoders, and embed the sentences.

        Raises:
            UserError: Weights can't be loaded or don't fit.
        """
        encoder = specification.encoder
        starts = {encoder.weights} if isinstance(encoder, ResNetSpec) else set()
        for family in families:
            starts.update(map(str, family.levels.get("encoder.weights", ())))
        for weights in sorted(starts - {"random"}):
            build_encoder(weights)
        with step(f"Text embeddings: {self.text_spec.model}, {self.text_spec.weights} weights"):
            cached_embeddings(self.segments.text, self.text_spec, self.storage / "text")
            tower_texts(self.segments.text, self.text_spec.model, self.storage / "text")
        kept = embedding_file(self.segments.text, self.text_spec, self.storage / "text")
        say_other_code({kept: tensor_code(kept)}, embedding_code())

    def is_made(self) -> bool:
        """Whether the spectrograms are there already."""
        return exists(self.shard_folder / shards.MANIFEST)

    def make(self, *, use_gpus: bool | None = None) -> None:
        """Compute the spectrograms on the running Ray, see `make_shards`."""
        sentences, electrodes, frequencies, frames = self.shape
        size = f"{sentences} sentences x {electrodes} electrodes, {frequencies} x {frames}"
        if (made := shards.find_manifest(self.shard_folder)) is not None:
            say(f"Spectrograms: {size}, there already")
            say_other_code({self.shard_folder: made.code}, feature_code())
            return
        with step(f"Spectrograms: {size}"):
            work = make_shards(self, on_shard=count("shards"), use_gpus=use_gpus)
            if work.transform_s:
                share = work.transform_s / work.worker_s
                say(f"  {share:.0%} of the workers' time in the transform")

    def load(self) -> Dataset:
        """The dataset, see `load_dataset`.

        Raises:
            UserError: It can't be read, or the shards are not those that were planned.
        """
        self._check_manifest()
        dataset = load_dataset(self.shard_folder.name, self.text_spec, self.storage)
        self._check_rows(dataset)
        return dataset

    def _check_manifest(self) -> None:
        """Compare what the manifest says with the plan, before gigabytes are read."""
        manifest = shards.manifest_of_origin(self.shard_folder)
        rows = sum(shard.rows for shard in manifest.shards)
        for what, found, planned in (
            ("sentences", rows, len(self.segments)),
            ("electrodes", list(manifest.electrodes), list(self.segments.electrodes)),
            ("Hz", manifest.sampling_rate_hz, self.sampling_rate_hz),
        ):
            if found != planned:
                raise shards.damaged_manifest(
                    self.shard_folder,
                    f"{what}: {printable(str(found))} where {printable(str(planned))} were planned",
                )

    def _check_rows(self, dataset: Dataset) -> None:
        """Compare what was loaded with the plan: the sentences, their order and their times."""
        wanted = tuple(self.segments.text)
        places = zip(dataset.stimuli, wanted, strict=True)
        for row, (found, planned) in enumerate(places):
            if found != planned:
                raise UserError(
                    f"{self.shard_folder} holds “{printable(found)}” as sentence {row}, where "
                    f"“{printable(planned)}” was planned. Delete it and run the sweep again."
                )
        same_times = np.array_equal(dataset.spans_s, self.spans_s)
        same_shape = dataset.spectrograms.shape == self.shape
        if dataset.digest != self.digest or not same_times or not same_shape:
            raise UserError(
                f"{self.shard_folder} holds other sentences, times or shapes than planned: "
                f"{dataset.digest}, not {self.digest}. Delete it and run the sweep again."
            )

    def origin(self) -> RecordingOrigin:
        """What the sweep keeps of where the dataset comes from."""
        return RecordingOrigin(
            subject=self.recording.subject,
            title=self.recording.title,
            shards=self.shard_folder.name,
            recording=str(self.source or self.recording.root),
            text=self.text_spec,
        )


def plan_dataset(
    recording: Recording,
    segment_spec: SegmentSpec,
    superlet_spec: AnyFeatureSpec,
    text_spec: TextSpec,
    storage: UPath,
    split: SplitKind = "random",
    source: UPath | None = None,
) -> DatasetPlan:
    """Choose the sentences of a recording, to be split in a certain way; compute nothing yet.

    Raises:
        UserError: Too few sentences are left for a split, or a specification does not fit.
    """
    plan = DatasetPlan(
        recording=recording,
        segments=select_segments(recording, segment_spec),
        segment_spec=segment_spec,
        superlet_spec=superlet_spec,
        text_spec=text_spec,
        storage=storage,
        source=source,
    )
    plan.check_splits(split, seeds=(0,))
    try:
        superlet_spec.check_fits(plan.sampling_rate_hz, plan.segments.n_samples)
    except ValueError as error:
        raise UserError(f"{recording.subject} {recording.trial}: {error}") from error
    return plan


def fetch_recording(source: UPath, subject: str, trial: str) -> Path:
    """The folder of a recording on this machine: itself, or a copy of what belongs to it.

    Raises:
        UserError: The recording can't be read.
    """
    return local_copy(source, partial(of_recording, subject, trial))


@dataclass(frozen=True)
class ShardTask:
    """Everything that a worker needs to make one shard."""

    plan: DatasetPlan

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
        signals = electrode_signals(self._recording(), plan.segments, plan.segment_spec, rows)
        for place, signal in enumerate(signals):
            start = time.perf_counter()
            on_device = torch.from_numpy(signal).to(device)
            result = features(on_device, plan.sampling_rate_hz, plan.superlet_spec, lengths)
            made[:, place] = result.half().cpu().numpy()
            seconds += time.perf_counter() - start
        return made, seconds

    def _recording(self) -> Recording:
        """The recording as this machine has it: fetched, where machines don't share its files."""
        recording, source = self.plan.recording, self.plan.source
        if source is None:
            return recording
        fetched = recording.moved(fetch_recording(source, recording.subject, recording.trial))
        if fetched.digest != recording.digest:
            raise UserError(
                f"the recording in {source} is no longer the one that the sweep began with. Run "
                "the same command again."
            )
        return fetched

    def _find(self, number: int, rows: range) -> Shard | None:
        folder, row_shape = self.plan.shard_folder, self.plan.shape[1:]
        path = folder / shards.shard_name(number)
        return shards.find_shard(path, folder.name, self._sentences(rows), row_shape)

    def _write(self, number: int, rows: range, spectrograms: np.ndarray) -> Shard:
        folder = self.plan.shard_folder
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


def make_shards(plan: DatasetPlan, on_shard: OnShard, *, use_gpus: bool | None = None) -> Work:
    """Compute the spectrograms of a dataset on the running Ray, as far as they are not there.

    Shards are written whole under their final names and the manifest last, so that this may be
    interrupted at any moment, and may run several times at once on the same storage.

    Args:
        plan: Plan of the dataset.
        on_shard: Function that is told of progress.
        use_gpus: Whether to ask for shares of GPUs, also of those that are still to join; None to
            do so where Ray has any by now.

    Raises:
        UserError: The recording can't be read.
    """
    folder = plan.shard_folder
    remove_partial_files(folder)
    if plan.is_made():
        return Work(0.0, 0.0)
    made = _stream_shards(ShardTask(plan), on_shard, use_gpus)
    manifest = Manifest(
        digest=folder.name,
        origin=plan.shard_origin,
        settings={
            "segments": plain(plan.segment_spec),
            "superlets": plain(plan.superlet_spec),
        },
        sources={role: file_digest(path) for role, path in plan.recording.files.items()},
        sampling_rate_hz=plan.sampling_rate_hz,
        electrodes=plan.segments.electrodes,
        dropped=plan.segments.dropped,
        shards=tuple(
            Shard(name=row["name"], rows=row["rows"], sha256=row["sha256"]) for row in made
        ),
        code=feature_code(),
    )
    _save_for_people(plan, manifest)
    manifest.write(folder)
    return Work(sum(row["transform_s"] for row in made), sum(row["worker_s"] for row in made))


def feature_code() -> str:
    """Version of the code between a recording's samples and its spectrograms."""
    return package_digest("signal", "data/recordings", "engine/tasks/precompute.py")


def _save_for_people(plan: DatasetPlan, manifest: Manifest) -> None:
    folder = plan.shard_folder
    write_json(folder / "data_report.json", asdict(plan.report))
    write_whole(folder / DATA_REPORT, plan.report.markdown())
    shards.save_figure(folder, manifest)


def load_dataset(shard_digest: str, text_spec: TextSpec, storage: UPath) -> Dataset:
    """Join the shards of a recording and the embeddings of its sentences.

    Raises:
        UserError: A shard is missing or damaged, or the text weights can't be loaded.
    """
    folder = storage / "shards" / shard_digest
    manifest = shards.manifest_of_origin(folder)
    columns, spectrograms = shards.read_shards(folder)
    sentences = tuple(columns["text"])
    recorded_hz = manifest.origin["recording_rate_hz"]
    return Dataset(
        digest=dataset_digest(shard_digest, sentences, text_spec),
        spectrograms=spectrograms,
        targets=cached_embeddings(sentences, text_spec, storage / "text").numpy(),
        stimuli=sentences,
        spans_s=_spans_s(np.array(columns["start"]), np.array(columns["stop"]), recorded_hz),
        tower=tower_texts(sentences, text_spec.model, storage / "text"),
    )


def _spans_s(start: np.ndarray, stop: np.ndarray, recorded_hz: float) -> np.ndarray:
    """Start and end of segments `[N, 2]` in seconds as they passed, context included."""
    return np.stack([start, stop], axis=1) / recorded_hz


def dataset_digest(shard_digest: str, sentences: Sequence[str], text_spec: TextSpec) -> str:
    """Name a dataset by its shards and by all that its embeddings depend on."""
    return digest(shard_digest, embedding_origin(sentences, text_spec))


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
    missing = len(names.difference(names_in(task.plan.shard_folder)))
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
