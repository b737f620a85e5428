"""Looks at test splits: each is recorded, so that a report can say what the choice may know.

A test split is one of a dataset, a kind of split and a seed, whichever sweep looked at it:

STORAGE/looks/DATASET-KIND/look-0001.json

The test images of a subject are the same for all datasets, kinds and seeds.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from upath import UPath

from ssense.storage import names_in, read_json, write_next
from sweeps.engine.cell import Configuration
from sweeps.engine.ledger import Ledger, utc_now
from sweeps.engine.sweep import Sweep

FOLDER = "looks"


def record_look(
    ledger: Ledger,
    seeds: Sequence[int],
    choice: Mapping[str, Configuration],
    sweep: Sweep | None = None,
) -> str:
    """Record that test splits were looked at; say in words how often they had been before.

    Args:
        ledger: of the sweep.
        seeds: whose test splits were looked at.
        choice: every family's configuration at that time, whichever were looked at.
        sweep: whose test splits they are, if not the ledger's: a control has its own.

    Raises:
        UserError: the storage can't be read or written to.
    """
    chosen = {family: dict(values) for family, values in choice.items()}
    folder, looks = _looks(ledger, sweep)
    shared = (sweep or ledger.sweep()).training.shares_test
    earlier = [look for look in looks if shared or {*look["seeds"]} & {*seeds}]
    look = {
        "id": uuid.uuid4().hex,  # two looks at once are two, however alike
        "at": utc_now(),
        "sweep": ledger.folder.name,
        "seeds": seeds,
        "chosen": chosen,
    }
    write_next(folder, "look-{:04d}.json", len(looks) + 1, json.dumps(look, indent=1) + "\n")
    most = max(sum(shared or seed in look["seeds"] for look in earlier) for seed in seeds)
    return _standing(earlier, chosen, most)


def looks_by_sweep(storage: UPath) -> Counter[str]:
    """How many looks each sweep of a storage has taken, by name.

    Raises:
        UserError: the storage can't be read, or a look is damaged.
    """
    folders = [storage / FOLDER / name for name in names_in(storage / FOLDER)]
    looks = [read_json(path) for folder in folders for path in _look_files(folder)]
    return Counter(str(look.get("sweep")) for look in looks)


def count_looks(ledger: Ledger) -> int:
    """How many looks are recorded at test splits like those of a sweep.

    Raises:
        UserError: the storage can't be read.
    """
    return len(_looks(ledger)[1])


def _looks(ledger: Ledger, sweep: Sweep | None = None) -> tuple[UPath, list[dict[str, Any]]]:
    sweep = sweep or ledger.sweep()
    test = ledger.description()["dataset"].get("test")
    named = test or f"{sweep.dataset_digest}-{sweep.training.split}"
    folder = ledger.storage / FOLDER / named
    return folder, list(map(read_json, _look_files(folder)))


def _look_files(folder: UPath) -> list[UPath]:
    return [folder / name for name in names_in(folder) if name.startswith("look-")]


def _standing(earlier: list[dict[str, Any]], chosen: dict[str, Any], most: int) -> str:
    """What a choice may know of test splits, one of which was seen `most` times before."""
    if not earlier:
        return "chosen before this first look at these test splits"
    times = "once" if most == 1 else f"up to {most} times"
    if all(look["chosen"].get(family) == c for look in earlier for family, c in chosen.items()):
        return f"chosen before the first look at these test splits, which were seen {times} before"
    return f"these test splits were seen {times} before it was made: the choice may know them"
