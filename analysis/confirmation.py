"""Fresh seeds for the chosen configurations: the answer that the choice can't have improved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ssense.data.dataset import Dataset
from ssense.errors import UserError
from sweeps.engine.cell import Configuration
from sweeps.engine.driver import sole_driver
from sweeps.engine.ledger import Ledger, Record
from sweeps.engine.progress import CellProgress, say
from sweeps.engine.race import Full
from sweeps.engine.search import Change, Search
from sweeps.engine.sweep import Family, Sweep, check_seeds


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
    families = tuple(
        Family(name=name, levels={field: (value,) for field, value in configuration.items()})
        for name, configuration in chosen.items()
    )
    return replace(sweep, families=families, configurations=1, seeds=tuple(seeds))


def confirm(
    ledger: Ledger,
    confirming: Sweep,
    records: Mapping[str, Record],
    dataset: Dataset,
    cpus: int,
    gpus: float | None,
) -> Search:
    """Train what the ledger lacks of a confirming sweep, on the engine of the sweep itself.

    Args:
        ledger: of the sweep; it keeps the new cells too.
        confirming: from `confirming_sweep`.
        records: of the ledger, that count.
        dataset: of the sweep.
        cpus: of one cell.
        gpus: share of a GPU of one cell; None for one where there are GPUs.

    Returns:
        Its search, with a result for every cell.

    Raises:
        UserError: a cell failed, or the storage can't be written to.
    """
    search = Search(confirming, Full(), (), records)
    to_run = search.left()
    if to_run:
        _train(search, ledger, dataset, cpus, gpus, to_run)
    failed = search.failed()
    if failed:
        row, record = failed[0]
        raise UserError(
            f"{row.family} has no result at fresh seed {record.seed}: {record.reason}. Confirm "
            "with other --confirm-seeds, or look into it."
        )
    return search


def _train(
    search: Search, ledger: Ledger, dataset: Dataset, cpus: int, gpus: float | None, to_run: int
) -> None:
    from sweeps.engine.workers import Budget, Resources, running_ray, train_cells

    with sole_driver(ledger.folder), running_ray():
        resources = Resources.of_cell(cpus, gpus)
        slots = resources.slots()
        say(f"Training {to_run} cells at fresh seeds, {slots} at a time")
        progress = CellProgress(to_run, slots, search.sweep.metric, search.matrix)

        def keep(record: Record, _: Change) -> None:
            progress.cell(search.row_of(record).family, record)

        with progress:
            train_cells(search, dataset, ledger, resources, Budget(), keep)
