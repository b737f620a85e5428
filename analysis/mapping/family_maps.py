"""The maps of a family's chosen configuration: over its seeds, with their checks and their cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from analysis.mapping.checks import Checked, check_permuted, check_untrained, label
from analysis.mapping.effects import EffectMap, Resampling, effect_maps
from analysis.mapping.occlusion import Occluder, filling_of
from analysis.mapping.parts import Part
from analysis.mapping.seed_map import Ranked, SeedMap, map_of, pairings_of
from analysis.measure.evaluation import cell_model, check_split, splits_of
from analysis.options import Fill
from ssense.data.dataset import Dataset, Pairs
from ssense.data.splits import Split
from ssense.engine.core.cell import Configuration
from ssense.engine.core.record import Record
from ssense.engine.records.ledger import Ledger
from ssense.engine.search.search import Search
from ssense.model.encoders.encoder import Encoder
from ssense.retrieval import metric_values
from ssense.specification import configured
from ssense.training.loop import initial_model
from ssense.training.process import any_device
from ssense.training.sentences import SPECTROGRAMS_PER_PASS, SentenceSpec

METRICS = (SentenceSpec.primary, "mrr")
"""Metrics that maps are of, the primary one first."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What maps are asked for.

    Attributes:
        parts: The parts.
        fill: What hidden values are filled with.
        permutations: Permutations of the pairing at each seed.
    """

    parts: Sequence[Part]
    fill: Fill = "mean"
    permutations: int = 1000


@dataclass(frozen=True, kw_only=True, eq=False)
class CheckedMap:
    """A map with its checks.

    Attributes:
        primary: Effects on the primary metric.
        others: Effects on the other metrics.
        untrained: Effects on the primary metric of encoders with random weights.
        checks: What the sanity checks say.
    """

    primary: EffectMap
    others: Sequence[EffectMap]
    untrained: EffectMap
    checks: Sequence[Checked]

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
    """

    family: str
    configuration: Configuration
    seeds: Sequence[int]
    intact: np.ndarray
    maps: Sequence[CheckedMap]


