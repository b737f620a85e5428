"""What one call may spend, over all the sweeps that it runs."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(kw_only=True)
class Budget:
    """What one call may spend.

    Attributes:
        cells: Most cells to start; None for any number.
        hours: Hours after which no cell is started; None for any time.
        started: Number of cells that were started.
        since: When the call began, seconds of `time.monotonic`.
    """

    cells: int | None = None
    hours: float | None = None
    started: int = 0
    since: float = field(default_factory=time.monotonic)

    def left(self) -> int | None:
        """How many cells may still be started; None for any number."""
        return None if self.cells is None else self.cells - self.started

    def allows_another(self) -> bool:
        """Whether a further cell may start."""
        if self.cells is not None and self.started >= self.cells:
            return False
        return not self.out_of_time()

    def out_of_time(self) -> bool:
        """Whether not even a cell that was handed out may start."""
        return self.hours is not None and time.monotonic() - self.since >= 3600 * self.hours
