"""Looks at test splits: each is recorded, so that a report can say what the choice may know.

A test split is one of a dataset, a kind of split and a seed, whichever sweep looked at it:

STORAGE/looks/DATASET-KIND/look-0001.json
STORAGE/sweeps/SWEEP/looks/ID.json          that a sweep looked, and what its look hashes to

The test images of a subject are the same for all datasets, kinds and seeds.

Looks are chained: each names the looks before it with their hashes, and the sweep that looked keeps
a note of its last one. So it shows if a look is removed, changed or replaced. Of two at once
neither sees the other, and whichever comes next sees both. Looks of earlier versions of the code
name none, and count all the same.

A look whose run ends before anything of it can be seen is withdrawn: its file stays, so that the
chain holds for whoever saw it meanwhile, says so, and counts no more.
"""

from __future__ import annotations

import json
import re
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
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
from ssense.files.storage import names_in, read_many, write_next

FOLDER = "looks"
_WITHDRAWN = "withdrawn"
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
        by_test: Whether the test itself made that choice.
        withdrawn: Whether its run ended before it showed anything; no part of what it hashes to.
    """

    id: str = ""
    at: str = ""
    sweep: str = ""
    seeds: Sequence[int]
    chosen: Mapping[str, Configuration]
    seen: Mapping[str, str] = field(default_factory=dict)
    by_test: bool = False
    withdrawn: bool = False


@dataclass(frozen=True, kw_only=True)
class Looks:
    """The looks at the test splits of a dataset and a kind of split.

    Attributes:
        folder: The folder that they are kept in.
        looks: The looks that are there and count, by file.
        digests: What each look hashes to, those that were withdrawn included, by file.
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
        known = map(_NUMBER.fullmatch, self.digests.keys() | self.broken.keys())
        return 1 + max((int(name[1]) for name in known if name), default=0)


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A look that was just recorded, and what is known of the looks before it.

    Attributes:
        path: The file of the look.
        content: What the file says, as plain values.
        known: The looks before it.
        shared: Whether all seeds share one test split, so that every look is at the same.
    """

    path: UPath
    content: Mapping[str, Any]
    known: Looks
    shared: bool

    def standing(self, seeds: Sequence[int]) -> str:
        """Say what the choice may know of the test splits of some of the look's seeds."""
        if self.known.broken:
            n = len(self.known.broken)
            return (
                f"{n} of {self.known.count} earlier looks at these test splits "
                f"{'is' if n == 1 else 'are'} missing or changed: the choice may know them"
            )
        looks = self.known.looks.values()
        earlier = [look for look in looks if self.shared or {*look.seeds} & {*seeds}]
        most = max(sum(self.shared or seed in look.seeds for look in earlier) for seed in seeds)
        return _standing(earlier, self.content["chosen"], most)

    def withdraw(self) -> None:
        """Mark the look as one that showed nothing, so that it does not count.

        Raises:
            UserError: The storage can't be written to.
        """
        write_sealed(self.path, {**self.content, _WITHDRAWN: True})


@contextmanager
def withdrawn_unless_shown() -> Iterator[list[Recorded]]:
    """Withdraw looks where the block ends early, before anything of them could be seen.

    Yields:
        A list to append each look to as it is recorded. Clear it right before the first file that
        says what the looks show is put in its place: from there on they count, whatever happens.
    """
    looks: list[Recorded] = []
    try:
        yield looks
    except BaseException:
        for look in looks:
            with suppress(UserError):  # one that can't be marked counts
                look.withdraw()
        raise


def record_look(
    ledger: Ledger,
    seeds: Sequence[int],
    choice: Mapping[str, Configuration],
    sweep: Sweep | None = None,
) -> Recorded:
    """Record that test splits were looked at.

    Args:
        ledger: The sweep's ledger.
        seeds: Seeds whose test splits were looked at.
        choice: Every family's configuration at that time, whichever were looked at.
        sweep: The sweep that the test splits belong to, if not the ledger's: a control has its own.

    Raises:
        UserError: The storage can't be read or written to, or a look is damaged.
    """
    known = _looks(ledger, sweep)
    specification = (sweep or ledger.description().sweep).specification
    look = {
        "id": uuid.uuid4().hex,  # two looks at once are two, however alike
        "at": utc_now(),
        "sweep": ledger.folder.name,
        "seeds": list(seeds),
        "chosen": {family: dict(values) for family, values in choice.items()},
        "seen": known.digests,
        "by_test": specification.chosen_by_test,
    }
    content = json.dumps(sealed(look), indent=1) + "\n"
    path = write_next(known.folder, _NAME, known.next_number, content)
    recorded = Recorded(path=path, content=look, known=known, shared=specification.shares_test)
    with withdrawn_unless_shown() as looks:
        looks.append(recorded)
        note = {"look": f"{path.parent.name}/{path.name}", "digest": digest(look)}
        write_sealed(ledger.folder / FOLDER / f"{look['id']}.json", note)
    return recorded


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


def was_looked_at(ledger: Ledger, family: str, configuration: Configuration, seed: int) -> bool:
    """Whether a sweep looked at the test split of a seed with a configuration of a family.

    Args:
        ledger: The sweep's ledger.
        family: Name of the family.
        configuration: The configuration that was to be chosen of it.
        seed: Seed of the test split.

    Raises:
        UserError: The storage can't be read, or a look is damaged.
    """
    return any(
        look.sweep == ledger.folder.name
        and seed in look.seeds
        and look.chosen.get(family) == dict(configuration)
        for look in _looks(ledger).looks.values()
    )


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
    every = {name: look for name, (look, _) in zip(names, found, strict=True)}
    digests = {name: own for name, (_, own) in zip(names, found, strict=True)}
    noted = [(name, own, "a sweep's note of it") for name, own in notes]
    seen = [(n, own, by) for by, look in every.items() for n, own in look.seen.items()]
    return Looks(
        folder=folder,
        looks={name: look for name, look in every.items() if not look.withdrawn},
        digests=digests,
        broken=_broken(digests, [*noted, *seen]),
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
        look = from_plain(Look, {n: v for n, v in plain.items() if n in known})
        return look, digest({n: v for n, v in plain.items() if n != _WITHDRAWN})
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
    if all(_chose_alike(look, chosen) for look in earlier):
        return f"chosen before the first look at these test splits, which were seen {times} before"
    return f"these test splits were seen {times} before it was made: the choice may know them"


def _chose_alike(look: Look, chosen: Mapping[str, Any]) -> bool:
    """Whether a look was taken with the same choice, made without the test."""
    same = all(look.chosen.get(family) == values for family, values in chosen.items())
    return same and not look.by_test
