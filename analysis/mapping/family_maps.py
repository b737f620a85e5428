"""The maps of a family's chosen configuration: over its seeds, with their checks and their cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
import torch

from analysis.mapping.checks import (
    Checked,
    check_noise,
    check_permuted,
    check_similar,
    check_untrained,
    label,
)
from analysis.mapping.effects import EffectMap, Resampling, effect_maps
from analysis.mapping.occlusion import Occluder, filling_of
from analysis.mapping.parts import Part
from analysis.mapping.prepared import Agreement, agreement, batches, prepared
from analysis.mapping.seed_map import (
    NO_PAIRINGS,
    Pairings,
    Ranked,
    SeedMap,
    map_of,
    of_similar_duration,
    pairings_of,
)
from analysis.measure.evaluation import cell_model, check_split, splits_of
from analysis.options import Fill, MapPrecision
from ssense.choices import Precision
from ssense.data.dataset import Dataset, Pairs
from ssense.data.splits import Split
from ssense.engine.core.cell import Configuration
from ssense.engine.core.record import Record
from ssense.engine.records.ledger import Ledger
from ssense.engine.search.search import Search
from ssense.errors import counted
from ssense.model.encoders.encoder import Encoder
from ssense.model.encoders.spectrogram_encoder import ResNetSpec
from ssense.retrieval import metric_values
from ssense.specification import configured
from ssense.training.loop import initial_model
from ssense.training.process import any_device, fast_precision
from ssense.training.sentences import SentenceSpec

METRICS = (SentenceSpec.primary, "mrr")
"""Metrics that maps are of, the primary one first."""
FEWER_SENTENCES = 24
"""Test sentences of a seed that windows and bands are hidden from, where each takes a pass of
ResNet-18 over all electrodes."""
_TIMED_PASSES = 4
_QUERIES = 7  # its own stream of random numbers


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What maps are asked for.

    Attributes:
        parts: The parts.
        fill: What hidden values are filled with.
        permutations: Permutations of the pairing at each seed.
        sentences: Test sentences of each seed that windows and bands are hidden from; 0 for all,
            None for all or, of encoders with ResNet-18, for `FEWER_SENTENCES`.
        check_seeds: Seeds at which other encoders are mapped too, to check the map by.
        precision: Precision of ResNet-18; "auto" for the faster one that retrieves the same.
        spoken_s: Spoken duration of each sentence of the dataset `[N]`, seconds; None where it is
            not known.
    """

    parts: Sequence[Part]
    fill: Fill = "mean"
    permutations: int = 1000
    sentences: int | None = None
    check_seeds: int = 3
    precision: MapPrecision = "auto"
    spoken_s: np.ndarray | None = None


class NoiseControl(NamedTuple):
    """The Gaussian-noise control of a configuration: its cells, and what they were trained on."""

    search: Search
    dataset: Dataset


@dataclass(frozen=True, kw_only=True, eq=False)
class CheckedMap:
    """A map with its checks.

    Attributes:
        primary: Effects on the primary metric.
        others: Effects on the other metrics.
        untrained: Effects on the primary metric of encoders with random weights, at the first
            seeds.
        checks: What the sanity checks say.
        noise: Effects on the primary metric of the Gaussian-noise control's encoders, likewise;
            None where it was not trained.
    """

    primary: EffectMap
    others: Sequence[EffectMap]
    untrained: EffectMap
    checks: Sequence[Checked]
    noise: EffectMap | None = None

    @property
    def contradicted(self) -> bool:
        """Whether a check says that the map is not of what was learned."""
        return any(check.contradicts for check in self.checks)

    @property
    def label(self) -> str:
        """What the map is called in tables."""
        return label(self.primary, self.checks)


@dataclass(frozen=True, kw_only=True, eq=False)
class FamilyMaps:
    """The maps of one family.

    Attributes:
        family, configuration: What was mapped.
        seeds: Seeds of the encoders.
        intact: The primary metric with everything, `[J]`.
        maps: A map for each kind of part.
        notes: How they were computed, a sentence each.
    """

    family: str
    configuration: Configuration
    seeds: Sequence[int]
    intact: np.ndarray
    maps: Sequence[CheckedMap]
    notes: Sequence[str] = ()


