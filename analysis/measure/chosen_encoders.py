"""The encoders of chosen configurations: kept from deletion, or made again where they were deleted.

A sweep deletes the encoders of configurations that are not the best of their families. More seeds
or configurations may make one the best after all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from analysis.measure.evaluation import DatasetOf
from analysis.measure.further_cells import single_configurations, train_further
from ssense.engine.core.cell import Configuration
from ssense.engine.core.record import Record
from ssense.engine.records.ledger import Ledger
from ssense.engine.records.provenance import code_versions
from ssense.engine.records.readers import reading_encoders
from ssense.engine.search.search import Search
from ssense.errors import UserError
from ssense.files.source_code import code_digest


@contextmanager
def chosen_encoders(
    search: Search,
    chosen: Mapping[str, Configuration],
    ledger: Ledger,
    dataset_of: DatasetOf,
    cpus: int,
    gpus: float | None,
) -> Iterator[None]:
    """Have the encoders of the chosen configurations, at every seed of the search.

    Args:
        search: A search with a result of these configurations at every seed.
        chosen: The chosen configuration of each family.
        ledger: The ledger that has the encoders.
        dataset_of: Gives the dataset of a configuration.
        cpus: CPU cores of a cell whose encoder is made again, if its record does not say.
        gpus: Share of a GPU for such a cell; None for one where there are GPUs.

    Raises:
        UserError: An encoder that was deleted is not the same to the bit when it is made again, or
            was made by another version of the code; or the storage can't be written to.
    """
    records = {r.signature: r for each in chosen.values() for r in search.done(each)}
    with reading_encoders(ledger, records):
        _make_again(_deleted(ledger, records), search, chosen, ledger, dataset_of, cpus, gpus)
        yield


def _deleted(ledger: Ledger, records: Mapping[str, Record]) -> dict[str, Record]:
    """Those of records whose weights were deleted, as the ledger has them now."""
    missing = records.keys() - ledger.cells_with_weights()
    now = {name: ledger.record(name) for name in missing}
    return {name: record for name, record in now.items() if record and not record.weights_kept}


def _make_again(
    deleted: Mapping[str, Record],
    search: Search,
    chosen: Mapping[str, Configuration],
    ledger: Ledger,
    dataset_of: DatasetOf,
    cpus: int,
    gpus: float | None,
) -> None:
    """Train the cells of deleted encoders again, with as many threads as they had."""
    for record in deleted.values():
        if record.code_digest != code_digest():
            (version,) = code_versions([record])
            raise UserError(
                f"the encoder of cell {record.signature} was deleted, and another version of the "
                f"code made it, {version.name} (commit {record.commit[:8] or '?'}). "
                f"Run the sweep there with `cell` {record.signature} to make it again; or here "
                f"with `retrain_version` {version.name} to train the cells of that version again."
            )
    families = single_configurations(chosen)
    sweep = replace(search.sweep, families=families, configurations=1)
    for threads in sorted({record.threads for record in deleted.values()}):
        again = {name for name, record in deleted.items() if record.threads == threads}
        known = {name: record for name, record in search.records.items() if name not in again}
        what = "again, as their encoders were deleted"
        train_further(what, sweep, known, ledger, dataset_of, threads or cpus, gpus)
