"""SSR: contrast anchored in the original image, and masked reconstruction across modalities.

Reimplemented from the paper's description: "Semantic-anchored Cross-modal Reconstruction for
Generalizable Brain Decoding" has no public code, but an abstract, a method figure and tables.

From them: a triple of brain, original and augmented image; three contrastive terms with the
original as the anchor; two reconstructions, of the masked augmented image from the brain and of
the masked brain from the augmented image; retrieval of original images without the reconstructors.

Our reading: the base is NeuroBridge's (its four augmentations, linear projections), both sides
normalised with a learnable scale, one projection for both kinds of image features, what is masked
(of the embeddings before they are normalised), the reconstructors, their loss, and all weights.
Those are fields of the specification.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, smooth_l1_loss

from ssense.choices import FeatureKind
from ssense.data.things.dataset import Batch
from ssense.model.masking import masked_count
from ssense.model.objectives.contrast import (
    Contrastive,
    image_projection,
    symmetric_cross_entropy,
)
from ssense.model.objectives.objective import ObjectiveSpec, require_choice
from ssense.model.objectives.reconstruction import AttentionReconstructor, MLPReconstructor
from ssense.targets.image_features import ImageTower

Reconstruct = Literal["none", "image", "brain", "both"]
Ablation = Literal[
    "InfoNCE on originals",
    "InfoNCE on augmented images",
    "SSR without reconstruction",
    "SSR with R_v alone",
    "SSR with R_e alone",
    "SSR",
]

ABLATIONS: dict[Ablation, dict[str, Any]] = {
    "InfoNCE on originals": {
        "augmented_brain": 0.0,
        "augmented_original": 0.0,
        "reconstruct": "none",
    },
    "InfoNCE on augmented images": {
        "original_brain": 0.0,
        "augmented_original": 0.0,
        "reconstruct": "none",
    },
    "SSR without reconstruction": {"reconstruct": "none"},
    "SSR with R_v alone": {"reconstruct": "image"},
    "SSR with R_e alone": {"reconstruct": "brain"},
    "SSR": {},
}
"""What each row of the ablation changes; each name says all that the row has.

