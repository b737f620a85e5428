from __future__ import annotations

from pathlib import Path
from re import _parser as re_parser

import numpy as np
import pytest

from ssense.signal import contacts
from ssense.signal.contacts import (
    Contact,
    clean_label,
    contacts_of,
    grids,
    laplacian_neighbours,
    not_neural,
    read_names,
    shafts_of,
    sheets,
)
from ssense.signal.referencing import derivations

SUBJECT_9_SHAFTS = (
    "F3a1-6 F3b1-6 T1aI1-8 T1b1-6 T1c1-6 T1d1-12 P2a1-8 P2b1-8 P2c1-10 P2d1-14 P2e1-8 P1C1-14"
)
SUBJECT_9_CORRUPTED = {"DC4", "DC10", "F3a1", "F3a2", "F3a4", "P2c2", "P2c3", "P2c5", "T1c6"}


def place(name: str) -> Contact | None:
    return read_names([name]).contacts.get(name)


# ---------------------------------------------------------------- shaft and number


@pytest.mark.parametrize(
    ("name", "shaft", "number"),
    [
        ("A'1", "A'", 1),
        ("A\u20191", "A'", 1),
        ("A\u203212", "A'", 12),
        ("A-1", "A-", 1),
        ("LA 1", "LA ", 1),
        ("LA\u00a01", "LA ", 1),
        ("LA\u20131", "LA-", 1),
        ("A01", "A", 1),
        ("LA1-Ref", "LA", 1),
        ("LA1-REF", "LA", 1),
        ("LA1ref", "LA", 1),  # LA1_ref, cleaned
        ("A'1 - Ref", "A'", 1),
        ("POL A1", "A", 1),
        ("POL A1-", "A", 1),
        ("EEG A'12-Ref", "A'", 12),
        ("SEEG LA-3", "LA-", 3),
        ("A1+", "A", 1),
        ("T1aI1", "T1aI", 1),
        ("RT3aHa1", "RT3aHa", 1),
        ("F10Fa5", "F10Fa", 5),
        ("P1C14", "P1C", 14),
        ("iEEG96", "iEEG", 96),
        ("EEG 3", "EEG ", 3),
        ("G64", "G", 64),
        ("DAS04", "DAS", 4),
        ("Ω2", "Ω", 2),
        ("E\u03011", "\u00c9", 1),
        ("H\uff071", "H'", 1),
    ],
)
def test_all_before_the_last_number_is_the_shaft(name, shaft, number):
    assert place(name) == Contact(shaft, number)


@pytest.mark.parametrize("name", ["9", "118", "x", "Cz", "1-2", "-", "A1b", "'3", "LA1-Ref left"])
def test_names_that_cannot_be_split_are_told(name):
    assert read_names([name]).unsplit == {name}


@pytest.mark.parametrize(
    "names",
    [
        ["A1-A2", "A2-A3", "A3-A4"],
        ["LA1-LA2", "LA2-LA3"],
        ["A'1-A'2", "A\u20192-A\u20193"],
        ["POL A1-A2", "EEG B01-B02"],
        ["A1-B1"],
        ["A1-2", "A2-3", "A3-4"],
        ["A1 - A2"],
        ["A-1-A-2", "A-2-A-3"],
        ["F3-1-F3-2", "F3-2-F3-3", "F3-3-F3-4"],
    ],
)
def test_two_contacts_are_a_pair_and_not_one(names):
    assert read_names(names).pairs == set(names)
    assert laplacian_neighbours(names, names) == []


@pytest.mark.parametrize("shaft", ["A", "A-", "F3-", "LA ", "A'"])
def test_pairs_of_a_recording_are_on_their_first_contact_s_shaft(shaft):
    names = [f"{shaft}{number}" for number in range(1, 6)]
    derived = derivations("bipolar", names, frozenset(names), ())
    pairs = [each.name for each in derived]
    assert contacts_of(pairs) == {each.name: (each.contact, *each.subtracted) for each in derived}
    assert shafts_of(pairs) == {shaft: [0, 1, 2, 3]}


def test_a_number_behind_a_hyphen_may_be_the_contact_s():
    names = ["F1-1", "F1-2", "F1-3"]
    assert read_names(names).contacts == {name: Contact("F1-", int(name[-1])) for name in names}


