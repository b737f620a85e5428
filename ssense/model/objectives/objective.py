"""What every objective of image decoding has in common: its batch, its fields, its interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

from torch import Tensor, nn

from ssense.choices import FeatureKind
from ssense.data.things.dataset import Batch
from ssense.targets.image_features import ImageTower

Norm = Literal["both", "image"]
"""Sides that are scaled to unit norm before their product: both, or, as NeuroBridge, the image's.
"""

Scale = Literal["exp", "softplus", "raw"]
"""How the scale is made of its parameter p = ln(1 / temperature): exp(p) as in CLIP (14.29 at
0.07), ln(1 + exp(p)) as in NeuroBridge and UBP (2.73), or p itself as in ATM (2.66).
"""


@dataclass(frozen=True, kw_only=True)
class ObjectiveSpec(ABC):
    """Fields that every objective has; the peers differ in the first four.

    Attributes:
        norm: The sides, brain or image, that are normalised.
        scale: How similarities are scaled.
        learnable: Whether the scale is trained.
        temperature: One over the initial scale, where the scale is an exponential.
        embedding: Dimensions that brain and image are both projected to, and compared in: a width
            of the objective's own, as NeuroBridge has it, whatever the size of the target.
    """

    kind: ClassVar[str]

    norm: Norm = "both"
    scale: Scale = "exp"
    learnable: bool = True
    temperature: float = 0.07
    embedding: int = 512

    def __post_init__(self) -> None:
        """Refuse values that no objective can have."""
        for name, choices in (("norm", Norm), ("scale", Scale)):
            require_choice(name, getattr(self, name), get_args(choices))
        if not 0 < self.temperature < 1:  # beyond, the scale would be 0 or negative where raw
            raise ValueError(f"temperature must be in (0, 1), got {self.temperature}")
        if self.embedding < 1:
            raise ValueError(f"embedding must be at least 1, got {self.embedding}")

    @property
    @abstractmethod
    def features(self) -> tuple[FeatureKind, ...]:
        """Kinds of cached features that a batch has to hold."""

    pixels: ClassVar[bool] = False
    """Whether a batch has to hold the images, because their features change in training."""

    @abstractmethod
    def build(
        self,
        encoder: nn.Module,
        *,
        n_brain: int,
        n_features: int,
        n_layers: int | None = None,
        tower: Callable[[], ImageTower],
    ) -> Objective:
        """Build the objective around an encoder; new weights come from torch's global generator.

        Args:
            encoder: Encoder that maps signals `[N, C, T]` to `[N, n_brain]`; trained with the
                objective.
            n_brain: Dimensions of the encoder's output.
            n_features: Dimensions of the cached features.
            n_layers: How many layers of the tower they are of, to be mixed; None for one.
            tower: Function that makes the frozen tower of the cached features, on the CPU; called
                only where the images are in the loop.

        Raises:
            UserError: Tower and specification don't fit together.
        """


class Objective(nn.Module, ABC):
    """A brain encoder with all that is trained along with it.

    Dropout and masks draw from torch's global generator of the device: seeded alike, two trainings
    are the same to the bit.

    Attributes:
        frozen: Names of the submodules that are not trained; state dictionaries leave them out.
    """

    frozen: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        super().__init__()
        # torch leaves these two untyped.
        self.register_state_dict_post_hook(_leave_out_frozen)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_post_hook(_expect_no_frozen)  # type: ignore[no-untyped-call]

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """Loss of a training batch, a scalar."""

    @abstractmethod
    def brain(self, signals: Tensor) -> Tensor:
        """Embed signals `[N, C, T]` as `[N, D]`; retrieval compares by cosine."""

    @abstractmethod
    def gallery(self, images: Tensor) -> Tensor:
        """Embed candidates as `[M, D]`.

        Args:
            images: Cached features `[M, F]` of any one kind, or uint8 pixels `[M, 3, S, S]` where
                the objective has the images in the loop.
        """

    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that are trained, by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}


def require_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse a value that is not one of the choices.

    Raises:
        ValueError: The value is not one of the choices, which the message names.
    """
    if value not in choices:
        raise ValueError(f"{name} must be {' or '.join(choices)}, got {value}")


def _leave_out_frozen(
    objective: Objective, state: dict[str, Tensor], prefix: str, _: dict[str, Any]
) -> None:
    frozen = tuple(f"{prefix}{name}." for name in objective.frozen)
    for name in [name for name in state if name.startswith(frozen)]:
        del state[name]


def _expect_no_frozen(objective: Objective, keys: Any) -> None:
    missing = [n for n in keys.missing_keys if n.partition(".")[0] not in objective.frozen]
    keys.missing_keys[:] = missing
