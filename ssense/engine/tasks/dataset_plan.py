"""One dataset of sentences: planned before it is made, and loaded once it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch.nn.functional import normalize
from upath import UPath

from ssense.choices import SplitKind
from ssense.data import shards
from ssense.data.coordinates import Coordinates
from ssense.data.dataset import Dataset, Pairs
from ssense.data.paired import PairedStimuli
from ssense.data.recordings.data_report import DataReport, data_report
from ssense.data.recordings.recording import Recording
from ssense.data.recordings.resampled import at_rate
from ssense.data.recordings.segments import SegmentSpec, electrodes_of, remedy, select_segments
from ssense.data.repeats import TowerTexts, repeat_groups
from ssense.data.splits import Split, split_sentences
from ssense.engine.tasks.data_plan import first_poor_split
from ssense.engine.tasks.feature_plan import FeaturePlan, spans_s
from ssense.errors import UserError, counted, printable
from ssense.files.digest import digest
from ssense.signal.features import AnyFeatureSpec
from ssense.signal.frames import clipped_samples
from ssense.targets.sentence_embeddings import (
    AnyTargetSpec,
    cached_embeddings,
    embedding_origin,
    tower_texts,
)
from ssense.training.loop import SELECTION_RANK


@dataclass(frozen=True, kw_only=True)
class DatasetPlan:
    """What a dataset will be, known before anything of it is computed.

    Attributes:
        features: The features of its sentences.
        target: What embeds them.
        paired: The sentences that all datasets of a sweep have; None where this is the only one,
            and has all that its features are of.
        electrodes: Names of its electrodes, where they are not all that its features are of.
    """

    features: FeaturePlan
    target: AnyTargetSpec
    paired: PairedStimuli | None = None
    electrodes: tuple[str, ...] = ()

    @property
    def storage(self) -> UPath:
        """Storage of what is made."""
        return self.features.storage

    @property
    def _texts(self) -> UPath:
        return self.storage / "text"

    def is_made(self) -> bool:
        """Whether nothing is left to make of features and sentences."""
        is_kept = self.paired is None or self.paired.is_kept(self.storage)
        return is_kept and self.features.is_made()

    @cached_property
    def rows(self) -> np.ndarray:
        """The rows of the features that the dataset has, int64 [N]."""
        found = self.features.segments.sentence_idx
        return np.arange(len(found)) if self.paired is None else self.paired.rows_in(found)

    @cached_property
    def stimuli(self) -> tuple[str, ...]:
        """The N sentences."""
        return tuple(self.features.segments.text[row] for row in self.rows.tolist())

    @cached_property
    def numbers(self) -> list[int]:
        """Numbers of the N sentences in the recording."""
        found: list[int] = self.features.segments.sentence_idx[self.rows].tolist()
        return found

    @cached_property
    def digest(self) -> str:
        """The dataset's digest."""
        paired, name = self.paired.digest if self.paired else "", self.features.folder.name
        stimuli = self.stimuli, self.numbers
        return dataset_digest(name, *stimuli, self.target, paired, self.electrodes)

    @cached_property
    def content(self) -> tuple[object, ...]:
        """What tells it from datasets that hold something else, whatever was asked for."""
        return self.features.content(self.rows), self.target.by_content(), self.electrodes

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Sentences, electrodes, frequencies and frames."""
        _, n_electrodes, n_frequencies, n_frames = self.features.shape
        return len(self.rows), len(self.electrodes) or n_electrodes, n_frequencies, n_frames

    @cached_property
    def coordinates(self) -> Coordinates | None:
        """Where the electrodes lie; None where that is not known of any."""
        everywhere = self.features.coordinates
        if everywhere is None or not self.electrodes:
            return everywhere
        names = self.features.segments.electrodes
        return everywhere.select([names.index(name) for name in self.electrodes])

    @property
    def spans_s(self) -> np.ndarray:
        """Start and end of each segment's signal, `[N, 2]`, context included, seconds."""
        found: np.ndarray = self.features.spans_s[self.rows]
        return found

    @property
    def nbytes(self) -> int:
        """Bytes of the dataset in memory, all but some thousands for each sentence."""
        return 2 * int(np.prod(self.shape, dtype=np.int64))

    @cached_property
    def tower(self) -> TowerTexts:
        """The sentences as the target reads them."""
        # A plan writes nothing: the sweep may be refused yet.
        return tower_texts(self.stimuli, self.target, self._texts, self.numbers, keep=False)

    def split(self, kind: SplitKind, seed: int) -> Split:
        """Divide the sentences as the dataset will.

        Raises:
            ValueError: The sentences are too few.
        """
        if self.paired is not None:
            return self.paired.split(kind, seed)
        tower = self.tower if kind == "grouped" else None  # others do not need groups
        return split_sentences(
            kind, seed, repeat_groups(self.stimuli, tower), self.features.spans_s
        )

    def n_candidates(self, split: Split) -> int:
        """Sentences of the validation split, of which each query has to find its own."""
        return len(split.validation)

    def check_splits(self, kind: SplitKind, seeds: Iterable[int]) -> None:
        """Refuse seeds with too few validation sentences to choose by.

        Raises:
            UserError: A seed leaves too few; the message has their number.
        """
        reasons = self.features.segments.dropped
        dropped = ", ".join(f"{why}: {n}" for why, n in reasons.items()) or "none"
        advice = "Give a longer recording"
        if sum(reasons.values()) > len(self.rows):
            advice += f", or {remedy(reasons)}"
        if poor := first_poor_split(self, kind, seeds):
            seed, n_candidates = poor
            raise UserError(
                f"{self.features.where}: "
                f"{counted(len(self.rows), 'sentence is', 'sentences are')} too few "
                f"for a {kind} split (left out: {dropped}): Recall@{SELECTION_RANK} among "
                f"{counted(n_candidates, 'validation sentence')}, at seed {seed}, is not "
                f"informative. {advice}."
            )

    def examples(self, n: int, device: torch.device) -> Pairs:
        """Random spectrograms of the dataset's shape and random embeddings, n pairs."""
        return _random_pairs(n, self.shape[1:], self.target, self.coordinates, device)

    @cached_property
    def report(self) -> DataReport:
        """What will be trained on, and what to beware of."""
        features, everything = self.features, self
        if len(self.rows) < len(features.segments):  # the features are also those of other sweeps
            everything = DatasetPlan(features=features, target=self.target)
        return data_report(features.recording, features.segments, features.data, everything.tower)

    def embed(self) -> None:
        """Embed the sentences, if their embeddings are not there.

        Raises:
            UserError: The target can't be loaded, or has no embedding of a sentence.
        """
        cached_embeddings(self.stimuli, self.target, self._texts, self.numbers)
        tower_texts(self.stimuli, self.target, self._texts, self.numbers)

    def load(self) -> Dataset:
        """The dataset, see `load_dataset`.

        Raises:
            UserError: It can't be read, or the shards are not those that were planned.
        """
        self._keep_what_was_not_noted(self._checked_manifest())
        name, storage = self.features.folder.name, self.storage
        dataset = load_dataset(name, self.target, storage, self.paired, self.electrodes)
        self._check_rows(dataset)
        return dataset

    def _checked_manifest(self) -> shards.Manifest:
        """Compare what the manifest says with the plan, before gigabytes are read."""
        folder, segments = self.features.folder, self.features.segments
        manifest = shards.manifest_of_origin(folder)
        rows = sum(shard.rows for shard in manifest.shards)
        for what, found, planned in (
            ("sentences", rows, len(segments)),
            ("electrodes", list(manifest.electrodes), list(segments.electrodes)),
            ("Hz", manifest.sampling_rate_hz, self.features.sampling_rate_hz),
        ):
            if found != planned:
                raise shards.damaged_manifest(
                    folder,
                    f"{what}: {printable(str(found))} where {printable(str(planned))} were planned",
                )
        return manifest

    def _keep_what_was_not_noted(self, manifest: shards.Manifest) -> None:
        """Write where the electrodes lie, by coordinates and regions, and what they are made of.

        The shards stay as they are, also where the recording says otherwise by now.
        """
        known = replace(
            manifest,
            coordinates=self.features.coordinates,
            derivations=self.features.segments.derivations,
            space=self.features.recording.space,
            regions=self.features.regions,
        )
        if known != manifest:
            known.write(self.features.folder)

    def _check_rows(self, dataset: Dataset) -> None:
        """Compare what was loaded with the plan: the sentences, their order and their times."""
        folder = self.features.folder
        places = zip(dataset.stimuli, self.stimuli, strict=True)
        for row, (found, planned) in enumerate(places):
            if found != planned:
                raise UserError(
                    f"{folder} holds “{printable(found)}” as sentence {row}, where "
                    f"“{printable(planned)}” was planned. Delete it and run the sweep again."
                )
        same_times = np.array_equal(dataset.spans_s, self.spans_s)
        same_shape = dataset.spectrograms.shape == self.shape
        if dataset.digest != self.digest or not same_times or not same_shape:
            raise UserError(
                f"{folder} holds other sentences, times or shapes than planned: "
                f"{dataset.digest}, not {self.digest}. Delete it and run the sweep again."
            )


