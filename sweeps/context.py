"""How much signal around a sentence helps? Context before and after it, and windows of one length.

    python sweeps/context.py                                     # on a synthetic recording
    python sweeps/context.py --recording DIR --subject sub_9 --trial trial000

SSENSE adds half a second before and a second after (section 2.1). What is heard may show later than
that, and what is expected earlier. A window of one length, whatever the sentence's, shows no
duration: what it reaches is of the signal alone. All are compared over the sentences that every one
of them keeps; the plan says which are lost to a pause.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssense.cli.command import run_command
from ssense.engine.tasks.recording_options import RecordingOptions

if TYPE_CHECKING:
    from ssense.engine.core.sweep import Levels, Sweep
    from ssense.engine.tasks.recording_data import RecordingData

FAMILIES: dict[str, dict[str, Levels]] = {
    "as published": {},
    "after": {"data.context_after_s": (0.0, 0.5, 2.0)},
    "before": {"data.context_before_s": (0.0, 1.0)},
    "window": {"data.window_s": (1.0, 2.0, 4.0)},
}


def context_sweep(data: RecordingData, options: RecordingOptions) -> Sweep:
    """Define the sweep: as published, other contexts after and before, windows of one length."""
    return options.sweep("context", data, FAMILIES)


def main(options: RecordingOptions) -> None:
    """Compare contexts over paired seeds."""
    from sweeps.run import run  # after the flags are checked: it takes seconds to import

    run(context_sweep, options)


if __name__ == "__main__":
    run_command(RecordingOptions, main)
