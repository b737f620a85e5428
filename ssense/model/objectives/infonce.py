"""InfoNCE between responses and cached image features: the objective of NICE, UBP, NeuroBridge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, get_args

from torch import Tensor, nn

from ssense.choices import FeatureKind
from ssense.data.things.dataset import Batch
from ssense.model.objectives.contrast import Contrastive, symmetric_cross_entropy
from ssense.model.objectives.objective import ObjectiveSpec, require_choice
from ssense.targets.image_features import ImageTower


@dataclass(frozen=True, kw_only=True)
class InfoNCESpec(ObjectiveSpec):
    """One contrastive term between the response and one kind of feature.

    As in NeuroBridge's code: a linear layer on either side, cross-entropy in both directions,
    halved. Norm, scale and what is embedded differ between the peers, hence the fields; the
    defaults are CLIP's, our choice.

    Attributes:
        image: Kind of the features that are trained on.
    """

    kind: ClassVar[str] = "infonce"

    image: FeatureKind = "original"

    def __post_init__(self) -> None:
        """Refuse values that the objective cannot have."""
        super().__post_init__()
        require_choice("image", self.image, get_args(FeatureKind))

    @classmethod
    def neurobridge(cls) -> InfoNCESpec:
        """As NeuroBridge's code runs: only the image normalised, a scale of 2.73 that is fixed."""
        return cls(norm="image", scale="softplus", learnable=False, image="augmented-mean")

    @property
    def features(self) -> tuple[FeatureKind, ...]:
        """The one kind of cached features that a batch holds."""
        return (self.image,)

    def build(
        self,
        encoder: nn.Module,
        *,
        n_brain: int,
        n_features: int,
        n_layers: int | None = None,
        tower: Callable[[], ImageTower],  # noqa: ARG002
    ) -> InfoNCE:
        """Build the objective, see `ObjectiveSpec.build`."""
        return InfoNCE(self, encoder, n_brain=n_brain, n_features=n_features, n_layers=n_layers)


class InfoNCE(Contrastive):
    """The one contrastive term, see `Contrastive`."""

    spec: InfoNCESpec

    def loss(self, batch: Batch) -> Tensor:
        """Symmetric InfoNCE, a scalar."""
        image = self.gallery(batch.features[self.spec.image])
        return symmetric_cross_entropy(self.similarity(self.brain(batch.signals), image))
