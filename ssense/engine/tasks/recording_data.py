"""All datasets that a sweep over one recording may ask for: planned together, made one by one."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from typing import ClassVar

import numpy as np
import torch
from upath import UPath

from ssense.choices import SplitKind
from ssense.cli.screen import count, say, step
from ssense.data import shards
from ssense.data.coordinates import contacts_digest
from ssense.data.dataset import Dataset, Pairs
from ssense.data.paired import PairedStimuli
from ssense.data.repeats import first_of, repeat_groups
from ssense.data.splits import Split
from ssense.engine.core.cell import Configuration, dataset_choice, describe, is_number
from ssense.engine.core.origin import DatasetOrigin, RecordingOrigin
from ssense.engine.core.sweep import Family
from ssense.engine.tasks.data_plan import first_meeting, say_other_code
from ssense.engine.tasks.data_room import Choice, check_room, choice_lines
from ssense.engine.tasks.dataset_plan import DatasetPlan, plan_dataset, subset_of
from ssense.engine.tasks.encoder_room import PlannedEncoder, encoder_lines, planned_encoders
from ssense.engine.tasks.feature_making import feature_code, make_shards
from ssense.engine.tasks.feature_plan import FeaturePlan
from ssense.errors import UserError, counted, printable
from ssense.files.tensor_file import tensor_code
from ssense.model.encoders.encoder import NO_COORDINATES
from ssense.model.encoders.own import OwnSpec
from ssense.model.encoders.spectrogram_encoder import ResNetSpec, build_encoder
from ssense.specification import configured
from ssense.targets.sentence_embeddings import AnyTargetSpec, embedding_code, embedding_file
from ssense.targets.text import TextSpec
from ssense.training.sentences import SentenceSpec


@dataclass(frozen=True, kw_only=True)
class RecordingData:
    """The datasets of a recording that a sweep may ask for, and the sentences that all have.

    Attributes:
        own: The dataset of the specification itself, by which all are split.
        choices: Datasets by `dataset_choice`; none where all cells share that of the specification.
        n_subjects: A recording is of one subject.
    """

    own: DatasetPlan
    choices: Mapping[str, Choice] = field(default_factory=dict)
    n_subjects: ClassVar[int] = 1

    @property
    def storage(self) -> UPath:
        """Storage of what is made."""
        return self.own.storage

    @property
    def digest(self) -> str:
        """Digest of the dataset of the specification."""
        return self.own.digest

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Sentences, electrodes, frequencies and frames of the specification's own dataset."""
        return self.own.shape

    @cached_property
    def datasets(self) -> dict[str, str]:
        """Digests of the datasets by `dataset_choice`; none where there is but one."""
        return {choice: each.plan.digest for choice, each in self.choices.items()}

    @cached_property
    def _plans(self) -> dict[str, DatasetPlan]:
        """The datasets that cells may be trained on, by digest."""
        if not self.choices:
            return {self.own.digest: self.own}
        return {each.plan.digest: each.plan for each in self.choices.values()}

    @property
    def has_coordinates(self) -> bool:
        """Whether it is known where any electrode of the specification's own dataset lies."""
        return self.own.coordinates is not None

    @property
    def contacts(self) -> str | None:
        """Digest of where the contacts of the recording lie; None where that is not known."""
        known = self.own.features.recording.coordinates
        return contacts_digest(known) if known else None

    def covering(self, specification: SentenceSpec, families: Iterable[Family]) -> RecordingData:
        """Extend the plan by all datasets that the cells of some families may ask for.

        All of them have the same sentences: those that every one keeps, and the specification's
        own.

        Raises:
            UserError: They have no sentence in common, two are the same, a level can't be met by
                the recording, an encoder is to be told where electrodes lie and the recording does
                not know, or an encoder of the user's own does not fit.
        """
        families = tuple(families)
        found = _changes(specification, families)
        covering = RecordingData(own=replace(self.own, paired=None))
        if found.keys() != {dataset_choice(specification)}:
            covering = covering._with(specification, found)
        _check_encoders(specification, families, [*covering._plans.values()])
        return covering

    def _with(
        self, specification: SentenceSpec, found: Mapping[str, Configuration]
    ) -> RecordingData:
        whole: dict[str, Choice] = {}
        for choice, changes in found.items():
            spec = configured(specification, changes)
            if spec.target != specification.target:
                with _told_of(changes):
                    spec.target.check()
                    if not _same_weights(spec.target, specification.target):
                        spec.target.fetch()
            whole[choice] = Choice(changes, self._planned(spec, changes))
        paired = self._paired([each.plan.features for each in whole.values()])
        keeps_all = len(paired) == len(self.own.features.segments)
        own = self.own if keeps_all else replace(self.own, paired=paired)
        itself = dataset_choice(specification)
        data = RecordingData(
            own=own,
            choices={
                choice: Choice(
                    each.changes,
                    own if choice == itself else replace(each.plan, paired=paired),
                )
                for choice, each in whole.items()
            },
        )
        _check_distinct([*data.choices.values()])
        _check_vectors(data.choices.values())
        return data

    def repeated(
        self, specification: SentenceSpec, choices: Mapping[str, Configuration]
    ) -> dict[str, str]:
        """Choices of the data that come to the same as one before them, which has its name.

        Args:
            specification: What every cell shares.
            choices: What each choice changes of it, by name.

        Raises:
            UserError: The recording can't meet a choice.
        """
        known: dict[object, str] = {}
        found: dict[str, str] = {}
        for name, changes in choices.items():
            plan = self._planned(configured(specification, changes), changes)
            first = known.setdefault(plan.content, name)
            if first != name:
                found[name] = first
        return found

    def _planned(self, spec: SentenceSpec, changes: Configuration) -> DatasetPlan:
        own = self.own.features
        with _told_of(changes):
            if replace(spec.data, subset=own.data.subset) == own.data:  # the same segments
                features = replace(own, data=spec.data, recipe=spec.features)
                features.check()
                kept = subset_of(features)
                return DatasetPlan(features=features, target=spec.target, electrodes=kept)
            return plan_dataset(
                own.recording,
                spec.data,
                spec.features,
                spec.target,
                own.storage,
                spec.split,
            )

    def _paired(self, others: Iterable[FeaturePlan]) -> PairedStimuli:
        """The sentences that all datasets keep, with the splits of the specification's own."""
        own = self.own.features
        kept = [features.segments.sentence_idx for features in (own, *others)]
        numbers = reduce(np.intersect1d, kept)
        if not len(numbers):
            raise UserError(
                f"{own.where}: no sentence is kept by all data that the configurations ask for. "
                "Give levels that are less far apart."
            )
        is_kept = np.isin(own.segments.sentence_idx, numbers)
        groups = repeat_groups(own.segments.text, self.own.tower)[is_kept]
        return PairedStimuli(
            own.segments.sentence_idx[is_kept],
            np.unique(first_of(groups.tolist()), return_inverse=True)[1],  # numbered anew
            own.spans_s[is_kept],
        )

    def split(self, kind: SplitKind, seed: int) -> Split:
        """Divide the sentences as every dataset will.

        Raises:
            ValueError: The sentences are too few.
        """
        return self.own.split(kind, seed)

    def n_candidates(self, split: Split) -> int:
        """Sentences of the validation split, of which each query has to find its own."""
        return self.own.n_candidates(split)

    def check_splits(self, kind: SplitKind, seeds: Iterable[int]) -> None:
        """Refuse seeds with too few validation sentences, and parts that are not apart.

        Raises:
            UserError: A seed leaves too few; or parts of a split that keeps them apart in time meet
                in the longer segments of a choice; or those of a split that keeps repeats together
                have sentences that a choice's target can't tell apart.
        """
        seeds = tuple(seeds)
        self.own.check_splits(kind, seeds)
        for choice in self.choices.values():
            if (seed := first_meeting(choice.plan, kind, seeds)) is not None:
                raise UserError(
                    f"{printable(choice.name)}: segments are so long that parts of a {kind} split "
                    f"share samples at seed {seed}. Give less context, or another split."
                )

        if kind == "grouped":
            _check_towers(self.choices.values(), seeds)

    def examples(self, n: int, device: torch.device) -> Pairs:
        """Made-up pairs of the shapes of the largest dataset."""
        return max(self._plans.values(), key=lambda plan: plan.nbytes).examples(n, device)

    def lines(
        self, specification: SentenceSpec, families: Iterable[Family], seeds: Iterable[int]
    ) -> list[str]:
        """What the datasets are, cost and lack, where there are several; what encoders train."""
        lines = encoder_lines(self._encoders(specification, families))
        if not self.choices:
            return lines
        splits = [self.split(specification.split, seed) for seed in seeds]
        return [*choice_lines(self.own, [*self.choices.values()], splits), *lines]

    def _encoders(
        self, specification: SentenceSpec, families: Iterable[Family]
    ) -> list[PlannedEncoder]:
        def dataset_of(spec: SentenceSpec) -> DatasetPlan:
            return self.choices[dataset_choice(spec)].plan if self.choices else self.own

        return planned_encoders(specification, families, dataset_of)

    def check_room(
        self, wanted: Collection[str], shared: int | None, whole: int | None = None
    ) -> None:
        """Refuse datasets that neither disk nor memory has room for, see `data_room`.

        Raises:
            UserError: There is not enough room.
        """
        check_room([self._plans[digest] for digest in wanted], self.storage, shared, whole)

    def check_cells(
        self,
        specification: SentenceSpec,
        families: Iterable[Family],
        memory: int,
        *,
        on_gpu: bool,
    ) -> None:
        """Refuse encoders that a machine's memory can't train, see `PlannedEncoder`.

        Raises:
            UserError: A cell takes more memory.
        """
        for each in self._encoders(specification, families):
            each.check_memory(memory, activations=not on_gpu)

    def warm(self, specification: SentenceSpec, families: Iterable[Family] = ()) -> None:
        """Get the initial weights of all encoders, and embed the sentences by every target.

        Raises:
            UserError: Weights can't be loaded or don't fit.
        """
        encoder = specification.encoder
        starts = {encoder.weights} if isinstance(encoder, ResNetSpec) else set()
        for family in families:
            starts.update(map(str, family.levels.get("encoder.weights", ())))
        for weights in sorted(starts - {"random"}):
            build_encoder(weights, dimensions=1)  # of a head that is thrown away
        for plan in {(plan.target, plan.stimuli): plan for plan in self._plans.values()}.values():
            with step(f"Text embeddings: {plan.target.name}"):
                plan.embed()
            named = plan.stimuli, plan.target, self.storage / "text", plan.numbers
            kept = embedding_file(*named)
            say_other_code({kept: tensor_code(kept)}, embedding_code())

    def is_made(self, wanted: Collection[str]) -> bool:
        """Whether nothing is left to make of some datasets, by digest."""
        return all(self._plans[each].is_made() for each in wanted)

    def make(self, wanted: Collection[str], *, use_gpus: bool | None = None) -> None:
        """Compute the features of some datasets, by digest, on the running Ray.

        Raises:
            UserError: The recording can't be read, or the storage can't be written to.
        """
        plans = [self._plans[digest] for digest in wanted]
        for plan in plans:
            if plan.paired is not None:
                plan.paired.write(self.storage)
        # Datasets that differ in their targets alone share their features.
        names = {each.plan.digest: f" of {each.name}" for each in self.choices.values()}
        for plan in {plan.features.folder: plan for plan in plans}.values():
            _make_features(plan, names.get(plan.digest, ""), use_gpus)

    def load(self, digest: str) -> Dataset:
        """One of the datasets, by its digest.

        Raises:
            UserError: It can't be read, or the shards are not those that were planned.
        """
        return self._plans[digest].load()

    def origin(self) -> RecordingOrigin:
        """What the sweep keeps of where its datasets come from."""
        features, source = self.own.features, self.own.features.recording.source
        return RecordingOrigin(
            subject=features.recording.subject,
            title=features.recording.title,
            shards=features.folder.name,
            recording=source.place if source else str(features.recording.root),
            source=source,
            text=self.own.target,
            paired=self.own.paired.digest if self.own.paired else "",
            electrodes=self.own.electrodes,
            datasets=tuple(
                DatasetOrigin(
                    digest=each.plan.digest,
                    changes=each.changes,
                    shards=each.plan.features.folder.name,
                    text=each.plan.target,
                    paired=each.plan.paired.digest if each.plan.paired else "",
                    electrodes=each.plan.electrodes,
                )
                for each in self.choices.values()
            ),
        )


