"""Finding a sweep among those of a storage: by name, by words about it, or the latest."""

from __future__ import annotations

import re
from collections.abc import Iterable

from upath import UPath

from ssense.cli.screen import say
from ssense.engine.records.description import Description
from ssense.engine.records.ledger import SWEEPS, Ledger
from ssense.errors import UserError, printable
from ssense.files.storage import exists, names_in


def sweep_folders(storage: UPath) -> list[UPath]:
    """Folders of the sweeps in a storage, by name.

    Raises:
        UserError: The storage can't be read.
    """
    folders = (storage / SWEEPS / name for name in names_in(storage / SWEEPS))
    return [folder for folder in folders if exists(folder / "sweep.json")]


def all_ledgers(storage: UPath) -> list[Ledger]:
    """Ledgers of the sweeps in a storage, by name.

    Raises:
        UserError: There is no sweep, or the storage can't be read.
    """
    ledgers = list(map(Ledger, sweep_folders(storage)))
    if not ledgers:
        raise UserError(f"no sweep in {storage}. Run a file of sweeps/ first.")
    return ledgers


def readable_ledgers(
    ledgers: Iterable[Ledger], task: str | None = None
) -> dict[Ledger, Description]:
    """Those of ledgers that can be read, with their descriptions; the latest at the end.

    It reports those that are left out: they are damaged or of another format, and may be the ones
    that were meant.

    Args:
        ledgers: Ledgers of sweeps.
        task: Name of the task that their cells must train; None for any.
    """
    found: list[tuple[Ledger, Description]] = []
    for ledger in ledgers:
        try:
            description = ledger.description()
            if task in (None, description.task):
                found.append((ledger, description))
        except UserError as error:
            say(f"Left out: {error}")
    return dict(sorted(found, key=lambda each: each[1].updated_at))


def find_ledger(storage: UPath, name: str | None = None, task: str | None = None) -> Ledger:
    """Return the ledger of a sweep by name, or of the sweep that was worked on last.

    Args:
        storage: Storage of the sweeps.
        name: Name of the sweep, or its beginning, or words that are all in its name, its task,
            its question, its date, or the subject and the title of its data: "masking sub_9".
        task: Task that the sweep's cells must train; None for any.

    Raises:
        UserError: There is no sweep, none of that name, several that match, or it trains something
            else.
    """
    ledgers = {ledger.folder.name: ledger for ledger in all_ledgers(storage)}
    if name is None:
        readable = readable_ledgers(ledgers.values(), task)
        if not readable:
            kind = f"sweep of {task}" if task else "readable sweep"
            raise UserError(f"no {kind} in {storage}. Name another `storage`.")
        return list(readable)[-1]
    found = ledgers.get(name) or _meant(name, ledgers.values(), storage, task)
    if task is not None and (own := found.description().task) != task:
        kind = f"a sweep of {own}, not of {task}"
        raise UserError(f"{found.folder.name} is {kind}. Name another.")
    return found


def _meant(name: str, ledgers: Iterable[Ledger], storage: UPath, task: str | None) -> Ledger:
    """The sweep that the beginning of a name means, or words about it.

    Raises:
        UserError: No sweep matches, or several do.
    """
    readable = readable_ledgers(ledgers, task)
    about = {ledger: _about(ledger, description) for ledger, description in readable.items()}
    found = [ledger for ledger in about if ledger.folder.name.startswith(name)]
    words = _plain(name).split()
    if not found and words:
        found = [
            ledger
            for ledger, description in readable.items()
            if all(word in _searched(ledger, description) for word in words)
        ]
    if len(found) == 1:
        return found[0]
    shown = printable(", ".join(sorted(about[ledger] for ledger in found or about)), 170)
    if found:
        raise UserError(
            f"{printable(name)} matches {len(found)} sweeps: {shown}. Give more of the name."
        )
    raise UserError(f"no sweep {printable(name)} in {storage}. Found: {shown or 'none'}.")


def _about(ledger: Ledger, description: Description) -> str:
    """The name of a sweep, and of what data it is: "masking-1a2b3c4d (sub_9, Ant-Man)"."""
    return f"{ledger.folder.name} ({description.origin.subject}, {description.origin.title})"


def _searched(ledger: Ledger, description: Description) -> str:
    """All words that a sweep can be told by: its data and task, its question, and its date."""
    sweep, (day, _, time) = description.sweep, description.updated_at.partition("T")
    families = " ".join(family.name for family in sweep.families)
    words = [_about(ledger, description), description.task, sweep.question, families, day, time[:5]]
    return _plain(" ".join(words))


def _plain(text: str) -> str:
    """Words without the marks that a table puts between them; a file's name is a question's too."""
    return " ".join(re.sub(r"[,()|]|: ", " ", text).replace("_", "-").casefold().split())
