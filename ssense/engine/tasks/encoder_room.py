"""What the encoders of a sweep train, and the memory that a cell of each takes at least."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ssense.cli.screen import gigabytes
from ssense.data.dataset import Pairs
from ssense.engine.core.sweep import Family
from ssense.engine.tasks.dataset_plan import DatasetPlan
from ssense.errors import UserError
from ssense.model.encoders.encoder import Encoder
from ssense.model.encoders.own import OwnSpec
from ssense.specification import configured
from ssense.training.sentences import SentenceSpec

_BYTES_PER_WEIGHT = 16  # a float32, its gradient, and Adam's two means
_MOST_KEPT = 1000  # values that an encoder keeps for its gradient, for each that it is given


@dataclass(frozen=True)
class PlannedEncoder:
    """An encoder of some cells, with random weights, and the dataset that they train it on.

    Attributes:
        specification: What the cells share, their encoder and what else they change of it.
        data: The dataset before it is made.
    """

    specification: SentenceSpec
    data: DatasetPlan

    @property
    def name(self) -> str:
        """What a plan calls it: "attention with coordinates"."""
        encoder = self.specification.encoder
        return f"{encoder.kind}{' with coordinates' if encoder.uses_coordinates else ''}"

    @cached_property
    def initial(self) -> Encoder:
        """The encoder that a training starts from, without memory, unless it is a user's own."""
        return _initial(self.specification, self.data.examples(2, torch.device("cpu")))

    @cached_property
    def weights(self) -> int:
        """Number of its trained weights."""
        return _trained(self.initial)

    def check_memory(self, memory: int, *, activations: bool) -> None:
        """Refuse a cell that a machine's memory can't hold, by what it takes at least.

        Args:
            memory: Bytes of the machine's memory.
            activations: Whether what a batch leaves for its gradient is in it too, not on a GPU.

        Raises:
            UserError: The cell takes more; the message has how much.
        """
        own = _BYTES_PER_WEIGHT * self.weights
        batch = self._kept_bytes(memory) if activations else 0
        if (needed := own + batch + self.data.nbytes) <= memory:
            return
        raise UserError(
            f"encoder {self.name}: a cell takes {gigabytes(needed)} of memory at least, and this "
            f"machine has {gigabytes(memory)}. Its {self.weights:,} weights take "
            f"{gigabytes(own)} in training, what {self._pairs} pairs of a batch leave for their "
            f"gradient {gigabytes(batch)}, the dataset {gigabytes(self.data.nbytes)}. Give a "
            "smaller encoder, coarser features, or a smaller `batch_size`."
        )

    @property
    def _pairs(self) -> int:
        """Pairs of a batch that pass the encoder together."""
        return min(self.specification.training.batch_size, self.specification.training.chunk)

    def _kept_bytes(self, memory: int) -> int:
        """Bytes that the pairs of a batch leave for their gradient; 0 where it can't be many.

        No memory is taken: the encoder passes shapes alone. That takes seconds, the first time.
        """
        _, electrodes, frequencies, frames = self.data.shape
        shape = (self._pairs, electrodes, 1, frequencies, frames)
        x = torch.empty(shape, device="meta")
        if isinstance(self.specification.encoder, OwnSpec) or x.nbytes * _MOST_KEPT < memory:
            return 0
        kept: dict[int, Tensor] = {}

        def keep(tensor: Tensor) -> Tensor:
            kept[id(tensor.untyped_storage())] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            embeddings = self.initial.train().embed(x, torch.float32)
        assert embeddings.requires_grad
        nbytes = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
        return nbytes // 2 if self.specification.training.precision == "bf16" else nbytes


def trained_weights(specification: SentenceSpec, examples: Pairs) -> int:
    """How many weights the encoder of a cell trains on pairs of the shapes of some examples.

    Args:
        specification: Specification of the cell; its initial weights are not needed.
        examples: Two made-up pairs or more.

    Raises:
        UserError: The encoder is a user's own, and can't be made.
    """
    return _trained(_initial(specification.untrained(), examples))


def _trained(encoder: Encoder) -> int:
    return sum(each.numel() for each in encoder.parameters() if each.requires_grad)


def _initial(specification: SentenceSpec, examples: Pairs) -> Encoder:
    """What a training starts from, without memory, unless it is a user's own."""
    if isinstance(specification.encoder, OwnSpec):  # which may read what it draws
        return specification.initial(examples)
    with torch.device("meta"):
        return specification.initial(examples).to("meta")


def planned_encoders(
    specification: SentenceSpec,
    families: Iterable[Family],
    dataset_of: Callable[[SentenceSpec], DatasetPlan],
) -> list[PlannedEncoder]:
    """Every encoder that cells of some families train, on each shape of data, once.

    Args:
        specification: What every cell shares.
        families: Families to compare.
        dataset_of: The dataset of a cell's specification.
    """
    found: dict[object, PlannedEncoder] = {}
    parts = ("encoder", *specification.data_groups)
    for changes in (each for family in families for each in family.parts(parts)):
        spec = configured(specification, changes)
        data, encoder = dataset_of(spec), spec.untrained().encoder
        key = encoder, data.shape[1:], data.target.dimensions(), data.coordinates
        found.setdefault(key, PlannedEncoder(spec.untrained(), data))
    return [*found.values()]


def encoder_lines(encoders: Sequence[PlannedEncoder]) -> list[str]:
    """How many weights each encoder trains, a line each."""
    counts: dict[object, list[PlannedEncoder]] = {}
    for each in encoders:
        counts.setdefault(each.specification.encoder, []).append(each)
    lines = (
        f"  encoder: {same[0].name}, {counted_weights([each.weights for each in same])}"
        for same in counts.values()
    )
    return [*dict.fromkeys(lines)]


def counted_weights(counts: Sequence[int]) -> str:
    """Numbers of weights in words: "1,234 trained weights", or a range where shapes differ."""
    least, most = min(counts), max(counts)
    if least == most:
        return f"{most:,} trained weights"
    return f"{least:,} to {most:,} trained weights, by the data's shape"
