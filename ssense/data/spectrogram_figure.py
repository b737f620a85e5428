"""A figure of a few spectrograms of a shard folder, for a person to look at."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence

import numpy as np

MOST_SENTENCES = 3
MOST_ELECTRODES = 4
_SHOWN_PERCENTILES = (1, 99)  # of the values; else the colours would serve the extremes


def spectrogram_figure(
    spectrograms: np.ndarray,
    sentences: Sequence[str],
    electrodes: Sequence[str],
    times_s: np.ndarray,
    rows: Sequence[float] | Sequence[str],
    unit: str,
) -> bytes:
    """Draw the first spectrograms of some sentences at a few electrodes, as PNG.

    Args:
        spectrograms: Spectrograms `[sentences, electrodes, frequencies, frames]`.
        sentences: Texts of the sentences.
        electrodes: Names along the second axis.
        times_s: Times of the frames.
        rows: Frequencies in Hz along the third axis, evenly spaced, or names of bands.
        unit: Unit of the values.
    """
    from matplotlib.figure import Figure

    n_sentences = min(MOST_SENTENCES, len(spectrograms))
    bands = [str(row) for row in rows] if isinstance(rows[0], str) else []
    heights = np.arange(len(bands)) if bands else np.array(rows, dtype=float)
    # From first to last electrode: neighbours on a shaft look alike.
    spread = np.linspace(0, len(electrodes) - 1, MOST_ELECTRODES)
    columns: list[int] = np.unique(spread.astype(int)).tolist()
    images = spectrograms[:n_sentences, columns].astype(np.float32)
    extent = (*_edges(times_s), *_edges(heights))
    lowest, highest = np.percentile(images, _SHOWN_PERCENTILES)
    figure = Figure(figsize=(2.2 * len(columns) + 1, 1.7 * n_sentences + 0.4), layout="constrained")
    axes = figure.subplots(n_sentences, len(columns), sharex=True, sharey=True, squeeze=False)
    for (row, column), axis in np.ndenumerate(axes):
        drawn = axis.imshow(
            images[row, column],
            origin="lower",
            aspect="auto",
            extent=extent,
            vmin=lowest,
            vmax=highest,
        )
        axis.tick_params(labelsize=7)
        axis.set_title(electrodes[columns[column]] if row == 0 else "", fontsize=8)
    for axis, sentence in zip(axes[:, 0], sentences, strict=False):
        text = textwrap.shorten(sentence, 30, placeholder=" …").replace("$", r"\$")
        axis.set_ylabel(f"“{text}”\n{'band' if bands else 'frequency, Hz'}", fontsize=7)
        if bands:
            axis.set_yticks(heights, bands)
    for axis in axes[-1]:
        axis.set_xlabel("time, s", fontsize=8)
    bar = figure.colorbar(drawn, ax=axes, shrink=0.6)
    bar.set_label(unit, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    png = io.BytesIO()
    figure.savefig(png, dpi=150)
    return png.getvalue()


def _edges(centres: np.ndarray) -> tuple[float, float]:
    """Where a row of pixels begins and ends whose values belong to its evenly spaced centres."""
    half = (centres[-1] - centres[0]) / (2 * max(len(centres) - 1, 1)) or 0.5
    return float(centres[0] - half), float(centres[-1] + half)