class Mapper:
    """Makes the maps of a configuration, one seed after another.

    Args:
        ledger: The sweep's ledger, which has the encoders.
        search: The sweep's search.
        configuration: The configuration.
        dataset: Its dataset.
        asked: What maps are asked for.
        noise: The Gaussian-noise control of the configuration; None where it was not trained.
    """

    def __init__(
        self,
        ledger: Ledger,
        search: Search,
        configuration: Configuration,
        dataset: Dataset,
        asked: Asked,
        noise: NoiseControl | None = None,
    ) -> None:
        specification = configured(search.sweep.specification, configuration)
        assert isinstance(specification, SentenceSpec)  # maps are of sentences alone
        self._ledger, self._asked, self._configuration = ledger, asked, configuration
        self.specification = specification
        self.records = search.done(configuration)
        self.splits: Mapping[int, Split] = splits_of(dataset, search.sweep, configuration)
        self._pairs = dataset.on(any_device())
        self._noise = noise and Mapper(ledger, noise.search, configuration, noise.dataset, asked)

    @property
    def _has_resnet(self) -> bool:
        return isinstance(self.specification.encoder, ResNetSpec)

    @property
    def _groups(self) -> list[list[Part]]:
        """Parts that leave electrodes out, which all test sentences have, and parts that hide."""
        left_out = [part for part in self._asked.parts if part.kept is not None]
        hidden = [part for part in self._asked.parts if part.kept is None]
        return [group for group in (left_out, hidden) if group]

    @property
    def _checks(self) -> int:
        """Number of seeds at which other encoders are mapped."""
        return min(self._asked.check_seeds, len(self.records))

    def resampling(self, parts: Sequence[Part]) -> Resampling:
        """What tests over the seeds must know of the splits, for some parts of one group."""
        sizes = [self.specification.resampled_sizes(split) for split in self.splits.values()]
        n_train, n_test = np.mean(sizes, axis=0)
        queries = [self._queries(split, parts, 0) for split in self.splits.values()]
        share = np.mean(
            [len(q) / len(s.test) for q, s in zip(queries, self.splits.values(), strict=True)]
        )
        blocks = self.specification.test_blocks if self.specification.shares_test else None
        return Resampling(n_train=round(n_train), n_test=round(n_test * share), blocks=blocks)

    @cached_property
    def _agreement(self) -> Agreement | None:
        """How far bf16 retrieves what float32 does; None where that is not asked."""
        is_faster = fast_precision(1 if self._pairs.device.type == "cuda" else 0) == "bf16"
        trained_so = self.specification.training.precision == "bf16"
        if self._asked.precision != "auto" or not (self._has_resnet and is_faster) or trained_so:
            return None
        record = self.records[0]
        validation = self._pairs.select(self.splits[record.seed].validation)
        return agreement(self._trained(record), validation)

    @cached_property
    def precision(self) -> Precision:
        """Precision of ResNet-18's products."""
        if self._asked.precision != "auto":
            return self._asked.precision
        if self._agreement is not None:
            return "bf16" if self._agreement.within_bound else "float32"
        return self.specification.training.precision

    def seconds(self) -> dict[str, float]:
        """How long all seeds will take here, by kind of part, from batches that are timed.

        Electrodes, shafts and regions share what is embedded once, and count as electrodes.
        """
        split, record = next(iter(self.splits.values())), self.records[0]
        encoder = self._prepared(self._untrained(record))
        test = self._pairs.select(split.test)
        size = min(_TIMED_PASSES * len(batches(test, encoder)[0]), len(test))
        batch = test.select(np.arange(size))
        occluder = Occluder(encoder, batch, filling_of(batch, "zero"))
        targets, own = _targets(test), np.arange(len(test))
        ranking = sum(
            _timed(partial(Ranked, targets, targets, METRICS[0], own, at))
            for at in (self._pairings(split, 0), NO_PAIRINGS)
        )
        n_maps = len(self.records) + self._checks * (2 if self._noise else 1)
        found: dict[str, float] = {}
        for what in dict.fromkeys(part.what for part in self._asked.parts):
            parts = [part for part in self._asked.parts if part.what == what]
            kind = what if parts[0].kept is None else "electrodes"
            once = _timed(partial(occluder.without, parts[0]))  # embeds electrodes, the first time
            again = _timed(partial(occluder.without, parts[-1]))
            n = len(self._queries(split, parts, record.seed))
            of_seed = (once + again * len(parts)) * n / size + ranking * len(parts) * n / len(test)
            found[kind] = found.get(kind, 0.0) + n_maps * of_seed
        return found

    def run(self, family: str, on_seed: Callable[[int, int], object]) -> FamilyMaps:
        """Make the maps.

        Args:
            family: Name of the configuration's family.
            on_seed: Called with how many seeds are done, and of how many.

        Raises:
            UserError: An encoder can't be read, or was trained on another split.
        """
        trained, untrained, noise = [], [], []
        for done, record in enumerate(self.records, 1):
            pairings = self._pairings(self.splits[record.seed], record.seed)
            trained.append(self._maps(record, self._trained(record), pairings))
            if done <= self._checks:
                untrained.append(self._maps(record, self._untrained(record)))
                noise += (
                    [self._noise.of_record(self._noise.records[done - 1])] if self._noise else []
                )
            on_seed(done, len(self.records))
        return FamilyMaps(
            family=family,
            configuration=self._configuration,
            seeds=[record.seed for record in self.records],
            intact=np.array(
                [metric_values(METRICS[0], each[0].intact[0]).mean() for each in trained]
            ),
            maps=[
                checked
                for number in range(len(self._groups))
                for checked in self._checked(
                    *([each[number] for each in maps] for maps in (trained, untrained, noise))
                )
            ],
            notes=self._notes(),
        )

    def of_record(self, record: Record) -> list[SeedMap]:
        """The maps of one seed's trained encoder, without permuted pairings, by group."""
        return self._maps(record, self._trained(record))

    def _checked(
        self, trained: Sequence[SeedMap], untrained: Sequence[SeedMap], noise: Sequence[SeedMap]
    ) -> list[CheckedMap]:
        """The maps of one group, a kind each, with their checks."""
        sizes = self.resampling(trained[0].parts)
        primary, *others = (effect_maps(trained, metric, sizes) for metric in METRICS)
        of_untrained = effect_maps(untrained, METRICS[0], sizes)
        of_noise = effect_maps(noise, METRICS[0], sizes) if noise else [None] * len(primary)
        permuted = np.mean([each.permuted for each in trained], axis=0)
        return [
            checked_map(real, random, at_noise, rest, permuted[:, _places(real, trained[0].parts)])
            for real, random, at_noise, *rest in zip(
                primary, of_untrained, of_noise, *others, strict=True
            )
        ]

    def _maps(
        self, record: Record, encoder: Encoder, pairings: Pairings = NO_PAIRINGS
    ) -> list[SeedMap]:
        """The maps of an encoder at one seed, by group."""
        split = self.splits[record.seed]
        train, test = self._pairs.select(split.train), self._pairs.select(split.test)
        encoder, candidates, found = self._prepared(encoder), _targets(test), []
        for parts in self._groups:
            queries = self._queries(split, parts, record.seed)
            # What electrodes that pass by themselves are filled with is never asked.
            is_filled = parts[0].kept is None or not self._has_resnet
            filling = filling_of(train, self._asked.fill if is_filled else "zero")
            occluder = Occluder(encoder, test.select(queries), filling)
            about = record.seed, occluder, parts, candidates, METRICS[0], pairings, queries
            found.append(map_of(*about))
        return found

    def _trained(self, record: Record) -> Encoder:
        """The encoder of a cell, which was trained on the split of its seed."""
        split = self.splits[record.seed]
        check_split(self._ledger, record, split)
        test = self._pairs.select(split.test)
        return cell_model(
            self._ledger, record, lambda state: self.specification.rebuild(state, test)
        )

    def _untrained(self, record: Record) -> Encoder:
        """An encoder of the same architecture with random weights, drawn from the seed."""
        train = self._pairs.select(self.splits[record.seed].train)
        return initial_model(self.specification.untrained(), train, record.seed)

    def _prepared(self, encoder: Encoder) -> Encoder:
        return prepared(encoder, self.precision)

    def _pairings(self, split: Split, seed: int) -> Pairings:
        """Permutations of a test split; where all seeds share it, the same for all, in blocks."""
        shared = self.specification.shares_test
        blocks = self.specification.test_blocks if shared else 0
        n, spoken_s = len(split.test), self._asked.spoken_s
        return Pairings(
            anywhere=pairings_of(n, self._asked.permutations, 0 if shared else seed, blocks),
            similar=None if spoken_s is None else of_similar_duration(spoken_s[split.test]),
        )

    def _queries(self, split: Split, parts: Sequence[Part], seed: int) -> np.ndarray:
        """Places `[Q]` in a test split of the sentences that some parts are taken from."""
        n, wanted = len(split.test), self._asked.sentences
        if wanted is None:
            wanted = FEWER_SENTENCES if self._has_resnet else 0
        if parts[0].kept is not None or not wanted or wanted >= n:
            return np.arange(n)
        drawn = np.random.default_rng([_QUERIES, 0 if self.specification.shares_test else seed])
        return np.sort(drawn.permutation(n)[:wanted])

    def _notes(self) -> list[str]:
        """In which arithmetic, of how many sentences and against how many other encoders."""
        notes = []
        if self._agreement is not None:
            notes.append(
                f"ResNet-18 ran in {self.precision}, though it was trained in float32: "
                f"{self._agreement.words}."
            )
        elif self._has_resnet and self.precision != self.specification.training.precision:
            notes.append(f"ResNet-18 ran in {self.precision}, as asked for.")
        split = next(iter(self.splits.values()))
        hidden = [part for part in self._asked.parts if part.kept is None]
        if hidden and (n := len(self._queries(split, hidden, 0))) < len(split.test):
            notes.append(
                f"Windows and bands were hidden from {n} of the {len(split.test)} test sentences "
                "of each seed, drawn by the seed, among all of them as candidates; their tests and "
                "intervals are of so many."
            )
        if self._checks < len(self.records):
            notes.append(
                f"Untrained encoders{' and those of noise' if self._noise else ''} were mapped at "
                f"the first {counted(self._checks, 'seed')}."
            )
        return notes


