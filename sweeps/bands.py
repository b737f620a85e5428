"""Which frequencies tell sentences apart? Power in the classical bands, each by itself and all.

    python sweeps/bands.py                                       # on a synthetic recording
    python sweeps/bands.py --recording DIR --subject sub_9 --trial trial000

A spectrogram has all frequencies at once (SSENSE, section 2.2), and a score does not say which of
them it is owed to. Power in high gamma, 70 to 150 Hz, follows local firing; slow rhythms are shared
by wide areas. Every band is decoded by the same encoder, over the same sentences and splits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssense.cli.command import run_command
from ssense.engine.tasks.recording_options import RecordingOptions

if TYPE_CHECKING:
    from ssense.engine.core.sweep import Levels, Sweep
    from ssense.engine.tasks.recording_data import RecordingData

BANDS = ("delta", "theta", "alpha", "beta", "gamma", "high-gamma")


def band_sweep(data: RecordingData, options: RecordingOptions) -> Sweep:
    """Define the sweep: the spectrogram, a family for each band, and one for all of them."""
    families: dict[str, dict[str, Levels]] = {"spectrogram": {}}
    for bands in (*BANDS, "+".join(BANDS)):
        name = bands if bands in BANDS else "all bands"
        families[name] = {"features": ("band-power",), "features.bands": (bands,)}
    return options.sweep("bands", data, families)


def main(options: RecordingOptions) -> None:
    """Compare frequency bands over paired seeds."""
    from sweeps.run import run  # after the flags are checked: it takes seconds to import

    run(band_sweep, options)


if __name__ == "__main__":
    run_command(RecordingOptions, main)
