"""Where are sentences told apart? Encoders that are given one electrode, a shaft, or a region.

    python sweeps/electrodes.py                                  # on a synthetic recording
    python sweeps/electrodes.py --recording DIR --subject sub_9 --trial trial000
    python sweeps/electrodes.py --recording DIR --by electrode region --regions regions.csv

SSENSE gives an encoder all electrodes (section 2.3). Here each is trained on by itself, and so are
shafts and regions, beside all of them. All are raced within their family over the validation
splits: those clearly behind stop early. The best of each family is tested. That the best of many
reaches a score says that one of them does, not that it is better than the next; and what each
reaches by itself does not add up. Features are made once: all share them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from ssense.cli.command import run_command
from ssense.cli.screen import say
from ssense.engine.tasks.recording_options import RecordingOptions
from ssense.errors import UserError, counted, printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ssense.engine.core.sweep import Levels, Sweep
    from ssense.engine.tasks.recording_data import RecordingData

EVERYTHING = "all electrodes"
Kind = Literal["electrode", "shaft", "region"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, kw_only=True)
class ElectrodeOptions(RecordingOptions):
    """Options of the sweep over electrodes."""

    by: tuple[Kind, ...] = KINDS
    """What an encoder is given: each electrode, each shaft, each region where these are known; a
    family for each."""
    regions: str | None = None
    """Table of contacts and their regions, a CSV with the columns electrode and region [those that
    the recording names, if it does]."""
    configurations: int | None = None
    """Electrodes, shafts or regions to try in each family [all]."""


def electrode_sweep(data: RecordingData, options: ElectrodeOptions) -> Sweep:
    """Define the sweep: all electrodes, and a family of single ones, of shafts and of regions.

    Raises:
        UserError: There is nothing to compare, or the table of regions is of other contacts.
    """
    names = data.own.electrodes or data.own.features.segments.electrodes
    if len(names) == 1:
        raise UserError(
            f"{data.own.features.where} has the single electrode {names[0]}: there is nothing to "
            "compare it with. Give a recording of several, or another --reference."
        )
    families: dict[str, dict[str, Levels]] = {EVERYTHING: {}}
    known = {frozenset(names): EVERYTHING}
    for kind in sorted({*options.by}, key=KINDS.index):  # what is the same goes by the first
        groups = groups_of(kind, data, options, names)
        if levels := subsets(groups, known, is_single=kind == "electrode"):
            families["single electrode" if kind == "electrode" else kind] = {
                "data.subset": tuple(levels)
            }
    if len(families) == 1:
        raise UserError(
            f"--by {' '.join(options.by)}: {data.own.features.where} has nothing of this but what "
            "is the same as all electrodes. Give --by electrode, or --regions."
        )
    if options.configurations is None:
        most = max(len(levels.get("data.subset", ())) for levels in families.values())
        options = replace(options, configurations=max(most, 1))
    return options.sweep("electrodes", data, families)


def groups_of(
    kind: str, data: RecordingData, options: ElectrodeOptions, names: Sequence[str]
) -> Mapping[str, Sequence[str]]:
    """The electrodes of each electrode, shaft or region, by its name.

    Raises:
        UserError: There is no such table of regions, or it is of other contacts.
    """
    from ssense.signal.contacts import shafts_of

    if kind == "electrode":
        return {name: [name] for name in names}
    if kind == "shaft":
        return {shaft: [names[at] for at in where] for shaft, where in shafts_of(names).items()}
    found: dict[str, list[str]] = {}
    for name, region in regions_of(data, options, names).items():
        found.setdefault(region, []).append(name)
    return dict(sorted(found.items()))


def regions_of(
    data: RecordingData, options: ElectrodeOptions, names: Sequence[str]
) -> Mapping[str, str]:
    """The region of each electrode that is in one, by the table, or as the recording names it.

    Raises:
        UserError: There is no such table, or it is of other contacts.
    """
    from ssense.data.recordings.regions import of_electrodes, read_regions

    features = data.own.features
    if options.regions is None:
        known = dict(zip(features.segments.electrodes, features.regions, strict=False))
        return {name: known[name] for name in names if known.get(name)}
    path = Path(options.regions)
    if not path.is_file():
        raise UserError(
            f"--regions {printable(options.regions, 150)} is no file. Give a CSV of electrodes and "
            "their regions."
        )
    return of_electrodes(read_regions(path, features.recording.subject), list(names), path)


def subsets(
    groups: Mapping[str, Sequence[str]], known: dict[frozenset[str], str], *, is_single: bool
) -> list[str]:
    """The subset of each group that is another than those before; says which are left out.

    Args:
        groups: Electrodes by the group's name.
        known: What each set of electrodes was called first; takes up these.
        is_single: Whether groups are single electrodes, called as they are.

    Raises:
        UserError: An electrode has a name that no subset can name.
    """
    from ssense.data.recordings.segments import subset_naming

    found, same = [], []
    for group, electrodes in groups.items():
        first = known.setdefault(frozenset(electrodes), group)
        if first is not group:
            same.append(f"{group} ({first})")
            continue
        try:
            found.append(subset_naming(electrodes, "" if is_single else group))
        except ValueError as error:
            raise UserError(f"{error}. Rename it in the recording.") from error
    if same:
        left_out = counted(len(same), "group that is", "groups that are")
        say(f"Left out: {left_out} the same as what is in brackets, {', '.join(same)}.")
    return found


def main(options: ElectrodeOptions) -> None:
    """Compare electrodes, shafts and regions over paired seeds."""
    from sweeps.run import run  # after the flags are checked: it takes seconds to import

    run(electrode_sweep, options)


if __name__ == "__main__":
    run_command(ElectrodeOptions, main)
