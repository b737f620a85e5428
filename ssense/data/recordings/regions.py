"""Regions of electrodes, from a table of contacts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from ssense.data.recordings.channels import known_region
from ssense.errors import UserError, counted, printable
from ssense.files.tables import csv_columns, read_csv
from ssense.signal.contacts import clean_label, contacts_of, plain_name

_NAMES = ("electrode_label", "electrode", "contact", "label", "name")
_REGIONS = ("region", "area", "roi")


def read_regions(path: Path, subject: str) -> dict[str, str]:
    """The region of each contact that a CSV names, by the contact's name.

    Its columns are called electrode, contact, name, electrode_label or label, and region, area or
    roi, in any case; of a table of several subjects, with the column subject, this one's rows are
    read. Contacts whose region is left blank, or unknown, have none.

    Raises:
        UserError: The file is no such table, names one contact twice, or no contact's region.
    """
    columns = csv_columns(path)
    name, region = (_column(path, columns, known) for known in (_NAMES, _REGIONS))
    found: dict[str, str] = {}
    for row in read_rows(path, dict.fromkeys([name, region], pa.string()), subject):
        contact, where = clean_label(row[name].strip()), known_region(row[region])
        if not where:
            continue
        if found.setdefault(contact, where) != where:
            raise UserError(
                f"{path} has two regions of {printable(contact, 30)}: {printable(found[contact])} "
                f"and {printable(where)}. Remove one."
            )
    if not found:
        raise UserError(f"{path} has no region of any contact of {subject}. Give another table.")
    return found


def read_rows(path: Path, wanted: Mapping[str, pa.DataType], subject: str) -> list[dict[str, Any]]:
    """Columns of a table of contacts; with a column subject, in any case, of this one's rows.

    Raises:
        UserError: The file is no such table.
    """
    whose = next((each for each in csv_columns(path) if each.lower() == "subject"), None)
    of_subject = {} if whose is None else {whose: pa.string()}
    rows: list[dict[str, Any]] = read_csv(path, {**wanted, **of_subject}).to_pylist()
    if whose is None:
        return rows
    return [row for row in rows if row[whose].strip() == subject]


def _column(path: Path, columns: list[str], known: tuple[str, ...]) -> str:
    named = {each.lower(): each for each in columns}
    for name in known:
        if name in named:
            return named[name]
    raise UserError(
        f"{path} has no column {' or '.join(known)}; its columns are "
        f"{printable(', '.join(columns))}. Give a CSV of contacts and their regions."
    )


def of_electrodes(regions: dict[str, str], electrodes: list[str], source: Path) -> dict[str, str]:
    """The regions of electrodes: of a bipolar pair "A1-A2" that of its first contact.

    Raises:
        UserError: The table is of other contacts.
    """
    known = {plain_name(name): region for name, region in regions.items()} | regions
    found: dict[str, str] = {}
    for name, contacts in contacts_of(electrodes).items():
        if where := known.get(name) or known.get(contacts[0]):
            found[name] = where
    if not found:
        raise UserError(
            f"{source} names none of the {counted(len(electrodes), 'electrode')} of the sweep, "
            f"{electrodes[0]} to {electrodes[-1]}, but {printable(', '.join(regions), 60)}. Give "
            "the table of this recording."
        )
    return found
