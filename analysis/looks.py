"""Looks at test splits: each is recorded, so that a report can say what the choice may know."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ssense.storage import read_json, write_next
from sweeps.engine.cell import Configuration
from sweeps.engine.ledger import Ledger, utc_now

FOLDER = "looks"


def record_look(
    ledger: Ledger, seeds: Sequence[int], configurations: Mapping[str, Configuration]
) -> str:
    """Record that test splits were looked at; say in words how often they had been before.

    A look counts where it met one of these seeds, for only their test splits were seen, or any
    seed where all share one test split.

    Args:
        ledger: of the sweep.
        seeds: whose test splits were looked at.
        configurations: that were, by family.
    """
    chosen = {family: dict(values) for family, values in configurations.items()}
    looks = _looks(ledger)
    shared = ledger.sweep().training.split == "held-out"
    earlier = [look for look in looks if shared or {*look["seeds"]} & {*seeds}]
    look = {"at": utc_now(), "seeds": seeds, "chosen": chosen}
    content = json.dumps(look, indent=1) + "\n"
    write_next(ledger.folder / FOLDER, "look-{:04d}.json", len(looks) + 1, content)
    return _standing(earlier, chosen)


def count_looks(ledger: Ledger) -> int:
    """How many looks at test splits of a sweep are recorded."""
    return len(_looks(ledger))


def _looks(ledger: Ledger) -> list[dict[str, Any]]:
    folder = ledger.folder / FOLDER
    paths = sorted(folder.glob("look-*.json")) if folder.exists() else []
    return [read_json(path) for path in paths]


def _standing(earlier: list[dict[str, Any]], chosen: dict[str, dict[str, float]]) -> str:
    if not earlier:
        return "chosen before this first look at these test splits"
    times = "once" if len(earlier) == 1 else f"{len(earlier)} times"
    if all(
        chosen[f] == seen for look in earlier for f, seen in look["chosen"].items() if f in chosen
    ):
        return f"chosen before the first look at these test splits, which were seen {times} before"
    return (
        f"these test splits were seen {times} before, with other configurations: "
        "the choice may know them"
    )