def tells_coordinates(specification: SentenceSpec, families: Iterable[Family]) -> bool:
    """Whether a cell of some families has an encoder that is told where the electrodes lie."""
    return any(
        configured(specification, changes).encoder.uses_coordinates
        for family in families
        for changes in family.parts(("encoder",))
    )


def _changes(specification: SentenceSpec, families: Iterable[Family]) -> dict[str, Configuration]:
    """What the configurations of families change of the data, by `dataset_choice`."""
    found: dict[str, Configuration] = {}
    for family in families:
        for changes in family.parts(specification.data_groups):
            choice = dataset_choice(configured(specification, changes))
            if choice not in found or len(changes) < len(found[choice]):
                found[choice] = changes
    return found


def _same_weights(one: AnyTargetSpec, other: AnyTargetSpec) -> bool:
    """Whether two targets are one text tower, read at any layer."""
    if not (isinstance(one, TextSpec) and isinstance(other, TextSpec)):
        return False
    return replace(one, layer=None) == replace(other, layer=None)


@contextmanager
def _told_of(changes: Configuration) -> Iterator[None]:
    """Say of a refusal which levels it is of."""
    try:
        yield
    except UserError as error:
        # Flags don't have the value: a family does.
        why = re.sub(r"\b([Ss]et) `[a-z]+\.weights`", r"\1 that level", str(error))
        raise UserError(f"{printable(describe(changes), 150)}: {why}") from error


