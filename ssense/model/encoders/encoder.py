"""What every encoder is to the training: a module with a precision, and a specification of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from ssense.choices import Precision
from ssense.data.dataset import Pairs
from ssense.errors import UserError

NO_COORDINATES = (
    "an encoder is to be told where the electrodes lie, and the recording has coordinates of none. "
    "Put them into its localization/elec_coords_full.csv, or choose an encoder that needs none."
)


class Encoder(nn.Module, ABC):
    """Maps the spectrograms of a sentence's electrodes to one embedding.

    Args:
        precision: "float32", or "bf16": bfloat16 in products, with weights, normalisation
            statistics and embeddings in float32.
    """

    passes_in_chunks: ClassVar[bool] = True
    """Whether a batch may pass in chunks, each twice: with the same result, and statistics that
    `statistics_kept` can keep."""

    def __init__(self, precision: Precision = "float32") -> None:
        super().__init__()
        self.precision = precision

    def forward(self, x: Tensor) -> Tensor:
        """Embed `[B, E, 1, F, T]` spectrograms of any float type as `[B, D]` float32."""
        with self.products_on(x.device) as dtype:
            return self.embed(x, dtype).float()

    @contextmanager
    def products_on(self, device: torch.device) -> Iterator[torch.dtype]:
        """Compute products in the encoder's precision; yields their type."""
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            yield dtype

    @abstractmethod
    def embed(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Embed spectrograms as `[B, D]`, in a type for products that autocast uses too."""

    def trains_on_one(self, x: Tensor) -> bool:  # noqa: ARG002 - of some it depends on the shape
        """Whether a single one of `[B, E, 1, F, T]` can pass by itself in training."""
        return True

    def norms(self) -> Iterator[nn.BatchNorm2d]:
        """The batch normalisations, which see a chunk at a time."""
        return (module for module in self.modules() if isinstance(module, nn.BatchNorm2d))

    @contextmanager
    def statistics_kept(self) -> Iterator[None]:
        """Leave the running statistics as they are while images pass in training."""
        for norm in self.norms():
            norm.track_running_stats = False
        try:
            yield
        finally:
            for norm in self.norms():
                norm.track_running_stats = True


class EncoderSpec(ABC):
    """The specification of an encoder: a frozen dataclass."""

    kind: ClassVar[str]

    @property
    def fits_at_start(self) -> bool:
        """Whether what training starts from has learned from its pairs."""
        return False

    @property
    def uses_coordinates(self) -> bool:
        """Whether it is told where the electrodes lie; the recording must know, then."""
        return False

    @abstractmethod
    def build(self, train: Pairs, precision: Precision) -> Encoder:
        """The encoder that a training on some pairs starts from, on the CPU.

        Random weights come from torch's global generator.

        Raises:
            UserError: Its weights can't be loaded, or it does not fit the pairs.
        """

    @abstractmethod
    def rebuild(self, state: Mapping[str, Tensor], precision: Precision) -> Encoder:
        """The trained encoder of a state dictionary.

        Raises:
            ValueError: The state is another model's.
        """

    def by_content(self) -> Self:
        """The same specification, with what comes from a file named by its content."""
        return self

    def untrained(self) -> Self:
        """The same specification with random weights, which need no download."""
        return self


def known_coordinates(train: Pairs) -> np.ndarray:
    """Where the electrodes of some pairs lie, `[E, 3]` float32, mm; NaN where that is not known.

    Raises:
        UserError: It is not known of any.
    """
    if train.coordinates is None:
        raise UserError(NO_COORDINATES)
    return train.coordinates.array
