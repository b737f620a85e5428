"""The channels of a made-up recording, as its label file and its signal file list them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle
from typing import Literal

CONTACTS_PER_SHAFT = 5
# Contacts of the published sub_9, and those of them that its authors advise against.
SUB_9_SHAFTS = {"F3a": 6, "F3b": 6, "T1aI": 8, "T1b": 6, "T1c": 6, "T1d": 12}
SUB_9_SHAFTS |= {"P2a": 8, "P2b": 8, "P2c": 10, "P2d": 14, "P2e": 8, "P1C": 14}
SUB_9_CONTACTS = sum(SUB_9_SHAFTS.values())
SUB_9_CORRUPTED = ("F3a1", "F3a2", "F3a4", "P2c2", "P2c3", "P2c5", "T1c6")

LABELS_PER_UNLABELLED = 16  # the published sub_2 has 10 datasets beyond its 154 labels

Kind = Literal["contact", "flat", "auxiliary", "unlabelled"]


@dataclass(frozen=True)
class Channel:
    """One dataset of the signal file.

    Attributes:
        name: Name of the channel; empty for a dataset that no label names.
        kind: What the channel records: brain, nothing (a dead contact), or an auxiliary input.
        number: Place of the channel among the contacts or among the auxiliary inputs.
        label: Name as the label file has it, marks included.
        corrupted: Whether the list of corrupted electrodes has the channel.
    """

    name: str
    kind: Kind
    number: int = 0
    label: str = ""
    corrupted: bool = False


def lay_out(contacts: int, quirks: bool) -> list[Channel]:
    """Channels in the order of the files: contacts, then DC4 and DC10.

    With `quirks` DC4 and a trigger channel come in the middle, datasets without a label follow at
    the end, and one corrupted contact is flat.
    """
    names = contact_names(contacts)
    corrupted = [name for name in names if contacts == SUB_9_CONTACTS and name in SUB_9_CORRUPTED]
    if quirks and not corrupted:
        corrupted = names[-1:]
    flat = corrupted[-1] if quirks else None
    channels = [
        Channel(
            name,
            "flat" if name == flat else "contact",
            number,
            _marked(name, number, quirks),
            name in corrupted,
        )
        for number, name in enumerate(names)
    ]
    dc4, dc10, trigger = (
        Channel(name, "auxiliary", number, name, corrupted=True)
        for number, name in enumerate(("DC4", "DC10", "TRIG1"))
    )
    if not quirks:
        return [*channels, dc4, dc10]
    half = contacts // 2
    labelled = [*channels[:half], dc4, trigger, *channels[half:], dc10]
    surplus = max(1, len(labelled) // LABELS_PER_UNLABELLED)
    return [*labelled, *([Channel("", "unlabelled")] * surplus)]


def contact_names(contacts: int) -> list[str]:
    """Names of contacts on shafts of five; 106 contacts are those of the published sub_9."""
    if contacts == SUB_9_CONTACTS:
        return [f"{shaft}{i + 1}" for shaft, length in SUB_9_SHAFTS.items() for i in range(length)]
    names = []
    letters = "abcdefghij"
    for number in range(contacts):
        shaft, contact = divmod(number, CONTACTS_PER_SHAFT)
        lobe = "FTPO"[shaft // len(letters) % 4]
        row = shaft // (4 * len(letters)) + 1
        names.append(f"{lobe}{row}{letters[shaft % len(letters)]}{contact + 1}")
    return names


def corrupted_list(channels: list[Channel]) -> list[str]:
    """The corrupted channels as their list has them: with marks, and not those of the labels."""
    names = [channel.name for channel in channels if channel.corrupted]
    return [name + mark for name, mark in zip(names, cycle("*#"), strict=False)]


def _marked(name: str, number: int, quirks: bool) -> str:
    """A name with one of the marks that the published labels have, such as F1*0Fa5 or RT2aA11#."""
    place = number % 7
    if quirks and place in (0, 3):
        return name[:2] + ("_" if place == 0 else "*") + name[2:]
    return name + {2: "*", 5: "#"}.get(place, "")
