"""Looks at test splits: each is recorded, so that a report can say what the choice may know.

A test split is one of a dataset, a kind of split and a seed, whichever sweep looked at it:

STORAGE/looks/DATASET-KIND/look-0001.json
STORAGE/sweeps/SWEEP/looks/ID.json          that a sweep looked, and what its look hashes to

The test images of a subject are the same for all datasets, kinds and seeds.

Looks are chained: each names the looks before it with their hashes, and the sweep that looked keeps
a note of its last one. So it shows if a look is removed, changed or replaced. Of two at once
neither sees the other, and whichever comes next sees both. Looks of earlier versions of the code
name none, and count all the same.
"""

from __future__ import annotations

import json
import re
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from typing import Any

from upath import UPath

from ssense.engine.core.cell import Configuration
from ssense.engine.core.record import utc_now
from ssense.engine.core.sweep import Sweep
from ssense.engine.records.ledger import Ledger
from ssense.errors import UserError, one_line
from ssense.files.digest import digest
from ssense.files.plain_values import from_plain
from ssense.files.sealed_json import sealed, unsealed, write_sealed
from ssense.files.storage import names_in, read_many, remove, write_next

FOLDER = "looks"
_recorded: ContextVar[list[UPath]] = ContextVar("recorded")
"""Files of the looks that are withdrawn if what they show is never written."""
_NAME = "look-{:04d}.json"
_NUMBER = re.compile(r"look-(\d{4,9})\.json")


@dataclass(frozen=True, kw_only=True)
class Look:
    """One look at test splits.

    Attributes:
        id: A name of its own: two looks at once are two, however alike.
        at: When it was, ISO 8601.
        sweep: The name of the sweep that looked.
        seeds: The seeds whose test splits were looked at.
        chosen: Every family's configuration at that time, whichever were looked at.
        seen: The files of the looks before it, with what each hashes to.
    """

    id: str = ""
    at: str = ""
    sweep: str = ""
    seeds: Sequence[int]
    chosen: Mapping[str, Configuration]
    seen: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Looks:
    """The looks at the test splits of a dataset and a kind of split.

    Attributes:
        folder: The folder that they are kept in.
        looks: The looks that are there, by file.
        digests: What each of them hashes to, by file.
        broken: What shows that some were removed or changed, a line each, by file.
    """

    folder: UPath
    looks: Mapping[str, Look]
    digests: Mapping[str, str]
    broken: Mapping[str, str]

    @property
    def count(self) -> int:
        """How many looks there were, those that were removed included."""
        return len(self.looks.keys() | self.broken.keys())

    @property
    def next_number(self) -> int:
        """The number of the next look, which no earlier look ever had."""
        known = map(_NUMBER.fullmatch, self.looks.keys() | self.broken.keys())
        return 1 + max((int(name[1]) for name in known if name), default=0)


@contextmanager
def withdrawn_unless_written() -> Iterator[None]:
    """Withdraw the looks that are recorded within, where it ends early: they showed nothing."""
    recorded: list[UPath] = []
    outer = _recorded.set(recorded)
    try:
        yield
    except BaseException:
        for path in reversed(recorded):
            with suppress(UserError):  # what can't be removed counts
                remove(path)
        raise
    finally:
        _recorded.reset(outer)


def record_look(
    ledger: Ledger,
    seeds: Sequence[int],
    choice: Mapping[str, Configuration],
    sweep: Sweep | None = None,
) -> str:
    """Record that test splits were looked at; say in words how often they had been before.

    Args:
        ledger: The sweep's ledger.
        seeds: Seeds whose test splits were looked at.
        choice: Every family's configuration at that time, whichever were looked at.
        sweep: The sweep that the test splits belong to, if not the ledger's: a control has its own.

    Raises:
        UserError: The storage can't be read or written to, or a look is damaged.
    """
    chosen = {family: dict(values) for family, values in choice.items()}
    known = _looks(ledger, sweep)
    shared = (sweep or ledger.description().sweep).specification.shares_test
    earlier = [look for look in known.looks.values() if shared or {*look.seeds} & {*seeds}]
    look = {
        "id": uuid.uuid4().hex,  # two looks at once are two, however alike
        "at": utc_now(),
        "sweep": ledger.folder.name,
        "seeds": seeds,
        "chosen": chosen,
        "seen": known.digests,
    }
    content = json.dumps(sealed(look), indent=1) + "\n"
    path = write_next(known.folder, _NAME, known.next_number, content)
    note = {"look": f"{path.parent.name}/{path.name}", "digest": digest(look)}
    noted = ledger.folder / FOLDER / f"{look['id']}.json"
    try:
        write_sealed(noted, note)
    except UserError:  # the caller shows nothing, so this was not a look
        remove(path)
        raise
    _recorded.get([]).extend((path, noted))
    if known.broken:
        n = len(known.broken)
        return (
            f"{n} of {known.count} earlier looks at these test splits {'is' if n == 1 else 'are'} "
            "missing or changed: the choice may know them"
        )
    most = max(sum(shared or seed in look.seeds for look in earlier) for seed in seeds)
    return _standing(earlier, chosen, most)


