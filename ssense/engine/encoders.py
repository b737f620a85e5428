"""Which encoders a sweep keeps: those that an evaluation can ask for.

An evaluation asks for the best configuration of each family. As long as cells are left, that can
become any that the policy has not taken out; then it is one. The encoders of all others are
deleted, 45 MB a cell. Where one becomes the best after all, as by more seeds or when all others
fail, the evaluation has its encoders made again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from ssense.cli.screen import say, step
from ssense.engine.core.cell import Cell
from ssense.engine.core.sweep import Row
from ssense.engine.records.ledger import Ledger
from ssense.engine.records.readers import being_read
from ssense.engine.search.search import Search
from ssense.errors import counted
from ssense.files.source_code import code_digest
from ssense.files.storage import is_local

_REQUESTS_AT_ONCE = 32


def asked_for(search: Search) -> list[Row]:
    """The configurations whose encoders an evaluation can ask for, now or when the sweep ends.

    A family that ends without a best configuration keeps all: failed cells may be tried again.
    """
    if search.left() or not all(record.given_up for _, record in search.failed()):
        dropped = search.dropped()
        return [row for row in search.rows if row not in dropped]
    best = search.best()
    return [row for row in search.rows if best.get(row.family, row) == row]


def unwanted(search: Search) -> set[str]:
    """Signatures of a sweep's own cells whose encoders no evaluation asks for.

    Cells of another version of the code are not among them: this one can't make them again.
    """
    made_here = {
        name
        for name, record in search.records.items()
        if record.done and record.code_digest == code_digest()
    }
    return made_here & _cells(search, search.rows) - _cells(search, asked_for(search))


def delete_unwanted(search: Search, ledger: Ledger) -> None:
    """Delete the encoders that no evaluation asks for, as the sweep's only driver.

    Those that an evaluation is reading stay until the sweep runs next. One that chose its
    configurations just before and comes too late to be seen has them made again.

    Raises:
        UserError: The storage can't be read or written to.
    """
    names = unwanted(search)
    if not names:
        return
    names &= ledger.cells_with_weights() - being_read(ledger)
    if not names:
        return
    encoders = counted(len(names), "encoder")
    with step(f"Deleting {encoders} of configurations that are not the best"):
        _each(ledger.delete_weights, sorted(names), at_once=1 if is_local(ledger.folder) else None)
        ledger.copy_records()
    say("  --cell makes any of them again; --keep-encoders keeps all.")


def _cells(search: Search, rows: Iterable[Row]) -> set[str]:
    return {
        search.signature(Cell(row.configuration, seed))
        for row in rows
        for seed in search.sweep.seeds
    }


def _each(work: Callable[[str], None], names: Sequence[str], at_once: int | None) -> None:
    """Do something with each name, many at a time where each takes requests."""
    with ThreadPoolExecutor(at_once or _REQUESTS_AT_ONCE) as pool:
        for _ in pool.map(work, names):
            pass