def plan_dataset(
    recording: Recording,
    data: SegmentSpec,
    recipe: AnyFeatureSpec,
    target: AnyTargetSpec,
    storage: UPath,
    split: SplitKind = "random",
) -> DatasetPlan:
    """Choose the sentences of a recording, to be split in a certain way; compute nothing yet.

    Args:
        recording: The recording.
        data: How its sentences become segments.
        recipe: What a segment becomes.
        target: What embeds the sentences.
        storage: Storage of what will be made.
        split: How a seed will divide the sentences.

    Raises:
        UserError: Too few sentences are left for a split, or a specification does not fit.
    """
    at_its_rate = at_rate(recording, data.resample_hz)
    features = FeaturePlan(
        recording=at_its_rate,
        segments=select_segments(at_its_rate, data, clipped_samples(recipe)),
        data=data,
        recipe=recipe,
        storage=storage,
    )
    plan = DatasetPlan(features=features, target=target, electrodes=subset_of(features))
    plan.check_splits(split, seeds=(0,))
    features.check()
    return plan


def subset_of(features: FeaturePlan) -> tuple[str, ...]:
    """Names of the electrodes of a subset; none where it is of all that the features have.

    Raises:
        UserError: The subset names an electrode that there is not.
    """
    names = features.segments.electrodes
    try:
        found = electrodes_of(features.data.subset, names)
    except ValueError as error:
        raise UserError(f"{features.where}: {error}.") from error
    return () if found == names else found