def looks_by_sweep(storage: UPath) -> Counter[str]:
    """How many looks each sweep of a storage has taken, by name.

    Raises:
        UserError: The storage can't be read, or a look is damaged.
    """
    found = [read_looks(storage / FOLDER / name) for name in names_in(storage / FOLDER)]
    return Counter(look.sweep for each in found for look in each.looks.values())


def count_looks(ledger: Ledger) -> int:
    """How many looks there were at test splits like those of a sweep, removed ones included.

    Raises:
        UserError: The storage can't be read, or a look is damaged.
    """
    return _looks(ledger).count


def read_looks(folder: UPath, notes: Iterable[tuple[str, str]] = ()) -> Looks:
    """Read the looks of a folder, and find those that are missing or were changed.

    Args:
        folder: The folder of a dataset and a kind of split.
        notes: What sweeps noted of looks in this folder: their files, and what they hash to.

    Raises:
        UserError: The storage can't be read, or a look is damaged.
    """
    names = [name for name in names_in(folder) if name.startswith("look-")]
    paths = [folder / name for name in names]
    found = [_parsed(*each) for each in zip(paths, read_many(paths), strict=True)]
    looks = {name: look for name, (look, _) in zip(names, found, strict=True)}
    digests = {name: own for name, (_, own) in zip(names, found, strict=True)}
    noted = [(name, own, "a sweep's note of it") for name, own in notes]
    seen = [(n, own, by) for by, look in looks.items() for n, own in look.seen.items()]
    return Looks(
        folder=folder, looks=looks, digests=digests, broken=_broken(digests, [*noted, *seen])
    )


def looks_noted(ledger: Ledger) -> dict[str, list[tuple[str, str]]]:
    """What a sweep noted of its looks, by folder: their files, and what they hash to.

    Raises:
        UserError: The storage can't be read, or a note is damaged.
    """
    folder = ledger.folder / FOLDER
    paths = [folder / name for name in names_in(folder) if name.endswith(".json")]
    noted: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for path, content in zip(paths, read_many(paths), strict=True):
        try:
            note = from_plain(dict[str, str], unsealed(json.loads(content.decode())))
            where, _, name = note["look"].rpartition("/")
            noted[where].append((name, note["digest"]))
        except (KeyError, ValueError, RecursionError) as error:
            raise UserError(
                f"{path} is not a note of a look ({one_line(error)}). Delete it."
            ) from error
    return noted


def _broken(digests: Mapping[str, str], expected: Iterable[tuple[str, str, str]]) -> dict[str, str]:
    """Looks that are not there, or not as they were seen, each with what shows it."""
    broken: dict[str, str] = {}
    for name, seen, by in expected:
        if name not in digests:
            broken[name] = f"{name} is missing: {by} names it"
        elif digests[name] != seen:
            broken[name] = f"{name} was changed or replaced: {by} names another"
    numbers = {int(m[1]) for m in map(_NUMBER.fullmatch, digests) if m}
    for number in range(1, max(numbers, default=0)):
        if number not in numbers:
            name = _NAME.format(number)
            broken.setdefault(name, f"{name} is missing: later ones are there")
    return broken


def _parsed(path: UPath, content: bytes) -> tuple[Look, str]:
    """A look, and what it hashes to.

    Raises:
        UserError: The file is not a look, or was changed.
    """
    try:
        plain = unsealed(json.loads(content.decode()))
        known = {each.name for each in fields(Look)}
        return from_plain(Look, {n: v for n, v in plain.items() if n in known}), digest(plain)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path} is not the look that was recorded ({one_line(error)}). Restore it; where it "
            "is lost, delete it, and reports will say that a look is missing."
        ) from error


def _looks(ledger: Ledger, sweep: Sweep | None = None) -> Looks:
    description = ledger.description()
    sweep = sweep or description.sweep
    named = description.origin.test or f"{sweep.dataset_digest}-{sweep.specification.split}"
    return read_looks(ledger.storage / FOLDER / named, looks_noted(ledger).get(named, ()))


def _standing(earlier: list[Look], chosen: dict[str, Any], most: int) -> str:
    """What a choice may know of test splits, one of which was seen `most` times before."""
    if not earlier:
        return "chosen before this first look at these test splits"
    times = "once" if most == 1 else f"up to {most} times"
    if all(look.chosen.get(family) == c for look in earlier for family, c in chosen.items()):
        return f"chosen before the first look at these test splits, which were seen {times} before"
    return f"these test splits were seen {times} before it was made: the choice may know them"