class Mapper:
    """Makes the maps of a configuration, one seed after another.

    Args:
        ledger: The sweep's ledger, which has the encoders.
        search: The sweep's search.
        configuration: The configuration.
        dataset: Its dataset.
        asked: What maps are asked for.
    """

    def __init__(
        self,
        ledger: Ledger,
        search: Search,
        configuration: Configuration,
        dataset: Dataset,
        asked: Asked,
    ) -> None:
        specification = configured(search.sweep.specification, configuration)
        assert isinstance(specification, SentenceSpec)  # maps are of sentences alone
        self._ledger, self._asked, self._configuration = ledger, asked, configuration
        self.specification = specification
        self.records = search.done(configuration)
        self.splits: Mapping[int, Split] = splits_of(dataset, search.sweep, configuration)
        self._pairs = dataset.on(any_device())

    @property
    def resampling(self) -> Resampling:
        """What tests over the seeds must know of the splits."""
        sizes = [self.specification.resampled_sizes(split) for split in self.splits.values()]
        n_train, n_test = np.mean(sizes, axis=0).round().astype(int).tolist()
        blocks = self.specification.test_blocks if self.specification.shares_test else None
        return Resampling(n_train=n_train, n_test=n_test, blocks=blocks)

    def seconds(self) -> dict[str, float]:
        """How long all seeds will take here, by kind of part, from a batch that is timed.

        Electrodes, shafts and regions share what is embedded once, and count as electrodes.
        """
        split = next(iter(self.splits.values()))
        test = self._pairs.select(split.test)
        size = max(1, SPECTROGRAMS_PER_PASS // test.spectrograms.shape[1])
        batch = test.select(np.arange(min(size, len(test))))
        encoder = self._untrained(self._pairs.select(split.train), self.records[0].seed)
        occluder = Occluder(encoder, batch, filling_of(batch, "zero"), self.specification)
        targets, pairings = _targets(test), self._pairings(split, 0)
        ranking = sum(
            _timed(partial(Ranked, targets, targets, METRICS[0], at))
            for at in (pairings, pairings[:0])
        )
        found: dict[str, float] = {}
        for what in dict.fromkeys(part.what for part in self._asked.parts):
            parts = [part for part in self._asked.parts if part.what == what]
            kind = what if parts[0].kept is None else "electrodes"
            once = _timed(
                partial(occluder.without, parts[0])
            )  # embeds each electrode, the first time
            again = _timed(partial(occluder.without, parts[-1]))
            of_batch = once + again * len(parts)
            of_seed = 2 * of_batch * len(test) / len(batch) + ranking * len(parts)
            found[kind] = found.get(kind, 0.0) + len(self.records) * of_seed
        return found

    def run(self, family: str, on_seed: Callable[[int, int], object]) -> FamilyMaps:
        """Make the maps.

        Args:
            family: Name of the configuration's family.
            on_seed: Called with how many seeds are done, and of how many.

        Raises:
            UserError: An encoder can't be read, or was trained on another split.
        """
        trained, untrained = [], []
        for done, record in enumerate(self.records, 1):
            real, random = self._seed(record)
            trained.append(real)
            untrained.append(random)
            on_seed(done, len(self.records))
        sizes = self.resampling
        primary, *others = (effect_maps(trained, metric, sizes) for metric in METRICS)
        of_untrained = effect_maps(untrained, METRICS[0], sizes)
        permuted = np.mean([each.permuted for each in trained], axis=0)
        return FamilyMaps(
            family=family,
            configuration=self._configuration,
            seeds=[record.seed for record in self.records],
            intact=np.array([metric_values(METRICS[0], each.intact[0]).mean() for each in trained]),
            maps=[
                _checked(real, random, rest, permuted[:, _places(real, self._asked.parts)])
                for real, random, *rest in zip(primary, of_untrained, *others, strict=True)
            ],
        )

    def _seed(self, record: Record) -> tuple[SeedMap, SeedMap]:
        """The maps of one seed's encoder and of an untrained one."""
        split = self.splits[record.seed]
        check_split(self._ledger, record, split)
        train, test = self._pairs.select(split.train), self._pairs.select(split.test)
        encoder = cell_model(
            self._ledger, record, lambda state: self.specification.rebuild(state, test)
        )
        filling = filling_of(train, self._asked.fill)
        pairings = self._pairings(split, record.seed)
        return (
            self._map(record.seed, encoder, test, filling, pairings),
            self._map(
                record.seed, self._untrained(train, record.seed), test, filling, pairings[:0]
            ),
        )

    def _map(
        self,
        seed: int,
        encoder: Encoder,
        test: Pairs,
        filling: torch.Tensor,
        pairings: np.ndarray,
    ) -> SeedMap:
        occluder = Occluder(encoder, test, filling, self.specification)
        return map_of(seed, occluder, self._asked.parts, _targets(test), METRICS[0], pairings)

    def _untrained(self, train: Pairs, seed: int) -> Encoder:
        """An encoder of the same architecture with random weights, drawn from the seed."""
        return initial_model(self.specification.untrained(), train, seed)

    def _pairings(self, split: Split, seed: int) -> np.ndarray:
        """Permutations of a test split; where all seeds share it, the same for all, in blocks."""
        shared = self.specification.shares_test
        blocks = self.specification.test_blocks if shared else 0
        n = len(split.test)
        return pairings_of(n, self._asked.permutations, 0 if shared else seed, blocks)


def _checked(
    real: EffectMap, untrained: EffectMap, others: Sequence[EffectMap], permuted: np.ndarray
) -> CheckedMap:
    checks = [check_untrained(real, untrained)]
    if len(permuted):
        checks.append(check_permuted(real, permuted))
    return CheckedMap(primary=real, others=others, untrained=untrained, checks=checks)


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
