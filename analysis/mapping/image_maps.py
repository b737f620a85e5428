"""The maps of image decoding: which channels and moments of the responses a score is made of.

What is hidden is filled, with the mean over the responses that the cell was trained on or with
zeros, and the trained encoder embeds the responses to the test images again. All seeds share the
test images, which are the units of the tests.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from analysis.mapping.effects import EffectMap, Resampling, effect_maps
from analysis.mapping.family_maps import Asked, FamilyMaps, checked_map
from analysis.mapping.parts import Axes, Part, channel_parts, window_parts
from analysis.mapping.seed_map import NO_PAIRINGS, Pairings, SeedMap, map_of, pairings_of
from analysis.measure.evaluation import cell_model, check_split, splits_of
from analysis.options import Fill, MapKind
from ssense.data.things.dataset import ImageDataset, ImagePairs
from ssense.data.things.responses import ResponseSpec
from ssense.engine.core.cell import Configuration
from ssense.engine.core.record import Record
from ssense.engine.records.ledger import Ledger
from ssense.engine.search.search import Search
from ssense.errors import UserError
from ssense.model.objectives.objective import Objective
from ssense.precision import full_precision
from ssense.retrieval import metric_values
from ssense.specification import configured
from ssense.training.images import ImageSpec
from ssense.training.loop import initial_model
from ssense.training.process import any_device

METRICS = (ImageSpec.primary, "mrr")
"""Metrics that maps are of, the primary one first."""
_TIMED_PARTS = 8


def response_axes(dataset: ImageDataset, taken: ResponseSpec) -> Axes:
    """The axes of responses `[C, T]`: channels, and seconds after the image's onset."""
    n_samples = dataset.things.test.shape[-1]
    times_s = taken.start_s + np.arange(n_samples) * (taken.stop_s - taken.start_s) / n_samples
    return Axes(electrodes=dataset.things.channels, rows=(), times_s=times_s)


def response_parts(kinds: Sequence[MapKind], axes: Axes, windows: int) -> list[Part]:
    """Channels left out and alone, and windows of time, of the maps that are asked for.

    Raises:
        UserError: Only maps of frequencies are asked for, which responses have none of.
    """
    parts = channel_parts(axes.electrodes) if "electrodes" in kinds else []
    parts += window_parts(axes, windows) if "times" in kinds else []
    if not parts:
        raise UserError(
            f"--maps {' '.join(kinds)}: responses to images have no bands of frequency. Ask for "
            "electrodes, which are their channels, or times."
        )
    return parts


def response_filling(train: ImagePairs, fill: Fill) -> Tensor:
    """What hidden samples are filled with, `[C, T]` float32: the training mean, or zeros."""
    total = torch.zeros(train.signals.shape[1:], dtype=torch.float64, device=train.device)
    if fill == "mean":
        for rows in train.rows.split(1024):
            total += train.signals[rows].double().sum(dim=0)
    return (total / len(train)).float()


class ResponseOccluder:
    """Embeds the responses to test images from which parts are hidden.

    Args:
        model: The trained objective, whose encoder embeds responses; left in evaluation mode.
        test: The responses to the test images.
        filling: What hidden samples are filled with, `[C, T]`.
        batch_size: Responses of a pass.
    """

    def __init__(
        self, model: Objective, test: ImagePairs, filling: Tensor, batch_size: int
    ) -> None:
        self._model, self._test, self._filling = model.eval(), test, filling
        self._batch_size = batch_size

    def intact(self, part: Part) -> Tensor:  # noqa: ARG002 - all parts are hidden alike
        """Embed everything, `[N, D]`."""
        return self._embed(torch.zeros_like(self._filling, dtype=torch.bool))

    def without(self, part: Part) -> Tensor:
        """Embed the responses `[N, D]` by what is left without a part, or by it alone."""
        hidden = torch.zeros_like(self._filling, dtype=torch.bool)
        if part.kept is not None:
            hidden[:] = True
            hidden[list(part.kept)] = False
        if part.frames is not None:
            first, last = part.frames
            hidden[:, first : last + 1] = True
        return self._embed(hidden)

    @torch.inference_mode()
    def _embed(self, hidden: Tensor) -> Tensor:
        with full_precision(self._test.device.type):
            return torch.cat(
                [
                    self._model.brain(torch.where(hidden, self._filling, self._test.signals[rows]))
                    for rows in self._test.rows.split(self._batch_size)
                ]
            )


