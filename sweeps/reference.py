"""Does the reference matter? The Laplacian of SSENSE beside others, over the same sentences.

    python sweeps/reference.py                                   # on a synthetic recording
    python sweeps/reference.py --recording DIR --subject sub_9 --trial trial000
    python sweeps/reference.py --references laplacian bipolar none

What is subtracted from a contact decides what its signal is about: a few millimetres of tissue, or
whatever all contacts share. SSENSE subtracts the mean of two neighbours (section 2.1) and tries
nothing else. A reference also decides which contacts there are: the plan has their numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ssense.choices import Reference
from ssense.cli.command import run_command
from ssense.cli.screen import say
from ssense.engine.tasks.recording_options import RecordingOptions

if TYPE_CHECKING:
    from ssense.engine.core.sweep import Sweep
    from ssense.engine.tasks.recording_data import RecordingData

REFERENCES: dict[Reference, str] = {
    "laplacian": "Laplacian",
    "bipolar": "bipolar",
    "shaft-average": "average of the shaft",
    "average": "average of all",
    "none": "as recorded",
}


@dataclass(frozen=True, kw_only=True)
class ReferenceOptions(RecordingOptions):
    """Options of the sweep over references."""

    references: tuple[Reference, ...] = tuple(REFERENCES)
    """References to compare."""


def reference_sweep(data: RecordingData, options: ReferenceOptions) -> Sweep:
    """Define the sweep: a family of one configuration for each reference that is another here."""
    kinds = {REFERENCES[kind]: {"data.reference": kind} for kind in options.references}
    same = data.repeated(options.specification(), kinds)
    for name, other in same.items():
        say(f"Left out: {name}, which is the same as {other} on these contacts.")
    families = {
        REFERENCES[kind]: {"data.reference": (kind,)}
        for kind in options.references
        if REFERENCES[kind] not in same
    }
    return options.sweep("reference", data, families)


def main(options: ReferenceOptions) -> None:
    """Compare references over paired seeds."""
    from sweeps.run import run  # after the flags are checked: it takes seconds to import

    run(reference_sweep, options)


if __name__ == "__main__":
    run_command(ReferenceOptions, main)