def load_dataset(
    folder_name: str,
    target: AnyTargetSpec,
    storage: UPath,
    paired: PairedStimuli | None = None,
    electrodes: tuple[str, ...] = (),
    *,
    with_features: bool = True,
) -> Dataset:
    """Join the shards of a recording and the embeddings of its sentences.

    Args:
        folder_name: Folder of the shards, below the storage's.
        target: What embeds the sentences.
        storage: The storage that has both.
        paired: The sentences to take, and how they are divided; None for all of the shards'.
        electrodes: Names of the electrodes to take; none for all of the shards'.
        with_features: Whether to read the features too; without them their array is `[N, 0, 0, 0]`,
            and the checksums of shards are not compared.

    Raises:
        UserError: A shard is missing or damaged, has not all of the sentences or electrodes, or the
            target can't be loaded.
    """
    folder = storage / "shards" / folder_name
    manifest = shards.manifest_of_origin(folder)
    if with_features:
        columns, spectrograms = shards.read_shards(folder)
    else:
        columns = shards.read_sentences(folder)
        spectrograms = np.empty((len(columns["text"]), 0, 0, 0), np.float16)
    coordinates = manifest.coordinates
    sentences, numbers = tuple(columns["text"]), np.array(columns["sentence_idx"])
    start, stop = np.array(columns["start"]), np.array(columns["stop"])
    if paired is not None:
        rows = rows_of(paired, numbers, folder)
        start, stop, numbers = start[rows], stop[rows], numbers[rows]
        sentences = tuple(sentences[row] for row in rows.tolist())
        if len(rows) < len(spectrograms) or (rows != np.arange(len(rows))).any():
            spectrograms = spectrograms[rows]
    if electrodes:
        taken = _columns_of(electrodes, manifest.electrodes, folder)
        spectrograms = spectrograms[:, taken] if with_features else spectrograms
        coordinates = coordinates.select(taken) if coordinates else None
    of_paired = paired.digest if paired else ""
    stimuli, texts = (sentences, numbers.tolist()), storage / "text"
    return Dataset(
        digest=dataset_digest(folder_name, *stimuli, target, of_paired, electrodes),
        spectrograms=spectrograms,
        targets=cached_embeddings(sentences, target, texts, numbers.tolist()).numpy(),
        stimuli=sentences,
        spans_s=spans_s(start, stop, manifest.origin["recording_rate_hz"]),
        tower=tower_texts(sentences, target, texts, numbers.tolist()),
        paired=paired,
        coordinates=coordinates,
    )


