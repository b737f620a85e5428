"""Cells beyond a sweep's own: its chosen configurations at fresh seeds, or under a control."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.measure.evaluation import DatasetOf
from ssense.cli.screen import say
from ssense.engine.core.budget import Budget
from ssense.engine.core.cell import Configuration, describe
from ssense.engine.core.record import Record
from ssense.engine.core.sweep import Family, Sweep
from ssense.engine.records.driver import sole_driver
from ssense.engine.records.ledger import Ledger
from ssense.engine.search.race import Full
from ssense.engine.search.search import Change, Search
from ssense.engine.tasks.data_plan import check_shares
from ssense.engine.view.progress import CellProgress
from ssense.errors import UserError
from ssense.training.loop import SELECTION_METRIC


def single_configurations(chosen: Mapping[str, Configuration]) -> tuple[Family, ...]:
    """Families of one configuration each.

    Args:
        chosen: The chosen configuration of each family.
    """
    return tuple(
        Family(name=name, levels={field: (value,) for field, value in configuration.items()})
        for name, configuration in chosen.items()
    )


def train_further(
    what: str,
    sweep: Sweep,
    records: Mapping[str, Record],
    ledger: Ledger,
    dataset_of: DatasetOf,
    cpus: int,
    gpus: float | None,
) -> Search:
    """Train every cell that a ledger lacks of a sweep, on the engine that trained its others.

    Args:
        what: What the cells are for, in words.
        sweep: The sweep of which all cells are wanted.
        records: The ledger's records that count.
        ledger: The ledger that the cells belong to; it keeps the new ones too.
        dataset_of: Gives the dataset of a configuration, whose splits leave enough to choose an
            epoch by.
        cpus: CPU cores of one cell.
        gpus: Share of a GPU for one cell; None for one where there are GPUs.

    Returns:
        Its search, with a result for every cell.

    Raises:
        UserError: A cell failed, has too little to train on, or the storage can't be written to.
    """
    search = Search(sweep, Full(), (), records)
    if missing := search.missing():
        row, _ = missing[0]
        check_shares(sweep, dataset_of(row.configuration))  # all are split alike
        _train(what, search, ledger, dataset_of, cpus, gpus)
    failed = search.failed()
    if failed:
        row, record = failed[0]
        name = f"{row.family} {describe(record.configuration)}"
        raise UserError(
            f"{name} has no result {what}, seed {record.seed}: {record.reason}. Leave {what} out, "
            f"or delete {ledger.cell_folder(record.signature)} to try again."
        )
    return search


def _train(
    what: str, search: Search, ledger: Ledger, dataset_of: DatasetOf, cpus: int, gpus: float | None
) -> None:
    from ssense.engine.work.shared_data import shared
    from ssense.engine.work.workers import Resources, running_ray, train_cells

    with sole_driver(ledger.folder), running_ray():
        resources = Resources.of_cell(cpus, gpus)
        to_run = search.left()
        cells = f"{to_run} cell{'s' * (to_run != 1)}"
        say(f"Training {cells} {what}, {resources.slots()} at a time")
        progress = CellProgress(to_run, resources.slots, SELECTION_METRIC, search.matrix)

        def keep(record: Record, _: Change) -> None:
            progress.cell(search.rows_of(record.signature)[0].family, record)

        datasets: dict[str, Any] = {}
        for row, _ in search.missing():
            if search.sweep.dataset_of(row.configuration) not in datasets:
                datasets |= shared(dataset_of(row.configuration))
        with progress:
            train_cells(search, datasets, ledger, resources, Budget(), keep)
