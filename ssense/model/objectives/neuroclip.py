"""NeuroCLIP: prompts trained inside a frozen CLIP image tower along with the brain encoder.

Reimplemented from the paper's description: of "NeuroCLIP" (arXiv 2511.09250) the abstract and
short summaries were at hand, no equation and no code.

From them: two streams of patch embeddings by dynamic filtering, fused token by token to prompts of
the instance; prompt tokens of the modality inside the Transformer; a contrastive loss that allows
for images that mean the same; a frozen backbone.

Our reading: the form of all of these (see `image_prompts` and `softened_targets`), how many
prompts and where, and that the images of a gallery pass the trained prompts, which no response
enters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ssense.choices import FeatureKind
from ssense.data.things.dataset import Batch
from ssense.errors import UserError, counted
from ssense.model.objectives.contrast import (
    Similarity,
    softened_targets,
    symmetric_cross_entropy,
)
from ssense.model.objectives.image_prompts import DynamicFilter, Fusion, PromptTokens
from ssense.model.objectives.objective import Objective, ObjectiveSpec
from ssense.targets.image_features import ImageTower

if TYPE_CHECKING:
    from open_clip.transformer import VisionTransformer

IMAGES_PER_PASS = 64
"""Images whose activations are kept at a time: 6 GB of a ViT-B-16's, by arithmetic."""


@dataclass(frozen=True, kw_only=True)
class NeuroCLIPSpec(ObjectiveSpec):
    """How many prompts, where, and how soft the loss is.

    Attributes:
        prompts: Number of prompt tokens M in a layer.
        depth: Number of layers, from the first, with tokens of their own; None stands for all.
        softening: Share of an image's match that goes to the images like it; with 0 the loss is
            InfoNCE.
        softening_temperature: Temperature of the softmax over how alike images are.
        project: Whether a trained linear layer to `embedding` dimensions follows the tower; without
            it, embeddings have the tower's dimensions.
    """

    kind: ClassVar[str] = "neuroclip"

    prompts: int = 8
    depth: int | None = None
    softening: float = 0.2
    softening_temperature: float = 0.05
    project: bool = False

    pixels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Refuse values that the objective cannot have."""
        super().__post_init__()
        if self.prompts < 0:
            raise ValueError(f"prompts must not be negative, got {self.prompts}")
        if self.depth is not None and self.depth < 1:
            raise ValueError(f"depth must be at least 1, got {self.depth}")
        if not 0 <= self.softening < 1:
            raise ValueError(f"softening must be in [0, 1), got {self.softening}")
        if self.softening_temperature <= 0:
            raise ValueError(
                f"softening_temperature must be positive, got {self.softening_temperature}"
            )

    @property
    def features(self) -> tuple[FeatureKind, ...]:
        """Features of the untouched tower, which say how alike images are."""
        return ("original",) if self.softening else ()

    def build(
        self,
        encoder: nn.Module,
        *,
        n_brain: int,
        n_features: int,  # noqa: ARG002
        n_layers: int | None = None,  # noqa: ARG002
        tower: Callable[[], ImageTower],
    ) -> NeuroCLIP:
        """Build the objective, see `ObjectiveSpec.build`."""
        return NeuroCLIP(self, encoder, n_brain=n_brain, tower=tower())


class NeuroCLIP(Objective):
    """Encoder, projection, and a frozen tower with trained filter, fusion and prompts.

    Args:
        spec: The objective's specification.
        encoder: Encoder that maps signals to `[N, n_brain]`.
        n_brain: Dimensions of the encoder's output.
        tower: A ViT of open_clip's that reads its class token.

    Raises:
        UserError: The tower is of another kind, or has fewer layers than are to have prompts.
    """

    frozen: ClassVar[tuple[str, ...]] = ("tower",)

    def __init__(
        self, spec: NeuroCLIPSpec, encoder: nn.Module, *, n_brain: int, tower: ImageTower
    ) -> None:
        super().__init__()
        _require_vit(tower.visual)
        visual = tower.visual
        n_layers, width = len(visual.transformer.resblocks), visual.transformer.width
        if spec.depth is not None and spec.depth > n_layers:
            raise UserError(
                f"depth {spec.depth} exceeds the {counted(n_layers, 'layer')} of the image tower. "
                "Lower it."
            )
        self.spec = spec
        self.tower = tower
        self.encoder = encoder
        n_embedding = spec.embedding if spec.project else visual.output_dim
        self.project_brain = nn.Linear(n_brain, n_embedding)
        self.project_image: nn.Module = nn.Identity()
        if spec.project:
            self.project_image = nn.Linear(visual.output_dim, n_embedding)
        self.similarity = Similarity(spec)
        self.filter = DynamicFilter()
        self.fusion = Fusion(width)
        patch_px = visual.patch_size[0] * visual.patch_size[1]
        self.prompts = PromptTokens(spec.prompts, spec.depth or n_layers, width, patch_px)

    def loss(self, batch: Batch) -> Tensor:
        """Softened InfoNCE in both directions, a scalar.

        Raises:
            ValueError: The batch has no pixels.
        """
        if batch.pixels is None:
            raise ValueError("NeuroCLIP has the images in the loop: a batch needs their pixels")
        logits = self.similarity(self.brain(batch.signals), self._images(batch.pixels))
        if not self.spec.softening:
            return symmetric_cross_entropy(logits)
        alike = batch.features["original"]
        targets = softened_targets(alike, self.spec.softening, self.spec.softening_temperature)
        return symmetric_cross_entropy(logits, targets)

    def _images(self, pixels: Tensor) -> Tensor:
        """Embed a batch's images, with the activations of a few at a time in memory.

        The images pass the tower again on the way back, with the same dropout, so the gradient is
        that of one pass.
        """
        parts = pixels.split(IMAGES_PER_PASS)
        if len(parts) == 1:
            return self.gallery(pixels)
        return torch.cat([checkpoint(self.gallery, part, use_reentrant=False) for part in parts])

    def brain(self, signals: Tensor) -> Tensor:
        """Embed signals `[N, C, T]` as `[N, D]`."""
        embeddings: Tensor = self.project_brain(self.encoder(signals))
        return embeddings

    def gallery(self, images: Tensor) -> Tensor:
        """Embed uint8 pixels `[M, 3, S, S]` as `[M, D]`, through filter, fusion and prompts."""
        visual, images = self.tower.visual, self.tower.normalised(images)
        patches = self.fusion(_patches(visual, images), _patches(visual, self.filter(images)))
        x = torch.cat([visual.class_embedding.expand(len(images), 1, -1), patches], dim=1)
        x = visual.ln_pre(x + visual.positional_embedding)
        for layer, block in enumerate(visual.transformer.resblocks):
            x = block(self.prompts.before(layer, x))
        embeddings: Tensor = self.project_image(visual.ln_post(x)[:, 0] @ visual.proj)
        return embeddings


def _patches(visual: VisionTransformer, images: Tensor) -> Tensor:
    """Embed the patches of normalised images, `[M, N, D]`, without their positions."""
    patches: Tensor = visual.conv1(images)
    return patches.flatten(2).transpose(1, 2)


def _require_vit(visual: nn.Module) -> None:
    from open_clip.transformer import VisionTransformer

    fits = isinstance(visual, VisionTransformer) and visual.attn_pool is None
    if not fits or visual.pool_type != "tok":
        raise UserError(
            f"the image tower is a {type(visual).__name__}; NeuroCLIP puts its prompts into a ViT "
            "that reads its class token. Use ViT-B-16-quickgelu, ViT-B-32-quickgelu or ViT-H-14, "
            "or another objective."
        )
