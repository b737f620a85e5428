"""What a report says of the maps of image decoding: channels on a head, and windows of time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from analysis.mapping.effects import EffectMap
from analysis.mapping.sensors import Sensors
from analysis.report.map_figures import head_figure, shaft_figure
from analysis.report.maps import MapReport, blue
from ssense.errors import counted

READING = (
    "What is left out or hidden, and makes the score fall, is used by these encoders where all "
    "else is there; neighbouring channels record much the same, and what several say alike none of "
    "them loses. What stands alone says what it reaches by itself, of encoders that were trained "
    "on all. Neither is what an encoder would reach that was trained on a part.",
    "A channel is no place in the brain: each records what comes from many.",
    "All seeds and parts retrieve the same test images: the tests are over these.",
)
FILLED = {
    "mean": "the mean of the training responses at the same channel and time",
    "zero": "zeros",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageMapReport(MapReport):
    """All that a report of the maps of a subject's image decoding is made from.

    Attributes:
        sensors: Where the channels are; they are drawn by number where that is known of none.
    """

    sensors: Sensors

    @property
    def reading(self) -> Sequence[str]:
        """How maps are read, a sentence or two each."""
        return READING

    def _whereabouts(self, real: EffectMap, name: str) -> list[str]:  # noqa: ARG002
        return [name]

    def _on_head(self, real: EffectMap) -> bool:
        return real.what.startswith("channel") and bool(self.sensors.located.any())

    def _looks(self, real: EffectMap) -> str:
        if not real.what.startswith("channel"):
            return super()._looks(real)
        drawn = "Channels by the numbers in their names."
        if self._on_head(real):
            drawn = (
                f"Channels on a head seen from above, nose up, by the {self.sensors.layout}; "
                "between them effects are interpolated."
            )
        return f"{drawn} {blue(real)} Bold outline: shown to carry the score."

    def _views(self, real: EffectMap) -> Sequence[Figure]:
        """The head, and by number the channels that have no place on it; nothing without these."""
        if not self._on_head(real):
            return ()
        xy = self.sensors.of_names([part.name for part in real.parts])
        lacking = np.flatnonzero(~np.isfinite(xy).all(axis=1)).tolist()
        return [head_figure(real, xy), shaft_figure(real, lacking)] if lacking else ()

    def _draw(self, real: EffectMap) -> Figure:
        if self._on_head(real):
            return head_figure(real, self.sensors.of_names([part.name for part in real.parts]))
        if real.what.startswith("channel"):
            return shaft_figure(real)
        return super()._draw(real)


def channel_notes(sensors: Sensors) -> list[str]:
    """Which channels could not be drawn on a head."""
    lacking = [
        name for name, known in zip(sensors.channels, sensors.located, strict=True) if not known
    ]
    if not lacking:
        return []
    if len(lacking) == len(sensors.channels):
        n = counted(len(lacking), "channel")
        return [
            f"The names of the {n} are in neither the extended 10-20 system nor CTF's layout of "
            "275: they are drawn by number."
        ]
    return [f"Channels of no known place on a head: {', '.join(lacking)}."]
