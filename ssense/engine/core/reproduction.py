"""A reproduction: how a cell that was trained once more differs from its record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ssense.errors import counted
from ssense.retrieval import metric_title
from ssense.training.loop import SELECTION_METRIC


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """How a cell that was trained again differs from its record.

    Attributes:
        exact: Whether history and weights are the same to the bit.
        best_epochs, epochs: The best epoch and the number of epochs, then and now.
        at_best: Absolute difference of each metric at the best epochs, in points.
        by_epoch: Largest absolute difference of a metric, in points, for the epochs of both.
        loss: Largest absolute difference of the training loss over these epochs.
        weights: Largest absolute difference of a value of the encoders; None where one has a
            tensor that the other lacks, or a value that is not finite, or was deleted.

    Raises:
        ValueError: The selection metric is not among the differences.
    """

    exact: bool
    best_epochs: tuple[int, int]
    epochs: tuple[int, int]
    at_best: Mapping[str, float]
    by_epoch: Sequence[float]
    loss: float
    weights: float | None

    def __post_init__(self) -> None:
        if SELECTION_METRIC not in self.at_best:
            raise ValueError(f"at_best has no {SELECTION_METRIC}")

    def lines(self) -> list[str]:
        """The findings in words."""
        if self.exact:
            epochs = counted(self.epochs[0], "epoch")
            return [f"Reproduced to the bit: {epochs}, and the weights of the best."]
        best = ", ".join(f"{metric_title(name)} {gap:.2f}" for name, gap in self.at_best.items())
        (then, now), (before, after) = self.best_epochs, self.epochs
        weights = "not comparable" if self.weights is None else f"{self.weights:.2g}"
        return [
            "Not reproduced to the bit. Largest differences:",
            f"  at the best epoch ({then} of {before}, now {now} of {after}): {best} points",
            f"  by epoch: {' '.join(f'{gap:.2f}' for gap in self.by_epoch)} points",
            f"  training loss: {self.loss:.2g}; weights: {weights}",
        ]