def checked_map(
    real: EffectMap,
    untrained: EffectMap,
    noise: EffectMap | None,
    others: Sequence[EffectMap],
    permuted: np.ndarray,
) -> CheckedMap:
    """Put a map together with its sanity checks.

    Args:
        real: Effects on the primary metric.
        untrained: Those of encoders with random weights.
        noise: Those of the Gaussian-noise control's encoders; None where there are none.
        others: Effects on the other metrics.
        permuted: Effects `[P, K]` by permutation of the pairing, mean over the seeds.
    """
    checks = [check_untrained(real, untrained)]
    if len(permuted):
        checks.append(check_permuted(real, permuted))
    if real.similar is not None:
        checks.append(check_similar(real))
    if noise is not None:
        checks.append(check_noise(real, noise))
    return CheckedMap(primary=real, others=others, untrained=untrained, checks=checks, noise=noise)


def _places(found: EffectMap, parts: Sequence[Part]) -> list[int]:
    """The places of a map's parts among all parts."""
    return [place for place, part in enumerate(parts) if part.what == found.what]


def _targets(test: Pairs) -> torch.Tensor:
    _, targets = test.batch(torch.arange(len(test), device=test.device))
    return targets


def _timed(work: Callable[[], object]) -> float:
    """Seconds that some work takes."""
    start = time.monotonic()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.monotonic() - start