def test_what_all_names_have_behind_a_hyphen_is_their_reference():
    names = [f"A'{number}-G2" for number in range(1, 5)]
    found = read_names(names)
    assert [found.contacts[name] for name in names] == [Contact("A'", n) for n in range(1, 5)]
    assert len(laplacian_neighbours(names, names)) == 2


@pytest.mark.parametrize(
    "left", ["A'{}", "A\u2019{}", "A\u2032{}", "LA-{}", "LA {}", "LA{}-Ref", "POL LA{}", "LA{:02}"]
)
def test_both_hemispheres_have_neighbours(left):
    names = [f"A{n}" for n in range(1, 6)] + [left.format(n) for n in range(1, 6)]
    kept = [contact for contact, _, _ in laplacian_neighbours(names, names)]
    assert kept == [*names[1:4], *names[6:9]]


def test_shafts_that_end_in_a_digit_are_told_apart():
    labels = ["E1_8", "E1_9*", "E#1_10", "E10_8", "E10_9", "E10_10", "E18", "E19"]
    names = [clean_label(label) for label in labels]
    assert len(set(names)) == 8
    assert laplacian_neighbours(names, names) == [
        (names[1], names[0], names[2]),
        (names[4], names[3], names[5]),
    ]
    assert clean_label("E1_8_E1_9") == "E1_8-E1_9"
    assert place(clean_label("E1_8_REF")) == Contact("E1_", 8)
    assert place(clean_label("F1_0Fa5")) == Contact("F10Fa", 5)


# ---------------------------------------------------------------- what is no brain


@pytest.mark.parametrize(
    "name",
    [
        *("ECG+", "EKG1", "ekg", "ECG II", "POL EKG1", "EEG ECG-Ref", "PULS", "BEAT", "SaO2"),
        *("EMG1+", "Chin EMG", "EMG-L", "EOG1", "LEOG", "HEOG", "EOG left", "ORB+", "RESP"),
        *("MKR1+", "EVENT", "STI 014", "TRIG1", "Trigger In", "SYNC", "TTL2", "STATUS"),
        *("DC4", "DC10", "dc1", "DC 2", "POL DC03-", "EDF Annotations", "REF", "REF1", "GND"),
        *("AUX3", "PHOTODIODE", "AUDIO1", "MIC1"),
        *("HR", "Heart Rate", "HeartRate", "1ECG", "X ECG", "RFDI EMG", "EKG-RA", "L EOG"),
        *("ABD", "THO", "Flow", "Chin1", "LEG1", "LEG/L", "EYE-L", "EYE X", "EyeY", "GazeX"),
        *("HEO", "VEO", "VEOU", "LOC-A2", "ROC-A1", "EXG1", "EXG8", "SYNC IN", "Sync-out"),
        *("stim channel", "DIN1", "Digital1", "DigTrig", "TrigOut", "DC Channel 1", "A-DC1"),
        *("Audio L", "REF A", "Ref-B", "Button1", "ACC X", "ACCEL1"),
        *("TRG", "TRG1", "DIG", "DIG1", "DIG_IN 2", "AIN1", "ainp12", "ANALOG", "Analog In 3"),
        *("Breathing", "BREATH", "CFLOW", "Nasal Flow", "Blink", "EyeBlink", "CPAP"),
        *("REYE", "LEYE", "PupilDiam", "PupilSize", "EventButton", "MASSETER", "L DELT", "CO2"),
        *("TcCO2", "STIMTRACK", "PhotoSensor", "SYNCBOX", "VSYNC", "THOR", "QRS", "TIBIALIS"),
        *("ELEC_REF", "common ref", "COM-REF", "Common Reference", "REF_A", "elec gnd"),
    ],
)
def test_channels_of_heart_muscle_eye_markers_and_references_are_not_neural(name):
    assert not_neural(["A1", name]) == {name}