def _check_vectors(choices: Iterable[Choice]) -> None:
    """Refuse targets without a vector for a sentence, which no tokeniser would tell of.

    Raises:
        UserError: A sentence has no vector, or one that can't be used.
    """
    for choice in choices:
        if not choice.plan.target.tokeniser:
            with _told_of(choice.changes):
                choice.plan.tower  # noqa: B018 - it reads them all


def _check_encoders(
    specification: SentenceSpec, families: Iterable[Family], plans: Collection[DatasetPlan]
) -> None:
    """Refuse encoders that the data don't fit, and one of the user's own that is named in vain."""
    frames = max(plan.shape[-1] for plan in plans)
    for family in families:
        _check_starts(specification, family)
        for windows in family.levels.get("encoder.windows", ()):
            if is_number(windows) and windows > frames:
                raise UserError(
                    f"family {printable(family.name)}: encoder.windows can't be {windows}: the "
                    f"features have {counted(frames, 'frame')}. Give {frames} at most."
                )
        if OwnSpec.kind in family.levels.get("encoder", ()) and (
            not isinstance(specification.encoder, OwnSpec)
        ):
            raise UserError(
                f"family {printable(family.name)} has an encoder of your own, but `encoder` "
                "names no file. Give FILE.py:CLASS."
            )
        if tells_coordinates(specification, [family]):
            for plan in plans:
                if plan.coordinates is None:
                    where = f"family {printable(family.name)} on {plan.features.where}"
                    raise UserError(f"{where}: {NO_COORDINATES}")
    if isinstance(specification.encoder, OwnSpec):
        for plan in {(plan.shape, plan.target.dimensions()): plan for plan in plans}.values():
            specification.encoder.build(plan.examples(2, torch.device("cpu")), "float32")


