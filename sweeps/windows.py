"""When are sentences told apart? Windows of one length that slide along the sentence's onset.

    python sweeps/windows.py                                     # on a synthetic recording
    python sweeps/windows.py --recording DIR --subject sub_9 --trial trial000
    python sweeps/windows.py --window 0.5 --first -1 --last 2 --step 0.1

An encoder is trained on each window by itself, over the same sentences and splits. Each window is a
family of its own, so that no race drops one: the test evaluation has the time course, and
analysis/generalise.py tests what was learned in one window at the others (King and Dehaene
2014). Amplitudes are in logarithms: a z-score over the few frames of a window would take away how
strong they are, and one over more would tell a window of its neighbours. Behind the end of a short
sentence a window hears what comes next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ssense.cli.command import run_command
from ssense.engine.tasks.recording_options import RecordingOptions
from ssense.errors import UserError

if TYPE_CHECKING:
    from ssense.engine.core.sweep import Levels, Sweep
    from ssense.engine.tasks.recording_data import RecordingData

MOST_WINDOWS = 100


@dataclass(frozen=True, kw_only=True)
class WindowOptions(RecordingOptions):
    """Options of the sweep over windows."""

    window: float = 0.25
    """Length of a window, seconds."""
    first: float = -0.5
    """Where the first window begins, seconds after the sentence's onset."""
    last: float = 1.5
    """Where the last window ends, or the one before it, seconds after the sentence's onset."""
    step: float = 0.25
    """Seconds from one window to the next."""

    def __post_init__(self) -> None:
        """Refuse windows of no length or without a step, fewer than two and too many."""
        super().__post_init__()
        for name in ("window", "step"):
            if not getattr(self, name) > 0:
                raise UserError(f"--{name} must be above 0 s, got {getattr(self, name):g}.")
        span_s = self.last - self.first - self.window
        if not self.step <= span_s + 1e-9 <= MOST_WINDOWS * self.step:
            raise UserError(
                f"--first {self.first:g} --last {self.last:g} hold fewer than 2 windows of "
                f"{self.window:g} s every {self.step:g} s, or more than {MOST_WINDOWS}. Give 2 to "
                f"{MOST_WINDOWS}."
            )

    @property
    def starts_s(self) -> list[float]:
        """Where windows begin, seconds after the sentence's onset."""
        n = int((self.last - self.first - self.window) / self.step + 1e-9) + 1
        return [round(self.first + place * self.step, 6) + 0.0 for place in range(n)]


def window_sweep(data: RecordingData, options: WindowOptions) -> Sweep:
    """Define the sweep: a family of a single configuration for each window."""
    specification = options.specification()
    has_powers = specification.features.kind == "band-power"
    shared: dict[str, Levels] = {
        "data.window_s": (options.window,),
        "features.normalisation": ("none" if has_powers else "log",),
    }
    if specification.data.pad_to is not None:  # zeros are no part of a window
        shared["data.pad_to"] = (None,)
    families: dict[str, dict[str, Levels]] = {
        f"{start:g} to {start + options.window:g} s": {"data.window_start_s": (start,)} | shared
        for start in options.starts_s
    }
    return options.sweep("windows", data, families)


def main(options: WindowOptions) -> None:
    """Compare windows over paired seeds."""
    from sweeps.run import run  # after the flags are checked: it takes seconds to import

    run(window_sweep, options)


if __name__ == "__main__":
    run_command(WindowOptions, main)