def test_contacts_that_begin_alike_stay():
    names = ["DCa1", "REFL1", "ECOG1", "iEEG1", "ACC1", "HR1", "TEMP1", "SOG1", "AR1", "G01", "1"]
    names += ["ORB1", "ORB2", "ORB3", "LOC1", "LOC2", "LOC3", "LOC4"]
    names += ["LEGA1", "THOA1", "CHINA1", "DC'1", "Frontal eye field 3", "TRIGON2", "HEAD1", "LOF1"]
    names += ["TRGA1", "DIGA1", "AINa1", "COM1", "ELEC1", "RTG1", "LAI1", "NASAL1", "REFA1"]
    names += ["ABD1", "ABD2", "ABD3", "LOC-A1", "LOC-A2", "LOC-A3"]
    names += [f"CO{number}" for number in range(1, 7)]
    assert not_neural(names) == set()
    assert not_neural(["ORB1", "ORB2", "ORB+"]) == {"ORB1", "ORB2", "ORB+"}


# ---------------------------------------------------------------- grids


def test_a_depth_electrode_has_eighteen_contacts_at_most():
    assert grids(Contact("A", number) for number in range(1, 19)) == set()
    names = [f"G{number}" for number in range(1, 65)] + ["A1", "A2", "A3"]
    shafts = grids(read_names(names).contacts.values())
    assert shafts == {"G"}
    assert laplacian_neighbours(names, names, shafts) == [("A2", "A1", "A3")]


@pytest.mark.parametrize("stem", ["GRID", "LGrid ", "Grid_A", "STRIP", "RTStrip", "ECOG"])
def test_what_is_called_a_grid_is_none_of_however_few_contacts(stem):
    names = [f"{stem}{number}" for number in range(1, 5)] + ["RG1", "RG2", "RG3"]
    shafts = grids(read_names(names).contacts.values())
    assert shafts == {stem}
    assert laplacian_neighbours(names, names, shafts) == [("RG2", "RG1", "RG3")]


def on(shaft: str, places: list) -> dict[Contact, np.ndarray]:
    return {Contact(shaft, n): np.array(xyz, float) for n, xyz in enumerate(places, start=1)}