def _check_starts(specification: SentenceSpec, family: Family) -> None:
    """Refuse initial weights of a family that can't be loaded, but for those of a flag."""
    encoder = specification.encoder
    given = encoder.weights if isinstance(encoder, ResNetSpec) else "random"
    for weights in family.levels.get("encoder.weights", ()):
        if weights not in ("random", given):
            with _told_of({"encoder.weights": weights}):
                build_encoder(str(weights), dimensions=1)  # of a head that is thrown away


def _check_distinct(choices: list[Choice]) -> None:
    """Refuse two choices that come to the same dataset: their comparison would be with itself."""
    known: dict[object, Choice] = {}
    for choice in choices:
        other = known.setdefault(choice.plan.content, choice)
        if other is not choice:
            raise UserError(
                f"{printable(other.name)} and {printable(choice.name)} are the same dataset: no "
                "sentence, electrode, sample or target differs. Leave one out."
            )


def _check_towers(choices: Iterable[Choice], seeds: Iterable[int]) -> None:
    """Refuse a target to which sentences of different parts are one.

    Parts keep those together that the target of the specification can't tell apart.
    """
    readers = {c.plan.target.tokeniser or c.plan.target: c.plan for c in choices}
    for plan in readers.values():
        groups = repeat_groups(plan.stimuli, plan.tower)
        for seed in seeds:
            split = plan.split("grouped", seed)
            parts = [{*groups[rows].tolist()} for rows in vars(split).values()]
            if sum(map(len, parts)) > len(set().union(*parts)):
                raise UserError(
                    f"{printable(plan.target.name)} can't tell sentences apart that a grouped "
                    f"split puts into different parts at seed {seed}. Leave this target out, or "
                    "sweep it alone."
                )


def _make_features(plan: DatasetPlan, name: str, use_gpus: bool | None) -> None:
    sentences, electrodes, frequencies, frames = plan.features.shape
    size = f"{sentences} sentences x {electrodes} electrodes, {frequencies} x {frames}"
    folder = plan.features.folder
    if (made := shards.find_manifest(folder)) is not None:
        say(f"Spectrograms{name}: {size}, there already")
        say_other_code({folder: made.code}, feature_code())
        return
    with step(f"Spectrograms{name}: {size}"):
        work = make_shards(plan.features, plan.report, on_shard=count("shards"), use_gpus=use_gpus)
        if work.transform_s:
            share = work.transform_s / work.worker_s
            say(f"  {share:.0%} of the workers' time in the transform")
