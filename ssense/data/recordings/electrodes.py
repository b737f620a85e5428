"""Which contacts of a recording become electrodes under a reference, and why others do not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ssense.choices import Electrodes, Reference
from ssense.data.recordings.recording import Recording
from ssense.data.recordings.signals.signal_quality import BY_SIGNAL
from ssense.errors import UserError
from ssense.files.tables import listing
from ssense.signal.contacts import read_names
from ssense.signal.referencing import Derivation, derivations

CORRUPTED = "corrupted"
PAIR = "pair of contacts"
UNSPLIT = "not named by shaft and number"
ON_GRID = "on a grid or strip"
NO_NEIGHBOUR = "lacks a clean neighbour"
NO_NEXT = "lacks a clean next contact"
ALONE = "alone on its shaft"
NO_OTHER = "lacks another contact"
CANCELLED = "nothing left by the reference"
BY_REFERENCE = (PAIR, UNSPLIT, ON_GRID, NO_NEIGHBOUR, NO_NEXT, ALONE, NO_OTHER, CANCELLED)
REASONS = (CORRUPTED, *BY_SIGNAL, *BY_REFERENCE)
"""Reasons why a contact is no electrode."""

_BY_SHAFT: tuple[Reference, ...] = ("laplacian", "bipolar", "shaft-average")
_BY_NEIGHBOUR: tuple[Reference, ...] = ("laplacian", "bipolar")
_LACKING: dict[Reference, str] = {
    "laplacian": NO_NEIGHBOUR,
    "bipolar": NO_NEXT,
    "shaft-average": ALONE,
    "average": NO_OTHER,
}


@dataclass(frozen=True)
class Montage:
    """The electrodes of a recording under a reference.

    Attributes:
        derivations: What each electrode is made of, in the order of the recording's labels.
        left_out: Why each other contact is no electrode, a reason of `REASONS` by its name. It may
            still be subtracted from others.
    """

    derivations: tuple[Derivation, ...]
    left_out: dict[str, str]


def montage(recording: Recording, electrodes: Electrodes, reference: Reference) -> Montage:
    """Derive the electrodes of a recording from its contacts.

    Args:
        recording: The recording, whose signals are read as far as `Recording.quality` needs.
        electrodes: Contacts that may be used. Those whose signal is of no use never are.
        reference: What is subtracted from each.

    Raises:
        UserError: Two labels stand for one contact, or the signals can't be read.
    """
    reasons = dict(recording.quality.left_out)
    if electrodes == "clean":
        reasons |= dict.fromkeys(recording.corrupted, CORRUPTED)
    usable = [name for name in recording.electrodes if name not in reasons]
    try:
        derived = derivations(reference, recording.electrodes, usable, recording.grids)
    except ValueError as error:
        raise UserError(f"{recording.where}: {error}") from error
    cancelled = recording.quality.cancelled(derived)
    kept = tuple(each for each in derived if each.contact not in cancelled)
    used = {each.contact for each in kept}
    names = read_names(recording.electrodes)
    for name in usable:
        if name in used:
            continue
        if name in cancelled:
            reasons[name] = CANCELLED
        elif name in names.pairs:
            reasons[name] = PAIR
        elif reference in _BY_SHAFT and name in names.unsplit:
            reasons[name] = UNSPLIT
        elif reference in _BY_NEIGHBOUR and names.contacts[name].shaft in recording.grids:
            reasons[name] = ON_GRID
        else:
            reasons[name] = _LACKING[reference]
    return Montage(kept, reasons)


def kept_electrodes(
    recording: Recording, electrodes: Electrodes, reference: Reference
) -> tuple[Derivation, ...]:
    """The electrodes of a recording, of which there must be one.

    Raises:
        UserError: No electrode is left; the message has the reasons. Or see `montage`.
    """
    found = montage(recording, electrodes, reference)
    if found.derivations:
        return found.derivations
    count = Counter(found.left_out.values())
    counts = [f"{why}: {count[why]}" for why in REASONS if why in count]
    advice = "Set `electrodes` to all"
    if any(count[why] for why in BY_SIGNAL):
        advice = f"Check the signals in {recording.signals.name}"
    elif any(count[why] for why in BY_REFERENCE):
        advice = "Set `reference` to another, such as none, which needs no other contact"
    raise UserError(
        f"no electrode left of the {len(recording.electrodes)} in {recording.where} "
        f"by `electrodes` {electrodes} and `reference` {reference}; {listing(counts)}. {advice}."
    )
