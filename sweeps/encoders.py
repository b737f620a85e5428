"""Does a deep encoder pay? The paper's beside attention, a small network and a linear map.

    python sweeps/encoders.py                                    # on a synthetic recording
    python sweeps/encoders.py --recording DIR --subject sub_9 --trial trial000
    python sweeps/encoders.py --encoder my_encoder.py:MyEncoder  # with one of your own

SSENSE tries no other than ResNet-18 with the mean over electrodes (section 2.2). Small networks and
linear maps take other learning rates than deep ones: each encoder is tried at several.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ssense.choices import ENCODERS
from ssense.cli.command import run_command
from ssense.engine.tasks.recording_options import RecordingOptions

if TYPE_CHECKING:
    from ssense.engine.core.sweep import Levels, Sweep
    from ssense.engine.tasks.recording_data import RecordingData

RATES = {"training.learning_rate": (5e-5, 2e-4, 5e-4, 2e-3)}


def encoder_sweep(data: RecordingData, options: RecordingOptions) -> Sweep:
    """Define the sweep: a family for each encoder, and for one of the user's own."""
    kinds = {kind: kind for kind in ENCODERS}
    if options.encoder in ENCODERS:  # all are compared, whichever is asked for
        options = replace(options, encoder=ENCODERS[0])
    else:
        kinds[f"own {options.encoder.rpartition(':')[2]}"] = "own"
    families: dict[str, dict[str, Levels]] = {
        name: {"encoder": (kind,), **RATES} for name, kind in kinds.items()
    }
    for name in ("resnet-18", "attention"):
        families[name]["encoder.weights"] = (options.weights("encoder_weights"),)
        families[name]["encoder.batch_norm"] = (options.batch_norm,)
    if data.has_coordinates:
        families["attention"]["encoder.coordinates"] = (False, True)
    return options.sweep("encoders", data, families)


def main(options: RecordingOptions) -> None:
    """Sweep encoders and their learning rates over paired seeds."""
    from sweeps.run import run  # after the flags are checked: it takes seconds to import

    run(encoder_sweep, options)


if __name__ == "__main__":
    run_command(RecordingOptions, main)
