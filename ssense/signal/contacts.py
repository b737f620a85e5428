"""What channel names say: contact and shaft, pairs, and channels that record no brain."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

# DIXI's Microdeep electrodes have 5 to 18 contacts, Ad-Tech's and PMT's depth electrodes up to 16.
MOST_ON_A_SHAFT = 18
_ON_THE_SURFACE = re.compile(r"GRID|STRIP|ECOG", re.I)
LONGEST_LABEL = 100  # characters; EDF has 16, BIDS tables rarely over 30
# Between two neighbours of a shaft or strip a contact sees an angle of 128 degrees or more in the
# published sub_9; where a row of a grid ends, one of 15, or 90 if numbers run on below it.
OUT_OF_LINE_DEGREES = 110.0
LEAST_OUT_OF_LINE = 2  # the last contact of a row and the first of the next

# What the label files of the Brain Treebank sprinkle in, see `clean_label`.
_PAIR_OF_A_SHAFT = re.compile(r"(.*[^\W\d_]'?|.*\d_)(\d+)_(?=\1\d+$)")
_MARK = re.compile(r"(?<!\d)_|_(?!\d+(?![^\W_]))")

_PRIMES = str.maketrans(
    dict.fromkeys("\u2018\u2019\u201b\u02b9\u02bb\u02bc\u02bd\u02c8\u00b4\u2032\ua78c\uff07`", "'")
)
_DASHES = str.maketrans(
    dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d", "-")
)
_PREFIX = re.compile(r"(?:POL|EEG|[SI]EEG|ECOG)[ :.-]+(?=.*[^\W\d_])", re.I)
_REFERENCE = re.compile(r"(?<=\d)[ -]*(?:REF|AVG|AV|CAR)$", re.I)
_CONTACT = re.compile(r"(?P<shaft>.*?[^\W\d_].*\D|.*[^\W\d_])(?P<number>\d+)")
_BETWEEN_HALVES = re.compile(r"(?<=\d) ?- ?(?=\S)")

_BODY = "ECG|EKG|EMG|EOG"
# Words that are in no electrode's name, wherever they stand: "SYNC IN", "A-DC1".
_WORDS = (
    "HEART(?:RATE|BEAT)?|CARDIO|PULSE?|PLETH?|BEAT|BPM|SAO2|SPO2|OSAT|"  # heart and blood
    "QRS|PLETHWAVE|TCCO2|[LR]?(?:DELT(?:OID)?|MASSETER|TIBIALIS)|"  # muscle
    "RESP(?:IRATION)?|BREATH(?:ING)?|(?:AIR|C|NASAL|PTAF)?FLOW|CPAP|PTAF|THERMISTOR|THORAX|ABDOMEN|SNORE|EFFORT|"
    "[LR]?EYE|(?:EYE|GAZE|PUPIL)[XYLR]?|PUPIL(?:SIZE|DIAM(?:ETER)?|AREA)|(?:EYE)?BLINKS?|[HV]EO[LRUD]?|"
    "DC|MKR|MRK|MARK(?:ER)?S?|EVENTS?|EVT|STIM(?:ULUS)?|TTL|SYNC|PHOTO(?:DIODE|CELL|SENSOR)?|PHOTIC|DIODE|"
    "STIMTRAC?K|[HV]SYNC|SYNC(?:BOX|PULSE|IN|OUT)|VIDEOSYNC|TIMECODE|"
    "(?:DIG|STIM)?TRIG(?:GERS?)?(?:IN|OUT)?|TRGS?|DIN|DOUT|DIG(?:ITAL)?(?:IN|OUT)?|"
    "AINP?|ANALOG(?:UE)?(?:IN|OUT)?|(?:EVENT)?BUTTON(?:S|BOX)?|EXG|"
    "STATUS|ANNOTATIONS?|AUX|MISC|(?:AUDIO|SOUND)[LR]?|MICROPHONE|SPEAKER|CLOCK|COUNTER|TIMESTAMP|"
    "ACCEL(?:EROMETER)?[XYZ]?"
)
_WORD = re.compile(rf"\d*(?:[LRHV]?(?:{_BODY})[LRZ]?|{_WORDS})\d*")
_SEPARATORS = re.compile(r"[\s.:;,/+()\[\]_-]+")
# Shorter words, which may also be a part of an electrode's name: the whole name must be one.
_INPUTS = (
    "PPG|ETCO2(?:WAVE)?|CO2WAVE|GSR|EDA|STI|[LR]?[ -]?CHIN[ -]?[LRZ]?|(?:[EB]DF ?)?ANNOTATIONS?|"
    "REFERENCE|GND|GROUND|EMPTY|BLANK|UNUSED"
)
_NOT_NEURAL = re.compile(
    rf"[LRHV]?[ -]?(?:{_BODY}).*|TRIG(?!ON).*|(?:{_INPUTS})[ .:-]*\d*|"
    r"(?:ELEC(?:TRODE)?|COM(?:MON)?)[ ._:-]*(?:REF|REFERENCE|GND|GROUND)[ .:-]*\d*|"
    r"(?:REF|REFERENCE|GND|GROUND)[ ._:-]+[A-Z]\w*|ACC ?[XYZ]|HR|PR|IBI|TEMP|KEY|CAL|TIME|"
    r"[LR]?[ -]?LEG[ /-]?[LR]?"
)
# Of these names a third number makes a shaft: orbital or occipital cortex, say.
_MAYBE_A_SHAFT = re.compile(
    r"(?P<word>ORB|REF|[LR]OC(?: ?- ?[AM](?=\d))?|MIC|ABD|THOR?|CHEST|[LR]?LEG)"
    r"[ .:-]*(?P<number>\d*)"
)
_MOST_WITHOUT_A_SHAFT = 2
_CARBON_DIOXIDE, _BESIDE_IT = "CO2", {"CO1", "CO3", "CO01", "CO03"}


@dataclass(frozen=True)
class Contact:
    """The place of a contact: "P1C14" is number 14 of the shaft "P1C"."""

    shaft: str
    number: int


@dataclass(frozen=True)
class Names:
    """Names of neural channels by what they stand for; every name is in one of the three.

    Attributes:
        contacts: Place of each contact, by name.
        pairs: Names of two contacts, one minus the other: "A1-A2".
        unsplit: Names that are no shaft and number.
    """

    contacts: dict[str, Contact]
    pairs: frozenset[str]
    unsplit: frozenset[str]


def clean_label(label: str) -> str:
    """An electrode's name without the marks `*`, `#` and `_` of label files, and blanks around it.

    Between two contacts of one shaft, as in "A1_A2", a `_` is a hyphen. Between a digit and the
    number at the end it stays: "E1_8" is number 8 of the shaft "E1_", and not number 18 of "E".
    """
    unmarked = label.replace("*", "").replace("#", "")
    return _MARK.sub("", _PAIR_OF_A_SHAFT.sub(r"\1\2-", unmarked)).strip()


def plain_name(name: str) -> str:
    """A name without what amplifiers add: "POL A\u20191-Ref" is "A'1", "EEG A1-" is "A1".

    Letters with accents are one character each, however the name spells them.
    """
    composed = unicodedata.normalize("NFC", name)
    text = " ".join(composed.translate(_PRIMES).translate(_DASHES).split())
    while match := _PREFIX.match(text):
        text = text[match.end() :]
    return _REFERENCE.sub("", text.rstrip(" +-.:)]"))


def read_names(names: Sequence[str]) -> Names:
    """Tell contacts, pairs and other names apart.

    The number at the end of a name is the contact's, all before it the shaft's, which has a letter:
    "A'1", "A-1", "LA 01" and "T1aI1". What more than two names have after a hyphen is the
    reference of all, "A1-G2"; a name of two contacts is a pair.
    """
    contacts: dict[str, Contact] = {}
    pairs, unsplit = set(), set()
    for name, halves in contacts_of(names).items():
        contact = _contact(halves[0])
        if len(halves) > 1:
            pairs.add(name)
        elif contact:
            contacts[name] = contact
        else:
            unsplit.add(name)
    return Names(contacts, frozenset(pairs), frozenset(unsplit))


def contacts_of(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """What each name is of, without what amplifiers add: a pair's two contacts, or itself.

    "A1-A2" is of "A1" and "A2", "A-1-A-2" of "A-1" and "A-2", "A1-2" of "A1" and "2"; "A1-G2" is of
    "A1" alone where G2 is the reference of all, see `read_names`.
    """
    plain = {name: plain_name(name) for name in names}
    halves = {name: pair for name, text in plain.items() if (pair := _halves(text))}
    seconds = Counter(second for _, second in halves.values())
    references = {text for text, n in seconds.items() if n > 2 and re.search(r"[^\W\d_]", text)}
    found: dict[str, tuple[str, ...]] = {}
    for name, text in plain.items():
        pair = halves.get(name)
        if pair and pair[1] in references:
            found[name] = pair[:1]
        elif pair and _are_contacts(*pair, halves.values()):
            found[name] = pair
        else:
            found[name] = (text,)
    return found


def _halves(text: str) -> tuple[str, str] | None:
    """A name's parts around a hyphen after a digit: contacts of one shaft, else at the last one."""
    hyphens = _BETWEEN_HALVES.finditer(text)
    splits = [(text[: match.start()], text[match.end() :]) for match in hyphens]
    for first, second in splits:
        one, other = _contact(first), _contact(second)
        if one and other and one.shaft == other.shaft:
            return first, second
    return splits[-1] if splits else None