class ImageMapper:
    """Makes the maps of a configuration of image decoding, one seed after another.

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
        dataset: ImageDataset,
        asked: Asked,
    ) -> None:
        specification = configured(search.sweep.specification, configuration)
        assert isinstance(specification, ImageSpec)
        self._ledger, self._asked, self._configuration = ledger, asked, configuration
        self.specification = specification
        self.records = search.done(configuration)
        self.splits = splits_of(dataset, search.sweep, configuration)
        self._responses = dataset.on(any_device())

    def seconds(self) -> float:
        """How long all seeds will take here, from a few parts that are timed."""
        record = self.records[0]
        model, pairings = self._untrained(record), self._pairings(record)
        parts = self._asked.parts[:_TIMED_PARTS]
        taken = []
        for some in (parts[:1], parts[:1], parts):  # the first time, libraries are loaded
            start = time.monotonic()
            self._map(record, model, some, pairings)
            taken.append(time.monotonic() - start)
        _, once, several = taken
        of_part = max(0.0, several - once) / max(1, len(parts) - 1)
        n_maps = len(self.records) + self._checks
        return n_maps * (once + of_part * len(self._asked.parts))

    def run(self, family: str, on_seed: Callable[[int, int], object]) -> FamilyMaps:
        """Make the maps.

        Args:
            family: Name of the configuration's family.
            on_seed: Called with how many seeds are done, and of how many.

        Raises:
            UserError: An encoder can't be read, or was trained on another split.
        """
        trained, untrained, parts = [], [], self._asked.parts
        for done, record in enumerate(self.records, 1):
            pairings = self._pairings(record)
            trained.append(self._map(record, self._trained(record), parts, pairings))
            if done <= self._checks:
                untrained.append(self._map(record, self._untrained(record), parts))
            on_seed(done, len(self.records))
        n_train = round(np.mean([len(split.train) for split in self.splits.values()]))
        sizes = Resampling(
            n_train=n_train, n_test=trained[0].intact.shape[1], blocks=ImageSpec.test_blocks
        )
        primary, *others = (effect_maps(trained, metric, sizes) for metric in METRICS)
        random = effect_maps(untrained, METRICS[0], sizes)
        permuted = np.mean([each.permuted for each in trained], axis=0)
        return FamilyMaps(
            family=family,
            configuration=self._configuration,
            seeds=[record.seed for record in self.records],
            intact=np.array([metric_values(METRICS[0], e.intact[0]).mean() for e in trained]),
            maps=[
                checked_map(real, at_random, None, rest, permuted[:, self._places(real)])
                for real, at_random, *rest in zip(primary, random, *others, strict=True)
            ],
        )

    @property
    def _checks(self) -> int:
        return min(self._asked.check_seeds, len(self.records))

    def _places(self, found: EffectMap) -> list[int]:
        return [at for at, part in enumerate(self._asked.parts) if part.what == found.what]

    def _map(
        self,
        record: Record,
        model: Objective,
        parts: Sequence[Part],
        pairings: Pairings = NO_PAIRINGS,
    ) -> SeedMap:
        train, test = self._halves(record)
        filling = response_filling(train, self._asked.fill)
        batch_size = self.specification.training.batch_size
        occluder = ResponseOccluder(model, test, filling, batch_size)
        found = self.specification.embed(model, test)
        candidates = found.candidates[found.truth]  # each query's own, in the queries' order
        return map_of(record.seed, occluder, parts, candidates, METRICS[0], pairings)

    def _halves(self, record: Record) -> tuple[ImagePairs, ImagePairs]:
        """The responses that a cell was trained on, and those to the test images."""
        split = self.splits[record.seed]
        return self._responses.select(split.train), self._responses.select(split.test)

    def _trained(self, record: Record) -> Objective:
        check_split(self._ledger, record, self.splits[record.seed])
        _, test = self._halves(record)
        return cell_model(
            self._ledger, record, lambda state: self.specification.rebuild(state, test)
        )

    def _untrained(self, record: Record) -> Objective:
        """The same objective around an encoder with random weights, drawn from the seed."""
        train, _ = self._halves(record)
        return initial_model(self.specification, train, record.seed)

    def _pairings(self, record: Record) -> Pairings:
        """Permutations of the test images, the same at all seeds, which share them."""
        n = len(self.splits[record.seed].test)
        return Pairings(anywhere=pairings_of(n, self._asked.permutations, 0))