def made_up_pairs(folder: UPath, target: AnyTargetSpec, electrodes: tuple[str, ...] = ()) -> Pairs:
    """Two random pairs of the shapes of a dataset that was made; its features are not read.

    Args:
        folder: Folder of the shards.
        target: What embeds the sentences.
        electrodes: Names of the electrodes to take; none for all of the shards'.

    Raises:
        UserError: A shard is missing or damaged, or the target can't be loaded.
    """
    manifest = shards.read_manifest(folder)
    coordinates, shape = manifest.coordinates, shards.row_shape(folder)
    if electrodes:
        taken = _columns_of(electrodes, manifest.electrodes, folder)
        shape = (len(taken), *shape[1:])
        coordinates = coordinates.select(taken) if coordinates else None
    return _random_pairs(2, shape, target, coordinates, torch.device("cpu"))


def _random_pairs(
    n: int,
    shape: tuple[int, ...],
    target: AnyTargetSpec,
    coordinates: Coordinates | None,
    device: torch.device,
) -> Pairs:
    spectrograms = torch.rand(n, *shape, dtype=torch.float16, device=device)
    targets = normalize(torch.randn(n, target.dimensions(), device=device))
    return Pairs(spectrograms, targets, coordinates=coordinates)


def rows_of(paired: PairedStimuli, numbers: np.ndarray, folder: UPath) -> np.ndarray:
    """The rows `[N]` of shards that hold the stimuli of a sweep.

    Args:
        paired: The stimuli.
        numbers: Number of the sentence of each row.
        folder: Folder of the shards, for messages.

    Raises:
        UserError: The shards lack one.
    """
    try:
        return paired.rows_in(numbers)
    except ValueError as error:
        raise UserError(
            f"{folder} lacks sentences of the sweep: {error}. Delete it and run the sweep again."
        ) from error


def _columns_of(electrodes: tuple[str, ...], names: Sequence[str], folder: UPath) -> list[int]:
    if missing := [name for name in electrodes if name not in names]:
        raise UserError(
            f"{folder} lacks electrode {printable(missing[0])} of the sweep. Delete it and run the "
            "sweep again."
        )
    return [names.index(name) for name in electrodes]


def dataset_digest(
    folder_name: str,
    sentences: tuple[str, ...],
    numbers: Sequence[int],
    target: AnyTargetSpec,
    paired: str = "",
    electrodes: tuple[str, ...] = (),
) -> str:
    """Name a dataset by its shards and by all that its embeddings and splits depend on.

    Args:
        folder_name: Folder of the shards, which is the digest of their origin.
        sentences: The sentences of the dataset.
        numbers: Their numbers in the recording.
        target: What embeds them.
        paired: Digest of the stimuli that it shares with others of a sweep; empty where it is the
            only one.
        electrodes: Names of its electrodes, where they are not all of the shards'.
    """
    more = [*([paired] if paired else []), *([list(electrodes)] if electrodes else [])]
    return digest(folder_name, embedding_origin(sentences, target, numbers), *more)
