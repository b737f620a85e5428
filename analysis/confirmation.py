"""Fresh seeds for the chosen configurations: the answer that the choice can't have improved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from analysis.further_cells import single_configurations
from ssense.errors import UserError
from sweeps.engine.cell import Configuration
from sweeps.engine.sweep import Sweep, check_seeds

FRESH = "at fresh seeds"


def confirming_sweep(
    sweep: Sweep, chosen: Mapping[str, Configuration], seeds: Sequence[int]
) -> Sweep:
    """The sweep of the chosen configurations alone, over fresh seeds.

    Raises:
        UserError: a seed is one of the search, repeated or out of range, or there is only one.
    """
    check_seeds(seeds)
    known = [seed for seed in seeds if seed in sweep.seeds]
    if known:
        raise UserError(
            f"--confirm-seeds: the search has seen seed {known[0]}. Give fresh ones, such as "
            "100 to 109."
        )
    if len(seeds) < 2:
        raise UserError(f"--confirm-seeds {seeds[0]}: one seed can't be tested. Give more.")
    families = single_configurations(chosen)
    return replace(sweep, families=families, configurations=1, seeds=tuple(seeds))