The first trains on what it retrieves; the second, NeuroBridge's pair of brain and augmented image,
retrieves original images too, as galleries don't mix in a table. Then the three contrastive terms;
those and one reconstruction; all.
"""


@dataclass(frozen=True, kw_only=True)
class SSRSpec(ObjectiveSpec):
    """Weights of the terms, and what is masked and reconstructed how.

    Attributes:
        original_brain: Weight of the contrast between brain and original image.
        augmented_brain: Weight of the contrast between brain and augmented image.
        augmented_original: Weight of the contrast between the two kinds of image features.
        reconstruction: Weight of the reconstructions, lambda.
        reconstruct: Which reconstructions are done: the masked image from the brain (R_v), the
            masked brain from the image (R_e), or both.
        mask_ratio: Share of the tokens that are masked, rounded down.
        tokens: Number of chunks of an embedding's values; a chunk is masked as a whole.
        reconstructor: One block of cross-attention over the tokens, or a cheap MLP.
        distance: One minus the cosine of the whole vectors, or smooth L1 on what was masked.
        share_image_projection: Whether original and augmented features pass one projection.
    """

    kind: ClassVar[str] = "ssr"

    original_brain: float = 1.0
    augmented_brain: float = 1.0
    augmented_original: float = 1.0
    reconstruction: float = 0.5
    reconstruct: Reconstruct = "both"
    mask_ratio: float = 0.5
    tokens: int = 16
    reconstructor: Literal["attention", "mlp"] = "attention"
    distance: Literal["cosine", "smooth-l1"] = "cosine"
    share_image_projection: bool = True

    def __post_init__(self) -> None:
        """Refuse values that the objective cannot have."""
        super().__post_init__()
        require_choice("reconstruct", self.reconstruct, get_args(Reconstruct))
        require_choice("reconstructor", self.reconstructor, ("attention", "mlp"))
        require_choice("distance", self.distance, ("cosine", "smooth-l1"))
        weights = ("original_brain", "augmented_brain", "augmented_original", "reconstruction")
        for name in weights:
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if not self.original_brain + self.augmented_brain:
            raise ValueError(
                "original_brain and augmented_brain are 0: no response is paired with its image"
            )
        if self.tokens < 1 or self.embedding % self.tokens:
            raise ValueError(f"tokens must divide embedding {self.embedding}, got {self.tokens}")
        if not 0 < self.mask_ratio < 1 or not masked_count(self.mask_ratio, self.tokens):
            raise ValueError(
                f"mask_ratio must mask at least one of {self.tokens} tokens and not all, got "
                f"{self.mask_ratio}"
            )

    @property
    def features(self) -> tuple[FeatureKind, ...]:
        """The two kinds of image features in the triple."""
        return ("original", "augmented-mean")

    def build(
        self,
        encoder: nn.Module,
        *,
        n_brain: int,
        n_features: int,
        n_layers: int | None = None,
        tower: Callable[[], ImageTower],  # noqa: ARG002
    ) -> SSR:
        """Build the objective, see `ObjectiveSpec.build`."""
        return SSR(self, encoder, n_brain=n_brain, n_features=n_features, n_layers=n_layers)


class SSR(Contrastive):
    """Encoder, projections, scale and the reconstructors that are wanted.

    Parts that every variant has are built first, as in `InfoNCE`: from one seed, all rows of the
    ablation start with the same encoder and projections.

    Args:
        spec: The objective's specification.
        encoder: Encoder that maps signals to `[N, n_brain]`.
        n_brain: Dimensions of the encoder's output.
        n_features: Dimensions of the cached features.
        n_layers: How many layers of the tower they are of, to be mixed; None for one.
    """

    spec: SSRSpec

    def __init__(
        self,
        spec: SSRSpec,
        encoder: nn.Module,
        *,
        n_brain: int,
        n_features: int,
        n_layers: int | None = None,
    ) -> None:
        super().__init__(spec, encoder, n_brain=n_brain, n_features=n_features, n_layers=n_layers)
        self.project_augmented: nn.Linear | None = None
        if not spec.share_image_projection:
            self.project_augmented = image_projection(n_features, n_layers, spec.embedding)
        made = {"attention": AttentionReconstructor, "mlp": MLPReconstructor}[spec.reconstructor]
        self.reconstructors = nn.ModuleDict(
            {
                side: made(spec.embedding, spec.tokens)
                for side in ("image", "brain")
                if spec.reconstruct in (side, "both")
            }
        )

    def loss(self, batch: Batch) -> Tensor:
        """Contrast of the triple plus lambda times the reconstructions, a scalar."""
        brain = self.brain(batch.signals)
        original = self.gallery(batch.features["original"])
        project_augmented = self.project_augmented or self.project_image
        augmented = project_augmented(batch.features["augmented-mean"])
        loss = self.contrast(brain, original, augmented)
        if self.reconstructors:
            loss = loss + self.spec.reconstruction * self.reconstruction(brain, augmented)
        return loss

    def contrast(self, brain: Tensor, original: Tensor, augmented: Tensor) -> Tensor:
        """Weighted sum of the three contrastive terms over embeddings `[N, D]`."""
        terms = (
            (self.spec.original_brain, brain, original),
            (self.spec.augmented_brain, brain, augmented),
            (self.spec.augmented_original, augmented, original),
        )
        losses = [
            weight * symmetric_cross_entropy(self.similarity(one, other))
            for weight, one, other in terms
            if weight
        ]
        return torch.stack(losses).sum()

    def reconstruction(self, brain: Tensor, augmented: Tensor) -> Tensor:
        """Sum of the wanted reconstructions of embeddings `[N, D]`.

        The gradient reaches what is seen, which is the rest of the vector and the other modality,
        and not the masked values: these could win by moving towards what is easily guessed.
        """
        partner = {"image": brain, "brain": augmented}
        target = {"image": augmented, "brain": brain}
        losses = []
        for side, reconstructor in self.reconstructors.items():
            mask = token_mask(len(brain), self.spec.tokens, self.spec.mask_ratio, brain.device)
            found = reconstructor(target[side], mask, partner[side])
            losses.append(self._distance(found, target[side].detach(), mask))
        return torch.stack(losses).sum()

    def _distance(self, found: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        if self.spec.distance == "cosine":
            return 1 - cosine_similarity(found, target, dim=1).mean()
        masked = mask.repeat_interleave(target.shape[1] // mask.shape[1], dim=1)
        # Not an index by the mask: that would wait for the device.
        return (smooth_l1_loss(found, target, reduction="none") * masked).sum() / masked.sum()


def token_mask(n: int, tokens: int, ratio: float, device: torch.device) -> Tensor:
    """Draw which tokens of each of n vectors are masked, `[n, tokens]` bool, as many in each."""
    order = torch.rand(n, tokens, device=device).argsort(dim=1)
    return order < masked_count(ratio, tokens)
