"""The maps as a section of the report of an evaluation, whichever of the two is made last.

Making maps keeps the section as it is laid out, and puts it into the report that is there; an
evaluation takes what was kept into its new report. Both say so where the maps are of other
configurations or seeds than the report.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass

from upath import UPath

from analysis.report.page import Block, Laid, Section, Words, replace_slot, slot_note
from ssense.cli.command import shell_command
from ssense.engine.core.cell import Configuration
from ssense.engine.records.ledger import Ledger
from ssense.errors import UserError, one_line
from ssense.files.digest import digest
from ssense.files.plain_values import from_plain
from ssense.files.sealed_json import sealed, unsealed
from ssense.files.storage import read_whole, write_whole

SLOT = "maps"
TITLE = "Where and when"
KEPT = "section.json"
"""The kept section, in the folder of the maps."""


@dataclass(frozen=True, kw_only=True)
class KeptMaps:
    """The section on the maps that were made last.

    Attributes:
        at: When they were made, ISO 8601.
        of: What was mapped, see `subjects_of`.
        body: The section below its heading, as HTML.
    """

    at: str
    of: Sequence[str]
    body: str

    def json(self) -> str:
        """The content of the file that keeps it."""
        return json.dumps(sealed(asdict(self))) + "\n"


def subjects_of(chosen: Mapping[str, Configuration], seeds: Sequence[int]) -> list[str]:
    """Name each family's configuration at some seeds, as an evaluation or maps are of."""
    return [digest(family, dict(values), list(seeds)) for family, values in chosen.items()]


def read_maps(ledger: Ledger) -> KeptMaps | None:
    """Read the kept section; None where no maps were made.

    Raises:
        UserError: The storage can't be read, or the file is damaged.
    """
    path = ledger.folder / "maps" / KEPT
    try:
        content = read_whole(path)
    except FileNotFoundError:
        return None
    try:
        return from_plain(KeptMaps, unsealed(json.loads(content.decode())))
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path} is not the section that was kept ({one_line(error)}). Delete it, or run "
            f"{maps_command(ledger)} again."
        ) from error


def maps_section(ledger: Ledger, evaluated: Collection[str]) -> Section:
    """The section on maps of a report.

    Args:
        ledger: The ledger of the sweep.
        evaluated: What the report is of, see `subjects_of`.

    Raises:
        UserError: The kept section can't be read.
    """
    kept, command = read_maps(ledger), maps_command(ledger)
    if kept is None:
        missing = Words([f"No maps have been made yet. {command} makes them."])
        return Section(TITLE, [missing], slot=SLOT, about=tuple(evaluated))
    earlier = Words(
        [
            f"Of an earlier evaluation: these maps, made at {kept.at}, are of other configurations "
            f"or seeds than the tests above. {command} makes those of this evaluation."
        ]
    )
    blocks: list[Block] = [Laid(kept.body)]
    if not set(kept.of) <= set(evaluated):
        blocks.insert(0, earlier)
    return Section(TITLE, blocks, slot=SLOT, about=tuple(evaluated))


def put_into_report(ledger: Ledger) -> UPath | None:
    """Put the maps that are kept into the report that is there, in place of earlier ones.

    Returns:
        The report; None where it was made by an earlier version, which left no place for maps.

    Raises:
        UserError: The report or the kept section can't be read, or the report not be written.
    """
    path = ledger.folder / "evaluation" / "report.html"
    page = read_whole(path).decode()
    evaluated = slot_note(page, SLOT)
    if evaluated is None:
        return None
    write_whole(path, replace_slot(page, maps_section(ledger, evaluated)))
    return path


def maps_command(ledger: Ledger) -> str:
    """What to type to make the maps of a sweep."""
    return shell_command("analysis/maps.py", storage=ledger.storage, sweep=ledger.folder.name)
