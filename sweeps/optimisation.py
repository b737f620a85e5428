"""Do the published learning rate and temperature matter? Both around their values in SSENSE.

    python sweeps/optimisation.py                                # on a synthetic recording
    python sweeps/optimisation.py --recording DIR --subject sub_9 --trial trial000

The paper fixes Adam's learning rate at 0.0005 and the temperature of InfoNCE at 0.07 (section 2.5)
and does not say what else was tried.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssense.cli.command import run_command
from ssense.engine.tasks.recording_options import RecordingOptions

if TYPE_CHECKING:
    from ssense.engine.core.sweep import Sweep
    from ssense.engine.tasks.recording_data import RecordingData

LEARNING_RATES = {"training.learning_rate": (5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3)}
TEMPERATURES = {"objective.temperature": (0.01, 0.02, 0.05, 0.07, 0.1, 0.2, 0.5)}


def optimisation_sweep(data: RecordingData, options: RecordingOptions) -> Sweep:
    """Define the sweep: as published, each of the two values, and both together."""
    families = {
        "as published": {},
        "learning rate": LEARNING_RATES,
        "temperature": TEMPERATURES,
        "learning rate + temperature": LEARNING_RATES | TEMPERATURES,
    }
    return options.sweep("optimisation", data, families)


def main(options: RecordingOptions) -> None:
    """Sweep learning rates and temperatures over paired seeds."""
    from sweeps.run import run  # after the flags are checked: it takes seconds to import

    run(optimisation_sweep, options)


if __name__ == "__main__":
    run_command(RecordingOptions, main)
