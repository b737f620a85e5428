"""Would more data help? The score against the minutes trained on, and what twice would give.

    python sweeps/learning_curve.py                                # on a synthetic recording
    python sweeps/learning_curve.py --recording DIR --subject sub_9 --trial trial000

Each share of the training sentences is a family of its own, so that no race drops one: every share
meets every seed, and is tested. A smaller share's sentences are among a larger one's, and all are
judged on the same validation and test sentences. An epoch of a tenth has a tenth of the steps: give
enough --max-epochs for patience to stop the smallest share too; the report says where it did not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssense.cli.command import run_command
from ssense.engine.tasks.recording_options import RecordingOptions

if TYPE_CHECKING:
    from ssense.engine.core.sweep import Sweep
    from ssense.engine.tasks.recording_data import RecordingData

SHARES = (0.1, 0.2, 0.35, 0.5, 0.7, 1.0)


def learning_curve_sweep(data: RecordingData, options: RecordingOptions) -> Sweep:
    """Define the sweep: a family of a single configuration for each share."""
    families = {
        f"{100 * share:.0f} % of training": {"training.share": (share,)} for share in SHARES
    }
    return options.sweep("learning-curve", data, families)


def main(options: RecordingOptions) -> None:
    """Sweep the share of the training sentences over paired seeds."""
    from sweeps.run import run  # after the flags are checked: it takes seconds to import

    run(learning_curve_sweep, options)


if __name__ == "__main__":
    run_command(RecordingOptions, main)
