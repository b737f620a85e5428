"""Does the reference matter? The Laplacian of SSENSE beside others, over the same sentences.

    python sweeps/reference.py                                   # on a synthetic recording
    python sweeps/reference.py --recording DIR --subject sub_9 --trial trial000

What is subtracted from a contact decides what its signal is about: a few millimetres of tissue, or
whatever all contacts share. SSENSE subtracts the mean of two neighbours (section 2.1) and tries
nothing else. A reference also decides which contacts there are: the plan has their numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssense.cli.command import run_command
from ssense.engine.tasks.recording_options import RecordingOptions

if TYPE_CHECKING:
    from ssense.engine.core.sweep import Sweep
    from ssense.engine.tasks.recording_data import RecordingData

REFERENCES = {
    "Laplacian": "laplacian",
    "bipolar": "bipolar",
    "average of the shaft": "shaft-average",
    "average of all": "average",
    "as recorded": "none",
}


def reference_sweep(data: RecordingData, options: RecordingOptions) -> Sweep:
    """Define the sweep: a family of one configuration for each reference."""
    families = {name: {"data.reference": (kind,)} for name, kind in REFERENCES.items()}
    return options.sweep("reference", data, families)


def main(options: RecordingOptions) -> None:
    """Compare references over paired seeds."""
    from sweeps.run import run  # after the flags are checked: it takes seconds to import

    run(reference_sweep, options)


if __name__ == "__main__":
    run_command(RecordingOptions, main)