def shafts_of(names: Sequence[str]) -> dict[str, list[int]]:
    """Numbers of the electrodes on each shaft, by the shafts' names; others are on none.

    A bipolar pair "A1-A2" is on the shaft of its first contact.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    of = contacts_of(names)
    for number, name in enumerate(names):
        if contact := _contact(of[name][0]):
            groups[contact.shaft].append(number)
    return dict(groups)


def not_neural(names: Iterable[str]) -> frozenset[str]:
    """The names of channels that record no brain, whatever their case.

    Words, at the start or between separators and with digits around, tell heart (ECG, EKG, HEART,
    PULS, BEAT), muscle (EMG), eye (EOG, EYE, GAZE, BLINK, HEO), breath and blood gas (RESP,
    BREATHING, FLOW, SaO2), markers, events, triggers and other inputs (MKR, EVENT, STIM, TRIG, TRG,
    SYNC, DC, DIN, DIG, AIN, ANALOG, EXG, AUX, AUDIO, BUTTON): "X_ECG", "SYNC IN", "A-DC1". As a
    whole name so do references and ground (REF, GND, "REF A", ELEC_REF, "common ref"), STI, CHIN
    and others. Other letters make another word: "DCa1" and "REFL1" are contacts, and so are the
    "frontal eye field", CO2 beside CO1 or CO3, and three or more of ORB, REF, LOC, ROC, MIC, ABD,
    THO, THOR, CHEST or LEG with numbers; with fewer "LOC-A2" is an eye against an ear.
    """
    plain = {name: plain_name(name).upper() for name in names}
    perhaps = {
        name: match for name, text in plain.items() if (match := _MAYBE_A_SHAFT.fullmatch(text))
    }
    numbered = Counter(match["word"] for match in perhaps.values() if match["number"])
    return frozenset(
        name
        for name, text in plain.items()
        if _NOT_NEURAL.fullmatch(text)
        or (text == _CARBON_DIOXIDE and _BESIDE_IT.isdisjoint(plain.values()))
        or _has_a_word_of_none(text)
        or (
            (match := perhaps.get(name))
            and not (match["number"] and numbered[match["word"]] > _MOST_WITHOUT_A_SHAFT)
        )
    )


def _has_a_word_of_none(text: str) -> bool:
    words = _SEPARATORS.split(text)
    return "FIELD" not in words and any(map(_WORD.fullmatch, words))  # of the eyes, in the cortex


def grids(contacts: Iterable[Contact]) -> frozenset[str]:
    """Shafts that are grids by name or number: their next contact may lie anywhere.

    Those called grid, strip or ECoG, of however few contacts (a strip may have two rows), and those
    with more contacts than a depth electrode has.
    """
    counts = Counter(contact.shaft for contact in set(contacts))
    return frozenset(
        shaft
        for shaft, count in counts.items()
        if count > MOST_ON_A_SHAFT or _ON_THE_SURFACE.search(shaft)
    )


def sheets(places: Mapping[Contact, np.ndarray]) -> frozenset[str]:
    """The shafts whose contacts lie on a sheet rather than on a line, by their coordinates.

    On a line, straight or bent, a contact lies between those numbered one lower and one higher. On
    a grid that fails wherever a row ends.

    Args:
        places: Coordinates [3] of contacts, in any unit; contacts without any are left out.
    """
    out_of_line: Counter[str] = Counter()
    for contact, place in places.items():
        beside = [
            places.get(Contact(contact.shaft, contact.number + step), place) - place
            for step in (-1, 1)
        ]
        lengths = np.linalg.norm(beside, axis=1)
        if lengths.all():  # a contact at an end has one neighbour only
            cosine = float(beside[0] @ beside[1]) / float(lengths.prod())
            out_of_line[contact.shaft] += cosine > np.cos(np.radians(OUT_OF_LINE_DEGREES))
    return frozenset(shaft for shaft, n in out_of_line.items() if n >= LEAST_OUT_OF_LINE)


def contacts_by_place(names: Sequence[str]) -> dict[Contact, str]:
    """The name of each contact, in the order of the names; other names are skipped.

    Raises:
        ValueError: Two names stand for one contact.
    """
    by_place: dict[Contact, str] = {}
    for name, contact in read_names(names).contacts.items():
        if contact in by_place:
            raise ValueError(
                f"contact {contact.number} of shaft {contact.shaft} has two names: "
                f"{by_place[contact]!r} and {name!r}. Remove one."
            )
        by_place[contact] = name
    return by_place


def laplacian_neighbours(
    names: Sequence[str], clean: Collection[str], without: Collection[str] = ()
) -> list[tuple[str, str, str]]:
    """The contacts that can be re-referenced, each with its two neighbours on the same shaft.

    A contact is kept if it is clean and the contacts numbered one lower and one higher are clean
    too. Names that are not contacts are skipped, see `read_names`.

    Args:
        names: All contacts of the recording, in its order.
        clean: Those of them that may be used.
        without: Shafts that do not count, such as grids.

    Returns:
        (contact, lower neighbour, higher neighbour), in the order of `names`.

    Raises:
        ValueError: Two names stand for one contact.
    """
    by_place = contacts_by_place(names)
    usable = {contact: name for contact, name in by_place.items() if name in clean}
    triples = []
    for contact, name in usable.items():
        lower = usable.get(Contact(contact.shaft, contact.number - 1))
        higher = usable.get(Contact(contact.shaft, contact.number + 1))
        if lower is not None and higher is not None and contact.shaft not in without:
            triples.append((name, lower, higher))
    return triples


def _contact(text: str) -> Contact | None:
    match = _CONTACT.fullmatch(text)
    return Contact(match["shaft"], int(match["number"])) if match else None


def _are_contacts(first: str, second: str, others: Iterable[tuple[str, str]]) -> bool:
    """Whether the two halves of a name are contacts: "A1-A2", and "A1-2" if there is no "A1-3"."""
    one = _contact(first)
    if one is None or not second.isdigit():
        return one is not None and _contact(second) is not None
    shaft = sum(before == first and after.isdigit() for before, after in others)
    return shaft == 1 and abs(int(second) - one.number) == 1
