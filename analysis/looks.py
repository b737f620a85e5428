"""Looks at test splits: each is recorded, so that a report can say what the choice may know."""

from __future__ import annotations

from typing import Any

from analysis.evaluation import Evaluation
from ssense.storage import read_json, write_json
from sweeps.engine.ledger import Ledger, utc_now

FOLDER = "looks"


def record_look(ledger: Ledger, evaluation: Evaluation) -> str:
    """Record that test splits were looked at; say in words how often they had been before.

    A look counts where it met one of these seeds: only their test splits were seen.
    """
    chosen = {family: dict(values) for family, values in evaluation.chosen.items()}
    looks = _looks(ledger)
    earlier = [look for look in looks if {*look["seeds"]} & {*evaluation.seeds}]
    write_json(
        ledger.folder / FOLDER / f"look-{len(looks) + 1:04d}.json",
        {"at": utc_now(), "seeds": evaluation.seeds, "chosen": chosen},
    )
    return _standing(earlier, chosen)


def _looks(ledger: Ledger) -> list[dict[str, Any]]:
    folder = ledger.folder / FOLDER
    paths = sorted(folder.glob("look-*.json")) if folder.exists() else []
    return [read_json(path) for path in paths]


def _standing(earlier: list[dict[str, Any]], chosen: dict[str, dict[str, float]]) -> str:
    if not earlier:
        return "chosen before this first look at these test splits"
    times = "once" if len(earlier) == 1 else f"{len(earlier)} times"
    if all(look["chosen"] == chosen for look in earlier):
        return f"chosen before the first look at these test splits, which were seen {times} before"
    return (
        f"these test splits were seen {times} before, with other configurations: "
        "the choice may know them"
    )
