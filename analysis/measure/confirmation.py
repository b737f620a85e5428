"""Re-evaluation of the chosen configurations at fresh seeds, which the choice has not seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from analysis.measure.further_cells import single_configurations
from ssense.engine.core.cell import Configuration
from ssense.engine.core.record import Record
from ssense.engine.core.sweep import Sweep
from ssense.engine.tasks.data_plan import first_poor_split
from ssense.errors import UserError
from ssense.training.loop import SELECTION_RANK
from ssense.training.tasks import TaskData


def confirming_sweep(
    sweep: Sweep,
    chosen: Mapping[str, Configuration],
    seeds: Sequence[int],
    records: Iterable[Record],
    dataset: TaskData,
) -> Sweep:
    """The sweep of the chosen configurations alone, over fresh seeds.

    Args:
        sweep: The sweep in which the configurations were chosen.
        chosen: The chosen configuration of each family.
        seeds: Seeds to confirm at.
        records: Records of the ledger: another configuration's cell shows a seed that a search has
            seen.
        dataset: Any dataset of the sweep: all are split alike.

    Raises:
        UserError: A seed is one of a search, or leaves too few validation stimuli, or there is only
            one; `Sweep` refuses those that are repeated or out of range.
    """
    families = single_configurations(chosen)
    confirming = replace(sweep, families=families, configurations=1, seeds=tuple(seeds))
    configurations = [dict(configuration) for configuration in chosen.values()]
    searched = {
        record.seed
        for record in records
        if record.dataset_digest in sweep.all_datasets()
        and dict(record.configuration) not in configurations
    }
    known = [seed for seed in seeds if seed in searched.union(sweep.seeds)]
    if known:
        raise UserError(
            f"`confirm_seeds`: the search has seen seed {known[0]}. Give fresh ones, such as "
            "100 to 109."
        )
    if len(seeds) < 2:
        raise UserError(f"`confirm_seeds` {seeds[0]}: one seed can't be tested. Give more.")
    kind = sweep.specification.split
    if poor := first_poor_split(dataset, kind, seeds):
        seed, n_candidates = poor
        raise UserError(
            f"`confirm_seeds`: at seed {seed} a {kind} split leaves {n_candidates} validation "
            f"{sweep.specification.stimulus}s, too few for Recall@{SELECTION_RANK}. Choose another "
            "seed."
        )
    return confirming
