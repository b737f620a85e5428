"""Sweeps that belong into one table: of several subjects, alike in all else."""

from __future__ import annotations

from collections.abc import Sequence

from upath import UPath

from ssense.engine.core.origin import ImageOrigin, RecordingOrigin
from ssense.engine.records.description import Description
from ssense.engine.records.find import find_ledger, readable_ledgers, sweep_folders
from ssense.engine.records.ledger import Ledger
from ssense.errors import UserError, printable
from ssense.specification import settings


def subject_ledgers(storage: UPath, names: Sequence[str]) -> list[Ledger]:
    """The sweeps over images to evaluate, one of each subject.

    Args:
        storage: Storage of the sweeps.
        names: Names of sweeps; none for the one of each subject that was worked on last.

    Raises:
        UserError: There is none, one is no sweep over images, or two are of one subject.
    """
    if names:
        ledgers = [find_ledger(storage, name, "images") for name in dict.fromkeys(names)]
        found = {ledger: ledger.description() for ledger in ledgers}
    else:
        latest = readable_ledgers(map(Ledger, sweep_folders(storage)), "images").items()
        found = dict({each.origin.subject: (ledger, each) for ledger, each in latest}.values())
    if not found:
        raise UserError(f"{storage} has no sweep of images. Run sweeps/images.py first.")
    subjects: dict[str, str] = {}
    for ledger, description in found.items():
        subject = description.origin.subject
        if other := subjects.get(subject):
            raise UserError(
                f"`sweeps`: {other} and {ledger.folder.name} are both of {subject}. Give one sweep "
                "of each subject."
            )
        subjects[subject] = ledger.folder.name
    return sorted(found, key=lambda ledger: found[ledger].origin.subject)


def check_alike(ledgers: Sequence[Ledger]) -> None:
    """Refuse to put sweeps of one task into one table that differ in more than their subjects.

    Args:
        ledgers: The ledgers of the sweeps.

    Raises:
        UserError: Two sweeps differ; the message says in what.
    """
    first, *others = ledgers
    wanted = _circumstances(first.description())
    for other in others:
        for name, value in _circumstances(other.description()).items():
            if value != wanted[name]:
                raise UserError(
                    f"{first.folder.name} and {other.folder.name} differ in their {name}: "
                    f"{printable(str(wanted[name]))} and {printable(str(value))}. Give sweeps "
                    "that are alike with `sweeps`."
                )


def _circumstances(description: Description) -> dict[str, object]:
    """All that the sweeps of one table must share, by name."""
    sweep, families = description.sweep, sorted(each.name for each in description.sweep.families)
    trained = settings(sweep.specification)
    trained.pop("contacts", None)  # each recording has its own
    match description.origin:
        case RecordingOrigin() as origin:  # each recording has seeds of its own
            return {"families": ", ".join(families), **trained, "target": origin.tower}
        case ImageOrigin() as origin:
            data = ("responses", "images", "responses_taken", "split_seed", "more_images")
            return {
                "seeds": sweep.seeds,
                "objectives": ", ".join(families),
                **trained,
                **{name: getattr(origin.source, name) for name in data},
            }
