"""The sweeps of a storage: what each asks, of which data, how far it has come, and when.

    python analysis/catalogue.py --storage DIR

A name, its beginning, or words of the columns sweep, of, question and worked on can be given as
--sweep, such as "masking sub_9", where they match no other sweep.
"""

from __future__ import annotations

from analysis.options import CatalogueOptions
from ssense.cli.command import check_flags, run_command

if __name__ == "__main__":
    check_flags(CatalogueOptions)  # before the imports that take seconds

from collections import Counter
from collections.abc import Mapping

from upath import UPath

from analysis.measure import formats
from analysis.measure.looks import looks_by_sweep
from ssense.cli.screen import console, say
from ssense.engine.core.record import Record
from ssense.engine.core.sweep import Sweep
from ssense.engine.records.description import Description
from ssense.engine.records.find import all_ledgers, readable_ledgers
from ssense.engine.records.ledger import Ledger
from ssense.engine.search.race import POLICIES
from ssense.engine.search.search import Search
from ssense.errors import UserError
from ssense.files.storage import exists, open_storage


def catalogue(storage: UPath) -> formats.Rows:
    """A row for each sweep that can be read, the one worked on last first.

    Raises:
        UserError: There is no sweep, or the storage can't be read.
    """
    ledgers = readable_ledgers(all_ledgers(storage))
    try:
        looks: Mapping[str, int] | None = looks_by_sweep(storage)
    except UserError as error:  # a look is damaged
        say(str(error))
        looks = None
    return [
        _row(ledger, description, None if looks is None else looks[ledger.folder.name])
        for ledger, description in reversed(ledgers.items())
    ]


def _row(ledger: Ledger, description: Description, looks: int | None) -> dict[str, str]:
    origin = description.origin
    return {
        "sweep": ledger.folder.name,
        "of": f"{origin.subject}, {origin.title} ({description.task})",
        "question": question(description.sweep),
        "cells": _cells(ledger, description),
        "worked on": description.updated_at.replace("T", " ")[:16],
        "evaluated": _evaluated(ledger, looks),
    }


def question(sweep: Sweep) -> str:
    """What a sweep compares, in words: its question, and its families."""
    return f"{sweep.question}: {' | '.join(family.name for family in sweep.families)}"


def _cells(ledger: Ledger, description: Description) -> str:
    """How many of the sweep's cells are done; a ledger has those of controls and other seeds too.

    A cell is told by configuration and seed, because its signature depends on files that may be
    missing.
    """
    try:
        records = ledger.records()
    except UserError as error:  # one is damaged
        say(str(error))
        return "damaged, see above"
    done, failed = _finished(records, description)
    words = [f"{len(done)} of {description.sweep.n_cells}"]
    dropped = _dropped(records, description) - done - failed
    for cells, state in ((failed - done, "failed"), (dropped, "dropped")):
        if cells:
            words.append(f"{len(cells)} {state}")
    return ", ".join(words)


def _dropped(records: Mapping[str, Record], description: Description) -> set[object]:
    """The cells that the race has spared; none where signatures can't be told."""
    sweep = description.sweep
    try:
        search = Search(sweep, POLICIES[description.policy], description.rows, records)
    except UserError:
        return set()
    states = zip(search.rows, search.matrix().rows, strict=True)
    return {
        (_key(row.configuration), seed)
        for row, shown in states
        for seed, state in zip(sweep.seeds, shown.states, strict=True)
        if state == "dropped"
    }


def _finished(
    records: Mapping[str, Record], description: Description
) -> tuple[set[object], set[object]]:
    sweep, rows = description.sweep, description.rows
    wanted = {(_key(row.configuration), seed) for row in rows for seed in sweep.seeds}
    done: set[object] = set()
    failed: set[object] = set()
    for record in records.values():
        cell = _key(record.configuration), record.seed
        if cell in wanted and record.dataset_digest in sweep.all_datasets():
            (done if record.done else failed).add(cell)
    return done, failed


def _key(configuration: Mapping[str, object]) -> tuple[tuple[str, object], ...]:
    return tuple(sorted(configuration.items()))


def _evaluated(ledger: Ledger, looks: int | None) -> str:
    word = "yes" if exists(ledger.folder / "evaluation" / "scores.csv") else "no"
    if looks is None:
        return f"{word}, looks damaged, see above"
    return f"{word}, {looks} look{'s' * (looks != 1)} at the test" if looks else word


def main(options: CatalogueOptions) -> None:
    """List the sweeps of a storage."""
    storage = open_storage(options.storage, must_exist=True)
    rows = catalogue(storage)
    if not rows:
        raise UserError(f"no sweep in {storage} can be read. Name another --storage.")
    console.print(formats.screen_table(rows))
    by_task = Counter(str(row["of"]).rpartition("(")[2].rstrip(")") for row in rows)
    n_sweeps = f"{len(rows)} sweep{'s' * (len(rows) != 1)}"
    say(f"{n_sweeps}: {', '.join(f'{n} of {task}' for task, n in by_task.items())}.")


if __name__ == "__main__":
    run_command(CatalogueOptions, main)
