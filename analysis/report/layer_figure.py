"""The figure of learned mixtures of an image tower's layers: how much each layer counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from analysis.measure.evaluation import Evaluation
from analysis.report.figures import COLOURS, STYLE, WIDTH
from analysis.report.page import Picture
from ssense.engine.core.record import Record
from ssense.training.loop import LEARNED

MIXTURE = "mixture"
"""Name of the figure."""

Weights = Mapping[str, float]
"""Weight by layer, as the history of a cell names them: "layer 3"."""


def mixture_pictures(evaluation: Evaluation, records: Sequence[Record]) -> list[Picture]:
    """The figure of the mixtures among the chosen configurations; none where there is no mixture.

    Args:
        evaluation: What was evaluated, and at which seeds.
        records: Records of the sweep's cells.
    """
    found: dict[str, list[Weights]] = {}
    for family, configuration in evaluation.chosen.items():
        own = [
            record
            for record in records
            if record.done
            and record.configuration == configuration
            and record.seed in evaluation.seeds
        ]
        weights: list[Weights] = [
            learned_weights(record) for record in sorted(own, key=lambda r: r.seed)
        ]
        if any(weights):
            found[family] = weights
    if not found:
        return []
    caption = (
        "Weight of each layer in the learned mixture, at the epoch that was chosen: a line for "
        "each seed, and their mean. They sum to 1; all are alike at the start (dotted). Layers are "
        "normalised before they are mixed. A weight says what training used, not which layer alone "
        "is decoded best."
    )
    title = "Learned weights of the layers of a tower"
    return [Picture(MIXTURE, title, caption, mixture_figure(found))]


def learned_weights(record: Record) -> dict[str, float]:
    """Weight of each layer at the best epoch of a cell, by "layer 3"; none without a mixture.

    Args:
        record: The record of a cell that is done.
    """
    return {
        name.removeprefix(LEARNED): value
        for name, value in record.best.items()
        if name.startswith(LEARNED)
    }


def mixture_figure(weights: Mapping[str, Sequence[Weights]]) -> Figure:
    """Draw the weights of layers, a panel for each family.

    Args:
        weights: Weights at each seed, by family.
    """
    with mpl.rc_context(STYLE):
        height = 0.5 + 1.9 * len(weights)
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.subplots(len(weights), 1, squeeze=False).ravel()
        for axis, (family, by_seed) in zip(axes, weights.items(), strict=True):
            names = list(by_seed[0])
            values = np.array([[each[name] for name in names] for each in by_seed])
            places = np.arange(len(names))
            axis.plot(places, values.T, color=COLOURS[0], linewidth=0.7, alpha=0.5)
            axis.plot(places, values.mean(axis=0), color=COLOURS[0], marker="o", linewidth=1.8)
            axis.axhline(1 / len(names), color="0.5", linestyle=":", linewidth=1)
            axis.set_xticks(places, [name.removeprefix("layer ") for name in names])
            axis.set_ylim(bottom=0)
            axis.set_title(family)
            axis.set_ylabel("weight")
        axes[-1].set_xlabel("layer of the tower")
    return figure
