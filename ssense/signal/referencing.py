"""References: what is subtracted from each contact, so that less is left of what many share.

Every reference is a list of derivations, each a contact minus the mean of some others:

    laplacian      of its two neighbours on the shaft (as BrainBERT does)
    bipolar        of the next contact on the shaft alone; named by both, "LA1-LA2"
    shaft-average  of the contacts of its shaft, itself included
    average        of all contacts, itself included
    none           of none: as recorded

Neighbours follow `contacts`: a grid or strip has none, since its next number may lie anywhere. Its
contacts do share a place and a wire, so that for "shaft-average" it counts as a shaft. A channel
that is a pair of contacts already has a reference, and is derived by "none" alone. Which reference
suits depends on how far a source spreads: Li et al. 2018, "Optimal referencing for
stereo-electroencephalographic (SEEG) recordings", NeuroImage 183, compare these among others.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ssense.choices import Reference
from ssense.signal.contacts import (
    Contact,
    contacts_by_place,
    laplacian_neighbours,
    plain_name,
    read_names,
)


@dataclass(frozen=True)
class Derivation:
    """The signal of an electrode: a contact minus the mean of others.

    Attributes:
        name: The electrode's name: that of its contact, or of both where it is a bipolar pair.
        contact: Name of the contact.
        subtracted: Names of the contacts whose mean is subtracted; none leaves the contact as
            recorded. The contact itself may be among them.
    """

    name: str
    contact: str
    subtracted: tuple[str, ...] = ()


def derivations(
    reference: Reference,
    names: Sequence[str],
    usable: Collection[str],
    grids: Collection[str] = (),
) -> list[Derivation]:
    """The electrodes that a reference makes of a recording's contacts, in the order of `names`.

    Args:
        reference: What is subtracted from each contact.
        names: All contacts of the recording.
        usable: Those of them that may be used, as an electrode or for a mean.
        grids: Shafts without neighbours: grids and strips.

    Raises:
        ValueError: Two names stand for one contact, and the reference needs to know the shafts.
    """
    return list(_DERIVED[reference](names, frozenset(usable), grids))


def _laplacian(
    names: Sequence[str], usable: frozenset[str], grids: Collection[str]
) -> Iterator[Derivation]:
    for contact, lower, higher in laplacian_neighbours(names, usable, grids):
        yield Derivation(contact, contact, (lower, higher))


def _bipolar(
    names: Sequence[str], usable: frozenset[str], grids: Collection[str]
) -> Iterator[Derivation]:
    by_place = {p: name for p, name in contacts_by_place(names).items() if name in usable}
    for place, name in by_place.items():
        following = by_place.get(Contact(place.shaft, place.number + 1))
        if following is not None and place.shaft not in grids:
            yield Derivation(f"{plain_name(name)}-{plain_name(following)}", name, (following,))


def _shaft_average(
    names: Sequence[str], usable: frozenset[str], _grids: Collection[str]
) -> Iterator[Derivation]:
    shaft_of = {n: p.shaft for p, n in contacts_by_place(names).items() if n in usable}
    together: defaultdict[str, tuple[str, ...]] = defaultdict(tuple)
    for name, shaft in shaft_of.items():
        together[shaft] += (name,)
    for name, shaft in shaft_of.items():
        if len(together[shaft]) > 1:
            yield Derivation(name, name, together[shaft])


def _average(
    names: Sequence[str], usable: frozenset[str], _grids: Collection[str]
) -> Iterator[Derivation]:
    pairs = read_names(names).pairs
    together = tuple(name for name in names if name in usable and name not in pairs)
    if len(together) > 1:
        yield from (Derivation(name, name, together) for name in together)


def _as_recorded(
    names: Sequence[str], usable: frozenset[str], _grids: Collection[str]
) -> Iterator[Derivation]:
    yield from (Derivation(name, name) for name in names if name in usable)


_Derive = Callable[[Sequence[str], frozenset[str], Collection[str]], Iterator[Derivation]]
_DERIVED: dict[Reference, _Derive] = {
    "laplacian": _laplacian,
    "bipolar": _bipolar,
    "shaft-average": _shaft_average,
    "average": _average,
    "none": _as_recorded,
}

Stretches = list[np.ndarray]
"""Stretches of one channel, float64 [samples] each."""


def referenced(
    derived: Sequence[Derivation], read: Callable[[str], Stretches]
) -> Iterator[Stretches]:
    """Compute the signals of one electrode after another.

    A mean that several electrodes share is accumulated in one pass over its contacts, which are
    read again, one at a time, for the electrodes: no channel is read more than twice. Neighbours
    are kept for the next electrode and are read once. Memory: three channels where the electrodes
    of a shaft follow each other, however many contacts a mean is of.

    Args:
        derived: The electrodes.
        read: Reads the stretches of a contact.

    Yields:
        The stretches of the next electrode, in the unit of the contacts.
    """
    uses = Counter(each.subtracted for each in derived)

    def parts(each: Derivation) -> list[str | tuple[str, ...]]:
        """What an electrode is made of: channels by name, and a shared mean by its contacts."""
        is_shared = uses[each.subtracted] > 1 and each.subtracted
        return [each.contact, *([each.subtracted] if is_shared else each.subtracted)]

    last_use = {part: place for place, each in enumerate(derived) for part in parts(each)}
    held: dict[str | tuple[str, ...], Stretches] = {}
    for place, each in enumerate(derived):
        for part in parts(each):
            if part not in held:
                held[part] = read(part) if isinstance(part, str) else _mean(map(read, part))
        signals = _minus_mean(each, held)
        held = {part: stretches for part, stretches in held.items() if last_use[part] > place}
        yield signals


def _minus_mean(each: Derivation, held: Mapping[str | tuple[str, ...], Stretches]) -> Stretches:
    contact = held[each.contact]
    if not each.subtracted:
        return contact
    if (shared := held.get(each.subtracted)) is not None:
        return [stretch - mean for stretch, mean in zip(contact, shared, strict=True)]
    own = _mean(held[name] for name in each.subtracted)
    for stretch, mean in zip(contact, own, strict=True):
        np.subtract(stretch, mean, out=mean)  # in place: a recording has thousands of stretches
    return own


def _mean(channels: Iterable[Stretches]) -> Stretches:
    """The mean over channels, of which two are in memory at a time."""
    n = 0
    total: Stretches = []
    for n, channel in enumerate(channels, start=1):
        if n == 1:
            total = [stretch.copy() for stretch in channel]
        else:
            for sum_of, stretch in zip(total, channel, strict=True):
                sum_of += stretch
    for sum_of in total:
        sum_of /= n
    return total
