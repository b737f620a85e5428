"""Similarities of brain and image, and the symmetric contrastive losses over them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, layer_norm, normalize, softplus

from ssense.model.objectives.objective import Objective, ObjectiveSpec

LARGEST_SCALE = 100.0
"""Largest scale, as in CLIP: training cannot lower the temperature below 0.01."""
_SHARPNESS = 32.0
SCALES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "exp": torch.exp,
    "softplus": softplus,
    "raw": torch.clone,
}
"""What makes the scale of the parameter, by the names of `ObjectiveSpec.scale`."""


class Similarity(nn.Module):
    """Scaled products of brain and image embeddings, with norm and scale as specified.

    Attributes:
        parameter: Parameter p that the scale is made of; a buffer where it is not trained.
    """

    def __init__(self, spec: ObjectiveSpec) -> None:
        super().__init__()
        self.spec = spec
        parameter = torch.tensor(math.log(1 / spec.temperature))
        if spec.learnable:
            self.parameter = nn.Parameter(parameter)
        else:
            self.register_buffer("parameter", parameter)

    def scale(self) -> Tensor:
        """What similarities are multiplied with, a scalar, at most 100."""
        scale = SCALES[self.spec.scale](self.parameter)
        return scale.clamp(max=LARGEST_SCALE)

    def forward(self, brain: Tensor, image: Tensor) -> Tensor:
        """Logits `[N, M]` of `[N, D]` brain (or other anchoring) and `[M, D]` image embeddings."""
        if self.spec.norm == "both":
            brain = normalize(brain, dim=1)
        return self.scale() * brain @ normalize(image, dim=1).T


class Contrastive(Objective):
    """Encoder, a projection of either side to one space, and the scale.

    Args:
        spec: The objective's specification.
        encoder: Encoder that maps signals to `[N, n_brain]`.
        n_brain: Dimensions of the encoder's output.
        n_features: Dimensions of the cached features.
        n_layers: How many layers of the tower they are of, to be mixed; None for one.
    """

    def __init__(
        self,
        spec: ObjectiveSpec,
        encoder: nn.Module,
        *,
        n_brain: int,
        n_features: int,
        n_layers: int | None = None,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = encoder
        self.project_brain = nn.Linear(n_brain, spec.embedding)
        self.project_image = image_projection(n_features, n_layers, spec.embedding)
        self.similarity = Similarity(spec)

    def brain(self, signals: Tensor) -> Tensor:
        """Embed signals `[N, C, T]` as `[N, D]`."""
        embeddings: Tensor = self.project_brain(self.encoder(signals))
        return embeddings

    def gallery(self, images: Tensor) -> Tensor:
        """Embed cached features `[M, F]` as `[M, D]`, or `[M, L, F]` of mixed layers."""
        embeddings: Tensor = self.project_image(images)
        return embeddings

    def layer_weights(self) -> list[float]:
        """Weight of each layer that is mixed, summing to 1; none where one is read."""
        if isinstance(self.project_image, MixedProjection):
            return self.project_image.weights().tolist()
        return []


class MixedProjection(nn.Linear):
    """A projection of a mixture of layers: sum over l of softmax(s p)_l norm(x_l).

    Each layer is normalised without parameters (layer norm), as the values of deep layers are many
    times larger, and all are mixed equally at first. s is 32: at the learning rates of a
    projection, Adam would move plain logits by a hundredth in a training.

    Args:
        n_features: F, dimensions of each layer.
        n_layers: L, how many layers there are.
        embedding: D, dimensions of the projection.
    """

    def __init__(self, n_features: int, n_layers: int, embedding: int) -> None:
        super().__init__(n_features, embedding)
        self.layers = nn.Parameter(torch.zeros(n_layers))

    def weights(self) -> Tensor:
        """Weight of each layer, `[L]`, summing to 1."""
        return torch.softmax(_SHARPNESS * self.layers, dim=0)

    def forward(self, features: Tensor) -> Tensor:
        """Mix `[M, L, F]` and project to `[M, D]`."""
        alike = layer_norm(features, features.shape[-1:])
        return super().forward(torch.einsum("mlf,l->mf", alike, self.weights()))


def image_projection(n_features: int, n_layers: int | None, embedding: int) -> nn.Linear:
    """The linear layer on the image's side, of one layer's features or of a mixture.

    Args:
        n_features: Dimensions of the features.
        n_layers: How many layers are mixed; None for one that is not.
        embedding: Dimensions of the embedding.
    """
    if n_layers is None:
        return nn.Linear(n_features, embedding)
    return MixedProjection(n_features, n_layers, embedding)


def symmetric_cross_entropy(logits: Tensor, targets: Tensor | None = None) -> Tensor:
    """Cross-entropy of rows and of columns, halved: InfoNCE in both directions.

    Args:
        logits: Logits `[N, N]`, row i and column i being a pair.
        targets: Share of row i that belongs to column j, `[N, N]`, rows summing to 1; each pair
            alone where none is given. Rows of the transpose are made to sum to 1 again.

    Returns:
        The mean over the batch, a scalar, in nats.
    """
    if targets is None:
        pairs = torch.arange(len(logits), device=logits.device)
        return (cross_entropy(logits, pairs) + cross_entropy(logits.T, pairs)) / 2
    transposed = targets.T / targets.T.sum(dim=1, keepdim=True)
    return (cross_entropy(logits, targets) + cross_entropy(logits.T, transposed)) / 2


def softened_targets(features: Tensor, share: float, temperature: float) -> Tensor:
    """What share of each image's match goes to the images like it, after SoftCLIP.

    (1 - share) I + share softmax(S / temperature), S being the cosine of the features (Gao et al.
    2023, "SoftCLIP: Softer cross-modal alignment makes CLIP stronger").

    Args:
        features: Features of the batch's images, `[N, F]`; no gradient goes there.
        share: Share of a match that is given away, in [0, 1].
        temperature: Temperature of the softmax.

    Returns:
        `[N, N]`, rows sum to 1.
    """
    unit = normalize(features.detach(), dim=1)
    alike = torch.softmax(unit @ unit.T / temperature, dim=1)
    return (1 - share) * torch.eye(len(unit), device=unit.device) + share * alike
