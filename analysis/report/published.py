"""Published 200-way results on THINGS-EEG2 and THINGS-MEG, in percent, for comparison.

NICE, ATM, UBP, NeuroBridge and SSR as their papers and SSR's README give them, NeuroCLIP as its
abstract and, across subjects, third-party tables do. Most choose an epoch or a setting by the test.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Modality = Literal["EEG", "MEG"]
Task = tuple[Modality, str]
"""Modality, and whom a cell trains on: "intra-subject" or "leave-one-subject-out"."""

EEG_WITHIN: Task = ("EEG", "intra-subject")
EEG_ACROSS: Task = ("EEG", "leave-one-subject-out")
MEG_WITHIN: Task = ("MEG", "intra-subject")
MEG_ACROSS: Task = ("MEG", "leave-one-subject-out")

MEANS: Mapping[Task, Mapping[str, tuple[float, float | None]]] = {
    EEG_WITHIN: {
        "NICE": (16.1, 43.6),
        "ATM": (27.1, 58.1),
        "UBP": (50.9, 79.7),
        "NeuroBridge": (63.2, 89.9),
        "NeuroCLIP": (63.2, None),
        "SSR": (66.9, 92.9),
    },
    EEG_ACROSS: {
        "NICE": (6.2, 21.4),
        "ATM": (11.9, 33.8),
        "UBP": (12.4, 33.4),
        "NeuroBridge": (19.0, 45.9),
        "NeuroCLIP": (17.0, 40.3),
        "SSR": (22.6, 53.0),
    },
    MEG_WITHIN: {
        "NICE": (12.8, 36.0),
        "UBP": (26.7, 55.2),
        "NeuroBridge": (32.2, 60.8),
        "SSR": (41.3, 71.1),
    },
    MEG_ACROSS: {
        "UBP": (2.2, 10.4),
        "NeuroBridge": (3.4, 12.8),
        "SSR": (4.9, 15.5),
    },
}
"""Top-1 and Top-5 over subjects, by method; None where no table has it."""

GALLERIES = {
    "NICE": "class-centre",
    "ATM": "original",
    "UBP": "blurred",
    "NeuroBridge": "augmented-mean",
    "NeuroCLIP": "not stated",
    "SSR": "original",
}
"""What each method retrieves from, as its code or paper has it."""

SSR: Mapping[Task, tuple[tuple[float, ...], tuple[float, ...]]] = {
    EEG_WITHIN: (
        (60.1, 67.4, 62.8, 63.6, 60.1, 73.7, 66.1, 73.1, 65.4, 76.7),
        (88.9, 94.2, 93.2, 92.4, 87.9, 94.6, 91.1, 96.1, 92.8, 98.0),
    ),
    EEG_ACROSS: (
        (23.4, 24.9, 15.8, 21.5, 19.9, 27.6, 16.5, 21.2, 21.1, 34.5),
        (56.8, 56.5, 41.8, 50.7, 49.1, 57.4, 49.3, 51.2, 50.5, 66.4),
    ),
    MEG_WITHIN: ((19.3, 66.6, 50.8, 28.5), (50.6, 93.5, 82.6, 57.9)),
    MEG_ACROSS: ((5.5, 6.0, 4.6, 3.6), (14.2, 19.4, 15.4, 13.1)),
}
"""Top-1 and Top-5 of SSR by subject, in their order."""
