"""Published 200-way results on THINGS-EEG2 and THINGS-MEG, in percent, with source and protocol.

Rows by subject, and their means, are those of the tables in SSR's README. Newer methods have means
alone: from their abstracts, or from SAMGA's table as two public files quote it. Results that
calibrate on the test responses together (SATTC, SCORE) are another task, and left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Modality = Literal["EEG", "MEG"]
Task = tuple[Modality, str]
"""Modality, and whom a cell trains on: "intra-subject" or "leave-one-subject-out"."""

EEG_WITHIN: Task = ("EEG", "intra-subject")
EEG_ACROSS: Task = ("EEG", "leave-one-subject-out")
MEG_WITHIN: Task = ("MEG", "intra-subject")
MEG_ACROSS: Task = ("MEG", "leave-one-subject-out")

SUBJECTS: Mapping[Modality, int] = {"EEG": 10, "MEG": 4}
"""How many subjects the published means are over."""
N_TEST = 200
"""Images of the published tests."""

BY_TEST = "chosen by the test"
UNKNOWN = "not stated"

Scores = tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Method:
    """A published method, and the protocol of its numbers.

    Attributes:
        citation: Where it is published, and where the numbers are from if not from there.
        gallery: What it retrieves from, as its code or paper has it.
        choice: What chooses its epoch or settings, as its code has it.
    """

    citation: str
    gallery: str = UNKNOWN
    choice: str = UNKNOWN


METHODS: Mapping[str, Method] = {
    "BraVL": Method(citation="Du et al., TPAMI 2023"),
    "NICE": Method(
        citation="Song et al., ICLR 2024",
        gallery="class-centre",
        choice="chosen by training pairs whose concepts are trained on",
    ),
    "ATM": Method(citation="Li et al., NeurIPS 2024", gallery="original", choice=BY_TEST),
    "CogCapturer": Method(
        citation="CognitionCapturer, AAAI 2025", gallery="original", choice=BY_TEST
    ),
    "Neural-MCRL": Method(citation="arXiv 2024", gallery="original", choice=BY_TEST),
    "VE-SDN": Method(citation="arXiv 2024"),
    "UBP": Method(
        citation="CVPR 2025; across subjects, test images of the others choose",
        gallery="blurred",
        choice="last epoch, stopped by the training loss",
    ),
    "NeuroBridge": Method(
        citation="AAAI 2026; its code keeps the last epoch and that of the best test loss",
        gallery="augmented-mean",
        choice="last epoch, or by the test",
    ),
    "NeuroCLIP": Method(citation="arXiv 2511.09250; across subjects as third parties quote it"),
    "SSR": Method(citation="under review, its README", gallery="original"),
    "SUP-MCRL": Method(
        citation="Gong et al., arXiv 2606.16615, as SAMGA's table has it",
        gallery="its own, of attended pixels",
        choice=BY_TEST,
    ),
    "EEGiT": Method(citation="CVPR 2026, as SAMGA's table has it"),
    "Brain-HIVE": Method(
        citation="Zheng et al., ICLR 2026 (arXiv 2602.07495), as SAMGA's table has it",
        gallery="several towers, fused",
        choice="last epoch",
    ),
    "Shallow Alignment": Method(
        citation="Du et al., arXiv 2601.21948, as SAMGA's table has it",
        gallery="a layer inside the tower",
    ),
    "HCF": Method(citation="arXiv 2603.07077, as SAMGA's table has it"),
    "SAMGA": Method(
        citation="Jiang et al., arXiv 2604.17782, its abstract",
        gallery="learned mixture of layers",
        choice=BY_TEST,
    ),
    "SVTL": Method(citation="as SAMGA's table has it"),
}
"""The methods by name, in the order of publication."""

MEANS: Mapping[Task, Mapping[str, tuple[float, float | None]]] = {
    EEG_WITHIN: {
        "BraVL": (5.8, 17.5),
        "NICE": (16.1, 43.6),
        "ATM": (27.1, 58.1),
        "CogCapturer": (33.3, 60.6),
        "Neural-MCRL": (32.4, 64.1),
        "VE-SDN": (37.2, 70.0),
        "UBP": (50.9, 79.7),
        "NeuroBridge": (63.2, 89.9),
        "NeuroCLIP": (63.2, None),
        "SSR": (66.9, 92.9),
        "SUP-MCRL": (66.0, 91.9),
        "EEGiT": (70.4, 95.1),
        "Brain-HIVE": (75.7, 94.6),
        "Shallow Alignment": (82.6, 97.7),
        "HCF": (84.6, 98.2),
        "SAMGA": (91.3, 98.8),
    },
    EEG_ACROSS: {
        "BraVL": (1.8, 7.0),
        "NICE": (6.2, 21.4),
        "ATM": (11.9, 33.8),
        "Neural-MCRL": (14.0, 34.3),
        "UBP": (12.4, 33.4),
        "NeuroBridge": (19.0, 45.9),
        "NeuroCLIP": (17.0, 40.3),
        "SSR": (22.6, 53.0),
        "SUP-MCRL": (24.0, 52.9),
        "EEGiT": (24.0, 55.6),
        "Shallow Alignment": (22.4, 50.8),
        "SAMGA": (34.4, 64.8),
        "SVTL": (35.3, 65.6),
    },
    MEG_WITHIN: {
        "NICE": (12.8, 36.0),
        "UBP": (26.7, 55.2),
        "NeuroBridge": (32.2, 60.8),
        "SSR": (41.3, 71.1),
        "Shallow Alignment": (48.0, None),
    },
    MEG_ACROSS: {
        "UBP": (2.2, 10.4),
        "NeuroBridge": (3.4, 12.8),
        "SSR": (4.9, 15.5),
    },
}
"""Top-1 and Top-5 over subjects, by method; None where no table has it."""

BY_SUBJECT: Mapping[Task, Mapping[str, tuple[Scores, Scores]]] = {
    EEG_WITHIN: {
        "BraVL": (
            (6.1, 4.9, 5.6, 5.0, 4.0, 6.0, 6.5, 8.8, 4.3, 7.0),
            (17.9, 14.9, 17.4, 15.1, 13.4, 18.2, 20.4, 23.7, 14.0, 19.7),
        ),
        "NICE": (
            (13.2, 13.5, 14.5, 20.6, 10.1, 16.5, 17.0, 22.9, 15.4, 17.4),
            (39.5, 40.3, 42.7, 52.7, 31.5, 44.0, 42.1, 56.1, 41.6, 45.8),
        ),
        "ATM": (
            (25.6, 22.0, 25.0, 31.4, 12.9, 21.3, 30.5, 38.8, 34.4, 29.1),
            (60.4, 54.5, 62.4, 60.9, 43.0, 51.1, 61.5, 72.0, 51.5, 63.5),
        ),
        "CogCapturer": (
            (27.2, 28.7, 37.2, 37.7, 21.8, 31.6, 32.8, 47.6, 33.4, 35.1),
            (59.5, 57.0, 66.1, 63.2, 47.8, 58.1, 59.6, 73.5, 57.7, 63.6),
        ),
        "Neural-MCRL": (
            (27.5, 28.5, 37.0, 35.0, 22.5, 31.5, 31.5, 42.0, 30.5, 37.5),
            (64.0, 61.5, 69.0, 66.0, 51.5, 61.0, 62.5, 74.5, 59.5, 71.0),
        ),
        "VE-SDN": (
            (32.6, 34.4, 38.7, 39.8, 29.4, 34.5, 34.5, 49.3, 39.0, 39.8),
            (63.7, 69.9, 73.5, 72.0, 58.6, 68.8, 68.3, 79.8, 69.6, 75.3),
        ),
        "UBP": (
            (41.2, 51.2, 51.2, 51.1, 42.2, 57.5, 49.0, 58.6, 45.1, 61.5),
            (70.5, 80.9, 82.0, 76.9, 72.8, 83.5, 79.9, 85.8, 76.2, 88.2),
        ),
        "NeuroBridge": (
            (50.0, 63.2, 61.6, 61.4, 54.8, 69.7, 62.7, 71.2, 64.0, 73.6),
            (77.6, 90.6, 91.1, 90.0, 85.0, 92.9, 88.8, 95.1, 91.0, 97.1),
        ),
        "SSR": (
            (60.1, 67.4, 62.8, 63.6, 60.1, 73.7, 66.1, 73.1, 65.4, 76.7),
            (88.9, 94.2, 93.2, 92.4, 87.9, 94.6, 91.1, 96.1, 92.8, 98.0),
        ),
    },
    EEG_ACROSS: {
        "BraVL": (
            (2.3, 1.5, 1.4, 1.7, 1.5, 1.8, 2.1, 2.2, 1.6, 2.3),
            (8.0, 6.3, 5.9, 6.7, 5.6, 7.2, 8.1, 7.6, 6.4, 8.5),
        ),
        "NICE": (
            (7.6, 5.9, 6.0, 6.3, 4.4, 5.6, 5.6, 6.3, 5.7, 8.4),
            (22.8, 20.5, 22.3, 20.7, 18.3, 22.2, 19.7, 22.0, 17.6, 28.3),
        ),
        "ATM": (
            (10.5, 7.1, 11.9, 14.7, 7.0, 11.1, 16.1, 15.0, 4.9, 20.5),
            (26.8, 24.8, 33.8, 39.4, 23.9, 35.8, 43.5, 40.3, 22.7, 46.5),
        ),
        "UBP": (
            (11.5, 15.5, 9.8, 13.0, 8.8, 11.7, 10.2, 12.2, 15.5, 16.0),
            (29.7, 40.0, 27.0, 32.3, 33.8, 31.0, 23.8, 32.2, 40.5, 43.5),
        ),
        "Neural-MCRL": (
            (13.0, 12.0, 14.5, 12.5, 11.5, 13.5, 14.0, 18.5, 13.5, 17.0),
            (31.5, 30.5, 35.5, 35.5, 29.0, 35.5, 36.0, 38.5, 32.5, 39.0),
        ),
        "NeuroBridge": (
            (23.2, 21.2, 13.2, 17.0, 14.5, 25.0, 15.3, 20.1, 13.7, 27.2),
            (52.4, 49.3, 36.5, 45.3, 37.7, 55.0, 45.1, 44.9, 36.5, 56.3),
        ),
        "SSR": (
            (23.4, 24.9, 15.8, 21.5, 19.9, 27.6, 16.5, 21.2, 21.1, 34.5),
            (56.8, 56.5, 41.8, 50.7, 49.1, 57.4, 49.3, 51.2, 50.5, 66.4),
        ),
    },
    MEG_WITHIN: {
        "NICE": ((9.6, 18.5, 14.2, 9.0), (27.8, 47.8, 41.6, 26.6)),
        "UBP": ((15.0, 46.0, 27.3, 18.5), (38.0, 80.5, 59.0, 43.5)),
        "NeuroBridge": ((16.5, 53.7, 40.4, 18.1), (41.6, 85.3, 73.2, 43.1)),
        "SSR": ((19.3, 66.6, 50.8, 28.5), (50.6, 93.5, 82.6, 57.9)),
    },
    MEG_ACROSS: {
        "UBP": ((2.0, 1.5, 2.7, 2.5), (5.7, 17.2, 10.5, 8.0)),
        "NeuroBridge": ((4.3, 3.6, 3.0, 2.5), (13.1, 15.6, 11.2, 11.3)),
        "SSR": ((5.5, 6.0, 4.6, 3.6), (14.2, 19.4, 15.4, 13.1)),
    },
}
"""Top-1 and Top-5 by subject, in their order; a method that published none is missing."""


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """What a table shows of a published method, for the subjects that it has.

    Attributes:
        name: Name of the method, with the protocol of its numbers.
        of_subjects: Its score of each subject of the table, in percent; None where it published
            means alone.
        over: Its mean over the subjects of the table; over all the paper's where the name says so.
    """

    name: str
    of_subjects: tuple[float | None, ...]
    over: float | None


def published_rows(
    task: Task, subjects: Sequence[str], place: int, *, by_test: bool = False
) -> list[PublishedRow]:
    """What was published on a task, for the subjects of a table.

    Args:
        task: The task.
        subjects: Names of the subjects, which end in their number: "sub-03", "P3".
        place: 0 for Top-1, 1 for Top-5.
        by_test: Whether the table's own epochs were chosen by the test: then only rows that were
            chosen so stand beside them.

    Returns:
        A row for each method; none where a subject is none of the papers'.
    """
    count = SUBJECTS[task[0]]
    numbers = [subject_number(name) for name in subjects]
    if any(number is None or number > count for number in numbers):
        return []
    places = [number - 1 for number in numbers if number]
    complete = sorted(places) == list(range(count))
    rows = []
    for name, means in MEANS[task].items():
        method, known = METHODS[name], BY_SUBJECT[task].get(name)
        if by_test and method.choice != BY_TEST:
            continue
        alone = tuple(known[place][each] if known else None for each in places)
        if complete or not known:
            over = means[place]
        else:
            over = float(np.mean([each for each in alone if each is not None]))
        of_all = "" if complete or known else f" mean of {count} subjects"
        named = f"{name} (published{of_all}; gallery {method.gallery}; {_choice(method)})"
        rows.append(PublishedRow(name=named, of_subjects=alone, over=over))
    return rows


def sources(rows: Sequence[PublishedRow]) -> str:
    """Say where published rows are from; empty where there are none.

    Args:
        rows: Rows of `published_rows`.
    """
    if not rows:
        return ""
    names = [row.name.partition(" (")[0] for row in rows]
    listed = "; ".join(f"{name}: {METHODS[name].citation}" for name in names)
    return (
        f"Published rows, quoted and not reproduced here: {listed}. Galleries and ways to choose "
        "differ from ours as the rows say."
    )


def subject_number(name: str) -> int | None:
    """The number that a subject's name ends in, from 1 on; None where it ends in none.

    Args:
        name: Name of the subject, "sub-03" or "P3".
    """
    found = re.search(r"\d+$", name)
    return int(found[0]) or None if found else None


def _choice(method: Method) -> str:
    return f"choice {UNKNOWN}" if method.choice == UNKNOWN else method.choice