def test_contacts_on_a_sheet_are_told_from_those_on_a_line():
    straight = on("A", [(3.5 * n, n, 0) for n in range(12)])
    bent = on("B", [(40 * np.sin(n / 8), 40 * np.cos(n / 8), 0) for n in range(12)])
    rows = on("G", [(10 * (n % 8), 10 * (n // 8), 0) for n in range(16)])
    square = on("S", [(10 * (n % 2), 10 * (n // 2), 0) for n in range(4)])
    snake = on("Z", [(0, 0, 0), (10, 0, 0), (20, 0, 0), (20, 10, 0), (10, 10, 0), (0, 10, 0)])
    assert sheets(straight | bent | rows | square | snake) == {"G", "S", "Z"}


def test_a_grid_a_strip_and_a_depth_electrode_of_a_published_recording():
    """Contacts 5 to 12 of a grid of 64, T1 to T6 and DAS1 to DAS4 of BIDS example som682, mm."""
    grid = [
        (-55.0, -63.4, 28.2),
        (-57.7, -60.4, 21.8),
        (-59.8, -57.3, 15.1),
        (-59.7, -54.3, 8.0),
        (-43.3, -66.4, 55.6),
        (-47.5, -64.0, 50.2),
        (-51.5, -62.1, 43.8),
        (-53.9, -59.1, 37.5),
    ]
    strip = [
        (-50.1, 13.8, -10.7),
        (-54.0, 8.9, -3.6),
        (-57.3, 5.4, 5.3),
        (-57.9, -0.5, 13.0),
        (-59.2, -5.5, 22.1),
        (-59.0, -11.9, 30.5),
    ]
    depth = [(-16.0, -29.0, 29.0), (-24.3, -28.3, 34.7), (-32.7, -27.7, 40.3), (-41.0, -27.0, 46.0)]
    assert sheets(on("G", grid) | on("T", strip) | on("DAS", depth)) == {"G"}


def test_one_misplaced_contact_is_no_sheet():
    places = [(3.5 * n, 0, 0) for n in range(8)]
    places[7] = (3.5 * 6, 1, 0)
    assert sheets(on("A", places)) == set()
    assert sheets({Contact("A", 1): np.zeros(3), Contact("A", 2): np.zeros(3)}) == set()


# ---------------------------------------------------------------- neighbours


def test_subject_9_keeps_its_72_contacts() -> None:
    names = ["DC4", "DC10"]
    for shaft in SUBJECT_9_SHAFTS.split():
        first, last = shaft.split("-")  # "P1C1", "14"
        names += [f"{first[:-1]}{number}" for number in range(1, int(last) + 1)]
    clean = set(names) - SUBJECT_9_CORRUPTED
    neighbours = laplacian_neighbours(names, clean)
    assert len(names) == 108
    assert len(clean) == 99
    assert len(neighbours) == 72
    kept = [contact for contact, _, _ in neighbours]
    assert kept == [name for name in names if name in kept]
    assert ("P1C13", "P1C12", "P1C14") in neighbours
    assert ("T1aI2", "T1aI1", "T1aI3") in neighbours
    assert not {"F3a3", "F3a5", "P2c4", "T1c5", "P1C1", "P1C14"} & set(kept)


def test_a_shaft_ends_at_the_last_letter() -> None:
    # "P1", "P2" and "P3" are one shaft; "P1a2" belongs to another; "x" and "9" to none.
    names = ["P3", "P1a2", "P1", "x", "P2", "9", "F10Fa5"]
    assert laplacian_neighbours(names, names) == [("P2", "P1", "P3")]


def test_neighbours_are_by_number_and_not_by_position() -> None:
    names = ["A4", "A2", "A1", "A3", "A11", "A10", "A9"]
    assert laplacian_neighbours(names, frozenset(names)) == [
        ("A2", "A1", "A3"),
        ("A3", "A2", "A4"),
        ("A10", "A9", "A11"),
    ]


def test_clean_names_that_the_recording_lacks_do_not_count() -> None:
    assert laplacian_neighbours(["A1", "A2"], ["A1", "A2", "A3"]) == []


def test_one_contact_with_two_names_is_refused() -> None:
    with pytest.raises(ValueError, match="contact 1 of shaft A has two names: 'A1' and 'A01'"):
        laplacian_neighbours(["A1", "A01"], [])


def shortest(pattern: str) -> set[str]:
    """The shortest of the names that a pattern takes, one for each way through its branches."""
    return ways(re_parser.parse(pattern))


def ways(parsed) -> set[str]:
    found = {""}
    for code, argument in parsed:
        match str(code):
            case "LITERAL":
                parts = {chr(argument)}
            case "IN":  # of many letters any one does
                named = [what for kind, what in argument if str(kind) in ("LITERAL", "RANGE")]
                letters = [what if isinstance(what, int) else what[0] for what in named]
                parts = set(map(chr, letters if len(letters) < 5 else letters[:1]))
            case "SUBPATTERN":
                parts = ways(argument[3])
            case "BRANCH":
                parts = set().union(*map(ways, argument[1]))
            case "MAX_REPEAT":
                least, _, repeated = argument
                parts = ways(repeated) if least else {""}
            case _:
                parts = {""}
        found = {first + second for first in found for second in parts}
    return found


def test_the_page_lists_every_word_that_makes_a_channel_not_neural():
    page = (Path(__file__).parents[2] / "docs" / "recordings.md").read_text()
    table = page.partition("| what | a word in the name | the whole name |")[2].partition("\n\n")[0]
    rows = [line.strip("|").split("|")[1:] for line in table.strip().splitlines()[1:]]
    words, whole = (
        {name.strip() for row in rows for name in row[column].split(",") if name.strip()}
        for column in (0, 1)
    )
    assert words == shortest(contacts._WORD.pattern)
    shafts = {name.removesuffix("*") for name in whole if name.endswith("*")}
    assert shafts == shortest(contacts._MAYBE_A_SHAFT.pattern)
    names = {name.removesuffix("*") for name in whole} | words
    alone = shortest(contacts._NOT_NEURAL.pattern) | {contacts._CARBON_DIOXIDE}
    # A leg is there twice: as a channel's whole name, and perhaps as a shaft.
    assert names == words | shafts | alone
    assert not_neural(names) == names
    assert all(not_neural([f"X_{word} 1"]) for word in words)
    assert not any(not_neural([f"X_{name} 1"]) for name in names - words)
